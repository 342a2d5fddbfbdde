"""One epoch of a network that was not trained here: everything a run records about it, without training images."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from dynat_core.config import RunConfig
from dynat_core.images.data import Split
from dynat_core.recorded.records import MEASURES, Histograms, Record, reached, summarise
from dynat_core.recorded.trajectories import Trajectories
from dynat_core.training.evaluate import recorded_paths, recorded_robustness


class MeasuredEpoch(NamedTuple):
    """What `RunWriter.epoch` takes, and what `RunWriter.finish` says of it."""

    record: Record
    table: pd.DataFrame
    counts: Histograms
    probes: Trajectories | None
    reached: dict[str, Any]


def measured_epoch(model: nn.Module, split: Split, config: RunConfig, epoch: int) -> MeasuredEpoch:
    """Attack every image of `split` as the recording settings say. The model must fit the pictures."""
    table = pd.concat(list(recorded_robustness(model, split, "test", config)), ignore_index=True)
    few = split[slice(0, config.recording.probes)]
    return from_table(table, epoch, recorded_paths(model, few, config) if len(few) else None)


def from_table(table: pd.DataFrame, epoch: int, probes: Trajectories | None = None) -> MeasuredEpoch:
    """The same from a table of samples that is there already."""
    record, counts = summarise(_no_training_images(), table.iloc[:0], table)
    return MeasuredEpoch(record | {"epoch": epoch, "best_epoch": epoch}, table, counts, probes, reached(epoch, table))


def _no_training_images() -> dict[str, np.ndarray]:
    """The training images' columns where there are none."""
    empty = np.zeros(0)
    whole = {name: empty for name in (*MEASURES, "gradient_l1", "steps", "gradients")}
    flags = {name: np.zeros(0, dtype=bool) for name in ("clean_correct", "row")}
    return whole | flags | {name: np.zeros(0, dtype=np.int64) for name in ("predicted", "label")}
