"""The networks: images in [0, 1] in, logits out; normalisation, where there is any, sits inside."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynat_core.config import Imported, Model
from dynat_core.errors import ConfigError
from dynat_core.networks.architectures import PUBLIC, Architecture

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


def digits_cnn(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """For 8x8 grey digits, 9,850 parameters; ours."""
    return nn.Sequential(
        *_conv(channels, 8), *_conv(8, 16), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(16 * 4 * 4, 32), nn.ReLU(), nn.Linear(32, classes),
    )  # fmt: skip


def mnist_cnn(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """The paper's MNIST network, 421,834 parameters (Wang et al. 2019, section 5)."""
    return nn.Sequential(
        *_conv(channels, 32), nn.MaxPool2d(2), *_conv(32, 64), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, classes),
    )  # fmt: skip


def cifar10_cnn(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """The paper's CIFAR-10 network, 1,639,794 parameters (Wang et al. 2019, section 5)."""
    layers: list[nn.Module] = []
    inside = channels
    for width in (64, 128, 196):
        layers += [*_conv(inside, width), *_conv(width, width), nn.MaxPool2d(2)]
        inside = width
    head = [
        nn.Flatten(),
        nn.Linear(196 * 4 * 4, 256),
        nn.BatchNorm1d(256, eps=_EPS),
        nn.ReLU(),
        nn.Linear(256, classes),
    ]
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

    def __init__(self, channels: int, stem: int, widths: tuple[int, ...], blocks: int, classes: int = 10) -> None:
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
        self.dense = nn.Linear(inside, classes)

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
    return _normalised(wide_resnet_of(depth, width, channels, 10), channels)


def wide_resnet_of(depth: int, width: int, channels: int, classes: int) -> nn.Module:
    """The network of `wide_resnet` without its normalisation."""
    return PreActNet(channels, 16, (16 * width, 32 * width, 64 * width), (depth - 4) // 6, classes)


def _our_preact_resnet18(channels: int, classes: int) -> nn.Module:
    """PreActResNet-18 as it is trained here"""
    return PreActNet(channels, 64, (64, 128, 256, 512), 2, classes)


def _our_wrn_28_10(channels: int, classes: int) -> nn.Module:
    """WRN-28-10 as it is trained here"""
    return wide_resnet_of(28, 10, channels, classes)


def _our_wrn_34_10(channels: int, classes: int) -> nn.Module:
    """WRN-34-10 as it is trained here"""
    return wide_resnet_of(34, 10, channels, classes)


# What weights from a file may belong to: name -> function(channels, classes); its docstring says what it is.
ARCHITECTURES: dict[str, Architecture] = {
    "digits-cnn": digits_cnn,
    "mnist-cnn": mnist_cnn,
    "cifar10-cnn": cifar10_cnn,
    **PUBLIC,
    "own-preact-resnet18": _our_preact_resnet18,
    "own-wrn-28-10": _our_wrn_28_10,
    "own-wrn-34-10": _our_wrn_34_10,
}


# --------------------------------------------------------------------------------------------------- normalisation

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of each channel

# What networks are fed with outside, by the name that run.json keeps.
NORMALISATIONS: dict[str, tuple[str, Statistics | None]] = {
    "none": ("no normalisation", None),
    "cifar10": ("CIFAR-10's mean and standard deviation", (_CIFAR10_MEAN, _CIFAR10_STD)),
    "cifar10-batch": (
        "CIFAR-10's mean with 0.2023, 0.1994, 0.2010, a standard deviation in common use",
        (_CIFAR10_MEAN, (0.2023, 0.1994, 0.2010)),
    ),
    "cifar100": ("CIFAR-100's mean and standard deviation", ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))),
    "imagenet": ("ImageNet's mean and standard deviation", ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
    "half": ("pixels moved to [-1, 1]", ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))),
    "half-grey": ("pixels moved to [-1, 1]", ((0.5,), (0.5,))),
    "mnist": ("MNIST's mean and standard deviation", ((0.1307,), (0.3081,))),
    "fashion-mnist": ("Fashion-MNIST's mean and standard deviation", ((0.2860,), (0.3530,))),
}


def normalisations(channels: int) -> list[str]:
    """The names of the conventions for images of so many channels, "none" first."""
    return [name for name, (_, known) in NORMALISATIONS.items() if known is None or len(known[0]) == channels]


def statistics(name: str, channels: int) -> Statistics | None:
    """(mean, standard deviation) per channel of a convention; None for "none".

    name: one of NORMALISATIONS, or numbers, `.49,.48,.45/.25,.24,.26`. Raises ConfigError.
    """
    if name in NORMALISATIONS:
        known = NORMALISATIONS[name][1]
    else:
        mean, _, std = name.partition("/")
        try:
            known = tuple(float(m) for m in mean.split(",")), tuple(float(s) for s in std.split(","))
        except ValueError:
            raise ConfigError(
                f"There is no normalisation called {name[:40]!r}; there is {', '.join(NORMALISATIONS)}, "
                "or numbers for each channel, mean/standard deviation, such as .13/.31."
            ) from None
    if known is None:
        return None
    if len(known[0]) != channels or len(known[1]) != channels:
        raise ConfigError(f"The normalisation {name[:40]} is not for images of {channels} channels.")
    if not all(abs(m) < 1e6 for m in known[0]) or not all(1e-6 < s < 1e6 for s in known[1]):
        raise ConfigError(f"The normalisation {name[:40]} needs finite means and standard deviations above 0.")
    return known


def front(name: str, channels: int) -> nn.Module:
    """What stands before a network that was trained with this normalisation. Raises ConfigError."""
    known = statistics(name, channels)
    return nn.Identity() if known is None else Normalise(*known)


def imported(architecture: str, normalisation: str, channels: int, classes: int) -> nn.Sequential:
    """The registered network behind its normalisation, so that eps means pixels. Raises ConfigError.

    The network is child "1" whatever the normalisation, so the same file of weights fits all of them.
    """
    if architecture not in ARCHITECTURES:
        raise ConfigError(f"There is no architecture called {architecture[:40]!r}; "
                          '"python -m dynat_core model architectures" lists them.')  # fmt: skip
    return nn.Sequential(front(normalisation, channels), ARCHITECTURES[architecture](channels, classes))


# -------------------------------------------------------------------------------------------------------- by name


def build(settings: Model, channels: int, classes: int = 10) -> nn.Module:
    """The network of `settings` with fresh weights, for pictures of `channels` channels; what can be trained has ten
    classes. Raises ConfigError for an imported network that is not known here."""
    if isinstance(settings, Imported):
        return imported(settings.architecture, settings.normalisation, channels, classes)
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
