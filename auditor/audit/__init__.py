"""Collect the evidence of a store (the only I/O of an audit), look twice, judge."""
