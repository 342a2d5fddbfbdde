"""A run that trains beside the sessions, and how fast."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load.machine import on
from dynat_core.presets import preset
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore
from tests.servers import ROOT, processor

ENDLESS = {  # epochs of seconds, little recorded
    "epochs": 10_000,
    "recording.paths": False,
    "recording.probes": 0,
    "recording.test_images": 50,
    "strategy.steps": 40,
}


class Training:
    """A run that trains on its own core, and how fast."""

    def __init__(self, run: Run, core: int) -> None:
        self.run = run
        work = f"from dynat_core.work.worker import run_job; run_job({str(run.folder)!r})"
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*on(core), sys.executable, "-c", work], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )

    async def begun(self) -> None:
        """Wait for its third epoch."""
        while len(self.run.records()) < 4:
            if self.process.poll() is not None:
                raise SystemExit("The training ended by itself.")
            await asyncio.sleep(0.1)

    async def pace(self, seconds: float) -> dict[str, float]:
        """Epochs a second between the first and the last that end within so many seconds, and the share of a core."""
        ends: list[float] = []
        began, before, known = time.perf_counter(), processor(self.process.pid), self._epochs()
        while time.perf_counter() - began < seconds:
            if (now := self._epochs()) > known:
                ends += [time.perf_counter()] * (now - known)
                known = now
            await asyncio.sleep(0.02)
        share = (processor(self.process.pid) - before) / (time.perf_counter() - began)
        return {"epochs_per_second": (len(ends) - 1) / (ends[-1] - ends[0]), "share_of_core": share}

    def _epochs(self) -> int:
        return (self.run.folder / "epochs.jsonl").read_bytes().count(b"\n")

    def end(self) -> None:
        self.run.request_stop()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


@contextmanager
def trained(store: Path) -> Iterator[Training]:
    """An endless run in `store`, working while the block runs."""
    config = preset("demo-digits-standard").with_values({"name": "Digits, live", **ENDLESS})
    training = Training(RunStore(store).create(config, "live"), core=0)
    try:
        yield training
    finally:
        training.end()
