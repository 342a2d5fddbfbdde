"""What a training strategy is: how a batch becomes a loss for the weights, and what it keeps from batch to batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from dynat_core import config
from dynat_core.attack.attacks import Attacked
from dynat_core.attack.threat import Ball

Own = TypeVar("Own", bound=config.Settings)


@dataclass(frozen=True)
class Moment:
    """Where training stands, for one batch.

    t: epoch, from 0. frozen: the network as it is now, in eval mode, for attacks. ball: the threat around clean images.
    generator: random numbers of this batch. measured: (n,) samples whose FOSC after the last step is recorded.
    """

    t: int
    frozen: nn.Module
    ball: Callable[[Tensor], Ball]
    generator: torch.Generator
    measured: Tensor


class Strategy(Generic[Own]):
    """How training examples are made. Subclasses say `attack` and `loss`; what has state says the rest too.

    eps: pixels; it resolves step sizes given as a part of it. seed, device: for what a strategy learns itself.
    columns: further measures of an image that `Attacked.more` brings.
    """

    columns: tuple[str, ...] = ()

    def __init__(self, settings: Own, eps: float, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.settings, self.eps = settings, eps
        attacked = isinstance(settings, config.AttackedStrategy)
        self.alpha = config.step_size(settings.alpha, eps) if attacked else 0.0

    def attack(self, x: Tensor, y: Tensor, moment: Moment) -> Attacked:
        """What the attack does to clean images x (n, ...) with labels y (n,); nothing is learnt from it."""
        raise NotImplementedError

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, moment: Moment) -> tuple[Tensor, Attacked]:
        """The scalar outer loss of `model` (train mode), and what the attack did."""
        raise NotImplementedError

    def threshold(self, t: int) -> float | None:
        """c_t in loss units, None where there is none."""
        return None

    def facts(self) -> dict[str, float]:
        """What it adds to an epoch's record; asked before `close_epoch`."""
        return {}

    def close_epoch(self, t: int, record: Mapping[str, Any]) -> None:
        """Epoch t is over, and `record` is what was measured of it: here a strategy may change its mind."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything needed to go on from here; empty where nothing is kept."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from there. Raises KeyError or RuntimeError if the state belongs to another strategy."""
