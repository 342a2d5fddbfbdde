"""How a network's loss bends along segments inside the attack's ball: is it strongly concave, as Theorem 1 needs?"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import cross_entropy, in_eval_mode
from dynat_core.attack.threat import Ball

STRAIGHT = 1e-9  # logits at the middle differ by no more from their mean at the ends, relative to their size
_BATCH = 250


def bends(
    model: nn.Module,
    ball: Ball,
    y: Tensor,
    generator: torch.Generator,
    looked: Callable[[float], None] = lambda share: None,
) -> tuple[Tensor, Tensor]:
    """(curvature, straight) (n,) of one segment in each ball, between two of its random points p and q.

    curvature: 4 (f(p) + f(q) - 2 f(middle)) / ||p - q||^2 of cross-entropy f, in nats per squared pixel, in float64.
    straight: whether the logits are straight along it, as within one linear region of a ReLU network. looked: told the
    share done before each batch; it may raise to end early.
    """
    exact = copy.deepcopy(model).double()
    found, lines = [], []
    with in_eval_mode(exact), torch.no_grad():
        for k in range(0, len(y), _BATCH):
            looked(k / len(y))
            part = replace(ball, x=ball.x[k : k + _BATCH])
            p, q = (part.random_point(generator).double() for _ in range(2))
            logits = [exact(z) for z in (p, (p + q) / 2, q)]
            ends = (logits[0] + logits[2]) / 2
            losses = [cross_entropy(z, y[k : k + _BATCH]) for z in logits]
            found.append(4 * (losses[0] + losses[2] - 2 * losses[1]) / (p - q).flatten(1).square().sum(dim=1))
            size = 1 + ends.abs().amax(dim=1)
            lines.append((logits[1] - ends).abs().amax(dim=1) <= STRAIGHT * size)
    return torch.cat(found), torch.cat(lines)
