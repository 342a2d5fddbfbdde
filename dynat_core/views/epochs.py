"""The epochs screen: how FOSC, accuracy and loss moved while it trained, one cursor for all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dynat_core.recorded.histograms import BINS
from dynat_core.views import courses
from dynat_core.views.base import Note, Scene, Switch, View, Words, styled
from dynat_core.views.distributions import KINDS, Counted, Place, distribution
from dynat_core.views.epoch_runs import EpochRun, NamedHistory, gradients
from dynat_core.views.epoch_words import labels, sentences
from dynat_core.views.scales import recorded_steps, scale
from dynat_core.views.words import number, percent

FORMS = (("relative", "relative"), ("box", "box"), ("paper", "paper"))
MEASURE = {"relative": "relative_fosc", "box": "fosc", "paper": "fosc_paper"}
_TALL, _LOW = 214, 204


def epochs(
    histories: Sequence[NamedHistory], split: str = "train", form: str = "relative", kind: str = "histogram"
) -> Scene:
    """Return the scene of the epochs screen.

    split: "train" (images as they were trained on) or "test". form and kind are what is shown first; both are switched
    in the browser. A run without a record yet is left out of the pictures; without any the axes stand empty.
    """
    n = max((len(h.history.epochs) for h in histories), default=0)
    last = max([n - 1, 0, *(h.config.epochs for h in histories if h.running or n == 0)])
    named = styled([(h.name, h.config.strategy.name) for h in histories])
    series = [
        replace(s, until=len(h.history.epochs) - 1 if 0 < len(h.history.epochs) < n else None)
        for s, h in zip(named, histories, strict=True)
    ]
    runs = [
        EpochRun(k, s, h.history, h.config)
        for k, (s, h) in enumerate(zip(series, histories, strict=True))
        if len(h.history.epochs)
    ]
    views = [*_slope(runs, split, n, last), *_stops(runs, split, n, last)]
    views.append(_accuracy(runs, n, last))
    views += _measure(runs, split, n, last, "loss", "How large is the loss?")
    views += _measure(runs, split, n, last, "margin", "How far from being fooled?")
    views += _course(runs, split, n, last)
    switches = (
        Switch("form", "FOSC", FORMS, form if form in MEASURE else "relative", "r"),
        Switch("kind", "View", KINDS, kind if kind in dict(KINDS) else "histogram", "v"),
    )
    words = [Words(sentences(runs, histories, split, n))]
    return Scene(
        n,
        "epoch",
        views,
        series,
        words,
        labels(runs, split, n, last),
        last,
        switches,
        empty="" if n else "Nothing is recorded yet; epoch 0, the untrained network, comes first.",
    )


# ------------------------------------------------------------------------------------------------------------ views


def _slope(runs: Sequence[EpochRun], split: str, n: int, last: int) -> list[View]:
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


def _stops(runs: Sequence[EpochRun], split: str, n: int, last: int) -> list[View]:
    title = "When did they stop?"
    if split == "test":
        attacks = dict.fromkeys(f" The attack: {run.config.attack_words()}." for run in runs)
        text = (
            "Nothing stops early here: test images always get every step of the attack, so that epochs and runs can be "
            f"compared.{''.join(attacks)}"
        )
        if any(run.config.trains_here for run in runs):
            text += " Choose the images it trained on to see when Dynamic stopped."
        return [View("stops", title, 3, _TALL, text=text)]
    found = [c for run in runs if (c := run.counts("train/steps"))]
    most = max([1, *(run.steps for run in runs)])
    least = 0 if any(run.steps == 0 for run in runs) else 1
    steps = {run.k: (run.gradients, run.asking) for run in runs}

    def spent(counted: Counted) -> list[str]:
        k = counted.k
        return [f"{number(g)} gradients" if steps[k][0] else "no attack" for g in gradients(counted.counts, *steps[k])]

    place = Place("stops", title, 3, _TALL, {}, room=12)
    return distribution(place, recorded_steps(most, least), found, n, last, note=spent, top=1.02)


def _accuracy(runs: Sequence[EpochRun], n: int, last: int) -> View:
    view = courses.accuracy(
        [(r.k, r.series, r.history, r.config.attack_words()) for r in runs], n, last, span=3, height=_TALL
    )
    return courses.marked(view, _broken(runs))


def _measure(runs: Sequence[EpochRun], split: str, n: int, last: int, measure: str, title: str) -> list[View]:
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
    ends = (
        {"y0": 0, "y1": 0, "x0": 0, "x1": 1, "xref": "paper"}
        if kind == "heatmap"
        else {"x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "paper"}
    )
    frame["shapes"] = [{"type": "line", "layer": "below", "line": {"color": "@muted", "width": 1}, **ends}]
    if kind != "heatmap":
        base = {
            "y": 0.92,  # below the median ticks
            "yref": "paper",
            "x": 0,
            "yanchor": "top",
            "showarrow": False,
            "font": {"size": 11, "color": "@muted"},
        }
        frame["annotations"] = [
            {**base, "text": "fooled", "xanchor": "right", "xshift": -3},
            {**base, "text": "right", "xanchor": "left", "xshift": 3},
        ]
    return {**fig, "layout": frame}


def _course(runs: Sequence[EpochRun], split: str, n: int, last: int) -> list[View]:
    views = []
    for form, measure in MEASURE.items():
        found = [c for run in runs if (c := run.counts(f"{split}/{measure}"))]
        c_t = _thresholds(runs, form, split)
        view = courses.fosc_course(
            found, scale(measure), n, last, span=4, height=_LOW, when={"form": form}, thresholds=c_t
        )
        views.append(courses.marked(view, _broken(runs)))
    return views


def _thresholds(runs: Sequence[EpochRun], form: str, split: str) -> dict[int, np.ndarray]:
    """series -> c_t (E,) of the runs that compare this form of FOSC with it; no test image is stopped by it."""
    return {run.k: run.history.column("c_t") for run in runs if split == "train" and run.stop_form == form}


def _broken(runs: Sequence[EpochRun]) -> dict[int, int]:
    return {run.k: run.broken for run in runs if run.broken is not None}
