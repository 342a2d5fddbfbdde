"""States are derived from files and locks; locks die with their process; files are never seen half-written."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest
from running import in_child, until, write_run

from dynat_core import files, machine
from dynat_core.errors import JobError
from dynat_core.files import append_line, read_json, read_lines, replace_file
from dynat_core.store import jobs, workers
from dynat_core.store.jobs import Job
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import ensure_worker, stop_workers, worker_alive, worker_folder, worker_states


@pytest.fixture
def job(tmp_path):
    return Job(write_run(tmp_path / "a-run"))


# ----------------------------------------------------------------------------------------------------------- states


@pytest.mark.parametrize(
    "present, state",
    [
        ([], "queued"),
        (["stop"], "stopped"),
        (["starts.jsonl"], "interrupted"),
        (["starts.jsonl", "epochs.jsonl"], "interrupted"),
        (["starts.jsonl", "stop"], "stopped"),
        (["starts.jsonl", "error.json"], "failed"),
        (["starts.jsonl", "error.json", "stop"], "failed"),
        (["starts.jsonl", "epochs.jsonl", "result.json"], "finished"),
        (["starts.jsonl", "result.json", "stop"], "finished"),
        (["lock", "status.json"], "queued"),
    ],
)
def test_the_state_follows_from_the_files(job, present, state):
    for name in present:
        (job.folder / name).touch()
    assert job.state == state


@pytest.mark.parametrize("present", [[], ["stop"], ["starts.jsonl"], ["starts.jsonl", "error.json"]])
def test_whatever_else_is_there_a_held_lock_means_running(job, present):
    for name in present:
        (job.folder / name).touch()
    with job.claim():
        assert job.state == "running"
    assert job.state != "running"


def test_looking_changes_nothing(job):
    before = sorted(os.listdir(job.folder))
    assert job.state == "queued" and job.status() is None and job.error() is None
    assert sorted(os.listdir(job.folder)) == before


# ------------------------------------------------------------------------------------------------------------ locks


def test_a_job_is_claimed_once(job):
    with job.claim(), pytest.raises(JobError, match="a-run is already being worked on"), Job(job.folder).claim():
        pass


def test_looking_at_the_state_never_keeps_a_worker_from_its_job(job):
    looking = True

    def look():
        while looking:
            assert job.state in ("queued", "running")

    onlookers = [threading.Thread(target=look) for _ in range(4)]
    for thread in onlookers:
        thread.start()
    try:
        for _ in range(50):
            with Job(job.folder).claim():
                pass
    finally:
        looking = False
        for thread in onlookers:
            thread.join()


def test_a_lock_dies_with_its_process(job):
    def hold():
        with job.claim():
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(hold) == -signal.SIGKILL
    assert job.state == "queued"
    with job.claim():
        pass


def test_a_child_that_a_job_started_does_not_keep_its_lock(job):
    with job.claim():
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert job.state == "queued"
    finally:
        sleeper.kill()
        sleeper.wait()


# ------------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("torn", [b'{"epoch": 2', b"\x00\x00\x00", b"{", b'{"epoch": 2}\xff\n{"epoch": 3}\n', b"[1]\n"])
def test_a_torn_last_line_is_ignored(tmp_path, torn):
    path = tmp_path / "epochs.jsonl"
    append_line(path, {"epoch": 0})
    append_line(path, {"epoch": 1})
    with open(path, "ab") as file:
        file.write(torn)
    assert read_lines(path) == [{"epoch": 0}, {"epoch": 1}]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_a_damaged_json_file_reads_as_absent(tmp_path, content):
    (tmp_path / "status.json").write_bytes(content)
    assert read_json(tmp_path / "status.json") is None


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    replace_file(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    with pytest.raises(OSError):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_line_that_does_not_fit_on_the_disk_leaves_the_lines_before_it(tmp_path):
    path = tmp_path / "epochs.jsonl"
    append_line(path, {"epoch": 0})
    size = path.stat().st_size

    def write_too_much():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
        try:
            append_line(path, {"epoch": 1, "words": "x" * 1000})
        except OSError as error:
            os._exit(error.errno)

    assert in_child(write_too_much) == errno.EFBIG
    assert path.stat().st_size == size
    append_line(path, {"epoch": 1})
    assert read_lines(path) == [{"epoch": 0}, {"epoch": 1}]


def test_an_error_that_cannot_be_read_still_gives_a_sentence(job):
    (job.folder / "error.json").write_text("{")
    assert job.error() == {"error": "The job failed and could not record why; its log may say more.", "traceback": ""}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES])
def test_a_disk_that_refuses_is_told_in_one_sentence(number, tmp_path):
    sentence = files.storage_sentence(OSError(number, "no"), tmp_path)
    assert sentence and sentence.count(". ") == 0 and str(tmp_path) in sentence


# ---------------------------------------------------------------------------------------------------------- workers


@pytest.fixture
def idle(monkeypatch):
    monkeypatch.setenv("DYNAT_WORKER_IDLE", "0.5")


def test_without_a_worker_nothing_is_alive_and_looking_makes_no_folder(tmp_path):
    assert not worker_alive(tmp_path) and worker_states(tmp_path) == []
    assert os.listdir(tmp_path) == []


def test_a_worker_counts_as_alive_from_its_first_moment_and_ends_without_work(tmp_path, idle):
    ensure_worker(tmp_path)
    assert worker_alive(tmp_path)
    ensure_worker(tmp_path)
    until(lambda: not worker_alive(tmp_path), "the worker ends")
    log = (tmp_path / ".worker" / "worker.log").read_text()
    assert log == ""


def test_several_callers_at_once_start_one_worker(tmp_path, monkeypatch):
    started = []
    popen = subprocess.Popen
    counted = lambda *a, **k: started.append(a) or popen(*a, **k)  # noqa: E731
    monkeypatch.setattr("dynat_core.store.workers.subprocess.Popen", counted)
    threads = [threading.Thread(target=ensure_worker, args=(tmp_path,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 1
    stop_workers(tmp_path)
    until(lambda: not worker_alive(tmp_path), "the worker ends")


def test_while_another_process_starts_workers_none_is_started_beside_them(tmp_path, monkeypatch):
    from dynat_core.work import crew

    @contextlib.contextmanager
    def impatient(path, patience):
        with jobs.exclusive(path) as held:
            yield held

    started = []
    for module in (workers, crew):
        monkeypatch.setattr(module, "exclusive", impatient)
        monkeypatch.setattr(module, "start_worker", lambda *what, **how: started.append(what))
    with jobs.exclusive(worker_folder(tmp_path) / "start.lock") as held:
        assert held
        ensure_worker(tmp_path)
        with pytest.raises(JobError, match="Another process is starting the workers"):
            crew.work_on_all(tmp_path)
    assert started == []


def test_an_onlooker_is_not_mistaken_for_a_worker(tmp_path):
    file = jobs.open_lock(worker_folder(tmp_path) / "cpu.alive")
    looking = multiprocessing.get_context("fork").Process(target=_look_briefly, args=(file,))
    looking.start()
    looking.join()
    os.close(file)
    assert not worker_alive(tmp_path)


def _look_briefly(file):
    fcntl.flock(file, fcntl.LOCK_EX)
    time.sleep(0.01)


def test_a_worker_gives_up_a_job_whose_process_dies_three_times(tmp_path, monkeypatch, capsys):
    from dynat_core.work.supervisor import Supervisor

    run = RunStore(tmp_path).open(write_run(tmp_path / "a-run").name)

    def die(self, run, device, held):
        (run.folder / "starts.jsonl").touch()
        return subprocess.Popen([sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)"])

    monkeypatch.setattr(Supervisor, "_start", die)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    Supervisor(tmp_path, once=True).work()
    assert capsys.readouterr().out.count("died (signal 9)") == 3
    assert run.state == "failed"
    assert run.problem == (
        "Its process ended 3 times (signal 9, most often for lack of memory) without a new record; "
        "the end of log.txt says more."
    )
    run.resume()
    assert run.state == "interrupted"


def test_a_job_that_gets_on_between_deaths_is_not_given_up(tmp_path, monkeypatch):
    from dynat_core.work.supervisor import Supervisor

    run = RunStore(tmp_path).open(write_run(tmp_path / "a-run").name)
    starts = []

    def die_later(self, run, device, held):
        starts.append(device)
        (run.folder / "starts.jsonl").touch()
        append_line(run.folder / "epochs.jsonl", {"epoch": len(starts) - 1})
        if len(starts) == 7:
            (run.folder / "result.json").write_text("{}")
        return subprocess.Popen([sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)"])

    monkeypatch.setattr(Supervisor, "_start", die_later)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    Supervisor(tmp_path, once=True).work()
    assert run.state == "finished" and len(starts) == 7


def test_ending_the_workers_ends_the_job_and_leaves_it_to_be_resumed(tmp_path, monkeypatch):
    from dynat_core.work.supervisor import Supervisor

    run = RunStore(tmp_path).open(write_run(tmp_path / "a-run").name)
    children = []

    def sleep(self, run, device, held):
        (run.folder / "starts.jsonl").touch()
        children.append(subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"]))
        return children[-1]

    monkeypatch.setattr(Supervisor, "_start", sleep)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    supervisor = Supervisor(tmp_path)
    working = threading.Thread(target=supervisor.work)
    working.start()
    until(lambda: children, "the job starts")
    assert "a-run" in [state["busy_with"] for state in worker_states(tmp_path)]
    stop_workers(tmp_path)
    working.join(60)
    assert not working.is_alive() and children[0].returncode == -signal.SIGTERM and len(children) == 1
    assert run.state == "interrupted"
    os.close(supervisor._presence)


@pytest.mark.parametrize(
    "asked, gpus, variable, devices",
    [
        ("auto", 0, None, ["cpu"]),
        ("auto", 2, None, ["cuda:0", "cuda:1"]),
        ("auto", 2, "cpu", ["cpu"]),
        ("auto", 2, "cuda:1", ["cuda:1"]),
        ("cuda", 2, "cpu", ["cuda:0", "cuda:1"]),
        ("cuda", 0, None, ["cuda:0"]),
        ("cuda:1", 0, None, ["cuda:1"]),
        ("cpu", 2, None, ["cpu"]),
    ],
)
def test_which_devices_a_job_may_take(monkeypatch, asked, gpus, variable, devices):
    monkeypatch.setattr(machine, "gpu_count", lambda: gpus)
    monkeypatch.delenv("DYNAT_DEVICE", raising=False)
    if variable:
        monkeypatch.setenv("DYNAT_DEVICE", variable)
    assert machine.devices_for(asked) == devices


def test_a_new_run_is_never_left_behind_by_a_worker_that_just_ends(tmp_path, monkeypatch):
    """A worker ends for lack of work only while nobody can be starting one, and looks once more first."""
    from dynat_core.work.supervisor import Supervisor

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    supervisor = Supervisor(tmp_path, once=True)
    write_run(tmp_path / "late")
    assert not supervisor._leave()
    (tmp_path / "late" / "result.json").write_text("{}")
    assert supervisor._leave()
    assert not worker_alive(tmp_path)


def test_status_is_read_as_last_written(job):
    job.write_status({"epoch": 3, "eta_s": None})
    assert job.status() == {"epoch": 3, "eta_s": None}
    (job.folder / "status.json").write_text(json.dumps({"epoch": 3})[:-2])
    assert job.status() is None
