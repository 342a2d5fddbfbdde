"""Which image? The sample table as a microscope: filters, a histogram to brush, an order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from ui.link import Link, moved
from ui.microscope import (
    FILTERS,
    MEASURES,
    UNITS,
    WORDS,
    Lens,
    Pick,
    edges,
    end,
    filtered,
    meaningless,
    measured,
    read_images,
    read_lens,
    read_pick,
    through,
)
from ui.stills import fitted
from ui.words import plain

__all__ = ["Pick", "image_table", "listed", "meaningless", "read_pick"]

# turn(change): what a person changed. It changes the lens as it is by then: callbacks run before the script, so the one
# that the script drew last may lack what was changed a moment before.
Turn = Callable[[Callable[[Lens], Lens]], None]
ANY = -1  # of the classes
SHOWN = 2000  # rows sent to the browser at most
NAMES = {"index": "#", "label": "y", "predicted": "says", "relative_fosc": "ρ", "fosc": "FOSC", "fosc_paper": "FOSC p",
         "loss": "loss", "margin": "margin", "steps_to_fool": "fooled", "gradient_l1": "|g|"}  # fmt: skip
ALWAYS = ("index", "label", "predicted", "relative_fosc", "loss", "steps_to_fool")
_HINTS = {
    "label": "true class",
    "predicted": "class at the end of the recorded attack",
    "relative_fosc": "relative FOSC left at the end",
    "fosc": "box FOSC left at the end, in nats",
    "fosc_paper": "FOSC in the paper's form, in nats",
    "margin": "logit of the true class minus the largest other, 0 = fooled",
    "steps_to_fool": "step of the recorded attack that first fooled the model",
    "gradient_l1": "sum of the absolute gradient over the pixels",
}
_WIDTHS = {"index": 46, "label": 32, "predicted": 44, "relative_fosc": 54, "loss": 48, "steps_to_fool": 56}


def listed(link: Link) -> list[int]:
    """The images that a link from elsewhere lists, with the way back to all of them; [] where it lists none."""
    images = read_images(link.value)
    if not images:
        return []
    with st.container(key="listed", horizontal=True, vertical_alignment="center", gap="small"):
        st.html(f'<p class="dynat-facts">{len(images):,} image{"s" * (len(images) != 1)} from the check</p>')
        st.button("show all", type="tertiary", on_click=link.write, args=(None,))
    return images


def image_table(
    table: pd.DataFrame,
    pick: Pick | None,
    link: Link,
    classes: Sequence[str],
    chosen: int | None,
    choose: Callable[[int], None],
) -> list[int]:
    """Draw filters, histogram and table; return the numbers of the images left, in the order of the table.

    pick: what was brushed on another screen. link: where the state of the microscope is kept.
    """
    usual = "picked" if pick else "all"

    def seen() -> Lens:
        lens = read_lens(link.value)
        return replace(lens, show=lens.show or usual)

    def turn(change: Callable[[Lens], Lens]) -> None:
        new = change(seen())
        link.write(replace(new, show="" if new.show == usual else new.show).text())

    lens = seen()

    with st.container(key="microscope"):
        lens = _which(table, pick, lens, turn)
        _classes(table, pick, lens, classes, turn)
        measure = _measure(table)
        _brush(table, pick, lens, measure, turn)
        rows = through(table, lens, pick)
        _count(rows, table, lens, turn)
        _order(lens, turn)
        _rows(rows, lens, measure, chosen, choose)
    return [int(i) for i in rows["index"]]


# ---------------------------------------------------------------------------------------------------------- filters


def _which(table: pd.DataFrame, pick: Pick | None, lens: Lens, turn: Turn) -> Lens:
    """All, fooled, not converged, fooled earlier, or what was brushed elsewhere."""
    names = FILTERS | ({"picked": f"brushed: {pick.words()}"} if pick else {})

    def changed(show: str) -> None:
        turn(lambda now: replace(now, show=show))

    name = st.selectbox(
        "Which images?",
        list(names),
        format_func=lambda n: f"{names[n]} ({len(filtered(table, n, pick)):,})",
        label_visibility="collapsed",
        **moved(f"trajectory.filter.{pick}", lens.show, changed, list(names)),
    )
    return replace(lens, show=name)


def _classes(table: pd.DataFrame, pick: Pick | None, lens: Lens, classes: Sequence[str], turn: Turn) -> None:
    """The true class and what it is read as, each with how many images that leaves: `4 (12)`."""
    for place, (name, column, anything) in zip(
        st.columns(2, gap="small"),
        (("true", "label", "any class"), ("read", "predicted", "read as any")),
        strict=True,
    ):
        counts = through(table, lens, pick, but=name)[column].value_counts()
        chosen = getattr(lens, name)
        options = [ANY, *sorted({*(int(k) for k in counts.index), *([chosen] if chosen is not None else [])})]

        def words(k: int, counts: Any = counts, anything: str = anything, name: str = name) -> str:
            if k == ANY:
                return anything
            said = classes[k] if k < len(classes) else str(k)
            return f"{'read as ' if name == 'read' else ''}{said} ({int(counts.get(k, 0)):,})"

        def changed(k: int, name: str = name) -> None:
            turn(lambda now: replace(now, **{name: None if k == ANY else k}))

        label = "true class" if name == "true" else "class it says"
        hand = moved(f"trajectory.class.{name}", ANY if chosen is None else chosen, changed, options)
        place.selectbox(label, options, format_func=words, label_visibility="collapsed", **hand)


def _measure(table: pd.DataFrame) -> str:
    """What the histogram shows."""
    there = [name for name in MEASURES if np.isfinite(measured(table, name)).any()] or [MEASURES[0]]
    return st.selectbox(
        "histogram of",
        there,
        format_func=lambda name: f"histogram: {WORDS[name]}",
        key="trajectory.measure",
        label_visibility="collapsed",
    )


def _brush(table: pd.DataFrame, pick: Pick | None, lens: Lens, measure: str, turn: Turn) -> None:
    """A histogram of what the other filters leave, and the two ends of what is kept of it."""
    values = measured(through(table, lens, pick, but=measure), measure)
    ends = edges(measured(table, measure), measure)
    kept = lens.range(measure) or Pick(measure, None, None)
    finite = values[np.isfinite(values)]
    if not ends:
        st.caption(f"All images have the same {WORDS[measure]}, or none was measured.")
        return
    counts, _ = np.histogram(finite, ends)
    tallest = max(int(counts.max(initial=0)), 1)
    low, high = (kept.low if kept.low is not None else ends[0]), (kept.high if kept.high is not None else ends[-1])
    bars = "".join(
        f'<i style="height:{100 * count / tallest:.0f}%" class="{"in" if low <= left and right <= high else ""}" '
        f'title="{count} images, {end(left)} to {end(right)}"></i>'
        for count, left, right in zip(counts.tolist(), ends[:-1], ends[1:], strict=True)
    )
    st.html(f'<div class="dynat-bars" role="img" aria-label="histogram of {WORDS[measure]}">{bars}</div>')
    options = sorted({*ends, low, high})
    key, first = _steady(f"trajectory.range.{measure}.{hash(tuple(options)) & 0xFFFFFFFF}", (low, high))

    def changed() -> None:
        start, stop = st.session_state[key]
        kept = Pick(measure, None if start == ends[0] else start, None if stop == ends[-1] else stop)
        turn(lambda now: now.kept(kept))

    st.select_slider(
        f"range of {WORDS[measure]}", options, first, format_func=end, key=key, on_change=changed,
        label_visibility="collapsed",
    )  # fmt: skip
    unit = f" ({UNITS[measure]})" if measure in UNITS else ""
    st.caption(f"{WORDS[measure]}{unit} at the end, {len(finite):,} images")


def _steady(name: str, shown: tuple[float, float]) -> tuple[str, tuple[float, float]]:
    """(key, first value) of a range slider that shows `shown`. It stays the same one, with the focus, while a person
    moves it, and is another one once something else has changed the range: Streamlit lets nobody set a range."""
    known = st.session_state.setdefault(f"{name}.first", [0, shown])
    key = f"{name}.{known[0]}"
    if tuple(st.session_state.get(key, known[1])) != shown:
        known[:] = [known[0] + 1, shown]
        key = f"{name}.{known[0]}"
    return key, known[1]


def _count(rows: pd.DataFrame, table: pd.DataFrame, lens: Lens, turn: Turn) -> None:
    """How many images are left, by which ranges, and the way back."""
    said = "; ".join(pick.words() for pick in lens.ranges)
    with st.container(key="left", horizontal=True, vertical_alignment="center", gap="small"):
        words = f"**{len(rows):,}** of {len(table):,} images" + (f": {plain(said)}" if said else "")
        st.markdown(words)
        if replace(lens, by="index", falling=False) != Lens(show=lens.show):
            st.button("clear", type="tertiary", on_click=turn, args=(_cleared,))


def _cleared(lens: Lens) -> Lens:
    return Lens(show=lens.show, by=lens.by, falling=lens.falling)


def _order(lens: Lens, turn: Turn) -> None:
    """The column it is sorted by, and which way."""
    keys = "trajectory.by", "trajectory.falling"
    st.session_state[keys[0]], st.session_state[keys[1]] = lens.by, lens.falling

    def changed() -> None:
        turn(lambda now: replace(now, by=st.session_state[keys[0]], falling=st.session_state[keys[1]]))

    by, falling = st.columns([1.7, 1], gap="small", vertical_alignment="center")
    order = list(NAMES)
    by.selectbox(
        "sorted by",
        order,
        format_func=lambda name: f"by {WORDS[name]}",
        key=keys[0],
        on_change=changed,
        label_visibility="collapsed",
    )
    falling.toggle("falling", key=keys[1], on_change=changed)


# ------------------------------------------------------------------------------------------------------------ table


def _rows(
    rows: pd.DataFrame, lens: Lens, measure: str, chosen: int | None, choose: Callable[[int], None]
) -> None:  # fmt: skip
    """The table itself; clicking a row opens its image."""
    if rows.empty:
        st.caption("No image is left by these filters.")
        return
    shown = rows.head(SHOWN)
    # What it is sorted by and what is brushed come first: the narrow table scrolls sideways.
    columns = [name for name in dict.fromkeys((*ALWAYS[:3], lens.by, measure, *ALWAYS[3:])) if name in shown.columns]
    table = pd.DataFrame({NAMES[name]: _cells(shown, name) for name in columns}).reset_index(drop=True)
    places = np.flatnonzero(table["#"] == chosen)
    default: Any = {"selection": {"rows": [int(places[0])], "columns": [], "cells": []}} if len(places) else None
    key = f"trajectory.table.{hash((tuple(table['#']), tuple(columns), chosen)) & 0xFFFFFFFF}"

    def selected() -> None:
        picked = st.session_state[key]["selection"]["rows"]
        number = int(table["#"].iloc[picked[0]]) if picked else chosen
        if number is not None and number != chosen:  # a browser that is behind says the row that was chosen for it
            choose(number)

    config = {
        NAMES[name]: st.column_config.NumberColumn(width=_WIDTHS.get(name, 56), help=_HINTS.get(name))
        for name in columns
    }
    st.dataframe(
        table, key=key, on_select=selected, selection_mode="single-row", selection_default=default, hide_index=True,
        height=fitted(len(shown), 290, 27), row_height=27, column_config=config, placeholder="–",
    )  # fmt: skip
    if len(rows) > SHOWN:
        st.caption(f"The first {SHOWN:,} of {len(rows):,} images; a filter narrows them down.")


def _cells(rows: pd.DataFrame, name: str) -> Any:
    """A column with the digits that are read, as numbers still, so that the table can sort them."""
    if name == "steps_to_fool":
        return pd.array([int(v) if v >= 0 else None for v in rows[name]], dtype="Int16")
    values = rows[name].to_numpy()
    if name in ("index", "label", "predicted"):
        return values
    if name in ("fosc", "fosc_paper", "gradient_l1"):
        return np.array([float(f"{v:.3g}") for v in values])
    return values.astype(np.float64).round(3 if name == "relative_fosc" else 2)
