"""Which way of feeding a network is its own? Tried on images with known labels: the one that gets more of them right.

And whether its classes are numbered as the labels are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_FIRST = 64  # images on which every way is tried; only those near the best see the rest
_BATCH = 32
_PATIENCE = 40.0  # seconds after which no further image is tried


@dataclass(frozen=True)
class Tried:
    """How often a network was right when fed in one way. correct of n clean images."""

    name: str
    correct: int
    n: int

    @property
    def accuracy(self) -> float:
        """Share of clean images it got right; 0 where none was tried."""
        return self.correct / max(self.n, 1)


def conventions(
    factory: Callable[[str], nn.Module], x: Tensor, y: Tensor, names: list[str], patience: float = _PATIENCE
) -> list[Tried]:
    """Clean accuracy of `factory(name)` for every name, the one to believe first.

    That is the earliest of `names` that is not clearly worse than the one with most images right, so give the likelier
    ones first: on the same images a difference counts when it is above twice its own standard deviation. The others
    follow by their accuracy. x: (n, C, H, W) in [0, 1], in an order that does not depend on the class. y: (n,). Those
    clearly behind after the first 64 images see no more of them, and nobody does after `patience` seconds, in which a
    large network sees fewer than 64 at first. What a network raises goes through.
    """
    began = time.monotonic()
    models = {name: factory(name) for name in names}
    first = _affordable(models[names[0]], x, patience / 2 / len(names))
    right = {name: _right(model, x[:first], y[:first]) for name, model in models.items()}
    near = _not_behind(right, names, at_least=0.1)
    for start in range(first, len(y), _BATCH):
        if time.monotonic() - began > patience:
            break
        part = slice(start, start + _BATCH)
        right.update({name: torch.cat([right[name], _right(models[name], x[part], y[part])]) for name in near})
    chosen = _not_behind(right, near)[0]
    found = [Tried(name, int(r.sum()), len(r)) for name, r in right.items()]
    return sorted(found, key=lambda t: (t.name != chosen, t.name not in near, -t.accuracy, names.index(t.name)))


def _affordable(model: nn.Module, x: Tensor, seconds: float) -> int:
    """How many images to begin with: at most 64, at least 16, and not more than take `seconds`."""
    predictions(model, x[:1])  # what is only done once is no part of what an image takes
    began = time.monotonic()
    predictions(model, x[:8])
    each = (time.monotonic() - began) / len(x[:8])
    return int(min(_FIRST, max(16, seconds / max(each, 1e-9))))


def _not_behind(right: Mapping[str, Tensor], names: list[str], at_least: float = 0.0) -> list[str]:
    """Those of `names` that are not clearly worse than the best of them, nor by more than `at_least` (a share)."""
    best = max(names, key=lambda name: int(right[name].sum()))

    def behind(name: str) -> bool:
        lost, won = (int((a & ~b).sum()) for a, b in ((right[best], right[name]), (right[name], right[best])))
        return lost - won > max(2 * (lost + won) ** 0.5, at_least * len(right[name]))

    return [name for name in names if not behind(name)]


def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """(n,) whether the network is right, image by image."""
    return predictions(model, x) == y


@torch.no_grad()
def predictions(model: nn.Module, x: Tensor) -> Tensor:
    """(n,) the class a network gives each image."""
    return torch.cat([model(part).argmax(1) for part in x.split(_BATCH)])


# ------------------------------------------------------------------------------------------------------ label order


@dataclass(frozen=True)
class LabelOrder:
    """The network numbers the classes differently. network_class[k]: its number for label k. as_given, reordered: clean
    accuracy on the images that did not decide the order."""

    network_class: tuple[int, ...]
    as_given: float
    reordered: float
    n: int

    def words(self, names: Mapping[int, str] | None = None) -> str:
        """What is where, at most four classes of it."""
        moved = [(k, c) for k, c in enumerate(self.network_class) if k != c]
        told = ", ".join(f"label {k}{_called(k, names)} is its class {c}" for k, c in moved[:4])
        return told + (f" and {len(moved) - 4} more" if len(moved) > 4 else "")


def _called(label: int, names: Mapping[int, str] | None) -> str:
    return f" ({names[label]})" if names and names.get(label, str(label)) != str(label) else ""


def label_order(model: nn.Module, x: Tensor, y: Tensor) -> LabelOrder | None:
    """The order of the classes that makes the network right, or None where the given one is as good.

    x: (n, C, H, W) in [0, 1]. y: (n,). See `order_of`.
    """
    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    return order_of(predictions(model, x).cpu().numpy(), y.cpu().numpy(), classes)


def order_of(predicted: Any, label: Any, classes: int) -> LabelOrder | None:
    """The same from predictions and labels (n,).

    One half of the images chooses the permutation that gets most of them right (the assignment problem on the confusion
    matrix), the other half judges it, so that chance cannot look like an order. Told only where it lifts accuracy by 30
    points, to at least 50 %.
    """
    from scipy.optimize import linear_sum_assignment

    predicted, label = np.asarray(predicted), np.asarray(label)
    if len(label) < 4 * classes or classes < 2 or label.max(initial=0) >= classes:
        return None
    choose = np.zeros(len(label), dtype=bool)
    for k in range(classes):  # every class on both sides, whatever order the images come in
        choose[np.flatnonzero(label == k)[::2]] = True
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (label[choose], predicted[choose]), 1)
    # where several permutations fit equally well, the one that moves least: classes nobody was shown stay
    _, order = linear_sum_assignment(confusion * (classes + 1) + np.eye(classes, dtype=np.int64), maximize=True)
    judge = ~choose
    if not judge.any():
        return None
    as_given = float((predicted[judge] == label[judge]).mean())
    reordered = float((predicted[judge] == order[label[judge]]).mean())
    if reordered < 0.5 or reordered - as_given < 0.3:
        return None
    return LabelOrder(tuple(int(c) for c in order), as_given, reordered, int(judge.sum()))
