"""What the training loop tells as it goes: where it is, what an epoch showed, and the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from torch import Tensor

from dynat_core.recorded.records import Histograms, Record
from dynat_core.recorded.trajectories import Trajectories

State = tuple[dict[str, Tensor], dict[str, Any]]  # tensors on the CPU, and a JSON-able rest


@dataclass(frozen=True)
class Progress:
    """Between two batches. epoch: being trained, from 1; 0 while the untrained network is measured. `state()` is
    everything needed to go on from here."""

    epoch: int
    batch: int
    batches: int
    phase: Literal["train", "evaluate"]
    state: Callable[[], State]


@dataclass(frozen=True)
class EpochDone:
    """One epoch's record (flat, `split/measure`, None for what is unknown), rows, histograms, probes and weights (on
    the CPU)."""

    record: Record
    tables: pd.DataFrame
    histograms: Histograms
    probes: Trajectories | None
    weights: dict[str, Tensor]
    state: Callable[[], State]


@dataclass(frozen=True)
class Finished:
    """The end: summary of best and last, all test rows at both, the kept paths at the last epoch."""

    result: dict[str, Any]
    final_tables: dict[str, pd.DataFrame]
    paths: Trajectories | None
