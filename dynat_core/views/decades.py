"""Logarithmic axes laid out by hand, as every axis of a scene is linear in positions: log10 of the value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dynat_core.views.figures import axis
from dynat_core.views.words import number, raised

_ROOM = 0.06  # decades beyond the smallest and the largest value


def laid(values: np.ndarray | Sequence[float]) -> np.ndarray:
    """Positions of `values` on a logarithmic axis; what is not above 0 has none (NaN)."""
    values = np.asarray(values, dtype=np.float64)
    return np.log10(np.where(values > 0, values, np.nan))


def decades(title: str, values: Iterable[np.ndarray], **more: Any) -> dict[str, Any]:
    """An axis that holds all `values`: whole decades, or 1, 2, 5 of each where there are fewer than two."""
    found = np.concatenate([np.ravel(laid(v)) for v in values])
    found = found[np.isfinite(found)]
    low, high = (float(found.min()), float(found.max())) if len(found) else (-1.0, 1.0)
    span = (low - _ROOM, high + _ROOM)
    powers = range(math.ceil(span[0]), math.floor(span[1]) + 1)
    if len(powers) > 2:
        ticks = [(float(p), power(p)) for p in powers if (p - powers[0]) % math.ceil(len(powers) / 7) == 0]
    else:
        many = [(m, p) for p in range(powers.start - 1, powers.stop + 1) for m in (1, 2, 5)]
        ticks = [(math.log10(m) + p, number(m * 10.0**p, 1)) for m, p in many]
    ticks = [(at, words) for at, words in ticks if span[0] <= at <= span[1]]
    marks = {"tickmode": "array", "tickvals": [at for at, _ in ticks], "ticktext": [words for _, words in ticks]}
    return axis(title, span, fixedrange=True, **marks, **more)


def power(p: int) -> str:
    """10 to the power of `p`: as it is where it is short, else with a raised exponent."""
    return f"{10.0**p:g}" if -3 <= p <= 3 else f"10{raised(p)}"
