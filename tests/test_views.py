"""What the screens draw, without a browser: the numbers in a scene are the numbers that were recorded."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from dynat_core import views
from dynat_core.config import L2, Imported, Linf
from dynat_core.images.data import Split
from dynat_core.recorded.histograms import BINS, count, quantile
from dynat_core.recorded.packing import pack, unpack
from dynat_core.recorded.trajectories import Trajectory
from dynat_core.training.evaluate import paths
from dynat_core.views import ramps, still, words
from dynat_core.views.base import Scene, View, styled
from dynat_core.views.distributions import quantiles
from dynat_core.views.epoch_runs import gradients
from dynat_core.views.pictures import frames
from dynat_core.views.scales import scale
from dynat_core.views.trajectory import stop_step
from tests.networks import network
from tests.synthetic import cut, named, surface, trajectory

MEASURES = ("fosc", "fosc_paper", "relative_fosc", "loss", "margin", "steps")


def every_scene() -> dict[str, Scene]:
    path = trajectory(1)
    broken = named("standard", nan_from=20)
    runs = named("dynamic", "standard", "unsecured", "dynamic")
    models = [views.NamedPaths("Dynamic", "dynamic", np.stack([trajectory(k).relative_fosc for k in range(9)]))]
    return {
        "epochs": views.epochs(runs),
        "epochs, test images": views.epochs(runs, split="test"),
        "epochs, a short run": views.epochs([named("dynamic")[0], cut(named("standard")[0], 12)]),
        "epochs, live": views.epochs([cut(named("dynamic")[0], 12)]),
        "epochs, broken": views.epochs(broken),
        "epochs, none": views.epochs([]),
        "trajectory": views.trajectory(path),
        "trajectory, two": views.trajectory(path, trajectory(5, steps=6), surface=surface(path)),
        "trajectory, colours": views.trajectory(trajectory(2, size=16, channels=3)),
        "overview": views.overview(models, path, "Dynamic"),
        "overview, none": views.overview([]),
    }


SCENES = every_scene()
DRAWN = [
    pytest.param(scene, view, id=f"{name}: {view.id}")
    for name, scene in SCENES.items()
    for view in scene.views
    if view.fig is not None or view.picture is not None
]


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_the_first_axis_of_every_array_is_the_cursor(scene):
    assert all(len(array) == scene.n for array in scene.arrays.values())
    assert len(scene.sentences) == len(scene.labels) == scene.n <= scene.last + 1
    for view in scene.views:
        assert all(len(note.texts) == scene.n for note in view.notes)


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_a_scene_travels_as_one_blob_without_nan(scene):
    header, arrays = unpack(pack(scene.header(), scene.arrays))
    assert {name: array.tobytes() for name, array in arrays.items()} == {
        n: a.tobytes() for n, a in scene.arrays.items()
    }
    assert header["texts"][header["labels"]][::2] or not scene.n
    named_arrays = set(arrays)
    for view in header["views"]:
        used = [m["arr"] for m in view.get("moves", []) if "arr" in m] + [f["arr"] for f in view.get("fills", [])]
        used += [*view["bins"]["arrays"].values()] if "bins" in view else []
        used += [view["picture"]["arr"]] if "picture" in view else []
        assert set(used) <= named_arrays


@pytest.mark.parametrize("scene, view", DRAWN)
def test_every_view_is_a_plotly_figure_at_every_place(scene, view):
    for i in {0, scene.n // 2, scene.n - 1} if scene.n else set():
        figure = view.at(i, dark=bool(i % 2))
        assert isinstance(figure, go.Figure) and "@" not in re.sub(
            r"@[\w.]+\.", "", json.dumps(figure.to_plotly_json(), default=str)
        )


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_no_sentence_claims_what_may_not_be_claimed(scene):
    said = json.dumps([scene.header(), scene.sentences]).lower()
    for never in ("strongest attack", "at most fosc", "certified", "faster", "guarantee", "safe", "converged"):
        assert never not in said


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_every_plot_title_asks_and_every_axis_names_its_unit(scene):
    for view in scene.views:
        if view.fig is None:
            continue
        assert "?" in view.title
        for name, axis in view.fig["layout"].items():
            if name.startswith(("xaxis", "yaxis")):
                text = axis["title"]["text"]
                if "FOSC" in text:
                    assert re.search(r"(box|paper's) form(<br>| )\((no unit|loss units, nats)\)", text)
                if text.startswith("loss"):
                    assert "(nats)" in text


def test_epoch_0_of_a_network_from_elsewhere_is_not_called_untrained():
    trained, came = named("standard")[0], cut(named("unsecured")[0], 0)
    config = came.config.model_copy(update={"model": Imported(architecture="resnet")})
    said = views.epochs([trained, replace(came, config=config)], split="test").sentences[0]
    assert said.startswith("Epoch 0: ") and "untrained" not in said


def test_half_of_the_images_is_never_said_to_have_less_than_nothing():
    run = named("standard")[0]
    zeros = np.repeat(count("relative_fosc", np.zeros(9))[None], len(run.history), axis=0).astype(np.uint32)
    counts = {**run.history.counts, "test/relative_fosc": zeros}
    said = views.epochs([replace(run, history=replace(run.history, counts=counts))], split="test").sentences[9]
    assert "a relative FOSC of at most 0." in said
    counts = {key: rows for key, rows in counts.items() if key != "test/relative_fosc"}
    said = views.epochs([replace(run, history=replace(run.history, counts=counts))], split="test").sentences[9]
    assert said.endswith("test images.") and "–" not in said


# ----------------------------------------------------------------------------------------------------- distributions


@pytest.mark.parametrize("measure", MEASURES)
def test_display_bins_lose_no_image_and_their_edges_are_recorded_edges(measure):
    laid, rng = scale(measure), np.random.default_rng(0)
    values = np.concatenate([10.0 ** rng.uniform(-8, 3, 500), [0.0, -1e-9, 1e-6, 0.1, 2.0, 10.0, 100.0]])
    if measure == "margin":
        values = np.concatenate([values, -values])
    if measure == "steps":
        values = rng.integers(1, 11, 500)
    if measure == "relative_fosc":
        values = values[values <= 2]
    shown = laid.group(count(measure, values)[None])[0]
    assert shown.sum() == len(values)
    for low, high, images in zip(laid.low, laid.high, shown, strict=True):
        inside = (values == low) if measure == "steps" else (values >= low) & (values < high)
        if low == 0 and measure != "margin":
            inside = values < high
        if measure == "relative_fosc" and high == 2:
            inside = values >= low
        assert inside.sum() == images
    edges = [v for v in (*laid.low, *laid.high) if np.isfinite(v) and v != 0]
    assert measure == "steps" or all(np.isclose(BINS[measure], v).any() for v in edges)


@pytest.mark.parametrize("measure", ["fosc", "relative_fosc", "loss"])
def test_zero_has_a_bin_of_its_own_at_the_left(measure):
    laid = scale(measure)
    shown = laid.group(count(measure, np.array([0.0, 0.0, -1e-9, 0.5]))[None])[0]
    assert shown[0] == 3 and laid.labels[0].startswith("0 ")
    assert laid.boxes[0, 1] < laid.boxes[1, 0] and laid.ticks[0][1] == "0"
    assert laid.boxes[0, 0] < laid.position(0.0) < laid.boxes[0, 1]


def test_fooled_and_not_fooled_never_share_a_bin_of_the_margin():
    laid = scale("margin")
    assert 0.0 in laid.low and laid.position(0.0) == 0 and not np.any((laid.low < 0) & (laid.high > 0))


@pytest.mark.parametrize("measure", ["fosc", "relative_fosc", "loss", "margin"])
def test_positions_rise_with_values_and_lie_in_their_bins(measure):
    laid = scale(measure)
    values = np.sort(
        np.random.default_rng(1).normal(0, 3, 200) if measure == "margin" else 10.0 ** np.linspace(-5.9, 0.2, 200)
    )
    assert np.all(np.diff(laid.position(values)) >= 0)
    for value, at in zip(values, laid.position(values), strict=True):
        k = int(np.flatnonzero((laid.low <= value) & (value < laid.high))[0])
        assert laid.boxes[k, 0] - 1e-9 <= at <= laid.boxes[k, 1] + 1e-9
    assert np.isnan(laid.position(np.nan))


def test_a_quantile_in_the_zero_bin_is_zero():
    rows = np.stack([count("fosc", np.zeros(10)), count("fosc", np.full(10, 0.1)), count("fosc", np.full(3, np.nan))])
    found = quantiles("fosc", rows, 0.5)
    assert found[0] == 0 and 0.09 < found[1] < 0.12 and np.isnan(found[2])


@pytest.mark.parametrize("form, measure", [("relative", "relative_fosc"), ("box", "fosc"), ("paper", "fosc_paper")])
def test_runs_lie_on_the_same_bins_and_a_still_draws_the_recorded_shares(form, measure):
    runs = named("dynamic", "standard")
    view = views.epochs(runs).view(f"slope-{measure}-histogram")
    paths = [s.path for s in view.at(7).layout.shapes if s.type == "path"]
    assert len(paths) == 2
    for run, path in zip(runs, paths, strict=True):
        recorded = run.history.counts[f"train/{measure}"][7].astype(float)
        tallest = max(float(y) for y in re.findall(r",([\d.e-]+)", path))
        pairs = scale(measure).group(recorded[None])[0] / recorded.sum()
        assert tallest == pytest.approx(pairs.max())
        # the area under the outline, bar by bar, from the path's own corners
        drawn = drawn_bars(path)
        assert drawn == pytest.approx([p for p in pairs if p > 0])


def drawn_bars(path: str) -> list[float]:
    """Heights of the bars of an outline, left to right, read off its corners alone."""
    corners = [tuple(map(float, c.split(","))) for c in re.split("[ML]", path) if c]
    return [y for (x, y), (x2, y2) in zip(corners, corners[1:], strict=False) if y == y2 and y > 0 and x2 > x]


def test_the_three_kinds_show_the_same_numbers():
    scene = views.epochs(named("dynamic"))
    bars, curve, heat = (scene.view(f"loss-loss-{kind}").at(9) for kind in ("histogram", "ecdf", "heatmap"))
    shares = drawn_bars(bars.layout.shapes[0].path)
    reached = [float(p.split(",")[1]) for p in curve.layout.shapes[0].path[1:].split("L")]
    column = [row[9] for row in heat.data[0].z if row[9] is not None]
    assert column == pytest.approx(shares, abs=1e-5)
    assert np.diff(reached)[np.diff(reached) > 0] == pytest.approx(shares)
    assert reached[-1] == pytest.approx(1)


def test_axes_are_the_same_at_every_epoch():
    for view in views.epochs(named("dynamic", "standard")).views:
        if view.fig is not None:
            assert view.at(0).layout.xaxis.range == view.at(30).layout.xaxis.range
            assert view.at(0).layout.yaxis.range == view.at(30).layout.yaxis.range


def test_c_t_is_drawn_only_where_fosc_has_its_unit():
    scene = views.epochs(named("dynamic", "standard"))
    rules = {v.id: [m for m in v.moves if m.get("label") == "c_t"] for v in scene.views if v.id.startswith("slope")}
    assert [len(rules[f"slope-{m}-histogram"]) for m in ("fosc", "fosc_paper", "relative_fosc")] == [1, 0, 0]
    c_t = named("dynamic")[0].history.column("c_t")
    at = scene.arrays["slope-fosc-c_t-0"]
    assert at[5] == pytest.approx(np.log10(c_t[5])) and c_t[30] == 0
    assert at[30] == pytest.approx(scale("fosc").boxes[0].mean())
    assert not [m for v in views.epochs(named("dynamic"), split="test").views for m in v.moves if m.get("label")]


def test_medians_are_those_of_the_recorded_counts():
    run = named("standard")[0]
    scene = views.epochs([run])
    counts = run.history.counts["train/loss"][11]
    assert scene.arrays["loss-loss-median-0"][11] == pytest.approx(np.log10(quantile("loss", counts, 0.5)), abs=1e-5)


def test_gradients_follow_from_the_steps_taken():
    rows = count("steps", np.array([1, 1, 4, 9, 10, 10]))[None]
    assert gradients(rows, 10)[0] == pytest.approx((2 + 2 + 5 + 10 + 10 + 10) / 6)
    assert np.isnan(gradients(np.zeros_like(rows), 10)[0])


def test_more_steps_than_there_are_bins_are_drawn_and_cost_all_of_them():
    run = named("standard")[0]
    config = run.config.with_values({"strategy.steps": 200})
    steps = np.repeat(count("steps", np.array([3, 100, 101, 200]))[None], len(run.history), axis=0).astype(np.uint32)
    history = replace(run.history, counts={**run.history.counts, "train/steps": steps})
    scene = views.epochs([replace(run, history=history, config=config)])
    drawn = scene.view("stops-steps-histogram")
    assert drawn.bins.scale.labels[-1] == "100 or more" and drawn.bins.scale.labels[2] == "3"
    shown = scene.arrays["stops-steps-0"][5]
    assert (shown[2], shown[-1], shown.sum()) == (1, 3, 4)
    assert gradients(steps, 200, 0)[0] == pytest.approx((3 + 100 + 200 + 200) / 4)


@pytest.mark.parametrize("strategy", ["dynamic", "standard", "trades", "fgsm-then-pgd", "an own one"])
def test_six_runs_of_one_strategy_differ_in_colour_and_in_dash(strategy):
    series = styled([(f"run {k}", strategy) for k in range(6)])
    assert len({s.color for s in series}) == 6
    assert len({s.dash for s in series}) >= 5, "who sees no colours still tells most of them apart"
    assert len({(s.color, s.dash) for s in series}) == 6


# ------------------------------------------------------------------------------------------------------ other attacks


def other(norm: str, loss: str, label: int = 3) -> Trajectory:
    """A real path of one digit."""
    split = Split(torch.full((1, 1, 8, 8), 9, dtype=torch.uint8), torch.tensor([label]), torch.arange(1), levels=16)
    threat = Linf(eps=0.3) if norm == "linf" else L2(eps=1.0)
    found = paths(
        network("digits-cnn", torch.float32),
        split,
        threat,
        steps=6,
        alpha=threat.eps / 4,
        seed=0,
        loss=loss,
        start="clean",
    )  # type: ignore[arg-type]
    return found.labelled(run="a", classes=list("0123456789")).one(0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_at_the_clean_image_relative_fosc_of_either_form_is_one(norm):
    path = other(norm, "ce")
    scene = views.trajectory(path)
    for form in ("box", "paper"):
        assert scene.arrays[f"relative-{form}-0"][0] == pytest.approx(1, rel=1e-4)
    lengths = np.abs(path.grad).sum((1, 2, 3)) if norm == "linf" else np.sqrt((path.grad**2).sum((1, 2, 3)))
    assert path.reach == pytest.approx(path.settings["eps"] * lengths, rel=1e-4)
    assert path.reach[0] == pytest.approx(path.fosc_paper[0], rel=1e-4)  # the clean image is the middle of the ball


def test_a_margin_attack_is_drawn_in_logits_below_zero_too():
    path = other("linf", "margin", int(other("linf", "ce").predicted[0]))
    assert path.loss.min() < 0 and path.unit == "logits"
    scene = views.trajectory(path)
    axis = scene.view("loss").fig["layout"]["yaxis"]
    assert axis["title"]["text"] == "loss (logits)"
    assert axis["range"][0] < path.loss.min() and path.loss.max() < axis["range"][1]
    assert "loss units, logits" in scene.view("slope-box").fig["layout"]["yaxis2"]["title"]["text"]


def test_no_one_who_attacks_the_margin_is_told_to_try_the_margin():
    for loss, told in (("ce", True), ("margin", False)):
        path = other("linf", loss)
        flat = replace(path, gradient_l1=np.zeros_like(path.gradient_l1), grad=np.zeros_like(path.grad))
        said = views.trajectory(flat).sentences[2]
        assert "the gradient is zero" in said and ("Try the margin loss." in said) is told


def test_the_size_of_an_l2_change_is_its_length():
    path = other("l2", "ce")
    (note,) = views.trajectory(path).view("change").notes
    assert note.texts[-1].startswith("length ")
    assert float(note.texts[-1].split()[1]) == pytest.approx(np.linalg.norm(path.delta[-1]), rel=0.06)


@pytest.mark.parametrize("channels, shape", [(1, ()), (2, ()), (3, (3,)), (4, (3,))])
def test_images_of_any_number_of_channels_are_drawn(channels, shape):
    drawn = frames(trajectory(2, channels=channels), np.zeros((2, channels, 5, 4)))
    assert drawn.shape == (2, 5, 4, *shape)


# -------------------------------------------------------------------------------------------------------- the epochs


def test_a_shorter_run_stays_where_it_ended_and_says_so():
    scene = SCENES["epochs, a short run"]
    assert scene.n == 31 and scene.series[1].until == 12 and scene.series[0].until is None
    assert (scene.arrays["loss-loss-1"][12:] == scene.arrays["loss-loss-1"][12]).all()
    assert "Standard is only at epoch 12 and stays there." in scene.sentences[20]
    assert "stays" not in scene.sentences[12]


def test_a_live_run_has_room_for_what_will_come():
    scene = SCENES["epochs, live"]
    assert (scene.n, scene.last) == (13, 30)
    assert scene.view("accuracy").fig["layout"]["xaxis"]["range"] == [-0.5, 30.5]


def test_numbers_that_stop_being_numbers_are_told():
    scene = SCENES["epochs, broken"]
    assert "not a number (NaN); training has diverged" in scene.sentences[25] and "NaN" not in scene.sentences[19]
    assert [s["x0"] for s in scene.view("accuracy").fig["layout"]["shapes"]] == [20]
    (run,) = named("standard")
    counts = {key: rows.copy() for key, rows in run.history.counts.items()}
    records = [dict(record) for record in run.history.records]
    records[12] |= {"train/loss": None, "test/loss": None}
    said = views.epochs([replace(run, history=replace(run.history, records=records, counts=counts))]).sentences
    assert "not a number (NaN) here" in said[12] and not any("NaN" in words for k, words in enumerate(said) if k != 12)


def test_epoch_0_is_the_untrained_network_and_sentences_state_thresholds():
    scene = views.epochs(named("dynamic", "standard"))
    assert scene.sentences[0].startswith("Epoch 0, the untrained network: ")
    assert "Dynamic's threshold was 0.083 (box FOSC)" in scene.sentences[5]
    assert "Standard spent all 10 gradients on every image." in scene.sentences[5]
    assert "threshold has come down to 0" in scene.sentences[30]


def test_the_sentence_of_an_epoch_says_its_learning_rate_where_it_is_known():
    one = named("standard")[0]
    records = [{**record, "lr": 0.05 / max(1, record["epoch"] - 12)} for record in one.history.records]
    told = replace(one, history=replace(one.history, records=records))
    assert "gradients on every image, at learning rate 0.010." in views.epochs([told]).sentences[17]
    assert "learning rate" not in views.epochs([told]).sentences[0]  # before training nothing is learnt
    assert "learning rate" not in "".join(views.epochs([one]).sentences)


def test_test_images_say_why_nothing_stops():
    view = SCENES["epochs, test images"].view("stops")
    assert view.text and "PGD-20" in view.text and "every step" in view.text


def test_a_robust_accuracy_comes_with_attack_interval_and_n():
    view = views.epochs(named("standard")).view("accuracy")
    robust = next(t for t in view.fig["data"] if "text" in t)
    assert re.match(r"[\d.]+ % robust \([\d.]+ % to [\d.]+ %\), [\d.]+ % clean, 500 images", robust["text"][30])
    assert "PGD-20" in robust["hovertemplate"] and "eps" in robust["hovertemplate"]


def test_a_strategy_keeps_its_colour_and_a_second_run_of_it_gets_another():
    series = SCENES["epochs"].series
    assert [s.color[0] for s in series[:3]] == ["#0072B2", "#D55E00", "#777777"]
    assert [s.dash for s in series[:3]] == ["solid", "dash", "dot"]
    assert len({s.color for s in series}) == 4


# ---------------------------------------------------------------------------------------------------- the trajectory


def test_pictures_are_the_points_of_the_path():
    path = trajectory(3)
    scene = views.trajectory(path)
    assert (scene.arrays["now"][4] == np.round(np.clip(path.z[4, 0], 0, 1) * 255)).all()
    assert (scene.arrays["clean"][0] == scene.arrays["clean"][9]).all()
    change = scene.arrays["change"][10].astype(float) / 255 * 2 - 1
    assert np.abs(change - path.delta[10, 0] / 0.15).max() < 0.01
    assert scene.view("now").at(4).data[0].z.shape == (8, 8, 3)


@pytest.mark.parametrize("form", ["box", "paper"])
def test_the_map_of_fosc_adds_up_to_the_printed_number(form):
    path = trajectory(4)
    view = views.trajectory(path).view(f"map-{form}")
    top = float((path.fosc_map() if form == "box" else pictures_paper(path)).max())
    total = (path.fosc if form == "box" else path.fosc_paper)[3]
    assert view.arrays[f"map-{form}"][3].astype(float).sum() / 255 * top == pytest.approx(total, rel=0.05)
    assert view.notes[0].texts[3] == f"sum {words.number(float(total))}"


def pictures_paper(path):
    return (0.15 * np.abs(path.grad) - path.delta * path.grad).sum(axis=1)


def test_relative_fosc_stands_above_fosc_and_gradient_over_the_same_steps():
    path = trajectory(5)
    fig = views.trajectory(path).view("slope-box").at(4)
    relative, reach, _, fosc = fig.data
    assert relative.y == pytest.approx(path.relative_fosc, abs=1e-4)
    assert fosc.y == pytest.approx(np.log10(path.fosc), abs=1e-3) and fosc.yaxis == reach.yaxis == "y2"
    assert reach.y == pytest.approx(np.log10(0.15 * path.gradient_l1), abs=1e-3)
    assert fig.layout.yaxis.domain[0] > fig.layout.yaxis2.domain[1]


def test_a_rise_of_fosc_is_put_down_to_the_gradient_only_if_relative_fosc_fell():
    said = 0
    for seed in range(20):
        path = trajectory(seed)
        for k, sentence in enumerate(views.trajectory(path).sentences):
            because = "because the gradient grew" in sentence
            said += because
            if because:
                assert path.fosc[k] > path.fosc[k - 1] and path.relative_fosc[k] <= path.relative_fosc[k - 1]
            elif k and path.fosc[k] > 1.01 * path.fosc[k - 1]:
                assert "and relative FOSC with it" in sentence
    assert said > 5


def test_the_first_fooled_step_is_marked_and_told_once():
    path = next(p for p in map(trajectory, range(40)) if (p.steps_to_fool or 0) > 1)
    scene, first = views.trajectory(path), path.steps_to_fool
    assert [k for k, s in enumerate(scene.sentences) if "for the first time" in s] == [first]
    cross = scene.view("margin").fig["data"][1]
    assert cross["x"] == [first] and cross["y"][0] == pytest.approx(path.margin[first], abs=1e-4) and cross["y"][0] <= 0


def test_a_gradient_of_zero_is_said_and_its_relative_fosc_is_not_drawn():
    path = trajectory(1)
    none = {name: 0 * getattr(path, name) for name in ("grad", "gradient_l1", "fosc", "fosc_paper")}
    flat = type(path)(**{**vars(path), **none, "relative_fosc": np.nan * path.fosc})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scene = views.trajectory(flat)
        scene.view("slope-box").at(3)
    assert "The attack cannot move".lower() in scene.sentences[3] and "Try the margin loss." in scene.sentences[3]
    assert set(scene.view("slope-box").fig["data"][0]["y"]) == {None}
    json.dumps(scene.header(), allow_nan=False)


def test_an_l2_path_has_no_map_and_says_why():
    path = trajectory(1)
    round_ball = type(path)(**{**vars(path), "settings": {**path.settings, "norm": "l2"}})
    assert "does not split into pixels" in (views.trajectory(round_ball).view("map-box").text or "")


def test_stopping_early_follows_algorithm_1():
    fosc = np.array([0.0, 0.5, 0.3, 0.1, 0.2, 0.0])
    assert [stop_step(fosc, c) for c in (1.0, 0.5, 0.3, 0.15, 0.05, 0.0)] == [1, 1, 2, 3, 5, 5]


def test_the_threshold_slider_tells_what_stopping_would_have_meant():
    path = trajectory(2)
    box = views.trajectory(path).view("threshold").threshold
    assert box.outcomes[4].startswith(
        f"Stopped after 4 of 10 steps, 5 gradients instead of 10: loss {words.number(float(path.loss[4]))}"
    )
    assert "would not have stopped before the last step: 10 gradients" in box.outcomes[10]
    assert "evaluation" in box.text and "Training with another threshold" in box.text
    assert list(box.curves["box"]) == pytest.approx(path.fosc)


def test_the_overview_shows_medians_over_all_recorded_paths():
    paths = np.stack([trajectory(k).relative_fosc for k in range(9)])
    scene = SCENES["overview"]
    assert scene.arrays["left-0"] == pytest.approx(np.median(paths, axis=0), rel=1e-5)
    assert "Dynamic: half of the images have a relative FOSC of at most" in scene.sentences[4]


# ------------------------------------------------------------------------------------------------------- small things


@pytest.mark.parametrize(
    "value, text",
    [(0.0692, "0.069"), (0, "0"), (3.12e-5, "3.1·10⁻⁵"), (12.4, "12"), (9.96e-6, "1.0·10⁻⁵"), (None, "–"),
     (float("nan"), "–"), (-0.5, "−0.50"), (1234.0, "1234"), (float("inf"), "∞")],
)  # fmt: skip
def test_numbers_in_words(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize("share, text", [(0.31, "31 %"), (0, "0 %"), (1, "100 %"), (0.001, "<1 %"), (0.9999, ">99 %")])
def test_shares_in_words(share, text):
    assert words.percent(share) == text


def test_wilson_intervals_match_the_published_formula():
    low, high = words.wilson(0.5, 100)
    assert (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    low, high = words.wilson(1.0, 500)
    assert high == pytest.approx(1) and low == pytest.approx(1 / (1 + 1.959964**2 / 500))
    assert all(np.isnan(words.wilson(float("nan"), 10)))


def test_a_ramp_begins_and_ends_with_its_anchors():
    table = ramps.table("signed")
    assert table.shape == (256, 3) and tuple(table[0]) == (0x40, 0, 0x4B) and tuple(table[-1]) == (0, 0x44, 0x1B)
    assert ramps.to_bytes(np.array([-1.0, 0, 1, 5, np.nan]), -1, 1).tolist() == [0, 128, 255, 255, 0]


def test_a_view_that_is_only_text_has_no_still():
    with pytest.raises(ValueError, match="not a picture"):
        View("words", "Words", text="only").at(0)


def test_bars_that_do_not_touch_are_drawn_apart():
    bars = {"kind": "bars", "arr": "a", "boxes": [[0, 1], [1, 2], [2, 3]], "color": "@ink", "share": True}
    counts = np.array([[1, 0, 3]], np.uint16)
    view = View("v", "?", fig={"data": [], "layout": {}}, arrays={"a": counts}, moves=[bars])
    assert still.shapes(view, 0)[0]["path"] == "M0,0L0,0.25L1,0.25L1,0M2,0L2,0.75L3,0.75L3,0"
