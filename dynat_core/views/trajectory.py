"""The trajectory screen: what an attack did to one image, step by step under one cursor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dynat_core.recorded.trajectories import Trajectory
from dynat_core.views import curves, pictures, plane
from dynat_core.views.base import Key, Scene, Switch, Threshold, View, Words, styled
from dynat_core.views.curves import Drawn
from dynat_core.views.pictures import class_name
from dynat_core.views.words import number, percent

_KEYS = (Key("ArrowUp", "previous image", "image-previous"), Key("ArrowDown", "next image", "image-next"))
_ABOUT = (
    "This answers for evaluation: the recorded attack, cut short. Training with another threshold would have led to "
    "another model, which this does not show."
)


def trajectory(
    path: Trajectory,
    other: Trajectory | None = None,
    *,
    names: Sequence[str] = (),
    strategies: Sequence[str] = (),
    surface: Mapping[str, np.ndarray] | None = None,
    form: str = "box",
    keys: Sequence[Key] | None = None,
) -> Scene:
    """Return the scene of one image's path; the curves of `other` (another model, the same image) are laid over it.

    names, strategies: of the one or two models; without them the run ids of the paths' settings are used. surface: the
    answer of the loss-slice analysis. keys: the page's own keys; default up, down and, with two models, M.
    """
    found = [path] if other is None else [path, other]
    runs = [str(t.settings.get("run") or f"model {k + 1}") for k, t in enumerate(found)]
    names = [*names, *runs[len(names) :]][: len(found)]
    kinds = [*strategies, *(_strategy(run) for run in runs[len(strategies) :])][: len(found)]
    n = max(len(t.z) for t in found)
    series = [
        replace(s, until=t.steps if len(t.z) < n else None)
        for s, t in zip(styled(list(zip(names, kinds, strict=True))), found, strict=True)
    ]
    drawn = [Drawn(k, s, t) for k, (s, t) in enumerate(zip(series, found, strict=True))]
    left = {"span": 6, "block": "pictures"}
    views = [pictures.clean(path, n, **left), pictures.now(path, n, **left), pictures.perturbation(path, n, **left)]
    views += [pictures.slope(path, n, name, **left) for name, _ in curves.FORMS]
    views.append(plane.probabilities(drawn, n, span=12, block="pictures", height=124))
    views += [curves.slope(drawn, n, name, block="curves", height=276) for name, _ in curves.FORMS]
    views.append(curves.loss(drawn, n, span=6, block="curves", height=146))
    views.append(curves.margin(drawn, n, span=6, block="curves", height=146))
    blocks = {"pictures": 5, "curves": 7}
    if surface is not None:
        views.append(plane.plane(surface, drawn[0], n, span=12, block="plane", height=330))
        blocks["plane"] = 5
    views.append(_threshold(drawn[0]))
    blocks["threshold"] = 7 if surface is not None else 12
    if keys is None:
        keys = (*_KEYS, *([Key("m", "swap the models", "swap-model")] if other is not None else []))
    words = [Words(_sentences(drawn, n, name), {"form": name}) for name, _ in curves.FORMS]
    switches = (Switch("form", "FOSC", curves.FORMS, form if form in dict(curves.FORMS) else "box", "r"),)
    labels = [f"step {k} of {n - 1}, relative FOSC {number(_at(drawn[0].relative('box'), k))}" for k in range(n)]
    return Scene(n, "step", views, series, words, labels, n - 1, switches, keys, blocks=blocks)


def _strategy(run: str) -> str:
    return next((name for name in ("unsecured", "standard", "dynamic") if name in run.lower()), run)


# ------------------------------------------------------------------------------------------------ the threshold slider


def stop_step(fosc: np.ndarray, c: float) -> int:
    """How many updates an attack that stops at FOSC <= c would make on a recorded path, given FOSC (K+1,) there.

    The first step is always taken, and after the last one the check decides nothing (Wang et al. 2019, Algorithm 1).
    """
    below = np.flatnonzero(fosc[1:-1] <= c)
    return int(below[0]) + 1 if len(below) else len(fosc) - 1


def _threshold(p: Drawn) -> View:
    names = {"relative": "relative FOSC", "box": "box FOSC", "paper": "paper FOSC"}
    given = {"relative": p.relative("box"), "box": p.fosc("box"), "paper": p.fosc("paper")}
    listed = {form: [float(v) if np.isfinite(v) else None for v in values] for form, values in given.items()}
    box = Threshold(listed, names, [_outcome(p.path, s) for s in range(p.path.steps + 1)], _ABOUT)
    return View("threshold", "Where would Dynamic have stopped?", 12, 120, "threshold", threshold=box)


def _outcome(path: Trajectory, s: int) -> str:
    """What stopping after `s` updates means, beside the whole attack."""
    total = path.steps

    def end(k: int) -> str:
        fooled = int(path.predicted[k]) != path.label
        says = f"{'fooled, it says' if fooled else 'not fooled, it says'} {class_name(path, int(path.predicted[k]))}"
        return f"loss {number(float(path.loss[k]))}, {says}"

    if s >= total:
        return f"It would not have stopped before the last step: {total} gradients, {end(total)}."
    cost = f"{s} of {total} steps, {s + 1} gradients instead of {total}"
    return f"Stopped after {cost}: {end(s)}. All {total} steps: {end(total)}."


# ------------------------------------------------------------------------------------------------------------ words


def _sentences(drawn: Sequence[Drawn], n: int, form: str) -> list[list[str]]:
    lines = []
    for k in range(n):
        parts = [f"Step {k}:" if k else "Step 0, where the attack starts:"]
        for p in drawn:
            if k > p.path.steps:
                parts.append(f"{p.series.name} ended after {p.path.steps} steps and stays there.")
            else:
                parts.append(_words(p, k, form) if p.k == 0 else f"{p.series.name}: {_beside(p, k, form)}.")
        lines.append(parts)
    return lines


def _words(p: Drawn, k: int, form: str) -> str:
    path = p.path
    if path.gradient_l1[k] == 0:
        stuck = "the gradient is zero on this image; the attack cannot move"
        advice = " Try the margin loss." if path.settings.get("loss", "ce") == "ce" else ""
        return f"{stuck}. It says {_said(path, k)}.{advice}"
    left = f"relative FOSC is {number(p.relative(form)[k])}{_change(p, k, form)}"
    return f"{left}. It says {_said(path, k)}{_first(path, k)}."


def _change(p: Drawn, k: int, form: str) -> str:
    """How absolute FOSC changed, and why: relative FOSC times the gradient's reach, so a rise has one cause or both."""
    now = p.fosc(form)[k]
    said = f"{form} FOSC"
    if k == 0 or p.path.gradient_l1[k - 1] == 0:
        return f", {said} {number(now)}"
    before, ratio = p.fosc(form)[k - 1], float(p.path.reach[k] / p.path.reach[k - 1])
    if now > before * 1.005:
        if p.relative(form)[k] <= p.relative(form)[k - 1]:
            grown = f"{number(ratio)} times as large" if ratio > 1.05 else "larger where there is room"
            return f"; {said} rose to {number(now)} because the gradient grew ({grown})"
        return f"; {said} rose to {number(now)}, and relative FOSC with it: this step used up no slope"
    return f"; {said} {'fell to' if now < before * 0.995 else 'stayed at'} {number(now)}"


def _said(path: Trajectory, k: int) -> str:
    label = int(path.predicted[k])
    return f"{class_name(path, label)} ({percent(float(path.probabilities[k, label]))})"


def _first(path: Trajectory, k: int) -> str:
    first = path.steps_to_fool
    if first is None or k < first:
        return ""
    if k == first:
        return f" instead of {class_name(path, path.label)}: fooled for the first time"
    return ": fooled" if path.predicted[k] != path.label else ": right again, though fooled before"


def _beside(p: Drawn, k: int, form: str) -> str:
    left = "the gradient is zero" if p.path.gradient_l1[k] == 0 else f"relative FOSC {number(p.relative(form)[k])}"
    return f"{left}, says {_said(p.path, k)}"


def _at(values: np.ndarray, k: int) -> float:
    return float(values[min(k, len(values) - 1)])
