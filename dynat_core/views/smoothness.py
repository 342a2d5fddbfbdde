"""The smoothness screen: where the adversarial loss of a logistic model has a crease, and what smoothing does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dynat_core.theory.logistic import Logistic
from dynat_core.theory.probe import REACH, Probe
from dynat_core.views.base import SPARE, Note, Scene, Series, View, Words
from dynat_core.views.decades import decades, laid
from dynat_core.views.figures import axis, layout, line
from dynat_core.views.words import number

L2, LINF, SOFT_L2, SOFT_LINF = range(4)
SERIES = (
    Series("L2", SPARE[0][:2], "solid"),
    Series("L-inf", SPARE[1][:2], "dash"),
    Series("L2, smoothed", SPARE[2][:2], "dot"),
    Series("L-inf, smoothed", SPARE[3][:2], "longdashdot"),
)
# Directions as colours, the same at both ends; of about one lightness, so that only a crease makes an edge.
_WHEEL = ("#7fb2e5", "#b7a3e0", "#e59ab5", "#e8a97c", "#cdb75e", "#8fc28a", "#7fb2e5")

_WORDS_TALL = 0.064  # of the third picture's height: a line of words in it


def smoothness(probe: Probe, more: Sequence[View] = ()) -> Scene:
    """Return the scene; its cursor runs along the probe. more: views of all positions, below."""
    views = [_plane(probe, k) for k in (L2, LINF)]
    views += [_quotients(probe), _along(probe), *more]
    n = len(probe.at)
    labels = [f"weights {number(a)}, {number(b)}" for a, b in probe.thetas]
    return Scene(n, "place", views, SERIES, [Words([[s] for s in _sentences(probe)])], labels, n - 1)


# -------------------------------------------------------------------------------------------------------- the planes


def _plane(probe: Probe, k: int) -> View:
    """The gradient's direction over two weights, as a colour and as strokes; the probe's line with the cursor on it."""
    model, name = probe.models[k], SERIES[k].name
    at = np.linspace(-REACH, REACH, 48)  # an even number: no point lies on an axis
    grid = np.stack(np.meshgrid(at, at), axis=-1)
    turn = np.degrees(np.arctan2(*np.moveaxis(model.gradient(grid), -1, 0)[::-1]))
    wheel = [[j / (len(_WHEEL) - 1), color] for j, color in enumerate(_WHEEL)]
    bar = {"tickmode": "array", "tickvals": [-180, -90, 0, 90, 180], "ticktext": ["←", "↓", "→", "↑", "←"],
           "thickness": 9, "outlinewidth": 0, "tickfont": {"size": 12, "color": "@ink"}}  # fmt: skip
    ticks = at.round(4).tolist()
    data: list[dict[str, Any]] = [
        {"type": "heatmap", "x": ticks, "y": ticks, "z": turn.round(1).tolist(), "zmin": -180, "zmax": 180,
         "colorscale": wheel, "colorbar": bar, "hoverinfo": "skip"},
        {"type": "contour", "x": ticks, "y": ticks, "z": model.loss(grid).round(4).tolist(), "showscale": False,
         "contours": {"coloring": "none"}, "ncontours": 9, "line": {"color": "#ffffff", "width": 0.8},
         "hoverinfo": "skip"},
        _strokes(model),
        line(probe.thetas[[0, -1], 0].tolist(), probe.thetas[[0, -1], 1].tolist(), "@stroke", "dot", 1.6),
    ]  # fmt: skip
    span = (-REACH, REACH)
    frame = layout(
        axis("weight θ₁", span, fixedrange=True, showgrid=False, nticks=5),
        axis("weight θ₂", span, fixedrange=True, showgrid=False, nticks=5),
        left=46,
    )
    frame["margin"] |= {"r": 52}  # room for the key, so that Plotly does not move the plot
    tips = _arrows(probe, k)
    moves = [
        {"kind": "curve", "arr": f"arrow-{k}", "color": "@stroke", "width": 2.6},
        {"kind": "spot", "arr": "place", "color": "@path"},
    ]
    notes = [Note([f"gradient ({number(a)}, {number(b)})" for a, b in probe.gradients[k]])]
    return View(
        f"plane-{k}", f"{name}: where does the gradient turn at once?", 4, 300, fig={"data": data, "layout": frame},
        moves=moves, notes=notes, colors=_colors(),
        arrays={f"arrow-{k}": tips, "place": probe.thetas.astype(np.float32)},
    )  # fmt: skip


def _strokes(model: Logistic) -> dict[str, Any]:
    """Short strokes along the gradient, a dot at their tail: the colour's meaning without colour."""
    at = np.linspace(-REACH, REACH, 12)[1:-1]
    tails = np.stack(np.meshgrid(at, at), axis=-1).reshape(-1, 2)
    gradient = model.gradient(tails)
    heads = tails + 0.22 * gradient / np.maximum(np.linalg.norm(gradient, axis=-1, keepdims=True), 1e-12)
    x, y = (np.stack([tails[:, c], heads[:, c], np.full(len(tails), np.nan)], axis=1).ravel() for c in (0, 1))
    clean = [[None if np.isnan(v) else round(float(v), 3) for v in part] for part in (x, y)]
    dots = {"size": [3, 0, 0] * len(tails), "color": "@stroke/0.65"}
    return {"type": "scatter", "mode": "lines+markers", "x": clean[0], "y": clean[1], "hoverinfo": "skip",
            "line": {"color": "@stroke/0.65", "width": 1}, "marker": dots}  # fmt: skip


def _arrows(probe: Probe, k: int) -> np.ndarray:
    """An arrow of the gradient's direction and size at each place: (n, 5, 2), shaft and two barbs."""
    size = max(float(np.linalg.norm(g, axis=-1).max()) for g in probe.gradients[:2])
    way = probe.gradients[k] * (0.8 / size)
    heads = probe.thetas + way
    across = np.stack([-way[:, 1], way[:, 0]], axis=-1)
    barbs = [heads - 0.25 * way + sign * 0.14 * across for sign in (1, -1)]
    return np.stack([probe.thetas, heads, barbs[0], heads, barbs[1]], axis=1).astype(np.float32)


# --------------------------------------------------------------------------------------------------------- the lines


def _along(probe: Probe) -> View:
    """The gradient's component along the probe; a jump is a gap between two ends."""
    data: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    moves: list[dict[str, Any]] = [{"kind": "rule", "color": "@ink"}]
    notes, n = [], len(probe.at)
    half, places = n // 2, list(range(n))
    for k, series in enumerate(SERIES):
        values = probe.gradients[k] @ probe.direction
        drawn = [round(float(v), 5) for v in values]
        width = 2.6 if k in (L2, LINF) else 2
        if k in (L2, LINF) and probe.jumps[k] > 0:  # two ends with a gap between
            data.append(line([*places[:half], half - 0.5, *places[half:]], [*drawn[:half], None, *drawn[half:]],
                             f"@s{k}", series.dash, width, meta=k))  # fmt: skip
        else:
            data.append(line(places, drawn, f"@s{k}", series.dash, width, meta=k))
        arrays[f"along-{k}"] = values.astype(np.float32)
        moves.append({"kind": "dot", "arr": f"along-{k}", "color": f"@s{k}", "series": k})
        notes.append(Note([number(v) for v in values], k))
    shown = np.arange(-2, 2.1, 0.5)
    ticks = np.interp(shown, probe.at, places)
    across = axis("place on the probe: distance from the crease", (-0.5, n - 0.5), fixedrange=True, showgrid=False)
    across |= {"tickmode": "array", "tickvals": ticks.tolist(), "ticktext": [number(float(s)) for s in shown]}
    crease = {"type": "line", "x0": half - 0.5, "x1": half - 0.5, "y0": 0, "y1": 1, "yref": "y domain",
              "line": {"color": "@muted", "width": 1, "dash": "dot"}}  # fmt: skip
    said = f"jump: {number(probe.jumps[L2])} (L2), {number(probe.jumps[LINF])} (L-inf)<br>closed form, along the probe"
    words = {"text": said, "x": half - 0.5, "y": 0.02, "yref": "y domain", "xanchor": "left", "xshift": 6,
             "yanchor": "bottom", "align": "left", "showarrow": False,
             "font": {"size": 12, "color": "@ink"}}  # fmt: skip
    frame = layout(across, axis("gradient along the probe (nats)", None, fixedrange=True, nticks=6), left=62)
    frame |= {"shapes": [crease], "annotations": [words]}
    values = np.concatenate([g @ probe.direction for g in probe.gradients])
    room = 0.08 * float(np.ptp(values)) or 0.1
    frame["yaxis"]["range"] = [float(values.min()) - room, float(values.max()) + room]
    return View(
        "along", "Does the gradient jump on the way across, and does smoothing iron it out?", 12, 250, notes=notes,
        fig={"data": data, "layout": frame}, moves=moves, arrays=arrays, colors=_colors(), seek=True,
    )  # fmt: skip


def _quotients(probe: Probe) -> View:
    """||grad(+t) - grad(-t)|| / 2t against t: finite where the gradient is Lipschitz, like 1/t where it jumps."""
    places = laid(probe.distances).tolist()
    data: list[dict[str, Any]] = []
    for k, series in enumerate(SERIES):
        drawn = [None if np.isnan(v) else round(float(v), 4) for v in laid(probe.changes[k])]
        data.append(line(places, drawn, f"@s{k}", series.dash, 2.4, meta=k))
    known = [(probe.gamma, "@muted", f"smoothed: below γ = {number(probe.gamma)}")]
    if probe.ceiling is not None:
        known.append((probe.ceiling, f"@s{L2}", f"L2: below {number(probe.ceiling)}, closed form"))
    upward = decades("change of gradient (nats) per length", [*probe.changes, np.array([v for v, *_ in known])])
    levels = laid([value for value, *_ in known]).tolist()
    starts = [float(next(v for v in laid(change) if np.isfinite(v))) for change in probe.changes]
    words = []
    feet = apart(levels, starts, upward["range"], _WORDS_TALL * (upward["range"][1] - upward["range"][0]))
    for level, foot, (_, color, said) in zip(levels, feet, known, strict=True):
        data.append(line([places[0], places[-1]], [level, level], color, "dot", 1.2))
        words.append({"text": said, "x": places[0], "y": foot, "xanchor": "left", "xshift": 4, "showarrow": False,
                      "yanchor": "bottom", "font": {"size": 11, "color": "@muted"}})  # fmt: skip
    frame = layout(decades("t, distance from the crease", [probe.distances], showgrid=False), upward, left=62)
    frame["annotations"] = words
    note = Note(["between +t and −t; a lower bound of any Lipschitz constant"] * len(probe.at))
    return View(
        "quotients", "How fast does the gradient change?", 4, 300, notes=[note], fig={"data": data, "layout": frame},
        colors=_colors(),
    )  # fmt: skip


def apart(levels: Sequence[float], curves: Sequence[float], span: Sequence[float], tall: float) -> list[float]:
    """Where the words of each level begin, upwards by `tall`: at their line, or else at the nearest place inside `span`
    that neither a line, nor a curve, nor other words need."""
    feet: dict[int, float] = {}
    for k in sorted(range(len(levels)), key=lambda k: -levels[k]):
        taken = [*feet.values()]
        places = [levels[k], levels[k] - tall, *(foot + tall for foot in taken), *(foot - tall for foot in taken)]
        free = [
            foot
            for foot in places
            if span[0] <= foot <= span[1] - tall
            and not any(foot + 1e-9 < v < foot + tall - 1e-9 for v in (*levels, *curves))
            and all(abs(foot - other) > tall - 1e-9 for other in taken)
        ]
        feet[k] = min(free or places, key=lambda foot: abs(foot - levels[k]))
    placed = sorted(feet.values())  # words of two lines that stand on each other: in the order of the lines
    return [placed[sorted(levels).index(level)] for level in levels]


def _colors() -> dict[str, tuple[str, str]]:
    return {f"s{k}": s.color for k, s in enumerate(SERIES)}


def _sentences(probe: Probe) -> list[str]:
    parts: Sequence[np.ndarray] = [g @ probe.direction for g in probe.gradients]
    lines = []
    for i, (a, b) in enumerate(probe.thetas):
        said = f"θ = ({number(a)}, {number(b)}): along the probe the gradient is {number(parts[L2][i])} (L2) and "
        said += (
            f"{number(parts[LINF][i])} (L-inf), smoothed {number(parts[SOFT_L2][i])} and {number(parts[SOFT_LINF][i])}."
        )
        if i == len(probe.at) // 2:
            changes = [number(float(p[i] - p[i - 1])) for p in (parts[L2], parts[LINF])]
            said += (
                f" Since the last place, on the other side of the crease, it changed by {changes[0]} and {changes[1]}."
            )
        lines.append(said)
    return lines
