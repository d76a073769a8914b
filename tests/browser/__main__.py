"""What the tests in a real browser need.

python -m tests.browser prepare                 # `make test` does this first
python -m tests.browser shoot RESULTS FOLDER    # the pictures in the README: `make example`
"""

import sys
from pathlib import Path

from tests import needs

from . import chromium

SHOWN = ("ulp", "ladder")


def prepare() -> None:
    """Install Debian's chromium and a font where they are absent and that may be done."""
    if not chromium.is_ready():
        needs.install(*chromium.PACKAGES)
    if not chromium.path():
        print("NO CHROMIUM HERE: THE REPORT IS NOT TESTED IN A BROWSER", file=sys.stderr)


def shoot(results: str, folder: str) -> None:
    """Write pictures of a report's first screen, and of some figures."""
    from playwright.sync_api import sync_playwright

    Path(folder).mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.path())
        page = browser.new_page(viewport={"width": 1280, "height": 960}, color_scheme="light")
        page.goto(Path(results, "report.html").absolute().as_uri())
        page.screenshot(path=f"{folder}/report.png")
        for name in SHOWN:
            figure = page.locator("figure").filter(
                has=page.locator(f'a[href="figures/{name}.csv"]')
            )
            figure.locator("svg").screenshot(path=f"{folder}/{name}.png")
        browser.close()


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    sys.exit({"prepare": prepare, "shoot": shoot}[command](*arguments))
