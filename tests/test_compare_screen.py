"""The compare screen without a browser: what is said of real runs, what is refused, seeds, ladders, links."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from streamlit.testing.v1 import AppTest

from dynat_core.presets import preset
from dynat_core.recorded import tables
from dynat_core.store.bookkeeping import rename
from dynat_core.store.runs import Run, RunStore
from tests.ladders import make_ladders
from ui import store

ROOT = Path(__file__).resolve().parent.parent
PAIR = ("demo-digits-dynamic", "demo-digits-standard")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A store with copies of the two shipped digits runs."""
    target = tmp_path / "store"
    for name in PAIR:
        shutil.copytree(ROOT / "checkpoints" / name, target / name)
    monkeypatch.setenv("DYNAT_STORE", str(target))
    store.look_again()
    return target


def show(**query: str) -> AppTest:
    """The screen after its first run; nothing may have gone wrong in it."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    app.query_params.clear()
    for name, value in query.items():
        app.query_params[name] = value
    app.switch_page("pages/compare.py").run()
    assert not app.exception
    return app


def said(app: AppTest) -> str:
    boxes = [*app.get("html"), *app.info, *app.error]
    return unescape("\n".join(str(getattr(box, "body", "") or getattr(box, "value", "")) for box in boxes))


def copied(folder: Path, name: str, to: str, **settings) -> Run:
    """The run again under another id, with other settings in its run.json: its numbers stay."""
    shutil.copytree(folder / name, folder / to)
    request = json.loads((folder / to / "run.json").read_text())
    request |= {"id": to, "config": Run(folder / name).config.with_values(settings).model_dump(mode="json")}
    (folder / to / "run.json").write_text(json.dumps(request))
    store.look_again()
    return RunStore(folder).open(to)


def test_the_shipped_pair_is_compared_and_the_numbers_are_those_of_another_count(folder):
    words = said(show())
    one, two = (pd.read_parquet(folder / name / "samples" / "best.parquet").set_index("index") for name in PAIR)
    a, b = (table["predicted"] == table["label"] for table in (one, two.loc[one.index]))
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = stats.binomtest(only_a, only_a + only_b).pvalue
    assert f"{100 * (b.mean() - a.mean()):+.1f} points".replace("-", "−") in words
    assert f"{only_b} / {only_a}" in words and f"McNemar p = {p:.2f}" in words
    for part in ("PGD-20, step 0.0375", "eps 0.15 (38.25/255)", "500 test images", "no problem found", "6.8 of 10",
                 "One training seed each", "strategy.c_max", "Wilson", "gradients an image"):  # fmt: skip
        assert part in words, part
    assert "optimizer.lr" not in words


def test_tables_show_names_and_line_samples_and_no_markup(folder):
    rename(RunStore(folder).open(PAIR[1]), "<i>R&D</i>")
    html = "".join(str(box.body) for box in show().get("html"))
    assert html.count('<td><i class="dynat-swatch"') == 2 and "<td><b>no problem found" in html
    assert "<i>R" not in html and "&lt;i&gt;R&amp;D&lt;/i&gt;" in html
    assert "&amp;lt;" not in html and "&amp;amp;" not in html and "&lt;i class" not in html


def test_the_order_of_the_link_says_which_run_the_others_are_compared_with(folder):
    words = said(show(run=",".join(reversed(PAIR))))
    assert "Digits, Dynamic − Digits, Standard: +1.0 points" in words
    assert "Differences are to Digits, Standard." in words


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"threat.eps": 0.3}, "eps is 0.15 (38.25/255) and 0.3 (76.5/255)."),
        ({"recording.steps": 50}, "the attack takes 20 and 50 steps."),
    ],
)
def test_another_threat_is_refused_in_words_and_nothing_is_compared(folder, settings, sentence):
    copied(folder, PAIR[1], "other", **settings)
    app = show(run=f"{PAIR[0]},other")
    (error,) = [re.sub(r"\\(.)", r"\1", box.value) for box in app.error]
    assert error.startswith("Digits, Dynamic and Digits, Standard are not compared: ") and error.endswith(sentence)
    assert not app.get("plotly_chart") and "McNemar" not in said(app)
    assert next(iter(settings)) in said(app)  # what differs is still listed


def test_fewer_images_are_said_and_only_shared_ones_are_compared(folder):
    run = copied(folder, PAIR[1], "fewer")
    table = run.samples("best").iloc[100:300].reset_index(drop=True)
    (run.folder / "samples" / "best.parquet").write_bytes(tables.samples_to_bytes(table))
    words = said(show(run=f"{PAIR[0]},fewer"))
    assert "Digits, Dynamic on 500, Digits, Standard on 200 test images" in words
    assert "the 200 that all of them have" in words
    first = pd.read_parquet(folder / PAIR[0] / "samples" / "best.parquet").set_index("index").loc[table["index"]]
    assert f"{100 * (first['predicted'] == first['label']).mean():.1f} % (" in words


def test_a_run_that_has_not_finished_is_left_out_with_a_sentence(folder):
    RunStore(folder).create(preset("quick"), "waiting")
    store.look_again()
    words = said(show(run=f"{PAIR[0]},{PAIR[1]},waiting"))
    assert "can be compared once it has finished" in re.sub(r"\\(.)", r"\1", words)
    assert "Digits, Standard − Digits, Dynamic" in words
    assert "Choose at least two runs to compare." in re.sub(r"\\(.)", r"\1", said(show(run=f"{PAIR[0]},waiting")))


def test_training_seeds_are_grouped_and_told_apart_from_one_another(folder):
    for seed in (1, 2):
        run = copied(folder, PAIR[0], f"dynamic-{seed}", seed=seed)
        table = run.samples("best")
        table.loc[: 9 * seed, "predicted"] = (table["label"] + 1) % 10  # other images fooled
        (run.folder / "samples" / "best.parquet").write_bytes(tables.samples_to_bytes(table))
    copied(folder, PAIR[1], "standard-1", seed=1)
    words = said(show(run=f"{PAIR[0]},dynamic-1,dynamic-2,{PAIR[1]},standard-1"))
    reached = [
        float((RunStore(folder).open(id).samples("best").eval("predicted == label")).mean())
        for id in (PAIR[0], "dynamic-1", "dynamic-2")
    ]
    assert f"{100 * np.mean(reached):.1f} %, 3 seeds, {100 * min(reached):.1f} to {100 * max(reached):.1f}" in words
    assert "Standard − Dynamic, means of 2 and 3 training seeds" in words
    assert "One training seed each" not in words and "Digits, Dynamic, seed 2" in words


def test_ladders_are_compared_and_attack_seeds_are_no_training_seeds(folder):
    one, two = (RunStore(folder).open(name) for name in PAIR)
    *climbed, _ = make_ladders((one, 20, 0), (two, 20, 0), (two, 20, 5))
    words = said(show())
    assert "Attack by attack: Digits, Standard against Digits, Dynamic" in words and "worst case" in words
    for evaluation in climbed:
        worst = (evaluation.result() or {})["worst"]
        assert f"{100 * worst['accuracy']:.1f} % ({100 * worst['low']:.1f} to {100 * worst['high']:.1f})" in words
    assert "over 2 attack seeds on the same weights and 20 images; this is no training seed." in words


def test_the_same_images_stand_side_by_side_and_lead_to_trajectory(folder):
    app = show()
    words, (run, _) = said(app), (RunStore(folder).open(name) for name in PAIR)
    path = run.probes(run.epoch_of("best")).one(0)
    assert f"margin {path.margin[-1]:.1f}, relative FOSC {path.relative_fosc[-1]:.3f}" in words
    assert words.count("data:image/png;base64,") == 9  # three images: clean, and on either network
    button = next(button for button in app.button if button.label == "Open image 1")
    assert button.key == "open-1"


def test_names_of_people_are_shown_as_text(folder):
    RunStore(folder).open(PAIR[0]).set_label(title="<img src=x onerror=alert(1)>")
    store.look_again()
    assert not any("<img src=x" in str(box.body) for box in show().get("html"))


def test_an_empty_store_says_how_to_fill_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path / "nothing"))
    store.look_again()
    assert any(code.value == "make demos" for code in show().code)


def test_without_torch_runs_are_compared_all_the_same(folder, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    assert "Digits, Standard − Digits, Dynamic" in said(show())
