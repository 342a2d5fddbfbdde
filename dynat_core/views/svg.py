"""A view as SVG text, and pixels as PNG bytes: what stands in a file that opens anywhere, without a script.

Only what the views use is drawn: linear and logarithmic axes, curves, bands, dots, error bars, what moves in `still`.
Colours are either those of one theme, or CSS variables, so that a page of its own can follow the reader's theme.
"""

from __future__ import annotations

import base64
import math
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from dynat_core.views import ramps
from dynat_core.views.base import GROUND, View
from dynat_core.views.still import shapes
from dynat_core.views.words import number

DASH = {"dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "11 4", "longdashdot": "11 3 2 3"}
_DOWN = {"top": 10, "middle": 4, "bottom": -3}  # from an annotation's place to its baseline, in pixels
_POINT = re.compile(r"([ML])\s*(-?[\d.]+(?:e[+-]?\d+)?),(-?[\d.]+(?:e[+-]?\d+)?)")


def svg(view: View, i: int, *, width: int = 560, theme: str = "light") -> str:
    """The view with the cursor at `i` as one <svg> element with its title inside.

    theme: "light", "dark", or "both": colours that follow the page. Raises ValueError for a view without a figure or
    picture, and for a heat map.
    """
    ink = _Ink({**GROUND, **view.colors}, theme)
    height = view.height
    if view.picture is not None:
        size = view.picture.size
        height = round(width * size[0] / size[1])
        image = (
            f'<image width="{width}" height="{height}" style="image-rendering:pixelated" href="{picture(view, i)}"/>'
        )
        return _whole(view, image, width, height, ink)
    if view.fig is None or any(trace["type"] != "scatter" for trace in view.fig["data"]):
        raise ValueError(f"the view {view.id!r} is not drawn as SVG")
    layout = view.fig["layout"]
    frame = _Frame(layout, view.fig["data"], width, height)
    inside = "".join(_trace(view.fig["data"], k, frame, ink) for k in range(len(view.fig["data"])))
    moving = "".join(_shape(shape, frame, ink) for shape in [*layout.get("shapes", []), *shapes(view, i)])
    axes = "".join(_axis(name, frame, ink) for name in layout if re.fullmatch(r"[xy]axis\d*", name))
    notes = "".join(_annotation(note, frame, ink) for note in layout.get("annotations", []))
    return _whole(view, axes + inside + moving + notes, width, height, ink)


def picture(view: View, i: int) -> str:
    """The picture of a view at `i` as a data address of a PNG."""
    if view.picture is None:
        raise ValueError(f"the view {view.id!r} is not a picture")
    frame = np.asarray(view.arrays[view.picture.arr][i])
    return data_address(frame if frame.ndim == 3 else ramps.table(view.picture.colors)[frame])


def data_address(pixels: np.ndarray) -> str:
    """Pixels (H, W) or (H, W, 3) of uint8 as an address that holds the PNG itself."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def png(pixels: np.ndarray) -> bytes:
    """Pixels (H, W) or (H, W, 3) of uint8 as PNG bytes."""
    pixels = np.ascontiguousarray(pixels, dtype=np.uint8)
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()  # every row: filter 0, its bytes
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


# ------------------------------------------------------------------------------------------------------------- inside


@dataclass(frozen=True)
class _Ink:
    """Colour tokens as attributes of SVG."""

    colors: Mapping[str, tuple[str, str]]
    theme: str

    def __call__(self, attribute: str, token: str | None) -> str:
        """`fill="#0072B2" fill-opacity="0.3"`; nothing without a token."""
        if not token or not token.startswith("@"):
            return f'{attribute}="{token or "none"}"'
        name, _, opacity = token[1:].partition("/")
        part = f' {attribute}-opacity="{opacity}"' if opacity else ""
        return f'{attribute}="{self.plain(name)}"{part}'

    def plain(self, name: str) -> str:
        """A colour by name, as CSS."""
        return f"var(--{name})" if self.theme == "both" else self.colors[name][self.theme == "dark"]

    def variables(self) -> str:
        """The variables that the colours of both themes stand in."""
        return ";".join(f"--{name}:light-dark({light},{dark})" for name, (light, dark) in self.colors.items())


class _Frame:
    """Where data positions lie on the drawing."""

    def __init__(self, layout: Mapping[str, Any], data: Sequence[Mapping[str, Any]], width: int, height: int) -> None:
        self.layout = {name: _ranged(name, part, data) if "axis" in name else part for name, part in layout.items()}
        margin = layout["margin"]
        self.left, self.top = margin["l"], margin["t"]
        self.width, self.height = width - self.left - margin["r"], height - self.top - margin["b"]

    def axis(self, name: str) -> Mapping[str, Any]:
        """The axis called "x", "y2", ... ."""
        return self.layout[name[0] + "axis" + name[1:]]

    def ends(self, name: str) -> tuple[float, float]:
        """Pixels at which an axis begins and ends, in its own direction."""
        low, high = self.axis(name).get("domain", (0, 1))
        if name[0] == "x":
            return self.left + low * self.width, self.left + high * self.width
        return self.top + (1 - low) * self.height, self.top + (1 - high) * self.height

    def at(self, value: float, name: str) -> float:
        """The pixel of a value on an axis; `name` may also be "paper" or "y domain", 0 to 1."""
        if name in ("x paper", "y paper"):
            return self.left + value * self.width if name[0] == "x" else self.top + (1 - value) * self.height
        start, end = self.ends(name.partition(" ")[0])
        if name.endswith(" domain"):
            return start + value * (end - start)
        low, high = self.axis(name)["range"]
        return start + (_laid(float(value), self.axis(name)) - low) / (high - low) * (end - start)

    def x(self, value: float, ref: str = "x") -> str:
        return f"{self.at(value, 'x paper' if ref == 'paper' else ref):.1f}"

    def y(self, value: float, ref: str = "y") -> str:
        return f"{self.at(value, 'y paper' if ref == 'paper' else ref):.1f}"


def _laid(value: float, axis: Mapping[str, Any]) -> float:
    """A value as a position: on a logarithmic axis its logarithm."""
    return (math.log10(value) if value > 0 else -math.inf) if axis.get("type") == "log" else value


def _ranged(name: str, axis: Mapping[str, Any], data: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The axis with a range: its own, or what its traces reach."""
    if "range" in axis:
        return dict(axis)
    letter = name[0]
    found = [v for t in data if t.get(f"{letter}axis", letter) == name.replace("axis", "") for v in t[letter]]
    laid = [at for v in found if not _missing(v) and math.isfinite(at := _laid(float(v), axis))] or [0.0, 1.0]
    low, high = min(laid), max(laid)
    room = 0.05 * (high - low) or 0.5
    start = min(low, 0.0) if axis.get("rangemode") == "tozero" else low - room
    return {**axis, "range": [start, high + room]}


def _whole(view: View, content: str, width: int, height: int, ink: _Ink) -> str:
    style = f' style="{ink.variables()}"' if ink.theme == "both" else ""
    ground = "" if ink.theme == "both" else f'<rect width="100%" height="100%" fill="{_ground(ink.theme)}"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="sans-serif" font-size="11"{style}><title>{escape(view.title)}</title>'
        f"{ground}{content}</svg>"
    )


def _ground(theme: str) -> str:
    return "#12161c" if theme == "dark" else "#ffffff"


def _line(line: Mapping[str, Any], ink: _Ink) -> str:
    dash = DASH.get(line.get("dash", "solid"))
    kind = f' stroke-dasharray="{dash}"' if dash else ""
    return f'{ink("stroke", line.get("color"))} stroke-width="{line.get("width", 2)}"{kind}'


def _trace(data: Sequence[Mapping[str, Any]], k: int, f: _Frame, ink: _Ink) -> str:
    trace = data[k]
    refs = trace.get("xaxis", "x"), trace.get("yaxis", "y")
    points = _points(trace, f, refs)
    drawn = ""
    if trace.get("fill") == "tonexty" and k:
        drawn += _band(points, _points(data[k - 1], f, refs), trace, ink)
    if "lines" in trace.get("mode", "lines") and trace.get("line", {}).get("width", 2):
        runs = "".join("M" + "L".join(f"{x} {y}" for x, y in run) for run in _runs(points))
        drawn += f'<path d="{runs}" fill="none" {_line(trace.get("line", {}), ink)}/>' if runs else ""
    if "error_x" in trace:
        drawn += _error_bars(trace, f, refs, ink)
    if "markers" in trace.get("mode", ""):
        marker = trace.get("marker", {})
        symbols = marker.get("symbol", "circle")
        each = symbols if isinstance(symbols, list) else [symbols] * len(points)
        drawn += "".join(_mark(p, symbol, marker, ink) for p, symbol in zip(points, each, strict=True) if p)
    return drawn


def _mark(point: tuple[str, str], symbol: str, marker: Mapping[str, Any], ink: _Ink) -> str:
    """A dot: filled, hollow ("circle-open"), a cross ("x") or a diamond."""
    (x, y), radius, color = map(float, point), marker.get("size", 6) / 2, marker.get("color")
    outline = f'fill="none" stroke-width="2" {ink("stroke", color)}'
    if symbol == "x":
        r = 0.8 * radius
        return f'<path d="M{x - r} {y - r}L{x + r} {y + r}M{x - r} {y + r}L{x + r} {y - r}" {outline}/>'
    if symbol == "diamond":
        r = 1.2 * radius
        return f'<path d="M{x - r} {y}L{x} {y - r}L{x + r} {y}L{x} {y + r}Z" {ink("fill", color)}/>'
    fill = outline if symbol.endswith("-open") else ink("fill", color)
    return f'<circle cx="{x}" cy="{y}" r="{radius}" {fill}/>'


def _points(trace: Mapping[str, Any], f: _Frame, refs: tuple[str, str]) -> list[tuple[str, str] | None]:
    pairs = zip(trace["x"], trace["y"], strict=True)
    return [None if _missing(x) or _missing(y) else (f.x(x, refs[0]), f.y(y, refs[1])) for x, y in pairs]


def _missing(value: Any) -> bool:
    return value is None or math.isnan(value)


def _runs(points: Sequence[tuple[str, str] | None]) -> list[list[tuple[str, str]]]:
    """The points between gaps."""
    runs: list[list[tuple[str, str]]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _band(upper: list[Any], lower: list[Any], trace: Mapping[str, Any], ink: _Ink) -> str:
    both = [(u, v) for u, v in zip(upper, lower, strict=True) if u and v]
    if not both:
        return ""
    around = [u for u, _ in both] + [v for _, v in reversed(both)]
    path = "M" + "L".join(f"{x} {y}" for x, y in around) + "Z"
    return f'<path d="{path}" stroke="none" {ink("fill", trace.get("fillcolor"))}/>'


def _error_bars(trace: Mapping[str, Any], f: _Frame, refs: tuple[str, str], ink: _Ink) -> str:
    bars, drawn = trace["error_x"], ""
    style = _line({"color": bars.get("color"), "width": bars.get("thickness", 2)}, ink)
    for x, y, up, down in zip(trace["x"], trace["y"], bars["array"], bars["arrayminus"], strict=True):
        if not any(map(_missing, (x, y, up, down))):
            at, low, high = f.y(y, refs[1]), f.x(x - down, refs[0]), f.x(x + up, refs[0])
            cap = bars.get("width", 4)
            ends = "".join(f"M{end} {float(at) - cap:.1f}V{float(at) + cap:.1f}" for end in (low, high))
            drawn += f'<path d="M{low} {at}H{high}{ends}" fill="none" {style}/>'
    return drawn


def _shape(shape: Mapping[str, Any], f: _Frame, ink: _Ink) -> str:
    xref, yref = shape.get("xref", "x"), shape.get("yref", "y")
    line = _line(shape["line"], ink) if "line" in shape else 'stroke="none"'
    fill = ink("fill", shape.get("fillcolor"))
    if shape["type"] == "path":
        d = "".join(f"{pen}{f.x(float(x), xref)} {f.y(float(y), yref)}" for pen, x, y in _POINT.findall(shape["path"]))
        return f'<path d="{d}" {fill} {line}/>'
    if shape["type"] == "circle":
        x, y = f.x(shape["xanchor"], xref), f.y(shape["yanchor"], yref)
        return f'<circle cx="{x}" cy="{y}" r="{shape["x1"]}" {fill} {line}/>'
    x0, x1 = f.x(shape["x0"], xref), f.x(shape["x1"], xref)
    y0, y1 = f.y(shape["y0"], yref), f.y(shape["y1"], yref)
    return f'<path d="M{x0} {y0}L{x1} {y1}" fill="none" {line}/>'


def _annotation(note: Mapping[str, Any], f: _Frame, ink: _Ink) -> str:
    xref, yref = note.get("xref", "x"), note.get("yref", "y")
    x, y = float(f.x(_raw(note["x"], xref, f), xref)), float(f.y(_raw(note["y"], yref, f), yref))
    x, y = (
        x + note.get("xshift", 0),
        y - note.get("yshift", 0) + _DOWN.get(note.get("yanchor", "middle"), 4),
    )
    anchor = {"right": "end", "left": "start"}.get(note.get("xanchor", ""), "middle")
    fill = ink("fill", note.get("font", {}).get("color", "@muted"))
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {fill}>{escape(str(note["text"]))}</text>'


def _raw(value: float, ref: str, f: _Frame) -> float:
    """The value that an annotation means: on a logarithmic axis it gives the logarithm."""
    return 10.0**value if ref != "paper" and f.axis(ref).get("type") == "log" else value


def _axis(layout_name: str, f: _Frame, ink: _Ink) -> str:
    name = layout_name.replace("axis", "")
    axis, across = f.layout[layout_name], name[0] == "x"
    start, end = f.ends(name)
    other = f.ends(axis.get("anchor", "y" if across else "x"))
    muted, grid = ink("fill", "@muted"), ink("stroke", "@grid")
    drawn = ""
    for value, text in _ticks(axis):
        at = f.at(value, name)
        if not min(start, end) - 1 <= at <= max(start, end) + 1:
            continue
        if across:
            mark = f"M{at:.1f} {other[0]:.1f}V{other[1] if axis.get('showgrid', True) else other[0] + 4:.1f}"
            where = f'x="{at:.1f}" y="{other[0] + 15:.1f}" text-anchor="middle"'
        else:
            mark = f"M{other[0]:.1f} {at:.1f}H{other[1] if axis.get('showgrid', True) else other[0] - 4:.1f}"
            where = f'x="{other[0] - 6:.1f}" y="{at + 4:.1f}" text-anchor="end"'
        drawn += f'<path d="{mark}" fill="none" {grid}/><text {where} {muted}>{escape(text)}</text>'
    title = (axis.get("title") or {}).get("text", "")
    if title and across:
        middle, low = (start + end) / 2, other[0] + 33
        drawn += f'<text x="{middle:.1f}" y="{low:.1f}" text-anchor="middle" {muted}>{escape(title)}</text>'
    elif title:
        turn = f"translate(12 {(start + end) / 2:.1f}) rotate(-90)"
        drawn += f'<text transform="{turn}" text-anchor="middle" {muted}>{escape(title)}</text>'
    return drawn


def _ticks(axis: Mapping[str, Any]) -> list[tuple[float, str]]:
    if "tickvals" in axis:
        texts = axis.get("ticktext") or [f"{v:g}" for v in axis["tickvals"]]
        return [(float(v), str(t)) for v, t in zip(axis["tickvals"], texts, strict=True)]
    low, high = map(float, axis["range"])
    if axis.get("type") == "log":
        return [(v, number(v, 1)) for v in _decades(low, high, axis.get("nticks", 6))]
    step = float(axis.get("dtick") or _step(high - low, axis.get("nticks", 6)))
    first = math.ceil((low - axis.get("tick0", 0)) / step - 1e-9)
    last = math.floor((high - axis.get("tick0", 0)) / step + 1e-9)
    values = [axis.get("tick0", 0) + k * step for k in range(first, last + 1)]
    return [(v, _tick_words(v, step, axis.get("tickformat", ""))) for v in values]


def _decades(low: float, high: float, most: int) -> list[float]:
    """Powers of ten between two logarithms, about `most` of them; more digits of each power where they are too few."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    found: list[float] = []
    for digits in ((1,), (1, 2, 5), range(1, 10)):
        found = [m * 10.0**k for k in powers for m in digits if low <= k + math.log10(m) <= high]
        if len(found) > 1:
            break
    return found[:: max(1, math.ceil(len(found) / most))]


def _step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that gives at most `most` ticks."""
    power = 10.0 ** math.floor(math.log10(span / max(most, 1)))
    return next(power * m for m in (1, 2, 5, 10, 20) if span / (power * m) <= most)


def _tick_words(value: float, step: float, form: str) -> str:
    if form.endswith("%"):
        return f"{100 * value:.0f}%".replace("-", "−")
    return "0" if abs(value) < step / 100 else f"{round(value, 10):g}".replace("-", "−")
