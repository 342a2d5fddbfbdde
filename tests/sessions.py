"""Sessions of Dynat without a browser: what a tab says to the server over its websocket, and what it gets back.

A session opens a screen, waits until the script has finished, and answers as a browser would: it repeats live parts,
keeps large messages it was told to keep, and reports where somebody let go of the cursor. It draws nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from dynat_core.recorded.packing import unpack

PATIENCE = 120.0  # seconds one answer may take
_KEPT = 200  # large messages a browser keeps
_ENDS = (ForwardMsg.FINISHED_SUCCESSFULLY, ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)


class Session:
    """One tab. `async with Session(address) as tab: await tab.open("epochs", run="demo-digits-dynamic")`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.bytes = 0  # received, before any decompression
        self.messages: Counter[str] = Counter()
        self.texts: list[str] = []  # of the last whole run: headings, notes, errors
        self.errors: list[str] = []
        self.scrubbers: dict[str, Any] = {}  # name of the component -> its element
        self.said: list[str] = []  # every line of a wait, as the screen showed them
        self.repeats: list[float] = []  # seconds that each repetition of a live part took
        self._kept: OrderedDict[str, ForwardMsg] = OrderedDict()
        self._widgets: dict[str, str] = {}
        self._fragment: dict[str, str] = {}  # component -> fragment it stands in
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._page = ""
        self._query = ""
        self._hash = ""
        self._ended = asyncio.Event()
        self._one = asyncio.Lock()  # one question at a time, so that an answer has its question
        self._socket: ClientConnection
        self._listening: asyncio.Task[None]

    async def __aenter__(self) -> Session:
        address = self.address.replace("http", "ws", 1) + "/_stcore/stream"
        self._socket = await connect(
            address, subprotocols=["streamlit"], max_size=None, compression=None, proxy=None, open_timeout=PATIENCE
        )  # type: ignore[arg-type]
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._quiet()
        await self._socket.close()
        self._listening.cancel()
        with suppress(asyncio.CancelledError, ConnectionClosed):
            await self._listening

    async def open(self, page: str = "", **query: str) -> float:
        """Go to a screen; returns the seconds until its script has finished and all of it was received."""
        self._quiet()
        self._page, self._query, self._hash = page, urlencode(query, safe=",/:"), ""
        self.scrubbers.clear()
        self._widgets.clear()
        return await self._run()

    async def again(self) -> float:
        """Rerun the whole screen; returns the seconds it took."""
        return await self._run()

    async def let_go(self, key: str, i: int, **more: Any) -> float:
        """Report that the cursor of a scrubber rests at `i`; returns the seconds until the server has answered."""
        element = self.scrubbers[key]
        run = self.scene(key)[0]["run"]
        report = {"i": i, "follow": False, "run": run, "chosen": {}, "hidden": [], "selection": None, **more}
        self._widgets[element.id] = json.dumps({"report": report})
        return await self._run(self._fragment.get(element.id, ""))

    def scene(self, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """(header, arrays) that a scrubber was given."""
        assert key in self.scrubbers, f"no {key} was drawn; the screen said {[*self.errors, *self.texts]}"
        return unpack(self.scrubbers[key].bytes)

    async def watch(self, seconds: float) -> None:
        """Stay, with live parts repeating themselves."""
        await asyncio.sleep(seconds)

    @property
    def query(self) -> str:
        """The query string that the address bar shows."""
        return self._query

    # -- inside

    async def _run(self, fragment: str = "", *, by_itself: bool = False) -> float:
        async with self._one:
            return await self._ask(fragment, by_itself)

    async def _ask(self, fragment: str, by_itself: bool) -> float:
        message = BackMsg()
        asked = message.rerun_script
        asked.query_string, asked.page_name, asked.page_script_hash = self._query, self._page, self._hash
        asked.fragment_id, asked.is_auto_rerun = fragment, by_itself
        asked.cached_message_hashes.extend(self._kept)
        asked.context_info.timezone, asked.context_info.locale = "UTC", "en"
        asked.context_info.url = f"{self.address}/{self._page}"
        for id, value in self._widgets.items():
            asked.widget_states.widgets.add(id=id, json_value=value)
        if not fragment:
            self.texts, self.errors, self.said = [], [], []
        self._ended.clear()
        began = time.perf_counter()
        await self._socket.send(message.SerializeToString())
        await asyncio.wait_for(self._ended.wait(), PATIENCE)
        return time.perf_counter() - began

    async def _listen(self) -> None:
        async for data in self._socket:
            assert isinstance(data, bytes)
            self.bytes += len(data)
            message = ForwardMsg.FromString(data)
            self.messages[str(message.WhichOneof("type"))] += 1
            if message.HasField("ref_hash"):
                metadata, message = message.metadata, self._kept[message.ref_hash]
                message.metadata.CopyFrom(metadata)
            elif message.metadata.cacheable:
                self._kept[message.hash] = message
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._take(message)

    def _take(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type")
        if kind == "delta":
            self._element(message.delta)
        elif kind == "new_session":
            self._hash = message.new_session.page_script_hash
        elif kind == "auto_rerun":
            self._live(message.auto_rerun.fragment_id, message.auto_rerun.interval)
        elif kind == "stop_auto_rerun":
            for fragment in message.stop_auto_rerun.fragment_ids:
                if (task := self._lives.pop(fragment, None)) is not None:
                    task.cancel()
        elif kind == "page_info_changed":
            self._query = message.page_info_changed.query_string
        elif kind == "script_finished" and message.script_finished in _ENDS:
            self._ended.set()

    def _element(self, delta: Any) -> None:
        element = delta.new_element
        kind = element.WhichOneof("type")
        if kind == "bidi_component":
            component = element.bidi_component
            self.scrubbers[_key_of(component.id)] = component
            if delta.fragment_id:
                self._fragment[component.id] = delta.fragment_id
        elif kind == "alert":
            self.errors.append(element.alert.body)
        elif kind == "html":
            (self.said if "dynat-waiting" in element.html.body else self.texts).append(element.html.body)

    def _live(self, fragment: str, interval: float) -> None:
        async def repeat() -> None:
            with suppress(ConnectionClosed):
                while True:
                    await asyncio.sleep(interval)
                    self.repeats.append(await self._run(fragment, by_itself=True))

        if fragment not in self._lives:
            self._lives[fragment] = asyncio.create_task(repeat())

    def _quiet(self) -> None:
        for task in self._lives.values():
            task.cancel()
        self._lives.clear()


def _key_of(id: str) -> str:
    """The key that the script gave a component, from its id `$$ID-hash-key`."""
    return id.split("-", 2)[2] if id.count("-") >= 2 else id


def together(*jobs: Callable[[], Any]) -> list[Any]:
    """Run coroutine functions at the same time from ordinary code; their results in order."""

    async def gathered() -> list[Any]:
        return list(await asyncio.gather(*(job() for job in jobs)))

    with ThreadPoolExecutor(1) as thread:  # of its own: a browser test of this process leaves a loop running in ours
        return thread.submit(lambda: asyncio.run(gathered())).result()
