"""The report of an audit: build one, compare two, join several, rate a node's health."""
