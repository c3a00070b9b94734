"""What can be wrong with an archive as a container, apart from what is inside it: codes, severities, advice."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from auditor.checks.rule import Rule, merge
from auditor.model.findings import Fact, Finding, Severity, Subject


class ArchiveProblem(msgspec.Struct, frozen=True):
    """One structural fault of an archive; `member` is the name of the member concerned, empty where it is the whole."""

    fault: Rule
    message: str
    member: str = ""
    facts: Mapping[str, Fact] = MappingProxyType({})

    @property
    def code(self) -> str:
        """The finding's code."""
        return self.fault.code

    @property
    def severity(self) -> Severity:
        """The finding's severity."""
        return self.fault.severity

    def finding(self, *, archive: str, namespace: str) -> Finding:
        """The problem as a finding about `archive`, its path as the user gave it."""
        facts: dict[str, Fact] = dict(self.facts) | ({"member": self.member} if self.member else {})
        name = f"{archive}:{self.member}" if self.member else archive
        (finding,) = merge([self.fault.hit(namespace, Subject(kind="archive", name=name), self.message, facts=facts)])
        return finding


class StopReading(Exception):
    """The pass over an archive cannot go on; what was seen before it stands."""

    def __init__(self, problem: ArchiveProblem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def shown(name: str) -> str:
    """A member's name for people: bytes that are not UTF-8 escaped, nothing that could steer a terminal, bounded."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= 200 else text[:197] + "..."  # noqa: PLR2004 - a line or two of a terminal
