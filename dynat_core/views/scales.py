"""How a measure is laid along an axis: display bins made of the recorded fine bins, positions, ticks and labels.

Every run and epoch shares these bins and axes, so histograms can be laid over one another and never rescale. A
logarithmic scale keeps a bin of its own for zero at the left and one for what is off scale at the right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from dynat_core.recorded.histograms import BINS, PER_DECADE
from dynat_core.views.words import number, raised

_ASIDE: tuple[float, float] = (
    0.2,
    0.55,
)  # the zero bin and the off-scale bin stand this far (near, far edge) from the scale's ends
MOST_STEPS = len(BINS["steps"]) - 2  # the last whole number with a bin of its own
_MARGIN_UNIT = 0.435  # margins are laid out as asinh(margin / this): linear near 0, logarithmic further out

TITLES = {
    "relative_fosc": "relative FOSC, box form (no unit)",
    "fosc": "FOSC, box form (loss units, nats)",
    "fosc_paper": "FOSC, paper's form (loss units, nats)",
    "loss": "loss (nats)",
    "margin": "margin: true logit − best other; 0 = fooled",
    "steps": "PGD steps taken before stopping",
}
SHORT = {
    "relative_fosc": "relative FOSC",
    "fosc": "box FOSC",
    "fosc_paper": "paper FOSC",
    "loss": "loss",
    "margin": "margin",
    "steps": "steps",
}


@dataclass(frozen=True)
class Scale:
    """The display bins of one measure.

    takes: (bins, 2) half-open ranges of recorded count entries. boxes: (bins, 2) positions. low, high: value limits,
    infinite where open. ticks: (position, text). span: the axis range in positions.
    """

    measure: str
    takes: np.ndarray
    boxes: np.ndarray
    low: np.ndarray
    high: np.ndarray
    ticks: tuple[tuple[float, str], ...]
    span: tuple[float, float]

    @property
    def title(self) -> str:
        return TITLES[self.measure]

    def group(self, counts: np.ndarray) -> np.ndarray:
        """Recorded counts (E, entries) -> display counts (E, bins)."""
        below = np.concatenate(
            [np.zeros((len(counts), 1), counts.dtype), np.cumsum(counts, axis=1, dtype=counts.dtype)], axis=1
        )
        return below[:, self.takes[:, 1]] - below[:, self.takes[:, 0]]

    def position(self, values: np.ndarray | float) -> np.ndarray:
        """Values -> positions; what lies in the zero or the off-scale bin goes to its middle, NaN stays NaN."""
        values = np.asarray(values, dtype=np.float64)
        middle = self.boxes.mean(axis=1)
        if self.measure == "steps":
            return values
        if self.measure == "margin":
            inside = np.arcsinh(values / _MARGIN_UNIT)
            return np.where(values < self.high[0], middle[0], np.where(values >= self.low[-1], middle[-1], inside))
        with np.errstate(divide="ignore", invalid="ignore"):
            inside = np.log10(values)
        laid = np.where(values < self.high[0], middle[0], inside)
        return np.where(values >= self.low[-1], middle[-1], laid) if np.isinf(self.high[-1]) else laid

    def header(self) -> dict[str, Any]:
        """What the browser needs of it."""
        return {
            "boxes": self.boxes.round(5).tolist(),
            "labels": self.labels,
            "ends": [[number(low), number(high)] for low, high in zip(self.low, self.high, strict=True)],
            "low": [float(v) if np.isfinite(v) else None for v in self.low],
            "high": [float(v) if np.isfinite(v) else None for v in self.high],
            "words": SHORT[self.measure],
        }

    @property
    def labels(self) -> list[str]:
        """Each bin in words."""
        words = []
        for low, high in zip(self.low, self.high, strict=True):
            if self.measure == "steps":
                words.append(f"{low:.0f}" if np.isfinite(high) else f"{low:.0f} or more")
            elif np.isinf(low):
                words.append(f"below {number(high)}")
            elif np.isinf(high):
                words.append(f"{number(low)} or more")
            elif low == 0 and high < 1e-3:
                words.append(f"0 (below {number(high, 1)})")
            else:
                words.append(f"{number(low)} to {number(high)}")
        return words


@cache
def scale(measure: str, most: int = 10, least: int = 1) -> Scale:
    """The scale of `measure`; `least` and `most` are the first and last whole number of steps."""
    if measure == "steps":
        return _steps(least, most)
    if measure == "margin":
        return _margin()
    first, last, join = {
        "fosc": (-6, 1, 2),
        "fosc_paper": (-6, 1, 2),
        "relative_fosc": (-4, None, 2),
        "loss": (-6, 2, 4),
    }[measure]
    return _logarithmic(measure, first, last, join)


def _logarithmic(measure: str, first: int, last: int | None, join: int) -> Scale:
    """Decades `first` to `last` (None: to the measure's own upper end, which nothing can exceed)."""
    edges = BINS[measure]
    whole = len(edges) - 1 if last is None else (last - first) * PER_DECADE
    cuts = list(range(0, whole, join))
    if last is None and whole - cuts[-1] < join:  # the sliver up to the upper end joins its neighbour
        cuts.pop()
    cuts.append(whole)
    takes = [(0, 1)] + [(a + 1, b + 1) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
    if last is None:
        takes[-1] = (takes[-1][0], len(edges) + 1)
    at = np.log10(edges[cuts])
    boxes = [(at[0] - _ASIDE[1], at[0] - _ASIDE[0])] + list(zip(at[:-1], at[1:], strict=True))
    low, high = [0.0, *edges[cuts[:-1]]], [edges[0], *edges[cuts[1:]]]
    ticks = [(at[0] - sum(_ASIDE) / 2, "0")] + [
        (float(p), _power(p)) for p in range(first, int(np.floor(at[-1] + 1e-9)) + 1)
    ]
    span = (at[0] - _ASIDE[1] - 0.1, at[-1] + 0.1)
    if last is None:
        ticks.append((float(at[-1]), number(edges[-1], 1)))
    else:
        takes.append((whole + 1, len(edges) + 1))
        boxes.append((at[-1] + _ASIDE[0], at[-1] + _ASIDE[1]))
        low, high = [*low, edges[whole]], [*high, np.inf]
        ticks.append((at[-1] + sum(_ASIDE) / 2, "more"))
        span = (span[0], at[-1] + _ASIDE[1] + 0.1)
    return Scale(measure, np.array(takes), np.array(boxes), np.array(low), np.array(high), tuple(ticks), span)


def _margin() -> Scale:
    """Bins of about equal width in asinh, out of the recorded edges; beyond +-10 everything is one bin."""
    edges = BINS["margin"]
    wanted = [0.1, 0.2, 0.316, 0.447, 0.631, 0.794] + [10 ** (k / 10) for k in range(11)]
    right = [int(np.abs(edges - w).argmin()) for w in wanted]
    zero = int(np.abs(edges).argmin())
    cuts = [2 * zero - k for k in reversed(right)] + [zero, *right]
    at = np.arcsinh(edges[cuts] / _MARGIN_UNIT)
    takes = [(0, cuts[0] + 1)] + [(a + 1, b + 1) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
    takes.append((cuts[-1] + 1, len(edges) + 1))
    boxes = [(at[0] - _ASIDE[1], at[0] - _ASIDE[0]), *zip(at[:-1], at[1:], strict=True)]
    boxes.append((at[-1] + _ASIDE[0], at[-1] + _ASIDE[1]))
    low, high = [-np.inf, *edges[cuts]], [*edges[cuts], np.inf]
    marks = [-10.0, -3.0, -1.0, 0.0, 1.0, 3.0, 10.0]
    ticks = [(float(np.arcsinh(m / _MARGIN_UNIT)), number(m, 1)) for m in marks]
    span = (at[0] - _ASIDE[1] - 0.1, at[-1] + _ASIDE[1] + 0.1)
    return Scale("margin", np.array(takes), np.array(boxes), np.array(low), np.array(high), tuple(ticks), span)


def _steps(least: int, most: int) -> Scale:
    whole = np.arange(least, most + 1)
    takes = np.stack([whole + 1, whole + 2], axis=1)
    boxes = np.stack([whole - 0.42, whole + 0.42], axis=1)
    every = max(1, -(-len(whole) // 10))
    shown = [k for k in whole if (most - k) % every == 0]
    ticks = tuple((float(k), str(k)) for k in shown)
    return Scale("steps", takes, boxes, whole.astype(float), whole.astype(float), ticks, (least - 0.7, most + 0.7))


def recorded_steps(most: int, least: int = 1) -> Scale:
    """The scale of recorded counts of steps, whose bins end at `MOST_STEPS`: what took longer is in the last one."""
    if most <= MOST_STEPS:
        return scale("steps", most, least)
    laid = scale("steps", MOST_STEPS, least)
    takes, high = laid.takes.copy(), laid.high.copy()
    takes[-1, 1] += 1
    high[-1] = np.inf
    ticks = (*laid.ticks[:-1], (laid.ticks[-1][0], f"{MOST_STEPS}+"))
    return replace(laid, takes=takes, high=high, ticks=ticks)


def _power(power: int) -> str:
    return f"10{raised(power)}" if power < -2 else f"{10.0**power:g}"
