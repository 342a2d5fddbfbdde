"""The compare screen: accuracies with intervals, differences on the same images, and the probe images side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynat_core.comparison import (
    Compared,
    Paired,
    Spread,
    between,
    common,
    differences,
    paired,
    restricted,
    seed_groups,
    spread,
)
from dynat_core.config import RunConfig
from dynat_core.recorded.trajectories import Trajectories, Trajectory
from dynat_core.statistics import wilson
from dynat_core.views import figures
from dynat_core.views.base import Series, View, styled
from dynat_core.views.facts import value_words
from dynat_core.views.pictures import class_name, frames
from dynat_core.views.svg import data_address
from dynat_core.views.words import number, percent

_ALONE = "whether they differ beyond the luck of training cannot be told"


def series_of(networks: Sequence[Compared]) -> tuple[Series, ...]:
    """Colour and dash of each network, as every other screen has them."""
    return styled([(network.title, network.config.strategy.name) for network in networks])


def accuracies(networks: Sequence[Compared]) -> View:
    """Each network's clean and robust accuracy on the shared images, with 95 % intervals."""
    shared, rows = common(networks), len(networks)
    data = []
    for k, network in enumerate(networks):
        for measure, right in zip(("clean", "robust"), restricted(network, shared), strict=True):
            n, correct = len(right), int(right.sum())
            low, high = wilson(correct, n)
            share = correct / n
            hover = f"{network.title}, {measure}: {percent(share, 1)} ({100 * low:.1f} to {100 * high:.1f})"
            y = rows - k - (0.15 if measure == "robust" else -0.15)
            data.append(_interval(share, y, low, high, f"@s{k}", hover))
    lowest = min(trace["x"][0] - trace["error_x"]["arrayminus"][0] for trace in data)
    xaxis = figures.axis("share of the test images that are right", (max(lowest - 0.03, -0.01), 1.01),
                         tickformat=".0%", nticks=6)  # fmt: skip
    title = "How often is each right? Hollow: clean; filled: under attack"
    return _view("accuracies", title, data, xaxis, [network.title for network in networks], networks)


def deltas(networks: Sequence[Compared]) -> View:
    """How much more often each network is right than the first one, on the same images, with 95 % intervals."""
    shared = common(networks)
    first = restricted(networks[0], shared)
    data, names = [], []
    for k, network in enumerate(networks[1:], start=1):
        for measure, right, before in zip(("clean", "robust"), restricted(network, shared), first, strict=True):
            found = paired(before, right)
            y = len(networks) - k - (0.15 if measure == "robust" else -0.15)
            hover = f"{network.title}, {measure}: {points(found)}"
            data.append(_interval(found.delta, y, found.low, found.high, f"@s{k}", hover))
        names.append(network.title)
    widest = max(abs(end) for t in data for end in _ends(t))
    span = max(widest * 1.1, 0.02)
    xaxis = figures.axis("difference of the share that is right", (-span, span), tickformat=".0%", nticks=5)
    view = _view("deltas", f"How much more often than {networks[0].title}?", data, xaxis, names, networks)
    zero = {
        "type": "line",
        "x0": 0,
        "x1": 0,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": "@muted", "width": 1},
    }
    fig = dict(view.fig or {})
    fig["layout"] = {**fig["layout"], "shapes": [zero]}
    return View(**{**vars(view), "fig": fig})


def _ends(trace: dict[str, Any]) -> tuple[float, float]:
    return trace["x"][0] - trace["error_x"]["arrayminus"][0], trace["x"][0] + trace["error_x"]["array"][0]


def _interval(at: float, y: float, low: float, high: float, color: str, words: str) -> dict[str, Any]:
    """A dot and its interval as a trace; the clean accuracy's dot, the one above, is hollow."""
    symbol = "circle" if y < round(y) else "circle-open"
    bars = {"type": "data", "symmetric": False, "array": [high - at], "arrayminus": [at - low], "color": color,
            "thickness": 2, "width": 4}  # fmt: skip
    return {
        "type": "scatter", "mode": "markers", "x": [at], "y": [y], "error_x": bars,
        "marker": {"color": color, "size": 9, "symbol": symbol}, "hoverinfo": "text", "text": [words],
    }  # fmt: skip


def _view(
    name: str,
    title: str,
    data: list[dict[str, Any]],
    xaxis: dict[str, Any],
    names: Sequence[str],
    networks: Sequence[Compared],
) -> View:
    """One row for each name, from top to bottom."""
    n = len(names)
    shown = [text if len(text) <= 24 else f"{text[:9]}…{text[-14:]}" for text in names]  # what differs is at the end
    yaxis = figures.axis("", (0.5, n + 0.5), tickmode="array", tickvals=list(range(n, 0, -1)), ticktext=shown,
                         showgrid=False, fixedrange=True)  # fmt: skip
    left = 24 + 6.2 * max(len(text) for text in shown)
    layout = figures.layout(xaxis, yaxis, left=int(left)) | {"hovermode": "closest"}
    colors = {f"s{k}": one.color for k, one in enumerate(series_of(networks))}
    return View(name, title, height=62 + 44 * n, fig={"data": data, "layout": layout}, colors=colors)


# --------------------------------------------------------------------------------------------------------------- words


def points(found: Paired) -> str:
    """A difference in percentage points with its interval: `+1.2 points (−0.4 to +2.8)`."""
    return f"{signed(found.delta)} points ({signed(found.low)} to {signed(found.high)})"


def signed(share: float) -> str:
    """A difference of shares in points, with its sign: `+1.2`, `−0.4`, `0.0`."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def p_words(p: float) -> str:
    """`0.03`, `<0.001`."""
    return "<0.001" if p < 0.001 else number(p)


def summary(networks: Sequence[Compared]) -> list[str]:
    """A sentence for each network beside the first: how robust accuracies differ, and whether that is luck of the
    images. Where there are several training seeds, their means are compared instead (`between_groups`)."""
    if any(len(group.places) > 1 for group in groups(networks)):
        return between_groups(networks)
    shared = common(networks)
    _, first = restricted(networks[0], shared)
    attack = networks[0].config.attack_words()
    sentences = []
    for network in networks[1:]:
        found = paired(first, restricted(network, shared)[1])
        one, other = network.title, networks[0].title
        where = f" under {attack}, on the same {found.n:,} test images" if not sentences else ""
        more = f"{one} − {other}: {points(found)}{where}"
        tail = f"McNemar p {p_words(found.p) if found.p < 0.001 else '= ' + p_words(found.p)}"
        judged = "these images do not tell them apart" if found.p >= 0.05 else "more than the luck of these images"
        sentences.append(f"{more}; {tail.replace('p <', 'p < ')}: {judged}.")
    return sentences


@dataclass(frozen=True)
class Group:
    """Networks that differ in their training seed alone: how often they are right, over the seeds."""

    title: str
    places: tuple[int, ...]
    seeds: tuple[int, ...]
    clean: Spread
    robust: Spread

    def words(self, found: Spread) -> str:
        """`71.8 %, 2 seeds, 71.5 to 72.0; 95 % interval of the mean 68.6 to 74.9`; for one seed the number alone."""
        if found.n == 1:
            return f"{percent(found.mean, 1)}, one seed"
        low, high = max(found.low, 0.0), min(found.high, 1.0)
        ends = f"95 % interval of the mean {100 * low:.1f} to {100 * high:.1f}"
        return f"{percent(found.mean, 1)}, {found.n} seeds, {100 * found.least:.1f} to {100 * found.most:.1f}; {ends}"


def groups(networks: Sequence[Compared]) -> list[Group]:
    """The networks by their settings, training seeds together."""
    shared, found = common(networks), []
    together = seed_groups([network.config for network in networks])
    names = _group_names({places[0]: networks[places[0]].config for places in together if len(places) > 1})
    for places in together:
        clean, robust = zip(*(map(np.mean, restricted(networks[k], shared)) for k in places), strict=True)
        title = networks[places[0]].title if len(places) == 1 else names[places[0]]
        seeds = tuple(networks[k].config.seed for k in places)
        found.append(Group(title, tuple(places), seeds, spread(clean), spread(robust)))
    return found


def _group_names(configs: Mapping[int, RunConfig]) -> dict[int, str]:
    """A name for each group: its strategy, and where several have that, the settings they differ in."""
    names = {}
    for place, config in configs.items():
        alike = [other for other in configs.values() if other.training_words() == config.training_words()]
        rows = [row for row in differences([config, *alike]) if row.key != "seed"]
        own = (f"{row.key.rpartition('.')[2]} {value_words(row.values[0])}" for row in rows)
        names[place] = ", ".join([config.training_words(), *own])
    return names


def between_groups(networks: Sequence[Compared]) -> list[str]:
    """A sentence for each group beside the first, where both have two training seeds at least."""
    shared, found, sentences = common(networks), groups(networks), []
    values = [[float(restricted(networks[k], shared)[1].mean()) for k in group.places] for group in found]
    for group, reached in zip(found[1:], values[1:], strict=True):
        difference = between(values[0], reached)
        if difference is not None:
            delta, low, high = (signed(min(max(part, -1.0), 1.0)) for part in difference)
            seeds = f"{len(reached)} and {len(values[0])} training seeds"
            ends = f"{low} to {high}, Welch"
            luck = "the luck of training is in this interval, attack and images stay the same"
            more = f"{group.title} − {found[0].title}, means of {seeds}: {delta} points robust ({ends})"
            sentences.append(f"{more}; {luck}.")
        else:
            alone = min(len(reached), len(values[0])) < 2
            why = "one of them has a single training seed" if alone else "the seeds of each ended exactly alike"
            sentences.append(f"{group.title} and {found[0].title}: {why}; {_ALONE}.")
    return sentences


# -------------------------------------------------------------------------------------------------------------- probes


@dataclass(frozen=True)
class Seen:
    """One probe image as one network saw it at the end of its recorded path. picture: a data address."""

    picture: str
    says: str
    right: bool
    margin: float
    relative_fosc: float


@dataclass(frozen=True)
class Probe:
    """One image, clean, and what the attack made of it on each network."""

    index: int
    label: str
    clean: str
    seen: tuple[Seen, ...]


def probes(paths: Sequence[Trajectories], classes: Sequence[str], most: int = 4) -> list[Probe]:
    """The first images whose path every network recorded, in rising order."""
    shared = sorted(set.intersection(*(set(path.index.tolist()) for path in paths)))[:most]
    found = []
    for index in shared:
        ones = [path.labelled(classes=list(classes)).one(int(np.flatnonzero(path.index == index)[0])) for path in paths]
        first = ones[0]
        found.append(Probe(index, class_name(first, first.label), _image(first, first.x), tuple(map(_seen, ones))))
    return found


def _seen(path: Trajectory) -> Seen:
    said = int(path.predicted[-1])
    words = f"{class_name(path, said)}, {percent(float(path.probabilities[-1][said]))}"
    last = float(path.margin[-1]), float(path.relative_fosc[-1])
    return Seen(_image(path, path.z[-1]), words, said == path.label, *last)


def _image(path: Trajectory, pixels: np.ndarray) -> str:
    return data_address(frames(path, pixels[None])[0])
