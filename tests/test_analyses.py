"""What screens ask for on demand, on a real run folder."""

from __future__ import annotations

import fcntl
import json
import os

import numpy as np
import pytest
import torch

from dynat_core.attack.attacks import cross_entropy, margin, pgd
from dynat_core.attack.threat import Ball
from dynat_core.errors import DynatError
from dynat_core.images import data
from dynat_core.presets import preset
from dynat_core.recorded.packing import pack
from dynat_core.recorded.trajectories import Trajectory
from dynat_core.store.jobs import open_lock, take
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import worker_file, worker_folder
from dynat_core.work import helper_memory
from dynat_core.work.analyses import ANALYSES
from dynat_core.work.analysis import Replaced
from dynat_core.work.helper_memory import model_of
from dynat_core.work.worker import run_job
from tests.test_trainer import small

torch.set_num_threads(1)


def never() -> bool:
    return False


def quiet(share: float) -> None:
    pass


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    store = RunStore(tmp_path_factory.mktemp("store"))
    made = store.create(small(epochs=3))
    assert run_job(made.folder) == "finished"
    return store.open(made.id)


def ask(run, name: str, cancelled=never, **request):
    header, arrays = ANALYSES[name]({"store": str(run.folder.parent), "run": run.id, **request}, cancelled, quiet)
    return header, arrays


def test_a_trajectory_on_demand_is_the_recorded_one(run):
    index = run.recorded_indices(3)[5]
    asked = Trajectory.from_bytes(pack(*ask(run, "trajectory", epoch=3, index=index)))
    kept = run.trajectory(index, 3)
    assert kept is not None and asked.index == index and asked.label == kept.label
    assert np.allclose(asked.z, kept.z, atol=2e-3) and np.allclose(asked.relative_fosc, kept.relative_fosc, atol=2e-2)
    assert dict(asked.settings)["classes"] == list("0123456789") and asked.settings["run"] == run.id


@pytest.mark.parametrize(
    "busy, expected",
    [
        ({}, "cuda:0"),
        ({"cuda:0": None}, "cuda:0"),
        ({"cuda:0": "a-run"}, "cpu"),
        ({"cuda:1": "a-run"}, "cuda:0"),
        ({"cpu": "a-run"}, "cuda:0"),
    ],
)
def test_the_helper_leaves_a_device_to_the_job_that_holds_it(tmp_path, monkeypatch, busy, expected):
    monkeypatch.setattr(helper_memory, "choose", lambda name: torch.device("cuda", 0))  # no GPU is needed to decide
    folder, held = worker_folder(tmp_path), []
    for device, run in busy.items():
        held.append(open_lock(worker_file(folder, device, "alive")))
        assert take(held[-1], fcntl.LOCK_EX)
        worker_file(folder, device, "json").write_text(json.dumps({"busy_with": run}))
    assert str(helper_memory.free_device(tmp_path)) == expected
    for lock in held:
        os.close(lock)


def test_a_trajectory_with_other_settings_is_what_pgd_does(run):
    index = run.recorded_indices(3)[0]
    one = Trajectory.from_bytes(
        pack(*ask(run, "trajectory", epoch=0, index=index, steps=7, alpha="0.05", loss="margin", start="clean"))
    )
    model, config = model_of({"store": str(run.folder.parent), "run": run.id, "epoch": 0})
    test = data.load(config.data).test
    place = int(torch.nonzero(test.index == index))
    x, y = test.pixels(slice(place, place + 1)), test.labels[place : place + 1]
    path = pgd(model, Ball(x, 0.15), y, steps=7, alpha=0.05, loss="margin", start="clean", keep_path=True).path
    assert path is not None and one.z.shape[0] == 8
    np.testing.assert_allclose(one.z, path.z[:, 0].numpy(), atol=1e-6)
    np.testing.assert_allclose(one.loss, path.loss[:, 0].numpy(), atol=1e-5)


def test_the_loss_slice_shows_the_loss_at_the_points_it_says(run):
    index = run.recorded_indices(3)[2]
    header, arrays = ask(run, "loss_slice", epoch=3, index=index, resolution=11)
    one = Trajectory.from_bytes(pack(*ask(run, "trajectory", epoch=3, index=index)))
    assert arrays["loss"].shape == arrays["margin"].shape == (11, 11) and header["index"] == index
    model, _ = model_of({"store": str(run.folder.parent), "run": run.id, "epoch": 3})
    y = torch.tensor([one.label])
    clean = torch.from_numpy(one.x.copy())[None]
    np.testing.assert_allclose(
        arrays["loss"][5, 5], cross_entropy(model(clean), y).item(), rtol=1e-4
    )  # the middle is the image
    np.testing.assert_allclose(arrays["margin"][5, 5], margin(model(clean), y).item(), rtol=1e-4)
    first = one.delta[-1] * (0.15 / np.abs(one.delta[-1]).max())
    at = torch.from_numpy(one.x + arrays["axis"][9] * first).clamp(0, 1)[None]
    np.testing.assert_allclose(arrays["loss"][5, 9], cross_entropy(model(at.float()), y).item(), rtol=1e-3)
    end = arrays["path"][-1]  # the last point lies on the first axis, by construction
    assert abs(end[1]) < 1e-5 and end[0] == pytest.approx(np.abs(one.delta[-1]).max() / 0.15, rel=1e-4)


def test_indices_are_the_runs_test_images(run):
    header, arrays = ask(run, "indices")
    assert header["n"] == 60 and sorted(arrays["index"].tolist()) == sorted(run.recorded_indices(3))


@pytest.mark.parametrize(
    "request_, words",
    [
        ({"epoch": 3, "index": 499_999}, "no test image 499999"),
        ({"epoch": 3, "index": 0, "loss": "dlr"}, "loss must be ce or margin"),
        ({"epoch": 3, "index": 0, "steps": 0}, "recording.path_steps must be 1 or more"),
        ({"epoch": 3, "index": 0, "alpha": "-1"}, "recording.alpha must be a size"),
        ({"epoch": 77, "index": 0}, "77"),
    ],
)
def test_bad_requests_are_one_sentence(run, request_, words):
    request_ = request_ | {"index": run.recorded_indices(3)[0] if request_["index"] == 0 else request_["index"]}
    with pytest.raises(DynatError, match=words) as caught:
        ask(run, "trajectory", **request_)
    assert "\n" not in str(caught.value)


def test_an_analysis_that_nobody_wants_any_more_ends_between_two_gradients(run):
    calls = []

    def after_three() -> bool:
        calls.append(1)
        return len(calls) > 3

    with pytest.raises(Replaced):
        ask(run, "trajectory", epoch=3, index=run.recorded_indices(3)[0], steps=50, cancelled=after_three)
    assert len(calls) == 4


def test_the_probe_measures_cost_and_says_who_would_stop_after_one_step():
    config = preset("quick")
    header, _ = ANALYSES["probe"]({"config": config.model_dump(mode="json")}, never, quiet)
    assert header["images"] == 1150 and header["device"] == "cpu" and header["batches_trained"] > 0
    assert 0 < header["seconds_per_gradient"] < 1 and header["seconds_total"] > header["seconds_per_epoch"] > 0
    quantiles = [header["quantiles"][q] for q in ("0.05", "0.25", "0.5", "0.75", "0.95")]
    assert quantiles == sorted(quantiles) and quantiles[0] >= -1e-6
    for c_max, expected in ((0.0, 0.0), (1e6, 1.0), (header["suggested_c_max"], 0.33)):
        changed = config.with_values({"strategy.c_max": c_max}).model_dump(mode="json")
        share = ANALYSES["probe"]({"config": changed}, never, quiet)[0]["stopped_after_one"]
        assert share == pytest.approx(expected, abs=0.12)


@pytest.mark.parametrize("name", ["digits-trades", "digits-l2l", "digits-entropy"])
def test_the_probe_measures_every_kind_of_training(name):
    header, _ = ANALYSES["probe"]({"config": preset(name).model_dump(mode="json")}, never, quiet)
    assert header["seconds_total"] > header["seconds_per_epoch"] > 0
    assert ("suggested_c_max" in header) == (name == "digits-entropy")  # which attacks with PGD


@pytest.mark.parametrize("name, key", [("standard", "suggested_c_max"), ("unsecured", "suggested_c_max")])
def test_the_probe_knows_strategies_without_a_threshold(name, key):
    config = preset("quick").with_values({"strategy.name": name})
    header, _ = ANALYSES["probe"]({"config": config.model_dump(mode="json")}, never, quiet)
    assert "stopped_after_one" not in header and (key in header) == (name == "standard")
