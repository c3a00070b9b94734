"""Adapter: the store of a containerd that is not running, read from its disk."""
