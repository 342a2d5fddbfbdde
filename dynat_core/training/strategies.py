"""Training strategies: one small class each; those with a loop of their own have a file of their own. `STRATEGIES` at
the foot maps settings to classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dynat_core import config
from dynat_core.attack.attacks import Attacked, cross_entropy, pgd
from dynat_core.attack.fosc import Stop, stop_below
from dynat_core.training.curriculum import Curriculum
from dynat_core.training.l2l import L2L
from dynat_core.training.strategy import Moment, Strategy
from dynat_core.training.trades import Trades


class Unsecured(Strategy[config.Unsecured]):
    """Clean training. FOSC is measured at the clean image, which is what the network is trained on."""

    def attack(self, x: Tensor, y: Tensor, moment: Moment) -> Attacked:
        return pgd(moment.frozen, moment.ball(x), y, steps=0, alpha=1.0, start="clean", final=moment.measured)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, moment: Moment) -> tuple[Tensor, Attacked]:
        return cross_entropy(model(x), y).mean(), self.attack(x, y, moment)


class Standard(Strategy[config.Standard]):
    """Every image is attacked with all K steps of PGD (Madry et al. 2018): Dynamic with c_t below any FOSC."""

    def attack(self, x: Tensor, y: Tensor, moment: Moment) -> Attacked:
        return _attack(self.settings, self.alpha, x, y, moment, stop=None)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, moment: Moment) -> tuple[Tensor, Attacked]:
        attacked = self.attack(x, y, moment)
        return _outer_loss(self.settings.as_published, model, attacked.z, y, moment), attacked


class Dynamic(Strategy[config.Dynamic]):
    """An image is attacked only until its FOSC is at most c_t, which falls to 0 (Wang et al. 2019, Algorithm 1).

    as_published "code": from the second epoch on each sample's cross-entropy is weighted by its own value, as in the
    authors' code (the weight passes no gradient, so in effect the loss is half the squared cross-entropy).
    """

    def attack(self, x: Tensor, y: Tensor, moment: Moment) -> Attacked:
        stop = stop_below(self.threshold(moment.t), form=self.settings.stop_form)
        return _attack(self.settings, self.alpha, x, y, moment, stop)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, moment: Moment) -> tuple[Tensor, Attacked]:
        attacked = self.attack(x, y, moment)
        return _outer_loss(self.settings.as_published, model, attacked.z, y, moment), attacked

    def threshold(self, t: int) -> float:
        return self.settings.threshold(t)


class FgsmThenPgd(Strategy[config.FgsmThenPgd]):
    """One step of eps from a random start until epoch `switch`, all K steps of PGD from then on (Wang et al. 2019)."""

    def attack(self, x: Tensor, y: Tensor, moment: Moment) -> Attacked:
        if moment.t >= self.settings.switch:
            return _attack(self.settings, self.alpha, x, y, moment, stop=None)
        early = self.settings.model_copy(update={"steps": 1})
        return _attack(early, self.eps, x, y, moment, stop=None)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, moment: Moment) -> tuple[Tensor, Attacked]:
        attacked = self.attack(x, y, moment)
        return cross_entropy(model(attacked.z), y).mean(), attacked


def _outer_loss(as_published: str, model: nn.Module, z: Tensor, y: Tensor, moment: Moment) -> Tensor:
    """What the weights learn from: cross-entropy, with "code" weighted by itself from the second epoch on."""
    each = cross_entropy(model(z), y)
    if as_published == "code" and moment.t > 0:
        with torch.no_grad():
            weight = cross_entropy(moment.frozen(z), y)
        each = each * weight
    return each.mean()


def _attack(
    settings: config.PgdStrategy, alpha: float, x: Tensor, y: Tensor, moment: Moment, stop: Stop | None
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


STRATEGIES: dict[str, type[Strategy[Any]]] = {
    "unsecured": Unsecured,
    "standard": Standard,
    "dynamic": Dynamic,
    "curriculum": Curriculum,
    "fgsm-then-pgd": FgsmThenPgd,
    "trades": Trades,
    "l2l": L2L,
}


def build(settings: config.Strategy, eps: float, seed: int = 0, device: torch.device | str = "cpu") -> Strategy[Any]:
    """The strategy of `settings`; see `Strategy` for the rest."""
    return STRATEGIES[settings.name](settings, eps, seed, device)
