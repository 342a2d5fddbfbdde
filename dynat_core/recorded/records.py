"""One epoch's numbers: a flat record with keys `split/measure`, and counts on fixed bins. Plain arrays in, no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dynat_core.recorded.histograms import count

Record = dict[str, float | int | None]
Histograms = dict[str, list[int]]
MEASURES = ("fosc", "fosc_paper", "relative_fosc", "loss", "margin")


def summarise(
    train: Mapping[str, np.ndarray], validation: pd.DataFrame, test: pd.DataFrame, more: Sequence[str] = ()
) -> tuple[Record, Histograms]:
    """The record's measures and the histograms of an epoch.

    train: columns (n,) of the training images as the training loop saw them, with `label` and `row` (whether it has a
    row of its own; only those know `clean_correct`); predicted is -1 and measures are NaN where the end point was not
    measured. validation, test: one row per image. more: further measures of training images alone. Unknown values are
    None, so that a record is JSON.
    """
    known = train["predicted"] >= 0
    record: Record = {
        "train/n": int(known.sum()),
        "train/clean_accuracy": mean(train["clean_correct"][train["row"]]),
        "train/robust_accuracy": mean(train["predicted"][known] == train["label"][known]),
        "train/gradients": mean(train["gradients"]),
        "train/steps": mean(train["steps"]),
        "train/stopped_after_one": mean(train["steps"] == 1),
    }
    for split, frame in (("validation", validation), ("test", test)):
        record[f"{split}/n"] = len(frame)
        record[f"{split}/clean_accuracy"] = mean(frame["clean_correct"])
        record[f"{split}/robust_accuracy"] = mean(frame["predicted"] == frame["label"])
    histograms = {f"train/{name}": count(name, train[name]).tolist() for name in ("steps", "gradients")}
    tested = {name: test[name].to_numpy() for name in (*MEASURES, "gradient_l1")}
    for split, columns in (("train", train), ("test", tested)):
        record[f"{split}/loss"] = mean(columns["loss"])
        for name in (*MEASURES, *(more if split == "train" else ())):
            histograms[f"{split}/{name}"] = count(name, columns[name]).tolist()
            record |= {f"{split}/{name}_p{percent}": quantile(columns[name], percent) for percent in (10, 50, 90)}
        record[f"{split}/gradient_l1_p50"] = quantile(columns["gradient_l1"], 50)
    return record, histograms


def reached(epoch: int, table: pd.DataFrame) -> dict[str, Any]:
    """What an epoch reached on all images of `table`, as result.json has it."""
    n, clean = len(table), int(table["clean_correct"].to_numpy().sum())
    robust = int((table["predicted"].to_numpy() == table["label"].to_numpy()).sum())
    return {
        "epoch": epoch,
        "n": n,
        "clean_correct": clean,
        "robust_correct": robust,
        "clean_accuracy": clean / n,
        "robust_accuracy": robust / n,
    }


def mean(values: Any) -> float | None:
    """The mean of what is known (not NaN), None without anything."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    found = float(values.mean()) if len(values) else math.nan
    return found if math.isfinite(found) else None


def quantile(values: np.ndarray, percent: float) -> float | None:
    """The `percent` percentile of what is known (not NaN), None without anything."""
    values = values[~np.isnan(values)]
    found = float(np.percentile(values.astype(np.float64), percent)) if len(values) else math.nan
    return found if math.isfinite(found) else None
