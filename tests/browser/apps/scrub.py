"""A page with nothing but the scrubber, on made-up runs; the query string says which scene."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import streamlit as st

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from dynat_core import views  # noqa: E402
from tests.synthetic import named  # noqa: E402
from ui.scrubber import scrubber  # noqa: E402

st.set_page_config(layout="wide")
query = st.query_params
live = "live" in query
began = st.session_state.setdefault("began", time.time())


@st.fragment(run_every=1 if live else None)
def body() -> None:
    runs = named(*query.get("runs", "dynamic,standard").split(","), epochs=int(query.get("epochs", "30")))
    if live:
        from tests.synthetic import cut

        runs = [cut(run, 8 + int(time.time() - began)) for run in runs]
    scene = views.epochs(runs, split=query.get("split", "train"), form=query.get("form", "relative"), kind=query.get("kind", "histogram"))
    jump = st.session_state.get("jump", 0)
    cursor = 25 if jump else int(query["epoch"]) if "epoch" in query else None
    report = scrubber("scrub", scene, run="run-1", cursor=cursor, live=live, follow=live and "epoch" not in query, jump=jump)
    st.button("Jump to 25", on_click=lambda: st.session_state.update(jump=jump + 1))
    st.text_input("A text input")
    st.caption(f"report: {report}", text_alignment="left")


body()
