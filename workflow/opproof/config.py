"""Turns the user's configuration into Settings, or into one message that names every fault."""

import difflib
import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from opproof.backends import BACKENDS, LIBRARIES, OVER_AN_ACTIVATION, STEP
from opproof.errors import UserError
from opproof.paths import SCHEMAS
from opproof.redaction import redact
from opproof.settings import (
    GELU,
    Backend,
    Build,
    DataSources,
    Expectation,
    Library,
    Settings,
    Training,
)

_LARGEST_SEED = 2**32 - 1

# Seeds that `seeds_per_job: auto` gives a job. A constant, not a measurement, so that every machine
# that reads the config plans the same jobs: about so many train in half a minute.
_SEEDS_PER_JOB = {("graph", "cuda"): 10, ("kernel", "cuda"): 264, ("kernel", "cpu"): 4}

# How messages name the types of JSON Schema.
_TYPES = {
    "array": "a list",
    "integer": "an integer",
    "number": "a number",
    "object": "a mapping",
    "string": "a text",
}

_YAML_WORDS = {None: "null", True: "true", False: "false"}


def load(path: Path) -> Settings:
    """Read a YAML file and resolve it. Raises UserError with every fault in it."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: of text, dates and numbers
        raise UserError(f"{path}: not YAML: {redact(str(error))}") from error
    try:
        return resolve({} if raw is None else raw)
    except RecursionError as error:
        raise UserError(f"{path}: a value holds itself") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def resolve(raw: Mapping[str, Any]) -> Settings:
    """Validate `raw` against the schema and fill in the defaults.

    Raises UserError whose message lists all faults: key path, value, what is allowed.
    """
    faults = _schema_faults(raw)
    if isinstance(raw, Mapping):
        # Conflicts are between parts that are sound by themselves.
        sound = {
            key: value
            for key, value in raw.items()
            if key in schema()["properties"] and not any(_is_below(path, key) for path in faults)
        }
        faults |= dict(_conflicts(_with_defaults(sound, schema())))
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        lines = [f"  {path or 'the configuration'}: {fault}" for path, fault in faults.items()]
        raise UserError("\n".join([f"the configuration has {count}:", *lines]))
    return _settings(_with_defaults(raw, schema()))


@functools.cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema of config.yaml."""
    return yaml.safe_load((SCHEMAS / "config.schema.yaml").read_text())


def _settings(config: dict[str, Any]) -> Settings:
    seeds = config["seeds"]
    if isinstance(seeds, dict):
        first = int(seeds["first"])
        seeds = range(first, first + int(seeds["count"]))
    per_job = config["seeds_per_job"]
    if per_job == "auto":
        # `device: auto` plans as for a CPU.
        device = "cuda" if config["device"] == "cuda" else "cpu"
        per_job = _SEEDS_PER_JOB.get((config["engine"], device), 1)
    train, data = config["train"], config["data"]
    return Settings(
        output=str(Path(config["output"])),
        backends=tuple(_backend(entry) for entry in config["backends"]),
        libraries=tuple(
            _libraries(config["backends"], config["timing"] or config["engine"] == "kernel")
        ),
        build=_build(**config["build"]),
        seeds=tuple(int(seed) for seed in seeds),
        device=config["device"],
        engine=config["engine"],
        precision=config["precision"],
        timing=config["timing"],
        margin=float(config["margin"]),
        seeds_per_job=int(per_job),
        train=Training(
            epochs=int(train["epochs"]),
            batch_size=int(train["batch_size"]),
            learning_rate=float(train["learning_rate"]),
        ),
        data=DataSources(str(Path(data["folder"])), tuple(data["sources"]), float(data["timeout"])),
    )


def _build(cuda: str | bool, cuda_arch_list: str) -> Build:
    # YAML reads a bare on and off as true and false.
    words = {True: "on", False: "off"}
    return Build(words[cuda] if isinstance(cuda, bool) else cuda, cuda_arch_list)


def _backend(entry: str | dict[str, Any]) -> Backend:
    if isinstance(entry, str):
        return BACKENDS[entry]
    name, expect, max_ulp = entry["name"], entry.get("expect"), entry.get("max_ulp")
    has_header = "header" in entry
    return Backend(
        name,
        op=f"opproof_{name}::forward" if has_header else entry["op"],
        library=name if has_header or "sources" in entry else None,
        pooled=f"opproof_{name}::pooled_forward" if has_header else None,
        step=f"{name}_step" if has_header else None,
        reference=entry.get("reference", GELU),
        max_ulp=None if max_ulp is None else float(max_ulp),
        expect=Expectation(**expect) if expect else None,
    )


def _libraries(entries: list[str | dict[str, Any]], with_steps: bool) -> Iterator[Library]:
    """Yield each library that a backend needs, once; those of its training step on demand."""
    built_in = [BACKENDS[entry] for entry in entries if isinstance(entry, str)]
    names = [backend.library for backend in built_in]
    names += [backend.step for backend in built_in if with_steps]
    yield from (LIBRARIES[name] for name in dict.fromkeys(names) if name)
    for entry in entries:
        if isinstance(entry, dict) and "sources" in entry:
            yield Library(entry["name"], tuple(entry["sources"]), user=True)
        elif isinstance(entry, dict) and "header" in entry:
            name, header = entry["name"], entry["header"]
            yield Library(name, OVER_AN_ACTIVATION, header, user=True)
            if with_steps:
                yield Library(f"{name}_step", STEP, header, user=True)


def _with_defaults(value: Any, node: dict[str, Any]) -> Any:
    """Return a copy of `value` with the schema's defaults for missing keys, at every depth."""
    if not isinstance(value, Mapping):
        return value
    properties = node.get("properties", {})
    defaults = {key: sub["default"] for key, sub in properties.items() if "default" in sub}
    return {
        key: _with_defaults(entry, properties.get(key, {}))
        for key, entry in {**defaults, **value}.items()
    }


def _conflicts(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield path and fault of what is wrong between keys."""
    names = [entry if isinstance(entry, str) else entry["name"] for entry in config["backends"]]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield f"backends[{index}]", f"the name {name!r} is there twice"
        elif name in {*BACKENDS, *LIBRARIES, "compile"} and config["backends"][index] != name:
            yield f"backends[{index}].name", f"{name!r} is built in; allowed: another name"
    namespaces = {f"opproof_{name}" for name in LIBRARIES}
    for index, entry in enumerate(config["backends"]):
        if isinstance(entry, dict):
            if fault := _name_fault(entry, names):
                yield f"backends[{index}].name", fault
            if fault := _op_fault(entry, namespaces):
                yield f"backends[{index}].{'header' if 'header' in entry else 'op'}", fault
            if fault := _sources_fault(entry.get("sources", [])):
                yield f"backends[{index}].sources", fault
    if config["engine"] == "kernel" and (fault := _step_fault(config["backends"])):
        yield "engine", fault
    for index, source in enumerate(config["data"]["sources"]):
        if redact(source) != source:  # logs and the summary would show it
            fault = f"{_shown(source)} holds a secret; allowed: none, user and password in ~/.netrc"
            yield f"data.sources[{index}]", fault
    seeds = config["seeds"]
    if isinstance(seeds, dict) and seeds["first"] + seeds["count"] - 1 > _LARGEST_SEED:
        yield "seeds", f"the last seed is above {_LARGEST_SEED}; allowed: up to {_LARGEST_SEED}"
    if config["precision"] == "tf32" and config["device"] == "cpu":
        yield "precision", "'tf32' needs a GPU, but device is 'cpu'; allowed: fp32"


def _step_fault(entries: list[str | dict[str, Any]]) -> str | None:
    """Say which backends have no training step of their own, if any."""
    without = [backend.name for backend in map(_backend, entries) if backend.step is None]
    if not without:
        return None
    having = [name for name, backend in BACKENDS.items() if backend.step]
    return (
        f"'kernel' has no training step with {', '.join(without)}; allowed: another engine, or as "
        f"backends {', '.join(having)} and those with a header"
    )


def _name_fault(entry: dict[str, Any], names: list[str]) -> str | None:
    """Say what is wrong with the name of an entry that gives its libraries theirs."""
    name = entry["name"]
    if "header" not in entry:
        return None
    if not name.isidentifier():
        return f"{name!r} with a header: its operators are named by it; allowed: letters, digits, _"
    if f"{name}_step" in names:
        return f"{name!r} and {name + '_step'!r}: that is its training step; allowed: another name"
    return None


def _op_fault(entry: dict[str, Any], namespaces: set[str]) -> str | None:
    """Say what is wrong with an op, and add its namespace to those of the libraries before it."""
    if "header" in entry:
        beside = [key for key in ("op", "sources") if key in entry]
        fault = f"{' and '.join(beside)} beside it; allowed: a header alone, or op"
        namespaces.update({f"opproof_{entry['name']}", f"opproof_{entry['name']}_step"})
        return fault if beside else None
    if "op" not in entry:
        return f"missing; allowed: {_op_schema()['allowed']}; or a header in its place"
    namespace, registered, _ = entry["op"].partition("::")
    if bool(registered) == ("sources" in entry):
        if registered and namespace in namespaces:
            # Timing loads all of them into one process, which torch would end.
            return f"another library registers {namespace!r}; allowed: a namespace of its own"
        namespaces.update([namespace] if registered else [])
        return None
    return (
        "an op namespace::operator needs sources, and sources such an op; allowed: sources "
        "with op: namespace::operator, or op: package.module:function alone"
    )


def _op_schema() -> dict[str, Any]:
    return schema()["properties"]["backends"]["items"]["properties"]["op"]


def _sources_fault(sources: list[str]) -> str | None:
    objects: dict[tuple[str, bool], str] = {}  # what is compiled to one file, which the name gives
    for source in sources:
        first = objects.setdefault((Path(source).stem, source.endswith(".cu")), source)
        if first != source:
            return f"{first!r} and {source!r} have one name; allowed: a name of its own for each"
    return None


def _schema_faults(raw: Any) -> dict[str, str]:
    """Return the first fault of each key path, by path."""
    faults = {path: f"is {number}; allowed: a finite number" for path, number in _infinite(raw)}
    errors = jsonschema.Draft202012Validator(schema()).iter_errors(raw)
    for error in sorted(errors, key=lambda error: (error.json_path, error.validator != "type")):
        for path, fault in _worded(error):
            faults.setdefault(path, fault)
    return faults


def _worded(error: jsonschema.ValidationError) -> Iterator[tuple[str, str]]:
    """Word one schema error: yield key path, and value and what is allowed."""
    path = _path(error.absolute_path)
    node: dict[str, Any] = error.schema  # type: ignore[assignment]
    instance: Any = error.instance
    if error.validator == "additionalProperties":
        allowed = list(node["properties"])
        for key in sorted(set(map(str, instance)) - set(allowed)):
            close = difflib.get_close_matches(key, allowed, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            yield _join(path, key), f"unknown key; allowed: {', '.join(allowed)}{hint}"
    elif error.validator == "required":
        for key in node["required"]:
            if key not in instance:
                allowed_value = _allowed(node["properties"][key])
                yield _join(path, key), f"missing; allowed: {allowed_value}"
    elif error.validator == "uniqueItems":
        twice = [_shown(item) for n, item in enumerate(instance) if instance.index(item) < n]
        verb = "is" if len(set(twice)) == 1 else "are"
        yield path, f"{', '.join(dict.fromkeys(twice))} {verb} there twice; allowed: each once"
    else:
        hint = ""
        if _wants_number(node) and _looks_numeric(instance):
            hint = "; YAML reads it as text: write it without quotes and with a dot, as 3.0e-3"
        yield path, f"is {_shown(instance)}; allowed: {_allowed(node)}{hint}"


def _allowed(node: dict[str, Any]) -> str:
    """Word what a schema node allows."""
    if "allowed" in node:
        return node["allowed"]
    if "enum" in node:
        return ", ".join(map(str, node["enum"]))
    limits = [_TYPES.get(node.get("type", ""), "another value")]
    for key, word in (
        ("minItems", "with at least {} entry"),
        ("exclusiveMinimum", "above {}"),
        ("minimum", "from {}"),
        ("maximum", "to {}"),
    ):
        if key in node:
            limits.append(word.format(node[key]))
    return " ".join(limits)


def _shown(value: Any) -> str:
    word = value is None or isinstance(value, bool)
    text = _YAML_WORDS[value] if word else redact(repr(value))
    return text if len(text) <= 80 else text[:77] + "..."


def _wants_number(node: dict[str, Any]) -> bool:
    return not {"integer", "number"}.isdisjoint(
        node["type"] if isinstance(node.get("type"), list) else [node.get("type")]
    )


def _looks_numeric(value: Any) -> bool:
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def _infinite(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield path and value of each number that is infinite or NaN, which limits let through."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _infinite(entry, _join(path, str(key)))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _infinite(entry, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, value


def _is_below(path: str, key: str) -> bool:
    return path == key or path.startswith((f"{key}.", f"{key}["))


def _path(parts: Any) -> str:
    path = ""
    for part in parts:
        path = f"{path}[{part}]" if isinstance(part, int) else _join(path, str(part))
    return path


def _join(path: str, key: str) -> str:
    key = key if key.isprintable() and key else repr(key)
    return f"{path}.{key}" if path else key
