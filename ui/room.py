"""What runs take on the disk, and a button that gives back what nobody needs. Nothing is removed here itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from dynat_core.errors import DynatError
from dynat_core.store import disk
from dynat_core.store.runs import Run
from ui.access import may_edit, why_not
from ui.store import size_of
from ui.words import plain

Prune = Callable[[Sequence[Run], int | None, bool], None]  # of these runs, keeping each k-th epoch, tables too


def room(chosen: Callable[[], Sequence[Run]], key: str, prune: Prune) -> None:
    """A popover with the size of the chosen runs and, after what would be freed is known, the button that calls
    `prune`. chosen() says which runs are meant, also by the time the button is pressed."""
    runs = chosen()
    with st.popover(f"Disk: {disk.words(sum(size_of(run) for run in runs))}", icon=":material/hard_drive:"):
        if len(runs) == 1:
            parts = sorted(disk.sizes(runs[0]).items(), key=lambda part: -part[1])
            st.markdown(", ".join(f"{name} {disk.words(size)}" for name, size in parts if size))
        st.caption(
            "Pruning removes weights for good. The first, the best and the last epoch stay, each that an evaluation "
            "is about, and all records: every curve stays whole."
        )
        wanted = _without_shipped(runs)
        if len(wanted) < len(runs):
            st.caption("The demos that came with Dynat are left out; each is pruned only when it is chosen alone.")
        every = st.number_input("Keep every k-th epoch too (0: none)", 0, 10_000, 0, key=f"{key}.every") or None
        tables = st.checkbox("Tables of samples and probes too", key=f"{key}.tables")
        frees = 0
        for run in wanted:
            try:
                frees += disk.plan(run, every, tables).frees
            except DynatError as error:
                st.warning(plain(str(error)))

        def pressed() -> None:
            # what is typed now: the field may have been left by this very click, after the script had run
            state = st.session_state
            prune(_without_shipped(chosen()), state[f"{key}.every"] or None, state[f"{key}.tables"])

        words = f"Prune: frees {disk.words(frees)}" if frees else "Nothing to prune"
        st.button(
            words,
            key="prune",
            disabled=not frees or not may_edit(),
            help=why_not(),
            on_click=pressed,
        )


def _without_shipped(runs: Sequence[Run]) -> list[Run]:
    """Shipped runs are pruned only when chosen alone."""
    return [run for run in runs if len(runs) == 1 or not disk.is_shipped(run)]
