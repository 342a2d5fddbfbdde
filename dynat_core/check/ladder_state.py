"""What an evaluation ladder knows between two batches: enough to go on after the process was killed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dynat_core.errors import DynatError
from dynat_core.recorded.packing import pack, unpack

MEASURED = ("margin", "fosc", "relative_fosc", "gradient_l1")
NOT_ATTACKED, BROKEN, STANDS = -1, 0, 1
_FORMAT = 1


class LadderError(DynatError):
    """A saved ladder cannot be read, or is not one of this model and these images."""


@dataclass(frozen=True)
class LadderState:
    """Everything that is known after a batch.

    table: one row per image: index (position), label, `correct/<rung>` (int8: -1 not attacked, 0 broken, 1 stands),
    broken_by (the rung that broke it first, "misclassified" for the clean image, "" none), margin (smallest seen: true
    logit minus best other), fosc, relative_fosc (both box form, of the margin loss), gradient_l1, all float32 at the
    point of that margin, NaN before the image was looked at. points: (n, C, H, W) float32, the strongest adversarial
    point of each image, the clean image while nothing broke it. queue: int32, positions that the present pass has
    still to attack. ends: (n,) float32, relative FOSC at the end points of the present rung, NaN where it has none.
    progress: JSON-able; what was asked, rung, pass and batch number, batch size, work done, and each rung's costs.
    """

    table: pd.DataFrame
    points: np.ndarray
    queue: np.ndarray
    ends: np.ndarray
    progress: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether no rung is left."""
        return self.progress["rung"] == len(self.progress["rungs"])

    def to_bytes(self) -> bytes:
        """The state as one blob (`packing.pack`): a JSON header and plain arrays."""
        names = ["", "misclassified", *self.progress["rungs"]]
        code = {name: number for number, name in enumerate(names)}
        arrays = {
            "label": self.table["label"].to_numpy(np.int32),
            "broken_by": np.array([code[name] for name in self.table["broken_by"]], np.uint8),
            "points": self.points,
            "queue": self.queue,
            "ends": self.ends,
        }
        arrays |= {name: self.table[name].to_numpy(np.float32) for name in MEASURED}
        for rung in self.progress["rungs"]:  # a blob has no signed bytes
            arrays[f"correct/{rung}"] = (self.table[f"correct/{rung}"].to_numpy(np.int8) + 1).astype(np.uint8)
        return pack({"format": _FORMAT, "names": names, "progress": self.progress}, arrays)

    @classmethod
    def from_bytes(cls, blob: bytes) -> LadderState:
        """The state that `to_bytes` wrote. Raises LadderError if the blob is cut short or is something else."""
        try:
            header, arrays = unpack(blob)
            if header["format"] != _FORMAT:
                raise ValueError(f"format {header['format']}")
            names, progress = header["names"], header["progress"]
            known = {name: arrays[name].copy() for name in (*MEASURED, "label")}
            known["broken_by"] = np.array(names, dtype=object)[arrays["broken_by"]]
            for rung in progress["rungs"]:
                known[f"correct/{rung}"] = arrays[f"correct/{rung}"].astype(np.int8) - np.int8(1)
            table = tabulated(known, progress["rungs"])
            return cls(table, arrays["points"].copy(), arrays["queue"].copy(), arrays["ends"].copy(), progress)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise LadderError("The saved state of the ladder is damaged; start the ladder again.") from error


def blank(labels: np.ndarray, x: np.ndarray, rungs: Iterable[str], progress: dict[str, Any]) -> LadderState:
    """The state before the first image was looked at. labels: (n,). x: (n, C, H, W) the clean images."""
    n = len(labels)
    known: dict[str, np.ndarray] = {name: np.full(n, np.nan, np.float32) for name in MEASURED}
    known |= {f"correct/{rung}": np.full(n, NOT_ATTACKED, np.int8) for rung in rungs}
    known |= {"label": labels.astype(np.int32), "broken_by": np.full(n, "", dtype=object)}
    everyone, nothing = np.arange(n, dtype=np.int32), np.full(n, np.nan, np.float32)
    return LadderState(tabulated(known, rungs), x.astype(np.float32), everyone, nothing, progress)


def tabulated(known: dict[str, np.ndarray], rungs: Iterable[str]) -> pd.DataFrame:
    """The columns of the table in their order, copied."""
    order = ["label", *(f"correct/{rung}" for rung in rungs), "broken_by", *MEASURED]
    index = {"index": np.arange(len(known["label"]), dtype=np.int32)}
    return pd.DataFrame(index | {name: known[name].copy() for name in order})
