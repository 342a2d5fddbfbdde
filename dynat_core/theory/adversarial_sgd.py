"""Adversarial SGD on a quadratic loss and the stochastic differential equation beside it, all in closed form.

    J(theta, x) = (theta - x)^2 / 2,   x of mean 0 and variance sigma^2
    inner: z = x, `ascents` (K) times z <- z + eta_I dJ/dx   (no sign, no projection)
    outer: theta <- theta - u eta (mean over a batch of B of theta - z)

The attack multiplies theta - x by kappa = (1 + eta_I)^K, so theta_{n+1} = (1 - u eta kappa) theta_n + u eta kappa
times the batch's mean. The question is Gu and Guo's (arXiv 2105.08037); the formulas, for eta_I = eta, are worked out
here.
"""

from __future__ import annotations

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
