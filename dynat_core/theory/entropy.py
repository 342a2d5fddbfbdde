"""Local entropy, what EntropySGD descends (Chaudhari et al. 2017): F(theta) = -tau^2 log of the integral over w of
exp(-(f(w) + gamma/2 ||w - theta||^2) / tau^2), with gradient gamma (theta - E w). Computed by quadrature, in
the plane."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Surface = Callable[[np.ndarray], np.ndarray]
_HALF_WIDTHS, _POINTS = 5.0, 51  # nearly all of the weight is within 5 widths tau / sqrt(gamma) of its peak


def local_entropy_gradient(f: Surface, theta: np.ndarray, gamma: float, tau: float) -> np.ndarray:
    """The gradient (n, 2) of the local entropy of a convex `f`, (..., 2) -> (...,), at theta (n, 2).

    The weight exp(-(f + ...) / tau^2) of a convex f is at least as narrow as without f, so a grid round its peak holds
    it. gamma: the pull towards theta; tau^2: the temperature.
    """
    theta = np.asarray(theta, dtype=np.float64)
    peak = nearest_minimum(f, theta, gamma)
    steps = np.linspace(-_HALF_WIDTHS, _HALF_WIDTHS, _POINTS) * tau / gamma**0.5
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    w = peak[:, None, :] + offsets
    energy = f(w) + gamma / 2 * np.square(w - theta[:, None, :]).sum(axis=-1)
    weight = np.exp(-(energy - energy.min(axis=1, keepdims=True)) / tau**2)
    mean = (weight[..., None] * w).sum(axis=1) / weight.sum(axis=1)[:, None]
    return gamma * (theta - mean)


def nearest_minimum(f: Surface, theta: np.ndarray, gamma: float, reach: float = 4.0, rounds: int = 14) -> np.ndarray:
    """argmin over w of f(w) + gamma/2 ||w - theta||^2 (n, 2), by finer and finer grids round the best point so far.

    reach: half the width of the first grid; a best point on a grid's edge moves the next one there, without shrinking.
    """
    best, steps = np.array(theta, dtype=np.float64), np.linspace(-1, 1, 9)
    half = np.full((len(best), 1, 1), reach)
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(1, -1, 2)
    for _ in range(rounds):
        w = best[:, None, :] + half * offsets
        energy = f(w) + gamma / 2 * np.square(w - theta[:, None, :]).sum(axis=-1)
        chosen = energy.argmin(axis=1)
        best = w[np.arange(len(w)), chosen]
        edge = (np.abs(offsets[0, chosen]) > 0.99).any(axis=-1)
        half = np.where(edge[:, None, None], half, half * 0.35)
    return best
