"""The theory screens without a browser: settings in the query string, what it cannot mean, the words printed."""

from __future__ import annotations

import importlib.util
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dynat_core.recorded.packing import unpack
from dynat_core.work.analyst import Analyst
from ui import store

ROOT = Path(__file__).resolve().parent.parent
SCREENS = ("theorem", "smoothness", "sde")


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """An empty store, and no helper process."""
    monkeypatch.setattr(Analyst, "warm", lambda analyst, after=0.0: None)
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path / "nothing"))
    store.look_again()


def show(screen: str, **query: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    app.query_params.clear()
    for name, value in query.items():
        app.query_params[name] = value
    app.switch_page(f"pages/{screen}.py").run()
    assert not app.exception
    return app


def scene(app: AppTest) -> dict:
    (component,) = app.get("bidi_component")
    return unpack(component.proto.bytes)[0]


def said(app: AppTest) -> str:
    boxes = [*app.get("html"), *app.markdown, *app.latex]
    text = " ".join(str(getattr(box, "body", "") or getattr(box, "value", "")) for box in boxes)
    return unescape(re.sub(r"<[^>]+>", " ", text))


CAUTIONS = {
    "theorem": ("cannot hold inside a linear region", "δ bounds ALL examples", "no reason for a falling threshold",
                "empirical", "3σ√(LΔ/T)", "needs T ≥ LΔ/σ²", "ICML 2019"),
    "smoothness": ("L2 is not smooth where the gradient in x is 0", "a lower bound", "UNKNOWN",
                   "equal gradient evaluations"),
    "sde": ("signs and projection are outside the equation", "first order", "UNKNOWN", "worked out here"),
}  # fmt: skip
NEVER = ("certified", "proves robustness", "is better", "optimal learning rate", "the lipschitz constant is")


@pytest.mark.parametrize("screen", SCREENS)
def test_each_opens_without_torch_with_a_picture_a_formula_and_its_limits(screen, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    app = show(screen)
    assert [box.value for box in app.error] == [] and len(app.latex) == 1
    assert scene(app)["n"] > 10 and len(scene(app)["views"]) >= 3
    words = said(app)
    for part in ("view only", "What this shows.", "What it does not show.", "arXiv", *CAUTIONS[screen]):
        assert part in words
    for claim in NEVER:
        assert claim not in words.lower()


def test_a_run_s_network_needs_torch_and_the_small_one_stands_in(monkeypatch, tmp_path):
    shutil.copytree(ROOT / "checkpoints" / "demo-digits-standard", tmp_path / "store" / "demo-digits-standard")
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path / "store"))
    store.look_again()
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    app = show("theorem", network="demo-digits-standard")
    (sentence,) = [box.value for box in app.info]
    assert "pip install -r requirements.txt" in sentence and "the small network" in sentence
    assert any("two hidden layers of 24" in str(text) for text in scene(app)["texts"])


def slider(app: AppTest, key: str):
    return next(w for w in app.select_slider if w.key == key)


@pytest.mark.parametrize(
    "screen, query, key, value",
    [
        ("theorem", {"T": "64", "delta": "3"}, "theorem.T", "64"),
        ("theorem", {"mu": "0.25"}, "theorem.mu", "0.25"),
        ("smoothness", {"eps": "1", "probe": "zero", "place": "7"}, "smoothness.eps", "1"),
        ("sde", {"K": "0", "B": "1", "eta": "0.2", "step": "4", "moment": "variance"}, "sde.K", "0"),
    ],
)
def test_a_deep_link_sets_the_settings_and_the_cursor(screen, query, key, value):
    app = show(screen, **query)
    assert [box.value for box in app.error] == []
    assert slider(app, key).value == value
    place = next((query[name] for name in ("delta", "place", "step") if name in query), None)
    assert place is None or scene(app)["cursor"] == int(place)
    if "moment" in query:
        assert scene(app)["switches"][0]["value"] == query["moment"]


def test_a_changed_setting_goes_into_the_query_string_and_the_default_leaves_it():
    app = show("sde", step="3")
    slider(app, "sde.K").set_value("5").run()
    assert dict(app.query_params) in ({"step": ["3"], "K": ["5"]}, {"step": "3", "K": "5"})
    assert scene(app)["cursor"] == 3
    slider(app, "sde.K").set_value("3").run()
    assert "K" not in app.query_params


@pytest.mark.parametrize(
    "screen, query, sentence",
    [
        ("theorem", {"mu": "-1"}, "There is no mu of '-1'; there is 0.25, 0.5, 1, 2, 4."),
        ("theorem", {"delta": "99"}, "There is no delta 99; the last one is 17."),
        ("smoothness", {"eps": "<b>"}, "There is no eps of '<b>'"),
        ("smoothness", {"probe": "round"}, "There is no probe called 'round'; there is across, zero."),
        ("sde", {"eta": "9" * 300}, "There is no eta of '999"),
        ("sde", {"step": "x"}, "'x' is no step; it must be a whole number, 0 or more."),
    ],
)  # fmt: skip
def test_what_the_query_string_cannot_mean_is_one_sentence_and_the_screen_stands(screen, query, sentence):
    app = show(screen, **query)
    boxes = [re.sub(r"\\(.)", r"\1", box.value) for box in (*app.error, *app.info)]
    assert len(boxes) == 1 and sentence in boxes[0]
    assert scene(app)["n"] > 10


def test_theorem_follows_its_sliders():
    """More noise needs more steps before the paper's bound is stated; the picture says so."""
    few, many = (show("theorem", sigma=sigma, T="8") for sigma in ("2", "0.25"))
    texts = [next(t for t in scene(app)["texts"] if "δ = 0, T = 8" in str(t)) for app in (few, many)]
    assert "the paper's bound is " in texts[0][0] and "is stated from T" in texts[1][0]


def test_a_line_through_a_network_needs_torch_and_the_logistic_model_stands_in(monkeypatch, tmp_path):
    shutil.copytree(ROOT / "checkpoints" / "demo-digits-standard", tmp_path / "store" / "demo-digits-standard")
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path / "store"))
    store.look_again()
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    app = show("smoothness", of="demo-digits-standard")
    (sentence,) = [box.value for box in app.info]
    assert "pip install -r requirements.txt" in sentence and "the logistic model" in sentence
    assert [view["id"] for view in scene(app)["views"]][:2] == ["plane-0", "plane-1"]


@pytest.mark.parametrize("screen, preset, optimizer, schedule", [
    ("smoothness", "digits-entropy", "entropy-sgd", "milestones"),
    ("sde", "digits-hold-then-fall", "sgd", "hold-then-fall"),
])  # fmt: skip
def test_use_in_a_run_leads_to_train_with_the_settings_loaded(screen, preset, optimizer, schedule):
    app = show(screen)
    app.button(key=f"use-{preset}").click().run()
    assert not app.exception and not app.error
    assert app.session_state["train.preset"] == preset
    draft = app.session_state["train.draft"]
    assert (draft["optimizer.name"], draft["optimizer.schedule"]) == (optimizer, schedule)
