"""Adversarial SGD on a small network beside the equation's drift: two classes of 8x8 digits, eight tanh units, numpy.

Every step sees all images, so that what is compared is the drift alone: dTheta = -grad[f + (eta/2) K G +
(eta/4) ||grad f||^2] dt with G = E ||grad_x J||^2 (worked out here; the equation's noise term is left out).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

IMAGES = Path(__file__).resolve().with_name("two_digits.npz")  # the first 60 threes and eights of scikit-learn's digits
HIDDEN = 8
_NEAR = 1e-4  # half the distance of central differences
_GRID = 0.05  # time between the points at which the equation is known; Runge and Kutta's method is exact enough there

Weights = np.ndarray  # (d,) all weights as one vector


@dataclass(frozen=True)
class Network:
    """J(theta, x) = log(1 + exp(-y h(x))), h = <v, tanh(W x + b)> + c. x: (n, 64) in [0, 1]; y: (n,) of -1 and 1."""

    x: np.ndarray
    y: np.ndarray

    def start(self, seed: int = 0) -> Weights:
        """Normal weights, smaller where more of them meet."""
        draw, d = np.random.default_rng(seed), self.x.shape[1]
        parts = draw.normal(size=(HIDDEN, d)) / d**0.5, np.zeros(HIDDEN), draw.normal(size=HIDDEN) / HIDDEN**0.5, [0.0]
        return np.concatenate([np.ravel(part) for part in parts])

    def _parts(self, theta: Weights) -> tuple[np.ndarray, ...]:
        d = self.x.shape[1]
        w, b, v, c = np.split(theta, np.cumsum([HIDDEN * d, HIDDEN, HIDDEN]))
        return w.reshape(HIDDEN, d), b, v, c

    def loss(self, theta: Weights) -> float:
        """f, the mean of J over the clean images."""
        w, b, v, c = self._parts(theta)
        return float(np.logaddexp(0, -self.y * (np.tanh(self.x @ w.T + b) @ v + c)).mean())

    def gradients(self, theta: Weights, z: np.ndarray) -> tuple[Weights, np.ndarray]:
        """(the mean over the images of grad_theta J, grad_x J of each (n, 64)) at the points z."""
        w, b, v, c = self._parts(theta)
        a = np.tanh(z @ w.T + b)
        out = -self.y / (1 + np.exp(self.y * (a @ v + c)))
        inside = out[:, None] * v * (1 - a * a)
        n = len(z)
        mean = np.concatenate([(inside.T @ z).ravel(), inside.sum(0), out @ a, [out.sum()]]) / n
        return mean, inside @ w


def two_digits() -> Network:
    """The shipped images."""
    with np.load(IMAGES, allow_pickle=False) as held:
        return Network(held["pixels"] / 16.0, np.where(held["digit"] == 8, 1.0, -1.0))


# ------------------------------------------------------------------------------------------------------ the attacks

Attack = Callable[[Network, Weights], np.ndarray]


def plain(eta: float, ascents: int) -> Attack:
    """The attack of the equation: `ascents` steps of eta along the gradient itself, no projection."""

    def attack(net: Network, theta: Weights) -> np.ndarray:
        z = net.x
        for _ in range(ascents):
            z = z + eta * net.gradients(theta, z)[1]
        return z

    return attack


def signed(ascents: int, eps: float = 0.15) -> Attack:
    """PGD as it is used: steps of eps/4 along the gradient's sign, kept in the L-inf ball and in [0, 1]."""
    alpha = eps / 4

    def attack(net: Network, theta: Weights) -> np.ndarray:
        z = net.x
        for _ in range(ascents):
            z = z + alpha * np.sign(net.gradients(theta, z)[1])
            z = np.clip(np.clip(z, net.x - eps, net.x + eps), 0.0, 1.0)
        return z

    return attack


def descent(net: Network, attack: Attack, eta: float, steps: int) -> np.ndarray:
    """Clean losses (steps + 1,) of theta <- theta - eta * mean grad_theta J(theta, attacked images)."""
    theta = net.start()
    losses = [net.loss(theta)]
    for _ in range(steps):
        theta = theta - eta * net.gradients(theta, attack(net, theta))[0]
        losses.append(net.loss(theta))
    return np.array(losses)


# ----------------------------------------------------------------------------------------------------- the equation


def drift(net: Network, theta: Weights, eta: float, ascents: int) -> Weights:
    """-grad[f + (eta/2) K G + (eta/4) ||grad f||^2]; second derivatives by central differences of gradients."""
    slope, g = net.gradients(theta, net.x)
    if eta == 0:
        return -slope
    mixed = (net.gradients(theta, net.x + _NEAR * g)[0] - net.gradients(theta, net.x - _NEAR * g)[0]) / (2 * _NEAR)
    bend = (net.gradients(theta + _NEAR * slope, net.x)[0] - net.gradients(theta - _NEAR * slope, net.x)[0]) / (
        2 * _NEAR
    )
    return -(slope + eta * ascents * mixed + eta / 2 * bend)


def flow(net: Network, times: np.ndarray, eta: float, ascents: int) -> np.ndarray:
    """Clean losses along the equation's path at `times` (n,), 0 first; eta = 0 is the one blind to the attack."""
    grid = np.arange(0, times[-1] + 1.5 * _GRID, _GRID)
    theta, losses = net.start(), []
    for _ in grid:
        losses.append(net.loss(theta))
        theta = _ahead(lambda at: drift(net, at, eta, ascents), theta, _GRID)
    return np.interp(times, grid, losses)


def _ahead(speed: Callable[[Weights], Weights], theta: Weights, h: float) -> Weights:
    """One step of Runge and Kutta's fourth-order method."""
    a = speed(theta)
    b = speed(theta + h / 2 * a)
    c = speed(theta + h / 2 * b)
    return theta + h / 6 * (a + 2 * b + 2 * c + speed(theta + h * c))


# ---------------------------------------------------------------------------------------------- prediction against run


@dataclass(frozen=True)
class Changes:
    """Change of the clean loss per step, the mean over a time: of the runs, predicted with and without the terms in
    eta, and of runs with PGD; each (etas,), negative where the loss falls."""

    etas: np.ndarray
    time: float
    measured: np.ndarray
    full: np.ndarray
    blind: np.ndarray
    pgd: np.ndarray

    def errors(self) -> dict[str, np.ndarray]:
        """How far predictions are off, as shares of the measured change; `pgd`: the full equation, of the runs with
        PGD."""
        off = {name: np.abs(getattr(self, name) / self.measured - 1) for name in ("full", "blind")}
        return off | {"pgd": np.abs(self.full / self.pgd - 1)}


@lru_cache(maxsize=20)
def changes(ascents: int, etas: tuple[float, ...], time: float = 2.0) -> Changes:
    """Predicted and measured changes for each step size. etas: each divides `time`."""
    net, rows, ends = two_digits(), [], np.array([0.0, time])
    blind = flow(net, ends, 0.0, ascents)
    for eta in etas:
        steps = round(time / eta)
        plainly, with_pgd = (descent(net, attack, eta, steps) for attack in (plain(eta, ascents), signed(ascents)))
        paths = plainly, flow(net, ends, eta, ascents), blind, with_pgd
        rows.append([(losses[-1] - losses[0]) / steps for losses in paths])
    return Changes(np.array(etas), time, *np.array(rows).T)


@dataclass(frozen=True)
class Paths:
    """Clean losses (steps + 1,) step by step: of the run, of the equation with and without its terms in eta, and of a
    run with PGD."""

    measured: np.ndarray
    full: np.ndarray
    blind: np.ndarray
    pgd: np.ndarray


def paths(eta: float, ascents: int, steps: int) -> Paths:
    """The losses of one step size."""
    net, times = two_digits(), eta * np.arange(steps + 1)
    runs = (descent(net, attack, eta, steps) for attack in (plain(eta, ascents), signed(ascents)))
    measured, with_pgd = runs
    return Paths(measured, flow(net, times, eta, ascents), flow(net, times, 0.0, ascents), with_pgd)
