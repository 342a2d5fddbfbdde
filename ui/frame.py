"""The frame around every screen: page set-up, menu, the state of the machine, and the guard that says errors plainly.

A screen is `with page("Epochs", "How did ... move while it trained?"):` and its body; what reruns by itself is a
function under `@live(...)`, Streamlit's fragment with the same guard.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import streamlit as st

from dynat_core.errors import DynatError
from dynat_core.terminal import clean
from ui.access import account, door, refuse_unknown, warn_if_exposed
from ui.devices import menu_html
from ui.link import carry, entered, remembered
from ui.words import plain

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
    "pages/runs.py": "All runs",
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
    st.set_page_config(
        page_title=f"{title} - Dynat",
        page_icon=str(ROOT / "ui" / "icon.svg"),
        layout="wide",
        initial_sidebar_state="collapsed",
    )
    st.html(ROOT / "ui" / "theme.css")
    if teaching():
        st.html(ROOT / "ui" / "teach.css")
    try:
        door()
    except DynatError as error:  # who may do what is not known: nobody may do anything
        st.error(plain(error))
        st.stop()
    entered(screen_of(title))
    with guarded():
        _menu(title)
        warn_if_exposed()
        st.html(f'<p class="dynat-question">{question}</p>')
    with guarded():  # of its own: a menu that fails leaves a screen
        yield


@contextmanager
def guarded() -> Iterator[None]:
    """Show an error of the block as one sentence; the traceback of an unexpected one goes to the terminal."""
    try:
        yield
    except DynatError as error:
        st.error(plain(error))
    except Exception as error:
        _log.error("a screen failed\n%s", clean(traceback.format_exc()))
        what = f"This screen met an error of its own ({type(error).__name__})"
        st.error(f"{what}; reload it, and if it stays, see the terminal.")


def live(every: float | None) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """A fragment that reruns alone, every `every` seconds if given, with the guard of `page`."""

    def wrap(body: Callable[[], None]) -> Callable[[], None]:
        @st.fragment(run_every=every)
        @functools.wraps(body)
        def run() -> None:
            with guarded():
                refuse_unknown()
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


def screen_of(title: str) -> str:
    """The name under which a screen keeps what it shows, from its title."""
    return title.lower().replace(" ", "-")


def _menu(title: str) -> None:
    state = st.session_state.to_dict()
    with st.container(key="menu", horizontal=True, vertical_alignment="center", gap="small"):
        st.html('<span class="dynat-brand">Dynat</span>', width="content")
        for path, label in MENU.items():
            if exists(path):
                _entry(path, label, state)
        more = {path: label for path, label in MORE.items() if exists(path)}
        if more and not teaching():
            with st.popover(f"More: {title}" if title in more.values() else "More", type="tertiary"):
                for path, label in more.items():
                    _entry(path, label, state)
        st.space("stretch")
        st.html(_machine(), width="content")
        account()


def _entry(path: str, label: str, state: Mapping[str, Any]) -> None:
    """A menu entry leads back to what that screen last showed."""
    st.page_link(path, label=label, query_params=carry(**remembered(screen_of(label), state)) or None)


def _machine() -> str:
    """What computes here: the devices and what each does."""
    if view_only():
        return '<span class="dynat-state">view only</span>'
    return menu_html()
