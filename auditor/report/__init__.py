"""The report of an audit: build it, compare two, merge many, rate the health they tell of."""
