"""Networks as public repositories lay them out, so that their weights load by name; images in, logits out, no
normalisation inside.

Pooling is a global average: the same as theirs on 32x32 images. A new architecture is one function and its line in
`PUBLIC`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

Architecture = Callable[[int, int], nn.Module]  # (channels, classes) -> network


def _conv3(inside: int, outside: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, stride, 1, bias=False)


def _conv1(inside: int, outside: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 1, stride, bias=False)


def _group(block: Callable[[int, int, int], nn.Module], inside: int, outside: int, blocks: int, stride: int):
    """Blocks in a row, of which the first changes width and size."""
    return nn.Sequential(*(block(outside if k else inside, outside, 1 if k else stride) for k in range(blocks)))


# ---------------------------------------------------------------------------------------------------------- ResNet


class _Block(nn.Module):
    """Two convolutions, each followed by BatchNorm; ReLU after the sum (He et al. 2016)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv3(inside, outside, stride), nn.BatchNorm2d(outside)
        self.conv2, self.bn2 = _conv3(outside, outside), nn.BatchNorm2d(outside)
        same = stride == 1 and inside == outside
        self.shortcut = nn.Sequential(*([] if same else [_conv1(inside, outside, stride), nn.BatchNorm2d(outside)]))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18 for small pictures: a 3x3 stem with BatchNorm, four groups of two blocks, `linear`."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv3(channels, 64), nn.BatchNorm2d(64)
        self.layer1, self.layer2 = _group(_Block, 64, 64, 2, 1), _group(_Block, 64, 128, 2, 2)
        self.layer3, self.layer4 = _group(_Block, 128, 256, 2, 2), _group(_Block, 256, 512, 2, 2)
        self.linear = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(x.mean(dim=(2, 3)))


# ----------------------------------------------------------------------------------------------------- PreActResNet


class _PreActBlock(nn.Module):
    """BatchNorm and ReLU before each convolution. The shortcut is fed with the first activation, or, as some public
    code has it, with the block's own input; the weights do not tell which."""

    def __init__(self, inside: int, outside: int, stride: int, shortcut_from: str) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inside), _conv3(inside, outside, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outside), _conv3(outside, outside)
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(_conv1(inside, outside, stride))
        self._from_activation = shortcut_from == "activation"

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        around = self.shortcut(active if self._from_activation else x) if hasattr(self, "shortcut") else x
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + around


class PreActResNet18(nn.Module):
    """PreActResNet-18: `conv1`, `layer1` to `layer4`, `bn` where there is one, `linear`."""

    def __init__(self, channels: int, classes: int, shortcut_from: str, last_norm: bool) -> None:
        super().__init__()
        block = partial(_PreActBlock, shortcut_from=shortcut_from)
        self.conv1 = _conv3(channels, 64)
        self.layer1, self.layer2 = _group(block, 64, 64, 2, 1), _group(block, 64, 128, 2, 2)
        self.layer3, self.layer4 = _group(block, 128, 256, 2, 2), _group(block, 256, 512, 2, 2)
        self.bn = nn.BatchNorm2d(512) if last_norm else None
        self.linear = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        x = x if self.bn is None else F.relu(self.bn(x))
        return self.linear(x.mean(dim=(2, 3)))


# ------------------------------------------------------------------------------------------------------- WideResNet


class _WideBlock(nn.Module):
    """As `_PreActBlock`; where the width changes, both ways start after the first activation."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inside), _conv3(inside, outside, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outside), _conv3(outside, outside)
        self.convShortcut = None if inside == outside else _conv1(inside, outside, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        around = x if self.convShortcut is None else self.convShortcut(active)
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + around


class _WideGroup(nn.Module):
    def __init__(self, inside: int, outside: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.layer = _group(_WideBlock, inside, outside, blocks, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(nn.Module):
    """WRN-depth-width (Zagoruyko and Komodakis 2016): `conv1`, `block1` to `block3`, `bn1`, `fc`."""

    def __init__(self, channels: int, classes: int, depth: int, width: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = _conv3(channels, 16)
        self.block1 = _WideGroup(16, 16 * width, blocks, 1)
        self.block2 = _WideGroup(16 * width, 32 * width, blocks, 2)
        self.block3 = _WideGroup(32 * width, 64 * width, blocks, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean(dim=(2, 3)))


class _SamePadBlock(nn.Module):
    """A wide block that pads like TensorFlow's SAME: a stride of 2 pads right and below only."""

    def __init__(self, inside: int, outside: int, stride: int, active: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(inside)
        self.conv_0 = nn.Conv2d(inside, outside, 3, stride, 0, bias=False)
        self.batchnorm_1, self.conv_1 = nn.BatchNorm2d(outside), _conv3(outside, outside)
        self.shortcut = None if inside == outside else _conv1(inside, outside, stride)
        self._pad, self._active = ((1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1)), active

    def forward(self, x: Tensor) -> Tensor:
        active = self._active(self.batchnorm_0(x))
        around = x if self.shortcut is None else self.shortcut(active)
        out = self.conv_0(F.pad(active, self._pad))
        return self.conv_1(self._active(self.batchnorm_1(out))) + around


class _SamePadGroup(nn.Module):
    def __init__(self, block: Callable[..., nn.Module], inside: int, outside: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.block = _group(block, inside, outside, blocks, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class SamePadWideResNet(nn.Module):
    """WRN-depth-width as DeepMind's adversarial robustness code lays it out: `init_conv`, `layer`, `batchnorm`,
    `logits`."""

    def __init__(self, channels: int, classes: int, depth: int, width: int, active: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        blocks, block = (depth - 4) // 6, partial(_SamePadBlock, active=active)
        self.init_conv = _conv3(channels, 16)
        self.layer = nn.Sequential(
            _SamePadGroup(block, 16, 16 * width, blocks, 1),
            _SamePadGroup(block, 16 * width, 32 * width, blocks, 2),
            _SamePadGroup(block, 32 * width, 64 * width, blocks, 2),
        )
        self.batchnorm = nn.BatchNorm2d(64 * width)
        self.logits = nn.Linear(64 * width, classes)
        self._active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self._active(self.batchnorm(self.layer(self.init_conv(x))))
        return self.logits(x.mean(dim=(2, 3)))


# --------------------------------------------------------------------------------------------------------- by name


def preact_resnet18(channels: int, classes: int) -> nn.Module:
    """PreActResNet-18 with a last BatchNorm; shortcuts start at the first activation"""
    return PreActResNet18(channels, classes, "activation", last_norm=True)


def preact_resnet18_input(channels: int, classes: int) -> nn.Module:
    """PreActResNet-18 with a last BatchNorm; shortcuts start at the block's input"""
    return PreActResNet18(channels, classes, "input", last_norm=True)


def preact_resnet18_bare(channels: int, classes: int) -> nn.Module:
    """PreActResNet-18 without a last BatchNorm; shortcuts start at the first activation"""
    return PreActResNet18(channels, classes, "activation", last_norm=False)


def preact_resnet18_bare_input(channels: int, classes: int) -> nn.Module:
    """PreActResNet-18 without a last BatchNorm; shortcuts start at the block's input"""
    return PreActResNet18(channels, classes, "input", last_norm=False)


def resnet18(channels: int, classes: int) -> nn.Module:
    """ResNet-18 for small pictures, with a 3x3 stem"""
    return ResNet18(channels, classes)


def wrn_28_10(channels: int, classes: int) -> nn.Module:
    """WRN-28-10 in the layout of TRADES"""
    return WideResNet(channels, classes, 28, 10)


def wrn_34_10(channels: int, classes: int) -> nn.Module:
    """WRN-34-10 in the layout of TRADES"""
    return WideResNet(channels, classes, 34, 10)


def wrn_34_20(channels: int, classes: int) -> nn.Module:
    """WRN-34-20 in the layout of TRADES"""
    return WideResNet(channels, classes, 34, 20)


def wrn_28_4(channels: int, classes: int) -> nn.Module:
    """WRN-28-4 in the layout of TRADES"""
    return WideResNet(channels, classes, 28, 4)


def wrn_16_1(channels: int, classes: int) -> nn.Module:
    """WRN-16-1 in the layout of TRADES, small enough for a quick try"""
    return WideResNet(channels, classes, 16, 1)


def wrn_28_10_swish(channels: int, classes: int) -> nn.Module:
    """WRN-28-10 in DeepMind's layout, with Swish"""
    return SamePadWideResNet(channels, classes, 28, 10, F.silu)


def wrn_28_10_same(channels: int, classes: int) -> nn.Module:
    """WRN-28-10 in DeepMind's layout, with ReLU"""
    return SamePadWideResNet(channels, classes, 28, 10, F.relu)


def wrn_70_16_swish(channels: int, classes: int) -> nn.Module:
    """WRN-70-16 in DeepMind's layout, with Swish"""
    return SamePadWideResNet(channels, classes, 70, 16, F.silu)


PUBLIC: dict[str, Architecture] = {
    "preact-resnet18": preact_resnet18,
    "preact-resnet18-input": preact_resnet18_input,
    "preact-resnet18-bare": preact_resnet18_bare,
    "preact-resnet18-bare-input": preact_resnet18_bare_input,
    "resnet18": resnet18,
    "wrn-28-10": wrn_28_10,
    "wrn-34-10": wrn_34_10,
    "wrn-34-20": wrn_34_20,
    "wrn-28-4": wrn_28_4,
    "wrn-16-1": wrn_16_1,
    "wrn-28-10-swish": wrn_28_10_swish,
    "wrn-28-10-same": wrn_28_10_same,
    "wrn-70-16-swish": wrn_70_16_swish,
}
