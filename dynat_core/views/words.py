"""Numbers in words, the same on every screen."""

from __future__ import annotations

import math

from dynat_core import statistics

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 2) -> str:
    """`value` with `digits` significant digits: 0.069, 12, 3.1·10⁻⁵; a missing one is an en dash.

    >>> number(0.0692), number(0.0), number(0.0000312)
    ('0.069', '0', '3.1·10⁻⁵')
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)))
    if power < -4:
        mantissa = f"{value / 10.0**power:.{digits - 1}f}"
        if mantissa.lstrip("-").startswith("10"):
            power, mantissa = power + 1, f"{value / 10.0 ** (power + 1):.{digits - 1}f}"
        return f"{mantissa}·10{raised(power)}".replace("-", "−")
    return f"{value:.{max(digits - 1 - power, 0)}f}".replace("-", "−")


def raised(power: int) -> str:
    """`power` as a superscript."""
    return str(power).translate(_RAISED)


def percent(share: float | None, digits: int = 0) -> str:
    """A share as `31 %`; a share that only rounds to 0 or to all is written `<1 %` or `>99 %`."""
    if share is None or math.isnan(share):
        return "–"
    shown = round(100 * share, digits)
    step = 10.0**-digits
    if shown <= 0 and share > 0:
        return f"<{step:.{digits}f} %"
    if shown >= 100 and share < 1:
        return f">{100 - step:.{digits}f} %"
    return f"{shown:.{digits}f} %"


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95 % interval (Wilson's score interval) of a share measured on `n` images; (nan, nan) without images."""
    return statistics.wilson(share * n, n)
