"""The query string of a screen, as a browser says it that lags behind: nothing chosen is undone by an old one."""

from __future__ import annotations

import random

import pytest
from streamlit.testing.v1 import AppTest

from ui import link

NAMES = ("run", "image", "step")


def screen() -> None:
    """A screen with three links, each written by a field of its own."""
    import streamlit as st

    from ui.link import Link, entered

    entered("screen")
    for name in ("run", "image", "step"):
        one = Link("screen", name)
        one.arrived()
        st.text_input(name, key=name, on_change=lambda one=one: one.write(st.session_state[one.name] or None))
        st.text(f"{name}={one.value}")


def address(app: AppTest) -> dict[str, str]:
    """The query string as the server has it."""
    return {name: found if isinstance(found, str) else found[-1] for name, found in app.query_params.items()}


def shown(app: AppTest) -> dict[str, str]:
    """What the screen takes for its values."""
    pairs = (text.value.split("=") for text in app.text)
    return {name: value for name, value in pairs if value != "None"}


@pytest.mark.parametrize("seed", range(20))
def test_however_far_a_browser_lags_what_was_chosen_last_stays(seed, monkeypatch):
    monkeypatch.setattr(link, "SETTLING", 600.0)
    chance = random.Random(seed)
    app = AppTest.from_function(screen, default_timeout=60)
    app.query_params["run"] = "0"
    app.run()
    told, heard = [address(app)], 0  # addresses the server has sent, and how many of them the browser knows
    chosen = dict(told[0])
    for value in range(1, 12):
        heard = chance.randint(heard, len(told) - 1)
        app.query_params.clear()
        app.query_params.update(told[heard])
        if chance.random() < 0.8:
            name = chance.choice(NAMES)
            text = str(value) if chance.random() < 0.9 else ""
            chosen = {**chosen, name: text}
            app.text_input(key=name).set_value(text)
        app.run()
        assert shown(app) == {name: text for name, text in chosen.items() if text}
        if address(app) != told[heard]:
            told.append(address(app))
    app.query_params.clear()
    app.query_params.update(told[-1])
    app.run()
    assert shown(app) == address(app) == {name: text for name, text in chosen.items() if text}


def test_what_the_browser_has_shown_since_is_believed_when_it_says_the_old_again():
    """The menu, or a Back whose sign was lost among other messages."""
    app = AppTest.from_function(screen, default_timeout=60)
    app.query_params["image"] = "1"
    app.run()
    app.text_input(key="image").set_value("2").run()
    app.query_params["image"] = "1"
    assert shown(app.run()) == {"image": "2"}  # the browser is behind
    app.query_params["image"] = "2"
    assert shown(app.run()) == {"image": "2"}  # here it has heard
    app.query_params["image"] = "1"
    assert shown(app.run()) == {"image": "1"}


def test_a_value_that_came_back_is_not_taken_for_an_old_one(monkeypatch):
    app = AppTest.from_function(screen, default_timeout=60)
    app.query_params["image"] = "1"
    app.run()
    for value in ("2", "1"):
        app.text_input(key="image").set_value(value).run()
    app.run()
    app.query_params["image"] = "2"  # on its way to the 1 that was chosen last
    assert shown(app.run()) == {"image": "1"}
    monkeypatch.setattr(link, "SETTLING", 0.0)
    assert shown(app.run()) == {"image": "2"}  # no line is that slow


def moving() -> None:
    """A field that shows what something else may set."""
    import streamlit as st

    from ui.link import moved

    def chosen(value: str) -> None:
        st.session_state["value"] = value
        st.session_state["heard"] = [*st.session_state.get("heard", []), value]

    st.text_input("field", **moved("field", st.session_state.setdefault("value", "a"), chosen))


def test_a_widget_has_another_key_once_something_else_moved_it():
    app = AppTest.from_function(moving, default_timeout=60).run()
    (field,) = app.text_input
    key = field.key
    app.text_input[0].set_value("b").run()
    assert app.text_input[0].key == key and app.text_input[0].value == "b"
    app.session_state["value"] = "c"
    app.run()
    assert app.text_input[0].key != key and app.text_input[0].value == "c"
    app.text_input[0].set_value("d").run()
    assert app.session_state["heard"] == ["b", "d"] and app.session_state["value"] == "d"


def listing() -> None:
    """A list whose labels are counted."""
    import streamlit as st

    from ui.link import moved

    chosen = st.session_state.setdefault("heard", []).append
    st.selectbox("field", ["a", "b"], **moved("field", "a", chosen, ["a", "b"]))


def test_a_list_shows_its_labels_of_today():
    app = AppTest.from_function(listing, default_timeout=60).run()
    for _ in range(2):
        assert app.run().selectbox[0].proto.set_value  # a browser keeps the label it has, unless it is told


def test_what_an_old_widget_says_last_is_no_choice():
    app = AppTest.from_function(moving, default_timeout=60).run()
    app.text_input[0].set_value("b")  # as the browser says it, beside another change of which it knows nothing
    app.session_state["field.moved"] = 1
    app.run()
    assert "heard" not in app.session_state and app.text_input[0].value == "a"
