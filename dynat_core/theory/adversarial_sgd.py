"""Adversarial SGD on a quadratic loss and the stochastic differential equation beside it, all in closed form.

    J(theta, x) = (theta - x)^2 / 2,   x of mean 0 and variance sigma^2
    inner: z = x, `ascents` (K) times z <- z + eta_I dJ/dx   (no sign, no projection)
    outer: theta <- theta - u eta (mean over a batch of B of theta - z)

The attack multiplies theta - x by kappa = (1 + eta_I)^K, so theta_{n+1} = (1 - u eta kappa) theta_n + u eta kappa
times the batch's mean. The question is Gu and Guo's (arXiv 2105.08037); the formulas, for eta_I = eta, are worked out
here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Places = np.ndarray | np.floating  # steps or times


@dataclass(frozen=True)
class Quadratic:
    """The model. eta: learning rate and inner step size; ascents: K; batch: B; sigma: of the data; start: theta_0."""

    eta: float
    ascents: int = 3
    batch: int = 4
    sigma: float = 1.0
    start: float = 2.0

    @property
    def kappa(self) -> float:
        """By how much the attack multiplies the gradient."""
        return (1 + self.eta) ** self.ascents

    @property
    def factor(self) -> float:
        """a = 1 - eta kappa: what one step leaves of the mean; stable for |a| < 1."""
        return 1 - self.eta * self.kappa

    @property
    def rate(self) -> float:
        """lambda of the second-order equation, 1 + (K + 1/2) eta."""
        return 1 + (self.ascents + 0.5) * self.eta

    def mean(self, n: Places) -> Places:
        """E theta after n steps."""
        return self.factor**n * self.start

    def variance(self, n: Places) -> Places:
        """Var theta after n steps. Raises ValueError where a^2 = 1 and there is no such sum."""
        if abs(self.factor) == 1:
            raise ValueError("eta kappa is 0 or 2")
        noise = (self.eta * self.kappa) ** 2 * self.sigma**2 / self.batch
        return noise * (1 - self.factor ** (2 * n)) / (1 - self.factor**2)

    def equation_mean(self, t: Places, rate: float | None = None) -> np.ndarray:
        """The equation's mean at time t = eta n; rate: `self.rate`, or 1 for the one blind to the attack."""
        return np.exp(-(self.rate if rate is None else rate) * t) * self.start

    def equation_variance(self, t: Places, rate: float | None = None) -> np.ndarray:
        """The equation's variance at time t."""
        rate = self.rate if rate is None else rate
        return self.eta * self.sigma**2 / (2 * self.batch * rate) * (1 - np.exp(-2 * rate * t))

    def paths(self, steps: int, count: int, seed: int = 0, schedule: np.ndarray | None = None) -> np.ndarray:
        """Simulated theta (steps + 1, count), each step on its own batch of B Gaussian points, attacked K times.

        schedule: u (steps,) that multiplies the learning rate; 1 without it.
        """
        draw = np.random.default_rng(seed)
        theta = np.empty((steps + 1, count))
        theta[0] = self.start
        for n in range(steps):
            x = draw.normal(0, self.sigma, (self.batch, count))
            z = x
            for _ in range(self.ascents):
                z = z + self.eta * (z - theta[n])
            u = 1.0 if schedule is None else schedule[n]
            theta[n + 1] = theta[n] - u * self.eta * (theta[n] - z).mean(axis=0)
        return theta


# ------------------------------------------------------------------------------------------------- error against eta


@dataclass(frozen=True)
class Order:
    """A slope p of |error| = C eta^p with its 95 % interval."""

    slope: float
    low: float
    high: float


def weak_errors(
    model: Callable[[float], Quadratic], etas: Sequence[float], time: float, moment: str = "mean"
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
    model: Callable[[float], Quadratic],
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


# -------------------------------------------------------------------------------------------- learning-rate control


def settled(q: Quadratic) -> float:
    """M_inf = kappa eta sigma^2 / (2 B): where E theta^2 of the equation with u = 1 settles."""
    return q.kappa * q.eta * q.sigma**2 / (2 * q.batch)


def ruled(q: Quadratic, steps: int) -> np.ndarray:
    """The rule of the continuous problem, u (steps,): 1 until t*, then 1 / (1 + kappa (t - t*)), at t = eta n.

    t* = ln(M_0 / M_inf - 1) / (2 kappa). Where M_0 < 2 M_inf, u starts at M_0 / (2 M_inf) and decays from there.
    """
    ratio, t = q.start**2 / settled(q), q.eta * np.arange(steps)
    if ratio < 2:
        return 1 / (2 / max(ratio, 1e-12) + q.kappa * t)
    return 1 / (1 + q.kappa * np.maximum(t - math.log(ratio - 1) / (2 * q.kappa), 0.0))


def best(q: Quadratic, steps: int) -> np.ndarray:
    """The best u (steps,) of the discrete problem: u_n = min(1, M_n / (eta kappa (M_n + sigma^2 / B)))."""
    u, m = np.empty(steps), q.start**2
    for n in range(steps):
        u[n] = min(1.0, m / (q.eta * q.kappa * (m + q.sigma**2 / q.batch)))
        m = _next(q, m, u[n])
    return u


def second_moment(q: Quadratic, schedule: np.ndarray) -> np.ndarray:
    """M_n = E theta_n^2 (steps + 1,) under the schedule u (steps,), exactly."""
    m = np.empty(len(schedule) + 1)
    m[0] = q.start**2
    for n, u in enumerate(schedule):
        m[n + 1] = _next(q, m[n], u)
    return m


def _next(q: Quadratic, m: float, u: float) -> float:
    pull = u * q.eta * q.kappa
    return (1 - pull) ** 2 * m + pull**2 * q.sigma**2 / q.batch
