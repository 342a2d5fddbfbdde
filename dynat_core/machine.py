"""The devices of this machine, found without torch, and which of them a job may take."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import subprocess
import sys

from dynat_core.errors import ConfigError, shown

CPU_JOBS = "DYNAT_CPU_JOBS"  # how many jobs the CPU does side by side, each with its share of the threads

# In a process of its own: asking the driver leaves its threads behind, and a web server wants none of them.
_COUNT = """
import ctypes
driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
asked = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
print(count.value if asked else 0)
"""


def devices() -> list[str]:
    """Every device here: the GPUs, then the CPU, which works for those who ask for it by name. Raises ConfigError."""
    return [*(f"cuda:{n}" for n in range(gpu_count())), *_cpus()]


def is_cpu(device: str) -> bool:
    """Whether it is the CPU, or one of the places that it is divided into."""
    return device.partition(":")[0] == "cpu"


def cpu_jobs() -> int:
    """How many jobs the CPU does side by side: 1 unless DYNAT_CPU_JOBS says otherwise. Raises ConfigError.

    A small network hardly gains by a second thread, so two jobs of one thread each do more than one of two
    (docs/performance.md).
    """
    asked, most = os.environ.get(CPU_JOBS) or "1", os.cpu_count() or 1
    if not (asked.isascii() and asked.isdigit() and len(asked) < 10 and 1 <= int(asked) <= most):
        raise ConfigError(
            f"{CPU_JOBS} must be a whole number from 1 to {most}, the processors here (got {shown(asked)})."
        )
    return int(asked)


def seconds(variable: str, usual: float, least: float = 0.0, most: float = math.inf) -> float:
    """The seconds that an environment variable names, `usual` where it is empty. Raises ConfigError."""
    asked = os.environ.get(variable) or str(usual)
    try:
        found = float(asked)
    except ValueError:
        found = math.nan
    if not least <= found <= most:
        limits = f"from {least:g} to {most:g}" if math.isfinite(most) else f"{least:g} or more"
        raise ConfigError(f"{variable} must be a number of seconds, {limits}, such as {usual:g} (got {shown(asked)}).")
    return found


def cpu_threads() -> int | None:
    """The threads of each job on the CPU; None while it does one at a time, which takes what torch takes."""
    jobs = cpu_jobs()
    return None if jobs == 1 else (os.cpu_count() or jobs) // jobs


def _cpus() -> list[str]:
    """`cpu`, `cpu:2`, `cpu:3`: the places on the CPU, each for one job at a time."""
    return ["cpu", *(f"cpu:{n}" for n in range(2, cpu_jobs() + 1))]


def devices_for(asked: str) -> list[str]:
    """The devices a job that asks for `asked` may run on; the first one that is free is taken. Raises
    ConfigError."""
    if asked == "auto":
        asked = os.environ.get("DYNAT_DEVICE") or "auto"
    if asked in ("auto", "cuda"):
        gpus = [f"cuda:{n}" for n in range(gpu_count())]
        return gpus or (_cpus() if asked == "auto" else ["cuda:0"])
    return _cpus() if asked == "cpu" else [asked]


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
