"""The SDE screen's small network: its loss step by step, and how far the equation is off for each step size."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynat_core.theory.small_network import Changes, Paths
from dynat_core.views.base import Note, View
from dynat_core.views.decades import decades, laid
from dynat_core.views.figures import axis, layout, line, listed
from dynat_core.views.sde import BLIND, EQUATION, PGD, RUNS, SERIES, colors, corner, step_axis
from dynat_core.views.words import number, percent


def network(paths: Paths, changes: Changes, eta: float, ascents: int) -> list[View]:
    """The two views, for the steps of `paths` as cursor positions."""
    return [_losses(paths, eta, ascents), _errors(changes, ascents, len(paths.measured))]


def _losses(paths: Paths, eta: float, ascents: int) -> View:
    """The clean loss of the run, of the equation and of a run with PGD."""
    n = len(paths.measured)
    steps = list(range(n))
    data: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    moves: list[dict[str, Any]] = [{"kind": "rule", "color": "@ink"}]
    notes = []
    shown = {RUNS: (paths.measured, 4.0), EQUATION: (paths.full, 2.2), BLIND: (paths.blind, 2.0)}
    if ascents:
        shown[PGD] = (paths.pgd, 2.0)
    for k, (values, width) in shown.items():
        color = f"@s{k}/0.45" if k == RUNS else f"@s{k}"  # the equation lies on it
        data.append(line(steps, listed(values), color, SERIES[k].dash, width, meta=k))
        arrays[f"network-{k}"] = values.astype(np.float32)
        moves.append({"kind": "dot", "arr": f"network-{k}", "color": f"@s{k}", "series": k})
        notes.append(Note([f"{v:.3f}" for v in values], k))
    top = 1.06 * max(float(values.max()) for values, _ in shown.values())
    frame = layout(step_axis(eta, n), axis("mean clean loss (nats)", (0, top), fixedrange=True, nticks=6))
    frame["annotations"] = [corner("8 tanh units, 60 threes and 60 eights, all of them in every step", 1.0, 1.0)]
    return View(
        "network", "Does the equation's drift predict a small network?", 7, 270, notes=notes, moves=moves, seek=True,
        fig={"data": data, "layout": frame}, arrays=arrays, colors=colors(),
    )  # fmt: skip


def _errors(changes: Changes, ascents: int, n: int) -> View:
    """|predicted / measured change of the loss per step - 1| against the step size."""
    found, at = changes.errors(), laid(changes.etas)
    data: list[dict[str, Any]] = []
    values = []
    notes = []
    for k, name in ((EQUATION, "full"), (BLIND, "blind"), (PGD, "pgd")):
        if k == PGD and not ascents:
            continue
        off = found[name]
        values.append(off)
        trace = line(at.round(5).tolist(), listed(laid(off)), f"@s{k}", SERIES[k].dash, 2.2, meta=k)
        data.append(trace | {"mode": "lines+markers", "marker": {"color": f"@s{k}", "size": 7}})
        ends = percent(float(off[0]), 1), percent(float(off[-1]), 2)
        said = f"off by {ends[0]} at η = {number(float(changes.etas[0]))}, {ends[1]} at {number(changes.etas[-1])}"
        notes.append(Note([f"{said}; order {abs(_slope(changes.etas, off)):.1f}"] * n, k))
    frame = layout(
        decades("step size η", [changes.etas], showgrid=False),
        decades(f"error of the change per step, to time {number(changes.time, 1)}", values),
        left=66,
    )
    return View(
        "network-errors", "By what share is its change of the loss wrong?", 5, 270, notes=notes,
        fig={"data": data, "layout": frame}, colors=colors(),
    )  # fmt: skip


def _slope(etas: np.ndarray, errors: np.ndarray) -> float:
    """Least squares, log against log."""
    return float(np.polyfit(np.log(etas), np.log(errors), 1)[0])
