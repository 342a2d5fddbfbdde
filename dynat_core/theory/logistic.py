"""Logistic regression under attack, in closed form: its worst loss, gradient and where that gradient jumps.

The worst loss in the ball is log(1 + exp(-m)), m = y <theta, x> - eps ||theta||_2 (L2) or _1 (L-inf). With v the
attacked point times y, the gradient in theta is -s(-m) v, the mean over the data. Derived here; the question is that of
Kanai et al. (arXiv 2103.01400).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Norm = Literal["l2", "linf"]


def sigmoid(v: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-v)), without overflow."""
    return 0.5 * (1 + np.tanh(v / 2))


@dataclass(frozen=True)
class Logistic:
    """The model on data x (n, d) with labels y (n,) in {-1, 1}; `box` (low, high) bounds attacked pixels (L-inf)."""

    x: np.ndarray
    y: np.ndarray
    eps: float
    norm: Norm = "linf"
    box: tuple[float, float] | None = None

    def attacked(self, theta: np.ndarray) -> np.ndarray:
        """The worst points (..., n, d) for theta (..., d). Where a coordinate of theta is 0 it does not matter, and the
        clean value stays; at theta = 0 with L2 the clean point."""
        theta = np.asarray(theta, dtype=np.float64)[..., None, :]
        y = self.y[:, None]
        if self.norm == "l2":
            length = np.linalg.norm(theta, axis=-1, keepdims=True)
            return self.x - self.eps * y * np.divide(theta, length, out=np.zeros_like(theta), where=length > 0)
        low, high = self.faces
        way = -y * np.sign(theta)
        return np.where(way > 0, high, np.where(way < 0, low, self.x))

    @property
    def faces(self) -> tuple[np.ndarray, np.ndarray]:
        """(l, u) (n, d): the lowest and highest value each pixel may take under an L-inf attack."""
        low, high = self.x - self.eps, self.x + self.eps
        if self.box is not None:
            low, high = np.maximum(low, self.box[0]), np.minimum(high, self.box[1])
        return low, high

    def margins(self, theta: np.ndarray) -> np.ndarray:
        """m (..., n): y <theta, attacked point>."""
        if self.box is None:  # many thetas at once, for quadrature: no attacked points needed
            theta = np.asarray(theta, dtype=np.float64)
            length = np.linalg.norm(theta, ord=2 if self.norm == "l2" else 1, axis=-1)
            return theta @ (self.y[:, None] * self.x).T - self.eps * length[..., None]
        return (self.attacked(theta) * np.asarray(theta)[..., None, :]).sum(axis=-1) * self.y

    def loss(self, theta: np.ndarray) -> np.ndarray:
        """The mean worst loss (...,) in nats."""
        m = self.margins(theta)
        return (np.maximum(-m, 0) + np.log1p(np.exp(-np.abs(m)))).mean(axis=-1)

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """The gradient (..., d) of the mean worst loss; on a crease one of its limits or a mean of them."""
        v = self.attacked(theta) * self.y[:, None]
        m = (v * np.asarray(theta)[..., None, :]).sum(axis=-1)
        return -(sigmoid(-m)[..., None] * v).mean(axis=-2)

    def jump(self, theta: np.ndarray, i: int) -> float:
        """By how much the gradient's component i jumps as theta_i rises through 0, the others as in theta (d,).

        L-inf: the mean of s(-m)(u_i - l_i), 2 eps s(-m) without a box; L2: 0 where another coordinate is not 0.
        """
        here = np.array(theta, dtype=np.float64)
        here[i] = 0.0
        weight = sigmoid(-self.margins(here))
        if self.norm == "l2":
            return 0.0 if np.any(here) else float(2 * self.eps * weight.mean())
        low, high = self.faces
        return float((weight * (high - low)[:, i]).mean())

    def hessian_bound(self, theta: np.ndarray) -> float:
        """L2: no second derivative at theta (d,) is larger than the mean (||x|| + eps)^2 / 4 + eps / ||theta||."""
        reach = np.linalg.norm(self.x, axis=-1) + self.eps
        return float((reach**2 / 4).mean() + self.eps / np.linalg.norm(theta))


def two_clouds(count: int = 16, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping clouds in the plane: points (count, 2) and labels in {-1, 1}; the picture's data."""
    draw = np.random.default_rng(seed)
    y = np.where(np.arange(count) % 2 == 0, 1.0, -1.0)
    return y[:, None] * np.array([0.5, 0.4]) + draw.normal(0, 0.9, (count, 2)), y
