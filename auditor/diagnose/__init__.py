"""Explain an error message, a log, a digest or an image name with the evidence of a store."""

from __future__ import annotations
