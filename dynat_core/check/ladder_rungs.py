"""The rungs of the evaluation ladder: what each attack is, what it costs, and how it is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dynat_core.attack import autoattack as aa
from dynat_core.attack.attacks import LOSSES, cw_loss, margin, margin_loss, pgd, value_and_grad
from dynat_core.attack.fosc import fosc, relative_fosc
from dynat_core.attack.threat import Ball

NOISE = 10  # random corners tried on each image


@dataclass(frozen=True)
class Rung:
    """One attack of the ladder.

    words: the whole of it. own: whether it attacks every image that is right without an attack, so that its accuracy
    is its own; the others attack what everything before them left, and their accuracy is what stands after all so
    far. loss: ce, margin or cw, "" where no gradient is climbed. over: the step size is eps divided by this.
    """

    name: str
    words: str
    own: bool = True
    loss: Literal["", "ce", "margin", "cw"] = ""
    steps: int = 0
    restarts: int = 1
    over: int = 4

    @property
    def alpha(self) -> str:
        """The step size as text, such as eps/4."""
        return "" if not self.steps else "eps" if self.over == 1 else f"eps/{self.over}"

    @property
    def passes(self) -> int:
        """How often it goes over the images: restarts, or the four attacks of AutoAttack."""
        return len(aa.PARTS) if self.name == "autoattack" else self.restarts

    def cost(self, number: int) -> float:
        """What pass `number` is expected to cost an image, in gradients; a forward pass counts a third."""
        if self.name == "autoattack":
            return aa.COST[aa.PARTS[number]] + 1
        if self.name == "noise":
            return NOISE / 3 + 1
        return self.steps + 1 + (self.restarts > 1)

    def to_json(self) -> dict[str, Any]:
        """The fields, with the step size as text."""
        told = asdict(self) | {"alpha": self.alpha}
        del told["over"]
        return told


_LEFT = "on what everything before left standing"
RUNGS = (
    Rung("clean", "No attack"),
    Rung("noise", f"Noise: {NOISE} random corners of the set, the worst of them, no gradients"),
    Rung("fgsm", "FGSM: one step of eps, cross-entropy, random start", loss="ce", steps=1, over=1),
    Rung("pgd-10", "PGD-10, step eps/4, cross-entropy, random start, 1 restart", loss="ce", steps=10),
    Rung("pgd-20", "PGD-20, step eps/4, cross-entropy, random start, 1 restart", loss="ce", steps=20),
    Rung(
        "cw-30", "C&W as PGD-30, step eps/4, margin loss up to confidence 50, random start, 1 restart",
        loss="cw", steps=30,
    ),
    Rung(
        "pgd-50x10-ce", f"PGD-50, step eps/4, cross-entropy, 10 random restarts, best point of each, {_LEFT}",
        own=False, loss="ce", steps=50, restarts=10,
    ),
    Rung(
        "pgd-50x10-margin", f"PGD-50, step eps/4, margin loss, 10 random restarts, best point of each, {_LEFT}",
        own=False, loss="margin", steps=50, restarts=10,
    ),
    Rung("autoattack", f"AutoAttack standard (APGD-CE, APGD-T, FAB-T, Square), {_LEFT}", own=False),
)  # fmt: skip


def rungs(autoattack: bool, restarts: bool = True) -> tuple[Rung, ...]:
    """The attacks in their order, with AutoAttack or without, with the attacks of many restarts or without."""
    return tuple(
        rung for rung in RUNGS if (autoattack or rung.name != "autoattack") and (restarts or rung.restarts == 1)
    )


# ------------------------------------------------------------------------------------------------------ the attacks


@dataclass(frozen=True)
class Found:
    """What an attack reached on a batch, as plain arrays.

    wrong: (n,) bool. z: (n, ...). measured: float32 (n,) margin, fosc, relative_fosc, gradient_l1, all at z and of the
    margin loss. gradients: what the attack cost, summed. warnings: its own words.
    """

    wrong: np.ndarray
    z: np.ndarray
    measured: dict[str, np.ndarray]
    gradients: int
    warnings: tuple[str, ...] = ()


def attack(rung: Rung, number: int, model: nn.Module, ball: Ball, y: Tensor, randomness: torch.Generator) -> Found:
    """Pass `number` of a rung over the images of `ball`, and the margin loss at its end points. model: in eval mode."""
    gradients, warnings = 0, ()
    if rung.name == "clean":
        z = ball.x
    elif rung.name == "noise":
        z = _worst_noise(model, ball, y, randomness)
    elif rung.name == "autoattack":
        part, seed = aa.PARTS[number], randomness.initial_seed()
        found = aa.standard(model, ball.x, y, ball.eps, ball.norm, seed, parts=(part,), batch=len(y))
        z, gradients, warnings = found.z, found.gradients, found.warnings
    else:
        attacked = pgd(
            model, ball, y, steps=rung.steps, alpha=ball.eps / rung.over, generator=randomness,
            loss=cw_loss(50.0) if rung.loss == "cw" else LOSSES[rung.loss],
            keep="best" if rung.restarts > 1 else "last", final=rung.restarts > 1,
        )  # fmt: skip
        z, gradients = attacked.z, int(attacked.gradients.sum())
    return replace(_measured(model, ball, y, z), gradients=gradients, warnings=warnings)


def _measured(model: nn.Module, ball: Ball, y: Tensor, z: Tensor) -> Found:
    """The margin loss at the points `z`: what every rung is judged by."""
    logits, _, grad = value_and_grad(model, margin_loss, z, y)
    values = {
        "margin": margin(logits, y),
        "fosc": fosc(ball, z, grad),
        "relative_fosc": relative_fosc(ball, z, grad),
        "gradient_l1": grad.flatten(1).abs().sum(1),
    }
    measured = {name: value.cpu().numpy().astype(np.float32) for name, value in values.items()}
    return Found((logits.argmax(1) != y).cpu().numpy(), z.cpu().numpy(), measured, 0)


def _worst_noise(model: nn.Module, ball: Ball, y: Tensor, randomness: torch.Generator) -> Tensor:
    """(n, ...) of random corners of the L-inf ball, or random points of the L2 sphere, cut with the box, those with the
    smallest margin."""
    best, worst = torch.full((len(y),), float("inf"), device=y.device), ball.x
    for _ in range(NOISE):
        way = torch.randn(ball.x.shape, generator=randomness, device=ball.x.device)
        tried = ball.project(ball.x + ball.eps * ball.steepest_step(way))
        now = margin(model(tried), y)
        nearer = now < best
        best, worst = (
            torch.where(nearer, now, best),
            torch.where(nearer.view(-1, *[1] * (tried.dim() - 1)), tried, worst),
        )
    return worst
