"""The answers over a fleet with planted causes, of which a dictionary of sets keeps count."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from auditor.fleet import answers
from auditor.fleet.database import Database
from auditor.fleet.node_report import Fault, NodeReport, SlimReport, condense
from auditor.fleet.picture import Cause, Picture
from auditor.fleet.read_file import read_file
from auditor.model.findings import FindingCounts, Report, Severity
from auditor.report.fleet import UnreadFile
from tests import fleet_nodes

NODES = 2000


@pytest.fixture(scope="module")
def made() -> list[tuple[str, bytes]]:
    return list(fleet_nodes.fleet(NODES))


@pytest.fixture(scope="module")
def planted(made: list[tuple[str, bytes]]) -> fleet_nodes.Planted:
    return fleet_nodes.planted_in(made)


@pytest.fixture(scope="module")
def reports(made: list[tuple[str, bytes]]) -> list[NodeReport]:
    decoder = msgspec.json.Decoder(SlimReport)
    return [condense(decoder.decode(raw), file=host) for host, raw in made]


@pytest.fixture(scope="module")
def sound(reports: list[NodeReport]) -> list[NodeReport]:
    return [report for report in reports if not report.faults][:3]


@pytest.fixture(scope="module")
def database(reports: list[NodeReport]) -> Iterator[Database]:
    with Database() as made:
        for report in reports:
            made.add(report)
        yield made


@pytest.fixture(scope="module")
def picture(database: Database) -> Picture:
    return answers.picture(database)


def test_every_node_has_the_verdict_that_was_planted(picture: Picture, planted: fleet_nodes.Planted) -> None:
    assert {node.name for node in picture.nodes} == planted.damaged
    counts = picture.counts
    assert (counts.reported, counts.damaged, counts.unknown) == (NODES, len(planted.damaged), 0)
    assert counts.sound == NODES - len(planted.damaged)
    assert picture.complete
    assert [node.critical for node in picture.nodes] == sorted((n.critical for n in picture.nodes), reverse=True)


def cause_of(picture: Picture, cause: str, *, digest: str = "") -> Cause:
    (found,) = (each for each in picture.causes if (each.cause, each.digest) == (cause, digest))
    return found


def test_causes_are_told_apart_and_lead_to_what_the_nodes_share(picture: Picture, planted: fleet_nodes.Planted) -> None:
    mirror = cause_of(picture, "bytes-changed", digest=fleet_nodes.MIRRORED)
    assert mirror.nodes >= len(planted.mirror)
    assert [(each.fact, each.value) for each in mirror.shared] == [("zone", fleet_nodes.MIRROR_ZONE)]
    disk = cause_of(picture, "bytes-changed")
    assert (disk.shared[0].fact, disk.shared[0].value) == ("disk_model", fleet_nodes.BAD_DISK)
    assert disk.shared[0].lift > 5
    bug = cause_of(picture, "missing-blobs-bug")
    assert bug.nodes == len(planted.bug)
    releases = {each.value for each in bug.shared if each.fact == "containerd"}
    assert releases
    assert releases <= set(fleet_nodes.RELEASES[:2])


def test_a_digest_is_listed_with_its_nodes_and_the_copies_elsewhere(
    picture: Picture, planted: fleet_nodes.Planted
) -> None:
    first = picture.digests[0]
    assert first.digest == fleet_nodes.MIRRORED
    assert first.damaged >= len(planted.mirror)
    assert set(first.damaged_on) <= planted.damaged
    assert first.verified > len(first.verified_on) == answers.NAMED
    assert not set(first.verified_on) & set(first.damaged_on)
    assert [digest.damaged for digest in picture.digests] == sorted((d.damaged for d in picture.digests), reverse=True)


def test_a_digest_with_several_faults_has_the_rule_of_the_worst(sound: list[NodeReport]) -> None:
    bad = [
        msgspec.structs.replace(
            report,
            faults=(Fault(code, severity, "", "layer", "sha256:" + "1" * 64, "", "k8s.io", (image,)),),
            findings=FindingCounts(error=1),
        )
        for report, code, severity, image in zip(
            sound[:2],
            ("blob-missing", "digest-mismatch"),
            (Severity.ERROR, Severity.CRITICAL),
            ("z", "a"),
            strict=True,
        )
    ]
    for order in (bad, bad[::-1]):
        (digest,) = few(*order).digests
        assert (digest.code, digest.severity, digest.images) == ("digest-mismatch", Severity.CRITICAL, ("a",))


def test_images_count_the_nodes_where_they_are_sound(
    picture: Picture, database: Database, reports: list[NodeReport]
) -> None:
    damaged = {target for report in reports for target, _ in report.damaged}
    assert {image.target for image in picture.images} == damaged
    for image in picture.images[:5]:
        assert image.damaged == sum(image.target in dict(report.damaged) for report in reports)
        assert 0 < image.sound < database.rows("SELECT count(*) FROM report")[0][0]


def few(*reports: NodeReport, **wish: object) -> Picture:
    with Database() as made:
        for report in reports:
            made.add(report)
        return answers.picture(made, **wish)  # type: ignore[arg-type]


def test_the_newest_report_of_a_store_counts_in_any_order(reports: list[NodeReport], sound: list[NodeReport]) -> None:
    bad = next(report for report in reports if report.faults)
    healed = msgspec.structs.replace(
        bad, faults=(), damaged=(), findings=sound[0].findings, finished_at=bad.finished_at + timedelta(hours=1)
    )
    for order in ((bad, healed), (healed, bad)):
        found = few(*order)
        assert (found.counts.reported, found.counts.damaged, found.superseded) == (1, 0, 1)
        assert found.digests == ()


def test_two_stores_of_a_host_are_two_rows(sound: list[NodeReport]) -> None:
    other = msgspec.structs.replace(sound[0], address="/run/docker/containerd/containerd.sock", complete=False)
    found = few(sound[0], other)
    assert found.counts.reported == 2
    assert [node.name for node in found.nodes] == [f"{other.host} {other.address}"]


def test_silent_unexpected_and_unread_are_lists_of_their_own(sound: list[NodeReport]) -> None:
    unread = [UnreadFile(file="a", reason="b")]
    found = few(*sound, expected={sound[0].host: {}, "gone": {}}, unread=unread)
    assert found.silent == ("gone",)
    assert found.unexpected == (sound[1].host, sound[2].host)
    assert found.unread == tuple(unread)
    assert not found.complete
    assert (found.counts.silent, found.counts.unread, found.counts.sound) == (1, 1, 3)


@pytest.mark.parametrize("away", [timedelta(days=-3), timedelta(hours=3)])
def test_incomplete_reports_old_ones_and_those_of_the_future_are_not_sound(
    sound: list[NodeReport], away: timedelta
) -> None:
    first, second, third = sound
    partly = msgspec.structs.replace(second, complete=False)
    old = msgspec.structs.replace(third, finished_at=first.finished_at + away)
    day = timedelta(days=1)
    found = few(first, partly, old, current=answers.Current(first.finished_at - day, first.finished_at + day / 12))
    assert {(node.name, node.outdated) for node in found.nodes} == {(partly.host, False), (old.host, True)}
    assert (found.counts.sound, found.counts.unknown, found.counts.damaged) == (1, 2, 0)
    assert not found.complete


def test_facts_of_the_list_of_nodes_are_searched_too(reports: list[NodeReport]) -> None:
    racks = {report.host: {"rack": "r9" if report.faults else f"r{n % 5}"} for n, report in enumerate(reports)}
    found = few(*reports, expected=racks)
    bug = cause_of(found, "missing-blobs-bug")
    assert ("rack", "r9") in {(each.fact, each.value) for each in bug.shared}


def test_changes_count_nodes_of_both_days(reports: list[NodeReport]) -> None:
    bad = [report for report in reports if report.faults][:3]
    clean = [msgspec.structs.replace(report, faults=()) for report in bad]
    with Database() as older, Database() as newer:
        for report in (bad[0], clean[1], bad[2]):
            older.add(report)
        for report in (bad[0], bad[1]):
            newer.add(report)
        found = answers.picture(newer, older=older).changes
    assert found is not None
    assert sum(each.same for each in found) == len({(f.code, f.digest) for f in bad[0].faults})
    assert sum(each.new for each in found) == len({(f.code, f.digest) for f in bad[1].faults})
    assert sum(each.gone for each in found) == 0


def test_damage_that_began_on_one_day_shares_its_time(reports: list[NodeReport]) -> None:
    """Three days of 200 nodes; on the second, 20 of them become damaged, and stay so on the third."""
    fault = next(report for report in reports if report.faults).faults[0]
    plain = [msgspec.structs.replace(each, faults=(), damaged=()) for each in reports[:200]]
    with Database() as older, Database() as newer:
        for day in range(3):
            for number, each in enumerate(plain):
                bad = (fault,) if day and number < 20 else ()
                at = each.finished_at + timedelta(days=2 * day)
                made = msgspec.structs.replace(each, faults=bad, finished_at=at)
                (newer if day == 2 else older).add(made)
        (cause,) = answers.picture(newer, older=older).causes
        assert all(each.fact != "first_seen" for each in answers.picture(newer).causes[0].shared)
    (began,) = (each for each in cause.shared if each.fact == "first_seen")
    assert began.value == (reports[0].finished_at + timedelta(days=2)).date().isoformat()
    assert (began.damaged, began.nodes, began.lift) == (20, 200, 2.0)


def test_nothing_is_shared_where_all_nodes_are_damaged_alike(reports: list[NodeReport]) -> None:
    bad = [report for report in reports if report.faults]
    assert all(not cause.shared for cause in few(*bad[:4]).causes)


def test_a_report_of_this_program_is_read(tmp_path: Path) -> None:
    made = next(raw for _, raw in fleet_nodes.fleet(1))
    (tmp_path / "a").write_bytes(made)
    assert msgspec.json.decode(made, type=Report).host == read_file(tmp_path / "a", limit=1 << 26).reports[0].host
