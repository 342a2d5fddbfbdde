"""TRADES: clean cross-entropy plus beta times the worst divergence of the prediction near the image.

Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy" (ICML 2019); the loop, the start and
the reduction of the loss are those of the authors' code.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from dynat_core import config
from dynat_core.attack.attacks import Attacked, Loss, ascend, cross_entropy, in_eval_mode, value_and_grad
from dynat_core.attack.fosc import fosc
from dynat_core.attack.threat import Ball
from dynat_core.training.strategy import Moment, Strategy

NOISE = 0.001  # standard deviation of the start around x, in pixels: at x itself the divergence has no slope


def divergence(clean: Tensor, other: Tensor) -> Tensor:
    """(n,) KL(p || q) in nats, the sum over classes; p, q: the predictions of logits `clean`, `other` (n, classes).

    Gradients flow through both. PyTorch's `reduction="mean"` would also divide by the number of classes.
    """
    log_p, log_q = clean.log_softmax(1), other.log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(1)


def divergence_from(clean: Tensor) -> Loss:
    """The divergence as an attack climbs it: (logits (n, classes), y unread) -> (n,), with p held constant.

    Written so that value and gradient are exactly 0 where the logits are `clean`, and not merely small: an attack that
    takes signs would follow the rounding.
    """
    whole = clean.logsumexp(1, keepdim=True)
    p = (clean - whole).exp()
    rest = whole.squeeze(1) - (p * clean).sum(1)

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return logits.logsumexp(1) - (p * logits).sum(1) - rest

    return loss


class Trades(Strategy[config.Trades]):
    """The attack runs in eval mode and never sees the label; the outer loss is CE + beta * KL, KL averaged over the
    batch.

    What is recorded of an image's end point is its cross-entropy, as for every strategy, and `kl_fosc`, the FOSC (box
    form) of what was climbed: a gradient each, only where it is recorded.
    """

    columns = ("kl_fosc",)

    def attack(self, x: Tensor, y: Tensor, moment: Moment) -> Attacked:
        ball, model = moment.ball(x), moment.frozen
        with in_eval_mode(model), torch.no_grad():
            clean = model(x)
            start = x + NOISE * ball.noise(moment.generator)  # not cut: the first step projects
            attacked = ascend(
                model, ball, y, start, steps=self.settings.steps, alpha=self.alpha, loss=divergence_from(clean),
                final=False,
            )  # fmt: skip
            return _recorded(model, ball, y, clean, attacked, moment.measured)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, moment: Moment) -> tuple[Tensor, Attacked]:
        attacked = self.attack(x, y, moment)
        clean = model(x)
        loss = cross_entropy(clean, y).mean()
        if self.settings.beta == 0:  # nothing but clean training, BatchNorm's averages included
            return loss, attacked
        near = model(attacked.z)
        if self.settings.as_published == "code":
            clean = model(x)  # once more: BatchNorm's averages see it twice, and dropout draws anew
        return loss + self.settings.beta * divergence(clean, near).mean(), attacked


def _recorded(model: nn.Module, ball: Ball, y: Tensor, clean: Tensor, attacked: Attacked, who: Tensor) -> Attacked:
    """The same with cross-entropy, its gradient and `kl_fosc` at the end points of the samples `who` (n,).

    clean: (n, classes) logits at x.
    """
    places = torch.nonzero(who).flatten()
    found = {name: attacked.loss.new_full((len(y),), float("nan")) for name in ("loss", "kl_fosc")}
    grad, logits = torch.full_like(attacked.z, float("nan")), torch.full_like(clean, float("nan"))
    gradients, fooled = attacked.gradients.clone(), attacked.steps_to_fool.clone()
    if len(places):
        z, labels = attacked.z[places], y[places]
        logits[places], found["loss"][places], grad[places] = value_and_grad(model, cross_entropy, z, labels)
        slope = value_and_grad(model, divergence_from(clean[places]), z, labels)[2]
        found["kl_fosc"][places] = fosc(ball[places], z, slope)
        gradients[places] += 2
        late = (logits[places].argmax(1) != labels) & (fooled[places] < 0)
        fooled[places] = torch.where(late, attacked.steps[places], fooled[places])
    return replace(
        attacked, grad=grad, loss=found["loss"], logits=logits, gradients=gradients, steps_to_fool=fooled,
        more={"kl_fosc": found["kl_fosc"]},
    )  # fmt: skip
