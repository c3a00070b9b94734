"""The pictures in the documentation: `python -m tests.lab.pictures [FOLDER]` takes them from the samples.

The terminal is drawn by rich, the page by the Chromium that tools/lab-install brings.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

from auditor.cli.render import advice
from auditor.formats import table
from tests.lab.kit.binaries import NotInstalledError
from tests.unit import rendered

FOLDER: Final = rendered.FOLDER.parents[1] / "docs" / "pictures"
_LOOKS: Final[Mapping[str, dict[str, Any]]] = {
    "page-light": {"viewport": {"width": 1180, "height": 1500}},
    "page-dark": {"viewport": {"width": 1180, "height": 1500}, "color_scheme": "dark"},
    "page-phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "device_scale_factor": 2},
}


def main(arguments: Sequence[str]) -> int:
    """Write all pictures."""
    folder = Path(arguments[0]) if arguments else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "terminal.svg").write_text(terminal())
    pages(folder)
    return 0


def terminal() -> str:
    """What `auditor check` prints for the sample with the missing-blobs bug, as SVG without anything from elsewhere."""
    report = rendered.load("bug")
    text = "$ auditor check\n" + table.render(report, advice=advice(), style=table.Style(colour=True, width=100))
    console = Console(record=True, width=102, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text))
    drawn = console.export_svg(title="auditor check", unique_id="check")
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")


def pages(folder: Path) -> None:
    """The sample page in the light, in the dark, on a phone, and on paper."""
    chromium = shutil.which("chromium-headless-shell")
    if chromium is None:
        raise NotInstalledError("chromium is absent; run tools/lab-install --with chromium-headless-shell as root")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, look in _LOOKS.items():
            page = browser.new_context(**look).new_page()
            page.goto((rendered.FOLDER / "damaged.html").as_uri())
            page.screenshot(path=folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
