"""The command line: the only composer of adapters, use-cases and formats."""
