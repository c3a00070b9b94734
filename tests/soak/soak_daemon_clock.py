"""The wall clock of containerd jumps in the middle of a command, by an hour or ten years, forward or back, and returns.

containerd reads the clock from the vDSO, so a preloaded library gives it another one before its runtime starts;
libfaketime, which replaces functions of the C library, would have no effect. At each jump the daemon collects garbage.
"""

from __future__ import annotations

import platform
import random
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry
from tests.soak.record import Outcome, Recorder, peak_mib
from tests.soak.soak_clock import CASES, IMAGE, JUMPS, SPAN, recorded

_HERE: Final = Path(__file__).parent
_SHARED: Final = ("-O2", "-shared", "-fPIC")
#: A vDSO has no library, and Go's runtime looks for a table of symbols in the old form.
_VDSO: Final = ("-nostdlib", "-fno-stack-protector", "-Wl,--hash-style=sysv,-z,noseparate-code")


def run(seconds: float, folder: Path) -> Outcome:
    """Let the clock of one daemon of a random release jump while commands use it."""
    recorder = Recorder("daemon_clock", seconds)
    if shutil.which("cc") is None or platform.machine() != "x86_64":
        recorder.add("no C compiler, or another processor than x86-64")
        return recorder.outcome()
    offset = folder / "offset"
    variables = {**_built(folder), "OFFSET": str(offset)}
    offset.write_bytes(bytes(4096))
    chance = random.SystemRandom()
    version = chance.choice(VERSIONS)
    with (
        Registry(folder / "registry") as registry,
        Containerd(version, folder, variables=variables) as daemon,
    ):
        daemon.cri_pull(registry.push(IMAGE, "lab/soak-clock:1"))
        for _ in recorder.rounds():
            name, jump, after = chance.choice(list(CASES)), chance.choice(JUMPS), chance.randrange(SPAN)
            label = f"{name}, the daemon's clock {jump:+} s after {after} ms, {version}"
            with (
                recorded(recorder, daemon, label, f"{name}, {jump:+} s"),
                _jumping(daemon, offset, jump=jump, after=after / 1000),
            ):
                CASES[name](daemon, folder, {})
    recorder.peak_mib = peak_mib()
    return recorder.outcome()


def _built(folder: Path) -> Mapping[str, str]:
    """Compile both parts; return the variables of the daemon."""
    script = folder / "versions"
    script.write_text("LINUX_2.6 { global: *; };")
    vdso, library = folder / "vdso.so", folder / "vdso_exchange.so"
    versions = f"-Wl,--version-script={script}"
    subprocess.run(["cc", *_SHARED, *_VDSO, versions, "-o", vdso, _HERE / "vdso_clock.c"], check=True)
    subprocess.run(["cc", *_SHARED, "-o", library, _HERE / "vdso_exchange.c"], check=True)
    return {"LD_PRELOAD": str(library), "VDSO": str(vdso)}


@contextmanager
def _jumping(daemon: Containerd, offset: Path, *, jump: int, after: float) -> Iterator[None]:
    """Let the clock jump once during the block and back at its end; each time, garbage is collected."""
    over = threading.Event()

    def move() -> None:
        over.wait(after)
        _set(offset, jump)
        daemon.force_gc()

    mover = threading.Thread(target=move)
    mover.start()
    try:
        yield
    finally:
        over.set()
        mover.join()
        _set(offset, 0)
        daemon.force_gc()


def _set(offset: Path, seconds: int) -> None:
    with offset.open("r+b") as file:
        file.write(struct.pack("<q", seconds))
