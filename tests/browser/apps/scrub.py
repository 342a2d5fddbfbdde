"""A page with nothing but the scrubber, on made-up runs; the query string says which scene."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import streamlit as st

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from dynat_core import views  # noqa: E402
from tests.synthetic import cut, named, surface, trajectory  # noqa: E402
from ui.scrubber import scrubber  # noqa: E402

st.set_page_config(layout="wide")
st.html(ROOT / "ui" / "theme.css")
st.html('<div style="height: 2.4rem"></div>')  # where the menu stands on a real page
query = st.query_params
live = "live" in query
began = st.session_state.setdefault("began", time.time())


def training(runs: list[views.NamedHistory]) -> views.Scene:
    scene = views.epochs(
        runs,
        st.session_state.get("split", query.get("split", "train")),
        query.get("form", "relative"),
        query.get("kind", "histogram"),
    )
    return replace(scene, opens="Open in Trajectory")


def path(runs: list[views.NamedHistory]) -> views.Scene:
    size, channels = (32, 3) if "color" in query else (8, 1)
    first, second = (
        trajectory(seed, int(query.get("steps", "10")), size, channels, run=run, eps=0.3)
        for seed, run in ((1, "demo-dynamic"), (5, "demo-standard"))
    )
    if "color" in query:
        names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
        first, second = (replace(t, settings={**t.settings, "classes": names}) for t in (first, second))
    return views.trajectory(
        first,
        second if "versus" in query else None,
        surface=surface(first) if "surface" in query else None,
        names=("Dynamic", "Standard"),
    )


def start(runs: list[views.NamedHistory]) -> views.Scene:
    models = [
        views.NamedPaths(
            name, name.lower(), np.stack([trajectory(s, run=name).relative_fosc for s in range(40 * k, 40 * k + 40)])
        )
        for k, name in enumerate(("Dynamic", "Standard"))
    ]
    return views.overview(models, trajectory(1, run="demo-standard"), "Standard")


def nothing(runs: list[views.NamedHistory]) -> views.Scene:
    return views.epochs([])


SCENES = {"training": training, "trajectory": path, "overview": start, "empty": nothing}


@st.fragment(run_every=1 if live else None)
def body() -> None:
    epochs, samples = int(query.get("epochs", "30")), int(query.get("samples", "500"))
    runs = named(*query.get("runs", "dynamic,standard").split(","), epochs=epochs, samples=samples)
    if live:
        runs = [cut(run, 8 + int(time.time() - began)) for run in runs]
    scene = SCENES[query.get("scene", "training")](runs)
    jump = st.session_state.get("jump", 0)
    cursor = 25 if jump else int(query["epoch"]) if "epoch" in query else None
    report = scrubber(
        "scrub", scene, run="run-1", cursor=cursor, live=live, follow=live and "epoch" not in query, jump=jump
    )
    st.button("Jump to 25", on_click=lambda: st.session_state.update(jump=jump + 1))
    st.button("Test images", on_click=lambda: st.session_state.update(split="test"))
    st.text_input("A text input")
    done = st.session_state.setdefault("done", [])
    if report.action:
        done.append((report.action, report.times))
    st.caption(f"report: {report}")
    st.caption(f"done: {done}")


body()
