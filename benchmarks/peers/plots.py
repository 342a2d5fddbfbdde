"""The pictures of docs/performance.md, drawn from the results with the product's own views."""

from __future__ import annotations

import math
from typing import Any

from dynat_core.views.base import View
from dynat_core.views.figures import axis, layout
from dynat_core.views.svg import svg

WIDTH = 760
_OWN = "dynat"
_SIZES = (1, 2, 4, 8, 16, 32)  # of the growth plot's axis, times the smallest size


def pictures(found: dict[str, Any]) -> dict[str, str]:
    """{file name: SVG} of the throughput of every network, and of the growth curves."""
    names = list(dict.fromkeys(row["network"] for row in found["throughput"]))
    drawn = {f"throughput-{name}.svg": throughput(found, name) for name in names}
    return drawn | {"growth.svg": growth(found["growth"])}


def throughput(found: dict[str, Any], network: str) -> str:
    """Gradients per second of every loop on one network: a bar from 0 to the median, a line from slowest to fastest."""
    rows = [row for row in found["throughput"] if row["network"] == network]
    data: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        per = row["batch"] * row["steps"]
        low, high, middle = (per / row["seconds"][k] for k in ("high", "low", "median"))
        color = "@s0" if row["contender"].startswith(_OWN) else "@muted"
        bar = {"type": "scatter", "mode": "lines", "hoverinfo": "skip"}
        data.append({**bar, "x": [0, middle], "y": [-place, -place], "line": {"color": f"{color}/0.55", "width": 11}})
        data.append({**bar, "x": [low, high], "y": [-place, -place], "line": {"color": "@ink", "width": 2}})
    top = 1.04 * max(max(trace["x"]) for trace in data)
    ticks = {"tickvals": [-k for k in range(len(rows))], "ticktext": [row["contender"] for row in rows]}
    upward = axis("", (0.6 - len(rows), 0.6), showgrid=False, **ticks)
    across = axis("gradients of single images per second; the line: slowest to fastest repeat", (0, top), nticks=6)
    view = View(
        f"throughput-{network}", f"PGD-10 on the {network} network", 12, 70 + 24 * len(rows),
        fig={"data": data, "layout": layout(across, upward, left=150)}, colors={"s0": ("#0072B2", "#4DB1EC")},
    )  # fmt: skip
    return _file(svg(view, 0, width=WIDTH, theme="light"))


def growth(curves: list[dict[str, Any]]) -> str:
    """Time against each size, both as multiples of the smallest, on logarithmic axes; the dotted line grows in step."""
    styles = (("@s0", "solid"), ("@s1", "dash"), ("@s2", "dashdot"), ("@s3", "longdash"))
    data: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    reach = max(math.log2(c["points"][-1]["size"] / c["points"][0]["size"]) for c in curves)
    for (color, dash), curve in zip(styles, curves, strict=False):
        first = curve["points"][0]
        x = [math.log2(p["size"] / first["size"]) for p in curve["points"]]
        y = [math.log2(p["seconds"]["median"] / first["seconds"]["median"]) for p in curve["points"]]
        style = {"line": {"color": color, "dash": dash, "width": 2.2}, "marker": {"color": color, "size": 7}}
        data.append({"type": "scatter", "mode": "lines+markers", "x": x, "y": y, "hoverinfo": "skip", **style})
        words.append({"text": f"{curve['against']}: exponent {curve['exponent']:.2f}", "x": 0.0,
                      "y": reach - 0.32 * (len(words) + 0.6), "xanchor": "left", "yanchor": "middle",
                      "showarrow": False, "font": {"size": 12, "color": color}})  # fmt: skip
    data.append({"type": "scatter", "mode": "lines", "x": [0, reach], "y": [0, reach], "hoverinfo": "skip",
                 "line": {"color": "@muted", "dash": "dot", "width": 1.2}})  # fmt: skip
    ticks = {"tickvals": [math.log2(s) for s in _SIZES], "ticktext": [f"x {s}" for s in _SIZES]}
    span = (-0.1, reach + 0.15)
    low = min(-0.1, *(v - 0.1 for trace in data for v in trace["y"]))
    upward = axis("time, times the first", (low, span[1]), **ticks)
    frame = layout(axis("size, times the smallest", span, **ticks), upward)
    paints = ("#0072B2", "#D55E00", "#009E73", "#B0578D")
    colors = {f"s{k}": (paint, paint) for k, paint in enumerate(paints)}
    view = View(
        "growth", "How does time grow with each size?", 12, 330,
        fig={"data": data, "layout": frame | {"annotations": words}}, colors=colors,
    )  # fmt: skip
    return _file(svg(view, 0, width=WIDTH, theme="light"))


def _file(drawn: str) -> str:
    """An SVG element as a file of its own, with a ground of its own, since a reader's page may be dark."""
    drawn = drawn if "xmlns=" in drawn else drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return drawn.replace(">", '><rect width="100%" height="100%" fill="#FFFFFF"/>', 1) + "\n"
