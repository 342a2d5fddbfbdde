"""A job on a cluster has one holder at most: the ledger gives it to another only after the first has ended itself."""

from __future__ import annotations

import os
import random
import time

import pytest
from running import until, write_run

from dynat_core.errors import JobError
from dynat_core.files import read_json
from dynat_core.store.jobs import LEASE_FILE, Job
from dynat_core.store.workers import ensure_worker, worker_alive, worker_folder, worker_states
from dynat_core.work.lease import Lease, Ledger, lease_clock
from dynat_core.work.supervisor import Supervisor


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAT_LEASE", "3")
    return Job(write_run(tmp_path / "a-run"))


def hold(job: Job, ledger, holder: str = "a", seconds: float = 3.0, lost=lambda: None) -> Lease:
    """A claim that does not end this process, which would take all other tests along, when a stall costs it."""
    return Lease(job.folder, ledger, holder=holder, where="here", seconds=seconds, lost=lost)


# ------------------------------------------------------------------------------------------------------- the ledger


def test_a_job_is_given_once_and_again_when_it_is_released(clock):
    ledger = Ledger(30, clock=clock)
    assert ledger.take("job", "a") and not ledger.take("job", "b") and ledger.take("other", "b")
    ledger.release("job", "b")
    assert not ledger.take("job", "b"), "only its holder releases it"
    ledger.release("job", "a")
    assert ledger.take("job", "b")


def test_a_lease_that_is_renewed_goes_on_and_one_that_is_not_ends(clock):
    ledger = Ledger(30, clock=clock)
    ledger.take("job", "a")
    for _ in range(5):
        clock.now += 29
        assert ledger.renew("job", "a") == "held" and not ledger.take("job", "b")
    clock.now += 30
    assert ledger.take("job", "b") and ledger.renew("job", "a") == "lost"


def test_a_holder_whose_time_is_over_has_lost_the_job_even_when_the_next_one_is_done_with_it(clock):
    ledger = Ledger(30, clock=clock)
    ledger.take("job", "a")
    clock.now += 40  # its machine is suspended meanwhile
    assert ledger.take("job", "b")
    ledger.release("job", "b")
    clock.now += 10
    assert ledger.renew("job", "a") == "lost"
    assert ledger.take("job", "c"), "and it does not stand in the way of others"


def test_a_ledger_in_place_of_one_that_died_believes_holders_and_gives_nothing_away_too_soon(clock):
    ledger = Ledger(30, forgot=True, clock=clock)
    assert not ledger.take("job", "b")
    clock.now += 20
    assert ledger.renew("job", "a") == "held"
    clock.now += 15
    assert not ledger.take("job", "b") and ledger.take("other", "b")
    assert ledger.renew("third", "c") == "lost", "what nobody has said for so long is over"


def test_all_are_told_to_leave(clock):
    ledger = Ledger(30, clock=clock)
    ledger.take("job", "a")
    ledger.end(True)
    assert ledger.renew("job", "a") == "end"
    ledger.end(False)
    assert ledger.renew("job", "a") == "held"


@pytest.mark.parametrize("seed", range(20))
def test_no_two_ever_work_at_once_whatever_the_network_does(seed):
    """Holders whose messages and answers are lost or late at random, and a ledger that is replaced at times."""
    chance, clock = random.Random(seed), Clock()
    ledger = Ledger(30, clock=clock)
    renewed: dict[str, float] = {}  # living holder -> when the message went off that was answered last
    late: list[tuple[float, str]] = []  # (arrival, holder): renewals under way, answers ignored
    taken = 0
    for number in range(4000):
        clock.now += chance.random()
        for arrival, holder in [entry for entry in late if entry[0] <= clock.now]:
            late.remove((arrival, holder))
            ledger.renew("job", holder)
        for holder, sent in list(renewed.items()):
            if clock.now - sent > 20 or chance.random() < 0.002:  # it ends itself, or dies
                del renewed[holder]
            elif chance.random() < 0.2:
                fate = chance.random()
                if fate < 0.3:
                    late.append((clock.now + chance.uniform(0, 9), holder))  # the question comes late
                elif fate < 0.5 and ledger.renew("job", holder) == "lost":  # the answer is lost
                    pass
                elif ledger.renew("job", holder) == "lost":
                    del renewed[holder]
                else:
                    renewed[holder] = clock.now
        if chance.random() < 0.002:
            ledger = Ledger(30, forgot=True, clock=clock)
        if chance.random() < 0.3 and ledger.take("job", f"h{number}"):
            renewed[f"h{number}"] = clock.now
            taken += 1
        assert len(renewed) <= 1
    assert taken > 5


# ------------------------------------------------------------------------------------------------------- the holder


def test_a_job_under_a_lease_runs_and_nobody_else_claims_it(job):
    ledger = Ledger(3)
    with hold(job, ledger):
        assert job.state == "running"
        assert (read_json(job.folder / LEASE_FILE) or {})["where"] == "here"
        with pytest.raises(JobError, match="a-run is being worked on by a cluster"), job.claim():
            pass
    assert job.state == "queued" and not (job.folder / LEASE_FILE).exists() and ledger.take(str(job.folder), "b")


def test_a_lease_that_is_kept_outlasts_its_time(job):
    ledger = Ledger(3)
    with hold(job, ledger, seconds=3):  # a machine that stands still for longer would really lose it
        began = time.monotonic()
        while time.monotonic() - began < 4:
            assert job.state == "running" and not ledger.take(str(job.folder), "b")
            time.sleep(0.05)


def test_a_dead_holders_lease_file_reads_running_for_the_time_of_a_lease_and_no_longer(job):
    (job.folder / LEASE_FILE).write_text("{}")
    assert job.state == "running"
    long_ago = time.time() - 4
    os.utime(job.folder / LEASE_FILE, (long_ago, long_ago))
    assert job.state == "queued"


def test_a_lease_file_from_the_future_is_nobodys(job):
    (job.folder / LEASE_FILE).write_text("{}")
    soon = time.time() + 1
    os.utime(job.folder / LEASE_FILE, (soon, soon))
    assert job.state == "running", "clocks may differ by a little"
    os.utime(job.folder / LEASE_FILE, (soon + 3600, soon + 3600))
    assert job.state == "queued"
    with job.claim():
        assert job.state == "running"


def test_a_holder_whose_machine_was_suspended_asks_nobody_and_ends(job, clock):
    asked: list[str] = []
    lost: list[bool] = []

    class Asked(Ledger):
        def renew(self, job: str, holder: str):
            asked.append(holder)
            return super().renew(job, holder)

    lease = Lease(job.folder, Asked(3, forgot=False, clock=clock), holder="a", where="here", seconds=3,
                  lost=lambda: lost.append(True), clock=clock)  # fmt: skip
    with lease:
        until(lambda: asked, "it renews")
        clock.now += 3  # of which its own waiting knows nothing
        seen = len(asked)
        until(lambda: lost, "it ends itself")
        assert len(asked) <= seen + 1, "one question may have been on its way"


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no clock that goes on while the machine is suspended")
def test_leases_are_counted_with_the_clock_that_goes_on_while_the_machine_is_suspended(monkeypatch):
    monkeypatch.setattr(time, "clock_gettime", lambda which: {time.CLOCK_BOOTTIME: 7.0}[which])
    assert lease_clock() == 7.0


def test_a_job_that_somebody_keeps_is_refused_in_the_end(job):
    ledger = Ledger(0.3)
    with job.claim(), pytest.raises(JobError, match="already being worked on"), hold(job, ledger, seconds=0.3):
        pass


def test_a_ledger_that_cannot_be_reached_at_first_is_asked_again(job):
    class Late(Ledger):
        asked = 0

        def take(self, job: str, holder: str) -> bool:
            self.asked += 1
            if self.asked < 3:
                raise ConnectionError
            return super().take(job, holder)

    with hold(job, Late(3), seconds=3):
        assert job.state == "running"


def test_a_holder_ends_itself_well_before_another_may_begin(job, monkeypatch):
    """The network is cut: no answer comes any more."""

    class Cut(Ledger):
        def renew(self, job: str, holder: str):
            raise ConnectionError

    monkeypatch.setenv("DYNAT_LEASE", "6")
    lost: list[float] = []
    ledger = Cut(6.0)
    with hold(job, ledger, seconds=6.0, lost=lambda: lost.append(lease_clock())):
        renewed = ledger._held[str(job.folder)][1]
        until(lambda: lost, "it ends itself")
        assert lost[0] < renewed + 6.0, "and only then may another begin"
        until(lambda: ledger.take(str(job.folder), "b"), "another begins")


def test_a_holder_that_is_told_so_ends_itself_and_one_that_is_to_leave_knows_it(job):
    lost: list[bool] = []
    ledger = Ledger(3)
    with hold(job, ledger, seconds=3, lost=lambda: lost.append(True)) as lease:
        ledger.end(True)
        until(lambda: lease.ending, "it is to leave")
        assert not lost
        ledger._held[str(job.folder)] = ("b", lease_clock())
        until(lambda: lost, "another has it")


def test_where_a_cluster_works_no_worker_of_this_machine_begins(tmp_path, monkeypatch):
    (worker_folder(tmp_path) / "cluster.json").write_text('{"busy_with": ["a-run", null], "pid": 7}')
    assert worker_alive(tmp_path)
    ensure_worker(tmp_path)
    assert [(state["device"], state["busy_with"]) for state in worker_states(tmp_path)] == [
        ("cluster:0", "a-run"), ("cluster:1", None),
    ]  # fmt: skip
    with pytest.raises(JobError, match="A cluster works on this store"):
        Supervisor(tmp_path)
