"""What the screens of the related papers share: settings in the query string, and the words below the picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from ui.choose import DEMO_TRIO
from ui.link import Link, train_with
from ui.store import runs
from ui.words import plain


def setting(screen: str, name: str, label: str, options: Sequence[float], default: float, about: str) -> float:
    """A slider over `options` whose value is in the query string unless it is `default`."""
    link, key = Link(screen, name), f"{screen}.{name}"
    known = {text(option): option for option in options}
    if link.arrived() or key not in st.session_state:
        st.session_state[key] = link.value if link.value in known else text(default)
        if link.value is not None and link.value not in known:
            st.error(plain(f"There is no {name} of {link.value[:40]!r}; there is {', '.join(known)}."))

    def changed() -> None:
        link.write(None if st.session_state[key] == text(default) else st.session_state[key])

    chosen = st.select_slider(label, list(known), key=key, on_change=changed, help=about)
    return known[str(chosen)]


def text(value: float) -> str:
    """A setting as it stands in the query string: 0.05, 128."""
    return f"{value:g}" if value < 1e4 else f"{value:.0f}"


def explained(formula: str, where: str, shows: str, not_shows: str, cautions: Sequence[str], source: str) -> None:
    """Below the picture: the formula, what the screen shows and does not show, the cautions, the paper's title."""
    left, right = st.columns([5, 7], gap="medium")
    with left:
        st.latex(formula)
        st.html(f'<p class="dynat-quiet">{escape(where)}</p>')
    with right:
        said = f"<p><b>What this shows.</b> {escape(shows)}</p><p><b>What it does not show.</b> {escape(not_shows)}</p>"
        notes = "".join(f"<li>{escape(caution)}</li>" for caution in cautions)
        st.html(f'<div class="dynat-line">{said}<ul>{notes}</ul><p class="dynat-quiet">{escape(source)}</p></div>')


def shipped_networks() -> dict[str, str]:
    """The shipped digits networks that are there, id -> title."""
    found = {run.id: run for run in runs() if run.state == "finished"}
    return {id: plain(found[id].title) for id in DEMO_TRIO if id in found and found[id].kept_epochs()}


def use_in_a_run(what: str, preset: str, said: str = "") -> None:
    """A button that leads to Train with a preset loaded. said: beside it."""
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        if st.button(f"Use {what} in a run", key=f"use-{preset}"):
            train_with(preset=preset)
        if said:
            st.caption(said)
