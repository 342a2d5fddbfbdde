"""Blobs and recorded paths: what goes in comes out, the map adds up, damage is noticed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynat_core.config import Linf
from dynat_core.images.data import Split
from dynat_core.recorded.packing import pack, unpack
from dynat_core.recorded.trajectories import Trajectories, Trajectory
from dynat_core.training.evaluate import paths
from tests.networks import images, network


def recorded(loss: str = "ce", n: int = 5, eps: float = 0.3) -> Trajectories:
    """Paths of the first `n` of five images with the indices 10 to 14."""
    x, y = images("digits-cnn", n=5, dtype=torch.float32)
    split = Split((x * 16).round().to(torch.uint8), y, torch.arange(10, 15), levels=16)[slice(n)]
    found = paths(network("digits-cnn", torch.float32), split, Linf(eps=eps), steps=6, alpha=eps / 4, seed=3, loss=loss)  # type: ignore[arg-type]
    return found.labelled(run="a-run", epoch=4, classes=list("0123456789"))


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=6), st.sampled_from(["uint8", "uint16", "int32", "float32"]), max_size=4
    ),
    st.lists(st.integers(0, 5), max_size=3),
    st.integers(0, 99),
)
def test_blobs_give_back_header_and_arrays(kinds, shape, seed):
    rng = np.random.default_rng(seed)
    arrays = {name: (rng.random(shape) * 200).astype(kind) for name, kind in kinds.items()}
    header, found = unpack(pack({"a": [1, "ü"], "b": None}, arrays))
    assert header == {"a": [1, "ü"], "b": None} and found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


def test_what_does_not_fit_a_blob_is_refused():
    with pytest.raises(TypeError, match="float64"):
        pack({}, {"x": np.zeros(2)})
    with pytest.raises(ValueError):
        pack({"x": float("nan")}, {})


@pytest.mark.parametrize("cut", [0, 3, 10, 200, -9])
def test_a_torn_blob_is_noticed(cut):
    blob = recorded().one(0).to_bytes()
    with pytest.raises(ValueError):
        Trajectory.from_bytes(blob[:cut])


def test_a_trajectory_survives_its_bytes():
    whole = recorded()
    one, again = whole.one(2), Trajectory.from_bytes(whole.one(2).to_bytes())
    assert (again.index, again.label, dict(again.settings)) == (12, one.label, dict(one.settings))
    for name in ("x", "z", "grad", "logits", "loss", "margin", "fosc", "fosc_paper", "relative_fosc", "gradient_l1"):
        assert np.array_equal(getattr(one, name), getattr(again, name))


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_the_numbers_of_a_trajectory_belong_together(loss):
    for place in range(5):
        one = recorded(loss).one(place)
        assert one.steps == 6 and one.z.shape == (7, 1, 8, 8)
        assert one.fosc_map().shape == (7, 8, 8) and one.fosc_map().min() >= -1e-6
        assert one.fosc_map().sum((1, 2)) == pytest.approx(one.fosc, rel=1e-4, abs=1e-6)
        assert one.gradient_l1 == pytest.approx(np.abs(one.grad).sum((1, 2, 3)), rel=1e-5)
        assert one.fosc_paper == pytest.approx(
            0.3 * one.gradient_l1 - (one.delta * one.grad).sum((1, 2, 3)), rel=1e-3, abs=1e-5
        )
        best_other = np.delete(one.logits, one.label, axis=1).max(1)
        assert one.margin == pytest.approx(one.logits[:, one.label] - best_other, rel=1e-5, abs=1e-5)
        expected_loss = -one.margin if loss == "margin" else -np.log(one.probabilities[:, one.label])
        assert one.loss == pytest.approx(expected_loss, rel=1e-3, abs=1e-4)
        wrong = [k for k in range(7) if one.margin[k] < 0]
        assert one.steps_to_fool == (wrong[0] if wrong else None)


def test_a_path_is_the_same_whoever_asks_for_it():
    whole = recorded(n=5)
    alone = recorded(n=1)
    assert np.allclose(whole.one(0).z, alone.one(0).z, atol=1e-6)


def test_joined_parts_are_the_whole():
    whole = recorded()
    again = Trajectories.joined([whole, whole])
    assert len(again) == 10 and np.array_equal(again.one(7).z, whole.one(2).z)
