"""The run of `auditor check`: audit once, add what was asked for, publish the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from auditor.cli import connect
from auditor.cli.choices import CheckVerify, FailOn, ReportFormat
from auditor.cli.metrics_files import failure_told, metrics_places
from auditor.cli.options import Common
from auditor.cli.output import echo_limits
from auditor.cli.units import pace, size
from auditor.errors import UsageError
from auditor.formats import sanitize
from auditor.model import findings
from auditor.model.findings import Report, Verify

if TYPE_CHECKING:
    from auditor.audit.audit import AuditResult
    from auditor.audit.collect import Request
    from auditor.model.platforms import Platform
    from auditor.scrub.rate_limit import RateLimit


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a check, as they were written."""

    images: tuple[str, ...]
    verify: Verify
    platforms: tuple[Platform, ...]
    all_platforms: bool
    snapshotters: tuple[str, ...]
    allow_empty: bool
    fail_on: FailOn
    jobs: int | None
    limit_rate: str | None
    max_layer_size: str | None
    can_serve: bool
    can_unpack: str | None
    output_format: ReportFormat
    textfile: Path | None


def level(verify: CheckVerify, *, since_crash: bool, root: Path | None) -> Verify:
    """Return the verification level. Raises UsageError for --since-crash with another level or a disk."""
    if not since_crash:
        return Verify(verify)
    if verify is not CheckVerify.PRESENCE:
        raise UsageError("--since-crash is a level of its own", hint=f"leave out --since-crash or --verify {verify}")
    if root is not None:
        raise UsageError("--since-crash examines a running daemon", hint="leave out --root")
    return Verify.SINCE_CRASH


def daemons(common: Common, wish: Wish, addresses: tuple[str, ...], *, repeated: bool) -> tuple[Common, ...]:
    """The options of each daemon to check; one for a disk.

    Raises:
        StoreUnreachable: There is no daemon; recorded in the metrics.
        UsageError: An address is not that of a Unix socket, or several daemons are to be checked repeatedly.

    """
    if common.root is not None:
        return (common,)
    places = metrics_places(common, wish.output_format, wish.textfile)
    with failure_told(places, command="check", address=""):
        found = connect.each_daemon(common, addresses)
    if repeated and len(found) > 1:
        raise UsageError("--every checks one daemon", hint="start one auditor check --every for each --address")
    return found


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a check, parsed."""

    wish: Wish
    limit: RateLimit | None
    max_layer: int | None
    fail_on: findings.FailOn

    def audit(self, common: Common) -> Report:
        """Audit one store. Raises AuditorError."""
        wish = self.wish
        with connect.read_store(common, without_records=True, ahead=not wish.snapshotters) as store:
            from auditor.cli import audit, prover, publish  # noqa: F401 - all that is needed, while the daemon lists
            from auditor.cli.render import tells_trees

            # Before the records: a daemon may be listing them meanwhile.
            look = None if wish.verify in prover.COMPARING else prover.look_at_snapshots(store.info())
            reader = prover.reader(
                store, wish.verify, jobs=wish.jobs, limit=self.limit, max_layer=self.max_layer, look=look
            )
            trees = tells_trees(wish.output_format)
            result, report = audit.audited(store, self.request(common), common, reader=reader, trees=trees)
        return _with_readiness(report, result, wish)

    def request(self, common: Common) -> Request:
        """The part of the store to audit, and the verification level."""
        from auditor.audit.collect import Request

        wish = self.wish
        return Request(
            verify=wish.verify,
            namespaces=common.namespaces,
            images=wish.images,
            platforms=wish.platforms,
            all_platforms=wish.all_platforms,
            snapshotters=wish.snapshotters,
            allow_empty=wish.allow_empty,
        )

    def once(self, common: Common) -> tuple[Report, int]:
        """Audit one store and publish its report; a failure is recorded in the metrics. Raises AuditorError."""
        wish = self.wish
        places = metrics_places(common, wish.output_format, wish.textfile)
        with failure_told(places, command="check", address=common.address or ""):
            report = self.audit(common)
        from auditor.cli.publish import publish

        status = findings.exit_status(report, self.fail_on)
        return report, publish(
            report, common, wish.output_format, status=status, fail_on=self.fail_on, textfile=wish.textfile
        )


def prepare(common: Common, wish: Wish) -> Check:
    """Parse the limits and print them.

    Raises:
        UsageError: A limit is invalid.

    """
    limit, bound = pace(wish.limit_rate), size(wish.max_layer_size) if wish.max_layer_size else None
    echo_limits(
        quiet=common.quiet,
        reading=f"{sanitize.size(limit.rate)}/s" if limit else None,
        layers=sanitize.size(bound) if bound else None,
    )
    return Check(wish=wish, limit=limit, max_layer=bound, fail_on=findings.FailOn(wish.fail_on))


def _with_readiness(report: Report, result: AuditResult, wish: Wish) -> Report:
    """Add what was asked for with --can-serve and --can-unpack."""
    if wish.can_serve:
        from auditor.report.can_serve import can_serve

        report = msgspec.structs.replace(report, can_serve=can_serve(result.evidence, result.findings))
    if wish.can_unpack is not None:
        from auditor.report.can_unpack import can_unpack

        unpacked = can_unpack(result.evidence, result.findings, wish.can_unpack)
        report = msgspec.structs.replace(report, can_unpack=unpacked)
    return report
