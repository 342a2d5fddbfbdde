"""The training loop: it learns, repeats itself, goes on from anywhere, and records what is true."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch

from dynat_core.attack.attacks import pgd
from dynat_core.attack.threat import Ball
from dynat_core.config import RunConfig
from dynat_core.errors import DeviceError
from dynat_core.images import data
from dynat_core.networks import models
from dynat_core.presets import preset
from dynat_core.recorded.histograms import count
from dynat_core.training.evaluate import BATCH, generator_for
from dynat_core.training.events import EpochDone, Finished, Progress
from dynat_core.training.trainer import train

torch.set_num_threads(1)


def small(**changes: Any) -> RunConfig:
    """Dynamic training on 300 digits, two epochs."""
    base = preset("quick").with_values(
        {
            "epochs": 2,
            "strategy.T_control": 2,
            "data.train_size": 300,
            "data.test_size": 60,
            "recording.train_rows": 100,
            "recording.probes": 3,
            "strategy.steps": 4,
            "recording.steps": 5,
            "recording.path_steps": 4,
        }
    )
    return base.with_values(changes)


def events(config: RunConfig, state=None) -> list:
    return list(train(config, device="cpu", state=state))


def epochs(config: RunConfig, state=None) -> list[EpochDone]:
    return [e for e in events(config, state) if isinstance(e, EpochDone)]


def without_seconds(record: dict) -> dict:
    return {key: value for key, value in record.items() if not key.startswith("seconds/")}


def same(a: EpochDone, b: EpochDone) -> bool:
    return (
        without_seconds(a.record) == without_seconds(b.record)
        and a.tables.equals(b.tables)
        and a.histograms == b.histograms
        and all(torch.equal(v, b.weights[k]) for k, v in a.weights.items())
        and (a.probes is None or bool(np.array_equal(a.probes.z, b.probes.z)))  # type: ignore[union-attr]
    )


@pytest.mark.parametrize("strategy", ["unsecured", "standard", "dynamic", "trades", "l2l"])
def test_training_repeats_itself_bit_for_bit(strategy):
    config = small(**{"strategy.name": strategy})
    assert all(same(a, b) for a, b in zip(epochs(config), epochs(config), strict=True))


def test_another_seed_is_another_run():
    assert not same(epochs(small())[-1], epochs(small(seed=1))[-1])


def test_recording_less_or_more_never_changes_the_training():
    whole = epochs(small())
    for changes in (
        {"recording.train_rows": 5, "recording.final_gradients": 5},
        {"recording.probes": 0, "recording.test_images": 10},
        {"recording.steps": 1},
    ):
        other = epochs(small(**changes))
        for a, b in zip(whole, other, strict=True):
            assert all(torch.equal(v, b.weights[k]) for k, v in a.weights.items())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"strategy.name": "standard"},
        {"recording.final_gradients": 20},
        {"strategy.name": "trades"},
        {"strategy.name": "l2l", "strategy.steps": 3},
        {"optimizer.name": "entropy-sgd", "optimizer.walk": 3},
    ],
)
def test_a_run_goes_on_from_any_batch_as_if_it_had_never_stopped(changes):
    config = small(**changes)
    whole = [(e, e.state()) for e in train(config, device="cpu") if not isinstance(e, Finished)]
    done = [e for e, _ in whole if isinstance(e, EpochDone)]
    places = [k for k, (e, _) in enumerate(whole) if isinstance(e, EpochDone) or e.phase == "train"]
    for place in places[:: max(1, len(places) // 5)]:
        tensors, rest = whole[place][1]
        rest = json.loads(json.dumps(rest))  # it travels as text
        finished = sum(isinstance(e, EpochDone) for e, _ in whole[: place + 1])
        rest_of_it = epochs(config, ({k: v.clone() for k, v in tensors.items()}, rest))
        assert len(rest_of_it) == len(done) - finished
        assert all(same(a, b) for a, b in zip(done[finished:], rest_of_it, strict=True))


def test_a_state_is_a_copy_that_later_batches_leave_alone():
    stream = train(small(), device="cpu")
    event = next(e for e in stream if isinstance(e, Progress) and e.phase == "train")
    tensors, rest = event.state()
    before, before_rest = {k: v.clone() for k, v in tensors.items()}, copy.deepcopy(rest)
    next(stream)
    next(stream)
    assert all(torch.equal(v, before[k]) or v.isnan().any() for k, v in tensors.items()) and rest == before_rest


def test_epoch_zero_is_the_untrained_network():
    first = epochs(small())[0]
    fresh = models.initialise(small().model, 1, small().seed).state_dict()
    assert first.record["epoch"] == 0 and first.record["gradients/train_total"] == 0
    assert all(torch.equal(v, fresh[k]) for k, v in first.weights.items())
    assert first.record["test/clean_accuracy"] < 0.4
    assert sum(first.histograms["train/fosc"]) == 100  # the recorded training images, attacked and not learnt from


def test_the_record_is_what_an_independent_measurement_of_the_same_weights_gives():
    config = small()
    last = epochs(config)[-1]
    net = models.initialise(config.model, 1, 0)
    net.load_state_dict(last.weights)
    net.eval()
    sets = data.load(config.data)
    x, y = sets.test.pixels(), sets.test.labels
    assert last.record["test/clean_accuracy"] == pytest.approx(float((net(x).argmax(1) == y).float().mean()))
    ball = Ball(x, config.threat.eps)
    start = ball.random_point(generator_for(torch.device("cpu"), config.seed, "test attack", "test", 0))
    assert len(x) <= BATCH
    z = pgd(net, ball, y, steps=5, alpha=config.threat.eps / 4, start=start).z
    assert last.record["test/robust_accuracy"] == pytest.approx(float((net(z).argmax(1) == y).float().mean()))
    rows = last.tables[last.tables.split == "test"]
    assert rows.label.tolist() == y.tolist() and rows["index"].tolist() == sets.test.index.tolist()
    assert (rows.predicted == rows.label).mean() == pytest.approx(last.record["test/robust_accuracy"])


def test_histograms_rows_and_record_agree():
    for done in epochs(small(**{"recording.train_rows": None})):
        for split in ("train", "test"):
            rows = done.tables[done.tables.split == split]
            for name in ("fosc", "relative_fosc", "loss", "margin"):
                assert done.histograms[f"{split}/{name}"] == count(name, rows[name].to_numpy()).tolist()
                median = done.record[f"{split}/{name}_p50"]
                assert median == pytest.approx(float(np.nanmedian(rows[name].astype("float64"))), rel=1e-6)
        train_rows = done.tables[done.tables.split == "train"]
        assert done.record["train/gradients"] == pytest.approx(train_rows.gradients.mean())
        assert done.record["train/stopped_after_one"] == pytest.approx((train_rows.steps == 1).mean())
        if done.record["epoch"]:
            assert sum(done.histograms["train/steps"]) == 300 == done.record["examples"]


def test_gradients_are_counted_and_the_extra_one_is_spent_only_where_it_is_recorded():
    standard = {"strategy.name": "standard"}
    everywhere, somewhere = (epochs(small(**standard, **more)) for more in ({}, {"recording.final_gradients": 30}))
    assert [e.record["gradients/train_total"] for e in everywhere] == [0, 300 * 5, 300 * 10]
    assert [e.record["gradients/train_total"] for e in somewhere] == [0, 300 * 4 + 30, 2 * (300 * 4 + 30)]
    assert everywhere[1].record["train/n"] == 300 and somewhere[1].record["train/n"] == 30
    assert sum(somewhere[1].histograms["train/fosc"]) == 30 and sum(somewhere[1].histograms["train/steps"]) == 300


def test_dynamic_spends_fewer_gradients_and_its_threshold_is_recorded():
    config = small(**{"strategy.c_max": 0.5})
    done = epochs(config)
    assert [e.record["c_t"] for e in done] == [0.5, 0.5, 0.25]
    assert (
        done[-1].record["gradients/train_total"]
        < epochs(small(**{"strategy.name": "standard"}))[-1].record["gradients/train_total"]
    )
    assert epochs(small(**{"strategy.name": "standard"}))[-1].record["c_t"] is None


def test_the_best_epoch_is_the_first_with_the_highest_validation_accuracy_and_its_weights_are_measured_at_the_end():
    config = small(epochs=6, **{"optimizer.lr": 0.3})
    stream = events(config)
    done = [e for e in stream if isinstance(e, EpochDone)]
    accuracy = [e.record["validation/robust_accuracy"] for e in done]
    best = 1 + int(np.argmax(accuracy[1:]))
    assert done[-1].record["best_epoch"] == best
    finished = stream[-1]
    assert (
        isinstance(finished, Finished)
        and finished.result["best"]["epoch"] == best
        and finished.result["last"]["epoch"] == 6
    )
    for name, epoch in (("best", best), ("last", 6)):
        rows = finished.final_tables[name]
        measured = done[epoch].tables[done[epoch].tables.split == "test"].reset_index(drop=True)
        assert rows.reset_index(drop=True)[["index", "predicted"]].equals(measured[["index", "predicted"]])
    assert finished.paths is not None and len(finished.paths) == 60 and finished.paths.z.shape[1] == 5


def test_a_state_of_the_final_measurement_holds_the_last_weights_and_ends_the_same():
    config = small(**{"recording.weights_dtype": "float16"})
    *_, first, last = [e.state() for e in train(config, device="cpu") if isinstance(e, EpochDone)]
    best = {name.replace("model/", "best/"): value for name, value in first[0].items() if name.startswith("model/")}
    closed = (last[0] | best, last[1] | {"best_epoch": 1})  # so that the best weights are not the last ones
    *measuring, (finished, _) = [
        (e, None if isinstance(e, Finished) else e.state()) for e in train(config, device="cpu", state=closed)
    ]
    assert isinstance(finished, Finished) and len(measuring) == 2, "one batch each at the best and the last epoch"
    for _, state in measuring:
        assert state is not None
        assert all(torch.equal(v, closed[0][k]) for k, v in state[0].items() if k.startswith(("model/", "best/")))
        again = events(config, state)[-1]
        assert again.result == finished.result
        assert all(again.final_tables[name].equals(rows) for name, rows in finished.final_tables.items())


def test_a_network_that_met_no_attack_is_chosen_by_its_clean_accuracy():
    done = epochs(small(epochs=4, **{"strategy.name": "unsecured"}))
    accuracy = [e.record["validation/clean_accuracy"] for e in done]
    assert done[-1].record["best_epoch"] == 1 + int(np.argmax(accuracy[1:]))


def test_probes_are_the_same_images_at_every_epoch():
    done = epochs(small())
    assert all(
        e.probes is not None and len(e.probes) == 3 and np.array_equal(e.probes.x, done[0].probes.x) for e in done
    )
    assert np.array_equal(done[0].probes.z[:, 0], done[-1].probes.z[:, 0])  # and they start from the same points


def test_a_last_batch_of_one_image_joins_its_neighbour():
    config = small(**{"data.train_size": 257, "optimizer.batch": 64})
    progress = [e for e in events(config) if isinstance(e, Progress) and e.phase == "train" and e.epoch == 1]
    assert [e.batch for e in progress] == [1, 2, 3, 4] and progress[-1].batches == 4


def test_l2_and_the_fast_precision_and_a_residual_network_train_too():
    done = epochs(
        small(
            **{
                "threat.norm": "l2",
                "threat.eps": 1.0,
                "precision": "fast",
                "model.name": "preact-resnet18",
                "data.train_size": 64,
                "data.test_size": 20,
                "data.validation_size": 20,
                "recording.steps": 2,
                "strategy.steps": 2,
            }
        )
    )
    assert done[-1].record["train/loss"] is not None and np.isfinite(done[-1].record["train/fosc_p50"])


def test_digits_are_learnt():
    record = epochs(preset("quick"))[-1].record
    assert record["test/clean_accuracy"] > 0.9 and record["test/robust_accuracy"] > 0.45


def test_a_device_that_is_not_there_is_one_sentence():
    with pytest.raises(DeviceError, match="cuda:7 is not there; this machine has cpu"):
        next(iter(train(small(device="cuda:7"))))
