"""Adversarial SGD on the quadratic, its equation, its order and its learning rates, against independent references."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dynat_core.theory import small_network
from dynat_core.theory.adversarial_sgd import Quadratic
from dynat_core.theory.learning_rate import best, ruled, second_moment, settled
from dynat_core.theory.weak_order import fitted_order, measured_errors, weak_errors

MODELS = [Quadratic(0.05), Quadratic(0.1, 1, 2, 0.5, -1.0), Quadratic(0.2, 5, 1), Quadratic(0.02, 0, 8, 2.0)]


@pytest.mark.parametrize("q", MODELS)
def test_a_step_with_an_explicit_attack_multiplies_the_gradient_by_kappa(q):
    x = np.random.default_rng(0).normal(0, q.sigma, (q.batch, 3))  # the draw of the first step
    found = q.paths(1, 3, seed=0)
    np.testing.assert_allclose(found[1], q.factor * q.start + q.eta * q.kappa * x.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("q", MODELS)
def test_mean_and_variance_of_many_runs_are_the_closed_forms(q):
    runs, count = q.paths(25, 6000, seed=1), 6000
    for n in (1, 5, 25):
        spread = float(q.variance(np.float64(n))) ** 0.5
        assert abs(runs[n].mean() - q.mean(np.float64(n))) < 4 * spread / count**0.5
        assert runs[n].var() == pytest.approx(float(q.variance(np.float64(n))), rel=4 * (2 / count) ** 0.5)
    forever = q.eta * q.kappa * q.sigma**2 / (q.batch * (2 - q.eta * q.kappa))
    assert float(q.variance(np.float64(10_000))) == pytest.approx(forever)


@pytest.mark.parametrize("q", MODELS)
def test_the_equation_s_moments_solve_its_ordinary_equations(q):
    t, h = np.linspace(0.1, 4, 9), 1e-5
    slope = (q.equation_mean(t + h) - q.equation_mean(t - h)) / (2 * h)
    np.testing.assert_allclose(slope, -q.rate * q.equation_mean(t), rtol=1e-6)
    slope = (q.equation_variance(t + h) - q.equation_variance(t - h)) / (2 * h)
    noise = q.eta * q.sigma**2 / q.batch
    np.testing.assert_allclose(slope, noise - 2 * q.rate * q.equation_variance(t), atol=1e-8)
    assert float(q.equation_mean(np.float64(0))) == q.start and float(q.equation_variance(np.float64(0))) == 0


def test_the_mean_step_is_that_of_the_penalised_loss_up_to_the_third_order():
    """f + (K eta / 2) G with f = theta^2 / 2 and G = theta^2 + const has the gradient (1 + K eta) theta."""
    etas = np.array([0.02, 0.01, 0.005])
    left = [eta * Quadratic(eta, 3).kappa - eta * (1 + 3 * eta) for eta in etas]
    np.testing.assert_allclose(np.diff(np.log(left)) / np.diff(np.log(etas)), 3, atol=0.03)


@pytest.mark.parametrize("ascents", [0, 1, 3, 5])
def test_the_error_is_of_second_order_and_of_first_without_the_eta_terms(ascents):
    etas = (0.004, 0.002, 0.001)
    full, blind = weak_errors(lambda eta: Quadratic(eta, ascents), etas, 1.0)
    np.testing.assert_allclose(np.diff(np.log(full)) / -log(2), 2, atol=0.05)
    np.testing.assert_allclose(np.diff(np.log(blind)) / -log(2), 1, atol=0.05)
    full, _ = weak_errors(lambda eta: Quadratic(eta, ascents), etas, 1.0, "variance")
    np.testing.assert_allclose(np.diff(np.log(full)) / -log(2), 2, atol=0.05)


def test_the_relative_error_of_the_variance_is_29_percent_at_eta_05():
    q = Quadratic(0.05, 3)
    settled_steps = float(q.variance(np.float64(10_000)))
    assert settled_steps / float(q.equation_variance(np.float64(1e3))) - 1 == pytest.approx(0.40, abs=0.02)
    assert 1 - float(q.equation_variance(np.float64(1e3))) / settled_steps == pytest.approx(0.29, abs=0.01)


def test_a_time_that_is_no_whole_number_of_steps_is_refused():
    with pytest.raises(ValueError, match="not a whole number"):
        weak_errors(Quadratic, (0.3,), 1.0)


@pytest.mark.parametrize("moment", ["mean", "variance"])
def test_simulated_errors_agree_with_the_exact_ones(moment):
    etas = (0.1, 0.05, 0.025)
    errors, spread = measured_errors(Quadratic, etas, 1.0, moment, count=8000)
    exact, _ = weak_errors(Quadratic, etas, 1.0, moment)
    assert (np.abs(np.abs(errors) - exact) < 4 * spread).all()


def test_the_fitted_order_finds_a_power_and_its_interval_covers_it():
    etas = np.array([0.1, 0.05, 0.025, 0.0125])
    exact = -3 * etas**1.7
    sure = fitted_order(etas, exact, np.full(4, 1e-7))
    assert sure.slope == pytest.approx(1.7, abs=0.003) and sure.high - sure.low < 0.011
    draw, spread, hits = np.random.default_rng(2), np.full(4, 1e-3), 0
    for _ in range(300):
        order = fitted_order(etas, exact + draw.normal(0, spread), spread)
        hits += order.low <= 1.7 <= order.high
    assert 0.91 < hits / 300 < 0.985


def test_errors_that_drown_in_noise_have_no_order():
    errors, spread = measured_errors(lambda eta: Quadratic(eta, 0, 1), (0.1, 0.05, 0.025), 1.0, count=50)
    order = fitted_order((0.1, 0.05, 0.025), errors, spread)
    assert np.isinf([order.low, order.high]).any()


# -------------------------------------------------------------------------------------------------- learning rates


def test_rule_best_and_fixed_end_where_they_should():
    q, steps = Quadratic(0.05, 3, 4, 1.0, 2.0), 120
    ends = [second_moment(q, u)[-1] for u in (ruled(q, steps), best(q, steps), np.ones(steps))]
    assert [round(float(m), 5) for m in ends] == [0.00298, 0.00297, 0.00745]


def test_the_second_moment_is_that_of_many_runs():
    q, steps = Quadratic(0.1, 2, 2), 40
    u = ruled(q, steps)
    square = np.square(q.paths(steps, 8000, seed=3, schedule=u))
    exact = second_moment(q, u)
    assert (np.abs(square.mean(axis=1) - exact)[1:] < 4.5 * (square.std(axis=1) / 8000**0.5)[1:]).all()


@pytest.mark.parametrize("q", MODELS)
def test_no_other_schedule_ends_below_the_best(q):
    steps, draw = 30, np.random.default_rng(4)
    u = best(q, steps)
    lowest = second_moment(q, u)[-1]
    assert (u > 0).all() and (u <= 1).all()
    others = [np.clip(u + draw.normal(0, s, steps), 0, 1) for s in (0.01, 0.1, 0.5) for _ in range(20)]
    others += [np.full(steps, v) for v in (0.1, 0.5, 1.0)] + [ruled(q, steps)]
    assert min(second_moment(q, other)[-1] for other in others) >= lowest - 1e-15


@pytest.mark.parametrize("q", MODELS)
def test_the_rule_minimises_the_continuous_problem_at_every_time(q):
    """dM/dt is smallest over u in [0, 1] at u = min(1, M / (2 M_inf)): the rule in closed loop, integrated finely."""
    steps, fine = round(6 / q.eta), 200
    m, found, h = q.start**2, [], q.eta / fine
    for k in range(steps * fine):
        u = min(1.0, m / (2 * settled(q)))
        if k % fine == 0:
            found.append(u)
        m += h * (-2 * u * q.kappa * m + u**2 * q.kappa * 2 * settled(q))
    np.testing.assert_allclose(ruled(q, steps), found, atol=0.01)


def test_a_stronger_attack_lets_the_rate_fall_earlier():
    first = [int(np.argmax(ruled(Quadratic(0.02, k), 600) < 1)) for k in (0, 1, 3, 5)]
    assert first == sorted(first, reverse=True) and first[0] > first[-1] > 0
    q = Quadratic(0.02, 0)
    assert q.kappa == 1 and abs(first[0] * q.eta - log(q.start**2 / settled(q) - 1) / 2) < 2 * q.eta


# ------------------------------------------------------------------------------------------------- the small network


def test_the_shipped_digits_are_the_first_threes_and_eights_of_scikit_learn():
    digits = load_digits()
    at = np.sort(np.concatenate([np.flatnonzero(digits.target == k)[:60] for k in (3, 8)]))
    net = small_network.two_digits()
    np.testing.assert_array_equal(net.x, digits.data[at] / 16)
    np.testing.assert_array_equal(net.y, np.where(digits.target[at] == 8, 1, -1))


def test_the_small_network_s_gradients_and_drift_are_differences_of_losses():
    net = small_network.two_digits()
    theta, eta, ascents, h = net.start(), 0.1, 3, 1e-5

    def penalised(w):
        slope, g = net.gradients(w, net.x)
        return net.loss(w) + eta / 2 * ascents * np.square(g).sum(1).mean() + eta / 4 * slope @ slope

    one = small_network.Network(net.x[:1], net.y[:1])
    for k in (0, 100, 515, 525, 528):
        e = np.eye(len(theta))[k] * h
        slope = (net.loss(theta + e) - net.loss(theta - e)) / (2 * h)
        assert net.gradients(theta, net.x)[0][k] == pytest.approx(slope, abs=1e-8)
        turn = (penalised(theta + e) - penalised(theta - e)) / (2 * h)
        assert -small_network.drift(net, theta, eta, ascents)[k] == pytest.approx(turn, abs=1e-7)
    for k in (0, 20, 63):
        e = np.eye(64)[k] * h
        ends = [small_network.Network(one.x + way, one.y).loss(theta) for way in (e, -e)]
        assert one.gradients(theta, one.x)[1][0, k] == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-8)


def test_on_the_small_network_the_equation_is_of_second_order_the_blind_one_of_first_and_pgd_is_outside_it():
    found = small_network.changes(3, (0.1, 0.05, 0.025))
    orders = {name: np.polyfit(np.log(found.etas), np.log(off), 1)[0] for name, off in found.errors().items()}
    assert 1.8 < orders["full"] < 2.2 and 0.9 < orders["blind"] < 1.5 and abs(orders["pgd"]) < 0.2
    assert (found.errors()["pgd"] > 0.2).all() and (found.measured < 0).all()
    attacked = small_network.signed(9)(net := small_network.two_digits(), net.start())
    assert np.abs(attacked - net.x).max() <= 0.15 + 1e-12 and attacked.min() >= 0 and attacked.max() <= 1
