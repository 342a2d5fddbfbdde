"""What two nodes are told of a file system they share: good where it holds, and each way in which it does not is seen.

Both sides are on this machine, and one is made to see what a client with caches of its own would. The real thing is
benchmarks/shared_store (docs/cluster.md).
"""

from __future__ import annotations

import os

import pytest

from dynat_core.work import shared_store
from dynat_core.work.shared_store import Side, look


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(shared_store, "_RACE", 0.2)
    monkeypatch.setattr(shared_store, "_LONG", 0.5)


def levels(found: list) -> list[str]:
    return [level for level, _, _ in found]


def test_a_file_system_that_both_see_alike_is_good_in_every_respect(tmp_path):
    found = look(Side(str(tmp_path)), Side(str(tmp_path)))
    assert levels(found) == ["good"] * 6, found
    assert found[5][1] == "file locks hold on all nodes (a cluster needs none)"


def test_two_folders_are_not_one_store(tmp_path):
    (tmp_path / "other").mkdir()
    assert levels(look(Side(str(tmp_path)), Side(str(tmp_path / "other")))) == ["bad"]


def test_a_client_that_keeps_what_it_read_is_seen(tmp_path):
    class Keeping(Side):
        kept: dict = {}

        def read(self, name):
            if name == "closed":
                return self.kept.setdefault(name, super().read(name))
            return super().read(name)

    found = look(Side(str(tmp_path)), Keeping(str(tmp_path)))
    assert levels(found) == ["good", "bad", "good", "good", "good", "good"], found
    assert found[1][1].startswith("what was written and closed is not seen") and "mount it" in found[1][2]


def test_a_file_that_is_torn_while_it_is_replaced_is_seen(tmp_path):
    class InPlace(Side):
        def replace_often(self, name):
            for number in self._until(shared_store._RACE):
                with open(self.folder / name, "wb") as file:
                    for _ in range(8192):
                        file.write(f"{number:08d}".encode())

    found = look(InPlace(str(tmp_path)), Side(str(tmp_path)))
    assert levels(found) == ["bad", "good", "good", "good", "good", "good"], found


@pytest.mark.parametrize("late, level", [(1.4, "good"), (6.0, "bad")])
def test_what_is_seen_late_is_told_and_bad_once_a_run_could_be_handed_on_meanwhile(tmp_path, late, level):
    class Late(Side):
        def seen_after(self, name, there):
            return (super().seen_after(name, there) or 0.0) + late

    found = look(Late(str(tmp_path)), Side(str(tmp_path)))
    assert levels(found) == ["good", "good", "good", level, "good", "good"], found
    assert f"is seen late 2 of 4 times, by {late:.1f} s at most" in found[3][1]


def test_a_line_that_is_lost_is_seen(tmp_path):
    class Losing(Side):
        def append(self, name, number):
            if number != 7:
                super().append(name, number)

    found = look(Side(str(tmp_path)), Losing(str(tmp_path)))
    assert levels(found) == ["good", "good", "bad", "good", "good", "good"], found


def test_a_clock_that_is_off_and_locks_of_one_node_are_seen(tmp_path):
    class Apart(Side):
        def off(self, name):
            return super().off(name) + 10

        def lock(self, name, until=None):
            self.write(f"{name}.held", "")
            return True

    found = look(Apart(str(tmp_path)), Side(str(tmp_path)))
    assert levels(found) == ["good", "good", "good", "good", "note", "good"], found
    assert "10.0 s apart" in found[4][1] and "hold on one node only" in found[5][1]
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".writing")]


def test_where_no_file_system_can_be_mounted_the_benchmark_says_so_in_one_sentence(monkeypatch):
    from benchmarks.shared_store import __main__ as benchmark

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert benchmark.lacking(["glusterfs"]) == "This needs Linux, root and FUSE (/dev/fuse), to mount file systems."
