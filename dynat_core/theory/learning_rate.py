"""Learning-rate control of adversarial SGD on the quadratic: the factor u in [0, 1] that ends with the least E theta^2.

In continuous time M = E theta^2 follows dM/dt = -2 u kappa M + u^2 kappa^2 eta sigma^2 / B; the best u is
min(1, M / (2 M_inf)) at every moment. Worked out here; K = 0 is the plain SGD of Li, Tai and E (2017).
"""

from __future__ import annotations

import math

import numpy as np

from dynat_core.theory.adversarial_sgd import Quadratic


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
