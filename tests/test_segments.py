"""Curvature of a network's loss along segments of the attack's balls, against closed forms and float64 by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dynat_core.attack.segments import bends
from dynat_core.attack.threat import Ball
from dynat_core.store.runs import RunStore
from dynat_core.work.analyses import ANALYSES
from dynat_core.work.analysis import Replaced

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def balls(n: int = 40, eps: float = 0.1, norm: str = "linf") -> Ball:
    return Ball(torch.rand(n, 1, 4, 4, generator=generator()), eps, norm)


class Straight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3), nn.Dropout(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_network_is_straight_and_its_loss_convex_everywhere(norm):
    torch.manual_seed(0)
    found, straight = bends(Straight(), balls(norm=norm), torch.zeros(40, dtype=torch.long), generator())
    assert straight.all() and (found > -1e-6).all() and found.max() > 0


def test_the_curvature_is_the_second_difference_of_the_loss_between_points_of_the_ball():
    torch.manual_seed(0)
    net, ball, y = Net(), balls(), torch.arange(40) % 3
    found, straight = bends(net, ball, y, generator())
    draw = generator()
    p, q = (ball.random_point(draw).double() for _ in range(2))
    assert (p - ball.x).abs().max() <= ball.eps + 1e-6
    net.eval().double()
    with torch.no_grad():
        f = [nn.functional.cross_entropy(net(z), y, reduction="none") for z in (p, (p + q) / 2, q)]
        on = [net.body[1](z.flatten(1)) > 0 for z in (p, q)]
    by_hand = 4 * (f[0] + f[2] - 2 * f[1]) / (p - q).flatten(1).square().sum(1)
    np.testing.assert_allclose(found, by_hand, rtol=1e-9)
    same = (on[0] == on[1]).all(dim=1)  # a convex region: the whole segment lies in it
    assert straight[same].all() and same.any() and not same.all()
    assert (found[same] > -1e-6).all()


def test_the_model_is_left_as_it_was():
    net = Net().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    bends(net, balls(), torch.zeros(40, dtype=torch.long), generator())
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert next(net.parameters()).dtype == torch.float32


def test_it_can_be_ended_between_batches():
    def end(share: float) -> None:
        if share > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bends(Straight(), balls(600), torch.zeros(600, dtype=torch.long), generator(), end)


def test_the_analysis_measures_a_run_s_checkpoint():
    run, none = RunStore(ROOT / "checkpoints").open("demo-digits-standard"), lambda share: None
    request = {"store": str(ROOT / "checkpoints"), "run": run.id, "epoch": run.kept_epochs()[-1], "count": 300}
    header, arrays = ANALYSES["curvature"]({**request, "share": 0.25}, lambda: False, none)
    assert header["n"] == 300 and header["eps"] == pytest.approx(run.config.threat.eps / 4)
    assert header["accuracy"] > 0.9 and arrays["curvature"].shape == arrays["straight"].shape == (300,)
    assert 0 < (arrays["curvature"] < -1e-6).mean() < 0.6
    again = ANALYSES["curvature"]({**request, "share": 0.25}, lambda: False, none)[1]
    assert np.array_equal(again["curvature"], arrays["curvature"])
    with pytest.raises(Replaced):
        ANALYSES["curvature"](request, lambda: True, none)
