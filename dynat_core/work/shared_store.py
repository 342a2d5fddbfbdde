"""Does a file system hold what several nodes rest on? Two nodes look at one folder and tell each other what they see.

Each property of docs/cluster.md is tried in both directions; what is measured is what the two clients really did, on
this file system, with these options, at this load. No torch here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dynat_core.errors import JobError
from dynat_core.files import append_line, read_lines, replace_file
from dynat_core.store.jobs import LAG, lease_seconds
from dynat_core.store.workers import worker_folder

Result = tuple[str, str, str]  # level ("good", "note" or "bad"), what was seen, what to do
_ROUNDS = 20
_RACE = 2.0  # seconds that one side replaces a file while the other reads it
_LONG = 40.0  # seconds after which something is called never seen
_OPTIONS = "mount it with shorter caches of names and attributes (docs/cluster.md says which options)"
_OTHER = "use another file system for the store (docs/cluster.md says which are known to do)"


class Side:
    """What one node does in `folder`, through its own client of the file system."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def write(self, name: str, text: str) -> None:
        """Written and closed, as a checkpoint is read afterwards."""
        (self.folder / name).write_text(text)

    def read(self, name: str) -> str | None:
        try:
            return (self.folder / name).read_text()
        except OSError:
            return None

    def read_until(self, name: str, wanted: str) -> float | None:
        """Seconds until that is what is read; None if that takes too long."""
        return self._seconds_until(lambda: self.read(name) == wanted)

    def append(self, name: str, number: int) -> None:
        append_line(self.folder / name, {"n": number})

    def numbers_until(self, name: str, end: int) -> float | None:
        """Seconds until the lines 0 to `end` are there, each once."""
        return self._seconds_until(lambda: [line["n"] for line in read_lines(self.folder / name)] == list(range(end)))

    def replace_often(self, name: str) -> None:
        for number in self._until(_RACE):
            replace_file(self.folder / name, f"{number:08d}".encode() * 8192, durable=False)

    def race(self, name: str) -> tuple[int, int, int]:
        """(reads, those that were torn, those that found no file) while the other side replaces it."""
        reads = torn = absent = 0
        for _ in self._until(_RACE):
            found = self.read(name)
            parts = {found[k : k + 8] for k in range(0, len(found), 8)} if found is not None else set()
            reads, absent = reads + 1, absent + (found is None)
            torn += found is not None and (len(parts), len(found)) != (1, 65536)
        return reads, torn, absent

    def seen_after(self, name: str, there: bool) -> float | None:
        """Seconds until the name is there, or no more; None if that takes too long."""
        path = self.folder / name
        return self._seconds_until(lambda: os.path.exists(path) == (name in os.listdir(self.folder)) == there)

    def off(self, name: str) -> float:
        """Seconds by which the file's time is behind this node's clock, the file having just been touched."""
        with open(self.folder / name) as file:
            return time.time() - os.fstat(file.fileno()).st_mtime

    def touch(self, name: str) -> None:
        (self.folder / name).touch()

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def lock(self, name: str, until: str | None = None) -> bool:
        """Whether the file's lock was got. until: hold it until a file of that name is there, once one called
        `name`.held was written."""
        with open(self.folder / name, "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            if until is not None:
                self.write(f"{name}.held", "")
                self._seconds_until((self.folder / until).exists)
            return True

    @staticmethod
    def _seconds_until(happened: Callable[[], bool]) -> float | None:
        began = time.monotonic()
        if happened():
            return 0.0  # at once, however long the file system took
        while not happened():
            if time.monotonic() - began > _LONG:
                return None
            time.sleep(0.01)
        return time.monotonic() - began

    @staticmethod
    def _until(seconds: float) -> Any:
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            yield (number := number + 1)


def look(a: Any, b: Any) -> list[Result]:
    """What two `Side`s of one folder, on two nodes, see of each other."""
    a.write("first", "one store")
    if b.read("first") != "one store":
        what = "what one node writes, another does not find under the same path"
        return [("bad", what, "mount the same file system under the same path on all nodes")]
    return [_replaced(a, b), _closed(a, b), _appended(a, b), _names(a, b), _clocks(a, b), _locks(a, b)]


def _both(check: Callable[[Any, Any], list[Any]], a: Any, b: Any) -> list[Any]:
    return check(a, b) + check(b, a)


def _replaced(a: Any, b: Any) -> Result:
    def race(one: Any, two: Any) -> list[Any]:
        two.write("raced", "00000001" * 8192)
        with ThreadPoolExecutor(2) as both:
            writing = both.submit(one.replace_often, "raced")
            found = both.submit(two.race, "raced").result()
            writing.result()
        return [found]

    reads, torn, absent = (sum(column) for column in zip(*_both(race, a, b), strict=True))
    what = f"a file that is replaced: {reads} reads meanwhile, {torn} torn, {absent} without the file"
    if torn:
        return "bad", what, _OTHER
    return ("note", what, f"{_OPTIONS}; a screen may miss what it shows for a moment") if absent else ("good", what, "")


def _closed(a: Any, b: Any) -> Result:
    def turns(one: Any, two: Any) -> list[Any]:
        delays = []
        for number in range(_ROUNDS):  # of one length, and soon after another: a client that goes by that is caught
            one.write("closed", f"{number:04d}")
            delays.append(two.read_until("closed", f"{number:04d}"))
            if _too_late(delays[-1]):
                break
        return delays

    return _judged("what was written and closed", _both(turns, a, b))


def _appended(a: Any, b: Any) -> Result:
    delays = []
    for number in range(_ROUNDS):  # turns, as when a node takes over from one that is lost
        one, two = (a, b) if number % 4 < 2 else (b, a)
        one.append("lines", number)
        delays.append(two.numbers_until("lines", number + 1))
        if delays[-1] is None:
            return "bad", "of lines that two nodes append by turns some are lost, or there twice", _OTHER
        if _too_late(delays[-1]):
            break
    return _judged("a line that was appended and synced", delays)


def _names(a: Any, b: Any) -> Result:
    def comes_and_goes(one: Any, two: Any) -> list[Any]:
        name = "stop" if one is a else "result"
        two.seen_after(name, False)  # looked for before, so that its absence may be kept in mind
        one.touch(name)
        came = two.seen_after(name, True)
        one.remove(name)
        return [came, two.seen_after(name, False)]

    return _judged("a file that is new or was removed", _both(comes_and_goes, a, b))


def _too_late(delay: float | None) -> bool:
    return delay is None or delay > LAG


def _judged(what: str, delays: list[float | None]) -> Result:
    """By how long the other node took to see it."""
    known = [delay for delay in delays if delay is not None]
    if len(known) < len(delays):
        return "bad", f"{what} is not seen by the other node within {_LONG:.0f} s", _OPTIONS
    late, most = sum(delay > 0 for delay in known), max(known)
    words = f"{what} is seen " + (f"late {late} of {len(known)} times, by {most:.1f} s at most" if late else "at once")
    return ("good", words, "") if most <= LAG else ("bad", words, _OPTIONS)


def _clocks(a: Any, b: Any) -> Result:
    off = 0.0
    for one, two in ((a, b), (b, a)):
        one.touch("first")
        off = max(off, abs(two.off("first")), abs(one.off("first")), key=abs)
    what = f"times of files and the clocks of the nodes are {off:.1f} s apart at most"
    level = "good" if off < 3 else "note" if off < lease_seconds() / 2 else "bad"
    return level, what, "" if level == "good" else "let all nodes and the file server follow one clock (NTP)"


def _locks(a: Any, b: Any) -> Result:
    a.write("locked", "")
    with ThreadPoolExecutor(1) as other:
        held = other.submit(a.lock, "locked", "enough")
        try:
            b.seen_after("locked.held", True)
            twice = b.lock("locked")
        finally:
            b.write("enough", "")
        held.result()
    where = "hold on one node only: never start workers of single machines on it" if twice else "hold on all nodes"
    return "good", f"file locks {where} (a cluster needs none)", ""


def between_nodes(store: Path, address: str) -> list[Result]:
    """`look` from two nodes of the Ray cluster at `address`, in a hidden folder of the store that is removed again.
    Raises JobError without a cluster of at least two nodes that can work."""
    from dynat_core.work.cluster import connect

    ray = connect(address)
    try:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        if len(nodes) < 2:
            raise JobError(f"The cluster at {address} has one node; the file system is looked at from two.")
        folder = worker_folder(store.absolute()) / f"look-{os.getpid()}"
        folder.mkdir()
        try:
            return look(*(_Far(ray, node, NodeAffinitySchedulingStrategy, str(folder)) for node in nodes[:2]))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        ray.shutdown()


class _Far:
    """A `Side` on another node: every method asks there and waits for the answer."""

    def __init__(self, ray: Any, node: str, there: Any, folder: str) -> None:
        how = {"num_cpus": 0, "scheduling_strategy": there(node_id=node, soft=False)}
        self._ray, self._side = ray, ray.remote(**how)(Side).remote(folder)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *given: self._ray.get(getattr(self._side, name).remote(*given), timeout=120)
