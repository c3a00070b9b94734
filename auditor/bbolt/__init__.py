"""Read bbolt databases as files: read-only, while their owner runs or where they are damaged."""
