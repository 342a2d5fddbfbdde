"""Take away: a row of buttons that save what a run, an evaluation or a comparison has to give."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from dynat_core.reports import exports, report
from dynat_core.store.evaluations import Evaluation
from dynat_core.store.runs import Run

# File name -> what its button says; figures are saved where they are drawn, and with everything else in the zip file.
WORDS = {
    "epochs.csv": "Records (CSV)",
    "epochs.parquet": "Records (Parquet)",
    "rungs.csv": "Attacks (CSV)",
    "comparison.csv": "Table (CSV)",
    "comparison.parquet": "Table (Parquet)",
    "samples.csv": "Images (CSV)",
    "samples.parquet": "Images (Parquet)",
    "adversarial.npz": "Adversarial examples (npz)",
    "row.tex": "LaTeX row",
    "rows.tex": "LaTeX rows",
    "settings.json": "Settings (JSON)",
    "result.json": "Result (JSON)",
    "figures/accuracies.svg": "Accuracies (SVG)",
    "figures/deltas.svg": "Differences (SVG)",
}


def take_away_run(run: Run) -> None:
    """The buttons of a run that has recorded something."""
    buttons(exports.run_files(run), lambda: report.run_report(run), run.id)


def take_away_evaluation(run: Run, evaluation: Evaluation) -> None:
    """The buttons of a finished evaluation."""
    files = exports.evaluation_files(run, evaluation)
    buttons(files, lambda: report.evaluation_report(run, evaluation), f"{run.id}-{evaluation.name}")


def buttons(files: exports.Files, html: Callable[[], bytes], name: str) -> None:
    """A report, everything in one file, and each file alone. What a button saves is made when it is pressed."""
    with st.container(horizontal=True, gap="small", key=f"take-{name}"):
        keep("Report (HTML)", html, f"{name}.html")
        keep("Everything (zip)", lambda: exports.zipped(files), f"{name}.zip")
        for path, content in files.items():
            if path in WORDS:
                keep(WORDS[path], content, f"{name}-{path.replace('/', '-')}")


def keep(words: str, data: Callable[[], bytes], name: str) -> None:
    """A download that is made when it is asked for."""
    st.download_button(words, data, name, key=f"keep-{name}", on_click="ignore")
