"""The transfer matrix: examples made on one network, shown to every other, always the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import in_eval_mode, pgd
from dynat_core.attack.inputs import judged
from dynat_core.attack.memory import all_or_half
from dynat_core.attack.threat import Ball, Norm
from dynat_core.statistics import score_difference, wilson
from dynat_core.training.evaluate import generator_for


@dataclass(frozen=True)
class TransferEvent:
    """How far the matrix is, after a batch. words: what it does. share: of the work, 0 to 1. result: at the last
    event, see `transfer`. note: such as a batch that was halved."""

    words: str
    share: float
    result: dict[str, Any] | None = None
    note: str = ""


def transfer(
    models: Sequence[tuple[str, nn.Module]],
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    seed: int = 0,
    steps: int = 20,
    batch: int = 250,
) -> Iterator[TransferEvent]:
    """Make PGD examples on each network, from the same random starts, and show them to all; tell after every batch.

    models: (name, network), two or more, names once each; each network works where it is. x: (n, C, H, W) in [0, 1];
    y: (n,). eps: pixels; the step size is eps/4, the loss cross-entropy. The result, JSON-able: names, n, eps, norm,
    seed, steps; `accuracy`, `correct`, `low` and `high` (Wilson), each source -> target: the share of all n images that
    the target gets right on the examples made on the source; `clean`: name -> the same four without an attack;
    sentence. Raises ValueError for impossible arguments.
    """
    names = [name for name, _ in models]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"it takes two or more models, each with a name of its own (got {', '.join(names) or 'none'})")
    if steps < 1:
        raise ValueError(f"steps must be 1 or more (got {steps})")
    for _, model in models:
        judged(model, x, y, eps, norm, batch)
    yield from _Matrix(models, x, y, Ball(x.float(), float(eps), norm), seed, steps, batch).events()


class _Matrix:
    """Right answers, counted: `right[source, target]`, and `clean[target]`."""

    def __init__(
        self,
        models: Sequence[tuple[str, nn.Module]],
        x: Tensor,
        y: Tensor,
        ball: Ball,
        seed: int,
        steps: int,
        batch: int,
    ) -> None:
        self.models, self.y, self.ball, self.seed, self.steps, self.batch = models, y, ball, seed, steps, batch
        self.start = ball.random_point(generator_for(x.device, seed, "transfer"))
        self.right = np.zeros((len(models), len(models)), dtype=int)
        self.clean = np.zeros(len(models), dtype=int)

    def events(self) -> Iterator[TransferEvent]:
        """See `transfer`."""
        n, done = len(self.y), 0
        for source, (name, _) in enumerate(self.models):
            while (first := done - source * n) < n:
                asked = torch.arange(first, min(first + self.batch, n))
                some, right = all_or_half(lambda some, source=source: self._count(source, some), asked)
                note = ""
                if len(some) < len(asked):
                    self.batch = len(some)
                    note = f"Memory ran out; {self.batch} images at a time now."
                self.right[source] += right[:-1]
                self.clean[source] += right[-1]
                done += len(some)
                yield TransferEvent(f"examples made on {name}", min(0.99, done / (n * len(self.models))), note=note)
        yield TransferEvent("done", 1.0, self.result())

    def _count(self, source: int, some: Tensor) -> np.ndarray:
        """Right answers of every network to examples made on `source`, and last its own to the clean images."""
        model = self.models[source][1]
        device = next((p.device for p in model.parameters()), self.y.device)
        some = some.to(self.y.device)
        x, y, start = (values[some].to(device) for values in (self.ball.x, self.y.long(), self.start))
        there = Ball(x, self.ball.eps, self.ball.norm)
        with in_eval_mode(model):
            z = pgd(model, there, y, steps=self.steps, alpha=there.eps / 4, start=start, final=False).z
        answers = [_right(target, z, y) for _, target in self.models]
        return np.array([*answers, _right(model, x, y)])

    def result(self) -> dict[str, Any]:
        """See `transfer`."""
        names, n = [name for name, _ in self.models], len(self.y)
        rows: dict[str, dict[str, dict[str, float]]] = {key: {} for key in ("accuracy", "correct", "low", "high")}
        for source, row in zip(names, self.right, strict=True):
            for target, count in zip(names, row, strict=True):
                for key, value in _share(int(count), n).items():
                    rows[key].setdefault(source, {})[target] = value
        clean = {name: _share(int(count), n) for name, count in zip(names, self.clean, strict=True)}
        sentence = (
            f"Rows: examples made on this model with PGD-{self.steps}; columns: the model that sees them; the same {n} "
            "images everywhere. The diagonal is the white-box attack."
        )
        for target, name in enumerate(names):
            source = int(self.right[:, target].argmin())
            own, other = (int(self.right[k, target]) for k in (target, source))
            if score_difference(own, n, other, n)[0] > 0:  # else that may be chance
                sentence += (
                    f" Examples made on {names[source]} leave {name} fewer images than its own white-box attack does: "
                    f"the gradients of {name} may mislead."
                )
        asked = {"n": n, "eps": self.ball.eps, "norm": self.ball.norm, "seed": self.seed, "steps": self.steps}
        return {"names": names, **asked, **rows, "clean": clean, "sentence": sentence}


def _share(correct: int, n: int) -> dict[str, float]:
    low, high = wilson(correct, n)
    return {"accuracy": correct / n, "correct": correct, "low": low, "high": high}


@torch.no_grad()
def _right(model: nn.Module, z: Tensor, y: Tensor) -> int:
    """How many of the images `z` the model gets right; it may be on another device."""
    device = next((p.device for p in model.parameters()), z.device)
    with in_eval_mode(model):
        return int((model(z.to(device)).argmax(1) == y.to(device)).sum())
