"""Comparing networks: intervals and tests against other libraries, what may not be compared, seeds told apart."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dynat_core import comparison
from dynat_core.comparison import Compared
from dynat_core.config import RunConfig
from dynat_core.theory.seeds import told_apart
from dynat_core.views import compare, paper_words

COUNTS = st.integers(0, 60)


def network(name: str = "a", n: int = 40, seed: int = 0, first: int = 0, **settings) -> Compared:
    """A made-up network on test images first .. first + n - 1, in shuffled order."""
    rng = np.random.default_rng([seed, n])
    index = rng.permutation(np.arange(first, first + n))
    clean = rng.random(n) < 0.9
    config = RunConfig().with_values(settings)
    return Compared(name, name, config, 3, "best", index, index % 10, clean, clean & (rng.random(n) < 0.7))


# --------------------------------------------------------------------------------------------------------- statistics


@given(COUNTS, COUNTS)
def test_mcnemar_is_the_two_sided_binomial_test_of_the_discordant_images(only_a, only_b):
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert comparison.mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_very_many_images_neither_overflows_nor_vanishes():
    assert comparison.mcnemar(4900, 5100) == pytest.approx(stats.binomtest(4900, 10_000).pvalue, rel=1e-6)
    assert 0 < comparison.mcnemar(100, 900) < 1e-100


def test_the_interval_is_the_published_one_of_an_example():
    """Fagerland, Lydersen and Laake 2014, airway test before and after: 1, 1, 7, 12 of 21; Newcombe -.507 to -.026."""
    low, high = comparison.newcombe(1, 7, 1, 12)
    assert (round(low, 3), round(high, 3)) == (-0.507, -0.026)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_the_interval_holds_the_difference_and_turns_with_the_sides(both, only_a, only_b, neither):
    n = both + only_a + only_b + neither
    if not n:
        assert np.isnan(comparison.newcombe(0, 0, 0, 0)).all()
        return
    low, high = comparison.newcombe(both, only_a, only_b, neither)
    assert -1 <= low <= (only_b - only_a) / n + 1e-12 and (only_b - only_a) / n - 1e-12 <= high <= 1
    assert comparison.newcombe(both, only_b, only_a, neither) == pytest.approx((-high, -low))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    shares = np.array([0.72, 0.06, 0.09, 0.13])
    drawn = np.random.default_rng(5).multinomial(200, shares, 2000)
    covered = [low <= 0.03 <= high for low, high in (comparison.newcombe(*map(int, row)) for row in drawn)]
    assert 0.935 < np.mean(covered) < 0.97


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50))
def test_paired_counts_are_a_plain_recount(pairs):
    a, b = np.array(pairs).T
    found = comparison.paired(a, b)
    assert (found.a, found.b, found.n) == (a.sum(), b.sum(), len(pairs))
    assert found.delta == pytest.approx(b.mean() - a.mean())
    assert (found.only_a, found.only_b) == (sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs))


def test_accuracies_of_different_images_are_not_paired():
    with pytest.raises(ValueError, match="same images"):
        comparison.paired(np.ones(3, bool), np.ones(4, bool))


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 12, 29, 100])
def test_the_t_quantile_is_student_s(freedom):
    assert comparison.t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-8)


def test_the_spread_over_seeds_is_mean_and_t_interval():
    values = [0.81, 0.79, 0.84, 0.80]
    found = comparison.spread(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.n, found.mean, found.least, found.most) == (4, pytest.approx(0.81), 0.79, 0.84)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_one_seed_has_no_spread():
    found = comparison.spread([0.8])
    assert found.n == 1 and np.isnan([found.sd, found.low, found.high]).all()
    assert comparison.between([0.8], [0.7, 0.6]) is None


def test_seeds_that_end_exactly_alike_are_no_certainty():
    assert comparison.between([0.78, 0.78], [0.782, 0.782]) is None
    assert told_apart(comparison.spread([0.002, 0.002])) == "not told apart"
    assert told_apart(comparison.spread([0.05, 0.06, 0.05])) == "higher"
    assert not paper_words.told_apart([[390, 500], [390, 500]], [[391, 500], [391, 500]])


def test_groups_of_seeds_are_compared_by_welch():
    a, b = [0.80, 0.78, 0.81, 0.79], [0.83, 0.80, 0.86, 0.82]
    found = comparison.between(a, b)
    assert found is not None
    delta, low, high = found
    reference = stats.ttest_ind(b, a, equal_var=False).confidence_interval()
    assert delta == pytest.approx(np.mean(b) - np.mean(a))
    assert low <= reference.low and reference.high <= high  # degrees of freedom are rounded down
    assert high - low < 1.1 * (reference.high - reference.low)


def test_groups_of_one_strategy_are_named_by_what_tells_them_apart():
    networks = [
        network(f"{c_max}-{seed}", seed=seed, **{"strategy.name": "dynamic", "strategy.c_max": c_max})
        for c_max in (0.1, 0.5)
        for seed in (0, 1)
    ]
    networks = [replace(one, config=one.config.with_values({"seed": k % 2})) for k, one in enumerate(networks)]
    assert [group.title for group in compare.groups(networks)] == ["Dynamic, c_max 0.1", "Dynamic, c_max 0.5"]
    (said,) = compare.between_groups(networks)
    assert said.startswith("Dynamic, c_max 0.5 − Dynamic, c_max 0.1, means of 2 and 2 training seeds")
    assert all(-100 <= float(end.replace("−", "-")) <= 100 for end in re.findall(r"[+−]\d+\.\d", said))


def test_rows_of_a_picture_keep_the_end_of_long_names_where_they_differ():
    names = [f"Dynamic, digits, eps .15, seed {seed}" for seed in range(4)]
    drawn = compare.accuracies([network(name, seed=k) for k, name in enumerate(names)])
    ticks = drawn.fig["layout"]["yaxis"]["ticktext"]
    assert len(set(ticks)) == 4 and all(text.endswith(name[-6:]) for text, name in zip(ticks, names, strict=True))


# --------------------------------------------------------------------------------------------------------- comparable


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"threat.eps": "8/255"}, "eps is 0.15 (38.25/255) and 8/255 (0.03137)."),
        ({"threat.norm": "l2"}, "the norm of the attack is L-inf and L2"),
        ({"recording.steps": 50}, "the attack takes 20 and 50 steps"),
        ({"recording.alpha": "eps/8"}, "its step size is 0.0375 (9.562/255) and 0.01875 (4.781/255)"),
        ({"data.name": "mnist", "model.name": "mnist-cnn"}, "the test images are those of digits and of mnist"),
    ],
)
def test_another_attack_is_refused_in_one_sentence_that_names_it(changes, says):
    said = comparison.refusal([network("a"), network("b", **changes)])
    assert said is not None and said.startswith("a and b are not compared: ") and says in said


def test_a_radius_that_only_looks_the_same_is_said_to_be_another():
    said = comparison.refusal([network("a", **{"threat.eps": "8/255"}), network("b", **{"threat.eps": 0.031})])
    assert said is not None
    assert "8/255 (0.03137) and 0.031 (7.905/255), which is close and still another threat" in said


def test_the_same_radius_written_in_two_ways_is_the_same():
    a, b = network("a", **{"threat.eps": "8/255"}), network("b", **{"threat.eps": 8 / 255})
    assert comparison.refusal([a, b]) is None


def test_fewer_images_are_compared_on_those_that_both_have_and_that_is_said():
    a, b = network("a", 40), network("b", 25, first=10)
    shared = comparison.common([a, b])
    assert shared.tolist() == list(range(10, 35))
    assert comparison.refusal([a, b]) is None
    said = comparison.size_words([a, b])
    assert said is not None and "a on 40, b on 25 test images" in said and "25 that all of them have" in said
    assert comparison.size_words([a, a]) is None
    clean, robust = comparison.restricted(a, shared)
    by_hand = {int(i): (c, r) for i, c, r in zip(a.index, a.clean, a.robust, strict=True)}
    assert list(zip(clean, robust, strict=True)) == [by_hand[i] for i in shared.tolist()]


def test_networks_without_a_common_image_or_with_other_labels_are_refused():
    assert "no test image" in str(comparison.refusal([network("a"), network("b", first=100)]))
    other = network("b")
    assert "other labels" in str(comparison.refusal([network("a"), replace(other, label=9 - other.label)]))
    assert comparison.refusal([network("a")]) == "Choose at least two runs to compare."


def climbed(name: str, draw: int, **result) -> Compared:
    rng = np.random.default_rng(draw)
    clean = (rng.random(40) < 0.9).astype(np.int8)
    pgd = clean * (rng.random(40) < 0.6).astype(np.int8)
    left = np.where(pgd == 1, (rng.random(40) < 0.8).astype(np.int8), -1)
    rungs = {"clean": clean, "pgd": pgd, "restarts": left.astype(np.int8)}
    ladder = {"eps": 0.15, "norm": "linf", "seed": 0} | result
    return replace(network(name), rungs=rungs, rungs_index=rng.permutation(40), ladder=ladder)


def test_ladders_are_compared_rung_by_rung_and_in_the_worst_case():
    a, b = climbed("a", 1), climbed("b", 2)
    assert comparison.ladder_refusal(a, b) is None
    found = comparison.paired_rungs(a, b)
    assert a.rungs is not None and b.rungs is not None and a.rungs_index is not None and b.rungs_index is not None

    def worst(one):
        table = dict(zip(one.rungs_index.tolist(), zip(*one.rungs.values(), strict=True), strict=True))
        return np.array([all(value != 0 for value in table[i]) for i in range(40)])

    assert (found["worst case"].a, found["worst case"].b) == (worst(a).sum(), worst(b).sum())
    assert found["worst case"].only_a == (worst(a) & ~worst(b)).sum()
    assert found["restarts"].a == (a.rungs["restarts"] == 1).sum()


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"seed": 3}, "the attack seed of their ladders is 0 and 3"),
        ({"eps": 0.3}, "the eps of their ladders is 0.15 (38.25/255) and 0.3 (76.5/255)"),
    ],
)
def test_ladders_of_other_attacks_are_refused(changed, says):
    assert comparison.ladder_refusal(climbed("a", 1), climbed("b", 2, **changed)) == says
    assert comparison.ladder_refusal(climbed("a", 1), network("b")) == "b has no finished ladder"


# -------------------------------------------------------------------------------------------------- settings and seeds


def test_only_what_differs_is_listed():
    a = RunConfig(name="one")
    b = RunConfig(name="two").with_values({"strategy.name": "standard", "seed": 4})
    rows = {row.key: row.values for row in comparison.differences([a, b])}
    assert rows["seed"] == (0, 4) and rows["strategy.name"] == ("dynamic", "standard")
    assert rows["strategy.c_max"] == (0.1, None) and "name" not in rows and "epochs" not in rows
    assert comparison.differences([a, a]) == []


def test_runs_that_differ_in_seed_and_name_alone_form_a_group():
    a = RunConfig(name="one")
    configs = [a, a.with_values({"strategy.c_max": 0.2}), a.with_values({"seed": 1, "name": "two"})]
    assert comparison.seed_groups(configs) == [[0, 2], [1]]


def test_networks_of_the_same_title_are_told_apart_by_seed_or_id():
    a, b, c = network("one"), network("two", seed=1), network("three", **{"strategy.c_max": 0.2})
    same = [replace(one, title="Mine") for one in (a, b)] + [c]
    same[1] = replace(same[1], config=same[1].config.with_values({"seed": 1}))
    assert [one.title for one in comparison.told_apart(same)] == ["Mine, seed 0", "Mine, seed 1", "three"]
    twice = [replace(one, title="Mine") for one in (a, c)]
    assert [one.title for one in comparison.told_apart(twice)] == ["Mine, one", "Mine, three"]
