"""What makes a user's header one that csrc/ can be compiled for: it is included, and looked at.

What it lacks is a compiler's error that names its file, and the line of its struct Activation.
"""

import re
from pathlib import Path

from opproof import sources
from opproof.settings import Library

# Included by csrc/activation.h, and found in the build's own folder: a header in the user's could
# have the name of one of csrc/.
NAME = "users_activation.h"

_STRUCT = re.compile(r"^\s*(?:struct|class|using)\s+Activation\b", re.MULTILINE)
_WANTED = {"Value": "value", "Derivative": "derivative", "SecondDerivative": "second_derivative"}


def write(entry: Library, folder: Path) -> None:
    """Write the header for a library that is compiled for a user's; for another, nothing.

    Raises OSError where it can't be read or written.
    """
    header = sources.header(entry)
    if header is None or not entry.user:
        return
    text = header.read_text(encoding="utf-8", errors="replace")
    place = _STRUCT.search(text)
    line = 1 + text.count("\n", 0, place.end()) if place else 1
    lines = ["#pragma once", f"#include {_quoted(header.absolute())}"]
    for check in _checks() if place else ["#error it defines no struct Activation"]:
        lines += [f"#line {line} {_quoted(header)}", check]
    (folder / NAME).write_text("\n".join([*lines, ""]), encoding="utf-8")


def _checks() -> list[str]:
    return [
        f"static_assert(opproof::kHas{name}<Activation, {number}>, "
        f'"Activation has no static {number} {function}({number})");'
        for name, function in _WANTED.items()
        for number in ("float", "double")
    ]


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
