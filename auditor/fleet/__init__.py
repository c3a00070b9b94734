"""Thousands of saved reports as one picture: read each strictly, join them in SQLite, find what damaged nodes share."""
