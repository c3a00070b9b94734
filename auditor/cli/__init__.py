"""The command line: connects adapters, use cases and formats."""
