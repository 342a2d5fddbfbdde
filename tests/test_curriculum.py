"""Curriculum and FGSM-then-PGD: who is attacked for how long, when a lesson ends, and what the settings change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dynat_core.attack.attacks import pgd
from dynat_core.attack.threat import Ball
from dynat_core.config import Curriculum, Digits, Dynamic, FgsmThenPgd, Recording, RunConfig, Sgd, Standard
from dynat_core.errors import ConfigError
from dynat_core.training import optimizers, strategies, trainer
from dynat_core.training.curriculum import climb_each
from dynat_core.training.events import EpochDone
from dynat_core.training.strategies import Moment
from dynat_core.views.epoch_runs import asking, gradients
from tests.networks import images, network

EPS = 0.3


def moment(t: int = 0, n: int = 20, measured: bool = False) -> Moment:
    return Moment(t, network("digits-cnn"), lambda x: Ball(x, EPS), torch.Generator().manual_seed(0),
                  torch.full((n,), measured))  # fmt: skip


def small(epochs: int = 4, **changes) -> RunConfig:
    return RunConfig(
        epochs=epochs,
        data=Digits(train_size=120, test_size=30, validation_size=20),
        strategy=Curriculum(steps=2, patience=1),
        optimizer=Sgd(batch=32, lr=0.05),
        recording=Recording(steps=2, probes=0, train_rows=None, final_gradients=0),
    ).with_values(changes)


def done(config: RunConfig, **more) -> list[EpochDone]:
    return [e for e in trainer.train(config, device="cpu", **more) if isinstance(e, EpochDone)]


# ---------------------------------------------------------------------------------------------------------- attacks


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("measured", [True, False])
def test_climbing_together_is_pgd_for_each_image_with_its_own_number_of_steps(steps, measured):
    model, (x, y) = network("digits-cnn").double(), images("digits-cnn", n=12)
    x = x.double()
    ball = Ball(x, EPS)
    start = ball.random_point(torch.Generator().manual_seed(1))
    allotted = torch.arange(12) % (steps + 1)
    final = torch.full((12,), measured) & (torch.arange(12) % 2 == 0)
    found = climb_each(model, ball, y, start, allotted=allotted, alpha=0.1, final=final)
    for k in range(12):
        begin = start if allotted[k] else x
        one = pgd(model, ball[k : k + 1], y[k : k + 1], steps=int(allotted[k]), alpha=0.1, start=begin[k : k + 1],
                  final=bool(final[k]))  # fmt: skip
        torch.testing.assert_close(found.z[k], one.z[0], atol=1e-9, rtol=0)
        assert found.steps[k] == one.steps[0] == allotted[k]
        assert found.gradients[k] == one.gradients[0] == allotted[k] + int(final[k])
        assert found.steps_to_fool[k] == one.steps_to_fool[0]
        assert bool(found.loss[k].isnan()) == (not final[k])
        if final[k]:
            torch.testing.assert_close(found.loss[k], one.loss[0], atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(found.grad[k], one.grad[0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("lesson, n", [(0, 20), (3, 20), (7, 64), (10, 23), (40, 128), (5, 4)])
def test_a_batch_is_cut_into_k_plus_one_equal_parts(lesson, n):
    strategy = strategies.build(Curriculum(steps=40), EPS)
    strategy.lesson = lesson
    sizes = np.bincount(strategy.allotted(n).numpy(), minlength=lesson + 1)
    assert sizes.sum() == n and len(sizes) == lesson + 1 and sizes.max() - sizes.min() <= 1
    assert (np.diff(sizes) >= 0).all()  # what does not divide goes to the longer attacks
    strategy.settings = strategy.settings.model_copy(update={"mixing": False})
    assert strategy.allotted(n).tolist() == [lesson] * n


def test_the_first_lesson_is_clean_training():
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=20)
    loss, attacked = strategies.build(Curriculum(), EPS).loss(model, x, y, moment())
    torch.testing.assert_close(loss, F.cross_entropy(model(x), y))
    assert torch.equal(attacked.z, x) and attacked.gradients.tolist() == [0] * 20


def test_fgsm_takes_one_step_of_eps_until_the_switch_and_pgd_all_steps_after_it():
    x, y = images("digits-cnn", n=20)
    strategy = strategies.build(FgsmThenPgd(switch=2, steps=5), EPS)
    early, late = (strategy.attack(x, y, moment(t=t)) for t in (1, 2))
    assert early.steps.tolist() == [1] * 20 and late.steps.tolist() == [5] * 20
    start = Ball(x, EPS).random_point(torch.Generator().manual_seed(0))
    z = start.clone().requires_grad_(True)
    F.cross_entropy(network("digits-cnn")(z), y, reduction="sum").backward()
    by_hand = (start + EPS * z.grad.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)  # type: ignore[union-attr]
    torch.testing.assert_close(early.z, by_hand)


# ---------------------------------------------------------------------------------------------------------- lessons


def at_school(accuracies: list[float], **settings) -> list[int]:
    """The lesson of every epoch, if that is how often training was right in it."""
    strategy, lessons = strategies.build(Curriculum(**settings), EPS), []
    for t, accuracy in enumerate(accuracies):
        lessons.append(strategy.facts()["lesson"])
        strategy.right, strategy.seen = round(1000 * accuracy), 1000
        strategy.close_epoch(t, {})
    return lessons


def test_a_lesson_ends_at_its_target_or_when_nothing_has_become_better_for_a_while():
    assert at_school([0.95, 0.96, 0.94, 0.95, 0.5], target=0.95) == [0, 1, 2, 2, 3]
    # the first accuracy of a lesson is the one to beat
    assert at_school([0.5, 0.4, 0.5, 0.3, 0.2, 0.6, 0.1], target=0.95, patience=2) == [0, 0, 0, 1, 1, 1, 1]
    assert at_school([1.0] * 5, steps=2) == [0, 1, 2, 2, 2]
    assert at_school([1.0] * 5, steps=7, growth=3) == [0, 3, 6, 7, 7]


def test_the_lesson_is_recorded_and_what_it_costs_is_counted():
    records = [e.record for e in done(small(**{"strategy.target": 0.01}))]
    assert [r["lesson"] for r in records] == [0, 0, 1, 2, 2]  # epoch 0 is the untrained network
    spent = np.diff([r["gradients/train_total"] for r in records])
    parts = [[sum(min(k, lesson) * s for k, s in enumerate(sizes))
              for sizes in (np.bincount([lesson - i for i, p in enumerate(np.array_split(range(n), lesson + 1))
                                         for _ in p], minlength=lesson + 1) for n in (32, 32, 32, 24))]
             for lesson in (0, 1, 2, 2)]  # fmt: skip
    assert spent.tolist() == [sum(batches) for batches in parts]


def test_steps_that_are_settled_beforehand_cost_no_gradient_to_stop():
    counts = np.zeros((1, 103), dtype=np.int64)
    counts[0, [1, 3, 11]] = 2, 1, 1  # two images of 0 steps, one of 2, one of 10
    config = small()
    assert gradients(counts, 10, asking(config))[0] == 3
    assert gradients(counts, 10, asking(RunConfig(strategy=Dynamic())))[0] == (1 + 1 + 3 + 10) / 4


@pytest.mark.parametrize("changes", [{}, {"strategy.name": "fgsm-then-pgd", "strategy.switch": 2}])
def test_a_run_that_goes_on_from_any_batch_is_the_same_run(changes):
    config = small(**changes)
    whole = done(config)
    events = list(trainer.train(config, device="cpu"))
    for place in (3, len(events) // 2, len(events) - 6):
        ending = [event for k, event in zip(range(place + 1), trainer.train(config, device="cpu"), strict=False)]
        rest = done(config, state=ending[-1].state())  # type: ignore[union-attr]
        for event, wanted in zip(rest[::-1], whole[::-1], strict=False):
            assert {k: v for k, v in event.record.items() if "seconds" not in k} == {
                k: v for k, v in wanted.record.items() if "seconds" not in k
            }
            assert all(torch.equal(event.weights[name], wanted.weights[name]) for name in wanted.weights)


# ------------------------------------------------------------------------------------------ paper and authors' code


@pytest.mark.parametrize("settings", [Standard(as_published="code"), Dynamic(as_published="code")])
def test_the_code_weighs_each_loss_by_itself_from_the_second_epoch_on(settings):
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=20)
    for t in (0, 1):
        loss, attacked = strategies.build(settings, EPS).loss(model, x, y, moment(t=t))
        each = F.cross_entropy(model(attacked.z), y, reduction="none")
        torch.testing.assert_close(loss, (each * each.detach()).mean() if t else each.mean())
        (slope,) = torch.autograd.grad(loss, model.parameters().__next__(), retain_graph=True)
        (wanted,) = torch.autograd.grad((each**2 / 2 if t else each).mean(), model.parameters().__next__())
        torch.testing.assert_close(slope, wanted)


def test_keras_decay_divides_the_rate_by_the_updates_made():
    sgd = Sgd(lr=0.01, step_decay=1e-4, milestones=(2,))
    assert sgd.rate(0, 0) == 0.01 and sgd.rate(0, 10_000) == pytest.approx(0.005)
    assert sgd.rate(3, 30_000) == pytest.approx(0.001 / 4)
    assert Sgd(lr=0.01).rate(5, 99_999) == 0.01
    assert [e.record["lr"] for e in done(small(**{"optimizer.step_decay": 0.25}))] == [
        pytest.approx(0.05 / (1 + 0.25 * 4 * t)) for t in (0, 0, 1, 2, 3)
    ]


def test_every_update_sees_its_own_decayed_rate():
    config, rates = small(epochs=2, **{"optimizer.step_decay": 0.5}), []
    original = optimizers.Sgd.step
    try:
        optimizers.Sgd.step = lambda self, rate, randomness: rates.append(rate) or original(self, rate, randomness)  # type: ignore[method-assign]
        done(config)
    finally:
        optimizers.Sgd.step = original  # type: ignore[method-assign]
    assert rates == pytest.approx([0.05 / (1 + 0.5 * k) for k in range(8)])


def test_the_penalty_on_the_first_dense_layer_is_that_of_the_loss_written_out():
    x, y = images("digits-cnn", n=20)
    one, two = network("digits-cnn"), network("digits-cnn")
    ours = optimizers.build(Sgd(lr=0.1, momentum=0.0, weight_decay=1e-3, dense_l2=0.01), one)
    plain = torch.optim.SGD(two.parameters(), lr=0.1, weight_decay=1e-3)
    dense = next(m for m in two.modules() if isinstance(m, torch.nn.Linear))
    for _ in range(3):
        one.zero_grad()
        two.zero_grad()
        F.cross_entropy(one(x), y).backward()
        ours.step(0.1, torch.Generator())
        (F.cross_entropy(two(x), y) + 0.01 * dense.weight.pow(2).sum()).backward()
        plain.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_switch_that_is_never_reached_is_refused():
    with pytest.raises(ConfigError, match=r"^strategy\.switch must be at most epochs \(9 > 4\)\.$"):
        small(**{"strategy.name": "fgsm-then-pgd", "strategy.switch": 9})
