"""`python -m auditor` and the console script; answers `--version` before anything heavy is imported.

Until the first handlers of signals are set, only modules are imported that Python itself has or loads at its start.
"""

import _signal  # type: ignore[import-not-found] # a part of `signal` that Python always has
import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

#: Exit status of a program that cannot be loaded, or whose output cannot be written.
_COULD_NOT = 3
#: Objects made between two collections: some tens of megabytes.
_OBJECTS = 200_000
#: Signals that end the program.
_ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM)
#: What msgspec imports for functions that a check does not call.
_UNUSED = ("textwrap", "msgspec.inspect", "msgspec.msgpack", "msgspec.toml", "msgspec.yaml")


def main() -> int:
    """Run the command line; return the exit status."""
    try:
        if sys.argv[1:] == ["--version"]:
            return _print_version()
        _import_pathlib()
        lists = _asks_daemon(sys.argv[1:])
        if lists:
            from auditor import containerd  # noqa: PLC0415 - see above

            containerd.prepare()
        _import_msgspec()
        from auditor.cli import app  # noqa: PLC0415 - see above
    except Exception as error:
        if os.environ.get("AUDITOR_DEBUG"):
            raise
        _print_error(f"auditor: the program cannot be loaded: {error}")
        _print_error("hint: install it again; if that does not help, check its disk (dmesg)")
        return _COULD_NOT
    status = app.main(ends=True)
    if lists:
        containerd.dismiss()
    return status


def _asks_daemon(words: list[str]) -> bool:
    """Whether a command line is a check of a daemon, by the look of it."""
    others = ("-h", "--help", "--root")
    return words[:1] == ["check"] and not any(word in others or word.startswith("--root=") for word in words)


def _set_handlers() -> None:
    """Handle signals until the command line sets its own handlers; ignored ones stay ignored, as under nohup."""
    for number in _ENDING:
        if _signal.getsignal(number) is not _signal.SIG_IGN:
            _signal.signal(number, _end)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _ENDING)  # the launcher of the bundle blocks them


def _end(number: int, _frame: object) -> None:
    """End at once: nothing is open yet, and an exception during an import may crash an extension module."""
    _print_error("auditor: interrupted")
    os._exit(128 + number if number == _signal.SIGINT else 128 + _signal.SIGTERM)


def _print_error(text: str) -> None:
    try:
        os.write(2, f"{text}\n".encode(errors="backslashreplace"))
    except OSError:
        return


def _print_version() -> int:
    from auditor.version import __version__  # noqa: PLC0415 - see above

    try:
        sys.stdout.write(f"auditor {__version__}\n")
        sys.stdout.flush()
    except OSError as error:
        _print_error(f"auditor: the output could not be written: {error.strerror}")
        return _COULD_NOT
    return 0


def _quote(path: bytes) -> str:
    """Quote a path of a URI, for pathlib."""
    from urllib.parse import quote_from_bytes  # noqa: PLC0415 - imports ipaddress; a check makes no URIs of paths

    return quote_from_bytes(path)


class _NoType:
    """A type that no record here has."""

    unknown = None


def _import_pathlib() -> None:
    """Import pathlib without what it needs for paths of Windows and for URIs."""
    from types import SimpleNamespace  # noqa: PLC0415 - see above

    from auditor.import_stand_ins import stand_ins  # noqa: PLC0415 - see above

    with stand_ins("ntpath", **{"urllib.parse": SimpleNamespace(quote_from_bytes=_quote)}):
        import pathlib  # noqa: F401, PLC0415


def _import_msgspec() -> None:
    """Import msgspec without modules that are not used here.

    Without the optional typing_extensions, which imports inspect, ast and dis, msgspec falls back to `typing`, which
    has everything that the records here use. It takes the types UUID and Decimal from modules that import more.
    """
    from types import SimpleNamespace  # noqa: PLC0415 - see above

    from auditor.import_stand_ins import stand_ins  # noqa: PLC0415 - see above

    optional = "typing_extensions"
    others = {
        "decimal": SimpleNamespace(Decimal=_NoType),
        "uuid": SimpleNamespace(UUID=_NoType, SafeUUID=_NoType),
    }
    if optional not in sys.modules:
        sys.modules[optional] = None  # type: ignore[assignment] # what the import system takes for "not installed"
        try:
            with stand_ins(*_UNUSED, **others):
                import msgspec  # noqa: F401, PLC0415
        finally:
            del sys.modules[optional]


def _open_closed_streams() -> None:
    """Open /dev/null where the caller closed a standard stream, as in `>&-`.

    Otherwise the next file that is opened gets the descriptor, and what is printed goes into it. Text is dropped; the
    descriptor itself cannot be written to, so that `export --output -` finds out.
    """
    closed = [(number, name) for number, name in enumerate(("stdin", "stdout", "stderr")) if getattr(sys, name) is None]
    for number, _ in closed:
        null = os.open(os.devnull, os.O_RDONLY)
        if null != number:
            os.dup2(null, number)
            os.close(null)
    for number, name in closed:
        setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if number else "r", encoding="utf-8"))


def run() -> "NoReturn":
    """Run and end the process at once.

    Leases, temporary files and progress bars are cleaned up by then. Freeing the objects of an audit one by one would
    take a tenth of the time of a check, and so would frequent cycle collection; the collector stays on for long runs.
    """
    _set_handlers()
    gc.set_threshold(_OBJECTS)
    _open_closed_streams()
    status = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status)


if __name__ == "__main__":
    run()
