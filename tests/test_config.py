"""Settings: what is refused and in which words, what survives the way through text, presets."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from running import write_run

from dynat_core.config import Dynamic, RunConfig, Settings, Sgd, describe_eps, step_size
from dynat_core.errors import ConfigError, RunError
from dynat_core.presets import PRESETS, describe, preset
from dynat_core.store.evaluation_settings import Ladder, asked, build, measured_threat
from dynat_core.store.runs import RunStore

REFUSED = [
    ({"strategy.alpha": "0"}, "strategy.alpha must be a size in pixels above 0"),
    ({"strategy.alpha": "-0.1"}, "strategy.alpha must be a size in pixels above 0"),
    ({"strategy.alpha": "eps/0"}, "strategy.alpha must be a size in pixels above 0"),
    ({"strategy.alpha": "eps*2"}, "strategy.alpha must be a size in pixels above 0"),
    ({"threat.eps": "1.5"}, "threat.eps must be 1 or less (got 1.5)."),
    ({"threat.eps": "-1/255"}, "threat.eps must be 0 or more"),
    ({"threat.eps": "many"}, "threat.eps must be a number or a fraction such as 8/255 (got many)."),
    ({"threat.eps": "1/0"}, "threat.eps must be a number or a fraction such as 8/255 (got 1/0)."),
    ({"threat.norm": "l1"}, "threat.norm must be one of linf, l2 (got l1)."),
    ({"strategy.c_max": "-1"}, "strategy.c_max must be 0 or more (got -1)."),
    ({"strategy.T_control": "31"}, "strategy.T_control must be at most epochs (31 > 30)."),
    ({"strategy.T_control": "0"}, "strategy.T_control must be 1 or more (got 0)."),
    ({"strategy.stop_form": "slide"}, "strategy.stop_form must be one of 'box', 'paper' or 'code' (got slide)."),
    (
        {"strategy.name": "magic"},
        "strategy.name must be one of unsecured, standard, dynamic, curriculum, fgsm-then-pgd, "
        "trades, l2l (got magic).",
    ),
    ({"strategy.cmax": "1"}, "strategy.cmax is not a setting; did you mean strategy.c_max?"),
    ({"stratgy.c_max": "1"}, "stratgy.c_max is not a setting; did you mean strategy?"),
    ({"strategy.steps": "0"}, "strategy.steps must be 1 or more (got 0)."),
    ({"strategy.steps": "2.5"}, "strategy.steps must be a whole number (got 2.5)."),
    ({"data.train_size": "1151"}, "data.train_size must be at most 1,150, what is left beside 147 for validation."),
    ({"data.test_size": "501"}, "data.test_size must be at most 500, the number of test images."),
    ({"data.validation_size": "1297"}, "data.validation_size must be below 1,297, the number of training images."),
    (
        {"data.name": "mnist"},
        "model.name digits-cnn is made for digits; for mnist choose mnist-cnn, preact-resnet18, wide-resnet.",
    ),
    (
        {"model.name": "wide-resnet", "model.depth": "12"},
        "model.depth must be 6 n + 4: 10, 16, 22, 28, 34, 40, ... (got 12).",
    ),
    (
        {"optimizer.milestones": "[5, 3]"},
        "optimizer.milestones must be epochs of at least 1 in rising order, such as [20, 40] (got [5, 3]).",
    ),
    ({"optimizer.lr": "0"}, "optimizer.lr must be above 0 (got 0)."),
    ({"optimizer.batch": "1"}, "optimizer.batch must be 2 or more (got 1)."),
    ({"epochs": "0"}, "epochs must be 1 or more (got 0)."),
    ({"device": "gpu"}, "device must be auto, cpu, cuda or cuda:N (got gpu)."),
    ({"precision": "quick"}, "precision must be one of 'exact' or 'fast' (got quick)."),
    ({"seed": "-1"}, "seed must be 0 or more (got -1)."),
    ({"seed": "true"}, "seed must be a whole number (got true)."),
    ({"data.train_size": "false"}, "data.train_size must be a whole number (got false)."),
    ({"optimizer.milestones": "[true]"}, "optimizer.milestones.0 must be a whole number (got true)."),
    ({"threat.eps": "true"}, "threat.eps must be a number or a fraction such as 8/255 (got true)."),
    ({"optimizer.momentum": "false"}, "optimizer.momentum must be a number or a fraction such as 8/255 (got false)."),
    ({"threat.norm": "l2", "threat.eps": "1e300"}, "threat.eps must be 100000 or less (got 1e+300)."),
    ({"threat": "3"}, "threat must be a group of settings (got 3)."),
    ({"recording.keep_weights": "none"}, "recording.keep_weights must be one of 'all' or 'best-last' (got none)."),
    ({"strategy.c_max.deep": "1"}, "strategy.c_max.deep is not a setting: strategy has no parts of that name."),
]


@pytest.mark.parametrize("changes, words", REFUSED, ids=lambda v: next(iter(v)) if isinstance(v, dict) else "")
def test_what_is_wrong_is_said_in_one_sentence(changes, words):
    with pytest.raises(ConfigError) as caught:
        RunConfig().with_values(changes)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def kinds_of_settings():
    """Every class of settings of a run or a measurement."""
    found, new = set(), {Settings}
    while new:
        new = {
            kind
            for known in new
            for kind in known.__subclasses__()
            if kind.__module__.startswith(("dynat_core.config", "dynat_core.store"))
        }
        found |= new
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", kinds_of_settings(), ids=lambda kind: kind.__name__)
def test_a_switch_is_no_number(kind):
    """Wherever True is taken it stays True: nowhere it becomes 1."""
    for name, field in kind.model_fields.items():
        for switch in (True, [True], (True,)):
            try:
                made = getattr(kind.model_validate({name: switch}), name)
            except ValidationError:
                continue
            assert made is switch is True and field.annotation is bool, name


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"threat.eps": "0"}, "threat.eps must be above 0 where Dynamic attacks (got 0)."),
        (
            {"threat.eps": "0", "threat.norm": "l2", "strategy.name": "trades"},
            "threat.eps must be above 0 where TRADES",
        ),
        ({"threat.eps": "0", "strategy.name": "unsecured"}, None),
    ],
)
def test_an_attack_in_a_ball_of_nothing_is_not_begun_and_an_old_run_with_one_still_opens(tmp_path, changes, field):
    config = RunConfig().with_values(changes)
    store = RunStore(tmp_path)
    if field is None:
        assert store.create(config).state == "queued"
        return
    with pytest.raises(RunError) as caught:
        store.create(config)
    assert str(caught.value).startswith(field)
    write_run(tmp_path / "old", config=config.model_dump(mode="json"))
    assert store.open("old").config == config


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"optimizer.milestones": "[500]"}, "optimizer.milestones: 500 is not reached in 30 epochs."),
        ({"optimizer.milestones": "[3, 30, 31]"}, "optimizer.milestones: 30, 31 are not reached in 30 epochs."),
        ({"optimizer.milestones": "[3, 29]"}, None),
        ({"optimizer.milestones": "[500]", "optimizer.schedule": "hold-then-fall"}, None),
        ({"optimizer.milestones": "[500]", "strategy.name": "elsewhere", "epochs": 0}, None),
    ],
)
def test_milestones_that_never_come_are_said_and_allowed(changes, says):
    assert RunConfig().with_values(changes).unreached() == says


EVALUATIONS_REFUSED = [
    ({"epoch": "-1"}, "epoch must be best, last or the number of an epoch (got -1)."),
    ({"epoch": "first"}, "epoch must be best, last or the number of an epoch (got first)."),
    ({"epoch": "true"}, "epoch must be best, last or the number of an epoch (got true)."),
    ({"epoch": "1.5"}, "epoch must be best, last or the number of an epoch (got 1.5)."),
    ({"epoch": "[1]"}, "epoch must be best, last or the number of an epoch (got [1])."),
    ({"epoch": "9" * 5000}, "epoch must be best, last or the number of an epoch"),
    ({"seed": "true"}, "seed must be a whole number (got true)."),
    ({"n": "true"}, "n must be a whole number (got true)."),
    ({"images": "[]"}, "images must name at least 1 (got [])."),
    ({"images": "-1"}, "images.0 must be 0 or more (got -1)."),
    ({"images": "[true]"}, "images.0 must be a whole number (got true)."),
    ({"eps": "1e300"}, "eps must be 100000 or less"),
    ({"eps": "true"}, "eps must be a number or a fraction such as 8/255 (got true)."),
    ({"eps": "2", "norm": "linf"}, "eps must be 1 or less where norm is linf (got 2)."),
]


@pytest.mark.parametrize("changes, words", EVALUATIONS_REFUSED)
def test_what_is_wrong_with_a_measurement_is_said_in_one_sentence(changes, words):
    with pytest.raises(ConfigError) as caught:
        asked("ladder", changes)
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)


def test_a_measurement_is_taken_as_it_is_typed():
    found = asked("check", {"epoch": "3", "images": "4, 7", "eps": "8/255", "norm": "linf", "seed": "2"})
    assert (found.epoch, found.images, found.eps, found.seed) == (3, (4, 7), 8 / 255, 2)
    assert [asked("check", {"epoch": word}).epoch for word in ("best", "last", "0")] == ["best", "last", 0]
    assert build(found.model_dump(mode="json")) == found


def test_a_measurement_in_a_ball_that_cannot_be_is_refused_before_it_waits():
    nothing = RunConfig().with_values({"threat.eps": 0, "strategy.name": "unsecured"})
    with pytest.raises(ConfigError, match="own eps is 0, where there is nothing to attack; give another"):
        measured_threat(nothing, Ladder())
    assert measured_threat(nothing, Ladder(eps=0.1)).eps == 0.1
    with pytest.raises(ConfigError, match="threat.eps must be 1 or less"):
        measured_threat(RunConfig(), Ladder(eps=3))
    assert measured_threat(RunConfig(), Ladder(eps=3, norm="l2")).eps == 3
    assert measured_threat(RunConfig(), Ladder()) == RunConfig().threat


@pytest.mark.parametrize(
    "typed, milestones",
    [("[8, 11]", (8, 11)), ("8,11", (8, 11)), ("8, 11", (8, 11)), ("8 11", (8, 11)), ("8", (8,)), ("[]", ()), ("", ()),
     (" 8 , 11 ,", (8, 11)), ([8, 11], (8, 11))],
)  # fmt: skip
def test_a_list_is_typed_as_json_or_as_into_the_form(typed, milestones):
    for optimizer in ("sgd", "entropy-sgd"):
        config = RunConfig().with_values({"optimizer.milestones": typed, "optimizer.name": optimizer})
        assert config.optimizer.milestones == milestones


@pytest.mark.parametrize(
    "typed, words",
    [
        ("11,8", "optimizer.milestones must be epochs of at least 1 in rising order, such as [20, 40] (got "),
        ("0,8", "optimizer.milestones must be epochs of at least 1 in rising order"),
        ("8;11", "optimizer.milestones.0 must be a whole number (got 8;11)."),
        ("8,eleven", "optimizer.milestones.1 must be a whole number (got eleven)."),
        ("8,1.5", "optimizer.milestones.1 must be a whole number"),
        ("[8, 11", "optimizer.milestones.0 must be a whole number"),
        ("null", "optimizer.milestones must be a list such as [20, 40]"),
        ("true", "optimizer.milestones must be a list such as [20, 40]"),
        ('{"a": 1}', "optimizer.milestones must be a list such as [20, 40]"),
    ],
)
def test_a_list_that_is_none_is_one_sentence(typed, words):
    with pytest.raises(ConfigError) as caught:
        RunConfig().with_values({"optimizer.milestones": typed})
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)


TEXT = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(JSON, st.sampled_from(["", *RunConfig.model_fields]))
def test_any_rubbish_is_refused_in_one_sentence_or_is_fine(value, key):
    try:
        config = RunConfig.build({key: value} if key else value)
    except ConfigError as error:
        assert "\n" not in str(error).replace(repr(value), "")
    else:
        assert RunConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"epochs": NaN}', "[" * 100_000])
def test_text_that_is_no_settings_is_refused(text):
    with pytest.raises(ConfigError):
        RunConfig.from_json(text)


def test_settings_are_frozen_and_survive_json():
    config = RunConfig().with_values(
        {"threat.eps": "8/255", "optimizer.milestones": "[3, 9]", "strategy.alpha": "2/255"}
    )
    assert RunConfig.from_json(config.to_json()) == config
    assert config.threat.eps == 8 / 255 and config.alpha == 2 / 255
    with pytest.raises(Exception, match="frozen"):
        config.epochs = 3  # type: ignore[misc]


def test_a_new_kind_keeps_what_both_kinds_have():
    config = RunConfig().with_values({"strategy.steps": "7", "strategy.name": "standard", "epochs": "2"})
    assert config.strategy.model_dump() == {"name": "standard", "steps": 7, "alpha": "eps/4", "start": "random",
                                            "as_published": "paper"}  # fmt: skip
    back = config.with_values({"strategy.name": "dynamic", "strategy.T_control": "2"})
    assert back.strategy.model_dump()["steps"] == 7 and isinstance(back.strategy, Dynamic)


@pytest.mark.parametrize(
    "eps, words",
    [
        (8 / 255, "8/255 (0.03137)"),
        (0.3, "0.3 (76.5/255)"),
        (0.031, "0.031 (7.905/255)"),
        (0.0, "0 (0/255)"),
        (1.0, "255/255 (1)"),
    ],
)
def test_eps_is_echoed_in_both_units(eps, words):
    assert describe_eps(eps) == words


@pytest.mark.parametrize("alpha, pixels", [("eps/4", 0.075), ("eps", 0.3), ("eps/2.5", 0.12), (0.01, 0.01)])
def test_step_sizes(alpha, pixels):
    assert step_size(alpha, 0.3) == pytest.approx(pixels)


def test_the_threshold_falls_in_a_straight_line_to_zero():
    dynamic = Dynamic(c_max=0.5, T_control=40)
    expected = [0.5 * (1 - t / 40) for t in range(41)] + [0.0] * 9
    assert [dynamic.threshold(t) for t in range(50)] == pytest.approx(expected)


def test_the_learning_rate_falls_at_its_milestones():
    sgd = Sgd(lr=0.01, milestones=(20, 40))
    assert [sgd.rate(t) for t in (0, 19, 20, 39, 40, 49)] == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_is_described_and_survives_json(name):
    config = preset(name)
    assert RunConfig.from_json(config.to_json()) == config
    assert describe(name).endswith(".") and config.summary()


def test_the_papers_presets_are_the_papers_settings():
    for name, epochs, milestones, eps, control in [
        ("mnist", 50, (20, 40), 0.3, 40),
        ("cifar10", 120, (60, 100), 8 / 255, 100),
        ("wrn", 120, (60, 100), 8 / 255, 100),
    ]:
        config = preset(f"{name}-dynamic")
        sgd, strategy = config.optimizer, config.strategy
        assert (config.epochs, sgd.milestones, config.threat.eps) == (epochs, milestones, eps)
        assert (sgd.lr, sgd.momentum, sgd.weight_decay, sgd.batch) == (0.01, 0.9, 1e-4, 128)
        assert json.loads(strategy.model_dump_json()) == {
            "name": "dynamic", "steps": 10, "alpha": "eps/4", "start": "random", "c_max": 0.5, "T_control": control,
            "stop_form": "paper", "as_published": "paper",
        }  # fmt: skip


def test_an_unknown_preset_suggests_the_nearest():
    with pytest.raises(ConfigError, match="did you mean mnist-dynamic"):
        preset("mnist-dynamics")
