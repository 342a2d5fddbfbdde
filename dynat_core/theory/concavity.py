"""Is a loss strongly concave in x near its data, as Theorem 1 assumes? Second differences along random segments.

A loss is mu-strongly concave on a ball only if, for every segment from p to q in it,
4 (f(p) + f(q) - 2 f(middle)) / ||p - q||^2 <= -mu. On a ReLU network the same number is never below 0 for a segment in
one linear region: cross-entropy is convex in the logits, and the logits are straight there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dynat_core.theory.playground import cloud

Loss = Callable[[np.ndarray], np.ndarray]


def curvature(loss: Loss, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """4 (f(p) + f(q) - 2 f(middle)) / ||p - q||^2 (n,) of segments from p to q, each (n, d); loss: (n, d) -> (n,).

    It is the loss's mean second derivative along the segment, weighted towards the middle; exact for quadratics.
    """
    length = np.square(p - q).sum(axis=-1)
    return 4 * (loss(p) + loss(q) - 2 * loss((p + q) / 2)) / length


@dataclass(frozen=True)
class ReluNetwork:
    """Two hidden ReLU layers and a linear one. weights: (in, out) of each layer, biases: (out,)."""

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    def layers(self, x: np.ndarray) -> list[np.ndarray]:
        """What each layer gives at points x (n, 2), the logits (n, classes) last."""
        out = [x]
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = out[-1] @ w + b
            out.append(z if k == len(self.weights) - 1 else np.maximum(z, 0))
        return out[1:]

    def loss(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Cross-entropy (n,) in nats at points x (n, 2) with labels y (n,)."""
        logits = self.layers(x)[-1]
        top = logits.max(axis=-1, keepdims=True)
        return (top[:, 0] + np.log(np.exp(logits - top).sum(axis=-1))) - logits[np.arange(len(x)), y]

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        """The share of points given their label."""
        return float((self.layers(x)[-1].argmax(axis=-1) == y).mean())

    def regions(self, x: np.ndarray) -> np.ndarray:
        """Which units are on (n, units): two points with the same pattern lie in one linear region, which is convex."""
        return np.concatenate([layer > 0 for layer in self.layers(x)[:-1]], axis=-1)


def moons(count: int = 60, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """The Learn screen's two moons: points (2 count, 2) in the unit square and labels."""
    points, labels = cloud("moons", count, seed)
    return np.asarray(points), np.asarray(labels)


def trained(x: np.ndarray, y: np.ndarray, hidden: int = 24, epochs: int = 400, seed: int = 0) -> ReluNetwork:
    """A network with two hidden layers, trained on all points at once with Adam, learning rate .02."""
    draw = np.random.default_rng(seed)
    sizes = (x.shape[1], hidden, hidden, int(y.max()) + 1)
    weights = [draw.normal(0, (2 / a) ** 0.5, (a, b)) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
    values = [*weights, *(np.zeros(b) for b in sizes[1:])]
    first, second = [np.zeros_like(v) for v in values], [np.zeros_like(v) for v in values]
    for t in range(1, epochs + 1):
        for v, m, s, g in zip(values, first, second, _gradients(values, x, y), strict=True):
            m += 0.1 * (g - m)
            s += 0.001 * (g * g - s)
            v -= 0.02 * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
    return ReluNetwork(tuple(values[:3]), tuple(values[3:]))


def _gradients(values: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    network = ReluNetwork(tuple(values[:3]), tuple(values[3:]))
    layers = [x, *network.layers(x)]
    logits = layers[-1] - layers[-1].max(axis=-1, keepdims=True)
    back = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    back[np.arange(len(y)), y] -= 1
    back /= len(y)
    weights, biases = [], []
    for k in (2, 1, 0):
        weights.insert(0, layers[k].T @ back)
        biases.insert(0, back.sum(axis=0))
        back = (back @ network.weights[k].T) * (layers[k] > 0)
    return [*weights, *biases]


@dataclass(frozen=True)
class Measured:
    """Curvatures (n,) along segments in the attack's balls; within (n,): whether each stays in one linear region.

    about: the network and the balls, in words.
    """

    curvature: np.ndarray
    within: np.ndarray
    about: str


def measure(
    network: ReluNetwork, x: np.ndarray, y: np.ndarray, eps: float, count: int = 2000, seed: int = 1
) -> Measured:
    """Curvatures along `count` segments, each between two uniform points of the eps-ball round a data point."""
    draw = np.random.default_rng(seed)
    chosen = draw.integers(len(x), size=count)
    p, q = (x[chosen] + draw.uniform(-eps, eps, (count, x.shape[1])) for _ in range(2))
    within = (network.regions(p) == network.regions(q)).all(axis=-1)
    about = f"two hidden layers of {len(network.biases[0])}, {len(x)} points, eps {eps:g}"
    return Measured(curvature(lambda z: network.loss(z, y[chosen]), p, q), within, about)
