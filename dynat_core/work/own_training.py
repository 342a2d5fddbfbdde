"""`log_run`: what somebody's own program measured while it trained, as a run that every screen opens.

Such a run is of kind "external": nothing in it was trained here, its weights are not kept, and no worker takes it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import in_eval_mode
from dynat_core.attack.threat import Norm
from dynat_core.config import Custom, Elsewhere, OwnData, Recording, RunConfig, Threat, parse_number, threat_of
from dynat_core.errors import RunError
from dynat_core.images.data import Split
from dynat_core.recorded.records import reached
from dynat_core.store.jobs import Job
from dynat_core.store.run import Run
from dynat_core.store.run_writer import RunWriter
from dynat_core.store.runs import RunStore
from dynat_core.training.evaluate import described
from dynat_core.training.measured_epoch import measured_epoch
from dynat_core.work.provenance import start_entry

PROBES = 8  # images whose whole path is kept at every epoch


def log_run(
    folder: str | Path,
    eps: float | str = "8/255",
    norm: Norm = "linf",
    *,
    name: str | None = None,
    epochs: int = 0,
    steps: int = 20,
    seed: int = 0,
    classes: Sequence[str] = (),
) -> LoggedRun:
    """Record one's own training as a run that every screen shows.

    folder: inside a run store, such as "checkpoints/my-training"; if it is there already, recording goes on after its
    last epoch. eps: pixels, the radius of the attack each epoch is measured with (PGD, `steps` steps of eps/4 on
    cross-entropy from a random start). epochs: how many there will be, 0 if unknown. classes: names in label order.
    Raises RunError if the folder is a run of another kind or is being recorded by another program.
    """
    radius = parse_number(eps)
    if not isinstance(radius, int | float) or not 0 < radius < float("inf"):
        raise RunError(f"eps must be above 0, such as 0.03 or 8/255 (got {eps}).")
    return LoggedRun(Path(folder), threat_of(norm, radius), name, epochs, steps, seed, tuple(classes))


class LoggedRun:
    """A run that a program records: `epoch` once for each, then `finish`, or use it in a `with` block."""

    def __init__(
        self, folder: Path, threat: Threat, name: str | None, epochs: int, steps: int, seed: int,
        classes: tuple[str, ...],
    ) -> None:  # fmt: skip
        self.folder = folder
        self._asked = (threat, name, epochs, steps, seed, classes)
        self._claim = contextlib.ExitStack()
        self._run: Run | None = None
        self._began = time.monotonic()
        if folder.exists():
            self._open(RunStore(folder.parent).open(folder.name))

    def epoch(self, e: int, model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Measure the model on images held out from training, and record it as epoch `e`; returns the record.

        x: (n, C, H, W) floats in [0, 1], the same images at every epoch; y: (n,) labels. Epoch 0 is the untrained
        network; epochs follow one by one. The model's mode and gradients are as found afterwards. Raises RunError.
        """
        first = next((p for p in model.parameters()), x)
        split = Split(x.to(first.device, torch.float32), y.to(first.device).long(), torch.arange(len(y)), levels=1)
        run = self._run or self._create(model, split)
        if e != self._writer.recorded + 1:
            raise RunError(
                f"Epoch {e} cannot follow epoch {self._writer.recorded} of {run.id}: epochs are recorded one by one, "
                "and epoch 0 is the network before training."
                if self._writer.recorded >= 0
                else f"Epoch {e} cannot be the first of {run.id}: record the network before training as epoch 0."
            )
        if tuple(x.shape[1:]) != run.config.shape or len(x) != run.config.test_size:
            raise RunError(
                f"{run.id} is measured on {run.config.test_size} images of {run.config.shape}; give the same."
            )
        began = time.monotonic()
        found = measured_epoch(model, split, run.config, e)
        record = {**found.record, "seconds": round(began - self._began, 3)}
        record["measuring_seconds"] = round(time.monotonic() - began, 3)
        self._writer.epoch(record, found.table, found.counts, found.probes, None)
        self._began = time.monotonic()
        return record

    def finish(self) -> None:
        """Nothing more will come: the run is finished. Safe to call twice."""
        if self._run is not None and self._run.result() is None and self._writer.recorded >= 0:
            table = self._run.samples(self._writer.recorded, split="test")
            last = reached(self._writer.recorded, table)
            result = {"best": last, "last": last, "attack": self._run.config.attack_words()}
            self._writer.finish(result, {"last": table, "best": table}, None)
        self._claim.close()

    def __enter__(self) -> LoggedRun:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.finish()
        else:
            self._claim.close()  # it reads "interrupted", and log_run on the same folder goes on

    # -- inside

    def _create(self, model: nn.Module, split: Split) -> Run:
        threat, name, epochs, steps, seed, classes = self._asked
        with in_eval_mode(model), torch.no_grad():
            outputs = model(split.pixels(slice(0, 1))).shape[1]
        shape, n = tuple(split.images.shape[1:]), len(split)
        config = external_config(threat, shape, n, outputs, classes, described(model), name, epochs, steps, seed)
        run = RunStore(self.folder.parent).create(config, self.folder.name, kind="external")
        return self._open(run)

    def _open(self, run: Run) -> Run:
        if run.kind != "external":
            raise RunError(f"{run.id} was not made by log_run; choose another folder.")
        if run.state == "finished":
            raise RunError(f"{run.id} is finished; choose another folder.")
        self._claim.enter_context(Job(run.folder).claim())
        self._run, self._writer = run, RunWriter(run)
        self._writer.go_on()
        self._writer.start(start_entry(None))
        return run


def external_config(
    threat: Threat, shape: tuple[int, ...], n: int, outputs: int, classes: Sequence[str], words: str,
    name: str | None, epochs: int, steps: int, seed: int, path_steps: int = 10,
) -> RunConfig:  # fmt: skip
    """The settings of a run that a program records. shape: (C, H, W) of its `n` images. outputs: of the model; classes:
    their names, or () for their numbers. words: the model. Raises ConfigError, RunError."""
    channels, height, width = shape
    names = tuple(classes) or tuple(str(k) for k in range(outputs))
    if len(names) != outputs:
        raise RunError(f"The model knows {outputs} classes and {len(names)} names were given; give one for each.")
    data = OwnData(channels=channels, height=height, width=width, images=n, class_names=names)
    recording = Recording(steps=steps, test_images=None, probes=min(PROBES, n), path_steps=path_steps)
    return RunConfig.build(
        {
            "name": name,
            "seed": seed,
            "epochs": epochs,
            "data": data.model_dump(mode="json"),
            "model": Custom(words=words).model_dump(mode="json"),
            "threat": threat.model_dump(mode="json"),
            "strategy": Elsewhere().model_dump(mode="json"),
            "recording": recording.model_dump(mode="json"),
        }
    )
