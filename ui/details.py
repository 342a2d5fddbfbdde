"""What belongs to a run beside its pictures: best and last with their attack, how to repeat it, its data to keep."""

from __future__ import annotations

import json
from html import escape
from typing import Literal

import streamlit as st

from dynat_core.config import STRATEGY_WORDS
from dynat_core.reports.compared import verdict
from dynat_core.store.runs import Run
from dynat_core.views.facts import share
from ui.cards import swatches
from ui.exports import take_away_run
from ui.link import train_with
from ui.words import gradients_per_image, outcome, plain


def results_table(runs: list[Run]) -> None:
    """Best and last of each run: accuracies with intervals, and what they were attacked with. None stands alone."""
    rows = []
    for run, line in zip(runs, swatches(runs), strict=True):
        cost = gradients_per_image(run)
        which: tuple[Literal["best", "last", "newest"], ...] = ("best", "last") if run.result() else ("newest",)
        for name in which:
            found = outcome(run, name)
            if found is None:
                continue
            cells = (
                f"{line}{escape(run.title)}",
                f"{name}, epoch {found['epoch']}",
                share(found["clean"] * found["n"], found["n"]),
                share(found["robust"] * found["n"], found["n"]),
                f"{found['n']:,}",
                escape(cost),
                f"{escape(run.config.attack_words())}; verdict: <b>{escape(verdict(run, found['epoch']))}</b>",
            )
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    if rows:
        names = ("run", "epoch", "clean", "robust", "images", "gradients an image", "robust under")
        head = "".join(f"<th>{name}</th>" for name in names)
        st.html(
            f'<div class="dynat-wide"><table class="dynat-table"><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>"
            '<p class="dynat-facts">In brackets: 95 % intervals (Wilson). Best is chosen on held-out training images, '
            "never on test images.</p>"
        )


def about_run(run: Run) -> None:
    """Everything needed to train the same again, and the buttons that keep the data; drawn when it is opened."""
    title = plain(f"Reproduce and keep: {run.title}")
    box = st.expander(title, icon=":material/replay:", key=f"about-{run.id}", on_change="rerun")
    if box.open:
        with box:
            _about(run)


def _about(run: Run) -> None:
    left, right = st.columns([3, 2])
    with left:
        if run.config.trains_here:
            st.caption("This command line trains the same again:")
            st.code(run.rerun_command(), language="bash", wrap_lines=True)
        st.html(_facts(run))
    with right:
        st.json(json.loads(run.config.to_json()), expanded=1)
    if run.config.trains_here and st.button("Clone and edit", key=f"clone-{run.id}"):
        train_with(clone=run.id)
    if run.last_record():
        take_away_run(run)


def _facts(run: Run) -> str:
    """Seed, versions, device, data and commit of every start."""
    lines = [
        ("strategy", STRATEGY_WORDS.get(run.config.strategy.name, run.config.strategy.name)),
        ("seed", run.config.seed),
    ]
    starts = run.starts()
    if starts:
        last = starts[-1]
        versions = ", ".join(f"{name} {version}" for name, version in (last.get("versions") or {}).items())
        threads = last.get("threads")
        device = f"{last.get('device_name') or last.get('device')}, {threads} thread{'s' * (threads != 1)}"
        lines += [
            ("versions", versions),
            ("device", device),
            ("data, SHA-256", last.get("data_hash")),
            ("commit", last.get("commit")),
        ]
        lines.append(("started", f"{last.get('time')}" + (f" ({len(starts)} starts)" if len(starts) > 1 else "")))
    if run.by:
        lines.append(("asked for by" if run.kind == "training" else "added by", run.by))
    lines.append(("folder", run.folder))
    return '<dl class="dynat-pairs">' + "".join(f"<dt>{k}</dt><dd>{escape(str(v))}</dd>" for k, v in lines) + "</dl>"
