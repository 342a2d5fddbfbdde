"""What the model says at each step, and where the attack went on a slice of the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dynat_core.views.base import Note, View, held, padded
from dynat_core.views.curves import Drawn, colors
from dynat_core.views.figures import axis, layout, listed
from dynat_core.views.pictures import class_name
from dynat_core.views.words import percent


def probabilities(paths: Sequence[Drawn], n: int, *, span: int, block: str, height: int) -> View:
    """The probability of each class, the true one outlined; two models stand side by side in each class."""
    first = paths[0].path
    classes = [class_name(first, k) for k in range(first.logits.shape[1])]
    arrays, moves, notes = {}, [], []
    width = 0.84 / len(paths)
    for at, p in enumerate(paths):
        boxes = [
            [round(k - 0.42 + at * width, 3), round(k - 0.42 + (at + 1) * width - 0.02, 3)] for k in range(len(classes))
        ]
        arrays[f"probabilities-{p.k}"] = padded(p.path.probabilities.astype(np.float32), n)
        moves.append({"kind": "bars", "arr": f"probabilities-{p.k}", "boxes": boxes, "color": p.color, "series": p.k})
        said = [f"true class {percent(float(q))}" for q in p.path.probabilities[:, first.label]]
        notes.append(Note(held(said, n), p.k))
    outline = {
        "type": "rect",
        "x0": first.label - 0.48,
        "x1": first.label + 0.48,
        "y0": 0,
        "y1": 1,
        "line": {"color": "@ink", "width": 1.4},
    }
    long = max(map(len, classes)) > 3
    across = axis(
        "class; the true one is outlined",
        (-0.6, len(classes) - 0.4),
        fixedrange=True,
        showgrid=False,
        tickmode="array",
        tickvals=list(range(len(classes))),
        ticktext=classes,
    ) | {"tickangle": -40 if long else 0}
    frame = layout(
        across, axis("probability", (0, 1.03), fixedrange=True, tickformat=".0%", nticks=4), shapes=[outline]
    )
    if long:
        frame["margin"] = {**frame["margin"], "b": 74}
    return View(
        "probabilities",
        "What does the model say?",
        span,
        height + (30 if long else 0),
        block,
        fig={"data": [], "layout": frame},
        moves=moves,
        notes=notes,
        arrays=arrays,
        colors=colors(paths),
    )


def plane(surface: Mapping[str, np.ndarray], path: Drawn, n: int, *, span: int, block: str, height: int) -> View:
    """The loss on a plane through the attack; the path is projected onto it, its dots grow with the step.

    surface: loss, margin (r, r) with rows along the second axis, axis (r,), path (K+1, 2), all lengths in eps.
    """
    at = [round(float(v), 4) for v in surface["axis"]]
    heights = np.asarray(surface["loss"], dtype=np.float64)
    data = [
        {
            "type": "heatmap",
            "x": at,
            "y": at,
            "z": [listed(row) for row in heights],
            "hoverinfo": "text",
            "zsmooth": "best",
            "hovertemplate": "cross-entropy %{z:.3g} nats<extra></extra>",
            "colorscale": "Cividis",
            "colorbar": {
                "title": {"text": "cross-entropy (nats)", "side": "right", "font": {"size": 11}},
                "thickness": 10,
                "tickfont": {"size": 10},
                "outlinewidth": 0,
            },
        }
    ]
    edge = np.asarray(surface["margin"], dtype=np.float64)
    if np.nanmin(edge) < 0 < np.nanmax(edge):
        border = {"coloring": "none", "start": 0, "end": 0, "size": 1, "showlabels": False}
        data.append(
            {
                "type": "contour",
                "x": at,
                "y": at,
                "z": [listed(row) for row in edge],
                "contours": border,
                "hoverinfo": "skip",
                "line": {"color": "#ffffff", "width": 1.5, "dash": "dot"},
                "showscale": False,
            }
        )
    points = padded(np.asarray(surface["path"], dtype=np.float32), n)
    frame = layout(
        axis("towards the end of the path (eps)", (at[0], at[-1]), showgrid=False),
        axis("across, as the first step went (eps)", (at[0], at[-1]), showgrid=False),
        left=56,
        hovermode="closest",
    )
    frame["margin"] = {**frame["margin"], "r": 74}
    note = Note(["a slice: the path is projected onto it; dotted: where it is fooled"] * n)
    return View(
        "plane",
        "Where does the path go?",
        span,
        height,
        block,
        fig={"data": data, "layout": frame},
        notes=[note],
        moves=[{"kind": "trail", "arr": "plane-path", "color": "@path"}],
        arrays={"plane-path": points},
        colors=colors([path]),
    )
