"""Health notes: each is given when its pattern is in the records, and a healthy run has none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dynat_core.presets import preset
from dynat_core.reports.health import notes
from dynat_core.store.history import History

DYNAMIC, UNSECURED = preset("demo-digits-dynamic"), preset("demo-digits-unsecured")
E = 20


def run(**columns) -> History:
    """A healthy run of E epochs with some columns (`test_loss` -> `test/loss`) replaced."""
    epochs = np.arange(E)
    rise = 1 - np.exp(-epochs / 4)
    values = {
        "train/robust_accuracy": 0.1 + 0.8 * rise,
        "test/clean_accuracy": 0.1 + 0.88 * rise,
        "test/robust_accuracy": 0.1 + 0.68 * rise,
        "validation/robust_accuracy": 0.1 + 0.68 * rise,
        "test/loss": 2.4 - 1.9 * rise,
        "test/relative_fosc_p50": 0.02 + 0.0 * rise,
        "test/n": np.full(E, 500),
        "validation/n": np.full(E, 147),
    }
    values |= {name.replace("_", "/", 1): np.asarray(column, float) for name, column in columns.items()}
    records = [
        {"epoch": e, "best_epoch": 9, **{k: None if math.isnan(v[e]) else float(v[e]) for k, v in values.items()}}
        for e in epochs
    ]
    return History(epochs, records, {}, DYNAMIC.classes)


def kinds(history: History, config=DYNAMIC) -> list[tuple[str, int]]:
    return [(note.kind, note.epoch) for note in notes(history, config)]


def column(name: str) -> np.ndarray:
    return run().column(name)


def test_a_healthy_run_has_no_notes():
    assert kinds(run()) == []
    assert kinds(run(), UNSECURED) == []


@pytest.mark.parametrize("length", [0, 1])
def test_a_run_that_has_hardly_begun_has_no_notes(length):
    whole = run()
    assert notes(History(whole.epochs[:length], whole.records[:length], {}, whole.classes), DYNAMIC) == []


def test_a_loss_that_is_no_number_is_noted_at_its_first_epoch():
    loss = column("test/loss")
    loss[7:] = np.nan
    found = notes(run(test_loss=loss), DYNAMIC)
    assert [(n.kind, n.epoch) for n in found] == [("not a number", 7)]
    assert "Since epoch 7" in found[0].sentence and "learning rate" in found[0].advice


def test_a_loss_that_comes_back_has_not_diverged():
    loss = column("test/loss")
    loss[7] = np.nan
    (found,) = notes(run(test_loss=loss), DYNAMIC)
    assert (found.kind, found.epoch) == ("not a number", 7) and "came back" in found.sentence
    assert "diverged" not in found.sentence


def test_a_collapse_to_chance_is_noted_with_its_epochs():
    loss, robust = column("test/loss"), column("test/robust_accuracy")
    loss[1:12], robust[1:12] = math.log(10) + 0.01, 0.1
    found = notes(run(test_loss=loss, test_robust_accuracy=robust), DYNAMIC)
    assert [(n.kind, n.epoch) for n in found] == [("chance level", 1)]
    assert "From epoch 1 to 11" in found[0].sentence and "ln 10 = 2.30" in found[0].sentence


def test_one_epoch_at_chance_after_a_slow_start_is_no_collapse():
    loss, robust = column("test/loss"), column("test/robust_accuracy")
    loss[1], robust[1] = math.log(10), 0.1
    assert kinds(run(test_loss=loss, test_robust_accuracy=robust)) == []


def test_a_loss_at_ln_10_with_good_accuracy_is_no_collapse():
    assert kinds(run(test_loss=np.full(E, math.log(10)))) == []


def test_catastrophic_overfitting_is_noted_where_the_strong_attack_breaks_through():
    strong = column("test/robust_accuracy")
    strong[12:] = 0.05
    found = notes(run(test_robust_accuracy=strong), DYNAMIC)
    assert [(n.kind, n.epoch) for n in found] == [("weak attack", 12)]
    assert "epoch 11" in found[0].advice and "PGD-20" in found[0].sentence


def test_clean_training_is_not_blamed_for_a_weak_training_attack():
    strong = column("test/robust_accuracy")
    strong[12:] = 0.0
    assert kinds(run(test_robust_accuracy=strong), UNSECURED) == []


def test_when_both_attacks_break_through_it_is_not_the_training_attack():
    strong, seen = column("test/robust_accuracy"), column("train/robust_accuracy")
    strong[12:], seen[12:] = 0.05, 0.3
    assert kinds(run(test_robust_accuracy=strong, train_robust_accuracy=seen)) == []


def test_robust_overfitting_is_noted_at_the_best_epoch():
    held_out, seen = column("validation/robust_accuracy"), column("train/robust_accuracy")
    held_out[9:] = np.linspace(0.75, 0.5, E - 9)
    seen[9:] = np.linspace(0.8, 0.97, E - 9)
    found = notes(run(validation_robust_accuracy=held_out, train_robust_accuracy=seen), DYNAMIC)
    assert [(n.kind, n.epoch) for n in found] == [("robust overfitting", 9)]
    assert "epoch 9" in found[0].advice


def test_a_fall_within_chance_is_not_overfitting():
    held_out = column("validation/robust_accuracy")
    held_out[-1] -= 0.04  # 147 images: about one standard error
    assert kinds(run(validation_robust_accuracy=held_out)) == []


def test_a_jump_of_relative_fosc_is_noted_and_one_between_converged_attacks_is_not():
    rest = column("test/relative_fosc_p50")
    rest[8:] = 0.3
    assert kinds(run(test_relative_fosc_p50=rest)) == [("fosc jump", 8)]
    rest[8:] = 0.09
    assert kinds(run(test_relative_fosc_p50=rest)) == []


def test_every_note_is_a_sentence_and_an_advice():
    loss = column("test/loss")
    loss[3:] = np.nan
    for note in notes(run(test_loss=loss), DYNAMIC):
        assert note.sentence.endswith(".") and note.advice.endswith(".")
