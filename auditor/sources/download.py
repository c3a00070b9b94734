"""Download one blob from one repository of one server; resume and retry after an interrupted transfer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from urllib.parse import quote

from auditor.errors import BadBytes, NotOffered, SourceError
from auditor.model.blob_source import Offer
from auditor.sources.client import Client
from auditor.sources.http import Answer, Limits
from auditor.sources.network_errors import Interrupted
from auditor.sources.repositories import Repository, paths
from auditor.sources.retry import Backoff, Timing
from auditor.sources.socket_limits import LEAST

_PARTIAL = 206
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Download:
    """One download.

    Attributes:
        offer: The blob.
        repository: Where to look.
        client: Returns the client of the server; may raise SourceError.
        mirrored: Registry that the server mirrors; empty for the registry itself.
        limits: Time limits of a request.
        backoff: Pauses between attempts.
        timing: Clock.
        deadline: End of all attempts, by `timing.monotonic`.
        others: Another server is asked next; an interruption before the first byte is then not retried.

    """

    offer: Offer
    repository: Repository
    client: Callable[[], Client]
    mirrored: str
    limits: Limits
    backoff: Backoff
    timing: Timing
    deadline: float
    others: bool = False

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes in order, unverified; at most one chunk beyond the size.

        An interrupted transfer is resumed. Consecutive attempts that deliver less than 64 KiB are limited by `backoff`.

        Raises:
            SourceError: No attempt is left, or the server does not have the blob.

        """
        offset = tried = begun = 0
        while True:
            try:
                with self._ask(offset) as pieces:
                    for piece in pieces:
                        offset += len(piece)
                        yield piece
                self._check_end(offset)
            except Interrupted as error:
                if self.others and not offset:
                    raise
                tried = 1 if offset - begun >= LEAST else tried + 1
                begun = offset
                self._wait(tried, error)
            else:
                return

    def _check_end(self, offset: int) -> None:
        if offset < self.offer.size:
            raise BadBytes(f"{self.repository} ends after {offset} of {self.offer.size} bytes")

    def _wait(self, tried: int, error: Interrupted) -> None:
        """Wait for the next attempt; raise `error` where there is none."""
        pause = self.backoff.pause(tried, error, chance=self.timing.random())
        if pause is None or pause >= self._left():
            raise error
        self.timing.sleep(pause)

    def _left(self) -> float:
        """Return the seconds until the deadline."""
        return self.deadline - self.timing.monotonic()

    @contextmanager
    def _ask(self, offset: int) -> Iterator[Iterator[bytes]]:
        """Open the content at `offset`, from the first path that has it."""
        *likely, last = paths(self.repository.name, self.offer.digest, self.offer.media_type)
        with ExitStack() as stack:
            answer: Answer | None = None
            for path in likely:
                with suppress(NotOffered):
                    answer = answer or stack.enter_context(self._get(path, offset))
            answer = answer or stack.enter_context(self._get(last, offset))
            yield self._body(answer, offset)

    @contextmanager
    def _get(self, path: str, offset: int) -> Iterator[Answer]:
        left = self._left()
        if left <= 0:
            raise SourceError(f"{self.repository} did not deliver {self.offer.digest.short} in time")
        query = f"?ns={quote(self.mirrored, safe='')}" if self.mirrored else ""
        with self.client().get(
            path + query,
            scope=f"repository:{self.repository.name}:pull",
            headers=self._headers(offset),
            limits=replace(self.limits.within(left), total=left),
        ) as answer:
            yield answer

    def _headers(self, offset: int) -> dict[str, str]:
        """Return the headers: Accept as in containerd core/remotes/docker/fetcher.go, Range only to resume."""
        accept = {"Accept": f"{self.offer.media_type}, */*" if _plain(self.offer.media_type) else "*/*"}
        return accept | ({"Range": f"bytes={offset}-"} if offset else {})

    def _body(self, answer: Answer, offset: int) -> Iterator[bytes]:
        """Yield the body from `offset`; if the server ignores the range, the bytes before are dropped."""
        begins = self._check_range(answer, offset) if answer.status == _PARTIAL else 0
        if answer.length is not None and begins + answer.length != self.offer.size:
            total = begins + answer.length
            raise BadBytes(f"{self.repository} has {total} bytes for {self.offer.digest.short}, not {self.offer.size}")
        return self._rest(answer, begins, offset)

    def _rest(self, answer: Answer, at: int, offset: int) -> Iterator[bytes]:
        for piece in answer.pieces(seconds=self._left()):
            unseen = piece[max(0, offset - at) :]
            at += len(piece)
            if unseen:
                yield unseen
        if at < self.offer.size and answer.length is None and not answer.chunked:
            raise Interrupted(f"{self.repository} closed the connection after {at} of {self.offer.size} bytes")

    def _check_range(self, answer: Answer, offset: int) -> int:
        match = _CONTENT_RANGE.fullmatch(answer.header("content-range").strip())
        begins = int(match[1]) if match else -1
        if begins != offset or (match and match[3] not in ("*", str(self.offer.size))):
            raise BadBytes(f"{self.repository} answers with a different range than requested")
        return begins


def _plain(media_type: str) -> bool:
    """Whether a media type, which is untrusted, may be part of a header; RFC 9110, section 8.3.1."""
    return bool(re.fullmatch(r"[A-Za-z0-9!#$&^_.+/-]{1,255}", media_type, re.ASCII))
