"""The playground of the Learn screen: a classifier of points in the plane, attacked and trained in the browser.

Nothing here asks the server while a person plays. `playground(...)` mounts it and returns where a person wants to go on
to; `offline_page()` is the same page as one HTML file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from streamlit.components.v2 import component

from ui.playground.sheets import one_file, sheet

HERE = Path(__file__).parent
DOCS = HERE.parent.parent / "docs"
SCRIPTS = (
    "maths.js",
    "state.js",
    "training.js",
    "plane.js",
    "panels.js",
    "lesson.js",
    "controls.js",
    "play.js",
)  # one module; the last one exports


def script() -> str:
    """The component's JavaScript, one module of all its files."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


_mount = component(
    "dynat_playground", html=_text("play.html"), css=_text("play.css"), js=script(), isolate_styles=False
)


class Way(NamedTuple):
    """Where a person wants to go on to: a screen and its query string."""

    page: str
    query: str


def playground(key: str, *, teach: bool = False) -> Way | None:
    """Show the playground; a Way is returned in the one run of the script after its link was pressed."""
    result = _mount(key=key, data=_data(teach), on_go_change=lambda: None)
    return read_way(result.go)


def read_way(said: Mapping[str, Any] | None) -> Way | None:
    """The browser's words as a Way; anything else is not followed."""
    if not said or not isinstance(said.get("page"), str) or not isinstance(said.get("query"), str):
        return None
    return Way(said["page"], said["query"])


def offline_page() -> str:
    """The whole page as one HTML file that needs no server and no network."""
    return one_file(_text("play.html"), _text("play.css"), script(), sheets=_sheets())


def _sheets() -> dict[str, str]:
    return {name: sheet(DOCS / file) for name, file in (("worksheet", "worksheet.md"), ("notes", "lesson.md"))}


def _data(teach: bool) -> dict[str, Any]:
    return {"teach": teach, "offline": offline_page(), **_sheets()}
