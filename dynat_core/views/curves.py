"""What an attack did step by step, as curves over one x axis: slope left, loss, margin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynat_core.recorded.trajectories import Trajectory
from dynat_core.views.base import Note, Series, View, held, padded
from dynat_core.views.figures import axis, layout, line, listed
from dynat_core.views.words import number, raised

FORMS = (("box", "box"), ("paper", "paper"))


@dataclass(frozen=True)
class Drawn:
    """A path and its place among the series."""

    k: int
    series: Series
    path: Trajectory

    @property
    def color(self) -> str:
        return f"@s{self.k}"

    def relative(self, form: str) -> np.ndarray:
        """Relative FOSC (K+1,) in that form; NaN where the gradient is zero and it is undefined."""
        if form == "box":
            values = self.path.relative_fosc.astype(np.float64)
        else:
            reach = self.path.reach
            values = np.divide(self.path.fosc_paper, reach, out=np.full(len(reach), np.nan), where=reach > 0)
        return np.where(self.path.gradient_l1 > 0, values, np.nan)

    def fosc(self, form: str) -> np.ndarray:
        return (self.path.fosc if form == "box" else self.path.fosc_paper).astype(np.float64)


def step_axis(n: int, most: int = 12, **more: Any) -> dict[str, Any]:
    """The steps 0 .. n-1 of the attack; most: how many of them are written out, beside 0."""
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100) if (n - 1) / step <= most)
    return axis("PGD step", (-0.3, n - 0.7), showgrid=False, tick0=0, dtick=every, **more)


def relative_top(highest: float) -> float:
    """The end of a relative FOSC axis: 1, as far as the middle of the set, unless more was seen; 2 is the most."""
    return next(end + 0.04 for end in (1.0, 1.5, 2.0) if highest <= end + 0.04 or end == 2.0)


def slope(paths: Sequence[Drawn], n: int, form: str, *, block: str, height: int) -> View:
    """Relative FOSC above; below it, over the same steps, FOSC and eps x gradient norm in loss units, logarithmic."""
    data: list[dict[str, Any]] = []
    moves: list[dict[str, Any]] = [{"kind": "rule", "color": "@ink", "y": y} for y in ("y", "y2")]
    arrays: dict[str, np.ndarray] = {}
    notes = []
    other = "paper" if form == "box" else "box"
    low, ticks, span = _log_axis([v for p in paths for v in (p.fosc("box"), p.fosc("paper"), p.path.reach)])
    for p in paths:
        steps, look = list(range(len(p.path.z))), {"color": p.color, "dash": p.series.dash}
        relative, fosc, reach = p.relative(form), p.fosc(form), p.path.reach
        data.append(line(steps, listed(relative), **look, width=2.6, meta=p.k))
        data.append(line(steps, listed(low(reach)), "@muted", p.series.dash, 1.4, meta=p.k, yaxis="y2"))
        data.append(line(steps, listed(low(p.fosc(other))), **look, width=0.9, meta=p.k, yaxis="y2"))
        data.append(line(steps, listed(low(fosc)), **look, width=2.6, meta=p.k, yaxis="y2"))
        for name, values, y, color in (
            ("relative", relative, "y", p.color),
            ("fosc", low(fosc), "y2", p.color),
            ("reach", low(reach), "y2", "@muted"),
        ):
            arrays[f"{name}-{form}-{p.k}"] = padded(values.astype(np.float32), n)
            moves.append({"kind": "dot", "arr": f"{name}-{form}-{p.k}", "color": color, "series": p.k, "y": y})
        said = [
            f"relative {number(r)}, {form} {number(c)}, gradient {number(g)}"
            for r, c, g in zip(relative, fosc, reach / float(p.path.settings["eps"]), strict=True)
        ]
        notes.append(Note(held(said, n), p.k))
    if form == "box":
        moves.append({"kind": "level", "form": "relative", "color": "@ink", "dash": "dot", "y": "y", "label": "c"})
    moves.append({"kind": "level", "form": form, "color": "@ink", "dash": "dot", "y": "y2", "log": True, "label": "c"})
    seen = np.concatenate([p.relative(form) for p in paths])
    top = relative_top(float(np.nanmax(seen, initial=0)))
    own = "box" if form == "box" else "paper's"
    upper = axis(
        f"relative FOSC,<br>{own} form (no unit)", (-0.03 * top, top), domain=[0.55, 1], nticks=5, fixedrange=True
    )
    lower = axis(
        f"FOSC, {own} form<br>(loss units, {units(paths)})",
        span,
        domain=[0, 0.43],
        anchor="x",
        fixedrange=True,
        tickmode="array",
        tickvals=[t for t, _ in ticks],
        ticktext=[w for _, w in ticks],
    )
    words = f"thick: {own} FOSC, thin: {'paper’s' if form == 'box' else 'box'}, grey: eps × gradient norm"
    legend = {
        "text": words,
        "x": 1,
        "xref": "paper",
        "y": 0.44,
        "yref": "paper",
        "xanchor": "right",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 11, "color": "@muted"},
    }
    frame = layout(step_axis(n, anchor="y2"), upper, left=70, yaxis2=lower, annotations=[legend])
    return View(
        f"slope-{form}",
        "How much slope is left, and does FOSC rise with the gradient?",
        12,
        height,
        block,
        "slope",
        {"form": form},
        fig={"data": data, "layout": frame},
        moves=moves,
        notes=notes,
        seek=True,
        arrays=arrays,
        colors=colors(paths),
    )


def loss(paths: Sequence[Drawn], n: int, *, span: int, block: str, height: int) -> View:
    """The loss the attack climbs; a margin loss is below 0 while the model is right."""
    top = max(float(np.nanmax(p.path.loss, initial=0.1)) for p in paths)
    low = min(float(np.nanmin(p.path.loss, initial=0.0)) for p in paths)
    across = (low - 0.08 * (top - low) if low < 0 else 0.0, top + 0.08 * (top - low))
    named = f"loss ({units(paths)})"
    return _curve("loss", "How high is the loss?", named, paths, n, lambda t: t.loss, across, span, block, height)


def margin(paths: Sequence[Drawn], n: int, *, span: int, block: str, height: int) -> View:
    """How far the model is from being fooled; at 0 and below it is."""
    every = np.concatenate([p.path.margin for p in paths])
    low, high = min(float(np.nanmin(every)), 0.0), max(float(np.nanmax(every)), 0.0)
    room = 0.1 * ((high - low) or 1)
    view = _curve(
        "margin",
        "Is it fooled?",
        "margin (logits)<br>0 = fooled",
        paths,
        n,
        lambda t: t.margin,
        (low - room, high + room),
        span,
        block,
        height,
    )
    assert view.fig is not None
    frame = dict(view.fig["layout"])
    zero = {
        "type": "line",
        "x0": 0,
        "x1": 1,
        "xref": "x domain",
        "y0": 0,
        "y1": 0,
        "line": {"color": "@muted", "width": 1},
        "layer": "below",
    }
    frame["shapes"] = [zero]
    return View(**{**vars(view), "fig": {**view.fig, "layout": frame}})


def units(paths: Sequence[Drawn]) -> str:
    """The unit of the losses that were climbed, `nats`; of different ones each."""
    return " or ".join(dict.fromkeys(p.path.unit for p in paths))


def colors(paths: Sequence[Drawn]) -> dict[str, tuple[str, str]]:
    return {f"s{p.k}": p.series.color for p in paths}


def _curve(
    name: str,
    title: str,
    words: str,
    paths: Sequence[Drawn],
    n: int,
    values: Callable[[Trajectory], np.ndarray],
    span: tuple[float, float],
    columns: int,
    block: str,
    height: int,
) -> View:
    """One curve a path with a dot at the cursor; a cross marks the first step at which the model is fooled."""
    data: list[dict[str, Any]] = []
    moves: list[dict[str, Any]] = [{"kind": "rule", "color": "@ink"}]
    arrays, notes = {}, []
    for p in paths:
        curve, first = values(p.path).astype(np.float64), p.path.steps_to_fool
        data.append(line(list(range(len(curve))), listed(curve), p.color, p.series.dash, 2.4, meta=p.k))
        if first is not None:
            cross = {"symbol": "x", "size": 10, "color": p.color, "line": {"width": 1, "color": "@ink"}}
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [first],
                    "y": listed(curve[first : first + 1]),
                    "marker": cross,
                    "meta": p.k,
                    "hovertemplate": f"first fooled at step {first}<extra></extra>",
                    "cliponaxis": False,
                }
            )
        arrays[f"{name}-{p.k}"] = padded(curve.astype(np.float32), n)
        moves.append({"kind": "dot", "arr": f"{name}-{p.k}", "color": p.color, "series": p.k})
        notes.append(Note(held([number(v) for v in curve], n), p.k))
    frame = layout(step_axis(n, most=6), axis(words, span, nticks=5, fixedrange=True), left=62, hovermode="closest")
    return View(
        name,
        title,
        columns,
        height,
        block,
        fig={"data": data, "layout": frame},
        moves=moves,
        notes=notes,
        seek=True,
        arrays=arrays,
        colors=colors(paths),
    )


def _log_axis(
    curves: Sequence[np.ndarray],
) -> tuple[Callable[[np.ndarray], np.ndarray], list[tuple[float, str]], tuple[float, float]]:
    """Decades that hold all curves, at most six; below stands zero. Returns (values -> positions, ticks, span)."""
    every = np.concatenate(curves)
    positive = every[np.isfinite(every) & (every > 0)]
    top = int(np.ceil(np.log10(positive.max()))) if len(positive) else 0
    bottom = int(np.floor(np.log10(positive.min()))) if len(positive) else -2
    bottom = max(min(bottom, top - 1), top - 6)
    none = bool((every <= 0).any() or (len(positive) and positive.min() < 10.0**bottom))
    shelf = bottom - 0.4

    def place(values: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            laid = np.log10(values)
        return np.where(np.isnan(values), np.nan, np.where(values < 10.0**bottom, shelf, laid))

    every_nth = 1 if top - bottom <= 3 else 2
    ticks = [
        (float(p), f"10{raised(p)}" if not -3 < p < 3 else f"{10.0**p:g}") for p in range(top, bottom - 1, -every_nth)
    ]
    return place, [*ticks, *([(shelf, "0")] if none else [])], ((shelf - 0.2) if none else bottom - 0.08, top + 0.08)
