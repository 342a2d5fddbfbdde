"""Several sessions at once on a real server, over its websocket: each gets its screen, and the helper serves all."""

from __future__ import annotations

import asyncio
import shutil
from urllib.parse import parse_qs

import pytest

from tests.servers import served
from tests.sessions import Session, together
from tests.shipped import STORE

PAIR = "demo-digits-dynamic,demo-digits-standard"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    store = tmp_path_factory.mktemp("load")
    for name in PAIR.split(","):
        shutil.copytree(STORE / name, store / name)
    with served(store, OMP_NUM_THREADS="1") as running:
        yield running


def test_eight_sessions_that_come_at_once_get_the_same_picture_and_keep_their_own_cursor(server):
    async def visit(place: int):
        async with Session(server.address) as tab:
            await tab.open("epochs", run=PAIR)
            header, arrays = tab.scene("epochs")
            await tab.let_go("epochs", place)
            assert tab.errors == []
            return header["n"], {name: array.tobytes() for name, array in arrays.items()}, tab.query

    found = together(*(lambda place=place: visit(place) for place in range(11, 19)))
    assert {n for n, *_ in found} == {31}
    assert all(arrays == found[0][1] for _, arrays, _ in found)
    assert [parse_qs(query)["epoch"] for *_, query in found] == [[str(place)] for place in range(11, 19)]


def test_a_large_picture_that_a_tab_has_already_is_not_sent_again(server):
    async def visit():
        async with Session(server.address) as tab:
            await tab.open("epochs", run=PAIR)
            await tab.again()  # the component's script came with the first one only
            before = tab.bytes
            picture = len(tab.scrubbers["epochs"].bytes)
            await tab.again()
            return picture, tab.bytes - before

    picture, again = together(visit)[0]
    assert again < picture


def test_sessions_that_ask_for_paths_at_once_are_told_who_comes_first_and_all_are_served(server):
    async def visit(place: int):
        async with Session(server.address) as tab:
            query = {"image": str(place), "epoch": "30", "attack": "5,eps/4,ce,random"}
            await tab.open("trajectory", run="demo-digits-standard", **query)
            assert tab.errors == []
            return tab.scene("trajectory")[0]["n"], tab.said

    found = together(*(lambda place=place: visit(place) for place in range(5)))
    assert [n for n, _ in found] == [6] * 5
    assert any(" before you" in line for _, said in found for line in said)


def test_a_session_that_leaves_while_it_waits_holds_nobody_up(server):
    async def leave(place: int):
        async with Session(server.address) as tab:
            query = {"image": str(place), "epoch": "30", "attack": "200,eps/4,ce,random"}
            waiting = asyncio.create_task(tab.open("trajectory", run="demo-digits-standard", **query))
            await asyncio.sleep(0.3)
            waiting.cancel()

    async def stay():
        async with Session(server.address) as tab:
            query = {"image": "40", "epoch": "30", "attack": "6,eps/4,ce,random"}
            await tab.open("trajectory", run="demo-digits-standard", **query)
            return tab.errors, tab.scene("trajectory")[0]["n"]

    together(*(lambda place=place: leave(place) for place in range(50, 56)))
    assert together(stay) == [([], 7)]
