"""opproof.load: where an operator comes from, and what it can do in a model of one's own."""

import copy
import io
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import opproof
from opproof import artifact, build, codebase, config, library, loading, toolchain
from opproof.backends import BACKENDS, LIBRARIES
from opproof.errors import BackendError, UserError
from opproof.settings import Build
from tests.unit.test_build import built

WITHOUT_CUDA = Build("off", "9.0")

# What a user writes, to be run in a new process; CUDA off, to be quick.
QUICK = f"""
import opproof
from opproof import loading
from opproof.settings import Build
loading._DEFAULT_BUILD = {WITHOUT_CUDA!r}
"""


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


@pytest.fixture
def results(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder's results/, with what the build stage leaves; nothing may be compiled."""
    shutil.copytree(output, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(build, "build", None)
    return tmp_path / "results"


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Look for built-in operators anew."""
    loading._built_in.cache_clear()
    yield
    loading._built_in.cache_clear()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the user's, and an empty working folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "the cache"))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path / "the cache" / "opproof"


def points() -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


# Where it comes from ------------------------------------------------------------------------------


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "pooled"])
def test_every_built_in_operator_is_a_module(name: str) -> None:
    operator = opproof.load(name)
    assert isinstance(operator, nn.Module)
    expected = F.gelu(points(), approximate="tanh" if name == "tanh" else "none")
    torch.testing.assert_close(operator(points()), expected, rtol=0, atol=5e-7)
    assert repr(operator) == f"Operator({name!r})"


@pytest.mark.usefixtures("results")
def test_pooled_is_activation_pool_and_activation() -> None:
    expected = F.gelu(F.avg_pool2d(F.gelu(points()), 2))
    torch.testing.assert_close(opproof.load("pooled")(points()), expected, rtol=0, atol=1e-6)


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError) as raised:
        opproof.load("fusd")
    allowed = "torch, python, cpp, erf, fused, pooled, tanh"
    assert str(raised.value) == f"'fusd' is no operator; allowed: {allowed}"


def test_a_backend_of_the_working_folders_configuration(results: Path) -> None:
    Path("mine.py").write_text("def triple(x): return 3 * x\n")
    Path("config.yaml").write_text("backends: [fused, {name: mine, op: 'mine:triple'}]")
    assert opproof.load("mine")(torch.ones(2)).tolist() == [3, 3]
    with pytest.raises(UserError, match=r"'fusd' is no operator; allowed: torch, .*, mine$"):
        opproof.load("fusd")
    with pytest.raises(UserError, match=r"'mine' has no pooled operator; allowed: pooled=False$"):
        opproof.load("mine", pooled=True)


def test_a_backend_of_a_configuration(results: Path) -> None:
    results.rename(results.with_name("elsewhere"))
    Path("mine.py").write_text("def triple(x): return 3 * x\n")
    Path("mine.yaml").write_text(
        "output: elsewhere\n"
        "backends: [fused, {name: mine, op: 'mine:triple'}, {name: n, op: 'm:f'}]"
    )
    assert opproof.load("mine", "mine.yaml")(torch.ones(2)).tolist() == [3, 3]
    assert opproof.load("fused", Path("mine.yaml"))(torch.zeros(2)).tolist() == [0, 0]
    with pytest.raises(UserError, match="backend 'cpp': not in the settings; allowed: fused, mine"):
        opproof.load("cpp", "mine.yaml")
    with pytest.raises(BackendError, match="op m:f: ModuleNotFoundError"):
        opproof.load("n", "mine.yaml")
    with pytest.raises(UserError, match=r"absent\.yaml: cannot be read"):
        opproof.load("mine", "absent.yaml")


def test_what_did_not_compile_is_said(results: Path) -> None:
    path = library.record_path(results, "mine")
    artifact.write_json(path, {"error": "mine.cpp:1:1: error: no"})
    Path("config.yaml").write_text(
        "backends: [{name: mine, op: 'mine::forward', sources: [mine.cpp]}]"
    )
    with pytest.raises(BackendError, match=r"cannot be built: mine\.cpp:1:1: error: no"):
        opproof.load("mine", "config.yaml")


def test_its_build_is_the_configurations_default() -> None:
    assert config.resolve({}).build == loading._DEFAULT_BUILD


def test_it_is_compiled_once_into_the_cache_and_only_that_is_printed_aside(cache: Path) -> None:
    """Into a folder that names all that matters; the caller's standard output is its own."""
    code = QUICK + "print(float(opproof.load('cpp')(opproof.loading.torch.ones(1))))"
    first = run(code)
    (folder,) = cache.iterdir()
    assert {path.name for path in (folder / "build/aten_gelu").iterdir()} == {
        "build.json",
        "aten_gelu.so",
    }
    assert "aten_gelu: built without CUDA" in first.stderr
    again = run(code, PATH="", CXX=os.environ.get("CXX", shutil.which("c++") or ""))
    assert "built" not in again.stderr
    assert first.stdout == again.stdout == f"{float(F.gelu(torch.ones(1)))}\n"
    assert [*cache.iterdir()] == [folder]


def test_a_library_of_the_results_comes_before_the_cache(cache: Path, output: Path) -> None:
    Path("results").symlink_to(output)
    opproof.load("fused")
    assert not cache.exists()


@pytest.mark.parametrize("change", ["compiler", "nvcc", "torch", "build", "source", "code", "cuda"])
def test_whatever_matters_to_a_build_has_a_folder_of_its_own(
    cache: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    def folder() -> Path:
        return loading._cache(LIBRARIES["gelu"], loading._DEFAULT_BUILD)

    before = folder()
    assert before == folder()
    assert before.parent == cache
    if change in toolchain.describe():
        other = {**toolchain.describe(), change: "99.9"}
        monkeypatch.setattr(toolchain, "describe", lambda: other)
    elif change == "build":
        monkeypatch.setattr(loading, "_DEFAULT_BUILD", WITHOUT_CUDA)
    elif change == "source":
        monkeypatch.setattr(artifact, "file_digest", lambda path: path.name)
    elif change == "code":
        monkeypatch.setattr(codebase, "digest", lambda stage: f"another {stage}")
    else:
        monkeypatch.setattr(torch.version, "cuda", "99.9")
    assert folder() != before


def test_without_xdg_cache_home_it_is_that_of_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/mine")
    for value in (None, ""):
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        if value is not None:
            monkeypatch.setenv("XDG_CACHE_HOME", value)
        folder = loading._cache(LIBRARIES["gelu"], WITHOUT_CUDA)
        assert folder.parent == Path("/home/of/mine/.cache/opproof")


def open_to_all(path: Path) -> str:
    path.chmod(0o777)
    return "everybody can write to it"


def given_away(path: Path) -> str:
    if os.geteuid() != 0:
        pytest.skip("LOUD: not root, so no file of another user: it is NOT tested")
    os.chown(path, 12345, -1)
    return "belongs to another user"


@pytest.mark.parametrize("name", ["", "0", "0/build", "0/build/aten_gelu"])
@pytest.mark.parametrize("spoil", [open_to_all, given_away])
def test_a_cache_that_others_can_change_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], str], name: str
) -> None:
    monkeypatch.setattr(loading, "_cache", lambda entry, choice: cache / "0")
    monkeypatch.setattr(build, "_compile", None)
    path = cache / name
    path.mkdir(parents=True)
    message = spoil(path)
    with pytest.raises(UserError) as raised:
        opproof.load("cpp")
    assert str(raised.value).startswith(f"{path}: {message}")


def test_two_processes_that_compile_at_once_do_not_meet(cache: Path) -> None:
    code = QUICK + "print(opproof.load('cpp'))"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in started:
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out) == (0, "Operator('cpp')\n"), err
    (folder,) = cache.iterdir()
    library.read_record(folder, "aten_gelu")
    left = {path.name for path in (folder / "build" / "aten_gelu").iterdir()}
    assert left == {"build.json", "aten_gelu.so"}


def test_without_a_compiler_it_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(UserError, match=r"no C\+\+ compiler: '/nowhere/c\+\+' is not on"):
        opproof.load("fused")
    assert not cache.exists()


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, opproof; opproof.load; print('torch' in sys.modules)"
    assert run(code).stdout == "False\n"


# What it can do -----------------------------------------------------------------------------------


@pytest.fixture
def model(results: Path) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        opproof.load("pooled"),
        nn.Linear(2, 3),
        opproof.load("fused"),
    )


def test_it_has_no_parameters_and_moves_with_the_model(model: nn.Module) -> None:
    assert [*model.state_dict()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert not opproof.load("fused").state_dict()
    assert model.double().eval()(points().double()).dtype == torch.float64


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "copy", "pickle"],
)
def test_a_copy_computes_the_same(model: nn.Module, copied) -> None:
    twin = copied(model)
    assert twin is not model
    assert torch.equal(twin(points()), model(points()))
    assert [repr(layer) for layer in twin] == [repr(layer) for layer in model]


def test_a_copy_of_a_model_looks_for_nothing(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_resolve", None)
    copy.deepcopy(model)


def test_a_saved_model_is_loaded_in_a_new_process(model: nn.Module, tmp_path: Path) -> None:
    torch.save((model, points(), model(points())), tmp_path / "model.pt")
    code = """
import torch
model, x, y = torch.load("model.pt", weights_only=False)
assert torch.equal(model(x), y)
print(model[1], model[3])
"""
    assert run(code).stdout == "Operator('pooled') Operator('fused')\n"


def test_one_of_a_configuration_is_saved_with_its_configuration(results: Path) -> None:
    Path("mine.py").write_text("def triple(x): return 3 * x\n")
    Path("mine.yaml").write_text("backends: [{name: mine, op: 'mine:triple'}]")
    buffer = io.BytesIO()
    torch.save(opproof.load("mine", "mine.yaml"), buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=False)(torch.ones(1)).tolist() == [3]


def test_it_trains_compiled_and_under_autocast(model: nn.Module) -> None:
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for called in (compiled, model):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = called(points())
        assert y.dtype == torch.bfloat16
        model.zero_grad()
        y.float().square().sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_it_maps_over_a_batch(results: Path) -> None:
    for name in ("fused", "pooled"):
        operator = opproof.load(name)
        assert torch.equal(
            torch.vmap(operator, in_dims=1, out_dims=1)(points()), operator(points())
        )


def test_with_the_defaults_a_new_user_has_it_at_once(cache: Path) -> None:
    """As in the README: nothing built, nothing configured; with CUDA where there is nvcc."""
    code = "import opproof, torch; print(opproof.load('pooled')(torch.zeros(2, 2)))"
    assert run(code).stdout == "tensor([[0.]])\n"
    (folder,) = cache.iterdir()
    record = library.read_record(folder, "gelu")
    reason = build._why_without_cuda(LIBRARIES["gelu"], loading._DEFAULT_BUILD)
    assert record["cuda"]["built"] == (reason is None)
