"""Small drawings in HTML: a run's card with its sparklines, and its state. Everything from a person is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

import numpy as np

from dynat_core.config import NORM_WORDS, describe_eps
from dynat_core.reports.compared import verdict
from dynat_core.store.history import History
from dynat_core.store.runs import Run
from dynat_core.views import strategy_style
from dynat_core.views.base import styled
from dynat_core.views.facts import share
from dynat_core.views.words import number, percent
from ui.store import history, state_of
from ui.words import ago, epoch_shown, gradients_per_image, outcome, strategy_words

_DASHES = {
    "solid": "",
    "dash": "7 4",
    "dot": "2 4",
    "dashdot": "7 3 2 3",
    "longdash": "11 4",
    "longdashdot": "11 3 2 3",
}

_COST = "what the training attack spent on an image in each epoch, on average; what recording costs is not counted"


def color(strategy: str) -> str:
    """The strategy's colour, as CSS for both themes."""
    light, dark, _ = strategy_style(strategy)
    return f"light-dark({light}, {dark})"


def swatch(strategy: str) -> str:
    """A short line in the strategy's colour and dash."""
    light, dark, dash = strategy_style(strategy)
    return _line((light, dark), dash)


def swatches(runs: Sequence[Run]) -> list[str]:
    """A short line for each of these runs as a picture of all of them draws it: no two alike."""
    return [_line(s.color, s.dash) for s in styled([(run.id, run.config.strategy.name) for run in runs])]


def _line(colors: tuple[str, str], dash: str) -> str:
    line = {"solid": "solid", "dash": "dashed"}.get(dash, "dotted")
    return f'<i class="dynat-swatch" style="border-top:3px {line} light-dark({colors[0]}, {colors[1]})"></i>'


def sparkline(lines: Sequence[tuple[np.ndarray, str, str]], low: float, high: float, label: str) -> str:
    """A few courses over the epochs on one scale low .. high: (values, CSS colour, dash).

    Streamlit takes SVG out of HTML, so each line is a coloured box seen through a mask.
    """
    boxes = []
    for values, stroke, dash in lines:
        across = 152 / max(len(values) - 1, 1)
        points = [
            (4 + across * k, 34 - 30 * min(max((v - low) / (high - low), 0), 1)) for k, v in enumerate(values) if v == v
        ]
        if points:
            boxes.append(f'<i style="background:{stroke};mask-image:url({_drawn(points, dash)})"></i>')
    return f'<div class="dynat-spark" role="img" aria-label="{escape(label)}">{"".join(boxes)}</div>'


def _drawn(points: Sequence[tuple[float, float]], dash: str) -> str:
    """A line through the points and a dot at its end, as the address of an SVG image of 160 x 38."""
    d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    x, y = points[-1]
    svg = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 160 38' preserveAspectRatio='none'>"
        f"<path d='{d}' stroke='#000' stroke-width='1.6' fill='none' stroke-dasharray='{dash}' "
        f"vector-effect='non-scaling-stroke'/><circle cx='{x:.1f}' cy='{y:.1f}' r='2.2'/></svg>"
    )
    return "&quot;data:image/svg+xml," + quote(svg, safe="/:=' ") + "&quot;"


def run_card(run: Run) -> str:
    """The card of a run that has recorded something: what it reached, how sure, at what cost, and its two courses."""
    config, past = run.config, history(run)
    strategy = config.strategy.name
    found = outcome(run)
    head = f"<h3>{swatch(strategy)}{escape(run.title)}</h3>"
    if found is None:
        return f'<div class="dynat-card">{head}<p>{escape(config.summary())}: nothing recorded yet.</p></div>'
    cost = gradients_per_image(run)
    norm = NORM_WORDS[config.threat.norm]
    facts = (
        f"{_which_epoch(run, found['epoch'])}; {found['n']:,} test images, 95 % intervals; "
        f"{norm} eps {describe_eps(config.threat.eps)}"
    )
    numbers = _reached("clean", found["clean"], found["n"], "without an attack")
    numbers += _reached(f"PGD-{config.recording.steps}", found["robust"], found["n"], config.attack_words())
    if config.trains_here:
        spent, _, of = (f"0 {cost}" if strategy == "unsecured" else cost).partition(" ")
        numbers += f'<div title="{_COST}"><span>gradients</span><b>{spent}</b> <small>{of}</small></div>'
    return (
        f'<div class="dynat-card">{head}<div class="dynat-reached">{numbers}</div>{_courses(past, strategy)}'
        f'<p class="dynat-facts">{escape(facts)}</p>'
        f'<p class="dynat-verdict">Verdict on the attack: <b>{escape(verdict(run, found["epoch"]))}</b></p></div>'
    )


def _which_epoch(run: Run, epoch: int) -> str:
    """Which epoch a card speaks of, and of how many seeds; a network from elsewhere has no seed that is known here."""
    config = run.config
    if run.kind == "imported":
        return "As it was brought in"
    if run.kind == "external":
        return f"Epoch {epoch}, the last one recorded"
    chosen = "best on held-out images" if epoch_shown(run) == "best" and run.result() else "the last one"
    return f"Epoch {epoch} of {config.epochs}, {chosen}, one seed ({config.seed})"


def _reached(name: str, accuracy: float, n: int, hint: str) -> str:
    value, _, interval = share(accuracy * n, n).partition(" (")
    return f'<div title="{escape(hint)}"><span>{name}</span><b>{value}</b> <small>{interval.rstrip(")")}</small></div>'


def _courses(past: History, strategy: str) -> str:
    ink, muted = "currentColor", "light-dark(#8a93a1, #8d96a5)"
    clean, robust = past.column("test/clean_accuracy"), past.column("test/robust_accuracy")
    left = past.column("test/relative_fosc_p50")
    accuracy = sparkline([(clean, muted, "3 3"), (robust, ink, "")], 0, 1, "clean and robust accuracy over the epochs")
    top = float(np.nanmax(left)) if np.isfinite(left).any() else 1.0
    dash = _DASHES.get(strategy_style(strategy)[2], "")
    slope = sparkline([(left, color(strategy), dash)], 0, max(top, 1e-6), "median relative FOSC over the epochs")
    return (
        f'<div class="dynat-courses"><figure>{accuracy}<figcaption>robust, <i>clean</i>, 0 to 100 %</figcaption>'
        "</figure>"
        f"<figure>{slope}<figcaption>relative FOSC left, 0 to {number(top)}</figcaption></figure></div>"
    )


def state_badge(run: Run) -> str:
    """A run's state as a small badge."""
    state = state_of(run)
    return f'<span class="dynat-badge {state}">{state}</span>'


def run_line(run: Run) -> str:
    """One line about a run: state, name, settings, what it reached."""
    if run.state == "broken":
        said = f'<b>{escape(run.id)}</b> <span class="dynat-facts">{escape(run.problem or "")}</span>'
        return f"{state_badge(run)} {said}"
    config, found = run.config, outcome(run)
    words = f"{ago(run.created)}: {strategy_words(config)} on {config.data.name}, {config.epochs} epochs"
    if found:
        robust = f"PGD-{config.recording.steps} {share(found['robust'] * found['n'], found['n'])}"
        words += (
            f"; epoch {found['epoch']}: clean {percent(found['clean'], 1)}, {robust} of {found['n']:,}, "
            f"{verdict(run, found['epoch'])}"
        )
    name = f"{swatch(config.strategy.name)}<b>{escape(run.title)}</b>"
    return f'{state_badge(run)} {name} <span class="dynat-facts">{escape(words)}</span>'
