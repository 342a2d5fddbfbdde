"""A min-max problem in which every constant of Theorem 1 is known (Wang et al. 2019; arXiv 2112.08304).

    f(theta, x) = a/2 ||theta||^2 + b <theta, x> - mu/2 ||x - x_i||^2,   |x - x_i| <= eps in each coordinate

is mu-strongly concave in x, its gradient in theta is a-Lipschitz in theta (L_tt) and b-Lipschitz in x (L_tx), that in
x is b-Lipschitz in theta (L_xt). With centred data x_i of variance s^2 a coordinate, L_S(theta) = a/2 ||theta||^2 plus
a Huber function of b theta: its minimum is 0, at 0. Nothing here is the paper's but the theorem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

DIMENSIONS = 2
Attack = Callable[[np.ndarray, np.ndarray | float], np.ndarray]


@dataclass(frozen=True)
class MinMax:
    """The problem. a, b, mu: curvatures; eps: radius of the attack; noise: sigma, the standard deviation of the
    stochastic gradient (over all coordinates); start: theta_0 in each of the DIMENSIONS coordinates."""

    a: float = 1.0
    b: float = 1.0
    mu: float = 1.0
    eps: float = 1.0
    noise: float = 1.0
    start: float = 2.0

    @property
    def smoothness(self) -> float:
        """L = L_tx L_xt / mu + L_tt."""
        return self.b * self.b / self.mu + self.a

    @property
    def gap(self) -> float:
        """Delta = L_S(theta_0) - min L_S."""
        return float(self.robust_loss(np.full(DIMENSIONS, self.start)))

    @property
    def valid_from(self) -> float:
        """The T from which the paper's step is below 1/L, L Delta / sigma^2; its bound is stated for those."""
        return self.smoothness * self.gap / self.noise**2

    def step(self, horizon: float) -> float:
        """The paper's step size for `horizon` = T steps: min(1/L, sqrt(Delta / (L sigma^2 T)))."""
        return min(1 / self.smoothness, (self.gap / (self.smoothness * self.noise**2 * horizon)) ** 0.5)

    def robust_loss(self, theta: np.ndarray) -> np.ndarray:
        """L_S (...,) at theta (..., DIMENSIONS): the mean over the data of the inner maximum."""
        pull = self.b * np.abs(theta)
        away = np.minimum(pull / self.mu, self.eps)
        return (self.a / 2 * theta**2 + pull * away - self.mu / 2 * away**2).sum(axis=-1)

    def robust_gradient(self, theta: np.ndarray) -> np.ndarray:
        """The gradient of L_S at theta, same shape (Danskin)."""
        return self.a * theta + self.b * np.clip(self.b * theta / self.mu, -self.eps, self.eps)

    def early(self, theta: np.ndarray, delta: np.ndarray | float) -> np.ndarray:
        """The displacement z - x_i of an attack that stops, on its way from x_i, as soon as its FOSC is `delta`.

        theta: (..., DIMENSIONS); delta: broadcastable to it, shared evenly among the coordinates. A point
        that satisfies the threshold at the start stays there.
        """
        return np.sign(theta) * np.maximum(self._lower(np.abs(theta), delta), 0.0)

    def lowest(self, theta: np.ndarray, delta: np.ndarray | float) -> np.ndarray:
        """The lowest displacement whose FOSC is at most `delta`: an error that always pushes training the same way."""
        return np.maximum(self._lower(theta, delta), -self.eps)

    def _lower(self, theta: np.ndarray, delta: np.ndarray | float) -> np.ndarray:
        """In one coordinate FOSC below the best displacement u* is (eps - u)(b theta - mu u): its smaller root."""
        pull, share = self.b * theta, np.asarray(delta) / DIMENSIONS
        root = np.sqrt((pull - self.mu * self.eps) ** 2 + 4 * self.mu * share)
        return (pull + self.mu * self.eps - root) / (2 * self.mu)

    def fosc(self, theta: np.ndarray, displacement: np.ndarray) -> np.ndarray:
        """FOSC (...,) of displacement (..., DIMENSIONS): the largest <x' - z, gradient in x> over the ball."""
        slope = self.b * theta - self.mu * displacement
        return (self.eps * np.abs(slope) - slope * displacement).sum(axis=-1)


def paper_bound(p: MinMax, horizon: np.ndarray, delta: float) -> np.ndarray:
    """4 sigma sqrt(L Delta / T) + 5 L_tx^2 delta / mu, with T = `horizon` (n,). Source: Wang et al. 2019, Theorem 1."""
    return 4 * p.noise * np.sqrt(p.smoothness * p.gap / horizon) + 5 * p.b**2 * delta / p.mu


def own_bound(p: MinMax, horizon: np.ndarray, delta: float) -> np.ndarray:
    """The same argument without slack: 2 Delta / (eta T) + L eta sigma^2 + L_tx^2 delta / mu, at the paper's step eta.

    From T = L Delta / sigma^2 on it is 3 sigma sqrt(L Delta / T) + L_tx^2 delta / mu; it holds for shorter runs too.
    """
    eta = np.array([p.step(t) for t in np.atleast_1d(horizon)])
    return 2 * p.gap / (eta * horizon) + p.smoothness * eta * p.noise**2 + p.b**2 * delta / p.mu


def mean_squared_gradients(
    p: MinMax, attack: Attack, horizons: Sequence[int], deltas: Sequence[float], repeats: int = 24, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(1/T) sum_t E ||grad L_S(theta_t)||^2, measured: (mean, half of its 95 % interval), each (T's, deltas).

    attack: `p.early` or `p.lowest`. For each T of `horizons` (rising) runs of T steps at the paper's step size for that
    T, `repeats` of each; all share their noise, so that curves differ by what they stand for alone.
    """
    draw = np.random.default_rng(seed)
    lengths = np.asarray(horizons)
    steps = np.array([p.step(t) for t in lengths])[:, None, None, None]
    delta = np.asarray(deltas, dtype=np.float64)[None, :, None, None]
    theta = np.full((len(lengths), len(deltas), repeats, DIMENSIONS), p.start)
    total = np.zeros(theta.shape[:-1])
    noise = draw.normal(0, p.noise / DIMENSIONS**0.5, (int(lengths[-1]), repeats, DIMENSIONS))
    for t in range(int(lengths[-1])):
        on = int(np.searchsorted(lengths, t, side="right"))  # runs before that one have ended
        now = theta[on:]
        total[on:] += np.square(p.robust_gradient(now)).sum(axis=-1)
        theta[on:] = now - steps[on:] * (p.a * now + p.b * attack(now, delta) + noise[t])
    means = total / lengths[:, None, None]
    return means.mean(axis=-1), 1.96 * means.std(axis=-1, ddof=1) / repeats**0.5
