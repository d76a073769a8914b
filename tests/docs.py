"""Writes docs/configuration.md, every key of config.yaml, from the schema.

python -m tests.docs    # `make docs`; a test fails where the page is not as it would be written
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGURATION = REPOSITORY / "docs" / "configuration.md"

_HEAD = """# Every key of config.yaml

[config.yaml](../config.yaml) has them with comments. What is not set has the default; all faults of
a configuration are named in one message before anything runs. `snakemake --config output=elsewhere`
and `--configfile my.yaml` set them too. This page is written by `make docs` from
[the schema](../workflow/schemas/config.schema.yaml), which is what is enforced.

| key | default | allowed | |
|---|---|---|---|
"""
_TYPES = {"array": "a list", "object": "a mapping", "boolean": "true or false", "string": "a text"}


def configuration() -> str:
    """Return docs/configuration.md as of the schema."""
    schema = yaml.safe_load(
        (REPOSITORY / "workflow" / "schemas" / "config.schema.yaml").read_text()
    )
    return _HEAD + "".join(f"{row}\n" for row in _rows(schema, ""))


def _rows(node: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, entry in node.get("properties", {}).items():
        yield _row(prefix + name, entry)
        yield from _rows(entry, f"{prefix}{name}.")
        if "items" in entry:
            yield from _rows(entry["items"], f"{prefix}{name}[].")


def _row(key: str, entry: dict[str, Any]) -> str:
    default = (
        yaml.safe_dump(entry["default"], default_flow_style=True) if "default" in entry else ""
    )
    default = default.removesuffix("\n").removesuffix("\n...").strip()
    cells = [f"`{key}`", f"`{default}`" if default else "", _allowed(entry), entry["description"]]
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


def _allowed(entry: dict[str, Any]) -> str:
    if "allowed" in entry:
        return entry["allowed"]
    if "enum" in entry:
        return ", ".join(map(str, entry["enum"]))
    if "items" in entry and "allowed" in entry["items"]:
        return f"a list of: {entry['items']['allowed']}"
    kind = entry["type"]
    if kind in _TYPES:
        return _TYPES[kind]
    least = f"above {entry['exclusiveMinimum']}" if "exclusiveMinimum" in entry else ""
    least = least or (f"from {entry['minimum']}" if "minimum" in entry else "")
    most = f"to {entry['maximum']}" if "maximum" in entry else ""
    return " ".join(filter(None, [f"an {kind}" if kind == "integer" else f"a {kind}", least, most]))


if __name__ == "__main__":
    CONFIGURATION.write_text(configuration())
