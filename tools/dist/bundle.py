"""The bundle: Debian's Python, its library, our wheels and every shared library they need, in one folder.

The layout: bin/auditor and bin/python (the launcher), lib/auditor (the dynamic loader, under the name that `ps` shows),
lib/python (the interpreter), lib/*.so*, lib/python3.11 with standard library and wheels, share/.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tools.dist import recipe, wheels

PYTHON = Path("/usr/bin/python3.11")
LIBRARY = Path("/usr/lib/python3.11")
LOADER = Path("/lib64/ld-linux-x86-64.so.2")
#: Libraries that are loaded by name only: names of hosts and users, and the end of a thread.
BY_NAME = ("libresolv.so.2", "libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1")
SYSTEM = Path("/lib/x86_64-linux-gnu")
#: Whole parts of the standard library and of wheels that no module of the program can reach.
UNUSED = (
    "test",
    "idlelib",
    "tkinter",
    "lib2to3",
    "ensurepip",
    "distutils",
    "turtledemo",
    "turtle.py",
    "venv",
    "pydoc_data",
    "config-*",
    "sitecustomize.py",
    "dist-packages",
    "typer/.agents",
    "lib-dynload/_tkinter*",
    "lib-dynload/_curses*",
    "lib-dynload/_dbm*",
    "lib-dynload/_gdbm*",
    "lib-dynload/_test*",
    "lib-dynload/xx*",
    "lib-dynload/nis*",
    "lib-dynload/ossaudiodev*",
    "lib-dynload/spwd*",
    "lib-dynload/_crypt*",
    "lib-dynload/audioop*",
    "lib-dynload/readline*",
)
#: Sources of extension modules and type stubs.
SOURCES = ("*.pyi", "*.pyx", "*.pxd", "*.c", "*.h")
KEPT_LEXERS = ("__init__.py", "_mapping.py")
SHARE = (
    ("docs/man/*.1", "man/man1"),
    ("deploy/completions/*", "completions"),
    ("deploy/systemd/*", "systemd"),
    ("deploy/cron/*", "cron"),
    ("deploy/node-problem-detector/*", "node-problem-detector"),
    ("reports/alerts.yml", "prometheus"),
    ("reports/dashboard.json", "grafana"),
    ("LICENSE", "doc"),
    ("README.md", "doc"),
    ("CHANGELOG.md", "doc"),
    ("docs/install.md", "doc"),
)


def build(root: Path, work: Path, built: list[Path]) -> None:
    """Write the bundle to `root`, which must not exist."""
    library = root / "lib/python3.11"
    shutil.copytree(LIBRARY, library, symlinks=False, ignore=shutil.ignore_patterns("__pycache__", "config-*"))
    wheels.unpack(built, library)
    _trim(library)
    shutil.copy(PYTHON.resolve(), root / "lib/python")
    shutil.copy(LOADER.resolve(), root / "lib/auditor")
    licences(root, library, shared_libraries(root))
    _launcher(root, work)
    _share(root, work / "source")
    _strip(root)
    _compile(root, library)
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" or path.stat().st_mode & 0o100 else 0o644)


def _trim(library: Path) -> None:
    found = [path for pattern in UNUSED for path in library.glob(pattern)]
    found += [path for pattern in SOURCES for path in library.rglob(pattern)]
    found += [p for p in (library / "pygments/lexers").iterdir() if p.name not in KEPT_LEXERS]
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def shared_libraries(root: Path) -> list[Path]:
    """Copy every library that the interpreter and the extension modules are linked with; return the originals."""
    wanted = {SYSTEM / name for name in BY_NAME}
    for file in (root / "lib/python", *sorted(root.rglob("*.so"))):
        for line in recipe.run("ldd", file).splitlines():
            if found := re.search(r"=> (/\S+) \(", line):
                wanted.add(Path(found[1]))
            elif "not found" in line:
                raise recipe.CannotBuild(f"{file.relative_to(root)} needs a library that is absent: {line.strip()}")
    inside = [path for path in sorted(wanted) if not path.is_relative_to(root)]
    for path in inside:
        shutil.copy(path.resolve(), root / "lib" / path.name)
    return inside


def origins(root: Path) -> list[Path]:
    """Return the files of this machine that the bundle's shared libraries are copies of."""
    return [SYSTEM / path.name for path in sorted((root / "lib").glob("*.so*"))]


def licences(root: Path, library: Path, libraries: list[Path]) -> None:
    """Collect the licences of the wheels and of the Debian packages that files were taken from."""
    target = root / "share/licences"
    for info in sorted(library.glob("*.dist-info")):
        texts = [p for p in info.rglob("*") if p.is_file() and re.match(r"(?i)(licen[cs]e|copying|notice)", p.name)]
        for text in texts:
            place = target / info.name.removesuffix(".dist-info")
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(text, place / text.name)
    for package in debian_packages([PYTHON, LIBRARY / "os.py", LOADER, *libraries]):
        place = target / package.partition(":")[0]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path("/usr/share/doc") / package.partition(":")[0] / "copyright", place / "copyright")


def debian_packages(files: list[Path]) -> list[str]:
    """Return the names of the Debian packages that own files; of a merged /usr, either path is known to dpkg."""
    names = set()
    for file in files:
        candidates = [file, file.resolve(), Path("/usr" + str(file)), Path(str(file.resolve()).removeprefix("/usr"))]
        for candidate in candidates:
            try:
                names.add(recipe.run("dpkg-query", "-S", candidate).partition(": ")[0].split(",")[0])
                break
            except recipe.CannotBuild:
                continue
        else:
            raise recipe.CannotBuild(f"no Debian package owns {file}; its licence is unknown")
    return sorted(names)


def _launcher(root: Path, work: Path) -> None:
    source, program = Path(__file__).with_name("launcher.c"), work / "launcher"
    recipe.run("musl-gcc", "-Os", "-static", "-s", "-Wall", "-Werror", "-o", program, source)
    (root / "bin").mkdir()
    for name in ("auditor", "python"):
        shutil.copy(program, root / "bin" / name)


def _share(root: Path, source: Path) -> None:
    for pattern, place in SHARE:
        folder = root / "share" / place
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(source.glob(pattern)):
            shutil.copy(path, folder / path.name)


def _strip(root: Path) -> None:
    files = [p for p in root.rglob("*.so*") if p.is_file()]
    recipe.run("strip", "--strip-unneeded", *sorted(files), root / "lib/python")


def _compile(root: Path, library: Path) -> None:
    """Replace sources by bytecode that is never compared with a source: it starts fastest and works read-only."""
    recipe.run(
        *(PYTHON, "-IS", "-m", "compileall", "-q", "-j1", "--invalidation-mode", "unchecked-hash"),
        *("-s", root, "-p", recipe.HOME, library),
        env={"PYTHONHASHSEED": "0"},
    )
    for compiled in sorted(library.rglob("__pycache__/*.cpython-311.pyc")):
        source = compiled.parent.parent / f"{compiled.name.partition('.')[0]}.py"
        compiled.rename(source.with_suffix(".pyc"))
        source.unlink()
    for folder in sorted(library.rglob("__pycache__")):
        shutil.rmtree(folder)
