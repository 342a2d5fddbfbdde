"""What the attacks of the curves say: counts, intervals, sentences and arrays per image. Plain arrays in, plain data
out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynat_core.statistics import wilson

STEPS = (1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 70, 100, 140, 200)  # shown; every step is looked at
SHORT = 20  # steps of all attacks but the long ones
OVER = (1, 2, 4, 8, 16, 32)  # eps is divided by these for the step size
USUAL = 4
IN_WORDS = {"ce": "cross-entropy", "margin": "margin loss"}


@dataclass(frozen=True)
class Climbed:
    """An attack on the m images that are right without one: right (K+1, m) bool and margin (K+1, m) float32 at every
    point, relative FOSC and gradient norm (m,) of the climbed loss at the last one."""

    right: np.ndarray
    margin: np.ndarray
    rho: np.ndarray
    l1: np.ndarray

    def until(self, step: int) -> Climbed:
        """Its beginning, a shorter attack from the same start; FOSC was not measured there (NaN)."""
        unknown = np.full_like(self.rho, np.nan)
        return Climbed(self.right[: step + 1], self.margin[: step + 1], unknown, unknown)


class Findings:
    """The parts of the result as they become known. clean: (n,) bool, right without an attack. known: JSON-able.
    arrays: (n,), or (points, n)."""

    def __init__(self, clean: np.ndarray, **asked: Any) -> None:
        self.clean = clean
        self.known: dict[str, Any] = {"n": len(clean), "right": int(clean.sum()), **asked}
        self.arrays: dict[str, np.ndarray] = {"clean_correct": clean}

    def _curve(self, counts: Sequence[int]) -> dict[str, list[float]]:
        bounds = [wilson(count, len(self.clean)) for count in counts]
        return {
            "correct": list(counts),
            "accuracy": [count / len(self.clean) for count in counts],
            "low": [low for low, _ in bounds],
            "high": [high for _, high in bounds],
        }

    def _per_image(self, values: np.ndarray, missing: float) -> np.ndarray:
        """(..., m) -> (..., n), with `missing` for the images that are wrong without an attack."""
        whole = np.full((*values.shape[:-1], len(self.clean)), missing, values.dtype)
        whole[..., self.clean] = values
        return whole

    def tell_steps(self, ce: Climbed, by_margin: Climbed) -> None:
        """Accuracy against steps, from two long climbs."""
        told: dict[str, Any] = {"k": list(STEPS)}
        for name, found in (("ce", ce), ("margin", by_margin)):
            by = np.logical_and.accumulate(found.right, axis=0)
            at_counts, by_counts = ([int(w[k].sum()) for k in STEPS] for w in (found.right, by))
            words = plateau(STEPS, by_counts, len(self.clean), f"steps ({IN_WORDS[name]})", "steps")
            if (returned := at_counts[-1] - by_counts[-1]) > 1:
                words += f" {returned} images were fooled on the way and are right again at the last step."
            told[name] = {"at": self._curve(at_counts), "by": self._curve(by_counts), "sentence": words}
            first = np.where(by[-1], -1, (~found.right).argmax(0)).astype(np.int32)
            self.arrays[f"steps_to_fool_{name}"] = self._per_image(first, -1)
            self.arrays[f"margin_path_{name}"] = self._per_image(found.margin[list(STEPS)], np.nan)
        self.known["steps"] = told

    def tell_losses(self, ce: Climbed, by_margin: Climbed) -> None:
        """Which images either loss fools, from two short climbs with the same starts."""
        a, b, n = ~ce.right[-1], ~by_margin.right[-1], len(self.clean)
        counts = {"both": a & b, "only_ce": a & ~b, "only_margin": b & ~a, "none": ~a & ~b}
        told = {name: int(which.sum()) for name, which in counts.items()}
        sentence = (
            f"With {SHORT} steps each from the same start, both losses fool {told['both']} of {n} images, "
            f"cross-entropy alone {told['only_ce']}, the margin loss alone {told['only_margin']}, "
            f"neither {told['none']}; {n - len(a)} were wrong without an attack."
        )
        self.known["losses"] = told | {"gradients": SHORT, "sentence": sentence}
        self.arrays["fooled_ce"], self.arrays["fooled_margin"] = self._per_image(a, False), self._per_image(b, False)

    def tell_fosc(self, found: Climbed) -> None:
        """Relative FOSC and gradient norm where a short climb of the margin loss ended."""
        right, told = found.right[-1], {}
        for name, which in (("fooled", ~right), ("not_fooled", right)):
            known = found.rho[which & ~np.isnan(found.rho)]
            told[name] = {
                "n": int(which.sum()),
                "median_relative_fosc": float(np.median(known)) if len(known) else None,
            }
        flat = int((found.l1 == 0).sum())
        parts = [
            f"{told[name]['median_relative_fosc']:.2g} on the {told[name]['n']} images that {words}"
            for name, words in (("fooled", "were fooled"), ("not_fooled", "were not"))
            if told[name]["median_relative_fosc"] is not None
        ]
        sentence = f"After PGD-{SHORT} on the margin loss the median relative FOSC was {' and '.join(parts)}."
        if not parts:
            sentence = f"After PGD-{SHORT} on the margin loss no image has a gradient, so relative FOSC is undefined."
        elif flat:
            sentence += f" {flat} images have no gradient at all there, so theirs is undefined."
        self.known["fosc"] = told | {"no_gradient": flat, "sentence": sentence}
        self.arrays["relative_fosc"] = self._per_image(found.rho.astype(np.float32), np.nan)
        self.arrays["gradient_l1"] = self._per_image(found.l1.astype(np.float32), np.nan)

    def tell_restarts(self, runs: list[Climbed]) -> None:
        """Accuracy against restarts, from short climbs with starts of their own."""
        ends, margins = np.stack([run.right[-1] for run in runs]), np.stack([run.margin[-1] for run in runs])
        by = np.logical_and.accumulate(ends, axis=0)
        counts, numbers = [int(row.sum()) for row in by], list(range(1, len(runs) + 1))
        sentence = plateau(numbers, counts, len(self.clean), f"restarts (PGD-{SHORT}, cross-entropy)", "restarts")
        self.known["restarts"] = {"restarts": numbers, **self._curve(counts), "sentence": sentence}
        first = np.where(by[-1], -1, (~ends).argmax(0)).astype(np.int32)
        self.arrays["restart_to_fool"] = self._per_image(first, -1)
        gap = margins.max(0) - margins.min(0) if margins.shape[1] else np.zeros(0, np.float32)
        self.arrays["restart_gap"] = self._per_image(gap, np.nan)

    def tell_sizes(self, eps: float, counts: list[int]) -> None:
        """Accuracy against the step size: counts of right images for each of OVER."""
        best, n = min(range(len(OVER)), key=lambda k: counts[k]), len(self.clean)
        usual = counts[OVER.index(USUAL)]
        sentence = f"With {SHORT} steps of {size_words(USUAL)} {usual} of {n} images stay right"
        if counts[best] < usual - 1:
            sentence += (
                f"; steps of {size_words(OVER[best])} leave {counts[best]}, so the usual step size is not the best."
            )
        else:
            sentence += ", and no other step size leaves fewer by more than one."
        named = {"alpha": [size_words(over) for over in OVER], "pixels": [eps / over for over in OVER]}
        self.known["step_sizes"] = {**named, **self._curve(counts), "sentence": sentence}

    def tell_radii(self, radii: list[float], counts: list[int], sure: int, standing: int) -> None:
        """Accuracy against eps: counts of right images at each of `radii`; sure, standing: how many the last radius is
        sure to fool (see `grey`), and how many of those are right all the same."""
        n, large = len(self.clean), radii[-1]
        rises = [k for k in range(1, len(counts)) if counts[k] > counts[k - 1] + 1]
        if counts[-1] == 0:
            words = f"Accuracy reaches 0 of {n} images at eps {radii[counts.index(0)]:.3g}, as it must."
        elif not standing:
            words = (
                f"{counts[-1]} of {n} images are still right at eps {large:.3g}; the {sure} that this radius is sure "
                "to fool are not among them."
            )
        else:
            words = (
                f"{counts[-1]} of {n} images are still right at eps {large:.3g}, {standing} of them although plain "
                "grey lies within it and is called another class: the attack fails there, or gradients are hidden."
            )
        if rises:
            k = rises[0]
            words += (
                f" From eps {radii[k - 1]:.3g} to {radii[k]:.3g} accuracy rises by "
                f"{counts[k] - counts[k - 1]} images although the wider set contains the narrower one: "
                "the attack fails there."
            )
        reached = {"reaches_zero": counts[-1] == 0, "sentence": words}
        self.known["radii"] = {"eps": list(radii), **self._curve(counts), **reached}


def plateau(at: Sequence[int], correct: Sequence[int], n: int, what: str, more: str) -> str:
    """Whether a count has moved by more than one image over the last factor of two, in words. at: steps or restarts;
    correct: images right at each; n: images."""
    half = max(k for k in range(len(at)) if at[k] <= at[-1] / 2)
    fell = correct[half] - correct[-1]
    head = f"From {at[half]} to {at[-1]} {what} accuracy"
    if fell > 1:
        return f"{head} fell by {fell} of {n} images: it has not settled, more {more} would find more."
    moved = f"fell by one of {n} images" if fell else f"stayed the same on {n} images"
    return f"{head} {moved}: no sign that more {more} would find more."


def size_words(over: int) -> str:
    """The step size as text."""
    return "eps" if over == 1 else f"eps/{over}"
