"""Records and pure functions: digests, OCI documents, platforms, the store's records, findings. No I/O."""
