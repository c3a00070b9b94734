"""Recover the images of a containerd whose database is damaged or lost: from its blobs, by names found elsewhere."""
