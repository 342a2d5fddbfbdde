"""FOSC, the First-Order Stationary Condition: how far the attack at `z` is from a first-order best point.

c(z) = max over z' in the set of <z' - z, g>: the Frank-Wolfe gap of the inner maximisation. `grad` is always the
gradient of the per-sample loss (a sum over the batch, never a mean), of the model in eval mode, and `ball.x` the clean
image. Source: Wang et al. 2019, the definition and closed form of FOSC; the box form is its exact value where pixels
are cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from dynat_core.attack.threat import Ball, euclidean, inner

Form = Literal["box", "paper"]
StopForm = Literal["box", "paper", "code"]
Stop = Callable[[Ball, Tensor, Tensor, Tensor], Tensor]


def fosc(ball: Ball, z: Tensor, grad: Tensor, form: Form = "box") -> Tensor:
    """(n,) FOSC in loss units (nats for cross-entropy), at least 0 up to rounding; 0 is stationary.

    z, grad: (n, ...). form "box": over ball and pixel box, exact. form "paper": over the ball alone,
    eps * ||g||_1 - <z - x, g> (L-inf) or eps * ||g||_2 - <z - x, g> (L2); never below the box form.
    Raises ValueError for another form.
    """
    if form == "box":
        if ball.norm == "linf":  # each pixel's term is at least 0, so no large numbers cancel
            return _pixel_terms(ball, z, grad).flatten(1).sum(1)
        return ball.linear_max(grad) - inner(grad, z)
    if form == "paper":
        flat = grad.flatten(1)
        dual = flat.abs().sum(1) if ball.norm == "linf" else euclidean(grad)
        return ball.eps * dual - inner(grad, z - ball.x)
    raise ValueError(f"form must be box or paper (got {form})")


def fosc_map(ball: Ball, z: Tensor, grad: Tensor) -> Tensor:
    """(n, ...) the box form pixel by pixel: non-negative terms that add up to `fosc`. L-inf only (ValueError)."""
    if ball.norm != "linf":
        raise ValueError("only the L-inf FOSC is a sum over pixels")
    return _pixel_terms(ball, z, grad)


def relative_fosc(ball: Ball, z: Tensor, grad: Tensor, form: Form = "box") -> Tensor:
    """(n,) rho in [0, 2], without unit: FOSC divided by half the width of the set along the gradient, its value in the
    middle of the set; 1 = as far as there.

    Free of the scale of the loss. NaN where the gradient is 0: read it together with the gradient's norm.
    """
    if form == "paper":
        flat = grad.flatten(1)
        scale = ball.eps * (flat.abs().sum(1) if ball.norm == "linf" else euclidean(grad))
    else:
        scale = half_width(ball, grad)
    return torch.where(scale > 0, fosc(ball, z, grad, form) / scale, torch.full_like(scale, float("nan")))


def half_width(ball: Ball, grad: Tensor) -> Tensor:
    """(n,) half of how far the set reaches along the gradient, in the unit of the loss: the FOSC in its middle."""
    if ball.norm == "linf":
        low, high = ball.faces
        return inner(grad.abs(), high - low) / 2
    return (ball.linear_max(grad) + ball.linear_max(-grad)) / 2


def stop_below(c: float, form: StopForm = "box") -> Stop:
    """A stop rule: a sample is done once its FOSC is at most `c` (equality stops).

    form "code" measures from where the attack started, as the authors' code does: c_code = c_paper + <z_0 - x, g>,
    which can be negative. The rule takes (ball, z, grad, z0) and returns (n,) booleans.
    """
    if form not in ("box", "paper", "code"):
        raise ValueError(f"form must be box, paper or code (got {form})")

    def stop(ball: Ball, z: Tensor, grad: Tensor, z0: Tensor) -> Tensor:
        if form == "code":
            return fosc(ball, z, grad, "paper") + inner(grad, z0 - ball.x) <= c
        return fosc(ball, z, grad, form) <= c

    return stop


def _pixel_terms(ball: Ball, z: Tensor, grad: Tensor) -> Tensor:
    low, high = ball.faces
    # one of the two products is exactly 0; on a processor that is four times as fast as choosing with `where`
    return torch.addcmul(grad.clamp(min=0) * (high - z), grad.clamp(max=0), low - z)
