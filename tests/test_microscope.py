"""The microscope: which images a filter, a range, a class pair and an order leave, and that a link says all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ui.microscope import (
    BARS,
    FILTERS,
    MEASURES,
    WORDS,
    Lens,
    Pick,
    edges,
    measured,
    read_images,
    read_lens,
    through,
)


def rows(n: int = 200, seed: int = 0) -> pd.DataFrame:
    """A made-up sample table whose columns fit one another."""
    rng = np.random.default_rng(seed)
    label, margin = rng.integers(0, 10, n), rng.normal(1, 2, n).round(3)
    other = (label + rng.integers(1, 10, n)) % 10
    steps = np.where(margin < 0, rng.integers(0, 10, n), np.where(rng.random(n) < 0.2, 4, -1))
    return pd.DataFrame(
        {
            "index": rng.permutation(n) * 3,
            "label": label,
            "predicted": np.where(margin < 0, other, label),
            "margin": margin,
            "loss": np.log1p(np.exp(-margin)),
            "fosc": np.where(rng.random(n) < 0.1, 0.0, 10 ** rng.normal(-2, 1.5, n)),
            "fosc_paper": 10 ** rng.normal(-1, 1, n),
            "relative_fosc": np.where(rng.random(n) < 0.05, np.nan, rng.random(n)),
            "gradient_l1": 10 ** rng.normal(0, 1, n),
            "steps_to_fool": steps,
        }
    )


TABLE = rows()
ENDS = st.one_of(st.none(), st.floats(-5, 5).map(lambda v: float(f"{v:.6g}")))
PICKS = st.builds(Pick, st.sampled_from(MEASURES), ENDS, ENDS).filter(lambda p: (p.low, p.high) != (None, None))
LENSES = st.builds(
    Lens,
    show=st.sampled_from(["", *FILTERS]),
    true=st.one_of(st.none(), st.integers(0, 9)),
    read=st.one_of(st.none(), st.integers(0, 9)),
    ranges=st.lists(PICKS, max_size=3, unique_by=lambda pick: pick.measure).map(tuple),
    by=st.sampled_from(list(WORDS)),
    falling=st.booleans(),
)


def wanted(row: Any, lens: Lens) -> bool:
    """Whether an image is left, from the words of the product alone."""
    fooled = row["predicted"] != row["label"]
    shown = {
        "": True,
        "all": True,
        "fooled": fooled,
        "slope": row["relative_fosc"] > 0.1,
        "earlier": row["steps_to_fool"] >= 0 and not fooled,
    }[lens.show]
    if lens.true is not None:
        shown &= row["label"] == lens.true
    if lens.read is not None:
        shown &= row["predicted"] == lens.read
    for pick in lens.ranges:
        value = row[pick.measure]
        known = not np.isnan(value) and not (pick.measure == "steps_to_fool" and value < 0)
        shown &= known and (pick.low is None or value >= pick.low) and (pick.high is None or value < pick.high)
    return bool(shown)


@settings(max_examples=60)
@given(LENSES)
def test_what_is_left_is_what_was_asked_for_image_by_image(lens):
    left = through(TABLE, lens)
    assert sorted(left["index"]) == sorted(row["index"] for _, row in TABLE.iterrows() if wanted(row, lens))


@settings(max_examples=60)
@given(LENSES)
def test_the_order_is_by_the_column_with_unknown_values_last_and_ties_by_number(lens):
    left = through(TABLE, lens)
    values = measured(left, lens.by)
    known = values[~np.isnan(values)]
    assert np.isnan(values[len(known) :]).all()
    steps = np.diff(known) * (-1 if lens.falling else 1)
    assert (steps >= 0).all()
    numbers = left["index"].to_numpy()[: len(known)]
    assert (np.diff(numbers)[steps == 0] > 0).all()


@settings(max_examples=100)
@given(LENSES)
def test_a_link_says_all_of_it(lens):
    back = read_lens(lens.text())
    assert back == lens
    assert (lens.text() is None) == (lens == Lens())


@pytest.mark.parametrize(
    "text",
    [None, "", "nonsense", "true=x", "true=-1", "read=²", "by=__class__", "loss=1", "loss=nan,1", "true=9999999"],
)
def test_what_means_nothing_in_a_link_is_left_out(text):
    assert read_lens(text) == Lens()


def test_a_link_of_any_length_is_read_in_no_time():
    assert read_lens("true=4;" * 100_000).true == 4
    assert len(read_images(",".join(map(str, range(10_000))))) == 2000


def test_a_later_range_of_a_measure_replaces_the_earlier_and_an_open_one_removes_it():
    lens = Lens().kept(Pick("loss", 1, 2)).kept(Pick("margin", None, 0)).kept(Pick("loss", 3, None))
    assert lens.ranges == (Pick("margin", None, 0), Pick("loss", 3, None))
    assert lens.kept(Pick("loss", None, None)).ranges == (Pick("margin", None, 0),)


def test_fooled_earlier_but_not_at_the_last_step():
    left = through(TABLE, Lens(show="earlier"))
    assert len(left) and ((left.steps_to_fool >= 0) & (left.predicted == left.label)).all()
    assert len(left) == int(((TABLE.steps_to_fool >= 0) & (TABLE.predicted == TABLE.label)).sum())


def test_four_read_as_nine():
    table = rows(3000)
    left = through(table, Lens(true=4, read=9, by="margin"))
    assert len(left) == int(((table.label == 4) & (table.predicted == 9)).sum()) > 5
    assert left["margin"].is_monotonic_increasing


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("seed", range(5))
def test_the_bars_hold_every_image_and_brushing_one_gives_as_many_as_it_counts(measure, seed):
    table = rows(150, seed)
    values = measured(table, measure)
    ends = edges(values, measure)
    assert 2 <= len(ends) <= BARS + 2 and ends == sorted(set(ends))
    counts, _ = np.histogram(values[np.isfinite(values)], ends)
    assert counts.sum() == np.isfinite(values).sum()
    for count, low, high in list(zip(counts, ends[:-1], ends[1:], strict=True))[:-1]:
        text = Lens(ranges=(Pick(measure, low, high),)).text()
        assert len(through(table, read_lens(text))) == count  # after a link and back, too


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0], [float("nan"), 1.0], [float("inf"), 3.0]])
def test_nothing_to_tell_apart_has_no_bars(values):
    assert edges(np.array(values), "loss") == []


@pytest.mark.parametrize("measure", MEASURES)
def test_bars_of_extreme_values_stand(measure):
    for values in ([0.0, 1e-30], [0.0, 1e30], [1e-9, 1e9], [0.0, 5.0], [-3.0, -1.0], [-1e-9, 0.5]):
        if measure == "steps_to_fool" and (max(values) > 100 or min(values) < 0):
            continue  # steps are counted
        ends = edges(np.array(values), measure)
        assert ends[0] <= min(values) and ends[-1] > max(values) and ends == sorted(set(ends))


def test_a_table_that_lacks_a_column_is_still_shown():
    short = TABLE.drop(columns=["steps_to_fool", "fosc_paper"])
    assert len(through(short, Lens(show="earlier"))) == 0
    assert len(through(short, Lens(by="fosc_paper"))) == len(short)
    assert len(through(short, Lens(ranges=(Pick("fosc_paper", 0, None),)))) == 0


@pytest.mark.parametrize(
    "text, images",
    [(None, []), ("3,17,42", [3, 17, 42]), ("3, 3 ,x,-1,²,1e5", [3]), ("9" * 12, []), ("7", [7])],
)
def test_listed_images_are_whole_numbers_each_once(text, images):
    assert read_images(text) == images
