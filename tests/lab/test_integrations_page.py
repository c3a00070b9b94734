"""The page in a real browser: read by axe, used by keyboard, without scripts, in the dark, on a phone and on paper."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import msgspec
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from auditor.cli.render import advice
from auditor.fleet import answers
from auditor.fleet.database import Database
from auditor.fleet.node_report import SlimReport, condense
from auditor.fleet.picture import Picture
from auditor.formats import html
from auditor.formats.json_report import to_json
from auditor.report.compare import compare
from auditor.report.fleet import join
from tests.lab.kit.binaries import NotInstalledError
from tests.unit import reports

#: Makes a context in which pages are to be shown.
PHONE = {"viewport": {"width": 375, "height": 700}, "is_mobile": True, "has_touch": True}
PAGES: dict[str, Callable[[], str]] = {
    "damaged": lambda: html.render(
        reports.damaged(), advice=advice(), comparison=compare(reports.damaged(), reports.sound())
    ),
    "sound": lambda: html.render(reports.sound(), advice=advice()),
    "hostile": lambda: html.render(reports.hostile(), advice=advice()),
    "large": lambda: html.render(reports.large(500), advice=advice()),
    "picture": lambda: html.render_picture(picture()),
    "fleet": lambda: html.render_fleet(join([reports.damaged(), reports.sound(), reports.hostile()]), advice=advice()),
}
Show = Callable[..., Page]


def picture() -> Picture:
    """A fleet whose first node is damaged and whose second has hostile names."""
    with Database() as database:
        for made in (reports.damaged(), reports.hostile(), reports.sound()):
            raw = to_json(made).encode()
            database.add(condense(msgspec.json.decode(raw, type=SlimReport), file=made.host))
        return answers.picture(database)


@cache
def written(name: str) -> str:
    """A page's text, rendered once for all tests."""
    return PAGES[name]()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise NotInstalledError("chromium is absent; run tools/lab-install --with chromium as root")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Callable[..., BrowserContext]:
    """Make a browser's context for any options; pages of one context share a process."""
    made: dict[str, BrowserContext] = {}

    def context_of(**options: object) -> BrowserContext:
        if repr(options) not in made:
            made[repr(options)] = browser.new_context(**options)  # type: ignore[arg-type]
        return made[repr(options)]

    return context_of


@pytest.fixture
def show(context: Callable[..., BrowserContext], tmp_path: Path) -> Iterator[Show]:
    """Show a page with any option of a browser's context; whatever the browser complains of fails the test."""
    pages: list[Page] = []
    complaints: list[str] = []

    def open_page(name: str, **options: object) -> Page:
        path = tmp_path / f"{name}.html"
        path.write_text(written(name))
        page = context(**options).new_page()
        pages.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
        page.on("request", lambda asked: complaints.append(asked.url) if asked.url.startswith("http") else None)
        page.goto(path.as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []


def violations(page: Page, **options: object) -> list[tuple[str, str, list[str]]]:
    found = Axe().run(page, options={"resultTypes": ["violations"], **options}).response["violations"]
    return [(v["id"], v["impact"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found]


# The large page has nothing that the others have not, and axe takes its time with each row.
@pytest.mark.parametrize("name", [name for name in PAGES if name != "large"])
@pytest.mark.parametrize("look", [{}, PHONE], ids=["window", "phone"])
def test_axe_finds_no_violation(name: str, look: dict[str, object], show: Show) -> None:
    # Our policy lets no script of others run, and axe is one.
    page = show(name, bypass_csp=True, **look)
    page.evaluate("document.querySelectorAll('details').forEach((d, i) => { if (i < 12) d.open = true })")
    assert violations(page) == []
    if not look:  # in the dark only the colours are others
        page.emulate_media(color_scheme="dark")
        assert violations(page, runOnly={"type": "rule", "values": ["color-contrast"]}) == []


@pytest.mark.parametrize("name", PAGES)
def test_no_page_is_wider_than_its_window(name: str, show: Show) -> None:
    page = show(name)
    for width in (320, 375, 768, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


# What `:visible` means to the browser itself: playwright's own takes seconds for hundreds of rows.
VISIBLE = "all => all.filter(e => e.checkVisibility({visibilityProperty: true}) && e.getClientRects().length).length"


def visible(page: Page, rows: str = "[data-list=images] > li") -> int:
    return int(page.locator(rows).evaluate_all(VISIBLE))


def test_filters_and_order(show: Show) -> None:
    page = show("large")
    assert visible(page) == 100
    page.locator("[data-more=images]").click()
    assert visible(page) == 500
    tools = page.locator("[data-tools=images]")
    tools.locator("[data-filter]").fill("SERVICE-107 damaged")
    assert visible(page) == 1
    assert tools.locator("output").inner_text() == "1 of 500 shown"
    tools.locator("[data-filter]").fill("")
    tools.locator("[data-pick=sound]").uncheck()
    assert visible(page) == 5
    tools.locator("[data-order]").select_option("name")
    names = page.locator("[data-list=images] > li:visible .name").all_inner_texts()
    assert len(names) == 5
    assert names == sorted(names)


def test_tables_sort_by_keyboard_and_say_so(show: Show) -> None:
    page = show("damaged")
    button = page.get_by_role("button", name="rule")
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("rule")
    codes = page.locator("table.findings tbody td:nth-child(2) code").all_inner_texts()
    assert codes == sorted(codes)
    page.keyboard.press("Enter")
    assert page.locator("table.findings tbody td:nth-child(2) code").all_inner_texts() == codes[::-1]


def test_the_first_key_leads_to_the_report_and_trees_open_by_keyboard(show: Show) -> None:
    page = show("damaged")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    tree = page.locator("[data-list=images] > li").first
    assert not tree.get_by_text("skipped by the unpacker").first.is_visible()
    tree.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert tree.get_by_text("skipped by the unpacker").first.is_visible()


def test_everything_is_there_without_scripts(show: Show) -> None:
    page = show("large", java_script_enabled=False)
    assert visible(page, ".images > li") == 500
    assert page.locator(".tools:visible").count() == 0
    assert page.locator("table.findings tbody tr:visible").count() == 5
    page.locator("[data-list=images] > li").first.locator("summary").first.click()
    assert page.locator("[data-list=images] > li").first.locator(".p-corrupt").is_visible()


def test_on_paper_the_trees_of_damaged_images_are_open_and_no_tool_is_shown(show: Show) -> None:
    page = show("damaged")
    page.emulate_media(media="print")
    assert page.locator(".tools:visible").count() == 0
    assert page.locator("details.hurt .tree").first.is_visible()
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_hostile_names_run_nothing_and_are_there_to_read(show: Show) -> None:
    page = show("hostile")
    assert "<script>alert(1)</script>" in page.locator(".banner").inner_text()
    assert page.locator("script").count() == 1
    assert page.locator("main img, main svg[onload], main [onmouseover]").count() == 0


def test_the_verdict_is_larger_than_anything_else(show: Show) -> None:
    page = show("damaged", viewport={"width": 1280, "height": 800})
    size = "(e) => parseFloat(getComputedStyle(e).fontSize)"
    verdict = page.locator("h1").evaluate(size)
    assert 40 <= verdict <= 48
    assert verdict > 1.3 * max(page.locator("h2, h3, p, td, dd b").evaluate_all(f"all => all.map({size})"))


def test_a_link_of_a_step_opens_the_row_of_its_image(show: Show) -> None:
    page = show("damaged")
    page.locator(".steps a").first.click()
    row = page.locator("[data-list=images] > li > details[open]").first
    assert row.locator(".name").inner_text() == page.locator(".steps a").first.inner_text()
    assert row.get_by_text("corrupt").first.is_visible()


def test_a_link_to_a_row_that_is_not_on_the_page_yet_filters_for_it(show: Show) -> None:
    page = show("large")
    page.evaluate("location.hash = '#image-450'")
    page.wait_for_selector("#image-450 details[open]")
    assert page.locator("#image-450").is_visible()
    assert visible(page) < 10


def test_rows_are_made_when_they_are_looked_at(show: Show) -> None:
    page = show("large")
    before = page.evaluate("document.querySelectorAll('*').length")
    page.locator("[data-more=images]").click()
    assert page.evaluate("document.querySelectorAll('*').length") > 2 * before


def test_a_button_copies_a_command(show: Show) -> None:
    page = show("damaged", permissions=["clipboard-read", "clipboard-write"])
    command = page.locator(".steps pre code").first.inner_text()
    page.locator(".copy").first.click()
    page.locator(".copy").first.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == command


def test_columns_break_no_words(show: Show) -> None:
    page = show("fleet")
    for name in ("severity", "rule", "namespace", "verdict"):
        for heading in page.get_by_role("columnheader", name=name).all():
            assert heading.evaluate("e => e.getBoundingClientRect().height") < 45
    badges = page.locator(".badge, .mark").evaluate_all("all => all.map(e => e.getClientRects().length)")
    assert set(badges) == {1}
