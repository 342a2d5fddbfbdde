"""The ladder: other libraries agree, every number can be recounted, and an interrupted one ends like any other."""

from __future__ import annotations

import copy
import json
import logging
import os
import sys
from functools import cache
from itertools import islice, product

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from eagerpy.astensor import astensor
from foolbox.attacks.gradient_descent_base import LinfBaseGradientDescent
from foolbox.criteria import Misclassification
from foolbox.models.pytorch import PyTorchModel
from pyautoattack import AutoAttack
from torch import Tensor, nn

from dynat_core.attack import autoattack
from dynat_core.attack.threat import Ball
from dynat_core.check.ladder import LadderError, LadderFinished, LadderState, ladder, rungs
from dynat_core.check.ladder_rungs import attack
from dynat_core.statistics import wilson
from dynat_core.training.evaluate import generator_for
from tests.shipped import EPS, digits, shipped

torch.set_num_threads(1)
N, ALL = 200, 500  # images of the whole ladder, and of the attacks that are compared with other libraries
PLAIN = [rung.name for rung in rungs(False)]
BY_NAME = {rung.name: rung for rung in rungs(True)}


def finished(model: nn.Module, x: Tensor, y: Tensor, **settings) -> LadderFinished:
    """The last event of a ladder, without AutoAttack unless asked for."""
    *_, last = ladder(model, x, y, **({"eps": EPS, "autoattack": False} | settings))
    assert isinstance(last, LadderFinished)
    return last


@cache
def whole() -> LadderFinished:
    """The ladder without AutoAttack on N digits."""
    return finished(shipped(), *digits(N))


@cache
def quick() -> tuple[nn.Module, Tensor, Tensor]:
    """A linear network, 10 digits and the labels it gives them: for what does not depend on the network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    x, _ = digits(10)
    return model, x, model(x).argmax(1)


def told(event: LadderFinished) -> dict[str, dict]:
    return {rung["name"]: rung for rung in event.result["rungs"]}


# ------------------------------------------------------------------------------------------------- other libraries


def peer_margin(logits: Tensor, y: Tensor) -> Tensor:
    """(n,) the margin loss up to confidence 50, written with a sort instead of a mask."""
    value, order = logits.sort(dim=1, descending=True)
    other = torch.where(order[:, 0] == y, value[:, 1], value[:, 0])
    return -(logits.gather(1, y[:, None])[:, 0] - other).clamp(min=-50)


class PeerPGD(LinfBaseGradientDescent):
    """foolbox's projected gradient descent on any loss, from a given start or one of its own."""

    def __init__(self, loss, start: Tensor | None = None, **settings) -> None:
        super().__init__(random_start=True, rel_stepsize=1.0, **settings)  # the absolute step goes first
        self.loss, self.start = loss, start

    def get_loss_fn(self, model, labels):
        return lambda inputs: astensor(self.loss(model(inputs).raw, labels.raw).sum())

    def get_random_start(self, x0, epsilon):
        return super().get_random_start(x0, epsilon) if self.start is None else astensor(self.start)


def cross_entropies(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


PEERS = {"fgsm": (cross_entropies, 1, 1), "pgd-20": (cross_entropies, 20, 4), "cw-30": (peer_margin, 30, 4)}


def foolbox_leaves(x: Tensor, y: Tensor, loss, steps: int, over: int, seed: int) -> np.ndarray:
    """(n,) whether each image is still right after foolbox's attack from foolbox's own random start."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        peer = PeerPGD(loss, abs_stepsize=EPS / over, steps=steps)
        z = peer.run(PyTorchModel(shipped(), (0, 1), "cpu"), x, Misclassification(y), epsilon=EPS)
    return (shipped()(z).argmax(1) == y).numpy()


@cache
def by_foolbox(name: str, seed: int) -> np.ndarray:
    """(n,) what foolbox leaves of the images."""
    return foolbox_leaves(*digits(ALL), *PEERS[name], seed)


@cache
def by_art(name: str) -> np.ndarray:
    """(n,) what is left with the adversarial robustness toolbox."""
    (x, y), (loss, steps, over) = digits(ALL), PEERS[name]
    state = np.random.get_state()
    np.random.seed(3)
    classifier = PyTorchClassifier(
        shipped(), lambda logits, labels: loss(logits, labels.argmax(1)).mean(), (1, 8, 8), 10, clip_values=(0, 1)
    )
    if name == "fgsm":
        peer = FastGradientMethod(classifier, eps=EPS, eps_step=EPS, num_random_init=1, batch_size=ALL)
    else:
        peer = ProjectedGradientDescentPyTorch(
            classifier, eps=EPS, eps_step=EPS / over, max_iter=steps, num_random_init=1, batch_size=ALL, verbose=False
        )
    z = torch.from_numpy(peer.generate(x.numpy(), y.numpy()))
    np.random.set_state(state)
    assert ((z - x).abs() <= EPS + 1e-6).all()
    return (shipped()(z).argmax(1) == y).numpy()


@cache
def cheap_rungs() -> LadderState:
    """The rungs of one restart on all 500 test images of the digits."""
    return list(islice(ladder(shipped(), *digits(ALL), eps=EPS, batch=ALL), 6))[-1].state


@pytest.mark.parametrize("peer", ["foolbox", "art"])
@pytest.mark.parametrize("name", PEERS)
def test_an_attack_leaves_what_other_libraries_leave_within_a_point(name, peer):
    ours = (cheap_rungs().table[f"correct/{name}"].to_numpy() == 1).mean()
    theirs = np.mean([by_foolbox(name, seed) for seed in range(2)] if peer == "foolbox" else by_art(name))
    assert abs(ours - theirs) < 0.01


def test_the_worst_case_is_the_union_of_other_libraries_attacks_within_a_point():
    x, y = digits(N)
    left = np.logical_and.reduce([by_foolbox(name, seed)[:N] for name in PEERS for seed in range(2)])
    left &= np.logical_and.reduce([by_art(name)[:N] for name in PEERS])
    for seed, loss in product(range(3), (cross_entropies, peer_margin)):
        left[left] = foolbox_leaves(x[left], y[left], loss, 50, 4, seed)
    assert abs(whole().result["worst"]["accuracy"] - left.mean()) < 0.01


@pytest.mark.parametrize("name", PEERS)
def test_the_end_points_are_foolboxs_from_the_same_start(name):
    (x, y), (loss, steps, over) = digits(60), PEERS[name]
    ball, model = Ball(x, EPS), shipped()
    start = ball.random_point(generator_for(x.device, 7, "start"))
    found = attack(BY_NAME[name], 0, model, ball, y, generator_for(x.device, 7, "start"))
    peer = PeerPGD(loss, start, abs_stepsize=EPS / over, steps=steps)
    theirs = peer.run(PyTorchModel(model, (0, 1), "cpu"), x, Misclassification(y), epsilon=EPS)
    far = (torch.from_numpy(found.z) - theirs).abs().flatten(1).amax(1)
    assert (far <= 1e-5).float().mean() >= 0.95  # a sign of a gradient of about 0 may fall either way in float32


# ------------------------------------------------------------------------------------------------------ the numbers


def test_the_rungs_are_in_their_order_and_none_is_stronger_than_the_worst_case():
    names = ["clean", "noise", "fgsm", "pgd-10", "pgd-20", "cw-30", "pgd-50x10-ce", "pgd-50x10-margin", "autoattack"]
    assert [rung.name for rung in rungs(True)] == names and [rung.name for rung in rungs(False)] == names[:-1]
    found, worst = told(whole()), whole().result["worst"]
    assert all(worst["accuracy"] <= rung["accuracy"] for rung in found.values())
    assert found["pgd-20"]["accuracy"] <= found["pgd-10"]["accuracy"] + 0.005
    assert found["clean"]["accuracy"] >= found["noise"]["accuracy"] >= found["fgsm"]["accuracy"]
    assert found["noise"]["accuracy"] > worst["accuracy"]  # or the order would show nothing
    assert (
        found["pgd-50x10-margin"]["correct"]
        <= found["pgd-50x10-ce"]["correct"]
        == N
        - sum(count for name, count in whole().result["broken_by"].items() if name not in ("none", "pgd-50x10-margin"))
    )


def test_the_worst_case_is_recounted_on_the_stored_points():
    event, (x, y) = whole(), digits(N)
    table, points = event.state.table, torch.from_numpy(event.state.points)
    right = (shipped()(points).argmax(1) == y).numpy()
    assert (right == (table.broken_by == "").to_numpy()).all()
    assert event.result["worst"]["correct"] == right.sum()
    assert Ball(x, EPS).contains(points).all()
    untouched = table.broken_by.isin(["", "misclassified"]).to_numpy(copy=True)
    assert torch.equal(points[untouched], x[untouched])
    assert ((points - x).flatten(1).abs().amax(1).numpy()[~untouched] > 0.01).all()


def test_the_table_tells_about_the_strongest_point_what_float64_tells():
    event, (x, y) = whole(), digits(N)
    table = event.state.table
    broken = ~table.broken_by.isin(["", "misclassified"]).to_numpy(copy=True)
    z = torch.from_numpy(event.state.points)[broken].double().requires_grad_()
    logits = copy.deepcopy(shipped()).double()(z)
    others = logits.masked_fill(F.one_hot(y[broken], 10).bool(), -torch.inf).amax(1)
    margins = logits[range(len(z)), y[broken]] - others
    (g,) = torch.autograd.grad(-margins.sum(), z)
    low, high = (x[broken] - EPS).clamp(min=0).double(), (x[broken] + EPS).clamp(max=1).double()
    gap = (torch.where(g > 0, high, low) * g - z.detach() * g).flatten(1).sum(1)
    middle = (g.abs() * (high - low) / 2).flatten(1).sum(1)
    rows = table[broken]
    np.testing.assert_allclose(rows.margin, margins.detach(), atol=1e-4)
    np.testing.assert_allclose(rows.gradient_l1, g.abs().flatten(1).sum(1), rtol=1e-3)
    np.testing.assert_allclose(rows.fosc, gap, atol=1e-3 * float(gap.max()))
    np.testing.assert_allclose(rows.relative_fosc, gap / middle, atol=1e-3)


def test_rungs_of_their_own_attack_what_is_right_and_the_others_what_is_left():
    event = whole()
    table, found = event.state.table, told(event)
    right = table["correct/clean"] == 1
    assert (right == (table.broken_by != "misclassified")).all()
    stands = right.copy()
    for name in PLAIN:
        column, rung = table[f"correct/{name}"], found[name]
        if name == "clean":
            assert rung["attacked"] == N
            continue
        whom = (right if rung["own"] else stands).to_numpy()
        assert ((column >= 0).to_numpy() == whom).all() and rung["attacked"] == whom.sum()
        first = stands & (column == 0)
        assert (table.broken_by[first] == name).all() and sum(rung["broke"]) == first.sum()
        stands &= column != 0
        count = int((column == 1).sum()) if rung["own"] else int(stands.sum())
        assert rung["correct"] == count and rung["accuracy"] == count / N
        assert (rung["low"], rung["high"]) == wilson(count, N)
    assert (stands == (table.broken_by == "")).all() and event.result["broken_by"]["none"] == stands.sum()


def test_what_a_rung_costs_is_counted():
    found = told(whole())
    right = found["clean"]["correct"]
    for name, steps in {"clean": 0, "noise": 0, "fgsm": 1, "pgd-10": 10, "pgd-20": 20, "cw-30": 30}.items():
        assert found[name]["gradients"] == right * steps
    several = [found["pgd-50x10-ce"], found["pgd-50x10-margin"]]
    for rung in several:
        standing = rung["attacked"] - np.cumsum([0, *rung["broke"][:-1]])
        assert rung["gradients"] == 51 * standing.sum()
    assert sum(sum(rung["broke"][1:]) for rung in several) > 0  # later restarts start elsewhere
    assert json.loads(json.dumps(whole().result, allow_nan=False)) == whole().result


def test_attacks_of_one_start_share_it_and_every_restart_has_its_own(monkeypatch):
    seeds: dict[tuple[str, int], list[int]] = {}

    def noted(rung, number, model, ball, y, randomness):
        seeds.setdefault((rung.name, number), []).append(randomness.initial_seed())
        return original(rung, number, model, ball, y, randomness)

    original = attack
    monkeypatch.setattr("dynat_core.check.ladder.attack", noted)
    finished(*quick(), eps=0.01, batch=5)
    singles = [seeds[name, 0] for name in ("fgsm", "pgd-10", "pgd-20", "cw-30")]
    assert len({*map(tuple, singles)}) == 1 and len({*singles[0]}) == 2  # and every batch its own
    firsts = [seeds[name, k][0] for name in ("pgd-50x10-ce", "pgd-50x10-margin") for k in range(10)]
    assert len({*firsts, singles[0][0]}) == 21


# ----------------------------------------------------------------------------------------- again, and after a stop


def same(a: LadderState, b: LadderState, but: tuple[str, ...] = ("seconds",)) -> None:
    """Asserts that two states agree to the last bit, seconds aside."""

    def timeless(progress):
        if isinstance(progress, dict):
            return {name: timeless(value) for name, value in progress.items() if name not in but}
        return progress

    assert list(a.table) == list(b.table)
    for name in a.table:
        np.testing.assert_array_equal(a.table[name].to_numpy(), b.table[name].to_numpy())
        assert a.table[name].dtype == b.table[name].dtype
    for name in ("points", "queue", "ends"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes()
    assert timeless(a.progress) == timeless(b.progress)


def test_the_same_seed_gives_the_same_table_to_the_last_bit_and_another_seed_does_not():
    x, y = digits(10)
    first, again, other = (list(islice(ladder(shipped(), x, y, eps=EPS, seed=s, batch=4), 20)) for s in (1, 1, 2))
    same(first[-1].state, again[-1].state)
    assert not np.array_equal(first[-1].state.table.margin, other[-1].state.table.margin)


def quick_autoattack(model, x, y, eps, norm, seed, *, parts, batch):
    """In AutoAttack's place, where only seeds and order matter: a random point that may fool."""
    z = Ball(x, 2 * eps).random_point(torch.Generator().manual_seed(seed))
    return autoattack.AutoAttacked(Ball(x, eps).project(z), len(x), (f"{parts[0]} says {seed % 7}",))


def test_a_ladder_stopped_after_any_batch_goes_on_to_the_same_table(monkeypatch):
    """Each step is made by a ladder of its own that knows the saved bytes alone."""
    monkeypatch.setattr(autoattack, "standard", quick_autoattack)
    x, y = digits(7)
    settings = {"eps": EPS, "seed": 3, "batch": 4}
    straight = list(ladder(shipped(), x, y, **settings))
    assert len(straight) > 40 and [len(event.state.queue) for event in straight[:3]] == [3, 7, 3]
    blob = None
    for event in straight:
        state = None if blob is None else LadderState.from_bytes(blob)
        went_on = next(ladder(shipped(), x, y, **settings, state=state))
        same(went_on.state, event.state)
        assert (went_on.words, went_on.share, went_on.note) == (event.words, event.share, event.note)
        blob = went_on.state.to_bytes()
    result, last = next(ladder(shipped(), x, y, **settings, state=LadderState.from_bytes(blob))), straight[-1]
    assert isinstance(result, LadderFinished) and isinstance(last, LadderFinished) and last.state.finished
    untimed = [{name: v for name, v in rung.items() if name != "seconds"} for rung in result.result["rungs"]]
    assert untimed == [{name: v for name, v in rung.items() if name != "seconds"} for rung in last.result["rungs"]]


def test_a_state_is_the_callers_and_does_not_change_when_the_ladder_goes_on():
    events = islice(ladder(shipped(), *digits(12), eps=EPS, batch=8), 14)
    kept = [(event.state, event.state.to_bytes()) for event in events]
    assert len({state.points.tobytes() for state, _ in kept}) > 2
    assert all(state.to_bytes() == blob for state, blob in kept)


def test_the_share_never_falls_and_the_work_to_come_never_grows():
    model, x, y = quick()
    events = list(ladder(model, x, y, eps=0.02, batch=8, autoattack=False))
    share, remaining = [e.share for e in events], [e.remaining for e in events]
    assert share == sorted(share) and share[-1] == 1.0 and 0 < share[0] < 0.1
    assert remaining == sorted(remaining, reverse=True) and remaining[-1] == 0.0
    stands = (events[-1].state.table.broken_by == "").sum()
    assert 0 < stands < 10 and len(events) > 30


def test_a_state_of_something_else_is_refused_in_one_sentence():
    x, y = digits(12)
    state = next(ladder(shipped(), x, y, eps=EPS, batch=5)).state
    for model, pixels, changes in [
        (shipped("demo-digits-dynamic"), x, {}), (shipped(), x * 0.5, {}), (shipped(), x, {"eps": 0.1}),
        (shipped(), x, {"seed": 1}), (shipped(), x, {"norm": "l2"}),
    ]:  # fmt: skip
        with pytest.raises(LadderError, match="start the ladder again"):
            next(ladder(model, pixels, y, **({"eps": EPS} | changes), state=state))
    blob = state.to_bytes()
    for damaged in (b"", blob[:100], blob[:-3000], b"x" * 500, blob.replace(b'"format":1', b'"format":9')):
        with pytest.raises(LadderError, match="damaged"):
            LadderState.from_bytes(damaged)


# ------------------------------------------------------------------------------------------------------ AutoAttack


@cache
def right_ones(n: int) -> tuple[Tensor, Tensor]:
    x, y = digits(n + 20)
    right = shipped()(x).argmax(1) == y
    return x[right][:n], y[right][:n]


def shortened(settings):
    """The standard version with fewer queries and iterations, wherever it is made."""

    def shorter(attack: AutoAttack, version: str) -> None:
        settings(attack, version)
        assert (attack.attacks_to_run, attack.square.n_queries) == (list(autoattack.PARTS), 5000)
        attack.square.n_queries, attack.fab.n_iter = 300, 10

    return shorter


def test_part_by_part_the_adapter_finds_what_pyautoattack_finds_and_leaves_all_as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AutoAttack, "_set_version", shortened(AutoAttack._set_version))
    x, y = right_ones(10)
    model = copy.deepcopy(shipped())
    model.zero_grad(set_to_none=True)
    learning, state, trace = [p.requires_grad for p in model.parameters()], torch.get_rng_state(), sys.gettrace()
    handlers = list(logging.getLogger("auto-attack").handlers)
    z, gradients = x.clone(), 0
    for part in autoattack.PARTS:
        left = model(z).argmax(1) == y
        found = autoattack.standard(model, x[left], y[left], EPS, seed=5, parts=(part,))
        z[left], gradients = found.z, gradients + found.gradients
        assert found.gradients == 0 if part == "square" else found.gradients >= 80 * int(left.sum())
    assert torch.equal(torch.get_rng_state(), state) and sys.gettrace() is trace and not os.listdir(tmp_path)
    assert [p.requires_grad for p in model.parameters()] == learning and all(p.grad is None for p in model.parameters())
    assert logging.getLogger("auto-attack").handlers == handlers
    with torch.random.fork_rng():
        direct, _ = AutoAttack(copy.deepcopy(model), norm="Linf", eps=EPS, seed=5).run_standard_evaluation(x, y)
    torch.testing.assert_close(z, direct, atol=1e-6, rtol=0)
    fooled = model(z).argmax(1) != y
    assert 0 < int(fooled.sum()) < 10 and Ball(x, EPS).contains(z).all()
    assert torch.equal(z[~fooled], x[~fooled])


def test_under_l2_autoattack_breaks_a_linear_model_exactly_where_the_boundary_is_near():
    model, x, _ = quick()
    x = 0.4 + 0.2 * x  # far from 0 and 1, or the box would keep points from the boundary
    layer, logits = model[1], model(x).detach()
    assert isinstance(layer, nn.Linear)
    y, w = logits.argmax(1), layer.weight.detach()
    distance = (logits.gather(1, y[:, None]) - logits) / (w[y][:, None] - w[None]).norm(dim=2)  # to each class: 0/0 own
    near = distance.nan_to_num(torch.inf).amin(1) < 0.48
    found = autoattack.standard(model, x, y, 0.48, "l2", 3, parts=("apgd-ce", "fab-t"))
    assert torch.equal(model(found.z).argmax(1) != y, near) and 0 < int(near.sum()) < 10
    assert Ball(x, 0.48, "l2").contains(found.z).all()


def test_with_two_classes_the_targeted_part_is_left_out_and_nobody_is_stopped_by_it():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    x = digits(2)[0]
    found = autoattack.standard(model, x, model(x).argmax(1), EPS, parts=("apgd-ce", "apgd-t"))
    assert any("apgd-t is left out" in line for line in found.warnings)
    assert len(autoattack.standard(model, x[:0], x.new_zeros(0).long(), EPS).z) == 0


@pytest.mark.slow
def test_autoattack_is_the_last_rung_and_gets_only_what_stands():
    x, y = digits(24)
    event = finished(shipped(), x, y, autoattack=True)
    rung, table = told(event)["autoattack"], event.state.table
    before = np.logical_and.reduce([table[f"correct/{name}"] != 0 for name in PLAIN])
    assert 0 < rung["attacked"] == before.sum() < 24 and ((table["correct/autoattack"] >= 0) == before).all()
    assert rung["correct"] == event.result["worst"]["correct"] <= before.sum()
    assert len(rung["broke"]) == 4 and rung["gradients"] > 900 * rung["correct"]
    assert event.result["versions"]["pyautoattack"] == autoattack.available()
    assert event.result["left_out"] == []


def test_without_pyautoattack_the_ladder_ends_before_it_and_says_so(monkeypatch):
    model, x, y = quick()
    state = next(ladder(model, x, y, eps=0.02)).state
    monkeypatch.setattr(autoattack, "available", lambda: None)
    event = finished(model, x, y, eps=0.02, autoattack=True)
    assert [rung["name"] for rung in event.result["rungs"]] == PLAIN
    assert "requirements-attack.txt" in event.result["left_out"][0] and len(event.result["left_out"]) == 1
    assert finished(model, x, y, eps=0.02).result["left_out"] == ["AutoAttack was not asked for."]
    with pytest.raises(LadderError, match="requirements-attack.txt"):
        next(ladder(model, x, y, eps=0.02, state=state))
    with pytest.raises(autoattack.AutoAttackError, match="requirements-attack.txt"):
        autoattack.standard(model, x, y, 0.02)


class Steps(nn.Module):
    """Four classes, two of them told apart by the mean of the pixels, rounded to `levels`: no gradient anywhere."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        total = (x * self.levels).round().flatten(1).mean(1) / self.levels - 0.45
        return torch.stack([total, -total, 0 * total - 1, 0 * total - 2], dim=1)


def test_a_model_without_gradients_is_broken_by_square_alone_and_the_ladder_says_what_that_means():
    x, y = torch.full((3, 1, 8, 8), 0.5), torch.zeros(3, dtype=torch.long)
    event = finished(Steps(100), x, y, eps=0.1, autoattack=True)
    rung = told(event)["autoattack"]
    assert event.result["broken_by"]["autoattack"] == 3 == rung["broke"][3]
    assert any("zero gradient" in line for line in rung["warnings"])
    assert any("gradients may be masked" in line for line in rung["warnings"])


# --------------------------------------------------------------------------------------------- odd models and input


class Tight(nn.Module):
    """A network on a device with room for 8 images at once."""

    def __init__(self) -> None:
        super().__init__()
        self.net = shipped()

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.net(x)


def test_a_batch_that_does_not_fit_is_halved_and_the_ladder_says_so_and_goes_on():
    x, y = digits(10)
    events = list(islice(ladder(Tight(), x, y, eps=EPS), 14))
    assert [event.note for event in events] == ["Memory ran out; 5 images at a time now."] + [""] * 13
    roomy = list(islice(ladder(shipped(), x, y, eps=EPS, batch=5), 14))
    pd.testing.assert_frame_equal(events[-1].state.table, roomy[-1].state.table)
    assert events[-1].state.progress["batch"] == 5


@pytest.mark.parametrize("weight, standing", [(0.0999, 0), (0.1001, 5)])
def test_a_linear_model_is_broken_exactly_where_its_margin_ends(weight, standing):
    """margin of the clean image d * weight, and an attack takes at most eps * ||w||_1 = d * eps from it."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    layer = model[1]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([torch.ones(9), torch.zeros(9)]))
        layer.bias.copy_(torch.tensor([9 * (weight - 0.5), 0.0]))
    x, y = torch.full((5, 1, 3, 3), 0.5), torch.zeros(5, dtype=torch.long)
    event = finished(model, x, y, eps=0.1)
    assert event.result["worst"]["correct"] == standing
    table = event.state.table
    np.testing.assert_allclose(table.margin, 9 * (weight - 0.1), atol=1e-5)
    np.testing.assert_allclose(table.gradient_l1, 9.0, atol=1e-5)
    np.testing.assert_allclose(table.fosc, 0.0, atol=1e-5)
    assert told(event)["pgd-50x10-ce"]["attacked"] == standing
    assert told(event)["pgd-20"]["median_relative_fosc"] == pytest.approx(0.0, abs=1e-5)


def test_the_l2_ladder_stays_in_its_ball():
    x, y = digits(20)
    *_, event = islice(ladder(shipped(), x, y, eps=0.5, norm="l2"), 7)
    table = event.state.table
    assert Ball(x, 0.5, "l2").contains(torch.from_numpy(event.state.points)).all()
    assert 0 < (table.broken_by == "").sum() < (table["correct/noise"] == 1).sum()


def test_the_models_mode_and_gradients_are_as_found():
    model, (x, y) = shipped("demo-digits-dynamic"), digits(8)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in islice(ladder(model, x, y, eps=EPS), 9):
        assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    model.eval()


@pytest.mark.parametrize("bad", [{"eps": 0}, {"eps": float("nan")}, {"norm": "l1"}, {"batch": 0}])
def test_impossible_requests_are_refused(bad):
    with pytest.raises(ValueError):
        next(ladder(shipped(), *digits(5), **({"eps": EPS} | bad)))
    x, y = digits(5)
    for images, labels in [(x[:0], y[:0]), (x, y[:3]), (x + 1, y)]:
        with pytest.raises(ValueError):
            next(ladder(shipped(), images, labels, eps=EPS))
