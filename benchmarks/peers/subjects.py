"""What everybody is measured on: the same networks, images, labels, eps, alpha; and what a gradient of each costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dynat_core.networks import models
from dynat_core.store.runs import RunStore
from dynat_core.work.loading import network

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Subject:
    """A network to attack. shape: (C, H, W). batch: images attacked together, as in training. run: where its weights
    are from; fresh ones where nothing is shipped. flops: see `flops_of`."""

    name: str
    shape: tuple[int, int, int]
    batch: int
    eps: float
    run: str | None

    @property
    def alpha(self) -> float:
        return self.eps / 4

    def model(self, width: float = 1.0) -> nn.Module:
        """The network in eval mode with its parameters as training has them. width: of the MNIST network's layers."""
        if self.run and width == 1.0:
            net = network(RunStore(ROOT / "checkpoints").open(self.run), "best", torch.device("cpu"))
        else:
            torch.manual_seed(0)
            net = {"digits": models.digits_cnn, "mnist": models.mnist_cnn, "cifar10": models.cifar10_cnn}[self.name]()
            net = net if width == 1.0 else _widened(net, width)
            net.train()
            with torch.no_grad():
                net(torch.rand(64, *self.shape))  # BatchNorm statistics that are not those of a fresh network
        return net.eval().requires_grad_(True)

    def images(self, n: int) -> tuple[Tensor, Tensor]:
        """(n, C, H, W) images, a fifth of the pixels at 0 or 1, and labels (n,): those the network gives them."""
        gen = torch.Generator().manual_seed(1)
        x = torch.rand(n, *self.shape, generator=gen)
        x = torch.where(torch.rand(x.shape, generator=gen) < 0.2, x.round(), x)
        with torch.no_grad():
            return x, self.model()(x).argmax(1)


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("digits", (1, 8, 8), 64, 0.15, "demo-digits-standard"),
        Subject("mnist", (1, 28, 28), 128, 0.3, "demo-mnist-standard"),
        Subject("cifar10", (3, 32, 32), 128, 8 / 255, None),
    )
}


def flops_of(net: nn.Module, shape: tuple[int, int, int]) -> int:
    """Floating-point operations of one image's gradient: each product of the forward pass twice (multiply, add), and
    again as often for the gradient at the layer's input. What is not a matrix product is left out."""
    counted = 0

    def see(module: nn.Module, inside: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal counted
        if isinstance(module, nn.Conv2d):
            counted += out[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            counted += module.weight.numel()

    hooks = [module.register_forward_hook(see) for module in net.modules()]
    with torch.no_grad():
        net(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return 4 * counted


def _widened(net: nn.Sequential, width: float) -> nn.Sequential:
    """The MNIST network with `width` times the channels and units."""
    a, b, c = (max(1, round(width * n)) for n in (32, 64, 128))
    layers = [
        *models._conv(1, a), nn.MaxPool2d(2), *models._conv(a, b), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(b * 49, c), nn.ReLU(), nn.Linear(c, 10),
    ]  # fmt: skip
    assert len(layers) == len(net)
    return nn.Sequential(*layers)
