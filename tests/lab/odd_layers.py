"""Images whose layers unpack in odd ways: one for each oddity, by several writers of tars, all of which unpack."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests import images

Part = tuple[tarfile.TarInfo, bytes]
LINK, SYMLINK, FOLDER, FIFO = tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE


def entry(path: str, data: bytes = b"", **fields: Any) -> Part:
    """An entry of a tar with its data."""
    info = tarfile.TarInfo(path)
    info.mode, info.mtime, info.size = 0o644, 1_600_000_000, len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def folder(path: str, **fields: Any) -> Part:
    return entry(path, type=FOLDER, **{"mode": 0o755, **fields})


def link(path: str, target: str, kind: bytes = SYMLINK, **fields: Any) -> Part:
    return entry(path, type=kind, linkname=target, **fields)


def packed(data: bytes, compression: images.Compression = "gzip") -> images.BuiltLayer:
    return images.raw_layer(images.compress(data, compression, 1), images.sha256(data), compression=compression)


def written(*parts: Part, form: int = tarfile.PAX_FORMAT, pax_headers: Mapping[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=form, errors="surrogateescape", pax_headers=pax_headers or {}
    ) as tar:
        for info, data in parts:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def layer(*parts: Part, form: int = tarfile.PAX_FORMAT, compression: images.Compression = "gzip") -> images.BuiltLayer:
    return packed(written(*parts, form=form), compression)


def _in_two_members(data: bytes) -> images.BuiltLayer:
    return images.raw_layer(gzip.compress(data[:5000]) + gzip.compress(data[5000:]), images.sha256(data))


TREE: Final = (
    folder("etc"),
    entry("etc/config", b"a = 1\n" * 40, uid=12, gid=34),
    folder("usr/lib", mode=0o711, mtime=7),
    entry("usr/lib/library", images.noise("library", 70_000), mode=0o755),
    link("lib", "usr/lib"),
    link("usr/lib/hard", "usr/lib/library", LINK, mode=0o755),
    folder("swap"),
    entry("swap/a", b"a"),
    entry("plain", b"file"),
    folder("restricted", mode=0o700, uid=1000),
    entry("restricted/secret", b"x", mode=0),
)
BASE: Final = layer(*TREE)

LAYERS: Final[Mapping[str, tuple[images.BuiltLayer, ...]]] = {
    "gnu": (layer(*TREE, form=tarfile.GNU_FORMAT),),
    "ustar": (layer(*TREE, form=tarfile.USTAR_FORMAT),),
    "zstd": (layer(*TREE, entry("by-zstd"), compression="zstd"),),
    "uncompressed": (layer(*TREE, entry("as-it-is"), compression="none"),),
    "members": (_in_two_members(written(*TREE, entry("members"))),),
    "empty": (BASE, layer(), BASE),
    "many": tuple(layer(entry(f"{number}/file", b"%d" % number)) for number in range(30)),
    "file-over-folder": (BASE, layer(entry("swap", b"now a file"))),
    "folder-over-file": (BASE, layer(folder("plain"), entry("plain/inside", b"1"))),
    "below-a-lower-link": (BASE, layer(entry("lib/new", b"1"))),
    "below-an-own-link": (layer(folder("a"), link("b", "/a"), link("c", "../../b"), entry("c/inside", b"1")),),
    "whiteouts": (BASE, layer(entry("etc/.wh.config"), entry("usr/.wh.lib"), entry(".wh.never"))),
    "whiteout-then-file": (BASE, layer(entry(".wh.plain"), entry("plain", b"again"))),
    "opaque": (BASE, layer(folder("usr"), entry("usr/lib/.wh..wh..opq"), entry("usr/lib/only", b"1"))),
    "opaque-root": (BASE, layer(entry(".wh..wh..opq"), entry("all", b"1"))),
    "whiteouts-in-the-lowest": (layer(*TREE, entry("etc/.wh.config"), entry("swap/.wh..wh..opq")),),
    "replaced-hard-link": (layer(entry("a", b"1"), link("b", "a", LINK), entry("a", b"two"), link("c", "b", LINK)),),
    "hard-link-attributes": (
        layer(entry("a", b"1", mode=0o755), link("b", "a", LINK, mode=0o4711, uid=3, mtime=9)),
        layer(link("s", "nowhere"), link("t", "s", LINK)),
    ),
    "times": (
        layer(
            entry("before", pax_headers={"mtime": "-5.5"}),
            entry("after", pax_headers={"mtime": "99999999999"}),
            entry("exact", pax_headers={"mtime": "1600000000.123456789"}),
            folder("folder", pax_headers={"mtime": "1.5"}),
            entry("folder/later"),
        ),
    ),
    "names": (
        layer(
            entry("long/" * 45 + "name", b"1"),
            entry("n" * 255, b"2"),
            entry("new\nline \udcff", b"3"),
            entry("./././dots//slashes/", b"4", type=tarfile.REGTYPE),
            entry("/absolute", b"5"),
            entry("up/../down", b"6"),
        ),
    ),
    "long-names-gnu": (layer(entry("long/" * 45 + "name", b"1"), link("link", "l" * 300), form=tarfile.GNU_FORMAT),),
    "devices": (
        layer(
            entry("fifo", type=FIFO),
            entry("zero", type=tarfile.CHRTYPE, devmajor=1, devminor=70000),
            entry("disk", type=tarfile.BLKTYPE, devmajor=7, devminor=1),
            entry("wrapped", type=tarfile.CHRTYPE, devmajor=4096, devminor=1),
        ),
        layer(entry("null", type=tarfile.CHRTYPE)),
    ),
    "owners": (
        layer(
            entry("a", b"1", uid=4_294_967_294, gid=2_097_152, mode=0o7777),
            folder("b", uid=2_000_000),
            entry("unchanged", b"1", uid=4_294_967_295, gid=4_294_967_295),
            entry("wrapped", b"1", pax_headers={"uid": "4294967301", "gid": "-7"}),
            entry("named", b"1", uid=7, gid=8),
            link("named-again", "named", LINK, uid=4_294_967_295, gid=9),
        ),
    ),
    "xattrs": (
        layer(
            entry("a", b"1", pax_headers={"SCHILY.xattr.user.note": "x\ny=z", "SCHILY.xattr.trusted.t": "1"}),
            link("b", "a", pax_headers={"SCHILY.xattr.user.link": "x"}),
            entry("c", b"1", pax_headers={"LIBARCHIVE.xattr.user.l": "eA"}),
            folder("d", pax_headers={"SCHILY.xattr.user.overlay.opaque": "y"}),
        ),
    ),
    "implicit": (BASE, layer(entry("restricted/more/below", b"1"), entry("usr/lib/x", b"2"))),
    "duplicates": (
        layer(
            entry("a", b"1", mode=0o600),
            entry("a", b"22"),
            folder("d", mode=0o700),
            entry("d/x", b"1"),
            folder("d", mode=0o755, mtime=3),
        ),
    ),
    "root": (layer(folder("./", mode=0o700, uid=5, mtime=1), entry("./a", b"1")),),
    "global-header": (packed(written(entry("a", b"1"), pax_headers={"mtime": "5", "uid": "9"})),),
}


def by_gnu_tar(scratch: Path) -> dict[str, tuple[images.BuiltLayer, ...]]:
    """Layers of real files: holes in the three sparse formats, hard links, old and new headers."""
    root = scratch / "files"
    (root / "folder").mkdir(parents=True)
    (root / "folder/file").write_bytes(images.noise("file", 30_000))
    (root / "hard").hardlink_to(root / "folder/file")
    (root / "link").symlink_to("folder/file")
    with (root / "holes").open("wb") as file:
        file.write(b"a" * 4096)
        file.seek(1 << 20)
        file.write(b"b" * 4096)
        file.truncate(3 << 20)
    os.mkfifo(root / "fifo")
    options = {
        "tar-pax": ["--format=pax"],
        "tar-gnu": ["--format=gnu"],
        "tar-v7": ["--format=v7", "--exclude=./fifo"],
        "sparse-0.0": ["--format=pax", "--sparse", "--sparse-version=0.0"],
        "sparse-0.1": ["--format=pax", "--sparse", "--sparse-version=0.1"],
        "sparse-1.0": ["--format=pax", "--sparse", "--sparse-version=1.0"],
    }
    return {name: (packed(_tar(root, *given)),) for name, given in options.items()}


def _tar(root: Path, *options: str) -> bytes:
    command = ["tar", *options, "-cf", "-", "-C", str(root), "."]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
