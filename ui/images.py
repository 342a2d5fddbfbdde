"""Which image? The table of test images with its filters, a small histogram, and what was brushed elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

MEASURES = ("relative_fosc", "fosc", "fosc_paper", "loss", "margin", "steps_to_fool")
FILTERS = {"all": "all", "fooled": "fooled", "slope": "not converged", "earlier": "fooled earlier, not last"}
CONVERGED = 0.1  # relative FOSC left at the end of the recorded attack
SHOWN = 2000  # rows sent to the browser at most
BARS = 24


@dataclass(frozen=True)
class Pick:
    """Images brushed on another screen: `measure` in [low, high), None is open."""

    measure: str
    low: float | None
    high: float | None

    def mask(self, table: pd.DataFrame) -> np.ndarray:
        """(n,) which rows are picked."""
        values = table[self.measure].to_numpy()
        keep = ~np.isnan(values)
        if self.low is not None:
            keep &= values >= self.low
        if self.high is not None:
            keep &= values < self.high
        return keep

    def words(self) -> str:
        """`relative FOSC 0.05 to 0.1`."""
        name = self.measure.replace("_", " ").replace("fosc", "FOSC")
        low, high = ("" if v is None else f"{v:.3g}" for v in (self.low, self.high))
        return f"{name} from {low}" if not high else f"{name} below {high}" if not low else f"{name} {low} to {high}"


def read_pick(text: str | None) -> Pick | None:
    """The brushed images of a query string, `relative_fosc,0.05,0.1`; None for anything else."""
    parts = (text or "").split(",")
    if len(parts) != 3 or parts[0] not in MEASURES:
        return None
    try:
        low, high = (float(part) if part else None for part in parts[1:])
    except ValueError:
        return None
    return Pick(parts[0], low, high) if all(v is None or np.isfinite(v) for v in (low, high)) else None


def filtered(table: pd.DataFrame, name: str, pick: Pick | None) -> pd.DataFrame:
    """The rows that a filter keeps."""
    fooled = (table["predicted"] != table["label"]).to_numpy()
    keep = {
        "all": np.ones(len(table), bool),
        "fooled": fooled,
        "slope": table["relative_fosc"].to_numpy() > CONVERGED,
        "earlier": (table["steps_to_fool"].to_numpy() >= 0) & ~fooled,
        "picked": pick.mask(table) if pick else np.ones(len(table), bool),
    }[name]
    return table.loc[keep]


def image_table(table: pd.DataFrame, pick: Pick | None, chosen: int | None, choose: Callable[[int], None]) -> list[int]:
    """Draw filters, histogram and table; return the images left, in rising order."""
    names = FILTERS | ({"picked": f"brushed: {pick.words()}"} if pick else {})
    left = {name: filtered(table, name, pick) for name in names}
    name = st.selectbox(
        "Which images?",
        list(names),
        list(names).index("picked" if pick else "all"),
        format_func=lambda n: f"{names[n]} ({len(left[n]):,})",
        key=f"trajectory.filter.{pick}",
        label_visibility="collapsed",
    )
    rows = in_range(left[name])
    _rows(rows, chosen, choose)
    return sorted(int(i) for i in rows["index"])


def in_range(rows: pd.DataFrame) -> pd.DataFrame:
    """A histogram of relative FOSC and the two ends of what is kept."""
    values = rows["relative_fosc"].to_numpy()
    finite = values[np.isfinite(values)]
    if len(finite) < 2 or finite.max() <= 0:
        return rows
    top = float(np.ceil(finite.max() * 20) / 20)
    counts, _ = np.histogram(finite, BARS, (0, top))
    low, high = st.session_state.get("trajectory.range", (0.0, top))
    bars = "".join(
        f'<i style="height:{100 * count / counts.max():.0f}%" class="{kept}" title="{count} images"></i>'
        for k, count in enumerate(counts)
        for kept in ("in" if low <= (k + 0.5) * top / BARS <= high else "",)
    )
    st.html(f'<div class="dynat-bars" role="img" aria-label="histogram of relative FOSC">{bars}</div>')
    if st.session_state.get("trajectory.top") != top:
        st.session_state["trajectory.top"], st.session_state["trajectory.range"] = top, (0.0, top)
    kept: Any = st.slider(
        "relative FOSC left",
        0.0,
        top,
        step=top / BARS,
        key="trajectory.range",
        format="%.2f",
        label_visibility="collapsed",
    )
    low, high = kept
    st.caption(f"relative FOSC left at the end, {len(finite):,} images")
    if (low, high) == (0.0, top):
        return rows
    return rows.loc[(values >= low) & (values <= high)]


def _rows(rows: pd.DataFrame, chosen: int | None, choose: Callable[[int], None]) -> None:
    """The table itself; clicking a row opens its image."""
    if rows.empty:
        st.caption("No image is left by this filter.")
        return
    shown = rows.head(SHOWN)
    table = pd.DataFrame(
        {
            "#": shown["index"],
            "y": shown["label"],
            "says": shown["predicted"],
            "ρ": shown["relative_fosc"].round(3),
            "loss": shown["loss"].round(2),
            "fooled": shown["steps_to_fool"].where(shown["steps_to_fool"] >= 0).astype("Int16"),
        }
    ).reset_index(drop=True)
    places = np.flatnonzero(table["#"] == chosen)
    default: Any = {"selection": {"rows": [int(places[0])], "columns": [], "cells": []}} if len(places) else None
    key = f"trajectory.table.{hash((tuple(table['#']), chosen)) & 0xFFFFFFFF}"

    def selected() -> None:
        picked = st.session_state[key]["selection"]["rows"]
        if picked:
            choose(int(table["#"].iloc[picked[0]]))

    widths = {"#": 46, "y": 32, "says": 44, "ρ": 54, "loss": 48, "fooled": 56}
    hints = {"ρ": "relative FOSC left at the end", "fooled": "step of the recorded attack that first fooled the model"}
    columns = {name: st.column_config.NumberColumn(width=w, help=hints.get(name)) for name, w in widths.items()}
    st.dataframe(
        table, key=key, on_select=selected, selection_mode="single-row", selection_default=default, hide_index=True,
        height=330, row_height=27, column_config=columns, placeholder="–",
    )  # fmt: skip
    if len(rows) > SHOWN:
        st.caption(f"The first {SHOWN:,} of {len(rows):,} images; a filter narrows them down.")
