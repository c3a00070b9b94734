"""Nouns and pure rules of the field: digests, OCI documents, platforms, the store's records, findings. No I/O."""
