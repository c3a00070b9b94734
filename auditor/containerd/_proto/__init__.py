"""Generated from protos/ by tools/protos; not for editing."""
