"""Every value that a screen takes from its query string, wrong: one sentence each, and the screen stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dynat_core.work.analyst import Analyst
from ui import link, store

ROOT = Path(__file__).resolve().parent.parent
SMOOTHNESS = "pages/smoothness.py"
# (screen, what of its link is right) -> name in the query string -> a wrong value, and the sentence about it
WRONG: list[tuple[str, dict[str, str], dict[str, tuple[str, str]]]] = [
    ("app.py", {}, {"step": ("x1", "'x1' is no step; it must be a whole number, 0 or more.")}),
    ("pages/epochs.py", {}, {
        "run": ("nobody", "There is no run called nobody"),
        "epoch": ("999", "There is no epoch 999; the last one is 30."),
        "split": ("valid", "There is no split called 'valid'; there is train, test."),
        "form": ("square", "There is no form called 'square'; there is relative, box, paper."),
        "view": ("<b>", "There is no view called '<b>'; there is histogram, ecdf, heatmap."),
    }),
    ("pages/trajectory.py", {}, {
        "run": ("nobody", "There is no run called nobody"),
        "epoch": ("77", "of Digits, Standard at epoch 77; there is"),
        "image": ("²", "There is no test image ² in this run"),
        "attack": ("strong", "attack=strong is not like 10,eps/4,ce,random"),
        "step": ("50", "There is no step 50; the last one is 10."),
        "form": ("square", "There is no form called 'square'; there is box, paper."),
        "stop": ("round", "There is no stop called 'round'; there is "),
        "threshold": ("-1", "'-1' is no threshold; it must be a whole number, 0 or more."),
        "only": ("fooled;big", "The link's only='big' means nothing here"),
        "pick": ("height,0,1", "The link's pick='height,0,1' means nothing here"),
        "images": ("3,x", "The link's images='x' is no image"),
    }),
    ("pages/trajectory.py", {}, {"threshold": ("99999", "There is no threshold 99999; the last one is ")}),
    ("pages/check.py", {}, {
        "run": ("nobody", "There is nothing to check in a run called nobody"),
        "check": ("check-none", "There is no check called 'check-none'; there is "),
    }),
    ("pages/train.py", {}, {
        "preset": ("imagenet", "There is no preset called 'imagenet'"),
        "clone": ("nobody", "There is no run called nobody"),
    }),
    ("pages/runs.py", {}, {
        "state": ("<b>", "There is no state called '<b>'; there is finished."),
        "strategy": ("Best", "There is no strategy called 'Best'; there is "),
        "data": ("x", "There is no data called 'x'; there is "),
        "tag": ("mine", "There is no tag called 'mine'; there is none."),
        "by": ("luck", "There is no order called 'luck'; there is newest, oldest"),
        "archived": ("maybe", "There is no archived called 'maybe'; there is 1."),
    }),
    ("pages/compare.py", {}, {"run": ("nobody", "There is no run called nobody")}),
    ("pages/paper.py", {}, {
        "show": ("9", "There is no part called '9'; there is tables"),
        "data": ("imagenet", "There is no data set called 'imagenet'; there is mnist"),
    }),
    ("pages/paper.py", {"show": "4"}, {"form": ("square", "There is no form called 'square'; there is paper, box.")}),
    ("pages/inner_optimizer.py", {}, {
        "model": ("best", "There is no model called 'best'; there is standard"),
        "k": ("999", "There is no k 999; the last one is "),
    }),
    (SMOOTHNESS, {}, {
        "of": ("nobody", "There is no model called 'nobody'; there is logistic"),
        "probe": ("round", "There is no probe called 'round'; there is across, zero."),
        "eps": ("2", "There is no eps of '2'; there is 0, 0.1"),
        "gamma": ("x", "There is no gamma of 'x'; there is 0.3"),
        "tau": ("x", "There is no tau of 'x'; there is 0.05"),
        "place": ("999", "There is no place 999; the last one is 79."),
    }),
    (SMOOTHNESS, {"of": "demo-digits-standard"}, {
        "way": ("back", "There is no line called 'back'; there is random, training."),
        "reach": ("x", "There is no reach of 'x'; there is 0.001"),
        "at": ("999", "There is no at 999; the last one is 29."),
    }),
    ("pages/sde.py", {}, {
        "eta": ("9", "There is no eta of '9'; there is 0.02"),
        "K": ("9", "There is no K of '9'; there is 0, 1"),
        "B": ("9", "There is no B of '9'; there is 1, 2"),
        "moment": ("third", "There is no moment called 'third'; there is mean, variance."),
        "step": ("9999", "There is no step 9999; the last one is "),
    }),
    ("pages/theorem.py", {}, {
        "T": ("3", "There is no T of '3'; there is 1, 2"),
        "mu": ("-1", "There is no mu of '-1'; there is 0.25"),
        "sigma": ("x", "There is no sigma of 'x'"),
        "eps": ("x", "There is no eps of 'x'"),
        "delta": ("99", "There is no delta 99; the last one is 17."),
        "network": ("nobody", "There is no network called 'nobody'; there is small"),
        "ball": ("x", "There is no ball of 'x'"),
    }),
]  # fmt: skip
ANYTHING = {"pages/runs.py": {"find"}}  # a text to search for


@pytest.fixture
def read(monkeypatch, tmp_path) -> set[tuple[str, str]]:
    """(screen, name) of every value that is read; no helper process answers, and torch is not there to ask one."""
    import importlib.util

    names: set[tuple[str, str]] = set()
    made = link.Link.__init__

    def noted(one: link.Link, screen: str, name: str) -> None:
        names.add((screen, name))
        made(one, screen, name)

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    monkeypatch.setattr(link.Link, "__init__", noted)
    monkeypatch.setattr(Analyst, "warm", lambda analyst, after=0.0: None)
    for name in ("dynamic", "standard", "unsecured"):
        shutil.copytree(ROOT / "checkpoints" / f"demo-digits-{name}", tmp_path / "store" / f"demo-digits-{name}")
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path / "store"))
    store.look_again()
    return names


def opened(page: str, query: dict[str, str]) -> AppTest:
    app: Any = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    if page != "app.py":
        app.run()
        app.query_params.clear()
    for name, value in query.items():
        app.query_params[name] = value
    (app.switch_page(page) if page != "app.py" else app).run()
    return app


@pytest.mark.parametrize("page, right, wrong", WRONG, ids=lambda part: part if isinstance(part, str) else "")
def test_every_wrong_value_of_a_link_is_one_sentence_and_the_screen_stands(read, page, right, wrong):
    app = opened(page, right | {name: value for name, (value, _) in wrong.items()})
    assert not app.exception
    said = [re.sub(r"\\(.)", r"\1", box.value) for box in (*app.error, *app.info)]
    for _, sentence in wrong.values():
        assert len([box for box in said if sentence in box]) == 1, (sentence, said)
    assert not [box for box in said if "error of its own" in box]


@pytest.mark.parametrize("page", sorted({page for page, _, _ in WRONG}))
def test_no_value_that_a_screen_reads_is_missing_above(read, page):
    known = {name for one, right, wrong in WRONG if one == page for name in (*right, *wrong)}
    for one, right, _ in WRONG:
        if one == page:
            opened(page, right)
    found = {name for screen, name in read if (screen == "overview") == (page == "app.py")}
    assert found - ANYTHING.get(page, set()) <= known
