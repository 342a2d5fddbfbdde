"""The threshold slider: a recorded path cut short is the attack that stops there, and it says what it is about."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from shipped import EPS, STORE, digits, shipped

from dynat_core.attack.attacks import Attacked, pgd
from dynat_core.attack.fosc import fosc, relative_fosc, stop_below
from dynat_core.attack.threat import Ball
from dynat_core.config import Digits
from dynat_core.images import data
from dynat_core.statistics import wilson
from dynat_core.store.runs import RunStore
from dynat_core.training import evaluate
from dynat_core.views import threshold as view

STEPS = 10
RUN = "demo-digits-standard"
THRESHOLDS = np.array([-np.inf, 0.0, 1e-6, 1e-3, 3e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0])


# ---------------------------------------------------------------------------------- truncation is the attack itself


@cache
def attacked() -> tuple[torch.nn.Module, Ball, torch.Tensor, torch.Tensor, dict[str, np.ndarray]]:
    """The shipped network in float64, 60 test images, the points (K+1, n, ...) of the whole attack, and its curves."""
    x, y = digits(60)
    net, ball = copy.deepcopy(shipped(RUN)).double(), Ball(x.double(), EPS)
    start = ball.random_point(torch.Generator().manual_seed(1))
    whole = pgd(net, ball, y, steps=STEPS, alpha=EPS / 4, start=start, keep_path=True)
    assert whole.path is not None
    return net, ball, y, whole.path.z, curves_of(ball, y, whole)


def curves_of(ball: Ball, y: torch.Tensor, whole: Attacked) -> dict[str, np.ndarray]:
    path = whole.path
    assert path is not None
    points = list(zip(path.z, path.grad, strict=True))
    true = path.logits.gather(2, y.expand(STEPS + 1, -1)[..., None])[..., 0]
    others = path.logits.scatter(2, y.expand(STEPS + 1, -1)[..., None], -torch.inf).amax(2)
    found = {
        "fosc": torch.stack([fosc(ball, z, g) for z, g in points]),
        "fosc_paper": torch.stack([fosc(ball, z, g, "paper") for z, g in points]),
        "relative_fosc": torch.stack([relative_fosc(ball, z, g) for z, g in points]),
        "margin": true - others,
        "loss": path.loss,
    }
    return {name: values.T.numpy() for name, values in found.items()}


@pytest.mark.parametrize("form", ["box", "paper"])
@pytest.mark.parametrize("k", range(len(THRESHOLDS)))
def test_truncation_is_the_attack_that_stops_there_with_a_difference_of_exactly_0(form, k):
    net, ball, y, path, curves = attacked()
    start, c = path[0], float(THRESHOLDS[k])
    cut = view.truncated(curves, THRESHOLDS, form)
    real = pgd(net, ball, y, steps=STEPS, alpha=EPS / 4, start=start, stop=stop_below(c, form))
    spent = pgd(net, ball, y, steps=STEPS, alpha=EPS / 4, start=start, stop=stop_below(c, form), final=False)
    assert np.array_equal(cut.stops[k], real.steps.numpy())
    assert cut.gradients[k] == spent.gradients.numpy().mean()
    assert cut.correct[k] == int((real.logits.argmax(1) == y).sum())
    ends = curves["loss"][np.arange(len(y)), cut.stops[k]]
    # The points are the same to the last bit; a batch of another size moves the loss there by one bit of float64.
    assert torch.equal(path[torch.from_numpy(cut.stops[k]), torch.arange(len(y))], real.z)
    assert np.array_equal(ends.astype(np.float32), real.loss.numpy().astype(np.float32))
    assert cut.loss[k] == pytest.approx(float(real.loss.mean()), rel=1e-12)


def test_the_thresholds_tried_above_differ_in_what_they_stop():
    curves = attacked()[-1]
    for form in ("box", "paper"):
        gradients = view.truncated(curves, THRESHOLDS, form).gradients
        assert gradients[0] == STEPS and gradients[-1] == 2 and len(set(gradients.tolist())) >= 6


@pytest.mark.parametrize("form", ["box", "paper"])
def test_what_a_shipped_run_recorded_answers_as_its_network_does(form):
    """In the precision that was recorded: float32, on the weights as they are kept."""
    run = RunStore(STORE).open(RUN)
    found = run.paths()
    assert found is not None
    curves = {name: values[:100] for name, values in run.curves(found[0], view.CURVES).items()}
    test, net = data.load(Digits()).test, shipped(RUN)
    split = data.Split(test.images[:100], test.labels[:100], test.index[:100], levels=test.levels)
    assert curves.pop("index").tolist() == split.index.tolist()
    again = evaluate.paths(net, split, run.config.threat, steps=STEPS, alpha=EPS / 4, seed=run.config.seed)
    start, ball = torch.from_numpy(again.z[:, 0]), Ball(split.pixels(slice(0, 100)), EPS)
    cut = view.truncated(curves, THRESHOLDS, form)
    name = {"box": "fosc", "paper": "fosc_paper"}[form]
    for k, c in enumerate(THRESHOLDS.tolist()):
        real = pgd(net, ball, split.labels, steps=STEPS, alpha=EPS / 4, start=start, stop=stop_below(c, form))
        clear = (np.abs(curves[name] - c) > 1e-5).all(axis=1)  # rounding may decide only where FOSC is c but for that
        assert clear.sum() >= 80 or c == 0
        assert np.array_equal(cut.stops[k][clear], real.steps.numpy()[clear])
        ends = curves["loss"][np.arange(100), cut.stops[k]]
        assert np.abs(ends - real.loss.numpy())[clear].max(initial=0) < 1e-5


# --------------------------------------------------------------------------------------------------- by brute force


VALUES = st.one_of(st.sampled_from([0.0, 0.5, 1.0, float("nan"), -1e-9]), st.floats(0, 2))
TABLES = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=VALUES)


@settings(max_examples=50)
@given(TABLES, st.lists(st.one_of(VALUES.filter(np.isfinite), st.just(-np.inf)), min_size=1, max_size=4))
def test_the_step_is_the_first_after_the_first_whose_fosc_is_at_most_c(table, c):
    found = view.stop_steps(table, np.array(c))
    last = table.shape[1] - 1
    for row, threshold in zip(found, c, strict=True):
        for stop, fosc_of in zip(row, table, strict=True):
            expected = next((k for k in range(1, last) if fosc_of[k] <= threshold), last)
            assert stop == expected


@settings(max_examples=50)
@given(TABLES)
def test_a_higher_threshold_never_costs_more(table):
    n, points = table.shape
    curves = {name: table for name in view.MEASURES} | {"margin": np.ones((n, points)), "loss": np.ones((n, points))}
    model = view.Recorded("m", "dynamic", curves)
    c = view.thresholds([model])
    assert c[0] == -np.inf and c[1] == 0 and (np.diff(c[1:]) > 0).all() and len(c) <= 65
    for form, _ in view.FORMS:
        cut = view.truncated(curves, c, form)
        assert (np.diff(cut.gradients) <= 0).all() and cut.gradients[0] == points - 1
        decides = np.isfinite(table[:, 1:-1]).all(axis=1) if points > 2 else np.zeros(n, bool)
        assert (cut.stops[-1][decides] == 1).all()  # the last threshold lies above everything that was seen


# ---------------------------------------------------------------------------------------------------- the picture


@cache
def recorded(name: str) -> view.Recorded:
    run = RunStore(STORE).open(name)
    about = {"attack": "PGD-10, step eps/4", "verdict": f"what was found of {run.id}"}
    return view.Recorded(run.title, run.config.strategy.name, run.curves(30, view.CURVES), **about)


@pytest.fixture(scope="module")
def scene():
    return view.threshold([recorded("demo-digits-dynamic"), recorded(RUN)])


def test_a_robust_accuracy_stands_with_interval_n_and_attack(scene):
    run = recorded("demo-digits-dynamic")
    held = int((run.curves["margin"][:, -1] > 0).sum())
    low, high = wilson(held, 500)
    said = f"{100 * held / 500:.1f} % ({100 * low:.1f} to {100 * high:.1f}) of 500 images hold"
    assert said in scene.sentences[0] and "10 of 10 gradients" in scene.sentences[0]
    for name in ("demo-digits-dynamic", RUN):
        said = f"{recorded(name).name}: PGD-10, step eps/4; its verdict: what was found of {name}."
        assert said in scene.view("threshold-about").text


def test_it_says_that_it_is_about_evaluation_and_not_training(scene):
    assert scene.view("threshold-about").text.startswith(
        "This is about evaluation on a fixed model: stopping is a truncation of the recorded path. In training the "
        "threshold changes the model too, so this picture says nothing about that."
    )


@pytest.mark.parametrize("form", ["box", "paper", "relative"])
def test_every_position_draws_and_the_arrays_are_what_the_curves_say(scene, form):
    c = view.thresholds([recorded("demo-digits-dynamic"), recorded(RUN)])
    assert scene.n == len(c) == len(scene.labels) and scene.last == scene.n - 1
    cut = view.truncated(recorded(RUN).curves, c, form)
    drawn = scene.view(f"threshold-stops-{form}").arrays[f"stops-{form}-1"]
    assert drawn.sum(axis=1).tolist() == [500] * len(c)
    assert np.allclose(scene.arrays[f"gradients-{form}-1"], cut.gradients)
    assert np.allclose(scene.arrays[f"accuracy-{form}-1"], cut.correct / 500)
    for name in ("stops", "gradients", "accuracy", "loss"):
        for i in (0, 1, scene.n // 2, scene.n - 1):
            assert scene.view(f"threshold-{name}-{form}").at(i).layout.shapes


def test_what_is_said_is_what_is_compared(scene):
    """The threshold in the sentence has the digits of the one that was used."""
    c = view.thresholds([recorded("demo-digits-dynamic"), recorded(RUN)])
    for i in range(2, scene.n):
        assert f"at most {float(c[i]):g} nats" in scene.sentences[i]
    assert scene.sentences[0].startswith("Never stopped") and "box FOSC is 0," in scene.sentences[1]


def test_without_paths_it_says_so():
    empty = view.threshold([])
    assert empty.n == 0 and "No paths" in empty.empty and empty.header()


def test_two_attacks_of_other_lengths_share_the_axis():
    short = recorded(RUN)
    cut = view.Recorded("short", "dynamic", {name: short.curves[name][:, :6] for name in view.CURVES})
    both = view.threshold([short, cut])
    assert both.arrays["stops-box-1"].shape[1] == 10 and both.arrays["stops-box-1"][0, 4] == 500
