"""Words for pictures without a cursor: what they say, and that every such picture on a screen has them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dynat_core.store.evaluations import evaluations
from dynat_core.views import check, reviewer
from dynat_core.views.base import View
from dynat_core.views.described import described
from dynat_core.work.analyst import Analyst
from ui import store

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "checkpoints" / "demo-digits-standard"
AXES = {"xaxis": {"title": {"text": "PGD step"}}, "yaxis": {"title": {"text": "share<br>right"}, "tickformat": ".0%"}}


def line(**more) -> dict:
    return {"type": "scatter", "mode": "lines", "x": [0, 5, 10], "y": [0.9, 0.5, 0.25], **more}


def dots(**more) -> dict:
    return {"type": "scatter", "mode": "markers", "x": [0.5, 2], "y": [0.9, 0.25], **more}


@pytest.mark.parametrize(
    "data, said",
    [
        ([line()], "from 0 across, 90 % up to 10 across, 25 % up."),
        ([line(name="Dynamic")], "Dynamic: from 0 across, 90 % up to 10 across, 25 % up."),
        ([line(text=["a", "b", "c"])], "a, b, c."),
        ([line(x=list(range(13)), y=[0.5] * 13, text=[f"at {k}" for k in range(13)])], "at 0, at 6, at 12."),
        ([line(name="band", fill="tonexty"), line(line={"width": 0}), line(name="A")],
         "up: share right. A: from 0 across"),
        ([dots(name="fooled")], "fooled: 2 points, 0.50 to 2.0 across, 25 % to 90 % up."),
        ([dots(name="fooled", x=[1], y=[0.5])], "fooled: 1 point, 1.0 across, 50 % up."),
        ([dots(name="fooled", x=[], y=[]), dots(name="stands")], "right. stands: 2 points"),
        ([dots(name="fooled", x=[None], y=[None])], "fooled: no points."),
        ([line(name=f"run {k}") for k in range(11)], "run 7: from 0 across, 90 % up to 10 across, 25 % up; and 3"),
        ([line(name="FGSM then PGD", y=[0.0, 0.5, 0.0])], "FGSM then PGD: from 0 across, 0 % up to 10 across, 0 % up."),
        ([line(x=[0, 5], y=[0.5, 0.5])], "right. 5.0."),
        ([], "Nothing is drawn."),
    ],
)  # fmt: skip
def test_what_is_drawn_is_told(data, said):
    words = described(View("v", "How high?", fig={"data": data, "layout": AXES}))
    assert words.startswith("How high? Chart, across: PGD step, up: share right. ") and said in words
    assert "\n" not in words and "<" not in words


def test_numbers_that_stand_in_the_picture_as_words_are_told():
    layout = {**AXES, "annotations": [{"text": "clean: −1.4 points, lower"}]}
    assert described(View("v", "Lower?", fig={"data": [dots()], "layout": layout})).endswith("−1.4 points, lower.")


def test_the_shipped_measurements_are_told_as_they_were_measured():
    found = {e.kind: e for e in evaluations(DEMO)}
    result = found["ladder"].result() or {}
    words = described(check.ladder(result))
    for rung in result["rungs"]:
        assert f"{rung['words']}: {100 * rung['accuracy']:.1f} %" in words
    table: pd.DataFrame = found["check"].samples()
    standing = int(table["robust_correct"].sum())
    assert f"converged: {standing} points" in described(check.endings(table))
    curves = {
        view.id: described(view)
        for view, _ in reviewer.views(found["curves"].result() or {}, found["curves"].samples())
    }
    assert "cross-entropy: eps/8: 82.0 %" in curves["step-sizes"]  # the size, not its place in the picture
    assert "cross-entropy: 10: 78.5 %" in curves["restarts"]
    assert "only margin loss: 1 %" in curves["losses"]
    assert re.search(r"not fooled: \d+ points, .* fooled: \d+ points", curves["fosc"])


@pytest.mark.parametrize(
    "page, query, least",
    [
        ("check", {"run": DEMO.name}, 9),
        ("compare", {"run": f"{DEMO.name},demo-digits-dynamic"}, 2),
        ("inner_optimizer", {}, 2),
        *(
            ("paper", {"show": show, "data": "digits"}, least)
            for show, least in (("1", 4), ("2", 6), ("3", 3), ("4", 3))
        ),
    ],
)
def test_every_picture_without_a_cursor_has_words_that_begin_with_its_question(
    tmp_path, monkeypatch, page, query, least
):
    monkeypatch.setattr(Analyst, "warm", lambda analyst, after=0.0: None)
    for name in (DEMO.name, "demo-digits-dynamic"):
        shutil.copytree(ROOT / "checkpoints" / name, tmp_path / name)
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path))
    store.look_again()
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
    app.query_params.clear()
    for name, value in query.items():
        app.query_params[name] = value
    app.switch_page(f"pages/{page}.py").run()
    assert not app.exception
    charts = app.get("plotly_chart")
    heads = [re.sub(r"<[^>]+>", "", box.body) for box in app.get("html") if "dynat-head" in box.body]
    assert len(charts) >= least
    for chart in charts:
        title, chart_words, _ = chart.proto.alt.partition(" Chart, ")
        assert chart_words and any(title in (head, f"{head}.") for head in heads), chart.proto.alt


def test_only_one_place_draws_pictures_so_that_none_is_without_words():
    drawing = [path for folder in ("pages", "ui") for path in (ROOT / folder).rglob("*.py")
               if "plotly_chart(" in path.read_text(encoding="utf-8")]  # fmt: skip
    assert [path.name for path in drawing] == ["stills.py"]
