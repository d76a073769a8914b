"""The configuration: what it defaults to, what it accepts, and a readable line for each fault."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from opproof import config
from opproof.backends import BACKENDS, LIBRARIES, OVER_AN_ACTIVATION, STEP
from opproof.errors import UserError
from opproof.settings import (
    Backend,
    Build,
    DataSources,
    Expectation,
    Library,
    Settings,
    Training,
)

REPOSITORY = Path(__file__).resolve().parents[2]

TEXTBOOK = Settings(
    output="results",
    backends=tuple(BACKENDS[name] for name in ("torch", "python", "cpp", "fused", "pooled")),
    libraries=tuple(LIBRARIES[name] for name in ("aten_gelu", "gelu", "gelu_step")),
    build=Build("auto", "8.0;9.0+PTX"),
    seeds=(0, 1),
    device="auto",
    engine="graph",
    precision="fp32",
    seeds_per_job=1,
    timing=True,
    margin=0.1,
    train=Training(epochs=10, batch_size=64, learning_rate=0.003),
    data=DataSources("resources/mnist", ("torchvision", "pypi"), 20.0),
)

# What the lines of messages say is allowed.
KEYS = (
    "output, backends, seeds, device, engine, precision, timing, margin, seeds_per_job, build, "
    "train, data"
)
BUILT_IN = "torch, python, cpp, erf, fused, pooled, tanh"
ENTRY = "a name, or {name, header or op, sources, reference, max_ulp, expect}"
NAME = "1 to 64 letters, digits and . _ -, the first neither . nor -"
OP = "package.module:function, or namespace::operator with sources"
OP_AND_SOURCES = (
    "an op namespace::operator needs sources, and sources such an op; allowed: sources with "
    "op: namespace::operator, or op: package.module:function alone"
)
CODE = "the path of a .cpp, .cc, .cxx or .cu file"
ULP = "a number above 0 to 1000000000"
ARCHS = 'compute capabilities in quotes, such as "8.0;9.0+PTX"'
FOLDER = "a path of letters, digits, spaces and . _ / + = , @ -"
SOURCE = "torchvision, pypi, an http, https or file URL, or a folder's path with a / in it"
SEED = "an integer from 0 to 4294967295"
SEEDS = "a list of integers, or {first, count}"
PER_JOB = "auto, or an integer from 1"
RATE = "a number above 0 to 10"
BATCH = "an integer from 1 to 60000"
HINT = "; YAML reads it as text: write it without quotes and with a dot, as 3.0e-3"


def load(folder: Path, text: str) -> Settings:
    path = folder / "config.yaml"
    path.write_text(text)
    return config.load(path)


def faults(folder: Path, text: str) -> list[str]:
    """Return the faults that loading the text names, in the order of the one message."""
    with pytest.raises(UserError) as raised:
        load(folder, text)
    header, *lines = str(raised.value).split("\n")
    count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    assert header == f"{folder / 'config.yaml'}: the configuration has {count}:"
    assert all(line.startswith("  ") for line in lines)
    return [line[2:] for line in lines]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---", "{}", "train: {}\ndata: {}"])
def test_defaults_are_the_textbooks(tmp_path: Path, text: str) -> None:
    assert repr(load(tmp_path, text)) == repr(TEXTBOOK)


def test_shipped_config_has_every_key_at_its_default() -> None:
    shipped = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    defaults: dict[str, Any] = {}
    for path, node, _ in keys(config.schema()):
        if "default" in node:
            defaults |= flat({path: node["default"]})
    assert flat(shipped) == defaults
    assert repr(config.load(REPOSITORY / "config.yaml")) == repr(TEXTBOOK)


def own_header(name: str) -> Backend:
    """Return the backend of a user's header."""
    of = f"opproof_{name}"
    pooled = f"{of}::pooled_forward"
    return Backend(name, f"{of}::forward", library=name, pooled=pooled, step=f"{name}_step")


ACCEPTED: dict[str, dict[str, Any]] = {
    "output: '/scratch/a b/r-1_2.x+=,@'": {"output": "/scratch/a b/r-1_2.x+=,@"},
    "output: ../résultats": {"output": "../résultats"},
    "backends: [tanh, torch]": {
        "backends": (BACKENDS["tanh"], BACKENDS["torch"]),
        "libraries": (),
    },
    "backends: [pooled, cpp, fused]": {
        "backends": (BACKENDS["pooled"], BACKENDS["cpp"], BACKENDS["fused"]),
        "libraries": tuple(LIBRARIES[name] for name in ("gelu", "aten_gelu", "gelu_step")),
    },
    "backends: [{name: own, header: a/own.h, reference: 'm:f', max_ulp: 2}]": {
        "backends": (
            Backend(
                "own",
                "opproof_own::forward",
                library="own",
                pooled="opproof_own::pooled_forward",
                step="own_step",
                reference="m:f",
                max_ulp=2.0,
            ),
        ),
        "libraries": (
            Library("own", OVER_AN_ACTIVATION, header="a/own.h", user=True),
            Library("own_step", STEP, header="a/own.h", user=True),
        ),
    },
    "{engine: kernel, timing: false, backends: [{name: own, header: own.h}]}": {
        "engine": "kernel",
        "timing": False,
        "backends": (own_header("own"),),
        "libraries": (
            Library("own", OVER_AN_ACTIVATION, header="own.h", user=True),
            Library("own_step", STEP, header="own.h", user=True),
        ),
        "seeds_per_job": 4,
    },
    "{timing: false, backends: [{name: own, header: own.h}]}": {
        "timing": False,
        "backends": (own_header("own"),),
        "libraries": (Library("own", OVER_AN_ACTIVATION, header="own.h", user=True),),
    },
    "backends: [{name: 9.x_-, op: '_a.b1:f_2'}]": {
        "backends": (Backend("9.x_-", "_a.b1:f_2"),),
        "libraries": (),
    },
    "backends: [{name: a, op: 'm:f', max_ulp: 3, expect: {verify: fail, reason: it is}}]": {
        "backends": (Backend("a", "m:f", max_ulp=3.0, expect=Expectation("fail", "it is")),),
        "libraries": (),
    },
    "backends: [{name: a-1, op: 'm_1::f_2', sources: [x/a b.cpp, /x/c.cc, ../d.cxx, a b.cu]}]": {
        "backends": (Backend("a-1", "m_1::f_2", library="a-1"),),
        "libraries": (Library("a-1", ("x/a b.cpp", "/x/c.cc", "../d.cxx", "a b.cu"), user=True),),
    },
    "build: {cuda: auto}": {},
    "build: {cuda: on}": {"build": Build("on", "8.0;9.0+PTX")},  # true, to YAML
    "build: {cuda: off}": {"build": Build("off", "8.0;9.0+PTX")},
    "build: {cuda: 'on'}": {"build": Build("on", "8.0;9.0+PTX")},
    "build: {cuda: 'off'}": {"build": Build("off", "8.0;9.0+PTX")},
    "build: {cuda_arch_list: '9.0'}": {"build": Build("auto", "9.0")},
    "build: {cuda_arch_list: 7.5 9.0a;12.0+PTX}": {"build": Build("auto", "7.5 9.0a;12.0+PTX")},
    "seeds: [29, 3, 17]": {"seeds": (29, 3, 17)},
    "seeds: [0, 4294967295]": {"seeds": (0, 4294967295)},
    "seeds: [7.0]": {"seeds": (7,)},
    "seeds: {count: 2}": {"seeds": (0, 1)},
    "seeds: {first: 4294967294, count: 2}": {"seeds": (4294967294, 4294967295)},
    "seeds: {first: 5.0, count: 1.0}": {"seeds": (5,)},
    "device: cpu": {"device": "cpu"},
    "device: cuda": {"device": "cuda", "seeds_per_job": 10},
    "engine: reference": {"engine": "reference"},
    "{engine: reference, device: cuda}": {"engine": "reference", "device": "cuda"},
    "seeds_per_job: auto": {},
    "seeds_per_job: 4": {"seeds_per_job": 4},
    "{engine: kernel, backends: [erf, fused]}": {
        "engine": "kernel",
        "backends": (BACKENDS["erf"], BACKENDS["fused"]),
        "libraries": tuple(
            LIBRARIES[name] for name in ("gelu_erf", "gelu", "gelu_erf_step", "gelu_step")
        ),
        "seeds_per_job": 4,
    },
    "{seeds_per_job: 4, device: cuda}": {"seeds_per_job": 4, "device": "cuda"},
    "precision: tf32": {"precision": "tf32"},
    "timing: true": {},
    "margin: 1": {"margin": 1.0},
    "timing: off": {
        "timing": False,
        "libraries": (LIBRARIES["aten_gelu"], LIBRARIES["gelu"]),
    },
    "train: {epochs: 1}": {"train": Training(1, 64, 0.003)},
    "train: {epochs: 2.0, batch_size: 60000}": {"train": Training(2, 60000, 0.003)},
    "train: {learning_rate: 3.0e-4}": {"train": Training(10, 64, 0.0003)},
    "train: {learning_rate: 1}": {"train": Training(10, 64, 1.0)},
    "data: {folder: /mnist}": {"data": DataSources("/mnist", ("torchvision", "pypi"), 20.0)},
    "data: {timeout: 0.5}": {"data": DataSources("resources/mnist", ("torchvision", "pypi"), 0.5)},
}


@pytest.mark.parametrize(("text", "changes"), ACCEPTED.items(), ids=ACCEPTED)
def test_a_key_changes_itself_alone(tmp_path: Path, text: str, changes: dict[str, Any]) -> None:
    # repr tells 1 from 1.0 and from True.
    assert repr(load(tmp_path, text)) == repr(dataclasses.replace(TEXTBOOK, **changes))


FAULTS = {
    "outputs: x": f"outputs: unknown key; allowed: {KEYS}; did you mean 'output'?",
    "shoe_size: 42": f"shoe_size: unknown key; allowed: {KEYS}",
    "7: 1": f"7: unknown key; allowed: {KEYS}",
    "- a": "the configuration: is ['a']; allowed: a mapping",
    "just text": "the configuration: is 'just text'; allowed: a mapping",
    "output:": f"output: is null; allowed: {FOLDER}",
    "output: 3": f"output: is 3; allowed: {FOLDER}",
    "backends: []": "backends: is []; allowed: a list with at least 1 entry",
    "backends: torch": "backends: is 'torch'; allowed: a list with at least 1 entry",
    "backends: [tochr]": "backends[0]: is 'tochr'; allowed: " + BUILT_IN,
    "backends: [cpp, 3]": f"backends[1]: is 3; allowed: {ENTRY}",
    "backends: [null]": f"backends[0]: is null; allowed: {ENTRY}",
    "backends: [cpp, cpp]": "backends: 'cpp' is there twice; allowed: each once",
    "backends: [cpp, {name: cpp, op: 'm:f'}]": "backends[1]: the name 'cpp' is there twice",
    "backends: [{name: a, op: 'm:f'}, {name: a, op: 'm:g'}]": (
        "backends[1]: the name 'a' is there twice"
    ),
    "backends: [{name: cpp, op: 'm:f'}]": (
        "backends[0].name: 'cpp' is built in; allowed: another name"
    ),
    "backends: [{name: compile, op: 'm:f'}]": (
        "backends[0].name: 'compile' is built in; allowed: another name"
    ),
    "backends: [{name: gelu, op: 'm::f', sources: [a.cu]}]": (
        "backends[0].name: 'gelu' is built in; allowed: another name"
    ),
    "backends: [{name: a}]": f"backends[0].op: missing; allowed: {OP}; or a header in its place",
    "backends: [{name: a, op: 'm::f'}]": f"backends[0].op: {OP_AND_SOURCES}",
    "backends: [{name: a, header: a.h, op: 'm:f'}]": (
        "backends[0].header: op beside it; allowed: a header alone, or op"
    ),
    "backends: [{name: a, header: a.h, sources: [a.cc], op: 'm::f'}]": (
        "backends[0].header: op and sources beside it; allowed: a header alone, or op"
    ),
    "backends: [{name: a-b, header: a.h}]": (
        "backends[0].name: 'a-b' with a header: its operators are named by it; allowed: letters, "
        "digits, _"
    ),
    "backends: [{name: a, header: a.h}, {name: a_step, op: 'm:f'}]": (
        "backends[0].name: 'a' and 'a_step': that is its training step; allowed: another name"
    ),
    "backends: [{name: a, header: a.h}, {name: b, op: 'opproof_a::f', sources: [b.cc]}]": (
        "backends[1].op: another library registers 'opproof_a'; allowed: a namespace of its own"
    ),
    "backends: [{name: a, header: a.py}]": (
        "backends[0].header: is 'a.py'; allowed: the path of a .h, .hh, .hpp or .cuh file"
    ),
    "backends: [{name: a, header: a.h, reference: silu}]": (
        "backends[0].reference: is 'silu'; allowed: package.module:function"
    ),
    "backends: [{name: a, op: 'm::f', sources: [a.cc]}, {name: b, op: 'm::g', sources: [b.cc]}]": (
        "backends[1].op: another library registers 'm'; allowed: a namespace of its own"
    ),
    "backends: [{name: a, op: 'opproof_gelu::forward', sources: [a.cc]}]": (
        "backends[0].op: another library registers 'opproof_gelu'; allowed: a namespace of its own"
    ),
    "backends: [cpp, {name: a, op: 'm:f', sources: [a.cpp]}]": f"backends[1].op: {OP_AND_SOURCES}",
    "backends: [{name: a, op: 'm::f', sources: [x/a.cpp, y/a.cc]}]": (
        "backends[0].sources: 'x/a.cpp' and 'y/a.cc' have one name; "
        "allowed: a name of its own for each"
    ),
    "backends: [{name: a, op: 'm::f', sources: []}]": (
        "backends[0].sources: is []; allowed: a list with at least 1 entry"
    ),
    "backends: [{name: a, op: 'm::f', sources: a.cpp}]": (
        "backends[0].sources: is 'a.cpp'; allowed: a list with at least 1 entry"
    ),
    "backends: [{name: a, op: 'm::f', sources: [a.cu, a.cu]}]": (
        "backends[0].sources: 'a.cu' is there twice; allowed: each once"
    ),
    "backends: [{name: a, op: 'm:f', max_ulp: 0}]": (f"backends[0].max_ulp: is 0; allowed: {ULP}"),
    "backends: [{name: a, op: 'm:f', max_ulp: 1e1}]": (
        f"backends[0].max_ulp: is '1e1'; allowed: {ULP}{HINT}"
    ),
    "backends: [{name: a, op: 'm:f', max_ulp: .nan}]": (
        "backends[0].max_ulp: is nan; allowed: a finite number"
    ),
    "backends: [{name: a, op: 'm:f', pooled: 'm:g'}]": (
        "backends[0].pooled: unknown key; allowed: name, op, header, sources, reference, max_ulp, "
        "expect"
    ),
    "backends: [{op: 'm:f'}]": f"backends[0].name: missing; allowed: {NAME}",
    "backends: [{name: a, op: 'm:f', expct: 1}]": (
        "backends[0].expct: unknown key; allowed: name, op, header, sources, reference, max_ulp, "
        "expect; "
        "did you mean 'expect'?"
    ),
    "backends: [{name: a, op: 'm:f', expect: fail}]": (
        "backends[0].expect: is 'fail'; allowed: a mapping"
    ),
    "backends: [{name: a, op: 'm:f', expect: {verify: maybe, reason: x}}]": (
        "backends[0].expect.verify: is 'maybe'; allowed: pass, fail"
    ),
    "backends: [{name: a, op: 'm:f', expect: {reason: x}}]": (
        "backends[0].expect.verify: missing; allowed: pass, fail"
    ),
    "seeds: []": f"seeds: is []; allowed: {SEEDS}",
    "seeds: 3": f"seeds: is 3; allowed: {SEEDS}",
    "seeds: [3, 5, 3]": "seeds: 3 is there twice; allowed: each once",
    "seeds: [1, 1.0]": "seeds: 1.0 is there twice; allowed: each once",
    "seeds: [-1]": f"seeds[0]: is -1; allowed: {SEED}",
    "seeds: [4294967296]": f"seeds[0]: is 4294967296; allowed: {SEED}",
    "seeds: [0.5]": f"seeds[0]: is 0.5; allowed: {SEED}",
    "seeds: [true]": f"seeds[0]: is true; allowed: {SEED}",
    "seeds: ['1']": f"seeds[0]: is '1'; allowed: {SEED}{HINT}",
    "seeds: [one]": f"seeds[0]: is 'one'; allowed: {SEED}",
    "seeds: {first: 3}": "seeds.count: missing; allowed: an integer from 1 to 100000",
    "seeds: {count: 0}": "seeds.count: is 0; allowed: an integer from 1 to 100000",
    "seeds: {count: 100001}": "seeds.count: is 100001; allowed: an integer from 1 to 100000",
    "seeds: {count: 1, first: -1}": f"seeds.first: is -1; allowed: {SEED}",
    "seeds: {count: 1, from: 0}": "seeds.from: unknown key; allowed: first, count",
    "seeds: {count: 2, first: 4294967295}": (
        "seeds: the last seed is above 4294967295; allowed: up to 4294967295"
    ),
    "device: gpu": "device: is 'gpu'; allowed: auto, cpu, cuda",
    "engine: kernels": "engine: is 'kernels'; allowed: graph, kernel, reference",
    "{engine: kernel, backends: [torch, fused, cpp]}": (
        "engine: 'kernel' has no training step with torch, cpp; allowed: another engine, or as "
        "backends erf, fused and those with a header"
    ),
    "margin: 0": "margin: is 0; allowed: a number above 0 to 100",
    "margin: -0.1": "margin: is -0.1; allowed: a number above 0 to 100",
    "margin: small": "margin: is 'small'; allowed: a number above 0 to 100",
    "timing: 1": "timing: is 1; allowed: true or false",
    "timing: 'off'": "timing: is 'off'; allowed: true or false",
    "precision: 32": "precision: is 32; allowed: fp32, tf32",
    "{precision: tf32, device: cpu}": (
        "precision: 'tf32' needs a GPU, but device is 'cpu'; allowed: fp32"
    ),
    "seeds_per_job: 0": f"seeds_per_job: is 0; allowed: {PER_JOB}",
    "seeds_per_job: 1.5": f"seeds_per_job: is 1.5; allowed: {PER_JOB}",
    "seeds_per_job: true": f"seeds_per_job: is true; allowed: {PER_JOB}",
    "seeds_per_job: '4'": f"seeds_per_job: is '4'; allowed: {PER_JOB}",
    "build: off": "build: is false; allowed: a mapping",
    "build: {cuda: yes please}": "build.cuda: is 'yes please'; allowed: auto, on, off",
    "build: {cuda: 1}": "build.cuda: is 1; allowed: auto, on, off",
    "build: {cuda: null}": "build.cuda: is null; allowed: auto, on, off",
    "build: {nvcc: x}": "build.nvcc: unknown key; allowed: cuda, cuda_arch_list",
    "build: {cuda_arch_list: 9.0}": f"build.cuda_arch_list: is 9.0; allowed: {ARCHS}",
    "train:": "train: is null; allowed: a mapping",
    "train: {epochs: 0}": "train.epochs: is 0; allowed: an integer from 1 to 1000",
    "train: {epochs: true}": "train.epochs: is true; allowed: an integer from 1 to 1000",
    "train: {epoch: 1}": (
        "train.epoch: unknown key; allowed: epochs, batch_size, learning_rate; "
        "did you mean 'epochs'?"
    ),
    "train: {batch_size: 0}": f"train.batch_size: is 0; allowed: {BATCH}",
    "train: {batch_size: 60001}": f"train.batch_size: is 60001; allowed: {BATCH}",
    "train: {batch_size: 1.5}": f"train.batch_size: is 1.5; allowed: {BATCH}",
    "train: {learning_rate: 0}": f"train.learning_rate: is 0; allowed: {RATE}",
    "train: {learning_rate: 3e-3}": f"train.learning_rate: is '3e-3'; allowed: {RATE}{HINT}",
    "train: {learning_rate: fast}": f"train.learning_rate: is 'fast'; allowed: {RATE}",
    "train: {learning_rate: nan}": f"train.learning_rate: is 'nan'; allowed: {RATE}",
    "train: {learning_rate: .nan}": "train.learning_rate: is nan; allowed: a finite number",
    "data: {sources: []}": "data.sources: is []; allowed: a list with at least 1 entry",
    "data: {sources: [pypi, pypi]}": "data.sources: 'pypi' is there twice; allowed: each once",
    "data: {timeout: 0}": "data.timeout: is 0; allowed: a number above 0 to 3600",
    "data: {timeout: .nan}": "data.timeout: is nan; allowed: a finite number",
    "data: {mirror: x}": "data.mirror: unknown key; allowed: folder, sources, timeout",
}


@pytest.mark.parametrize(("text", "line"), FAULTS.items(), ids=FAULTS)
def test_a_fault_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    assert faults(tmp_path, text) == [line]


ONCE = {
    "train: {learning_rate: .inf}": ["train.learning_rate: is inf; allowed: "],
    "data: {timeout: -.inf}": ["data.timeout: is -inf; allowed: "],
    "seeds: [.nan]": ["seeds[0]: is nan; allowed: "],
    "seeds: [.inf]": ["seeds[0]: is inf; allowed: "],
    "seeds: [-0.5]": ["seeds[0]: is -0.5; allowed: "],
    "train: {epochs: 0.5}": ["train.epochs: is 0.5; allowed: "],
    "backends: [{}]": ["backends[0].name: missing"],
    "backends: [{name: a, op: 'm:f', expect: {}}]": [
        "backends[0].expect.verify: missing",
        "backends[0].expect.reason: missing",
    ],
    '"a\\nb": 1': [""],
    "seeds: [1, 1, 2, 2]": ["seeds: 1, 2 are there twice"],
}


@pytest.mark.parametrize(("text", "starts"), ONCE.items(), ids=ONCE)
def test_each_fault_is_named_once(tmp_path: Path, text: str, starts: list[str]) -> None:
    lines = faults(tmp_path, text)
    assert len(lines) == len(starts)
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))


@pytest.mark.parametrize("text", ["seeds: '3'", "train: '3'", "data: {sources: '7'}"])
def test_only_a_number_is_told_how_to_be_one(tmp_path: Path, text: str) -> None:
    assert "3.0e-3" not in faults(tmp_path, text)[0]


SIGNS = [*"/\\ $;|&<>*?{}[]()'\"`~#%!:,=@+\t\n\r\0\x1b\x7f", "é", "µ", "٣", "\u2028", "\u200b"]
NO_NAMES = ["", ".", "..", "../x", "-x", ".x", "x\n", "\nx", "a" * 65]


@pytest.mark.parametrize("name", [*NO_NAMES, *(f"a{sign}b" for sign in SIGNS)], ids=ascii)
def test_a_name_is_plain(tmp_path: Path, name: str) -> None:
    text = yaml.safe_dump({"backends": [{"name": name, "op": "m:f"}]})
    assert faults(tmp_path, text) == [f"backends[0].name: is {name!r}; allowed: {NAME}"]


@pytest.mark.parametrize("name", ["a", "_", "0", "A.b_c-9", "a" * 64])
def test_plain_names(tmp_path: Path, name: str) -> None:
    text = yaml.safe_dump({"backends": [{"name": name, "op": "m:f"}]})
    assert load(tmp_path, text).backends == (Backend(name, "m:f"),)


NO_OPS = [
    "",
    "f",
    "m.f",
    "m:",
    ":f",
    "::f",
    "m::",
    "a.b::f",
    "m:::f",
    "m::f.g",
    "m:f:g",
    "m..n:f",
    ".m:f",
    "m.:f",
    "1m:f",
    "m:1f",
]
NO_OPS += ["m:f.g", "m/n:f", "m-n:f", "m:f()", " m:f", "m: f", "m:f\n", "../m:f", "m:f;x", "m:$f"]


@pytest.mark.parametrize("op", NO_OPS, ids=ascii)
def test_an_op_is_a_module_and_a_function_or_a_namespace_and_an_operator(
    tmp_path: Path, op: str
) -> None:
    text = yaml.safe_dump({"backends": [{"name": "a", "op": op}]})
    assert faults(tmp_path, text) == [f"backends[0].op: is {op!r}; allowed: {OP}"]


NO_CODE = ["", ".cpp", "a", "a.h", "a.py", "a.CU", "a.cu\n", "-a.cu", "~/a.cu", "$a.cu", "a;b.cu"]
NO_CODE += ["{a}.cu", "a'b.cu", "x" * 256 + ".cu"]


@pytest.mark.parametrize("source", NO_CODE, ids=lambda source: ascii(source)[:20])
def test_a_source_is_a_plain_path_of_code(tmp_path: Path, source: str) -> None:
    text = yaml.safe_dump({"backends": [{"name": "a", "op": "m::f", "sources": [source]}]})
    (line,) = faults(tmp_path, text)
    assert line.startswith("backends[0].sources[0]: is ")
    assert line.endswith(f"; allowed: {CODE}")


NO_ARCHS = ["", "9", "90", "sm_90", "Hopper", "native", "9.0,8.0", "9.0;", "9.0;;8.0", " 9.0"]
NO_ARCHS += ["9.0 +PTX", "9.0+ptx", "9.00", "9.0\n", "9.0\n;8.0", "9.0;$(id)", "9.0-gencode"]


@pytest.mark.parametrize("archs", NO_ARCHS, ids=ascii)
def test_gpus_are_named_by_their_compute_capability(tmp_path: Path, archs: str) -> None:
    text = yaml.safe_dump({"build": {"cuda_arch_list": archs}})
    assert faults(tmp_path, text) == [f"build.cuda_arch_list: is {archs!r}; allowed: {ARCHS}"]


NO_FOLDERS = ["", " ", "-x", "~/x", "a\n", "\na", "a\nb", "x" * 256]
NO_FOLDERS += [f"a{sign}b" for sign in "{}<>$;|&*?'\"`()[]!#%:\\~\t\r\0\x1b"]


@pytest.mark.parametrize("folder", NO_FOLDERS, ids=lambda folder: ascii(folder)[:20])
def test_a_folder_is_safe_in_a_shell_and_in_snakemake(tmp_path: Path, folder: str) -> None:
    text = yaml.safe_dump({"output": folder, "data": {"folder": folder}})
    shown = repr(folder) if len(folder) < 78 else "'" + "x" * 76 + "..."
    assert faults(tmp_path, text) == [
        f"data.folder: is {shown}; allowed: {FOLDER}",
        f"output: is {shown}; allowed: {FOLDER}",
    ]


SOURCES = ["torchvision", "pypi", "http://x", "https://x.org:80/a?b=c&d", "file:///a b%20/c"]
SOURCES += ["/mnt/a b", "./here", "../there", "a/b", "mnist/"]
NO_SOURCES = ["", "mnist", "PyPI", "ftp://x/y", "https://", "https://a b", "file://x/y", "C:/x"]
NO_SOURCES += ["a/b\n", "a\n/b", "pypi\n", "https://x\n"]


def test_sources_of_every_form(tmp_path: Path) -> None:
    text = yaml.safe_dump({"data": {"sources": SOURCES}})
    assert load(tmp_path, text).data.sources == tuple(SOURCES)


@pytest.mark.parametrize("source", NO_SOURCES, ids=ascii)
def test_a_source_of_unknown_form(tmp_path: Path, source: str) -> None:
    text = yaml.safe_dump({"data": {"sources": ["pypi", source]}})
    assert faults(tmp_path, text) == [f"data.sources[1]: is {source!r}; allowed: {SOURCE}"]


SECRETS = {
    "https://me:SECRET@x.org/a": "https://***@x.org/a",
    "https://SECRET@x.org/a": "https://***@x.org/a",
    "https://x.org/a?Token=SECRET&b=c": "https://x.org/a?Token=***&b=c",
}


@pytest.mark.parametrize(("source", "shown"), SECRETS.items())
def test_a_source_with_a_secret_is_refused(tmp_path: Path, source: str, shown: str) -> None:
    text = yaml.safe_dump({"data": {"sources": [source]}})
    allowed = "none, user and password in ~/.netrc"
    assert faults(tmp_path, text) == [
        f"data.sources[0]: '{shown}' holds a secret; allowed: {allowed}"
    ]


LONG = "https://me:" + 90 * "SECRET" + "@x.org"


@pytest.mark.parametrize(
    "text",
    [
        f"data: {{sources: ['{LONG}', '{LONG}']}}",
        f"data: {{sources: ['{LONG}']}}",
        f"data: {{sources: '{LONG}'}}",
        f"data: {{sources: {{'{LONG}': 1}}}}",
        f"data: {{sources: ['{LONG} or']}}",
        f"data: {{timeout: '{LONG}'}}",
        "data: {sources: ['me:SECRET@x.org:/a']}",
        "data: {sources: [https://me:SECRET@x.org] a",
    ],
    ids=range(8),
)
def test_a_secret_is_shown_in_no_message(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError) as raised:
        config.load(tmp_path / "config.yaml")
    assert "SECRET" not in str(raised.value)
    assert "***" in str(raised.value)


MANY = """
sead: 1
output: a{b}
backends:
  - torch
  - tochr
  - {name: ../x, op: os.system}
  - {name: mine, op: 'my:f', expct: 1}
  - {name: ours, op: 'our::f', sources: [a.h, ../b.cpp], max_ulp: -1}
build: {cuda: maybe, cuda_arch_list: all, cuda_home: /x}
seeds: {first: -1, count: 0, step: 2}
device: gpu
engine: kernels
precision: fp64
timing: 3
margin: 0
seeds_per_job: 0
train: {epochs: 0, batch_size: 0, learning_rate: .nan, momentum: 0.9}
data: {folder: '', sources: [x, y], timeout: -1}
"""
MANY_PLACES = """sead output backends[1] backends[2].name backends[2].op backends[3].expct
backends[4].sources[0] backends[4].max_ulp build.cuda build.cuda_arch_list build.cuda_home
seeds.first seeds.count seeds.step device engine precision timing margin seeds_per_job train.epochs
train.batch_size train.learning_rate train.momentum data.folder data.sources[0] data.sources[1]
data.timeout"""

# Between keys that are right by themselves.
CONFLICTS = """
backends:
  - torch
  - {name: torch, op: 'm::f'}
  - {name: cpp, op: 'm:f', sources: [a.cpp, a.cc]}
seeds: {first: 4294967295, count: 2}
device: cpu
precision: tf32
"""
CONFLICT_PLACES = """backends[1] backends[1].op backends[2].name backends[2].op
backends[2].sources seeds precision"""


@pytest.mark.parametrize(
    ("text", "places"),
    [
        pytest.param(MANY, MANY_PLACES, id="in keys"),
        pytest.param(CONFLICTS, CONFLICT_PLACES, id="between keys"),
        pytest.param("sead: 1" + CONFLICTS, f"sead {CONFLICT_PLACES}", id="both"),
    ],
)
def test_all_faults_come_in_one_message(tmp_path: Path, text: str, places: str) -> None:
    found = [line.partition(": ")[0] for line in faults(tmp_path, text)]
    assert sorted(found) == sorted(places.split())


UNREADABLE = {
    "flow": ("a: [", "not YAML: "),
    "tab": ("\ta: 1", "not YAML: "),
    "tag": ("a: !!python/object:os.system {}", "not YAML: "),
    "two documents": ("a: 1\n---\nb: 2", "not YAML: "),
    "control character": ("a: \x01", "not YAML: "),
    "list as a key": ("? [a]\n: 1", "not YAML: "),
}
BEYOND_YAML = {
    "no such day": ("output: 2024-02-30", ""),
    "no digits": ("seeds: [0b_]", ""),
    "too many digits": ("seeds: [" + "9" * 5000 + "]", ""),
    "inside itself": ("seeds: &a [*a]", ""),
}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *(pytest.param(*case, id=name) for name, case in UNREADABLE.items()),
        *(pytest.param(*case, id=name) for name, case in BEYOND_YAML.items()),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UserError) as raised:
        load(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path / 'config.yaml'}: {reason}")


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("output: résultats".encode("latin-1"))
    with pytest.raises(UserError, match=r"config\.yaml: "):
        config.load(path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("absent.yaml", "No such file or directory"), (".", "Is a directory")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    with pytest.raises(UserError) as raised:
        config.load(path)
    assert str(raised.value) == f"{path}: cannot be read: {reason}"


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(config.schema())


def test_schema_knows_the_built_in_backends() -> None:
    items = config.schema()["properties"]["backends"]["items"]
    assert items["then"]["enum"] == list(BACKENDS)


def test_every_key_is_described() -> None:
    undescribed = [
        path for path, node, _ in keys(config.schema()) if not node.get("description", "").strip()
    ]
    assert undescribed == []


def test_every_optional_key_has_a_default_and_no_required_one() -> None:
    wrong = [
        path for path, node, required in keys(config.schema()) if required == ("default" in node)
    ]
    # What a backend may have: one of op and header; without the rest it is in Python, a GELU,
    # claims nothing, has to pass.
    optional = ("op", "header", "sources", "reference", "max_ulp", "expect")
    assert wrong == [f"backends[].{name}" for name in optional]


def test_every_default_is_allowed() -> None:
    for path, node, _ in keys(config.schema()):
        if "default" in node:
            faults = list(jsonschema.Draft202012Validator(node).iter_errors(node["default"]))
            assert faults == [], path


def test_every_mapping_refuses_unknown_keys() -> None:
    nodes = [("", config.schema()), *((path, node) for path, node, _ in keys(config.schema()))]
    nodes += [(f"{path}[]", node["items"]) for path, node in nodes if "items" in node]
    mappings = {path: node for path, node in nodes if "properties" in node}
    depths = {"backends[]", "backends[].expect", "seeds", "build", "train", "data"}
    assert set(mappings) == {"", *depths}
    assert all(node["additionalProperties"] is False for node in mappings.values())


def keys(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield each key at every depth: its path, its node, and whether it is required."""
    for key, child in node.get("properties", {}).items():
        yield f"{path}{key}", child, key in node.get("required", [])
        yield from keys(child, f"{path}{key}.")
        yield from keys(child.get("items", {}), f"{path}{key}[].")


def flat(value: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return the values at every depth by their path."""
    found: dict[str, Any] = {}
    for key, child in value.items():
        if isinstance(child, dict):
            found |= flat(child, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = child
    return found
