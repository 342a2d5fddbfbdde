"""Measurements on the screens: watching one, stopping it, going on with it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import streamlit as st

from dynat_core.durations import duration
from dynat_core.errors import DynatError, RunError
from dynat_core.reports.compared import UNREADABLE
from dynat_core.store import evaluations
from dynat_core.store.evaluations import Evaluation
from dynat_core.store.jobs import UNFINISHED
from dynat_core.store.runs import Run
from dynat_core.store.workers import worker_alive
from dynat_core.terminal import clean
from ui import actions
from ui.access import may_edit, why_not
from ui.frame import view_only
from ui.store import checker, store
from ui.words import plain

BUSY = ("queued", "running")
_log = logging.getLogger("dynat")


def warm_up() -> None:
    """Have the helper ready by the time somebody presses the button."""
    if not view_only():
        checker(str(store().folder)).warm(after=1.5)


def of_kind(run: Run, kind: str) -> list[Evaluation]:
    """The run's evaluations of a kind, newest first."""
    return [found for found in evaluations.evaluations(run.folder) if found.kind == kind]


@contextmanager
def reading(evaluation: Evaluation) -> Iterator[None]:
    """Draw what an evaluation found: where that is damaged a sentence stands in its place, and the screen goes on."""
    try:
        yield
    except DynatError as error:
        st.error(plain(error))
    except UNREADABLE:
        _log.error("%s cannot be drawn\n%s", evaluation.id, clean(traceback.format_exc()))
        st.error(plain(evaluation.damage))


def found_by(evaluation: Evaluation) -> dict[str, Any] | None:
    """What it found, None before that. Raises RunError for one that has finished and whose result cannot be read."""
    result = evaluation.result()
    if result is None and evaluation.state == "finished":
        raise RunError(evaluation.damage)
    return result


def say_damaged(run: Run, kind: str) -> None:
    """A sentence for each evaluation of a kind that cannot be opened."""
    for sentence in evaluations.damaged(run.folder, kind):
        st.error(plain(sentence))


def busy(evaluation: Evaluation) -> bool:
    """Whether something is going to change without anybody's doing."""
    state = evaluation.state
    return state == "running" or (state in UNFINISHED and (worker_alive(store().folder) or _asked(evaluation)))


def _asked(evaluation: Evaluation) -> bool:
    return evaluation.id in st.session_state.get("checks.asked", set())


def remember(evaluation: Evaluation) -> None:
    """This tab has asked for it, and looks after it."""
    st.session_state.setdefault("checks.asked", set()).add(evaluation.id)


def refused(evaluation: Evaluation, key: str) -> bool:
    """Have the helper of this server work on it, or go on; where it refuses, say why, with a way to go on."""
    if evaluation.state not in UNFINISHED or not may_edit():
        return False
    problem = actions.push(evaluation)
    if problem is None or evaluation.state == "running":
        return False
    _ended(evaluation, key, problem, here=True)
    return True


def progress(evaluation: Evaluation, key: str, here: bool = False) -> None:
    """How far it is, with a way to stop it; or why it ended, with a way to go on. Nothing for a finished one.

    here: whether the helper of this server does it, not a worker.
    """
    state = evaluation.state
    if state == "finished":
        return
    if state not in BUSY and not busy(evaluation):
        why = (evaluation.error() or {}).get("error") or f"It was {state} before it had finished; what it knew is kept."
        _ended(evaluation, key, why, here)
        return
    alone = state != "running" and not worker_alive(store().folder) and not (here and _asked(evaluation))
    status: dict[str, Any] = evaluation.status() or {}
    share = min(max(float(status.get("share") or 0.0), 0.0), 1.0)
    eta = None if alone else status.get("eta_s")
    words = str(status.get("words") or ("starting" if state == "running" else "waiting for a worker"))
    if alone:  # whatever its last words were
        words = "no worker is there to take it"
    words += f", {share:.0%}" + (f", about {duration(eta)} left" if eta is not None else "")
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"progress-{key}"):
        st.progress(share, text=plain(words))
        if alone:
            _go_on_button(evaluation, key, here)
        if st.button("Stop", key=f"stop-{key}", disabled=not may_edit(), help=why_not()):
            actions.stop(evaluation)
            st.rerun()
    if status.get("note"):
        st.caption(plain(status["note"]))


def _ended(evaluation: Evaluation, key: str, why: str, here: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"ended-{key}"):
        st.html(f'<p class="dynat-note">{escape(why)}</p>', width="stretch")
        _go_on_button(evaluation, key, here)


def _go_on_button(evaluation: Evaluation, key: str, here: bool) -> None:
    if not view_only() and st.button("Go on", key=f"again-{key}", disabled=not may_edit(), help=why_not()):
        actions.go_on(evaluation, here)
        remember(evaluation)
        st.rerun()
