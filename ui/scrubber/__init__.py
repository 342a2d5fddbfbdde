"""The scrubber: one cursor for every view of a page, moved in the browser without asking the server.

`scrubber(...)` shows a `Scene` and returns what the browser reported last: on release, never while the cursor moves.
The cursor belongs to the person: data may change under it, and Python moves it only by raising `jump`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2 import component
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dynat_core.errors import DynatError
from dynat_core.recorded.packing import Blob
from dynat_core.views import Scene

HERE = Path(__file__).parent
SCRIPTS = (
    "data.js",
    "marks.js",
    "boxes.js",
    "save.js",
    "pointer.js",
    "control.js",
    "scrub.js",
)  # one module; the last one exports


def script() -> str:
    """The component's JavaScript, one module of all its files."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)


# Not isolated: Plotly puts its styles into the document's head, where a shadow root would not see them.
_mount = component(
    "dynat_scrubber",
    html=(HERE / "scrub.html").read_text(encoding="utf-8"),
    css=(HERE / "scrub.css").read_text(encoding="utf-8"),
    js=script(),
    isolate_styles=False,
)


@dataclass(frozen=True)
class Selection:
    """What a person brushed: images whose `measure` lies in [low, high) at cursor `i`; None is open.

    counts: place among the series -> images.
    """

    measure: str
    low: float | None
    high: float | None
    i: int
    counts: Mapping[int, int]


@dataclass(frozen=True)
class Report:
    """The browser's last report.

    i: the cursor, None before any report about this run. follow: it stays at the latest. chosen: switch -> value.
    hidden: places of series switched off. action: the page's own key or button pressed just now, so many `times` since
    that was heard last; seen in one run of the script only.
    """

    i: int | None = None
    follow: bool = False
    run: str | None = None
    chosen: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[int, ...] = ()
    selection: Selection | None = None
    action: str | None = None
    times: int = 1


class Prepared:
    """A scene as it travels: much smaller than a Scene, so it can be kept and shown to everybody who asks."""

    def __init__(self, scene: Scene) -> None:
        self.n, self.last = scene.n, scene.last
        self.blob = Blob(scene.header(), scene.arrays)


def scrubber(
    key: str,
    scene: Scene | Prepared,
    *,
    run: str,
    cursor: int | None = None,
    live: bool = False,
    follow: bool = False,
    jump: int = 0,
    pace: int = 140,
) -> Report:
    """Show `scene` under one cursor and return the browser's last report.

    key: keeps the component, and all a person did in it, across reruns. run: what is shown; when it changes the cursor
    goes to `cursor` (None: the last position). live: more positions will come, so offer `follow`. jump: raise it to
    move the cursor to `cursor` at any other time. pace: milliseconds per position while playing.
    Raises DynatError if plotly.js can neither be found nor put into the folder `static`.
    """
    asked = {
        "key": key,
        "run": run,
        "cursor": cursor,
        "live": live,
        "follow": follow,
        "jump": jump,
        "pace": pace,
        "plotly": plotly_url(),
    }
    result = _mount(
        key=key,
        data=(scene if isinstance(scene, Prepared) else Prepared(scene)).blob.with_header(**asked),
        default={"report": None},
        on_report_change=lambda: None,
        on_action_change=lambda: None,
    )
    return read_report(result.report, _new(key, result.action), run)


def _new(key: str, said: Mapping[str, Any] | None) -> tuple[str, int] | None:
    """(action, how often) of what was pressed and not heard yet; the browser says how often in all it was."""
    if not said:
        return None
    heard = st.session_state.setdefault(f"{key}.acted", {})
    if heard.get("born") != said["born"]:  # another picture, which counts anew
        heard.clear()
        heard["born"] = said["born"]
    action, total = str(said["action"]), int(said["total"])
    times, heard[action] = total - heard.get(action, 0), total
    return (action, times) if times > 0 else None


def read_report(said: Mapping[str, Any] | None, pressed: tuple[str, int] | None, run: str) -> Report:
    """The browser's words as a Report; what it said about another run is not passed on. pressed: (action, times)."""
    acted: dict[str, Any] = dict(zip(("action", "times"), pressed, strict=True)) if pressed else {}
    if not said or said.get("run") != run:
        return Report(**acted)
    found = said.get("selection")
    if found:
        found = Selection(**{**found, "counts": {int(k): int(c) for k, c in found["counts"].items()}})
    i = said["i"] if isinstance(said.get("i"), int) and said["i"] >= 0 else None
    return Report(
        i,
        bool(said.get("follow")),
        run,
        dict(said.get("chosen") or {}),
        tuple(said.get("hidden") or ()),
        found,
        **acted,
    )


def plotly_url() -> str:
    """Where the browser finds plotly.js: in `static` beside the main script, copied there once from the package."""
    context = get_script_run_ctx()
    folder = (Path(context.main_script_path).parent if context else HERE.parent.parent) / "static"
    name = f"plotly-{_plotly_version()}.min.js"
    if not (folder / name).is_file():
        _copy_plotly(folder / name)
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"{'/' + base if base else ''}/app/static/{name}"


@cache
def _plotly_version() -> str:
    """Read once: looking through the installed packages took a tenth of the time of a run of a screen."""
    from importlib.metadata import version

    return version("plotly")


def _copy_plotly(target: Path) -> None:
    from importlib.util import find_spec

    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise DynatError('The charts need the package plotly; run "make run" or install requirements-view.txt.')
    source = Path(spec.origin).parent / "package_data" / "plotly.min.js"
    part = target.with_suffix(f".{os.getpid()}.part")  # two servers that start at once do not meet
    try:
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, part)
        part.replace(target)
    except OSError as error:
        raise DynatError(f"The charts need {target}; copying it from {source} failed ({error.strerror}).") from error
