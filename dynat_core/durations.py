"""How long something takes, in words: the same on screens and at the command line."""

from __future__ import annotations

import math


def duration(seconds: float | None) -> str:
    """`1:10`, from an hour on `2 h 05 min`; an unknown one is an en dash."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = max(round(seconds), 0)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
