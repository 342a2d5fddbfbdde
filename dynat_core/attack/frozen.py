"""A view of a network for attacks: while an attack runs the weights stand still, so what depends on them alone is done
once.

BatchNorm that directly follows a convolution or a dense layer is folded into it, max pooling goes before ReLU,
parameters ask for no gradient, memory is laid out channels-last, on a CPU the gradient at the image is a matrix
product, and with `precision="fast"` the network computes in bfloat16. `refresh` follows the trained network in place.
What it returns differs from the network in eval mode by rounding only.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dynat_core.attack.attacks import LOSSES, Loss, plain_value_and_grad
from dynat_core.attack.graphs import Graphs

_Linear = nn.Conv2d | nn.Linear
_Norm = nn.BatchNorm1d | nn.BatchNorm2d
_FEW = 4  # channels of an image, or of no other layer


class Frozen(nn.Module):
    """`model` in eval mode, folded. Logits come out in the dtype of the input; gradients reach the input alone.

    precision: "exact" keeps the model's dtype, "fast" computes in bfloat16.
    """

    def __init__(self, model: nn.Module, precision: Literal["exact", "fast"] = "exact") -> None:
        super().__init__()
        self._source = [model]  # in a list, so that it is not a submodule of the view
        self.net = copy.deepcopy(model).eval().requires_grad_(False)
        self._pairs = _foldable(model)
        for linear, norm in self._pairs:
            layer = self.net.get_submodule(linear)
            if layer.bias is None:
                weight = layer.weight
                assert isinstance(weight, Tensor)
                layer.bias = nn.Parameter(weight.new_zeros(weight.shape[0]), requires_grad=False)
            _replace(self.net, norm, nn.Identity())
        _pool_first(self.net)
        _multiply_at_the_image(self.net)
        self._dtype = torch.bfloat16 if precision == "fast" else next(self.net.parameters()).dtype
        self._layout = torch.channels_last
        self.net.to(self._dtype)
        for parameter in self.net.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.to(memory_format=self._layout)
        self.refresh()
        self.eval()
        self._graphs: Graphs | None = None
        if next(self.net.parameters()).device.type == "cuda":
            self._graphs = Graphs(partial(plain_value_and_grad, self), tuple(LOSSES.values()))

    def value_and_grad(self, loss: Loss, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `attacks.value_and_grad`."""
        return (self._graphs or partial(plain_value_and_grad, self))(loss, z, y)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the present weights of the network, in place."""
        source = self._source[0]
        folded = {name for pair in self._pairs for name in pair}
        for name, module in source.named_modules():
            if name in folded:
                continue
            mine = self.net.get_submodule(name)
            for part, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                getattr(mine, part).copy_(value)
        for linear, norm in self._pairs:
            layer, bn, mine = source.get_submodule(linear), source.get_submodule(norm), self.net.get_submodule(linear)
            assert isinstance(layer, _Linear) and isinstance(bn, _Norm) and isinstance(mine, _Linear)
            assert bn.running_mean is not None and bn.running_var is not None and mine.bias is not None
            scale = torch.rsqrt(bn.running_var + bn.eps)
            scale = scale * bn.weight if bn.affine else scale
            bias = layer.bias if layer.bias is not None else torch.zeros_like(bn.running_mean)
            mine.weight.copy_(layer.weight * scale.view(-1, *[1] * (layer.weight.dim() - 1)))
            mine.bias.copy_((bias - bn.running_mean) * scale + (bn.bias if bn.affine else 0.0))

    def forward(self, x: Tensor) -> Tensor:
        cast = x.to(dtype=self._dtype, memory_format=self._layout) if x.dim() == 4 else x.to(self._dtype)
        return self.net(cast).to(x.dtype)


def _foldable(model: nn.Module) -> list[tuple[str, str]]:
    """(name of the layer, name of its BatchNorm) for neighbours inside an nn.Sequential, where nothing else can use the
    layer's output."""
    pairs = []
    for prefix, module in model.named_modules():
        if not isinstance(module, nn.Sequential):
            continue
        children = list(module.named_children())
        for (name, layer), (after, norm) in zip(children, children[1:], strict=False):
            fits = (isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)) or (
                isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d)
            )
            if fits and norm.track_running_stats:  # type: ignore[union-attr]
                dot = prefix + "." if prefix else ""
                pairs.append((dot + name, dot + after))
    return pairs


def _pool_first(net: nn.Module) -> None:
    """ReLU then max pooling is max pooling then ReLU, value and gradient alike, on a quarter of the numbers."""
    for module in net.modules():
        if not isinstance(module, nn.Sequential):
            continue
        children = list(module.named_children())
        for (name, relu), (after, pool) in zip(children, children[1:], strict=False):
            if isinstance(relu, nn.ReLU) and isinstance(pool, nn.MaxPool2d):
                setattr(module, name, pool)
                setattr(module, after, relu)


def _multiply_at_the_image(net: nn.Module) -> None:
    """Give convolutions of an image the gradient of `_ImageConvolution`."""
    for name, conv in list(net.named_modules()):
        if (
            isinstance(conv, nn.Conv2d)
            and conv.in_channels <= _FEW
            and conv.groups == 1
            and conv.padding_mode == "zeros"
            and not isinstance(conv.padding, str)
        ):
            _replace(net, name, _ImageConv2d(conv))


class _ImageConv2d(nn.Conv2d):
    """The convolution `conv`, whose gradient at the input is found by `_ImageConvolution`."""

    def __init__(self, conv: nn.Conv2d) -> None:
        channels, out = conv.in_channels, conv.out_channels
        super().__init__(channels, out, conv.kernel_size, conv.stride, conv.padding, conv.dilation)  # type: ignore[arg-type]
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu":
            return super().forward(input)
        return _ImageConvolution.apply(input, self)  # type: ignore[return-value]


class _ImageConvolution(torch.autograd.Function):
    """A convolution whose gradient at an input of few channels is one matrix product and a sum over the windows.

    With one channel the kernels of the CPU library leave most of the processor idle: they took two to seven times as
    long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, conv: nn.Conv2d) -> Tensor:
        ctx.conv, ctx.size = conv, x.shape[2:]
        return F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation)  # type: ignore[arg-type]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (grad,), conv = grads, ctx.conv
        places = grad.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)  # (n, channels out, windows), no copy
        windows = torch.matmul(conv.weight.reshape(conv.out_channels, -1).t(), places)
        at_x = F.fold(windows, ctx.size, conv.kernel_size, conv.dilation, conv.padding, conv.stride)
        return at_x.contiguous(memory_format=torch.channels_last), None


def _replace(net: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, new)
