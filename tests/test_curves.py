"""The curves: brute force and closed forms agree, what must fall falls, and each sentence says what was counted."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynat_core.attack.threat import Ball
from dynat_core.check.curves import RESTARTS, CurvesEvent, curves, radii
from dynat_core.check.curves_result import OVER, SHORT, STEPS, Findings, plateau
from dynat_core.training.evaluate import generator_for
from tests.shipped import EPS, digits, shipped

torch.set_num_threads(1)
N = 60


def last(model: nn.Module, x: Tensor, y: Tensor, **settings) -> CurvesEvent:
    *_, event = curves(model, x, y, **({"eps": EPS} | settings))
    return event


@cache
def shown() -> CurvesEvent:
    """The curves of a shipped network on N digits, in batches that do not divide them."""
    return last(shipped(), *digits(N), batch=37)


def start(x: Tensor, eps: float, restart: int, seed: int = 0) -> Tensor:
    return Ball(x, eps).random_point(generator_for(x.device, seed, "curves", restart))


def plain_pgd(model: nn.Module, x: Tensor, y: Tensor, z: Tensor, eps: float, alpha: float, steps: int, loss: str):
    """PGD as a plain loop. Yields after every step the margins (n,), the start's first."""
    for step in range(steps + 1):
        z = z.detach().requires_grad_()
        logits = model(z)
        true = logits.gather(1, y[:, None])[:, 0]
        margins = true - logits.masked_fill(F.one_hot(y, logits.shape[1]).bool(), -1e9).amax(1)
        yield margins.detach()
        if step < steps:
            objective = F.cross_entropy(logits, y, reduction="sum") if loss == "ce" else -margins.sum()
            (g,) = torch.autograd.grad(objective, z)
            z = z.detach() + alpha * g.sign()
            z = torch.minimum(torch.maximum(z, x - eps), x + eps).clamp(0, 1)


def right_ones() -> tuple[Tensor, Tensor, np.ndarray]:
    x, y = digits(N)
    right = shipped()(x).argmax(1) == y
    return x[right], y[right], right.numpy()


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_accuracy_against_steps_is_that_of_a_plain_loop(loss):
    x, y, _ = right_ones()
    margins = torch.stack(list(plain_pgd(shipped(), x, y, start(x, EPS, 0), EPS, EPS / 4, 200, loss)))
    told = shown().result["steps"]
    assert told["k"] == list(STEPS)
    for place, k in enumerate(STEPS):
        assert abs(told[loss]["at"]["correct"][place] - int((margins[k] > 0).sum())) <= (k > 20)
        assert abs(told[loss]["by"]["correct"][place] - int((margins[: k + 1] > 0).all(0).sum())) <= (k > 20)
    paths = shown().arrays[f"margin_path_{loss}"][:, shown().arrays["clean_correct"]]
    np.testing.assert_allclose(paths[:5], margins[list(STEPS[:5])], atol=1e-3)
    wrong = (margins <= 0).numpy()
    first = np.where(wrong.any(0), wrong.argmax(0), -1)
    found = shown().arrays[f"steps_to_fool_{loss}"][shown().arrays["clean_correct"]]
    assert (found == first).mean() > 0.95


def test_accuracy_against_restarts_is_that_of_plain_loops():
    x, y, right = right_ones()
    ends = []
    for restart in range(RESTARTS):
        *_, margins = plain_pgd(shipped(), x, y, start(x, EPS, restart), EPS, EPS / 4, SHORT, "ce")
        ends.append(margins.numpy())
    told = shown().result["restarts"]
    for place in (0, 1, 4, 9):
        standing = (np.stack(ends[: place + 1]) > 0).all(0)
        assert abs(told["correct"][place] - standing.sum()) <= 1
    gap = shown().arrays["restart_gap"]
    assert np.isnan(gap[~right]).all()
    assert np.median(np.abs(gap[right] - np.ptp(np.stack(ends), axis=0))) < 1e-3 < np.median(gap[right])


def test_step_sizes_and_radii_are_those_of_plain_loops():
    x, y, right = right_ones()
    sizes = shown().result["step_sizes"]
    assert sizes["alpha"] == ["eps", "eps/2", "eps/4", "eps/8", "eps/16", "eps/32"]
    for place in (0, 2, 5):
        alpha = EPS / OVER[place]
        assert sizes["pixels"][place] == pytest.approx(alpha)
        *_, margins = plain_pgd(shipped(), x, y, start(x, EPS, 0), EPS, alpha, SHORT, "ce")
        assert abs(sizes["correct"][place] - int((margins > 0).sum())) <= 1
    found = shown().result["radii"]
    assert found["eps"] == pytest.approx([0, EPS / 4, EPS / 2, EPS, 2 * EPS, 0.5])
    assert found["correct"][0] == right.sum() and found["correct"][3] == sizes["correct"][2]
    for place in (1, 4):
        eps = found["eps"][place]
        *_, margins = plain_pgd(shipped(), x, y, start(x, eps, 0), eps, eps / 4, SHORT, "ce")
        assert abs(found["correct"][place] - int((margins > 0).sum())) <= 1


def test_what_must_fall_falls_and_equal_attacks_are_equal():
    result = shown().result
    for loss in ("ce", "margin"):
        by, at = result["steps"][loss]["by"]["correct"], result["steps"][loss]["at"]["correct"]
        assert by == sorted(by, reverse=True) and all(b <= a for b, a in zip(by, at, strict=True))
    assert result["restarts"]["correct"] == sorted(result["restarts"]["correct"], reverse=True)
    once = result["steps"]["ce"]["at"]["correct"][STEPS.index(SHORT)]
    assert once == result["restarts"]["correct"][0] == result["step_sizes"]["correct"][2]
    losses = result["losses"]
    assert losses["both"] + losses["only_ce"] + losses["only_margin"] + losses["none"] == result["right"]
    assert losses["only_ce"] + losses["none"] == result["steps"]["margin"]["at"]["correct"][STEPS.index(SHORT)]
    arrays = shown().arrays
    assert (arrays["fooled_ce"] & arrays["fooled_margin"]).sum() == losses["both"]
    assert (arrays["restart_to_fool"] >= 0).sum() == result["right"] - result["restarts"]["correct"][-1]
    assert result["fosc"]["fooled"]["n"] == arrays["fooled_margin"].sum()


def test_the_result_is_json_and_every_array_has_a_place_for_every_image():
    event = shown()
    assert json.loads(json.dumps(event.result, allow_nan=False)) == event.result
    for name, values in event.arrays.items():
        assert values.shape == ((len(STEPS), N) if name.startswith("margin_path") else (N,)), name
    wrong = ~event.arrays["clean_correct"]
    for name in ("relative_fosc", "gradient_l1", "restart_gap"):
        assert (np.isnan(event.arrays[name]) == wrong).all()


class Line(nn.Module):
    """Two classes and a straight boundary: the margin is w . (x - 1/2) + b for the first."""

    def __init__(self, w: Tensor, b: float) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(w), b

    def forward(self, x: Tensor) -> Tensor:
        score = ((x - 0.5).flatten(1) @ self.w + self.b) / 2
        return torch.stack([score, -score], dim=1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_model_has_the_curves_of_its_closed_form(norm):
    randomness = torch.Generator().manual_seed(2)
    w = torch.randn(9, generator=randomness)
    x = 0.35 + 0.3 * torch.rand(40, 1, 3, 3, generator=randomness)  # far from 0 and 1 at the small radii
    model = Line(w, 0.0)
    y = model(x).argmax(1)
    score = ((x - 0.5).flatten(1) @ w).abs().numpy()
    eps = 0.02 if norm == "linf" else 0.05
    dual = float(w.abs().sum() if norm == "linf" else w.norm())
    event = last(model, x, y, eps=eps, norm=norm)
    result = event.result
    stands = int((score > eps * dual).sum())
    assert 0 < stands < 40
    for loss in ("ce", "margin"):  # a pixel needs at most 8 steps of eps/4 across the set
        settled = STEPS.index(10)
        assert set(result["steps"][loss]["at"]["correct"][settled:]) == {stands}
        assert "stayed the same" in result["steps"][loss]["sentence"]
    assert set(result["restarts"]["correct"]) == {stands}
    inner = result["radii"]["eps"][:4]
    assert result["radii"]["correct"][:4] == [int((score > e * dual).sum()) for e in inner]
    assert result["radii"]["reaches_zero"] and "reaches 0 of 40 images" in result["radii"]["sentence"]
    assert result["losses"]["only_ce"] == result["losses"]["only_margin"] == 0
    np.testing.assert_allclose(event.arrays["restart_gap"], 0, atol=1e-4 if norm == "linf" else 1e-2)
    np.testing.assert_allclose(event.arrays["relative_fosc"], 0, atol=1e-4 if norm == "linf" else 1e-2)
    np.testing.assert_allclose(event.arrays["gradient_l1"], float(w.abs().sum()), rtol=1e-4)
    if norm == "linf":  # the first points too: each pixel walks from its start to its face
        sign = (1 - 2 * y)[:, None].float()
        way = (-sign * w.sign()).view(x.shape)
        walked = ((start(x, eps, 0) - x) * way)[..., None] + torch.arange(0, 11) * eps / 4
        delta = (way[..., None] * walked.clamp(max=eps)).flatten(1, 3)
        true = torch.tensor(score)[:, None] + sign * torch.einsum("k,nkt->nt", w, delta)
        for k in (1, 2, 3, 5, 7, 10):
            np.testing.assert_allclose(event.arrays["margin_path_ce"][STEPS.index(k)], true[:, k], atol=1e-4)


class Small(nn.Module):
    """A quick network with a bend, with room for `room` images at once."""

    def __init__(self, room: int = 1000) -> None:
        super().__init__()
        self.room, randomness = room, torch.Generator().manual_seed(1)
        self.inside, self.out = (torch.randn(64, k, generator=randomness) / 8 for k in (64, 10))

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.tanh((x - 0.5).flatten(1) @ self.inside) @ self.out


def labelled(n: int) -> tuple[Tensor, Tensor]:
    """Digits with the labels that the small network gives them."""
    x, _ = digits(n)
    return x, Small()(x).argmax(1)


def test_the_share_rises_to_one_and_parts_are_told_when_they_are_known():
    events = list(curves(Small(), *labelled(6), eps=EPS, batch=4))
    share = [event.share for event in events]
    assert share == sorted(share) and share[0] == 0 and share[-1] == 1
    sizes = [len(event.so_far) for event in events]
    assert sizes == sorted(sizes) and {"n", "right"} <= set(events[0].so_far) and "steps" not in events[0].so_far
    assert all(event.result is None and not event.arrays for event in events[:-1])
    assert any("steps" in event.so_far and "restarts" not in event.so_far for event in events)


def test_memory_that_runs_out_halves_the_batch_and_changes_no_number():
    x, y = labelled(14)
    events = list(curves(Small(8), x, y, eps=EPS, batch=9))
    assert [event.note for event in events if event.note] == []  # seen while nothing was attacked yet
    roomy = last(Small(), x, y, batch=4)
    assert events[-1].result == roomy.result
    for name, values in events[-1].arrays.items():
        np.testing.assert_array_equal(values, roomy.arrays[name])


def test_images_that_are_all_wrong_without_an_attack_are_no_special_case():
    x, _ = digits(5)
    event = last(shipped(), x, (shipped()(x).argmax(1) + 1) % 10)
    assert event.result["right"] == 0 and event.result["restarts"]["correct"] == [0] * RESTARTS
    assert np.isnan(event.arrays["relative_fosc"]).all() and "undefined" in event.result["fosc"]["sentence"]


def test_the_same_seed_gives_the_same_numbers_and_another_does_not():
    x, y = labelled(12)
    first, again, other = (last(Small(), x, y, seed=seed) for seed in (4, 4, 5))
    assert first.result == again.result
    for name, values in first.arrays.items():
        np.testing.assert_array_equal(values, again.arrays[name])
    assert not np.array_equal(first.arrays["margin_path_ce"], other.arrays["margin_path_ce"])


@pytest.mark.parametrize("counts, words", [
    ([90, 70, 60, 50], "fell by 10 of 100 images: it has not settled, more steps would find more."),
    ([90, 70, 60, 58], "fell by 2 of 100 images"),
    ([90, 70, 60, 59], "fell by one of 100 images: no sign that more steps would find more."),
    ([90, 70, 60, 60], "stayed the same on 100 images"),
])  # fmt: skip
def test_the_plateau_is_judged_on_the_last_factor_of_two(counts, words):
    sentence = plateau([10, 50, 100, 200], counts, 100, "steps", "steps")
    assert sentence.startswith("From 100 to 200 steps accuracy") and words in sentence


@pytest.mark.parametrize("counts, standing, reaches, words", [
    ([9, 7, 3, 0], 0, True, ["reaches 0 of 10 images at eps 0.5, as it must"]),
    ([9, 0, 0, 0], 0, True, ["reaches 0 of 10 images at eps 0.1"]),
    ([9, 7, 3, 3], 2, False, ["3 of 10 images are still right at eps 0.5, 2 of them although", "gradients are hidden"]),
    ([9, 7, 3, 3], 0, False, ["3 of 10 images are still right at eps 0.5; the 6 that this radius is sure to fool"]),
    ([9, 2, 6, 0], 0, True, ["From eps 0.1 to 0.2 accuracy rises by 4 images"]),
])  # fmt: skip
def test_the_largest_radius_fools_what_it_must_and_a_larger_one_leaves_no_more_than_a_smaller(
    counts, standing, reaches, words
):
    found = Findings(np.arange(10) < 9)
    found.tell_radii([0.0, 0.1, 0.2, 0.5], counts, 6, standing)
    told = found.known["radii"]
    assert told["reaches_zero"] is reaches and all(part in told["sentence"] for part in words)
    assert ("rises" in told["sentence"]) == (counts[2] > counts[1])


@pytest.mark.parametrize("counts, words", [
    ([60, 50, 50, 51, 60, 70], "no other step size leaves fewer"),
    ([60, 47, 50, 51, 60, 70], "steps of eps/2 leave 47, so the usual step size is not the best"),
])  # fmt: skip
def test_the_usual_step_size_is_compared_with_the_best(counts, words):
    found = Findings(np.ones(100, bool))
    found.tell_sizes(0.1, counts)
    assert words in found.known["step_sizes"]["sentence"]


def test_radii_double_up_to_where_nothing_can_be_left():
    assert radii(0.1, "linf") == pytest.approx([0, 0.025, 0.05, 0.1, 0.2, 0.4, 0.5])
    assert radii(0.5, "linf") == pytest.approx([0, 0.125, 0.25, 0.5])
    assert radii(3.0, "l2") == pytest.approx([0, 0.75, 1.5, 3, 6, 10])
    assert radii(0.7, "linf")[-1] == 0.7


@pytest.mark.parametrize("bad", [{"eps": 0}, {"eps": float("inf")}, {"norm": "l1"}, {"batch": 0}])
def test_impossible_requests_are_refused(bad):
    with pytest.raises(ValueError):
        next(curves(shipped(), *digits(5), **({"eps": EPS} | bad)))
