"""The truth that verification holds results against, its points, and how it counts errors."""

import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor

from opproof.errors import BackendError
from opproof.settings import GELU
from opproof.verify import accuracy, checks, points, repeat, truth
from opproof.verify.evaluation import DIRECTIONS, evaluate
from opproof.verify.points import Density
from tests.unit.verdicts import CPU
from tests.unit.wrong_operators import Composed
from tests.unit.wrong_pooled import right as composition

REGIONS = ["[0, 12]", "[-1, 0]", "[-3, -1]", "[-5, -3]", "[-12, -5]"]
GELU_TRUTH = truth.of(GELU)
NO_POINTS = Density(fine=1, coarse=1, float64=1)


@pytest.mark.parametrize("low, high", [(-12, 12), (-12, -11.9), (-1, 0), (-1e-3, 1e-3)])
def test_truth_for_float32_has_thirteen_digits(low: float, high: float) -> None:
    x = random_points(low, high).float()
    observed, expected = GELU_TRUTH.at(x), many_digits(x)
    for direction in DIRECTIONS:
        torch.testing.assert_close(
            observed[direction], expected[direction], rtol=1e-13, atol=1e-16 * (high > 1)
        )


@pytest.mark.parametrize("low, high", [(-12, 12), (-0.7518, -0.7517), (-1e-300, 1e-300)])
def test_truth_for_float64_is_right_to_the_last_bit(low: float, high: float) -> None:
    x = random_points(low, high)
    observed, expected = GELU_TRUTH.at(x), many_digits(x)
    for direction in DIRECTIONS:
        assert torch.equal(observed[direction], expected[direction])


@pytest.mark.parametrize("dtype", points.DTYPES, ids=str)
def test_truth_is_exact_at_zero(dtype: torch.dtype) -> None:
    found = GELU_TRUTH.at(torch.zeros(1, dtype=dtype))
    assert (found["forward"].item(), found["backward"].item()) == (0.0, 0.5)


def test_the_minimum_is_the_root_of_the_derivative() -> None:
    (minimum,) = GELU_TRUTH.roots["backward"]
    assert GELU_TRUTH.roots["forward"] == ()
    with mpmath.workdps(30):
        root = mpmath.findroot(lambda t: mpmath.ncdf(t) + t * mpmath.npdf(t), -0.75)
    assert float(root) == pytest.approx(minimum, rel=2e-15)


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (3, 5, 7), (0, 1, 4, 4)])
def test_truth_of_pooled_is_autograds_in_float64(shape: tuple[int, ...]) -> None:
    x = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grad = torch.rand(*shape[:-2], shape[-2] // 2, shape[-1] // 2, dtype=torch.float64)
    found, expected = GELU_TRUTH.pooled(x, grad), evaluate(composition, x, grad, tuple(grad.shape))
    for direction in DIRECTIONS:
        torch.testing.assert_close(found[direction], expected[direction], rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", points.NARROW, ids=str)
def test_every_16_bit_float_is_a_point(dtype: torch.dtype) -> None:
    found = torch.cat(
        [x for low, high in truth.REGIONS for x in points.chunks(dtype, low, high, points.USUAL)]
    )
    patterns = torch.arange(-(2**15), 2**15).to(torch.int16)
    values = patterns.view(dtype)
    assert set(found.view(torch.int16).tolist()) == set(patterns[values.abs() <= 12].tolist())


@pytest.mark.parametrize("low, high", truth.REGIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_points_cover_a_region_from_0_outwards_and_its_ends(
    dtype: torch.dtype, low: float, high: float
) -> None:
    density = Density(fine=100_003, coarse=9_000_001, float64=11)
    x = torch.cat([*points.chunks(dtype, low, high, density)])
    assert x.dtype == dtype
    assert (x.min().item(), x.max().item()) == (low, high)
    assert bool((x.abs().diff() >= 0).all())
    if dtype == torch.float32:
        gaps = x.abs().view(torch.int32).diff()
        assert gaps.max() == (9_000_001 if 0.0 in (low, high) else 100_003)
        smallest = x.abs()[x != 0].min().item()
        assert (smallest < torch.finfo(dtype).tiny * 4) == (0.0 in (low, high))


def test_a_thorough_sweep_takes_every_float32_once() -> None:
    """In one region, which has chunks enough."""
    wanted = torch.tensor([3.0, 5.0]).view(torch.int32).tolist()
    x = torch.cat([*points.chunks(torch.float32, -5.0, -3.0, points.THOROUGH)])
    assert torch.equal(
        x.abs().view(torch.int32), torch.arange(wanted[0], wanted[1] + 1, dtype=torch.int32)
    )


@pytest.mark.parametrize("dtype", points.DTYPES, ids=str)
def test_a_unit_is_the_distance_to_the_next_float(dtype: torch.dtype) -> None:
    info = torch.finfo(dtype)
    x = torch.tensor([0.0, 1.0, 1.5, -12.0, info.tiny, info.tiny / 2], dtype=torch.float64)
    place = [info.tiny * info.eps, info.eps, info.eps, 8 * info.eps, *[info.tiny * info.eps] * 2]
    assert accuracy.units(x, dtype).tolist() == place


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("at", "ulps", "regions"),
    [
        (-12, 1, ["[-12, -5]"]),
        (-5, 4, ["[-12, -5]", "[-5, -3]"]),
        (-4, 3, ["[-5, -3]"]),
        (-3, -2, ["[-5, -3]", "[-3, -1]"]),
        (12, -7, ["[0, 12]"]),
    ],
)
def test_errors_are_counted_in_the_last_place_of_the_truth(
    monkeypatch: pytest.MonkeyPatch, direction: str, at: int, ulps: int, regions: list[str]
) -> None:
    exact = GELU_TRUTH.at(grid(torch.float64))[direction][at + 12]
    unit = accuracy.units(exact, torch.float64)
    found = errors_with(monkeypatch, direction, at, (exact + ulps * unit).item())
    absolute = abs(ulps) * unit.item()
    one = {"absolute": absolute, "relative": absolute / abs(exact.item()), "ulp": abs(ulps)}
    assert (found["max_absolute"], found["max_excess"]) == (absolute, absolute)
    for region, worst in found["regions"].items():
        wrong = region in regions
        assert worst == {**(one if wrong else dict.fromkeys(one, 0.0)), "x": worst["x"]}
        assert not wrong or worst["x"] == at
    place = -1.0 if direction == "backward" else None
    assert found["near_root"] == {"absolute": 0.0, "x": place}


def test_the_root_of_the_derivative_has_a_row_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """-1 lies within 0.3 of it."""
    exact = GELU_TRUTH.at(grid(torch.float64))["backward"][11].item()
    found = errors_with(monkeypatch, "backward", -1, exact + 2.0**-20)
    assert found["near_root"] == {"absolute": 2.0**-20, "x": -1.0}
    assert found["max_absolute"] == 2.0**-20
    assert [worst["ulp"] for worst in found["regions"].values()] == [0.0] * 5
    found = errors_with(monkeypatch, "forward", -1, -1.0)
    assert found["regions"]["[-1, 0]"]["ulp"] > 1e15


@pytest.mark.parametrize("result", [math.nan, math.inf, -math.inf])
def test_errors_are_infinite_where_a_result_is_not_finite(
    monkeypatch: pytest.MonkeyPatch, result: float
) -> None:
    found = errors_with(monkeypatch, "forward", -2, result)
    assert found["max_absolute"] == found["max_excess"] == math.inf
    assert [name for name, worst in found["regions"].items() if worst["absolute"]] == ["[-3, -1]"]
    infinite = dict.fromkeys(("absolute", "relative", "ulp"), math.inf)
    assert found["regions"]["[-3, -1]"] == {**infinite, "x": -2.0}


def test_errors_are_relative_to_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    found = errors_with(monkeypatch, "forward", -4, 0.0)
    assert found["regions"]["[-5, -3]"]["relative"] == 1.0


def test_the_profile_has_the_largest_error_of_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {name: value.float() for name, value in GELU_TRUTH.at(grid(torch.float64)).items()}
    unit = accuracy.units(values["forward"].double(), torch.float32)[15].item()
    values["forward"][15] += 1234567 * unit
    values["backward"][24] = math.nan
    found = errors_of(monkeypatch, values)
    forward, backward = (found[direction]["profile"] for direction in DIRECTIONS)
    # A part is 0.12 wide: the integers are in 25 of 200, and -1 is too near the derivative's root.
    assert [part for part, worst in enumerate(forward) if worst is not None] == [
        min(199, int(place / 0.12)) for place in range(25)
    ]
    assert (forward[125], backward[199]) == (1_235_000, math.inf)
    assert (forward[91] is None, backward[91] is None) == (False, True)
    assert max(worst for worst in forward[:125] if worst is not None) <= 0.5


@pytest.mark.parametrize("dtype", points.DTYPES, ids=str)
def test_a_correctly_rounded_result_has_no_excess_and_half_a_unit(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    values = {name: value.to(dtype) for name, value in GELU_TRUTH.at(grid(torch.float64)).items()}
    found = errors_of(monkeypatch, values)
    for direction in DIRECTIONS:
        assert found[direction]["max_excess"] == 0.0
        assert max(worst["ulp"] for worst in found[direction]["regions"].values()) <= 0.5


FOUR_EPS = {dtype: 4 * torch.finfo(dtype).eps for dtype in points.DTYPES}


@pytest.mark.parametrize("dtype", points.DTYPES, ids=str)
@pytest.mark.parametrize(
    ("error", "baseline", "close"),
    [
        (1.0, 0.0, True),
        (1.0, 0.4, True),
        (1.001, 0.4, False),
        (1.001, 0.51, True),
        (4.0, 2.0, True),
        (4.001, 2.0, False),
        (math.inf, 2.0, False),
        (math.nan, 2.0, False),
    ],
)
def test_an_error_may_be_four_eps_or_twice_the_yardsticks(
    dtype: torch.dtype, error: float, baseline: float, close: bool
) -> None:
    """Errors in units of 4 eps; in 16 bits, beyond correct rounding."""
    unit = FOUR_EPS[dtype]
    narrow = dtype in points.NARROW
    measure, other = ("max_excess", "max_absolute")[:: 1 if narrow else -1]
    own = {"forward": {measure: baseline * unit, other: 1e9}}
    limit = checks.limit(own, GELU_TRUTH, dtype, "forward")
    observed = {"forward": {measure: error * unit, other: 1e9}}
    fault = checks.close_to_truth(observed, dtype, "forward", limit)
    assert (fault is None) == close
    assert close or fault == (
        f"the largest absolute error{' beyond correct rounding' * narrow} is {error * unit:.3g}, "
        f"above {max(1, 2 * baseline) * unit:.3g}"
    )


@pytest.mark.parametrize("own", [math.inf, math.nan, None])
def test_where_the_yardstick_gives_no_number_the_limit_is_four_eps(own: float | None) -> None:
    baseline = own and {"forward": {"max_absolute": own}}
    assert checks.limit(baseline, GELU_TRUTH, torch.float32, "forward") == FOUR_EPS[torch.float32]


@pytest.mark.parametrize(
    ("reference", "dtype", "limit"),
    [
        ("torch.nn.functional:silu", torch.float32, FOUR_EPS[torch.float32]),
        # Of 144 half a unit is 64 eps.
        (f"{__name__}:square_of_relu", torch.float32, 16 * FOUR_EPS[torch.float32]),
        # The truth may be off itself, by two units of 8 eps.
        ("torch.nn.functional:silu", torch.float64, 8 * FOUR_EPS[torch.float64]),
        (f"{__name__}:square_of_relu", torch.float16, FOUR_EPS[torch.float16]),
    ],
)
def test_the_least_limit_is_the_rounding_of_the_largest_truth(
    reference: str, dtype: torch.dtype, limit: float
) -> None:
    assert checks.limit(None, truth.of(reference), dtype, "forward") == limit


@pytest.mark.parametrize(
    ("reference", "forward", "backward"),
    [
        ("torch.nn.functional:silu", [], [-1.2784645427610738]),
        ("torch.nn.functional:relu", [], []),
        ("torch:sin", [k * math.pi for k in (-3, -2, -1, 1, 2, 3)], None),
    ],
)
def test_roots_of_a_reference_are_found_but_for_zero(
    reference: str, forward: list[float], backward: list[float] | None
) -> None:
    found = truth.of(reference).roots
    assert found["forward"] == pytest.approx(forward, rel=1e-12)
    assert backward is None or found["backward"] == pytest.approx(backward, rel=1e-12)


def square_of_relu(x: Tensor) -> Tensor:
    return torch.relu(x) ** 2


def infinite_far_out(x: Tensor) -> Tensor:
    return torch.where(x > 11, torch.inf, x)


def of_all_elements(x: Tensor) -> Tensor:
    return x * torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape)


def in_float32(x: Tensor) -> Tensor:
    return x.float()


@pytest.mark.parametrize(
    ("reference", "fault"),
    [
        ("torch:no_such", r"AttributeError: module 'torch' has no attribute 'no_such'$"),
        ("no_such:module", r"ModuleNotFoundError: No module named 'no_such'$"),
        (f"{__name__}:infinite_far_out", r"forward: not finite at x = 11\.0\d*; allowed: finite"),
        (f"{__name__}:of_all_elements", "forward: not a function of each element by itself$"),
        (f"{__name__}:in_float32", "ValueError: returns torch.float32 of shape "),
        ("torch:sign", None),
        ("torch:numel", "TypeError: returns int, not a tensor$"),
        ("torch:isnan", "ValueError: returns torch.bool of shape "),
    ],
)
def test_what_can_not_be_a_truth_is_refused(reference: str, fault: str | None) -> None:
    if fault is None:
        truth.of(reference)
        return
    with pytest.raises(BackendError) as raised:
        truth.of(reference)
    assert re.match(f"reference {reference}: {fault}", str(raised.value))


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        (math.nan, math.nan, None),
        (0.0, -0.0, "forward: 10007 of 10007 results differ between two calls"),
        (1.0, 1.0 + 2**-23, "forward: 10007 of 10007 results differ between two calls"),
    ],
)
def test_results_are_compared_bit_by_bit(first: float, second: float, fault: str | None) -> None:
    results = itertools.chain((first, second), itertools.repeat(second))

    def activation(x: Tensor) -> Tensor:
        result = next(results)
        return Composed.apply(x, lambda x: torch.full_like(x, result), torch.ones_like)

    assert repeat.repeatable(activation, torch.zeros(10_007)) == fault


def errors_with(
    monkeypatch: pytest.MonkeyPatch, direction: str, at: int, result: float
) -> dict[str, Any]:
    """Return the errors of what is exact in float64 but for one result."""
    values = {name: value.clone() for name, value in GELU_TRUTH.at(grid(torch.float64)).items()}
    values[direction][at + 12] = result
    return errors_of(monkeypatch, values)[direction]


def errors_of(monkeypatch: pytest.MonkeyPatch, values: dict[str, Tensor]) -> dict[str, Any]:
    """Return the errors of these results at the integers."""

    def chunks(dtype: torch.dtype, low: float, high: float, _: Density) -> Iterator[Tensor]:
        x = grid(dtype)
        yield x[(low <= x) & (x <= high)].flip(0)

    monkeypatch.setattr(points, "chunks", chunks)
    dtype = values["forward"].dtype
    return accuracy.errors(lookup(values), GELU_TRUTH, dtype, CPU, NO_POINTS)


def grid(dtype: torch.dtype) -> Tensor:
    return torch.arange(-12, 13).to(dtype)


def lookup(values: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Return an activation that has these results at the integers from -12 to 12."""
    return lambda x: Composed.apply(
        x,
        lambda x: values["forward"][x.long() + 12],
        lambda x: values["backward"][x.long() + 12],
    )


def random_points(low: float, high: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return low + (high - low) * torch.rand(100, generator=generator, dtype=torch.float64)


def many_digits(x: Tensor) -> dict[str, Tensor]:
    """Return the truth, the derivative being taken numerically: of no formula."""
    with mpmath.workdps(80):
        places = [mpmath.mpf(value) for value in x.tolist()]
        forward = [float(place * mpmath.ncdf(place)) for place in places]
        backward = [float(mpmath.diff(lambda t: t * mpmath.ncdf(t), place)) for place in places]
    return {
        "forward": torch.tensor(forward, dtype=torch.float64),
        "backward": torch.tensor(backward, dtype=torch.float64),
    }
