"""The weak order of the equation of `adversarial_sgd`: how fast its error in mean and variance shrinks with eta."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dynat_core.theory.adversarial_sgd import Quadratic

Model = Callable[[float], Quadratic]  # eta -> the model
_SLOPES = (-1.0, 6.0)


@dataclass(frozen=True)
class Order:
    """A slope p of |error| = C eta^p with its 95 % interval."""

    slope: float
    low: float
    high: float


@dataclass(frozen=True)
class Errors:
    """How far the equation is from the steps at one time, against eta (m,), largest first.

    full, blind: exact, of the second-order equation and of the first-order one. measured, spread: signed errors of
    simulated runs and their standard errors; order: fitted to them.
    """

    etas: np.ndarray
    time: float
    full: np.ndarray
    blind: np.ndarray
    measured: np.ndarray
    spread: np.ndarray
    order: Order


def errors(model: Model, etas: Sequence[float], time: float, moment: str) -> Errors:
    """Everything about the error of one moment, "mean" or "variance"."""
    full, blind = weak_errors(model, etas, time, moment)
    measured, spread = measured_errors(model, etas, time, moment)
    return Errors(np.array(etas), time, full, blind, measured, spread, fitted_order(etas, measured, spread))


def weak_errors(
    model: Model, etas: Sequence[float], time: float, moment: str = "mean"
) -> tuple[np.ndarray, np.ndarray]:
    """|moment of the steps - moment of the equation| at `time` for each eta, closed forms: (second order, first order).

    moment: "mean" or "variance". Raises ValueError if `time` is not a whole number of steps of every eta.
    """
    full, blind = [], []
    for eta in etas:
        q, n = model(eta), round(time / eta)
        if not math.isclose(n * eta, time, rel_tol=1e-9):
            raise ValueError(f"{time:g} is not a whole number of steps of {eta:g}")
        steps, equation = (q.mean, q.equation_mean) if moment == "mean" else (q.variance, q.equation_variance)
        there = steps(np.float64(n))
        full.append(abs(there - equation(np.float64(time))))
        blind.append(abs(there - equation(np.float64(time), 1.0)))
    return np.array(full), np.array(blind)


def measured_errors(
    model: Model,
    etas: Sequence[float],
    time: float,
    moment: str = "mean",
    count: int = 20_000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Moment of `count` simulated paths minus that of the second-order equation, and its standard error, for each eta.

    Only the last place of each path is kept. Batches are drawn by their mean, which is all that a step depends on.
    """
    draw, errors, spread = np.random.default_rng(seed), [], []
    for eta in etas:
        q = model(eta)
        theta = np.full(count, q.start)
        for _ in range(round(time / eta)):
            theta += eta * q.kappa * (draw.normal(0, q.sigma / q.batch**0.5, count) - theta)
        if moment == "mean":
            errors.append(theta.mean() - float(q.equation_mean(np.float64(time))))
            spread.append(theta.std(ddof=1) / count**0.5)
        else:
            errors.append(theta.var(ddof=1) - float(q.equation_variance(np.float64(time))))
            spread.append(theta.var(ddof=1) * (2 / (count - 1)) ** 0.5)
    return np.array(errors), np.array(spread)


def fitted_order(etas: Sequence[float], errors: np.ndarray, spread: np.ndarray) -> Order:
    """The slope p of error = C eta^p, fitted to signed errors with known standard errors by least squares.

    Interval: the slopes whose chi squared is within 3.84 of the least, the likelihood's 95 % where errors are Gaussian.
    An end of it is infinite where the errors drown in their noise and the search (-1 to 6) ends first.
    """
    slopes = np.linspace(*_SLOPES, 1401)
    weighted = np.asarray(etas, dtype=np.float64) ** slopes[:, None] / spread
    aim = errors / spread
    c = (weighted @ aim) / np.square(weighted).sum(axis=1)
    chi = np.square(aim - c[:, None] * weighted).sum(axis=1)
    best = int(chi.argmin())
    inside = np.flatnonzero(chi <= chi[best] + 3.84)
    low, high = slopes[inside[0]], slopes[inside[-1]]
    return Order(
        float(slopes[best]),
        -math.inf if inside[0] == 0 else float(low),
        math.inf if inside[-1] == len(slopes) - 1 else float(high),
    )
