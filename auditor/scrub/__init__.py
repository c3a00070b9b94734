"""Verify blobs: read each once, hash it, describe damage; within a budget, with results kept between runs."""

from __future__ import annotations

from auditor.scrub.run import scrub, verify_blobs
from auditor.scrub.schedule import Coverage, coverage, plan
from auditor.scrub.targets import Target, largest_first, layers_of, targets_of, wanted

__all__ = [
    "Coverage",
    "Target",
    "coverage",
    "largest_first",
    "layers_of",
    "plan",
    "scrub",
    "targets_of",
    "verify_blobs",
    "wanted",
]
