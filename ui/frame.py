"""The frame around every screen: page set-up, menu, the state of the machine, and the guard that says errors plainly.

A screen is `with page("Epochs", "How did ... move while it trained?"):` and its body; what reruns by itself is a function
under `@live(...)`, Streamlit's fragment with the same guard.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from dynat_core.errors import DynatError
from dynat_core.jobs import worker_state
from ui.store import store

ROOT = Path(__file__).resolve().parent.parent
MENU = {
    "app.py": "Overview",
    "pages/learn.py": "Learn",
    "pages/epochs.py": "Epochs",
    "pages/trajectory.py": "Trajectory",
    "pages/check.py": "Check a model",
}
MORE = {
    "pages/train.py": "Train",
    "pages/compare.py": "Compare",
    "pages/paper.py": "Paper",
    "pages/inner_optimizer.py": "Inner optimiser",
    "pages/smoothness.py": "Smoothness",
    "pages/sde.py": "SDE",
    "pages/theorem.py": "Theorem",
}
_log = logging.getLogger("dynat")


@contextmanager
def page(title: str, question: str) -> Iterator[None]:
    """Set the page up, draw the menu and the screen's one question, and say errors of the body in one sentence."""
    st.set_page_config(page_title=f"{title} - Dynat", page_icon="◐", layout="wide", initial_sidebar_state="collapsed")
    st.html(ROOT / "ui" / "theme.css")
    with guarded():
        _menu()
        st.html(f'<p class="dynat-question">{question}</p>')
        yield


@contextmanager
def guarded() -> Iterator[None]:
    """Show an error of the block as one sentence; the traceback of an unexpected one goes to the terminal."""
    try:
        yield
    except DynatError as error:
        st.error(str(error))
    except Exception as error:
        _log.exception("a screen failed")
        st.error(
            f"This screen met an error of its own ({type(error).__name__}); reload it, and if it stays, see the terminal."
        )


def live(every: float | None) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """A fragment that reruns alone, every `every` seconds if given, with the guard of `page`."""

    def wrap(body: Callable[[], None]) -> Callable[[], None]:
        @st.fragment(run_every=every)
        @functools.wraps(body)
        def run() -> None:
            with guarded():
                body()

        return run

    return wrap


def teaching() -> bool:
    """Whether expert controls are hidden and type is larger, `?teach=1`."""
    return st.query_params.get("teach") == "1"


def view_only() -> bool:
    """Whether this install has no torch: everything recorded can be looked at, nothing computed."""
    return importlib.util.find_spec("torch") is None


def exists(path: str) -> bool:
    """Whether the screen is there; the menu and buttons show no others."""
    return (ROOT / path).is_file()


def _menu() -> None:
    keep = {"teach": "1"} if teaching() else None
    with st.container(key="menu", horizontal=True, vertical_alignment="center", gap="small"):
        st.html('<span class="dynat-brand">Dynat</span>', width="content")
        for path, label in MENU.items():
            if exists(path):
                st.page_link(path, label=label, query_params=keep)
        more = {path: label for path, label in MORE.items() if exists(path)}
        if more:
            with st.popover("More", type="tertiary"):
                for path, label in more.items():
                    st.page_link(path, label=label, query_params=keep)
        st.space("stretch")
        st.html(_machine(), width="content")


def _machine() -> str:
    state = worker_state(store().folder)
    if state["busy_with"]:
        return f'<span class="dynat-state busy">{state["device"] or "CPU"}, training</span>'
    return '<span class="dynat-state">idle</span>'
