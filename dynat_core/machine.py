"""The devices of this machine, found without torch, and which of them a job may take."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import sys

# In a process of its own: asking the driver leaves its threads behind, and a web server wants none of them.
_COUNT = """
import ctypes
driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
asked = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
print(count.value if asked else 0)
"""


def devices() -> list[str]:
    """Every device here: the GPUs, then the CPU, which works for those who ask for it by name."""
    return [*(f"cuda:{n}" for n in range(gpu_count())), "cpu"]


def devices_for(asked: str) -> list[str]:
    """The devices a job that asks for `asked` may run on; the first one that is free is taken."""
    if asked == "auto":
        asked = os.environ.get("DYNAT_DEVICE") or "auto"
    if asked in ("auto", "cuda"):
        gpus = [f"cuda:{n}" for n in range(gpu_count())]
        return gpus or (["cpu"] if asked == "auto" else ["cuda:0"])
    return [asked]


@functools.cache
def gpu_count() -> int:
    """How many CUDA devices the driver shows a process; 0 without a driver."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    try:
        done = subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, text=True, timeout=60)
        return int(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0
