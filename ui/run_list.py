"""Runs as a table: which of them a person asks for, in which order, and what each row says. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from dynat_core.config import describe_eps
from dynat_core.store.bookkeeping import Label, label
from dynat_core.store.runs import Run
from dynat_core.views.words import wilson
from ui.store import size_of, state_of
from ui.words import outcome, strategy_words

ORDERS = {
    "newest": "newest first",
    "oldest": "oldest first",
    "title": "by title",
    "state": "by state",
    "robust": "by robust accuracy",
    "clean": "by clean accuracy",
    "size": "by size on disk",
}
SIZED = 200  # rows whose size is looked up without being asked to order by it: a second or so for a thousand


@dataclass(frozen=True)
class Row:
    """A run as the list sees it: read once, so that filters and orders cost nothing."""

    run: Run
    label: Label
    title: str
    state: str
    strategy: str
    data: str

    @property
    def words(self) -> str:
        """Everything a search looks through."""
        parts = (self.title, self.run.id, self.strategy, self.data, self.label.note, *self.label.tags)
        return "\n".join(parts).casefold()


@dataclass(frozen=True)
class Wish:
    """What a person asks for; empty means any. text: every word of it must be in the title, id, tags or note."""

    text: str = ""
    state: str = ""
    strategy: str = ""
    data: str = ""
    tag: str = ""
    archived: bool = False
    by: str = "newest"


def rows(runs: Sequence[Run]) -> list[Row]:
    """The runs of a store, broken ones too, in the order given."""
    found = []
    for run in runs:
        state = state_of(run)
        known = None if state == "broken" else run.config
        strategy, data = (strategy_words(known), known.data.words) if known else ("", "")
        found.append(Row(run, label(run), run.id if known is None else run.title, state, strategy, data))
    return found


def asked(found: Sequence[Row], wish: Wish) -> list[Row]:
    """The rows that were asked for, in order; archived ones only where they are asked for."""
    words = wish.text.casefold().split()
    left = [
        row
        for row in found
        if (wish.archived or not row.label.archived)
        and wish.state in ("", row.state)
        and wish.strategy in ("", row.strategy)
        and wish.data in ("", row.data)
        and (not wish.tag or wish.tag in row.label.tags)
        and all(word in row.words for word in words)
    ]
    newest = sorted(left, key=lambda row: (row.run.created, row.run.id), reverse=True)
    if wish.by == "oldest":
        return newest[::-1]
    if wish.by == "title":
        return sorted(newest, key=lambda row: row.title.casefold())
    if wish.by == "state":
        return sorted(newest, key=lambda row: row.state)
    if wish.by == "size":
        return sorted(newest, key=lambda row: -size_of(row.run))
    if wish.by in ("robust", "clean"):
        return sorted(newest, key=lambda row: -_reached(row, wish.by))
    return newest


def _reached(row: Row, measure: str) -> float:
    found = None if row.state == "broken" else outcome(row.run)
    return float(found[measure]) if found else -1.0


def table(found: Sequence[Row], sized: bool = True) -> pd.DataFrame:
    """What the list shows of each row. A robust accuracy stands with its interval, n and attack.

    sized: with the megabytes that each takes. Who asked for a run or added a model stands there where somebody did.
    """
    table = pd.DataFrame([_cells(row, sized) for row in found])
    return table if any(row.run.by for row in found) else table.drop(columns="by", errors="ignore")


def _cells(row: Row, sized: bool) -> dict[str, object]:
    cells: dict[str, object] = {
        "title": ("archived: " if row.label.archived else "") + row.title,
        "state": row.state,
        "strategy": row.strategy,
        "data": row.data,
        "epoch": "",
        "clean %": None,
        "robust %": None,
        "95 % interval": "",
        "images": None,
        "MB": round(size_of(row.run) / 1e6, 1) if sized else None,
        "attack": "",
        "tags": ", ".join(row.label.tags),
        "note": row.label.note.partition("\n")[0],
        "made": row.run.created,
        "by": row.run.by,
        "id": row.run.id,
    }
    if row.state == "broken":
        return cells | {"note": row.run.problem or ""}
    config = row.run.config
    if found := outcome(row.run):
        low, high = wilson(found["robust"], found["n"])
        cells |= {
            "epoch": f"{found['epoch']} of {config.epochs}" if config.epochs else str(found["epoch"]),
            "clean %": round(100 * found["clean"], 1),
            "robust %": round(100 * found["robust"], 1),
            "95 % interval": f"{100 * low:.1f} to {100 * high:.1f}",
            "images": int(found["n"]),
            "attack": f"PGD-{config.recording.steps}, eps {describe_eps(config.threat.eps)}",
        }
    return cells
