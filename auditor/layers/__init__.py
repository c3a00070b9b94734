"""Verify a layer as a stream in constant memory: decompress it, hash it to its diffID, check it as a tar."""

from __future__ import annotations

from auditor.layers.inspector import LayerInspector, declared, verifiable

__all__ = ["LayerInspector", "declared", "verifiable"]
