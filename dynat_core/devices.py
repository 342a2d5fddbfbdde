"""Where computing happens."""

from __future__ import annotations

import os

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
    return torch.device(wanted)
