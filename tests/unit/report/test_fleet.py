"""Several nodes as one: which node, which digest is bad where, who has a good copy."""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from auditor.formats import fleet as text
from auditor.model.findings import Report, Severity, Status
from auditor.report.fleet import join
from tests.unit import reports

NAME = "registry.example/shop/payments:7"


def node(host: str, state: str, *, found: bool) -> Report:
    """A node whose one image has a layer in this state."""
    layer = reports.layer(0, "the layer", state=state)
    image = reports.image(NAME, [layer], status=Status.DAMAGED if found else Status.SOUND)
    finding = reports.finding("digest-mismatch", Severity.CRITICAL, layer, [reports.ref(image, index=0)], "it is bad")
    return reports.report([image], [finding] if found else [], host=host)


def test_a_bad_digest_is_one_finding_with_its_nodes_and_the_nodes_that_can_help() -> None:
    fleet = join(
        [
            node("bad-1", "corrupt", found=True),
            node("bad-2", "corrupt", found=True),
            node("proven", "verified", found=False),
            node("unread", "present", found=False),
            node("without", "discarded", found=False),
        ]
    )
    (finding,) = fleet.findings
    assert finding.nodes == ("bad-1", "bad-2")
    assert finding.proven_on == ("proven",)
    assert finding.held_on == ("unread",)
    assert text.copies(finding) == "verified copy on proven"


def test_a_copy_whose_file_is_damaged_in_any_image_is_no_good_copy() -> None:
    damaged, sound = node("b", "corrupt", found=False), node("b", "verified", found=False)
    mixed = replace(sound, images=(*sound.images, replace(damaged.images[0], namespace="other")))
    (finding,) = join([node("a", "no file", found=True), mixed]).findings
    assert finding.proven_on == finding.held_on == ()
    assert text.copies(finding) == "no good copy on any of these nodes"


def test_each_node_has_its_verdict_and_the_worst_image_state_rules() -> None:
    unexamined = replace(node("c", "present", found=False), complete=False)
    fleet = join([node("a", "corrupt", found=True), node("b", "verified", found=False), unexamined])
    assert [(n.name, n.status) for n in fleet.nodes] == [
        ("a", Status.DAMAGED),
        ("b", Status.SOUND),
        ("c", Status.UNKNOWN),
    ]
    assert not fleet.complete
    (image,) = fleet.images
    assert (image.damaged, image.sound) == (("a",), ("b", "c"))
    assert text.verdict(fleet) == "3 nodes: 1 damaged, 1 not fully checked"


def test_the_order_of_the_files_does_not_matter() -> None:
    files = [node("a", "corrupt", found=True), node("b", "verified", found=False), reports.damaged()]
    assert join(files) == join(files[::-1])


def test_two_reports_of_one_host_stay_apart() -> None:
    one = node("a", "verified", found=False)
    later = replace(one, finished_at=one.finished_at + timedelta(hours=1))
    other = replace(one, source=replace(one.source, address="/run/k3s/containerd/containerd.sock"))
    assert [n.name for n in join([one, later, other]).nodes] == [
        "a /run/containerd/containerd.sock",
        "a /run/containerd/containerd.sock #2",
        "a /run/k3s/containerd/containerd.sock",
    ]


def test_what_is_normal_is_no_news_of_the_fleet() -> None:
    assert {f.code for f in join([reports.damaged()]).findings} == {
        "digest-mismatch",
        "snapshot-without-blob",
        "gc-unprotected",
    }


def test_findings_stand_first_and_damaged_nodes_are_among_those_that_are_listed() -> None:
    fleet = join([*(node(f"a{n}", "verified", found=False) for n in range(50)), node("z", "corrupt", found=True)])
    for lines in (text.render(fleet).splitlines(), text.markdown(fleet).splitlines()):
        finding, damaged, sound = (
            next(number for number, line in enumerate(lines) if word in line)
            for word in ("digest-mismatch", "DAMAGED", "| sound" if lines[0].startswith("#") else "  sound ")
        )
        assert finding < damaged < sound
        assert "and 11 more nodes; --format json lists all" in lines


def test_hostile_nodes_are_plain_text() -> None:
    written = text.render(join([reports.hostile(), reports.damaged()]))
    assert written.replace("\n", "").isprintable()
    assert max(map(len, written.splitlines())) < 1_000
