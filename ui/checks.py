"""Measurements from the screens: asking for one, watching it, stopping it."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from dynat_core.store import evaluations
from dynat_core.store.evaluation_settings import Measured
from dynat_core.store.evaluations import Evaluation
from dynat_core.store.jobs import UNFINISHED, ensure_worker, worker_alive
from dynat_core.store.runs import Run
from dynat_core.work.analyst import Analyst
from ui.frame import view_only
from ui.store import store
from ui.words import duration

BUSY = ("queued", "running")


@st.cache_resource(show_spinner=False)
def checker(folder: str) -> Analyst:
    """The helper process that checks models while somebody waits; beside the one for trajectories, on all cores."""
    return Analyst(Path(folder), threads=None)


def warm_up() -> None:
    """Have the helper ready by the time somebody presses the button."""
    if not view_only():
        checker(str(store().folder)).warm(after=1.5)


def of_kind(run: Run, kind: str) -> list[Evaluation]:
    """The run's evaluations of a kind, newest first."""
    return [found for found in evaluations.evaluations(run.folder) if found.kind == kind]


def start_here(run: Run, settings: Measured) -> Evaluation:
    """Ask for a measurement that the helper of this server does at once. Raises JobError."""
    evaluation = evaluations.create(run.folder, settings)
    push(evaluation)
    return evaluation


def start_job(run: Run, settings: Measured) -> Evaluation:
    """Ask for a measurement that a worker does: it outlives browser and server. Raises JobError."""
    evaluation = evaluations.create(run.folder, settings)
    ensure_worker(store().folder)
    return evaluation


def push(evaluation: Evaluation) -> str | None:
    """Have the helper work on it, or look whether it still does; returns a sentence when it refused."""
    request = {"store": str(store().folder.absolute()), "run": evaluation.run_id, "evaluation": evaluation.name}
    answer = checker(str(store().folder)).ask("measurement", request, view=evaluation.id)
    return answer.error


def go_on(evaluation: Evaluation, here: bool) -> None:
    """Want it again, here or by a worker. Raises RunError, JobError."""
    evaluation.resume()
    checker(str(store().folder)).forget(evaluation.id)
    if here:
        push(evaluation)
    else:
        ensure_worker(store().folder)


def busy(evaluation: Evaluation) -> bool:
    """Whether something is going to change without anybody's doing."""
    state = evaluation.state
    return state == "running" or (state in UNFINISHED and (worker_alive(store().folder) or _asked(evaluation)))


def _asked(evaluation: Evaluation) -> bool:
    return evaluation.id in st.session_state.get("checks.asked", set())


def remember(evaluation: Evaluation) -> None:
    """This tab has asked for it, and looks after it."""
    st.session_state.setdefault("checks.asked", set()).add(evaluation.id)


def progress(evaluation: Evaluation, key: str, here: bool = False) -> None:
    """How far it is, with a way to stop it; or why it ended, with a way to go on. Nothing for a finished one."""
    state = evaluation.state
    if state == "finished":
        return
    if state in BUSY or busy(evaluation):
        status: dict[str, Any] = evaluation.status() or {}
        share = min(max(float(status.get("share") or 0.0), 0.0), 1.0)
        eta = status.get("eta_s")
        words = str(status.get("words") or ("starting" if state == "running" else "waiting for a worker"))
        words += f", {share:.0%}" + (f", about {duration(eta)} left" if eta is not None else "")
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"progress-{key}"):
            st.progress(share, text=words)
            if st.button("Stop", key=f"stop-{key}"):
                evaluation.request_stop()
                st.rerun()
        if status.get("note"):
            st.caption(str(status["note"]))
        return
    why = (evaluation.error() or {}).get("error") or f"It was {state} before it had finished; what it knew is kept."
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"ended-{key}"):
        st.html(f'<p class="dynat-note">{escape(why)}</p>', width="stretch")
        if not view_only() and st.button("Go on", key=f"again-{key}"):
            go_on(evaluation, here)
            remember(evaluation)
            st.rerun()
