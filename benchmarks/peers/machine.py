"""The machine that measures: its name, its versions, and how fast it multiplies large matrices."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


def about(threads: int) -> dict[str, Any]:
    """Processor, cores, load, versions."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": name or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "bfloat16_in_hardware": any("avx512_bf16" in line or "amx_bf16" in line for line in lines),
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": metadata.version("numpy"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def matrix_limit(precision: torch.dtype, device: str = "cpu", size: int = 2048, repeats: int = 5) -> float:
    """Operations per second of the best of several products of two square matrices."""
    a, b = (torch.randn(size, size, device=device).to(precision) for _ in range(2))
    taken = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        (a @ b)[0, 0].item()
        taken.append(time.perf_counter() - began)
    return 2 * size**3 / min(taken[1:])
