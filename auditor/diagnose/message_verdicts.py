"""The verdict from a known message alone, with the paths and platforms that it names; pure."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.diagnose import commands
from auditor.diagnose.case import Case
from auditor.diagnose.describe import complete_platforms
from auditor.diagnose.messages import Confidence, KnownMessage
from auditor.diagnose.model import Outcome, Verdict
from auditor.diagnose.resolve import Named

#: Messages about the folder of a snapshot that is absent.
_FOLDER_ABSENT = frozenset({"stat-parent", "snapshot-usage"})


def from_message(case: Case, message: KnownMessage) -> Verdict:
    """Return the verdict from the message alone: the evidence does not explain it, or no store was examined."""
    mentions, named, target = case.mentions, case.named, case.target
    sure, because = _sure_alone(message, named, looked=case.index is not None)
    folder = next((path for path, exists in case.folders.items() if exists), "")
    if folder and message.id in _FOLDER_ABSENT:
        return _from_folder(message, folder)
    image = next((entry for entry in named.objects if entry.kind == "image"), None)
    name = mentions.names[0] if mentions.names else ""
    namespace = image.id.partition("/")[0] if image is not None else "k8s.io"
    digest = mentions.digests[0] if mentions.digests else ""
    return Verdict(
        outcome=Outcome.MESSAGE,
        cause=message.cause,
        sure=sure,
        because=because,
        message=message.id,
        evidence=(message.meaning, *_ingests(named), *_platforms(case, message), *_absent(case, message)),
        breaks=message.impact,
        fine=message.unaffected,
        commands=(
            *_exports(case, message),
            *(commands.filled(s, name=name, digest=digest, namespace=namespace, target=target) for s in message.steps),
        ),
        source=message.source,
    )


def _from_folder(message: KnownMessage, folder: str) -> Verdict:
    """Return the verdict on a snapshot folder that a message calls absent and that exists."""
    return Verdict(
        outcome=Outcome.MESSAGE,
        cause=f"{folder} is there: the program that printed the message does not see it, "
        "as it runs in another mount namespace",
        sure=Confidence.LIKELY,
        because="the folder was looked up just now; that it was made after the message is possible",
        message=message.id,
        evidence=(message.meaning, f"{folder} exists as this program sees the machine"),
        breaks=message.impact,
        fine=message.unaffected,
        commands=tuple(commands.for_folder(folder)),
        source=message.source,
    )


def _absent(case: Case, message: KnownMessage) -> Iterator[str]:
    if message.id in _FOLDER_ABSENT:
        yield from (f"{path} does not exist on this machine" for path in case.folders)


def _here(case: Case, message: KnownMessage) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the named images and their complete platforms, where the message misses a platform."""
    if message.id != "no-platform" or case.index is None:
        return ()
    images = [entry.id.partition("/") for entry in case.named.objects if entry.kind == "image"]
    return tuple((f"{ns}/{name}", complete_platforms(case.index, ns, name)) for ns, _, name in images)


def _platforms(case: Case, message: KnownMessage) -> Iterator[str]:
    for image, here in _here(case, message):
        yield f"complete platforms of {image}: {', '.join(here) if here else 'none'}"


def _exports(case: Case, message: KnownMessage) -> Iterator[str]:
    for image, here in _here(case, message):
        namespace, _, name = image.partition("/")
        if not name.startswith("-"):
            yield from commands.for_platforms(case.target, namespace, name, here)


def _ingests(named: Named) -> Iterator[str]:
    """Yield the ingests of what the message names: the next pull resumes them, damaged content included."""
    for entry in named.objects:
        for where in entry.where:
            yield from (f"an ingest of it is in {where.namespace}: {ingest}" for ingest in where.ingests)


def _sure_alone(message: KnownMessage, named: Named, *, looked: bool) -> tuple[Confidence, str]:
    if message.confidence is Confidence.CERTAIN:
        return Confidence.CERTAIN, "the message proves itself: it contains the error of the system or the registry"
    if looked and message.findings and named.objects:
        return (
            Confidence.POSSIBLE,
            "what the message names has no such fault now",
        )
    if looked and message.findings:
        return (
            Confidence.POSSIBLE,
            "no fault in the store explains the message now: repaired since, or elsewhere",
        )
    return message.confidence, "the usual cause of the message; not proven here"
