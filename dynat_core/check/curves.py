"""What a reviewer asks of an attack: does accuracy settle with more steps and restarts, is the step size right, does a
large radius break everything, do two losses agree, and is the attack stationary where it fails?

Every accuracy is a share of all n images; an image that is wrong without an attack counts as wrong and is not attacked.
All attacks with the same restart number begin at the same random points, so they can be compared image by image.
Source of the questions: Carlini et al. 2019, On Evaluating Adversarial Robustness.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import LOSSES, Loss, in_eval_mode, margin, pgd
from dynat_core.attack.fosc import relative_fosc
from dynat_core.attack.inputs import judged
from dynat_core.attack.memory import all_or_half
from dynat_core.attack.threat import Ball, Norm
from dynat_core.check.curves_result import OVER, SHORT, STEPS, USUAL, Climbed, Findings, size_words
from dynat_core.check.diagnosis import LARGE_EPS
from dynat_core.check.grey import sure_to_fall
from dynat_core.training.evaluate import generator_for

RESTARTS = 10


@dataclass(frozen=True)
class CurvesEvent:
    """How far the curves are, after a batch. share: of the work, 0 to 1. part: what is measured. so_far: the parts of
    the result that are known. result, arrays: everything, at the last event. note: such as a batch that was halved."""

    share: float
    part: str
    so_far: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    note: str = ""


def curves(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    seed: int = 0,
    batch: int = 250,
) -> Iterator[CurvesEvent]:
    """Measure all curves, one batch at a time; the last event has the result and the arrays.

    model: float32, logits out. x: (n, C, H, W) in [0, 1]; y: (n,). eps: pixels. The result, JSON-able, with counts,
    accuracies and Wilson intervals (correct, accuracy, low, high) for each curve: n, right (images that are right
    without an attack), eps, norm, seed;
    `steps`: k, and for ce and margin `at` (right at step k) and `by` (never seen wrong up to step k), sentence;
    `restarts`: restarts, the curve (PGD-20, cross-entropy, right under all so far), sentence;
    `step_sizes`: alpha (text), pixels, the curve; `radii`: eps, the curve, reaches_zero, sentence;
    `losses`: images that PGD-20 fools with both, only_ce, only_margin, none, sentence; `fosc`: medians and sentence.
    arrays, (n,): clean_correct, restart_gap (largest minus smallest end margin over the restarts), steps_to_fool_ce,
    steps_to_fool_margin, restart_to_fool (-1 never), fooled_ce, fooled_margin, relative_fosc, gradient_l1 (end of
    PGD-20 on the margin loss; NaN where an image was not attacked); (14, n): margin_path_ce, margin_path_margin.
    Raises ValueError for impossible arguments.
    """
    x, y = judged(model, x, y, eps, norm, batch)
    yield from _Study(model, x, y, eps, norm, seed, batch).events()


def radii(eps: float, norm: Norm) -> list[float]:
    """0, eps/4, eps/2, eps, then doubled up to a radius that is sure to fool most (.5 for L-inf, 10 for L2)."""
    large, found = LARGE_EPS[norm], [0.0, eps / 4, eps / 2, eps]
    while 2 * found[-1] < large:
        found.append(2 * found[-1])
    return [*found, large] if found[-1] < large else found


class _Study:
    """The attacks one after another, and what is known of them."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, eps: float, norm: Norm, seed: int, batch: int) -> None:
        self.model, self.x, self.y, self.eps, self.seed, self.batch = model, x, y, float(eps), seed, batch
        self.norm: Norm = norm
        self.radii = radii(self.eps, norm)
        self.clean = np.zeros(len(y), dtype=bool)
        self.done = 0
        self.found = Findings(self.clean)

    # -- attacks

    def _measure_clean(self) -> None:
        with in_eval_mode(self.model), torch.no_grad():
            start = 0
            while start < len(self.y):
                part = torch.arange(start, min(start + self.batch, len(self.y)), device=self.x.device)
                who, right = all_or_half(lambda some: self.model(self.x[some]).argmax(1) == self.y[some], part)
                self.clean[who.cpu().numpy()] = right.cpu().numpy()
                self.batch = len(who) if len(who) < len(part) else self.batch
                start += len(who)

    def _climb(
        self, part: str, loss: Literal["ce", "margin"], *, steps: int = SHORT, restart: int = 0,
        eps: float | None = None, over: int = USUAL,
    ) -> Generator[CurvesEvent, None, Climbed]:  # fmt: skip
        """PGD with steps of eps / `over` on every image that is right without an attack, batch by batch."""
        eps = self.eps if eps is None else eps
        who = torch.from_numpy(np.flatnonzero(self.clean)).to(self.x.device)
        start = Ball(self.x[who], eps, self.norm).random_point(
            generator_for(self.x.device, self.seed, "curves", restart)
        )
        parts: list[Climbed] = []
        first = 0
        while first < len(who):
            asked = torch.arange(first, min(first + self.batch, len(who)), device=who.device)
            with in_eval_mode(self.model), torch.no_grad():
                some, found = all_or_half(
                    lambda some: self._watch(who[some], start[some], loss, steps, eps, eps / over), asked
                )
            note = ""
            if len(some) < len(asked):
                self.batch = len(some)
                note = f"Memory ran out; {self.batch} images at a time now."
            parts.append(found)
            first += len(some)
            self.done += len(some) * (steps + 1)
            yield CurvesEvent(min(0.99, self.done / self._planned), part, dict(self.found.known), note=note)
        if not parts:
            nothing = np.zeros((steps + 1, 0))
            return Climbed(nothing.astype(bool), nothing.astype(np.float32), nothing[0], nothing[0])
        return Climbed(*(np.concatenate([getattr(p, f) for p in parts], -1) for f in ("right", "margin", "rho", "l1")))

    def _watch(self, who: Tensor, start: Tensor, loss: str, steps: int, eps: float, alpha: float) -> Climbed:
        right: list[Tensor] = []
        margins: list[Tensor] = []
        ball, y, climbed = Ball(self.x[who], eps, self.norm), self.y[who], LOSSES[loss]
        end = pgd(
            self.model, ball, y, steps=steps, alpha=alpha, start=start, loss=_watched(climbed, right, margins)
        )  # fmt: skip
        rho, l1 = relative_fosc(ball, end.z, end.grad), end.grad.flatten(1).abs().sum(1)
        found = (torch.stack(right), torch.stack(margins).float(), rho.float(), l1.float())
        return Climbed(*(value.cpu().numpy() for value in found))

    @property
    def _planned(self) -> int:
        """All gradients."""
        short = 1 + (RESTARTS - 1) + (len(OVER) - 1) + (len(self.radii) - 2)
        return max(1, int(self.clean.sum()) * (2 * (STEPS[-1] + 1) + short * (SHORT + 1)))

    # -- the order

    def events(self) -> Iterator[CurvesEvent]:
        """See `curves`."""
        self._measure_clean()
        self.found = Findings(self.clean, eps=self.eps, norm=self.norm, seed=self.seed)
        yield CurvesEvent(0.0, "no attack", dict(self.found.known))
        ce = yield from self._climb("200 steps, cross-entropy", "ce", steps=STEPS[-1])
        by_margin = yield from self._climb("200 steps, margin loss", "margin", steps=STEPS[-1])
        self.found.tell_steps(ce, by_margin)
        usual = ce.until(SHORT)  # PGD-20 from the same start
        short = yield from self._climb("PGD-20, margin loss", "margin")
        self.found.tell_losses(usual, short)
        self.found.tell_fosc(short)
        runs = [usual]
        for restart in range(1, RESTARTS):
            again = yield from self._climb(f"restart {restart + 1} of {RESTARTS}", "ce", restart=restart)
            runs.append(again)
        self.found.tell_restarts(runs)
        sizes = []
        for over in OVER:
            found = usual
            if over != USUAL:
                found = yield from self._climb(f"step size {size_words(over)}", "ce", over=over)
            sizes.append(int(found.right[-1].sum()))
        self.found.tell_sizes(self.eps, sizes)
        left, standing = [], np.zeros(0, dtype=bool)
        for eps in self.radii:
            found = usual
            if eps not in (0.0, self.eps):
                found = yield from self._climb(f"eps {eps:.3g}", "ce", eps=eps)
            standing = found.right[-1]
            left.append(int(standing.sum()) if eps else int(self.clean.sum()))
        sure = sure_to_fall(self.model, self.x, self.y, self.radii[-1], self.norm).cpu().numpy()[self.clean]
        self.found.tell_radii(self.radii, left, int(sure.sum()), int((sure & standing).sum()))
        yield CurvesEvent(1.0, "done", dict(self.found.known), dict(self.found.known), self.found.arrays)


def _watched(loss: Loss, right: list[Tensor], margins: list[Tensor]) -> Loss:
    """`loss`, writing down at every point whether each image is right, and its margin: a path without its pictures."""

    def watch(logits: Tensor, y: Tensor) -> Tensor:
        seen = logits.detach()
        right.append(seen.argmax(1) == y)
        margins.append(margin(seen, y))
        return loss(logits, y)

    return watch
