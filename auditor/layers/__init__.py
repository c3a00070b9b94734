"""A layer as a stream: decompressed while it is read, hashed to its diffID, walked as a tar; in constant memory."""

from __future__ import annotations

from auditor.layers.inspector import LayerInspector, declared, verifiable

__all__ = ["LayerInspector", "declared", "verifiable"]
