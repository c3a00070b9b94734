"""Adapters that give good bytes: registries, namespaces, archives, twins; each is a `blob_source.Source`."""
