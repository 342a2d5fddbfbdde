"""Runs that move or need a hand: progress with stop, queue positions, and cards with a way out for what went wrong."""

from __future__ import annotations

from html import escape

import streamlit as st

from dynat_core.store.bookkeeping import label
from dynat_core.store.runs import Run
from dynat_core.store.workers import worker_alive
from ui import actions
from ui.access import may_edit, why_not
from ui.cards import state_badge, swatch
from ui.frame import guarded, live, view_only
from ui.link import carry
from ui.store import look_again, places, runs, state_of, store
from ui.words import plain, progress, recorded, waiting

MOVING = ("running", "queued")
STUCK = ("interrupted", "stopped", "failed")
STOPPED = "It was stopped and kept its checkpoint; resume to go on from there."
STOPPED_MEASURING = "Measuring it was stopped; resume to measure it."  # a network from a file, which is never trained
EVERY = 1.0  # seconds between looks while something moves


def live_strip(screen: str) -> None:
    """What runs and what waits, looked at again every second until nothing does."""
    moving = _moving()
    known = [(run.id, state_of(run)) for run in moving]

    @live(EVERY if moving else None)
    def strip() -> None:
        now = _moving()
        if [(run.id, state_of(run)) for run in now] != known:
            look_again()
            st.rerun()  # the whole page: cards and buttons depend on it, and polling ends with the last run
        if not now:
            st.html('<p class="dynat-quiet">No run is under way.</p>')
        running = next((run for run in now if run.running and run.kind != "external"), None)
        place = places()
        for run in now:
            moving_line(screen, run, place.get(run.id), running)

    strip()


def _moving() -> list[Run]:
    found = [run for run in runs() if state_of(run) in MOVING]
    return sorted(found, key=lambda run: (not run.running, run.created))


def moving_line(screen: str, run: Run, place: int | None, running: Run | None = None) -> None:
    """How far a run is or what it waits for, with [Stop].

    place: in the queue, None if it does not wait. running: the run that works meanwhile.
    """
    with st.container(key=f"{screen}-moving-{run.id}", horizontal=True, vertical_alignment="center", gap="small"):
        name = f"{swatch(run.config.strategy.name)}<b>{escape(run.title)}</b>"
        st.html(f'<span class="dynat-line">{state_badge(run)} {name}</span>', width="content")
        external = run.kind == "external"
        if run.running or external:
            done, words = recorded(run) if external else progress(run.status(), run.config.epochs)
            if run.stopping and not external:
                words = "stopping at the next batch, with a checkpoint"
            st.progress(done, text=plain(words))
        else:
            nobody = not worker_alive(store().folder)
            words = "no worker is there to take it" if nobody else waiting(place, running)
            st.html(f'<span class="dynat-facts">{escape(words)}</span>', width="stretch")
            if nobody:
                st.button(
                    "Start now", key=f"{screen}-start-{run.id}", on_click=_resume, args=(run,),
                    disabled=view_only() or not may_edit(), help=why_not(),
                )  # fmt: skip
        if run.running and screen != "epochs" and st.button("Watch", key=f"{screen}-watch-{run.id}"):
            st.switch_page("pages/epochs.py", query_params=carry(run=run.id))
        if not external:  # its program reads no wish of ours
            st.button(
                "Stop", key=f"{screen}-stop-{run.id}", on_click=_stop, args=(run,),
                disabled=not may_edit(), help=why_not(),
            )  # fmt: skip


def stuck_cards(screen: str, most: int = 4) -> None:
    """Failed, interrupted, stopped and broken runs, newest first, each with its sentence, [Resume] and [Log]. What was
    archived needs nobody any more."""
    found = [run for run in runs() if state_of(run) in (*STUCK, "broken") and not label(run).archived]
    for run in found[:most]:
        stuck_card(screen, run)
    if len(found) > most:
        more = f"All runs: {len(found) - most} more like these"
        st.page_link("pages/runs.py", label=more, query_params=carry() or None)


def stuck_card(screen: str, run: Run) -> None:
    """One outlined card: what happened, and what can be done about it."""
    state = state_of(run)
    stopped = STOPPED_MEASURING if run.kind == "imported" else STOPPED
    words = run.problem or (stopped if state == "stopped" else "")
    with st.container(
        key=f"{screen}-stuck-{run.id}", horizontal=True, vertical_alignment="center", gap="small", border=True
    ):
        name = run.id if state == "broken" else run.title
        st.html(
            f'<span class="dynat-line">{state_badge(run)} <b>{escape(name)}</b> <span>{escape(words)}</span></span>',
            width="stretch",
        )
        if state != "broken":
            if screen != "epochs" and run.last_record() and st.button("Open", key=f"{screen}-open-{run.id}"):
                st.switch_page("pages/epochs.py", query_params=carry(run=run.id))
            if run.kind != "external":
                resume_button(screen, run)
            log_button(run)


def resume_button(screen: str, run: Run) -> None:
    """[Resume]: back into the queue, with a worker."""
    hint = "Training needs torch: run `pip install -r requirements.txt`." if view_only() else None
    st.button(
        "Resume", key=f"{screen}-resume-{run.id}", on_click=_resume, args=(run,),
        disabled=view_only() or not may_edit(), help=why_not(hint),
    )  # fmt: skip


def log_button(run: Run) -> None:
    """[Log]: the last lines that the run's processes printed, and the traceback of a failure."""
    with st.popover("Log"):
        error = run.error() or {}
        text = "\n".join(filter(None, (run.log_tail(40), error.get("traceback"))))
        height = 320 if text.count("\n") > 12 else "content"
        st.code(text or "The log is empty.", language=None, height=height, width=680)


def interrupted_banner(screen: str, run: Run) -> None:
    """What a screen says above the history of a run that stands still."""
    if state_of(run) in STUCK:
        stuck_card(screen, run)


def _stop(run: Run) -> None:
    with guarded():
        actions.stop(run)


def _resume(run: Run) -> None:
    with guarded():
        actions.resume(run)
