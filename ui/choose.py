"""Which runs a screen shows: chosen by a person, kept in the query string, the shipped pair at first."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from dynat_core.errors import RunError
from dynat_core.store.runs import Run
from ui.link import Link
from ui.store import runs, store
from ui.words import plain

DEMO_PAIR = ("demo-digits-dynamic", "demo-digits-standard")
DEMO_TRIO = (*DEMO_PAIR, "demo-digits-unsecured")


def choose_runs(screen: str, most: int = 4) -> list[Run]:
    """Draw the choice and return the chosen runs, at least one; with an empty store the page ends with a way out."""
    known = {run.id: run for run in runs() if run.state != "broken"}
    if not known:
        none_opens() if runs() else empty_store()
    link, key = Link(screen, "run"), f"{screen}.run"
    if link.arrived() or key not in st.session_state:
        st.session_state[key] = _asked(link.value, known, most)
    st.session_state[key] = [id for id in st.session_state[key] if id in known]

    def changed() -> None:
        link.write(",".join(st.session_state[key]) or None)

    names = titles(list(known.values()))
    st.multiselect(
        "Runs",
        list(known),
        format_func=names.__getitem__,
        key=key,
        on_change=changed,
        max_selections=most,
        select_all=False,
        placeholder="add a run",
        label_visibility="collapsed",
    )
    chosen = [known[id] for id in st.session_state[key]]
    if not chosen:
        st.info("Choose a run above: every run in the store is on that list.")
        st.stop()
    return chosen


def _asked(text: str | None, known: dict[str, Run], most: int) -> list[str]:
    """The run ids of a query string; unknown ones are said, and the page falls back to what there is."""
    found = []
    for id in list(dict.fromkeys(text.split(",")))[:most] if text else []:
        try:
            found.append(store().open(id).id)
        except RunError as error:
            st.error(plain(error))
    return [id for id in found if id in known] or default_runs(known)


def default_runs(known: dict[str, Run]) -> list[str]:
    """The shipped pair, or whichever run is the newest."""
    return [id for id in DEMO_PAIR if id in known] or list(known)[:1]


def titles(found: list[Run]) -> dict[str, str]:
    """id -> the name to show; two runs of the same name are told apart by their ids."""
    names = {run.id: run.title for run in found}
    often = Counter(names.values())
    return {id: name if often[name] == 1 else f"{name} ({id})" for id, name in names.items()}


def none_opens() -> None:
    """Say that every run here is broken and where it says why; the page ends here."""
    st.info(f"No run in {store().folder} can be opened; the screen All runs says of each what is wrong.")
    st.stop()


def empty_store() -> None:
    """Say what is missing and how to get it; the page ends here."""
    st.info(
        f"There are no runs in {store().folder} yet. The shipped demos are made by the command below; "
        "a run of your own is started on the screen Train, and the preset *quick* takes seconds."
    )
    st.code("make demos", language="bash")
    st.stop()
