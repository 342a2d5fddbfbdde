"""The threshold slider over all recorded images: had the attack stopped at FOSC <= c, when, at what cost, how strong?

On a fixed model stopping is a truncation of the recorded path, so one stored attack answers for every threshold. The
cursor is the threshold: never, then 0, then ten a decade. Source: Wang et al. 2019, Algorithm 1, lines 6 to 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynat_core.views.base import Note, Scene, Series, Switch, View, Words, styled
from dynat_core.views.distributions import small
from dynat_core.views.figures import axis, band, layout, line, listed, share_axis
from dynat_core.views.scales import SHORT, scale
from dynat_core.views.words import number, percent, wilson

MEASURES = ("fosc", "fosc_paper", "relative_fosc")  # what may be compared with c
CURVES = (*MEASURES, "margin", "loss")  # what of a run's recorded paths is needed
FORMS = (("box", "box"), ("paper", "paper"), ("relative", "relative"))
_MEASURE = {"box": "fosc", "paper": "fosc_paper", "relative": "relative_fosc"}
_PER_DECADE, _DECADES = 10, 6
_NOTHING = 1e-30  # what is smaller counts as 0 where the thresholds are laid out
ABOUT = (
    "This is about evaluation on a fixed model: stopping is a truncation of the recorded path. In training the "
    "threshold changes the model too, so this picture says nothing about that."
)
_HEIGHT = 196


@dataclass(frozen=True)
class Recorded:
    """The recorded paths of one model. curves: name of CURVES -> (images, K+1), as `Run.curves` gives them.

    unit: of the loss that was climbed and of FOSC. attack, verdict: in words, what was recorded and whether it may be
    believed.
    """

    name: str
    strategy: str
    curves: Mapping[str, np.ndarray]
    unit: str = "nats"
    attack: str = ""
    verdict: str = ""

    @property
    def steps(self) -> int:
        """K, the updates of the recorded attack."""
        return self.curves["fosc"].shape[1] - 1


@dataclass(frozen=True)
class Truncated:
    """What stopping at each of M thresholds would have meant. stops: (M, n) updates made; gradients, loss: (M,) means
    over the images; correct: (M,) images still classified correctly."""

    stops: np.ndarray
    gradients: np.ndarray
    loss: np.ndarray
    correct: np.ndarray

    @property
    def n(self) -> int:
        """How many images."""
        return self.stops.shape[1]


def thresholds(models: Sequence[Recorded]) -> np.ndarray:
    """(M,) rising: -inf (never), 0, then ten a decade over what FOSC decides about, at most six decades."""
    seen = [m.curves[name][:, 1:-1].ravel() for m in models for name in MEASURES]
    values = np.concatenate(seen) if seen else np.array([])
    values = values[np.isfinite(values) & (values > _NOTHING)]
    top = float(values.max()) if len(values) else 1.0
    low = max(float(values.min()) if len(values) else 0.1, top * 10.0**-_DECADES)
    first, last = math.floor(_PER_DECADE * math.log10(low)), math.ceil(_PER_DECADE * math.log10(top) + 0.3)
    # Two digits are exact here: what is said is what is compared.
    laid = [float(f"{10.0 ** (k / _PER_DECADE):.2g}") for k in range(first, last + 1)]
    return np.array([-np.inf, 0.0, *laid])


def stop_steps(fosc: np.ndarray, c: np.ndarray) -> np.ndarray:
    """(M, n) updates that an attack stopping at FOSC <= c would make, given FOSC (n, K+1) on its path and c (M,).

    The first step is always taken, equality stops, and after step K the check decides nothing. NaN never stops.
    """
    ends = fosc[None, :, 1:] <= c[:, None, None]
    ends[:, :, -1] = True
    return ends.argmax(axis=2) + 1


def truncated(curves: Mapping[str, np.ndarray], c: np.ndarray, form: str = "box") -> Truncated:
    """The recorded attack stopped at each threshold c (M,) of FOSC in `form`: box, paper or relative.

    A sample stopped after s < K updates has cost s + 1 gradients, the last one only to see that it may stop.
    """
    fosc = curves[_MEASURE[form]]
    stops, places = stop_steps(fosc, c), np.arange(len(fosc))
    gradients = np.minimum(stops + 1, fosc.shape[1] - 1)
    loss = curves["loss"].astype(np.float64)[places, stops]
    correct = (curves["margin"][places, stops] > 0).sum(axis=1)
    return Truncated(stops, gradients.mean(axis=1), loss.mean(axis=1), correct)


def threshold(models: Sequence[Recorded], form: str = "box") -> Scene:
    """Return the scene of the threshold slider over one model or several.

    form: box, paper or relative, what is compared with c first; switched in the browser.
    """
    models = [m for m in models if len(m.curves["fosc"]) and m.steps > 0]
    c = thresholds(models)
    series = styled([(m.name, m.strategy) for m in models])
    most = max((m.steps for m in models), default=1)
    views: list[View] = []
    words = []
    for name, _ in FORMS:
        found = [truncated(m.curves, c, name) for m in models]
        across = _across(name, c, _unit(models))
        views.append(_stops(name, found, series, most))
        views.append(_gradients(name, found, series, across, models, most))
        views.append(_accuracy(name, found, series, across))
        views.append(_loss(name, found, series, across, _unit(models)))
        words.append(Words(_sentences(name, c, models, found), {"form": name}))
    attacks = [f" {m.name}: {m.attack}; its verdict: {m.verdict}." for m in models if m.attack]
    views.append(View("threshold-about", "What this answers", 12, 60, text="".join([ABOUT, *attacks])))
    switches = (Switch("form", "Stop at", FORMS, form if form in _MEASURE else "box", "r"),)
    labels = [f"threshold {_named(float(v))}" for v in c]
    n = len(c) if models else 0
    empty = "" if models else "No paths of all test images are recorded here."
    return Scene(n, "setting", views, series, words, labels[:n], max(n - 1, 0), switches, empty=empty)


# ------------------------------------------------------------------------------------------------------------ views


def _stops(form: str, found: Sequence[Truncated], series: Sequence[Series], most: int) -> View:
    """How many images stop after how many steps."""
    laid = scale("steps", most)
    arrays, moves, notes = {}, [], []
    for k, cut in enumerate(found):
        counts = np.stack([(cut.stops == s).sum(axis=1) for s in range(1, most + 1)], axis=1)
        arrays[f"stops-{form}-{k}"] = small(counts)
        style = {"series": k, "color": f"@s{k}", "dash": series[k].dash}
        moves.append({"kind": "bars", "arr": f"stops-{form}-{k}", "share": True, "boxes": laid.boxes.tolist(), **style})
        notes.append(Note([f"{percent(one / cut.n)} after one step" for one in counts[:, 0]], k))
    ticks = {"tickmode": "array", "tickvals": [p for p, _ in laid.ticks], "ticktext": [t for _, t in laid.ticks]}
    across = axis("step it would have stopped at", laid.span, fixedrange=True, showgrid=False, **ticks)
    fig = {"data": [], "layout": layout(across, share_axis("share of images", 1.02))}
    return _view("stops", "When would each image have stopped?", form, series, fig, arrays, moves, notes, seek=False)


def _gradients(
    form: str, found: Sequence[Truncated], series: Sequence[Series], across: dict[str, Any],
    models: Sequence[Recorded], most: int,
) -> View:  # fmt: skip
    """What the attack would have cost."""
    values = [cut.gradients for cut in found]
    notes = [
        Note([f"{number(v)} of {m.steps} gradients" for v in cut.gradients], k)
        for k, (cut, m) in enumerate(zip(found, models, strict=True))
    ]
    upright = axis("gradients an image", (0, most * 1.06), nticks=5, fixedrange=True)
    return _course("gradients", "How much would it cost?", form, values, series, across, upright, notes)


def _accuracy(form: str, found: Sequence[Truncated], series: Sequence[Series], across: dict[str, Any]) -> View:
    """Robust accuracy against the truncated attack, with its 95 % interval."""
    data, notes = [], []
    for k, cut in enumerate(found):
        ends = [wilson(v / cut.n, cut.n) for v in cut.correct]
        at = list(range(len(cut.correct)))
        data += band(
            at, listed(np.array([e[0] for e in ends])), listed(np.array([e[1] for e in ends])), f"@s{k}", meta=k
        )
        said = [
            f"{percent(v / cut.n, 1)} ({100 * low:.1f} to {100 * high:.1f}) of {cut.n:,}"
            for v, (low, high) in zip(cut.correct, ends, strict=True)
        ]
        notes.append(Note(said, k))
    upright = share_axis("robust accuracy", 1.0)
    values = [cut.correct / cut.n for cut in found]
    title = "How strong would it have been?"
    return _course("accuracy", title, form, values, series, across, upright, notes, under=data)


def _loss(form: str, found: Sequence[Truncated], series: Sequence[Series], across: dict[str, Any], unit: str) -> View:
    """The mean loss reached; a margin loss is below 0 while most images are right."""
    values = [cut.loss for cut in found]
    seen = [v for v in values if np.isfinite(v).any()]
    top, low = max([0.1, *(float(np.nanmax(v)) for v in seen)]), min([0.0, *(float(np.nanmin(v)) for v in seen)])
    room = 0.08 * (top - low)
    notes = [Note([f"mean {number(float(v))}" for v in cut.loss], k) for k, cut in enumerate(found)]
    upright = axis(f"mean loss ({unit})", (low - room if low < 0 else 0, top + room), nticks=5, fixedrange=True)
    return _course("loss", "How high a loss would it have reached?", form, values, series, across, upright, notes)


def _course(
    name: str, title: str, form: str, values: Sequence[np.ndarray], series: Sequence[Series], across: dict[str, Any],
    upright: dict[str, Any], notes: Sequence[Note], under: Sequence[dict[str, Any]] = (),
) -> View:  # fmt: skip
    """A curve over the thresholds for each model, with a dot at the cursor."""
    data: list[dict[str, Any]] = list(under)
    moves: list[dict[str, Any]] = [{"kind": "rule", "color": "@ink"}]
    arrays = {}
    for k, course in enumerate(values):
        data.append(line(list(range(len(course))), listed(course), f"@s{k}", series[k].dash, 2.4, meta=k))
        arrays[f"{name}-{form}-{k}"] = course.astype(np.float32)
        moves.append({"kind": "dot", "arr": f"{name}-{form}-{k}", "color": f"@s{k}", "series": k})
    fig = {"data": data, "layout": layout(across, upright, left=56)}
    return _view(name, title, form, series, fig, arrays, moves, notes, seek=True)


def _view(
    name: str, title: str, form: str, series: Sequence[Series], fig: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray], moves: Sequence[Mapping[str, Any]], notes: Sequence[Note], *, seek: bool,
) -> View:  # fmt: skip
    return View(
        f"threshold-{name}-{form}", title, 6, _HEIGHT, slot=f"threshold-{name}", when={"form": form}, fig=fig,
        moves=moves, notes=notes, seek=seek, arrays=arrays, colors={f"s{k}": s.color for k, s in enumerate(series)},
    )  # fmt: skip


def _unit(models: Sequence[Recorded]) -> str:
    return " or ".join(dict.fromkeys(m.unit for m in models)) or "nats"


def _across(form: str, c: np.ndarray, unit: str) -> dict[str, Any]:
    """The thresholds along x, one cursor position each: never, 0, and a tick at each decade."""
    decades = [(k, v) for k, v in enumerate(c.tolist()) if v > 0 and math.isclose(math.log10(v) % 1, 0, abs_tol=1e-9)]
    words = [(k, f"{v:g}" if v >= 1e-3 else number(v, 1)) for k, v in decades if k > 5]
    ticks = [(0.5, "never, 0"), *words]
    title = f"threshold c of {SHORT[_MEASURE[form]]} ({'no unit' if form == 'relative' else unit})"
    marks = {"tickmode": "array", "tickvals": [k for k, _ in ticks], "ticktext": [t for _, t in ticks]}
    return axis(title, (-0.8, len(c) - 0.2), fixedrange=True, showgrid=False, **marks)


# ------------------------------------------------------------------------------------------------------------ words


def _named(c: float) -> str:
    return "never" if c == -math.inf else f"{c:g}"


def _sentences(
    form: str, c: np.ndarray, models: Sequence[Recorded], found: Sequence[Truncated]
) -> list[list[str]]:  # fmt: skip
    lines = []
    unit = "" if form == "relative" else f" {_unit(models)}"
    for i, value in enumerate(c.tolist()):
        measure = SHORT[_MEASURE[form]]
        head = f"Stopped once {measure} is at most {value:g}{unit}:"
        if value == -math.inf:
            head = "Never stopped, every image gets all steps:"
        elif value == 0:
            head = f"Stopped once {measure} is 0, where the slope offers no allowed direction that raises the loss:"
        lines.append([head, *(_said(m, cut, i) for m, cut in zip(models, found, strict=True))])
    return lines


def _said(model: Recorded, cut: Truncated, i: int) -> str:
    low, high = wilson(cut.correct[i] / cut.n, cut.n)
    robust = f"{percent(cut.correct[i] / cut.n, 1)} ({100 * low:.1f} to {100 * high:.1f}) of {cut.n:,} images hold"
    whole = f", {percent(cut.correct[0] / cut.n, 1)} after all {model.steps} steps" if i else ""
    return f"{model.name}: {number(float(cut.gradients[i]))} of {model.steps} gradients an image, {robust}{whole}."
