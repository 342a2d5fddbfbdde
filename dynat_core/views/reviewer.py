"""The curves a reviewer asks for, from a finished measurement: accuracy against whatever an attack may vary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dynat_core.views import figures
from dynat_core.views.base import View
from dynat_core.views.words import number

HEIGHT = 230
LEAST = 1e-4  # relative FOSC and gradient norm at the lower end of the picture
_STYLES = {"ce": ("@ink", "solid", "cross-entropy"), "margin": ("@alarm", "dash", "margin loss")}


def views(result: Mapping[str, Any], samples: pd.DataFrame) -> list[tuple[View, str]]:
    """(picture, what it says) of every curve. samples: the measurement's table, one row per image."""
    steps, restarts = result["steps"], result["restarts"]
    sizes, radii = result["step_sizes"], result["radii"]
    return [
        (_steps(steps), f"{steps['ce']['sentence']} {steps['margin']['sentence']}"),
        (
            _curve("restarts", "Do more restarts break more?", restarts["restarts"], restarts, "restarts"),
            restarts["sentence"],
        ),
        (_sizes(sizes), sizes["sentence"]),
        (_radii(radii, result["eps"]), radii["sentence"]),
        (_losses(result["losses"], result["n"]), result["losses"]["sentence"]),
        (_fosc(samples), result["fosc"]["sentence"]),
        (_gap(samples), "The same attack from ten random starts; 0 means that every start ended equally far."),
    ]


def _accuracy_axis() -> dict[str, Any]:
    return figures.axis("right under the attack", (-0.02, 1.02), tickformat=".0%", nticks=5, fixedrange=True)


def _traces(
    x: Sequence[float], curve: Mapping[str, Any], style: tuple[str, str, str], names: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """A curve with the band of its 95 % intervals and what stands under the pointer. names: of the places, where they
    are no numbers."""
    color, dash, name = style
    said = names or [f"{v}" if isinstance(v, int) else number(v) for v in x]
    texts = [
        f"{name}: {v}: {100 * a:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        for v, a, low, high in zip(said, curve["accuracy"], curve["low"], curve["high"], strict=True)
    ]
    line = figures.line(x, curve["accuracy"], color, dash)
    line |= {"mode": "lines+markers", "text": texts, "hoverinfo": "text", "name": name}
    return [*figures.band(x, curve["low"], curve["high"], color), line]


def _named(texts: Sequence[tuple[str, str]], top: float = 1.0) -> list[dict[str, Any]]:
    """Names of the curves at the right edge from `top` down, in their colours, told apart by their dashes in words."""
    return [
        {"x": 1, "y": top - 0.1 * k, "xref": "paper", "yref": "paper", "xanchor": "right", "yanchor": "top",
         "showarrow": False, "text": text, "font": {"size": 11, "color": color}}
        for k, (text, color) in enumerate(texts)
    ]  # fmt: skip


def _steps(found: Mapping[str, Any]) -> View:
    data = [trace for loss in ("ce", "margin") for trace in _traces(found["k"], found[loss]["by"], _STYLES[loss])]
    xaxis = figures.axis("PGD steps of eps/4", type="log", tickmode="array", tickvals=[1, 2, 5, 10, 20, 50, 100, 200])
    notes = _named([("— cross-entropy", "@ink"), ("- - margin loss", "@alarm")], top=0.28)
    layout = figures.layout(xaxis, _accuracy_axis(), hovermode="closest", annotations=notes)
    title = "Do more steps break more? Never wrong up to step k"
    return View("steps", title, height=HEIGHT, fig={"data": data, "layout": layout})


def _curve(view: str, title: str, x: Sequence[float], curve: Mapping[str, Any], words: str, **axis: Any) -> View:
    data = _traces(x, curve, ("@ink", "solid", "cross-entropy"), axis.get("ticktext", ()))
    layout = figures.layout(figures.axis(words, **axis), _accuracy_axis(), hovermode="closest")
    return View(view, title, height=HEIGHT, fig={"data": data, "layout": layout})


def _sizes(found: Mapping[str, Any]) -> View:
    places = list(range(len(found["alpha"])))
    return _curve(
        "step-sizes", "Is the step size the right one?", places, found, "step size of PGD-20", tickmode="array",
        tickvals=places, ticktext=found["alpha"],
    )  # fmt: skip


def _radii(found: Mapping[str, Any], eps: float) -> View:
    view = _curve("radii", "Does a large radius break everything, as it must?", found["eps"], found, "eps, pixels")
    assert view.fig is not None
    rule = {"type": "line", "x0": eps, "x1": eps, "y0": 0, "y1": 1, "yref": "paper",
            "line": {"color": "@muted", "dash": "dot", "width": 1.4}}  # fmt: skip
    said = {"x": eps, "y": 1, "yref": "paper", "xanchor": "left", "yanchor": "top", "showarrow": False,
            "text": f" eps {eps:.3g}", "font": {"size": 11, "color": "@muted"}}  # fmt: skip
    floor = {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": 0, "y1": 0,
             "line": {"color": "@muted", "width": 1.4}}  # fmt: skip
    view.fig["layout"]["shapes"] = [rule, floor]
    view.fig["layout"]["annotations"] = [said]
    return view


def _losses(found: Mapping[str, Any], n: int) -> View:
    names = ["both", "only cross-entropy", "only margin loss", "neither"]
    counts = [found["both"], found["only_ce"], found["only_margin"], found["none"]]
    places = [len(names) - k for k in range(len(names))]
    bars = [
        {"type": "scatter", "mode": "lines", "x": [0, c / n], "y": [y, y], "line": {"color": "@ink", "width": 14},
         "hoverinfo": "skip"}
        for c, y in zip(counts, places, strict=True)
    ]  # fmt: skip
    notes = [
        {"x": c / n, "y": y, "xanchor": "left", "showarrow": False, "text": f" {c}",
         "font": {"size": 12, "color": "@ink"}}
        for c, y in zip(counts, places, strict=True)
    ]  # fmt: skip
    yaxis = figures.axis("", (0.4, len(names) + 0.6), tickmode="array", tickvals=places, ticktext=names,
                         fixedrange=True, showgrid=False)  # fmt: skip
    xaxis = figures.axis("share of the images that this fools", (0, 1.08), tickformat=".0%", nticks=5)
    layout = figures.layout(xaxis, yaxis, left=130, annotations=notes)
    title = "Do two losses fool the same images at equal cost?"
    return View("losses", title, height=HEIGHT, fig={"data": bars, "layout": layout})


def _fosc(samples: pd.DataFrame) -> View:
    rho, l1 = (samples[name].to_numpy(dtype=float) for name in ("relative_fosc", "gradient_l1"))
    fooled = samples["fooled_margin"].to_numpy(dtype=bool)
    known = ~np.isnan(rho) & (l1 > 0)
    traces = []
    for mask, symbol, color, name in (
        (known & ~fooled, "circle", "@ink/0.55", "not fooled"),
        (known & fooled, "x", "@alarm", "fooled"),
    ):
        texts = [f"image {k}, {name}" for k in samples["index"].to_numpy()[mask]]
        traces.append(
            {"type": "scatter", "mode": "markers", "name": name, "x": np.maximum(l1[mask], LEAST).tolist(),
             "y": np.maximum(rho[mask], LEAST).tolist(), "text": texts, "hovertemplate": "%{text}<extra></extra>",
             "marker": {"color": color, "symbol": symbol, "size": 6}}
        )  # fmt: skip
    span = (math.log10(LEAST) - 0.1, 0.4)
    ticks = {
        "tickmode": "array",
        "tickvals": [1e-4, 1e-3, 1e-2, 0.1, 1],
        "ticktext": ["≤ .0001", ".001", ".01", ".1", "1"],
    }
    layout = figures.layout(
        figures.axis("gradient norm (L1) at the end", type="log", nticks=6),
        figures.axis("relative FOSC left (no unit)", span, type="log", **ticks),
        left=62, hovermode="closest", annotations=_named([("● not fooled", "@ink"), ("× fooled", "@alarm")]),
    )  # fmt: skip
    title = "How much slope was left, and how steep was it? PGD-20, margin"
    return View("fosc", title, height=HEIGHT, fig={"data": traces, "layout": layout})


def _gap(samples: pd.DataFrame) -> View:
    gap = samples["restart_gap"].to_numpy(dtype=float)
    gap = np.sort(gap[~np.isnan(gap)])
    share = (np.arange(len(gap)) + 1) / max(len(gap), 1)
    data = [figures.line(gap.tolist(), share.tolist(), "@ink", "solid")]
    xaxis = figures.axis("largest minus smallest end margin over the restarts", rangemode="tozero")
    yaxis = figures.axis("share of images up to here", (0, 1.02), tickformat=".0%", nticks=5, fixedrange=True)
    title = "Do restarts end in the same place?"
    return View("restart-gap", title, height=HEIGHT, fig={"data": data, "layout": figures.layout(xaxis, yaxis)})
