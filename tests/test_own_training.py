"""`log_run` and `Report.save`: what a person's own program measured is a run like any other, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import dynat_core as dc
from dynat_core.attack.threat import Ball
from dynat_core.errors import RunError
from dynat_core.store import evaluations
from dynat_core.store.run_writer import RunWriter
from dynat_core.store.runs import RunStore
from dynat_core.work.backlog import Backlog
from dynat_core.work.own_check import diagnose
from tests.running import in_child
from tests.zoo import digits, perceptron, shipped

torch.set_num_threads(1)


def test_each_epoch_of_ones_own_training_is_recorded_as_it_was(tmp_path):
    net, (x, y) = shipped("demo-digits-standard"), digits(40)
    run = dc.log_run(tmp_path / "mine", eps="0.15", name="My loop", steps=5)
    record = [run.epoch(epoch, net, x, y) for epoch in range(3)][-1]
    found = RunStore(tmp_path).open("mine")
    assert found.state == "running" and found.kind == "external" and found.title == "My loop"
    run.finish()
    run.finish()
    assert found.state == "finished" and len(found.records()) == 3
    rows = found.samples(2, split="test")
    assert rows.clean_correct.tolist() == (net(x).argmax(1) == y).tolist()
    assert record["test/robust_accuracy"] == pytest.approx((rows.predicted == rows.label).mean())
    history = found.history()
    assert history.counts["test/relative_fosc"].sum(axis=1).tolist() == [40, 40, 40]
    probes = found.probes(1)
    ball = Ball(torch.from_numpy(probes.x), 0.15)
    assert all(bool(ball.contains(torch.from_numpy(probes.z[:, k])).all()) for k in range(probes.z.shape[1]))
    assert (found.result() or {})["best"]["robust_correct"] == int((rows.predicted == rows.label).sum())


def test_a_program_that_ends_early_leaves_an_interrupted_run_that_only_it_goes_on_with(tmp_path):
    net, (x, y) = perceptron(1, True), digits(12)

    def part() -> None:
        run = dc.log_run(tmp_path / "mine", eps=0.1, steps=2)
        run.epoch(0, net, x, y)
        run.epoch(1, net, x, y)  # and the process ends here, without a word

    assert in_child(part) == 0
    found = RunStore(tmp_path).open("mine")
    assert found.state == "interrupted" and "log_run" in (found.problem or "")
    assert Backlog(RunStore(tmp_path)).waiting() == []
    with pytest.raises(RunError, match="program of one's own"):
        found.resume()
    with pytest.raises(RunError, match="recorded by a program of one's own; end that program"):
        found.request_stop()
    assert not (found.folder / "stop").exists()
    (tmp_path / "mine" / "epochs.jsonl").open("ab").write(b'{"epoch":2,"torn')
    with dc.log_run(tmp_path / "mine", eps=0.1, steps=2) as run:
        run.epoch(2, net, x, y)
    assert [record["epoch"] for record in found.records()] == [0, 1, 2] and found.state == "finished"


def test_what_cannot_be_recorded_is_said_in_one_sentence(tmp_path):
    net, (x, y) = perceptron(1, True), digits(12)
    with pytest.raises(RunError, match="eps must be above 0"):
        dc.log_run(tmp_path / "a", eps="0")
    run = dc.log_run(tmp_path / "a", eps=0.1, steps=2)
    with pytest.raises(RunError, match="record the network before training as epoch 0"):
        run.epoch(1, net, x, y)
    run.epoch(0, net, x, y)
    with pytest.raises(RunError, match="one by one"):
        run.epoch(0, net, x, y)
    with pytest.raises(RunError, match="give the same"):
        run.epoch(1, net, x[:5], y[:5])
    run.finish()
    with pytest.raises(RunError, match="is finished"):
        dc.log_run(tmp_path / "a", eps=0.1)


def test_a_raise_in_the_loop_keeps_what_was_recorded(tmp_path):
    net, (x, y) = perceptron(1, True), digits(12)
    with pytest.raises(ZeroDivisionError), dc.log_run(tmp_path / "b", eps=0.1, steps=2) as run:
        run.epoch(0, net, x, y)
        raise ZeroDivisionError
    found = RunStore(tmp_path).open("b")
    assert found.state == "interrupted" and len(found.records()) == 1


def test_recording_leaves_the_model_and_its_training_alone(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10), torch.nn.Dropout(0.5)).train()
    x, y = digits(16)
    run = dc.log_run(tmp_path / "c", eps=0.1, steps=2)
    before = torch.get_rng_state()
    F.cross_entropy(net(x), y).backward()
    kept = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    torch.set_rng_state(before)
    run.epoch(0, net, x, y)
    assert torch.equal(before, torch.get_rng_state()) and all(m.training for m in net.modules())
    assert all(torch.equal(a, p.grad) for a, p in zip(kept, net.parameters(), strict=True) if p.grad is not None)


def test_a_saved_report_opens_as_a_run_with_its_check_and_its_paths(tmp_path):
    net, (x, y) = shipped("demo-digits-standard"), digits(60)
    report = diagnose(net, x, y, eps=0.15, steps=10, restarts=2)
    folder = report.save(tmp_path / "my-check", name="Mine")
    run = RunStore(tmp_path).open("my-check")
    assert folder == run.folder and run.state == "finished" and run.kind == "external"
    (check,) = evaluations.evaluations(run.folder)
    assert check.state == "finished" and check.kind == "check"
    assert (check.result() or {})["verdict"]["sentence"] == report.verdict.sentence
    assert check.samples().robust_correct.tolist() == report.samples.robust_correct.tolist()
    assert report.paths is not None
    path = run.trajectory(int(report.paths.index[0]), 0)
    assert path is not None and path.settings["loss"] == "margin" and path.steps == 20
    told = [k for light in report.verdict.lights for k in light.images]
    assert set(told[:50]) <= set(report.paths.index.tolist()), "the images behind the counts come first"
    with pytest.raises(RunError, match="already is a run"):
        report.save(tmp_path / "my-check")
    with pytest.raises(RunError, match="cannot name a run"):
        report.save(tmp_path / "../x y")


def test_an_external_run_keeps_no_weights_and_no_worker_writes_them(tmp_path):
    net, (x, y) = perceptron(1, True), digits(12)
    run = dc.log_run(tmp_path / "d", eps=0.1, steps=2)
    run.epoch(0, net, x, y)
    assert RunStore(tmp_path).open("d").kept_epochs() == []
    assert isinstance(run._writer, RunWriter)


def test_the_guides_example_runs_as_it_stands(tmp_path):
    guide = (Path(__file__).parents[1] / "docs" / "log-my-training.md").read_text()
    example = guide.split("```python\n")[1].split("```")[0].replace("checkpoints/", f"{tmp_path}/")
    x, y = digits(12)
    exec(example, {"model": perceptron(1, True), "x": x, "y": y})
    assert len(RunStore(tmp_path).open("my-training").records()) == 3
