"""What `make bench` rests on: the same work for everybody, honest counting, a page that is what was measured."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch

from benchmarks.peers.__main__ import environment_of, goals, rounded, slope
from benchmarks.peers.contender import MAKE, PACKAGES, Contender
from benchmarks.peers.page import PAGE, RESULTS, ROOT, kept_beside, page
from benchmarks.peers.plots import pictures
from benchmarks.peers.subjects import SUBJECTS, flops_of
from dynat_core.store.workers import KEPT_MEMORY

torch.set_num_threads(1)
MODULES = {"art": "art", "foolbox": "foolbox", "torchattacks": "torchattacks"}


@pytest.mark.parametrize("name", MAKE)
def test_every_contender_reaches_the_same_loss_inside_the_same_ball(name):
    if name in MODULES and importlib.util.find_spec(MODULES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed here; make bench does it in a venv of its own")
    found = Contender(name).answer("digits", n=64, steps=10)
    usual = Contender("textbook").answer("digits", n=64, steps=10)
    eps = SUBJECTS["digits"].eps
    assert 0.99 * eps < found["farthest"] <= eps + 1e-6
    assert found["loss"] == pytest.approx(usual["loss"], rel=0.05)  # random starts differ
    assert found["broken"] == pytest.approx(usual["broken"], abs=0.1)
    assert found["seconds"] > 0


def test_operations_are_counted_as_in_the_formula():
    conv = 4 * (8 * 8 * 8 * 9 + 8 * 8 * 16 * 8 * 9 + 256 * 32 + 32 * 10)
    assert flops_of(SUBJECTS["digits"].model(), (1, 8, 8)) == conv


def test_exponents_and_ratios_are_those_of_made_up_times():
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == pytest.approx(2.0)
    rows = [
        {"network": name, "contender": who, "gradients_per_second": rate}
        for name in SUBJECTS
        for who, rate in (
            ("dynat-exact", 30.0), ("dynat-fast", 60.0), ("textbook", 20.0), ("foolbox", 15.0),
            ("textbook, memory kept", 25.0),
        )
    ]  # fmt: skip
    assert goals(rows)["mnist"] == {"dynat-exact": 1.5, "dynat-fast": 3.0, "fastest": "textbook"}
    assert rounded({"a": [1.2345678, float("nan"), 3]}) == {"a": [1.2346, None, 3]}


def test_only_those_who_keep_memory_are_told_to(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    assert not set(environment_of(2, "given back")) & set(KEPT_MEMORY)
    assert environment_of(2, "kept").items() >= KEPT_MEMORY.items()


def test_a_contender_in_a_process_answers_line_by_line():
    question = json.dumps({"network": "digits", "n": 8, "steps": 2}) + "\n"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.contender", "dynat-exact", "1"],
        cwd=ROOT, env=environment_of(1, "kept") | {"PATH": os.environ["PATH"]}, input=question * 2, text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    ready, *answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert ready == {"ready": True, "version": None} and len(answers) == 2
    assert answers[0]["loss"] == answers[1]["loss"]  # the same random start each time


def test_the_page_is_what_was_measured():
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert page(found, kept_beside()) == PAGE.read_text(encoding="utf-8")
    for name, drawn in pictures(found).items():
        assert (PAGE.parent / "img" / name).read_text(encoding="utf-8") == drawn


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_device_the_gpu_script_says_so_and_measures_nothing(tmp_path):
    done = subprocess.run(
        ["sh", "benchmarks/gpu.sh", str(tmp_path)], cwd=ROOT, env=os.environ | {"PYTHON": sys.executable},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and "There is no CUDA device here" in done.stderr and not list(tmp_path.iterdir())
