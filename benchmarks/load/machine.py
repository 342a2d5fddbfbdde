"""What a measurement ran on."""

from __future__ import annotations

import os
import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any


def about() -> dict[str, Any]:
    """The machine, the versions, and how busy it was already."""
    model = "?"
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "when": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("streamlit", "websockets", "torch")},
        "load before": round(os.getloadavg()[0], 1),
    }


def on(core: int) -> tuple[str, ...]:
    """What starts a command on one core, where that can be said."""
    return ("taskset", "-c", str(core)) if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else ()
