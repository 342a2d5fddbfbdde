"""A client that speaks to a Streamlit server as no browser would: it presses dead buttons, too."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import connect

PATIENCE = 60.0  # seconds a script may take


class Forged:
    """One connection to the server at `address`, with the cookies of somebody ("a=1; b=2") or without."""

    def __init__(self, address: str, cookies: str = "", origin: str | None = None, host: str | None = None) -> None:
        self._address, self._cookies = address, cookies
        self._origin, self._host = origin or address, host
        self._elements: dict[tuple[int, ...], Any] = {}
        self._states: dict[str, WidgetState] = {}
        self._page = ""

    def __enter__(self) -> Forged:
        kept = dict(part.split("=", 1) for part in self._cookies.split("; ") if part)
        token = kept.get("_streamlit_xsrf", "")
        headers = {"Cookie": self._cookies} if self._cookies else {}
        place = urlsplit(self._address)
        sock = socket.create_connection((str(place.hostname), int(place.port or 80)), timeout=PATIENCE)
        self._held = ExitStack()
        line = connect(
            f"ws://{self._host or place.netloc}/_stcore/stream", sock=sock, origin=self._origin, max_size=None,
            subprotocols=["streamlit", token] if token else ["streamlit"], additional_headers=headers,
        )  # fmt: skip
        self._socket = self._held.enter_context(line)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._held.close()

    def open(self, page: str, query: str = "") -> None:
        """Run a page, as after a click on the menu."""
        self._page, self._states = page, {}
        self._elements = {}
        self._run(query)

    def press(self, label: str) -> None:
        """Send the press of a button, whether or not a browser would let anybody press it."""
        button = self._button(label)
        self._run(pressed=WidgetState(id=button.id, trigger_value=True))

    def select(self, page: str, rows: list[int]) -> None:
        """Tick rows of the page's table."""
        table = next(e.dataframe for e in self._elements.values() if e.WhichOneof("type") == "dataframe")
        chosen = json.dumps({"selection": {"rows": rows, "columns": [], "cells": []}})
        self._states[table.id] = WidgetState(id=table.id, string_value=chosen)
        self._run()

    def is_disabled(self, label: str) -> bool:
        """What the server told the browser about a button."""
        return self._button(label).disabled

    def words(self) -> str:
        """Everything that is written on the page, markup and all."""
        said = []
        for element in self._elements.values():
            kind = element.WhichOneof("type")
            part = getattr(element, kind) if kind else None
            said += [str(getattr(part, name)) for name in ("body", "label") if hasattr(part, name)]
        return "\n".join(said).replace("\\", "")

    def html(self) -> list[str]:
        """What the page holds as markup."""
        return [element.html.body for element in self._elements.values() if element.WhichOneof("type") == "html"]

    def kinds(self) -> set[str]:
        """The kinds of elements there are."""
        return {str(element.WhichOneof("type")) for element in self._elements.values()}

    def _button(self, label: str) -> Any:
        buttons = [e.button for e in self._elements.values() if e.WhichOneof("type") == "button"]
        return next(button for button in buttons if button.label == label)

    def _run(self, query: str = "", pressed: WidgetState | None = None) -> None:
        message = BackMsg()
        asked = message.rerun_script
        asked.query_string, asked.page_name = query, self._page
        asked.widget_states.widgets.extend([*self._states.values(), *([pressed] if pressed else [])])
        self._socket.send(message.SerializeToString())
        fresh: dict[tuple[int, ...], Any] = {}
        while True:
            heard = ForwardMsg()
            heard.ParseFromString(bytes(self._socket.recv(timeout=PATIENCE)))  # type: ignore[arg-type]
            kind = heard.WhichOneof("type")
            if kind == "new_session":
                fresh = {}
            elif kind == "delta" and heard.delta.WhichOneof("type") == "new_element":
                fresh[tuple(heard.metadata.delta_path)] = heard.delta.new_element
            elif kind == "script_finished" and heard.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                self._elements = fresh
                return
