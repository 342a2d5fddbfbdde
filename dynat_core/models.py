"""The networks: images in [0, 1] in, logits out; normalisation, where there is any, sits inside."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynat_core.config import Model

_CIFAR10_MEAN, _CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_EPS = 1e-3  # BatchNorm's epsilon in the authors' code (the Keras default)


class Normalise(nn.Module):
    """Subtract the mean and divide by the standard deviation of each channel, inside the model, so that eps means
    pixels."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def _conv(inside: int, outside: int) -> list[nn.Module]:
    return [nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside, eps=_EPS), nn.ReLU()]


def digits_cnn() -> nn.Sequential:
    """For 8x8 grey digits, 9,850 parameters; ours."""
    return nn.Sequential(
        *_conv(1, 8), *_conv(8, 16), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(16 * 4 * 4, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def mnist_cnn() -> nn.Sequential:
    """The paper's MNIST network, 421,834 parameters (Wang et al. 2019, section 5)."""
    return nn.Sequential(
        *_conv(1, 32), nn.MaxPool2d(2), *_conv(32, 64), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def cifar10_cnn() -> nn.Sequential:
    """The paper's CIFAR-10 network, 1,639,794 parameters (Wang et al. 2019, section 5)."""
    layers: list[nn.Module] = []
    inside = 3
    for width in (64, 128, 196):
        layers += [*_conv(inside, width), *_conv(width, width), nn.MaxPool2d(2)]
        inside = width
    head = [nn.Flatten(), nn.Linear(196 * 4 * 4, 256), nn.BatchNorm1d(256, eps=_EPS), nn.ReLU(), nn.Linear(256, 10)]
    return nn.Sequential(*layers, *head)


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each after BatchNorm and ReLU; the shortcut starts after the first activation where it must
    change shape (He et al. 2016, identity mappings)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        same = stride == 1 and inside == outside
        self.shortcut = None if same else nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        around = x if self.shortcut is None else self.shortcut(active)
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + around


class PreActNet(nn.Module):
    """A stem, groups of pre-activation blocks, BatchNorm, ReLU, global average, dense."""

    def __init__(self, channels: int, stem: int, widths: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, stem, 3, 1, 1, bias=False)
        groups: list[nn.Module] = []
        inside = stem
        for number, width in enumerate(widths):
            for block in range(blocks):
                groups.append(PreActBlock(inside, width, stride=2 if number > 0 and block == 0 else 1))
                inside = width
        self.groups = nn.Sequential(*groups)
        self.norm = nn.BatchNorm2d(inside)
        self.dense = nn.Linear(inside, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.groups(self.stem(x))))
        return self.dense(x.mean(dim=(2, 3)))


def _normalised(net: nn.Module, channels: int) -> nn.Module:
    """Colour pictures are normalised inside the network; grey ones are used as they are."""
    if channels != 3:
        return net
    return nn.Sequential(Normalise(_CIFAR10_MEAN, _CIFAR10_STD), net)


def preact_resnet18(channels: int) -> nn.Module:
    """PreActResNet-18 for small pictures: four groups of two blocks, 11,172,170 parameters for colour."""
    return _normalised(PreActNet(channels, 64, (64, 128, 256, 512), blocks=2), channels)


def wide_resnet(channels: int, depth: int, width: int) -> nn.Module:
    """WRN-depth-width (Zagoruyko and Komodakis 2016): three groups of (depth - 4) / 6 blocks, 16, 32, 64 x width
    channels."""
    return _normalised(PreActNet(channels, 16, (16 * width, 32 * width, 64 * width), blocks=(depth - 4) // 6), channels)


def build(settings: Model, channels: int) -> nn.Module:
    """The network of `settings` with fresh weights, for pictures of `channels` channels and ten classes."""
    return MODELS[settings.name](settings, channels)


def initialise(settings: Model, channels: int, seed: int) -> nn.Module:
    """The network with start weights that depend on `seed` alone; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(settings, channels)


MODELS: dict[str, Callable[[Model, int], nn.Module]] = {
    "digits-cnn": lambda settings, channels: digits_cnn(),
    "mnist-cnn": lambda settings, channels: mnist_cnn(),
    "cifar10-cnn": lambda settings, channels: cifar10_cnn(),
    "preact-resnet18": lambda settings, channels: preact_resnet18(channels),
    "wide-resnet": lambda settings, channels: wide_resnet(channels, settings.depth, settings.width),  # type: ignore[union-attr]
}
