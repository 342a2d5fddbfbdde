"""When a batch does not fit into the device's memory, half of it is tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Outcome = TypeVar("Outcome")


def all_or_half(work: Callable[[Tensor], Outcome], who: Tensor) -> tuple[Tensor, Outcome]:
    """Do `work` on the positions `who`, or on their first half when memory runs out, and so on.

    Returns the positions that were worked on, and what came out. `work` is called afresh, so it must change nothing
    before it succeeds. Raises torch.OutOfMemoryError when not even one image fits.
    """
    while True:
        try:
            return who, work(who)
        except torch.OutOfMemoryError:
            if len(who) <= 1:
                raise
            who = who[: len(who) // 2]
            if who.device.type == "cuda":
                torch.cuda.empty_cache()
