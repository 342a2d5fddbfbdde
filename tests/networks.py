"""Networks and images for tests: small, seeded, and in float64 where exactness is asked for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynat_core.networks import models

SHAPES = {"digits-cnn": (1, 8, 8), "mnist-cnn": (1, 28, 28), "preact-resnet18": (3, 16, 16)}


def network(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A registered network whose BatchNorm statistics are not those of a fresh one, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = {
            "digits-cnn": models.digits_cnn,
            "mnist-cnn": models.mnist_cnn,
            "cifar10-cnn": models.cifar10_cnn,
            "preact-resnet18": lambda: models.preact_resnet18(3),
        }[name]()
        channels = SHAPES.get(name, (3, 32, 32))[0]
        net.train()
        with torch.no_grad():
            for _ in range(3):
                net(2 * torch.rand(8, channels, *SHAPES.get(name, (3, 32, 32))[1:]))
    return net.to(dtype).eval()


def images(name: str, n: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """(n, C, H, W) random images, some pixels exactly 0 or 1, and labels (n,)."""
    gen = torch.Generator().manual_seed(seed)
    x = torch.rand(n, *SHAPES.get(name, (3, 32, 32)), generator=gen, dtype=dtype)
    x = torch.where(torch.rand(x.shape, generator=gen) < 0.2, x.round(), x)
    return x, torch.randint(0, 10, (n,), generator=gen)
