"""Fixed bins: every value is counted once, in the bin it belongs to; quantiles come back within a bin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dynat_core.recorded.histograms import BINS, count, quantile


@pytest.mark.parametrize("measure", BINS)
@given(values=arrays(np.float64, st.integers(0, 60), elements=st.floats(-1e4, 1e4, allow_subnormal=False)))
def test_every_value_is_counted_once_and_in_its_bin(measure, values):
    edges, counts = BINS[measure], count(measure, values)
    assert len(counts) == len(edges) + 1 and counts.sum() == len(values)
    assert counts[0] == (values < edges[0]).sum() and counts[-1] == (values >= edges[-1]).sum()
    for k in range(0, len(edges) - 1, 7):
        assert counts[k + 1] == ((values >= edges[k]) & (values < edges[k + 1])).sum()


@pytest.mark.parametrize("measure", BINS)
def test_edges_rise_and_cover_what_is_measured(measure):
    edges = BINS[measure]
    assert (np.diff(edges) > 0).all()
    ends = {
        "fosc": (1e-6, 100),
        "fosc_paper": (1e-6, 100),
        "kl_fosc": (1e-6, 100),
        "loss": (1e-6, 100),
        "relative_fosc": (1e-4, 2),
        "margin": (-100, 100),
        "steps": (-0.5, 100.5),
        "gradients": (-0.5, 100.5),
    }
    assert (edges[0], edges[-1]) == pytest.approx(ends[measure])


def test_zero_and_negative_rounding_have_a_bin_of_their_own_and_nan_is_left_out():
    counts = count("fosc", np.array([0.0, -1e-9, 1e-7, 1e-6, np.nan, 1e3]))
    assert counts[0] == 3 and counts[1] == 1 and counts[-1] == 1 and counts.sum() == 5


def test_fooled_and_not_fooled_never_share_a_bin():
    edges = BINS["margin"]
    assert 0.0 in edges
    assert count("margin", np.array([-1e-6]))[: int(np.searchsorted(edges, 0.0)) + 1].sum() == 1


def test_whole_numbers_have_a_bin_each():
    counts = count("steps", np.array([0, 1, 1, 10, 100]))
    assert counts[1] == 1 and counts[2] == 2 and counts[11] == 1 and counts[101] == 1


@given(values=arrays(np.float64, st.integers(1, 200), elements=st.floats(1e-5, 50)), q=st.floats(0, 1))
def test_quantiles_read_off_the_bins_are_within_a_bin_of_the_exact_ones(values, q):
    found = quantile("fosc", count("fosc", values), q)
    exact = np.quantile(values, q, method="inverted_cdf")
    assert exact / 1.13 <= found <= exact * 1.13  # a bin is a factor of 10 ** (1 / 20) = 1.122


def test_no_values_no_quantile():
    assert np.isnan(quantile("loss", count("loss", np.array([])), 0.5))
