"""The set an attack may reach, against brute force and against another library's optimiser."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from dynat_core.attack.threat import Ball

NORMS = ["linf", "l2"]


def random_ball(
    seed: int, n: int = 3, d: int = 6, eps: float = 0.2, norm: str = "linf"
) -> tuple[Ball, torch.Tensor, torch.Tensor]:
    """A ball around random images (some pixels exactly 0 or 1), a point inside it and a gradient, in float64."""
    gen = torch.Generator().manual_seed(seed)
    x = torch.rand(n, d, generator=gen, dtype=torch.float64)
    x = torch.where(torch.rand(n, d, generator=gen) < 0.3, x.round(), x)
    ball = Ball(x, eps, norm)  # type: ignore[arg-type]
    z = ball.random_point(torch.Generator().manual_seed(seed + 1))
    grad = torch.randn(n, d, generator=gen, dtype=torch.float64)
    return ball, z, torch.where(torch.rand(n, d, generator=gen) < 0.1, 0.0, grad)


@given(seed=st.integers(0, 10**6), eps=st.floats(0, 1), norm=st.sampled_from(NORMS))
def test_random_points_and_projections_lie_in_ball_and_box(seed, eps, norm):
    ball, z, grad = random_ball(seed, eps=eps, norm=norm)
    assert ball.contains(z, 1e-9).all()
    assert ball.contains(ball.project(z + 3 * grad), 1e-9).all()


@given(seed=st.integers(0, 10**6), norm=st.sampled_from(NORMS))
def test_projection_leaves_points_of_the_set_where_they_are(seed, norm):
    ball, z, _ = random_ball(seed, norm=norm)
    torch.testing.assert_close(ball.project(z), z, atol=1e-12, rtol=0)


@given(seed=st.integers(0, 10**6))
def test_linf_projection_is_the_nearest_point_pixel_by_pixel(seed):
    ball, z, grad = random_ball(seed)
    away = z + grad
    grid = torch.linspace(0, 1, 2001, dtype=torch.float64)
    for pixel, (value, centre) in enumerate(zip(away[0], ball.x[0], strict=True)):
        allowed = grid[(grid - centre).abs() <= ball.eps]
        nearest = allowed[(allowed - value).abs().argmin()]
        assert abs(float(ball.project(away)[0, pixel] - nearest)) <= 1e-3


@given(seed=st.integers(0, 10**6), eps=st.floats(0.01, 1))
def test_linf_linear_max_is_the_best_corner(seed, eps):
    ball, _, grad = random_ball(seed, eps=eps)
    for row in range(len(ball)):
        lows = (ball.x[row] - eps).clamp(min=0)
        highs = (ball.x[row] + eps).clamp(max=1)
        corners = itertools.product(*zip(lows.tolist(), highs.tolist(), strict=True))
        best = max(float(np.dot(corner, grad[row].numpy())) for corner in corners)
        assert float(ball.linear_max(grad)[row]) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_l2_linear_max_with_the_box_agrees_with_a_general_optimiser(seed):
    ball, _, grad = random_ball(seed, n=1, d=5, eps=0.15 + 0.1 * (seed % 6), norm="l2")
    x, g = ball.x[0].numpy(), grad[0].numpy()
    found = minimize(
        lambda z: -g @ z,
        x,
        jac=lambda z: -g,
        method="SLSQP",
        bounds=[(0, 1)] * 5,
        options={"ftol": 1e-14, "maxiter": 500},
        constraints={
            "type": "ineq",
            "fun": lambda z: ball.eps**2 - ((z - x) ** 2).sum(),
            "jac": lambda z: -2 * (z - x),
        },
    )
    assert float(ball.linear_max(grad)) == pytest.approx(-found.fun, abs=2e-6)


@given(seed=st.integers(0, 10**6))
def test_l2_linear_max_without_the_box_in_reach_is_the_closed_form(seed):
    ball = Ball(torch.full((2, 9), 0.5, dtype=torch.float64), 0.3, "l2")
    grad = torch.randn(2, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    closed = (grad * ball.x).sum(1) + ball.eps * grad.norm(dim=1)  # <g, x> + eps ||g||_2, as in Wang et al. 2019
    torch.testing.assert_close(ball.linear_max(grad), closed, atol=1e-12, rtol=0)


@pytest.mark.parametrize("small", [1e-6, 1e-12, 1e-16, 1e-18, 1e-30, 1e-300])
def test_l2_linear_max_holds_where_one_pixel_hardly_has_a_slope(small):
    ball = Ball(torch.full((1, 2), 0.5, dtype=torch.float64), 0.3, "l2")
    assert float(ball.linear_max(torch.tensor([[1.0, small]], dtype=torch.float64))) == pytest.approx(0.8 + 0.5 * small)
    near = Ball(torch.tensor([[0.9, 0.5]], dtype=torch.float64), 0.3, "l2")  # the first pixel stops at the box
    found = near.linear_max(torch.tensor([[1.0, small]], dtype=torch.float64))
    assert float(found) == pytest.approx(1.0 + small * (0.5 + np.sqrt(0.3**2 - 0.1**2)), rel=1e-12)


@given(seed=st.integers(0, 10**6), norm=st.sampled_from(NORMS))
def test_steepest_step_has_unit_norm_and_the_largest_slope(seed, norm):
    _, _, grad = random_ball(seed)
    step = Ball(torch.zeros_like(grad), 1.0, norm).steepest_step(grad)
    if norm == "linf":
        assert step.abs().max() <= 1
        slope, dual = (step * grad).sum(1), grad.abs().sum(1)
    else:
        slope, dual = (step * grad).sum(1), grad.norm(dim=1)
    torch.testing.assert_close(slope, dual)


def test_a_zero_gradient_gives_no_step():
    for norm in NORMS:
        assert not Ball(torch.zeros(1, 4), 1.0, norm).steepest_step(torch.zeros(1, 4)).any()  # type: ignore[arg-type]


def test_random_linf_points_are_uniform_inside_the_box():
    ball = Ball(torch.full((20_000, 1), 0.5, dtype=torch.float64), 0.2)
    z = ball.random_point(torch.Generator().manual_seed(0)).flatten().numpy()
    share = np.histogram(z, bins=10, range=(0.3, 0.7))[0] / len(z)
    assert np.abs(share - 0.1).max() < 0.01  # about five standard errors


def test_random_l2_points_fill_the_ball_evenly():
    ball = Ball(torch.full((20_000, 3), 0.5, dtype=torch.float64), 0.2, "l2")
    radius = (ball.random_point(torch.Generator().manual_seed(0)) - 0.5).norm(dim=1) / 0.2
    for share in (0.25, 0.5, 0.75):
        assert float((radius**3 <= share).double().mean()) == pytest.approx(share, abs=0.02)


def test_selecting_samples_keeps_the_geometry():
    ball, z, _ = random_ball(0, n=4)
    keep = torch.tensor([True, False, True, False])
    torch.testing.assert_close(ball[keep].project(z[keep] + 1), ball.project(z + 1)[keep])


@pytest.mark.parametrize(
    "bad", [{"eps": -0.1}, {"eps": float("nan")}, {"eps": 0.1, "norm": "l1"}, {"eps": 0.1, "low": 1.0, "high": 0.0}]
)
def test_impossible_sets_are_refused(bad):
    with pytest.raises(ValueError, match="must"):
        Ball(torch.zeros(1, 2), **bad)
