"""A picture without a cursor in words, for those who cannot see it: its question, its axes, and what stands on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dynat_core.views.base import View
from dynat_core.views.words import number, percent

FEW = 12  # points of a trace that are told one by one; of more the first, the middle and the last
MOST = 8  # traces that are told; the others are counted


def described(view: View) -> str:
    """The title, what the axes say, and of each curve or group of points what it shows; "" for a view without axes."""
    if view.fig is None:
        return ""
    layout = view.fig["layout"]
    across, up = layout.get("xaxis", {}), layout.get("yaxis", {})
    parts = [part for trace in view.fig["data"] if (part := _told(trace, across, up))]
    if not any(_says_itself(trace) for trace in view.fig["data"]):  # its numbers stand in the picture as words
        parts = [_line(note["text"]) for note in layout.get("annotations", [])] or parts
    if len(parts) > MOST:
        parts = [*parts[:MOST], f"and {len(parts) - MOST} more"]
    axes = [f"{where}: {_title(axis)}" for where, axis in (("across", across), ("up", up)) if _title(axis)]
    return f"{_sentence(view.title)} Chart, {', '.join(axes)}. {'; '.join(parts) or 'Nothing is drawn'}."


def _told(trace: Mapping[str, Any], across: Mapping[str, Any], up: Mapping[str, Any]) -> str:
    """One trace in words; "" for what only fills or frames."""
    x, y = list(trace.get("x", [])), list(trace.get("y", []))
    if not x or "fill" in trace or trace.get("line", {}).get("width") == 0:
        return ""
    name = _line(str(trace.get("name") or ""))
    texts = [_line(str(text)) for text in trace.get("text") or []]
    if texts and (len(texts) <= FEW or "lines" in trace["mode"]):
        picked = texts if len(texts) <= FEW else [texts[0], texts[len(texts) // 2], texts[-1]]
        return (_at(x[0], across) if len(x) == 1 else "") + ", ".join(picked)
    known = [(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None]
    if not known:
        return f"{name}: no points" if name else ""
    first, last = (known[0], known[-1]) if "lines" in trace["mode"] else (None, None)
    if first and last and not name and len(known) == 2 and first[1] == last[1]:  # a bar that lies down
        return f"{_at(first[1], up)}{_value(last[0], across)}"
    if first and last:
        ends = [f"{_value(a, across)} across, {_value(b, up)} up" for a, b in (first, last)]
        return f"{name + ': ' if name else ''}from {ends[0]} to {ends[1]}"
    xs, ys = [a for a, _ in known], [b for _, b in known]
    many = f"{name + ': ' if name else ''}{len(known)} point{'s' * (len(known) != 1)}"
    return f"{many}, {_span(xs, across)} across, {_span(ys, up)} up"


def _at(value: Any, axis: Mapping[str, Any]) -> str:
    """`both: ` where a tick of the axis gives the value a name."""
    names = dict(zip(axis.get("tickvals", ()), axis.get("ticktext", ()), strict=False))
    return f"{_line(str(names[value]))}: " if value in names else ""


def _value(value: float, axis: Mapping[str, Any]) -> str:
    return percent(value) if str(axis.get("tickformat", "")).endswith("%") else number(float(value))


def _span(values: Sequence[float], axis: Mapping[str, Any]) -> str:
    low, high = _value(min(values), axis), _value(max(values), axis)
    return low if low == high else f"{low} to {high}"


def _says_itself(trace: Mapping[str, Any]) -> bool:
    return bool(trace.get("text") or trace.get("name") or "lines" in trace["mode"])


def _title(axis: Mapping[str, Any]) -> str:
    return _line(str((axis.get("title") or {}).get("text") or ""))


def _sentence(title: str) -> str:
    words = _line(title)
    return words if words.endswith(("?", ".")) else f"{words}."


def _line(text: str) -> str:
    return " ".join(text.replace("<br>", " ").split())
