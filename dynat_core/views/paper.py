"""The paper screen's figures, drawn from runs: what was measured, also where it contradicts the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dynat_core.paper.paper_runs import ALPHAS, ROW_WORDS, STEPS
from dynat_core.statistics import wilson
from dynat_core.views import figures
from dynat_core.views.base import SPARE, View, strategy_style
from dynat_core.views.words import number, raised

FORM_WORDS = {"paper": "FOSC, paper form (loss units)", "box": "FOSC, box form (loss units)"}
_FLOOR = -5  # powers of ten drawn at the left end: 0 has no logarithm
_DASHES = ("dot", "dash", "dashdot", "longdash", "solid")
_TALL = 250


def drawn(result: Mapping[str, Any], form: str) -> list[View]:
    """The views of a figure's results; tables and the ablation have none. form: of FOSC, "paper" or "box"."""
    views = {"figure1a": _figure1a, "figure1b": _figure1b, "figure2": _figure2, "figure3": _figure3,
             "figure4": _figure4}.get(result["part"])  # fmt: skip
    return views(result, form) if views else []


def _view(id: str, title: str, data: list[dict[str, Any]], xaxis: Any, yaxis: Any, colors: Any, legend: bool) -> View:
    more: dict[str, Any] = {"hovermode": "closest"}
    if legend:
        place = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11, "color": "@ink"}}
        more |= {"showlegend": True, "legend": place}
    layout = figures.layout(xaxis, yaxis, left=56, top=46 if legend else 10, **more)
    return View(id, title, height=_TALL + 30 * legend, fig={"data": data, "layout": layout}, colors=colors)


# ----------------------------------------------------------------------------------------------------------- figure 1


def _figure1a(result: Mapping[str, Any], form: str) -> list[View]:
    found = result["forms"][form]
    edges = found["edges"]
    middles = [(a + b) / 2 for a, b in zip(edges, edges[1:], strict=False)]
    x = [*middles, edges[-1] + 0.0075]
    kept = [k for k, n in enumerate(found["n"]) if n]
    ticks = {"tickmode": "array", "tickvals": [0, 0.02, 0.04, 0.06, 0.08, 0.1, x[-1] + 0.002],
             "ticktext": ["0", "0.02", "0.04", "0.06", "0.08", "", "above 0.1"]}  # fmt: skip
    xaxis = figures.axis(FORM_WORDS[form], (-0.003, edges[-1] + 0.018), showgrid=False, fixedrange=True, **ticks)
    colors = {"s0": strategy_style("standard")[:2]}
    shares, lows, highs, words = [], [], [], []
    for k in kept:
        n, right = found["n"][k], found["right"][k]
        low, high = wilson(right, n)
        shares.append(right / n)
        lows.append(right / n - low)
        highs.append(high - right / n)
        words.append(f"{right} of {n} right ({100 * low:.0f} to {100 * high:.0f} %)")
    base = {"type": "scatter", "mode": "markers", "x": [x[k] for k in kept], "hoverinfo": "text",
            "marker": {"color": "@s0", "size": 8}}  # fmt: skip
    bars = {"type": "data", "symmetric": False, "array": highs, "arrayminus": lows, "color": "@s0", "thickness": 1.5}
    losses = [found["loss"][k] for k in kept]
    hover = [f"mean loss {number(v)}, {found['n'][k]} examples" for k, v in zip(kept, losses, strict=True)]
    return [
        _view("figure-1a-accuracy", "1a. Accuracy of test examples by their FOSC", [
            {**base, "y": shares, "error_y": bars, "text": words}], xaxis,
            figures.share_axis("share still right", 1.02), colors, False),
        _view("figure-1a-loss", "1a. Mean loss of test examples by their FOSC", [
            {**base, "y": losses, "text": hover}], xaxis,
            figures.axis("mean loss (nats)", rangemode="tozero", fixedrange=True, nticks=5), colors, False),
    ]  # fmt: skip


def _figure1b(result: Mapping[str, Any], form: str) -> list[View]:
    colors = {f"s{k}": style[:2] for k, style in enumerate([strategy_style("standard"), *SPARE])}

    def lines(measure: str) -> list[dict[str, Any]]:
        return [
            {"type": "scatter", "mode": "lines", "x": list(range(len(image[measure]))), "y": image[measure],
             "line": {"color": f"@s{k % 5}", "dash": _DASHES[k // 5 * 3 % 5], "width": 1.8}, "hoverinfo": "text",
             "text": [f"image {image['index']}, step {s}: {number(v)}" for s, v in enumerate(image[measure])]}
            for k, image in enumerate(result["images"])
        ]  # fmt: skip

    xaxis = figures.axis("PGD step", showgrid=False, fixedrange=True, nticks=6)
    ends = [f"figure-1b-{name}" for name in ("fosc", "loss")]
    many = len(result["images"])
    return [
        _view(ends[0], f"1b. FOSC of {many} single images", lines(form), xaxis,
              figures.axis(FORM_WORDS[form], rangemode="tozero", fixedrange=True, nticks=5), colors, False),
        _view(ends[1], f"1b. Loss of the same {many} images", lines("loss"), xaxis,
              figures.axis("loss (nats)", rangemode="tozero", fixedrange=True, nticks=5), colors, False),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------- distributions


def _shares(
    id: str, title: str, named: Mapping[str, Sequence[float]], shares: Sequence[float], measure: str, colors: Any,
    styles: Sequence[tuple[str, str]], span: tuple[float, float] | None = None,
) -> View:  # fmt: skip
    """Cumulative shares on a logarithmic axis, one curve for each of `named` (quantiles at `shares`)."""
    power = [[_power(v) for v in values] for values in named.values()]
    low, high = span or (min(p[0] for p in power), max(p[-1] for p in power))
    at, names = _ticks(low, high)
    room = 0.04 * (high - low) + 0.01
    xaxis = figures.axis(measure, (low - room, high + room), showgrid=False, fixedrange=True, tickmode="array",
                         tickvals=at, ticktext=names)  # fmt: skip
    data = [
        {"type": "scatter", "mode": "lines", "x": x, "y": list(shares), "name": name,
         "line": {"color": color, "dash": dash, "width": 2}, "hoverinfo": "text",
         "text": [f"{name}: {100 * q:.3g} % are at most {number(v)}" for q, v in zip(shares, named[name], strict=True)]}
        for x, name, (color, dash) in zip(power, named, styles, strict=True)
    ]  # fmt: skip
    return _view(id, title, data, xaxis, figures.share_axis("share of examples", 1.01), colors, True)


def _ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Places and words of the ticks between two powers of ten: whole powers, or 1, 2, 5 where there are few."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    if high - low > 2.5:
        return list(powers), [f"≤10{raised(k)}" if k <= _FLOOR else f"10{raised(k)}" for k in powers]
    values = [factor * 10.0**k for k in powers for factor in (1, 2, 5)]
    kept = [v for v in values if low - 0.05 <= math.log10(v) <= high + 0.05]
    return [math.log10(v) for v in kept], [number(v, 1) for v in kept]


def _power(value: float) -> float:
    return max(math.log10(value), _FLOOR) if value > 0 else float(_FLOOR)


def _by_epoch(result: Mapping[str, Any], row: str, form: str, part: str) -> View:
    """One row's FOSC at the shown epochs, early ones pale and dotted, the last dark and solid."""
    epochs, found = result["shown_epochs"], result["rows"][row][form]
    named = {f"epoch {e}": values for e, values in zip(epochs, found, strict=True)}
    fade = [0.45 + 0.55 * k / max(len(epochs) - 1, 1) for k in range(len(epochs))]
    styles = [(f"@s0/{opacity:.2f}", _DASHES[k % 5]) for k, opacity in enumerate(fade)]
    title = f"{part}. {ROW_WORDS[row]}: FOSC of its training examples"
    colors = {"s0": strategy_style(row)[:2]}
    every = [values for one in result["rows"].values() for values in one[form]]
    span = min(_power(values[0]) for values in every), max(_power(values[-1]) for values in every)
    return _shares(f"figure-{part}", title, named, result["shares"], FORM_WORDS[form], colors, styles, span)


# ----------------------------------------------------------------------------------------------------------- figure 2


def _figure2(result: Mapping[str, Any], form: str) -> list[View]:
    settings = result["settings"]
    sizes = [f"{alpha}, 10 steps" for alpha in ALPHAS]
    lengths = [f"eps/4, {k} steps" for k in STEPS]
    colors = {f"s{k}": style[:2] for k, style in enumerate(SPARE)}
    styles = [(f"@s{k}", _DASHES[(k + 4) % 5]) for k in range(4)]
    views = []
    for names, letters, what, short in (
        (sizes, "abc", "step size", [name.partition(",")[0] for name in sizes]),
        (lengths, "def", "number of steps", [str(k) for k in STEPS]),
    ):
        kept = [k for k, name in enumerate(names) if name in settings]
        found = {names[k]: settings[names[k]] for k in kept}
        views.append(_robustness(letters[0], what, found, [short[k] for k in kept], colors))
        for letter, measure, words in ((letters[1], form, FORM_WORDS[form]), (letters[2], "loss", "loss (nats)")):
            named = {short[k]: settings[names[k]][measure] for k in kept}
            title = f"2{letter}. {'Loss' if measure == 'loss' else 'FOSC'} of the last epoch, by {what}"
            views.append(
                _shares(f"figure-2{letter}", title, named, result["shares"], words, colors, styles[: len(kept)])
            )
    return views


def _robustness(letter: str, what: str, found: Mapping[str, Any], names: Sequence[str], colors: Any) -> View:
    """Robust accuracy of one model per setting; every seed a dot, with the images' interval."""
    data, seen = [], []
    for place, one in enumerate(found.values()):
        for correct, n in one["robust"]:
            low, high = wilson(correct, n)
            bars = {"type": "data", "symmetric": False, "array": [high - correct / n],
                    "arrayminus": [correct / n - low], "color": f"@s{place}", "thickness": 1.5}  # fmt: skip
            data.append({"type": "scatter", "mode": "markers", "x": [place], "y": [correct / n], "error_y": bars,
                         "marker": {"color": f"@s{place}", "size": 9}, "hoverinfo": "text",
                         "text": [f"{correct} of {n}"]})  # fmt: skip
            seen += [low, high]
    xaxis = figures.axis(what, (-0.5, len(names) - 0.5), tickmode="array", tickvals=list(range(len(names))),
                         ticktext=list(names), showgrid=False, fixedrange=True)  # fmt: skip
    yaxis = figures.axis("robust accuracy", (max(min(seen) - 0.03, 0), min(max(seen) + 0.03, 1.01)), tickformat=".0%",
                         nticks=5, fixedrange=True)  # fmt: skip
    return _view(f"figure-2{letter}", f"2{letter}. Robust accuracy by {what}", data, xaxis, yaxis, colors, False)


# ----------------------------------------------------------------------------------------------------- figures 3 and 4


def _figure3(result: Mapping[str, Any], form: str) -> list[View]:
    colors = {row: strategy_style(row)[:2] for row in result["rows"]}
    data, most = [], 1
    for row, found in result["rows"].items():
        for seed, robust in enumerate(found["robust"]):
            color, dash = f"@{row}", strategy_style(row)[2]
            trace = figures.line(range(len(robust)), robust, color, dash)
            data.append({**trace, "name": ROW_WORDS[row], "showlegend": seed == 0})
            most = max(most, len(robust) - 1)
    yaxis = figures.share_axis("robust accuracy", 1.01)
    middle = _view("figure-3b", "3b. Robust accuracy over the epochs", data, figures.epoch_axis(most), yaxis, colors,
                   True)  # fmt: skip
    rule = {"type": "line", "x0": result["switch"], "x1": result["switch"], "y0": 0, "y1": 1, "yref": "paper",
            "line": {"color": "@muted", "width": 1, "dash": "dot"}}  # fmt: skip
    fig = dict(middle.fig or {})
    fig["layout"] = {**fig["layout"], "shapes": [rule], "annotations": [
        {"x": result["switch"], "y": 0.99, "yref": "paper", "yanchor": "top", "xanchor": "left",
         "text": " PGD from here", "showarrow": False, "font": {"size": 11, "color": "@muted"}}]}  # fmt: skip
    middle = View(**{**vars(middle), "fig": fig})
    return [_by_epoch(result, "standard", form, "3a"), middle, _by_epoch(result, "fgsm-then-pgd", form, "3c")]


def _figure4(result: Mapping[str, Any], form: str) -> list[View]:
    letters = ("4a", "4b", "4c")
    return [_by_epoch(result, row, form, part) for row, part in zip(result["rows"], letters, strict=False)]
