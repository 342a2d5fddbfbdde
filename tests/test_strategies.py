"""Training strategies: whom they attack and for how long, and what the weights learn from."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dynat_core.attack.attacks import value_and_grad
from dynat_core.attack.fosc import fosc
from dynat_core.attack.threat import Ball
from dynat_core.config import Dynamic, Standard, Unsecured
from dynat_core.training import strategies
from dynat_core.training.strategies import Moment
from tests.networks import images, network

EPS = 0.3


def moment(t: int = 0, n: int = 20, measured: bool = True, seed: int = 0) -> Moment:
    return Moment(
        t=t,
        frozen=network("digits-cnn"),
        ball=lambda x: Ball(x, EPS),
        generator=torch.Generator().manual_seed(seed),
        measured=torch.full((n,), measured),
    )


def loss_and_attack(settings, at: Moment):
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=20)
    loss, attacked = strategies.build(settings, EPS).loss(model, x, y, at)
    return model, x, y, loss, attacked


def test_unsecured_learns_from_clean_images_and_measures_fosc_there():
    model, x, y, loss, attacked = loss_and_attack(Unsecured(), moment())
    torch.testing.assert_close(loss, F.cross_entropy(model(x), y))
    assert (
        torch.equal(attacked.z, x) and attacked.gradients.tolist() == [1] * 20 and attacked.steps.tolist() == [0] * 20
    )
    unmeasured = loss_and_attack(Unsecured(), moment(measured=False))[4]
    assert unmeasured.gradients.tolist() == [0] * 20


def test_standard_takes_every_step_and_learns_from_the_end_points():
    model, _, y, loss, attacked = loss_and_attack(Standard(steps=4), moment())
    assert attacked.steps.tolist() == [4] * 20 and attacked.gradients.tolist() == [5] * 20
    torch.testing.assert_close(loss, F.cross_entropy(model(attacked.z), y))


def test_standard_is_dynamic_with_a_threshold_that_nothing_reaches():
    standard = loss_and_attack(Standard(steps=4), moment())[4]
    dynamic = loss_and_attack(Dynamic(steps=4, c_max=0.0, T_control=1), moment())[4]
    torch.testing.assert_close(standard.z, dynamic.z, atol=1e-12, rtol=0)


def test_a_random_start_differs_from_a_clean_one():
    from_clean = loss_and_attack(Standard(steps=1, start="clean"), moment())
    model, x, y = from_clean[:3]
    grad = value_and_grad(model, strategies.cross_entropy, x, y)[2]
    torch.testing.assert_close(from_clean[4].z, (x + EPS / 4 * grad.sign()).clamp(0, 1))
    assert not torch.equal(loss_and_attack(Standard(steps=1), moment())[4].z, from_clean[4].z)


@pytest.mark.parametrize("form", ["box", "paper"])
def test_dynamic_stops_each_image_once_its_fosc_is_at_most_the_epochs_threshold(form):
    for t in (0, 5, 9, 10, 20):
        settings = Dynamic(steps=10, c_max=0.1, T_control=10, stop_form=form)
        model, x, y, _, attacked = loss_and_attack(settings, moment(t))
        threshold = max(0.1 * (1 - t / 10), 0)
        assert strategies.build(settings, EPS).threshold(t) == pytest.approx(threshold)
        gap = fosc(Ball(x, EPS), attacked.z, value_and_grad(model, strategies.cross_entropy, attacked.z, y)[2], form)
        stopped_early = attacked.steps < 10
        assert (gap[stopped_early] <= threshold + 1e-9).all()
        assert (attacked.steps >= 1).all()
    early, late = (
        loss_and_attack(Dynamic(c_max=0.4, T_control=10), moment(t))[4].gradients.float().mean() for t in (0, 9)
    )
    assert early < late


def test_the_stop_forms_order_as_the_sets_they_look_at():
    """The paper's set is larger than the box form's, so its FOSC is larger and it never stops earlier."""
    box, paper = (
        loss_and_attack(Dynamic(c_max=0.06, T_control=10, stop_form=form), moment())[4].steps
        for form in ("box", "paper")
    )
    assert (paper >= box).all() and (paper > box).any()


def test_the_authors_code_weights_each_cross_entropy_by_itself_from_the_second_epoch_on():
    settings = Dynamic(c_max=0.3, T_control=10, as_published="code")
    model, _, y, loss, attacked = loss_and_attack(settings, moment(t=0))
    torch.testing.assert_close(loss, F.cross_entropy(model(attacked.z), y))
    model, _, y, loss, attacked = loss_and_attack(settings, moment(t=1))
    each = F.cross_entropy(model(attacked.z), y, reduction="none")
    torch.testing.assert_close(loss, each.square().mean())
    mine = torch.autograd.grad(loss, model[0].weight)[0]
    half_square = torch.autograd.grad(
        (F.cross_entropy(model(attacked.z), y, reduction="none").square() / 2).mean(), model[0].weight
    )[0]
    torch.testing.assert_close(mine, half_square)
