"""Fixed fine bins for every per-sample measure, the same in every run and epoch, so that histograms can be overlaid.

Counts for a measure have `len(edges) + 1` entries: below the first edge, one per bin, at or above the last edge. For
the logarithmic measures the first entry is the bin for zero (and for rounding just below zero, which is kept, not
clamped).
"""

from __future__ import annotations

import numpy as np

VERSION = 1
PER_DECADE = 20


def _log_edges(low: int, high: float) -> np.ndarray:
    """Edges 10**low .. high, PER_DECADE to each factor of ten; `high` itself is the last edge."""
    last = int(np.floor(np.log10(high) * PER_DECADE + 1e-9))
    edges = 10.0 ** (np.arange(low * PER_DECADE, last + 1) / PER_DECADE)
    return edges if np.isclose(edges[-1], high) else np.append(edges, high)


def _symmetric_log_edges(linear: float, high: float) -> np.ndarray:
    """Edges -high .. high: logarithmic outside +-`linear`, ten equal ones on each side within; 0 is an edge,
    so that fooled and not fooled never share a bin."""
    decades = np.log10(high / linear)
    outer = linear * 10.0 ** (np.arange(0, round(decades * PER_DECADE) + 1) / PER_DECADE)
    inner = linear * np.arange(1, 10) / 10
    positive = np.concatenate([inner, outer])
    return np.concatenate([-positive[::-1], [0.0], positive])


_COUNTED = np.arange(0, 102) - 0.5  # one bin for each whole number 0..100

BINS: dict[str, np.ndarray] = {
    "fosc": _log_edges(-6, 100.0),
    "fosc_paper": _log_edges(-6, 100.0),
    "kl_fosc": _log_edges(-6, 100.0),
    "relative_fosc": _log_edges(-4, 2.0),
    "loss": _log_edges(-6, 100.0),
    "margin": _symmetric_log_edges(0.1, 100.0),
    "steps": _COUNTED,
    "gradients": _COUNTED,
}


def count(measure: str, values: np.ndarray) -> np.ndarray:
    """Return the counts (len(edges) + 1,) int64 of `values` (any shape); NaN is left out, so the sum is n without NaN.

    Raises KeyError for an unknown measure.
    """
    edges = BINS[measure]
    values = np.asarray(values, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)


def quantile(measure: str, counts: np.ndarray, q: float) -> float:
    """Return the `q` quantile read off `counts` (len(edges) + 1,), linear within its bin; NaN when there are none.

    Below the first edge and above the last the edge itself is returned: the counts say no more.
    """
    return float(quantiles(measure, counts[None], q)[0])


def quantiles(measure: str, counts: np.ndarray, q: float) -> np.ndarray:
    """Return `quantile` of each row of `counts` (E, len(edges) + 1), (E,): all epochs of a long run at once."""
    edges = BINS[measure]
    cumulative = np.cumsum(counts, axis=1, dtype=np.float64)  # exact: counts of images stay far below 2**53
    total = cumulative[:, -1]
    sought = np.maximum(q * total, 0.5)  # q = 0 is the smallest value there is, not an empty bin before it
    place = (cumulative < sought[:, None]).sum(axis=1)  # the bin it lies in
    inside = np.clip(place, 1, len(edges) - 1)
    rows = np.arange(len(counts))
    below, held = cumulative[rows, inside - 1], counts[rows, inside]
    share = np.divide(sought - below, held, out=np.zeros(len(counts)), where=held > 0)
    values = edges[inside - 1] + share * (edges[inside] - edges[inside - 1])
    values = np.where(place == 0, edges[0], np.where(place >= len(edges), edges[-1], values))
    return np.where(total == 0, np.nan, values)
