"""Functions of coordinates, as the `.osim` format has them, turned into arrays.

Every supported function is a sum of ``constant + gain * coordinate`` terms and of *curves*: piecewise
polynomials of one coordinate. SIMM splines, piecewise-linear functions and polynomials are all curves, so
that evaluating a model needs one code path and no look at the file format.

A function is described by a dict with exactly one key::

    {"constant": c}
    {"linear": [gain_1, ..., gain_n, c]}             one gain a coordinate, then the constant
    {"polynomial": [c_n, ..., c_1, c_0]}             highest power first, as in OpenSim
    {"natural_cubic_spline": {"x": [...], "y": [...]}}    OpenSim's SimmSpline
    {"piecewise_linear": {"x": [...], "y": [...]}}
    {"multiplier": {"scale": s, "function": {...}}}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pose2sim_biokin.errors import BiokinError


@dataclass(frozen=True, eq=False)
class Curve:
    """Piecewise polynomial of one coordinate.

    Piece ``k`` holds where ``k`` knots are <= x; its value is
    ``sum_p coefficients[k, p] * (x - origins[k]) ** p``.

    Attributes:
        knots: (K,) ascending, in the coordinate's unit.
        origins: (K + 1,) local origin of each piece.
        coefficients: (K + 1, P) ascending powers.
    """

    knots: np.ndarray
    origins: np.ndarray
    coefficients: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Value at x, any shape."""
        x = np.asarray(x, dtype=np.float64)
        piece = np.searchsorted(self.knots, x, side="right")
        dx = x - self.origins[piece]
        value = np.zeros_like(x)
        for power in range(self.coefficients.shape[1] - 1, -1, -1):
            value = value * dx + self.coefficients[piece, power]
        return value

    def scaled(self, factor: float) -> Curve:
        """The same curve with its values multiplied by a factor."""
        return Curve(self.knots, self.origins, self.coefficients * factor)


@dataclass(frozen=True)
class Terms:
    """A function in normal form: ``constant + sum(gain * q[i]) + sum(curve(q[i]))``.

    Attributes:
        constant: the part that depends on nothing.
        linear: pairs (coordinate index, gain).
        curves: pairs (coordinate index, Curve).
    """

    constant: float = 0.0
    linear: tuple[tuple[int, float], ...] = ()
    curves: tuple[tuple[int, Curve], ...] = ()


def simm_spline(x: Sequence[float], y: Sequence[float]) -> Curve:
    """OpenSim's SimmSpline: a C2 cubic spline, extrapolated linearly.

    Its end conditions are not the natural ones: the third derivatives at the ends are those of the cubics
    through the first and the last four points (Forsythe, Malcolm, Moler, "Computer Methods for Mathematical
    Computations", 1977; OpenSim/Common/SimmSpline.cpp). Two points give a line; three points have no fourth,
    and the third derivatives at the ends are those of that program: zero.
    """
    x = np.asarray(x, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64)
    n = len(x)
    h = np.diff(x)
    slope = np.diff(y) / h
    if n == 2:
        sigma = np.zeros(2)
    else:
        # Unknowns: sigma, a sixth of the second derivatives at the knots; tridiagonal and symmetric.
        system = np.zeros((n, n))
        right = np.zeros(n)
        for i in range(1, n - 1):
            system[i, i - 1 : i + 2] = h[i - 1], 2.0 * (h[i - 1] + h[i]), h[i]
            right[i] = slope[i] - slope[i - 1]
        system[0, :2] = -h[0], h[0]
        system[-1, -2:] = h[-1], -h[-1]
        if n > 3:
            first = right[2] / (x[3] - x[1]) - right[1] / (x[2] - x[0])
            last = right[n - 2] / (x[n - 1] - x[n - 3]) - right[n - 3] / (x[n - 2] - x[n - 4])
            right[0] = first * h[0] ** 2 / (x[3] - x[0])
            right[-1] = -last * h[-1] ** 2 / (x[n - 1] - x[n - 4])
        sigma = np.linalg.solve(system, right)
    coefficients = np.zeros((n + 1, 4))
    inner = coefficients[1:n]
    inner[:, 0] = y[:-1]
    inner[:, 1] = slope - h * (sigma[1:] + 2.0 * sigma[:-1])
    inner[:, 2] = 3.0 * sigma[:-1]
    inner[:, 3] = np.diff(sigma) / h
    coefficients[0, :2] = y[0], inner[0, 1]
    coefficients[n, :2] = y[-1], slope[-1] + h[-1] * (sigma[-2] + 2.0 * sigma[-1])
    return Curve(x, np.concatenate([x[:1], x]), coefficients)


def piecewise_linear(x: Sequence[float], y: Sequence[float]) -> Curve:
    """Straight lines between the points; the outer lines go on beyond the ends, as in OpenSim."""
    x = np.asarray(x, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64)
    slope = np.diff(y) / np.diff(x)
    coefficients = np.zeros((len(x) + 1, 2))
    coefficients[:, 0] = np.concatenate([y[:1], y])
    coefficients[:, 1] = np.concatenate([slope[:1], slope, slope[-1:]])
    return Curve(x, np.concatenate([x[:1], x]), coefficients)


def polynomial(coefficients: Sequence[float]) -> Curve:
    """Polynomial with the highest power first, as OpenSim's PolynomialFunction has it."""
    ascending = np.asarray(coefficients, dtype=np.float64)[::-1]
    return Curve(np.zeros(0), np.zeros(1), ascending[None].copy())


def function_terms(function: dict, coordinates: Sequence[int], where: str) -> Terms:
    """Normal form of a function of the given coordinates.

    Args:
        function: dict with one key, see the module's docstring.
        coordinates: indices of the coordinates that the function takes, in order.
        where: what is being read, for error messages.

    Raises:
        BiokinError: the function is unknown, or does not fit the number of coordinates, or its points are
            too few or not ascending.
    """
    if not isinstance(function, dict) or len(function) != 1:
        raise BiokinError(f"{where}: a function must be a dict with one key, found {function!r}")
    kind, value = next(iter(function.items()))
    if kind == "constant":
        return Terms(constant=float(value))
    if kind == "multiplier":
        inner = function_terms(value["function"], coordinates, where)
        scale = float(value["scale"])
        return Terms(
            inner.constant * scale,
            tuple((i, gain * scale) for i, gain in inner.linear),
            tuple((i, curve.scaled(scale)) for i, curve in inner.curves),
        )
    if kind == "linear":
        if len(value) != len(coordinates) + 1:
            raise BiokinError(
                f"{where}: a linear function of {len(coordinates)} coordinate(s) needs "
                f"{len(coordinates) + 1} coefficients, found {len(value)}"
            )
        gains = tuple((i, float(g)) for i, g in zip(coordinates, value[:-1], strict=True))
        return Terms(float(value[-1]), gains)
    if kind not in ("polynomial", "natural_cubic_spline", "piecewise_linear"):
        raise BiokinError(
            f"{where}: unknown function {kind!r}; known: constant, linear, multiplier, polynomial, "
            "natural_cubic_spline, piecewise_linear"
        )
    if len(coordinates) != 1:
        raise BiokinError(f"{where}: {kind} takes one coordinate, found {len(coordinates)}")
    if kind == "polynomial":
        return Terms(curves=((coordinates[0], polynomial(value)),))
    x, y = np.asarray(value["x"], dtype=np.float64), np.asarray(value["y"], dtype=np.float64)
    if len(x) != len(y) or len(x) < 2 or not np.all(np.diff(x) > 0):
        raise BiokinError(
            f"{where}: {kind} needs two or more points with ascending x and as many y, "
            f"found {len(x)} x and {len(y)} y"
        )
    make = simm_spline if kind == "natural_cubic_spline" else piecewise_linear
    return Terms(curves=((coordinates[0], make(x, y)),))
