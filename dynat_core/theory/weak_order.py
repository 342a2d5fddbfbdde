"""The weak order of the equation of `adversarial_sgd`: how fast its error in mean and variance shrinks with eta."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dynat_core.theory.adversarial_sgd import Quadratic

Model = Callable[[float], Quadratic]  # eta -> the model


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
    """The slope of |error| = C eta^p, fitted to signed errors with known standard errors (Gauss and Newton).

    The interval is that of independent Gaussian errors, linearised at the fit. Errors must share a sign on the whole:
    with C's sign taken from the most certain one.
    """
    eta, weight = np.asarray(etas, dtype=np.float64), 1 / np.maximum(spread, 1e-300)
    sure = int(np.argmax(np.abs(errors) * weight))
    sign = float(np.sign(errors[sure]))
    p, c = 2.0, sign * errors[sure] / eta[sure] ** 2.0
    slopes = np.empty((len(eta), 2))
    for _ in range(60):
        model = c * eta**p
        slopes[:, 0], slopes[:, 1] = model * np.log(eta) * weight, eta**p * weight
        step = np.linalg.lstsq(slopes, (sign * errors - model) * weight, rcond=None)[0]
        p, c = p + step[0], max(c + step[1], 0.1 * c)
        if abs(step[0]) < 1e-12:
            break
    half = 1.96 * float(np.linalg.inv(slopes.T @ slopes)[0, 0]) ** 0.5
    return Order(float(p), float(p) - half, float(p) + half)
