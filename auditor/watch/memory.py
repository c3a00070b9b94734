"""What was found before, kept in a file, so that each finding is told once also across restarts."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

import msgspec

from auditor.atomic_write import write_whole
from auditor.errors import StateError
from auditor.model.findings import Finding, Severity, Subject

SCHEMA: Literal["containerd-auditor/watch/v1"] = "containerd-auditor/watch/v1"
#: Largest file that is read, in bytes.
_MOST: Final = 256 << 20

_Key = tuple[str, str, Subject]


class ChangeKind(enum.StrEnum):
    """What became of a finding."""

    NEW = "new"
    CHANGED = "changed"
    GONE = "gone"


class Change(msgspec.Struct, frozen=True):
    """A finding that appeared, changed or went."""

    kind: ChangeKind
    finding: Finding


class _Saved(msgspec.Struct, frozen=True):
    schema: Literal["containerd-auditor/watch/v1"]
    address: str
    findings: tuple[Finding, ...]


class Memory:
    """The findings over info that were told last; without a path they are kept in this process only."""

    def __init__(self, path: Path | None, *, address: str) -> None:
        """Read the file. Raises StateError where it is not this program's, or of another daemon, or unreadable."""
        self._path = path
        self._address = address
        self._known: dict[_Key, Finding] = {}
        self._saved = True
        if path is not None and path.exists():
            saved = _load(path)
            if saved.address != address:
                raise StateError(f"{path} is the state of {saved.address}", hint="give each daemon a file of its own")
            self._known = {finding.key: finding for finding in saved.findings}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings that were told and not yet gone."""
        return tuple(self._known.values())

    def concerns(self, namespace: str, target: str, name: str) -> bool:
        """Whether a finding is known of an image, by its target or name."""
        return any(
            image.namespace == namespace and (image.target == target or name in (image.name, *image.names))
            for finding in self._known.values()
            for image in finding.images
        )

    def changes(self, findings: Iterable[Finding], *, complete: bool) -> tuple[Change, ...]:
        """Return what changed, the most severe first.

        Args:
            findings: Those of a full check.
            complete: Whether it examined everything; otherwise, a finding that is not among them may still be there.

        """
        now = {finding.key: finding for finding in findings if finding.severity is not Severity.INFO}
        found = [
            *(Change(ChangeKind.NEW, finding) for key, finding in now.items() if key not in self._known),
            *(
                Change(ChangeKind.CHANGED, finding)
                for key, finding in now.items()
                if key in self._known and _essence(finding) != _essence(self._known[key])
            ),
            *(Change(ChangeKind.GONE, finding) for key, finding in self._known.items() if complete and key not in now),
        ]
        return tuple(sorted(found, key=lambda each: each.finding.severity.rank))

    def record(self, change: Change) -> None:
        """Record a change that was told."""
        if change.kind is ChangeKind.GONE:
            del self._known[change.finding.key]
        else:
            self._known[change.finding.key] = change.finding
        self._saved = False

    def save(self) -> None:
        """Write the file if it lacks a change. Raises OutputError; the next call tries again."""
        if self._saved or self._path is None:
            return
        saved = _Saved(SCHEMA, self._address, self.findings)
        write_whole(self._path, msgspec.json.format(msgspec.json.encode(saved), indent=1))
        self._saved = True


def _essence(finding: Finding) -> tuple[object, ...]:
    """What makes a finding another one to its reader; sizes, times and the image's names do not."""
    return finding.severity, finding.cause, frozenset((image.namespace, image.target) for image in finding.images)


def _load(path: Path) -> _Saved:
    hint = "give another file, or remove this one"
    try:
        if not path.is_file() or path.stat().st_size > _MOST:
            raise StateError(f"{path} is not a state of auditor watch", hint=hint)
        return msgspec.json.decode(path.read_bytes(), type=_Saved)
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise StateError(f"{path} is not a state of auditor watch", hint=hint) from None
