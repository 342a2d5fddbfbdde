"""The path of an attack on one image: read where it was recorded, computed by the analysis helper where it was not."""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from dynat_core.config import describe_eps, step_size
from dynat_core.errors import ConfigError, RunError
from dynat_core.recorded.packing import pack
from dynat_core.recorded.trajectories import Trajectory
from dynat_core.store.runs import Run
from dynat_core.views.words import percent
from dynat_core.work.analyst import Analyst
from dynat_core.work.questions import Answer
from ui.access import limits
from ui.frame import view_only
from ui.link import whole_number
from ui.store import analyst, numbered_runs, stamp, store, trajectory

LOSSES = {"ce": "cross-entropy", "margin": "margin"}
STARTS = {"random": "random start", "clean": "clean start"}
MOST_STEPS = 200
_LOOK = 0.05  # seconds between looks at the helper: short, since a script that waits cannot rerun
_LOOK_IN_LINE = 0.25  # and while others come first: fifty tabs that look twenty times a second would fill the server
_TORCH = "It can be computed where torch is installed: run `pip install -r requirements.txt`."


@dataclass(frozen=True)
class Attack:
    """PGD as the trajectory screen runs it. alpha: pixels, or a part of eps such as "eps/4"."""

    steps: int
    alpha: float | str
    loss: str = "ce"
    start: str = "random"

    def text(self) -> str:
        """For the query string: `20,eps/4,margin,clean`."""
        return f"{self.steps},{self.alpha},{self.loss},{self.start}"

    def words(self, run: Run) -> str:
        """For people: `PGD-10, step eps/4, cross-entropy, random start`."""
        alpha = self.alpha if isinstance(self.alpha, str) else describe_eps(self.alpha)
        return f"PGD-{self.steps}, step {alpha}, {LOSSES[self.loss]}, {STARTS[self.start]}"


def runs_with_paths() -> dict[str, Run]:
    """Every run whose attacks can be looked at, by id; found out once for each look at the store."""
    number, found = numbered_runs()
    return _runs_with_paths(number, str(store().folder), view_only(), found)


@st.cache_resource(show_spinner=False, max_entries=2)
def _runs_with_paths(number: int, folder: str, view_only: bool, _found: list[Run]) -> dict[str, Run]:
    return {run.id: run for run in _found if run.state != "broken" and _epochs_of(run, view_only)}


def epochs_of(run: Run) -> list[int]:
    """The epochs with something to show: recorded paths, and kept weights where they can be attacked."""
    return _epochs_of(run, view_only())


# (folder, without torch) -> what it looked like then, and what was found. A plain dict: a thousand runs are asked for
# at a time, and Streamlit's cache takes longer to find an entry than the folder takes to be looked at.
_epochs: dict[tuple[str, bool], tuple[tuple[float, ...], list[int]]] = {}
_EPOCHS = 5000
_KEPT = ("weights", "probes", "paths")  # pruning takes from these, and no record says so


def _epochs_of(run: Run, view_only: bool) -> list[int]:
    if run.running:
        return _found_epochs(run, view_only)
    key, modified = (str(run.folder), view_only), (run.modified, *map(run.changed, _KEPT))
    known = _epochs.get(key)
    if known is None or known[0] != modified:
        if len(_epochs) >= _EPOCHS:
            _epochs.clear()
        known = _epochs[key] = modified, _found_epochs(run, view_only)
    return known[1]


def _found_epochs(run: Run, view_only: bool) -> list[int]:
    last = run.last_record()
    if last is None:
        return run.epochs_of("paths")[-1:]
    there = set() if view_only else set(run.kept_epochs())
    there |= {epoch for epoch in run.epochs_of("probes") if epoch <= last["epoch"]}
    return sorted(there | set(run.epochs_of("paths")[-1:]))  # by their names: a damaged one says so where it is read


def recorded_attack(run: Run) -> Attack:
    """The attack whose paths the run records; a saved report climbed another loss than a training run."""
    found = run.paths()
    told = found[1]["settings"] if found else {}
    loss, start = str(told.get("loss", "ce")), str(told.get("start", "random"))
    known = loss in LOSSES and start in STARTS
    recording = run.config.recording
    return Attack(recording.path_steps, recording.alpha, *((loss, start) if known else ()))


def read_attack(text: str | None, run: Run) -> Attack:
    """The attack of a query string; None means the recorded one. Raises ConfigError with one sentence."""
    if text is None:
        return recorded_attack(run)
    parts = text.split(",")
    if len(parts) != 4 or not 1 <= whole_number(parts[0]) <= MOST_STEPS:
        raise ConfigError(f"attack={text[:60]} is not like 10,eps/4,ce,random, with 1 to {MOST_STEPS} steps.")
    if parts[2] not in LOSSES or parts[3] not in STARTS:
        raise ConfigError("The loss of an attack is ce or margin, its start random or clean.")
    alpha = run.config.with_values({"recording.alpha": parts[1]}).recording.alpha
    return Attack(int(parts[0]), alpha, parts[2], parts[3])


def recorded(run: Run, index: int, epoch: int, attack: Attack) -> Trajectory | None:
    """The recorded path if this very attack was recorded on this image at this epoch."""
    found = trajectory(run, index, epoch)
    if found is None:
        return None
    alpha = step_size(attack.alpha, run.config.threat.eps)
    same = found.steps == attack.steps and abs(found.settings["alpha"] - alpha) < 1e-9
    same &= (found.settings["loss"], found.settings["start"]) == (attack.loss, attack.start)
    return found if same else None


def can_be_asked(run: Run, epoch: int, what: str = "This path") -> None:
    """Raises RunError, in one sentence, if nothing can be computed on this checkpoint here."""
    run.weights(epoch)
    if view_only():
        raise RunError(f"{what} of {run.title} at epoch {epoch} was not recorded. {_TORCH}")


def request(run: Run, index: int, epoch: int, attack: Attack) -> dict[str, Any]:
    """The question to the helper."""
    return {"store": str(store().folder.absolute()), "run": run.id, "epoch": epoch, "index": index, **asdict(attack)}


def tab() -> str:
    """This browser tab, so that two tabs do not replace each other's questions."""
    return st.session_state.setdefault("tab", secrets.token_hex(8))


def asking(kind: str, run: Run, question: Mapping[str, Any], slot: str) -> Callable[[], Answer]:
    """What asks the helper about a checkpoint when it is called first, and looks how far it is when called again.

    slot: the place on this tab's screen that waits.
    """
    known = stamp(run, int(question["epoch"]))  # read once, not at every look
    return asking_plainly(kind, question, slot, known)


def asking_plainly(kind: str, question: Mapping[str, Any], slot: str, known: str | None = None) -> Callable[[], Answer]:
    """The same for a question about no checkpoint. known: what the answer depends on, if it may be kept."""
    ask = helper().ask
    return partial(ask, kind, question, view=f"{slot}/{tab()}", session=tab(), stamp=known)


def helper() -> Analyst:
    """The analysis helper, with the time that one answer may take here."""
    found = analyst(str(store().folder))
    found.patience = limits().analysis_s
    return found


def look_at_helper(looks: Mapping[str, Callable[[], Answer]], words: str, dimmed: str) -> dict[str, Answer]:
    """Look until every question is answered or refused, saying how long it takes; name -> answer.

    The picture of before stays, dimmed (`dimmed` is the key of its container). Anything a person does ends the wait,
    since every look draws something, and a script that draws can be interrupted.
    """
    said, heard = st.empty(), st.empty()
    began, told = time.monotonic(), False
    while True:
        answers = {name: look() for name, look in looks.items()}
        waiting = [answer for answer in answers.values() if answer.state in ("queued", "working")]
        if not waiting:
            said.empty()
            heard.empty()
            return answers
        if not told:  # to those who hear the page, once: the seconds are only to be seen
            heard.html(f'<p class="dynat-heard" role="status">{words}</p>')
            told = True
        seconds = time.monotonic() - began
        share = min((answer.progress or 0.0) for answer in waiting)
        so_far = f", {percent(share)}" if seconds > 2 and share else ""
        before = max(answer.before or 0 for answer in waiting)
        in_line = f"; {before} before you" if before else ""
        cold = " The first answer after a start waits for torch." if seconds > 2.5 and not share and not before else ""
        said.html(
            f"<style>.st-key-{dimmed} {{ opacity: 0.45; }}</style>"
            f'<p class="dynat-waiting" aria-hidden="true">{words}, {seconds:.1f} s{so_far}{in_line}.{cold}</p>'
        )
        time.sleep(_LOOK_IN_LINE if before > 1 else _LOOK)


def as_trajectory(answer: Answer) -> Trajectory:
    """The path in an answer. Raises RunError with the sentence of a refused one."""
    if answer.value is None:
        raise RunError(answer.error or "The attack gave no answer; ask again.")
    return Trajectory.from_bytes(pack(*answer.value))


def as_npz(path: Trajectory) -> bytes:
    """All arrays of a path and its settings (as text) in one .npz file; nothing in it is pickled."""
    out = io.BytesIO()
    arrays = {f.name: np.asarray(getattr(path, f.name)) for f in fields(path) if f.name != "settings"}
    settings = {f"setting_{name}": np.asarray(str(value)) for name, value in path.settings.items()}
    np.savez_compressed(out, **arrays, **settings)  # pyright: ignore[reportArgumentType]
    return out.getvalue()
