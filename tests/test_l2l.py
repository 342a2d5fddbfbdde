"""The learned inner optimiser: PGD behind the same interface, its gradient, what it may and may not see, and a run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import pgd
from dynat_core.attack.learned import CUT, Learned, Momentum, Recurrent, Sign, attack, read, unroll
from dynat_core.attack.threat import Ball
from dynat_core.config import L2L
from dynat_core.store.runs import RunStore
from dynat_core.training import strategies
from dynat_core.training.strategy import Moment
from dynat_core.views.epoch_runs import asking, gradients
from dynat_core.views.facts import cost_words
from tests.networks import images, network
from tests.running import assert_same, finished_run, in_child, tiny, train_here
from tests.test_trainer import epochs, small

EPS, N = 0.3, 12
torch.set_num_threads(1)


def rule(units: int = 6, seed: int = 3, size: float = 1.0) -> Learned:
    net = Recurrent.seeded(units, seed).double()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(size)
    return Learned(net, EPS / 4)


def batch(n: int = N) -> tuple[nn.Module, Ball, Tensor]:
    x, y = images("digits-cnn", n=n)
    return network("digits-cnn"), Ball(x, EPS), y


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(4)


# ----------------------------------------------------------------------------------------------------- the interface


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_sign_rule_is_pgd_bit_for_bit(norm):
    model, ball, y = batch()
    ball = Ball(ball.x, EPS, norm)
    ours = attack(model, ball, y, Sign(EPS / 4), 7, generator=seeded(), keep_path=True)
    theirs = pgd(model, ball, y, steps=7, alpha=EPS / 4, generator=seeded(), keep_path=True)
    for name in ("z", "grad", "loss", "logits", "gradients", "steps", "steps_to_fool"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert ours.path is not None and theirs.path is not None and torch.equal(ours.path.z, theirs.path.z)


def test_momentum_without_decay_is_pgd_and_with_it_sums_gradients_of_norm_one():
    model, ball, y = batch()
    plain = attack(model, ball, y, Sign(EPS / 4), 5, generator=seeded())
    assert torch.equal(attack(model, ball, y, Momentum(EPS / 4, 0.0), 5, generator=seeded()).z, plain.z)
    moved = attack(model, ball, y, Momentum(EPS / 8), 2, generator=seeded(), keep_path=True).path
    assert moved is not None
    unit = moved.grad / moved.grad.flatten(2).abs().sum(2).view(3, N, 1, 1, 1)
    torch.testing.assert_close(moved.z[2], ball.project(moved.z[1] + EPS / 8 * (unit[0] + unit[1]).sign()))


def test_zero_output_leaves_every_image_at_its_start():
    model, ball, y = batch()
    still = rule(size=0.0)
    start = ball.random_point(seeded())
    assert torch.equal(attack(model, ball, y, still, 5, start=start).z, start)


def test_permuting_pixels_permutes_the_steps():
    ball = Ball(torch.full((3, 1, 4, 4), 0.5, dtype=torch.float64), EPS)
    order = torch.randperm(16, generator=seeded())
    learned, memories = rule(), [None, None]
    for step in range(3):
        grad = torch.randn(3, 1, 4, 4, generator=seeded().manual_seed(step), dtype=torch.float64)
        shuffled = grad.flatten(1)[:, order].view_as(grad)
        plain, memories[0] = learned(ball, grad, memories[0])
        moved, memories[1] = learned(ball, shuffled, memories[1])
        torch.testing.assert_close(moved, plain.flatten(1)[:, order].view_as(grad), rtol=0, atol=1e-15)


def test_samples_do_not_interact():
    model, ball, y = batch()
    start = ball.random_point(seeded())
    whole = attack(model, ball, y, rule(), 5, start=start).z
    alone = attack(model, ball[4:5], y[4:5], rule(), 5, start=start[4:5]).z
    torch.testing.assert_close(whole[4:5], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm, longest", [("linf", EPS / 2), ("l2", EPS / 2)])
def test_every_point_lies_in_ball_and_box_and_no_step_is_longer_than_two_alpha(norm, longest):
    model, ball, y = batch()
    ball = Ball(ball.x, EPS, norm)
    path = attack(model, ball, y, rule(size=30.0), 6, generator=seeded(), keep_path=True).path
    assert path is not None
    for z in path.z:
        assert bool(ball.contains(z).all())
    step, _ = rule(size=30.0)(ball, path.grad[0], None)
    size = step.flatten(1).abs().amax(1) if norm == "linf" else step.flatten(1).norm(dim=1)
    assert (size <= longest + 1e-12).all() and float(size.max().detach()) > 0.8 * longest


def test_what_the_network_reads_of_a_gradient():
    values = [1.0, -1.0, math.exp(-5), -math.exp(-9.99), math.exp(-11), -math.exp(-12), 0.0]
    expected = [(0, 1), (0, -1), (-0.5, 1), (-0.999, -1), (-1, math.exp(-1)), (-1, -math.exp(-2)), (-1, 0)]
    torch.testing.assert_close(
        read(torch.tensor(values, dtype=torch.float64)), torch.tensor(expected, dtype=torch.float64)
    )
    tiny = torch.tensor([1e-300], dtype=torch.float64, requires_grad=True)
    read(tiny).sum().backward()
    assert tiny.grad is not None and torch.isfinite(tiny.grad).all() and math.exp(CUT) > 2e4


# ---------------------------------------------------------------------------------------------------- its own gradient


class Linear(nn.Module):
    """Logits (n, 1) that are linear in the image, so that no second derivative exists."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(64, generator=seeded(), dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight[:, None]


def first(logits: Tensor, y: Tensor) -> Tensor:
    return logits[:, 0]


def gain_of(learned: Learned, model: nn.Module, ball: Ball, y: Tensor, start: Tensor, steps: int) -> float:
    """sum_k w_k loss(z_k), batch mean, from the recorded path."""
    path = attack(model, ball, y, learned, steps, loss=first, start=start, keep_path=True).path
    assert path is not None
    weights = [k / sum(range(1, steps + 1)) for k in range(1, steps + 1)]
    return sum(w * float(path.loss[k].mean()) for k, w in enumerate(weights, start=1))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [1, 4])
def test_for_a_linear_loss_the_attackers_gradient_is_that_of_finite_differences(norm, steps):
    x, y = images("digits-cnn", n=5)
    model, ball, learned = Linear(), Ball(x, EPS, norm), rule(units=3)
    start = ball.random_point(seeded())
    _, gain = unroll(model, ball, y, learned, steps, loss=first, start=start)
    gain.backward()
    for p in learned.net.parameters():
        assert p.grad is not None
        for place in range(0, p.numel(), 5):
            flat, values = p.data.view(-1), []
            for shift in (1e-5, -1e-5):
                flat[place] += shift
                values.append(gain_of(learned, model, ball, y, start, steps))
                flat[place] -= shift
            expected = (values[0] - values[1]) / 2e-5
            assert float(p.grad.view(-1)[place]) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_a_cut_pixel_passes_no_gradient_on():
    """All pixels sit on the face they are pushed against, so no step can move one."""
    model, learned = Linear(), rule(units=3)
    x = torch.full((2, 1, 8, 8), 0.5, dtype=torch.float64)
    ball, y = Ball(x, 0.01), torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        learned.net.out.bias.fill_(5.0)  # always up, by far more than the ball
    start = ball.faces[1]
    attacked, gain = unroll(model, ball, y, learned, 3, loss=first, start=start)
    assert torch.equal(attacked.z, start)
    gain.backward()
    assert all(p.grad is None or bool((p.grad == 0).all()) for p in learned.net.parameters())


def test_the_model_is_left_as_it_was_and_gets_no_gradient():
    model, ball, y = batch()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _, gain = unroll(model, ball, y, rule(), 3, generator=seeded())
    gain.backward()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(m.training for m in model.modules()) and all(p.grad is None for p in model.parameters())


# --------------------------------------------------------------------------------------------------------- a strategy


def moment(model: nn.Module) -> Moment:
    return Moment(0, model, lambda x: Ball(x, EPS), seeded(), torch.zeros(N, dtype=torch.bool))


def test_a_batch_moves_the_attacker_uphill_and_the_loss_is_that_at_the_end_points():
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=N)
    strategy = strategies.build(L2L(steps=4, attacker_lr=1e-2), EPS, seed=1)
    losses = []
    for _ in range(40):
        loss, attacked = strategy.loss(model, x, y, moment(model))
        torch.testing.assert_close(loss, nn.functional.cross_entropy(model(attacked.z), y))
        assert attacked.gradients.tolist() == [5] * N  # the end point's too, recorded or not
        losses.append(float(loss.detach()))
    assert losses[-1] > losses[0] + 0.03
    still = strategy.state_dict()
    strategy.attack(x, y, moment(model))
    assert all(torch.equal(value, still[name]) for name, value in strategy.state_dict().items())


def test_another_seed_is_another_attacker_and_its_state_goes_through():
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=N)
    one, other = (strategies.build(L2L(steps=3), EPS, seed=seed) for seed in (1, 2))
    assert not torch.equal(one.state_dict()["net/out.weight"], other.state_dict()["net/out.weight"])
    for _ in range(2):
        one.loss(model, x, y, moment(model))
    other.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    for _ in range(2):
        a, b = (s.loss(model, x, y, moment(model))[0] for s in (one, other))
        assert torch.equal(a, b)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def l2l(**changes: Any):
    return small(**{"strategy.name": "l2l", "recording.probes": 0} | changes)


def test_a_run_counts_one_gradient_more_than_steps():
    done = epochs(l2l(**{"recording.final_gradients": 20}))
    assert [e.record["gradients/train_total"] for e in done] == [0, 300 * 5, 300 * 10]
    assert all(e.record["train/n"] == 300 for e in done[1:]) and L2L(steps=4).gradients == 5
    config, counts = l2l(), np.array([e.histograms["train/steps"] for e in done])
    spent = gradients(counts, L2L(steps=4).gradients, asking(config))
    assert spent.tolist() == [5, 5, 5] and cost_words(config, spent[-1]) == "5.0 of 5"  # what every screen says


def test_l2_and_the_fast_precision_and_no_room_at_all_train_too():
    for changes in ({"threat.norm": "l2", "threat.eps": 1.0, "precision": "fast"}, {"threat.eps": 0.0}):
        config = l2l(epochs=1, **{"data.train_size": 64, "data.test_size": 20, "strategy.steps": 2} | changes)
        assert epochs(config)[-1].record["train/loss"] is not None


def test_a_run_that_a_process_left_goes_on_with_its_attacker_and_its_walk_bit_for_bit(tmp_path):
    config = tiny(**{"strategy.name": "l2l", "strategy.steps": 2, "optimizer.name": "entropy-sgd",
                     "optimizer.walk": 2, "recording.paths": False})  # fmt: skip
    run, looks = RunStore(tmp_path / "parts").create(config), iter(range(1, 10_000))
    for _ in range(2):  # left twice, in the middle of an epoch and of a walk

        def leave() -> None:
            train_here(run, lambda: next(looks) == 5)

        assert in_child(leave) == 0 and run.state == "interrupted"
    assert in_child(lambda: train_here(run)) == 0 and run.state == "finished"
    assert_same(run, finished_run(tmp_path / "whole", config))
