"""Every fact about FOSC that the product relies on, against brute force and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dynat_core.attack.attacks import pgd
from dynat_core.attack.fosc import fosc, fosc_map, relative_fosc, stop_below
from dynat_core.attack.threat import Ball
from tests.test_threat import random_ball

SEEDS = st.integers(0, 10**6)
FORMS = ["box", "paper"]


@given(seed=SEEDS, eps=st.floats(0, 1), norm=st.sampled_from(["linf", "l2"]), form=st.sampled_from(FORMS))
def test_fosc_is_never_negative_inside_the_set(seed, eps, norm, form):
    ball, z, grad = random_ball(seed, eps=eps, norm=norm)
    assert (fosc(ball, z, grad, form) >= -1e-9).all()


@given(seed=SEEDS, eps=st.floats(0.01, 1))
def test_box_fosc_is_the_largest_linear_gain_over_all_corners(seed, eps):
    ball, z, grad = random_ball(seed, n=1, d=8, eps=eps)
    lows, highs = (ball.x[0] - eps).clamp(min=0).tolist(), (ball.x[0] + eps).clamp(max=1).tolist()
    gains = [
        np.dot(np.array(corner) - z[0].numpy(), grad[0].numpy())
        for corner in itertools.product(*zip(lows, highs, strict=True))
    ]
    assert float(fosc(ball, z, grad)) == pytest.approx(max(gains), abs=1e-12)


@given(seed=SEEDS)
def test_paper_fosc_is_the_largest_linear_gain_over_the_ball_alone(seed):
    ball, z, grad = random_ball(seed, n=1, d=8)
    signs = itertools.product([-1, 1], repeat=8)
    gains = [np.dot(ball.x[0].numpy() + ball.eps * np.array(s) - z[0].numpy(), grad[0].numpy()) for s in signs]
    assert float(fosc(ball, z, grad, "paper")) == pytest.approx(max(gains), abs=1e-12)


@given(seed=SEEDS, norm=st.sampled_from(["linf", "l2"]))
def test_the_box_form_never_exceeds_the_papers_form(seed, norm):
    ball, z, grad = random_ball(seed, norm=norm)
    assert (fosc(ball, z, grad) <= fosc(ball, z, grad, "paper") + 1e-9).all()


@given(seed=SEEDS, norm=st.sampled_from(["linf", "l2"]))
def test_both_forms_agree_where_no_pixel_is_within_eps_of_the_box(seed, norm):
    gen = torch.Generator().manual_seed(seed)
    ball = Ball(0.3 + 0.4 * torch.rand(3, 6, generator=gen, dtype=torch.float64), 0.2, norm)
    grad = torch.randn(3, 6, generator=gen, dtype=torch.float64)
    z = ball.random_point(gen)
    torch.testing.assert_close(fosc(ball, z, grad), fosc(ball, z, grad, "paper"), atol=1e-9, rtol=0)


@given(seed=SEEDS)
def test_fosc_is_zero_on_the_right_face_or_without_a_gradient(seed):
    ball, z, grad = random_ball(seed)
    low, high = ball.faces
    best = torch.where(grad > 0, high, torch.where(grad < 0, low, z))
    assert (fosc(ball, best, grad) == 0).all()
    assert (fosc(ball, z, torch.zeros_like(grad)) == 0).all()


@given(seed=SEEDS)
def test_fosc_above_zero_means_a_pixel_with_slope_is_off_its_face(seed):
    ball, z, grad = random_ball(seed)
    low, high = ball.faces
    off = ((grad > 0) & (z < high)) | ((grad < 0) & (z > low))
    assert torch.equal(fosc(ball, z, grad) > 0, off.any(1))


@given(seed=SEEDS, norm=st.sampled_from(["linf", "l2"]), form=st.sampled_from(FORMS))
def test_a_samples_fosc_does_not_depend_on_the_batch(seed, norm, form):
    ball, z, grad = random_ball(seed, n=4, norm=norm)
    alone = torch.cat([fosc(ball[k : k + 1], z[k : k + 1], grad[k : k + 1], form) for k in range(4)])
    torch.testing.assert_close(fosc(ball, z, grad, form), alone, atol=1e-12, rtol=0)


@given(seed=SEEDS)
def test_the_map_has_no_negative_pixel_and_adds_up(seed):
    ball, z, grad = random_ball(seed)
    terms = fosc_map(ball, z, grad)
    assert (terms >= -1e-12).all()
    torch.testing.assert_close(terms.sum(1), fosc(ball, z, grad))


@given(seed=SEEDS)
def test_paper_form_facts(seed):
    ball, z, grad = random_ball(seed)
    l1 = grad.abs().sum(1)
    torch.testing.assert_close(fosc(ball, ball.x, grad, "paper"), ball.eps * l1)
    assert (fosc(ball, z, grad, "paper") <= 2 * ball.eps * l1 + 1e-12).all()
    way = ball.eps * grad.sign() - (z - ball.x)
    cosine = F.cosine_similarity(way, grad, dim=1)
    torch.testing.assert_close(fosc(ball, z, grad, "paper"), way.norm(dim=1) * grad.norm(dim=1) * cosine)


@given(seed=SEEDS, scale=st.floats(1e-3, 1e3), norm=st.sampled_from(["linf", "l2"]), form=st.sampled_from(FORMS))
def test_relative_fosc_is_between_zero_and_two_and_free_of_scale(seed, scale, norm, form):
    ball, z, grad = random_ball(seed, norm=norm)
    rho = relative_fosc(ball, z, grad, form)
    assert (rho >= -1e-9).all()
    assert (rho <= 2 + 1e-9).all()
    torch.testing.assert_close(relative_fosc(ball, z, scale * grad, form), rho)


def test_relative_fosc_is_one_in_the_middle_and_two_on_the_wrong_face():
    ball, _, grad = random_ball(1)
    grad = torch.where(grad == 0, 1.0, grad)
    low, high = ball.faces
    torch.testing.assert_close(relative_fosc(ball, (low + high) / 2, grad), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(
        relative_fosc(ball, torch.where(grad > 0, low, high), grad), torch.full((3,), 2.0, dtype=torch.float64)
    )


def test_relative_l2_fosc_is_that_of_the_set_and_not_of_where_the_image_lies_in_it():
    """By hand: at x = 0 the box leaves the gradient nowhere to go, but at z = .3 there is all the way back."""
    ball = Ball(torch.zeros(1, 1, dtype=torch.float64), 0.3, "l2")
    z, grad = torch.full((1, 1), 0.3, dtype=torch.float64), -torch.ones(1, 1, dtype=torch.float64)
    assert relative_fosc(ball, z, grad).tolist() == pytest.approx([2.0])
    assert relative_fosc(ball, ball.x, grad).tolist() == pytest.approx([0.0])
    wide = Ball(torch.tensor([[0.0, 0.5]], dtype=torch.float64), 0.3, "l2")
    grad = torch.tensor([[-1.0, -0.01]], dtype=torch.float64)
    assert 0 <= float(relative_fosc(wide, torch.tensor([[0.3, 0.5]], dtype=torch.float64), grad)) <= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_l2_does_not_feel_how_small_the_gradients_are(dtype):
    x = torch.full((1, 1, 4, 4), 0.5, dtype=dtype)
    ball = Ball(x, 0.3, "l2")
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=dtype)
    for scale in (1e-24, 1e-30, 1e24):
        torch.testing.assert_close(ball.steepest_step(scale * grad), ball.steepest_step(grad))
        for form in FORMS:
            torch.testing.assert_close(relative_fosc(ball, x, scale * grad, form), relative_fosc(ball, x, grad, form))
            assert float(fosc(ball, x, scale * grad, form)) > 0


def test_relative_fosc_without_a_gradient_is_not_a_number():
    ball, z, grad = random_ball(2)
    assert relative_fosc(ball, z, torch.zeros_like(grad)).isnan().all()


class Linear(nn.Module):
    """Two logits whose difference is linear, so that the margin loss has a constant gradient."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = x.flatten(1) @ self.weight
        return torch.stack([-score, torch.zeros_like(score)], dim=1)


EXPECTED_RANDOM = [1, 0.766, 0.563, 0.391, 0.25, 0.141, 0.063, 0.016, 0, 0]


def test_under_a_constant_gradient_fosc_falls_as_the_closed_form_says():
    ball = Ball(torch.full((200, 400), 0.5, dtype=torch.float64), 0.3)
    model = Linear(torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    y = torch.zeros(200, dtype=torch.long)
    attacked = pgd(
        model, ball, y, steps=9, alpha=0.075, loss="margin", keep_path=True, generator=torch.Generator().manual_seed(1)
    )
    assert attacked.path is not None
    measured = [
        relative_fosc(ball, z, g, "paper").mean().item()
        for z, g in zip(attacked.path.z, attacked.path.grad, strict=True)
    ]
    assert measured == pytest.approx(EXPECTED_RANDOM, abs=0.01)
    assert measured == pytest.approx([max(2 - k / 4, 0) ** 2 / 4 for k in range(10)], abs=0.01)


def test_without_a_random_start_it_falls_by_a_quarter_a_step():
    ball = Ball(torch.full((2, 50), 0.5, dtype=torch.float64), 0.3)
    model = Linear(torch.linspace(-1, 1, 50, dtype=torch.float64))
    attacked = pgd(
        model,
        ball,
        torch.zeros(2, dtype=torch.long),
        steps=5,
        alpha=0.075,
        loss="margin",
        start="clean",
        keep_path=True,
    )
    assert attacked.path is not None
    measured = [
        relative_fosc(ball, z, g, "paper")[0].item() for z, g in zip(attacked.path.z, attacked.path.grad, strict=True)
    ]
    assert measured == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0], abs=1e-9)


def test_pixels_at_zero_follow_their_own_law_in_the_box_form():
    """Half of the random starts are cut to 0. With a = 1 - k/4 of the way left, a pixel pushed up has .5 a + .25 a^2
    of eps to go, one pushed down .25 a^2; half of each, over the half width eps / 2, is (a + a^2) / 2."""
    ball = Ball(torch.zeros(400, 500, dtype=torch.float64), 0.3)
    model = Linear(torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(250))
    attacked = pgd(
        model,
        ball,
        torch.zeros(400, dtype=torch.long),
        steps=4,
        alpha=0.075,
        loss="margin",
        keep_path=True,
        generator=torch.Generator().manual_seed(0),
    )
    assert attacked.path is not None
    rho = [relative_fosc(ball, z, g).mean().item() for z, g in zip(attacked.path.z, attacked.path.grad, strict=True)]
    assert rho == pytest.approx([(a + a**2) / 2 for a in (1, 0.75, 0.5, 0.25, 0)], abs=0.01)


@given(seed=SEEDS, form=st.sampled_from(["box", "paper", "code"]))
def test_stop_rules_stop_at_equality_and_measure_from_their_reference_point(seed, form):
    ball, z, grad = random_ball(seed)
    z0 = ball.random_point(torch.Generator().manual_seed(seed + 7))
    c = {
        "box": fosc(ball, z, grad),
        "paper": fosc(ball, z, grad, "paper"),
        "code": ball.eps * grad.abs().sum(1) - ((z - z0) * grad).sum(1),
    }[form]
    for row in range(len(ball)):
        threshold = float(c[row]) + (1e-12 if form == "code" else 0.0)  # written in another order, so rounded otherwise
        assert bool(stop_below(threshold, form)(ball, z, grad, z0)[row])
        assert not bool(stop_below(float(c[row]) - 1e-6, form)(ball, z, grad, z0)[row])


@pytest.mark.parametrize(
    "call",
    [
        lambda b, z, g: fosc(b, z, g, "exact"),
        lambda b, z, g: stop_below(0.1, "exact"),
        lambda b, z, g: fosc_map(Ball(b.x, 0.1, "l2"), z, g),
    ],
)
def test_unknown_forms_are_refused(call):
    with pytest.raises(ValueError):
        call(*random_ball(0))
