"""What the epochs screen knows of each run: its settings, its history, and what follows from the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dynat_core.config import L2L, Dynamic, RunConfig
from dynat_core.recorded.histograms import BINS
from dynat_core.views.base import Series
from dynat_core.views.distributions import Counted


class Recorded(Protocol):
    """What the screen reads of a run's history (runs.History)."""

    @property
    def epochs(self) -> np.ndarray: ...

    @property
    def counts(self) -> dict[str, np.ndarray]: ...

    def column(self, key: str) -> np.ndarray: ...


@dataclass(frozen=True)
class NamedHistory:
    """A run to draw. running: more epochs will come, up to config.epochs."""

    name: str
    history: Recorded
    config: RunConfig
    running: bool = False


@dataclass(frozen=True)
class EpochRun:
    """A run that has records; k: its place among the series."""

    k: int
    series: Series
    history: Recorded
    config: RunConfig

    def counts(self, key: str) -> Counted | None:
        rows = self.history.counts.get(key)
        return None if rows is None or not rows.any() else Counted(self.k, self.series, rows)

    @property
    def steps(self) -> int:
        return getattr(self.config.strategy, "steps", 0)

    @property
    def gradients(self) -> int:
        """Gradients that an image costs at most; 0 without an attack."""
        return getattr(self.config.strategy, "gradients", 0)

    @property
    def asking(self) -> int:
        """Gradients that it costs to find out that an image may stop."""
        return asking(self.config)

    @property
    def stop_form(self) -> str | None:
        """The form of FOSC whose unit c_t has; the code's form differs from the paper's by the start point alone."""
        strategy = self.config.strategy
        return ("box" if strategy.stop_form == "box" else "paper") if isinstance(strategy, Dynamic) else None

    @property
    def lost(self) -> np.ndarray:
        """(E,) whether the loss of an epoch is no number although others' are."""
        losses = [np.isfinite(self.history.column(key)) for key in ("train/loss", "test/loss")]
        return np.any([~known & known.any() for known in losses], axis=0)

    @property
    def broken(self) -> int | None:
        """The first epoch that is lost."""
        return int(self.lost.argmax()) if self.lost.any() else None


def asking(config: RunConfig) -> int:
    """Gradients an image costs beyond one for each step: 1 for Dynamic, to find out that it may stop, and for L2L,
    whose attacker learns from the end point; 0 where the steps are settled before."""
    return int(isinstance(config.strategy, Dynamic | L2L))


def gradients(counts: np.ndarray, steps: int, asking: int = 1) -> np.ndarray:
    """Gradients an image cost on average at each epoch, (E,), from the counts (E, entries) of the steps it took.

    Stopping after s steps costs s + asking (the last one decides to stop); all `steps` cost `steps`: a check after the
    last step would decide nothing. What recording costs beyond that is not counted. Images that took more steps than
    there are bins for count as if they had taken all.
    """
    taken = np.append((BINS["steps"][:-1] + 0.5).astype(int), steps)
    cost = np.minimum(taken + asking, steps)
    rows = counts[:, 1:].astype(np.float64)
    total = rows.sum(axis=1)
    return np.divide(rows @ cost, total, out=np.full(len(rows), np.nan), where=total > 0)
