"""Sources of blobs: registries, namespaces, archives, twins; each implements `auditor.model.blob_source.Source`."""
