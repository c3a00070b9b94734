"""From the error on the screen to the cause and the way out."""

from __future__ import annotations
