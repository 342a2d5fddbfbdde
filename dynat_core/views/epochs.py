"""The epochs screen: how FOSC, accuracy and loss moved while it trained, one cursor for all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from dynat_core.config import Dynamic, RunConfig
from dynat_core.histograms import BINS
from dynat_core.views import courses
from dynat_core.views.base import Note, Scene, Series, Switch, View, Words, styled
from dynat_core.views.distributions import KINDS, Counted, Place, distribution, medians
from dynat_core.views.scales import scale
from dynat_core.views.words import number, percent

FORMS = (("relative", "relative"), ("box", "box"), ("paper", "paper"))
MEASURE = {"relative": "relative_fosc", "box": "fosc", "paper": "fosc_paper"}
_TALL, _LOW = 214, 204


class Recorded(Protocol):
    """What the screen reads of a run's history (runs.History)."""

    @property
    def epochs(self) -> np.ndarray: ...

    @property
    def counts(self) -> dict[str, np.ndarray]: ...

    def column(self, key: str) -> np.ndarray: ...


@dataclass(frozen=True)
class NamedHistory:
    """A run to draw. running: more epochs will come, up to config.epochs."""

    name: str
    history: Recorded
    config: RunConfig
    running: bool = False


@dataclass(frozen=True)
class _Run:
    k: int
    series: Series
    history: Recorded
    config: RunConfig

    def counts(self, key: str) -> Counted | None:
        rows = self.history.counts.get(key)
        return None if rows is None or not rows.any() else Counted(self.k, self.series, rows)

    @property
    def steps(self) -> int:
        return getattr(self.config.strategy, "steps", 0)

    @property
    def stop_form(self) -> str | None:
        """The form of FOSC whose unit c_t has; the code's form differs from the paper's by the start point alone."""
        strategy = self.config.strategy
        return ("box" if strategy.stop_form == "box" else "paper") if isinstance(strategy, Dynamic) else None

    @property
    def broken(self) -> int | None:
        """The first epoch whose loss is no number although others' are."""
        for key in ("train/loss", "test/loss"):
            loss = self.history.column(key)
            lost = np.flatnonzero(~np.isfinite(loss))
            if len(lost) and np.isfinite(loss).any():
                return int(lost[0])
        return None


def epochs(
    histories: Sequence[NamedHistory], split: str = "train", form: str = "relative", kind: str = "histogram"
) -> Scene:
    """Return the scene of the epochs screen.

    split: "train" (images as they were trained on) or "test". form and kind are what is shown first; both are switched in
    the browser. A run without a record yet is left out of the pictures; when there is none at all, the axes stand empty.
    """
    n = max((len(h.history.epochs) for h in histories), default=0)
    last = max([n - 1, 0, *(h.config.epochs for h in histories if h.running or n == 0)])
    named = styled([(h.name, h.config.strategy.name) for h in histories])
    series = [
        replace(s, until=len(h.history.epochs) - 1 if 0 < len(h.history.epochs) < n else None)
        for s, h in zip(named, histories, strict=True)
    ]
    runs = [_Run(k, s, h.history, h.config) for k, (s, h) in enumerate(zip(series, histories, strict=True)) if len(h.history.epochs)]
    views = [*_slope(runs, split, n, last), *_stops(runs, split, n, last)]
    views.append(_accuracy(runs, n, last))
    views += _measure(runs, split, n, last, "loss", "How large is the loss?")
    views += _measure(runs, split, n, last, "margin", "How far from being fooled?")
    views += _course(runs, split, n, last)
    switches = (
        Switch("form", "FOSC", FORMS, form if form in MEASURE else "relative", "r"),
        Switch("kind", "View", KINDS, kind if kind in dict(KINDS) else "histogram", "v"),
    )
    words = [Words(_sentences(runs, histories, split, n))]
    return Scene(n, "epoch", views, series, words, _labels(runs, split, n, last), last, switches,
                 empty="" if n else "Nothing is recorded yet; epoch 0, the untrained network, comes first.")  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ views


def _slope(runs: Sequence[_Run], split: str, n: int, last: int) -> list[View]:
    views: list[View] = []
    for form, measure in MEASURE.items():
        found = [c for run in runs if (c := run.counts(f"{split}/{measure}"))]
        place = Place("slope", "How much slope is left?", 6, _TALL, {"form": form}, room=11)
        views += distribution(place, scale(measure), found, n, last, thresholds=_thresholds(runs, form, split))
    dynamic = {run.stop_form for run in runs if run.stop_form}
    if split == "train" and dynamic:
        hint = Note([f"c_t is measured in {' and '.join(sorted(dynamic))} FOSC; R shows it"] * n)
        views = [replace(v, notes=[*v.notes, hint]) if v.when["form"] not in dynamic else v for v in views]
    return views


def _stops(runs: Sequence[_Run], split: str, n: int, last: int) -> list[View]:
    title = "When did they stop?"
    if split == "test":
        attack = "; ".join(dict.fromkeys(run.config.attack_words() for run in runs))
        text = (
            "Nothing stops early here: test images always get every step of the attack, so that epochs and runs can be compared. "
            f"The attack: {attack}. Choose the images it trained on to see when Dynamic stopped."
        )
        return [View("stops", title, 3, _TALL, text=text)]
    found = [c for run in runs if (c := run.counts("train/steps"))]
    most = max([1, *(run.steps for run in runs)])
    least = 0 if any(run.steps == 0 for run in runs) else 1
    steps = {run.k: run.steps for run in runs}

    def spent(counted: Counted) -> list[str]:
        k = counted.k
        return [f"{number(g)} gradients" if steps[k] else "no attack" for g in gradients(counted.counts, steps[k])]

    place = Place("stops", title, 3, _TALL, {}, room=12)
    return distribution(place, scale("steps", most, least), found, n, last, note=spent, top=1.02)


def gradients(counts: np.ndarray, steps: int) -> np.ndarray:
    """Gradients an image cost on average at each epoch, (E,), from the counts (E, entries) of the steps it took.

    Stopping after s steps costs s + 1 (the last one decides to stop); all `steps` cost `steps`: a check after the last
    step would decide nothing. What recording costs beyond that is not counted.
    """
    taken = (BINS["steps"][:-1] + 0.5).astype(int)
    cost = np.minimum(taken + 1, steps)
    rows = counts[:, 1:-1].astype(np.float64)
    total = rows.sum(axis=1)
    return np.divide(rows @ cost, total, out=np.full(len(rows), np.nan), where=total > 0)


def _accuracy(runs: Sequence[_Run], n: int, last: int) -> View:
    view = courses.accuracy([(r.k, r.series, r.history, r.config.attack_words()) for r in runs], n, last, span=3, height=_TALL)
    return courses.marked(view, _broken(runs))


def _measure(runs: Sequence[_Run], split: str, n: int, last: int, measure: str, title: str) -> list[View]:
    found = [c for run in runs if (c := run.counts(f"{split}/{measure}"))]
    note = _fooled if measure == "margin" else None
    views = distribution(Place(measure, title, 4, _LOW, {}), scale(measure), found, n, last, note=note)
    if measure == "margin":
        views = [replace(v, fig=_with_zero(v.fig, v.when["kind"])) for v in views if v.fig]
    return views


def _fooled(counted: Counted) -> list[str]:
    zero = int(np.abs(BINS["margin"]).argmin())
    below, total = counted.counts[:, : zero + 1].sum(axis=1), counted.counts.sum(axis=1)
    return [f"{percent(b / t) if t else '–'} fooled" for b, t in zip(below, total, strict=True)]


def _with_zero(fig: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The line between fooled and not fooled, and the words beside it."""
    frame = dict(fig["layout"])
    ends = {"y0": 0, "y1": 0, "x0": 0, "x1": 1, "xref": "paper"} if kind == "heatmap" else {"x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "paper"}
    frame["shapes"] = [{"type": "line", "layer": "below", "line": {"color": "@muted", "width": 1}, **ends}]
    if kind != "heatmap":
        base = {"y": 1, "yref": "paper", "x": 0, "yanchor": "top", "showarrow": False, "font": {"size": 11, "color": "@muted"}}
        frame["annotations"] = [{**base, "text": "fooled", "xanchor": "right", "xshift": -3}, {**base, "text": "right", "xanchor": "left", "xshift": 3}]
    return {**fig, "layout": frame}


def _course(runs: Sequence[_Run], split: str, n: int, last: int) -> list[View]:
    views = []
    for form, measure in MEASURE.items():
        found = [c for run in runs if (c := run.counts(f"{split}/{measure}"))]
        c_t = _thresholds(runs, form, split)
        view = courses.fosc_course(found, scale(measure), n, last, span=4, height=_LOW, when={"form": form}, thresholds=c_t)
        views.append(courses.marked(view, _broken(runs)))
    return views


def _thresholds(runs: Sequence[_Run], form: str, split: str) -> dict[int, np.ndarray]:
    """series -> c_t (E,) of the runs that compare this form of FOSC with it; no test image is stopped by it."""
    return {run.k: run.history.column("c_t") for run in runs if split == "train" and run.stop_form == form}


def _broken(runs: Sequence[_Run]) -> dict[int, int]:
    return {run.k: run.broken for run in runs if run.broken is not None}


# ------------------------------------------------------------------------------------------------------------ words


def _sentences(runs: Sequence[_Run], histories: Sequence[NamedHistory], split: str, n: int) -> list[list[str]]:
    """For each epoch a part for all and one for each series."""
    own: dict[int, list[str]] = {}
    for run in runs:
        lines = _train_words(run) if split == "train" else _test_words(run)
        if run.broken is not None:
            said = f"{run.series.name}: the loss is not a number (NaN) at epoch {run.broken}; training has diverged there."
            lines = [words if e < run.broken else said for e, words in enumerate(lines)]
        own[run.k] = lines
    sentences = []
    for e in range(n):
        parts = [f"Epoch {e}:" if e else "Epoch 0, the untrained network:"]
        for k, named in enumerate(histories):
            lines = own.get(k)
            if not lines:
                parts.append(f"{named.name} has recorded nothing yet.")
            elif e < len(lines):
                parts.append(lines[e])
            else:
                state = "is only at" if named.running else "ended at"
                parts.append(f"{named.name} {state} epoch {len(lines) - 1} and stays there.")
        sentences.append(parts)
    return sentences


def _train_words(run: _Run) -> list[str]:
    name, steps = run.series.name, run.steps
    if not steps:
        return [f"{name} trains on clean images, without an attack."] * len(run.history.epochs)
    after_one = run.history.column("train/stopped_after_one")
    counted = run.counts("train/steps")
    spent = gradients(counted.counts, steps) if counted else run.history.column("train/gradients")
    lines = []
    for e, (one, mean, c_t) in enumerate(zip(after_one, spent, run.history.column("c_t"), strict=True)):
        verb = "would spend" if e == 0 else "spent"
        cost = f"{verb} {number(mean)} of at most {steps} gradients an image"
        if run.stop_form is None:
            lines.append(f"{name} {verb} all {steps} gradients on every image." if mean == steps else f"{name} {cost}.")
        elif c_t > 0:
            stopped = "would stop" if e == 0 else "stopped"
            lines.append(f"{name}'s threshold was {number(c_t)} ({run.stop_form} FOSC); {percent(one)} of its images {stopped} after one step, and it {cost}.")
        else:
            lines.append(f"{name}'s threshold has come down to 0; it {cost}.")
    return lines


def _test_words(run: _Run) -> list[str]:
    left = run.counts("test/relative_fosc")
    middle = medians("relative_fosc", left.counts) if left else np.full(len(run.history.epochs), np.nan)
    robust, size = run.history.column("test/robust_accuracy"), run.history.column("test/n")
    attack = f"PGD-{run.config.recording.steps}"
    return [
        f"{run.series.name} withstands {attack} on {percent(r, 1)} of {m:.0f} test images; relative FOSC at the end is {number(f)} at the median."
        if np.isfinite(r) and np.isfinite(m) else f"{run.series.name} was not measured."
        for r, m, f in zip(robust, size, middle, strict=True)
    ]  # fmt: skip


def _labels(runs: Sequence[_Run], split: str, n: int, last: int) -> list[str]:
    """The cursor's value in words, for those who hear the page."""
    said = [f"epoch {e} of {last}" for e in range(n)]
    for run in runs:
        left = run.counts(f"{split}/relative_fosc")
        if left:
            for e, middle in enumerate(medians("relative_fosc", left.counts)):
                said[e] += f", {run.series.name}: median relative FOSC {number(middle)}"
    return said
