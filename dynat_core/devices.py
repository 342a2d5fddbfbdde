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


SMALL = ("digits-cnn",)  # networks whose layers are done sooner than a second thread has woken up


def fit_threads(network: str, device: torch.device) -> None:
    """One thread for a small network on the CPU: with two that sleep while they wait for each other it took twice as
    long (benchmarks/cpu_jobs.py). OMP_NUM_THREADS, where it is set, has the last word."""
    if device.type == "cpu" and network in SMALL and not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1)


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
