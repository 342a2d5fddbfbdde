"""A small run store with finished runs under the names of the shipped ones, for the tests of screens."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from dynat_core.config import Digits, Dynamic, Recording, RunConfig, Sgd, Standard, Strategy, Unsecured
from dynat_core.files import read_lines
from dynat_core.store.layout import ENDINGS
from dynat_core.store.runs import RunStore
from tests.running import in_child
from tests.shared import shared

EPOCHS = 6
STRATEGIES: dict[str, Strategy] = {
    "dynamic": Dynamic(c_max=0.1, T_control=5),
    "standard": Standard(),
    "unsecured": Unsecured(),
}


def settings(strategy: str, **changes) -> RunConfig:
    """A digits run of two seconds that has everything a shipped one has."""
    return RunConfig(
        name=f"Digits, {strategy.capitalize()}",
        epochs=EPOCHS,
        data=Digits(train_size=400, test_size=80, validation_size=80),
        strategy=STRATEGIES[strategy],
        optimizer=Sgd(lr=0.05, batch=32),
        recording=Recording(test_images=None, train_rows=100, steps=8, probes=3, keep_weights="all", paths=True),
    ).with_values(changes)


def demos() -> Path:
    """A store with the three runs, made once for all test processes; nobody may change it."""
    return shared("demos", _train)


def _train(folder: Path) -> None:
    """Train them into `folder`, in one child process."""

    def train() -> None:
        import torch

        from dynat_core.work.worker import run_job

        torch.set_num_threads(1)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of this short-lived process
        for strategy in STRATEGIES:
            run_job(RunStore(folder).create(settings(strategy), f"demo-digits-{strategy}").folder)

    assert in_child(train, 1200) == 0
    assert {run.state for run in RunStore(folder).list()} == {"finished"}


def lengthened(run: Path, folder: Path, epochs: int) -> Path:
    """A copy of a finished run whose records were repeated until it has so many epochs beside epoch 0."""
    shutil.copytree(run, folder)
    request = json.loads((run / "run.json").read_text())
    request |= {"id": folder.name}
    request["config"] |= {"epochs": epochs, "name": f"{epochs} epochs"}
    (folder / "run.json").write_text(json.dumps(request))
    for name in ("epochs.jsonl", "histograms.jsonl"):
        known = read_lines(run / name)
        lines = [json.dumps({**known[epoch % len(known)], "epoch": epoch}) for epoch in range(epochs + 1)]
        (folder / name).write_text("\n".join(lines) + "\n")
    last = len(read_lines(run / "epochs.jsonl")) - 1
    for kind, ending in ENDINGS.items():
        for path in (folder / kind).glob(f"{last:04d}*"):
            path.rename(path.with_name(f"{epochs:04d}{ending}"))
    return folder


def multiplied(run: Path, store: Path, n: int) -> None:
    """n copies of a finished run in `store`, with what a list of runs reads of them."""
    request = json.loads((run / "run.json").read_text())
    for number in range(n):
        copy = store / f"copy-{number:04d}"
        copy.mkdir(parents=True)
        (copy / "run.json").write_text(json.dumps({**request, "id": copy.name}))
        for name in ("epochs.jsonl", "result.json", "starts.jsonl"):
            shutil.copy(run / name, copy / name)
