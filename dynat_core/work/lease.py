"""Exclusive claims where file locks cannot be trusted: on a cluster, a job is worked on under a lease.

One ledger for the whole cluster says who holds which job. A holder renews its lease several times in the time it lasts,
and ends itself at two thirds of that time without an answer; the ledger gives the job to another only when the whole
time is over. Both count with their own clock from the same message on, so clocks need not agree, and a node that is cut
off from the others has stopped writing before somebody else begins. While it is held, `lease.json` in the job's folder
is touched, which is how everybody else sees that the job runs: screens, workers of single machines, and whoever wants
the lease next, who waits until the file was not touched for as long as a lease lasts. That is a courtesy; the ledger
alone decides.

No torch and no Ray: the ledger is made an actor in `cluster`.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

from dynat_core.errors import JobError
from dynat_core.files import replace_file
from dynat_core.store.jobs import LEASE_FILE, Job

Answer = Literal["held", "end", "lost"]
Clock = Callable[[], float]
LOST = 75  # exit code of a process that lost its lease
_RENEWALS = 6  # in the time a lease lasts


def lease_clock() -> float:
    """A clock that goes on while the machine is suspended, where there is one: a lease does not wait for anybody."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Book(Protocol):
    """What a holder asks of the ledger, wherever that is. Every method may raise when it cannot be reached."""

    def take(self, job: str, holder: str) -> bool: ...
    def renew(self, job: str, holder: str) -> Answer: ...
    def release(self, job: str, holder: str) -> None: ...


class Ledger:
    """Who holds which job, and when each last said so. seconds: how long a lease lasts without renewal.

    forgot: it is a new one in place of one that died; until every lease of that one is over, nothing is given away, and
    who says that they hold a job is believed.
    """

    def __init__(self, seconds: float, forgot: bool = False, clock: Clock = lease_clock) -> None:
        self._seconds, self._clock = seconds, clock
        self._open_from = clock() + (seconds if forgot else 0.0)
        self._held: dict[str, tuple[str, float]] = {}  # job -> (holder, when it last said so)
        self._ending = False

    def take(self, job: str, holder: str) -> bool:
        """Give `job` to `holder`, unless somebody else has it."""
        now = self._clock()
        other, said = self._held.get(job, ("", float("-inf")))
        if now < self._open_from or (other != holder and now - said < self._seconds):
            return False
        self._held[job] = holder, now
        return True

    def renew(self, job: str, holder: str) -> Answer:
        """`lost` if another has it by now, or had it since; `end` if it is still held and all work is to be left."""
        now = self._clock()
        known = job in self._held
        if (known and self._held[job][0] != holder) or (not known and now >= self._open_from):
            return "lost"
        self._held[job] = holder, now
        return "end" if self._ending else "held"

    def release(self, job: str, holder: str) -> None:
        """The holder is done with it."""
        if self._held.get(job, ("", 0.0))[0] == holder:
            del self._held[job]

    def end(self, ending: bool) -> None:
        """Whether everybody is to leave their work at the next batch."""
        self._ending = ending


class Lease:
    """A claim on the job in `folder` (a context manager): entered once the ledger gives it, kept by a thread.

    holder: a name no other claim has. where: what `lease.json` says about the place. lost: called, in that thread, when
    the lease is lost; by default the process ends at once, since whatever it wrote now could hit another's work.
    """

    def __init__(
        self,
        folder: Path,
        book: Book,
        *,
        holder: str,
        where: str,
        seconds: float,
        lost: Callable[[], None] = lambda: os._exit(LOST),
        clock: Clock = lease_clock,
    ) -> None:
        self._job, self._book, self._holder, self._where = Job(folder), book, holder, where
        self._seconds, self._lost, self._clock = seconds, lost, clock
        self._path = folder / LEASE_FILE
        self._done = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self.ending = False  # whether all work is to be left

    def __enter__(self) -> Lease:
        """Wait for the lease, longer than that of a dead holder lasts. Raises JobError if somebody else keeps it."""
        until = self._clock() + 3 * self._seconds
        while True:
            sent = self._clock()
            with contextlib.suppress(Exception):  # a ledger that cannot be reached is asked again
                if self._job.state != "running" and self._book.take(str(self._job.folder), self._holder):
                    break
            if self._clock() > until:
                raise JobError(f"{self._job.folder.name} is already being worked on; wait for it, or stop it first.")
            time.sleep(self._seconds / 50)
        self._renewed = sent
        since = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"holder": self._holder, "where": self._where, "since": since}
        replace_file(self._path, json.dumps(content).encode(), durable=False)
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._keeper.join(self._seconds)
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(Exception):  # it ends by itself, only later
            self._book.release(str(self._job.folder), self._holder)

    def _keep(self) -> None:
        while not self._done.wait(self._seconds / _RENEWALS):
            sent, answer = self._clock(), None
            if sent - self._renewed < self._seconds:  # else another may have begun, whatever a new ledger says
                with contextlib.suppress(Exception):  # not reached: that is counted in time
                    answer = self._book.renew(str(self._job.folder), self._holder)
            if answer in ("held", "end"):
                self._renewed = sent
                self.ending = answer == "end"
            if self._done.is_set():  # released meanwhile, and no longer ours to lose
                return
            if answer == "lost" or self._clock() - self._renewed > self._seconds * 2 / 3:
                self._lost()
                return
            with contextlib.suppress(OSError):  # for screens only
                os.utime(self._path)  # the time is the file server's, and the file stays the same one
