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


def score_difference(a: float, n: float, b: float, m: float, phi: float = 0.0) -> tuple[float, float]:
    """The 95 % interval of the difference a/n - b/m of two shares: Newcombe's hybrid of two score intervals (1998,
    Statistics in Medicine 17, method 10). phi: the correlation of the two over the same images; 0 for different
    ones."""
    one, two = a / n, b / m
    (low, high), (below, above) = wilson(a, n), wilson(b, m)
    ways = (one - low, above - two), (high - one, two - below)
    down, up = (math.sqrt(max(s * s - 2 * phi * s * t + t * t, 0.0)) for s, t in ways)
    return max(one - two - down, -1.0), min(one - two + up, 1.0)
