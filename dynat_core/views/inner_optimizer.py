"""The inner optimiser's screen: PGD, momentum PGD and a learned rule climbing on the same images, and the learned rule
as a curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dynat_core.views.base import SPARE, STRATEGIES, Note, Scene, Series, View, Words
from dynat_core.views.decades import decades, laid
from dynat_core.views.figures import axis, band, layout, line, listed
from dynat_core.views.words import number

RULES = ("pgd", "momentum", "learned")
PGD, MOMENTUM, LEARNED = range(3)
Measured = Mapping[str, Any]  # one model of the study that benchmarks/inner_optimizer.py writes


def series(model: Measured) -> tuple[Series, ...]:
    """The three rules, with the step sizes that were chosen."""
    alpha = model["alpha"]
    return (
        Series(f"PGD, step {alpha['pgd']}", STRATEGIES["standard"][:2], STRATEGIES["standard"][2]),
        Series(f"momentum PGD, step {alpha['momentum']}", SPARE[3][:2], "dot"),
        Series("learned rule", STRATEGIES["l2l"][:2], "solid"),
    )


def inner_optimizer(model: Measured, trained: int, images: str) -> Scene:
    """Return the scene; its cursor is the number of gradients spent. trained: steps that the rule was trained for.

    images: what the curves are medians of, in words.
    """
    rules = series(model)
    n = len(model["curves"]["pgd"]["loss"][0])
    views = [
        _climb(model, rules, trained, "loss", "Whose steps climb higher?", f"loss (nats), median of {images}"),
        _climb(model, rules, trained, "relative_fosc", "Who comes closer to a stationary point?",
               "relative FOSC, exact (box) form"),
        _rule(model, rules, n),
    ]  # fmt: skip
    labels = [f"{k} gradients" + (", past the trained steps" if k > trained else "") for k in range(n)]
    words = [Words([[sentence] for sentence in _sentences(model, trained, n)])]
    return Scene(n, "gradient", views, rules, words, labels, n - 1)


# --------------------------------------------------------------------------------------------------------- the climb


def _climb(model: Measured, rules: tuple[Series, ...], trained: int, measure: str, title: str, words: str) -> View:
    """Median and quartile band of a measure against gradient evaluations, on a logarithmic axis."""
    data: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    moves: list[dict[str, Any]] = [{"kind": "rule", "color": "@ink"}]
    notes, shown = [], []
    for k, name in enumerate(RULES):
        low, middle, high = (np.asarray(row, dtype=np.float64) for row in model["curves"][name][measure])
        shown += [low, high]
        at = list(range(len(middle)))
        data += [part | {"meta": k} for part in band(at, listed(laid(low)), listed(laid(high)), f"@s{k}")]
        data.append(line(at, listed(laid(middle)), f"@s{k}", rules[k].dash, 2.4, meta=k))
        arrays[f"{measure}-{k}"] = laid(middle).astype(np.float32)
        moves.append({"kind": "dot", "arr": f"{measure}-{k}", "color": f"@s{k}", "series": k})
        notes.append(Note([number(v, 3) for v in middle], k))
    n = len(arrays[f"{measure}-0"])
    up = decades(words, shown)
    across = axis("gradients spent on each image", (-0.4, n - 0.6), fixedrange=True, showgrid=False, tick0=0, dtick=5)
    frame = layout(across, up, left=62)
    frame |= _horizon(trained, above=measure != "loss")
    return View(
        measure, title, 6, 300, fig={"data": data, "layout": frame}, moves=moves, notes=notes, seek=True,
        arrays=arrays, colors=_colors(rules),
    )  # fmt: skip


def _horizon(trained: int, above: bool) -> dict[str, Any]:
    """The last step that the rule was trained for; its words stand where the curves do not, above or below them."""
    mark = {"type": "line", "x0": trained, "x1": trained, "y0": 0, "y1": 1, "yref": "y domain",
            "line": {"color": "@muted", "width": 1, "dash": "dot"}}  # fmt: skip
    words = {"text": f"the rule was trained for {trained} steps", "x": trained,
             "y": 0.97 if above else 0.03, "yref": "y domain", "yanchor": "top" if above else "bottom",
             "xanchor": "left", "xshift": 5, "showarrow": False,
             "font": {"size": 11, "color": "@muted"}}  # fmt: skip
    return {"shapes": [mark], "annotations": [words]}


# ------------------------------------------------------------------------------------------------- the rule as a curve


def _rule(model: Measured, rules: tuple[Series, ...], n: int) -> View:
    """What the rule makes of a gradient at the cursor's step: median and quartiles over pixels; PGD's beside it."""
    edges, rows = np.asarray(model["rule"]["edges"]), model["rule"]["quartiles"]
    bins = len(edges) - 1
    middle = (bins - 1) / 2
    at = np.arange(bins) - middle
    quartiles = np.array([[[np.nan if v is None else v for v in part] for part in row] for row in rows], dtype=float)
    if len(quartiles) < n:  # from the last point no step is taken
        quartiles = np.concatenate([quartiles, np.full((n - len(quartiles), bins, 3), np.nan)])
    arrays, moves = {}, []
    for q, width in ((0, 1.1), (2, 1.1), (1, 2.8)):
        points = np.stack([np.broadcast_to(at, quartiles.shape[:2]), quartiles[..., q]], axis=-1)
        arrays[f"rule-{q}"] = points.astype(np.float32)
        moves.append({"kind": "curve", "arr": f"rule-{q}", "color": f"@s{LEARNED}", "dash": "solid", "width": width,
                      "series": LEARNED})  # fmt: skip
    size = float(model["step"]["pgd"])
    sign = line([-middle - 0.5, 0, 0, middle + 0.5], [-size, -size, size, size], f"@s{PGD}", rules[PGD].dash, 2,
                meta=PGD)  # fmt: skip
    kept = [(k - middle - 0.5, _power(e)) for k, e in enumerate(edges) if _whole(e) and abs(e) > 2e-5]
    across = axis(
        "gradient of the loss in a pixel (nats per unit of pixel)",
        (-middle - 0.6, middle + 0.6),
        fixedrange=True,
        showgrid=False,
    )
    across |= {"tickmode": "array", "tickvals": [x for x, _ in kept] + [0.0], "ticktext": [t for _, t in kept] + ["0"]}
    up = axis("step, in units of eps", (-0.56, 0.56), fixedrange=True, nticks=6)
    note = Note([_rule_note(quartiles[k]) for k in range(n)], LEARNED)
    return View(
        "rule", "What does the rule make of a gradient at this step?", 12, 270,
        fig={"data": [sign], "layout": layout(across, up, left=62)}, moves=moves, notes=[note], arrays=arrays,
        colors=_colors(rules),
    )  # fmt: skip


def _rule_note(row: np.ndarray) -> str:
    known = row[~np.isnan(row[:, 1]), 1]
    if not len(known):
        return "no step is taken from the last point"
    return f"median step from {number(float(known.min()))} to {number(float(known.max()))} eps; thin: quartiles"


def _whole(edge: float) -> bool:
    """Every second power of ten, so that labels have room."""
    power = np.log10(abs(edge))
    return abs(power - round(power)) < 1e-6 and round(power) % 2 == 1


def _power(edge: float) -> str:
    return f"{'−' if edge < 0 else ''}{abs(edge):g}"


# ------------------------------------------------------------------------------------------------------- small pieces


def _sentences(model: Measured, trained: int, n: int) -> list[str]:
    lines = []
    names = ("PGD", "momentum PGD", "the learned rule")
    for k in range(n):
        said = []
        for name, words in zip(RULES, names, strict=True):
            loss, rho = (model["curves"][name][measure][1][k] for measure in ("loss", "relative_fosc"))
            said.append(f"{words} {number(loss, 3)} and {number(rho)}")
        past = f" The learned rule was trained for {trained} steps only." if k > trained else ""
        lines.append(f"After {k} gradients, median loss and relative FOSC: {'; '.join(said)}.{past}")
    return lines


def _colors(rules: tuple[Series, ...]) -> dict[str, tuple[str, str]]:
    return {f"s{k}": s.color for k, s in enumerate(rules)}
