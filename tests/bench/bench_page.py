"""When the HTML page of a large node is painted: `python -m tests.bench.bench_page [IMAGES …]`.

Chromium with scripts on; the time from the start of the navigation to the first contentful paint. Exit status 1 where a
goal is missed: 2 s for 5,000 images, 4 s for 20,000.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, sync_playwright

from auditor.cli.render import advice
from auditor.formats import html
from tests.lab.kit.binaries import NotInstalledError
from tests.unit import reports

#: Milliseconds by number of images.
GOALS: Final = {5_000: 2_000, 20_000: 4_000}
ROUNDS: Final = 3
_PAINTED: Final = """async () => {
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
    return [performance.getEntriesByName("first-contentful-paint")[0].startTime, performance.now()];
}"""


def main(arguments: Sequence[str]) -> int:
    """Measure and print each size."""
    chromium = shutil.which("chromium-headless-shell")
    if chromium is None:
        raise NotInstalledError("chromium is absent; run tools/lab-install --with chromium-headless-shell as root")
    missed = False
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for images in [int(each) for each in arguments] or GOALS:
            began = time.perf_counter()
            text = html.render(reports.large(images), advice=advice())
            rendered = time.perf_counter() - began
            path = Path(folder) / "page.html"
            path.write_text(text)
            paint, ready = min(measure(browser, path) for _ in range(ROUNDS))
            print(
                f"{images} images: written in {rendered:.1f} s, {len(text) / 1e6:.1f} MB; "
                f"painted after {paint:.0f} ms, ready after {ready:.0f} ms"
            )
            missed |= paint > GOALS.get(images, float("inf"))
        browser.close()
    return int(missed)


def measure(browser: Browser, path: Path) -> tuple[float, float]:
    """Milliseconds until the first contentful paint, and until scripts have run."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        page.goto(path.as_uri())
        paint, ready = page.evaluate(_PAINTED)
        return paint, ready
    finally:
        page.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
