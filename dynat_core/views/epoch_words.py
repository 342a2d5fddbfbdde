"""The sentence of each epoch, in words that are correct."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dynat_core.views.distributions import medians
from dynat_core.views.epoch_runs import EpochRun, NamedHistory, gradients
from dynat_core.views.words import number, percent


def sentences(runs: Sequence[EpochRun], histories: Sequence[NamedHistory], split: str, n: int) -> list[list[str]]:
    """For each epoch a part for all and one for each series."""
    own: dict[int, list[str]] = {}
    for run in runs:
        lines = _with_rate(run, _train_words(run)) if split == "train" else _test_words(run)
        lost = run.lost
        said = f"{run.series.name}: the loss is not a number (NaN){'; training has diverged' if lost[-1] else ' here'}."
        own[run.k] = [said if gone else words for words, gone in zip(lines, lost, strict=True)]
    sentences = []
    # One epoch of a network from elsewhere is the network as it came; of several, the first is before training.
    as_it_came = any(not run.config.trains_here and len(run.history.epochs) == 1 for run in runs)
    for e in range(n):
        parts = [f"Epoch {e}:" if e or as_it_came else "Epoch 0, the untrained network:"]
        for k, named in enumerate(histories):
            lines = own.get(k)
            if not lines:
                parts.append(f"{named.name} has recorded nothing yet.")
            elif e < len(lines):
                parts.append(lines[e])
            else:
                state = "is only at" if named.running else "ended at"
                parts.append(f"{named.name} {state} epoch {len(lines) - 1} and stays there.")
        sentences.append(parts)
    return sentences


def _train_words(run: EpochRun) -> list[str]:
    name, steps = run.series.name, run.gradients
    if not steps:
        how = "trains on clean images, without an attack" if run.config.trains_here else "was trained elsewhere"
        return [f"{name} {how}."] * len(run.history.epochs)
    after_one = run.history.column("train/stopped_after_one")
    counted = run.counts("train/steps")
    spent = gradients(counted.counts, steps, run.asking) if counted else run.history.column("train/gradients")
    lines = []
    for e, (one, mean, c_t) in enumerate(zip(after_one, spent, run.history.column("c_t"), strict=True)):
        verb = "would spend" if e == 0 else "spent"
        nearly = mean < steps and number(mean) == number(steps)
        amount = f"nearly all {steps}" if nearly else f"{number(mean)} of at most {steps}"
        cost = f"{verb} {amount} gradients an image"
        if run.stop_form is None:
            lines.append(f"{name} {verb} all {steps} gradients on every image." if mean == steps else f"{name} {cost}.")
        elif c_t > 0:
            stopped = "would stop" if e == 0 else "stopped"
            threshold = f"{name}'s threshold was {number(c_t)} ({run.stop_form} FOSC)"
            lines.append(f"{threshold}; {percent(one)} of its images {stopped} after one step, and it {cost}.")
        else:
            cost = f"{verb} all {steps} gradients on every image" if mean == steps else cost
            lines.append(f"{name}'s threshold has come down to 0; it {cost}.")
    return lines


def _with_rate(run: EpochRun, lines: list[str]) -> list[str]:
    """The same with the learning rate of each epoch, where it is known; before the first epoch nothing is learnt."""
    rates = run.history.column("lr")
    return [
        f"{words.removesuffix('.')}, at learning rate {number(rate)}." if e and np.isfinite(rate) else words
        for e, (words, rate) in enumerate(zip(lines, rates, strict=True))
    ]


def _test_words(run: EpochRun) -> list[str]:
    left = run.counts("test/relative_fosc")
    middle = medians("relative_fosc", left.counts) if left else np.full(len(run.history.epochs), np.nan)
    robust, size = run.history.column("test/robust_accuracy"), run.history.column("test/n")
    attack = f"PGD-{run.config.recording.steps}"
    return [
        f"{run.series.name} withstands {attack} on {percent(r, 1)} of {m:.0f} test images"
        + (f"; half of them end it with a relative FOSC of at most {number(f)}." if np.isfinite(f) else ".")
        if np.isfinite(r) and np.isfinite(m)
        else f"{run.series.name} was not measured."
        for r, m, f in zip(robust, size, middle, strict=True)
    ]


def labels(runs: Sequence[EpochRun], split: str, n: int, last: int) -> list[str]:
    """The cursor's value in words, for those who hear the page."""
    said = [f"epoch {e} of {last}" for e in range(n)]
    for run in runs:
        left = run.counts(f"{split}/relative_fosc")
        if left:
            for e, middle in enumerate(medians("relative_fosc", left.counts)):
                said[e] += f", {run.series.name}: median relative FOSC {number(middle)}"
    return said
