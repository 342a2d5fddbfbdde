"""One measure over all images, at the cursor's epoch: as a histogram, as a cumulative curve, or as a heat map of all
epochs. The three take turns in one slot and draw the same counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dynat_core.recorded import histograms
from dynat_core.recorded.histograms import BINS
from dynat_core.views.base import Bins, Note, Series, View, held, padded
from dynat_core.views.figures import epoch_axis, laid, layout, share_axis
from dynat_core.views.scales import Scale
from dynat_core.views.words import number

KINDS = (("histogram", "histogram"), ("ecdf", "cumulative"), ("heatmap", "heat map"))

_UPRIGHT = {"margin": "margin (logits), 0 = fooled", "steps": "PGD steps taken"}


@dataclass(frozen=True)
class Counted:
    """The counts of one run: k is its place among the series, counts (E, entries) as recorded."""

    k: int
    series: Series
    counts: np.ndarray


@dataclass(frozen=True)
class Place:
    """Where a distribution stands, and when."""

    slot: str
    title: str
    span: int
    height: int
    when: Mapping[str, str]
    room: int = 9


def quantiles(measure: str, counts: np.ndarray, q: float) -> np.ndarray:
    """The `q` quantile of each row of recorded counts (E, entries), (E,): NaN for an empty row, 0 where it lies in the
    zero bin of a logarithmic measure (its upper edge, which `quantile` gives, would claim more than was counted)."""
    values = histograms.quantiles(measure, counts, q)
    return values if measure in ("margin", "steps") else np.where(values <= BINS[measure][0], 0.0, values)


def medians(measure: str, counts: np.ndarray) -> np.ndarray:
    """The median of each row, (E,)."""
    return quantiles(measure, counts, 0.5)


def distribution(
    place: Place,
    scale: Scale,
    runs: Sequence[Counted],
    n: int,
    last: int,
    *,
    thresholds: Mapping[int, np.ndarray] | None = None,
    note: Callable[[Counted], list[str]] | None = None,
    top: float | None = None,
) -> list[View]:
    """Return the three views of one measure.

    n: cursor positions; last: the last epoch there will be. thresholds: series -> c_t (E,) in the measure's own unit.
    note: the text of a run for each of its epochs, instead of its median. top: a fixed end of the share axis.
    """
    name = f"{place.slot}-{scale.measure}"
    arrays, moves, notes, peaks = {}, [], [], []
    for run in runs:
        shown = scale.group(run.counts)
        arrays[f"{name}-{run.k}"] = padded(small(shown), n)
        whole = shown.sum(axis=1, keepdims=True)
        peaks.append((shown / np.maximum(whole, 1)).max(axis=1))
        style = {"series": run.k, "color": f"@s{run.k}", "dash": run.series.dash}
        moves.append({"kind": "bars", "arr": f"{name}-{run.k}", "share": True, **style})
        texts = note(run) if note else None
        if scale.measure != "steps":
            middle = medians(scale.measure, run.counts)
            arrays[f"{name}-median-{run.k}"] = padded(scale.position(middle).astype(np.float32), n)
            moves.append({"kind": "tick", "arr": f"{name}-median-{run.k}", **style})
            texts = texts or [f"median {number(m)}" for m in middle]
        if thresholds and run.k in thresholds:
            c_t = thresholds[run.k]
            at = np.where(np.isnan(c_t), np.nan, scale.position(c_t))
            arrays[f"{name}-c_t-{run.k}"] = padded(at.astype(np.float32), n)
            moves.append({"kind": "rule", "arr": f"{name}-c_t-{run.k}", "label": "c_t", **style, "dash": "solid"})
            texts = [f"{t}, c_t {number(c)}" for t, c in zip(texts or [], c_t, strict=True)]
        notes.append(Note(held(texts or [""] * n, n), run.k))
    common = {
        "title": place.title,
        "span": place.span,
        "height": place.height,
        "slot": place.slot,
        "notes": notes,
        "colors": {f"s{run.k}": run.series.color for run in runs},
    }
    counts = {run.k: f"{name}-{run.k}" for run in runs}
    bins = Bins(scale, counts)
    across = laid(scale, room=place.room)
    ceiling = top or _ceiling(peaks)
    stair = {"stair": True} if scale.measure == "steps" else {}
    smooth = [m | {"kind": "ecdf"} | stair if m["kind"] == "bars" else m for m in moves]
    return [
        View(
            f"{name}-histogram",
            fig={"data": [], "layout": layout(across, share_axis("share of images", ceiling))},
            moves=moves,
            bins=bins,
            arrays=arrays,
            when={**place.when, "kind": "histogram"},
            **common,
        ),
        View(
            f"{name}-ecdf",
            fig={"data": [], "layout": layout(across, share_axis("share at or below", 1.02))},
            moves=smooth,
            bins=bins,
            arrays=arrays,
            when={**place.when, "kind": "ecdf"},
            **common,
        ),
        _heatmap(name, place, scale, runs, last, arrays, bins, common),
    ]


def _heatmap(
    name: str,
    place: Place,
    scale: Scale,
    runs: Sequence[Counted],
    last: int,
    arrays: Mapping[str, np.ndarray],
    bins: Bins,
    common: Mapping,
) -> View:
    """All epochs at once, one panel a run side by side, the cursor as a line in each."""
    cuts, rows = _rows(scale)
    axes, data, moves, fills, names = {}, [], [], [], []
    width, gap = 1 / max(len(runs), 1), 0.04
    for at, run in enumerate(runs):
        x = "x" if at == 0 else f"x{at + 1}"
        domain = [at * width + (gap / 2 if at else 0), (at + 1) * width - (gap / 2 if at < len(runs) - 1 else 0)]
        axes[x.replace("x", "xaxis")] = epoch_axis(last, domain=domain, anchor="y", fixedrange=True)
        ramp = [[0, f"@s{run.k}/0"], [0.08, f"@s{run.k}/0.3"], [0.3, f"@s{run.k}/0.65"], [1, f"@s{run.k}/1"]]
        data.append(
            {
                "type": "heatmap",
                "xaxis": x,
                "yaxis": "y",
                "x": [],
                "y": cuts,
                "z": [],
                "colorscale": ramp,
                "showscale": False,
                "zmin": 0,
                "hoverinfo": "skip",
                "meta": run.k,
            }
        )
        fills.append({"trace": at, "arr": f"{name}-{run.k}", "rows": rows, "until": len(run.counts)})
        moves.append({"kind": "rule", "color": "@ink", "x": x})
        names.append(
            {
                "text": run.series.name,
                "x": domain[0],
                "y": 1,
                "xref": "paper",
                "yref": "paper",
                "xanchor": "left",
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 11, "color": f"@s{run.k}"},
            }
        )
    upright = laid(scale, upright=True, room=7 if place.height < 260 else 9)
    upright["title"] = {**upright["title"], "text": _UPRIGHT.get(scale.measure, scale.title)}
    frame = layout(axes.pop("xaxis", epoch_axis(last)), upright, left=58, top=22, annotations=names, **axes)
    return View(
        f"{name}-heatmap",
        fig={"data": data, "layout": frame},
        moves=moves,
        fills=fills,
        seek=True,
        bins=Bins(**{**vars(bins), "along": "y"}),
        arrays=arrays,
        when={**place.when, "kind": "heatmap"},
        **common,
    )


def _rows(scale: Scale) -> tuple[list[float], list[int]]:
    """Row edges of a heat map, and the bin in each row; -1 is the gap beside a bin that stands apart."""
    cuts, rows = [float(scale.boxes[0, 0])], []
    for k, (left, right) in enumerate(scale.boxes.tolist()):
        if left > cuts[-1] + 1e-9:
            cuts.append(left)
            rows.append(-1)
        cuts.append(right)
        rows.append(k)
    return [round(c, 5) for c in cuts], rows


def small(counts: np.ndarray) -> np.ndarray:
    """Counts in the smallest type that travels: uint16 where they fit, else float32 (exact up to 16.7 million)."""
    return counts.astype(np.uint16 if counts.max(initial=0) < 65536 else np.float32)


def _ceiling(peaks: Sequence[np.ndarray]) -> float:
    """The end of the share axis: the tallest bar of all epochs, unless a few epochs tower over the rest; their bars
    then leave at the top, where the browser prints their height."""
    every = np.concatenate(peaks) if peaks else np.array([])
    every = every[every > 0]
    if not len(every):
        return 0.2
    usual = float(np.quantile(every, 0.75))
    return min(1.0, 1.06 * min(float(every.max()), 1.5 * usual))
