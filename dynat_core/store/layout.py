"""Where everything lies in a run folder, and what must not lie there.

    epochs.jsonl            one flat record per epoch, keys `split/measure`; line 0 is the untrained network
    histograms.jsonl        one line per epoch: counts on the fixed bins of `histograms`
    samples/0007.parquet    one row per image; samples/best.parquet and last.parquet hold every test image
    probes/0007.parquet     the paths of the same few images at every epoch
    paths/0030.parquet      the paths of all test images at the last epoch
    weights/0007.safetensors, resume.safetensors, label.json, log.txt; the rest is the job's (see `jobs`)

No torch here: screens import this.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dynat_core.errors import RunError, shown

EPOCHS, HISTOGRAMS, RESUME, LOG = "epochs.jsonl", "histograms.jsonl", "resume.safetensors", "log.txt"
ENDINGS = {"samples": ".parquet", "probes": ".parquet", "paths": ".parquet", "weights": ".safetensors"}


def part(folder: Path, kind: str, epoch: int | str) -> Path:
    """Where the `kind` (a key of ENDINGS) of an epoch lies, or of "best" or "last" for samples."""
    if isinstance(epoch, str) and epoch not in ("best", "last"):
        raise RunError(f"There is no epoch {shown(epoch)}; give a number, best or last.")
    name = epoch if isinstance(epoch, str) else f"{epoch:04d}"
    return folder / kind / (name + ENDINGS[kind])


def is_number(name: str) -> bool:
    """Whether a file of this name, its ending left out, is of an epoch; `²` is a digit to Python, and no number."""
    return name.isascii() and name.isdigit()


def odd_entry(folder: Path) -> str | None:
    """The name of something in a run's or an evaluation's folder that is neither a file nor a folder of its own.

    A folder that came from elsewhere may hold links: what they lead to would be shown, and written to.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False) and not entry.is_dir(follow_symlinks=False):
                return entry.name
    return None
