"""The scrubber's Python side: what it sends, what it makes of a report, and plotly.js laid into place."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dynat_core.errors import DynatError
from dynat_core.recorded.packing import unpack
from ui import scrubber
from ui.scrubber import Report, Selection, read_report

APP = Path(__file__).parent / "browser" / "apps" / "scrub.py"


def sent(app: AppTest) -> tuple[dict, dict]:
    """Header and arrays of the blob that went to the browser."""
    (element,) = app.get("bidi_component")
    return unpack(element.proto.bytes)  # type: ignore[attr-defined]


def test_a_page_sends_its_scene_and_reads_the_report():
    app = AppTest.from_file(APP, default_timeout=30)
    app.query_params["epoch"] = "5"
    app.run()
    assert not app.exception
    header, arrays = sent(app)
    assert (header["n"], header["cursor"], header["run"], header["jump"]) == (31, 5, "run-1", 0)
    assert header["plotly"].startswith("/app/static/plotly-") and len(arrays["loss-loss-0"]) == 31
    app.session_state["scrub"] = {
        "report": {"i": 12, "follow": False, "run": "run-1", "chosen": {"form": "box"}, "hidden": [1]}
    }
    app.run()
    assert any("Report(i=12, follow=False" in caption.value for caption in app.caption)


def test_a_report_about_another_run_is_not_passed_on():
    said = {"i": 3, "follow": True, "run": "a", "chosen": {}, "hidden": [], "selection": None}
    assert read_report(said, None, "a") == Report(3, True, "a")
    assert read_report(said, ("swap-model", 2), "b") == Report(action="swap-model", times=2)
    assert read_report(None, None, "a") == Report()
    assert read_report({**said, "i": -1}, None, "a").i is None


def test_of_what_is_pressed_nothing_is_lost_or_counted_twice_whichever_message_arrives():
    app = AppTest.from_function(pressing)
    heard = []
    said = [("next", 2, "a"), ("next", 5, "a"), ("back", 1, "a"), ("next", 5, "a"), ("next", 6, "a"), ("next", 1, "b"),
            ("back", 2, "b"), ("back", 2, "a")]  # fmt: skip
    for action, total, born in said:
        app.session_state["said"] = {"action": action, "total": total, "born": born}
        heard.append(app.run().text[0].value)
    assert heard == ["('next', 2)", "('next', 3)", "('back', 1)", "None", "('next', 1)", "('next', 1)", "('back', 2)",
                     "('back', 2)"]  # fmt: skip
    app.session_state["said"] = None
    assert app.run().text[0].value == "None"


def pressing() -> None:
    import streamlit as st

    from ui.scrubber import _new

    st.text(str(_new("picture", st.session_state["said"])))


def test_a_selection_keeps_its_open_ends():
    found = {"measure": "fosc", "low": 10.0, "high": None, "i": 4, "counts": {"0": 31, "1": 7}}
    said = {"i": 4, "follow": False, "run": "a", "chosen": {}, "hidden": [], "selection": found}
    assert read_report(said, None, "a").selection == Selection("fosc", 10.0, None, 4, {0: 31, 1: 7})


def test_plotly_js_is_copied_once_and_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    target = tmp_path / "static" / "plotly-1.min.js"
    scrubber._copy_plotly(target)
    assert target.stat().st_size > 1_000_000 and [p.name for p in target.parent.iterdir()] == [target.name]
    (tmp_path / "file").write_text("")
    with pytest.raises(DynatError, match="The charts need"):
        scrubber._copy_plotly(tmp_path / "file" / "plotly-1.min.js")


def test_every_style_is_prefixed_and_no_text_names_another_host():
    css = (scrubber.HERE / "scrub.css").read_text(encoding="utf-8")
    rules = [
        line.split("{")[0].strip() for line in css.split("\n") if "{" in line and not line.startswith(("@", " ", "/"))
    ]
    assert rules and all(part.strip().startswith(".dy") for rule in rules for part in rule.split(","))
    everything = css + scrubber.script() + (scrubber.HERE / "scrub.html").read_text(encoding="utf-8")
    assert "https://" not in everything and everything.count("http://") == everything.count(
        "http://www.w3.org/2000/svg"
    )  # a name, never fetched
