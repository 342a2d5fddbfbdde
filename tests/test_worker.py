"""Kill it anywhere, stop it anywhere, fill the disk: a run goes on to record what one that was never disturbed records.

The processes here are real. Those that only train are forked from this one, which has torch loaded already; the tests
at the end start whole workers as a person would.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from running import (
    PATIENCE,
    assert_same,
    finished_run,
    in_child,
    job_process,
    load_torch,
    recorded,
    served,
    tiny,
    train_here,
    until,
    worker_once,
)

from dynat_core import files
from dynat_core.errors import JobError, RunError
from dynat_core.files import read_json, read_lines
from dynat_core.store.jobs import Job
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import ensure_worker, worker_alive, worker_states

# Long enough to be caught in the middle; and the same in a process of its own as in a forked one.
LONGER = {"epochs": "16", "data.train_size": "640", "recording.steps": "5", "strategy.T_control": "10"}


@pytest.fixture(scope="module", autouse=True)
def torch_is_loaded():
    load_torch()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("undisturbed"), tiny())


@pytest.fixture
def run(tmp_path):
    return RunStore(tmp_path).create(tiny())


def finish(*runs: Run) -> None:
    """Go on with the runs to their end, all in one process that none of them has seen before."""
    assert in_child(lambda: [train_here(run) for run in runs]) == 0
    for run in runs:
        assert run.state == "finished", run.problem


# -------------------------------------------------------------------------------------------------- kill -9 anywhere


class KilledAt:
    """Kills this process without warning right before its n-th change of the run folder; a line is then half there."""

    def __init__(self, n: int) -> None:
        self.left = n

    def _now(self) -> bool:
        self.left -= 1
        return self.left == 0

    def install(self) -> None:
        replace, write, unlink = os.replace, os.write, Path.unlink

        def killed_replace(source, target):
            if Path(target).name != "status.json" and self._now():
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        def killed_write(file, content):
            if self._now():
                write(file, bytes(content)[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return write(file, content)

        def killed_unlink(path, missing_ok=False):
            if path.name != "status.json" and self._now():
                os.kill(os.getpid(), signal.SIGKILL)
            unlink(path, missing_ok=missing_ok)

        files.os.replace, files.os.write, Path.unlink = killed_replace, killed_write, killed_unlink


def finish_or_tidy(*runs: Run) -> None:
    """After a kill: go on to the end, or where only the tidying up after the last word was missed, do that."""
    assert {run.state for run in runs} <= {"queued", "interrupted", "finished"}
    for run in runs:
        if run.state == "finished":
            (run.folder / "resume.safetensors").unlink(missing_ok=True)
    finish(*(run for run in runs if run.state != "finished"))


def test_killed_before_any_change_of_the_folder_it_resumes_bit_identically(tmp_path, reference):
    """Each of the changes in turn, until the run gets through without being killed."""
    store, killed = RunStore(tmp_path), []
    for change in range(1, 100):
        run = store.create(tiny())

        def train_until_killed(run=run, change=change):
            KilledAt(change).install()
            train_here(run)

        code = in_child(train_until_killed)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed.append(run)
    assert 25 <= len(killed) < 99, "there are more changes than that in a run of two epochs, and it gets through"
    finish_or_tidy(*killed)
    for run in killed:
        assert_same(run, reference)


class PowerCuts:
    """Refuses to replace the file to resume from, or to finish the run, while a power cut could still lose what either
    counts as recorded: what was written and never synced."""

    def __init__(self) -> None:
        self.synced: set[str] = set()
        self.volatile: set[str] = set()
        self.replace, self.fsync = os.replace, os.fsync

    def install(self) -> None:
        files.os.replace, files.os.fsync = self._replace, self._fsync

    def _fsync(self, file):
        self.fsync(file)
        path = os.readlink(f"/proc/self/fd/{file}")
        self.synced.add(path)
        self.volatile.discard(path)

    def _replace(self, source, target):
        if str(source) not in self.synced:
            self.volatile.add(str(target))
        if Path(target).name in ("resume.safetensors", "result.json"):
            lost = [path for path in self.volatile if os.path.exists(path) and Path(path).name != "status.json"]
            assert not lost, lost
        self.replace(source, target)


def test_what_a_run_goes_on_after_is_on_disk_before_it_counts(run, reference):
    def train():
        PowerCuts().install()
        train_here(run)

    assert in_child(train) == 0
    assert run.state == "finished", run.problem
    assert_same(run, reference)


def test_killed_again_and_again_it_still_gets_there(run, reference):
    for change in (9, 5, 12, 3, 14):

        def train_until_killed(change=change):
            KilledAt(change).install()
            train_here(run)

        in_child(train_until_killed)
    finish_or_tidy(run)
    assert_same(run, reference)
    assert len(run.starts()) >= 3


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_what_is_newer_than_the_file_to_resume_from_is_cut_off(run, reference, epoch):
    """Nothing but that file says where to go on: records beyond it are made again, torn lines vanish."""

    def leave_after_epoch():
        asked = iter(range(10_000))
        train_here(run, lambda: next(asked) >= 0 and len(run.records()) == epoch + 1)

    assert in_child(leave_after_epoch) == 0
    assert run.state == "interrupted" and len(run.records()) == epoch + 1
    for name in ("epochs.jsonl", "histograms.jsonl"):
        with open(run.folder / name, "ab") as file:
            file.write(json.dumps({"epoch": epoch + 1, "invented": 1}).encode() + b'\n{"epoch": 99')
    (run.folder / "samples" / "0099.parquet").write_bytes(b"torn")
    (run.folder / "weights" / "0099.safetensors").write_bytes(b"torn")
    finish(run)
    assert_same(run, reference)


def test_without_a_file_to_resume_from_nothing_is_taken_away_unasked(run, reference):
    """As in a copy that left the largest file out, or is not whole yet."""
    assert in_child(lambda: train_here(run, lambda: len(run.records()) == 2)) == 0
    resume = run.folder / "resume.safetensors"
    resume.rename(run.folder.parent / "put-aside")
    before = recorded(run)
    assert in_child(lambda: train_here(run)) == 0
    assert run.problem == (
        f"{run.id} cannot go on: {resume} is missing; its records are kept. "
        "Bring that file back and resume, or delete epochs.jsonl too and resume to train it again from the start."
    )
    assert {name: found for name, found in recorded(run).items() if name != "error.json"} == before
    (run.folder.parent / "put-aside").rename(resume)
    run.resume()
    finish(run)
    assert_same(run, reference)


def test_without_a_file_to_resume_from_and_without_records_it_starts_again(run, reference):
    assert in_child(lambda: train_here(run, lambda: len(run.records()) == 2)) == 0
    (run.folder / "resume.safetensors").unlink()
    (run.folder / "epochs.jsonl").unlink()
    finish(run)
    assert_same(run, reference)


def test_a_run_that_only_measured_the_untrained_network_starts_again(run, reference):
    assert in_child(lambda: train_here(run, lambda: len(run.records()) == 1)) == 0
    (run.folder / "resume.safetensors").unlink()
    finish(run)
    assert_same(run, reference)


# ----------------------------------------------------------------------------------------------------- stop anywhere


def test_left_at_any_batch_it_resumes_bit_identically(tmp_path, reference):
    store = RunStore(tmp_path)
    runs = [store.create(tiny()) for _ in range(30)]

    def leave():
        for batch, run in enumerate(runs, start=1):
            seen = iter(range(1, 10_000))
            train_here(run, lambda seen=seen, batch=batch: next(seen) == batch)
            if run.state == "finished":
                return

    assert in_child(leave) == 0
    left = [run for run in runs if run.state == "interrupted"]
    assert 12 <= len(left) < 29, "there are more moments than that in a run of two epochs, and it gets through"
    assert runs[len(left)].state == "finished" and left == runs[: len(left)]
    finish(*left)
    for run in left:
        assert_same(run, reference)


def test_a_stop_file_ends_it_at_the_next_batch_and_resuming_goes_on_in_the_epoch(run, reference):
    def stop_in_second_epoch():
        from dynat_core.work import worker

        show = worker._show

        def stopping(job, status):
            show(job, status)
            if (status["epoch"], status["batch"]) == (2, 2):
                run.request_stop()

        worker._show, worker.SHOW_EVERY = stopping, 0
        train_here(run)

    assert in_child(stop_in_second_epoch) == 0
    assert run.state == "stopped" and len(run.records()) == 2
    assert run.status()["epoch"] == 2 and run.status()["batch"] == 2 and run.status()["batches"] == 3
    assert in_child(lambda: train_here(run)) == 0
    assert run.state == "stopped", "a stopped run is left alone until it is resumed"
    run.resume()
    assert run.state == "interrupted"
    finish(run)
    assert_same(run, reference)


def test_sigterm_saves_the_run_where_it_stands(tmp_path):
    run = RunStore(tmp_path).create(tiny(**LONGER))
    child = served(run)
    until(lambda: len(run.records()) >= 1, "a record")
    os.kill(child.pid or 0, signal.SIGTERM)
    child.join(PATIENCE)
    assert child.exitcode == 0 and run.state == "interrupted"
    assert (run.folder / "resume.safetensors").exists() and "stop" not in os.listdir(run.folder)


def test_a_job_whose_supervisor_is_gone_does_not_go_on(run):
    from dynat_core.work.worker import serve_job

    assert in_child(lambda: serve_job(run.folder, None, parent=1)) == 0
    assert run.state == "queued" and run.records() == []


def test_a_long_epoch_is_saved_on_the_way(run, reference):
    def train_then_die():
        from dynat_core.work import worker

        saved = []
        write = files.replace_file
        worker.SAVE_EVERY = 0

        def counting(path, content, durable=True):
            write(path, content, durable)
            if path.name == "resume.safetensors":
                saved.append(path)
                if len(saved) == 7:
                    os.kill(os.getpid(), signal.SIGKILL)

        from dynat_core.store import run_writer

        run_writer.replace_file = counting
        train_here(run)

    assert in_child(train_then_die) == -signal.SIGKILL
    assert len(run.records()) < 3
    finish(run)
    assert_same(run, reference)


def test_it_goes_on_with_as_many_threads_as_it_began_with(run):
    assert in_child(lambda: train_here(run, lambda: len(run.records()) == 1)) == 0

    def resume_with_others():
        import torch

        from dynat_core.work.worker import run_job

        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        torch.set_num_threads(2)
        run_job(run.folder)

    assert in_child(resume_with_others) == 0
    assert [start["threads"] for start in run.starts()] == [1, 1]


@pytest.mark.parametrize(
    "network, device, asked, threads",
    [("digits-cnn", "cpu", None, 1), ("digits-cnn", "cpu", "2", 2), ("digits-cnn", "cuda", None, 2),
     ("mnist-cnn", "cpu", None, 2)],
)  # fmt: skip
def test_a_small_network_takes_one_thread_of_the_cpu_unless_told_otherwise(network, device, asked, threads):
    def fit():
        import torch

        from dynat_core.devices import fit_threads

        os.environ.pop("OMP_NUM_THREADS", None)
        if asked:
            os.environ["OMP_NUM_THREADS"] = asked
        torch.set_num_threads(2)
        fit_threads(network, torch.device(device))
        assert torch.get_num_threads() == threads

    assert in_child(fit) == 0


def test_a_run_of_the_digits_is_given_one_thread(run):
    def trained():
        import torch

        os.environ.pop("OMP_NUM_THREADS", None)
        torch.set_num_threads(2)
        from dynat_core.work.worker import run_job

        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        run_job(run.folder)

    assert in_child(trained) == 0
    assert [start["threads"] for start in run.starts()] == [1]


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_damaged_file_to_resume_from_is_told_and_nothing_is_changed(run, reference, size):
    assert in_child(lambda: train_here(run, lambda: len(run.records()) == 2)) == 0
    path = run.folder / "resume.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    before = recorded(run)
    assert in_child(lambda: train_here(run)) == 0
    assert run.state == "failed"
    assert run.problem == (
        f"{run.id} cannot go on: {path} is damaged; its records are kept. "
        "Delete that file and epochs.jsonl, and resume to train it again from the start."
    )
    assert {name: found for name, found in recorded(run).items() if name != "error.json"} == before
    path.unlink()
    (run.folder / "epochs.jsonl").unlink()
    run.resume()
    finish(run)
    assert_same(run, reference)


def test_records_that_were_lost_are_told_and_nothing_is_changed(run, reference):
    assert in_child(lambda: train_here(run, lambda: len(run.records()) == 3)) == 0
    lines = (run.folder / "epochs.jsonl").read_bytes().splitlines(keepends=True)
    (run.folder / "epochs.jsonl").write_bytes(lines[0] + lines[2])
    before = recorded(run)
    assert in_child(lambda: train_here(run)) == 0
    assert run.state == "failed" and "lacks records before epoch 2" in (run.problem or "")
    assert "resume.safetensors and epochs.jsonl, and resume to train it again" in (run.problem or "")
    assert {name: found for name, found in recorded(run).items() if name != "error.json"} == before
    for name in ("resume.safetensors", "epochs.jsonl"):
        (run.folder / name).unlink()
    run.resume()
    finish(run)
    assert_same(run, reference)


def test_other_data_than_it_began_with_is_refused(run):
    assert in_child(lambda: train_here(run, lambda: len(run.records()) == 1)) == 0
    starts = run.folder / "starts.jsonl"
    starts.write_text(json.dumps({**read_lines(starts)[0], "data_hash": "0" * 64}) + "\n")
    assert in_child(lambda: train_here(run)) == 0
    assert run.problem and run.problem.startswith(f"The digits data differs from what {run.id} began with")


def test_a_gpu_that_is_not_there_fails_the_run_with_one_sentence(tmp_path):
    run = RunStore(tmp_path).create(tiny(device="cuda:7"))
    assert in_child(lambda: train_here(run)) == 0
    assert run.state == "failed"
    assert run.problem and run.problem.startswith("The device cuda:7 is not there; this machine has cpu")
    assert "DeviceError" in run.error()["traceback"]


def test_an_error_in_the_code_fails_the_run_with_one_sentence_and_keeps_the_traceback(run):
    def break_it():
        from dynat_core.store import run_writer

        def broken(*_, **__):
            raise ZeroDivisionError("division by zero")

        run_writer.RunWriter.epoch = broken
        train_here(run)

    assert in_child(break_it) == 0
    assert run.problem == (
        "Training broke off with ZeroDivisionError: division by zero; the end of log.txt says where."
    )
    assert "in broken" in run.error()["traceback"]


@pytest.mark.parametrize("limit", [2_000, 7_000, 30_000, 45_000])
def test_a_full_disk_fails_the_run_with_one_sentence_and_loses_nothing(run, reference, limit):
    """Files over `limit` bytes meet the error; the smaller the limit, the earlier in the epoch."""
    assert in_child(lambda: train_here(run, lambda: len(run.records()) == 2)) == 0
    before = recorded(run)

    def train_on_a_full_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        train_here(run)

    assert in_child(train_on_a_full_disk) == 0
    assert run.state == "failed"
    assert run.problem == (
        f"The disk that holds {run.folder} is full (or over its quota): free some space and resume; "
        "everything recorded before is kept."
    )
    assert recorded(run)["epochs.jsonl"][:2] == before["epochs.jsonl"]
    assert not list(run.folder.rglob(".writing-*"))
    run.resume()
    finish(run)
    assert_same(run, reference)


def test_a_disk_too_full_even_for_the_sentence_leaves_the_run_interrupted(run, reference):
    assert in_child(lambda: train_here(run, lambda: len(run.records()) == 2)) == 0

    def train_on_a_brimming_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        try:
            train_here(run)
        except OSError as error:
            os._exit(error.errno)

    assert in_child(train_on_a_brimming_disk) == errno.EFBIG
    assert run.state == "interrupted" and len(run.records()) == 2
    finish(run)
    assert_same(run, reference)


@pytest.fixture
def permissions_count():
    """The administrator may write anywhere; for these tests it gives that up."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_run_is_read_and_refuses_work_with_one_sentence(finished_copy, permissions_count):
    run = RunStore(finished_copy.parent).open(finished_copy.name)
    assert run.state == "finished" and len(run.history()) == 3 and len(run.samples("last")) == 40
    with pytest.raises(JobError, match="cannot be written"), Job(run.folder).claim():
        pass
    with pytest.raises(JobError, match="cannot be written"):
        run.set_label(title="x")
    with pytest.raises(JobError, match="cannot be written"):
        RunStore(finished_copy.parent).create(tiny())
    with pytest.raises(JobError, match="cannot be written"):
        ensure_worker(finished_copy.parent)
    assert not worker_alive(finished_copy.parent)


@pytest.fixture
def finished_copy(reference, tmp_path_factory):
    import shutil

    store = Path("/tmp") / f"dynat-read-only-{os.getpid()}"  # one that everybody may enter
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(reference.folder, store / reference.id)
    (store / reference.id / "lock").unlink(missing_ok=True)
    folders = [store, *(path for path in store.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield store / reference.id
    for folder in folders:
        folder.chmod(0o755)
    shutil.rmtree(store)


def test_work_on_a_folder_that_is_no_run_is_refused(tmp_path):
    from dynat_core.work.worker import run_job

    (tmp_path / "empty").mkdir()
    run_job(tmp_path / "empty")
    assert read_json(tmp_path / "empty" / "error.json")["error"].startswith("empty has no run.json")
    with pytest.raises(RunError):
        RunStore(tmp_path).open("empty")


# ----------------------------------------------------------------------------------------------------- whole workers


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_kill_9_of_the_job_and_then_of_the_worker(tmp_path, monkeypatch):
    """The job's death is noticed and mended by its worker; the worker's death by the next worker."""
    monkeypatch.setenv("DYNAT_WORKER_IDLE", "0.5")
    config = tiny(**LONGER)
    reference = finished_run(tmp_path / "undisturbed", config)
    store = RunStore(tmp_path / "store")
    run = store.create(config)
    ensure_worker(store.folder)
    until(lambda: len(run.records()) >= 2, "two records")
    first = job_process(run)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: len(run.starts()) == 2 and len(run.records()) >= 3, "it goes on by itself")
    (state,) = worker_states(store.folder)
    assert state["busy_with"] == run.id
    assert job_process(run) not in (None, first)
    os.kill(state["pid"], signal.SIGKILL)
    until(lambda: run.state == "interrupted" and job_process(run) is None, "the job ends with its worker")
    assert not worker_alive(store.folder)
    assert "resume to go on from there" in (run.problem or "")
    ensure_worker(store.folder)
    until(lambda: run.state == "finished", "it finishes")
    until(lambda: not worker_alive(store.folder), "the worker ends")
    assert len(run.starts()) == 3
    assert_same(run, reference)


def test_two_workers_on_one_device_do_every_run_exactly_once(tmp_path):
    store = RunStore(tmp_path)
    runs = [store.create(tiny(seed=str(seed))) for seed in range(2)]
    workers = [worker_once(tmp_path, subprocess.PIPE) for _ in range(2)]
    outputs = [worker.communicate(timeout=120)[0].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert [run.state for run in runs] == ["finished"] * 2
    assert [len(run.starts()) for run in runs] == [1, 1]
    lines = "".join(outputs).splitlines()
    assert sorted(lines) == sorted(f"{run.id} on cpu" for run in runs), "one after another, none twice"
