"""Several processes that train one network, each on its own share of every batch; or one process alone.

What a group computes is what one process computes, up to the rounding of sums: each process attacks and differentiates
its share, gradients are averaged with the shares' sizes as weights, BatchNorm takes its statistics over the whole
batch, random numbers are drawn for the whole batch by all alike and each takes its rows, and what was found of each
image is gathered, so that every process knows the same records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dynat_core.attack.threat import Ball

T = TypeVar("T")


class Alone:
    """One process: every batch is its own, and there is nobody to agree with."""

    rank, size = 0, 1

    def prepare(self, model: nn.Module) -> nn.Module:
        """The network with what has to see a whole batch doing so."""
        return model

    def trained(self, model: nn.Module) -> nn.Module:
        """What the outer loss is computed with: it averages the gradients of the group."""
        return model

    def share(self, n: int) -> slice:
        """The rows of a batch of n that are this process's."""
        return slice(0, n)

    def weighed(self, loss: Tensor, n: int) -> Tensor:
        """The mean loss of the own share, such that the group's mean of gradients is that of the batch of n."""
        return loss

    def ball(self, of: Callable[[Tensor], Ball], n: int) -> Callable[[Tensor], Ball]:
        """`of`, whose random points are drawn for the whole batch of n."""
        return of

    def joined(self, columns: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
        """(own rows,) columns of each process -> (n,) columns of the whole batch."""
        return dict(columns)

    def dealt(self, parts: Iterable[T]) -> list[tuple[int, T]]:
        """The (number, part) of `parts` that are this process's to work on."""
        return list(enumerate(parts))

    def collected(self, done: Mapping[int, Any]) -> list[Any]:
        """What all processes made of their parts, in order."""
        return [done[number] for number in sorted(done)]

    def agreed(self, wish: bool) -> bool:
        """Whether any process wishes it."""
        return wish

    def told(self, value: T) -> T:
        """What the first process says."""
        return value


class Group(Alone):
    """The processes of torch's default process group; all do the same calls in the same order."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._plain: Any = dist.new_group(backend="gloo")  # for what lies in ordinary memory

    def prepare(self, model: nn.Module) -> nn.Module:
        for module in list(model.modules()):
            if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
                module.__class__ = _WHOLE[type(module)]
        return model

    def trained(self, model: nn.Module) -> nn.Module:
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)

    def share(self, n: int) -> slice:
        first = [n * k // self.size for k in range(self.size + 1)]
        return slice(first[self.rank], first[self.rank + 1])

    def weighed(self, loss: Tensor, n: int) -> Tensor:
        own = self.share(n)
        return loss * ((own.stop - own.start) * self.size / n)

    def ball(self, of: Callable[[Tensor], Ball], n: int) -> Callable[[Tensor], Ball]:
        own = self.share(n)

        def shared(x: Tensor) -> Ball:
            ball = of(x)
            return _Share(ball.x, ball.eps, ball.norm, ball.low, ball.high, n, own.start)

        return shared

    def joined(self, columns: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
        # Whole numbers and float32 both fit into float64 exactly, so one message carries all columns.
        most = -(-n // self.size)
        device = next(iter(columns.values())).device
        mine = torch.zeros(most, len(columns), dtype=torch.float64)
        own = self.share(n)
        mine[: own.stop - own.start] = torch.stack([column.double().cpu() for column in columns.values()], dim=1)
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(parts, mine, group=self._plain)
        sizes = [n * (k + 1) // self.size - n * k // self.size for k in range(self.size)]
        whole = torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
        return {name: whole[:, k].to(device, old.dtype) for k, (name, old) in enumerate(columns.items())}

    def dealt(self, parts: Iterable[T]) -> list[tuple[int, T]]:
        return [(number, part) for number, part in enumerate(parts) if number % self.size == self.rank]

    def collected(self, done: Mapping[int, Any]) -> list[Any]:
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, dict(done), group=self._plain)
        whole = {number: part for each in found for number, part in each.items()}
        return [whole[number] for number in sorted(whole)]

    def agreed(self, wish: bool) -> bool:
        flag = torch.tensor(int(wish))
        dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._plain)
        return bool(flag)

    def told(self, value: T) -> T:
        said = [value]
        dist.broadcast_object_list(said, src=0, group=self._plain)
        return said[0]


@dataclass(frozen=True)
class _Share(Ball):
    """A share of a batch's ball, whose random points are the rows of those of the whole batch."""

    whole: int = 0
    first: int = 0  # the own rows begin here

    def random_point(self, generator: torch.Generator | None = None) -> Tensor:
        return self._batch().random_point(generator)[self.first : self.first + len(self.x)]

    def noise(self, generator: torch.Generator | None = None) -> Tensor:
        return self._batch().noise(generator)[self.first : self.first + len(self.x)]

    def _batch(self) -> Ball:
        """The whole batch's ball; the images of others are blank, since only the numbers drawn for them matter."""
        x = self.x.new_zeros((self.whole, *self.x.shape[1:]))
        x[self.first : self.first + len(self.x)] = self.x
        return Ball(x, self.eps, self.norm, self.low, self.high)

    def __getitem__(self, keep: Tensor | slice) -> Ball:
        return Ball(self.x[keep], self.eps, self.norm, self.low, self.high)  # some images draw for themselves


class _Sum(torch.autograd.Function):
    """The sum over the group; every process's result rests on every process's part, so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        whole = mine.clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # type: ignore[override]
        whole = grads[0].clone()
        dist.all_reduce(whole)
        return whole


class _WholeBatch:
    """BatchNorm over the batch of the whole group while it trains; torch's own asks for a GPU."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not self.track_running_stats:  # type: ignore[attr-defined]
            return super().forward(input)  # type: ignore[misc]
        axes = [d for d in range(input.dim()) if d != 1]
        seen = [1, -1, *[1] * (input.dim() - 2)]
        count = input.new_tensor([input.numel() / input.shape[1]])
        dist.all_reduce(count)
        mean = _Sum.apply(input.sum(axes)) / count
        centred = input - mean.view(seen)
        var = _Sum.apply((centred * centred).sum(axes)) / count
        with torch.no_grad():
            norm: Any = self
            norm.num_batches_tracked.add_(1)
            part = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean.detach(), part)
            norm.running_var.lerp_(var.detach() * (count / (count - 1)), part)
        out = centred * torch.rsqrt(var + self.eps).view(seen)  # type: ignore[attr-defined]
        if self.affine:  # type: ignore[attr-defined]
            out = out * self.weight.view(seen) + self.bias.view(seen)  # type: ignore[attr-defined]
        return out


class _WholeBatch1d(_WholeBatch, nn.BatchNorm1d):
    pass


class _WholeBatch2d(_WholeBatch, nn.BatchNorm2d):
    pass


_WHOLE: dict[type, type] = {nn.BatchNorm1d: _WholeBatch1d, nn.BatchNorm2d: _WholeBatch2d}
