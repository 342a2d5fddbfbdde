"""Notes on the health of a training run, read off its records: what looks wrong, since which epoch, and what to do.

A note is a hint, not a verdict; each threshold stands beside its reason. No torch, no folders: records in, notes out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dynat_core.config import AttackedStrategy, RunConfig
from dynat_core.store.history import History
from dynat_core.views.words import number, percent

Kind = Literal["not a number", "chance level", "weak attack", "robust overfitting", "fosc jump"]

NEAR_CHANCE = 0.02  # of ln(classes): an untrained network's loss lies further off, a collapsed one's much closer
LOST = 0.15  # of robust accuracy within the run, more than any demo loses from one epoch to the next
KEPT = 0.05  # by how much the accuracy under the training attack may move and still count as unmoved
JUMP = 4.0  # times the median relative FOSC of the epoch before
UNCONVERGED = 0.1  # relative FOSC: below it, a jump is one between two converged attacks


@dataclass(frozen=True)
class HealthNote:
    """What looks wrong. epoch: where to look. sentence: what was measured; advice: what to do about it."""

    epoch: int
    kind: Kind
    sentence: str
    advice: str


def notes(history: History, config: RunConfig) -> list[HealthNote]:
    """All notes on a run, in the order of their epochs; [] for one in which nothing looks wrong."""
    if len(history) < 2:
        return []
    checks = (_not_a_number, _chance_level, _weak_attack, _robust_overfitting, _fosc_jump)
    return sorted((note for check in checks for note in check(history, config)), key=lambda note: note.epoch)


def _not_a_number(history: History, config: RunConfig) -> Iterator[HealthNote]:
    """Losses are recorded as None when they are not finite."""
    measured = np.nan_to_num(history.column("test/n")) > 0
    bad = np.flatnonzero(measured & np.isnan(history.column("test/loss")))
    if len(bad):
        epoch = int(bad[0])
        lasts = measured[epoch:].sum() == (bad >= epoch).sum()
        yield HealthNote(
            epoch,
            "not a number",
            f"Since epoch {epoch} the loss on test images is not a number: training has diverged."
            if lasts
            else f"At epoch {epoch} the loss on test images is not a number; it came back later.",
            "Lower the learning rate and start again; the epochs before are still good to look at.",
        )


def _chance_level(history: History, config: RunConfig) -> Iterator[HealthNote]:
    """A network that has given up says the same of every attacked image: loss ln(classes), accuracy 1 / classes."""
    classes = len(config.classes)
    chance = math.log(classes)
    at_chance = abs(history.column("test/loss") - chance) < NEAR_CHANCE * chance
    at_chance &= history.column("test/robust_accuracy") < 1.5 / classes
    for first, last in _stretches(at_chance, least=2, start=1):
        clean = history.column("test/clean_accuracy")[last]
        yield HealthNote(
            first,
            "chance level",
            f"From epoch {first} to {last} the loss under attack stays at ln {classes} = {chance:.2f}, chance level: "
            f"against PGD-{config.recording.steps} the network guesses (clean accuracy at the end {percent(clean)}).",
            "Make the start easier: a smaller eps, a lower learning rate, or Dynamic training with a larger c_max.",
        )


def _weak_attack(history: History, config: RunConfig) -> Iterator[HealthNote]:
    """Catastrophic overfitting: the training attack is resisted as before, a stronger one suddenly is not."""
    if not isinstance(config.strategy, AttackedStrategy):
        return
    seen, strong = history.column("train/robust_accuracy"), history.column("test/robust_accuracy")
    for epoch in range(2, len(history)):
        if np.isnan(strong[1:epoch]).all():
            continue
        best = 1 + int(np.nanargmax(strong[1:epoch]))
        if strong[epoch] < strong[best] - LOST and seen[epoch] > seen[best] - KEPT and strong[epoch] < seen[epoch] / 2:
            yield HealthNote(
                epoch,
                "weak attack",
                f"At epoch {epoch} {percent(seen[epoch])} of the training images resist the training attack, but only "
                f"{percent(strong[epoch])} of the test images resist PGD-{config.recording.steps}; at epoch {best} "
                f"it was {percent(strong[best])}. The network may have learnt to defeat the training attack alone "
                "(catastrophic overfitting).",
                f"Train with more or smaller steps, and use epoch {best} rather than the last one.",
            )
            return


def _robust_overfitting(history: History, config: RunConfig) -> Iterator[HealthNote]:
    """Held-out robust accuracy falls below its best by more than chance, while training images do ever better."""
    held_out, seen = history.column("validation/robust_accuracy"), history.column("train/robust_accuracy")
    if len(history) < 4 or np.isnan(held_out[1:]).all():
        return
    best, last = 1 + int(np.nanargmax(held_out[1:])), len(history) - 1
    n = history.column("validation/n")[last]
    # The best of many epochs is high by luck as well, so what stands against the last is the mean around it.
    around = float(np.nanmean(held_out[max(best - 1, 1) : best + 2]))
    spread = math.sqrt(2 * around * (1 - around) / n) if n > 0 else math.inf
    fell, rose = around - held_out[last], seen[last] - seen[best]
    chosen = int(history.records[last].get("best_epoch") or best)
    if fell > max(0.02, 2 * spread) and rose > KEPT and last - best >= 2:
        yield HealthNote(
            best,
            "robust overfitting",
            f"After epoch {best} robust accuracy on held-out images fell from {percent(around)} to "
            f"{percent(held_out[last])}, on training images it rose to {percent(seen[last])}: robust overfitting.",
            f"Use the best checkpoint (epoch {chosen}), or train for fewer epochs.",
        )


def _fosc_jump(history: History, config: RunConfig) -> Iterator[HealthNote]:
    """From one epoch to the next the same attack ends much further from done."""
    rest = history.column("test/relative_fosc_p50")
    for epoch in range(2, len(history)):
        if rest[epoch] > max(JUMP * rest[epoch - 1], UNCONVERGED):
            yield HealthNote(
                epoch,
                "fosc jump",
                f"At epoch {epoch} the median relative FOSC that PGD-{config.recording.steps} leaves on test images "
                f"jumped from {number(rest[epoch - 1])} to {number(rest[epoch])}: the same attack gets much less far.",
                "Look at single images in Trajectory, and attack again with more steps before believing this epoch.",
            )


def _stretches(flags: np.ndarray, least: int, start: int) -> Iterator[tuple[int, int]]:
    """(first, last) of every stretch of at least `least` True values from position `start` on."""
    first = None
    for place in range(start, len(flags) + 1):
        on = place < len(flags) and bool(flags[place])
        if on and first is None:
            first = place
        elif not on and first is not None:
            if place - first >= least:
                yield first, place - 1
            first = None
