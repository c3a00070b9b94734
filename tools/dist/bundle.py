"""The bundle: Debian's Python, its library, our wheels and every shared library they need, in one folder.

The layout: bin/auditor and bin/python (the launcher), lib/auditor (the dynamic loader, under the name that `ps` shows),
lib/python (the interpreter), lib/*.so*, lib/python3.11 with standard library and wheels, share/.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tools.dist import libraries, recipe, wheels
from tools.dist.systems import HOST, Package, System

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


def build(root: Path, work: Path, built: list[Path], system: System) -> None:
    """Write the bundle.

    Args:
        root: Its folder, which must not exist.
        work: A folder for the build, with the sources.
        built: The wheels.
        system: Where the interpreter and the libraries are from.

    """
    library = root / "lib/python3.11"
    shutil.copytree(system.library, library, symlinks=False, ignore=shutil.ignore_patterns("__pycache__", "config-*"))
    wheels.unpack(built, library)
    _trim(library)
    shutil.copy(system.python.resolve(), root / "lib/python")
    shutil.copy((system.root / system.loader).resolve(), root / "lib/auditor")
    licences(root, library, system, libraries.copy(root, system))
    _launcher(root, work, system)
    _share(root, work / "source")
    _strip(root, system)
    _compile(root, library)
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" or path.stat().st_mode & 0o100 else 0o644)


def _trim(library: Path) -> None:
    found = [path for pattern in UNUSED for path in library.glob(pattern)]
    found += [path for pattern in SOURCES for path in library.rglob(pattern)]
    found += [p for p in (library / "pygments/lexers").iterdir() if p.name not in KEPT_LEXERS]
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def origins(root: Path, system: System) -> list[Package]:
    """Return the packages of a system that the bundle's files are copies of."""
    names = [path.name for path in sorted((root / "lib").glob("*.so*"))]
    return system.packages([*_python(system), *map(system.shared, names)])


def _python(system: System) -> list[Path]:
    return [system.python, system.library / "os.py", system.root / system.loader]


def licences(root: Path, library: Path, system: System, shared: list[Path]) -> None:
    """Collect the licences of the wheels and of the Debian packages that files were taken from."""
    target = root / "share/licences"
    for info in sorted(library.glob("*.dist-info")):
        texts = [p for p in info.rglob("*") if p.is_file() and re.match(r"(?i)(licen[cs]e|copying|notice)", p.name)]
        for text in texts:
            place = target / info.name.removesuffix(".dist-info")
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(text, place / text.name)
    for package, _version in system.packages([*_python(system), *shared]):
        place = target / package
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(system.root / "usr/share/doc" / package / "copyright", place / "copyright")


def _launcher(root: Path, work: Path, system: System) -> None:
    source, program = Path(__file__).with_name("launcher.c"), work / f"launcher-{system.arch}"
    recipe.run(*system.compiler, "-Os", "-static", "-s", "-Wall", "-Werror", "-o", program, source)
    (root / "bin").mkdir()
    for name in ("auditor", "python"):
        shutil.copy(program, root / "bin" / name)


def _share(root: Path, source: Path) -> None:
    for pattern, place in SHARE:
        folder = root / "share" / place
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(source.glob(pattern)):
            shutil.copy(path, folder / path.name)


def _strip(root: Path, system: System) -> None:
    files = [p for p in root.rglob("*.so*") if p.is_file()]
    recipe.run(system.strip, "--strip-unneeded", *sorted(files), root / "lib/python")


def _compile(root: Path, library: Path) -> None:
    """Replace sources by bytecode that is never compared with a source: it starts fastest and works read-only."""
    recipe.run(
        *(HOST.python, "-IS", "-m", "compileall", "-q", "-j1", "--invalidation-mode", "unchecked-hash"),
        *("-s", root, "-p", recipe.HOME, library),
        env={"PYTHONHASHSEED": "0"},
    )
    for compiled in sorted(library.rglob("__pycache__/*.cpython-311.pyc")):
        source = compiled.parent.parent / f"{compiled.name.partition('.')[0]}.py"
        compiled.rename(source.with_suffix(".pyc"))
        source.unlink()
    for folder in sorted(library.rglob("__pycache__")):
        shutil.rmtree(folder)
