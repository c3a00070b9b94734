"""Builds what is released: bundle, packages, image, chart; the same bytes from the same commit and machine."""
