"""What runs take on the disk, and what of it can be given back: the weights and tables of epochs that nobody needs.

Kept are the first, the best and the last epoch, also as of where an unfinished run goes on, every k-th if that is asked
for, and each that an evaluation is about.
Records and histograms always stay, so that every curve is whole. No torch here: screens import this.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynat_core.errors import ConfigError, RunError
from dynat_core.files import open_file, writing
from dynat_core.presets import PRESETS
from dynat_core.store.evaluations import FOLDER, evaluations
from dynat_core.store.jobs import Job
from dynat_core.store.layout import ENDINGS, RESUME, part
from dynat_core.store.run import Run

TABLES = ("samples", "probes")  # what else is kept of every epoch
_LONGEST_HEADER = 100_000_000  # bytes, as safetensors has it
_PARTS = (*ENDINGS, FOLDER)  # folders that are counted each


@dataclass(frozen=True)
class Plan:
    """What would be removed of a run. epochs: whose files these are. frees, left: bytes."""

    run: Run
    files: tuple[Path, ...]
    epochs: tuple[int, ...]
    frees: int
    left: int


def sizes(run: Run) -> dict[str, int]:
    """Bytes that a run takes, by part: samples, probes, paths, weights, evaluations, resume, rest."""
    found = dict.fromkeys((*_PARTS, "resume", "rest"), 0)
    for path, size in _files(str(run.folder)):
        first = path.partition(os.sep)[0]
        key = first if first in _PARTS else "resume" if path == RESUME else "rest"
        found[key] += size
    return found


def size(run: Run) -> int:
    """Bytes that a run takes."""
    return sum(sizes(run).values())


def words(size: int) -> str:
    """`34.2 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def is_shipped(run: Run) -> bool:
    """Whether this is one of the demo runs that came with Dynat: pruned only if it is named."""
    return run.id.startswith("demo-") and run.id in PRESETS


def plan(run: Run, keep_every: int | None = None, tables: bool = False) -> Plan:
    """What pruning would remove. keep_every: keep each k-th epoch too. tables: samples and probes as well as weights.

    Raises ConfigError for a keep_every below 1, RunError for a run that somebody works on or whose records cannot be
    read.
    """
    if keep_every is not None and keep_every < 1:
        raise ConfigError(f"Every k-th epoch is kept with k of 1 or more (got {keep_every}).")
    if run.running:
        raise RunError(f"{run.id} is running; stop it, or wait for its end, before it is pruned.")
    return _plan(run, keep_every, tables)


def prune(run: Run, keep_every: int | None = None, tables: bool = False) -> Plan:
    """Remove what `plan` says, for good; returns what was removed. Raises as `plan`, and JobError where the run cannot
    be written."""
    if not plan(run, keep_every, tables).files:
        return plan(run, keep_every, tables)
    with Job(run.folder).claim():  # nobody goes on with it meanwhile
        found = _plan(run, keep_every, tables)
        with writing(run.folder):
            for path in found.files:
                path.unlink(missing_ok=True)
    return found


def _plan(run: Run, keep_every: int | None, tables: bool) -> Plan:
    kept = _kept(run, keep_every)
    kinds = ("weights", *(TABLES if tables else ()))
    files = {
        path: epoch
        for kind in kinds
        for epoch in run.epochs_of(kind)
        if epoch not in kept and (path := part(run.folder, kind, epoch)).is_file()
    }
    frees = sum(path.lstat().st_size for path in files)
    return Plan(run, tuple(files), tuple(sorted({*files.values()})), frees, size(run) - frees)


def _kept(run: Run, keep_every: int | None) -> set[int]:
    """The epochs that stay. Raises RunError where they cannot be known."""
    if run.state == "broken":
        raise RunError(run.problem or f"{run.id} is broken.")
    last = run.last_record()
    if last is None or not isinstance(last.get("epoch"), int):
        if run.epochs_of("weights") and run.kind == "training":
            raise RunError(
                f"{run.id} has no readable record, so it is not known which epochs to keep; nothing is pruned."
            )
        return {0}
    asked = {one.epoch for one in evaluations(run.folder)}
    every = range(0, last["epoch"] + 1, keep_every) if keep_every else ()
    ends = [last, *_gone_on_from(run)]
    kept = {epoch for record in ends for epoch in (record["epoch"], record.get("best_epoch") or 0)}
    return {0, *kept, *every, *(e for e in asked if isinstance(e, int))}


def _gone_on_from(run: Run) -> list[dict[str, Any]]:
    """The record after which an unfinished run goes on, or none: a process that was killed just after a record left its
    file to resume from one epoch behind. Raises RunError for a file that does not say."""
    try:
        with open_file(run.folder / RESUME) as file:  # a header's length, and the header, which is JSON
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), _LONGEST_HEADER)))
        recorded = int(header["__metadata__"]["recorded"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(
            f"{run.id} has a {RESUME} that cannot be read, so it is not known which epochs to keep; nothing is pruned."
        ) from error
    return [record for record in run.records() if record["epoch"] == recorded]


def _files(folder: str, below: str = "") -> Iterator[tuple[str, int]]:
    """(path below the folder, bytes) of every file; links count as themselves and are not followed."""
    try:
        with os.scandir(os.path.join(folder, below)) as entries:
            found = list(entries)
    except OSError:
        return
    for entry in found:
        path = os.path.join(below, entry.name)
        if entry.is_dir(follow_symlinks=False):
            yield from _files(folder, path)
        else:
            try:
                yield path, entry.stat(follow_symlinks=False).st_size
            except OSError:  # it has just been replaced
                continue
