"""Digests of code: an edit changes those of the stages that it can change, and no other."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from opproof import backends, codebase

PACKAGE = Path(codebase.__file__).parent

Digest = Callable[[dict[str, str]], str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, whose code is digested in place of the package's own."""
    copy = tmp_path / "opproof"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(codebase, "_PACKAGE", copy)
    return copy


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Digest:
    """Write files, given by name and text, into a package and digest its `stage`."""
    monkeypatch.setattr(codebase, "_PACKAGE", tmp_path)

    def digest(files: dict[str, str]) -> str:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        return codebase.digest("stage")

    return digest


# Besides its own modules, and some that can't change a result.
ENGINES = " ".join(f"engines/{path.stem}" for path in (PACKAGE / "engines").glob("*.py"))
OF_OPERATORS = {"operators", "calls", "cases", "comparison", "contenders", "memory", "tables"}
OF_TRAINING = {"training", "gpu", "startup", "trainees", "training_tables"}
OF_BOTH = {"blocks", "disturbance", "machine", "ratio"}
RESTS_ON = {
    "build": "artifact library paths rules settings sources toolchain users_header",
    "verify": "artifact device library operators rules settings",
    "train": f"artifact device lenet library mnist operators rules settings {ENGINES}",
    "timing": (
        "artifact backends device lenet library mnist operators rules settings training_time "
        f"{ENGINES}"
    ),
    "timing.operators": (
        "artifact backends device library operators rules settings timing/__init__ "
        f"{' '.join(f'timing/{name}' for name in OF_OPERATORS | OF_BOTH)}"
    ),
    "timing.training": (
        "artifact backends device lenet library mnist operators rules settings training_time "
        f"timing/__init__ {' '.join(f'timing/{name}' for name in OF_TRAINING | OF_BOTH)} {ENGINES}"
    ),
    "summary": "artifact backends mnist paths settings training_time ulp",
    "check": "against artifact damage paths ulp",
}
WITHOUT_EFFECT = {"gpu_sampler", "train/progress", "events", "provenance", "arguments", "errors"}
WITHOUT_EFFECT |= {
    "driver",
    "event_file",
    "event_format",
    "lease",
    "on_demand",
    "permissions",
    "planned",
}


@pytest.mark.parametrize(("stage", "names"), RESTS_ON.items(), ids=RESTS_ON)
def test_an_edit_counts_where_the_stage_rests_on_it(package: Path, stage: str, names: str) -> None:
    modules = {str(path.relative_to(package))[:-3]: path for path in package.rglob("*.py")}
    own = {name for name in modules if name == stage or name.startswith(f"{stage}/")}
    used = own - WITHOUT_EFFECT | set(names.split())
    before = codebase.digest(stage)
    for name in used:
        text = modules[name].read_text()
        modules[name].write_text(f"{text}\nEDITED = 1\n")
        assert codebase.digest(stage) != before, name
        modules[name].write_text(text)
    for name in modules.keys() - used:
        modules[name].write_text("EDITED = 1\n")
    assert codebase.digest(stage) == before
    assert modules.keys() >= WITHOUT_EFFECT


def test_no_comment_or_docstring_changes_a_stage(package: Path) -> None:
    before = {stage: codebase.digest(stage) for stage in RESTS_ON}
    for path in package.rglob("*.py"):
        text = re.sub(r'^( *""")(?=\w)', r"\1Or: ", path.read_text(), flags=re.MULTILINE)
        assert "Or: " in text or not text, path
        text = text.replace("\n\n\n", "\n\n# Or so.\n\n\n\n")
        path.write_text(f"#!/usr/bin/env python\n{text}# The end.\n")
    assert {stage: codebase.digest(stage) for stage in RESTS_ON} == before


def test_an_edit_of_a_built_in_operator_is_noticed() -> None:
    """Neither the closure of verify and train nor the operator's own digest holds its module."""
    for backend in backends.BACKENDS.values():
        if backend.op.startswith("opproof."):
            assert codebase.operator_digest(backend.op), backend.name


def test_the_package_imports_itself_in_the_one_form_that_is_followed() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("opproof") for alias in node.names), path
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, path


CODE = '''"""Module."""

import math

LIMIT = 3  # comment


class Thing:
    """Class."""

    size: int = 1

    def method(self):
        """Method."""
        return self.size


def function(x=1):
    """Function."""
    text = """not a docstring"""
    return text, x + LIMIT, math.pi
'''

SAME = [
    ("# comment", "# another"),
    ("  # comment", ""),
    ("\n\n\n", "\n"),
    ("LIMIT = 3", "LIMIT = (\n    3\n)"),
    ("LIMIT = 3", "LIMIT = 0x3"),
    ('"""not a docstring"""', "'not a docstring'"),
    ('"""Module."""', '"""Another\n\nof two paragraphs."""'),
    ('"""Module."""', ""),
    ('    """Class."""\n', '    """Another."""\n'),
    ('    """Class."""\n', ""),
    ('"""Method."""', "'Another.'"),
    ('        """Method."""\n', ""),
    ('"""Function."""', '"""Another."""'),
]
OTHER = [
    ("LIMIT = 3", "LIMIT = 4"),
    ("LIMIT = 3", "LIMIT = 3.0"),
    ("LIMIT = 3", "LIMIT = -3"),
    ("LIMIT = 3", "LIMIT = 3\nMORE = 1"),
    ("import math", "import cmath as math"),
    ("class Thing:", "class Thing(dict):"),
    ("size: int = 1", "size: float = 1"),
    ("    def method", "    @property\n    def method"),
    ("x=1", "x=2"),
    ("not a docstring", "another"),
    ("x + LIMIT", "LIMIT + x"),
    ("return self.size", "self.size"),
]


@pytest.mark.parametrize(("old", "new"), SAME)
def test_layout_does_not_count(digest: Digest, old: str, new: str) -> None:
    assert old in CODE
    assert digest({"stage.py": CODE}) == digest({"stage.py": CODE.replace(old, new)})


@pytest.mark.parametrize(("old", "new"), OTHER)
def test_code_counts(digest: Digest, old: str, new: str) -> None:
    assert old in CODE
    assert digest({"stage.py": CODE}) != digest({"stage.py": CODE.replace(old, new)})


IMPORTS = [
    "from opproof import used",
    "from opproof import other, used as alias",
    "from opproof.used import X",
    "from opproof.used import *",
    "def f():\n    from opproof.used import X",
    "class C:\n    def f(self):\n        from opproof import used",
    "if True:\n    from opproof import used",
    "try:\n    from opproof import used\nexcept ImportError:\n    pass",
    "from opproof import between",
    "from opproof.between import used",
    "from opproof.part import module",
    "from opproof.part.module import X",
    "from opproof import part",
]
NO_IMPORTS = [
    "",
    "# from opproof import used",
    "'''from opproof import used'''",
    "from opproof import other",
    "from elsewhere.opproof import used",
    "import used",
]
FILES = {
    "used.py": "X = 1",
    "other.py": "",
    "between.py": "def f():\n    from opproof.used import X\n    from opproof import stage",
    "part/__init__.py": "from opproof.part import module",
    "part/module.py": "from opproof.used import X",
}


@pytest.mark.parametrize("imports", IMPORTS)
def test_an_edit_of_what_is_imported_counts(digest: Digest, imports: str) -> None:
    assert digest({"stage.py": imports, **FILES}) != digest({"used.py": "X = 2"})


@pytest.mark.parametrize("imports", NO_IMPORTS)
def test_an_edit_of_what_is_not_imported_does_not_count(digest: Digest, imports: str) -> None:
    assert digest({"stage.py": imports, **FILES}) == digest({"used.py": "X = 2"})


def test_every_module_of_a_stage_that_is_a_folder_counts(digest: Digest) -> None:
    first = digest({"stage/__init__.py": "", "stage/alone.py": "X = 1"})
    second = digest({"stage/alone.py": "X = 2"})
    third = digest({"stage/more.py": ""})
    assert len({first, second, third}) == 3


def test_a_digest_is_the_same_in_every_process() -> None:
    code = f"from opproof import codebase\nfor s in {[*RESTS_ON]}: print(codebase.digest(s))"
    expected = [codebase.digest(stage) for stage in RESTS_ON]
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert done.stdout.split() == expected


def test_a_file_of_several_stages_is_parsed_once(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda content: parsed.append(content) or parse(content))
    codebase._read.cache_clear()
    for stage in RESTS_ON:
        codebase.digest(stage)
    assert parsed
    assert len(parsed) == len(set(parsed))


@pytest.mark.parametrize(
    ("op", "file"),
    [
        ("mine:f", "mine.py"),
        ("my.mine:f", "my/mine.py"),
        ("my.deep.mine:f", "my/deep/mine.py"),
        ("my:f", "my/__init__.py"),
    ],
)
def test_an_operator_is_known_by_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, op: str, file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert codebase.operator_digest(op) is None
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("raise RuntimeError('imported')\n")
    digest = codebase.operator_digest(op)
    assert digest
    (tmp_path / file).write_text("raise RuntimeError('imported')  # comment\n")
    assert codebase.operator_digest(op) == digest
    (tmp_path / file).write_text("raise RuntimeError('edited')\n")
    assert codebase.operator_digest(op) != digest


def test_an_operator_that_is_built_or_installed_has_no_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()
    for op in ("mine::f", "torch.nn.functional:gelu", "absent:f"):
        assert codebase.operator_digest(op) is None


@pytest.mark.parametrize(
    "content",
    [b"def f(:\n", b"# -*- coding: latin-1 -*-\nX = '\xe9'\n", b"X = '\xe9'\n", b"X = 1\0\n"],
    ids=["syntax", "latin-1", "not utf-8", "null byte"],
)
def test_an_operator_that_does_not_parse_is_no_fault_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """It is verification that finds, and says, that this backend can't be used."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_bytes(content)
    digest = codebase.operator_digest("mine:f")
    assert digest
    (tmp_path / "mine.py").write_bytes(content + b"X = 2\n")
    assert codebase.operator_digest("mine:f") != digest
