"""What test processes share is made once, by whichever comes first, and anew where it did not get to its end."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from tests.shared import PLACE, shared


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(PLACE, str(tmp_path / "here"))
    return tmp_path


def test_of_several_processes_one_makes_it_and_all_have_it(elsewhere):
    def make(folder: Path) -> None:
        (folder / f"made-by-{os.getpid()}").touch()

    def ask() -> None:
        os._exit(len(list(shared("thing", make).iterdir())))

    processes = [multiprocessing.get_context("fork").Process(target=ask) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [1] * 4
    assert len(list((elsewhere / "here" / "thing").iterdir())) == 1


def test_what_broke_off_is_made_anew():
    def broken(folder: Path) -> None:
        (folder / "half").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shared("thing", broken)
    found = shared("thing", lambda folder: (folder / "whole").touch())
    assert [path.name for path in found.iterdir()] == ["whole"]
