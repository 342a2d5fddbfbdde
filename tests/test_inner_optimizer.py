"""The inner optimiser's study and screen: its figures are what the shipped rule does, its words are kept honest."""

from __future__ import annotations

import importlib.util
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from streamlit.testing.v1 import AppTest

from dynat_core.attack.fosc import relative_fosc
from dynat_core.attack.learned import Learned, Sign, attack, shipped
from dynat_core.attack.threat import Ball
from dynat_core.recorded.packing import unpack
from dynat_core.training.evaluate import generator_for
from dynat_core.views import inner_optimizer as picture
from dynat_core.views.base import strategy_style, styled
from dynat_core.views.still import shapes
from dynat_core.work.analyst import Analyst
from tests.shipped import EPS, digits
from tests.shipped import shipped as network
from ui import store

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "dynat_core" / "rules"
STUDY: dict[str, Any] = json.loads((RULES / "digits.json").read_text())
MODELS = sorted(STUDY["models"])
STUDIES: dict[str, dict[str, Any]] = {"digits": STUDY, "mnist": json.loads((RULES / "mnist.json").read_text())}
BOTH = [(data, name) for data, found in STUDIES.items() for name in sorted(found["models"])]
torch.set_num_threads(1)


def paths(steps: int):
    """The attack of both rules on the Standard demo: all test images, from the study's starts."""
    x, y = digits(500)
    ball = Ball(x, EPS)
    start = ball.random_point(generator_for(torch.device("cpu"), 0, "inner optimizer", "test"))
    rules = {
        "learned": Learned(shipped(RULES / "digits.safetensors"), EPS / 4),
        "pgd": Sign(STUDY["models"]["standard"]["step"]["pgd"] * EPS),
    }
    return ball, {k: attack(network(), ball, y, rule, steps, start=start, keep_path=True) for k, rule in rules.items()}


def test_the_study_is_what_the_shipped_rule_does():
    ball, found = paths(5)
    for name, attacked in found.items():
        path, curves = attacked.path, STUDY["models"]["standard"]["curves"][name]
        assert path is not None
        rho = torch.stack([relative_fosc(ball, z, g) for z, g in zip(path.z, path.grad, strict=True)])
        for measure, values in (("loss", path.loss), ("relative_fosc", rho)):
            quartiles = np.nanquantile(values.numpy(), (0.25, 0.5, 0.75), axis=1)
            np.testing.assert_allclose(np.array(curves[measure])[:, :6], quartiles, rtol=2e-2, atol=2e-3)
    row = STUDY["models"]["standard"]["compared"][0]
    assert row["steps"] == 5 and row["learned"] == pytest.approx(float(found["learned"].loss.mean()), rel=2e-3)


@pytest.mark.parametrize("data, name", BOTH)
def test_intervals_hold_their_difference_and_the_trained_steps_lie_inside_the_curves(data, name):
    model = STUDIES[data]["models"][name]
    for row in model["compared"]:
        low, high = row["interval"]
        assert low < row["difference"] < high and row["n"] == {"digits": 500, "mnist": 100}[data]
        assert row["learned"] - row["pgd"] == pytest.approx(row["difference"], abs=2e-5)
    assert STUDY["trained_steps"] < len(model["curves"]["learned"]["loss"][0]) - 1
    for curve in model["curves"].values():
        assert all(a <= b <= c for rows in curve.values() for a, b, c in zip(*rows, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_the_marks_follow_the_cursor_along_the_medians(name):
    model = STUDY["models"][name]
    scene = picture.inner_optimizer(model, STUDY["trained_steps"], "500 test images")
    assert scene.n == 31 and len(scene.views) == 3
    for measure in ("loss", "relative_fosc"):
        view = scene.view(measure)
        for k, rule in enumerate(picture.RULES):
            middle = np.array(model["curves"][rule][measure][1])
            np.testing.assert_allclose(10.0 ** view.arrays[f"{measure}-{k}"], middle, rtol=1e-4)
    rule = scene.view("rule").arrays["rule-1"]
    assert np.isnan(rule[-1, :, 1]).all()  # from the last point no step is taken
    up, down = rule[3, rule[3, :, 0] > 4, 1], rule[3, rule[3, :, 0] < -4, 1]
    assert np.nanmin(up) > 0 > np.nanmax(down)  # large gradients are climbed
    assert shapes(scene.view("rule"), 3)
    assert "trained for 10 steps only" in scene.sentences[11] and "only" not in scene.sentences[10]


def test_a_style_that_a_strategy_has_by_nature_is_spared_for_it():
    series = styled([("a", "dynamic"), ("b", "dynamic"), ("c", "trades"), ("d", "l2l")])
    assert [s.color for s in series[2:]] == [strategy_style(name)[:2] for name in ("trades", "l2l")]
    assert len({s.color for s in series}) == 4


# ---------------------------------------------------------------------------------------------------------- the screen


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """An empty store, and no helper process."""
    monkeypatch.setattr(Analyst, "warm", lambda analyst, after=0.0: None)
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path / "nothing"))
    store.look_again()


def show(**query: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    app.query_params.clear()
    for name, value in query.items():
        app.query_params[name] = value
    app.switch_page("pages/inner_optimizer.py").run()
    assert not app.exception
    return app


def said(app: AppTest) -> str:
    boxes = [*app.get("html"), *app.markdown, *app.latex, *app.error, *app.info]
    text = " ".join(str(getattr(box, "body", "") or getattr(box, "value", "")) for box in boxes)
    return unescape(re.sub(r"<[^>]+>", " ", text))


def test_it_opens_without_torch_and_says_what_it_does_not_show(alone, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    words = said(show())
    for part in ("view only", "What this shows.", "What it does not show.", "UNKNOWN", "published", "ECCV 2020",
                 "PGD's step tuned for each k", "No run of PGD AT or TRADES or L2L is in this store yet"):  # fmt: skip
        assert part in words, part
    for claim in ("stronger than pgd", "is robust", "certified", "is better"):
        assert claim not in words.lower()
    assert "not told apart" in words and "PGD higher" in words and "the learned rule higher" in words  # as measured


def test_a_deep_link_chooses_the_model_and_the_step():
    app = show(model="unsecured", k="12")
    (component,) = app.get("bidi_component")
    assert unpack(component.proto.bytes)[0]["cursor"] == 12
    assert "on the Unsecured model" in said(app)


@pytest.mark.parametrize("query, sentence", [
    ({"model": "<b>x"},
     "There is no model called '<b>x'; there is standard, dynamic, unsecured, mnist-standard, mnist-dynamic."),
    ({"k": "31"}, "There is no k 31; the last one is 30."),
    ({"k": "x"}, "'x' is no k; it must be a whole number, 0 or more."),
])  # fmt: skip
def test_what_the_query_string_cannot_mean_is_one_sentence(alone, query, sentence):
    app = show(**query)
    boxes = [re.sub(r"\\(.)", r"\1", box.value) for box in (*app.error, *app.info)]
    assert boxes == [sentence]


def test_it_leads_to_a_run_with_the_strategy(alone):
    app = show()
    next(b for b in app.button if b.label == "Use L2L in a run").click().run()
    assert not app.exception and dict(app.query_params).get("preset") in ("digits-l2l", ["digits-l2l"])


def over_seeds(training: str, measure: str) -> tuple[str, str, str]:
    """A training less PGD AT in percentage points, and the ends of the paired 95 % interval."""
    rows = json.loads((ROOT / "dynat_core" / "theory" / "seeds.json").read_text())["rows"]
    one, other = ([row[measure] for row in rows[name]] for name in (training, "standard"))
    apart = 100 * np.subtract(one, other)
    found = stats.ttest_1samp(apart, 0).confidence_interval()
    mean, low, high = (f"{value:+.1f}".replace("-", "−") for value in (apart.mean(), found.low, found.high))
    return mean, low, high


@pytest.mark.parametrize("training, row", [("entropy-sgd", "EntropySGD"), ("trades", "TRADES, beta 6"), ("l2l", "L2L")])
def test_the_guide_prints_the_differences_over_the_seeds_as_measured(training, row):
    (line,) = re.findall(rf"^\| {row} \| (.*)$", (ROOT / "docs" / "theory.md").read_text(), re.MULTILINE)
    cells = ["{} ({} to {})".format(*over_seeds(training, measure)) for measure in ("clean", "pgd", "worst")]
    assert line.split(" | ")[:3] == cells


def test_trades_and_l2l_stand_beside_pgd_at_over_the_seeds_with_their_intervals(alone):
    app = show()
    charts = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    for training, chart in zip(("trades", "l2l"), charts, strict=True):
        texts = [note["text"] for note in chart["layout"]["annotations"]]
        for measure, text in zip(("clean", "pgd", "worst"), texts, strict=True):
            mean, low, high = over_seeds(training, measure)
            assert f"{mean} points (95 %: {low} to {high})" in text
    words = said(app)
    assert "5 seeds paired" in words and "apgd-t" in words and "nothing tuned for the comparison" in words


def test_measured_runs_stand_in_the_table(monkeypatch):
    monkeypatch.setenv("DYNAT_STORE", str(ROOT / "checkpoints"))
    store.look_again()
    words = said(show())
    assert "Digits, Standard, epoch" in words and "78.6 % (74.8 to 82.0)" in words and "10 of 10" in words
    assert "No run of TRADES or L2L is in this store yet" in words
