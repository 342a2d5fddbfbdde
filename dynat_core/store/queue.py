"""In whose turn waiting runs are taken, and how long the wait is. No torch: screens read this.

Turns go round: first everybody's first run, then everybody's second, and so on; among equals the oldest. A run that is
worked on counts as its launcher's first. So a hundred runs of one sweep delay somebody's single run by one of them.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence

from dynat_core.config import AttackedStrategy, RunConfig
from dynat_core.store import evaluations
from dynat_core.store.jobs import UNFINISHED
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore

_RECENT = 3  # records that a pace is read from


def launcher(run: Run) -> str:
    """Whose turn the run takes: whoever signed in and asked for it, or else the launcher that run.json names, or else
    all runs of `reproduce` together, or else all runs that nobody in particular launched."""
    return run.by or run.launcher or ("reproduce" if run.id.startswith("paper-") else "")


def waiting_for(store: RunStore, by: str = "") -> int:
    """How many runs and measurements wait, of all people, or of the one who asked for them. Raises RunError.

    by: an address as it stands in run.json; "" for everybody's.
    """
    return sum(waiting_in(run, by) for run in store.list())


def waiting_in(run: Run, by: str = "") -> int:
    """The same of one run: itself, if it waits, and the measurements in it."""
    state = run.state
    if state == "broken":
        return 0
    here = run.kind != "external" and state in UNFINISHED and by in ("", run.by)
    return here + sum(job.state in UNFINISHED and by in ("", job.by) for job in evaluations.waiting(run.folder))


def in_turn(runs: Iterable[Run]) -> list[Run]:
    """The waiting ones among `runs`, next one first. The running ones must be among them, to be counted."""
    return _turns([(run, run.state) for run in runs if run.kind != "external"])


def places(runs: Iterable[Run]) -> dict[str, int]:
    """How many of `runs` come before each that waits, by id (0: next): those that run, and those in turn before it."""
    states = [(run, run.state) for run in runs if run.kind != "external"]
    running = sum(state == "running" for _, state in states)
    return {run.id: place for place, run in enumerate(_turns(states), running)}


def before_new(runs: Iterable[Run], launcher: str) -> int:
    """How many would come before a run that `launcher` launches now."""
    states = [(run, run.state) for run in runs if run.kind != "external"]
    return sum(state == "running" for _, state in states) + len(_ahead_of_new(states, launcher))


def wait_for_new(runs: Sequence[Run], launcher: str, devices: int) -> float | None:
    """Seconds until one of `devices` would be free for a run launched now; None where too little is known, or nobody
    works here.

    What runs says itself how long it takes; what waits takes as long as a recorded run of the same network took for a
    gradient, times its own.
    """
    states = [(run, run.state) for run in runs if run.kind != "external"]
    busy: list[float] = []
    for run, state in states:
        if state == "running":
            eta = (run.status() or {}).get("eta_s")
            if eta is None:
                return None
            busy.append(float(eta))
    free_at = [0.0] * max(devices - len(busy), 0) + busy
    if not free_at:
        return None
    heapq.heapify(free_at)
    paces: dict[str, float | None] = {}
    for run in _ahead_of_new(states, launcher):
        network = run.config.model.model_dump_json()
        if network not in paces:
            paces[network] = _pace(runs, network)
        pace = paces[network]
        if pace is None:
            return None
        last = run.last_record()
        left = 1 - (last["epoch"] / run.config.epochs if last and run.config.epochs else 0)
        heapq.heappush(free_at, heapq.heappop(free_at) + left * pace * _work(run.config))
    return free_at[0]


def _turns(states: Sequence[tuple[Run, str]]) -> list[Run]:
    taken = Counter(launcher(run) for run, state in states if state == "running")
    ranked = []
    for run in sorted((run for run, state in states if state in UNFINISHED), key=lambda run: (run.created, run.id)):
        ranked.append((taken[launcher(run)], run.created, run.id, run))
        taken[launcher(run)] += 1
    return [run for *_, run in sorted(ranked, key=lambda entry: entry[:3])]


def _ahead_of_new(states: Sequence[tuple[Run, str]], who: str) -> list[Run]:
    own = sum(launcher(run) == who for run, state in states if state in ("running", *UNFINISHED))
    taken = Counter(launcher(run) for run, state in states if state == "running")
    ahead = []
    for run in _turns(states):
        if taken[launcher(run)] <= own:
            ahead.append(run)
        taken[launcher(run)] += 1
    return ahead


def _work(config: RunConfig) -> float:
    """What training costs at most, in gradients of single images."""
    steps = config.strategy.gradients if isinstance(config.strategy, AttackedStrategy) else 0
    return config.epochs * config.train_size * (steps + 1.0)


def _pace(runs: Sequence[Run], network: str) -> float | None:
    """Seconds a gradient, of the newest run of this network that recorded how long its epochs took."""
    for run in sorted(runs, key=lambda run: run.created, reverse=True):
        if run.state == "broken" or run.kind != "training" or run.config.model.model_dump_json() != network:
            continue
        records = [r for r in run.records()[-_RECENT:] if r.get("epoch") and r.get("seconds/train") is not None]
        if records:
            seconds = sum(r["seconds/train"] + (r.get("seconds/evaluate") or 0) for r in records) / len(records)
            return seconds * run.config.epochs / _work(run.config)
    return None
