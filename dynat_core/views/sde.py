"""The SDE screen: adversarial SGD on a quadratic beside its stochastic differential equation, and its learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import erf
from typing import Any

import numpy as np

from dynat_core.theory.adversarial_sgd import Quadratic
from dynat_core.theory.weak_order import Errors
from dynat_core.views.base import SPARE, Note, Scene, Series, Switch, View, Words
from dynat_core.views.decades import decades, laid
from dynat_core.views.figures import axis, band, layout, line, listed, share_axis
from dynat_core.views.words import number

RUNS, EQUATION, BLIND, RULE, BEST, PGD = range(6)
SERIES = (
    Series("runs, step by step", SPARE[3][:2], "solid"),
    Series("the equation", SPARE[0][:2], "dashdot"),
    Series("first order, blind to the attack", ("#7A4B2A", "#D9A37B"), "dot"),
    Series("learning-rate rule", SPARE[1][:2], SPARE[1][2]),
    Series("best learning rate", SPARE[2][:2], "dash"),
    Series("PGD with signs and projection", ("#44546A", "#B8C4D6"), "longdash"),
)
MOMENTS = (("mean", "mean"), ("variance", "variance"))
_SAMPLES = 5


@dataclass(frozen=True)
class Study:
    """The model, simulated runs (n, count), errors of each moment, and E theta^2 (n,) for each learning rate."""

    model: Quadratic
    runs: np.ndarray
    errors: Mapping[str, Errors]
    moments: Mapping[str, np.ndarray]

    @property
    def times(self) -> np.ndarray:
        return self.model.eta * np.arange(len(self.runs))


def sde(study: Study, moment: str = "mean", more: Sequence[View] = ()) -> Scene:
    """Return the scene; its cursor is the step. moment: whose error is shown first, a key of MOMENTS. more: views of
    the same steps, below."""
    n = len(study.runs)
    views = [_paths(study), _places(study), *(_errors(study, name, n) for name, _ in MOMENTS), _rates(study), *more]
    labels = [f"step {k}, time {number(t)}" for k, t in enumerate(study.times)]
    switches = (Switch("moment", "Error of the", MOMENTS, moment, "m"),)
    words = [Words([[s] for s in _sentences(study)])]
    return Scene(n, "step", views, SERIES, words, labels, n - 1, switches)


# ---------------------------------------------------------------------------------------------------------- the runs


def _paths(study: Study) -> View:
    """The middle 95 % of the runs as a band, a few of them, and the equation's mean with two standard deviations."""
    n, q, t = len(study.runs), study.model, study.times
    steps = list(range(n))
    low, high = np.quantile(study.runs, [0.025, 0.975], axis=1)
    data = [part | {"meta": RUNS} for part in band(steps, listed(low), listed(high), f"@s{RUNS}")]
    data += [line(steps, listed(study.runs[:, k]), f"@s{RUNS}/0.45", "solid", 0.8, meta=RUNS) for k in range(_SAMPLES)]
    mean, spread = q.equation_mean(t), q.equation_variance(t) ** 0.5
    for shift, width in ((-2, 1.3), (0, 2.6), (2, 1.3)):
        look = f"@s{EQUATION}", SERIES[EQUATION].dash, width
        data.append(line(steps, listed(mean + shift * spread), *look, meta=EQUATION))
    blind = q.equation_mean(t, 1.0)
    data.append(line(steps, listed(blind), f"@s{BLIND}", SERIES[BLIND].dash, 2, meta=BLIND))
    arrays: dict[str, np.ndarray] = {}
    moves: list[dict[str, Any]] = [{"kind": "rule", "color": "@ink"}]
    notes = []
    for k, values in ((RUNS, study.runs.mean(axis=1)), (EQUATION, mean), (BLIND, blind)):
        arrays[f"mean-{k}"] = values.astype(np.float32)
        moves.append({"kind": "dot", "arr": f"mean-{k}", "color": f"@s{k}", "series": k})
        notes.append(Note([number(v) for v in values], k))
    frame = layout(step_axis(q.eta, n), axis("θ", _reach(study), fixedrange=True, nticks=6))
    words = f"band: middle 95 % of {study.runs.shape[1]:,} runs; thin: the equation's mean ± 2 standard deviations"
    frame["annotations"] = [corner(words, 1.0, 1.0)]
    return View(
        "paths", "Does the equation predict these runs?", 7, 290, fig={"data": data, "layout": frame}, moves=moves,
        notes=notes, seek=True, arrays=arrays, colors=colors(),
    )  # fmt: skip


def _places(study: Study) -> View:
    """Where the runs are at the cursor's step, and the equation's normal distribution over the same bins."""
    low, high = _reach(study)
    edges = np.linspace(low, high, 64)
    boxes = np.stack([edges[:-1], edges[1:]], axis=1)
    count = study.runs.shape[1]
    shares = np.stack([np.histogram(np.clip(row, low, high), edges)[0] / count for row in study.runs])
    q, t = study.model, study.times
    normal = [_bell(edges, m, v**0.5) for m, v in zip(q.equation_mean(t), q.equation_variance(t), strict=True)]
    middles = boxes.mean(axis=1)
    curve = np.stack([np.stack([middles, row], axis=-1) for row in normal]).astype(np.float32)
    top = 1.25 * float(max(shares[-1].max(), normal[-1].max()))
    frame = layout(axis("θ", (low, high), fixedrange=True, showgrid=False), share_axis("share of runs", top))
    moves = [
        {"kind": "bars", "arr": "shares", "boxes": boxes.round(4).tolist(), "color": f"@s{RUNS}", "series": RUNS},
        {"kind": "curve", "arr": "normal", "color": f"@s{EQUATION}", "dash": SERIES[EQUATION].dash, "series": EQUATION,
         "width": 2.4},
    ]  # fmt: skip
    spreads = study.runs.std(axis=1), q.equation_variance(t) ** 0.5
    notes = [Note([f"sd {number(v)}" for v in values], k) for k, values in zip((RUNS, EQUATION), spreads, strict=True)]
    return View(
        "places", "How are they spread at this step?", 5, 290, fig={"data": [], "layout": frame}, moves=moves,
        notes=notes, arrays={"shares": shares.astype(np.float32), "normal": curve}, colors=colors(),
    )  # fmt: skip


def _bell(edges: np.ndarray, mean: float, spread: float) -> np.ndarray:
    """The normal distribution's share of each bin; NaN without spread."""
    if spread <= 0:
        return np.full(len(edges) - 1, np.nan)
    return np.diff([0.5 * (1 + erf((e - mean) / (spread * 2**0.5))) for e in edges])


# ------------------------------------------------------------------------------------------------------- the errors


def _errors(study: Study, moment: str, n: int) -> View:
    """|moment of the steps - moment of the equation| against eta, log-log, beside slopes 1 and 2."""
    found = study.errors[moment]
    at = laid(found.etas).round(5).tolist()
    data = [
        line(at, listed(laid(found.full)), f"@s{EQUATION}", SERIES[EQUATION].dash, 2.2, meta=EQUATION),
        line(at, listed(laid(found.blind)), f"@s{BLIND}", SERIES[BLIND].dash, 2.2, meta=BLIND),
    ]
    guides, words = _guides(found, (1, 2) if moment == "mean" else (2,))
    size, half = np.abs(found.measured), 1.96 * found.spread
    sure = size > half  # the others' interval reaches 0, which a logarithmic axis has no place for
    up, down = laid(size + half) - laid(size), laid(size) - laid(np.where(sure, size - half, np.nan))
    x, y, color = listed(laid(found.etas[sure])), listed(laid(size[sure])), f"@s{RUNS}"
    bars = {"type": "data", "symmetric": False, "array": listed(up[sure]), "arrayminus": listed(down[sure]),
            "color": color, "thickness": 1.4, "width": 4}  # fmt: skip
    data.append({"type": "scatter", "mode": "markers", "x": x, "y": y, "error_y": bars, "hoverinfo": "skip",
                 "marker": {"size": 7, "color": color}, "meta": RUNS})  # fmt: skip
    values = [found.full, found.blind, found.full[-1:] * 0.6, size[sure] + half[sure], size[sure] - half[sure]]
    frame = layout(
        decades("step size η", [found.etas], showgrid=False),
        decades(f"error of the {moment} at time {number(found.time, 1)}", values),
        left=66,
    )
    frame |= {"shapes": guides, "annotations": words}
    said = _order(found)
    return View(
        f"errors-{moment}", "How does the error shrink with the step size?", 5, 270, "", "errors", {"moment": moment},
        fig={"data": data, "layout": frame}, notes=[Note([said] * n)], colors=colors(),
    )  # fmt: skip


def _order(found: Errors) -> str:
    order, count = found.order, f"{len(found.etas)} step sizes"
    if not np.isfinite([order.low, order.high]).all():
        return f"the runs' error over {count} is too noisy to fit an order"
    slope, low, high = (f"{v:.2f}" for v in (order.slope, order.low, order.high))
    return f"fitted order of the runs' error {slope} (95 % {low} to {high}), {count}"


def _guides(found: Errors, slopes: Sequence[int]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Thin lines of these slopes below the exact curves, with their names."""
    ends = laid(found.etas[[-1, 0]])
    shapes, words = [], []
    for slope in slopes:
        lowest = found.blind if slope == 1 else np.minimum(found.blind, found.full)
        y0 = float(laid(lowest)[-1]) - 0.16
        y1 = y0 + slope * float(ends[1] - ends[0])
        look = {"color": "@muted", "width": 1, "dash": "solid"}
        shapes.append({"type": "line", "x0": float(ends[0]), "x1": float(ends[1]), "y0": y0, "y1": y1, "line": look})
        words.append({"text": f"slope {slope}", "x": float(ends.mean()), "y": (y0 + y1) / 2, "xanchor": "left",
                      "yanchor": "top", "showarrow": False, "font": {"size": 11, "color": "@muted"}})  # fmt: skip
    return shapes, words


# ------------------------------------------------------------------------------------------------- the learning rate


def _rates(study: Study) -> View:
    """E theta^2 step by step for the rule, the best and fixed learning rates."""
    n, q = len(study.runs), study.model
    steps = list(range(n))
    data: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    moves: list[dict[str, Any]] = [{"kind": "rule", "color": "@ink"}]
    notes = []
    known = {"fixed": RUNS, "rule": RULE, "best": BEST}
    for name, values in study.moments.items():
        k = known.get(name, RUNS)
        thin = name not in known
        width, dash = (
            (1.1, "dash") if thin else (4.5 if name == "rule" else 2, SERIES[k].dash)
        )  # the best lies on the rule
        data.append(
            line(steps, listed(laid(values)), f"@s{k}/0.55" if name == "rule" else f"@s{k}", dash, width, meta=k)
        )
        if thin:
            continue
        arrays[f"moment-{name}"] = laid(values).astype(np.float32)
        moves.append({"kind": "dot", "arr": f"moment-{name}", "color": f"@s{k}", "series": k})
        notes.append(Note([number(v) for v in values], k))
    frame = layout(step_axis(q.eta, n), decades("mean of θ², exact", list(study.moments.values())), left=62)
    frame["annotations"] = [corner("thin dashed: learning rate fixed at a half and at a quarter of eta", 1.0, 1.0)]
    return View(
        "rates", "Which learning rate comes closest, and when must it fall?", 7, 270,
        fig={"data": data, "layout": frame}, moves=moves, notes=notes, seek=True, arrays=arrays, colors=colors(),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ small pieces


def step_axis(eta: float, n: int) -> dict[str, Any]:
    """The steps 0 .. n-1, with what they are in time."""
    every = next(s for s in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500) if (n - 1) / s <= 12)
    title = f"step of SGD (time = {number(eta)} × step)"
    return axis(title, (-0.01 * n, n - 1 + 0.01 * n), fixedrange=True, showgrid=False, tick0=0, dtick=every)


def _reach(study: Study) -> tuple[float, float]:
    """A range of theta that holds the start and nearly all runs."""
    low, high = float(np.quantile(study.runs, 0.001)), float(max(study.runs.max(), study.model.start))
    room = 0.05 * (high - low)
    return low - room, high + room


def corner(text: str, x: float, y: float) -> dict[str, Any]:
    return {"text": text, "x": x, "y": y, "xref": "x domain", "yref": "y domain", "xanchor": "right", "yanchor": "top",
            "showarrow": False, "font": {"size": 11, "color": "@muted"}}  # fmt: skip


def colors() -> dict[str, tuple[str, str]]:
    return {f"s{k}": s.color for k, s in enumerate(SERIES)}


def _sentences(study: Study) -> list[str]:
    q, t = study.model, study.times
    lines = []
    for k, row in enumerate(study.runs):
        mean, spread = float(q.equation_mean(t[k])), float(q.equation_variance(t[k])) ** 0.5
        lines.append(
            f"Step {k}, time {number(t[k])}: the runs have mean {number(float(row.mean()))} and standard deviation "
            f"{number(float(row.std()))}; the equation says {number(mean)} and {number(spread)}."
        )
    return lines
