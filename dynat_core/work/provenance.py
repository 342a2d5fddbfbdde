"""What a start of a run or of a measurement rests on: versions, device, threads, data, commit."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from subprocess import DEVNULL, SubprocessError, check_output
from typing import Any

import torch

from dynat_core.places import ROOT


def start_entry(device: str | None, data_hash: str | None = None) -> dict[str, Any]:
    """One line of starts.jsonl. device: None where a person's own program chooses it. data_hash: of the images, where
    they are a data set's."""
    versions = {"python": sys.version.split()[0]}
    for name in ("torch", "torchvision", "numpy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if device and device.startswith("cuda") else None,
        "threads": torch.get_num_threads(),
        "data_hash": data_hash,
        "commit": _commit(),
    }


@cache
def _commit() -> str | None:
    """The commit this code is at, with "-dirty" if it was changed since; None outside a repository."""
    if not (ROOT / ".git").exists():
        return None
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, SubprocessError):
        return None
    return (commit + "-dirty" * bool(changed)) or None


def _git(*words: str) -> str:
    """What git says, only looking: `describe --dirty` writes its index, and leaves a lock where a quota ends that."""
    command = ["git", "--no-optional-locks", "-C", str(ROOT), *words]
    return check_output(command, stderr=DEVNULL, timeout=10, text=True).strip()
