"""`reproduce`: the runs of a table or figure, found or trained, measured, and written as one JSON file with provenance.

Everything that takes time is a job of the run store (a run, or a ladder inside one), so that whoever was killed goes on
where the jobs are: no run is repeated, and the file says nothing that depends on when it was written.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dynat_core.config import AttackedStrategy, Curriculum, FgsmThenPgd, RunConfig
from dynat_core.errors import JobError, RunError
from dynat_core.files import replace_file, writing
from dynat_core.paper.paper_runs import ROW_WORDS, Target, Wanted, wanted
from dynat_core.paper.reproduced import Pair, measured
from dynat_core.places import ROOT
from dynat_core.store import evaluations
from dynat_core.store.evaluation_settings import Ladder
from dynat_core.store.evaluations import Evaluation
from dynat_core.store.jobs import UNFINISHED
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import ensure_worker

FOLDER = ".reproductions"  # hidden, so that the store does not take it for a run
SHIPPED = ROOT / "reproductions"  # part of the repository
_LOOK = 0.2  # seconds
_LADDERED = ("table1", "table3", "ablation")  # parts that need a ladder on every run
_SINGLE, _RESTARTED = 68, 1040  # gradients a ladder takes of one image: its attacks of one start, and of ten
Say = Callable[[str], None]
BlackBox = Callable[[Run, Sequence[Run], int], dict[str, dict[str, int]]]


# ----------------------------------------------------------------------------------------------------------- the runs


def same_training(config: RunConfig) -> str:
    """What decides a run, as text: settings without title and device."""
    return config.model_copy(update={"name": None, "device": "auto"}).to_json()


def run_id(config: RunConfig) -> str:
    """The folder of a run that `reproduce` makes; the same settings always have the same one."""
    digest = hashlib.sha256(same_training(config).encode()).hexdigest()[:10]
    return f"paper-{config.data.name}-{config.strategy.name}-{digest}"


def there(store: RunStore) -> dict[str, Run]:
    """`same_training` -> a run of the store that was asked for just that: a finished one before others, then the
    oldest."""
    runs = [run for run in store.list() if run.state != "broken" and run.kind == "training"]
    runs.sort(key=lambda run: (run.state != "finished", run.created, run.id), reverse=True)
    return {same_training(run.config): run for run in runs}


def ordered(store: RunStore, asked: Sequence[Wanted], say: Say) -> list[Pair]:
    """Each wanted run, found in the store or put into its queue. Raises RunError, JobError."""
    known, found = there(store), []
    for one in asked:
        key = same_training(one.config)
        if key not in known:
            known[key] = store.create(one.config, run_id(one.config), launcher="reproduce")
            say(f"queued: {_words(one)}")
        run = known[key]
        if run.state in ("stopped", "failed"):
            run.resume()
        found.append(Pair(one, run))
    return found


def trained(pairs: Sequence[Pair], say: Say) -> None:
    """Wait until every run has finished. Raises JobError for one that failed or was stopped, RunError for one that is
    gone."""
    _wait([(pair.run, _words(pair.wanted), lambda run=pair.run: run.problem) for pair in pairs], say)


def climbed(pairs: Sequence[Pair], n: int, full: bool, autoattack: bool, say: Say) -> list[Evaluation]:
    """A finished ladder on the best network of every run, asked for where there is none. Raises as
    `trained`."""
    found = []
    for pair in pairs:
        settings = Ladder(n=n, restarts=full, autoattack=autoattack)
        name = f"ladder-paper-{n}-{'autoattack' if autoattack else 'restarts' if full else 'single'}"
        if (pair.run.folder / evaluations.FOLDER / name).is_dir():
            ladder = evaluations.open_evaluation(pair.run.folder, name)
            if ladder.state in ("stopped", "failed"):
                ladder.resume()
        else:
            ladder = evaluations.create(pair.run.folder, settings, name)
        found.append(ladder)
    jobs = zip(found, pairs, strict=True)
    _wait([(e, f"ladder of {_words(p.wanted)}", lambda e=e: (e.error() or {}).get("error")) for e, p in jobs], say)
    return found


def _wait(jobs: Sequence[tuple[Run | Evaluation, str, Callable[[], str | None]]], say: Say) -> None:
    """Until all are finished; a worker that died is replaced. Raises RunError for one whose folder is gone."""
    for number, (job, words, why) in enumerate(jobs, start=1):
        store = job.folder.parent if isinstance(job, Run) else job.folder.parents[2]
        waited = False
        while (state := job.state) in ("running", *UNFINISHED):
            if not job.folder.is_dir():  # it reads queued, and nobody will ever take it
                raise RunError(f'{job.id} was deleted or moved meanwhile; run the same "reproduce" again to redo it.')
            ensure_worker(store)
            waited = True
            time.sleep(_LOOK)
        if state != "finished":
            raise JobError(why() or f'{job.id} is {state}; run the same "reproduce" again to go on with it.')
        if waited:
            say(f"{number} of {len(jobs)}: {words}")


def _words(one: Wanted) -> str:
    return f"{ROW_WORDS.get(one.row, one.row)}, {one.config.data.words}, seed {one.seed}, {one.config.epochs} epochs"


# ------------------------------------------------------------------------------------------------------------ the file


def full_ladder(target: Target) -> bool:
    """Whether the ladder has its attacks of ten restarts: on the digits, and at full length."""
    return target.part != "ablation" and (target.data == "digits" or target.scale == 1)


def reproduce(store: RunStore, target: Target, black_box: BlackBox, say: Say, autoattack: bool = False) -> Path:
    """Do whatever is missing and write the results; returns the file.

    black_box(surrogate, networks, n) -> run id -> attack -> images right. Raises RunError, JobError, DataError.
    """
    pairs = ordered(store, wanted(target), say)
    trained(pairs, say)
    n = pairs[0].run.config.test_size
    ladders: list[Evaluation] = []
    if target.part in _LADDERED:
        ladders = climbed(pairs, n, full_ladder(target), autoattack, say)
    transferred = {}
    if target.part == "table2":
        *networks, surrogate = pairs
        say("examples made on the surrogate, shown to the others")
        transferred = black_box(surrogate.run, [pair.run for pair in networks], n)
    content = measured(target, pairs, ladders, transferred, n)
    path = store.folder / FOLDER / f"{target.key}.json"
    with writing(store.folder):
        path.parent.mkdir(exist_ok=True)
        replace_file(path, json.dumps(content, indent=1, allow_nan=False).encode())
    return path


# ------------------------------------------------------------------------------------------------------------ the cost


@dataclass(frozen=True)
class Cost:
    """A run and what it would take. gradients: at most, of single images, weight updates and measuring included."""

    wanted: Wanted
    state: str
    gradients: float
    hours: float


def costs(store: RunStore, target: Target, pace: Callable[[RunConfig], float]) -> list[Cost]:
    """What each run would cost here. pace(config) -> seconds a gradient of one image takes on this device."""
    known, paces, found = there(store), {}, []
    for one in wanted(target):
        run = known.get(same_training(one.config))
        config, state = one.config, run.state if run else "missing"
        network = config.model.model_dump_json()
        if network not in paces:
            paces[network] = pace(config)
        gradients = 0.0 if state == "finished" else training_gradients(config)
        if target.part in _LADDERED:
            gradients += config.test_size * (_SINGLE + _RESTARTED * full_ladder(target))
        found.append(Cost(one, state, gradients, gradients * paces[network] / 3600))
    return found


def training_gradients(config: RunConfig) -> float:
    """Gradients of single images that a run takes at most: attacks, weight updates, and what is recorded."""
    strategy, epochs = config.strategy, config.epochs
    each = float(strategy.gradients) if isinstance(strategy, AttackedStrategy) else 0.0
    if isinstance(strategy, Curriculum) and strategy.mixing:
        lessons = (min(t * strategy.growth, strategy.steps) for t in range(epochs))  # each takes an epoch at least
        each = sum(lessons) / epochs / 2
    if isinstance(strategy, FgsmThenPgd):
        each = (strategy.switch + (epochs - strategy.switch) * strategy.steps) / epochs
    recording = config.recording
    watched = min(config.test_size, recording.test_images or config.test_size) + config.data.validation_size
    measured_last = 2 * config.test_size
    return epochs * config.train_size * (each + 1) + (epochs * watched + measured_last) * (recording.steps + 1)


def told(found: Sequence[Cost], places: int = 1) -> list[str]:
    """The plan in lines, for `--dry-run`. places: how many jobs are worked on at a time here."""
    lines = [
        f"{_words(cost.wanted):58}  {cost.state:9} {cost.gradients:14,.0f} gradients  {_hours(cost.hours)}"
        for cost in found
    ]
    gradients, hours = sum(c.gradients for c in found), sum(c.hours for c in found)
    missing = sum(c.state != "finished" for c in found)
    at_once = min(places, max(missing, 1))
    longest = max((cost.hours for cost in found), default=0.0)
    here = "on this device" if at_once == 1 else f"here, {at_once} at a time"
    lines.append(
        f"{len(found)} runs, {missing} to do: at most {gradients:,.0f} gradients, "
        f"{_hours(max(hours / at_once, longest))} {here}"
    )
    return lines


def _hours(hours: float) -> str:
    return f"about {hours:.1f} h" if hours >= 1 else f"about {60 * hours:.1f} min"
