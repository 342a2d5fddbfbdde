"""What happened over the epochs: accuracy and FOSC as curves, the cursor as a line with dots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dynat_core.views.base import Note, Series, View, held, padded
from dynat_core.views.distributions import Counted, quantiles
from dynat_core.views.figures import as_typed, axis, band, epoch_axis, laid, layout, line, listed
from dynat_core.views.scales import Scale
from dynat_core.views.words import number, percent, wilson

_CURSOR = {"kind": "rule", "color": "@ink"}


def accuracy(runs: Sequence[tuple[int, Series, Any, str]], n: int, last: int, *, span: int, height: int) -> View:
    """Clean (thin) and robust (thick, with its 95 % band) accuracy on held-out images. A robust accuracy never stands
    alone: its attack, n and interval are told by the curve.

    runs: (place among the series, series, history, the attack behind the robust accuracy in words).
    """
    data: list[dict[str, Any]] = []
    moves: list[dict[str, Any]] = []
    arrays, notes, lowest = {}, [], 1.0
    for k, series, history, attack in runs:
        split = "test" if np.isfinite(history.column("test/robust_accuracy")).any() else "validation"
        clean, robust, size = (history.column(f"{split}/{key}") for key in ("clean_accuracy", "robust_accuracy", "n"))
        limits = np.array([wilson(*pair) for pair in zip(robust, size, strict=True)]).reshape(-1, 2)
        epochs = [int(e) for e in history.epochs]
        words = [
            f"{percent(r, 1)} robust ({percent(low, 1)} to {percent(high, 1)}), {percent(c, 1)} clean, {m:.0f} images"
            if np.isfinite(r)
            else "not measured"
            for r, (low, high), c, m in zip(robust, limits, clean, size, strict=True)
        ]
        data += band(epochs, listed(limits[:, 0]), listed(limits[:, 1]), f"@s{k}", meta=k)
        data.append(line(epochs, listed(clean), f"@s{k}", series.dash, 1.1, meta=k))
        text = {
            "text": words,
            "hoverinfo": "text",
            "hovertemplate": f"{as_typed(series.name)}, epoch %{{x}}: %{{text}}<br>{attack}<extra></extra>",
        }
        data.append(line(epochs, listed(robust), f"@s{k}", series.dash, 2.6, meta=k, **text))
        for name, values in (("clean", clean), ("robust", robust)):
            arrays[f"accuracy-{name}-{k}"] = padded(values.astype(np.float32), n)
            moves.append({"kind": "dot", "arr": f"accuracy-{name}-{k}", "color": f"@s{k}", "series": k})
        notes.append(Note(held([f"{percent(r, 1)} attacked" for r in robust], n), k))
        finite = np.concatenate([limits[:, 0], clean])
        lowest = min([lowest, *finite[np.isfinite(finite)]])
    floor = 0.0 if lowest < 0.5 else 0.5
    upright = axis("right; thick: attacked, thin: clean", (floor, 1.02), tickformat=".0%", nticks=6, fixedrange=True)
    frame = layout(epoch_axis(last), upright, hovermode="closest")
    return View(
        "accuracy",
        "How often is it right?",
        span,
        height,
        fig={"data": data, "layout": frame},
        moves=[_CURSOR, *moves],
        notes=notes,
        arrays=arrays,
        seek=True,
        colors=_colors(r[:2] for r in runs),
    )


def fosc_course(
    runs: Sequence[Counted],
    scale: Scale,
    n: int,
    last: int,
    *,
    span: int,
    height: int,
    when: Mapping[str, str],
    thresholds: Mapping[int, np.ndarray],
) -> View:
    """The median and the 10 to 90 % band of one form of FOSC at every epoch; c_t as stairs where it has that unit."""
    name = f"course-{scale.measure}"
    data: list[dict[str, Any]] = []
    moves: list[dict[str, Any]] = []
    arrays, notes, seen = {}, [], []
    for run in runs:
        k = run.k
        values = np.stack([quantiles(scale.measure, run.counts, q) for q in (0.1, 0.5, 0.9)], axis=1)
        low, middle, high = scale.position(values).T
        epochs = list(range(len(values)))
        data += band(epochs, listed(low), listed(high), f"@s{k}", meta=k)
        data.append(line(epochs, listed(middle), f"@s{k}", run.series.dash, meta=k))
        arrays[f"{name}-{k}"] = padded(middle.astype(np.float32), n)
        moves.append({"kind": "dot", "arr": f"{name}-{k}", "color": f"@s{k}", "series": k})
        notes.append(Note(held([f"{number(m)} ({number(a)} – {number(b)})" for a, m, b in values], n), k))
        seen += [low, high]
        if k in thresholds:
            c_t = thresholds[k]
            stairs = np.where(np.isnan(c_t), np.nan, scale.position(c_t))
            data.append(
                line(epochs, listed(stairs), f"@s{k}", "solid", 1.2, meta=k)
                | {"line": {"color": f"@s{k}", "width": 1.2, "shape": "hvh"}}
            )
            seen.append(stairs)
    upright = laid(scale, upright=True, room=8) | {"range": list(_decades(scale, seen)), "fixedrange": True}
    frame = layout(epoch_axis(last), upright, left=58)
    title = "How does FOSC move? Median, 10–90 %" + (", c_t" if thresholds else "")
    return View(
        name,
        title,
        span,
        height,
        slot="course",
        when=when,
        fig={"data": data, "layout": frame},
        moves=[_CURSOR, *moves],
        notes=notes,
        arrays=arrays,
        seek=True,
        colors=_colors((r.k, r.series) for r in runs),
    )


def marked(view: View, broken: Mapping[int, int]) -> View:
    """`view` (epochs along x) with a rule where a run's numbers stopped being numbers: series -> that epoch."""
    if not broken or view.fig is None:
        return view
    rules = [
        {
            "type": "line",
            "x0": e,
            "x1": e,
            "y0": 0,
            "y1": 1,
            "yref": "y domain",
            "xref": "x",
            "line": {"color": "@alarm", "width": 1.5, "dash": "dot"},
        }
        for e in sorted(set(broken.values()))
    ]
    words = [
        {
            "text": "NaN",
            "x": r["x0"],
            "y": 1,
            "yref": "y domain",
            "xref": "x",
            "showarrow": False,
            "xanchor": "left",
            "yanchor": "top",
            "font": {"size": 11, "color": "@alarm"},
        }
        for r in rules
    ]
    frame = dict(view.fig["layout"])
    frame["shapes"] = [*frame.get("shapes", []), *rules]
    frame["annotations"] = [*frame.get("annotations", []), *words]
    return View(**{**vars(view), "fig": {**view.fig, "layout": frame}})


def _decades(scale: Scale, seen: Sequence[np.ndarray]) -> tuple[float, float]:
    """The whole decades that hold what was seen, at least two of them; with the zero bin where something is in it."""
    every = np.concatenate([np.asarray(s, dtype=np.float64) for s in seen]) if seen else np.array([])
    every = every[np.isfinite(every)]
    if not len(every):
        return scale.span
    first, end = scale.boxes[1, 0], scale.span[1]
    low = scale.span[0] if every.min() < first else max(np.floor(every.min()), first) - 0.05
    high = min(np.ceil(every.max() + 0.02), end)
    return float(min(low, high - 2)), float(high)


def _colors(runs: Any) -> dict[str, tuple[str, str]]:
    return {f"s{k}": series.color for k, series in runs}
