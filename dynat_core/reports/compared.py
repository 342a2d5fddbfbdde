"""What a run brings to a comparison: its best network on every test image, what that cost, and what was checked of it.

No torch: screens import this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dynat_core.comparison import Compared, told_apart
from dynat_core.config import AttackedStrategy
from dynat_core.errors import RunError
from dynat_core.store.evaluations import Evaluation, evaluations
from dynat_core.store.run import Run
from dynat_core.views.epoch_runs import asking, gradients
from dynat_core.views.facts import share

NOT_CHECKED = "not yet checked"
UNREADABLE = (
    ArithmeticError,
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
)  # what a damaged result raises


def read_all(runs: Sequence[Run]) -> tuple[list[Run], list[Compared], list[str]]:
    """(runs that can be compared, what each brings, why the others cannot); titles are told apart, and where several
    have climbed the same ladder, it is that one."""
    kept, networks, refused = [], [], []
    ladder = _shared_ladder(runs)
    for run in runs:
        try:
            networks.append(read(run, ladder))
            kept.append(run)
        except RunError as error:
            refused.append(str(error))
    return kept, told_apart(networks), refused


def _shared_ladder(runs: Sequence[Run]) -> Any:
    """Settings of the newest ladder that every run with a ladder has finished; None where there is none."""
    climbed = [
        [e.settings for e in evaluations(r.folder) if e.kind == "ladder" and e.state == "finished"] for r in runs
    ]
    first, *others = [asked for asked in climbed if asked] or [[]]
    return next((settings for settings in first if all(settings in asked for asked in others)), None)


def read(run: Run, ladder_like: Any = None) -> Compared:
    """The best network of a finished run. ladder_like: settings of the ladder to read, if it has that one.

    Raises RunError for a run that has not finished or keeps no table of images.
    """
    if run.state != "finished":
        raise RunError(f"{run.title} is {run.state}; a run can be compared once it has finished.")
    epoch = run.epoch_of("best")
    table = run.samples("best", split="test")
    if not len(table):
        raise RunError(f"{run.title} has no table of test images, so it cannot be compared image by image.")
    ladder = latest(run, "ladder", epoch, ladder_like)
    rungs, index, found = _climbed(ladder) if ladder else (None, None, None)
    return Compared(
        run.id,
        run.title,
        run.config,
        epoch,
        "best",
        table["index"].to_numpy(),
        table["label"].to_numpy(),
        table["clean_correct"].to_numpy(dtype=bool),
        table["predicted"].to_numpy() == table["label"].to_numpy(),
        training_gradients(run),
        training_seconds(run),
        float(table["gradients"].to_numpy().mean()) if "gradients" in table else None,
        verdict(run, epoch),
        rungs,
        index,
        found,
    )


def training_gradients(run: Run) -> float | None:
    """Gradients that the training attack spent on an image in an epoch, on average; recording is not counted.

    0 for clean training, None where nothing was recorded of it.
    """
    if not run.config.trains_here:
        return None
    if not isinstance(run.config.strategy, AttackedStrategy):
        return 0.0
    counts = run.history().counts.get("train/steps")
    if counts is None or len(counts) < 2:
        return None
    return float(np.nanmean(gradients(counts[1:], run.config.strategy.gradients, asking(run.config))))


def training_seconds(run: Run) -> float | None:
    """Seconds that training took, measuring not counted, on the machine that did it; None where they are not known."""
    taken = [record["seconds/train"] for record in run.records() if record.get("seconds/train") is not None]
    return float(sum(taken)) if taken else None


def verdict(run: Run, epoch: int) -> str:
    """What the newest finished check of this epoch says of its attack, in few words, at the run's own eps and norm; the
    check's own accuracy stands beside it. NOT_CHECKED without one."""
    found = latest(run, "check", epoch)
    if found is None:
        return NOT_CHECKED
    try:
        return _verdict((found.result() or {})["verdict"])
    except UNREADABLE:
        return f"the evaluation {found.name} is damaged"


def _verdict(said: Mapping[str, Any]) -> str:
    if not said.get("n"):
        return NOT_CHECKED
    reached = f"the check leaves {share(said['robust'], said['n'])} of {said['n']}"
    if said["ok"]:
        return f"no problem found; {reached}"
    failed = " ".join(light["question"] for light in said["lights"] if light["state"] == "insufficient")
    return f"insufficient ({failed or 'see the check'}); {reached}"


def latest(run: Run, kind: str, epoch: int, like: Any = None) -> Evaluation | None:
    """The newest finished evaluation of a kind on an epoch's weights, at the run's own eps and norm; one with the
    settings `like` comes first."""
    threat = run.config.threat
    for found in sorted(evaluations(run.folder), key=lambda e: like is not None and e.settings != like):
        asked = found.settings
        same = asked.eps in (None, threat.eps) and asked.norm in (None, threat.norm)
        if found.kind == kind and same and found.state == "finished" and _epoch(run, found.epoch) == epoch:
            return found
    return None


def attack_seeds(run: Run, epoch: int) -> list[tuple[int, int, int]]:
    """(attack seed, images standing, images) of the worst case in every finished ladder that differs from the newest
    one in its seed alone: the same weights, other random starts."""
    newest = latest(run, "ladder", epoch)
    if newest is None:
        return []
    found: dict[int, tuple[int, int, int]] = {}
    for other in evaluations(run.folder):
        if other.kind != "ladder" or other.state != "finished" or _but_seed(other) != _but_seed(newest):
            continue
        if other.epoch != newest.epoch:
            continue
        if (worst := worst_case(other)) is not None:
            found.setdefault(other.settings.seed, (other.settings.seed, *worst))
    return [found[seed] for seed in sorted(found)]


def worst_case(ladder: Evaluation) -> tuple[int, int] | None:
    """(images standing under every attack, images) of a finished ladder; None where its result is damaged."""
    try:
        result = ladder.result() or {}
        correct, n = result["worst"]["correct"], result["n"]
        return (correct, n) if 0 <= correct <= n and n > 0 else None
    except UNREADABLE:
        return None


def _but_seed(evaluation: Evaluation) -> Any:
    return evaluation.settings.model_copy(update={"seed": 0})


def _epoch(run: Run, which: int | str) -> int | None:
    try:
        return run.epoch_of(which)
    except RunError:
        return None


def _climbed(ladder: Evaluation) -> tuple[dict[str, np.ndarray] | None, np.ndarray | None, dict[str, Any] | None]:
    """(rung -> outcome of each image, image numbers, result) of a finished ladder; Nones where it is damaged."""
    prefix = "correct/"
    try:
        table = ladder.samples()
        names = [rung["name"] for rung in (ladder.result() or {})["rungs"] if prefix + rung["name"] in table]
    except (RunError, *UNREADABLE):
        return None, None, None
    if not names or "index" not in table:
        return None, None, None
    rungs = {name: table[prefix + name].to_numpy() for name in names}
    return rungs, table["index"].to_numpy(), ladder.result()
