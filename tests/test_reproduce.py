"""`reproduce`: published numbers, set-ups at any scale, what is found and never repeated, and what is written."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy import stats

from dynat_core.__main__ import main
from dynat_core.check.ladder_rungs import RUNGS, rungs
from dynat_core.commands import measuring
from dynat_core.config import Curriculum, Digits, Dynamic, Standard
from dynat_core.errors import ConfigError, DynatError, JobError, RunError
from dynat_core.files import read_lines
from dynat_core.networks.models import mnist_cnn
from dynat_core.paper import paper_runs, reproduce, reproduced, results
from dynat_core.paper.black_box import seconds_per_gradient, transferred
from dynat_core.paper.paper_runs import FEWEST, Target, ablation, full_epochs, lengths, names, setup, target, wanted
from dynat_core.paper.published import TABLES
from dynat_core.store.evaluations import evaluations
from dynat_core.store.run_writer import RunWriter
from dynat_core.store.runs import RunStore
from dynat_core.views import paper_words
from dynat_core.work.loading import network
from tests.reproductions import everything, reproduce_here, tiny_runs
from tests.running import in_child

# Typed again from the authors' slides: white-box, black-box, WideResNet.
PUBLISHED = """
table1-mnist unsecured 99.20 14.04 0.0 0.0 0.0
table1-mnist standard 97.61 94.71 91.21 90.62 91.03
table1-mnist curriculum 98.62 95.51 91.24 90.65 91.12
table1-mnist dynamic 97.96 95.34 91.63 91.27 91.47
table1-cifar10 unsecured 89.39 2.2 0.0 0.0 0.0
table1-cifar10 standard 66.31 48.65 44.39 40.02 36.33
table1-cifar10 curriculum 72.40 50.47 45.54 40.12 35.77
table1-cifar10 dynamic 72.17 52.81 48.06 42.40 37.26
table2-mnist standard 96.12 95.73 95.73 97.20
table2-mnist curriculum 96.59 95.87 96.09 97.52
table2-mnist dynamic 97.60 97.01 96.97 98.36
table2-cifar10 standard 65.65 65.80 65.60 66.12
table2-cifar10 curriculum 71.25 71.44 71.13 71.94
table2-cifar10 dynamic 71.95 72.15 72.02 72.85
table3-cifar10 standard 87.3 56.1 45.8 46.8
table3-cifar10 curriculum 77.43 57.17 46.06 42.28
table3-cifar10 dynamic 85.03 63.53 48.70 47.27
"""
HEADS = {"table1": "clean fgsm pgd-10 pgd-20 cw", "table2": "fgsm pgd-10 pgd-20 cw", "table3": "clean fgsm pgd-20 cw"}


def found(part: str) -> dict:
    (path,) = (everything() / reproduce.FOLDER).glob(f"{part}-*.json")
    return json.loads(path.read_text())


# ---------------------------------------------------------------------------------------------------------- published


def test_every_published_number_is_the_slides():
    lines = [line.split() for line in PUBLISHED.strip().splitlines()]
    assert {(name, row) for name, row, *_ in lines} == {(name, row) for name, t in TABLES.items() for row in t.rows}
    for name, row, *numbers in lines:
        columns = HEADS[name.partition("-")[0]].split()
        assert TABLES[name].columns == tuple(columns)
        assert [TABLES[name].text(row, column) for column in columns] == numbers
        assert [TABLES[name].value(row, column) for column in columns] == [float(text) for text in numbers]
    assert TABLES["table1-mnist"].value("fgsm-then-pgd", "clean") is None
    assert TABLES["table2-mnist"].value("dynamic", "clean") is None


# ------------------------------------------------------------------------------------------------------------ set-ups


@pytest.mark.parametrize(
    "asked, sentence",
    [
        (("tabel1-mnist",), "There is nothing called tabel1-mnist to reproduce; did you mean table1-mnist?"),
        (("table1-svhn",), "There is nothing called table1-svhn to reproduce; did you mean"),
        (("figure1a", "svhn"), "The set-ups are made for digits, mnist, cifar10 (got svhn)."),
        (("table1-mnist", "digits"), "table1-mnist is about mnist, and --data says digits; leave one of them out."),
        (("table3", "mnist"), "The table of WideResNet is about cifar10; choose that, or digits for a trial."),
        (("figure4", None, 0.0), "--scale is a share of the full cost, above 0 and at most 1 (got 0)."),
        (("figure4", None, float("nan")), "--scale is a share of the full cost, above 0 and at most 1 (got nan)."),
        (("figure4", None, 1.0, 0), "--seeds must be 1 to 20 (got 0)."),
        (("figure4", None, 1.0, 1, 49), "--images must be 50 to 500, the test images of digits (got 49)."),
        (("table3", None, 0.1, 1, 10_001), "--images must be 50 to 10,000, the test images of cifar10 (got 10,001)."),
    ],
)
def test_what_cannot_be_reproduced_is_said_in_one_sentence(asked, sentence):
    with pytest.raises(ConfigError) as error:
        target(*asked)
    assert str(error.value).startswith(sentence)


@given(st.sampled_from(paper_runs.DATA), st.floats(0.001, 1))
def test_a_share_of_the_cost_is_that_share_and_never_below_five_epochs(data, scale):
    epochs, share = lengths(data, scale)
    assert epochs >= FEWEST and 0 < share <= 1
    whole = full_epochs(data)
    assert abs(epochs * share - scale * whole) <= 0.5 + 1e-9  # half an epoch is rounding
    config = setup(paper_runs.dynamic(data, epochs), data, scale)
    first, second = config.optimizer.milestones
    assert 1 <= first < second <= epochs
    assert config.train_size <= setup(Standard(), data, 1.0).train_size


@pytest.mark.parametrize(
    "data, control, falls", [("mnist", 40, (20, 40)), ("cifar10", 100, (60, 100)), ("digits", 24, (18, 26))]
)
def test_at_full_length_the_set_ups_are_those_of_the_paper(data, control, falls):
    epochs, share = lengths(data, 1.0)
    assert (epochs, share) == ({"mnist": 50, "cifar10": 120, "digits": 30}[data], 1.0)
    (config,) = (one.config for one in wanted(Target("table1", data)) if one.row == "dynamic")
    strategy = config.strategy
    assert isinstance(strategy, Dynamic) and (strategy.T_control, strategy.steps, strategy.alpha) == (
        control,
        10,
        "eps/4",
    )
    assert config.optimizer.milestones == falls and config.precision == "exact"
    if data != "digits":
        assert (strategy.c_max, strategy.stop_form) == (0.5, "paper")
        assert (config.optimizer.lr, config.optimizer.batch, config.optimizer.weight_decay) == (0.01, 128, 1e-4)
        assert config.threat.eps == (0.3 if data == "mnist" else 8 / 255)
    (lessons,) = (one.config.strategy for one in wanted(Target("table1", data)) if one.row == "curriculum")
    assert isinstance(lessons, Curriculum)
    assert (lessons.steps, lessons.growth) == ({"mnist": 40, "cifar10": 7, "digits": 10}[data], 1)


@pytest.mark.parametrize("data", ["mnist", "cifar10", "digits"])
@pytest.mark.parametrize("epochs", [5, 6, 10, 24, 50, 120])
def test_the_last_lesson_can_begin_by_the_last_fifth_however_short_the_training(data, epochs):
    settings = paper_runs.curriculum(data, epochs)
    starts = [min(t * settings.growth, settings.steps) for t in range(epochs)]
    assert starts.index(settings.steps) <= 0.8 * epochs + 0.5
    slower = settings.growth - 1
    assert slower == 0 or slower * (0.8 * epochs - 0.5) < settings.steps  # no faster than needed


def test_scaled_thresholds_and_switches_keep_their_place_and_it_is_said():
    half = Target("figure4", "digits", 0.5, 2)
    strategies = {one.row: one.config.strategy for one in wanted(half)}
    assert strategies["dynamic"].T_control == 12 and wanted(half)[0].config.epochs == 15  # type: ignore[union-attr]
    assert paper_runs.reduced_words(half, 500) == "reduced: 15 of 30 epochs, 500 test images"
    small = paper_runs.reduced_words(Target("table1", "mnist", 0.02), 1000)
    assert small == "reduced: 5 of 50 epochs, 11,800 of 59,000 training images, 1,000 test images"
    assert paper_runs.reduced_words(Target("table1", "mnist"), 10_000) is None


def test_fewer_test_images_leave_the_training_as_it_is_and_are_said():
    few, many = target("table2-cifar10", scale=0.1, images=100), target("table2-cifar10", scale=0.1)
    for small, large in zip(wanted(few), wanted(many), strict=True):
        assert small.config.data.validation_size == small.config.test_size == 100  # held-out ones cost as much
        assert small.config.train_size == large.config.train_size and small.config.strategy == large.config.strategy
    assert few.key == f"{many.key}-images100"
    assert paper_runs.reduced_words(few, 100) == "reduced: 12 of 120 epochs, 100 test images"
    whole = target("table1-mnist", images=200)
    assert paper_runs.reduced_words(whole, 200) == "reduced: 200 test images"
    assert {one.config.train_size for one in wanted(whole)} == {59_000}
    assert {one.config.data.validation_size for one in wanted(target("table1-mnist", images=5000))} == {1000}
    assert target("table1-mnist", scale=0.1, images=1000) == target("table1-mnist", scale=0.1)  # nothing else asked for


@pytest.mark.parametrize(
    "asked",
    [
        ("table1-mnist", None, 0.02, 3, None),
        ("table2-digits", None, 1.0, 1, 100),
        ("table3", "cifar10", 0.0001, 1, 50),
        ("figure4", "mnist", 1.0, 2, 2000),
    ],
)
def test_the_command_on_the_screen_asks_for_what_is_shown(asked):
    shown = target(*asked)
    n = wanted(shown)[0].config.test_size
    line = paper_words.command(shown.part, shown.data, shown.scale, shown.seeds, n)
    parser = argparse.ArgumentParser()
    measuring.reproduce_options(parser)
    read = parser.parse_args(shlex.split(line.removeprefix("python -m dynat_core reproduce ")))
    assert target(read.target, read.data, read.scale, read.seeds, read.images) == shown


def test_every_target_asks_for_runs_that_can_be_trained_and_no_two_are_the_same():
    for name in names():
        asked = wanted(target(name, scale=0.3, seeds=2))
        keys = [reproduce.same_training(one.config) for one in asked]
        assert len(set(keys)) == len(keys) and all(one.config.trains_here for one in asked)


def test_the_ablation_changes_one_thing_at_a_time():
    cells = ablation("digits", 30)
    plain, weighted = cells["Dynamic, CE, box"], cells["Dynamic, CE weighted, box"]
    assert plain.model_copy(update={"as_published": "code"}) == weighted
    assert plain.model_copy(update={"stop_form": "paper"}) == cells["Dynamic, CE, paper"]
    assert {name for question in reproduced.QUESTIONS for name in question[1:]} <= cells.keys()


# -------------------------------------------------------------------------------------------------------------- maths


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=20))
def test_rank_correlation_is_spearmans(pairs):
    a, b = zip(*pairs, strict=True)
    found = reproduced.rank_correlation(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)


@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=6), min_size=2, max_size=4))
def test_order_between_epochs_is_the_share_of_pairs_that_fall(values):
    counts = [np.bincount(v, minlength=7) for v in values]
    shares = [np.mean([(a > b) + (a == b) / 2 for a in early for b in late])
              for k, early in enumerate(values) for late in values[k + 1 :]]  # fmt: skip
    assert reproduced.ordered_share(counts) == pytest.approx(np.mean(shares))


def test_a_paired_gain_is_students_interval_of_the_differences():
    before, after = [0.7, 0.72, 0.69], [0.75, 0.74, 0.75]
    found = reproduced.paired_gain(before, after)
    test = stats.ttest_rel(after, before).confidence_interval()
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((0.13 / 3, test.low, test.high))
    assert reproduced.paired_gain([0.5], [0.6])["low"] is None


@pytest.mark.parametrize(
    "change, broken",
    [({}, 0), ({"pgd-20": 56}, 1), ({"noise": 60}, 1), ({"cw-30": 39}, 1), ({"noise": 60, "cw-30": 39}, 2)],
)
def test_the_order_of_a_ladder_is_checked(change, broken):
    rungs = {"clean": 98, "noise": 90, "fgsm": 70, "pgd-10": 55, "pgd-20": 54, "cw-30": 50} | change
    assert len(reproduced.out_of_order(rungs, 40, 100)) == broken


# -------------------------------------------------------------------------------------------- what is there is not run


def test_killed_in_its_middle_it_goes_on_and_writes_the_same(tmp_path):
    asked = Target("figure4", "digits", 0.1, 1)

    def work(store: Path) -> None:
        reproduce_here(store, asked)
        os._exit(0)

    assert in_child(lambda: work(tmp_path / "whole")) == 0
    store = tmp_path / "killed"
    second = [reproduce.run_id(one.config) for one in tiny_runs(asked)][1]

    def work_until_the_second_run_s_first_record() -> None:
        record = RunWriter.epoch

        def recorded_and_killed(writer: RunWriter, *what: Any, **more: Any) -> None:
            record(writer, *what, **more)
            if writer.folder.name == second:
                os.kill(os.getpid(), signal.SIGKILL)

        RunWriter.epoch = recorded_and_killed
        work(store)

    assert in_child(work_until_the_second_run_s_first_record) == -signal.SIGKILL
    assert not list(store.glob(f"{reproduce.FOLDER}/*"))
    told: list[str] = []
    assert in_child(lambda: (reproduce_here(store, asked, told), os._exit(len(told)))) == 2  # nothing queued again
    starts = {run.id: len(read_lines(run.folder / "starts.jsonl")) for run in RunStore(store).list()}
    assert sorted(starts.values()) == [1, 1, 2] and starts[second] == 2
    one, other = (next((tmp_path / name / reproduce.FOLDER).iterdir()).read_text() for name in ("whole", "killed"))
    assert one == other


def test_a_run_of_the_same_settings_is_used_whatever_it_is_called(tmp_path):
    store, asked = RunStore(tmp_path), tiny_runs(Target("figure1a", "digits", 0.1, 2))
    mine = store.create(asked[1].config.with_values({"name": "Mine", "device": "cpu"}), "mine")
    told: list[str] = []
    pairs = reproduce.ordered(store, asked, told.append)
    assert [pair.run.id for pair in pairs] == [reproduce.run_id(asked[0].config), mine.id]
    assert len(told) == 1 and told[0].startswith("queued: Standard, digits, seed 0")
    again = reproduce.ordered(store, asked, told.append)
    assert len(told) == 1 and [p.run.id for p in again] == [p.run.id for p in pairs]


def test_networks_that_are_gone_or_of_other_data_end_it_with_one_sentence(tmp_path):
    """A run of the right settings is there, but its weights are not, or were trained on pictures of another size."""
    asked = Target("table2", "digits", 0.1, 1)
    for name, spoil, sentence in (
        ("gone", lambda path: path.unlink(), "has no weights any more; bring its folder weights back"),
        ("other", lambda path: save_file(mnist_cnn().state_dict(), path), "cannot be read or are another network's"),
    ):
        store = tmp_path / name
        for pair in reproduce.ordered(RunStore(everything()), tiny_runs(asked), lambda line: None):
            shutil.copytree(pair.run.folder, store / pair.run.id)
        (victim,) = (reproduce.run_id(one.config) for one in tiny_runs(asked) if one.row == "dynamic")
        for path in (store / victim / "weights").iterdir():
            spoil(path)
        with pytest.raises(DynatError) as error:
            reproduce_here(store, asked)
        said = str(error.value)
        assert sentence in said and victim in said and "\n" not in said
        assert not (store / reproduce.FOLDER).exists()


def test_a_run_that_fails_ends_it_with_its_own_sentence(tmp_path, monkeypatch):
    store, asked = RunStore(tmp_path), tiny_runs(Target("figure1b", "digits", 0.1))
    (pair,) = reproduce.ordered(store, asked, lambda line: None)

    def fail(folder: Path) -> None:
        (pair.run.folder / "error.json").write_text(json.dumps({"error": "The disk is on fire.", "traceback": ""}))

    monkeypatch.setattr(reproduce, "ensure_worker", fail)
    with pytest.raises(JobError, match=r"^The disk is on fire\.$"):
        reproduce.trained([pair], lambda line: None)
    assert reproduce.ordered(store, asked, lambda line: None)[0].run.state == "queued"  # asked again, tried again


def test_a_run_that_is_deleted_meanwhile_ends_it_with_one_sentence(tmp_path, monkeypatch):
    store, asked = RunStore(tmp_path), tiny_runs(Target("figure1b", "digits", 0.1))
    pairs = reproduce.ordered(store, asked, lambda line: None)
    looks = iter(range(20))
    monkeypatch.setattr(reproduce.time, "sleep", lambda seconds: next(looks))
    monkeypatch.setattr(reproduce, "ensure_worker", lambda folder: shutil.rmtree(pairs[0].run.folder, True))
    with pytest.raises(RunError, match=f"^{pairs[0].run.id} was deleted or moved meanwhile; run the same"):
        reproduce.trained(pairs, lambda line: None)
    assert reproduce.ordered(store, asked, lambda line: None)[0].run.state == "queued"  # there again, as it says


# ------------------------------------------------------------------------------------------------------ what is written


def test_white_box_numbers_are_those_of_the_ladders_tables():
    content = found("table1")
    store = RunStore(everything())
    for run in content["runs"]:
        (ladder,) = evaluations(store.open(run["id"]).folder)
        table = pd.read_parquet(ladder.folder / "samples.parquet")
        for rung, counts in content["rows"][run["row"]].items():
            correct, n = counts[run["seed"]]
            assert n == len(table) == 40
            if rung != "worst":
                assert correct == int((table[f"correct/{rung}"] == 1).sum())
        assert content["rows"][run["row"]]["worst"][run["seed"]][0] == int((table["broken_by"] == "").sum())


def test_black_box_examples_are_made_on_the_surrogate_and_shown_to_the_others():
    content, store = found("table2"), RunStore(everything())
    (made_on,) = (run for run in content["runs"] if run["row"] == "surrogate")
    assert made_on["seed"] == 1000 and "surrogate" not in content["rows"]
    torch.set_num_threads(1)
    run = store.open(made_on["id"])
    itself = transferred(run, [run], 40)[run.id]
    clean = store.open(content["runs"][0]["id"])
    # on itself a transferred attack is the attack; on another network FGSM's step is written out by hand
    assert itself["pgd-20"] <= int((run.samples("best")["clean_correct"]).sum())
    from dynat_core.attack.threat import Ball
    from dynat_core.images import data
    from dynat_core.training.evaluate import generator_for

    test = data.load(run.config.data).test
    x, y = test.pixels(), test.labels
    start = Ball(x, 0.15).random_point(generator_for(torch.device("cpu"), 0, "black box", "fgsm", 0))
    z = start.clone().requires_grad_(True)
    torch.nn.functional.cross_entropy(network(run, "best", torch.device("cpu"))(z), y, reduction="sum").backward()
    moved = (start + 0.15 * z.grad.sign()).clamp(x - 0.15, x + 0.15).clamp(0, 1)  # type: ignore[union-attr]
    right = int((network(clean, "best", torch.device("cpu"))(moved).argmax(1) == y).sum())
    assert content["rows"]["standard"]["fgsm"][0] == [right, 40]


def test_the_bins_of_figure_1a_are_counted_again_by_pandas():
    content, store = found("figure1a"), RunStore(everything())
    tables = [store.open(run["id"]).samples("best", split="test") for run in content["runs"]]
    table = pd.concat(tables)
    for form, column in (("paper", "fosc_paper"), ("box", "fosc")):
        bins = content["forms"][form]
        cut = pd.cut(table[column].clip(lower=0), [*np.linspace(0, 0.1, 21), np.inf], right=False, labels=False)
        assert bins["n"] == [int((cut == k).sum()) for k in range(21)]
        right = table["predicted"] == table["label"]
        assert bins["right"] == [int(right[cut == k].sum()) for k in range(21)]
        assert sum(bins["n"]) == 80


def test_figures_hold_what_the_runs_recorded():
    store = RunStore(everything())
    image = found("figure1b")["images"][2]
    run = store.open(found("figure1b")["runs"][0]["id"])
    path = run.probes(3).one(2)
    assert image["loss"] == pytest.approx(path.loss, rel=1e-3) and image["paper"] == pytest.approx(
        path.fosc_paper, rel=1e-3
    )
    four = found("figure4")
    assert (four["epochs"], four["shown_epochs"]) == (3, [1, 2, 3]) and set(four["rows"]) == {
        "standard",
        "curriculum",
        "dynamic",
    }
    for row in four["rows"].values():
        for values in [*row["paper"], *row["box"]]:
            assert values == sorted(values)
    three = found("figure3")
    record = [r["test/robust_accuracy"] for r in store.open(three["runs"][0]["id"]).records()]
    assert three["rows"]["standard"]["robust"][0] == record
    settings = found("figure2")["settings"]
    assert len(settings) == 7 and all(len(one["loss"]) == len(found("figure2")["shares"]) for one in settings.values())


def test_the_ablation_answers_whichever_way_it_falls():
    content = found("ablation")
    shares = {cell: [c / n for c, n in rungs["worst"]] for cell, rungs in content["rows"].items()}
    for answer in content["answers"]:
        differences = np.subtract(shares[answer["after"]], shares[answer["before"]])
        assert answer["mean"] == pytest.approx(differences.mean()) and answer["seeds"] == 2
        assert answer["low"] <= answer["mean"] <= answer["high"]
    assert len(content["gradients"]["Dynamic, CE, box"]) == 2


def test_no_part_writes_over_what_is_said_of_all():
    for part in ("table1", "table2", "figure1a", "figure2", "figure3", "figure4", "ablation"):
        content = found(part)
        assert (content["part"], content["epochs"], content["full_epochs"], content["n"]) == (part, 3, 30, 40)


def test_provenance_is_whole_and_says_no_time():
    for path in (everything() / reproduce.FOLDER).glob("*.json"):
        text = path.read_text()
        content = json.loads(text)
        for run in content["runs"]:
            assert {"versions", "device", "threads", "commit", "data_hash", "config", "gradients"} <= run.keys()
            assert run["data_hash"] and run["versions"]["torch"]
        assert not re.search(r"20\d\d-\d\d-\d\dT", text)
    assert results.results(everything() / reproduce.FOLDER)[0]["format"] == 1


# ----------------------------------------------------------------------------------------------------------- the cost


def test_the_plan_bounds_what_runs_really_took_and_finished_ones_cost_nothing(monkeypatch):
    monkeypatch.setattr(reproduce, "wanted", tiny_runs)
    monkeypatch.setattr(reproduce, "full_ladder", lambda target: False)
    store, asked = RunStore(everything()), Target("figure4", "digits", 0.1, 2)
    for cost in reproduce.costs(store, asked, lambda config: 1e-3):
        assert (cost.state, cost.gradients) == ("finished", 0.0)
    for one in tiny_runs(asked):
        run = reproduce.there(store)[reproduce.same_training(one.config)]
        recorded = run.records()[-1]["gradients/train_total"]  # with one for each image's final gradient
        assert recorded <= reproduce.training_gradients(one.config)
    missing = Target("figure4", "digits", 0.1, 3)
    costs = reproduce.costs(store, missing, lambda config: 1e-3)
    assert [cost.state for cost in costs].count("missing") == 3
    *each, whole = reproduce.told(costs)
    assert len(each) == 9 and whole.startswith("9 runs, 3 to do: at most ") and whole.endswith(" on this device")
    assert costs[-1].hours == pytest.approx(costs[-1].gradients * 1e-3 / 3600)


@pytest.mark.parametrize(
    "hours, places, words",
    [([3, 3, 3, 3], 1, "about 12.0 h on this device"), ([3, 3, 3, 3], 2, "about 6.0 h here, 2 at a time"),
     ([6, 1, 1], 4, "about 6.0 h here, 3 at a time"), ([0.5], 4, "about 30.0 min on this device")],
)  # fmt: skip
def test_a_plan_takes_as_long_as_the_places_need_and_never_less_than_its_longest_run(hours, places, words):
    one = tiny_runs(Target("figure4", "digits", 0.1, 1))[0]
    costs = [reproduce.Cost(one, "missing", 1000.0, h) for h in hours]
    assert reproduce.told(costs, places)[-1].endswith(words)


def test_what_a_ladder_costs_is_what_its_rungs_cost():
    single = sum(rung.cost(0) for rung in RUNGS if rung.restarts == 1 and rung.name not in ("clean", "autoattack"))
    restarted = sum(rung.cost(k) for rung in RUNGS if rung.restarts > 1 for k in range(rung.passes))
    assert abs(single - reproduce._SINGLE) <= 3 and abs(restarted - reproduce._RESTARTED) < 0.5


def test_a_ladder_without_restarts_has_the_attacks_of_the_paper_alone():
    assert [rung.name for rung in rungs(False, restarts=False)] == [
        "clean",
        "noise",
        "fgsm",
        "pgd-10",
        "pgd-20",
        "cw-30",
    ]
    assert [rung.name for rung in rungs(True)] == [rung.name for rung in RUNGS]
    assert [*(rung.name for rung in RUNGS), "worst"] == list(reproduced.COLUMNS)


def test_the_pace_is_measured_here():
    config = setup(Standard(), "digits", 1.0)
    assert 1e-7 < seconds_per_gradient(config) < 0.1


# ---------------------------------------------------------------------------------------------------- the command line


def test_the_command_line_says_mistakes_in_one_sentence_and_plans_without_doing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path / "store"))
    assert main(["reproduce", "figure9"]) == 1
    assert capsys.readouterr().err.startswith("There is nothing called figure9 to reproduce; did you mean figure")
    assert main(["reproduce", "figure4", "--dry-run", "--scale", "0.2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[-1].startswith("3 runs, 3 to do: at most ") and "on this device" in lines[-1]
    assert not (tmp_path / "store").exists()


def test_the_shortest_digits_run_still_has_enough_images():
    config = setup(Standard(), "digits", 0.001)
    assert isinstance(config.data, Digits) and config.train_size == 200 and config.epochs == FEWEST
