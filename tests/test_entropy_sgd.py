"""EntropySGD and the falling learning rate: closed forms, PyTorch's own optimisers, and whole runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dynat_core.config import EntropySgd, Sgd
from dynat_core.theory import learning_rate
from dynat_core.theory.adversarial_sgd import Quadratic
from dynat_core.training import optimizers
from tests.networks import images, network
from tests.test_trainer import epochs, small

torch.set_num_threads(1)
QUIET: dict[str, Any] = {"noise": 0.0, "momentum": 0.0, "weight_decay": 0.0, "scoping": 0.0}


class Weights(nn.Module):
    """Nothing but weights (n,)."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(values.clone())


def walk(settings: EntropySgd, start: Tensor, loss: Callable[[Tensor], Tensor], batches: int, rate: float = 1.0):
    """The optimiser and its weights after `batches` batches."""
    model = Weights(start)
    optimizer = optimizers.build(settings, model)
    randomness = torch.Generator().manual_seed(0)
    for _ in range(batches):
        optimizer.begin()
        model.zero_grad()
        loss(model.w).backward()
        optimizer.step(rate, randomness)
    optimizer.settle()
    return optimizer, model.w.detach()


def batch_loss(model: nn.Module, seed: int) -> Tensor:
    x, y = images("digits-cnn", n=8, seed=seed)
    return nn.functional.cross_entropy(model(x), y)


# -------------------------------------------------------------------------------------------------------- closed forms


def test_a_walk_of_one_step_is_sgd_with_a_smaller_rate():
    settings = EntropySgd(walk=1, walk_lr=0.2, memory=0.6, gamma=5.0, **QUIET | {"weight_decay": 1e-2})
    ours, plain = network("digits-cnn"), network("digits-cnn")
    optimizer = optimizers.build(settings, ours)
    descent = torch.optim.SGD(plain.parameters(), lr=0.5 * (1 - 0.6) * 0.2, weight_decay=1e-2)
    for seed in range(4):
        for model in (ours, plain):
            model.zero_grad()
            batch_loss(model, seed).backward()
        optimizer.step(0.5, torch.Generator())
        descent.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
@pytest.mark.parametrize("a, gamma, rate, memory", [(2.0, 0.5, 0.1, 0.75), (0.3, 1.5, 0.4, 0.0), (1.0, 0.0, 0.1, 0.9)])
def test_on_a_quadratic_the_walks_mean_is_the_closed_form(steps, a, gamma, rate, memory):
    theta = torch.tensor([1.5, -0.4], dtype=torch.float64)
    settings = EntropySgd(walk=steps, walk_lr=rate, memory=memory, gamma=gamma, **QUIET)
    # rate 1 without momentum: the weights become the walk's mean
    _, mean = walk(settings, theta, lambda w: a * w.square().sum() / 2, steps)
    rest = gamma * theta / (a + gamma)
    r = 1 - rate * (a + gamma)
    past = sum(memory ** (steps - k) * r**k for k in range(1, steps + 1))
    torch.testing.assert_close(mean - rest, (theta - rest) * (memory**steps + (1 - memory) * past))


def test_a_long_walk_gives_the_gradient_of_the_local_entropy():
    theta, a, gamma = torch.tensor([1.5, -0.4], dtype=torch.float64), 2.0, 0.5
    settings = EntropySgd(walk=1000, walk_lr=0.1, gamma=gamma, **QUIET)
    _, mean = walk(settings, theta, lambda w: a * w.square().sum() / 2, 1000)
    torch.testing.assert_close(gamma * (theta - mean), gamma * a * theta / (a + gamma))


def test_the_noise_has_the_temperatures_size():
    settings = EntropySgd(walk=1, walk_lr=0.08, memory=0.0, gamma=0.0, **QUIET | {"noise": 0.3})
    _, w = walk(settings, torch.zeros(20_000, dtype=torch.float64), lambda w: 0 * w.sum(), 1)
    assert float(w.std()) == pytest.approx(math.sqrt(2 * 0.08) * 0.3, rel=0.02) and abs(float(w.mean())) < 0.005


def test_noise_settles_at_the_variance_of_the_temperature():
    """exp(-(a w^2 / 2 + gamma (w - theta)^2 / 2) / tau^2) has variance tau^2 / (a + gamma)."""
    a, gamma, tau = 1.0, 0.5, 0.4
    settings = EntropySgd(walk=400, walk_lr=0.02, memory=0.0, gamma=gamma, **QUIET | {"noise": tau})
    _, w = walk(settings, torch.zeros(4000, dtype=torch.float64), lambda w: a * w.square().sum() / 2, 400)
    assert float(w.var()) == pytest.approx(tau**2 / (a + gamma), rel=0.08)


def test_the_pull_grows_with_the_steps_of_the_weights_not_of_the_walk():
    settings = EntropySgd(walk=3, gamma=0.1, **QUIET | {"scoping": 0.5})
    for batches, steps in ((2, 0), (3, 1), (5, 1), (6, 2)):
        optimizer, _ = walk(settings, torch.ones(2), lambda w: w.square().sum(), batches)
        assert isinstance(optimizer, optimizers.EntropySgd)
        assert (optimizer.steps, optimizer.gamma) == (steps, pytest.approx(0.1 * 1.5**steps))


def test_momentum_in_the_walk_is_pytorchs_nesterov():
    settings = EntropySgd(walk=50, walk_lr=0.05, gamma=0.0, **QUIET | {"momentum": 0.9, "weight_decay": 1e-3})
    ours, plain = network("digits-cnn"), network("digits-cnn")
    optimizer = optimizers.build(settings, ours)
    descent = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    for seed in range(5):
        for model in (ours, plain):
            model.zero_grad()
            batch_loss(model, seed).backward()
        optimizer.step(0.1, torch.Generator())
        descent.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_momentum_of_the_weights_is_pytorchs_nesterov_along_what_the_walks_bring():
    settings = EntropySgd(walk=1, walk_lr=0.1, memory=0.0, gamma=0.0, **QUIET | {"momentum": 0.8})
    theta, a = torch.tensor([1.5, -0.4], dtype=torch.float64), 2.0
    _, ours = walk(settings, theta, lambda w: a * w.square().sum() / 2, 4, rate=0.3)
    plain = nn.Parameter(theta.clone())
    descent = torch.optim.SGD([plain], lr=0.3, momentum=0.8, nesterov=True)
    for _ in range(4):
        plain.grad = 0.1 * (1 + 0.8) * a * plain.detach()  # a walk's first step with momentum from rest
        descent.step()
    torch.testing.assert_close(ours, plain.detach())


# ---------------------------------------------------------------------------------------------------------- whole runs


def entropy(**changes: Any):
    return small(**{"optimizer.name": "entropy-sgd", "recording.probes": 0} | changes)


def same_weights(a, b) -> bool:
    return all(torch.equal(value, b.weights[name]) for name, value in a.weights.items())


def test_without_a_walk_it_is_plain_sgd():
    assert isinstance(optimizers.build(EntropySgd(walk=0), Weights(torch.ones(2))), optimizers.Sgd)
    settings = {"optimizer.lr": 0.05, "optimizer.milestones": []}
    ours, plain = epochs(entropy(**settings, **{"optimizer.walk": 0})), epochs(small(**settings))
    assert all(same_weights(a, b) for a, b in zip(ours, plain, strict=True))


@pytest.mark.parametrize("strategy", ["unsecured", "standard", "dynamic", "trades"])
def test_it_goes_with_every_strategy_and_a_batch_of_its_walk_costs_what_a_batch_of_sgd_costs(strategy):
    changes = {"strategy.name": strategy, "epochs": 1} | ({"strategy.T_control": 1} if strategy == "dynamic" else {})
    walked, plain = epochs(entropy(**changes, **{"optimizer.walk": 2}))[-1], epochs(small(**changes))[-1]
    assert walked.record["train/loss"] is not None and not same_weights(walked, plain)
    if strategy in ("standard", "trades"):  # five batches are two steps of the weights and half a walk
        assert walked.record["gradients/train_total"] == plain.record["gradients/train_total"] > 0


def test_what_is_measured_are_the_weights_and_not_where_the_walk_stands():
    """Five batches an epoch: a walk of 8 ends in the second one."""
    done = epochs(entropy(**{"optimizer.walk": 8, "optimizer.momentum": 0.5}))
    moving = [name for name in done[0].weights if name.endswith(("weight", "bias"))]
    assert all(torch.equal(done[0].weights[name], done[1].weights[name]) for name in moving)
    assert not any(torch.equal(done[1].weights[name], done[2].weights[name]) for name in moving)


def test_it_learns_digits():
    changes = {"optimizer.walk": 4, "optimizer.lr": 0.3, "optimizer.walk_lr": 0.05, "data.train_size": None}
    record = epochs(entropy(epochs=5, **{"strategy.name": "standard"}, **changes))[-1].record
    assert record["test/clean_accuracy"] > 0.8


def test_its_runs_are_told_from_those_of_sgd():
    assert entropy(**{"strategy.name": "standard"}).title().startswith("Standard with EntropySGD, digits")
    assert "EntropySGD" in entropy().summary() and "SGD" not in small().title() + small().summary()


# --------------------------------------------------------------------------------------------- the learning-rate rule


def test_hold_then_fall_is_the_rule_of_the_quadratic_model():
    q = Quadratic(0.05, 3, 4)
    until = math.log(q.start**2 / learning_rate.settled(q) - 1) / (2 * q.kappa)
    schedule = Sgd(lr=0.2, schedule="hold-then-fall", hold=until, fall=q.kappa)
    rule = learning_rate.ruled(q, 121)[::20]  # eta n = 0, 1, ... 6
    assert [schedule.rate(t) / 0.2 for t in range(7)] == pytest.approx(rule.tolist())
    assert rule[0] == 1 and rule[-1] < 0.3


def test_the_schedule_is_followed_and_recorded():
    config = small(epochs=4, **{"optimizer.schedule": "hold-then-fall", "optimizer.hold": 2, "optimizer.fall": 1})
    rates = [e.record["lr"] for e in epochs(config)]
    assert rates == pytest.approx(np.array([1, 1, 1, 1, 1 / 2]) * config.optimizer.lr)
