"""Faults of an archive as a file, apart from the content of its images."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from auditor.checks.rule import Rule, merge
from auditor.model.findings import Fact, Finding, Severity, Subject


class ArchiveProblem(msgspec.Struct, frozen=True):
    """One structural fault of an archive.

    `member` is the name of the member, empty for the archive as a whole. `level` replaces the severity of the rule.
    """

    fault: Rule
    message: str
    member: str = ""
    facts: Mapping[str, Fact] = MappingProxyType({})
    level: Severity | None = None

    @property
    def code(self) -> str:
        """The finding's code."""
        return self.fault.code

    @property
    def severity(self) -> Severity:
        """The finding's severity."""
        return self.level or self.fault.severity

    def finding(self, *, archive: str, namespace: str) -> Finding:
        """Return the finding about `archive`, its path as the user gave it."""
        facts: dict[str, Fact] = dict(self.facts) | ({"member": self.member} if self.member else {})
        name = f"{archive}:{self.member}" if self.member else archive
        (finding,) = merge([self.fault.hit(namespace, Subject(kind="archive", name=name), self.message, facts=facts)])
        return msgspec.structs.replace(finding, severity=self.severity)


class StopReading(Exception):
    """An archive cannot be read any further; what was read before stays valid."""

    def __init__(self, problem: ArchiveProblem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def shown(name: str) -> str:
    """Return a member's name for a message: control characters and bytes that are not UTF-8 escaped, shortened."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= 200 else text[:197] + "..."  # noqa: PLR2004 - a line or two of a terminal
