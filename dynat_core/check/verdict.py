"""Three separate lights on an attack: was it optimised, do its restarts agree, is the model masked? From plain numbers.

Judged on the relative FOSC of the margin loss, never on the absolute FOSC of cross-entropy. The best state any light
has is "no problem found by these checks": an attack made for the model may still break it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from dynat_core.statistics import wilson

State = Literal["no problem found", "insufficient", "cannot tell"]

CONVERGED = 0.1  # relative FOSC (box form, margin loss) up to which a surviving image counts as converged
SHARE = 0.95  # of the surviving images that must be converged
RESTARTS_GAIN = 0.015  # share of the correctly classified images that the last restart may still break
ZERO_GRADIENT = 0.05  # share of images whose margin loss has no gradient
SCALE_GAP = 0.03  # change of robust accuracy when the logits are multiplied by 0.01, 0.1 or 10
LOSS_GAP = 0.08  # the same on the margin loss: honest networks were published with gaps of up to .051 (CIFAR-10, C&W)
BEATEN_BY_BLIND = 0.05  # share of images that noise or random search breaks and the gradient attack does not
LARGE_EPS_LEFT = 0.1  # of the images that the large radius is sure to fool, how many may be left
BEST = "An attack made for this model may still do better."


@dataclass(frozen=True)
class Light:
    """One question. number against threshold, over n images, with the loss it was measured on; images: indices behind
    the count, positions in the table of samples."""

    name: str
    question: str
    state: State
    number: float | None
    threshold: float | None
    n: int
    loss: str
    sentence: str
    images: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether this light found no problem."""
        return self.state == "no problem found"


def optimised(surviving: np.ndarray, rho: np.ndarray, gradient_l1: np.ndarray) -> Light:
    """Is the relative FOSC of the margin loss small on 95 % of the surviving images?

    surviving: (n,) bool, correct under the whole attack. rho, gradient_l1: (n,) at the end of its best climb.
    """
    question = "Was the attack optimised?"
    n = int(surviving.sum())
    if n == 0:
        return Light(
            "optimised",
            question,
            "no problem found",
            None,
            SHARE,
            0,
            "margin",
            "No image survived, so nothing is left to climb.",
        )
    with np.errstate(invalid="ignore"):
        stuck = surviving & ~((rho <= CONVERGED) & (gradient_l1 > 0))
    share = 1 - stuck.sum() / n
    if share >= SHARE:
        sentence = (
            f"On {n - stuck.sum()} of {n} surviving images the attack had at most {CONVERGED:.0%} relative FOSC left."
        )
    else:
        sentence = (
            f"{stuck.sum()} of {n} surviving images are not converged: "
            f"more than {CONVERGED:.0%} relative FOSC left, or no gradient."
        )
    state: State = "no problem found" if share >= SHARE else "insufficient"
    return Light("optimised", question, state, float(share), SHARE, n, "margin", sentence, _indices(stuck))


def restarts_agree(correct: np.ndarray, broken_at: np.ndarray, restarts: int) -> Light:
    """Do restarts after the first still break images?

    correct: (n,) bool, classified correctly without an attack. broken_at: (n,) restart that broke it first (0, 1,
    ...), -1 never.
    """
    question = "Do the restarts agree?"
    n = int(correct.sum())
    if restarts < 2 or n == 0:
        return Light(
            "restarts",
            question,
            "cannot tell",
            None,
            RESTARTS_GAIN,
            n,
            "margin",
            "It takes at least two restarts to compare.",
        )
    late = correct & (broken_at >= 1)
    last = int((correct & (broken_at == restarts - 1)).sum())
    gain = last / n
    enough = last <= max(1, RESTARTS_GAIN * n)
    sentence = f"The first restart left {late.sum()} of {n} images to later ones, the last one still broke {last}"
    sentence += "." if enough else ", so more restarts would find more."
    return Light(
        "restarts",
        question,
        "no problem found" if enough else "insufficient",
        gain,
        RESTARTS_GAIN,
        n,
        "margin",
        sentence,
        _indices(late),
    )


def masked(
    correct: np.ndarray,
    no_gradient: np.ndarray,
    blind: np.ndarray,
    scaled: Mapping[float, float],
    margin_accuracy: float,
    large_eps_left: tuple[int, int],
    large_eps: float,
    deterministic: bool,
) -> Light:
    """Does the model hide its gradients?

    correct: (n,). no_gradient: (n,) correct images without a gradient of the margin loss. blind: (n,) images that
    noise or random search broke and the gradient attack did not. scaled: factor on the logits -> robust accuracy under
    PGD on cross-entropy, 1 among them; margin_accuracy: the same on the margin loss, which does not feel the scale.
    large_eps_left: (images, of how many that `large_eps` is sure to fool, see `grey`) that PGD leaves right there.
    """
    question = "Is the model masked?"
    n = int(correct.sum())
    reasons: list[tuple[str, np.ndarray, float, float]] = []
    none = np.zeros(len(correct), dtype=bool)
    if not deterministic:
        reasons.append(("two passes over the same image differ, so one gradient is not the model's", none, 1.0, 0.0))
    if n and no_gradient.sum() > ZERO_GRADIENT * n:
        reasons.append(
            (f"{no_gradient.sum()} of {n} images have no gradient", no_gradient, no_gradient.sum() / n, ZERO_GRADIENT)
        )
    if n and blind.sum() > max(BEATEN_BY_BLIND * n, 1):
        reasons.append(
            (
                f"noise or random search breaks {blind.sum()} images that the gradient attack does not",
                blind,
                blind.sum() / n,
                BEATEN_BY_BLIND,
            )
        )
    plain = scaled[1.0]
    factor = min((f for f in scaled if f != 1), key=lambda f: scaled[f])
    gaps = [(plain - scaled[factor], SCALE_GAP, f"with the logits times {factor:g}")]
    gaps.append((plain - margin_accuracy, LOSS_GAP, "on the margin loss"))
    wide = [(gap, limit, how) for gap, limit, how in gaps if n and gap > max(limit, 2 / n)]
    if wide:
        gap, limit, how = max(wide)
        words = f"PGD on cross-entropy leaves {100 * gap:.0f} points more than the same attack {how}"
        reasons.append((words, none, gap, limit))
    left, sure = large_eps_left
    if sure and left > LARGE_EPS_LEFT * sure:
        words = f"at least {left} of {sure} images stand at eps {large_eps:g}, which is sure to fool them"
        reasons.append((words, none, left / sure, LARGE_EPS_LEFT))
    if not reasons:
        gained = round(100 * max(0.0, *(gap for gap, _, _ in gaps)))
        return Light(
            "masked",
            question,
            "no problem found",
            0.0,
            None,
            n,
            "margin and cross-entropy",
            f"{n - no_gradient.sum()} of {n} images have a gradient, noise or random search breaks {blind.sum()} more, "
            f"scaled logits or the margin loss leave {gained} point{'s' * (gained != 1)} less than cross-entropy, and "
            f"of {sure} images that eps {large_eps:g} is sure to fool {left or 'none'} stand{'s' * (left < 2)}.",
        )
    words, images, number, threshold = reasons[0]
    sentence = "; ".join(reason[0] for reason in reasons)
    return Light(
        "masked",
        question,
        "insufficient",
        float(number),
        threshold,
        n,
        "margin and cross-entropy",
        sentence[0].upper() + sentence[1:] + ".",
        _indices(images),
    )


@dataclass(frozen=True)
class Verdict:
    """The lights together, with the robust accuracy they are about.

    warnings: what the checks before the attack found and nobody overrode. overridden: names of findings that were.
    so_far: how much has been looked at, while it is not finished.
    """

    lights: tuple[Light, ...]
    robust: int
    n: int
    warnings: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()
    so_far: str = ""

    @property
    def finished(self) -> bool:
        """Whether everything has been measured."""
        return not self.so_far

    @property
    def ok(self) -> bool:
        """Whether everything has been measured and no light found a problem."""
        return all(light.ok for light in self.lights) and not self.warnings and self.finished

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        low, high = wilson(self.robust, self.n)
        share = 100 * self.robust / max(self.n, 1)
        accuracy = f"Robust accuracy {share:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}, n = {self.n})"
        over = f" Overridden: {', '.join(self.overridden)}." if self.overridden else ""
        if self.ok:
            return f"{accuracy}: no problem found by these checks. {BEST}{over}"
        found = [light.sentence for light in self.lights if light.state == "insufficient"]
        if not self.finished:
            seen = " ".join([*found, *self.warnings])
            return f"{accuracy} so far ({self.so_far}), an upper bound. {seen or 'No problem found yet.'}{over}"
        why = " ".join([light.sentence for light in self.lights if not light.ok] + list(self.warnings))
        return f"{accuracy} is an upper bound: insufficient, because {_inside(why)}{over}"


def not_yet(name: str, question: str, n: int) -> Light:
    """A light that has not been measured so far."""
    return Light(name, question, "cannot tell", None, None, n, "margin", "Not measured yet.")


def stall(rho: np.ndarray, gradient_l1: np.ndarray) -> np.ndarray:
    """What would help each image: rho, gradient_l1 (K+1, n) of the margin loss along a climb -> (n,) of "done", "more
    steps", "smaller steps" or "masked".

    Still falling over the last third: more steps. Flat above `CONVERGED`: smaller steps. Flat at 0: done. No gradient:
    masked.
    """
    third = max(1, len(rho) // 3)
    known = np.where(np.isnan(rho), 0.0, rho)
    late, before = known[-third:].mean(0), known[-2 * third : -third].mean(0)
    advice = np.where(late < 0.8 * before, "more steps", "smaller steps").astype(object)
    advice[rho[-1] <= CONVERGED] = "done"
    advice[gradient_l1[-1] == 0] = "masked"
    return advice


def _inside(sentence: str) -> str:
    """A sentence as the second half of another; abbreviations keep their capitals."""
    return sentence if sentence[1:2].isupper() else sentence[:1].lower() + sentence[1:]


def _indices(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(k) for k in np.flatnonzero(mask))


@dataclass(frozen=True)
class NextAction:
    """What to run next: on which images (numbers as in the table), and in words."""

    action: Literal["more steps", "smaller steps", "more restarts", "random search"]
    images: tuple[int, ...]
    words: str


def next_actions(samples: pd.DataFrame, lights: Mapping[str, bool]) -> list[NextAction]:
    """What would show more, the most promising first. samples: a check's table. lights: name -> whether it is ok.

    Nothing where no light complains and every surviving image is converged.
    """
    standing = samples[samples["robust_correct"].to_numpy(dtype=bool)]

    def those(advice: str) -> tuple[int, ...]:
        return tuple(int(k) for k in standing["index"][standing["advice"] == advice])

    everyone = tuple(int(k) for k in standing["index"])
    actions = [
        NextAction("more steps", some, f"Four times the steps on {_images(some)} still climbing when the steps ran out")
        for some in [those("more steps")]
    ]
    actions += [
        NextAction("smaller steps", some, f"Steps down to eps/256 on {_images(some)} that go to and fro without rising")
        for some in [those("smaller steps")]
    ]
    masked_ones = those("masked") or (() if lights.get("masked", True) else everyone)
    actions.append(
        NextAction(
            "random search", masked_ones, f"A search without gradients, four times as long, on {_images(masked_ones)}"
        )
    )
    if not lights.get("restarts", True):
        actions.append(NextAction("more restarts", everyone, f"Four times the restarts on {_images(everyone)}"))
    found = [action for action in actions if action.images]
    return sorted(found, key=lambda a: (a.action == "random search" and lights.get("masked", True), -len(a.images)))


def _images(some: tuple[int, ...]) -> str:
    return f"the {len(some)} images" if len(some) != 1 else "the one image"
