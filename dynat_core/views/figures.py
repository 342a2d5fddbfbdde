"""Plain plotly layouts that the screens share: no grid lines where they say nothing, room for what must be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from dynat_core.views.scales import Scale

_TEXT = {"color": "@muted", "size": 12}
_NUMBERS = ("x", "y", "z")  # long, and nothing to read in them
_TEXTS = ("text", "ticktext", "name", "hovertext")  # what plotly reads as a small kind of HTML


def listed(values: np.ndarray) -> list[float | None]:
    """Values as a figure holds them, NaN and infinities left out."""
    return [round(float(v), 5) if np.isfinite(v) else None for v in values]


def literal(value: Any, key: str = "") -> Any:
    """A figure whose texts plotly shows as they are: a run may be called `<a href=...>`, or `@ink` like a colour.

    `<br>` still breaks a line. To be asked once, where a figure is handed to plotly.
    """
    if isinstance(value, str):
        return as_typed(value) if key in _TEXTS else value
    if isinstance(value, Mapping):
        return {name: literal(part, name) for name, part in value.items()}
    if isinstance(value, list | tuple) and not (key in _NUMBERS and not any(isinstance(v, str) for v in value[:1])):
        return [literal(part, key) for part in value]
    return value


def as_typed(text: str) -> str:
    """One text for plotly: what would be markup, a value of a hover template or a colour token is none of it."""
    shown = escape(text, quote=False).replace("&lt;br&gt;", "<br>").replace("%{", "%&#123;")
    return "&#64;" + shown[1:] if shown.startswith("@") else shown


def axis(title: str, span: Sequence[float] | None = None, **more: Any) -> dict[str, Any]:
    """A linear axis with its title close by, and only as much of a grid as `more` asks for."""
    base: dict[str, Any] = {
        "title": {"text": title, "standoff": 6, "font": _TEXT},
        "gridcolor": "@grid",
        "linecolor": "@grid",
        "zeroline": False,
        "tickfont": {"color": "@muted", "size": 11},
        "tickangle": 0,
    }
    return base | ({"range": list(span)} if span is not None else {}) | more


def laid(scale: Scale, upright: bool = False, room: int = 9, **more: Any) -> dict[str, Any]:
    """The axis of a scale, its ticks in words; about `room` ticks at most, the ends always among them."""
    ticks = list(scale.ticks)
    if len(ticks) > room:
        inner = ticks[1:-1]
        ticks = [ticks[0], *inner[len(inner) % 2 :: 2], ticks[-1]]
    values = {"tickmode": "array", "tickvals": [p for p, _ in ticks], "ticktext": [t for _, t in ticks]}
    return axis(scale.title, scale.span, fixedrange=not upright, showgrid=upright, **values, **more)


def epoch_axis(last: int, **more: Any) -> dict[str, Any]:
    """The epochs 0 .. last, whole numbers only."""
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000) if last / step <= 6)
    return axis("epoch", (-0.5, last + 0.5), showgrid=False, tick0=0, dtick=every, **more)


def layout(xaxis: dict[str, Any], yaxis: dict[str, Any], left: int = 50, top: int = 8, **more: Any) -> dict[str, Any]:
    """A layout without title, legend or background; those are the page's."""
    return {
        "margin": {"l": left, "r": 12, "t": top, "b": 42},
        "showlegend": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"size": 12, "color": "@ink"},
        "hovermode": False,
        "xaxis": xaxis,
        "yaxis": yaxis,
    } | more


def share_axis(title: str, top: float) -> dict[str, Any]:
    """A share of images from 0 to `top`, in percent."""
    return axis(title, (0, top), fixedrange=True, tickformat=".0%", nticks=5, rangemode="tozero")


def band(
    x: Sequence[float], low: Sequence[float | None], high: Sequence[float | None], color: str, **more: Any
) -> list[dict[str, Any]]:
    """The area between two curves as two traces; None (nothing measured) breaks it."""
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "type": "scatter", "x": list(x)}
    return [
        {**edge, "y": list(low), **more},
        {**edge, "y": list(high), "fill": "tonexty", "fillcolor": f"{color}/0.16", **more},
    ]


def line(
    x: Sequence[float], y: Sequence[float | None], color: str, dash: str, width: float = 2.2, **more: Any
) -> dict[str, Any]:
    """A curve in a series' colour and dash; a lone point shows as a dot."""
    mode = "lines+markers" if sum(v is not None for v in y) == 1 else "lines"
    style = {"line": {"color": color, "dash": dash, "width": width}, "marker": {"color": color, "size": 6}}
    return {"type": "scatter", "mode": mode, "x": list(x), "y": list(y), "hoverinfo": "skip", **style, **more}
