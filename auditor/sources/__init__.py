"""Adapters that give good bytes: registries, other namespaces, archives, twins; each is an `auditor.source.Source`."""
