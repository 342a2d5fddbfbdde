"""The smoothness screen on a trained network: loss and gradient along a line through its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynat_core.views.base import SPARE, Note, Scene, Series, View, Words
from dynat_core.views.decades import decades, laid
from dynat_core.views.figures import axis, layout, line, listed
from dynat_core.views.words import number, percent

ATTACKED, HELD, STILL = range(3)
NAMES = ("attacked", "held", "still")
SERIES = (
    Series("attack recomputed", SPARE[1][:2], "solid"),
    Series("end points of the place before", SPARE[3][:2], "dash"),
    Series("no attack", SPARE[0][:2], "dot"),
)


@dataclass(frozen=True)
class Line:
    """What was found along the line (the arrays of `weight_line.probed`, and `at` as a share of the weights' norm).

    about: the network, images and attack, in words. other: (place of other weights on the line, words) or None.
    """

    arrays: Mapping[str, np.ndarray]
    about: str
    other: tuple[float, str] | None = None


def weight_line(found: Line, more: Sequence[View] = ()) -> Scene:
    """Return the scene; its cursor runs along the line. more: views of all positions, below."""
    at = found.arrays["at"]
    n = len(at)
    views = [_changes(found), _losses(found), _flips(found), *more]
    labels = [f"{_shift(t)} of the weights' norm" for t in at]
    return Scene(n, "place", views, SERIES, [Words([[s] for s in _sentences(found)])], labels, n - 1)


def _changes(found: Line) -> View:
    """The change of the gradient since the place before, per length: with the attack's answer, without it, clean."""
    data: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    moves: list[dict[str, Any]] = [{"kind": "rule", "color": "@ink"}]
    notes = []
    places = list(range(len(found.arrays["at"])))
    for k, name in enumerate(NAMES):
        values = found.arrays[name]
        data.append(line(places, listed(laid(values)), f"@s{k}", SERIES[k].dash, 2.4, meta=k))
        arrays[f"change-{k}"] = laid(values).astype(np.float32)
        moves.append({"kind": "dot", "arr": f"change-{k}", "color": f"@s{k}", "series": k})
        notes.append(Note([number(float(v)) for v in values], k))
    spans = [found.arrays[name] for name in NAMES]
    above = [1.6 * spans[ATTACKED].max(keepdims=True)]  # room for the words at the top
    frame = layout(_along(found), decades("change of gradient (nats) per length", spans + above), left=62)
    frame |= _marked(found)
    notes.append(Note(["lower bounds of any Lipschitz constant"] * len(places)))
    return View(
        "changes", "How fast does the loss's gradient change from place to place?", 7, 300, notes=notes, moves=moves,
        fig={"data": data, "layout": frame}, arrays=arrays, colors=_colors(), seek=True,
    )  # fmt: skip


def _losses(found: Line) -> View:
    """Mean loss of the attacked and of the clean images along the line."""
    places = list(range(len(found.arrays["at"])))
    data, notes = [], []
    moves: list[dict[str, Any]] = [{"kind": "rule", "color": "@ink"}]
    arrays: dict[str, np.ndarray] = {}
    for k, name in ((ATTACKED, "loss"), (STILL, "clean")):
        values = found.arrays[name]
        data.append(line(places, listed(laid(values)), f"@s{k}", SERIES[k].dash, 2.4, meta=k))
        arrays[f"loss-{k}"] = laid(values).astype(np.float32)
        moves.append({"kind": "dot", "arr": f"loss-{k}", "color": f"@s{k}", "series": k})
        notes.append(Note([number(float(v)) for v in values], k))
    spans = [found.arrays["loss"], found.arrays["clean"]]
    frame = layout(_along(found), decades("mean cross-entropy (nats)", spans), left=56)
    notes.append(Note([f"relative FOSC left: median {number(float(v))}" for v in found.arrays["left"]]))
    return View(
        "losses", "How high is the loss?", 5, 300, notes=notes, moves=moves, fig={"data": data, "layout": frame},
        arrays=arrays, colors=_colors(), seek=True,
    )  # fmt: skip


def _flips(found: Line) -> View:
    """The share of pixels at which the sign of the input gradient turned since the place before."""
    flips = found.arrays["flips"].astype(np.float64)
    places = list(range(len(flips)))
    bars = {"type": "bar", "x": places, "y": flips.round(6).tolist(), "width": 0.8, "hoverinfo": "skip",
            "marker": {"color": "@muted/0.6"}}  # fmt: skip
    top = max(float(flips.max()) * 1.15, 1e-4)
    form = ".2%" if top < 0.005 else ".1%" if top < 0.05 else ".0%"
    upward = axis("share of pixels", (0, top), fixedrange=True, nticks=4, tickformat=form)
    moves = [{"kind": "rule", "color": "@ink"}]
    frame = layout(_along(found), upward, left=62)
    notes = [Note([f"{percent(v, 2)} since the place before, at the clean images" for v in flips]), Note([found.about]
             * len(places))]  # fmt: skip
    return View(
        "flips", "How many signs of the input gradient flip?", 12, 180, notes=notes, moves=moves, seek=True,
        fig={"data": [bars], "layout": frame}, colors=_colors(),
    )  # fmt: skip


def _along(found: Line) -> dict[str, Any]:
    """The places, marked in shares of the weights' norm."""
    at = found.arrays["at"]
    n = len(at)
    reach = float(at[-1])
    shown = np.linspace(-reach, reach, 5)
    across = axis("distance from the network, share of its weights' norm", (-1.4, n - 0.4), fixedrange=True)
    step = float(at[1] - at[0])
    ticks = (n - 1) + (shown - reach) / step
    return across | {"showgrid": False, "tickmode": "array", "tickvals": ticks.tolist(),
                     "ticktext": [_shift(t) for t in shown]}  # fmt: skip


def _marked(found: Line) -> dict[str, Any]:
    """An upright at the network itself, and at the other weights where they are on the line."""
    at = found.arrays["at"]
    step, n = float(at[1] - at[0]), len(at)
    marks = [(0.0, "the network"), *([found.other] if found.other else [])]
    shapes, words = [], []
    for k, (t, said) in enumerate(marks):
        x = (n - 1) + (t - float(at[-1])) / step
        if not -1.4 <= x <= n - 0.4:
            continue
        shapes.append({"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "y domain",
                       "line": {"color": "@muted", "width": 1, "dash": "dot"}})  # fmt: skip
        side = "left" if k == 0 else "right"
        words.append({"text": said, "x": x, "y": 1.0, "yref": "y domain", "xanchor": side, "yanchor": "top",
                      "xshift": 5 if k == 0 else -5, "showarrow": False,
                      "font": {"size": 12, "color": "@ink"}})  # fmt: skip
    return {"shapes": shapes, "annotations": words}


def _shift(t: float) -> str:
    return "0" if abs(t) < 1e-12 else f"{'+' if t > 0 else '−'}{number(100 * abs(t))} %"


def _colors() -> dict[str, tuple[str, str]]:
    return {f"s{k}": s.color for k, s in enumerate(SERIES)}


def _sentences(found: Line) -> list[str]:
    rows = {name: found.arrays[name] for name in (*NAMES, "flips", "loss")}
    lines = []
    for i, t in enumerate(found.arrays["at"]):
        now = {name: float(values[i]) for name, values in rows.items()}
        times = now["attacked"] / now["still"] if now["still"] > 0 else np.inf
        said = (
            f"At {_shift(t)}: since the place before, the gradient of the attacked loss ({number(now['loss'])} nats) "
        )
        said += f"changed by {number(now['attacked'])} per length, "
        said += f"{number(times)} times as fast as that of the clean loss; " if np.isfinite(times) else ""
        said += f"with the attack's end points held it is {number(now['held'])}; "
        lines.append(f"{said}{percent(now['flips'], 2)} of the input gradient's signs turned.")
    return lines
