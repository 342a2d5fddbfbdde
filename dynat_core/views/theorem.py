"""The theorem screen: Theorem 1's bound beside what is measured where every constant is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynat_core.theory.concavity import Measured
from dynat_core.theory.minimax import MinMax, own_bound, paper_bound
from dynat_core.views.base import SPARE, Note, Scene, Series, View, Words
from dynat_core.views.decades import decades, laid, power
from dynat_core.views.figures import axis, band, layout, line
from dynat_core.views.words import number, percent

PAPER, OWN, PUSHED, EARLY = range(4)


@dataclass(frozen=True)
class Study:
    """What was computed: for each error of the attack, (T's, deltas) of means and of half 95 % intervals."""

    problem: MinMax
    horizons: Sequence[int]
    deltas: Sequence[float]
    early: tuple[np.ndarray, np.ndarray]
    pushed: tuple[np.ndarray, np.ndarray]


# Colours of no training strategy: these are bounds and measurements.
SERIES = (
    Series("the paper's bound", SPARE[2][:2], SPARE[2][2]),
    Series("the same argument, no slack", SPARE[0][:2], SPARE[0][2]),
    Series("measured, error pushing one way, FOSC ≤ δ", SPARE[1][:2], SPARE[1][2]),
    Series("measured, attack stopped at δ", SPARE[3][:2], SPARE[3][2]),
)


def theorem(study: Study, horizon: int, relu: Measured) -> Scene:
    """Return the scene; its cursor is delta. horizon: the T of the right picture, one of the study's."""
    views = [
        _against_steps(study, horizon),
        _against_delta(study, horizon),
        _curvature(relu, len(study.deltas)),
    ]
    n = len(study.deltas)
    words = [Words([[sentence] for sentence in _sentences(study, horizon)])]
    labels = [f"δ {number(d)}" for d in study.deltas]
    return Scene(n, "δ level", views, SERIES, words, labels, n - 1, switches=(), blocks={"": 12})


# ----------------------------------------------------------------------------------------------------- the two plots


def _curves(study: Study, place: int) -> dict[int, np.ndarray]:
    """Series -> values (T's,) at the delta number `place`; the paper's bound only where it is stated."""
    t, delta = np.asarray(study.horizons, dtype=np.float64), study.deltas[place]
    stated = np.where(t >= study.problem.valid_from, paper_bound(study.problem, t, delta), np.nan)
    own = own_bound(study.problem, t, delta)
    return {PAPER: stated, OWN: own, PUSHED: study.pushed[0][:, place], EARLY: study.early[0][:, place]}


def _against_steps(study: Study, horizon: int) -> View:
    """Bound and measurement against T, moving with delta; a horizontal line is the part that more steps cannot mend."""
    t = np.asarray(study.horizons, dtype=np.float64)
    every = [_curves(study, k) for k in range(len(study.deltas))]
    arrays: dict[str, np.ndarray] = {}
    moves: list[dict[str, Any]] = []
    for k, series in enumerate(SERIES):
        points = np.stack([np.stack([np.log2(t), laid(curves[k])], axis=-1) for curves in every])
        arrays[f"steps-{k}"] = points.astype(np.float32)
        look = {"color": f"@s{k}", "dash": series.dash, "series": k, "width": 2.6}
        moves.append({"kind": "curve", "arr": f"steps-{k}", **look})
    floor = np.array([study.problem.b**2 * d / study.problem.mu for d in study.deltas])
    ends = np.log2(t[[0, -1]])
    arrays["steps-floor"] = np.stack(
        [np.stack([ends, np.repeat(laid([f]), 2)], axis=-1) for f in floor], dtype=np.float32
    )
    moves.append({"kind": "curve", "arr": "steps-floor", "color": "@muted", "dash": "dot", "width": 1.2})
    values = [np.concatenate(list(curves.values())) for curves in every]
    below = [np.array([float(np.nanmin(np.concatenate(values))) / 1.6])]
    across = axis("training steps T (logarithmic)", (-0.2, ends[1] + 0.2), fixedrange=True, showgrid=False)
    across |= {
        "tickmode": "array",
        "tickvals": np.log2(t).tolist()[::2],
        "ticktext": [f"{h}" for h in t.astype(int)[::2]],
    }
    frame = layout(across, decades("mean ‖∇L_S(θ)‖² over the run", [*values, *below]), left=62)
    frame["shapes"] = [_upright(np.log2(horizon), "@muted", "solid"), *_first_valid(study.problem, t)]
    note = Note([f"dotted: L_tx² δ / μ = {number(f)}, the part that more steps do not mend" for f in floor])
    return View(
        "steps", "Does the bound hold, and how close is it?", 7, 330, notes=[note],
        fig={"data": [], "layout": frame}, moves=moves, arrays=arrays, colors=_colors(),
    )  # fmt: skip


def _against_delta(study: Study, horizon: int) -> View:
    """The same at one T, against the allowed FOSC delta; the cursor runs along it."""
    at = list(study.horizons).index(horizon)
    curves = [_curves(study, k) for k in range(len(study.deltas))]
    places = list(range(len(study.deltas)))
    data: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    moves: list[dict[str, Any]] = [{"kind": "rule", "color": "@ink"}]
    notes = []
    for k, (mean, half) in {PUSHED: study.pushed, EARLY: study.early}.items():
        low, high = laid(np.maximum(mean[at] - half[at], 1e-12)), laid(mean[at] + half[at])
        data += [part | {"meta": k} for part in band(places, low.tolist(), high.tolist(), f"@s{k}")]
    values = []
    for k, series in enumerate(SERIES):
        column = np.array([c[k][at] for c in curves])
        values.append(column)
        positions = laid(column)
        drawn = [None if np.isnan(v) else float(v) for v in positions]
        data.append(line(places, drawn, f"@s{k}", series.dash, 2.4, meta=k))
        arrays[f"delta-{k}"] = positions.astype(np.float32)
        moves.append({"kind": "dot", "arr": f"delta-{k}", "color": f"@s{k}", "series": k})
        notes.append(Note([number(v) for v in column], k))
    shown = [k for k, d in enumerate(study.deltas) if d == 0 or abs(np.log10(d) - round(np.log10(d))) < 1e-9]
    shown = [k for k in shown if k != 1]  # right beside the 0
    ticks = ["0" if study.deltas[k] == 0 else power(round(np.log10(study.deltas[k]))) for k in shown]
    across = axis(
        "δ, the FOSC every attacked example is below", (-0.5, len(places) - 0.5), fixedrange=True, showgrid=False
    )
    across |= {"tickmode": "array", "tickvals": shown, "ticktext": ticks}
    frame = layout(across, decades("mean ‖∇L_S(θ)‖² over the run", values), left=62)
    return View(
        "delta", f"What does an unfinished attack cost after {horizon:,} steps?", 5, 330, notes=notes, seek=True,
        fig={"data": data, "layout": frame}, moves=moves, arrays=arrays, colors=_colors(),
    )  # fmt: skip


def _first_valid(problem: MinMax, t: np.ndarray) -> list[dict[str, Any]]:
    """A rule at T = L Delta / sigma^2, from which on the paper's form is stated."""
    at = problem.valid_from
    return [_upright(float(np.log2(at)), "@s0", "dot")] if t[0] < at < t[-1] else []


def _upright(x: float, color: str, dash: str) -> dict[str, Any]:
    look = {"color": color, "width": 1, "dash": dash}
    return {"type": "line", "x0": float(x), "x1": float(x), "y0": 0, "y1": 1, "yref": "y domain", "line": look}


def _colors() -> dict[str, tuple[str, str]]:
    return {f"s{k}": s.color for k, s in enumerate(SERIES)}


# ------------------------------------------------------------------------------------------ the assumption that fails

FLAT = 1e-6  # nats per squared pixel: less than this is neither convex nor concave
_BINS = 46


def _curvature(relu: Measured, n: int) -> View:
    """How the loss bends along segments in the ball of a ReLU network: within one linear region, and across kinks."""
    bent = np.where(np.abs(relu.curvature) < FLAT, 0.0, relu.curvature)
    size = np.abs(bent[bent != 0])
    unit = 10.0 ** np.floor(np.log10(np.median(size))) if len(size) else 1.0  # even up to it, logarithmic beyond
    end = float(np.arcsinh(size.max(initial=unit) / unit)) * 1.02
    edges = np.linspace(-end, end, _BINS)
    places, data = np.arcsinh(bent / unit), []
    for k, which in enumerate((relu.within, ~relu.within)):
        share = np.histogram(places[which], edges)[0] / len(places)
        pattern = {"shape": "" if k == 0 else "/", "fgcolor": "@ink", "size": 5, "solidity": 0.25}
        marker = {"color": "@s3/0.55" if k == 0 else "@s0/0.5", "line": {"width": 0}, "pattern": pattern}
        data.append({"type": "bar", "x": ((edges[:-1] + edges[1:]) / 2).tolist(), "y": share.round(5).tolist(),
                     "width": float(edges[1] - edges[0]), "marker": marker, "hoverinfo": "skip"})  # fmt: skip
    across = axis("curvature of the loss along a segment (nats per squared pixel)", (-end, end), fixedrange=True)
    across |= {"tickmode": "array", "showgrid": False} | _ticks(unit, end)
    upward = axis("share of segments", None, fixedrange=True, tickformat=".0%", nticks=5, rangemode="tozero")
    frame = layout(across, upward, barmode="stack", bargap=0)
    frame["shapes"] = [_upright(-0.5 * float(edges[1] - edges[0]), "@ink", "dash")]
    needed = "Theorem 1 needs all<br>of them left of 0, by μ"
    frame["annotations"] = [_said(float(edges[22]), needed, "right"), _said(float(edges[-2]), _shares(relu), "right")]
    note = Note([f"{relu.about}; plain: straight logits, one linear region; hatched: across a kink"] * n)
    return View(
        "curvature", "Which assumption fails on a ReLU network, and by how much?", 12, 220, notes=[note],
        fig={"data": data, "layout": frame}, colors=_colors(),
    )  # fmt: skip


def _ticks(unit: float, end: float) -> dict[str, Any]:
    """Zero and powers of ten on both sides, at most four a side."""
    first = round(np.log10(unit))
    powers = [p for p in range(first, first + 12) if np.arcsinh(10.0**p / unit) < end]
    powers = powers[:: max(1, -(-len(powers) // 4))]
    at = [float(np.arcsinh(10.0**p / unit)) for p in powers]
    words = [power(p) for p in powers]
    return {"tickvals": [*(-v for v in reversed(at)), 0.0, *at],
            "ticktext": [*(f"−{w}" for w in reversed(words)), "0", *words]}  # fmt: skip


def _shares(relu: Measured) -> str:
    concave, inside = relu.curvature < -FLAT, relu.within
    said = f"concave: {percent(concave.mean())} of {len(concave):,} segments;<br>"
    if inside.any():
        said += f"{percent(concave[inside].mean())} of the {inside.sum():,} within one linear region;<br>"
    else:
        said += "none lies within one linear region;<br>"
    return f"{said}the largest curvature is {number(float(relu.curvature.max()))}"


def _said(x: float, text: str, side: str) -> dict[str, Any]:
    return {"text": text, "x": x, "y": 0.98, "yref": "y domain", "xanchor": side, "yanchor": "top", "showarrow": False,
            "align": side, "xshift": -6, "font": {"size": 12, "color": "@ink"}}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- words


def _sentences(study: Study, horizon: int) -> list[str]:
    at, p = list(study.horizons).index(horizon), study.problem
    lines = []
    for k, delta in enumerate(study.deltas):
        curves = _curves(study, k)
        paper, own, pushed, early = (float(curves[name][at]) for name in (PAPER, OWN, PUSHED, EARLY))
        if np.isnan(paper):
            stated = f"the paper's bound is stated from T = {number(p.valid_from)} on"
        else:
            loose = number(paper / max(pushed, early))
            stated = f"the paper's bound is {number(paper)}, {loose} times the larger of the two"
        lines.append(
            f"δ = {number(delta)}, T = {horizon:,}: measured {number(pushed)} where the error pushes one way and "
            f"{number(early)} with an attack that stops at δ; {stated}; without slack it is {number(own)}."
        )
    return lines
