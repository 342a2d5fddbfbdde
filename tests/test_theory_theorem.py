"""Theorem 1's problem against brute force and finite differences, its bounds against measured runs, and ReLU networks
against its second assumption."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from dynat_core.theory.concavity import ReluNetwork, curvature, measure, moons, trained
from dynat_core.theory.minimax import DIMENSIONS, MinMax, mean_squared_gradients, own_bound, paper_bound

PROBLEMS = [
    MinMax(),
    MinMax(eps=0.3),
    MinMax(mu=0.3, b=0.7),
    MinMax(mu=3, noise=0.3),
    MinMax(a=0.5, b=2, eps=0.5, start=-1.5),
]
HORIZONS = (1, 4, 16, 64, 256)
DELTAS = (0.0, 0.01, 0.3, 10.0)


def thetas(count: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (count, DIMENSIONS))


def f(p: MinMax, theta: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The loss at displacement u of an example at 0, written out."""
    return p.a / 2 * (theta**2).sum(-1) + p.b * (theta * u).sum(-1) - p.mu / 2 * (u**2).sum(-1)


@pytest.mark.parametrize("p", PROBLEMS)
def test_the_robust_loss_is_the_largest_over_a_grid_of_attacks(p):
    line = np.linspace(-p.eps, p.eps, 401)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    for theta in thetas(8):
        largest = f(p, theta, grid).max()
        assert largest <= p.robust_loss(theta) + 1e-12
        assert p.robust_loss(theta) - largest < p.mu * (p.eps / 200) ** 2 * DIMENSIONS
    assert float(p.robust_loss(np.zeros(DIMENSIONS))) == 0


@pytest.mark.parametrize("p", PROBLEMS)
def test_the_robust_gradient_is_that_of_finite_differences_and_its_slope_is_at_most_L(p):
    h, basis = 1e-6, np.eye(DIMENSIONS)
    for theta in thetas(10):
        slopes = [(p.robust_loss(theta + h * e) - p.robust_loss(theta - h * e)) / (2 * h) for e in basis]
        np.testing.assert_allclose(p.robust_gradient(theta), slopes, atol=1e-6)
    one, two = thetas(200, 1), thetas(200, 2)
    change = np.linalg.norm(p.robust_gradient(one) - p.robust_gradient(two), axis=-1)
    assert (change <= p.smoothness * np.linalg.norm(one - two, axis=-1) + 1e-12).all()


@pytest.mark.parametrize("p", PROBLEMS)
def test_fosc_is_the_largest_linear_gain_over_the_corners_and_bounds_the_distance_to_the_best_point(p):
    draw = np.random.default_rng(3)
    for theta in thetas(40):
        u = draw.uniform(-p.eps, p.eps, DIMENSIONS)
        slope = p.b * theta - p.mu * u
        gains = [float(((np.array(c) * p.eps - u) * slope).sum()) for c in product((-1, 1), repeat=DIMENSIONS)]
        assert float(p.fosc(theta, u)) == pytest.approx(max(gains))
        best = np.clip(p.b * theta / p.mu, -p.eps, p.eps)
        assert p.mu * ((u - best) ** 2).sum() <= float(p.fosc(theta, u)) + 1e-12


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("p", PROBLEMS)
def test_an_attack_that_stops_early_stops_exactly_at_delta_or_never_moves(p, delta):
    theta = thetas(200)
    u = p.early(theta, delta)
    best = np.clip(p.b * theta / p.mu, -p.eps, p.eps)
    assert (np.abs(u) <= np.abs(best) + 1e-12).all() and (u * best >= -1e-12).all()
    each = (p.eps - np.abs(u)) * (p.b * np.abs(theta) - p.mu * np.abs(u))  # FOSC of one coordinate
    at_clean = p.eps * p.b * np.abs(theta)
    np.testing.assert_allclose(each, np.minimum(delta / DIMENSIONS, at_clean), atol=1e-9)


@pytest.mark.parametrize("delta", DELTAS[1:])
@pytest.mark.parametrize("p", PROBLEMS)
def test_the_lowest_displacement_keeps_its_fosc_and_none_lower_does(p, delta):
    theta = thetas(100)
    u = p.lowest(theta, delta)
    assert (u >= -p.eps - 1e-12).all() and (p.fosc(theta, u) <= delta + 1e-9).all()
    for column in range(DIMENSIONS):
        one = np.zeros_like(theta)
        one[:, column] = theta[:, column]
        lower = np.zeros_like(u)
        lower[:, column] = u[:, column] - 1e-3
        inside = lower[:, column] > -p.eps
        assert (p.fosc(one, lower)[inside] > delta / DIMENSIONS).all()


@pytest.mark.parametrize("p", PROBLEMS)
@pytest.mark.parametrize("error", ["early", "lowest"])
def test_both_bounds_hold_where_they_are_stated(p, error):
    mean, half = mean_squared_gradients(p, getattr(p, error), HORIZONS, DELTAS, repeats=8)
    t = np.array(HORIZONS, dtype=float)
    for k, delta in enumerate(DELTAS):
        assert (mean[:, k] - 2 * half[:, k] <= own_bound(p, t, delta)).all()
        stated = t >= p.valid_from
        assert (mean[:, k] - 2 * half[:, k] <= paper_bound(p, t, delta))[stated].all()
        tight = 3 * p.noise * np.sqrt(p.smoothness * p.gap / t) + p.b**2 * delta / p.mu
        np.testing.assert_allclose(own_bound(p, t, delta)[stated], tight[stated])
        assert (own_bound(p, t, delta) <= paper_bound(p, t, delta))[stated].all()


def test_the_four_sigma_form_fails_for_too_few_steps():
    p = MinMax(noise=0.3)
    mean, _ = mean_squared_gradients(p, p.early, (1,), (0.0,), repeats=8)
    assert p.valid_from > 1 and mean[0, 0] > paper_bound(p, np.array([1.0]), 0.0)[0]


def test_a_run_of_T_steps_is_the_same_alone_and_beside_longer_ones():
    p = MinMax()
    alone, _ = mean_squared_gradients(p, p.lowest, (4,), (0.3,), repeats=5)
    beside, _ = mean_squared_gradients(p, p.lowest, (1, 4, 16), (0.0, 0.3), repeats=5)
    np.testing.assert_allclose(beside[1, 1], alone[0, 0], rtol=1e-12)


def test_without_a_wall_the_runs_follow_the_linear_recursion():
    p, steps = MinMax(eps=1e6, noise=0.5), 64
    mean, half = mean_squared_gradients(p, p.early, (steps,), (0.0,), repeats=2000)
    keep, variance, total = 1 - p.step(steps) * p.smoothness, 0.0, 0.0
    for t in range(steps):
        total += p.smoothness**2 * DIMENSIONS * (p.start**2 * keep ** (2 * t) + variance)
        variance = keep**2 * variance + p.step(steps) ** 2 * p.noise**2 / DIMENSIONS
    assert abs(mean[0, 0] - total / steps) < 2 * half[0, 0]


# -------------------------------------------------------------------------------------------- the second assumption


def test_curvature_is_exact_on_quadratics():
    draw = np.random.default_rng(0)
    h = draw.normal(size=(3, 3))
    h += h.T
    p, q = draw.normal(size=(2, 50, 3))
    way = (p - q) / np.linalg.norm(p - q, axis=-1, keepdims=True)
    found = curvature(lambda x: 0.5 * np.einsum("ni,ij,nj->n", x, h, x) + x @ [1.0, 2, 3], p, q)
    np.testing.assert_allclose(found, np.einsum("ni,ij,nj->n", way, h, way), atol=1e-9)


def test_the_problem_of_the_screen_bends_by_exactly_minus_mu():
    problem, theta = MinMax(mu=0.7), np.array([0.4, -1.3])
    p, q = np.random.default_rng(1).normal(size=(2, 20, DIMENSIONS))
    np.testing.assert_allclose(curvature(lambda u: f(problem, theta, u), p, q), -0.7)


@pytest.fixture(scope="module")
def network() -> ReluNetwork:
    return trained(*moons(), epochs=120)


def test_the_network_has_learnt_its_data(network):
    x, y = moons()
    assert network.accuracy(x, y) > 0.95
    assert network.loss(x, y).mean() < 0.2


def test_within_one_linear_region_logits_are_straight_and_the_loss_is_never_concave(network):
    x, y = moons()
    draw = np.random.default_rng(4)
    p, q = (x + draw.uniform(-0.05, 0.05, x.shape) for _ in range(2))
    same = (network.regions(p) == network.regions(q)).all(axis=-1)
    assert 0.1 < same.mean() < 1
    middle = network.layers((p + q)[same] / 2)[-1]
    np.testing.assert_allclose(middle, (network.layers(p)[-1] + network.layers(q)[-1])[same] / 2, atol=1e-9)
    found = measure(network, x, y, 0.05)
    assert found.curvature[found.within].min() > -1e-6
    assert found.curvature[~found.within].min() < 0  # kinks can bend it down, but not everywhere
    assert (found.curvature < -1e-6).mean() < 0.5


def test_the_loss_is_cross_entropy(network):
    x, y = moons()
    logits = network.layers(x)[-1].astype(np.longdouble)
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(network.loss(x, y), -np.log(shares[np.arange(len(y)), y]).astype(float), atol=1e-9)
