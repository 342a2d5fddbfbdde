"""Outer optimisers: how the weights follow the gradient of each batch. One small class each, mapped at the foot.

The training loop is the same for all: `begin`, attack, backward, `step` for every batch, and `settle` before the
network is measured. What is kept from batch to batch goes through `state` and `load`, so that a run can go on from
anywhere bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dynat_core import config

Kept = tuple[dict[str, Tensor], dict[str, Any]]  # named tensors, and counters that are JSON


class Sgd:
    """Stochastic gradient descent, as PyTorch has it."""

    def __init__(self, settings: config.Descent, model: nn.Module) -> None:
        self.parameters = dict(model.named_parameters())
        self.inside = torch.optim.SGD(
            _groups(settings, model), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )

    def begin(self) -> None:
        """Before a batch is attacked."""

    def step(self, rate: float, generator: torch.Generator) -> None:
        """One step along the gradients that the model's parameters hold. rate: this epoch's learning rate."""
        for group in self.inside.param_groups:
            group["lr"] = rate
        self.inside.step()

    def settle(self) -> None:
        """The weights to be measured and kept are in the model from here until `begin`."""

    def state(self) -> Kept:
        """What is needed to go on from here."""
        found = {name: self.inside.state.get(p, {}).get("momentum_buffer") for name, p in self.parameters.items()}
        return {f"momentum/{name}": value for name, value in found.items() if value is not None}, {}

    def load(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Go on from there; tensors of others are passed over."""
        for name, p in self.parameters.items():
            value = tensors.get(f"momentum/{name}")
            if value is not None:
                self.inside.state[p] = {"momentum_buffer": torch.empty_like(p).copy_(value)}


def _groups(settings: config.Descent, model: nn.Module) -> list[dict[str, Any]]:
    """The parameters for PyTorch; a penalty l * sum(w^2) on the loss is weight decay of 2 l."""
    l2 = settings.dense_l2 if isinstance(settings, config.Sgd) else 0.0
    dense = next((m.weight for m in model.modules() if isinstance(m, nn.Linear)), None)
    if not l2 or dense is None:
        return [{"params": list(model.parameters())}]
    others = [p for p in model.parameters() if p is not dense]
    return [{"params": others}, {"params": [dense], "weight_decay": settings.weight_decay + 2 * l2}]


class EntropySgd:
    """Weights theta follow the mean of a walk of L batches that starts at them (Chaudhari et al. 2017, algorithm 1).

    w = mu = theta; L times, each on a fresh batch attacked at w:
    w <- w - eta' (grad f(w) - gamma (theta - w)) + sqrt(2 eta') tau N(0, I),  mu <- b mu + (1 - b) w;
    then theta <- theta - eta (theta - mu). gamma = gamma_0 (1 + scoping)^t grows with the steps t of theta.
    Momentum is Nesterov's, in the walk (from rest each time; without the noise) and of theta; weight decay belongs to
    f. L = 0 is plain SGD, by a branch (`build`): the formula itself would not move. The model holds w while the walk
    goes on, and theta while it is measured.
    """

    def __init__(self, settings: config.EntropySgd, model: nn.Module) -> None:
        self.settings = settings
        self.parameters = dict(model.named_parameters())
        self.theta = self._copies()
        self.mean = self._copies()
        self.walker = self._copies()  # where the walk stands while theta is in the model
        self.speed = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.momentum = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.walked, self.steps, self.settled = 0, 0, False

    @property
    def gamma(self) -> float:
        """The pull towards theta, now."""
        return self.settings.gamma * (1 + self.settings.scoping) ** self.steps

    @torch.no_grad()
    def begin(self) -> None:
        """Before a batch is attacked: the walk's point goes into the model."""
        if self.settled:
            self._take(self.walker)
            self.settled = False

    @torch.no_grad()
    def step(self, rate: float, generator: torch.Generator) -> None:
        """One step of the walk, and after the last of it one of the weights, `rate` of the way to the mean."""
        how = self.settings
        for name, w in self.parameters.items():
            slope = torch.zeros_like(w) if w.grad is None else w.grad.clone()
            slope += how.weight_decay * w
            slope -= self.gamma * (self.theta[name] - w)
            w -= how.walk_lr * self._nesterov(self.speed[name], slope)
            if how.noise:
                noise = torch.randn(w.shape, generator=generator, dtype=w.dtype, device=w.device)
                w += (2 * how.walk_lr) ** 0.5 * how.noise * noise
            self.mean[name].mul_(how.memory).add_(w, alpha=1 - how.memory)
        self.walked += 1
        if self.walked == how.walk:
            self._close(rate)

    def _close(self, rate: float) -> None:
        """The weights make their step, and a new walk starts at them."""
        for name, w in self.parameters.items():
            w.copy_(self.theta[name] - rate * self._nesterov(self.momentum[name], self.theta[name] - self.mean[name]))
            for start in (self.theta, self.mean):
                start[name].copy_(w)
            self.speed[name].zero_()
        self.walked, self.steps = 0, self.steps + 1

    def _nesterov(self, velocity: Tensor, slope: Tensor) -> Tensor:
        """The direction of Nesterov's momentum; `velocity` is changed in place."""
        if self.settings.momentum == 0:
            return slope
        velocity.mul_(self.settings.momentum).add_(slope)
        return slope + self.settings.momentum * velocity

    @torch.no_grad()
    def settle(self) -> None:
        """The weights to be measured and kept, theta, are in the model from here until `begin`."""
        if not self.settled:
            for name, p in self.parameters.items():
                self.walker[name].copy_(p)
            self._take(self.theta)
            self.settled = True

    def state(self) -> Kept:
        """What is needed to go on from here."""
        parts = {f"{part}/{name}": value for part, held in self._held().items() for name, value in held.items()}
        return parts, {"walked": self.walked, "steps": self.steps, "settled": self.settled}

    def load(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Go on from there; tensors of others are passed over. Raises KeyError for another optimiser's state."""
        for part, held in self._held().items():
            for name, value in held.items():
                value.copy_(tensors[f"{part}/{name}"])
        self.walked, self.steps, self.settled = counters["walked"], counters["steps"], counters["settled"]

    def _held(self) -> dict[str, dict[str, Tensor]]:
        return {
            "theta": self.theta,
            "mean": self.mean,
            "walker": self.walker,
            "speed": self.speed,
            "momentum": self.momentum,
        }

    def _copies(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.parameters.items()}

    def _take(self, values: Mapping[str, Tensor]) -> None:
        for name, p in self.parameters.items():
            p.copy_(values[name])


Optimizer = Sgd | EntropySgd


def build(settings: config.Sgd | config.EntropySgd, model: nn.Module) -> Optimizer:
    """The optimiser of `settings` for the parameters of `model`."""
    if isinstance(settings, config.EntropySgd) and settings.walk > 0:
        return EntropySgd(settings, model)
    return Sgd(settings, model)
