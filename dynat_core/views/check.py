"""The check screen's pictures: the ladder of attacks, and where the images of a check ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dynat_core.views import figures
from dynat_core.views.base import View
from dynat_core.views.words import number, percent

SHORT = {
    "clean": "no attack",
    "noise": "noise",
    "fgsm": "FGSM",
    "pgd-10": "PGD-10",
    "pgd-20": "PGD-20",
    "cw-30": "C&W 30",
    "pgd-50x10-ce": "PGD-50 x 10, CE",
    "pgd-50x10-margin": "PGD-50 x 10, margin",
    "autoattack": "AutoAttack",
    "worst": "worst case",
}
LEAST = 0.001  # relative FOSC at the lower end of the picture
CONVERGED = 0.1  # relative FOSC, as in the verdict


def ladder(result: Mapping[str, Any]) -> View:
    """How many images each attack leaves, with 95 % intervals, weakest attack at the top; the worst case last.

    Filled: the attack's own accuracy. Hollow: what stands after it and everything above it.
    """
    worst = {"name": "worst", "words": "worst case over all attacks", "own": True, **result["worst"]}
    rungs = [*result["rungs"], worst]
    x, y, low, high, symbols, texts = [], [], [], [], [], []
    for k, rung in enumerate(rungs):
        x.append(rung["accuracy"])
        y.append(len(rungs) - k)
        low.append(rung["accuracy"] - rung["low"])
        high.append(rung["high"] - rung["accuracy"])
        symbols.append("diamond" if rung["name"] == "worst" else "circle" if rung["own"] else "circle-open")
        texts.append(
            f"{rung['words']}: {percent(rung['accuracy'], 1)} ({100 * rung['low']:.1f} to {100 * rung['high']:.1f})"
        )
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "error_x": {"type": "data", "symmetric": False, "array": high, "arrayminus": low, "color": "@ink", "width": 4,
                    "thickness": 1.4},
        "marker": {"color": "@ink", "size": 10, "symbol": symbols, "line": {"width": 1.8, "color": "@ink"}},
        "text": texts,
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip
    names = [SHORT.get(rung["name"], rung["name"]) for rung in rungs]
    yaxis = figures.axis(
        "", (0.4, len(rungs) + 0.6), tickmode="array", tickvals=y, ticktext=names, fixedrange=True, automargin=True
    )
    xaxis = figures.axis("share of the images that are right", (-0.02, 1.02), tickformat=".0%", nticks=6)
    layout = figures.layout(xaxis, yaxis, left=140, hovermode="closest")
    title = "What does each attack leave? Hollow: after everything above"
    return View("ladder", title, height=60 + 27 * len(rungs), fig={"data": [trace], "layout": layout})


def endings(samples: pd.DataFrame) -> View:
    """Where the main attack of a check left each image that it could not break: what is left of the slope against the
    distance to the decision."""
    standing = samples.loc[samples["robust_correct"].to_numpy(dtype=bool)]
    rho = standing["relative_fosc"].to_numpy(dtype=float)
    margin = standing["margin"].to_numpy(dtype=float)
    done = rho <= CONVERGED
    traces = []
    for mask, symbol, color, name in (
        (done, "circle", "@ink/0.55", "converged"),
        (~done, "x", "@alarm", "not converged"),
    ):
        numbers = standing["index"].to_numpy()[mask]
        texts = [
            f"image {k}: relative FOSC {number(float(r))}, margin {number(float(m))}"
            for k, r, m in zip(numbers, rho[mask], margin[mask], strict=True)
        ]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [None if np.isnan(v) else float(v) for v in margin[mask]],
                "y": [None if np.isnan(v) else max(float(v), LEAST) for v in rho[mask]],
                "marker": {"color": color, "symbol": symbol, "size": 7},
                "text": texts,
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    widest = max(float(np.nanmax(margin, initial=0.0)) * 1.05, 1e-3)
    line = {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": CONVERGED, "y1": CONVERGED,
            "line": {"color": "@muted", "dash": "dot", "width": 1.4}}  # fmt: skip
    said = {"x": 1, "xref": "paper", "y": math.log10(CONVERGED), "yanchor": "bottom", "xanchor": "right",
            "showarrow": False, "text": f"converged below {CONVERGED:g}",
            "font": {"size": 11, "color": "@muted"}}  # fmt: skip
    ticks = [LEAST, 0.01, 0.1, 1.0]
    layout = figures.layout(
        figures.axis("margin left (logits, 0 = fooled)", (0, widest)),
        figures.axis(
            "relative FOSC left (no unit)", (math.log10(LEAST) - 0.1, 0.4), type="log", tickmode="array",
            tickvals=ticks, ticktext=[f"≤ {LEAST:g}", *(f"{t:g}" for t in ticks[1:])],
        ),
        left=62, shapes=[line], annotations=[said], hovermode="closest",
    )  # fmt: skip
    title = "Had the attack finished on the images it could not break?"
    return View("endings", title, height=300, fig={"data": traces, "layout": layout})
