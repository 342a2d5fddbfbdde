"""A straight line through the two weights of an attacked logistic model, across a crease of its loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dynat_core.theory.entropy import local_entropy_gradient
from dynat_core.theory.logistic import Logistic, two_clouds

PLACES = 80  # even: no place lies on the crease
REACH = 2.0  # weights from -REACH to REACH
LINES = {"across": ((1.0, 0.0), (0.0, 1.0)), "zero": ((0.0, 0.0), (0.8, 0.6))}  # a point on the crease, the direction
_NEAREST = 0.03  # closer to the crease the smoothed gradient's change would be that of its quadrature


@dataclass(frozen=True)
class Probe:
    """A straight line through the weights and what was computed along it.

    thetas: (n, 2) places, none on the crease itself; direction: (2,) of length 1; at: (n,) distance from the crease.
    gradients: series -> (n, 2). distances: (m,); changes: series -> (m,) of ||grad(+t) - grad(-t)|| / 2t; NaN where it
    was not computed. ceiling: no second derivative of the L2 loss between the distances is larger; None without one.
    gamma: of the smoothing.
    """

    models: tuple[Logistic, Logistic]
    thetas: np.ndarray
    direction: np.ndarray
    at: np.ndarray
    gradients: tuple[np.ndarray, ...]
    distances: np.ndarray
    changes: tuple[np.ndarray, ...]
    jumps: tuple[float, float]
    ceiling: float | None
    gamma: float


def probe(which: str, eps: float, gamma: float, tau: float) -> Probe:
    """Gradients along a line of LINES and their change round its crease, raw and smoothed by local entropy."""
    x, y = two_clouds()
    models = Logistic(x, y, eps, "l2"), Logistic(x, y, eps, "linf")
    (centre, way), at = map(np.array, LINES[which]), np.linspace(-REACH, REACH, PLACES)
    thetas = centre + at[:, None] * way
    distances = np.logspace(-4, 0, 25)
    ends = centre + distances[:, None] * way, centre - distances[:, None] * way
    near = distances >= _NEAREST
    raw = [model.gradient(thetas) for model in models]
    soft = [local_entropy_gradient(model.loss, thetas, gamma, tau) for model in models]
    changes = [model.gradient(ends[0]) - model.gradient(ends[1]) for model in models]
    for model in models:
        smooth = np.full((len(distances), 2), np.nan)
        smooth[near] = np.subtract(*(local_entropy_gradient(model.loss, end[near], gamma, tau) for end in ends))
        changes.append(smooth)
    rates = tuple(np.linalg.norm(change, axis=-1) / (2 * distances) for change in changes)
    jumps = along(models[0], centre, way), along(models[1], centre, way)
    ceiling = models[0].hessian_bound(centre) if np.any(centre) else None  # ||theta|| is smallest at the crease
    return Probe(models, thetas, way, at, (*raw, *soft), distances, rates, jumps, ceiling, gamma)


def along(model: Logistic, centre: np.ndarray, way: np.ndarray) -> float:
    """The jump of the gradient's component along `way` at the crease `centre`, closed form."""
    if np.any(centre):
        return model.jump(centre, 1)
    weight = float(np.mean(1 / (1 + np.exp(model.margins(centre)))))  # at 0 every coordinate turns at once
    return 2 * model.eps * weight * float(np.linalg.norm(way, ord=2 if model.norm == "l2" else 1))
