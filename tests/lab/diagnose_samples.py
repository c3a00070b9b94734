"""The samples reports/samples/diagnose-*, from real words of ctr and real stores.

`python -m tests.lab.diagnose_samples [FOLDER]` writes them; what is this run's own is replaced, as in `samples`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.lab import samples
from tests.lab.checked import auditor_here
from tests.lab.diagnosed import ctr
from tests.lab.kit import faults
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import scratch, sweep
from tests.lab.kit.registry import Registry

FORMATS: Final = {"text": "txt", "json": "json", "markdown": "md"}
CONTENT: Final = "/var/lib/containerd/io.containerd.content.v1.content"
#: What each question is asked of a store; gives the words to explain.
Ask = Callable[[Containerd, Registry, Path], str]


def main(arguments: Sequence[str]) -> int:
    """Write all samples."""
    samples.write(make(), arguments)
    return 0


def make() -> dict[str, str]:
    """All samples by the names of their files."""
    sweep()
    found: dict[str, str] = {}
    with scratch() as base, Registry(base / "registry") as registry:
        for name, (scenario, ask) in QUESTIONS.items():
            plant, discard, _ = samples.SCENARIOS[scenario]
            folder = base / name
            folder.mkdir()
            with Containerd(samples.VERSION, folder, discard_unpacked_layers=discard) as daemon:
                plant(daemon, registry)
                found |= dict(_asked(name, ask(daemon, registry, folder), daemon, registry))
    return found


def _asked(name: str, words: str, daemon: Containerd, registry: Registry) -> Iterator[tuple[str, str]]:
    for style, suffix in FORMATS.items():
        if suffix != "txt" and name not in WHOLE:
            continue
        ran = auditor_here("diagnose", "--address", daemon.socket, "--format", style, words)
        yield f"diagnose-{name}.{suffix}", _neutral(ran.out, daemon, registry)


def _export(daemon: Containerd, folder: Path, name: str, *more: str) -> str:
    return ctr(daemon, "images", "export", "--local", *more, folder / "image.tar", name)


def _bug(daemon: Containerd, registry: Registry, folder: Path) -> str:
    return _export(daemon, folder, registry.reference("shop/orders:3.1"))


def _changed(daemon: Containerd, registry: Registry, folder: Path) -> str:
    faults.flip(daemon, samples.store("web", of=3).layers[1].digest, offset=100)
    return _export(daemon, folder, registry.reference("shop/web:1.4"))


def _emptied(daemon: Containerd, registry: Registry, folder: Path) -> str:
    faults.empty_file(daemon, samples.store("web", of=3).layers[1].digest)
    return _export(daemon, folder, registry.reference("shop/web:1.4"))


def _gone(daemon: Containerd, registry: Registry, folder: Path) -> str:
    faults.delete_file(daemon, samples.store("web", of=3).layers[1].digest)
    return _export(daemon, folder, registry.reference("shop/web:1.4"))


def _platform(daemon: Containerd, registry: Registry, folder: Path) -> str:
    return _export(daemon, folder, registry.reference("shop/web:1.4"), "--platform", "linux/arm64")


def _discarded(daemon: Containerd, registry: Registry, folder: Path) -> str:
    return _export(daemon, folder, registry.reference("shop/web:1.4"))


def _unpublished(daemon: Containerd, registry: Registry, _folder: Path) -> str:
    return ctr(daemon, "images", "pull", "--local", "--plain-http", registry.reference("shop/web:9.9"))


def _unknown(_daemon: Containerd, _registry: Registry, _folder: Path) -> str:
    return f"sha256:{'0' * 64}"


def _image(_daemon: Containerd, registry: Registry, _folder: Path) -> str:
    return registry.reference("shop/web:1.4")


#: By name: the scenario of `samples` that it is asked in, and the words.
QUESTIONS: Final[dict[str, tuple[str, Ask]]] = {
    "bug": ("bug", _bug),
    "changed": ("healthy", _changed),
    "emptied": ("healthy", _emptied),
    "gone": ("healthy", _gone),
    "platform": ("healthy", _platform),
    "discarded": ("discarded", _discarded),
    "unpublished": ("healthy", _unpublished),
    "unknown": ("healthy", _unknown),
    "image": ("healthy", _image),
}
#: Those that are kept in all formats.
WHOLE: Final = ("bug",)


def _neutral(text: str, daemon: Containerd, registry: Registry) -> str:
    """Replace what is this run's own: the port, the folder, times."""
    text = text.replace(f" --address {daemon.socket}", "").replace(f" -a {daemon.socket}", "")
    text = text.replace(f" -r unix://{daemon.socket}", "").replace(str(daemon.socket), samples.SOCKET)
    text = text.replace(str(daemon.content_root), CONTENT).replace(registry.host, samples.HOST)
    text = text.replace("distribution.source.127.0.0.1", f"distribution.source.{samples.HOST}")
    return re.sub(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?", "2026-01-15T03:00:00", text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
