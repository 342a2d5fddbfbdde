"""A line through a network's weights, against the closed form of an attacked linear model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dynat_core.attack.threat import Ball
from dynat_core.errors import RunError
from dynat_core.recorded.packing import pack, unpack
from dynat_core.store.runs import RunStore
from dynat_core.training.weight_line import direction_from, probed, random_direction
from dynat_core.work.analyses import ANALYSES
from dynat_core.work.analysis import Replaced

STORE = Path(__file__).resolve().parent.parent / "checkpoints"
EPS, DIM, CROSSED = 0.2, 6, 7
torch.set_num_threads(1)


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Linear(nn.Module):
    """Two classes; the logit of class 0 is 0, that of class 1 is <w, x>."""

    def __init__(self, w: torch.Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logit = x.flatten(1) @ self.w
        return torch.stack([torch.zeros_like(logit), logit], dim=1)


def gradient(w: np.ndarray, x: np.ndarray, sign: np.ndarray, eps: float, answer: np.ndarray | None = None):
    """Of the mean of log(1 + exp(-m)), m = sign <w, x> - eps ||w||_1, without a pixel box; answer: sign w it is taken
    at."""
    turned = np.sign(w if answer is None else answer)
    moved = sign[:, None] * x - eps * turned
    return np.mean(-moved / (1 + np.exp(moved @ w))[:, None], axis=0)


@pytest.fixture(scope="module")
def line():
    """(arrays, weights at each place, x, sign): the third weight crosses 0 between the places 7 and 8."""
    w = torch.tensor([0.5, -0.7, 0.025, 0.9, -0.3, 0.4], dtype=torch.float64)
    x = torch.rand(8, 1, 1, DIM, generator=generator(), dtype=torch.float64)
    y = torch.arange(8) % 2
    along = {"w": torch.tensor([0.1, 0.05, -1.0, 0, 0.2, 0], dtype=torch.float64)}
    at = torch.linspace(-0.05, 0.05, 11, dtype=torch.float64)
    found = probed(Linear(w).double(), Ball(x, EPS, low=-9, high=9), y, along, at, generator())
    weights = w.numpy() + at.numpy()[:, None] * along["w"].numpy()
    return found, weights, x.flatten(1).numpy(), np.where(y.numpy() == 1, 1.0, -1.0)


def quotients(weights: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    return np.linalg.norm(np.diff(gradients, axis=0), axis=1) / np.linalg.norm(np.diff(weights, axis=0), axis=1)


def test_the_change_of_the_gradient_is_the_closed_form_s(line):
    found, weights, x, sign = line
    attacked = quotients(weights, [gradient(w, x, sign, EPS) for w in weights])
    still = quotients(weights, [gradient(w, x, sign, 0) for w in weights])
    np.testing.assert_allclose(found["attacked"], attacked, rtol=1e-9)
    np.testing.assert_allclose(found["still"], still, rtol=1e-9)
    assert attacked.argmax() == CROSSED and attacked[CROSSED] > 5 * np.delete(attacked, CROSSED).max()


def test_with_the_attack_held_there_is_no_jump(line):
    found, weights, x, sign = line
    held = [
        np.linalg.norm(gradient(b, x, sign, EPS, a) - gradient(a, x, sign, EPS)) / np.linalg.norm(b - a)
        for a, b in zip(weights, weights[1:], strict=False)
    ]
    np.testing.assert_allclose(found["held"], held, rtol=1e-9)
    other = np.arange(len(held)) != CROSSED
    np.testing.assert_allclose(found["held"][other], found["attacked"][other], rtol=1e-9)


def test_losses_turned_signs_and_what_the_attack_left(line):
    found, weights, x, sign = line
    margins = sign * (weights[1:] @ x.T)
    attacked = margins - EPS * np.abs(weights[1:]).sum(axis=1, keepdims=True)
    for name, m in (("clean", margins), ("loss", attacked)):
        np.testing.assert_allclose(found[name], np.log1p(np.exp(-m)).mean(axis=1), rtol=1e-9)
    assert found["flips"].tolist() == [1 / DIM if k == CROSSED else 0 for k in range(10)]
    assert found["left"].abs().max() < 1e-9


def test_directions_are_as_long_as_the_weights_and_the_model_is_left_as_it_was():
    torch.manual_seed(0)
    model, other = (nn.Sequential(nn.Flatten(), nn.Linear(DIM, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in range(2))
    before = {name: value.clone() for name, value in model.train().state_dict().items()}
    size = float(torch.cat([p.detach().flatten() for p in model.parameters()]).double().norm())
    apart, distance = direction_from(model, other)
    for direction in (random_direction(model, generator()), apart):
        assert float(torch.cat([part.flatten() for part in direction.values()]).norm()) == pytest.approx(size)
    theirs = dict(other.named_parameters())
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.double() - distance * apart[name], theirs[name].double())
    probed(model, Ball(torch.rand(3, DIM), 0.1), torch.zeros(3, dtype=torch.long), apart, torch.arange(3) / 9,
           generator())  # fmt: skip
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError):
        direction_from(model, model)


@pytest.mark.parametrize("way", ["random", "training"])
def test_the_analysis_probes_a_run_s_checkpoint(way):
    run, none = RunStore(STORE).open("demo-digits-standard"), lambda share: None
    request = {"store": str(STORE), "run": run.id, "epoch": run.kept_epochs()[-1], "way": way, "places": 4, "count": 20}
    header, arrays = ANALYSES["weight_line"](request, lambda: False, none)
    assert header["n"] == 20 and header["eps"] == run.config.threat.eps
    assert (header["before"], header["apart"] is None) == ((29, False) if way == "training" else (None, True))
    assert all(values.shape == (4,) and np.isfinite(values).all() for values in arrays.values())
    assert {values.dtype for values in unpack(pack(header, arrays))[1].values()} == {np.dtype("float32")}
    assert arrays["attacked"].mean() > 3 * arrays["still"].mean() > 0 and (arrays["loss"] > arrays["clean"]).all()
    again = ANALYSES["weight_line"](request, lambda: False, none)[1]
    assert all(np.array_equal(again[name], values) for name, values in arrays.items())
    with pytest.raises(Replaced):
        ANALYSES["weight_line"](request, lambda: True, none)


def test_without_an_epoch_before_it_says_so():
    run = RunStore(STORE).open("demo-digits-standard")
    request = {"store": str(STORE), "run": run.id, "epoch": run.kept_epochs()[0], "way": "training"}
    with pytest.raises(RunError, match="kept no epoch before 0; choose the random direction"):
        ANALYSES["weight_line"](request, lambda: False, lambda share: None)
