"""The transfer matrix: closed forms, another library on its diagonal, and what it says of masked models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from eagerpy.astensor import astensor
from foolbox.attacks.projected_gradient_descent import LinfProjectedGradientDescentAttack
from foolbox.criteria import Misclassification
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn

from dynat_core.attack.threat import Ball
from dynat_core.check.transfer import transfer
from dynat_core.statistics import wilson
from dynat_core.training.evaluate import generator_for
from tests.shipped import EPS, digits, shipped

torch.set_num_threads(1)


def matrix(models, x: Tensor, y: Tensor, **settings) -> dict:
    *_, event = transfer(models, x, y, **({"eps": EPS} | settings))
    assert event.result is not None
    return event.result


class Line(nn.Module):
    """Two classes and a straight boundary."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor) -> Tensor:
        score = (x - 0.5).flatten(1) @ self.w
        return torch.stack([score, -score], dim=1)


def test_between_linear_models_every_entry_is_its_closed_form():
    """Examples made on v sit in the corner of v; their score under w is w.(x - 1/2) -+ eps * w.sign(v)."""
    randomness, eps = torch.Generator().manual_seed(1), 0.1
    ways = torch.randn(3, 9, generator=randomness)
    x = 0.3 + 0.4 * torch.rand(60, 1, 3, 3, generator=randomness)
    y = torch.randint(0, 2, (60,), generator=randomness)
    found = matrix([(f"m{k}", Line(w)) for k, w in enumerate(ways)], x, y, eps=eps, batch=17)
    sign = 1 - 2 * y.numpy()
    for s, v in enumerate(ways.numpy()):
        for t, w in enumerate(ways.numpy()):
            score = sign * ((x.numpy() - 0.5).reshape(60, 9) @ w) - eps * (w @ np.sign(v))
            count = int((score > 0).sum())
            assert found["correct"][f"m{s}"][f"m{t}"] == count
            assert found["accuracy"][f"m{s}"][f"m{t}"] == count / 60
            assert (found["low"][f"m{s}"][f"m{t}"], found["high"][f"m{s}"][f"m{t}"]) == wilson(count, 60)
        clean = int((sign * ((x.numpy() - 0.5).reshape(60, 9) @ v) > 0).sum())
        assert found["clean"][f"m{s}"]["correct"] == clean
    assert found["names"] == ["m0", "m1", "m2"] and found["n"] == 60
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_diagonal_is_the_white_box_attack_of_another_library_and_its_examples_transfer_alike():
    x, y = digits(200)
    models = [("standard", shipped()), ("unsecured", shipped("demo-digits-unsecured"))]
    found = matrix(models, x, y, steps=20)
    attack = LinfProjectedGradientDescentAttack(abs_stepsize=EPS / 4, rel_stepsize=1.0, steps=20, random_start=True)
    start = Ball(x, EPS).random_point(generator_for(x.device, 0, "transfer"))
    attack.get_random_start = lambda x0, epsilon: astensor(start)
    for source, model in models:
        z = attack.run(PyTorchModel(model, (0, 1), "cpu"), x, Misclassification(y), epsilon=EPS)
        for target, judge in models:
            theirs = float((judge(z).argmax(1) == y).float().mean())
            assert abs(found["accuracy"][source][target] - theirs) < 0.01, (source, target)
    assert found["accuracy"]["unsecured"]["unsecured"] < 0.2 < found["accuracy"]["standard"]["unsecured"]
    assert found["accuracy"]["unsecured"]["standard"] > found["accuracy"]["standard"]["standard"]
    assert "may mislead" not in found["sentence"] and "PGD-20" in found["sentence"] and "200" in found["sentence"]


class Loud(nn.Module):
    """The shipped network with its logits times 1,000: the cross-entropy of what it gets right has no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return 1000 * shipped()(x)


def test_a_model_that_hides_its_gradients_is_named():
    x, y = digits(100)
    found = matrix([("plain", shipped()), ("loud", Loud())], x, y)
    assert found["accuracy"]["plain"]["loud"] == found["accuracy"]["plain"]["plain"] < found["accuracy"]["loud"]["loud"]
    assert "Examples made on plain leave loud fewer images" in found["sentence"]
    assert found["sentence"].count("may mislead") == 1


class Tight(nn.Module):
    """A network on a device with room for 8 images at once."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return shipped()(x)


def test_memory_that_runs_out_halves_the_batch_and_changes_no_number():
    x, y = digits(20)
    other = ("unsecured", shipped("demo-digits-unsecured"))
    events = list(transfer([("standard", Tight()), other], x, y, eps=EPS))
    assert [event.note for event in events if event.note] == ["Memory ran out; 5 images at a time now."]
    assert events[-1].result == matrix([("standard", shipped()), other], x, y, batch=5)
    share = [event.share for event in events]
    assert share == sorted(share) and share[-1] == 1.0 and all(event.result is None for event in events[:-1])


def test_the_same_seed_gives_the_same_matrix_and_modes_are_as_found():
    x, y = digits(30)
    models = [("standard", shipped()), ("dynamic", shipped("demo-digits-dynamic"))]
    models[1][1].train()
    first, again = (matrix(models, x, y, eps=0.3, seed=2) for _ in range(2))
    assert first == again and models[1][1].training and not models[0][1].training
    models[1][1].eval()
    assert matrix(models, x, y, eps=0.3, seed=2) == first


@pytest.mark.parametrize("bad", [{"eps": 0}, {"norm": "l1"}, {"batch": 0}, {"steps": 0}])
def test_impossible_requests_are_refused(bad):
    models = [("a", shipped()), ("b", shipped())]
    with pytest.raises(ValueError):
        next(transfer(models, *digits(5), **({"eps": EPS} | bad)))
    for wrong in (models[:1], [models[0], models[0]], []):
        with pytest.raises(ValueError, match="two or more models"):
            next(transfer(wrong, *digits(5), eps=EPS))
