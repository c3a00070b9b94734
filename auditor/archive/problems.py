"""Faults of an archive as a file, apart from the content of its images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from auditor.checks.rule import Rule, merge
from auditor.model.findings import Fact, Finding, Severity, Subject
from auditor.model.plural import plural

#: Problems of one code and severity that are listed one by one.
KEPT: Final = 100


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


class Problems:
    """The problems of one archive; of each code and severity the first ones are kept, the others are counted."""

    def __init__(self) -> None:
        self._kept: list[ArchiveProblem] = []
        self._counts: Counter[tuple[str, Severity]] = Counter()
        self._rules: dict[tuple[str, Severity], Rule] = {}

    def append(self, problem: ArchiveProblem) -> None:
        """Add a problem."""
        key = (problem.code, problem.severity)
        self._counts[key] += 1
        self._rules[key] = problem.fault
        if self._counts[key] <= KEPT:
            self._kept.append(problem)

    def __iter__(self) -> Iterator[ArchiveProblem]:
        """Yield the problems that were kept, and for each code and severity one with the number of the others."""
        yield from self._kept
        for (code, severity), count in self._counts.items():
            if count > KEPT:
                message = f"{plural(count - KEPT, 'more problem')} with the code {code}"
                facts: dict[str, Fact] = {"more": count - KEPT}
                yield ArchiveProblem(self._rules[code, severity], message, facts=facts, level=severity)


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
