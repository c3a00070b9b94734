"""Compare unpacked layers with the layers that they came from.

Import from the modules: the look for missing directories, which every check does, needs no decompressor.
"""
