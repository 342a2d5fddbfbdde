"""What a screen draws, as plain data: a `Scene` of `View`s that share one cursor.

A View is a static plotly figure (or a picture, or a line of text), what moves in it, and arrays whose first axis is the
cursor. The browser draws the moving parts itself (ui/scrubber), so that moving the cursor needs no server;
`View.at(i)` (views/still.py) renders the same thing as a plain `plotly.Figure`, for export and for tests.

Axes are always linear in "positions": scales.py turns values into positions and labels the ticks. That is what lets a
logarithmic axis have a visible place for zero. Colours are written as tokens, `@s0` for the first series or `@ink` for
text, with an optional opacity `@s0/0.3`, so that one scene serves the light and the dark theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dynat_core.views.figures import literal
from dynat_core.views.ramps import RAMPS
from dynat_core.views.scales import Scale

if TYPE_CHECKING:
    import plotly.graph_objects as go

# (light theme, dark theme, dash): Okabe and Ito's colours, lightened on a dark ground; told apart by dash as well.
STRATEGIES: dict[str, tuple[str, str, str]] = {
    "dynamic": ("#0072B2", "#4DB1EC", "solid"),
    "standard": ("#D55E00", "#FF9447", "dash"),
    "unsecured": ("#777777", "#A9ADB5", "dot"),
    "trades": ("#009E73", "#2CCB9B", "dashdot"),
    "l2l": ("#B0578D", "#E397C4", "longdash"),
    "curriculum": ("#8A6D00", "#E6C229", "longdashdot"),
    "fgsm-then-pgd": ("#5B4BB5", "#A99BF5", "longdash"),
}
SPARE: tuple[tuple[str, str, str], ...] = (
    ("#009E73", "#2CCB9B", "dashdot"),
    ("#B0578D", "#E397C4", "longdash"),
    ("#8A6D00", "#E6C229", "longdashdot"),
    ("#5B4BB5", "#A99BF5", "dot"),
    ("#3F5F5F", "#9FC5C5", "dash"),
    ("#5F7A1F", "#B5D66B", "solid"),
)
GROUND: dict[str, tuple[str, str]] = {
    "ink": ("#1B1F24", "#F2F3F5"),
    "muted": ("#5A6270", "#A7AEBA"),
    "grid": ("#E4E7EB", "#30353F"),
    "alarm": ("#A3005C", "#FF8AC6"),
    "path": ("#FFFFFF", "#FFFFFF"),
    "stroke": ("#14181E", "#14181E"),  # on pictures whose ground is light in both themes
}


@dataclass(frozen=True)
class Series:
    """One run or model of a scene: its name, its colour on a light and on a dark ground, and its dash.

    until: the last cursor position it has; further on it stays there, drawn fainter.
    """

    name: str
    color: tuple[str, str]
    dash: str
    strategy: str = ""
    until: int | None = None


def strategy_style(name: str) -> tuple[str, str, str]:
    """Return (colour on light, colour on dark, dash) of a strategy; a strategy of our own gets a spare one, always the
    same for the same name."""
    if name in STRATEGIES:
        return STRATEGIES[name]
    return SPARE[sum(name.encode()) % len(SPARE)]


def styled(named: Sequence[tuple[str, str]]) -> tuple[Series, ...]:
    """Return a Series for each (name, strategy); the second run of a strategy gets a spare style, not the same one.

    A style that a strategy of the scene has by nature is spared for it as long as there are others, and a dash that is
    not there yet goes first, for those who do not see the colours: six series of any strategies look different.
    """
    taken: set[str] = set()
    dashes: set[str] = set()
    natural = {strategy_style(strategy)[0] for _, strategy in named}
    series = []
    for name, strategy in named:
        style = strategy_style(strategy)
        if style[0] in taken:
            free = sorted((s for s in SPARE if s[0] not in taken), key=lambda s: (s[0] in natural, s[2] in dashes))
            style = free[0] if free else style
        taken.add(style[0])
        dashes.add(style[2])
        series.append(Series(name, style[:2], style[2], strategy))
    return tuple(series)


@dataclass(frozen=True)
class Note:
    """A short text under a view's title, one for each cursor position; `series` gives it that series' line sample."""

    texts: Sequence[str]
    series: int | None = None


@dataclass(frozen=True)
class Bins:
    """The bins of a distribution view, for the value under the pointer and for brushing.

    arrays: series -> name of its counts. along: the axis that carries the bins, "x", or "y" in a heat map.
    """

    scale: Scale
    arrays: Mapping[int, str]
    along: str = "x"


@dataclass(frozen=True)
class Picture:
    """An image view: array (n, H, W) of uint8 looked up in `colors`, or (n, H, W, 3) of uint8 as it is.

    colors: name in `ramps.RAMPS`; key: texts at the low end, the middle and the high end of the colour key.
    """

    arr: str
    size: tuple[int, int]
    colors: str = "grey"
    key: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Threshold:
    """A slider over FOSC thresholds: where would stopping at c have ended this recorded path?

    curves: form -> FOSC at steps 0..K (None where it is undefined); names: form -> words. outcomes[s]: what stopping
    after s updates means, in words (s = 0 is never used: the first step is always taken). text: what the answer is
    about. Moves of kind `level` draw c across the curves of its form.
    """

    curves: Mapping[str, Sequence[float | None]]
    names: Mapping[str, str]
    outcomes: Sequence[str]
    text: str


@dataclass(frozen=True)
class View:
    """One box on the page. Exactly one of `fig`, `picture`, `threshold`, `text` says what is in it.

    slot: views of one slot take turns; `when` (switch -> value) says whose turn it is. block, span: where it stands;
    a block is a grid of 12 columns. fills: [{trace, arr, rows, boxes}] heat maps whose z the browser takes from counts.
    moves: what follows the cursor (see `still.shapes`, which is also their description).
    """

    id: str
    title: str
    span: int = 12
    height: int = 210
    block: str = ""
    slot: str = ""
    when: Mapping[str, str] = field(default_factory=dict)
    fig: Mapping[str, Any] | None = None
    moves: Sequence[Mapping[str, Any]] = ()
    fills: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[Note] = ()
    bins: Bins | None = None
    seek: bool = False
    picture: Picture | None = None
    threshold: Threshold | None = None
    text: str | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    colors: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def at(self, i: int, dark: bool = False) -> go.Figure:
        """Return the view with the cursor at `i` as a plotly figure. Raises ValueError for a view that is only text."""
        from dynat_core.views.still import still

        return still(self, i, dark)


@dataclass(frozen=True)
class Switch:
    """A choice made in the browser: options are (value, words); `key` cycles through them."""

    name: str
    title: str
    options: Sequence[tuple[str, str]]
    value: str
    key: str = ""


@dataclass(frozen=True)
class Key:
    """A key that the page itself handles: pressing it reports `action` to Python."""

    key: str
    words: str
    action: str


@dataclass(frozen=True)
class Words:
    """The sentence, for each cursor position a part for all and a part for each series; `when` as in View."""

    parts: Sequence[Sequence[str]]
    when: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """Everything under one cursor. `n` positions are there (0 .. n-1); the cursor's track goes to `last` >= n-1.

    opens: words of the button that reports a brushed selection to the page; none without it. empty: said at n = 0.
    """

    n: int
    unit: str
    views: Sequence[View]
    series: Sequence[Series]
    words: Sequence[Words]
    labels: Sequence[str]
    last: int
    switches: Sequence[Switch] = ()
    keys: Sequence[Key] = ()
    opens: str = ""
    blocks: Mapping[str, int] = field(default_factory=lambda: {"": 12})
    empty: str = ""

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> array, first axis the cursor; views that show the same numbers share them."""
        return {name: array for view in self.views for name, array in view.arrays.items()}

    @property
    def sentences(self) -> list[str]:
        """One sentence for each cursor position, with the switches as they start and every series shown."""
        chosen = {s.name: s.value for s in self.switches}
        words = next((w for w in self.words if all(chosen.get(k) == v for k, v in w.when.items())), None)
        return [" ".join(filter(None, parts)) for parts in words.parts] if words else []

    def view(self, view_id: str) -> View:
        """Return the view with that id. Raises KeyError."""
        for view in self.views:
            if view.id == view_id:
                return view
        raise KeyError(view_id)

    def header(self) -> dict[str, Any]:
        """The scene without its arrays, as JSON-able data for the browser; texts that repeat are sent once."""
        texts: dict[tuple[str, ...], int] = {}

        def kept(lines: Sequence[str]) -> int:
            return texts.setdefault(tuple(lines), len(texts))

        views = [_view_header(view, kept) for view in self.views]
        words = [
            {"when": dict(w.when), "parts": [kept(column) for column in zip(*w.parts, strict=True)]} for w in self.words
        ]
        return {
            "n": self.n,
            "unit": self.unit,
            "last": self.last,
            "views": views,
            "series": [{"name": s.name, "dash": s.dash, "until": s.until} for s in self.series],
            "ramps": {p.colors: RAMPS[p.colors] for p in (v.picture for v in self.views) if p is not None},
            "colors": {**GROUND, **{f"s{k}": s.color for k, s in enumerate(self.series)}},
            "scales": {v.bins.scale.measure: v.bins.scale.header() for v in self.views if v.bins is not None},
            "words": words,
            "labels": kept(self.labels),
            "switches": [vars(s) for s in self.switches],
            "keys": [vars(k) for k in self.keys],
            "blocks": dict(self.blocks),
            "opens": self.opens,
            "empty": self.empty,
            "texts": [_runs_of(lines) for lines in texts],
        }


def _view_header(view: View, kept: Any) -> dict[str, Any]:
    header: dict[str, Any] = {
        "id": view.id,
        "title": view.title,
        "span": view.span,
        "height": view.height,
        "block": view.block,
        "slot": view.slot or view.id,
        "when": dict(view.when),
        "notes": [{"series": note.series, "texts": kept(note.texts)} for note in view.notes],
    }
    if view.fig is not None:
        header |= {"fig": literal(view.fig), "moves": list(view.moves), "fills": list(view.fills), "seek": view.seek}
    if view.bins is not None:
        header["bins"] = {"scale": view.bins.scale.measure, "arrays": dict(view.bins.arrays), "along": view.bins.along}
    for name in ("picture", "threshold"):
        if getattr(view, name) is not None:
            header[name] = vars(getattr(view, name))
    if view.text is not None:
        header["text"] = view.text
    return header


def _runs_of(lines: Sequence[str]) -> list[Any]:
    """Lines as [text, times, text, times, ...]: many texts stay the same for many cursor positions."""
    runs: list[Any] = []
    for line in lines:
        if runs and runs[-2] == line:
            runs[-1] += 1
        else:
            runs += [line, 1]
    return runs


def padded(values: np.ndarray, n: int) -> np.ndarray:
    """`values` (E, ...) made `n` long by repeating the last row: a shorter run stays where it ended. E >= 1."""
    return values if len(values) >= n else np.concatenate([values, np.repeat(values[-1:], n - len(values), axis=0)])


def held(texts: Sequence[str], n: int) -> list[str]:
    """`texts` made `n` long by repeating the last, as `padded` does; none stay none."""
    return [*texts, *([texts[-1]] * (n - len(texts)) if texts else [])]
