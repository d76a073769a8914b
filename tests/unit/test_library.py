"""Loading what the build stage left: the real library, as it was built or damaged."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from opproof import artifact, library
from opproof.errors import BackendError, UserError
from tests.unit.test_build import built

NAME = "aten_gelu"


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


@pytest.fixture
def folder(output: Path, tmp_path: Path) -> Path:
    """A build folder, to be damaged: build.json and the library."""
    shutil.copytree(output / "build" / NAME, tmp_path / "build" / NAME)
    return tmp_path / "build" / NAME


def test_a_library_loads_once_and_registers_its_three_operators(output: Path) -> None:
    library.load(output, NAME)
    away = output.rename(output.with_name("away"))
    library.load(output, NAME)
    away.rename(output)
    for name, inputs in {
        "forward": "Tensor x",
        "backward": "Tensor grad, Tensor x",
        "double_backward": "Tensor grad_grad, Tensor grad, Tensor x",
    }.items():
        schema = getattr(torch.ops.opproof_aten_gelu, name).default._schema
        assert str(schema) == f"opproof_aten_gelu::{name}({inputs}) -> Tensor"


def record(**changes: Any) -> Callable[[Path], None]:
    """Return a fault: a record, itself whole, that says something else."""

    def edit(folder: Path) -> None:
        path = folder / "build.json"
        artifact.write_json(path, {**artifact.read_json(path), **changes})

    return edit


def flip(name: str, position: int) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[position] ^= 1
        (folder / name).write_bytes(content)

    return edit


def cut(name: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-20])

    return edit


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def of_another_torch(folder: Path) -> None:
    """Fault the library as well: it must not be opened, or even read."""
    record(torch="2.3.4+cu118")(folder)
    remove("aten_gelu.so")(folder)


def replace_by_text(folder: Path) -> None:
    record(sha256=artifact.write_bytes(folder / "aten_gelu.so", b"not a library"))(folder)


NOT_THE_FILE = "aten_gelu.so: not the library that was built; delete the folder {folder} and run"
DAMAGED = "build.json: damaged: it {}; delete it and run the pipeline again"


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (
            of_another_torch,
            UserError,
            f"aten_gelu.so: built for torch 2.3.4+cu118, but torch {torch.__version__} is "
            "installed; run the pipeline again to rebuild it",
        ),
        (flip("aten_gelu.so", 0), UserError, NOT_THE_FILE),
        (flip("aten_gelu.so", -1), UserError, NOT_THE_FILE),
        (cut("aten_gelu.so"), UserError, NOT_THE_FILE),
        (record(sha256="0" * 64), UserError, NOT_THE_FILE),
        (remove("aten_gelu.so"), UserError, "aten_gelu.so: not the library that was built"),
        (replace_by_text, UserError, "aten_gelu.so: cannot be loaded: "),
        (
            flip("build.json", 200),
            UserError,
            DAMAGED.format("does not have the digest written in it"),
        ),
        (cut("build.json"), UserError, DAMAGED.format("is not whole")),
        (
            remove("build.json"),
            UserError,
            "build.json: missing; run the pipeline or its stage first",
        ),
        (
            record(error="gelu.cpp:3:1: error: no", sha256=None),
            BackendError,
            "cannot be built: gelu.cpp:3:1: error: no",
        ),
    ],
    ids=[
        "other torch",
        "first byte flipped",
        "last byte flipped",
        "cut",
        "not of the record",
        "missing",
        "no library",
        "record flipped",
        "record cut",
        "record missing",
        "did not compile",
    ],
)
def test_what_is_not_as_it_was_built_is_refused_with_what_to_do(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Path], None],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(library, "_LOADED", {})
    fault(folder)
    with pytest.raises(error) as caught:
        library.load(folder.parents[1], NAME)
    said = str(caught.value)
    assert message.format(folder=folder) in said
    assert (str(folder) in said) == (error is UserError)


@pytest.mark.parametrize("name", [".", "..", "../..", "aten_gelu.so", "build.json"])
def test_what_everybody_may_write_is_not_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(library, "_LOADED", {})
    monkeypatch.setattr(torch.ops, "load_library", None)
    path = (folder / name).resolve()
    path.chmod(0o777)
    with pytest.raises(UserError) as caught:
        library.load(folder.parents[1], NAME)
    assert str(caught.value) == (
        f"{path}: everybody can write to it, so what is loaded from there could be anybody's; "
        f"run: chmod -R o-w {path}"
    )


def test_the_same_library_may_lie_in_two_folders_but_not_two_of_one_name(
    output: Path, folder: Path
) -> None:
    """torch would end the process."""
    library.load(output, NAME)
    library.load(folder.parents[1], NAME)
    library.load.cache_clear()
    (folder / "aten_gelu.so").write_bytes((folder / "aten_gelu.so").read_bytes() + b" ")
    record(sha256=artifact.file_digest(folder / "aten_gelu.so"))(folder)
    with pytest.raises(UserError, match=r"aten_gelu\.so: this process has loaded another build"):
        library.load(folder.parents[1], NAME)


def test_one_of_the_stable_abi_is_loaded_whatever_torch_it_was_built_with(
    output: Path, tmp_path: Path
) -> None:
    shutil.copytree(output / "build" / "gelu", tmp_path / "build" / "gelu")
    record(torch="2.11.0")(tmp_path / "build" / "gelu")
    library.load(tmp_path, "gelu")
    assert torch.ops.opproof_gelu.pooled_forward(torch.zeros(2, 2)).tolist() == [[0.0]]
    x = torch.zeros(2, device="meta")
    assert torch.ops.opproof_gelu.forward_out(x, x) is None
    assert torch.ops.opproof_gelu.backward_out(x, x, x) is None
