"""The attacked logistic model and local entropy against brute force, finite differences and closed forms."""

from __future__ import annotations

from itertools import product
from math import erf, exp, pi, sqrt

import numpy as np
import pytest

from dynat_core.theory.entropy import local_entropy_gradient, nearest_minimum
from dynat_core.theory.logistic import Logistic, sigmoid, two_clouds

EPS = 0.4
CASES = [("l2", None), ("linf", None), ("linf", (0.0, 1.0))]


def model(norm: str, box: tuple[float, float] | None = None, eps: float = EPS) -> Logistic:
    draw = np.random.default_rng(5)
    x, y = draw.uniform(0, 1, (12, 2)), np.where(draw.uniform(size=12) < 0.5, 1.0, -1.0)
    x[:3, 0], x[3:5, 1] = 0.0, 1.0  # pixels at the box's ends
    return Logistic(x, y, eps, norm, box)


def allowed(m: Logistic, x: np.ndarray) -> np.ndarray:
    """Many points an attack on x may reach, the corners among them."""
    if m.norm == "l2":
        turn = np.linspace(0, 2 * np.pi, 721)
        return x + m.eps * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    points = np.array([x + m.eps * np.array(c) for c in product((-1, 0, 1), repeat=2)])
    return points if m.box is None else np.clip(points, *m.box)


@pytest.mark.parametrize("norm, box", CASES)
def test_the_worst_loss_is_the_largest_over_the_ball(norm, box):
    m = model(norm, box)
    for theta in np.random.default_rng(0).normal(0, 2, (10, 2)):
        worst = [np.log1p(np.exp(-y * (allowed(m, x) @ theta))).max() for x, y in zip(m.x, m.y, strict=True)]
        assert float(m.loss(theta)) == pytest.approx(np.mean(worst), abs=1e-4)
        assert float(m.loss(theta)) >= np.mean(worst) - 1e-12
        own = np.log1p(np.exp(-m.y * (m.attacked(theta) @ theta))).mean()
        assert float(m.loss(theta)) == pytest.approx(own, abs=1e-12)


@pytest.mark.parametrize("norm, box", CASES)
def test_the_gradient_is_that_of_finite_differences_off_the_creases(norm, box):
    m, h = model(norm, box), 1e-6
    theta = np.random.default_rng(1).normal(0, 2, (30, 2))
    steps = [(m.loss(theta + h * e) - m.loss(theta - h * e)) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(m.gradient(theta), np.stack(steps, axis=-1), atol=1e-6)


@pytest.mark.parametrize("norm, box", CASES)
@pytest.mark.parametrize("i", [0, 1])
def test_crossing_an_axis_jumps_as_the_closed_form_says(norm, box, i):
    m, t = model(norm, box), 1e-7
    for other in (-1.7, 0.6):
        at = np.zeros(2)
        at[1 - i] = other
        up, down = (m.gradient(at + sign * t * np.eye(2)[i]) for sign in (1, -1))
        np.testing.assert_allclose(up[i] - down[i], m.jump(at, i), atol=1e-5)
        assert abs(up[1 - i] - down[1 - i]) < 1e-5  # along the other axis nothing happens


def test_the_jump_is_two_eps_s_without_a_box_and_half_of_it_for_a_pixel_at_its_end():
    inside, edge = (np.array([[v, 0.3]]) for v in (0.5, 0.0))
    y, theta = np.ones(1), np.array([0.0, 1.2])
    for x in (inside, edge):
        s = float(sigmoid(-Logistic(x, y, EPS).margins(theta)[0]))
        assert Logistic(x, y, EPS).jump(theta, 0) == pytest.approx(2 * EPS * s)
    s = float(sigmoid(-Logistic(edge, y, EPS, "linf", (0.0, 1.0)).margins(theta)[0]))
    assert Logistic(edge, y, EPS, "linf", (0.0, 1.0)).jump(theta, 0) == pytest.approx(EPS * s)


def test_the_l2_loss_is_singular_at_zero_alone_where_the_quotient_is_eps_over_2t():
    m, way = model("l2"), np.array([0.6, 0.8])
    for t in (1e-3, 1e-4, 1e-5):
        quotient = np.linalg.norm(m.gradient(t * way) - m.gradient(-t * way)) / (2 * t)
        assert quotient * 2 * t == pytest.approx(EPS, rel=2e-3)
    assert m.jump(np.array([0.0, 1.0]), 0) == 0
    assert m.jump(np.zeros(2), 0) == pytest.approx(EPS)


def test_no_second_derivative_of_the_l2_loss_exceeds_the_bound():
    m, h = model("l2"), 1e-5
    for theta in np.random.default_rng(2).normal(0, 1.5, (40, 2)):
        columns = [(m.gradient(theta + h * e) - m.gradient(theta - h * e)) / (2 * h) for e in np.eye(2)]
        assert np.linalg.norm(np.stack(columns), 2) <= m.hessian_bound(theta) + 1e-6


def test_the_l2_hessian_of_one_example_is_the_closed_form():
    x, y, theta, h = np.array([[0.7, -0.4]]), np.ones(1), np.array([0.5, 1.1]), 1e-5
    m = Logistic(x, y, EPS, "l2")
    n = theta / np.linalg.norm(theta)
    v, s = x[0] - EPS * n, float(sigmoid(-m.margins(theta)[0]))
    turn = s * EPS / np.linalg.norm(theta) * (np.eye(2) - np.outer(n, n))
    columns = [(m.gradient(theta + h * e) - m.gradient(theta - h * e)) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(np.stack(columns, axis=-1), s * (1 - s) * np.outer(v, v) + turn, atol=1e-6)


# ---------------------------------------------------------------------------------------------------- local entropy


def test_on_a_parabola_the_gradient_is_gamma_a_theta_over_a_plus_gamma():
    theta = np.array([[1.0, -2.0], [0.2, 3.0]])
    for a, gamma, tau in ((1.3, 0.5, 0.3), (0.2, 4.0, 0.1)):
        found = local_entropy_gradient(lambda w, a=a: a * np.square(w).sum(-1) / 2, theta, gamma, tau)
        np.testing.assert_allclose(found, gamma * a * theta / (a + gamma), rtol=1e-6)


def test_cold_the_gradient_of_c_times_abs_is_gamma_theta_clipped_at_c():
    c, gamma = 0.7, 0.5
    theta = np.array([[v, 0.0] for v in (-5, -1.0, -0.3, 0.4, 1.3, 6)])
    found = local_entropy_gradient(lambda w: c * np.abs(w[..., 0]), theta, gamma, 0.01)
    np.testing.assert_allclose(found[:, 0], np.clip(gamma * theta[:, 0], -c, c), atol=2e-3)


def test_warm_the_kink_of_c_times_abs_has_the_closed_form_curvature():
    c, gamma, h = 0.7, 0.5, 0.05
    ends = np.array([[h, 0.0], [-h, 0.0]])
    found = local_entropy_gradient(lambda w: c * np.abs(w[..., 0]), ends, gamma, 1.0)
    a = c / sqrt(gamma)
    mills = 0.5 * (1 + erf(-a / sqrt(2))) / (exp(-a * a / 2) / sqrt(2 * pi))
    assert gamma * (a / mills - a * a) == pytest.approx(0.2609, abs=1e-4)
    assert (found[0, 0] - found[1, 0]) / (2 * h) == pytest.approx(gamma * (a / mills - a * a), rel=0.01)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("gamma, tau", [(1.0, 0.2), (4.0, 0.1)])
def test_smoothed_slopes_lie_between_0_and_gamma_kink_or_not(norm, gamma, tau):
    m = Logistic(*two_clouds(), 0.5, norm)
    way = np.array([0.6, 0.8])
    along = local_entropy_gradient(m.loss, np.linspace(-1, 1, 21)[:, None] * way, gamma, tau) @ way
    slopes = np.diff(along) / 0.1
    assert slopes.min() > -1e-3 and slopes.max() < gamma
    assert slopes.max() < 0.5 * np.diff(m.gradient(np.array([-0.01 * way, 0.01 * way])) @ way)[0] / 0.02


def test_the_nearest_minimum_of_c_times_abs_is_soft_thresholding():
    c, gamma = 0.7, 0.05  # so that the way is longer than the first grid reaches
    theta = np.array([[v, -v / 2] for v in (-20.0, -5.0, 0.1, 13.9, 14.1, 40.0)])
    found = nearest_minimum(lambda w: c * np.abs(w).sum(-1), theta, gamma)
    exact = np.sign(theta) * np.maximum(np.abs(theta) - c / gamma, 0)
    np.testing.assert_allclose(found, exact, atol=1e-3)
