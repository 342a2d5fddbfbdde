"""What a screen shows, in its query string: deep links, Back and the menu all lead to the same place.

Streamlit adds one entry to the browser's history for every write, so only what a person changed is written. The query
string that a rerun sees is the one that the browser showed when it asked for it, and that lags behind what was written,
on a busy machine by seconds. So a value that was replaced is not believed again until the browser has shown the one
after it, unless the person went Back to it; and a write, which sends all of it, puts right what is old in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from ui.scrubber import Report, read_report
from ui.words import plain

SETTLING = 10.0  # seconds after a write in which a slow browser may still send the query string of before
BEGUN_WITH = "train.begun-with"  # in the session: the (clone, preset) that the form of Train was filled from
_UNREAD = object()
_FIRST = ("run", "epoch", "image", "step")


def entered(screen: str) -> None:
    """Note that `screen` is shown now, at the start of a whole run, after its callbacks.

    After a change of screens every link is read anew; after Back, or once the browser has shown what was written, it is
    believed. A run right after a write may be one that we asked for, with our own query string, and says nothing.
    """
    came = st.session_state.get("link.screen") != screen
    st.session_state["link.screen"] = screen
    written = st.session_state.pop("link.written", set())
    for name in _of("replaced", screen):
        link = Link(screen, name)
        if came or went_back() or (name not in written and link.is_shown() and link.value not in link.doubted()):
            _kept("replaced").pop((screen, name))
    for name in _of("seen", screen) if came else ():
        _kept("seen").pop((screen, name))


def _kept(what: str) -> dict[tuple[str, str], Any]:
    """(screen, name) of a link -> what the session keeps of it; one dictionary, since walking through the state itself,
    in every run, reads every value in it."""
    return st.session_state.setdefault(f"link.{what}", {})


def _of(what: str, screen: str) -> list[str]:
    """Names of the links of a screen of which that is kept."""
    return [name for at, name in _kept(what) if at == screen]


def went_back() -> bool:
    """Whether this run answers the browser's Back or Forward."""
    return bool(getattr(get_script_run_ctx(), "is_history_navigation", False))


def remembered(screen: str, state: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The query string that leads back to what `screen` last showed, what matters most first.

    state: the session's state as plain data, where somebody asks for many screens; walking through the state itself
    for each entry of the menu took a tenth of the time of a page.
    """
    prefix = f"link.value.{screen}."
    state = st.session_state.to_dict() if state is None else state
    values = {str(k).removeprefix(prefix): v for k, v in state.items() if str(k).startswith(prefix)}
    order = sorted(values, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))
    return {name: values[name] for name in order if values[name] is not None}


class Link:
    """One value of a screen: in the session, and under `name` in the query string."""

    def __init__(self, screen: str, name: str) -> None:
        self.screen, self.name = screen, name
        self._at, self._value = (screen, name), f"link.value.{screen}.{name}"

    @property
    def value(self) -> str | None:
        """The value as text, None for the default."""
        return st.session_state.get(self._value)

    def arrived(self) -> bool:
        """Take the value from the query string if that has changed by itself: a deep link, Back, the menu.

        To be asked once in each whole run of a page, never in a fragment.
        """
        there = st.query_params.get(self.name)
        if there == _kept("seen").get(self._at, _UNREAD) or there in self.doubted():
            return False
        _kept("seen")[self._at] = st.session_state[self._value] = there
        return True

    def write(self, value: str | None) -> None:
        """What a person chose; None, the default, leaves the query string."""
        there = st.query_params.get(self.name)
        if value == self.value and value == there:
            return
        now = time.monotonic()
        _kept("replaced")[self._at] = {**self.doubted(), there: now, self.value: now}
        _kept("seen")[self._at] = st.session_state[self._value] = value
        changed = {self.name: value}
        for link in (Link(self.screen, name) for name in _of("replaced", self.screen) if name != self.name):
            if not link.is_shown() and st.query_params.get(link.name) in link.doubted():  # else it is a way Back
                changed[link.name] = link.value
        st.session_state.setdefault("link.written", set()).update(changed)
        query = {**st.query_params.to_dict(), **changed}
        st.query_params.from_dict({name: text for name, text in query.items() if text is not None})

    def is_shown(self) -> bool:
        """Whether the query string has the value."""
        return st.query_params.get(self.name) == self.value

    def doubted(self) -> dict[str | None, float]:
        """The values that the browser may still take for the present one, and when each was replaced. Where the value
        is among them, the browser may show it as the older one, with more to come."""
        known: dict[str | None, float] = _kept("replaced").get(self._at, {})
        return {old: when for old, when in known.items() if time.monotonic() - when < SETTLING}


def whole_number(text: str, digits: int = 6) -> int:
    """A number of the query string, 0 or more; -1 for anything else, and for one that is too long to mean anything."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= digits else -1


def unknown(link: Link, options: Iterable[str], what: str = "") -> str | None:
    """A sentence about a value of the query string that is none of `options`; None where it is one, or is not there.

    what: the word for it; default its name there.
    """
    known = list(options)
    if link.value is None or link.value in known:
        return None
    return f"There is no {what or link.name} called {link.value[:40]!r}; there is {', '.join(known) or 'none'}."


def moved(
    key: str, value: Any, chosen: Callable[[Any], None], options: Sequence[Any] | None = None
) -> dict[str, Any]:  # fmt: skip
    """Key and callback of a widget that shows `value`: the same key while a hand moves it, another when something else
    did.

    chosen: told what the hand chose. options: of a list whose labels may change, which are what a browser says.
    Every message of a browser brings the values of all widgets as it shows them. One that has not heard yet what was
    moved for it says the old value, which is not what a person chose just now. A key costs the session some hundred
    bytes and what `chosen` holds, so this is for what keys and other widgets move, not for what only Back does.
    """
    counted = f"{key}.moved"
    now = f"{key}.{st.session_state.setdefault(counted, 0)}"
    if st.session_state.get(now, value) != value:
        st.session_state[counted] += 1
        now = f"{key}.{st.session_state[counted]}"
    if options is not None or now not in st.session_state:  # set again, a list shows the label of today
        st.session_state[now] = value

    def changed() -> None:
        last_words = now != f"{key}.{st.session_state[counted]}"  # of a widget that is gone
        if not last_words and (options is None or st.session_state[now] in options):
            chosen(st.session_state[now])

    return {"key": now, "on_change": changed}


def choice(screen: str, name: str, label: str, options: dict[str, str], what: str = "", **how: Any) -> str:
    """A segmented control whose value (a key of `options`, the first is the default) is in the query string.

    what: the word for it where one is missing; default its name there.
    """
    link, key = Link(screen, name), f"{screen}.{name}"
    default = next(iter(options))
    if link.arrived() or key not in st.session_state:
        st.session_state[key] = link.value if link.value in options else default
        if problem := unknown(link, options, what):
            st.error(plain(problem))

    def changed() -> None:
        link.write(None if st.session_state[key] == default else st.session_state[key])

    st.segmented_control(
        label, list(options), format_func=lambda v: options[v], key=key, on_change=changed, required=True, **how
    )
    return st.session_state[key]


@dataclass
class _Place:
    goto: int | None = None  # where Python wants the cursor; None: where the page starts
    jump: int = 0
    heard: tuple[int, bool] | None = None


def told(key: str, run: str) -> Report:
    """The report that the scrubber `key` has made already, before it is drawn again: what is drawn should agree."""
    state = st.session_state.get(key)
    return read_report(state.get("report") if state else None, None, run)


class Switched:
    """A switch of the scrubber (FOSC form, view) in the query string; what the browser chose is written once.

    The component repeats its last report in every run, so only a choice that was not heard before counts: otherwise
    Back would be undone by the report of the choice it takes back.
    """

    def __init__(self, screen: str, name: str, switch: str, options: Sequence[str]) -> None:
        self._link, self._switch, self._options = Link(screen, name), switch, options
        self._heard = f"link.heard.{screen}.{name}"

    def read(self) -> str | None:
        """Take a deep link or Back, in a whole run; returns a sentence when it asks for what is no option."""
        return unknown(self._link, self._options) if self._link.arrived() else None

    @property
    def value(self) -> str:
        """The option shown."""
        value = self._link.value
        return value if value is not None and value in self._options else self._options[0]

    def heard(self, report: Report) -> None:
        """Write what a person switched to."""
        chosen = report.chosen.get(self._switch)
        if chosen not in self._options or chosen == st.session_state.get(self._heard, self.value):
            return
        st.session_state[self._heard] = chosen
        self._link.write(None if chosen == self._options[0] else chosen)


class Cursor:
    """The scrubber's cursor in the query string: read in whole runs, written when the browser reports."""

    def __init__(self, screen: str, name: str) -> None:
        self._link = Link(screen, name)
        self._place: _Place = st.session_state.setdefault(f"{screen}.cursor.{name}", _Place())

    def read(self, last: int | None = None) -> str | None:
        """Take a deep link or Back, in a whole run; `last` is the last position there is, None if more may come.

        Returns a sentence when the query string asks for a position that cannot be.
        """
        if not self._link.arrived():
            return None
        text = self._link.value
        self._place.goto, problem = None, None
        number = whole_number(text or "")
        if number >= 0:
            self._place.goto = number
            if last is not None and number > last:
                self._place.goto = None
                problem = f"There is no {self._link.name} {number}; the last one is {last}."
        elif text is not None:
            problem = f"{text[:40]!r} is no {self._link.name}; it must be a whole number, 0 or more."
        self._place.jump += 1
        return problem

    def to(self, i: int) -> None:
        """Move the cursor from Python."""
        self._place.goto = i
        self._place.jump += 1
        self._link.write(str(i))

    @property
    def goto(self) -> int | None:
        """Where the cursor was last sent or seen; None: nowhere yet, or following the latest."""
        return self._place.goto

    @property
    def jump(self) -> int:
        """Rises when Python moves the cursor."""
        return self._place.jump

    def heard(self, report: Report) -> None:
        """Write where a person put the cursor."""
        if report.i is None or (report.i, report.follow) == self._place.heard:
            return
        first = self._place.heard is None and report.i == self._place.goto
        self._place.heard = (report.i, report.follow)
        self._place.goto = None if report.follow else report.i
        if not first:
            self._link.write(None if report.follow else str(report.i))


def train_with(**start: str) -> None:
    """Open Train with the settings that `clone` or `preset` names: as they are, whatever was made of them before."""
    st.session_state.pop(BEGUN_WITH, None)
    st.switch_page("pages/train.py", query_params=carry(**start))


def carry(**values: str | int | Sequence[str] | None) -> dict[str, str]:
    """A query string for a link to another screen; what is None is left out, and teacher mode stays on."""
    keep = {"teach": "1"} if st.query_params.get("teach") == "1" else {}
    joined = {
        k: v if isinstance(v, str) else str(v) if isinstance(v, int) else ",".join(v)
        for k, v in values.items()
        if v is not None
    }
    return {**joined, **keep}
