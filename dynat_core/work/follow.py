"""Waiting for a run at the command line: a progress bar on a terminal, one plain line per epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dynat_core.config import NORM_WORDS, describe_eps
from dynat_core.durations import duration
from dynat_core.errors import RunError
from dynat_core.store.evaluations import Evaluation
from dynat_core.store.jobs import UNFINISHED
from dynat_core.store.run import Run
from dynat_core.store.workers import worker_alive
from dynat_core.terminal import clean, raw

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TextColumn

_LOOK = 0.2  # seconds
_GRACE = 5.0  # seconds a run may wait without a worker before that is called an end


def follow(run: Run) -> str:
    """Show how `run` goes until nobody works on it any more; return its state then. Raises RunError once it is gone."""
    with _bar(run) if sys.stdout.isatty() else _plain(run) as show:
        alone_since: float | None = None
        while True:
            state = run.state
            _refuse_gone(run)
            show(state)
            if state != "running":
                if state not in UNFINISHED:
                    return state
                now = time.monotonic()
                alone_since = None if worker_alive(run.folder.parent) else (alone_since or now)
                if alone_since is not None and now - alone_since > _GRACE:
                    return state
            time.sleep(_LOOK)


def follow_evaluation(evaluation: Evaluation) -> int:
    """Show how an evaluation goes until it has ended, then what it found; return the exit code. Raises RunError once
    it is gone."""
    from rich.progress import BarColumn, Progress, TimeElapsedColumn

    columns = (_text("{task.description}"), BarColumn(), _text("{task.fields[words]}"), TimeElapsedColumn())
    alone_since: float | None = None
    with Progress(*columns, console=_console(), disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(evaluation.kind, total=1.0, words="")
        while (state := evaluation.state) in ("running", *UNFINISHED):
            _refuse_gone(evaluation)
            status = evaluation.status() or {}
            eta = status.get("eta_s")
            words = f"{status.get('words', state)}" + (f", {duration(eta)} left" if eta is not None else "")
            progress.update(task, completed=status.get("share") or 0.0, words=clean(words))
            now = time.monotonic()
            waits = state != "running" and not worker_alive(evaluation.folder.parents[2])
            alone_since = (alone_since or now) if waits else None
            if alone_since is not None and now - alone_since > _GRACE:
                break
            time.sleep(_LOOK)
    if state == "finished":
        print("\n".join(found_words(evaluation.kind, evaluation.result() or {})))
        return 0
    again = f'"python -m dynat_core evaluate {evaluation.run_id} --resume {evaluation.name}" goes on with it.'
    why = (evaluation.error() or {}).get("error") or f"{evaluation.id} is {state}; {again}"
    print(why, file=sys.stderr)
    return 1


def _refuse_gone(job: Run | Evaluation) -> None:
    """A folder that is gone reads queued, and would be waited for without end."""
    if not job.folder.is_dir():
        lists = '"python -m dynat_core restore" lists what can be brought back.'
        raise RunError(f"{job.id} was deleted or moved while it was waited for; {lists}")


def found_words(kind: str, result: dict[str, Any]) -> list[str]:
    """What an evaluation found, a line each."""
    if kind == "check":
        verdict = result["verdict"]
        return [verdict["sentence"], *(f"  {light['question']} {light['sentence']}" for light in verdict["lights"])]
    if kind == "ladder":
        worst = {"words": "worst case over all attacks", **result["worst"]}
        return [
            f"{100 * rung['accuracy']:5.1f} % ({100 * rung['low']:.1f} to {100 * rung['high']:.1f})  {rung['words']}"
            for rung in [*result["rungs"], worst]
        ] + [f"n = {result['n']}, {result['chosen']}, {NORM_WORDS[result['norm']]} eps {describe_eps(result['eps'])}"]
    return [str(value) for key, value in result.items() if key.endswith("sentence")] or [f"{kind} finished"]


def accuracies(record: dict[str, Any], steps: int) -> str:
    """`clean 97.1 %, PGD-20 75.0 % of 147 held-out images`, for the recorded attack of `steps` steps; of test images
    where nothing was held out, because the network comes from elsewhere."""
    split, images = ("test", "test") if record.get("validation/n") == 0 else ("validation", "held-out")
    found = [record.get(f"{split}/{kind}_accuracy") for kind in ("clean", "robust")]
    words = ["unknown" if value is None else f"{100 * value:.1f} %" for value in found]
    return f"clean {words[0]}, PGD-{steps} {words[1]} of {record.get(f'{split}/n', 'the')} {images} images"


@contextmanager
def _plain(run: Run) -> Iterator[Callable[[str], None]]:
    shown = run.last_record()
    after = -1 if shown is None else shown["epoch"]
    steps = run.config.recording.steps
    was = ""

    def show(state: str) -> None:
        nonlocal after, was
        last = run.last_record()
        if last is not None and last["epoch"] != after:
            for record in run.records()[after + 1 :]:
                of = f"epoch {record['epoch']} of {run.config.epochs}" if run.config.epochs else "measured"
                print(f"{of}: {accuracies(record, steps)}", flush=True)
            after = last["epoch"]
        if state != was:
            print(state, flush=True)
            was = state

    yield show


@contextmanager
def _bar(run: Run) -> Iterator[Callable[[str], None]]:
    from rich.progress import BarColumn, Progress, TimeElapsedColumn

    columns = (_text("{task.description}"), BarColumn(), _text("{task.fields[words]}"), TimeElapsedColumn())
    with Progress(*columns, console=_console()) as progress:
        task = progress.add_task("queued", total=run.config.epochs, words="")

        def show(state: str) -> None:
            status = run.status() or {}
            last = run.last_record()
            done = last["epoch"] if last else 0
            batches = status.get("batches") or 0
            part = status["batch"] / batches if batches and status.get("epoch") == done + 1 else 0.0
            words = f"epoch {done} of {run.config.epochs}"
            if last:
                words += f", {accuracies(last, run.config.recording.steps)}"
            if state == "running" and status.get("eta_s") is not None:
                words += f", {duration(status['eta_s'])} left"
            progress.update(task, completed=done + part, description=state, words=clean(words))

        yield show


def _console() -> Console:
    """Where bars are drawn: on the terminal itself."""
    from rich.console import Console

    return Console(file=raw(sys.stdout))


def _text(template: str) -> TextColumn:
    """A column of words that mean nothing to rich."""
    from rich.progress import TextColumn

    return TextColumn(template, markup=False)
