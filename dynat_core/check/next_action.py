"""After a check: what would help the attack on which images, and that very thing done, compared image by image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import in_eval_mode
from dynat_core.attack.threat import Norm
from dynat_core.check.siege import SEARCH, Siege

MORE = 4  # times as many steps, restarts or queries


@dataclass(frozen=True)
class AgainStage:
    """How far it is, 0 to 1; the table only at the end."""

    share: float
    samples: pd.DataFrame | None = None


def again(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    before: pd.DataFrame,
    action: str,
    *,
    eps: float,
    norm: Norm,
    steps: int,
    restarts: int,
    seed: int,
    batch: int = 256,
) -> Iterator[AgainStage]:
    """Attack the images once more, one thing done differently, and set it beside what was known before.

    x (n, C, H, W), y (n,): the images `before` (n rows of a check's samples, all still standing) is about, on the
    model's device. action: "more steps" (four times as many), "smaller steps" (a quarter as long, down to eps/256),
    "more restarts" (four times as many, other starts), "random search" (four times as many queries, no gradient). The
    last stage has a row for each image: index, label, robust_before, robust_after, margin_before, margin_after,
    relative_fosc_before, relative_fosc_after (NaN once it is broken), broken_by. Raises ValueError for another action.
    """
    if action not in ("more steps", "smaller steps", "more restarts", "random search"):
        raise ValueError(f"there is no action {action}")
    more = action == "more steps"
    siege = Siege(model, x, y, eps, norm, steps=steps * MORE if more else steps, seed=seed, batch=batch)
    if action == "smaller steps":
        siege.refine()
    numbers = range(restarts, restarts * (1 + MORE)) if action == "more restarts" else range(restarts)
    yield from _quietly(siege, siege.measure_clean(), 0.0, 0.05)
    if action == "random search":
        found = np.zeros(len(x), dtype=bool)
        yield from _quietly(siege, siege.blind(found, SEARCH * MORE), 0.05, 0.95)
    else:
        for place, restart in enumerate(numbers):
            start = 0.05 + 0.94 * place / len(numbers)
            yield from _quietly(siege, siege.climb(restart), start, 0.94 / len(numbers))
    yield AgainStage(1.0, _table(siege, before))


def _quietly(siege: Siege, batches: Iterator[int], start: float, width: float) -> Iterator[AgainStage]:
    """Run an attack batch by batch; modes and gradients are put back between them."""
    while True:
        with in_eval_mode(siege.model), torch.no_grad():
            done = next(batches, None)
        if done is None:
            return
        yield AgainStage(min(0.99, start + width * done / max(len(siege.x), 1)))


def _table(siege: Siege, before: pd.DataFrame) -> pd.DataFrame:
    rho, robust = siege.rho.cpu().numpy(), siege.robust.cpu().numpy()
    kept = np.isnan(rho) & robust  # no gradient was followed, so what was known of it still holds
    return pd.DataFrame(
        {
            "index": before["index"].to_numpy(),
            "label": before["label"].to_numpy(),
            "robust_before": before["robust_correct"].to_numpy(),
            "robust_after": before["robust_correct"].to_numpy() & robust,
            "margin_before": before["margin"].to_numpy(),
            "margin_after": siege.margin.float().cpu().numpy(),
            "relative_fosc_before": before["relative_fosc"].to_numpy(),
            "relative_fosc_after": np.where(kept, before["relative_fosc"].to_numpy(), rho),
            "broken_by": siege.by,
        }
    )
