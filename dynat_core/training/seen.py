"""What the training loop saw of the training images in one epoch: a column for each measure, filled batch by batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dynat_core.images.data import Split
from dynat_core.training.evaluate import table


class Seen:
    """columns: measure -> (n,) values of all training images; NaN, -1 or 0 where nothing was seen. rows: (n,) mask of
    the images that have a row of their own in the tables; only those know `clean_correct`."""

    def __init__(self, split: Split, rows: Tensor, more: tuple[str, ...]) -> None:
        """split: the training images, on the device. rows: there too. more: further measures that a strategy brings."""
        self.split, self.rows, self.more = split, rows, more
        self._rows_known = rows.cpu()  # a question that a device need not be asked
        self.columns = self._nothing()

    @property
    def with_row(self) -> Tensor:
        """(m,) positions in the split of the images that have a row."""
        return torch.nonzero(self.rows).flatten()

    def with_row_among(self, positions: Tensor) -> Tensor:
        """The places in `positions` (m,), which are on the CPU, of the images that have a row; on the device."""
        return torch.nonzero(self._rows_known[positions]).flatten().to(self.rows.device)

    def note(self, chosen: Tensor, found: Mapping[str, Tensor]) -> None:
        """Keep what was found, measure -> (m,), of the images at the positions `chosen` (m,)."""
        for name, values in found.items():
            self.columns[name][chosen] = values.to(self.columns[name].dtype)

    def forget(self) -> None:
        """A new epoch: nothing is seen."""
        self.columns = self._nothing()

    def table(self) -> pd.DataFrame:
        """The images that have a row, as a part of the epoch's table of samples."""
        rows = self.with_row
        head = {"index": self.split.index[rows], "label": self.split.labels[rows]}
        return table("train", head | {name: values[rows] for name, values in self.columns.items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """All columns, (n,) each, with `label` and `row`, as `summarise` takes them."""
        train = {name: values.cpu().numpy() for name, values in self.columns.items()}
        return train | {"label": self.split.labels.cpu().numpy(), "row": self.rows.cpu().numpy()}

    def _nothing(self) -> dict[str, Tensor]:
        n, nan, device = len(self.split), float("nan"), self.rows.device
        unknown = ("predicted", "steps_to_fool")
        real = ("fosc", "fosc_paper", "relative_fosc", "gradient_l1", "loss", "margin", *self.more)
        return {
            "clean_correct": torch.zeros(n, dtype=torch.bool, device=device),
            **{name: torch.full((n,), -1, dtype=torch.int16, device=device) for name in unknown},
            **{name: torch.zeros(n, dtype=torch.int16, device=device) for name in ("steps", "gradients")},
            **{name: torch.full((n,), nan, device=device) for name in real},
        }
