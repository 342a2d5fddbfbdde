"""The theory screens' scenes: every position has its words, numbers and marks, and they are those computed."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pytest

from dynat_core.recorded.packing import pack, unpack
from dynat_core.theory import concavity, learning_rate, minimax, seeds, small_network, weak_order
from dynat_core.theory.adversarial_sgd import Quadratic
from dynat_core.theory.probe import probe
from dynat_core.views import Scene, sde, sde_network, smoothness, theorem, weight_line
from dynat_core.views import seeds as seeds_view
from dynat_core.views.base import View
from dynat_core.views.decades import decades, laid
from dynat_core.views.still import shapes


def theorem_scene(noise: float = 0.5) -> Scene:
    p, horizons, deltas = minimax.MinMax(noise=noise), [1, 2, 4, 8, 16, 32], [0.0, 0.001, 0.1, 10.0]
    early, pushed = (minimax.mean_squared_gradients(p, attack, horizons, deltas, 4) for attack in (p.early, p.lowest))
    x, y = concavity.moons(20)
    relu = concavity.measure(concavity.trained(x, y, epochs=40), x, y, 0.05, 400)
    return theorem.theorem(theorem.Study(p, horizons, deltas, early, pushed), 16, relu)


def sde_scene(eta: float = 0.1, ascents: int = 3, batch: int = 4) -> Scene:
    q, steps = Quadratic(eta, ascents, batch), round(3 / eta)
    found = {
        m: weak_order.errors(lambda e: Quadratic(e, ascents, batch), (0.1, 0.05, 0.025), 1.0, m) for m, _ in sde.MOMENTS
    }
    rates = {"fixed": np.ones(steps), "half": np.full(steps, 0.5), "rule": learning_rate.ruled(q, steps),
             "best": learning_rate.best(q, steps)}  # fmt: skip
    moments = {name: learning_rate.second_moment(q, u) for name, u in rates.items()}
    paths, changes = small_network.paths(eta, ascents, steps), small_network.changes(ascents, (0.1, 0.05))
    below = sde_network.network(paths, changes, eta, ascents)
    return sde.sde(sde.Study(q, q.paths(steps, 200), found, moments), more=below)


def line_scene(other: tuple[float, str] | None = None) -> Scene:
    rng, at = np.random.default_rng(0), np.linspace(-0.01, 0.01, 13)[1:]
    arrays = {name: rng.uniform(0.1, 9, 12) for name in ("loss", "clean", "attacked", "held", "still", "left")}
    found = weight_line.Line(arrays | {"flips": rng.uniform(0, 0.01, 12), "at": at}, "a network", other)
    return weight_line.weight_line(found, [seeds_view.paired(SEEDS, "trades", "PGD AT", 12)])


_ROWS = {"standard": (0.7, 0.72, 0.71), "trades": (0.75, 0.78, 0.75)}
SEEDS = seeds.of({
    "seeds": [0, 1, 2], "n": 100, "data": "digits", "eps": 0.15, "epochs": 3, "attacks": ["PGD-20"],
    "rows": {name: [dict.fromkeys(("clean", "pgd", "worst"), v) for v in values] for name, values in _ROWS.items()},
})  # fmt: skip
SCENES = {
    "line": line_scene(),
    "line, another network on it": line_scene((-0.005, "epoch 29")),
    "theorem": theorem_scene(),
    "theorem, little noise": theorem_scene(0.1),
    "smoothness": smoothness.smoothness(probe("across", 0.5, 1, 0.2)),
    "smoothness, through zero": smoothness.smoothness(probe("zero", 0.25, 3, 0.4)),
    "smoothness, clean": smoothness.smoothness(probe("across", 0, 1, 0.2)),
    "sde": sde_scene(),
    "sde, plain SGD": sde_scene(0.2, 0, 1),
}
DRAWN = [pytest.param(s, v, id=f"{name}: {v.id}") for name, s in SCENES.items() for v in s.views]


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_every_position_has_its_words_and_arrays_and_the_browser_can_read_them(scene):
    assert all(len(array) == scene.n for array in scene.arrays.values())
    assert len(scene.sentences) == len(scene.labels) == scene.n == scene.last + 1
    assert all(len(note.texts) == scene.n for view in scene.views for note in view.notes)
    header, arrays = unpack(pack(scene.header(), scene.arrays))
    assert "NaN" not in json.dumps(header) and set(arrays) == set(scene.arrays)
    assert not re.search(r"\bnan\b", " ".join(scene.sentences))


@pytest.mark.parametrize("scene, view", DRAWN)
def test_every_picture_is_drawn_at_both_ends_in_both_themes(scene, view):
    for i in (0, scene.n - 1):
        for dark in (False, True):
            figure = view.at(i, dark).to_json()
            assert "@" not in figure.replace("@media", "")
    assert view.fig["data"] or shapes(view, scene.n - 1)


@pytest.mark.parametrize("scene, view", DRAWN)
def test_lines_stay_inside_their_axes(scene, view):
    layout = view.fig["layout"]
    for trace in view.fig["data"]:
        if trace["type"] != "scatter" or "lines" not in trace["mode"] or trace["line"]["width"] < 1.2:
            continue
        for name in ("x", "y"):
            span = layout[f"{name}axis"].get("range")
            values = [v for v in trace[name] if v is not None]
            if span and values:
                room = 1e-6 + 0.02 * (span[1] - span[0])
                assert span[0] - room <= min(values) and max(values) <= span[1] + room, (name, trace.get("meta"))


def test_a_curve_breaks_where_it_is_not_known_and_a_spot_is_at_its_point():
    points = np.array([[[0, 1], [1, 2], [np.nan, 0], [3, 4], [5, np.nan], [6, 7]]], dtype=np.float32)
    moves = [{"kind": "curve", "arr": "c", "color": "@ink"}, {"kind": "spot", "arr": "s", "color": "@ink"}]
    arrays = {"c": points, "s": np.array([[2, 5]], dtype=np.float32)}
    view = View("v", "?", fig={"data": [], "layout": {}}, moves=moves, arrays=arrays)
    curve, spot = shapes(view, 0)
    assert curve["path"] == "M0.0,1.0L1.0,2.0M3.0,4.0M6.0,7.0"
    assert (spot["xanchor"], spot["yanchor"]) == (2, 5)
    nowhere = View("v", "?", fig={}, moves=moves, arrays={"c": points * np.nan, "s": arrays["s"] * np.nan})
    assert shapes(nowhere, 0) == []


def test_a_logarithmic_axis_holds_its_values_and_names_some_of_them():
    for low, high in ((1e-7, 1e4), (0.3, 0.8), (2, 90), (5, 5)):
        found = decades("x", [np.array([low, high, 0, -1])])
        assert found["range"][0] < laid([low])[0] and laid([high])[0] < found["range"][1]
        assert len(found["tickvals"]) == len(set(found["ticktext"])) <= 9
    assert found["ticktext"] == ["5"]
    assert np.isnan(laid([0, -1])).all()


# ---------------------------------------------------------------------------------------- what the pictures say


def test_the_theorem_s_curves_are_the_bounds_and_the_measurements():
    scene = SCENES["theorem"]
    arrays, p = scene.arrays, minimax.MinMax(noise=0.5)
    last = scene.n - 1
    own = 10.0 ** arrays[f"steps-{theorem.OWN}"][last, :, 1]
    np.testing.assert_allclose(own, minimax.own_bound(p, np.array([1, 2, 4, 8, 16, 32.0]), 10.0), rtol=1e-5)
    stated = ~np.isnan(arrays[f"steps-{theorem.PAPER}"][last, :, 1])
    assert stated.tolist() == [t >= p.valid_from for t in (1, 2, 4, 8, 16, 32)]
    measured = arrays[f"steps-{theorem.PUSHED}"][..., 1]
    assert (measured <= arrays[f"steps-{theorem.OWN}"][..., 1] + 0.05).all()
    assert "FOSC" in scene.view("delta").fig["layout"]["xaxis"]["title"]["text"]


@pytest.mark.parametrize("which", ["across", "zero"])
def test_the_words_at_the_levels_of_the_quotients_hide_neither_each_other_nor_a_line(which):
    for eps, gamma in itertools.product((0, 0.1, 0.25, 0.5, 0.75, 1), (0.3, 1, 3, 10)):
        found = probe(which, eps, gamma, 0.2)
        layout = smoothness.smoothness(found).view("quotients").fig["layout"]
        low, high = layout["yaxis"]["range"]
        feet = [words["y"] for words in layout["annotations"]]
        tall = 15 / 250 * (high - low)  # 15 of the 250 pixels
        levels = laid([v for v in (found.gamma, found.ceiling) if v is not None]).tolist()
        starts = [next(v for v in laid(change) if np.isfinite(v)) for change in found.changes]
        for foot in feet:
            assert low <= foot and foot + tall <= high, (eps, gamma)
            assert not any(foot + 1e-6 < v < foot + tall for v in (*levels, *starts)), (eps, gamma)
        assert len(feet) == 1 or abs(feet[0] - feet[1]) >= tall, (eps, gamma)


def test_a_paper_bound_that_is_not_stated_at_this_T_is_said_to_be_so():
    assert minimax.MinMax(noise=0.1).valid_from > 16
    assert all("is stated from T" in sentence for sentence in SCENES["theorem, little noise"].sentences)
    assert any("times the larger" in sentence for sentence in SCENES["theorem"].sentences) == (
        minimax.MinMax(noise=0.5).valid_from <= 16
    )


def test_the_gradient_along_the_probe_jumps_by_what_the_picture_says():
    found = probe("across", 0.5, 1, 0.2)
    ends = np.array([[1.0, 1e-7], [1.0, -1e-7]])
    for k, m in enumerate(found.models):
        gradient = m.gradient(ends) @ found.direction
        assert gradient[0] - gradient[1] == pytest.approx(found.jumps[k], abs=1e-5)
    found = probe("zero", 0.5, 1, 0.2)
    for k, m in enumerate(found.models):
        gradient = m.gradient(np.array([1e-7, -1e-7])[:, None] * found.direction) @ found.direction
        assert gradient[0] - gradient[1] == pytest.approx(found.jumps[k], abs=1e-5)
    clean = probe("across", 0, 1, 0.2)
    assert clean.jumps == (0, 0)
    np.testing.assert_allclose(clean.gradients[0], clean.gradients[1])


@pytest.mark.parametrize("gamma", [0.3, 1, 3, 10])
def test_smoothed_quotients_stay_below_gamma_and_those_of_l2_below_their_ceiling(gamma):
    found = probe("across", 0.75, gamma, 0.2)
    for smooth in found.changes[2:]:
        assert np.nanmax(smooth) < gamma and np.isnan(smooth).any() and not np.isnan(smooth).all()
    assert found.changes[0].max() <= found.ceiling
    steep = found.changes[1]  # L-inf grows like 1/t
    assert steep[0] / steep[8] == pytest.approx(found.distances[8] / found.distances[0], rel=0.05)


def test_the_bars_of_the_runs_add_up_to_all_runs():
    shares = SCENES["sde"].arrays["shares"]
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    normal = SCENES["sde"].arrays["normal"][1:, :, 1]
    assert (normal.sum(axis=1) > 0.97).all()


def test_the_switch_chooses_whose_error_is_drawn():
    found = {v.id: dict(v.when) for v in SCENES["sde"].views if v.slot == "errors"}
    assert found == {"errors-mean": {"moment": "mean"}, "errors-variance": {"moment": "variance"}}


def test_seeds_are_compared_in_pairs_and_nothing_is_claimed_without_the_interval():
    apart = SEEDS.difference("trades", "pgd")
    values = np.array([0.05, 0.06, 0.04])
    half = 4.302653 * values.std(ddof=1) / 3**0.5  # Student's t, two degrees of freedom
    np.testing.assert_allclose([apart.mean, apart.low, apart.high], [0.05, 0.05 - half, 0.05 + half], rtol=1e-6)
    assert seeds_view.difference_words(apart) == "+5.0 points (95 %: +2.5 to +7.5), higher"
    once = seeds.of({"seeds": [0], "n": 9, "rows": {k: [{"pgd": v[0]}] for k, v in _ROWS.items()}})
    assert seeds.told_apart(once.difference("trades", "pgd")) == "not told apart"


def test_the_shipped_seeds_are_five_on_the_same_images_at_equal_gradient_evaluations():
    found = seeds.measured()
    assert len(found.seeds) == 5 and all(len(rows) == 5 for rows in found.rows.values())
    assert set(found.values("entropy-sgd", "gradients")) == set(found.values("standard", "gradients")) == {10.0}
    for rows in found.rows.values():
        assert all(row["worst"] <= row["pgd"] <= row["clean"] for row in rows)
