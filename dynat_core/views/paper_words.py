"""The paper screen's tables and sentences: published beside measured, whichever way it falls. Plain text, no markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from dynat_core.comparison import spread
from dynat_core.config import describe_eps
from dynat_core.paper.paper_runs import FEWEST, ROW_WORDS, ROWS, full_epochs, tested
from dynat_core.paper.published import COLUMNS, TABLES
from dynat_core.statistics import score_difference, wilson
from dynat_core.views.compare import signed
from dynat_core.views.words import number

Counts = Sequence[Sequence[int]]  # [images right, images] of each seed
MORE_COLUMNS = {  # rungs of the ladder for which nothing was published
    "autoattack": "AutoAttack",
    "worst": "worst case",
}
DATA_WORDS = {"mnist": "MNIST", "cifar10": "CIFAR-10", "digits": "digits"}


def command(part: str, data: str, scale: float = 1.0, seeds: int = 1, n: int | None = None) -> str:
    """The command line that runs it. n: test images, where they were not left to the scale."""
    target = f"{part}-{data}" if part in ("table1", "table2") else f"{part} --data {data}"
    more = (f" --scale {scale:g}" if scale < 1 else "") + (f" --seeds {seeds}" if seeds > 1 else "")
    images = f" --images {n}" if n not in (None, tested(data, scale)) else ""
    return f"python -m dynat_core reproduce {target}{more}{images}"


def run_words(result: Mapping[str, Any]) -> str:
    """What was run: `reduced: 5 of 50 epochs, ..., 1 seed` or `full length: 30 epochs, 500 test images, ...`."""
    seeds = f"{result['seeds']} training seed{'s' * (result['seeds'] != 1)}"
    if result["reduced"]:
        return f"{result['reduced']}, {seeds}"
    return f"full length: {result['epochs']} epochs, {result['n']:,} test images, {seeds}"


def measured_words(counts: Counts) -> str:
    """`93.2 % (91.4 to 94.7)` with the images' 95 % interval for one seed, else least and most over the seeds."""
    shares = [correct / n for correct, n in counts]
    if len(shares) > 1:
        found = spread(shares)
        return f"{100 * found.mean:.1f} % ({100 * found.least:.1f} to {100 * found.most:.1f})"
    low, high = wilson(*counts[0])
    return f"{100 * shares[0]:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def interval_words(seeds: int) -> str:
    """What the brackets behind a measured accuracy are."""
    return "least and most over the training seeds" if seeds > 1 else "95 % interval over the images (Wilson), one seed"


# ------------------------------------------------------------------------------------------------------------- tables


def table(part: str, data: str, result: Mapping[str, Any] | None) -> tuple[list[str], list[list[str]]]:
    """(heads, rows) of a table: for each defence what was published and what was measured, in turn."""
    published = TABLES.get(f"{part}-{data}")
    columns = ("fgsm", "pgd-10", "pgd-20", "cw") if part == "table2" else tuple(COLUMNS)
    if part == "table3":
        columns = ("clean", "fgsm", "pgd-20", "cw")
    rungs = [name for name in MORE_COLUMNS if result and any(name in row for row in result["rows"].values())]
    heads = ["defence", *(COLUMNS[c][0] for c in columns), *(MORE_COLUMNS[name] for name in rungs), "whose numbers"]
    rows = []
    for row in ROWS[part]:
        name = ROW_WORDS[row]
        if published and row in published.rows:
            called = published.names.get(row)
            cells = [_percent(published.text(row, column)) for column in columns]
            rows.append([f"{name} ({called})" if called else name, *cells, *["–"] * len(rungs), "published"])
        if result and row in result["rows"]:
            found = result["rows"][row]
            names = [COLUMNS[column][1] for column in columns] + rungs
            cells = [measured_words(found[rung]) if rung in found else "–" for rung in names]
            rows.append([name, *cells, f"measured, {run_words(result)}"])
    return heads, rows


def _percent(printed: str | None) -> str:
    return "–" if printed is None else f"{printed} %"


def disagreements(part: str, data: str, result: Mapping[str, Any]) -> list[str]:
    """Where measured and published fall apart: the order of the defences under each attack, and the distance."""
    published = TABLES.get(f"{part}-{data}")
    if published is None:
        return [f"Nothing was published for the {DATA_WORDS[data]}; the set-up is ours."]
    rows = [row for row in published.rows if row in result["rows"] and row != "unsecured"]
    sentences = []
    for column in published.columns:
        rung = COLUMNS[column][1]
        there = {row: published.value(row, column) or 0.0 for row in rows}
        counts = {row: result["rows"][row][rung] for row in rows if rung in result["rows"][row]}
        here = {row: 100 * _mean(of) for row, of in counts.items()}
        if len(here) < 2:
            continue
        orders = [_order({ROW_WORDS[row]: share for row, share in one.items()}) for one in (there, here)]
        agree = "the same order was measured" if orders[0] == orders[1] else f"measured {orders[1]}"
        ranked = sorted(here, key=lambda r: -here[r])
        close = [(a, b) for a, b in pairwise(ranked) if not told_apart(counts[a], counts[b])]
        if close:
            pairs = [f"{ROW_WORDS[a]} and {ROW_WORDS[b]}" for a, b in close]
            agree += f", but {pairs[0]} are not told apart" if len(close) == 1 else (
                f", but neither {' nor '.join(pairs)} are told apart"
            )  # fmt: skip
        far = max(here, key=lambda row: abs(here[row] - there[row]))
        away = f"{ROW_WORDS[far]} is furthest away, {signed((here[far] - there[far]) / 100)} points"
        sentences.append(f"{COLUMNS[column][0]}: published {orders[0]}; {agree}; {away}.")
    return sentences


def _order(shares: Mapping[str, float]) -> str:
    """`Dynamic > Standard = Curriculum`, falling."""
    ranked = sorted(shares, key=lambda name: -shares[name])
    signs = [" = " if shares[a] == shares[b] else " > " for a, b in pairwise(ranked)]
    return "".join(part for pair in zip(ranked, [*signs, ""], strict=True) for part in pair)


def told_apart(a: Counts, b: Counts) -> bool:
    """Whether the 95 % interval of the difference leaves out 0: that of the seeds in pairs where there are several,
    else that of two shares, which is wide for the same images."""
    if len(a) == len(b) > 1:
        over = spread([right / n - other / m for (right, n), (other, m) in zip(a, b, strict=True)])
        return over.sd > 0 and not over.low <= 0 <= over.high
    low, high = score_difference(*a[0], *b[0])
    return not low <= 0 <= high


def _mean(counts: Counts) -> float:
    return sum(correct / n for correct, n in counts) / len(counts)


def order_words(result: Mapping[str, Any]) -> str:
    """Whether the ladder's order holds on every network."""
    if result["order"]:
        return "The order of the ladder does not hold: " + "; ".join(result["order"]) + "."
    return (
        "The order of the ladder holds on every network: the worst case is at most each attack, PGD-20 at most half a "
        "point above PGD-10, noise no stronger than FGSM."
    )


def setup_words(result: Mapping[str, Any]) -> str:
    """What was measured and on what."""
    config = result["runs"][0]["config"]
    rungs = next(iter(result["rows"].values())) if "rows" in result else {}
    last = "PGD-50 with ten restarts on either loss" if "pgd-50x10-margin" in rungs else ""
    most = (
        f" The worst case is over all of these, {'noise and ' + last if last else 'and noise'}."
        if "worst" in rungs
        else ""
    )
    return (
        f"Networks: {config['model']['name']}, L-inf eps {describe_eps(result['eps'])}, {result['train_images']:,} "
        f"training images, {result['epochs']} of {result['full_epochs']} epochs; measured at {result['chosen']}, on "
        f"{result['n']:,} test images. In brackets: {interval_words(result['seeds'])}.{most}"
    )


def missing_words(part: str, data: str) -> str:
    """What to say where nothing was run."""
    return (
        f"Nothing has been run for this yet on {DATA_WORDS[data]}. The full length is {full_epochs(data)} epochs a "
        f"run; --scale takes a share of it, {FEWEST} epochs at least, and --dry-run says what it would cost here."
    )


# ------------------------------------------------------------------------------------------------------------ figures


def figure_words(result: Mapping[str, Any], form: str) -> list[str]:
    """What a figure's numbers say, as they were measured."""
    say = {"figure1a": _bins_words, "figure2": _settings_words, "figure3": _switch_words, "figure4": _separation_words}
    return say[result["part"]](result, form) if result["part"] in say else []


def directions(results: Sequence[Mapping[str, Any]], part: str, data: str, form: str) -> list[str]:
    """Figures 1a and 4 in one number for each data set that was measured, `data` first; none for the other figures.

    results: the best of each target first.
    """
    judge = {"figure1a": _rank_words, "figure4": _gain_direction}.get(part)
    best: dict[str, Mapping[str, Any]] = {}
    for result in results:
        if result["part"] == part:
            best.setdefault(result["data"], result)
    shown = sorted(best.values(), key=lambda result: result["data"] != data)
    return [f"{_measured_on(one, form)}: {judge(one, form)}." for one in shown] if judge else []


def _measured_on(result: Mapping[str, Any], form: str) -> str:
    return f"Measured on {DATA_WORDS[result['data']]}, {form} form ({run_words(result)})"


def _rank_words(result: Mapping[str, Any], form: str) -> str:
    found = result["forms"][form]
    rank, bins = found["rank_correlation"], sum(n >= 5 for n in found["n"])
    if rank is None:
        few = "too few bins hold images" if bins < 3 else "every bin has the same accuracy"
        return f"no rank correlation, since {few}"
    if abs(rank) < 1.96 / (bins - 1) ** 0.5:  # what ranks without any order reach in 19 of 20 cases
        paper = "too little for a direction"
    else:
        paper = "in the direction of the paper's reading" if rank > 0 else "against the paper's reading"
    return f"rank correlation of bin and accuracy {signed_number(rank)} over {bins} bins, {paper}"


def _gain_direction(result: Mapping[str, Any], form: str) -> str:
    gain = result["gain"][form]
    if gain["low"] is None or gain["low"] <= 0 <= gain["high"]:
        paper = "too little for a direction"
    else:
        paper = "in the direction of the paper's reading" if gain["low"] > 0 else "against the paper's reading"
    return f"how often an earlier epoch's FOSC is larger, Dynamic less Standard: {gain_words(gain, 1)}, {paper}"


def signed_number(value: float) -> str:
    """`+0.97`, `−0.3`"""
    return f"{'−' if value < 0 else '+'}{number(abs(value))}"


def _bins_words(result: Mapping[str, Any], form: str) -> list[str]:
    found = result["forms"][form]
    above = f"{found['n'][-1]:,} of {sum(found['n']):,} examples lie above 0.1, in the open bin."
    pooled = f"The {result['seeds']} seeds attack the same images, so bars that count each as another are too short."
    return [above, *([pooled] if result["seeds"] > 1 else [])]


def _settings_words(result: Mapping[str, Any], form: str) -> list[str]:
    settings = {name: one["robust"] for name, one in result["settings"].items()}
    best = max(settings, key=lambda name: _mean(settings[name]))
    alone = all(told_apart(settings[best], settings[name]) for name in settings if name != best)
    luck = "" if alone else "; not told apart from all others, so that may be luck"
    most = f"Most robust as measured: {best}, {measured_words(settings[best])} under {result['attack']}{luck}."
    return [f"{most} Published: eps/2 and eps/4 best, FOSC concentrating at 0 there."]


def _switch_words(result: Mapping[str, Any], form: str) -> list[str]:
    last = {row: _last(one["robust"]) for row, one in result["rows"].items()}
    both = ", ".join(f"{ROW_WORDS[row]} {100 * share:.1f} %" for row, share in last.items())
    return [f"Robust accuracy after the last epoch, mean of the seeds, on {result['test_images']:,} test images under "
            f"{result['attack']}: {both}. FGSM gave way to PGD after epoch {result['switch']}."]  # fmt: skip


def _last(robust: Sequence[Sequence[float | None]]) -> float:
    ends = [one[-1] for one in robust if one[-1] is not None]
    return sum(ends) / len(ends) if ends else float("nan")


def _separation_words(result: Mapping[str, Any], form: str) -> list[str]:
    found = result["separation"][form]
    each = ", ".join(f"{ROW_WORDS[row]} {number(sum(v) / len(v))}" for row, v in found.items())
    note = "" if form == result["stop_form"] else f" Dynamic stops by the {result['stop_form']} form."
    return [
        f"How often an example of an earlier epoch has the larger FOSC than one of a later ({form} form; 1: falling "
        f"without overlap, 0.5: no order): {each}.{note}"
    ]


def gain_words(gain: Mapping[str, Any], unit: float = 100) -> str:
    """A mean difference with its interval: `+0.12 (95 % interval +0.05 to +0.19, paired over 3 seeds)`."""

    def say(value: float) -> str:
        return signed(value) if unit == 100 else f"{unit * value:+.2f}".replace("-", "−")

    if gain["low"] is None:
        return f"{say(gain['mean'])}, one seed, so no interval"
    ends = f"{say(gain['low'])} to {say(gain['high'])}"
    return f"{say(gain['mean'])} (95 % interval {ends}, paired over {gain['seeds']} seeds)"


# ----------------------------------------------------------------------------------------------------------- ablation


def ablation_table(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(heads, rows): each cell with what it costs and what it reaches."""
    rows = []
    for cell, rungs in result["rows"].items():
        spent = [g for g in result["gradients"][cell] if g is not None]
        cost = number(sum(spent) / len(spent), 3) if spent else "–"
        rows.append([cell, cost, *(measured_words(rungs[name]) for name in ("clean", "pgd-20", "cw-30", "worst"))])
    return ["training", "gradients an image, recording included", "clean", "PGD-20", "C&W", "worst case"], rows


def answer_words(answer: Mapping[str, Any]) -> str:
    """One answer, whichever way it falls."""
    low, high = answer["low"], answer["high"]
    if low is None:
        judged = "one seed says nothing about the luck of training"
    elif low > 0:
        judged = "a gain beyond the luck of training"
    elif high < 0:
        judged = "a loss beyond the luck of training"
    else:
        judged = "not told apart from the luck of training"
    question = f"{answer['question'][:1].upper()}{answer['question'][1:]}"
    return f"{question}: {gain_words(answer)} points of the worst case; {judged}."
