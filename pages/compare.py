"""The compare screen: which run is better, and is it luck? The same images, the same attack, or a sentence why not."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

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
from dynat_core.reports import comparison_report as told
from dynat_core.reports.compared import read_all
from dynat_core.reports.exports import comparison_files
from dynat_core.store.runs import Run
from dynat_core.views import compare
from dynat_core.views.facts import cost_words, seconds_words, share, value_words
from ui.cards import swatches
from ui.choose import choose_runs
from ui.exports import buttons
from ui.frame import page, screen_of, teaching
from ui.link import carry
from ui.stills import head, picture, table
from ui.words import plain

SCREEN = screen_of("Compare")


def main() -> None:
    """Ask, load, draw."""
    runs, networks, left_out = read_all(choose_runs(SCREEN, told.MOST))
    for sentence in left_out:
        st.info(plain(sentence))
    reason = refusal(networks)
    if reason:
        st.error(plain(reason))
        settings(runs, [network.title for network in networks])
        return
    for line in [*compare.summary(networks), *filter(None, [size_words(networks)])]:
        st.html(f'<p class="dynat-said">{escape(line)}</p>')
    seeds(networks)
    for place, view in zip(st.columns(2), (compare.accuracies(networks), compare.deltas(networks)), strict=True):
        with place:
            picture(view, f"{SCREEN}.{view.id}")
    numbers(runs, networks)
    rungs(networks)
    for line in (told.attack_seed_words(run, network) for run, network in zip(runs, networks, strict=True)):
        if line:
            st.html(f'<p class="dynat-facts">{escape(line)}</p>')
    probes(runs, networks)
    settings(runs, [network.title for network in networks])
    if not teaching():
        head("Take away")
        ids = "-".join(["comparison", *(run.id for run in runs)])[:120]
        buttons(comparison_files(networks), lambda: told.comparison_report(runs), ids)


def numbers(runs: Sequence[Run], networks: Sequence[Compared]) -> None:
    """Each run's accuracies, how it differs from the first, what it cost. None of them stands alone."""
    shared = common(networks)
    first, rows = restricted(networks[0], shared), []
    for k, (network, line) in enumerate(zip(networks, swatches(runs), strict=True)):
        clean, robust = restricted(network, shared)
        told_apart = ("", "", "", "")
        if k:
            a, b = paired(first[0], clean), paired(first[1], robust)
            sides = f"{b.only_b} / {b.only_a}"
            told_apart = compare.points(b), sides, escape(compare.p_words(b.p)), compare.points(a)
        name = f"{line}{escape(network.title)}"
        shares = (share(int(right.sum()), len(shared)) for right in (clean, robust))
        cost = cost_words(network.config, network.gradients), seconds_words(network.seconds)
        rows.append((name, f"{network.epoch}", *shares, *told_apart, *cost, f"<b>{escape(network.verdict)}</b>"))
    table(
        ("run", "epoch", "clean", "robust", "robust, difference", "only this / only first", "McNemar p",
         "clean, difference", "gradients an image", "training", "verdict"),
        rows,
        markup=True,
    )  # fmt: skip
    words = f"Differences are to {networks[0].title}. {told.compared_words(networks)}"
    st.html(f'<p class="dynat-facts">{escape(words)}</p>')


def seeds(networks: Sequence[Compared]) -> None:
    """Training seeds together, with mean and spread; or that there is one each."""
    found = compare.groups(networks)
    if all(len(group.places) == 1 for group in found):
        st.html(f'<p class="dynat-said">{escape(ONE_SEED)}</p>')
        return
    head("Over training seeds")
    rows = [(g.title, ", ".join(map(str, g.seeds)), g.words(g.clean), g.words(g.robust)) for g in found]
    table(("settings", "training seeds", "clean", "robust"), rows)


def rungs(networks: Sequence[Compared]) -> None:
    """The ladders attack by attack, where both were climbed alike."""
    reasons = []
    for network in networks[1:]:
        if networks[0].ladder is None and network.ladder is None:
            continue
        reason = ladder_refusal(networks[0], network)
        if reason:
            reasons.append(reason)
            continue
        head(f"Attack by attack: {network.title} against {networks[0].title}")
        rows = [
            (
                name,
                share(f.a, f.n),
                share(f.b, f.n),
                compare.points(f),
                compare.p_words(f.p),
                f"{f.n:,}",
            )
            for name, f in paired_rungs(networks[0], network).items()
        ]
        table(("attack", networks[0].title, network.title, "difference", "McNemar p", "images"), rows)
    if reasons:
        said = f"Not compared attack by attack: {'; '.join(dict.fromkeys(reasons))}."
        st.html(f'<p class="dynat-facts">{escape(said)}</p>')


def probes(runs: Sequence[Run], networks: Sequence[Compared]) -> None:
    """The same images at the end of the recorded path, as each network saw them."""
    found = told.probe_rows(runs, networks)
    if not found:
        return
    head("The same images side by side")
    steps = runs[0].config.recording.path_steps
    st.html(
        f'<p class="dynat-facts">At the end of the recorded path, PGD-{steps}, at the epochs above. Margin: true logit '
        "minus best other; below 0 the image is fooled.</p>"
    )
    pair = list(zip(runs, networks, strict=True))[:2]
    for probe in found:
        pictures = [_picture(probe.clean, f"image {probe.index}", f"label {probe.label}")]
        for network, seen in zip(networks, probe.seen, strict=True):
            judged = "right" if seen.right else "<b>fooled</b>"
            words = f"{escape(network.title)}<br>says {escape(seen.says)}: {judged}<br>{escape(told.left_words(seen))}"
            pictures.append(_picture(seen.picture, f"image {probe.index} on {network.title}", words, markup=True))
        with st.container(key=f"probe-{probe.index}", horizontal=True, vertical_alignment="center", wrap=False):
            st.html(f'<div class="dynat-probes">{"".join(pictures)}</div>', width="stretch")
            if st.button(f"Open image {probe.index}", key=f"open-{probe.index}", help="Step by step, in Trajectory"):
                query = carry(run=[run.id for run, _ in pair], epoch=pair[0][1].epoch, image=probe.index)
                st.switch_page("pages/trajectory.py", query_params=query)


def _picture(address: str, alt: str, words: str, markup: bool = False) -> str:
    said = words if markup else escape(words)
    return f'<figure><img src="{address}" alt="{escape(alt)}"><figcaption>{said}</figcaption></figure>'


def settings(runs: Sequence[Run], names: Sequence[str]) -> None:
    """The settings in which the runs differ, and no others."""
    found = differences([run.config for run in runs])
    if not found or len(runs) < 2:
        return
    head("What differs in the settings?")
    rows = [(row.key, *(value_words(value) for value in row.values)) for row in found]
    table(("setting", *names), rows)


with page("Compare", "Which run is better, and is it luck?"):
    main()
