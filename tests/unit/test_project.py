"""The project's pages against the tree: changelog, decision records, links, commands, make targets, paths."""

from __future__ import annotations

import datetime as dt
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from auditor.version import __version__
from tests import program

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "docs" / "decisions"
PAGES = sorted((*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\[[^\]]*\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its code blocks, in which a `#` opens a comment and no heading."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, by the rule of GitHub: lower case, no punctuation, hyphens for spaces."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(prose(page))}


def code(page: Path) -> Iterator[str]:
    """Each line of the code blocks and each code span of the prose; samples of output are no commands."""
    text = re.sub(r"<!-- sample: .*? -->\n```.*?\n```\n", "", page.read_text(), flags=re.DOTALL)
    for block in FENCE.findall(text):
        yield from block.splitlines()
    yield from SPAN.findall(FENCE.sub("", text))


def commands(line: str) -> Iterator[list[str]]:
    """The words of each `auditor …` in a line of shell, up to the next pipe, redirection or comment."""
    for part in re.split(r"[|;<>]|\s#|&&", line):
        if re.match(r"\s*auditor \S", part):
            yield shlex.split(part)[1:]


@cache
def options(*command: str) -> frozenset[str]:
    """The options that `auditor COMMAND --help` lists."""
    done = program.run(*command, "--help", env={"COLUMNS": "100"})
    assert done.returncode == 0, f"auditor {shlex.join(command)} --help: {done.stderr}"
    listed = [line.strip() for line in done.stdout.splitlines() if re.match(r"  -", line)]
    return frozenset(word for line in listed for word in re.findall(r"(?<![\w-])--?[a-z][\w-]*", line.split("  ")[0]))


def test_the_changelog_begins_with_unreleased_and_then_this_version() -> None:
    titles = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert titles[0] == "Unreleased"
    releases = [re.fullmatch(r"(\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)", title) for title in titles[1:]]
    found = [(each[1], dt.date.fromisoformat(each[2])) for each in releases if each is not None]
    assert len(found) == len(titles) - 1
    assert found[0][0] == __version__
    assert [date for _, date in found] == sorted((date for _, date in found), reverse=True)


def test_decision_records_are_numbered_without_gaps_and_indexed() -> None:
    records = sorted(path.name for path in RECORDS.glob("*.md") if path.name != "README.md")
    assert [name[:5] for name in records] == [f"{number:04}-" for number in range(1, len(records) + 1)]
    rows = re.findall(
        r"^\| \[(\d{4})\]\((\S+)\) \| (.+) \| (.+) \| (.+) \|$", (RECORDS / "README.md").read_text(), re.MULTILINE
    )
    assert [row[1] for row in rows] == records
    for number, name, title, status, date in rows:
        text = (RECORDS / name).read_text()
        assert text.startswith(f"# {number}. {title}\n\n- Status: {status}\n- Date: {date}\n"), name


@pytest.mark.parametrize("record", sorted(RECORDS.glob("0*.md")), ids=named)
def test_a_decision_record_has_its_parts(record: Path) -> None:
    text = record.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    head = re.search(r"^- Status: (.+)\n- Date: (.+)$", text, re.MULTILINE)
    assert head is not None
    assert re.fullmatch(r"accepted|superseded by \[(\d{4})\]\(\1-\S+\.md\)", head[1])
    dt.date.fromisoformat(head[2])


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for path, anchor in LINK.findall(SPAN.sub("", prose(page))):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{named(page)} links to {path}"
        assert target.is_relative_to(ROOT), f"{named(page)} links out of the project: {path}"
        assert not anchor or anchor in anchors(target), f"{named(page)} links to {path}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_of_a_page_has_the_options_that_it_uses(page: Path) -> None:
    for words in (words for line in code(page) for words in commands(line)):
        bare = [word for word in words if not word.startswith("-")][: 2 if words[0] == "health" else 1]
        used = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert used <= options(*bare), f"{named(page)}: auditor {shlex.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_make_target_of_a_page_is_in_the_makefile(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {found[1] for line in code(page) for found in re.finditer(r"(?:^|\s)make ([a-z-]+)", line)}
    assert sorted(used - targets) == []


def exists(path: str) -> bool:
    """Whether a path that a page names lies in the tree, from its top or from the package."""
    return (ROOT / path).exists() or (ROOT / "auditor" / path).exists()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_path_of_a_page_is_in_the_tree(page: Path) -> None:
    tops = {path.name for root in (ROOT, ROOT / "auditor") for path in root.iterdir() if path.is_dir()}
    spans = SPAN.findall(prose(page))
    paths = {span for span in spans if re.fullmatch(r"[\w./-]+", span) and "/" in span and span.split("/")[0] in tops}
    assert sorted(path for path in paths if not exists(path)) == []


def test_the_package_stack_of_the_architecture_is_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["type"] == "layers")
    stack = (ROOT / "docs" / "architecture.md").read_text().partition("## Package stack")[2].partition("```")[0]
    rows = re.findall(r"^\| (`.+?`) \|", stack, re.MULTILINE)
    assert [SPAN.findall(row) for row in rows] == [line.split(" | ") for line in layers if line != "__main__"]


def test_the_modules_of_the_architecture_are_in_the_tree() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text().partition("## Modules")[2].partition("\n## ")[0]
    rows = {row[1]: SPAN.findall(row[2]) for row in re.finditer(r"^\| `(\w+)/` \| (.*?) \|", table, re.MULTILINE)}
    packages = {path.parent.name for path in (ROOT / "auditor").glob("*/__init__.py")}
    assert set(rows) == packages
    for package, names in rows.items():
        here = ROOT / "auditor" / package
        modules = {path.stem for path in here.iterdir()} | {f"{path.name}/" for path in here.iterdir()}
        assert [name for name in names if name not in modules] == [], package


def test_every_command_is_in_the_readme() -> None:
    listed = program.run("--help")
    every = re.findall(r"^  ([a-z]+)  ", listed.stdout.partition("Commands:")[2], re.MULTILINE)
    assert "check" in every
    text = (ROOT / "README.md").read_text()
    assert [command for command in every if f"auditor {command}" not in text] == []


def test_the_licence_is_the_one_that_the_package_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license-files"] == ["LICENSE"]
    notice = (ROOT / "LICENSE").read_text()
    assert notice.startswith(f"SPDX-License-Identifier: {project['license']}\n")
    assert "https://www.apache.org/licenses/LICENSE-2.0.txt" in notice
