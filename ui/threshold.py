"""The threshold slider under the trajectory picture: one stored attack on all test images, cut short at FOSC <= c."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st

from dynat_core.config import describe_eps
from dynat_core.recorded.trajectories import unit_of
from dynat_core.reports.compared import verdict
from dynat_core.store.runs import Run
from dynat_core.views.threshold import CURVES, FORMS, Recorded, threshold
from ui.link import Cursor, Link, Switched, told
from ui.paths import recorded_attack
from ui.scrubber import scrubber
from ui.words import plain

NAME = "threshold"  # in the query string: which of the thresholds; it is there while the picture is shown
OPENS = 0.55  # of the way from "never" to the largest threshold


def toggle(screen: str, there: bool) -> bool:
    """Draw the button that shows the picture; a link that names a threshold shows it too. there: paths to show."""
    link, key = Link(screen, NAME), f"{screen}.{NAME}.on"
    if link.value is not None and key not in st.session_state:
        st.session_state[key] = True

    def changed() -> None:
        if not st.session_state[key]:
            link.write(None)

    hint = "When would an attack that stops at FOSC ≤ c have stopped, on all test images whose path is recorded?"
    if not there:
        hint += " No path of all test images is recorded here: `recording.paths` keeps them."
    return st.toggle("Threshold slider", key=key, disabled=not there, help=hint, on_change=changed) and there


def kept(runs: list[Run]) -> list[tuple[Run, int]]:
    """The runs that keep the path of every test image, each with the epoch it was recorded at."""
    return [(run, found[-1]) for run in runs if (found := run.epochs_of("paths"))]


def threshold_picture(screen: str, shown: list[tuple[Run, int]], names: dict[str, str]) -> None:
    """The scrubber whose cursor is the threshold; to be drawn in a fragment. shown: as `kept` gives them."""
    models = [
        Recorded(
            names[run.id], run.config.strategy.name, _curves(str(run.folder), run.modified, epoch),
            unit_of(recorded_attack(run).loss), _attack(run), verdict(run, epoch),
        )
        for run, epoch in shown
    ]  # fmt: skip
    token = "threshold," + ",".join(f"{run.id}:{epoch}" for run, epoch in shown)
    form, cursor = Switched(screen, "stop", "form", [name for name, _ in FORMS]), Cursor(screen, NAME)
    form.heard(told(NAME, token))
    scene = threshold(models, form.value)
    where = ", ".join(f"epoch {epoch} of {names[run.id]}" for run, epoch in shown)
    st.caption(plain(f"All recorded paths together: {where}."))
    if cursor.goto is not None and cursor.goto > scene.last:
        st.info(plain(f"There is no {NAME} {cursor.goto}; the last one is {scene.last}."))
    start = round(OPENS * scene.last) if cursor.goto is None else min(cursor.goto, scene.last)
    with st.container(key="threshold-picture"):
        report = scrubber(NAME, scene, run=token, cursor=start, jump=cursor.jump)
    cursor.heard(report)


def arrived(screen: str) -> list[str]:
    """Take a deep link or Back, in a whole run; returns sentences for a form and a threshold that cannot be."""
    form = Switched(screen, "stop", "form", [name for name, _ in FORMS])
    return [problem for problem in (form.read(), Cursor(screen, NAME).read()) if problem]


def _attack(run: Run) -> str:
    threat = run.config.threat
    eps = f"{'L-inf' if threat.norm == 'linf' else 'L2'} eps {describe_eps(threat.eps)}"
    return f"{recorded_attack(run).words(run)}, 1 restart, {eps}"


@st.cache_resource(show_spinner=False, max_entries=8)
def _curves(folder: str, modified: float, epoch: int) -> dict[str, np.ndarray]:
    return Run(Path(folder)).curves(epoch, CURVES)
