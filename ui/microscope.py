"""Which rows of a sample table are looked at, and in which order: the part of the microscope that draws nothing.

All of it fits one value of the query string: `earlier;true=4;read=9;margin=,0;by=-fosc`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dynat_core.views.words import number

MEASURES = ("relative_fosc", "fosc", "fosc_paper", "loss", "margin", "steps_to_fool", "gradient_l1")
WORDS = {
    "relative_fosc": "relative FOSC",
    "fosc": "box FOSC",
    "fosc_paper": "paper FOSC",
    "loss": "loss",
    "margin": "margin",
    "steps_to_fool": "steps to fool",
    "gradient_l1": "gradient norm",
    "index": "image number",
    "label": "true class",
    "predicted": "class it says",
}
UNITS = {"fosc": "nats", "fosc_paper": "nats", "loss": "nats", "margin": "logits, 0 = fooled", "gradient_l1": "L1"}
FILTERS = {"all": "all", "fooled": "fooled", "slope": "not converged", "earlier": "fooled earlier, not last"}
CONVERGED = 0.1  # relative FOSC left at the end of the recorded attack
BARS = 24
MOST_LISTED = 2000  # images that a query string may name
_LONG = ("fosc", "fosc_paper", "gradient_l1")  # over orders of magnitude, so their bars are even in the logarithm


@dataclass(frozen=True)
class Pick:
    """Images whose `measure` lies in [low, high); None is open."""

    measure: str
    low: float | None
    high: float | None

    def mask(self, table: pd.DataFrame) -> np.ndarray:
        """(n,) which rows are picked; an image without the measure, such as one never fooled, is not."""
        values = measured(table, self.measure)
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


@dataclass(frozen=True)
class Lens:
    """What the microscope is set to. show: a key of FILTERS, or "picked"; empty where nobody chose. true, read: classes
    by number, None any. ranges: at most one for each measure. by: the column it sorts by; falling: the largest first.
    """

    show: str = ""
    true: int | None = None
    read: int | None = None
    ranges: tuple[Pick, ...] = ()
    by: str = "index"
    falling: bool = False

    def range(self, measure: str) -> Pick | None:
        """What is kept of a measure, None for all of it."""
        return next((pick for pick in self.ranges if pick.measure == measure), None)

    def kept(self, pick: Pick) -> Lens:
        """The same with another range of one measure; one that is open at both ends is none."""
        others = tuple(old for old in self.ranges if old.measure != pick.measure)
        return replace(self, ranges=others if pick.low is None and pick.high is None else (*others, pick))

    def text(self) -> str | None:
        """For the query string; None where nothing is set."""
        parts = [self.show] if self.show else []
        parts += [f"{name}={k}" for name, k in (("true", self.true), ("read", self.read)) if k is not None]
        for pick in self.ranges:
            low, high = ("" if v is None else f"{v:.6g}" for v in (pick.low, pick.high))
            parts.append(f"{pick.measure}={low},{high}")
        if self.by != "index" or self.falling:
            parts.append(f"by={'-' if self.falling else ''}{self.by}")
        return ";".join(parts) or None


def read_lens(text: str | None) -> Lens:
    """The lens of a query string; what means nothing in it is left out."""
    return _read_lens(text)[0]


def _read_lens(text: str | None) -> tuple[Lens, list[str]]:
    """The lens, and the parts of the text that mean nothing."""
    lens, odd = Lens(), []
    for part in (text or "")[:500].split(";"):
        name, equals, value = part.partition("=")
        if not equals and name in FILTERS:
            lens = replace(lens, show=name)
        elif name in ("true", "read") and value.isascii() and value.isdecimal() and len(value) < 6:
            lens = replace(lens, **{name: int(value)})
        elif name == "by" and value.lstrip("-") in WORDS:
            lens = replace(lens, by=value.lstrip("-"), falling=value.startswith("-"))
        elif (pick := read_pick(f"{name},{value}")) is not None:
            lens = lens.kept(pick)
        elif part.strip():
            odd.append(part)
    return lens, odd


def meaningless(only: str | None, pick: str | None, images: str | None) -> list[str]:
    """A sentence for each of these values of a query string that says something that cannot be read."""
    said = []
    if odd := _read_lens(only)[1]:
        said.append(f"The link's only={odd[0][:40]!r} means nothing here; it is like fooled;true=4;margin=,0;by=-fosc.")
    if pick and read_pick(pick) is None:
        said.append(f"The link's pick={pick[:40]!r} means nothing here; it is like relative_fosc,0.05,0.1.")
    odd = [part for part in (images or "").split(",") if part.strip() and not read_images(part)]
    if odd:
        said.append(f"The link's images={odd[0][:40]!r} is no image; they are whole numbers with commas between them.")
    return said


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


def read_images(text: str | None) -> list[int]:
    """The images that a query string lists, `3,17,42`, each once; what is no number is left out."""
    parts = [part.strip() for part in (text or "").split(",")]
    found = [int(part) for part in parts if part.isascii() and part.isdecimal() and len(part) < 10]
    return list(dict.fromkeys(found))[:MOST_LISTED]


def measured(table: pd.DataFrame, measure: str) -> np.ndarray:
    """(n,) a measure as floats; NaN where it was not measured, and for steps to fool where nothing fooled."""
    if measure not in table.columns:
        return np.full(len(table), np.nan)
    values = table[measure].to_numpy(dtype=np.float64)
    return np.where(values < 0, np.nan, values) if measure == "steps_to_fool" else values


def filtered(table: pd.DataFrame, name: str, pick: Pick | None) -> pd.DataFrame:
    """The rows that a filter keeps."""
    fooled = (table["predicted"] != table["label"]).to_numpy()
    if name == "fooled":
        return table.loc[fooled]
    if name == "slope":
        return table.loc[measured(table, "relative_fosc") > CONVERGED]
    if name == "earlier":
        return table.loc[(measured(table, "steps_to_fool") >= 0) & ~fooled]
    return table.loc[pick.mask(table)] if name == "picked" and pick else table


def through(table: pd.DataFrame, lens: Lens, pick: Pick | None = None, but: str = "") -> pd.DataFrame:
    """The rows that the lens leaves, in its order; ties by image number, what was not measured last.

    pick: what the filter "picked" keeps. but: a measure, or "true" or "read", whose own limit is not applied.
    """
    rows = filtered(table, lens.show, pick)
    for name, column, k in (("true", "label", lens.true), ("read", "predicted", lens.read)):
        if k is not None and but != name:
            rows = rows.loc[rows[column] == k]
    for one in lens.ranges:
        if but != one.measure:
            rows = rows.loc[one.mask(rows)]
    numbers = rows["index"].to_numpy()
    values = measured(rows, lens.by) if lens.by in rows.columns else numbers
    return rows.iloc[np.lexsort((numbers, -values if lens.falling else values))]


def edges(values: np.ndarray, measure: str) -> list[float]:
    """Rising ends of the bars that hold all finite `values`, of three digits, so that they stand in a link as they are;
    [] where there is nothing to tell apart."""
    values = values[np.isfinite(values)]
    if len(values) < 2 or values.min() == values.max():
        return []
    low, high = float(values.min()), float(values.max())
    if measure == "steps_to_fool":
        return [float(k) for k in range(int(high) + 2)]
    if measure in _LONG:
        low = min(low, 0.0)
        first = max(float(values[values > 0].min()), high * 1e-6) if high > 0 else high
        laid = [low, *np.geomspace(first, high, BARS).tolist()] if high > 0 else [low, high]
    else:
        low = 0.0 if low >= 0 and measure != "margin" else low
        laid = np.linspace(low, high, BARS + 1).tolist()
    return sorted({_down(laid[0]), *(float(f"{v:.3g}") for v in laid[1:-1]), _up(laid[-1])})


def _up(value: float) -> float:
    """The smallest number of three digits above `value`: a bar's upper end does not belong to it."""
    rounded = float(f"{value:.3g}")
    return rounded if rounded > value else float(f"{rounded + 10.0 ** (np.floor(np.log10(abs(value) or 1)) - 2):.3g}")


def _down(value: float) -> float:
    return value if value == 0 else -_up(-value)


def end(value: float) -> str:
    """An end of a bar in words."""
    return number(value, 3)
