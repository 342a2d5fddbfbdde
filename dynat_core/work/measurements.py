"""The work of an evaluation's job: load the network and the images, attack, and write what is known as it goes.

Whoever works holds the job's lock: the worker's child, or the helper process of the screen "Check a model".
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor, nn

from dynat_core.config import Custom, Imported, Threat
from dynat_core.devices import choose, fit_threads
from dynat_core.errors import DynatError, RunError
from dynat_core.files import append_line, read_lines, storage_sentence
from dynat_core.recorded import tables
from dynat_core.store import evaluations
from dynat_core.store.evaluation_settings import Again, Check, Curves, Ladder, Measured, Transfer, measured_threat
from dynat_core.store.evaluations import Evaluation
from dynat_core.store.run import Run
from dynat_core.store.run_writer import RunWriter
from dynat_core.store.runs import RunStore
from dynat_core.work.loading import chosen_images, network, pixels
from dynat_core.work.provenance import start_entry

SHOW_EVERY = 0.4  # seconds between two writes of what is known so far
SAVE_EVERY = 5.0  # and of what an interrupted ladder goes on from


class _Left(Exception):
    """Somebody wants it to end."""


def work_on(evaluation: Evaluation, device: str | None = None, ended: Callable[[], bool] = lambda: False) -> str:
    """Do what the evaluation asks for; return its state then. The caller has claimed its job.

    ended: asked between batches. What goes wrong is recorded with one sentence.
    """
    if any((evaluation.folder / name).exists() for name in ("result.json", "error.json", "stop")):
        return evaluation.state
    try:
        _Work(evaluation, device, ended).run()
    except _Left:
        print(f"{evaluation.id} left", flush=True)
    except Exception as error:
        details = traceback.format_exc()
        print(details, file=sys.stderr, flush=True)
        evaluation.job.fail(_sentence(error, evaluation.folder), details)
    return evaluation.state


class _Work:
    """One evaluation under way. epoch: the one that is measured, settled as its weights are loaded, since a run that
    goes on may get another best or last one meanwhile."""

    epoch: int
    model: nn.Module

    def __init__(self, evaluation: Evaluation, device: str | None, ended: Callable[[], bool]) -> None:
        self.evaluation, self._ended = evaluation, ended
        self.settings: Measured = evaluation.settings
        self.home = RunStore(evaluation.folder.parents[2]).open(evaluation.run_id)
        self.device = choose(device or "auto")
        fit_threads(self.home.config.model.name, self.device)
        self._began = time.monotonic()
        self._shown = self._saved = 0.0
        self._first: tuple[float, float] | None = None  # when work began, and the share then: a ladder may go on

    def run(self) -> None:
        """Load, attack, record."""
        self.show("loading", 0.0)
        self.model, self.epoch = self._loaded()
        self._forget_another_epoch()
        append_line(self.evaluation.folder / "starts.jsonl", {**start_entry(str(self.device)), "epoch": self.epoch})
        kinds: dict[type[Measured], Callable[[], None]] = {
            Check: self._check, Again: self._again, Ladder: self._ladder, Curves: self._curves,
            Transfer: self._transfer,
        }  # fmt: skip
        kinds[type(self.settings)]()

    def _loaded(self) -> tuple[nn.Module, int]:
        """The network, and its epoch: 0 of a network from a file, which is there before anything is recorded."""
        elsewhere = isinstance(self.home.config.model, Imported | Custom)
        epoch = 0 if elsewhere else self.home.epoch_of(self.settings.epoch)
        return network(self.home, epoch, self.device), epoch

    def _forget_another_epoch(self) -> None:
        """What an earlier start left to go on from is about the best or last epoch of then."""
        starts = read_lines(self.evaluation.folder / "starts.jsonl")
        if starts and starts[-1].get("epoch", self.epoch) != self.epoch:
            (self.evaluation.folder / "state.bin").unlink(missing_ok=True)

    # -- what every kind needs

    @property
    def threat(self) -> Threat:
        """The radius and norm asked for, or the network's own."""
        return measured_threat(self.home.config, self.settings)

    def images(self) -> tuple[Tensor, Tensor, np.ndarray, str]:
        """x (n, C, H, W), y (n,), image numbers (n,), and how they were chosen."""
        split, how = chosen_images(self.home, self.settings)
        x, y = pixels(split, self.device)
        return x, y, split.index.numpy(), how

    def show(self, words: str, share: float, note: str = "") -> None:
        """Write how far it is, and end here if somebody wants that."""
        now = time.monotonic()
        if now - self._shown >= SHOW_EVERY or share in (0.0, 1.0):
            self._shown = now
            if self._first is None and share > 0:  # what came before was loading
                self._first = (now, share)
            since, before = self._first or (now, 0.0)
            eta = round((now - since) / (share - before) * (1 - share), 1) if share > before else None
            spent = round(now - self._began, 1)
            status = {"words": words, "share": round(share, 4), "eta_s": eta, "seconds": spent, "note": note,
                      "updated": datetime.now(UTC).isoformat(timespec="milliseconds")}  # fmt: skip
            with contextlib.suppress(OSError):
                self.evaluation.job.write_status(status)
        if self.evaluation.job.stop_requested or self._ended():
            raise _Left

    def finish(self, result: dict[str, Any], samples: pd.DataFrame | None, how: str) -> None:
        """Record what was found; the evaluation is finished from then on."""
        if samples is not None:
            self.evaluation.write("samples.parquet", tables.samples_to_bytes(samples))
        threat = self.threat
        about = {"run": self.home.id, "epoch": self.epoch, "eps": threat.eps,
                 "norm": threat.norm, "seed": self.settings.seed, "chosen": how, "device": str(self.device),
                 "seconds": round(time.monotonic() - self._began, 2)}  # fmt: skip
        self.evaluation.write_json("result.json", {**about, **result})
        for name in ("status.json", "partial.json", "state.bin"):
            with contextlib.suppress(OSError):
                (self.evaluation.folder / name).unlink(missing_ok=True)

    # -- the kinds

    def _check(self) -> None:
        from dynat_core.check.diagnosis import Report, diagnosing, with_image_numbers

        settings = self.settings
        assert isinstance(settings, Check)
        x, y, index, how = self.images()
        threat = self.threat
        stages = diagnosing(
            self.model, x, y, threat.eps, threat.norm, settings.steps, settings.restarts,
            seed=settings.seed, overridden=settings.overridden,
        )  # fmt: skip
        report: Report | None = None
        for stage in stages:
            if stage.report is not None:
                report = stage.report
                if not report.verdict.finished:
                    known = with_image_numbers(report, index).to_json()
                    self.evaluation.write_json("partial.json", known, durable=False)
            self.show(stage.words, stage.share, stage.note)
        assert report is not None
        report = with_image_numbers(report, index)
        self.finish(report.to_json(), report.samples, how)

    def _again(self) -> None:
        from dynat_core.check.next_action import again

        settings = self.settings
        assert isinstance(settings, Again)
        before = evaluations.open_evaluation(self.home.folder, settings.after)
        check, known = before.settings, before.samples()
        if before.state != "finished" or not isinstance(check, Check):
            raise RunError(f"{before.id} is no finished check; finish it first.")
        if before.epoch != self.epoch:
            raise RunError(f"{before.id} is about epoch {before.epoch}, and not {self.epoch}; ask for the same epoch.")
        x, y, index, how = self.images()
        rows = known.set_index("index").loc[index].reset_index()
        threat, found = self.threat, None
        for stage in again(
            self.model, x, y, rows, settings.action,
            eps=threat.eps, norm=threat.norm, steps=check.steps, restarts=check.restarts, seed=settings.seed,
        ):  # fmt: skip
            self.show(settings.action, stage.share)
            found = stage.samples if stage.samples is not None else found
        assert found is not None
        newly = found[found.robust_before & ~found.robust_after]
        robust, n = int(known.robust_correct.to_numpy().sum()), len(known)
        result = {
            "action": settings.action,
            "after": settings.after,
            "n": n,
            "attacked": len(found),
            "robust_before": robust,
            "robust_after": robust - len(newly),
            "newly_broken": newly["index"].tolist(),
            "converged_before": int((found.relative_fosc_before <= 0.1).sum()),
            "converged_after": int((~found.robust_after | (found.relative_fosc_after <= 0.1)).sum()),
        }
        self.finish(result, found, how)

    def _ladder(self) -> None:
        from dynat_core.check.ladder import LadderFinished, LadderState, ladder

        settings = self.settings
        assert isinstance(settings, Ladder)
        x, y, index, how = self.images()
        threat, kept = self.threat, self.evaluation.folder / "state.bin"
        state = LadderState.from_bytes(kept.read_bytes()) if kept.exists() else None
        events = ladder(
            self.model, x, y, eps=threat.eps, norm=threat.norm, seed=settings.seed, autoattack=settings.autoattack,
            restarts=settings.restarts, state=state,
        )  # fmt: skip
        for event in events:
            if isinstance(event, LadderFinished):
                rows = event.state.table.assign(index=index)
                self._keep_points(event.state.points, index)
                self.finish(event.result, rows, how)
                return
            if time.monotonic() - self._saved >= SAVE_EVERY or self._wanted():
                self.evaluation.write("state.bin", event.state.to_bytes())
                self._saved = time.monotonic()
            self.show(event.words, event.share, event.note)

    def _wanted(self) -> bool:
        return self.evaluation.job.stop_requested or self._ended()

    def _keep_points(self, points: np.ndarray, index: np.ndarray) -> None:
        content = save({"points": torch.from_numpy(points), "index": torch.from_numpy(np.asarray(index, np.int64))})
        self.evaluation.write("points.safetensors", content)

    def _curves(self) -> None:
        from dynat_core.check.curves import curves

        x, y, index, how = self.images()
        threat = self.threat
        for event in curves(self.model, x, y, eps=threat.eps, norm=threat.norm, seed=self.settings.seed):
            self.show(event.part, event.share)
            if event.result is not None:
                arrays = {name: np.asarray(values) for name, values in event.arrays.items()}
                samples = {name: values for name, values in arrays.items() if values.shape == (len(index),)}
                self.finish(event.result, pd.DataFrame({"index": index, "label": y.cpu().numpy(), **samples}), how)
                return

    def _transfer(self) -> None:
        from dynat_core.check.transfer import transfer

        settings = self.settings
        assert isinstance(settings, Transfer)
        store = RunStore(self.home.folder.parent)
        runs = [self.home, *(store.open(id) for id in settings.others)]
        for run in runs[1:]:
            if (run.config.data.name, run.config.shape) != (self.home.config.data.name, self.home.config.shape):
                raise RunError(f"{run.id} reads other images than {self.home.id}; compare models of the same data.")
        models = [(self.home.id, self.model), *((run.id, network(run, "best", self.device)) for run in runs[1:])]
        x, y, index, how = self.images()
        threat = self.threat
        for event in transfer(
            models, x, y, eps=threat.eps, norm=threat.norm, seed=settings.seed, steps=settings.steps
        ):  # fmt: skip
            self.show(event.words, event.share)
            if event.result is not None:
                names = {run.id: run.title for run in runs}
                self.finish({**event.result, "titles": names}, None, how)
                return


# ------------------------------------------------------------------------------------- a network from elsewhere


def measure_imported(run: Run, device: str | None, ended: Callable[[], bool] = lambda: False) -> None:
    """Record epoch 0 of an imported run, and finish it. Its job is claimed."""
    from dynat_core.images import data
    from dynat_core.images.data import part_of
    from dynat_core.training.measured_epoch import measured_epoch

    writer, where, config = RunWriter(run), choose(device or run.config.device), run.config
    writer.go_on()
    images = data.load(config.data)
    test = images.test
    writer.start(start_entry(str(where), images.fingerprint))
    split = part_of(test, min(config.recording.test_images or len(test), len(test))).to(where)
    found = measured_epoch(network(run, 0, where), split, config, 0)
    if ended():
        return
    if writer.recorded < 0:
        writer.epoch(found.record, found.table, found.counts, found.probes, None)
    result = {"best": found.reached, "last": found.reached, "attack": config.attack_words()}
    writer.finish(result, {"last": found.table, "best": found.table}, None)


# --------------------------------------------------------------------------------------------------- in words


def _sentence(error: Exception, folder: Path) -> str:
    if isinstance(error, DynatError | ValueError):
        return str(error)
    if isinstance(error, OSError) and (full := storage_sentence(error, folder)):
        return full
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "There was not enough memory for a single image; ask for fewer images or use another device."
    first = (str(error).strip().splitlines() or [""])[0][:200]
    return f"The evaluation broke off with {type(error).__name__}: {first}; its log says where."
