"""The picture in the documentation: `python -m tests.lab.pictures [FOLDER]` takes it from the sample.

The page is drawn by the Chromium that tools/lab-install brings.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

from tests.lab.kit.binaries import NotInstalledError
from tests.unit import rendered

FOLDER: Final = rendered.FOLDER.parents[1] / "docs" / "pictures"


def main(arguments: Sequence[str]) -> int:
    """Write the picture."""
    folder = Path(arguments[0]) if arguments else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium-headless-shell")
    if chromium is None:
        raise NotInstalledError("chromium is absent; run tools/lab-install --with chromium-headless-shell as root")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1180, "height": 1500}).new_page()
        page.goto((rendered.FOLDER / "damaged.html").as_uri())
        page.screenshot(path=folder / "page-light.png")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
