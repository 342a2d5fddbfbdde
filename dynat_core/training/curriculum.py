"""Curriculum adversarial training: the attack gets longer, by one step as published, whenever the present lesson is
learnt.

Cai, Liu, Song, "Curriculum Adversarial Training" (IJCAI 2018); how Wang et al. 2019 ran it is unknown beyond the
longest lesson. An accuracy is that of training itself: the images attacked with the lesson's k steps, as the weights
met them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dynat_core import config
from dynat_core.attack.attacks import Attacked, ascend, cross_entropy, in_eval_mode, pgd
from dynat_core.training.strategy import Moment, Strategy


class Curriculum(Strategy[config.Curriculum]):
    """Lesson k attacks with k steps; lesson 0 is clean training. lesson: the present k; best: its best accuracy so far;
    stalled: epochs since; right, seen: images of the present epoch."""

    def __init__(
        self, settings: config.Curriculum, eps: float, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(settings, eps, seed, device)
        self.lesson, self.stalled, self.right, self.seen, self.best = 0, 0, 0, 0, -1.0

    def attack(self, x: Tensor, y: Tensor, moment: Moment) -> Attacked:
        ball = moment.ball(x)
        return climb_each(
            moment.frozen,
            ball,
            y,
            x if self.settings.start == "clean" else ball.random_point(moment.generator),
            allotted=self.allotted(len(y)).to(y.device),
            alpha=self.alpha,
            final=moment.measured,
        )

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, moment: Moment) -> tuple[Tensor, Attacked]:
        attacked = self.attack(x, y, moment)
        logits = model(attacked.z)
        hardest = attacked.steps == self.lesson
        self.right += int((logits.argmax(1) == y)[hardest].sum())
        self.seen += int(hardest.sum())
        return cross_entropy(logits, y).mean(), attacked

    def allotted(self, n: int) -> Tensor:
        """(n,) steps of each image of a batch of n: k + 1 parts of equal size, the first one with k (batches are
        shuffled, so a place in them means nothing); what does not divide goes to the longer attacks."""
        if not self.settings.mixing:
            return torch.full((n,), self.lesson)
        parts = torch.arange(n).tensor_split(self.lesson + 1)
        return torch.cat([torch.full((len(part),), self.lesson - i) for i, part in enumerate(parts)])

    def facts(self) -> dict[str, float]:
        return {"lesson": self.lesson}

    def close_epoch(self, t: int, record: Mapping[str, Any]) -> None:
        """The next lesson, once the target is reached or nothing has become better for `patience` epochs."""
        accuracy = self.right / max(self.seen, 1)
        self.stalled = 0 if accuracy > self.best else self.stalled + 1
        self.best, self.right, self.seen = max(self.best, accuracy), 0, 0
        learnt = accuracy >= self.settings.target or self.stalled >= self.settings.patience
        if learnt and self.lesson < self.settings.steps:
            longer = min(self.lesson + self.settings.growth, self.settings.steps)
            self.lesson, self.stalled, self.best = longer, 0, -1.0

    def state_dict(self) -> dict[str, Tensor]:
        whole = torch.tensor([self.lesson, self.stalled, self.right, self.seen])
        return {"counts": whole, "best": torch.tensor([self.best], dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.lesson, self.stalled, self.right, self.seen = state["counts"].tolist()
        self.best = float(state["best"][0])


def climb_each(
    model: nn.Module, ball: Any, y: Tensor, z: Tensor, *, allotted: Tensor, alpha: float, final: Tensor
) -> Attacked:
    """PGD on cross-entropy with a number of steps for each image.

    z: (n, ...) starts, inside the ball; images without a step stay at x. allotted: (n,) steps. alpha: pixels. final:
    (n,) images whose gradient at the end point is measured, one more each.
    """
    with in_eval_mode(model), torch.no_grad():
        z = torch.where((allotted > 0).view(-1, *[1] * (z.dim() - 1)), z, ball.x)
        found = pgd(model, ball, y, steps=0, alpha=1.0, start=z, final=final & (allotted == 0))
        for step in range(int(allotted.max())):
            who = torch.nonzero(allotted > step).flatten()
            last = final[who] & (allotted[who] == step + 1)
            more = ascend(
                model, ball[who], y[who], found.z[who], steps=1, alpha=alpha, loss=cross_entropy, final=last
            )  # fmt: skip
            found = _gone_on(found, who, more)
    return found


def _gone_on(found: Attacked, who: Tensor, more: Attacked) -> Attacked:
    """`found` after the samples `who` went on from where they stood as `more` says."""
    logits = found.logits
    if logits.shape[1] != more.logits.shape[1]:
        logits = found.loss.new_full((len(found.z), more.logits.shape[1]), float("nan"))
    before, first = found.steps_to_fool[who], more.steps_to_fool
    fooled = torch.where((before < 0) & (first >= 0), found.steps[who] + first, before)
    return replace(
        found,
        z=found.z.index_copy(0, who, more.z),
        grad=found.grad.index_copy(0, who, more.grad),
        loss=found.loss.index_copy(0, who, more.loss),
        logits=logits.index_copy(0, who, more.logits),
        gradients=found.gradients.index_add(0, who, more.gradients),
        steps=found.steps.index_add(0, who, more.steps),
        steps_to_fool=found.steps_to_fool.index_copy(0, who, fooled),
    )
