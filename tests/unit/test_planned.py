"""A job refuses to work with other code than the run was planned with."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from opproof import __main__, build, codebase, config, operators, planned, sources, train
from opproof.errors import UserError
from opproof.settings import Settings

EDITED = "edited after this run was planned, so its results would be of two states; run the pip"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Return settings of a user's operators, in Python and in C++, that a run is planned with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPPROOF_PLANNED", "another run's, for a test to leave as it was")
    Path("operator_to_edit.py").write_text("from torch.nn.functional import gelu\n")
    Path("mine.cpp").write_text('#include "mine.h"\n')
    Path("mine.h").touch()
    mine = {"name": "mine", "op": "mine::forward", "sources": ["mine.cpp"]}
    edited = {"name": "edited", "op": "operator_to_edit:gelu"}
    settings = config.resolve({"backends": ["torch", "python", edited, mine]})
    planned.announce(settings)
    yield settings


def test_what_was_not_edited_has_its_digest(settings: Settings) -> None:
    for stage in ("build", "verify", "train", "timing", "summary", "check"):
        assert planned.stage_digest(stage) == codebase.digest(stage)
    for backend in settings.backends:
        assert planned.operator_digest(backend.op) == codebase.operator_digest(backend.op)
    (library,) = settings.libraries
    assert planned.library_digest(library) == sources.digest(library)


def test_every_stage_that_has_a_digest_in_its_rule_is_planned() -> None:
    """Of the others nothing depends on code: the digests of the data are fixed."""
    rules = Path(planned.__file__).parents[1] / "rules"
    digested = {
        stage
        for rule in rules.glob("*.smk")
        for stage in re.findall(r'codebase\.digest\("(\w+)', rule.read_text())
    }
    assert digested == set(planned._STAGES)


def test_an_edited_stage_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_before = codebase.digest
    monkeypatch.setattr(
        codebase, "digest", lambda stage: "1" if stage == "check" else as_before(stage)
    )
    assert __main__.main(["check", "results"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"opproof check: the code of the stage check: {EDITED}")
    planned.stage_digest("train")


def test_an_edited_operator_is_refused(settings: Settings) -> None:
    backend = settings.backend("edited")
    operators.resolve(backend, Path("results"))
    Path("operator_to_edit.py").write_text("from torch.nn.functional import relu as gelu\n")
    with pytest.raises(UserError, match=f"^the code of the operator {backend.op}: {EDITED}"):
        operators.resolve(backend, Path("results"))
    operators.resolve(settings.backend("python"), Path("results"))


@pytest.mark.parametrize("edited", ["stage", "operator"])
def test_no_state_is_named_by_code_that_has_not_made_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    """Imported before the edit, the code would train under the digest of what came after it."""
    backend = settings.backend("edited")
    assert train.run_digest(settings, backend, torch.device("cpu"))
    if edited == "stage":
        monkeypatch.setattr(codebase, "digest", lambda stage: "1")
    else:
        Path("operator_to_edit.py").write_text("from torch.nn.functional import relu as gelu\n")
    with pytest.raises(UserError, match=EDITED):
        train.run_digest(settings, backend, torch.device("cpu"))


@pytest.mark.parametrize("file", ["mine.cpp", "mine.h"])
def test_an_edited_source_is_refused(settings: Settings, file: str) -> None:
    (library,) = settings.libraries
    with Path(file).open("a") as opened:
        opened.write("// More.\n")
    with pytest.raises(UserError, match=f"^the sources of the library mine: {EDITED}"):
        build.build(library, settings.build, Path("results"))


def test_by_hand_nothing_is_planned(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPPROOF_PLANNED")
    Path("operator_to_edit.py").write_text("X = 1\n")
    assert planned.operator_digest("operator_to_edit:gelu")


def test_another_run_is_planned_anew(settings: Settings) -> None:
    before = os.environ["OPPROOF_PLANNED"]
    Path("mine.h").write_text("int x;\n")
    planned.announce(settings)
    assert os.environ["OPPROOF_PLANNED"] != before
    planned.library_digest(settings.libraries[0])


def test_a_source_that_is_missing_is_not_for_the_plan_to_find(settings: Settings) -> None:
    Path("mine.cpp").unlink()
    planned.announce(settings)
