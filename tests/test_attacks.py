"""The ascent loop: geometry, agreement with another library, stopping, compaction, restarts, and leaving no trace."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from eagerpy.astensor import astensor
from foolbox.attacks.projected_gradient_descent import (
    L2ProjectedGradientDescentAttack,
    LinfProjectedGradientDescentAttack,
)
from foolbox.criteria import Misclassification
from foolbox.models.pytorch import PyTorchModel
from torch import nn

from dynat_core.attack.attacks import (
    ascend,
    best_other,
    cross_entropy,
    cw,
    cw_loss,
    fgsm,
    margin,
    margin_loss,
    pgd,
    value_and_grad,
)
from dynat_core.attack.fosc import fosc, stop_below
from dynat_core.attack.threat import Ball, inner
from tests.networks import images, network

THREATS = [("linf", 0.3), ("linf", 8 / 255), ("l2", 0.5)]
ATTACKS = {
    "pgd": lambda model, ball, y, gen: pgd(model, ball, y, steps=5, alpha=ball.eps / 4, generator=gen, keep_path=True),
    "pgd-margin": lambda model, ball, y, gen: pgd(
        model, ball, y, steps=5, alpha=ball.eps / 4, loss="margin", generator=gen
    ),
    "fgsm": lambda model, ball, y, gen: fgsm(model, ball, y, generator=gen),
    "cw": lambda model, ball, y, gen: cw(model, ball, y, steps=5, generator=gen),
    "pgd-stopped": lambda model, ball, y, gen: pgd(
        model, ball, y, steps=5, alpha=ball.eps / 4, stop=stop_below(0.05), generator=gen
    ),
    "pgd-best": lambda model, ball, y, gen: pgd(
        model, ball, y, steps=5, alpha=ball.eps / 4, keep="best", restarts=2, generator=gen
    ),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["digits-cnn", "mnist-cnn", "preact-resnet18"])
@pytest.mark.parametrize("norm, eps", THREATS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_every_end_point_is_in_the_ball_and_described_truly(name, norm, eps, attack):
    model, (x, y) = network(name), images(name, n=3)
    ball = Ball(x, eps, norm)
    found = ATTACKS[attack](model, ball, y, seeded())
    assert ball.contains(found.z, 1e-9).all()
    points = found.z[None] if found.path is None else found.path.z
    assert all(ball.contains(z, 1e-9).all() for z in points)
    loss = {"pgd-margin": margin_loss, "cw": cw_loss()}.get(attack, cross_entropy)
    logits, value, grad = value_and_grad(model, loss, found.z, y)
    torch.testing.assert_close(found.loss, value, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(found.grad, grad, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(found.logits, logits, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", ["digits-cnn", "mnist-cnn"])
@pytest.mark.parametrize("norm, eps", THREATS)
def test_pgd_is_foolboxs_pgd_step_by_step(name, norm, eps):
    model, (x, y) = network(name), images(name, n=4)
    ball = Ball(x, eps, norm)
    start = ball.random_point(seeded(3))
    mine = pgd(model, ball, y, steps=6, alpha=eps / 4, start=start, keep_path=True)
    assert mine.path is not None
    kind = LinfProjectedGradientDescentAttack if norm == "linf" else L2ProjectedGradientDescentAttack
    peer_model = PyTorchModel(model, bounds=(0, 1), device="cpu")
    for steps in range(1, 7):
        peer = kind(abs_stepsize=eps / 4, steps=steps, random_start=True)
        peer.get_random_start = lambda x0, epsilon: astensor(start)  # the same start as ours
        theirs = peer.run(peer_model, x, Misclassification(y), epsilon=eps)
        torch.testing.assert_close(mine.path.z[steps], theirs, atol=1e-9, rtol=0)


@pytest.mark.parametrize("form", ["box", "paper", "code"])
@pytest.mark.parametrize("norm, eps", [("linf", 0.3), ("l2", 1.0)])
def test_leaving_the_batch_gives_the_same_points_as_only_being_masked(form, norm, eps):
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=24)
    ball = Ball(x, eps, norm)
    start, alpha, steps = ball.random_point(seeded(1)), eps / 4, 10
    reached = []
    halfway = pgd(model, ball, y, steps=5, alpha=alpha, start=start)
    gap = fosc(ball, halfway.z, halfway.grad, "box" if form == "box" else "paper")
    if form == "code":
        gap += inner(halfway.grad, start - x)
    threshold = float(gap.median())
    found = pgd(model, ball, y, steps=steps, alpha=alpha, start=start, stop=stop_below(threshold, form))

    z, moving = (
        start.clone(),
        torch.ones(24, dtype=torch.bool),
    )  # the plain loop of Algorithm 1: everyone stays, V decides
    for k in range(steps):
        _, _, grad = value_and_grad(model, cross_entropy, z, y)
        if k > 0:
            moving &= ~stop_below(threshold, form)(ball, z, grad, start)
        stepped = ball.project(z + alpha * ball.steepest_step(grad))
        z = torch.where(moving.view(-1, 1, 1, 1), stepped, z)
        reached.append(moving.clone())
    assert int(found.steps.min()) < steps  # some stopped, or the test would show nothing
    torch.testing.assert_close(found.z, z, atol=1e-9, rtol=0)
    assert torch.equal(found.steps, torch.stack(reached).sum(0).int())


@pytest.mark.parametrize("look_every", [2, 3, 4, 50])
@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("final", [True, False, "some"])
def test_asking_seldom_who_is_left_gives_the_same_points_steps_and_gradients(look_every, keep, final):
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=24)
    ball = Ball(x, 0.3)
    start = ball.random_point(seeded(1))
    halfway = pgd(model, ball, y, steps=3, alpha=0.075, start=start)
    stop = stop_below(float(fosc(ball, halfway.z, halfway.grad).median()))
    last = torch.arange(24) % 3 == 0 if final == "some" else final
    often, seldom = (
        ascend(
            model, ball, y, start, steps=8, alpha=0.075, loss=cross_entropy, stop=stop, look_every=every,
            final=last, keep_path=last is True, keep_best=keep == "best" and last is True,
        )
        for every in (1, look_every)
    )  # fmt: skip
    assert len(often.steps.unique()) > 1  # they stopped at several steps, or nothing would be shown
    for name in ("steps", "gradients", "steps_to_fool"):
        assert torch.equal(getattr(often, name), getattr(seldom, name)), name
    for name in ("z", "loss", "grad", "logits"):
        torch.testing.assert_close(getattr(often, name), getattr(seldom, name), atol=1e-9, rtol=0, equal_nan=True)
    if last is True:
        assert often.path is not None and seldom.path is not None
        torch.testing.assert_close(often.path.z, seldom.path.z, atol=1e-9, rtol=0)


def test_a_stopped_sample_costs_one_gradient_more_than_its_steps_and_one_that_never_stops_at_most_the_final_one():
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=16)
    ball = Ball(x, 0.3)
    everything = pgd(model, ball, y, steps=7, alpha=0.075, stop=stop_below(float("inf")), generator=seeded())
    assert everything.steps.tolist() == [1] * 16 and everything.gradients.tolist() == [2] * 16
    never = pgd(model, ball, y, steps=7, alpha=0.075, stop=stop_below(-1.0), generator=seeded(), final=False)
    assert never.steps.tolist() == [7] * 16 and never.gradients.tolist() == [7] * 16
    assert never.loss.isnan().all() and never.grad.isnan().all()
    some = torch.arange(16) % 2 == 0
    part = pgd(model, ball, y, steps=7, alpha=0.075, stop=stop_below(-1.0), generator=seeded(), final=some)
    assert part.gradients.tolist() == [8, 7] * 8
    assert torch.equal(part.loss.isnan(), ~some)
    torch.testing.assert_close(part.z, never.z)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_samples_result_does_not_depend_on_its_batch(attack):
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=8)
    ball = Ball(x, 0.3)
    start = ball.random_point(seeded(2))
    stop = stop_below(0.05) if attack == "pgd-stopped" else None
    whole = pgd(model, ball, y, steps=5, alpha=0.075, start=start, stop=stop)
    for k in range(8):
        alone = pgd(model, ball[k : k + 1], y[k : k + 1], steps=5, alpha=0.075, start=start[k : k + 1], stop=stop)
        torch.testing.assert_close(alone.z, whole.z[k : k + 1], atol=1e-9, rtol=0)
        assert int(alone.gradients) == int(whole.gradients[k])


class Planted(nn.Module):
    """Right everywhere except near one corner of the ball around 0.5, uphill all the way."""

    def __init__(self, corner: torch.Tensor, reach: float) -> None:
        super().__init__()
        self.corner, self.reach = corner, reach

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        distance = (x - self.corner).flatten(1).abs().amax(1)
        far = (x - self.corner).flatten(1).square().sum(1)
        return torch.stack([far + 0.5 * (distance > self.reach), torch.full_like(far, 0.25)], dim=1)


def test_a_planted_adversarial_example_is_found():
    x = torch.full((1, 1, 3, 3), 0.5, dtype=torch.float64)
    corner = x + 0.2 * torch.tensor([1, -1, 1, -1, 1, 1, -1, 1, -1.0], dtype=torch.float64).view(1, 1, 3, 3)
    model = Planted(corner, 0.01)
    y = torch.zeros(1, dtype=torch.long)
    assert int(model(x).argmax()) == 0
    found = pgd(model, Ball(x, 0.2), y, steps=10, alpha=0.05, generator=seeded())
    assert int(model(found.z).argmax()) == 1
    torch.testing.assert_close(found.z, corner)
    assert 0 < int(found.steps_to_fool) <= 8


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_same_generator_seed_gives_the_same_points_and_another_does_not(attack):
    model, (x, y) = network("digits-cnn", torch.float32), images("digits-cnn", n=5, dtype=torch.float32)
    ball = Ball(x, 0.2)
    first, again, other = (ATTACKS[attack](model, ball, y, seeded(s)) for s in (4, 4, 5))
    assert torch.equal(first.z, again.z) and torch.equal(first.loss, again.loss)
    assert not torch.equal(first.z, other.z)


def test_fgsm_from_the_clean_image_is_one_signed_step():
    model, (x, y) = network("digits-cnn"), images("digits-cnn")
    grad = torch.autograd.grad(F.cross_entropy(model(x.requires_grad_()), y, reduction="sum"), x)[0]
    expected = (x + 0.1 * grad.sign()).clamp(0, 1).detach()
    torch.testing.assert_close(fgsm(model, Ball(x.detach(), 0.1), y, start="clean").z, expected)


def test_restarts_and_best_so_far_never_make_the_attack_weaker():
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=20)
    y = model(x).argmax(1)  # so that nothing is fooled to begin with
    ball = Ball(x, 0.1)
    once = pgd(model, ball, y, steps=4, alpha=0.1, generator=seeded(8))
    thrice = pgd(model, ball, y, steps=4, alpha=0.1, generator=seeded(8), restarts=3)
    best = pgd(model, ball, y, steps=4, alpha=0.1, generator=seeded(8), keep="best")
    for better in (thrice, best):
        fooled_once, fooled_better = once.logits.argmax(1) != y, better.logits.argmax(1) != y
        assert (fooled_better | ~fooled_once).all()
        same = fooled_once == fooled_better
        assert (better.loss[same] >= once.loss[same] - 1e-12).all()
    assert torch.equal(thrice.gradients, 3 * once.gradients)


def test_the_path_agrees_with_shorter_attacks():
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=10)
    ball = Ball(x, 0.3)
    start = ball.random_point(seeded())
    whole = pgd(model, ball, y, steps=6, alpha=0.075, start=start, keep_path=True, stop=stop_below(0.3))
    assert whole.path is not None and len(whole.path.z) == 7
    for k in range(7):
        part = pgd(model, ball, y, steps=k, alpha=0.075, start=start, stop=stop_below(0.3))
        torch.testing.assert_close(whole.path.z[k], part.z, atol=1e-9, rtol=0)
        torch.testing.assert_close(whole.path.loss[k], part.loss, atol=1e-9, rtol=1e-9)
    wrong = whole.path.logits.argmax(2) != y
    first = torch.where(wrong.any(0), wrong.int().argmax(0), -1)
    assert torch.equal(whole.steps_to_fool, first.int())


def test_stopping_on_a_fixed_model_is_a_truncation_of_the_whole_path():
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=12)
    ball = Ball(x, 0.3)
    start = ball.random_point(seeded())
    path = pgd(model, ball, y, steps=8, alpha=0.075, start=start, keep_path=True).path
    assert path is not None
    for c in (0.01, 0.1, 1.0):
        stopped = pgd(model, ball, y, steps=8, alpha=0.075, start=start, stop=stop_below(c))
        for k in range(12):
            here = [
                float(fosc(ball[k : k + 1], z[k : k + 1], g[k : k + 1])) for z, g in zip(path.z, path.grad, strict=True)
            ]
            at = next((s for s in range(1, 8) if here[s] <= c), 8)
            assert int(stopped.steps[k]) == at
            torch.testing.assert_close(stopped.z[k], path.z[at, k], atol=1e-9, rtol=0)


def test_losses_mask_the_true_class_and_not_by_zero():
    logits = torch.tensor([[-3.0, -5.0, -4.0], [2.0, 1.0, 7.0]])
    y = torch.tensor([0, 2])
    assert best_other(logits, y).tolist() == [-4.0, 2.0]
    assert margin(logits, y).tolist() == [1.0, 5.0]
    assert cw_loss(2.0)(logits, y).tolist() == [-3.0, -7.0]
    assert cw_loss(2.0)(torch.tensor([[0.0, 5.0]]), torch.tensor([0])).tolist() == [0.0]  # leads by more than 2: flat


class Halting(nn.Module):
    """Raises at its third call."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = network("digits-cnn"), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("out of memory")
        return self.net(x)


@pytest.mark.parametrize("fails", [False, True])
def test_flags_and_gradients_are_as_found_afterwards_also_after_an_exception(fails):
    model = Halting()
    model.calls = 0 if fails else -100
    model.train()
    model.net[1].eval()  # one BatchNorm that its owner keeps frozen
    parameters = list(model.parameters())
    parameters[0].grad = torch.ones_like(parameters[0])
    flags = [m.training for m in model.modules()]
    buffers = {k: v.clone() for k, v in model.state_dict().items()}
    x, y = images("digits-cnn")
    try:
        pgd(model, Ball(x, 0.1), y, steps=4, alpha=0.03)
        assert not fails
    except RuntimeError as error:
        assert fails and "out of memory" in str(error)
    assert [m.training for m in model.modules()] == flags
    assert (parameters[0].grad == 1).all() and all(p.grad is None for p in parameters[1:])
    assert all(torch.equal(v, buffers[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": -1},
        {"alpha": -0.1},
        {"alpha": 0.0},
        {"restarts": 0},
        {"final": False, "keep_path": True},
        {"final": False, "restarts": 2},
    ],
)
def test_impossible_calls_are_refused(bad):
    x, y = images("digits-cnn")
    with pytest.raises(ValueError):
        pgd(network("digits-cnn"), Ball(x, 0.1), y, **{"steps": 2, "alpha": 0.1} | bad)


def test_an_empty_batch_and_eps_zero_are_no_special_cases():
    model, (x, y) = network("digits-cnn"), images("digits-cnn")
    assert len(pgd(model, Ball(x[:0], 0.1), y[:0], steps=3, alpha=0.1).z) == 0
    torch.testing.assert_close(pgd(model, Ball(x, 0.0), y, steps=3, alpha=0.0).z, x)
