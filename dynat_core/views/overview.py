"""The overview screen's picture: how much slope is left after k steps of the attack, over all recorded images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dynat_core.recorded.trajectories import Trajectory
from dynat_core.views import pictures
from dynat_core.views.base import Note, Scene, View, Words, held, padded, styled
from dynat_core.views.curves import relative_top, step_axis
from dynat_core.views.figures import axis, band, layout, line, listed
from dynat_core.views.pictures import class_name
from dynat_core.views.words import number, percent


@dataclass(frozen=True)
class NamedPaths:
    """The recorded paths of one model. relative_fosc: (images, K+1), box form, NaN where the gradient is zero."""

    name: str
    strategy: str
    relative_fosc: np.ndarray


def overview(models: Sequence[NamedPaths], image: Trajectory | None = None, image_of: str = "") -> Scene:
    """Return the scene of the overview: medians and 10 to 90 % bands by step, and one image under the same cursor.

    image: the path that is shown as pictures; image_of: the name of its model.
    """
    n = max([m.relative_fosc.shape[1] for m in models] + ([len(image.z)] if image is not None else []), default=0)
    named = styled([(m.name, m.strategy) for m in models])
    series = [
        replace(s, until=m.relative_fosc.shape[1] - 1 if m.relative_fosc.shape[1] < n else None)
        for s, m in zip(named, models, strict=True)
    ]
    blocks = {"curve": 7, "image": 5} if image is not None else {"curve": 12}
    spread = [np.nanquantile(m.relative_fosc, (0.1, 0.5, 0.9), axis=0) for m in models]
    views = [_left(models, series, spread, n)]
    if image is not None:
        views.append(replace(pictures.clean(image, n, span=4, block="image"), title=f"Image {image.index}, clean"))
        views.append(pictures.now(image, n, span=4, block="image"))
        views.append(pictures.perturbation(image, n, span=4, block="image", times=4))
        views.append(_numbers(image, n, image_of))
    words = [Words([_words(models, spread, k) for k in range(n)])]
    labels = [f"step {k} of {n - 1}" for k in range(n)]
    return Scene(
        n, "step", views, series, words, labels, max(n - 1, 0), blocks=blocks, empty="No attack paths are recorded yet."
    )


def _left(models: Sequence[NamedPaths], series: Sequence[Any], spread: Sequence[np.ndarray], n: int) -> View:
    data: list[dict[str, Any]] = []
    moves: list[dict[str, Any]] = [{"kind": "rule", "color": "@ink"}]
    arrays, notes = {}, []
    for k, (low, middle, high) in enumerate(spread):
        steps = list(range(len(middle)))
        data += band(steps, listed(low), listed(high), f"@s{k}", meta=k)
        data.append(line(steps, listed(middle), f"@s{k}", series[k].dash, 2.8, meta=k))
        arrays[f"left-{k}"] = padded(middle.astype(np.float32), n)
        moves.append({"kind": "dot", "arr": f"left-{k}", "color": f"@s{k}", "series": k})
        notes.append(Note(held([f"median {number(float(m))}" for m in middle], n), k))
    highest = relative_top(max([1.0, *(float(np.nanmax(s[2])) for s in spread)]))
    upright = axis("relative FOSC, box form (no unit)", (-0.02, highest), nticks=6, fixedrange=True)
    sizes = dict.fromkeys(f"{len(model.relative_fosc):,}" for model in models)
    count = f"{' and '.join(sizes)} images, " if sizes else ""
    frame = layout(step_axis(max(n, 2)), upright, left=54)
    frame["annotations"] = [
        {
            "text": f"{count}line: median, band: 10 to 90 %",
            "x": 1,
            "y": 1,
            "xref": "paper",
            "yref": "paper",
            "xanchor": "right",
            "yanchor": "top",
            "showarrow": False,
            "font": {"size": 11, "color": "@muted"},
        }
    ]
    return View(
        "left",
        "How much slope is left after k steps?",
        12,
        300,
        "curve",
        fig={"data": data, "layout": frame},
        moves=moves,
        notes=notes,
        seek=True,
        arrays=arrays,
        colors={f"s{k}": s.color for k, s in enumerate(series)},
    )


def _numbers(image: Trajectory, n: int, image_of: str) -> View:
    lines = []
    for k in range(len(image.z)):
        best = int(image.predicted[k])
        fooled = f" instead of {class_name(image, image.label)}" if best != image.label else ""
        says = f"says {class_name(image, best)}{fooled}: {percent(float(image.probabilities[k, best]))}"
        left = float(image.relative_fosc[k])
        lines.append(f"{says}, loss {number(float(image.loss[k]))}, relative FOSC {number(left)}")
    title = f"{image_of} at this step" if image_of else "The model at this step"
    return View("numbers", title, 12, block="image", text="", notes=[Note(held(lines, n))])


def _words(models: Sequence[NamedPaths], spread: Sequence[np.ndarray], k: int) -> list[str]:
    head = f"After {k} step{'s' if k != 1 else ''}:" if k else "Before the first step:"
    left = [number(float(s[1][min(k, s.shape[1] - 1)])) for s in spread]
    said = [
        f"{m.name}: half of the images have a relative FOSC of at most {x} left."
        for m, x in zip(models, left, strict=True)
    ]
    return [head, *said]
