"""Vega's SVG made fit for a page: small, of the page's colours, readable without seeing it."""

import itertools
import re
from collections.abc import Iterable, Iterator
from xml.etree import ElementTree

from opproof.summary.figures.paths import short

# The theme draws text, axes and grid in this; here it becomes the page's colour, light or dark.
INK = "#000001"
# Of the metrics that texts are measured with, wherever the page is read.
FONT = "Arial, Helvetica, Liberation Sans, sans-serif"

_NAMESPACE = "http://www.w3.org/2000/svg"
_TRANSLATE = re.compile(r"translate\(([^,]+),([^)]+)\)")

# What Vega writes and nobody reads: the figure has a description of its own.
_NOISE = ("class", "role", "aria-hidden", "aria-label", "aria-roledescription", "pointer-events")
# What is so anyway, by the standard or by what the whole figure has.
_USUAL = {
    "fill": "none",
    "fill-opacity": "1",
    "font-weight": "normal",
    "opacity": "1",
    "stroke-miterlimit": "10",
    "stroke-width": "1",
    "text-anchor": "start",
}
_PLACE = {"d", "x", "y", "transform"}

ElementTree.register_namespace("", _NAMESPACE)


def tidy(text: str, name: str, title: str, description: str) -> str:
    """Return Vega's SVG as a figure of its own, or one of several in a page, told by `name`.

    As wide as what holds it, its background transparent; `title` and `description` are what a
    screen reader says. Nothing may be clipped, or have another transformation than a translation,
    but for text.
    """
    vega = ElementTree.fromstring(text)
    ids = {"title": f"figure-{name}-title", "desc": f"figure-{name}-description"}
    root = ElementTree.Element(
        _tag("svg"),
        {
            "viewBox": vega.attrib["viewBox"],
            "width": "100%",
            "role": "img",
            "aria-labelledby": " ".join(ids.values()),
            "font-family": FONT,
            "fill": "none",
            "stroke-miterlimit": "10",
            "overflow": "visible",
        },
    )
    for kind, words in (("title", title), ("desc", description)):
        ElementTree.SubElement(root, _tag(kind), {"id": ids[kind]}).text = words
    root.extend(_grouped(_joined(_drawn(vega, {}, 0.0, 0.0))))
    return ElementTree.tostring(root, encoding="unicode")


def _drawn(
    element: ElementTree.Element, inherited: dict[str, str], x: float, y: float
) -> Iterator[ElementTree.Element]:
    """Yield the paths and texts of an element that show something, moved by (x, y)."""
    attributes = {**inherited, **element.attrib}
    transform = attributes.pop("transform", "")
    if moved := _TRANSLATE.match(transform):
        x, y, transform = x + float(moved[1]), y + float(moved[2]), transform[moved.end() :]
    if element.tag in (_tag("svg"), _tag("g")):
        within = {} if element.tag == _tag("svg") else attributes
        for child in element:
            yield from _drawn(child, within, x, y)
        return
    left = {
        key: "currentColor" if value == INK else value
        for key, value in attributes.items()
        if key not in _NOISE and key != "font-family" and _USUAL.get(key) != value
    }
    if attributes.get("opacity") == "0" or not {"fill", "stroke"} & left.keys():
        return
    if element.tag == _tag("text"):
        if element.text:
            yield _text(element.text, left, x, y, transform)
    elif data := _path(element.tag, left):
        yield ElementTree.Element(_tag("path"), {**left, "d": short(data, x, y)})


def _text(
    words: str, attributes: dict[str, str], x: float, y: float, transform: str
) -> ElementTree.Element:
    """Return a text; what else is to be done with it than moving it, is done there."""
    place = {"x": f"{round(x, 1):g}", "y": f"{round(y, 1):g}"}
    if transform:
        place = {"transform": f"translate({place['x']},{place['y']}){transform}"}
    text = ElementTree.Element(_tag("text"), {**attributes, **place})
    text.text = words
    return text


def _path(tag: str, attributes: dict[str, str]) -> str:
    """Return the data of a path or, taken from the attributes, of a line from the origin."""
    if tag == _tag("line"):
        return f"M0,0L{attributes.pop('x2', '0')},{attributes.pop('y2', '0')}"
    return attributes.pop("d", "") if tag == _tag("path") else ""


def _joined(parts: Iterable[ElementTree.Element]) -> Iterator[ElementTree.Element]:
    """Make neighbouring paths that look alike one."""
    before: ElementTree.Element | None = None
    for part in parts:
        is_path = part.tag == _tag("path")
        if is_path and before is not None and _look(before) == _look(part):
            before.set("d", before.attrib["d"] + part.attrib["d"])
        else:
            before = part if is_path else None
            yield part


def _grouped(parts: Iterable[ElementTree.Element]) -> Iterator[ElementTree.Element]:
    """Write once what neighbouring texts have in common: all but their places."""
    for look, group in itertools.groupby(parts, _look):
        alike = list(group)
        if alike[0].tag != _tag("text") or len(alike) == 1:
            yield from alike
            continue
        together = ElementTree.Element(_tag("g"), dict(look))
        for text in alike:
            text.attrib = {key: value for key, value in text.attrib.items() if key in _PLACE}
            together.append(text)
        yield together


def _look(element: ElementTree.Element) -> tuple[tuple[str, str], ...]:
    """Return all attributes but those that say where it is."""
    return tuple(entry for entry in element.attrib.items() if entry[0] not in _PLACE)


def _tag(name: str) -> str:
    return f"{{{_NAMESPACE}}}{name}"
