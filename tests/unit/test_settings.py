"""Settings: the blocks of seeds, and the copy that the controller freezes for the jobs."""

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opproof import arguments, artifact, config, settings
from opproof.errors import UserError
from opproof.settings import Settings

EVERY_KEY: dict[str, Any] = {
    "output": "elsewhere/results",
    "backends": [
        "cpp",
        "tanh",
        "pooled",
        {"name": "mine", "op": "m:f", "expect": {"verify": "fail", "reason": 'é "\\'}},
        {"name": "ours", "op": "n::f", "sources": ["a b.cu", "/é/c.cpp"], "max_ulp": 0.1 + 0.2},
    ],
    "build": {"cuda": False, "cuda_arch_list": "8.0 9.0a+PTX"},
    "seeds": [4294967295, 3, 17],
    "device": "cpu",
    "engine": "reference",
    "seeds_per_job": 2,
    "train": {"epochs": 3, "batch_size": 100, "learning_rate": 0.1 + 0.2},
    "data": {"folder": "/mnist", "sources": ["file:///a%20b", "./c"], "timeout": 0.1},
}


@pytest.fixture(params=[{}, EVERY_KEY], ids=["defaults", "every key"])
def resolved(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings whose output is in the test's folder."""
    monkeypatch.chdir(tmp_path)
    return config.resolve(request.param)


@pytest.mark.parametrize(
    ("seeds", "per_job", "blocks"),
    [
        pytest.param([5], 1, [(5,)], id="one"),
        pytest.param([7, 3, 5], 1, [(7,), (3,), (5,)], id="one each"),
        pytest.param([7, 3, 5, 1], 2, [(7, 3), (5, 1)], id="even"),
        pytest.param([7, 3, 5, 1], 3, [(7, 3, 5), (1,)], id="rest"),
        pytest.param([7, 3, 5, 1], 4, [(7, 3, 5, 1)], id="all"),
        pytest.param([7, 3], 100, [(7, 3)], id="more than there are"),
        pytest.param({"first": 8, "count": 5}, 2, [(8, 9), (10, 11), (12,)], id="range"),
        pytest.param({"count": 3}, "auto", [(0,), (1,), (2,)], id="auto"),
    ],
)
def test_blocks(seeds: Any, per_job: Any, blocks: list[tuple[int, ...]]) -> None:
    assert config.resolve({"seeds": seeds, "seeds_per_job": per_job}).blocks() == blocks


@pytest.mark.parametrize(
    ("engine", "device", "sizes"),
    [
        ("graph", "cpu", [1] * 25),
        ("graph", "auto", [1] * 25),
        ("graph", "cuda", [10, 10, 5]),
        ("reference", "cpu", [1] * 25),
        ("reference", "auto", [1] * 25),
        ("reference", "cuda", [1] * 25),
    ],
)
def test_blocks_of_auto_depend_on_engine_and_device(
    engine: str, device: str, sizes: list[int]
) -> None:
    resolved = config.resolve({"engine": engine, "device": device, "seeds": {"count": 25}})
    assert [len(block) for block in resolved.blocks()] == sizes


def test_a_backend_is_found_by_its_name() -> None:
    resolved = config.resolve({"backends": ["torch", "tanh"]})
    assert resolved.backend("tanh") is resolved.backends[1]
    with pytest.raises(UserError) as raised:
        resolved.backend("cpp")
    assert str(raised.value) == "backend 'cpp': not in the settings; allowed: torch, tanh"


MINE = {"name": "mine", "op": "m::f", "sources": ["a.cpp"]}


@pytest.mark.parametrize(
    ("backends", "libraries"),
    [
        (["torch", "python", {"name": "a", "op": "m:f"}], []),
        (["torch", "cpp"], ["aten_gelu"]),
        (["pooled", "fused", "cpp"], ["gelu", "aten_gelu", "gelu_step"]),
        ([MINE, "cpp"], ["aten_gelu", "mine"]),
    ],
)
def test_libraries_are_those_that_backends_need_each_once(
    backends: list[Any], libraries: list[str]
) -> None:
    resolved = config.resolve({"backends": backends})
    assert [library.name for library in resolved.libraries] == libraries
    for backend in resolved.backends:
        assert backend.library is None or resolved.library(backend.library)


def test_a_library_is_found_by_its_name() -> None:
    resolved = config.resolve({"backends": ["cpp", MINE]})
    assert resolved.library("mine") is resolved.libraries[1]
    with pytest.raises(UserError) as raised:
        resolved.library("gelu")
    assert str(raised.value) == "library 'gelu': not in the settings; allowed: aten_gelu, mine"


def test_frozen_settings_are_read_as_they_were(resolved: Settings) -> None:
    resolved.freeze()
    assert resolved.frozen_path.parent == Path(resolved.output) / "config"
    assert repr(settings.read(resolved.frozen_path)) == repr(resolved)


def test_freezing_again_writes_the_same_bytes(resolved: Settings) -> None:
    resolved.freeze()
    before = resolved.frozen_path.read_bytes()
    settings.read(resolved.frozen_path).freeze()
    assert resolved.frozen_path.read_bytes() == before


def test_config_option_takes_yaml_and_frozen_settings(resolved: Settings, tmp_path: Path) -> None:
    resolved.freeze()
    shown = json.dumps(EVERY_KEY if resolved.device == "cpu" else {})  # JSON is YAML
    (tmp_path / "config.yaml").write_text(shown)
    for options in ([], ["--config", "config.yaml"], ["--config", str(resolved.frozen_path)]):
        parser = argparse.ArgumentParser()
        arguments.add_config(parser)
        assert arguments.read_settings(parser.parse_args(options)) == resolved


def test_frozen_settings_are_read_by_a_python_without_the_controllers_packages(
    resolved: Settings,
) -> None:
    resolved.freeze()
    code = """
import sys
sys.modules.update(dict.fromkeys(["yaml", "jsonschema", "snakemake", "torch"]))
from argparse import Namespace
from pathlib import Path
from opproof.arguments import read_settings
print(ascii(read_settings(Namespace(config=Path(sys.argv[1])))))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(resolved.frozen_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{resolved!a}\n", "")


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda content: content.replace(b'"cpu"', b'"gpu"'), id="edited"),
        pytest.param(lambda content: content[: len(content) // 2], id="cut"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b'{"output": "results"}', id="not frozen"),
        pytest.param(None, id="missing"),
    ],
)
def test_damaged_frozen_settings_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    resolved = config.resolve(EVERY_KEY)
    resolved.freeze()
    path = resolved.frozen_path
    if spoil is None:
        path.unlink()
    else:
        path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=r"^elsewhere/results/config/\w+\.json: "):
        settings.read(path)


@pytest.mark.parametrize("change", ["a key more", "a key less"])
def test_settings_frozen_by_another_version_are_refused(tmp_path: Path, change: str) -> None:
    content = dataclasses.asdict(config.resolve({}))
    if change == "a key more":
        content["shoe_size"] = 42
    else:
        del content["engine"]
    path = tmp_path / "config.json"
    artifact.write_json(path, content)
    with pytest.raises(UserError, match=r"config\.json: "):
        settings.read(path)
