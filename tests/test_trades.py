"""TRADES: the divergence it climbs and weighs, the faults of released code it does without, and a whole run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynat_core.attack.attacks import cross_entropy, value_and_grad
from dynat_core.attack.fosc import fosc
from dynat_core.attack.threat import Ball
from dynat_core.config import Trades, Unsecured
from dynat_core.recorded.histograms import count
from dynat_core.training import strategies
from dynat_core.training.strategy import Moment
from dynat_core.training.trades import NOISE, divergence, divergence_from
from tests.networks import images, network
from tests.test_trainer import epochs, small

EPS, N = 0.3, 20
torch.set_num_threads(1)


def moment(model: nn.Module, measured: bool | list[bool] = True, seed: int = 0, norm: str = "linf") -> Moment:
    mask = torch.tensor(measured) if isinstance(measured, list) else torch.full((N,), measured)
    return Moment(0, model, lambda x: Ball(x, EPS, norm), torch.Generator().manual_seed(seed), mask)  # type: ignore


def loss_and_attack(settings, measured: bool | list[bool] = True, **how):
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=N)
    loss, attacked = strategies.build(settings, EPS).loss(model, x, y, moment(model, measured, **how))
    return model, x, y, loss, attacked


def trained(settings, steps: int = 3) -> list[Tensor]:
    """The weights after a few steps of gradient descent in train mode."""
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=N)
    strategy = strategies.build(settings, EPS)
    descent = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        frozen = network("digits-cnn")
        frozen.load_state_dict(model.state_dict())
        model.train()
        descent.zero_grad()
        strategy.loss(model, x, y, moment(frozen))[0].backward()
        descent.step()
    return list(model.state_dict().values())


# ----------------------------------------------------------------------------------------------------- the divergence


def logits(seed: int, n: int = 7) -> Tensor:
    return 3 * torch.randn(n, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_sum_over_classes_of_p_times_the_log_ratio():
    a, b = logits(0), logits(1)
    for k in range(len(a)):
        p, q = (torch.tensor([math.exp(v) for v in row.tolist()]) for row in (a[k], b[k]))
        p, q = p / p.sum(), q / q.sum()
        expected = sum(float(p[c]) * (math.log(float(p[c])) - math.log(float(q[c]))) for c in range(10))
        assert float(divergence(a, b)[k]) == pytest.approx(expected, rel=1e-6)
        assert float(divergence_from(a)(b, torch.zeros(7))[k]) == pytest.approx(expected, rel=1e-6)
    assert (divergence(a, b) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_the_clean_image_value_gradient_and_fosc_are_exactly_zero(dtype):
    model, (x, y) = network("digits-cnn", dtype), images("digits-cnn", n=N, dtype=dtype)
    with torch.no_grad():
        climbed = divergence_from(model(x))
    _, value, grad = value_and_grad(model, climbed, x, y)
    assert bool((value == 0).all()) and bool((grad == 0).all())
    assert bool((fosc(Ball(x, EPS), x, grad) == 0).all())


def test_near_x_it_is_the_quadratic_form_of_the_predictions_covariance():
    model, (x, _) = network("digits-cnn"), images("digits-cnn", n=4)
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    with torch.no_grad():
        clean = model(x)
        for k in range(len(x)):
            jacobian = torch.autograd.functional.jacobian(lambda v: model(v[None])[0], x[k])
            jacobian = jacobian.flatten(1)  # type: ignore[union-attr]
            p = clean[k].softmax(0)
            moved = jacobian @ way[k].flatten()
            expected = moved @ (torch.diag(p) - torch.outer(p, p)) @ moved / 2
            for size, close in ((1e-3, 0.05), (1e-4, 0.005)):
                got = divergence(clean[k : k + 1], model(x[k : k + 1] + size * way[k]))[0] / size**2
                assert float(got) == pytest.approx(float(expected), rel=close)


# --------------------------------------------------------------------------------------------------------- the attack


def test_it_climbs_the_divergence_inside_ball_and_box_from_close_by():
    for norm in ("linf", "l2"):
        model, x, _, _, attacked = loss_and_attack(Trades(), norm=norm)
        assert bool(Ball(x, EPS, norm).contains(attacked.z).all())  # type: ignore[arg-type]
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        with torch.no_grad():
            start, end = (divergence(model(x), model(z)) for z in (x + NOISE * noise, attacked.z))
        assert (end > start).all() and float(end.median()) > 100 * float(start.median())


def test_its_first_step_is_the_papers():
    model, x, _, _, attacked = loss_and_attack(Trades(steps=1))
    start = x + NOISE * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    z = start.clone().requires_grad_(True)
    reference = F.kl_div(model(z).log_softmax(1), model(x).softmax(1), reduction="sum")
    (grad,) = torch.autograd.grad(reference, z)
    expected = torch.maximum(torch.minimum(start + EPS / 4 * grad.sign(), x + EPS), x - EPS).clamp(0, 1)
    torch.testing.assert_close(attacked.z, expected, rtol=0, atol=1e-12)


def test_labels_change_nothing_in_it():
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=N)
    a, b = (strategies.build(Trades(), EPS).attack(x, labels, moment(model)) for labels in (y, (y + 3) % 10))
    assert torch.equal(a.z, b.z) and torch.equal(a.more["kl_fosc"], b.more["kl_fosc"])
    assert not torch.equal(a.loss, b.loss)


def test_it_runs_in_eval_mode_samples_apart_and_every_mode_is_restored():
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=N)
    model.train()
    model[1].eval()
    flags, before = [m.training for m in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}
    whole = strategies.build(Trades(steps=3), EPS).attack(x, y, moment(model))
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())  # no running average moved
    model.eval()
    assert torch.equal(strategies.build(Trades(steps=3), EPS).attack(x, y, moment(model)).z, whole.z)
    few = strategies.build(Trades(steps=3), EPS).attack(x[:5], y[:5], moment(model, [True] * 5))
    torch.testing.assert_close(few.z, whole.z[:5], rtol=0, atol=1e-12)


def test_the_recorded_end_is_cross_entropys_with_its_own_fosc_beside_that_of_the_divergence():
    mask = [k % 3 == 0 for k in range(N)]
    model, x, y, _, attacked = loss_and_attack(Trades(), mask)
    who = torch.tensor(mask)
    values, value, grad = value_and_grad(model, cross_entropy, attacked.z, y)
    torch.testing.assert_close(attacked.loss[who], value[who])
    torch.testing.assert_close(attacked.grad[who], grad[who])
    torch.testing.assert_close(attacked.logits[who], values[who])
    with torch.no_grad():
        climbed = divergence_from(model(x))
    slope = value_and_grad(model, climbed, attacked.z, y)[2]
    torch.testing.assert_close(attacked.more["kl_fosc"][who], fosc(Ball(x, EPS), attacked.z, slope)[who])
    assert attacked.loss[~who].isnan().all() and attacked.more["kl_fosc"][~who].isnan().all()
    assert attacked.gradients.tolist() == [12 if m else 10 for m in mask]  # one for each of the two losses
    unmeasured = loss_and_attack(Trades(), False)[4]
    assert torch.equal(unmeasured.z, attacked.z) and unmeasured.gradients.tolist() == [10] * N


# ------------------------------------------------------------------------------------------------------ the outer loss


@pytest.mark.parametrize("beta", [0.5, 6.0])
def test_the_loss_sums_over_classes_and_averages_over_the_batch(beta):
    model, x, y, loss, attacked = loss_and_attack(Trades(beta=beta))
    clean, near = model(x), model(attacked.z)
    robust = F.kl_div(near.log_softmax(1), clean.softmax(1), reduction="batchmean")
    torch.testing.assert_close(loss, F.cross_entropy(clean, y) + beta * robust)
    wrong = F.kl_div(near.log_softmax(1), clean.softmax(1), reduction="none").mean()  # over the classes too
    torch.testing.assert_close(robust, 10 * wrong)
    fixed = F.kl_div(near.log_softmax(1), clean.softmax(1), reduction="sum") / 128  # the first release's
    torch.testing.assert_close(fixed, robust * N / 128)


def test_gradients_flow_through_the_clean_prediction_too():
    model, x, y, loss, attacked = loss_and_attack(Trades(beta=6))
    mine = torch.autograd.grad(loss, model[0].weight)[0]
    clean = model(x)
    held = F.cross_entropy(clean, y) + 6 * divergence(clean.detach(), model(attacked.z)).mean()
    assert not torch.allclose(mine, torch.autograd.grad(held, model[0].weight)[0])


def test_without_beta_it_is_clean_training_bit_for_bit():
    for a, b in zip(trained(Trades(beta=0)), trained(Unsecured()), strict=True):
        assert torch.equal(a, b)
    assert any(not torch.equal(a, b) for a, b in zip(trained(Trades(beta=6)), trained(Unsecured()), strict=True))


@pytest.mark.parametrize("form, passes", [("paper", 2), ("code", 3)])
def test_batchnorm_sees_the_clean_images_once_and_as_in_the_code_twice(form, passes):
    model, (x, y) = network("digits-cnn"), images("digits-cnn", n=N)
    frozen = network("digits-cnn")
    model.train()
    before = int(model[1].num_batches_tracked)
    strategies.build(Trades(as_published=form), EPS).loss(model, x, y, moment(frozen))
    assert int(model[1].num_batches_tracked) - before == passes
    assert all(m.training for m in model.modules())


# --------------------------------------------------------------------------------------------------------- a whole run


def test_a_run_records_both_foscs_and_counts_its_gradients():
    config = small(**{"strategy.name": "trades", "recording.train_rows": None, "recording.final_gradients": 40})
    done = epochs(config)
    assert [e.record["gradients/train_total"] for e in done] == [0, 300 * 4 + 80, 2 * (300 * 4 + 80)]
    for e in done[1:]:
        rows = e.tables[e.tables.split == "train"]
        kl = rows["kl_fosc"].to_numpy(dtype="float64")
        assert np.isfinite(kl).sum() == np.isfinite(rows["fosc"]).sum() == 40
        assert e.histograms["train/kl_fosc"] == count("kl_fosc", kl).tolist()
        assert e.record["train/kl_fosc_p50"] == pytest.approx(float(np.nanmedian(kl)), rel=1e-6)
        assert e.record["train/fosc_p50"] != e.record["train/kl_fosc_p50"]
        assert "test/kl_fosc" not in e.histograms and e.record["c_t"] is None
    assert "train/kl_fosc_p50" not in epochs(small(epochs=1, **{"strategy.T_control": 1}))[-1].record


def test_it_learns_digits():
    config = small(epochs=6, **{"strategy.name": "trades", "strategy.beta": 2, "data.train_size": None})
    record = epochs(config)[-1].record
    assert record["test/clean_accuracy"] > 0.85 and record["test/robust_accuracy"] > 0.3
