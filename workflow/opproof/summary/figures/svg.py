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
_LONG_NUMBER = re.compile(r"-?\d+\.\d+")
_CLIP = re.compile(r"url\(#(.+)\)")

_ARIA = ("aria-hidden", "aria-label", "aria-roledescription")  # the figure has a description

# What Vega writes and nobody reads, or what is so anyway.
_NOISE = ("class", "role", "pointer-events", "font-family", *_ARIA)
_PLACE = {"d", "transform"}
_DEFAULTS = {"opacity": "1", "fill-opacity": "1", "stroke-width": "1", "font-weight": "normal"}

ElementTree.register_namespace("", _NAMESPACE)


def tidy(text: str, name: str, title: str, description: str) -> str:
    """Return Vega's SVG as a figure of its own, or one of several in a page, told by `name`.

    As wide as what holds it, its background transparent; `title` and `description` are what a
    screen reader says.
    """
    vega = ElementTree.fromstring(text)
    clips = _Clips(vega, name)
    ids = {"title": f"figure-{name}-title", "desc": f"figure-{name}-description"}
    root = ElementTree.Element(
        _tag("svg"),
        {
            "viewBox": vega.attrib["viewBox"],
            "width": "100%",
            "role": "img",
            "aria-labelledby": " ".join(ids.values()),
            "font-family": FONT,
            "overflow": "visible",
        },
    )
    for kind, words in (("title", title), ("desc", description)):
        ElementTree.SubElement(root, _tag(kind), {"id": ids[kind]}).text = words
    drawn = [part for child in vega for part in _tidied(child, clips)]
    root.extend(clips.definitions())
    root.extend(drawn)
    return ElementTree.tostring(root, encoding="unicode")


class _Clips:
    """The clipping rectangles: each once, by names that no other figure of the page has."""

    def __init__(self, vega: ElementTree.Element, name: str) -> None:
        self._figure = name
        self._by_vegas_name = {
            clip.attrib["id"]: tuple(clip[0].attrib.items()) for clip in vega.iter(_tag("clipPath"))
        }
        self._names: dict[tuple[tuple[str, str], ...], str] = {}

    def named(self, reference: str) -> str:
        """Return what to refer by, for what Vega refers by."""
        [vegas] = _CLIP.findall(reference)
        rectangle = self._by_vegas_name[vegas]
        name = self._names.setdefault(rectangle, f"figure-{self._figure}-clip-{len(self._names)}")
        return f"url(#{name})"

    def definitions(self) -> Iterator[ElementTree.Element]:
        for rectangle, name in self._names.items():
            clip = ElementTree.Element(_tag("clipPath"), {"id": name})
            ElementTree.SubElement(clip, _tag("rect"), dict(rectangle))
            yield clip


def _tidied(element: ElementTree.Element, clips: _Clips) -> list[ElementTree.Element]:
    """Return what is left of an element: itself, its parts alone, or nothing."""
    if _shows_nothing(element):
        return []
    attributes = {
        key: "currentColor" if value == INK else value
        for key, value in element.attrib.items()
        if key not in _NOISE and _DEFAULTS.get(key) != value
    }
    if "transform" in attributes:
        attributes["transform"] = _LONG_NUMBER.sub(_to_a_tenth, attributes["transform"])
        if attributes["transform"] == "translate(0,0)":
            del attributes["transform"]
    if "clip-path" in attributes:
        attributes["clip-path"] = clips.named(attributes["clip-path"])
    if element.tag == _tag("line"):
        return [_as_path(attributes)]
    if element.tag == _tag("path"):
        attributes["d"] = short(attributes["d"])
    left = ElementTree.Element(element.tag, attributes)
    left.text = element.text
    left.extend(_grouped(_merged(part for child in element for part in _tidied(child, clips))))
    if element.tag != _tag("g"):
        return [left]
    return ([left] if attributes else list(left)) if len(left) else []


def _shows_nothing(element: ElementTree.Element) -> bool:
    if element.tag == _tag("defs") or element.attrib.get("opacity") == "0":
        return True
    if element.tag == _tag("text"):
        return not (element.text or len(element))
    unseen = not {"fill", "stroke"} & {*element.attrib} or not element.attrib.get("d")
    return element.tag == _tag("path") and unseen


def _to_a_tenth(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")


def _as_path(line: dict[str, str]) -> ElementTree.Element:
    data = f"M0,0L{line.pop('x2', '0')},{line.pop('y2', '0')}"
    return ElementTree.Element(_tag("path"), {**line, "d": short(data)})


def _merged(parts: Iterator[ElementTree.Element]) -> Iterator[ElementTree.Element]:
    """Join neighbouring paths that look alike into one, each moved to its place."""
    before: ElementTree.Element | None = None
    for part in parts:
        if part.tag == _tag("path") and _TRANSLATE.fullmatch(part.get("transform", "")):
            [(x, y)] = _TRANSLATE.findall(part.attrib.pop("transform"))
            part.set("d", short(part.attrib["d"], float(x), float(y)))
        joinable = part.tag == _tag("path") and "transform" not in part.attrib
        if joinable and before is not None and _look(before) == _look(part):
            before.set("d", before.attrib["d"] + part.attrib["d"])
        else:
            before = part if joinable else None
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
            text.attrib = {"transform": text.attrib["transform"]}
            together.append(text)
        yield together


def _look(element: ElementTree.Element) -> tuple[tuple[str, str], ...]:
    """Return all attributes but those that say where it is."""
    return tuple(entry for entry in element.attrib.items() if entry[0] not in _PLACE)


def _tag(name: str) -> str:
    return f"{{{_NAMESPACE}}}{name}"
