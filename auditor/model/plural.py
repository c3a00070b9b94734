"""A number of things, in words."""

from __future__ import annotations


def plural(number: int, word: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
