"""`diagnose`: honest models pass, models that hide something do not, and every count can be recounted.

Two zoos: the thresholds were set on the first (the shipped digits runs and what can be wrapped around them); the
second has other networks, seeds and pictures.
"""

from __future__ import annotations

import copy
import gc
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import dynat_core as dc
from dynat_core.attack.fosc import fosc, relative_fosc
from dynat_core.attack.threat import Ball, Norm
from dynat_core.check import siege
from dynat_core.check.diagnosis import NotDiagnosable, Report, diagnosing
from dynat_core.check.grey import sure_to_fall
from dynat_core.check.next_action import again
from dynat_core.check.preflight import preflight
from dynat_core.check.verdict import masked, next_actions, optimised, restarts_agree, stall
from dynat_core.statistics import wilson
from dynat_core.work.own_check import diagnose
from tests.zoo import HONEST, MASKS, Wrapped, digits, perceptron, shipped

torch.set_num_threads(1)
STORE = Path(__file__).parents[1] / "checkpoints"


def judged(net: nn.Module, eps: float, n: int = 200, **settings) -> Report:
    torch.manual_seed(0)  # for the networks that draw random numbers of their own
    return diagnose(net.eval(), *digits(n), eps=eps, **settings)


def test_at_most_one_honest_model_of_eight_is_suspected():
    suspected = {
        name: str(report) for name, (make, eps) in HONEST.items() if not (report := judged(make(), eps)).verdict.ok
    }
    assert len(suspected) <= 1, "\n".join(f"{k}: {v}" for k, v in suspected.items())


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("zoo", ["first", "second"])
def test_no_masked_model_goes_without_a_warning(mask, zoo):
    net = shipped("demo-digits-standard") if zoo == "first" else perceptron(1, True)
    try:
        report = judged(Wrapped(net, **MASKS[mask]), 0.15 if zoo == "first" else 0.1, n=120, restarts=3)
    except NotDiagnosable as refused:
        assert "gradient" in str(refused)
    else:
        assert not report.verdict.ok and "insufficient, because" in report.verdict.sentence


def test_too_weak_an_attack_is_noticed():
    report = judged(shipped("demo-digits-standard"), 0.3, steps=3, restarts=2)
    assert not report.verdict.ok


def test_every_count_can_be_recounted_from_the_samples():
    net, (x, y) = shipped("demo-digits-standard"), digits()
    report = judged(net, 0.15)
    rows = report.samples
    assert len(rows) == 200 and rows["index"].tolist() == list(range(200)) and rows.label.tolist() == y.tolist()
    assert rows.clean_correct.tolist() == (net(x).argmax(1) == y).tolist()
    assert report.verdict.robust == rows.robust_correct.sum() and report.verdict.n == 200
    assert (rows.robust_correct <= rows.clean_correct).all()
    assert ((rows.broken_by == "") == rows.robust_correct).all()
    assert ((rows.predicted == rows.label) == rows.robust_correct).all()
    assert ((rows.margin > 0) == rows.robust_correct).all()
    for name in ("fosc", "relative_fosc", "gradient_l1"):  # of another point than the one that broke it
        assert (rows[name].isna() == ~rows.robust_correct).all()
    light = report.verdict.lights[0]
    stuck = rows[rows.robust_correct & ~(rows.relative_fosc <= 0.1)]
    assert sorted(light.images) == stuck["index"].tolist() and light.n == rows.robust_correct.sum()
    assert (rows[rows.robust_correct].advice != "").all()


def test_the_same_seed_gives_the_same_report_and_the_batch_hardly_matters():
    net = shipped("demo-digits-dynamic")
    first, again = judged(net, 0.15), judged(net, 0.15)
    assert first.samples.equals(again.samples) and first.verdict == again.verdict
    assert abs(judged(net, 0.15, batch=37).verdict.robust - first.verdict.robust) <= 4


def test_the_report_is_not_weaker_than_a_plain_attack():
    net, (x, y) = shipped("demo-digits-standard"), digits()
    plain = dc.pgd(
        net, Ball(x, 0.15), y, steps=20, alpha=0.0375, restarts=3, generator=torch.Generator().manual_seed(1)
    )
    assert judged(net, 0.15).verdict.robust <= int((plain.logits.argmax(1) == y).sum()) + 2


def test_a_report_shows_itself_escaped_in_a_notebook_and_in_words():
    report = judged(shipped("demo-digits-standard"), "0.15", steps=10, restarts=2)
    assert "Robust accuracy" in str(report) and "<table>" in report._repr_html_()
    assert "n = 200" in report.verdict.sentence and report.settings["words"].startswith(
        "PGD-10 x 2, margin loss, L-inf eps 0.15"
    )


def test_the_model_is_left_as_it_was_found():
    net = Wrapped(shipped("demo-digits-standard")).train()
    net.net[1].eval()
    flags = [m.training for m in net.modules()]
    report = diagnose(net, *digits(20), eps=0.1, steps=3, restarts=1)
    assert [m.training for m in net.modules()] == flags and all(p.grad is None for p in net.parameters())
    note = next(f for f in report.findings if f.name == "eval mode")
    assert not note.ok and note.sentence not in report.verdict.warnings


def test_overriding_a_finding_is_said():
    net = Wrapped(shipped("demo-digits-unsecured"), after=lambda s: s.softmax(1))
    report = diagnose(net.eval(), *digits(), eps=0.05, overridden=("logits, not probabilities",))
    assert "Overridden: logits, not probabilities" in report.verdict.sentence


def _net(x: Tensor) -> Tensor:
    return shipped("demo-digits-standard")(x)


class Plain(nn.Module):
    """A model made of one function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


BROKEN = [
    ("images", {"x": torch.zeros(5, 64)}, "give floats of shape"),
    ("images", {"x": torch.zeros(5, 1, 8, 8, dtype=torch.uint8)}, "give floats"),
    ("labels", {"y": torch.zeros(3)}, "one whole number for each image"),
    ("finite images", {"x": torch.full((5, 1, 8, 8), float("nan"))}, "not finite"),
    ("input range", {"x": torch.rand(5, 1, 8, 8) * 255}, "give images in [0, 1]"),
    ("forward pass", {"x": torch.rand(5, 3, 8, 8)}, "check their shape"),
    ("logits", {"model": Plain(lambda x: x)}, "one row of class scores"),
    ("label range", {"y": torch.full((5,), 11)}, "labels from 0 to 9"),
    ("finite scores", {"model": Plain(lambda x: _net(x) * float("nan"))}, "not finite numbers"),
    ("gradient", {"model": Plain(lambda x: _net(x.detach()))}, "cuts it"),
    ("logits, not probabilities", {"model": Plain(lambda x: _net(x).softmax(1))}, "take the softmax off"),
    ("deterministic", {"model": Plain(lambda x: _net(x) + torch.randn(len(x), 10))}, "switch the randomness off"),
    ("batch independence", {"model": Plain(lambda x: _net(x - x.mean(0, keepdim=True)))}, "fixed statistics"),
    ("gradient", {"model": Plain(lambda x: _net((8 * x).round() / 8))}, "FOSC 0 means nothing here"),
    (
        "normalisation inside",
        {"model": Plain(lambda x: _net(0.5 * x + 0.5) if x.min() < -0.1 else 0 * _net(x))},
        "put that normalisation inside",
    ),
    ("better than chance", {"model": Plain(lambda x: _net(x).roll(3, 1))}, "order of the labels"),
]


@pytest.mark.parametrize("name, changed, fix", BROKEN, ids=[f"{k}-{b[0]}" for k, b in enumerate(BROKEN)])
def test_each_thing_that_may_be_wrong_is_one_sentence_with_its_fix(name, changed, fix):
    x, y = digits(100) if name in ("normalisation inside", "better than chance") else digits(5)
    x, y = changed.get("x", x), changed.get("y", y)
    found = preflight(changed.get("model", shipped("demo-digits-standard")).eval(), Ball(x, 0.1), y)
    failed = {f.name: f for f in found if not f.ok}
    assert name in failed and fix in failed[name].sentence and "\n" not in failed[name].sentence


def test_a_good_model_passes_every_check():
    assert [
        f.sentence for f in preflight(shipped("demo-digits-standard"), Ball(digits()[0], 0.1), digits()[1]) if not f.ok
    ] == []


@pytest.mark.parametrize("changed, words", [
    ({"y": torch.tensor([0.9, 1.7, 2.2])}, "give one whole number for each image"),
    ({"x": torch.zeros(3, 1, 8, 8, dtype=torch.uint8)}, "give floats of shape"),
])  # fmt: skip
def test_what_was_given_is_judged_before_it_is_cast(changed, words):
    x, y = digits(3)
    asked = {"x": x, "y": y} | changed
    net = shipped("demo-digits-standard")
    with pytest.raises(NotDiagnosable, match=words):
        diagnose(net, **asked, eps=0.1, steps=3, restarts=1)
    name = "labels" if "y" in changed else "images"
    report = diagnose(net, **asked, eps=0.1, steps=3, restarts=1, overridden=(name,))
    assert f"Overridden: {name}" in report.verdict.sentence
    assert [f.name for f in report.findings].count(name) == 1


class Shown(nn.Module):
    """A network that keeps how far from `x` the furthest image was that it was shown."""

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == next(self.net.parameters()).dtype
        return self.net(x)


def test_a_model_in_half_precision_is_attacked_within_eps_of_images_in_single():
    x, y = digits(20)
    net = Shown(shipped("demo-digits-standard"), torch.bfloat16).eval()
    report = diagnose(net, x, y, eps=8 / 255, steps=10, restarts=1)
    assert report.paths is not None and np.abs(report.paths.z - report.paths.x[:, None]).max() <= 8 / 255 + 1e-6
    assert report.settings["model"].startswith("Shown, ")
    rows = report.samples[report.samples.robust_correct]
    again_rows = list(again(net, x[rows["index"].tolist()], y[rows["index"].tolist()], rows, "more steps", eps=0.1,
                            norm="linf", steps=3, restarts=1, seed=0))[-1].samples  # fmt: skip
    assert again_rows is not None and len(again_rows) == len(rows)
    whole = diagnose(Shown(net.net, torch.float64).eval(), x, y, eps=8 / 255, steps=10, restarts=1)
    assert whole.verdict.n == 20


@pytest.mark.parametrize("bad", [{"eps": "0"}, {"eps": "big"}, {"steps": 2}, {"restarts": 0}, {"norm": "l1"}])
def test_impossible_requests_are_refused(bad):
    with pytest.raises(ValueError):
        diagnose(shipped("demo-digits-standard"), *digits(10), **({"eps": 0.1} | bad))


# ------------------------------------------------------------------------------------------------ lights by hand


def test_the_first_light_counts_surviving_images_that_are_not_converged():
    surviving = np.array([True] * 20 + [False] * 5)
    rho = np.where(np.arange(25) < 1, 0.5, 0.01)
    assert optimised(surviving, rho, np.ones(25)).ok  # 19 of 20 is 95 %
    rho[:2] = np.nan
    light = optimised(surviving, rho, np.ones(25))
    assert not light.ok and light.images == (0, 1) and light.number == 0.9 and "2 of 20" in light.sentence
    assert not optimised(surviving, np.zeros(25), np.zeros(25)).ok  # FOSC 0 without a gradient is not convergence
    assert optimised(np.zeros(5, bool), np.ones(5), np.ones(5)).n == 0


def test_the_second_light_asks_what_the_last_restart_still_found():
    correct, broken_at = np.ones(200, bool), np.full(200, -1)
    broken_at[:50], broken_at[50:60], broken_at[60:62] = 0, 1, 4
    assert restarts_agree(correct, broken_at, 5).ok
    broken_at[60:70] = 4
    light = restarts_agree(correct, broken_at, 5)
    assert not light.ok and light.number == 0.05 and light.images == tuple(range(50, 70))
    assert restarts_agree(correct, broken_at, 1).state == "cannot tell"


@pytest.mark.parametrize("changes, words", [
    ({}, None),
    ({"no_gradient": np.arange(100) < 20}, "20 of 100 images have no gradient"),
    ({"blind": np.arange(100) < 9}, "breaks 9 images"),
    ({"scaled": {0.1: 0.5, 1.0: 0.7, 10.0: 0.7}}, "20 points more than the same attack with the logits times 0.1"),
    ({"margin_accuracy": 0.4}, "30 points more than the same attack on the margin loss"),
    ({"margin_accuracy": 0.65}, None),  # as much as honest networks were published with
    ({"large_eps_left": (45, 90)}, "at least 45 of 90 images stand at eps 0.5, which is sure to fool them"),
    ({"large_eps_left": (0, 0)}, None),
    ({"deterministic": False}, "Two passes"),
])  # fmt: skip
def test_the_third_light_names_each_sign_of_masking(changes, words):
    plain = {"correct": np.ones(100, bool), "no_gradient": np.zeros(100, bool), "blind": np.zeros(100, bool),
             "scaled": {0.1: 0.8, 1.0: 0.7, 10.0: 0.9}, "margin_accuracy": 0.7, "large_eps_left": (2, 90),
             "large_eps": 0.5, "deterministic": True}  # fmt: skip
    light = masked(**(plain | changes))
    assert light.ok == (words is None) and (words is None or words in light.sentence.replace("At", "at"))
    if light.ok:  # what it says is what was measured, within the thresholds too
        gap = max(0, round(100 * (0.7 - (plain | changes)["margin_accuracy"])))
        left, sure = (plain | changes)["large_eps_left"]
        assert f"leave {gap} point{'s' * (gap != 1)} less" in light.sentence
        assert f"and of {sure} images that eps 0.5 is sure to fool {left or 'none'} stand" in light.sentence


@pytest.mark.parametrize("classes", [2, 10])
def test_a_network_that_says_one_class_everywhere_hides_nothing(classes):
    """Images of that class stand at any radius, and nobody is told that they should not."""

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.full((64,), 1e-3))

        def forward(self, x):
            away = (x.flatten(1) * self.weight).sum(1, keepdim=True)
            return torch.cat([away, away.new_full((len(x), 1), 5.0), *[-away] * (classes - 2)], 1)

    x, y = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(60) % classes
    assert sure_to_fall(One(), x, y, 0.5, "linf").tolist() == (y != 1).tolist()
    assert not sure_to_fall(One(), x, y, 0.3, "linf").any()
    report = diagnose(One(), x, y, eps=0.1, steps=10, restarts=2, overridden=("better than chance",))
    light = next(light for light in report.verdict.lights if light.name == "masked")
    assert "stand at eps 0.5, which is sure" not in light.sentence


def test_two_classes_above_chance_are_above_chance():
    y = (torch.arange(200) % 2).long()
    x = torch.rand(200, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    for right, ok in ((134, True), (104, False)):
        x[:, 0, 0, 0] = torch.where(torch.arange(200) < right, y, 1 - y).float()  # the pixel that tells
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
        with torch.no_grad():
            net[1].weight.zero_()
            net[1].weight[:, 0], net[1].bias[:] = torch.tensor([-1.0, 1.0]), torch.tensor([0.5, -0.5])
        finding = next(f for f in preflight(net.eval(), Ball(x, 0.1), y) if f.name == "better than chance")
        assert finding.ok is ok, finding.sentence


def test_l2_is_sure_only_where_plain_grey_lies_within_the_radius():
    class Grey(nn.Module):
        def forward(self, x):
            return torch.stack([x.flatten(1).sum(1) * 0, x.flatten(1).sum(1) * 0 + 1], 1)

    x = torch.stack([torch.full((3, 32, 32), v) for v in (0.5, 0.6, 0.9, 1.0)])  # 0, 5.5, 22 and 28 away from grey
    assert sure_to_fall(Grey(), x, torch.zeros(4).long(), 10.0, "l2").tolist() == [True, True, False, False]


def test_the_stall_doctor_tells_what_would_help():
    steps = np.linspace(1, 0, 12)[:, None]
    rho = np.hstack([0.9 * steps + 0.2, 0 * steps + 0.5, np.maximum(steps - 0.5, 0.0), 0 * steps + np.nan])
    l1 = np.hstack([np.ones((12, 3)), np.zeros((12, 1))])
    assert stall(rho, l1).tolist() == ["more steps", "smaller steps", "done", "masked"]


def test_intervals_are_wilsons():
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert all(np.isnan(wilson(0, 0)))


def test_the_guides_example_runs_as_it_stands():
    guide = (Path(__file__).parents[1] / "docs" / "check-my-model.md").read_text()
    example = guide.split("```python\n")[1].split("```")[0].replace("steps=50, restarts=5", "steps=5, restarts=2")
    x, y = digits(30)
    names = {"model": shipped("demo-digits-standard"), "x": x, "y": y}
    exec(example, names)
    assert len(names["report"].samples) == 30


# -------------------------------------------------------------------------------------------- while it is computed


def test_a_diagnosis_tells_what_it_knows_after_every_batch():
    net, (x, y) = shipped("demo-digits-standard"), digits()
    stages = list(diagnosing(net, x, y, eps=0.15, steps=20, restarts=3))
    known = [stage.report for stage in stages if stage.report is not None]
    assert known[0].verdict.n <= 40 and known[0].verdict.so_far and not known[0].verdict.ok
    assert "so far" in known[0].verdict.sentence and len(known[0].samples) == known[0].verdict.n
    shares = [stage.share for stage in stages]
    assert shares[0] == 0 and shares[-1] == 1 and all(b >= a - 0.05 for a, b in itertools.pairwise(shares))
    whole = diagnose(net, x, y, eps=0.15, steps=20, restarts=3)
    last = known[-1]
    assert last.verdict == whole.verdict and last.samples.equals(whole.samples) and last.verdict.finished
    seen = [report.verdict.robust / report.verdict.n for report in known if report.verdict.n == 200]
    assert seen == sorted(seen, reverse=True), "once all images were attacked, more attacks break more"


class Greedy(nn.Module):
    """A network on a device that holds a few images only."""

    def __init__(self, net: nn.Module, most: int) -> None:
        super().__init__()
        self.net, self.most = net, most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError(f"no room for {len(x)} images")
        return self.net(x)


def test_a_batch_that_does_not_fit_is_halved_and_that_is_said():
    x, y = digits(60)
    net = Greedy(shipped("demo-digits-standard"), 20)
    stages = list(diagnosing(net, x, y, eps=0.15, steps=5, restarts=2, batch=48))
    report = stages[-1].report
    assert report is not None and report.settings["batch"] == 12 and report.settings["batch_halved"]
    assert any("Memory ran out" in stage.note for stage in stages) and len(report.samples) == 60
    roomy = diagnose(shipped("demo-digits-standard"), x, y, eps=0.15, steps=5, restarts=2, batch=12)
    assert abs(roomy.verdict.robust - report.verdict.robust) <= 3 and not roomy.settings["batch_halved"]
    with pytest.raises(torch.OutOfMemoryError):
        diagnose(Greedy(shipped("demo-digits-standard"), 0), x, y, eps=0.15)


def test_an_attack_cut_short_is_told_from_one_that_finished():
    net, (x, y) = shipped("demo-digits-standard"), digits()
    short, whole = (diagnose(net, x, y, eps=0.15, steps=steps) for steps in (10, 50))
    assert not short.verdict.lights[0].ok and whole.verdict.lights[0].ok
    assert whole.verdict.robust < short.verdict.robust, "and what was cut short left images that more steps break"


def test_the_settled_slope_of_a_crease_tends_to_zero_and_that_of_a_hill_does_not():
    """On |z| from both sides single gradients never vanish; their mean over steps along the gradient does, as 1 / k."""
    crease = Plain(lambda x: torch.stack([(x.flatten(1) - 0.5).abs().sum(1), torch.zeros(len(x))], 1))
    hill = Plain(lambda x: torch.stack([-x.flatten(1).sum(1), torch.zeros(len(x))], 1))
    x = torch.full((1, 1, 2, 2), 0.5)
    y = torch.zeros(1, dtype=torch.long)
    ball = Ball(x, 0.3)
    start = x + torch.tensor([0.004, -0.003, 0.002, 0.001]).view(1, 1, 2, 2)
    with torch.no_grad():
        left = []
        for steps in (8, 32):
            end, rho = siege._settled(crease, ball, y, start, [0.3 / 64] * steps)
            assert float(relative_fosc(ball, end.z, end.grad)) > 0.5, "a single gradient promises a gain"
            left.append(float(rho))
        assert left[1] < 0.5 * left[0] < 0.2
        assert float(siege._settled(hill, ball, y, start, [0.3 / 64] * 8)[1]) > 0.5


def besieged(net: nn.Module, n: int = 40, steps: int = 50, eps: float = 0.15, norm: Norm = "linf", batch: int = 256):
    """A siege after the clean measurement."""
    begun = siege.Siege(net.eval(), *digits(n), eps, norm, steps=steps, seed=0, batch=batch)
    carried_out(begun.measure_clean())
    return begun


def carried_out(batches) -> None:
    with torch.no_grad():
        list(batches)


@pytest.mark.parametrize("norm, eps", [("linf", 0.15), ("l2", 0.5)])
def test_the_settled_slope_is_that_of_all_points_kept(norm, eps):
    net, (x, y) = shipped("demo-digits-standard"), digits(30)
    ball, seen = Ball(x, eps, norm), []
    with torch.no_grad():
        start = ball.random_point(torch.Generator().manual_seed(0))
        kept = lambda z, grad, logits: seen.append((z.clone(), grad.clone()))  # noqa: E731
        _, rho = siege._settled(net, ball, y, start, [eps / 64] * 20, watch=kept)
    z, grad = (torch.stack(parts) for parts in zip(*seen[10:], strict=True))
    gap = fosc(ball, z.mean(0), grad.mean(0))
    if norm == "linf":
        scale = (grad.abs().mean(0) * (ball.faces[1] - ball.faces[0])).flatten(1).sum(1) / 2
    else:  # how far it is up and down from the image, the same way whole
        scale = torch.stack([fosc(ball, x, g) + fosc(ball, x, -g) for g in grad]).mean(0) / 2
    torch.testing.assert_close(rho, gap / scale, atol=1e-5, rtol=1e-5)
    assert len(seen) == 21


class Weighing(nn.Module):
    """Counts the pixels that are in memory at its `at`-th call."""

    def __init__(self, net: nn.Module, at: int) -> None:
        super().__init__()
        self.net, self.at, self.calls, self.alive = net, at, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            tensors = [t for t in gc.get_objects() if type(t) is Tensor]
            self.alive = sum(t.numel() for t in tensors if t.shape[-3:] == x.shape[1:])
        return self.net(x)


@pytest.mark.parametrize("at", [20, 52])  # at the end of the first part, and of the settling
def test_a_climb_keeps_no_path_of_its_points(at):
    net = Weighing(shipped("demo-digits-standard"), at + 1)
    begun = besieged(net, n=37)
    known = sum(t.numel() for t in gc.get_objects() if type(t) is Tensor and t.shape[-3:] == begun.x.shape[1:])
    carried_out(begun.climb(0))
    assert net.alive - known < 16 * begun.x.numel(), "a path of 20 steps is 42 times the images"


@pytest.mark.parametrize("asked, made, gradients", [(3, 6, 9), (6, 7, 10), (10, 10, 13), (50, 50, 53)])
def test_the_steps_that_are_told_and_the_gradients_that_are_counted_are_those_made(asked, made, gradients):
    net = Weighing(shipped("demo-digits-standard"), -1)
    begun = besieged(net, n=8, steps=asked, eps=0.01)
    before, calls = begun.spent, net.calls
    standing = len(begun.standing)
    carried_out(begun.climb(0))
    assert sum(begun.plan) == made and net.calls - calls == begun.gradients == gradients
    assert begun.spent - before == gradients * standing
    told = diagnose(shipped("demo-digits-standard"), *digits(8), eps=0.01, steps=asked, restarts=1).settings
    assert told["words"].startswith(f"PGD-{made} x 1") and told["steps"] == asked and told["steps_made"] == made


class Failing(nn.Module):
    """A network on a device that holds no more than 12 images while it is `armed`, from the `late`-th call on."""

    def __init__(self, net: nn.Module, late: int) -> None:
        super().__init__()
        self.net, self.late, self.armed, self.calls = net, late, False, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.armed
        if self.armed and len(x) > 12 and self.calls > self.late:
            raise torch.OutOfMemoryError(f"no room for {len(x)} images")
        return self.net(x)


@pytest.mark.parametrize("attack", ["climb", "blind", "at"])
def test_a_second_try_with_fewer_images_is_the_same_attack(attack):
    """Whatever the first try drew and found before memory ran out."""
    found, size = [], 256
    for armed in (True, False):
        net = Failing(shipped("demo-digits-standard"), 30 if attack == "blind" else 5)
        begun = besieged(net, n=40, steps=6, eps=0.25)
        blind, accuracy = np.zeros(40, dtype=bool), {}
        net.armed, begun.batch = armed, size
        attacks = {"climb": begun.climb(1), "blind": begun.blind(blind), "at": begun.at(0.2, accuracy)}
        carried_out(attacks[attack])
        size = begun.batch
        columns = (begun.margin, begun.rho, begun.robust, begun.predicted, torch.tensor(blind))
        found.append([accuracy, *(column.nan_to_num(9.0).tolist() for column in columns)])
    assert size < 13 and found[0] == found[1]
    assert any(found[0][-1]) == (attack == "blind")


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("name, eps", [("standard", 1.0), ("smooth", 0.6)])
def test_settling_under_l2_never_loses_what_was_climbed_and_leaves_less_to_climb(name, eps, steps):
    net, (x, y) = shipped("demo-digits-standard") if name == "standard" else perceptron(1, True), digits(100)
    begun = siege.Siege(net, x, y, eps, "l2", steps=steps, seed=0, batch=100)
    ball = begun.ball(slice(None))
    with torch.no_grad():
        start = ball.random_point(torch.Generator().manual_seed(0))
        first, second, _ = begun.plan
        climbed = dc.pgd(net, ball, y, steps=first, alpha=eps / 4, loss="margin", start=start)
        climbed = dc.pgd(net, ball, y, steps=second, alpha=eps / 16, loss="margin", start=climbed.z)
        rho, _, end, _ = begun._phases(ball, y, start)
    assert (end.loss >= climbed.loss - 1e-4).all()
    before = relative_fosc(ball, climbed.z, climbed.grad)
    assert (rho[-1] <= before.median()).float().mean() > 0.65, "and it was half of them before"


def test_a_random_search_under_l2_keeps_what_it_found_and_goes_as_far_as_the_radius():
    x, ball = torch.full((50, 3, 12, 12), 0.5), Ball(torch.full((50, 3, 12, 12), 0.5), 1.0, "l2")
    randomness = torch.Generator().manual_seed(0)
    first = siege._square(ball, x, randomness, 0.0)
    assert torch.allclose((first - x).flatten(1).norm(dim=1), torch.ones(50), atol=1e-5)
    second = siege._square(ball, first, randomness, 0.9)
    assert torch.allclose((second - x).flatten(1).norm(dim=1), torch.ones(50), atol=0.3)
    kept = ((second - x) * (first - x)).flatten(1).sum(1)
    assert kept.mean() > 0.5, "the first square is most of the way still"


class Lowest(nn.Module):
    """A network that keeps the smallest margin that each of the first 30 digits was shown with."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.least = net, torch.full((30,), float("inf"))

    def forward(self, x: Tensor) -> Tensor:
        scores, y = self.net(x), digits(30)[1][:, None]
        others = scores.scatter(1, y, float("-inf")).amax(1)
        self.least = torch.minimum(self.least, (scores.gather(1, y)[:, 0] - others).detach())
        return scores


def test_a_search_tells_the_smallest_margin_of_images_that_stand():
    net = Lowest(shipped("demo-digits-standard"))
    begun = besieged(net, n=30, eps=0.05)
    clean = begun.margin.clone()
    assert begun.correct.all()
    carried_out(begun.blind(np.zeros(30, dtype=bool)))
    left = begun.standing
    assert len(left) > 20 and torch.equal(begun.margin[left], net.least[left])
    assert (begun.margin[left] < clean[left]).float().mean() > 0.9


@pytest.mark.parametrize("advice, lights, expected", [
    (["done"] * 4, {"restarts": True, "masked": True}, []),
    (["more steps", "done", "more steps", "smaller steps"], {}, [("more steps", (0, 2)), ("smaller steps", (3,))]),
    (["masked", "done", "done", "done"], {}, [("random search", (0,))]),
    (["done"] * 4, {"masked": False}, [("random search", (0, 1, 2, 3))]),
    (["done"] * 4, {"restarts": False}, [("more restarts", (0, 1, 2, 3))]),
])  # fmt: skip
def test_what_to_run_next_follows_from_where_the_attack_stalled(advice, lights, expected):
    rows = pd.DataFrame({"index": range(5), "robust_correct": [True] * 4 + [False], "advice": [*advice, ""]})
    assert [(a.action, a.images) for a in next_actions(rows, lights)] == expected


@pytest.mark.parametrize("action", ["more steps", "smaller steps", "more restarts", "random search"])
def test_a_next_action_starts_from_what_stood_and_never_unbreaks(action):
    net, (x, y) = shipped("demo-digits-standard"), digits(80)
    before = diagnose(net, x, y, eps=0.15, steps=6, restarts=1).samples
    rows = before[before.robust_correct]
    some = torch.tensor(rows["index"].tolist())
    asked = {"eps": 0.15, "norm": "linf", "steps": 6, "restarts": 1, "seed": 0}
    first, second = (list(again(net, x[some], y[some], rows, action, **asked))[-1].samples for _ in range(2))
    assert first is not None and second is not None and first.equals(second)
    assert first.robust_before.all() and ((first.margin_after > 0) == first.robust_after).all()
    if action == "more steps":
        left = first[first.robust_after]
        assert (left.relative_fosc_after < left.relative_fosc_before).mean() > 0.9
    assert (first.relative_fosc_after.isna() == ~first.robust_after).all()
    with pytest.raises(ValueError, match="no action"):
        list(again(net, x[:1], y[:1], rows[:1], "prayer", **asked))
