"""The form made from the settings classes: what is typed, what is wrong with it, and what comes out."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from dynat_core.config import RunConfig
from dynat_core.presets import PRESETS, preset
from ui.form import as_text, judge, read, show


def script() -> None:
    import streamlit as st

    from dynat_core.presets import preset
    from ui.form import ConfigForm

    form = ConfigForm("f", preset(st.query_params.get("preset", "quick")))
    if st.button("load", key="load"):
        form.load(preset("mnist-dynamic"))
    form.row(["name", "seed", "epochs", "precision", "device"])
    for group in ("data", "model", "threat", "strategy", "optimizer", "recording"):
        form.group(group)
    st.session_state["result"] = form.config.to_json() if form.config else None
    st.session_state["problems"] = form.problems


@pytest.fixture
def app():
    app = AppTest.from_function(script, default_timeout=30).run()
    assert not app.exception
    return app


def result(app: AppTest) -> RunConfig:
    return RunConfig.from_json(app.session_state["result"])


def widget(app: AppTest, path: str):
    """The widget of a field, whatever kind it is."""
    round_ = app.session_state["f.round"]
    for kind in (app.text_input, app.selectbox, app.toggle):
        for found in kind:
            if found.key == f"f.{round_}.{path}":
                return found
    raise AssertionError(f"no widget for {path}")


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_goes_through_the_form_unchanged(name):
    app = AppTest.from_function(script, default_timeout=30)
    app.query_params["preset"] = name
    app.run()
    assert not app.exception
    assert result(app) == preset(name)


def test_every_setting_has_a_field_with_its_description(app):
    shown = {w.key.split(".", 2)[2] for kind in (app.text_input, app.selectbox, app.toggle) for w in kind}
    assert shown == set(as_text(result(app)))
    assert "FOSC threshold of the first epoch" in widget(app, "strategy.c_max").help


def test_what_is_typed_becomes_the_setting(app):
    widget(app, "threat.eps").input("8/255").run()
    widget(app, "strategy.c_max").input("1/4").run()
    widget(app, "optimizer.milestones").input("2, 4").run()
    widget(app, "data.test_size").input("").run()
    config = result(app)
    assert (config.threat.eps, config.optimizer.milestones) == (8 / 255, (2, 4))
    assert config.strategy.model_dump()["c_max"] == 0.25
    assert config.data.test_size is None
    assert any("8/255 (0.03137)" in c.value for c in app.caption)


def test_a_union_choice_brings_its_own_fields(app):
    widget(app, "strategy.name").select("standard").run()
    assert result(app).strategy.name == "standard"
    with pytest.raises(AssertionError):
        widget(app, "strategy.c_max")
    widget(app, "strategy.name").select("dynamic").run()
    assert widget(app, "strategy.c_max").value == "0.1"


def test_another_data_set_brings_a_network_that_fits_it(app):
    widget(app, "data.name").select("mnist").run()
    config = result(app)
    assert (config.model.name, config.data.validation_size) == ("mnist-cnn", 1000)
    widget(app, "data.name").select("cifar10").run()
    assert result(app).model.name == "cifar10-cnn"


def test_every_wrong_field_has_its_own_sentence(app):
    widget(app, "threat.eps").input("2").run()
    widget(app, "strategy.steps").input("ten").run()
    widget(app, "optimizer.milestones").input("2, x").run()
    assert app.session_state["result"] is None
    problems = app.session_state["problems"]
    assert set(problems) == {"threat.eps", "strategy.steps", "optimizer.milestones"}
    assert problems["threat.eps"] == "eps must be 1 or less (got 2.0)."
    assert all(p.endswith(".") and p.count(". ") == 0 for p in problems.values())
    assert any('role="alert"' in h.body and "eps must be 1 or less" in h.body for h in app.get("html"))


def test_fields_that_do_not_fit_together_are_said_at_one_of_them(app):
    widget(app, "epochs").input("3").run()
    assert app.session_state["problems"] == {"strategy.T_control": "T_control must be at most epochs (4 > 3)."}


def test_an_attack_in_a_ball_of_nothing_is_said_at_its_size(app):
    widget(app, "threat.eps").input("0").run()
    assert app.session_state["problems"] == {"threat.eps": "eps must be above 0 where Dynamic attacks (got 0)."}


def test_milestones_that_never_come_are_said_below_them(app):
    widget(app, "optimizer.milestones").input("3, 500").run()
    assert app.session_state["problems"] == {}
    assert "500 is not reached in 5 epochs." in [caption.value for caption in app.caption]


def test_loading_begins_again(app):
    widget(app, "epochs").input("3").run()
    app.button("load").click().run()
    assert result(app) == preset("mnist-dynamic")
    assert widget(app, "epochs").value == "50"


def test_what_is_typed_is_never_taken_for_html(app):
    widget(app, "threat.eps").input("<img src=x onerror=alert(1)>").run()
    assert not any("<img" in h.body for h in app.get("html"))


@pytest.mark.parametrize(
    "path, value, text",
    [
        ("threat.eps", 8 / 255, "8/255"),
        ("threat.eps", 0.15, "0.15"),
        ("strategy.alpha", "eps/4", "eps/4"),
        ("optimizer.weight_decay", 1e-4, "0.0001"),
        ("optimizer.lr", 0.1 + 0.2, "0.30000000000000004"),
        ("optimizer.milestones", (20, 40), "20, 40"),
        ("data.train_size", None, ""),
        ("recording.paths", True, True),
    ],
)
def test_a_value_is_shown_so_that_reading_it_gives_it_back(path, value, text):
    assert show(path, value) == text


def test_judging_names_what_belongs_to_no_field():
    config, problems = judge({"epochs": 5, "bogus": 1})
    assert config is None and problems["bogus"].startswith("bogus is not a setting")


def test_reading_keeps_nonsense_for_the_settings_to_refuse():
    assert read(" 3 ", RunConfig.model_fields["epochs"]) == "3"
    assert read("", RunConfig.model_fields["name"]) is None
    assert read("", RunConfig.model_fields["epochs"]) == ""
