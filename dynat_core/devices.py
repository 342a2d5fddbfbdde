"""Where computing happens."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from dynat_core.errors import DeviceError


def choose(name: str = "auto") -> torch.device:
    """The device called `name`: cpu, cuda, cuda:N, or auto, which is DYNAT_DEVICE if set, else a GPU when there is one.

    Raises DeviceError, with the devices that exist, if it is not there.
    """
    if name == "auto":
        name = os.environ.get("DYNAT_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    there = ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in there:
        raise DeviceError(
            f"The device {name} is not there; this machine has {', '.join(there)}. Choose one of them or auto."
        )
    _tf32(False)  # float32 means float32; torch shortens it in convolutions unless told
    return torch.device(wanted)


@contextlib.contextmanager
def shortened(allowed: bool) -> Iterator[None]:
    """Inside, if `allowed`, a GPU may multiply float32 with ten bits instead of 23 (TF32), which is several times as
    fast."""
    _tf32(allowed)
    try:
        yield
    finally:
        _tf32(False)


def _tf32(allowed: bool) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
