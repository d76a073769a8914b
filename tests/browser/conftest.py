"""Opens reports as a reader does: from a file, in a real browser, without JavaScript or network."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests import needs

from . import chromium, reports

HEIGHT = 900


@dataclass
class View:
    """A report as it is shown, what it asked for, and what the browser had to say."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: Path) -> None:
        """Open a report, then unfold with the keyboard all that is folded."""
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", lambda request: self.complaints.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.goto(path.as_uri())
        folded = self.page.locator("details:not([open]) > summary")
        for _ in range(folded.count()):
            folded.first.press("Enter")


@pytest.fixture(scope="session", autouse=True)
def possible() -> None:
    """Skip, loudly, without a browser; fail where OPPROOF_BROWSER=required asks for it."""
    if not chromium.path():
        needs.skip_or_fail(
            "chromium is not installed: the report is NOT tested in a browser", "OPPROOF_BROWSER"
        )


# Not of the session: while it is open, no other test of the process may run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium, headless."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.path())
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reports' files, by their names."""
    return reports.write(tmp_path_factory.mktemp("reports"))


@pytest.fixture(scope="module", params=[report.__name__ for report in reports.REPORTS])
def report(request: pytest.FixtureRequest, paths: dict[str, Path]) -> Path:
    """The file of a report."""
    return paths[request.param]


@pytest.fixture(scope="module", params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    """The colour scheme that a reader prefers."""
    return request.param


@pytest.fixture(scope="module", params=[360, 1400])
def width(request: pytest.FixtureRequest) -> int:
    """The width of the window, in CSS pixels: a telephone's and a screen's."""
    return request.param


@pytest.fixture(scope="module")
def view(browser: Browser, report: Path, scheme: str, width: int) -> Iterator[View]:
    """A report as it is shown without JavaScript."""
    with opened(browser, report, scheme, width, java_script=False) as view:
        yield view


@contextmanager
def opened(
    browser: Browser, report: Path, scheme: str, width: int, java_script: bool
) -> Iterator[View]:
    """Show a report, with the network off."""
    context = browser.new_context(
        offline=True,
        java_script_enabled=java_script,
        color_scheme=scheme,
        viewport={"width": width, "height": HEIGHT},
    )
    with context:
        view = View(context.new_page())
        view.open(report)
        yield view
