"""Fits the coefficients of gelu.h and of the exponential in scalar.h, and prints them.

    python csrc/activations/fit_gelu.py

Each polynomial is the minimax one by relative error (Lawson's algorithm: least squares, reweighted
by the error), its coefficients rounded to float one after another, from the largest term down, the
rest being fitted again after each. P and K were chosen among some 200 pairs by the largest error of
the result, in units in the last place.
"""

from collections.abc import Callable

import mpmath
import numpy as np
from mpmath import mpf

mpmath.mp.dps = 40

# In gelu.h, w = a / (K (1 + P a)); tried: P from 9/32 to 7/16, K from 2 to 15/4.
P = mpf(11) / 32
K = mpf(7) / 2

DENSITY = 1 / mpmath.sqrt(2 * mpmath.pi)

Function = Callable[[mpf], mpf]


def scaled_tail(a: mpf) -> mpf:
    """Return R(a) = Q(a) e^(a^2/2), Q being the normal distribution's upper tail."""
    return mpmath.erfc(a / mpmath.sqrt(2)) * mpmath.exp(a * a / 2) / 2


ROOT = mpmath.findroot(lambda a: scaled_tail(a) - a * DENSITY, 0.75)


def value_factor(y: mpf) -> mpf:
    """Return G = K R(a) / y at a = (1 / y - 1) / P."""
    return K * scaled_tail((1 / y - 1) / P) / y


def derivative_factor(y: mpf) -> mpf:
    """Return W = 2 (R(a) - a / sqrt(2 pi)) / (ROOT - a) at a = (1 / y - 1) / P."""
    a = (1 / y - 1) / P
    return 2 * (scaled_tail(a) - a * DENSITY) / (ROOT - a)


def fit_in_y(function: Function, largest: mpf) -> tuple[float, list[float], float]:
    """Fit 1 + c1 d + ... + c8 d^8 with d = y - y0, function(y0) = 1, for a up to `largest`.

    Returns 1 - y0, the coefficients, and the largest relative error.
    """
    centre = mpmath.findroot(lambda y: function(y) - 1, 0.6)
    one_minus_y0 = to_float(1 - centre)
    points = chebyshev(1 / (1 + P * largest), mpf(1))
    coefficients, error = fit(
        [y - (1 - mpf(one_minus_y0)) for y in points],
        [function(y) for y in points],
        {0: 1.0},
        degree=8,
    )
    return one_minus_y0, coefficients, error


def fit_exponential() -> tuple[list[float], float]:
    """Fit e^(-u/2) by 1 - u/2 + c2 u^2 + ... + c6 u^6 for |u| <= ln 2 and a rounding of n."""
    limit = mpmath.log(2) * mpf("1.0001")
    points = chebyshev(-limit, limit)
    return fit(points, [mpmath.exp(-u / 2) for u in points], {0: 1.0, 1: -0.5}, degree=6)


def chebyshev(low: mpf, high: mpf, count: int = 241) -> list[mpf]:
    """Return points of [low, high], denser towards its ends."""
    angles = [mpmath.pi * index / (count - 1) for index in range(count)]
    return [(low + high) / 2 + (high - low) / 2 * mpmath.cos(angle) for angle in angles]


def fit(
    points: list[mpf], values: list[mpf], fixed: dict[int, float], degree: int
) -> tuple[list[float], float]:
    """Return float coefficients, lowest first, the `fixed` at their head, and the largest error."""
    x = np.array([long_double(point) for point in points])
    f = np.array([long_double(value) for value in values])
    fixed = dict(fixed)
    while len(fixed) <= degree:
        coefficients = minimax(x, f, fixed, degree)
        lowest = min(set(coefficients) - set(fixed))
        fixed[lowest] = float(np.float32(coefficients[lowest]))
    error = np.abs(polynomial(x, fixed) / f - 1).max()
    return [fixed[power] for power in range(degree + 1)], float(error)


def minimax(
    x: np.ndarray, f: np.ndarray, fixed: dict[int, float], degree: int
) -> dict[int, np.longdouble]:
    """Return the coefficients of the least relative error, some of them being fixed."""
    powers = [power for power in range(degree + 1) if power not in fixed]
    basis = np.stack([x**power for power in powers], axis=1) / f[:, None]
    wanted = 1 - polynomial(x, fixed) / f
    weights = np.ones_like(x)
    best, least = None, np.inf
    for _ in range(40):
        root = np.sqrt(weights)
        solution = least_squares(basis * root[:, None], wanted * root)
        error = np.abs(basis @ solution - wanted)
        if error.max() < least:
            best, least = solution, error.max()
        weights *= error
        weights /= weights.max()
    return {power: np.longdouble(value) for power, value in fixed.items()} | dict(
        zip(powers, best, strict=True)
    )


def least_squares(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve by Householder's reflections: numpy's own knows no long double."""
    matrix, right = matrix.copy(), right.copy()
    columns = matrix.shape[1]
    for column in range(columns):
        mirror = matrix[column:, column].copy()
        mirror[0] += np.copysign(np.sqrt(mirror @ mirror), mirror[0])
        mirror /= np.sqrt(mirror @ mirror)
        matrix[column:, column:] -= 2 * np.outer(mirror, mirror @ matrix[column:, column:])
        right[column:] -= 2 * mirror * (mirror @ right[column:])
    solution = np.zeros(columns, np.longdouble)
    for row in reversed(range(columns)):
        rest = right[row] - matrix[row, row + 1 : columns] @ solution[row + 1 :]
        solution[row] = rest / matrix[row, row]
    return solution


def polynomial(x: np.ndarray, coefficients: dict[int, float]) -> np.ndarray:
    """Return the sum of coefficient x^power."""
    return sum((np.longdouble(c) * x**power for power, c in coefficients.items()), 0 * x)


def long_double(value: mpf) -> np.longdouble:
    """Round to numpy's long double."""
    return np.longdouble(mpmath.nstr(value, 25))


def to_float(value: mpf) -> float:
    """Round to float32."""
    return float(np.float32(float(value)))


def literal(value: float) -> str:
    """Write a float as gelu.h does."""
    mantissa, _, exponent = float(value).hex().partition("p")
    return f"{mantissa.rstrip('0').rstrip('.')}p{int(exponent):+d}f"


def main() -> None:
    """Print every constant, in the order of its use."""
    value = fit_in_y(value_factor, mpf("13.3"))
    derivative = fit_in_y(derivative_factor, mpf("13.6"))
    for name, (centre, coefficients, error) in {"G": value, "W": derivative}.items():
        print(f"{name}: 1 - y0 = {literal(centre)}; relative error {error:.2e}")
        print("  " + ", ".join(literal(c) for c in reversed(coefficients)))
    coefficients, error = fit_exponential()
    print(f"e^(-u/2): relative error {error:.2e}")
    print("  " + ", ".join(literal(c) for c in reversed(coefficients)))
    high = to_float(ROOT / 2)
    print(f"root / 2: {literal(high)} and {literal(to_float(ROOT / 2 - mpf(high)))}")
    print(f"1 / sqrt(2 pi): {literal(to_float(DENSITY))}")
    high = float.fromhex("0x1.62e4p+0")
    print(f"2 ln 2: {literal(high)} and {literal(to_float(2 * mpmath.log(2) - mpf(high)))}")


if __name__ == "__main__":
    main()
