"""A view with the cursor at one place, as a plain plotly figure: for export, and as reference for the browser.

The moves, each a dict with `kind`, and where given `series`, `color` (token), `dash`, `x` and `y` (names of axes):
  bars   `arr` (n, bins) drawn in `boxes` [[left, right], ...] (default: those of the view's bins); with `share` the row
         is divided by its sum
  ecdf   the same array as a cumulative share; with `stair` it jumps in the middle of each box, for whole numbers
  rule   a vertical line at the cursor, or at `arr` (n,) where it is given; NaN: not drawn
  tick   a short mark at the top at `arr` (n,)
  dot    at (cursor, `arr` (n,))
  level  a horizontal line at the threshold slider's c; not part of a still
  trail  through the points `arr` (n, 2) up to the cursor, the dots growing with the step
  curve  through the points `arr` (n, points, 2) of that position; NaN breaks it
  spot   at the point `arr` (n, 2)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dynat_core.views import ramps
from dynat_core.views.base import GROUND, View
from dynat_core.views.figures import as_typed, literal

if TYPE_CHECKING:
    import plotly.graph_objects as go


def still(view: View, i: int, dark: bool = False) -> go.Figure:
    """Return `view` with the cursor at `i`. Raises ValueError for a view without a figure or picture."""
    import plotly.graph_objects as go  # takes half a second, and only exports and tests need it

    if view.picture is not None:
        frame = view.arrays[view.picture.arr][i]
        pixels = frame if frame.ndim == 3 else ramps.table(view.picture.colors)[frame]
        return go.Figure(go.Image(z=pixels), layout={"title": {"text": as_typed(view.title)}})
    if view.fig is None:
        raise ValueError(f"the view {view.id!r} is not a picture")
    fig = painted(literal(copy.deepcopy(dict(view.fig))), view.colors, dark)
    for fill in view.fills:
        fig["data"][fill["trace"]]["z"] = heat(view.arrays[fill["arr"]], fill["rows"])
    fig["layout"]["shapes"] = [*fig["layout"].get("shapes", []), *painted(shapes(view, i), view.colors, dark)]
    fig["layout"]["title"] = {"text": as_typed(view.title)}
    return go.Figure(fig)


def shapes(view: View, i: int) -> list[dict[str, Any]]:
    """Return the moving parts of `view` at cursor `i` as plotly layout shapes, colours still as tokens."""
    drawn: list[dict[str, Any]] = []
    for move in view.moves:
        if view.bins is not None and "boxes" not in move:
            move = {**move, "boxes": view.bins.scale.boxes.tolist()}
        drawn += _DRAW[move["kind"]](move, view.arrays, i)
    return drawn


def shares(row: np.ndarray) -> np.ndarray:
    """Counts (bins,) as shares of their sum; without any, zeros."""
    total = row.sum(dtype=np.float64)
    return row / total if total else np.zeros(len(row))


def heat(counts: np.ndarray, rows: list[int]) -> list[list[float | None]]:
    """Counts (n, bins) as a heat map's z: a row for each of `rows` (a bin, or -1 for a gap), a column per position."""
    share = np.stack([shares(row) for row in counts])
    return [[None] * len(counts) if row < 0 else [v or None for v in share[:, row].round(5).tolist()] for row in rows]


def painted(value: Any, colors: Mapping[str, tuple[str, str]], dark: bool) -> Any:
    """`value` with every colour token (`@name` or `@name/opacity`) in it replaced."""
    if isinstance(value, str) and value.startswith("@"):
        name, _, opacity = value[1:].partition("/")
        color = {**GROUND, **colors}[name][dark]
        red, green, blue = (int(color[k : k + 2], 16) for k in (1, 3, 5))
        return f"rgba({red},{green},{blue},{opacity or 1})"
    if isinstance(value, Mapping):
        return {key: painted(part, colors, dark) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [painted(part, colors, dark) for part in value]
    return value


def _axes(move: Mapping[str, Any]) -> dict[str, str]:
    return {"xref": move.get("x", "x"), "yref": move.get("y", "y")}


def _bars(move: Mapping[str, Any], arrays: Mapping[str, np.ndarray], i: int) -> list[dict[str, Any]]:
    row = arrays[move["arr"]][i]
    heights = shares(row) if move.get("share") else row.astype(np.float64)
    path, end = "", None
    for (left, right), height in zip(move["boxes"], heights.tolist(), strict=True):
        if end is not None and (height <= 0 or end != left):
            path, end = path + f"L{end},0", None
        if height > 0:
            path += (f"M{left},0" if end is None else "") + f"L{left},{height}L{right},{height}"
            end = right
    if end is not None:
        path += f"L{end},0"
    line = {"color": move["color"], "width": 1.6, "dash": move.get("dash", "solid")}
    return (
        [{"type": "path", "path": path, "fillcolor": f"{move['color']}/0.25", "line": line, **_axes(move)}]
        if path
        else []
    )


def _ecdf(move: Mapping[str, Any], arrays: Mapping[str, np.ndarray], i: int) -> list[dict[str, Any]]:
    reached = np.cumsum(shares(arrays[move["arr"]][i]))
    boxes = move["boxes"]
    path, before = f"M{boxes[0][0]},0", 0.0
    for (left, right), y in zip(boxes, reached.tolist(), strict=True):
        path += (
            f"L{(left + right) / 2},{before}L{(left + right) / 2},{y}L{right},{y}"
            if move.get("stair")
            else f"L{right},{y}"
        )
        before = y
    line = {"color": move["color"], "width": 2, "dash": move.get("dash", "solid")}
    return [{"type": "path", "path": path, "line": line, **_axes(move)}]


def _rule(move: Mapping[str, Any], arrays: Mapping[str, np.ndarray], i: int) -> list[dict[str, Any]]:
    at = float(arrays[move["arr"]][i]) if "arr" in move else float(i)
    if np.isnan(at):
        return []
    axis = move.get("y", "y")
    ends = {"y0": move.get("from", 0), "y1": 1, "yref": f"{axis} domain", "xref": move.get("x", "x")}
    line = {"color": move["color"], "width": move.get("width", 1.2), "dash": move.get("dash", "solid")}
    return [{"type": "line", "x0": at, "x1": at, "line": line, **ends}]


def _tick(move: Mapping[str, Any], arrays: Mapping[str, np.ndarray], i: int) -> list[dict[str, Any]]:
    return _rule({**move, "from": 0.93, "width": 3, "dash": "solid"}, arrays, i)


def _dot(move: Mapping[str, Any], arrays: Mapping[str, np.ndarray], i: int) -> list[dict[str, Any]]:
    at = float(arrays[move["arr"]][i])
    return [] if np.isnan(at) else [_circle(i, at, 5, move)]


def _trail(move: Mapping[str, Any], arrays: Mapping[str, np.ndarray], i: int) -> list[dict[str, Any]]:
    points = arrays[move["arr"]][: i + 1].tolist()
    path = "M" + "L".join(f"{x},{y}" for x, y in points)
    line = {"type": "path", "path": path, "line": {"color": move["color"], "width": 2}, **_axes(move)}
    last = max(len(arrays[move["arr"]]) - 1, 1)
    return [line, *(_circle(x, y, 2.5 + 4.5 * k / last, move) for k, (x, y) in enumerate(points))]


def _curve(move: Mapping[str, Any], arrays: Mapping[str, np.ndarray], i: int) -> list[dict[str, Any]]:
    path, pen = "", "M"
    for x, y in arrays[move["arr"]][i].tolist():
        if np.isnan(x) or np.isnan(y):
            pen = "M"
        else:
            path, pen = f"{path}{pen}{x},{y}", "L"
    line = {"color": move["color"], "width": move.get("width", 2.2), "dash": move.get("dash", "solid")}
    return [{"type": "path", "path": path, "line": line, **_axes(move)}] if path else []


def _spot(move: Mapping[str, Any], arrays: Mapping[str, np.ndarray], i: int) -> list[dict[str, Any]]:
    x, y = arrays[move["arr"]][i].tolist()
    return [] if np.isnan(x) or np.isnan(y) else [_circle(x, y, 5, move)]


def _level(move: Mapping[str, Any], arrays: Mapping[str, np.ndarray], i: int) -> list[dict[str, Any]]:
    return []


def _circle(x: float, y: float, radius: float, move: Mapping[str, Any]) -> dict[str, Any]:
    size = {"x0": -radius, "x1": radius, "y0": -radius, "y1": radius, "xsizemode": "pixel", "ysizemode": "pixel"}
    line = {"color": "@ink", "width": 1}
    return {
        "type": "circle",
        "xanchor": x,
        "yanchor": y,
        "fillcolor": move["color"],
        "line": line,
        **size,
        **_axes(move),
    }


_DRAW = {
    "bars": _bars,
    "ecdf": _ecdf,
    "rule": _rule,
    "tick": _tick,
    "dot": _dot,
    "trail": _trail,
    "curve": _curve,
    "spot": _spot,
    "level": _level,
}
