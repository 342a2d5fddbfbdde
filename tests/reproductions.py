"""Reproductions of every target with runs of a second, worked on in one process, for the tests of `reproduce`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from dynat_core.paper import paper_runs, reproduce
from dynat_core.paper.paper_runs import Target, Wanted
from dynat_core.store.evaluations import waiting
from dynat_core.store.jobs import UNFINISHED
from dynat_core.store.runs import RunStore
from tests.running import in_child
from tests.shared import shared

TINY = {
    "epochs": 3, "data.train_size": 96, "data.test_size": 40, "data.validation_size": 20, "recording.test_images": 20,
    "recording.steps": 4, "recording.probes": 4, "recording.path_steps": 5, "recording.train_rows": 20,
}  # fmt: skip
TARGETS = (("table1", 2), ("table2", 2), ("figure1a", 2), ("figure1b", 1), ("figure2", 1), ("figure3", 2),
           ("figure4", 2), ("ablation", 2))  # fmt: skip


def tiny(one: Wanted) -> Wanted:
    """The wanted run, so short that it takes a second."""
    changes: dict[str, Any] = dict(TINY)
    if one.config.strategy.name == "dynamic":
        changes["strategy.T_control"] = 2
    if one.config.strategy.name == "fgsm-then-pgd":
        changes["strategy.switch"] = 1
    return replace(one, config=one.config.with_values(changes))


def tiny_runs(target: Target) -> list[Wanted]:
    """What `paper_runs.wanted` gives, in short."""
    return [tiny(one) for one in paper_runs.wanted(target)]


def work_here(store: Path) -> None:
    """Do the next job of the store in this process, as its worker would: measurements first, then the oldest run."""
    from dynat_core.work.worker import run_job

    runs = sorted(RunStore(store).list(), key=lambda run: (run.created, run.id))
    jobs = [job.folder for run in runs for job in waiting(run.folder)]
    jobs += [run.folder for run in runs if run.state in UNFINISHED]
    if jobs:
        run_job(jobs[0])


def reproduce_here(store: Path, target: Target, told: list[str] | None = None) -> Path:
    """`reproduce` with short runs and ladders of one start, everything in this process."""
    import torch

    from dynat_core.paper.black_box import transferred

    torch.set_num_threads(1)
    kept = reproduce.wanted, reproduce.ensure_worker, reproduce.full_ladder
    reproduce.wanted, reproduce.ensure_worker = tiny_runs, lambda folder: work_here(Path(folder))
    reproduce.full_ladder = lambda target: False
    try:
        return reproduce.reproduce(RunStore(store), target, transferred, (told if told is not None else []).append)
    finally:
        reproduce.wanted, reproduce.ensure_worker, reproduce.full_ladder = kept


def everything() -> Path:
    """A store in which every target was reproduced on the digits; made once for all test processes."""
    return shared("reproductions", _reproduce_everything)


def _reproduce_everything(store: Path) -> None:
    def work() -> None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of this short-lived process
        for part, seeds in TARGETS:
            reproduce_here(store, Target(part, "digits", 0.1, seeds))

    assert in_child(work, 1200) == 0  # some forty runs: a busy machine may take long over them
