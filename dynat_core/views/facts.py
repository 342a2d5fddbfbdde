"""What stands beside an accuracy, in words: its interval, what it cost, and values of settings."""

from __future__ import annotations

from typing import Any

from dynat_core.config import AttackedStrategy, RunConfig
from dynat_core.statistics import wilson
from dynat_core.views.words import number, percent


def share(correct: float, n: float) -> str:
    """`79.6 % (75.8 to 82.9)`."""
    low, high = wilson(correct, n)
    return f"{percent(correct / n, 1)} ({100 * low:.1f} to {100 * high:.1f})"


def cost_words(config: RunConfig, gradients: float | None) -> str:
    """`6.8 of 10`; `no attack` for clean training, a dash where it is not known."""
    if gradients is None:
        return "–"
    most = config.strategy.gradients if isinstance(config.strategy, AttackedStrategy) else 0
    return f"{number(gradients)} of {most}" if most else "no attack"


def seconds_words(seconds: float | None) -> str:
    """`25 s`, a dash where it is not known."""
    return "–" if seconds is None else f"{number(seconds)} s" if seconds < 100 else f"{seconds:,.0f} s"


def value_words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(value_words, value)) or "–"
    return "–" if value is None else str(value)
