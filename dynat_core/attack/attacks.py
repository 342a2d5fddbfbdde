"""Attacks: FGSM, PGD-k and C&W_inf are three ways to call one ascent loop. Works for any nn.Module with logits out.

The model is in eval mode while an attack runs; every module's training flag and every parameter's gradient are as found
afterwards, also after an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynat_core.attack.fosc import Stop
from dynat_core.attack.threat import Ball

Loss = Callable[[Tensor, Tensor], Tensor]  # (logits (n, classes), y (n,)) -> (n,)
ValueAndGrad = Callable[[Loss, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]  # see `value_and_grad`
Watch = Callable[[Tensor, Tensor, Tensor], None]  # (z (n, ...), gradient (n, ...), logits (n, classes)) at a point


# ----------------------------------------------------------------------------------------------------------- losses


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """(n,) cross-entropy of each sample, in nats."""
    return F.cross_entropy(logits, y, reduction="none")


def best_other(logits: Tensor, y: Tensor) -> Tensor:
    """(n,) the largest logit of a wrong class; the true one is masked by -infinity, not by zero."""
    return logits.scatter(1, y[:, None], float("-inf")).amax(1)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """(n,) true logit minus the best other: above 0 is correct."""
    return logits.gather(1, y[:, None]).squeeze(1) - best_other(logits, y)


def margin_loss(logits: Tensor, y: Tensor) -> Tensor:
    """(n,) best other logit minus the true one: what an attack on the decision climbs."""
    return -margin(logits, y)


def cw_loss(confidence: float = 50.0) -> Loss:
    """Carlini and Wagner's margin loss for PGD: climbs until the wrong logit leads by `confidence`, then is flat."""

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return -(margin(logits, y) + confidence).clamp(min=0)

    return loss


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin_loss}
LOOK_EVERY = {"cuda": 4}  # steps; to ask a processor costs nothing, but a GPU runs dry while it is waited for


# ----------------------------------------------------------------------------------------------------------- result


@dataclass(frozen=True)
class Path:
    """Every point of an attack, K+1 of them; a sample that stopped keeps its last point.

    z, grad: (K+1, n, ...). loss: (K+1, n). logits: (K+1, n, classes).
    """

    z: Tensor
    loss: Tensor
    grad: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Attacked:
    """What an attack found.

    z: (n, ...) adversarial points. grad (n, ...), loss (n,), logits (n, classes): at z; NaN where the gradient at the
    end point was not asked for. gradients: (n,) int32, gradient evaluations each sample cost. steps: (n,) int32,
    updates made. steps_to_fool: (n,) int32, first point (0 is the start) at which the model was seen to be wrong, -1
    if never seen. path: None, or every point. more: further measures of an attack on another loss, (n,) each.
    """

    z: Tensor
    grad: Tensor
    loss: Tensor
    logits: Tensor
    gradients: Tensor
    steps: Tensor
    steps_to_fool: Tensor
    path: Path | None = None
    more: Mapping[str, Tensor] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------------- the loop


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """The model in eval mode inside; every submodule's own flag is put back afterwards."""
    training = [m for m in model.modules() if m.training]
    try:
        model.eval()
        yield
    finally:
        for module in training:
            module.training = True


def value_and_grad(model: nn.Module, loss: Loss, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(logits (n, classes), loss (n,), gradient (n, ...) of each sample's own loss at z). Parameters get no
    gradient. A view that knows a quicker way (`Frozen` on a CUDA device) has a `value_and_grad` of its own."""
    own: ValueAndGrad | None = getattr(model, "value_and_grad", None)
    return plain_value_and_grad(model, loss, z, y) if own is None else own(loss, z, y)


def plain_value_and_grad(model: nn.Module, loss: Loss, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`value_and_grad` by autograd, whatever the model."""
    with torch.enable_grad():
        z = z.detach().requires_grad_(True)
        logits = model(z)
        value = loss(logits, y)
        (grad,) = torch.autograd.grad(value.sum(), z)
    return logits.detach(), value.detach(), grad


class Outcome:
    """What is known about every sample of the batch, also of those that have left it."""

    def __init__(self, z: Tensor, y: Tensor, keep_path: bool, keep_best: bool) -> None:
        n, device = len(z), z.device
        self.y = y
        self.z = z.clone()
        self.grad = torch.full_like(z, float("nan"))
        self.loss = torch.full((n,), float("nan"), dtype=z.dtype, device=device)
        self.logits = torch.full(
            (n, 0), float("nan"), dtype=z.dtype, device=device
        )  # widened when the classes are known
        self.gradients = torch.zeros(n, dtype=torch.int32, device=device)
        self.steps = torch.zeros(n, dtype=torch.int32, device=device)
        self.steps_to_fool = torch.full((n,), -1, dtype=torch.int32, device=device)
        self.path: list[tuple[Tensor, ...]] | None = [] if keep_path else None
        self.best: tuple[Tensor, ...] | None = None
        self.keep_best = keep_best

    def see(
        self, who: Tensor | slice, logits: Tensor, loss: Tensor, grad: Tensor, active: Tensor | None = None
    ) -> None:
        """Note what was measured at the present points of the samples `who`. active: those of them that still climb and
        needed it (None: all); the others stand where they stood."""
        if self.logits.shape[1] != logits.shape[1]:
            self.logits = self.z.new_full((len(self.z), logits.shape[1]), float("nan"))
        self.logits[who], self.loss[who], self.grad[who] = logits.to(self.z.dtype), loss.to(self.z.dtype), grad
        self.gradients[who] += 1 if active is None else active.to(torch.int32)
        first = (logits.argmax(1) != self.y[who]) & (self.steps_to_fool[who] < 0)
        self.steps_to_fool[who] = torch.where(first, self.steps[who], self.steps_to_fool[who])
        here = (self.z, self.loss, self.grad, self.logits)
        if self.path is not None:
            self.path.append(tuple(t.clone() for t in here))
        if self.keep_best:
            if self.best is None:
                self.best = tuple(t.clone() for t in here)
            better = _better((self.logits, self.loss), (self.best[3], self.best[1]), self.y)
            self.best = tuple(_choose(better, now, old) for now, old in zip(here, self.best, strict=True))

    def move(self, who: Tensor | slice, z: Tensor, active: Tensor | None = None) -> None:
        """The samples `who` are at `z` now; those that are `active` (None: all) have made a step."""
        self.z[who] = z
        self.steps[who] += 1 if active is None else active.to(torch.int32)

    def forget(self, who: Tensor) -> None:
        """The samples `who` have moved to a point whose gradient nobody asks for."""
        for known in (self.grad, self.loss, self.logits):
            known[who] = float("nan")

    def attacked(self, points: int) -> Attacked:
        """The outcome; a path is filled up to `points` points, since a stopped sample stays where it is."""
        z, loss, grad, logits = self.best if self.best is not None else (self.z, self.loss, self.grad, self.logits)
        path = None
        if self.path:
            filled = self.path + [self.path[-1]] * (points - len(self.path))
            path = Path(*(torch.stack(parts) for parts in zip(*filled, strict=True)))
        return Attacked(
            z=z,
            grad=grad,
            loss=loss,
            logits=logits,
            gradients=self.gradients,
            steps=self.steps,
            steps_to_fool=self.steps_to_fool,
            path=path,
        )


def ascend(
    model: nn.Module,
    ball: Ball,
    y: Tensor,
    z: Tensor,
    *,
    steps: int,
    alpha: float,
    loss: Loss,
    stop: Stop | None = None,
    keep_path: bool = False,
    keep_best: bool = False,
    final: bool | Tensor = True,
    look_every: int | None = None,
    watch: Watch | None = None,
) -> Attacked:
    """Climb `loss` from `z` inside `ball`; a sample that `stop` is satisfied with leaves the batch (compaction).

    model: in eval mode. z: (n, ...) start, inside the ball. y: (n,) labels. alpha: step size in pixels.
    stop(ball, z, grad, z0) -> (n,) bool is asked before every step but the first, with the gradient that step would
    use, so it costs no gradient of its own. final: whether the gradient at the end point is measured for samples that
    used all steps, one more each; or an (n,) mask of the samples for which it is. look_every: steps between two
    questions to the device how many samples are left, LOOK_EVERY by default; in between a sample that stopped stands
    still in the batch, so the result is the same up to rounding. watch: is shown every point of the whole batch, in
    tensors that change afterwards: a path whose points need not be kept. Source: Wang et al. 2019, Algorithm 1, lines 6
    to 10.
    """
    outcome = Outcome(z, y, keep_path, keep_best)
    climbing = torch.arange(len(z), device=z.device)
    here, labels, start = ball, y, z
    look_every = look_every or LOOK_EVERY.get(z.device.type, 1)
    active: Tensor | None = None  # those of the batch that still climb; None: all of it
    for step in range(steps + 1):
        if active is not None and step == steps:
            climbing, here, labels = climbing[active], here[active], labels[active]
            z, start, active = z[active], start[active], None
        if step == steps and final is not True:
            measured = final[climbing] if isinstance(final, Tensor) else torch.zeros_like(climbing, dtype=torch.bool)
            outcome.forget(climbing[~measured])
            climbing, here, labels = climbing[measured], here[measured], labels[measured]
            z, start = z[measured], start[measured]
        if len(climbing) == 0:
            break
        who = slice(None) if len(climbing) == len(y) else climbing
        logits, value, grad = value_and_grad(model, loss, z, labels)
        outcome.see(who, logits, value, grad, active)
        if watch is not None:
            watch(outcome.z, outcome.grad, outcome.logits)
        if step == steps:
            break
        if stop is not None and step > 0:  # the first step is always taken
            on = ~stop(here, z, grad, start)
            active = on if active is None else active & on
            if (step - 1) % look_every == 0:
                if not bool(active.all()):  # the device is waited for here
                    climbing, here, labels = climbing[active], here[active], labels[active]
                    z, start, grad, who = z[active], start[active], grad[active], climbing
                active = None
        moved = here.project(z + alpha * here.steepest_step(grad))
        z = moved if active is None else _choose(active, moved, z)
        outcome.move(who, z, active)
    return outcome.attacked(points=steps + 1)


def _choose(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """(n, ...) a where the (n,) mask holds, else b."""
    return torch.where(mask.view(-1, *[1] * (a.dim() - 1)), a, b)


def _better(new: tuple[Tensor, Tensor], old: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
    """(n,) whether (logits, loss) `new` is the better attack: fooling first, then the higher loss."""
    fools, fooled = new[0].argmax(1) != y, old[0].argmax(1) != y
    return (fools & ~fooled) | ((fools == fooled) & (new[1] > old[1]))


# ------------------------------------------------------------------------------------------------------ the attacks


def pgd(
    model: nn.Module,
    ball: Ball,
    y: Tensor,
    *,
    steps: int,
    alpha: float,
    loss: Literal["ce", "margin"] | Loss = "ce",
    start: Literal["random", "clean"] | Tensor = "random",
    stop: Stop | None = None,
    keep_path: bool = False,
    restarts: int = 1,
    keep: Literal["last", "best"] = "last",
    generator: torch.Generator | None = None,
    final: bool | Tensor = True,
    watch: Watch | None = None,
) -> Attacked:
    """Projected gradient ascent with `steps` steps of `alpha` pixels (Madry et al. 2018).

    y: (n,) labels. start: a uniform random point of the ball, the clean image, or an (n, ...) tensor (projected first).
    stop: see `fosc.stop_below`. restarts: independent starts, the best outcome of each sample is kept: fooling first,
    then the higher loss; `gradients` adds up over them, the path is that of the first. keep: the last point of each
    climb, or the best one seen. generator: makes random starts repeatable. final, watch: see `ascend`. Raises
    ValueError for steps < 0, alpha <= 0, restarts < 1, or a path, restarts or "best" without the final gradient.
    """
    if steps < 0 or alpha < 0 or (alpha == 0 and ball.eps > 0):
        raise ValueError(f"PGD needs steps of 0 or more and a step size above 0 (got steps={steps}, alpha={alpha})")
    if restarts < 1:
        raise ValueError(f"restarts must be 1 or more (got {restarts})")
    if final is not True and (restarts > 1 or keep_path or keep == "best"):
        raise ValueError('restarts, keep_path and keep="best" compare end points, so they need final=True')
    climb = LOSSES[loss] if isinstance(loss, str) else loss
    with in_eval_mode(model), torch.no_grad():
        result: Attacked | None = None
        for _ in range(restarts):
            if isinstance(start, Tensor):
                z = ball.project(start)
            else:
                z = ball.x.clone() if start == "clean" else ball.random_point(generator)
            fresh = ascend(
                model,
                ball,
                y,
                z,
                steps=steps,
                alpha=alpha,
                loss=climb,
                stop=stop,
                final=final,
                keep_path=keep_path and result is None,
                keep_best=keep == "best",
                watch=watch,
            )
            result = fresh if result is None else _merge(result, fresh, y)
        assert result is not None
        return result


def fgsm(
    model: nn.Module,
    ball: Ball,
    y: Tensor,
    *,
    start: Literal["random", "clean"] | Tensor = "random",
    generator: torch.Generator | None = None,
) -> Attacked:
    """One step of eps on cross-entropy, from a random start by default (Goodfellow et al. 2015; start as in the
    paper)."""
    return pgd(model, ball, y, steps=1, alpha=ball.eps, start=start, generator=generator)


def cw(
    model: nn.Module,
    ball: Ball,
    y: Tensor,
    *,
    steps: int = 30,
    alpha: float | None = None,
    confidence: float = 50.0,
    start: Literal["random", "clean"] | Tensor = "random",
    generator: torch.Generator | None = None,
) -> Attacked:
    """C&W_inf: PGD on the margin loss, 30 steps of eps/4, confidence 50 (Carlini and Wagner 2017, as in Wang et al.
    2019)."""
    return pgd(
        model,
        ball,
        y,
        steps=steps,
        alpha=ball.eps / 4 if alpha is None else alpha,
        loss=cw_loss(confidence),
        start=start,
        generator=generator,
    )


def _merge(old: Attacked, new: Attacked, y: Tensor) -> Attacked:
    """Sample by sample the better of two restarts; costs add up, the first path stays."""
    better = _better((new.logits, new.loss), (old.logits, old.loss), y)
    return Attacked(
        z=_choose(better, new.z, old.z),
        grad=_choose(better, new.grad, old.grad),
        loss=_choose(better, new.loss, old.loss),
        logits=_choose(better, new.logits, old.logits),
        gradients=old.gradients + new.gradients,
        steps=_choose(better, new.steps, old.steps),
        steps_to_fool=_choose(better, new.steps_to_fool, old.steps_to_fool),
        path=old.path,
    )
