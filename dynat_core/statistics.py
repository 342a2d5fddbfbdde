"""Intervals for counts of images."""

from __future__ import annotations

import math


def wilson(successes: float, n: float, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of the share `successes` / `n` (Wilson 1927's score interval); (nan, nan) without images."""
    if not n or math.isnan(successes) or math.isnan(n):
        return math.nan, math.nan
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def newcombe(a: float, n: float, b: float, m: float) -> tuple[float, float]:
    """The 95 % interval of the difference a/n - b/m of two shares (Newcombe 1998, method 10) of different images; it
    is wide for the same ones."""
    one, two = a / n, b / m
    (low, high), (below, above) = wilson(a, n), wilson(b, m)
    return one - two - math.hypot(one - low, above - two), one - two + math.hypot(high - one, two - below)
