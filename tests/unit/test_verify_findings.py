"""What verification finds besides the verdict: each property of an operator that has it, or not."""

import re
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from opproof.settings import GELU
from opproof.verify import composition, gates, points, properties, same_bits, specials, truth
from opproof.verify.accuracy import name_of
from opproof.verify.outcome import Finding
from opproof.verify.points import Density
from tests.unit.verdicts import CPU
from tests.unit.wrong_operators import Composed, accurate, by_erfc, derivative, raises

MINIMUM = -0.751791524693564

pytestmark = pytest.mark.usefixtures("arithmetic")

GELU_TRUTH = truth.of(GELU)
LIMITS = gates.limits({}, GELU_TRUTH, torch.float32)


@pytest.fixture(autouse=True)
def sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "SPARSE", Density(fine=20_011, coarse=1_000_003, float64=0))


def limits_kept(x: Tensor) -> Tensor:
    """Be right at infinity, where x times 0 is not."""
    return Composed.apply(
        x,
        lambda x: torch.where(x.isinf(), x.clamp(min=0), accurate(x)),
        lambda x: torch.where(x.abs() > 100, (x > 0).to(x.dtype), derivative(x.double()).to(x)),
    )


def sign_lost(x: Tensor) -> Tensor:
    return limits_kept(x) + 0.0


def flushed(x: Tensor) -> Tensor:
    small = torch.finfo(x.dtype).tiny
    return Composed.apply(
        x,
        lambda x: torch.where(x.abs() < small, 0.0 * x, accurate(x)),
        lambda x: torch.full_like(x, 0.5),
    )


def overflowing(x: Tensor) -> Tensor:
    """Be infinite where x is the largest, in float32, and for more than one value."""
    largest = (x == torch.finfo(torch.float32).max) & (x.numel() > 1)
    return torch.where(largest, torch.inf, limits_kept(x))


@pytest.mark.parametrize(
    ("check", "activation", "detail"),
    [
        (specials.zeros, limits_kept, None),
        (specials.infinities, limits_kept, None),
        (specials.subnormals, limits_kept, None),
        (specials.largest, limits_kept, None),
        (specials.zeros, sign_lost, "f(-0) = 0 (float32, float64)"),
        (
            specials.infinities,
            by_erfc,
            "f'(inf) = nan (float32, float64); f(-inf) = nan (float32, float64); "
            "f'(-inf) = nan (float32, float64)",
        ),
        (
            specials.subnormals,
            flushed,
            "f(3 units) = 0 (float32, float64); f(-3 units) = -0 (float32, float64); ",
        ),
        (specials.largest, overflowing, "f(max) = inf (float32)"),
        (specials.zeros, raises, "ValueError: no GELU today"),
    ],
)
def test_what_comes_out_at_special_values_is_named(
    check: Callable[..., Finding], activation: Callable[[Tensor], Tensor], detail: str | None
) -> None:
    found = check(activation, GELU_TRUTH, [torch.float32, torch.float64], CPU)
    assert found.holds == (detail is None)
    assert found.detail == detail or found.detail.startswith(str(detail))


def test_of_what_is_wrong_at_special_values_six_are_shown() -> None:
    found = specials.subnormals(F.relu, GELU_TRUTH, points.DTYPES, CPU)
    assert found.detail and len(found.detail.split("; ")) == 7
    assert re.search(r"; \d+ more$", found.detail)


def lopsided(x: Tensor) -> Tensor:
    """Be wrong for positive x alone, by 20 units."""
    y = accurate(x)
    return torch.where(x > 1, y * (1 + 20 * torch.finfo(x.dtype).eps), y)


@pytest.mark.parametrize(
    ("check", "activation", "holds", "detail"),
    [
        (properties.odd_part, accurate, True, r"off by up to [01]\.?\d* ULP of x, at x = "),
        (properties.odd_part, lopsided, False, r"off by up to [34]\d\.?\d* ULP of x, at x = [1-9]"),
        (properties.odd_part, lambda x: accurate(x) * torch.nan, False, "off by up to inf ULP"),
        (properties.derivative_sum, accurate, True, r"off by up to [01]\.?\d* eps, at x = "),
        (properties.derivative_sum, lopsided, False, r"off by up to 2\d\.?\d* eps, at x = [1-9]"),
    ],
)
def test_identities_are_measured(
    check: Callable[..., Finding],
    activation: Callable[[Tensor], Tensor],
    holds: bool,
    detail: str,
) -> None:
    found = check(activation, CPU)
    assert found.holds == holds
    assert re.match(detail, str(found.detail))


@pytest.mark.parametrize(
    ("reference", "has_gate"),
    [(GELU, True), ("torch.nn.functional:silu", True), ("torch.nn.functional:mish", False)],
)
def test_identities_are_asked_of_what_has_them(reference: str, has_gate: bool) -> None:
    assert properties.has_gate(truth.of(reference)) is has_gate


def saw(low: float, high: float) -> Callable[[Tensor], Tensor]:
    """Return an operator that goes the wrong way in [low, high]."""
    return lambda x: torch.where((x >= low) & (x <= high), x + 0 * accurate(x), accurate(x))


@pytest.mark.parametrize(
    ("activation", "detail"),
    [
        (lambda x: (x - MINIMUM) ** 2, None),
        (lambda x: -((x - MINIMUM) ** 2), r"\d+ of \d+ steps go the wrong way, "),
        (saw(-5.0, -4.5), r"\d+ of \d+ steps go the wrong way, first at x = -(5|4\.9)"),
        (saw(-2.0001, -2.0), r".*\d+ of 655350 neighbouring floats go the wrong way, "),
    ],
)
def test_steps_the_wrong_way_are_counted(
    activation: Callable[[Tensor], Tensor], detail: str | None
) -> None:
    found = properties.monotone(activation, GELU_TRUTH, CPU)
    assert found.holds == (detail is None)
    assert detail is None or re.match(detail, str(found.detail))


@pytest.mark.parametrize("check", [specials.zeros, specials.infinities, specials.largest])
def test_special_values_are_those_of_the_reference(check: Callable[..., Finding]) -> None:
    """Of softplus ln 2 at 0 and 1/2, inf and 0 far out; GELU's are others."""
    softplus = truth.of("torch.nn.functional:softplus")
    assert check(F.softplus, softplus, [torch.float32], CPU).holds
    assert (
        not check(F.softplus, GELU_TRUTH, [torch.float32], CPU).holds or check is not specials.zeros
    )


def by_thread_count(x: Tensor) -> Tensor:
    return accurate(x) + 1e-7 * (torch.get_num_threads() == 3)


def by_alignment(x: Tensor) -> Tensor:
    return accurate(x) + 1e-7 * (x.data_ptr() % 16 != 0)


def by_size(x: Tensor) -> Tensor:
    return accurate(x) + 1e-7 * (x.numel() == 1)


def by_layout(x: Tensor) -> Tensor:
    return accurate(x) + 1e-7 * (not x.is_contiguous())


@pytest.mark.parametrize(
    ("check", "activation", "detail"),
    [
        (same_bits.thread_counts, accurate, None),
        (same_bits.alignment, accurate, None),
        (same_bits.layout, accurate, None),
        (
            same_bits.thread_counts,
            by_thread_count,
            r"forward: \d+ of 300007 results differ between 1 thread and 3$",
        ),
        (
            same_bits.alignment,
            by_alignment,
            r"forward: \d+ of 999 results differ for x\[1:\] from an aligned copy's$",
        ),
        (same_bits.layout, by_size, r"forward: \d+ of 768 results differ for each value alone$"),
        (
            same_bits.layout,
            by_layout,
            r"forward: \d+ of 768 results differ in channels_last; forward: \d+ of 768 results "
            "differ with gaps$",
        ),
    ],
)
def test_bits_are_compared(
    check: Callable[..., Finding], activation: Callable[[Tensor], Tensor], detail: str | None
) -> None:
    before = torch.get_num_threads()
    found = check(activation, CPU)
    assert torch.get_num_threads() == before
    assert found.holds == (detail is None)
    assert detail is None or re.match(detail, str(found.detail))


class Isa:
    """A library whose operator takes an instruction set, on a machine that has `highest`."""

    def __init__(self, name: str, highest: int, wrong: int | None) -> None:
        self.name, self.highest, self.level, self.wrong = name, highest, highest, wrong
        self.library = torch.library.Library(name, "DEF")
        self.library.define("use_isa(int level) -> int")
        self.library.impl("use_isa", self.use, "CompositeExplicitAutograd")
        self.library.define("forward(Tensor x) -> Tensor")
        self.library.impl("forward", self.forward, "CompositeImplicitAutograd")

    def use(self, level: int) -> int:
        self.level = self.highest if level < 0 else min(level, self.highest)
        return self.level

    def forward(self, x: Tensor) -> Tensor:
        return accurate(x) + 1e-7 * (self.level == self.wrong)


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> Iterator[Isa]:
    made = Isa("opproof_tests_isa", *request.param)
    yield made
    made.library._destroy()


@pytest.mark.parametrize(
    ("isa", "holds", "detail"),
    [
        ((2, None), True, r"baseline, AVX2 and AVX-512$"),
        ((1, None), True, r"baseline and AVX2$"),
        ((0, None), None, r"this machine has but one, baseline$"),
        ((2, 1), False, r"forward: \d+ of 10007 results differ between AVX2 and AVX-512$"),
        ((2, 0), False, r"forward: \d+ of 10007 results differ between baseline and AVX-512$"),
    ],
    indirect=["isa"],
)
def test_instruction_sets_are_compared(isa: Isa, holds: bool | None, detail: str) -> None:
    found = same_bits.instruction_sets(torch.ops.opproof_tests_isa.forward.default, CPU)
    assert found.holds is holds
    assert re.match(detail, str(found.detail))
    assert isa.level == isa.highest


def test_an_operator_without_instruction_sets_to_choose_says_so() -> None:
    found = same_bits.instruction_sets(F.gelu, CPU)
    assert found == Finding(None, "its namespace has no operator use_isa(int level) -> int")


def test_torch_compile_gives_eagers_results() -> None:
    found = composition.compiles(F.gelu, LIMITS, CPU)
    assert found.holds and re.match("bit by bit as eager$|forward differs", str(found.detail))


def breaks_the_graph(x: Tensor) -> Tensor:
    return F.relu(x) if x.sum() > 1e9 else F.gelu(x)


def wrong_when_compiled(x: Tensor) -> Tensor:
    return F.gelu(x) + 0.25 * torch.compiler.is_compiling()


def without_compiler(x: Tensor) -> Tensor:
    raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")


@pytest.mark.parametrize(
    ("activation", "holds", "detail"),
    [
        (breaks_the_graph, False, "Unsupported: "),
        (wrong_when_compiled, False, r"forward differs from eager by up to 0\.25; "),
        (without_compiler, None, "torch.compile finds no compiler$"),
    ],
)
def test_what_torch_compile_does_is_found(
    monkeypatch: pytest.MonkeyPatch,
    activation: Callable[[Tensor], Tensor],
    holds: bool | None,
    detail: str,
) -> None:
    """With a back end that compiles nothing, which is soon done."""
    compiling = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda *given, **options: compiling(*given, **options, backend="eager")
    )
    found = composition.compiles(activation, LIMITS, CPU)
    assert found.holds is holds
    assert re.match(detail, str(found.detail))


def by_dimension(x: Tensor) -> Tensor:
    return accurate(x) + (x.dim() == 1)


def in_bfloat16(x: Tensor) -> Tensor:
    return F.gelu(x).to(torch.bfloat16 if torch.is_autocast_enabled("cpu") else x.dtype)


@pytest.mark.parametrize(
    ("check", "activation", "detail"),
    [
        (composition.vmap, accurate, None),
        (composition.vmap, by_dimension, "forward: 296 of 296 results differ from one call's, "),
        (composition.vmap, lambda x: accurate(x) if x.sum() < 1e9 else x, "RuntimeError: "),
    ],
)
def test_vmap_is_compared(
    check: Callable[..., Finding], activation: Callable[[Tensor], Tensor], detail: str | None
) -> None:
    found = check(activation, CPU)
    assert found.holds == (detail is None)
    assert detail is None or str(found.detail).startswith(detail)


@pytest.mark.parametrize(
    ("activation", "detail"),
    [(F.gelu, None), (in_bfloat16, "torch.bfloat16 for torch.float32")],
)
def test_autocast_keeps_the_dtype(
    activation: Callable[[Tensor], Tensor], detail: str | None
) -> None:
    found = composition.autocast(activation, list(points.DTYPES), CPU)
    assert (found.holds, found.detail) == (detail is None, detail)


def test_dtypes_are_named_as_in_a_record() -> None:
    assert [name_of(dtype) for dtype in points.DTYPES[:2]] == ["float32", "float64"]
