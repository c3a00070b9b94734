"""The page, read as a browser's parser would and without running it; tests/lab/test_integrations_page.py runs it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest
from msgspec.structs import replace

from auditor.checks.rule import Rule
from auditor.fleet import answers
from auditor.fleet.database import Database
from auditor.fleet.node_report import SlimReport, condense
from auditor.formats import html
from auditor.formats.html import byte_totals, node_page
from auditor.formats.json_report import to_json
from auditor.model.findings import FailOn, Report, Severity, Verify, exit_status
from auditor.report.compare import compare
from auditor.report.fleet import join, walk
from tests.unit import reports

ADVICE = {
    "digest-mismatch": Rule(
        code="digest-mismatch",
        severity=Severity.CRITICAL,
        means="The bytes `changed`.",
        impact="It <matters>.",
        remedy="Repair it.",
    )
}
VOID = {"meta", "link", "input", "br", "wbr"}


class Page(HTMLParser):
    """The elements, their attributes and the text of a page; fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> ends nothing"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def count(self, tag: str, **attrs: str) -> int:
        return sum(t == tag and attrs.items() <= found.items() for t, found in self.elements)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def page(report: Report) -> Page:
    return Page(html.render(report, advice=ADVICE))


@pytest.fixture(scope="module")
def damaged() -> Page:
    return page(reports.damaged())


def test_the_verdict_is_the_heading(damaged: Page) -> None:
    assert "3 images damaged" in damaged.words
    assert damaged.count("h1") == 1
    assert ("body", {"class": "tone-bad"}) in damaged.elements


@pytest.mark.parametrize(
    ("report", "tone", "words"),
    [
        (reports.sound(), "good", "No problems found"),
        (replace(reports.sound(), complete=False, incomplete=("why",)), "unknown", "Not fully checked"),
        (reports.report(reports.sound().images, reports.damaged().findings[3:4]), "warn", "Warnings"),
        (reports.report(reports.sound().images, reports.damaged().findings[4:]), "good", "No problems found"),
        (reports.report(reports.sound().images, reports.damaged().findings[:1]), "bad", "Damage found"),
    ],
)
def test_only_what_was_wholly_examined_is_called_sound(report: Report, tone: str, words: str) -> None:
    assert node_page.verdict(report).tone == tone
    assert node_page.verdict(report).words == words
    assert (exit_status(report, FailOn.ERROR) == 0) == (tone in ("good", "warn"))


def test_what_to_do_first_is_the_worst_first(damaged: Page) -> None:
    assert damaged.words.index("What to do first") < damaged.words.index(
        "auditor repair -n k8s.io registry.example/shop/payments:7"
    )
    assert "It <matters>." in damaged.words


def test_nothing_is_loaded_from_elsewhere_and_only_our_script_may_run(damaged: Page) -> None:
    text = html.render(reports.damaged(), advice=ADVICE)
    assert not re.search(r"(?:src|href)=\"(?!data:,|#)", text)
    assert "url(" not in text.replace("url(#ribs)", "").replace("url(#dots)", "")
    policy = next(a["content"] for t, a in damaged.elements if t == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not any(name.startswith("on") or name == "style" for _, attrs in damaged.elements for name in attrs)


def test_trees_have_each_node_with_its_state(damaged: Page) -> None:
    assert damaged.words.count("skipped by the unpacker") == 2
    assert "3 other manifests (linux/arm64, linux/s390x, linux/ppc64le)" in damaged.words
    assert damaged.count("li", **{"class": "p-corrupt"}) == 2


def test_the_store_is_counted_once_for_each_digest() -> None:
    report = reports.damaged()
    shares = {share.key: share for share in byte_totals.take(report, [walk(image.tree) for image in report.images])}
    assert shares["corrupt"].bytes == 22 * reports.MIB
    assert shares["corrupt"].blobs == 1
    assert shares["fault"].bytes == 62 * reports.MIB
    assert shares["design"].blobs == 30
    assert shares["unproven"].bytes == 64 * reports.MIB
    present = report.summary.bytes.present
    assert sum(shares[key].bytes for key in ("sound", "unproven", "corrupt")) == present
    assert abs(sum(share.width for share in shares.values()) - 1000) < 1


def test_bytes_that_no_image_leads_to_are_shown_as_such() -> None:
    report = reports.sound()
    more = replace(report.summary, bytes=replace(report.summary.bytes, present=report.summary.bytes.present + 77))
    shares = byte_totals.take(replace(report, summary=more), [walk(image.tree) for image in report.images])
    assert next(share.bytes for share in shares if share.key == "loose") == 77


def test_a_report_made_without_trees_still_has_a_page() -> None:
    report = reports.damaged()
    bare = replace(report, images=tuple(replace(image, tree=None) for image in report.images))
    assert "This report has no image trees." in page(bare).words


def test_hostile_names_are_text_and_no_name_adds_an_element() -> None:
    hostile, plain = page(reports.hostile()), page(reports.damaged())
    assert {tag for tag, _ in hostile.elements} <= {tag for tag, _ in plain.elements} | {"section"}
    assert hostile.count("script") == hostile.count("style") == 1
    assert hostile.count("img") == 0
    assert "<script>alert(1)</script>" in hostile.words
    written = html.render(reports.hostile(), advice=ADVICE)
    assert written.replace("\n", "").isprintable()
    assert "\\u202e" in written


def test_a_fleet_of_hostile_nodes_is_text_too() -> None:
    fleet = join([reports.hostile(), reports.damaged()])
    found = Page(html.render_fleet(fleet, advice=ADVICE))
    assert found.count("script") == 1
    assert found.count("img") == 0
    assert "2 of 2 nodes damaged" in found.words


def test_what_changed_is_told() -> None:
    report = reports.damaged()
    older = replace(report, findings=report.findings[1:])
    found = Page(html.render(report, advice=ADVICE, comparison=compare(report, older)))
    assert "1 new 0 gone 3 still there" in found.words
    assert found.count("span", **{"class": "badge new"}) == 1


def test_every_image_is_listed_and_the_damaged_come_first_with_their_trees() -> None:
    report = reports.large(600)
    found = page(report)
    statuses = [attrs["data-key"] for tag, attrs in found.elements if tag == "li" and "data-key" in attrs]
    assert statuses == ["damaged"] * 6 + ["sound"] * 594
    assert found.count("li", **{"class": "p-corrupt"}) == 6


def test_all_but_the_first_rows_wait_in_a_noscript_one_a_line() -> None:
    text = html.render(reports.large(600), advice=ADVICE)
    before, _, after = text.partition('<noscript data-rest="images">')
    assert len(re.findall(r'^<li id="image-\d+" data-key', before, re.MULTILINE)) == 100
    rest = after.partition("</noscript>")[0]
    assert len(re.findall(r'^<li id="image-\d+" data-key', rest, re.MULTILINE)) == 500


def test_a_step_links_the_rows_of_its_images(damaged: Page) -> None:
    links = [attrs["href"] for tag, attrs in damaged.elements if tag == "a" and attrs.get("href", "") != "#main"]
    rows = {f"#{attrs['id']}" for tag, attrs in damaged.elements if tag == "li" and "data-key" in attrs}
    assert links
    assert set(links) <= rows
    first = next(attrs["id"] for tag, attrs in damaged.elements if tag == "li" and "data-key" in attrs)
    assert f"#{first}" in links


def test_findings_come_before_statistics(damaged: Page) -> None:
    titles = [
        damaged.words.index(title) for title in ("What to do first", "Findings Filter", "Images Filter", "The store")
    ]
    assert titles == sorted(titles)


@pytest.mark.parametrize(
    ("verify", "kind", "words"),
    [
        (Verify.PRESENCE, "containerd", "Not read: contents of blobs, unpacked files."),
        (Verify.DIGESTS, "containerd", "Not read: layers as they decompress, unpacked files."),
        (Verify.LAYERS, "containerd", "Not read: unpacked files."),
        (Verify.LAYERS, "archive", "contents and decompressed layers."),
        (Verify.SNAPSHOTS, "containerd", "decompressed layers and unpacked files."),
    ],
)
def test_a_sound_page_names_what_was_not_read(verify: Verify, kind: str, words: str) -> None:
    report = replace(reports.sound(), verify=verify, source=replace(reports.sound().source, kind=kind))
    assert node_page.verdict(report).sentence.endswith(words)


def test_the_picture_of_a_fleet_has_its_damaged_nodes_digests_and_causes() -> None:
    with Database() as database:
        for number in range(150):
            raw = to_json(replace(reports.damaged(), host=f"node-{number}")).encode()
            database.add(condense(msgspec.json.decode(raw, type=SlimReport), file=f"{number}.json"))
        found = Page(html.render_picture(answers.picture(database)))
    assert "150 of 150 nodes damaged" in found.words
    assert found.count("span", **{"class": "badge s-critical"}) > 0
    assert sum(attrs.get("data-key") == "damaged" for tag, attrs in found.elements if tag == "tr") == 150
    assert found.count("noscript", **{"data-rest": "nodes"}) == 1


def test_a_damaged_blob_was_read(damaged: Page) -> None:
    assert "1 of 56 blobs, layers as they decompress, unpacked files" in damaged.words


def test_a_fleet_of_many_nodes_names_the_damaged_and_counts_the_others() -> None:
    nodes = [replace(reports.sound(), host=f"node-{n}") for n in range(300)]
    bad = [replace(reports.damaged(), host=f"bad-{n}") for n in range(12)]
    text = html.render_fleet(join([*nodes, *bad]), advice=ADVICE)
    found = Page(text)
    assert "and 4 more" in found.words
    assert len(text) < 1_000_000


@pytest.mark.slow
def test_a_page_of_5000_images_is_below_ten_megabytes() -> None:
    assert len(html.render(reports.large(5_000), advice=ADVICE).encode()) < 10_000_000


def test_the_same_report_gives_the_same_page() -> None:
    assert html.render(reports.damaged(), advice=ADVICE) == html.render(reports.damaged(), advice=ADVICE)
