"""`diagnose`: one's own model checked in a program of one's own, with a report that keeps itself as a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from dynat_core.attack.threat import Norm
from dynat_core.check.diagnosis import Report, diagnosing
from dynat_core.config import threat_of
from dynat_core.errors import RunError
from dynat_core.recorded import tables
from dynat_core.store import evaluations
from dynat_core.store.evaluation_settings import Check
from dynat_core.store.jobs import Job
from dynat_core.store.run_writer import RunWriter
from dynat_core.store.runs import RunStore
from dynat_core.training.measured_epoch import from_table
from dynat_core.work.own_training import external_config
from dynat_core.work.provenance import start_entry


class SavableReport(Report):
    """The report of `diagnose`: one that can be kept beside the runs of a store."""

    def save(self, folder: str | Path, name: str | None = None) -> Path:
        """Keep the report as a run that every screen opens; returns its folder.

        folder: inside a run store, such as "checkpoints/my-model". Raises RunError if it is taken or no name for a run.
        """
        return save_report(self, Path(folder), name)


def diagnose(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float | str = "8/255",
    norm: Norm = "linf",
    steps: int = 50,
    restarts: int = 5,
    *,
    seed: int = 0,
    batch: int | None = None,
    overridden: tuple[str, ...] = (),
    progress: Callable[[str, float], None] | None = None,
) -> SavableReport:
    """Attack `model` on the images and say whether the result may be believed.

    x: (n, C, H, W) floats in [0, 1]; y: (n,) labels, whole numbers; both are moved to the device of the model's first
    parameter. Images are float32, or float64 where the model is; a model in half precision is shown them rounded, and
    its gradients may underflow, which reads as masking. eps:
    pixels, a number or text such as "8/255". The attack is PGD on the margin loss: 40 % of the steps eps/4 long
    and 20 % eps/16 along the sign, and the rest settles along the gradient itself (see `siege`). Images that one
    restart broke are not attacked again. batch: images at a time, 256 on the CPU and 1,024 on a GPU unless given;
    halved, and said in `settings`, when memory runs out. overridden: names of findings that are known and accepted; the
    verdict then says so. progress(words, share done). Raises NotDiagnosable for a finding after which no attack makes
    sense, ValueError for impossible arguments.
    """
    report: Report | None = None
    for stage in diagnosing(model, x, y, eps, norm, steps, restarts, seed=seed, batch=batch, overridden=overridden):
        if progress:
            progress(stage.words, stage.share)
        report = stage.report
    assert report is not None and report.verdict.finished
    return SavableReport(**vars(report))


# ------------------------------------------------------------------------------------------------ the report, kept


def save_report(report: Report, folder: Path, name: str | None) -> Path:
    """The report as an external run: one epoch, the recorded paths, and the check inside. Raises RunError."""
    settings, kept = report.settings, report.paths
    if report.recorded is None or kept is None:
        raise RunError("This report is not finished; save the one that diagnose returns.")
    table = report.recorded.assign(split="test")
    config = external_config(
        threat_of(settings["norm"], settings["eps"]), kept.x.shape[1:], len(table), kept.logits.shape[-1], (),
        settings["model"], name, 0, 20, settings["seed"], path_steps=kept.z.shape[1] - 1,
    )  # fmt: skip
    run = RunStore(folder.parent).create(config, folder.name, kind="external")
    found = from_table(table, 0)
    with Job(run.folder).claim():
        writer = RunWriter(run)
        writer.go_on()
        writer.start(start_entry(None))
        writer.epoch(found.record, table, found.counts, None, None)
        result = {"best": found.reached, "last": found.reached, "attack": config.attack_words()}
        writer.finish(result, {"last": table, "best": table}, kept)
    check = Check(epoch=0, n=len(table), eps=settings["eps"], norm=settings["norm"], steps=settings["steps"],
                  restarts=settings["restarts"], seed=settings["seed"],
                  overridden=report.verdict.overridden)  # fmt: skip
    evaluation = evaluations.create(run.folder, check)
    with evaluation.job.claim():
        evaluation.write("samples.parquet", tables.samples_to_bytes(report.samples))
        evaluation.write_json("result.json", report.to_json())
    return run.folder
