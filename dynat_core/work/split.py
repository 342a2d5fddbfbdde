"""One training run over several workers of a cluster, by Ray Train: each has its share of every batch.

How many share a run is how it is carried out, not what it is: run.json does not say it, starts.jsonl does. The first
worker holds the lease and writes; if any of them is lost, all end, and the run is handed out again from its last
checkpoint, to as many workers as there is room for then.
"""

from __future__ import annotations

import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from dynat_core.errors import DynatError
from dynat_core.store.jobs import Job
from dynat_core.store.layout import LOG
from dynat_core.store.run import Run
from dynat_core.store.workers import worker_folder
from dynat_core.work.worker import is_evaluation, run_job, share_job

_ALONE = ("curriculum", "l2l")  # what they learn from a batch as a whole is not put together from shares


def shares(folder: Path, workers: int) -> bool:
    """Whether `workers` can share the job in `folder`: a training run whose smallest batch has an image for each."""
    if is_evaluation(folder):
        return False
    run = Run(folder)
    try:
        config = run.config
    except DynatError:
        return False
    batch = min(config.optimizer.batch, config.train_size)
    rest = config.train_size % batch
    smallest = rest if rest > 1 else batch  # one that is left over joins its neighbour
    return run.kind == "training" and config.strategy.name not in _ALONE and smallest >= workers


def run_shared(folder: Path, device: str, workers: int, gpus: bool, environment: dict[str, str], seconds: float) -> str:
    """Train the run in `folder` on `workers` of the cluster; its state then. Raises what Ray raises if one is lost."""
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    os.environ["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"  # else what a worker prints is in the log twice
    asked = {
        "folder": str(folder), "device": device, "environment": environment, "seconds": seconds,
    }  # fmt: skip
    trainer = TorchTrainer(
        _share,
        train_loop_config=asked,
        scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=gpus),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        run_config=ray.train.RunConfig(
            name=folder.name,
            storage_path=str(worker_folder(folder.parent) / "train"),
            failure_config=ray.train.FailureConfig(controller_failure_limit=0, max_preemption_failures=0),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        if "StartupTimeout" in type(getattr(error, "controller_failure", None)).__name__:
            return Job(folder).state  # there was no room after all, as when a node was lost meanwhile: asked for again
        if Job(folder).state not in ("failed", "stopped", "finished") and _Left.__name__ not in str(error):
            raise
    return Job(folder).state


class _Left(Exception):
    """The first worker left the run unfinished, and that is no fault."""


def _share(asked: dict[str, Any]) -> None:
    """What each worker does."""
    from dynat_core.training.group import Group
    from dynat_core.work.cluster import lease

    for name, value in asked["environment"].items():
        os.environ.setdefault(name, value)
    folder, group = Path(asked["folder"]), Group()
    if group.rank > 0:
        share_job(folder, asked["device"], group)
        return
    claim = lease(folder, asked["seconds"])
    with open(folder / LOG, "a") as log, redirect_stdout(log), redirect_stderr(log):
        state = run_job(folder, asked["device"], lambda: claim.ending, claim, group)
    if state != "finished":  # the others may still wait for this process, and Ray ends them for an error alone
        raise _Left(state)
