"""Training strategies: one small class each, with one hook. `STRATEGIES` at the foot maps settings to classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dynat_core import config
from dynat_core.attacks import Attacked, cross_entropy, pgd
from dynat_core.fosc import Stop, stop_below
from dynat_core.threat import Ball


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


class Strategy(Protocol):
    """How a batch becomes a loss for the weights.

    `loss(model, x, y, moment)`: x (n, ...) clean images, y (n,) labels; returns the scalar outer loss of `model` (train
    mode) and what the attack did. `threshold(t)`: c_t in loss units, None where there is none.
    """

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, moment: Moment) -> tuple[Tensor, Attacked]: ...

    def attack(self, x: Tensor, y: Tensor, moment: Moment) -> Attacked: ...

    def threshold(self, t: int) -> float | None: ...


class Unsecured:
    """Clean training. FOSC is measured at the clean image, which is what the network is trained on."""

    def __init__(self, settings: config.Unsecured, eps: float) -> None:
        pass

    def attack(self, x: Tensor, y: Tensor, moment: Moment) -> Attacked:
        return pgd(moment.frozen, moment.ball(x), y, steps=0, alpha=1.0, start="clean", final=moment.measured)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, moment: Moment) -> tuple[Tensor, Attacked]:
        return cross_entropy(model(x), y).mean(), self.attack(x, y, moment)

    def threshold(self, t: int) -> float | None:
        return None


class Standard:
    """Every image is attacked with all K steps of PGD (Madry et al. 2018): Dynamic with c_t below any FOSC."""

    def __init__(self, settings: config.Standard, eps: float) -> None:
        self.settings = settings
        self.alpha = config.step_size(settings.alpha, eps)

    def attack(self, x: Tensor, y: Tensor, moment: Moment) -> Attacked:
        return _attack(self.settings, self.alpha, x, y, moment, stop=None)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, moment: Moment) -> tuple[Tensor, Attacked]:
        attacked = self.attack(x, y, moment)
        return cross_entropy(model(attacked.z), y).mean(), attacked

    def threshold(self, t: int) -> float | None:
        return None


class Dynamic:
    """An image is attacked only until its FOSC is at most c_t, which falls to 0 (Wang et al. 2019, Algorithm 1).

    as_published "code": from the second epoch on each sample's cross-entropy is weighted by its own value, as in the
    authors' code (the weight passes no gradient, so in effect the loss is half the squared cross-entropy).
    """

    def __init__(self, settings: config.Dynamic, eps: float) -> None:
        self.settings = settings
        self.alpha = config.step_size(settings.alpha, eps)

    def attack(self, x: Tensor, y: Tensor, moment: Moment) -> Attacked:
        stop = stop_below(self.threshold(moment.t), form=self.settings.stop_form)
        return _attack(self.settings, self.alpha, x, y, moment, stop)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, moment: Moment) -> tuple[Tensor, Attacked]:
        attacked = self.attack(x, y, moment)
        each = cross_entropy(model(attacked.z), y)
        if self.settings.as_published == "code" and moment.t > 0:
            with torch.no_grad():
                weight = cross_entropy(moment.frozen(attacked.z), y)
            each = each * weight
        return each.mean(), attacked

    def threshold(self, t: int) -> float:
        return self.settings.threshold(t)


def _attack(
    settings: config.AttackedStrategy, alpha: float, x: Tensor, y: Tensor, moment: Moment, stop: Stop | None
) -> Attacked:
    return pgd(
        moment.frozen,
        moment.ball(x),
        y,
        steps=settings.steps,
        alpha=alpha,
        start=settings.start,
        stop=stop,
        generator=moment.generator,
        final=moment.measured,
    )


STRATEGIES: dict[str, Callable[[Any, float], Strategy]] = {
    "unsecured": Unsecured,
    "standard": Standard,
    "dynamic": Dynamic,
}


def build(settings: config.Strategy, eps: float) -> Strategy:
    """The strategy of `settings`; eps (pixels) resolves step sizes given as a part of it."""
    return STRATEGIES[settings.name](settings, eps)
