"""Two zoos of networks for the lights of a check: honest ones, and ones that hide something.

The thresholds were set on the first zoo (the shipped digits runs and what can be wrapped around them); the second has
other architectures, seeds and radii, and the shipped MNIST runs where the pictures are at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

import dynat_core as dc
from dynat_core.attack.threat import Ball
from dynat_core.config import Digits
from dynat_core.images import data
from dynat_core.networks import models

STORE = Path(__file__).parents[1] / "checkpoints"


@cache
def digits(n: int = 200) -> tuple[Tensor, Tensor]:
    test = data.load(Digits()).test
    return test.pixels(slice(0, n)), test.labels[:n]


@cache
def shipped(run: str) -> nn.Module:
    """The digits network of a shipped run at its last epoch."""
    net = models.digits_cnn()
    net.load_state_dict(load_file(STORE / run / "weights" / "0030.safetensors"))
    return net.eval()


@cache
def perceptron(seed: int, smooth: bool) -> nn.Module:
    """The second zoo's network: no convolution, no BatchNorm, other activations; trained on PGD-5 examples of one
    eps."""
    torch.manual_seed(seed)
    bend: type[nn.Module] = nn.Tanh if smooth else nn.ReLU
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), bend(), nn.Linear(96, 48), bend(), nn.Linear(48, 10))
    train = data.load(Digits()).train
    x, y = train.pixels(), train.labels
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    gen = torch.Generator().manual_seed(seed)
    for _ in range(12):
        for some in torch.randperm(len(x), generator=gen).split(64):
            z = dc.pgd(net, Ball(x[some], 0.1), y[some], steps=5, alpha=0.03, generator=gen, final=False).z
            optimizer.zero_grad()
            F.cross_entropy(net(z), y[some]).backward()
            optimizer.step()
    return net.eval()


class Wrapped(nn.Module):
    """A network with something done to its pictures or its scores."""

    def __init__(self, net: nn.Module, before=None, after=None) -> None:
        super().__init__()
        self.net, self.before, self.after = net, before or (lambda x: x), after or (lambda s: s)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.net(self.before(x)))


def resized(x: Tensor) -> Tensor:
    side = int(torch.randint(7, 10, (1,)))
    return F.interpolate(F.interpolate(x, size=(side, side), mode="bilinear"), size=x.shape[-2:], mode="bilinear")


MASKS = {
    "logits x100": {"after": lambda s: 100 * s},
    "quantised input": {"before": lambda x: (8 * x).round() / 8},
    "preprocessor without gradient": {"before": lambda x: x.detach().clamp(0.05, 0.95)},
    "random resize": {"before": resized},
    "noisy input": {"before": lambda x: x + 0.1 * torch.randn_like(x)},
    "softmax output": {"after": lambda s: s.softmax(1)},
    "saturated sigmoid": {"after": lambda s: torch.sigmoid(10 * s)},
}
HONEST: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "unsecured at .15": (lambda: shipped("demo-digits-unsecured"), 0.15),
    "standard at .15": (lambda: shipped("demo-digits-standard"), 0.15),
    "dynamic at .15": (lambda: shipped("demo-digits-dynamic"), 0.15),
    "unsecured at .05": (lambda: shipped("demo-digits-unsecured"), 0.05),
    "standard at .05": (lambda: shipped("demo-digits-standard"), 0.05),
    "tanh perceptron at .1": (lambda: perceptron(1, True), 0.1),
    "relu perceptron at .1": (lambda: perceptron(2, False), 0.1),
    "tanh perceptron at .05": (lambda: perceptron(3, True), 0.05),
}  # fmt: skip

# The second zoo alone: nothing of it was looked at when thresholds were chosen.
SECOND: dict[str, tuple[Callable[[], nn.Module], float]] = {
    f"{'tanh' if smooth else 'relu'} perceptron, seed {seed}, at {eps}": (
        lambda seed=seed, smooth=smooth: perceptron(seed, smooth), eps
    )
    for seed, smooth, eps in (
        (11, True, 0.1), (12, False, 0.1), (13, True, 0.05), (14, False, 0.05), (15, True, 0.15), (16, False, 0.15),
        (17, True, 0.08), (18, False, 0.12),
    )
}  # fmt: skip
