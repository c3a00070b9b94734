"""Write small bbolt databases: a writer of one leaf page a bucket, or a branch page above several."""

from __future__ import annotations

import struct

from auditor.bbolt import pages

PAGE = 4096
Tree = dict[bytes, "bytes | Tree"]


def _leaf(entries: list[tuple[bytes, int, bytes]]) -> tuple[int, bytes]:
    heads, body, at = b"", b"", len(entries) * 16
    for index, (key, flag, value) in enumerate(entries):
        heads += struct.pack("<IIII", flag, at + len(body) - index * 16, len(key), len(value))
        body += key + value
    return len(entries), heads + body


class Writer:
    """Collects pages; `split` limits the entries of a leaf page, buckets under `inline` bytes are inline."""

    def __init__(self, *, split: int = 1000, inline: int = PAGE // 4) -> None:
        self.pages: dict[int, bytes] = {}
        self.next = 2
        self.split = split
        self.inline = inline
        self.named: dict[tuple[bytes, ...], int] = {}

    def _page(self, kind: int, count: int, body: bytes) -> int:
        number, extra = self.next, (16 + len(body) - 1) // PAGE
        self.next += 1 + extra
        self.pages[number] = struct.pack("<QHHI", number, kind, count, extra) + body
        return number

    def bucket(self, tree: Tree, path: tuple[bytes, ...] = ()) -> bytes:
        entries = [
            (key, 1, self.bucket(value, (*path, key))) if isinstance(value, dict) else (key, 0, value)
            for key, value in sorted(tree.items())
        ]
        size = 16 + sum(16 + len(key) + len(value) for key, _, value in entries)
        if path and not any(flag for _, flag, _ in entries) and size <= self.inline:
            count, body = _leaf(entries)
            return struct.pack("<QQ", 0, 0) + struct.pack("<QHHI", 0, 2, count, 0) + body
        number = self._tree(entries)
        self.named[path] = number
        return struct.pack("<QQ", number, 0)

    def _tree(self, entries: list[tuple[bytes, int, bytes]]) -> int:
        parts = [entries[at : at + self.split] for at in range(0, len(entries), self.split)] or [[]]
        leaves = [(part[0][0] if part else b"", self._page(2, *_leaf(part))) for part in parts]
        if len(leaves) == 1:
            return leaves[0][1]
        heads, body = b"", b""
        for index, (key, number) in enumerate(leaves):
            heads += struct.pack("<IIQ", len(leaves) * 16 + len(body) - index * 16, len(key), number)
            body += key
        return self._page(1, len(leaves), heads + body)


def meta(page: int, *, root: int, high: int, txid: int, size: int = PAGE) -> bytes:
    body = struct.pack("<IIIIQQQQQ", pages.MAGIC, 2, size, 0, root, 0, 2**64 - 1, high, txid)
    return struct.pack("<QHHI", page, 4, 0, 0) + body + struct.pack("<Q", pages.fnv1a(body))


def database(tree: Tree, *, writer: Writer | None = None, txid: int = 7) -> bytearray:
    """Return a database with this tree; both meta pages point to it, that of the odd txid is the newest."""
    made = writer if writer is not None else Writer()
    root = struct.unpack_from("<Q", made.bucket(tree))[0]
    data = bytearray(made.next * PAGE)
    for number, raw in made.pages.items():
        data[number * PAGE : number * PAGE + len(raw)] = raw
    for one in (txid, txid - 1):
        raw = meta(one % 2, root=root, high=made.next, txid=one)
        data[one % 2 * PAGE : one % 2 * PAGE + len(raw)] = raw
    return data
