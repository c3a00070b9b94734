"""One module per command: its options and help. Heavy modules are imported inside the functions."""
