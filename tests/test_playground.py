"""The 2-D maths of Learn against brute force, finite differences, the torch core and the closed form; and its paper."""

from __future__ import annotations

import itertools
import math
import random
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynat_core.attack import threat
from dynat_core.attack.fosc import fosc, relative_fosc
from dynat_core.theory import playground as pg
from ui.playground import offline_page, read_way, script
from ui.playground.sheets import sheet

ROOT = Path(__file__).resolve().parent.parent
NORMS = ("linf", "l2")
unit = st.floats(0, 1)
slopes = st.floats(-5, 5).filter(lambda v: abs(v) > 1e-6)


def network(seed: int, classes: int = 3) -> pg.Network:
    """A random network whose last biases are random too."""
    rng = random.Random(seed)
    size = len(pg.untrained(classes, 1).weights)
    return pg.Network(classes, [rng.uniform(-1.5, 1.5) for _ in range(size)])


@st.composite
def scenes(draw):
    """(ball, z in it, gradient)."""
    norm = draw(st.sampled_from(NORMS))
    ball = pg.Ball((draw(unit), draw(unit)), draw(st.floats(0.02, 0.6)), norm)
    return ball, ball.start((draw(unit), draw(unit))), (draw(slopes), draw(slopes))


@given(scenes())
def test_fosc_is_the_largest_promise_anywhere_in_the_set(scene):
    ball, z, g = scene
    rivals = [ball.start((i / 20, j / 20)) for i in range(21) for j in range(21)]  # reaches the border of the set
    promise = max((p[0] - z[0]) * g[0] + (p[1] - z[1]) * g[1] for p in rivals)
    found = pg.fosc_box(ball, z, g)
    steepness = math.hypot(*g)
    assert promise - 1e-9 <= found <= promise + steepness * ball.eps * 0.3
    assert found >= -1e-9
    assert found <= pg.fosc_paper(ball, z, g) + 1e-9


@given(scenes())
def test_fosc_of_a_square_is_the_brute_force_over_its_corners(scene):
    ball, z, g = scene
    square = pg.Ball(ball.x, ball.eps)
    z = square.project(z)
    low, high = square.faces
    corners = itertools.product((low[0], high[0]), (low[1], high[1]))
    brute = max((a - z[0]) * g[0] + (b - z[1]) * g[1] for a, b in corners)
    assert pg.fosc_box(square, z, g) == pytest.approx(brute, abs=1e-12)


@given(scenes())
def test_the_plane_agrees_with_the_core(scene):
    ball, z, g = scene
    x, there, grad = (torch.tensor([v], dtype=torch.float64) for v in (ball.x, z, g))
    core = threat.Ball(x, ball.eps, ball.norm)
    assert pg.fosc_box(ball, z, g) == pytest.approx(fosc(core, there, grad).item(), abs=1e-9)
    assert pg.fosc_paper(ball, z, g) == pytest.approx(fosc(core, there, grad, "paper").item(), abs=1e-12)
    ahead = tuple(v + 0.1 * w for v, w in zip(z, ball.steepest(g), strict=True))
    moved = core.project(there + 0.1 * core.steepest_step(grad))[0].tolist()
    assert ball.project(ahead) == pytest.approx(moved, abs=1e-12)
    scale = pg.middle(ball, g)
    if scale > 1e-6:
        assert pg.fosc_box(ball, z, g) / scale == pytest.approx(relative_fosc(core, there, grad).item(), abs=1e-6)


@given(st.integers(0, 10_000), unit, unit, st.integers(0, 2))
def test_the_gradient_is_the_slope_of_the_loss(seed, right, up, y):
    net, h = network(seed), 1e-6
    found = pg.look(net, (right, up), y).grad

    def loss(a: float, b: float) -> float:
        return pg.look(net, (right + a, up + b), y).loss

    numeric = [(loss(h, 0) - loss(-h, 0)) / (2 * h), (loss(0, h) - loss(0, -h)) / (2 * h)]
    assert found == pytest.approx(numeric, rel=1e-5, abs=1e-6)


def test_the_training_gradient_is_the_slope_in_the_weights():
    net, p, y, h = network(3), (0.3, 0.8), 1, 1e-6
    sums = [0.0] * len(net.weights)
    pg.look(net, p, y, sums)
    for i in range(len(sums)):
        losses = []
        for side in (h, -h):
            weights = list(net.weights)
            weights[i] += side
            losses.append(pg.look(pg.Network(3, weights), p, y).loss)
        assert sums[i] == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("pace", [1 / 8, 1 / 4, 1 / 2])
@pytest.mark.parametrize("random_start", [True, False])
def test_on_a_straight_slope_relative_fosc_follows_the_closed_form(pace, random_start):
    ball, g = pg.Ball((0.5, 0.5), 0.2), (1.0, -2.0)
    grid = [(i + 0.5) / 60 for i in range(60)]
    starts = [ball.start((a, b)) for a in grid for b in grid] if random_start else [ball.x]
    for k in range(10):
        mean = sum(pg.fosc_paper(ball, z, g) / (ball.eps * ball.dual(g)) for z in starts) / len(starts)
        assert mean == pytest.approx(pg.expectation(k, pace, random_start), abs=1e-3)
        ahead = [tuple(v + pace * ball.eps * w for v, w in zip(z, ball.steepest(g), strict=True)) for z in starts]
        starts = [ball.project(z) for z in ahead]


def test_the_table_of_expected_values_is_the_published_one():
    table = [1, 0.766, 0.563, 0.391, 0.25, 0.141, 0.063, 0.016, 0]
    assert [pg.expectation(k, 0.25, True) for k in range(9)] == pytest.approx(table, abs=6e-4)
    assert pg.expectation(4, 0.25, False) == 0
    assert pg.expectation(1, 0.25, True, "l2") is None


def test_every_place_of_a_path_is_allowed_and_the_first_step_is_always_taken():
    training = pg.Training("three", "dynamic", 1, 0.15)
    for norm in NORMS:
        ball = pg.Ball((0.95, 0.05), 0.2, norm)
        for place in pg.climb(training.net, ball, 0, ball.start((0.9, 0.3)), 0.05, 10):
            assert all(0 <= v <= 1 for v in place.z)
            away = [abs(v - w) for v, w in zip(place.z, ball.x, strict=True)]
            assert (max(away) if norm == "linf" else math.hypot(*away)) <= 0.2 + 1e-12
    training.advance()
    assert training.gradients >= 2 * len(training.points)  # one for the step, one to find that it was enough


def test_the_threshold_falls_to_zero_at_four_fifths_and_dynamic_spends_less():
    spent = {}
    for strategy in ("standard", "dynamic"):
        training = pg.Training("three", strategy, 1, 0.15)
        assert training.threshold() == pg.C_MAX
        for _ in range(4):
            training.advance()
        spent[strategy] = training.gradients / len(training.points) / 4
        training.epoch = round(0.8 * training.epochs)
        assert training.threshold() == 0
    assert spent["standard"] == pg.STEPS
    assert spent["dynamic"] < pg.STEPS


def test_a_zero_gradient_leaves_relative_fosc_open():
    net = pg.Network(2, [0.0] * len(pg.untrained(2, 1).weights))
    place = pg.stand(net, pg.Ball((0.5, 0.5), 0.1), 0, (0.5, 0.5))
    assert place.fosc == 0
    assert place.relative is None


def test_the_worksheets_numbers_are_the_reference_s():
    text = (ROOT / "docs" / "worksheet.md").read_text(encoding="utf-8").partition("# Answers")[2]
    g = (3.0, -1.0)
    inside, edge = pg.Ball((0.4, 0.5), 0.1), pg.Ball((0.95, 0.5), 0.1)
    first = (0.425, 0.475)
    assert inside.best(inside.x, g) == pytest.approx((0.5, 0.4))
    numbers = [pg.fosc_box(inside, inside.x, g), pg.fosc_box(inside, first, g), pg.fosc_paper(edge, edge.x, g)]
    numbers.append(pg.fosc_box(edge, edge.x, g))
    assert re.findall(r"\*\*(0\.\d\d)\*\*", text) == [f"{v:.2f}" for v in numbers]
    row = ", ".join(f"{pg.expectation(k, 0.25, True):.2f}".removesuffix(".00") for k in (0, 2, 4, 6, 8))
    assert row.replace("0.06, 0", "0.06, 0.") in text


def test_sheets_and_the_saved_page_ask_for_nothing_from_elsewhere():
    pages = [offline_page(), *(sheet(ROOT / "docs" / name) for name in ("worksheet.md", "lesson.md"))]
    for page in pages:
        addresses = set(re.findall(r"https?://[\w./-]+", page)) - {"http://www.w3.org/2000/svg"}
        assert not addresses
        assert not re.search(r"<(script|link|img)[^>]+(src|href)=\"(?!data:)", page)
    assert pages[0].index('data-settings=""') < pages[0].index("<script")  # the first one takes the settings
    assert "export default" not in pages[0]
    assert "<hr>" in pages[1]  # the answers start a new page


def test_the_screen_never_says_what_fosc_does_not_show():
    guides = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("worksheet.md", "lesson.md")]
    words = " ".join([script(), *guides])
    for forbidden in ("strongest attack", "at most FOSC", "ertified", "is faster"):
        assert forbidden not in words


def test_only_a_page_and_a_query_are_followed():
    assert read_way({"page": "epochs", "query": "run=a"}) == ("epochs", "run=a")
    assert read_way(None) is None
    assert read_way({"page": 3}) is None
