"""Trainings over the same seeds: paired differences with their interval, and one dot for each seed."""

from __future__ import annotations

from typing import Any

from dynat_core.comparison import Spread
from dynat_core.theory.seeds import AGAINST, MEASURES, Seeds, told_apart
from dynat_core.views.base import Note, View
from dynat_core.views.compare import signed
from dynat_core.views.figures import axis, layout

NAMES = {"standard": "PGD AT", "entropy-sgd": "EntropySGD", "trades": "TRADES", "l2l": "L2L"}


def paired(seeds: Seeds, training: str, against: str, n: int) -> View:
    """Differences of a training from Standard. against: Standard in the screen's words; n: cursor positions."""
    data: list[dict[str, Any]] = []
    words = []
    for row, (measure, name) in enumerate(MEASURES.items()):
        y, apart = -row, seeds.difference(training, measure)
        pairs = zip(seeds.values(training, measure), seeds.values(AGAINST, measure), strict=True)
        dots = [100 * (one - other) for one, other in pairs]
        half = 100 * (apart.high - apart.mean)
        data.append({"type": "scatter", "mode": "markers", "x": [round(d, 3) for d in dots],
                     "y": [y + 0.24] * len(dots), "marker": {"color": "@muted/0.75", "size": 8},
                     "hoverinfo": "skip"})  # fmt: skip
        bar = {"type": "data", "array": [round(half, 4)], "color": "@ink", "thickness": 2.4, "width": 7}
        data.append({"type": "scatter", "mode": "markers", "x": [round(100 * apart.mean, 4)], "y": [y - 0.12],
                     "marker": {"color": "@ink", "size": 10, "symbol": "diamond"}, "error_x": bar,
                     "hoverinfo": "skip"})  # fmt: skip
        words.append(_said(f"{name}: {difference_words(apart)}", y))
    ends = [v for trace in data for v in trace["x"]] + [
        trace["x"][0] + sign * trace["error_x"]["array"][0] for trace in data if "error_x" in trace for sign in (-1, 1)
    ]
    room = 0.06 * (max(*ends, 0) - min(*ends, 0))
    title = f"difference from {against}, percentage points<br>dots: seeds, bar: 95 % interval of the mean"
    across = axis(title, (min(*ends, 0) - room, max(*ends, 0) + room), fixedrange=True, nticks=9)
    upward = axis("", (-2.6, 0.75), fixedrange=True, showgrid=False, showticklabels=False)
    room_below = {"l": 12, "r": 12, "t": 8, "b": 58}  # two lines of words
    frame = layout(across, upward, margin=room_below) | {"annotations": words}
    zero = {"type": "line", "x0": 0, "x1": 0, "line": {"color": "@ink", "width": 1.2}}
    frame["shapes"] = [
        zero | {"y0": -row - 0.34, "y1": -row + 0.38} for row in range(len(MEASURES))
    ]  # not through words
    note = Note([about(seeds)] * n)
    return View(
        f"seeds-{training}", f"Does {NAMES[training]} end elsewhere than {against}?", 12, 246, notes=[note],
        fig={"data": data, "layout": frame},
    )  # fmt: skip


def difference_words(apart: Spread) -> str:
    """`−5.1 points (95 %: −7.0 to −3.1), lower`"""
    low, high = (points(v) for v in (apart.low, apart.high))
    return f"{points(apart.mean)} points (95 %: {low} to {high}), {told_apart(apart)}"


def points(share: float) -> str:
    """A difference of shares in percentage points with its sign."""
    return signed(share)


def about(seeds: Seeds) -> str:
    """How it was measured, in a sentence."""
    return (
        f"{seeds.about['data']}, eps {seeds.about['eps']}, {len(seeds.seeds)} seeds paired, {seeds.about['epochs']} "
        f"epochs, last epoch, {seeds.n} test images; worst case: {', '.join(seeds.about['attacks'])}"
    )


def _said(text: str, y: float) -> dict[str, Any]:
    return {"text": text, "x": 0.005, "xref": "x domain", "y": y + 0.55, "xanchor": "left", "yanchor": "middle",
            "showarrow": False, "font": {"size": 12, "color": "@ink"}}  # fmt: skip
