"""Several runs compared, as one HTML file: which is better, and is it luck?

No torch: screens import this.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape

from dynat_core.comparison import (
    ONE_SEED,
    Compared,
    common,
    differences,
    ladder_refusal,
    paired,
    paired_rungs,
    refusal,
    restricted,
    size_words,
)
from dynat_core.errors import RunError
from dynat_core.reports import exports
from dynat_core.reports.compared import attack_seeds, read_all
from dynat_core.reports.report import Section, made_by
from dynat_core.store.run import Run
from dynat_core.views import compare
from dynat_core.views import document as doc
from dynat_core.views.document import Html
from dynat_core.views.facts import cost_words, seconds_words, share, value_words
from dynat_core.views.svg import svg
from dynat_core.views.words import number, percent

MOST = 6  # runs in one comparison: more colours and dashes are not told apart


def comparison_report(runs: Sequence[Run]) -> bytes:
    """Which run is better, and is it luck? Raises RunError, in one sentence, where they must not be compared."""
    if len(runs) > MOST:
        raise RunError(f"{len(runs)} runs are too many to tell apart; compare {MOST} at most.")
    runs, networks, refused = read_all(runs)
    reason = refused[0] if refused else refusal(networks)
    if reason:
        raise RunError(reason)
    series = compare.series_of(networks)
    views = (compare.accuracies(networks), compare.deltas(networks))
    figures = [(view.title, svg(view, 0, width=540, theme="both")) for view in views]
    said = [doc.paragraph(line, "said") for line in compare.summary(networks)]
    if size := size_words(networks):
        said.append(doc.paragraph(size, "said"))
    configs = [network.config for network in networks]
    settings = [(row.key, *map(value_words, row.values)) for row in differences(configs)]
    names = [network.title for network in networks]
    commands = [doc.command(run.rerun_command()) for run in runs if run.config.trains_here]
    again = f"python -m dynat_core report {shlex.join(run.id for run in runs)} --to comparison.html"
    table = exports.comparison_files(networks)["comparison.csv"]()
    sections: list[Section] = [
        ("Which is better, and is it luck?", [*said, *_seeds(networks)]),
        ("Numbers", [doc.legend(series), _numbers(networks), doc.paragraph(compared_words(networks), "facts")]),
        ("Pictures", [doc.figures(figures)]),
        ("Attack by attack", _rungs(networks)),
        ("Other starts of the attack", _attack_seeds(runs, networks)),
        ("The same images side by side", _probes(runs, networks)),
        ("What differs in the settings?", [doc.table(("setting", *names), settings)] if settings else []),
        ("How is it repeated?", [*commands, doc.command(again),
                                 doc.attached("Save the table (CSV)", "comparison.csv", table, "text/csv")]),
    ]  # fmt: skip
    return doc.document(" against ".join(names[:2]) + (" and others" if len(names) > 2 else ""), made_by(""), sections)


def _numbers(networks: Sequence[Compared]) -> Html:
    shared = common(networks)
    rows, first = [], restricted(networks[0], shared)
    for k, (network, series) in enumerate(zip(networks, compare.series_of(networks), strict=True)):
        clean, robust = restricted(network, shared)
        told = ("", "", "")
        if k:
            found = paired(first[1], robust)
            told = compare.points(found), f"{found.only_b} / {found.only_a}", compare.p_words(found.p)
        shares = (share(int(right.sum()), len(shared)) for right in (clean, robust))
        cost = cost_words(network.config, network.gradients), seconds_words(network.seconds)
        name = doc.swatch(series, network.title)
        rows.append((name, f"{network.epoch}", *shares, *told, *cost, network.verdict))
    head = ("run", "epoch", "clean", "robust", f"robust − {networks[0].title}", "only this / only that", "McNemar p",
            "gradients an image", "training", "verdict on the attack")  # fmt: skip
    return doc.table(head, rows)


def compared_words(networks: Sequence[Compared]) -> str:
    """What the numbers of a comparison are about: attack, images, how they were chosen, what the brackets mean."""
    spent = networks[0].spent
    cost = f", {number(spent, 3)} gradients an image" if spent is not None else ""
    chosen = " or ".join(dict.fromkeys(exports.chosen_words(network.config) for network in networks))
    several = " No correction for several comparisons." if len(networks) > 2 else ""
    return (
        f"Robust under {networks[0].config.attack_words()}{cost}, on {len(common(networks)):,} test images that every "
        f"run was measured on, each run at its epoch that was {chosen}. In brackets: 95 % intervals, Wilson's for "
        f"a share, Newcombe's for a difference on the same images; McNemar's test is exact and two-sided, and the "
        f"stricter of the two at the border.{several} "
        "Seconds are those of the machine that trained and of what else it did."
    )


def _seeds(networks: Sequence[Compared]) -> list[Html]:
    found = compare.groups(networks)
    if all(len(group.places) == 1 for group in found):
        return [doc.paragraph(ONE_SEED, "said")]
    rows = [(g.title, ", ".join(map(str, g.seeds)), g.words(g.clean), g.words(g.robust)) for g in found]
    return [doc.table(("settings", "training seeds", "clean", "robust"), rows)]


def _rungs(networks: Sequence[Compared]) -> list[Html]:
    parts = []
    for network in networks[1:]:
        if networks[0].ladder is None and network.ladder is None:
            continue
        reason = ladder_refusal(networks[0], network)
        if reason:
            parts.append(doc.paragraph(f"Not compared attack by attack: {reason}.", "facts"))
            continue
        rows = [
            (name, share(f.a, f.n), share(f.b, f.n), compare.points(f), compare.p_words(f.p), f"{f.n:,}")
            for name, f in paired_rungs(networks[0], network).items()
        ]
        head = ("attack", networks[0].title, network.title, "difference", "McNemar p", "images")
        parts.append(doc.table(head, rows))
    return parts


def _attack_seeds(runs: Sequence[Run], networks: Sequence[Compared]) -> list[Html]:
    lines = [attack_seed_words(run, network) for run, network in zip(runs, networks, strict=True)]
    return [doc.paragraph(line) for line in lines if line]


def attack_seed_words(run: Run, network: Compared) -> str | None:
    """What other attack seeds did to the same weights, in a sentence; None where there was one at most."""
    found = attack_seeds(run, network.epoch)
    if len(found) < 2:
        return None
    reached = [correct / n for _, correct, n in found]
    return (
        f"{network.title}: worst case {percent(min(reached), 1)} to {percent(max(reached), 1)} over {len(found)} "
        f"attack seeds on the same weights and {found[0][2]:,} images; this is no training seed."
    )


def probe_epochs(networks: Sequence[Compared]) -> list[int]:
    """The epoch of each network whose recorded paths are shown: the one its numbers are of."""
    return [network.epoch for network in networks]


def probe_rows(runs: Sequence[Run], networks: Sequence[Compared]) -> list[compare.Probe]:
    """The probe images that all runs recorded, as each network saw them; [] where a run kept none."""
    try:
        paths = [run.probes(epoch) for run, epoch in zip(runs, probe_epochs(networks), strict=True)]
        return compare.probes(paths, runs[0].config.classes)
    except RunError:
        return []


def _probes(runs: Sequence[Run], networks: Sequence[Compared]) -> list[Html]:
    found = probe_rows(runs, networks)
    if not found:
        return []
    rows = []
    for probe in found:
        cells = [
            Html(f"{doc.pixels(seen.picture, f'image {probe.index} after the attack')}{escape(_seen_words(seen))}")
            for seen in probe.seen
        ]
        rows.append((f"{probe.index}, {probe.label}", doc.pixels(probe.clean, f"image {probe.index}, clean"), *cells))
    steps = " or ".join(dict.fromkeys(f"PGD-{run.config.recording.path_steps}" for run in runs))
    note = f"At the end of the recorded path, {steps}. Margin: true logit minus best other; below 0 it is fooled."
    names = [network.title for network in networks]
    return [doc.table(("image, label", "clean", *names), rows), doc.paragraph(note, "facts")]


def _seen_words(seen: compare.Seen) -> str:
    judged = "right" if seen.right else "fooled"
    return f"says {seen.says} ({judged}); {left_words(seen)}"


def left_words(seen: compare.Seen) -> str:
    """`margin 6.3, relative FOSC 0.037`."""
    return f"margin {number(seen.margin)}, relative FOSC {number(seen.relative_fosc)}"
