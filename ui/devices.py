"""What computes here: the devices of this machine, what each does, and how long a new run would wait."""

from __future__ import annotations

import os
from dataclasses import dataclass
from html import escape

from dynat_core import machine
from dynat_core.durations import duration
from dynat_core.errors import RunError
from dynat_core.store import queue
from dynat_core.store.jobs import UNFINISHED
from dynat_core.store.runs import Run
from dynat_core.store.workers import cluster_alive, worker_states
from ui.store import runs, store
from ui.words import progress

_NAMED = 3  # devices that the menu names one by one


@dataclass(frozen=True)
class Device:
    """A device and what it is busy with: a run's id, a measurement's (`run/name`), or None."""

    name: str
    busy_with: str | None

    @property
    def words(self) -> str:
        """`GPU 0`, `CPU`, `CPU 2` (its second job)."""
        for name, words in (("cpu", "CPU"), ("cuda", "GPU"), ("cluster", "Cluster")):
            if self.name.startswith(name):
                return self.name.replace(name, words).replace(":", " ")
        return self.name

    @property
    def doing(self) -> str:
        """`idle`, `measuring`, `training`."""
        return "idle" if not self.busy_with else "measuring" if "/" in self.busy_with else "training"


def devices() -> list[Device]:
    """The devices that take runs; the CPU of a machine with GPUs only while it is busy."""
    states = worker_states(store().folder)
    elsewhere = os.environ.get("DYNAT_WORKERS") == "elsewhere" or cluster_alive(store().folder)
    busy = dict.fromkeys([] if elsewhere else machine.devices())
    for state in states:
        name = str(state["device"] or "cpu")
        busy[name] = state["busy_with"] or busy.get(name)
    found = [Device(name, str(job) if job else None) for name, job in busy.items()]
    gpus = any(not machine.is_cpu(device.name) for device in found)
    return [device for device in found if not machine.is_cpu(device.name) or device.busy_with or not gpus]


def menu_words(found: list[Device]) -> str:
    """`CPU, training`; `GPU 0 training, GPU 1 idle`; `3 of 8 GPUs busy`."""
    if len(found) == 1:
        return f"{found[0].words}, {found[0].doing}"
    if len(found) <= _NAMED:
        return ", ".join(f"{device.words} {device.doing}" for device in found)
    busy = sum(device.busy_with is not None for device in found)
    kinds = {device.name.partition(":")[0] for device in found}
    named = {"cpu": "places on the CPU", "cuda": "GPUs", "cluster": "places in the cluster"}
    kind = named.get(kinds.pop(), "devices") if len(kinds) == 1 else "devices"
    return f"{busy} of {len(found)} {kind} busy"


def menu_html() -> str:
    """The mark in the menu; where it sums up, what each device does is its tooltip."""
    found = devices()
    if not found:
        return '<span class="dynat-state">no worker</span>'
    busy = " busy" if any(device.busy_with for device in found) else ""
    each = ", ".join(f"{device.words} {device.doing}" for device in found)
    return f'<span class="dynat-state{busy}" title="{escape(each)}">{escape(menu_words(found))}</span>'


def lines(found: list[Device]) -> list[str]:
    """A sentence for each device: `GPU 0 trains Digits, Dynamic: epoch 7 of 30, ETA 1:10`."""
    said = []
    for device in found:
        if device.busy_with is None:
            said.append(f"{device.words} is idle")
            continue
        id, measured, _ = device.busy_with.partition("/")
        try:
            run: Run | None = store().open(id)
        except RunError:
            run = None
        name = run.title if run else id
        if measured or run is None or not run.config.epochs:
            said.append(f"{device.words} measures {name}")
        else:
            said.append(f"{device.words} trains {name}: {progress(run.status(), run.config.epochs)[1]}")
    return said


def queue_words(found: list[Device], launcher: str) -> str:
    """`4 jobs wait; 3 before a new run, which would start in about 12:30`. launcher: whose turn the run would take."""
    known = runs()
    waiting = sum(run.state in UNFINISHED and run.kind != "external" for run in known)
    ahead = queue.before_new(known, launcher)
    words = f"{waiting or 'No'} job{'s' * (waiting != 1)} wait{'s' * (waiting == 1)}"
    if not found:
        return f"{words}; no worker is there to take a new run"
    if ahead < len(found) and not waiting:
        return f"{words}; a new run would start at once"
    seconds = queue.wait_for_new(known, launcher, len(found))
    when = "" if seconds is None else f", which would start in about {duration(seconds)}"
    return f"{words}; {ahead} before a new run{when}"
