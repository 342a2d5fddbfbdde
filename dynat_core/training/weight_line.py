"""A straight line through a trained network's weights, the attack recomputed at each place: how fast does the gradient
of the adversarial loss change, and how much of that is the attack's answer?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import cross_entropy, in_eval_mode, pgd, value_and_grad
from dynat_core.attack.fosc import relative_fosc
from dynat_core.attack.threat import Ball

Weights = dict[str, Tensor]
SIZES, STEPS = (4, 32), 10  # ten steps of eps/4, then ten of eps/32, so that the attack comes nearer to rest


def random_direction(model: nn.Module, generator: torch.Generator) -> Weights:
    """A normal direction, each tensor as long as that of the weights (after Li et al. 2018), whole as long as all."""
    drawn = {name: torch.randn(p.shape, generator=generator, dtype=torch.float64) for name, p in _weights(model)}
    return scaled(model, {name: drawn[name] * (p.double().norm() / drawn[name].norm()) for name, p in _weights(model)})


def direction_from(model: nn.Module, other: nn.Module) -> tuple[Weights, float]:
    """(the direction from the weights of `other` to those of `model`, as long as the latter, and the distance in that
    length). Raises ValueError where both are the same."""
    theirs = dict(_weights(other))
    apart = {name: p.double() - theirs[name].double() for name, p in _weights(model)}
    length = _norm(apart.values())
    if length == 0:
        raise ValueError("the same weights span no line")
    return scaled(model, apart), length / _norm(p.double() for _, p in _weights(model))


def scaled(model: nn.Module, direction: Weights) -> Weights:
    """The direction as long as the model's weights (2-norm over all parameters)."""
    factor = _norm(p.double() for _, p in _weights(model)) / _norm(direction.values())
    return {name: part * factor for name, part in direction.items()}


def probed(
    model: nn.Module,
    ball: Ball,
    y: Tensor,
    direction: Weights,
    at: Tensor,
    generator: torch.Generator,
    looked: Callable[[float], None] = lambda share: None,
) -> dict[str, Tensor]:
    """What is found at the places theta + at * direction, and since the place before; each (n - 1,), in float64.

    direction: parameter -> tensor. at: (n,) rising. All in eval mode, so that BatchNorm's averages stay. The loss is
    the mean cross-entropy over the images, and its gradient that at the end points of an attack from the same random
    starts everywhere. loss, clean: losses. attacked, held, still: ||difference of gradients|| / distance of the weights
    with the attack recomputed, with the end points of the place before, and without an attack; each a lower bound of
    any Lipschitz constant. flips: share of the pixels at which the input gradient's sign at the clean image turned.
    left: median relative FOSC of the attack. looked: told the share done, and may raise to end early.
    """
    exact, x = copy.deepcopy(model).double().requires_grad_(False), ball.x.double()
    ball = Ball(x, ball.eps, ball.norm, ball.low, ball.high)
    start = ball.random_point(generator).double()
    centre = {name: p.clone() for name, p in exact.named_parameters()}
    length = _norm(direction.values())
    rows: list[dict[str, Tensor]] = []
    before: dict[str, Tensor] | None = None
    with in_eval_mode(exact):
        for k, t in enumerate(at.tolist()):
            looked(k / len(at))
            for name, p in exact.named_parameters():
                p.copy_(centre[name] + t * direction[name].to(p.device))
            here = _place(exact, ball, y, start)
            if before is not None:
                apart = (float(at[k]) - float(at[k - 1])) * length
                same = _weight_gradient(exact, before["z"], y)[1]  # had the attack not answered
                rows.append(_since(here, before, same, apart))
            before = here
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _place(model: nn.Module, ball: Ball, y: Tensor, start: Tensor) -> dict[str, Tensor]:
    """The attack and the gradients at the model's present weights."""
    attacked = pgd(model, ball, y, steps=STEPS, alpha=ball.eps / SIZES[0], start=start, final=False)
    for size in SIZES[1:]:
        attacked = pgd(model, ball, y, steps=STEPS, alpha=ball.eps / size, start=attacked.z)
    z = attacked.z
    loss, gradient = _weight_gradient(model, z, y)
    clean, still = _weight_gradient(model, ball.x, y)
    slope = value_and_grad(model, cross_entropy, ball.x, y)[2]
    left = relative_fosc(ball, z, attacked.grad).nanmedian()
    return {"z": z, "loss": loss, "clean": clean, "attacked": gradient, "still": still, "signs": slope.sign(),
            "left": left}  # fmt: skip


def _since(here: dict[str, Tensor], before: dict[str, Tensor], same: Tensor, apart: float) -> dict[str, Tensor]:
    """The row of a place, with what changed since the place before, `apart` away."""
    changes = {name: (here[name] - before[name]).norm() / apart for name in ("attacked", "still")}
    held = (same - before["attacked"]).norm() / apart
    flips = (here["signs"] != before["signs"]).double().mean()
    return {name: here[name] for name in ("loss", "clean", "left")} | changes | {"held": held, "flips": flips}


def _weight_gradient(model: nn.Module, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(mean cross-entropy at the points z, its gradient in all weights as one vector)."""
    weights = list(model.parameters())
    for p in weights:
        p.requires_grad_(True)
    try:
        loss = cross_entropy(model(z), y).mean()
        found = torch.autograd.grad(loss, weights, allow_unused=True)
    finally:
        for p in weights:
            p.requires_grad_(False)
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(weights, found, strict=True)]
    return loss.detach(), torch.cat([part.flatten() for part in parts])


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((name, p.detach()) for name, p in model.named_parameters())


def _norm(parts: Iterable[Tensor]) -> float:
    return float(torch.cat([part.flatten() for part in parts]).norm())
