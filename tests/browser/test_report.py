"""The report in a real browser: three reports, two colour schemes, two widths.

What it looked like is left in tests/browser/screenshots/.
"""

import io
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page

from .conftest import View, opened

SCREENSHOTS = Path(__file__).parent / "screenshots"

# Tables may scroll, each by itself. The page may not, nor may prose, and no figure may lose a word.
CUT_OFF = """() => {
    const page = document.documentElement;
    const wide = [...document.querySelectorAll(
        "h1, h2, h3, p, li, pre, summary, caption, figcaption")].filter(prose =>
        prose.getBoundingClientRect().right > page.clientWidth + 1
        || prose.scrollWidth > prose.clientWidth + 1);
    const outside = (inner, outer) => inner.left < outer.left - 1 || inner.right > outer.right + 1
        || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1;
    const lost = [...document.querySelectorAll("svg text")].filter(text => {
        const figure = [...document.querySelectorAll("svg")].find(svg => svg.contains(text));
        return outside(text.getBoundingClientRect(), figure.getBoundingClientRect());
    });
    return [...(page.scrollWidth > page.clientWidth ? ["the page"] : []),
        ...[...wide, ...lost].map(element => element.outerHTML.slice(0, 200))];
}"""

UNNAMED = """() => {
    const named = svg => svg.ariaHidden === "true" || svg.querySelector(":scope > title")
        || (svg.role === "img" && (svg.ariaLabel || svg.hasAttribute("aria-labelledby")));
    const without = [
        ...[...document.querySelectorAll("table")].filter(table =>
            !table.caption?.textContent.trim() || !table.querySelector("thead th")),
        ...document.querySelectorAll("th:not([scope])"),
        ...[...document.querySelectorAll("svg")].filter(svg => !svg.ownerSVGElement && !named(svg)),
        ...document.querySelectorAll("img:not([alt])"),
    ];
    return without.map(element => element.outerHTML.slice(0, 200));
}"""

# Which of all elements scroll, by number.
SCROLLING = """() => [...document.body.querySelectorAll("*")].flatMap((element, number) =>
    ["auto", "scroll"].includes(getComputedStyle(element).overflowX)
    && element.scrollWidth > element.clientWidth ? [number] : [])"""

# The number of what has the focus, NOTHING if nothing has, and whether it is seen.
NOTHING = -1
FOCUSED = """() => {
    const element = document.activeElement, style = getComputedStyle(element);
    const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    return [[...document.body.querySelectorAll("*")].indexOf(element), seen];
}"""


def test_it_opens_alone_and_without_a_complaint(view: View, report: Path) -> None:
    assert view.page.get_by_role("heading", level=1).is_visible()
    assert view.requests == [report.as_uri()]
    assert view.complaints == []


def test_nothing_is_cut_off(view: View) -> None:
    assert view.page.evaluate(CUT_OFF) == []


def test_tables_and_figures_say_what_they_are(view: View) -> None:
    assert view.page.evaluate(UNNAMED) == []


def test_the_scheme_is_heeded(view: View, report: Path, scheme: str, width: int) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    name = f"{report.parents[1].name}-{scheme}-{width}.png"
    top = {"x": 0, "y": 0, "width": width, "height": 8000}
    shown = view.page.screenshot(path=SCREENSHOTS / name, full_page=True, clip=top)
    corner = Image.open(io.BytesIO(shown)).convert("L").getpixel((0, 0))
    assert corner > 200 if scheme == "light" else corner < 60


def test_what_scrolls_is_reached_with_the_keyboard(view: View) -> None:
    focused = focused_by_tab(view.page)
    assert set(view.page.evaluate(SCROLLING)) <= focused.keys()
    assert all(focused.values()), "the focus must be seen"


def focused_by_tab(page: Page) -> dict[int, bool]:
    """Return what Tab leads to, by its number, and whether its focus is seen."""
    focused: dict[int, bool] = {}
    number, seen = page.evaluate(FOCUSED)
    while number not in focused:
        focused[number] = seen
        page.keyboard.press("Tab")
        number, seen = page.evaluate(FOCUSED)
    focused.pop(NOTHING, None)
    return focused


def test_the_checker_finds_nothing_serious(
    browser: Browser, report: Path, scheme: str, width: int
) -> None:
    """It is a script, and so the only reader that needs JavaScript."""
    with opened(browser, report, scheme, width, java_script=True) as view:
        found = Axe().run(view.page).response["violations"]
        assert [
            (violation["id"], violation["help"], violation["nodes"][0]["html"])
            for violation in found
            if violation["impact"] in ("serious", "critical")
        ] == []
        assert view.complaints == []


def test_it_prints_whole(view: View) -> None:
    assert b"/FontDescriptor" in view.page.pdf(), "nothing is written on the paper"
    view.page.emulate_media(media="print")
    scrolling = view.page.evaluate(SCROLLING)
    view.page.emulate_media(media="screen")
    assert scrolling == [], "paper does not scroll"


def test_it_is_small(report: Path) -> None:
    assert report.stat().st_size < 1_000_000
