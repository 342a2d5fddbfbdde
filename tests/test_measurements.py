"""Measurements as jobs: a worker does them, a stop keeps what is known, and an interrupted ladder ends the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save, save_file

from dynat_core.__main__ import main
from dynat_core.check.verdict import next_actions
from dynat_core.config import Digits, Elsewhere, Imported, Linf, Recording, RunConfig
from dynat_core.errors import ConfigError, RunError
from dynat_core.networks import models
from dynat_core.reports import compared, exports, report
from dynat_core.store import disk, evaluations
from dynat_core.store.evaluation_settings import Again, Check, Ladder, Transfer, asked, build
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import stop_workers, worker_alive
from dynat_core.work.loading import network
from dynat_core.work.worker import run_job
from tests.running import in_child

torch.set_num_threads(1)
SHIPPED = Path(__file__).parents[1] / "checkpoints"
FEW = ("demo-digits-standard", "demo-digits-unsecured")


@pytest.fixture
def store(tmp_path, monkeypatch) -> RunStore:
    """Two shipped runs in a store of their own."""
    for name in FEW:
        shutil.copytree(SHIPPED / name, tmp_path / name)
        shutil.rmtree(tmp_path / name / "evaluations", ignore_errors=True)
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path))
    return RunStore(tmp_path)


def done(evaluation: evaluations.Evaluation) -> dict:
    """Work on it here; what it found."""
    assert run_job(evaluation.folder, "cpu") == "finished", evaluation.error()
    return evaluation.result() or {}


def test_a_check_of_a_run_is_a_job_whose_counts_can_be_recounted(store):
    run = store.open(FEW[0])
    check = evaluations.create(run.folder, Check(n=60, steps=8, restarts=2))
    assert check.state == "queued" and check.id == f"{run.id}/{check.name}"
    result = done(check)
    rows = check.samples()
    assert result["verdict"]["robust"] == rows.robust_correct.sum() and result["verdict"]["n"] == len(rows) == 60
    assert result["epoch"] == run.epoch_of("best") and result["eps"] == 0.15 and result["norm"] == "linf"
    for light in result["verdict"]["lights"]:
        assert set(light["images"]) <= set(rows["index"]), "counts name images of the data set"
    assert not (check.folder / "partial.json").exists() and not (check.folder / "status.json").exists()
    assert sorted(np.bincount(rows.label)) == [6] * 10, "classes in proportion"


def test_a_next_action_is_compared_with_before_image_by_image(store):
    run = store.open(FEW[0])
    check = evaluations.create(run.folder, Check(n=60, steps=4, restarts=1))
    done(check)
    before = check.samples()
    lights = {light["name"]: light["ok"] for light in (check.result() or {})["verdict"]["lights"]}
    actions = next_actions(before, lights)
    assert actions, "four steps are too few"
    for action in actions[:2]:
        again = evaluations.create(
            run.folder, Again(after=check.name, action=action.action, images=action.images)
        )  # fmt: skip
        result, rows = done(again), again.samples()
        assert sorted(rows["index"]) == sorted(action.images) and rows.robust_before.all()
        newly = rows[rows.robust_before & ~rows.robust_after]
        assert result["newly_broken"] == newly["index"].tolist()
        assert result["robust_after"] == before.robust_correct.sum() - len(newly)
        assert result["converged_after"] >= result["converged_before"]
    with pytest.raises(RunError, match="no evaluation called"):
        evaluations.open_evaluation(run.folder, "../../etc")


def test_a_next_action_on_no_check_fails_with_one_sentence(store):
    run = store.open(FEW[0])
    again = evaluations.create(run.folder, Again(after="check-20200101-none", action="more steps", images=(1,)))
    assert run_job(again.folder, "cpu") == "failed"
    assert "has no evaluation called" in (again.error() or {})["error"]
    unknown = evaluations.create(run.folder, Check(images=(1, 600)))
    assert run_job(unknown.folder, "cpu") == "failed"
    assert "has no test image 600; it has 500" in (unknown.error() or {})["error"]


def test_a_stopped_check_keeps_what_it_knows_and_can_go_on(store):
    run = store.open(FEW[0])
    check = evaluations.create(run.folder, Check(n=200, steps=20))
    looks = 0

    def ended() -> bool:
        nonlocal looks
        looks += 1
        return looks > 4

    assert run_job(check.folder, "cpu", ended) == "interrupted"
    known = check.partial() or {}
    assert 0 < known["verdict"]["n"] < 200 and known["verdict"]["so_far"] and not known["verdict"]["ok"]
    check.request_stop()
    assert check.state == "stopped"
    check.resume()
    assert done(check)["verdict"]["n"] == 200


def _ladder(store: RunStore, name: str) -> evaluations.Evaluation:
    return evaluations.create(store.open(FEW[0]).folder, Ladder(n=40, autoattack=False), name=name)


def test_a_ladder_killed_at_any_moment_ends_like_one_that_was_not(store):
    whole = _ladder(store, "ladder-whole")
    result = done(whole)
    torn = _ladder(store, "ladder-torn")
    for place in (3, 9, 15):

        def until(place: int = place) -> None:
            seen = 0

            def ended() -> bool:
                nonlocal seen
                seen += 1
                if seen == place:
                    os.kill(os.getpid(), signal.SIGKILL)
                return False

            from dynat_core.work import measurements

            measurements.SAVE_EVERY = 0.0
            run_job(torn.folder, "cpu", ended)

        assert in_child(until) == -signal.SIGKILL
        assert torn.state == "interrupted" and (torn.folder / "state.bin").exists()
    again = done(torn)
    pd.testing.assert_frame_equal(whole.samples(), torn.samples())
    timed = {"seconds", "run", "device", "left_out", "rungs"}
    assert {k: v for k, v in result.items() if k not in timed} == {k: v for k, v in again.items() if k not in timed}
    for one, other in zip(result["rungs"], again["rungs"], strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


def _moved_on(run: Run) -> int:
    """Let another epoch be the best one, as in a run that trains on; returns which."""
    lines = (run.folder / "epochs.jsonl").read_text().splitlines(keepends=True)
    last = json.loads(lines[-1])
    last["best_epoch"] = last["best_epoch"] - 1
    (run.folder / "epochs.jsonl").write_text("".join([*lines[:-1], json.dumps(last) + "\n"]))
    return last["best_epoch"]


SHORT = {"n": 30, "autoattack": False, "restarts": False}


def test_the_epoch_that_was_measured_is_reported_though_another_is_the_best_by_then(store):
    run = store.open(FEW[0])
    best, looks = run.epoch_of("best"), iter(range(1000))
    ladder = evaluations.create(run.folder, Ladder(**SHORT))
    ended = lambda: next(looks) == 2 and _moved_on(run) < 0  # noqa: E731 - after the weights were loaded
    assert run_job(ladder.folder, "cpu", ended) == "finished", ladder.error()
    assert run.epoch_of("best") == best - 1 and best < run.epoch_of("last")
    result = ladder.result() or {}
    assert result["epoch"] == ladder.epoch == best
    assert exports.ladder_outcome(run, ladder, result).which == f"epoch {best}"
    assert f"epoch {best}," in report.evaluation_report(run, ladder).decode()
    assert compared.latest(run, "ladder", best - 1) is None
    found = compared.latest(run, "ladder", best)
    assert found is not None and found.name == ladder.name
    assert best not in disk.plan(run).epochs, "its weights stay"


def test_a_ladder_that_goes_on_at_another_epoch_keeps_nothing_of_the_first(store):
    run = store.open(FEW[0])
    torn, looks = evaluations.create(run.folder, Ladder(**SHORT)), iter(range(1000))
    assert run_job(torn.folder, "cpu", lambda: next(looks) > 4) == "interrupted"
    assert (torn.folder / "state.bin").exists()
    other = _moved_on(run)
    result = done(torn)
    whole = evaluations.create(run.folder, Ladder(**SHORT, epoch=other))
    assert result["epoch"] == done(whole)["epoch"] == other
    pd.testing.assert_frame_equal(whole.samples(), torn.samples())


def test_a_next_action_is_about_the_epoch_of_its_check(store):
    run = store.open(FEW[0])
    check = evaluations.create(run.folder, Check(n=20, steps=4, restarts=1))
    best, other = done(check)["epoch"], _moved_on(run)
    wrong = evaluations.create(run.folder, Again(after=check.name, action="more steps", images=(1,)))
    assert run_job(wrong.folder, "cpu") == "failed"
    assert f"is about epoch {best}, and not {other}; ask for the same epoch." in (wrong.error() or {})["error"]


def test_the_worst_case_of_a_ladder_is_what_the_exported_points_say(store):
    ladder = _ladder(store, "ladder-points")
    result, rows = done(ladder), ladder.samples()
    kept = load_file(ladder.folder / "points.safetensors")
    net = network(store.open(FEW[0]), "best", torch.device("cpu"))
    label = torch.from_numpy(rows.label.to_numpy().astype(np.int64))
    right = net(kept["points"]).argmax(1) == label
    assert int(right.sum()) == result["worst"]["correct"] == int((rows.broken_by == "").sum())
    assert kept["index"].tolist() == rows["index"].tolist()


def test_examples_are_carried_between_runs(store):
    found = done(evaluations.create(store.open(FEW[0]).folder, Transfer(n=30, others=(FEW[1],), steps=4)))
    assert found["titles"].keys() == set(FEW)
    lost = evaluations.create(store.open(FEW[0]).folder, Transfer(n=30, others=("nobody",)))
    assert run_job(lost.folder, "cpu") == "failed" and "no run called nobody" in (lost.error() or {})["error"]


def _imported(store: RunStore) -> Run:
    net = models.build(Imported(architecture="digits-cnn"), 1, classes=10)
    tensors = load_file(store.open(FEW[0]).weights("last"))
    whole = {key: tensors[key.partition(".")[2]] for key in net.state_dict()}
    config = RunConfig(
        epochs=0, data=Digits(), model=Imported(architecture="digits-cnn"), threat=Linf(eps=0.15), strategy=Elsewhere(),
        recording=Recording(steps=5, test_images=50, probes=2),
    )  # fmt: skip
    files = {"weights/0000.safetensors": save(whole)}
    return store.create(config, id="brought", kind="imported", files=files)


def test_a_network_from_elsewhere_is_measured_once_and_keeps_its_weights(store):
    run = _imported(store)
    assert run.state == "queued" and run_job(run.folder, "cpu") == "finished", run.problem
    rows = run.samples(0, split="test")
    assert len(rows) == 50 and len(run.probes(0)) == 2 and run.kept_epochs() == [0]
    net = network(run, 0, torch.device("cpu"))
    same = network(store.open(FEW[0]), "last", torch.device("cpu"))
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(net(x), same(x))
    assert done(evaluations.create(run.folder, Check(n=20, steps=4, restarts=1)))["verdict"]["n"] == 20


def test_a_network_from_elsewhere_can_be_checked_before_it_is_measured(store):
    run = _imported(store)
    assert done(evaluations.create(run.folder, Check(n=20, steps=4, restarts=1)))["epoch"] == 0
    assert run.state == "queued"


def test_the_command_line_measures_waits_and_says_what_it_found(store, capsys):
    assert main(["evaluate", FEW[0], "--kind", "check", "--n", "20", "--set", "steps=4", "--set", "restarts=1"]) == 0
    said = capsys.readouterr().out
    assert "n = 20" in said and "Was the attack optimised?" in said
    folder = Path(said.strip().splitlines()[-1])
    assert json.loads((folder / "result.json").read_text())["verdict"]["n"] == 20
    assert main(["evaluate", FEW[0], "--kind", "mystery"]) == 1
    assert "there is check" in capsys.readouterr().err
    assert main(["evaluate", FEW[0], "--set", "n=0"]) == 1
    assert "n must be 1 or more" in capsys.readouterr().err
    stop_workers(store.folder)
    until = time.monotonic() + 30
    while worker_alive(store.folder) and time.monotonic() < until:
        time.sleep(0.05)


@pytest.mark.parametrize("kind, changes, part", [
    ("ladder", {"eps": "8/255"}, {"eps": 8 / 255}),
    ("transfer", {"others": "a, b"}, {"others": ("a", "b")}),
    ("check", {"images": "3,5", "norm": "l2"}, {"images": (3, 5), "norm": "l2"}),
    ("curves", {"epoch": "last"}, {"epoch": "last"}),
])  # fmt: skip
def test_settings_are_read_from_text(kind, changes, part):
    found = asked(kind, changes).model_dump()
    assert {key: found[key] for key in part} == part
    assert build(json.loads(json.dumps(found))).model_dump() == found


@pytest.mark.parametrize("kind, changes", [("check", {"nn": "3"}), ("check", {"steps": "two"}), ("transfer", {})])
def test_impossible_settings_are_refused_in_one_sentence(kind, changes):
    with pytest.raises(ConfigError) as refused:
        asked(kind, changes)
    assert "\n" not in str(refused.value)


def test_a_damaged_evaluation_is_left_out_and_hurts_nobody(store):
    run = store.open(FEW[0])
    good = evaluations.create(run.folder, Check(n=5))
    for name, content in (("check-1", b"{"), ("check-2", b'{"format": 1}'), ("check-3", b"")):
        (run.folder / "evaluations" / name).mkdir()
        (run.folder / "evaluations" / name / "request.json").write_bytes(content)
    os.symlink("/etc", run.folder / "evaluations" / "check-4")
    assert [e.name for e in evaluations.evaluations(run.folder)] == [good.name]
    with pytest.raises(RunError, match="damaged"):
        evaluations.open_evaluation(run.folder, "check-1")
    with pytest.raises(RunError, match="no evaluation called"):
        evaluations.open_evaluation(run.folder, "check-4")
    save_file({"x": torch.zeros(1)}, run.folder / "evaluations" / good.name / "points.safetensors")
    shutil.rmtree(good.folder)
    assert evaluations.evaluations(run.folder) == []
