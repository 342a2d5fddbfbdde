"""The gradient of a frozen view as one launch on a CUDA device: its hundred small kernels are recorded once per batch
size and replayed.

A recording belongs to a shape, so batches are padded to few sizes; it reads the view's weights where they lie, which
`Frozen.refresh` changes in place. What cannot be recorded, or replays something else than autograd finds, is computed
by autograd from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Result = tuple[Tensor, Tensor, Tensor]  # logits (n, classes), loss (n,), gradient (n, ...)
Gradient = Callable[[Any, Tensor, Tensor], Result]  # (loss, z, y)
_MOST = 24  # recordings kept; each holds the activations of its batch
_WARM_UP = 2  # runs before the one that is compared, in which libraries choose their kernels


def padded_size(n: int) -> int:
    """The batch size that `n` samples are padded to: at most an eighth more, and eight sizes between powers of two."""
    step = max(8, 1 << max(0, (n - 1).bit_length() - 4))
    return -(-n // step) * step


def padded(values: Tensor, size: int) -> Tensor:
    """(size, ...): `values` (n, ...), its last row repeated; the rows of others change no sample's own gradient."""
    missing = size - len(values)
    return values if missing == 0 else torch.cat([values, values[-1:].expand(missing, *values.shape[1:])])


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors agree to 1 % of the largest entry of `b`: the gradients of an image may all be small."""
    return torch.allclose(a, b, rtol=1e-2, atol=1e-2 * float(b.abs().amax()))


@dataclass
class _Recording:
    graph: torch.cuda.CUDAGraph
    z: Tensor
    y: Tensor
    result: Result


class Graphs:
    """`gradient(loss, z, y)` recorded and replayed. losses: those that may be; others come and go, and stay with
    autograd."""

    def __init__(self, gradient: Gradient, losses: tuple[Any, ...]) -> None:
        self._gradient, self._losses = gradient, losses
        self._kept: dict[tuple[Any, ...], _Recording | None] = {}
        self._pool: Any = None

    def __call__(self, loss: Any, z: Tensor, y: Tensor) -> Result:
        """See `attacks.value_and_grad`; the rows are the caller's own."""
        if loss not in self._losses or len(z) == 0:
            return self._gradient(loss, z, y)
        size = padded_size(len(z))
        key = (loss, size, z.shape[1:], z.dtype)
        if key not in self._kept:
            room = len(self._kept) < _MOST
            self._kept[key] = self._record(loss, padded(z, size), padded(y, size)) if room else None
        kept = self._kept[key]
        if kept is None:
            return self._gradient(loss, z, y)
        n = len(z)
        kept.z[:n], kept.y[:n] = z, y
        kept.graph.replay()
        logits, value, grad = (part[:n].clone() for part in kept.result)
        return logits, value, grad

    def _record(self, loss: Any, z: Tensor, y: Tensor) -> _Recording | None:
        """A recording that was seen to replay what autograd finds; None where there is none to be had."""
        z, y = z.clone(), y.clone()
        try:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UP):
                    self._gradient(loss, z, y)
                other = z.flip(-1)  # what was recorded must hold for other images than those it was recorded on
                expected = self._gradient(loss, other, y)
            torch.cuda.current_stream().wait_stream(aside)
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                result = self._gradient(loss, z, y)
            z.copy_(other)
            graph.replay()
            close = all(same(a, b) for a, b in zip(result, expected, strict=True))
        except RuntimeError:  # what a library says that cannot be recorded, lack of memory included
            return None
        return _Recording(graph, z, y, result) if close else None
