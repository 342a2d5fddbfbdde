"""Several devices of one machine: each has its worker, they share one queue, and launchers take turns in it.

The machine of the tests with processes has two GPUs that only the driver believes in (tests/two_gpus).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from running import assert_same, finished_run, tiny, until, write_run
from streamlit.testing.v1 import AppTest

from dynat_core import machine
from dynat_core.errors import ConfigError
from dynat_core.places import ROOT
from dynat_core.store import queue
from dynat_core.store.jobs import Job
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import child_environment, ensure_worker, stop_workers, worker_alive, worker_states
from dynat_core.work.analyst import Analyst
from dynat_core.work.backlog import Backlog
from dynat_core.work.supervisor import Supervisor, _shared_out

# Two jobs on a busy machine must be seen at work together.
LONG = {"epochs": "30", "data.train_size": "320", "recording.steps": "5", "strategy.T_control": "10"}


@pytest.fixture
def two_gpus(monkeypatch):
    """For processes that are started, and for this one."""
    root = Path(__file__).resolve().parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root / "two_gpus"), str(root.parent)]))
    monkeypatch.setenv("DYNAT_WORKER_IDLE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("DYNAT_DEVICE", raising=False)
    monkeypatch.setattr(machine, "gpu_count", lambda: 2)


def waiting(store: RunStore, id: str, age: float, launcher: str = "", **more: object) -> None:
    """A run that was launched `age` seconds ago."""
    created = (datetime(2026, 1, 1, tzinfo=UTC) - timedelta(seconds=age)).isoformat()
    write_run(store.folder / id, created=created, **({"launcher": launcher} if launcher else {}), **more)


def order(store: RunStore) -> list[str]:
    return [run.id for run in queue.in_turn(store.list())]


# ------------------------------------------------------------------------------------------------------------- turns


def test_without_launchers_the_oldest_run_is_next(tmp_path):
    store = RunStore(tmp_path)
    for age, id in ((1, "new"), (3, "old"), (2, "middle")):
        waiting(store, id, age)
    assert order(store) == ["old", "middle", "new"]


def test_a_sweep_of_a_hundred_runs_delays_somebody_elses_run_by_one_of_them(tmp_path):
    store = RunStore(tmp_path)
    for number in range(100):
        waiting(store, f"sweep-{number:02d}", 1000 - number, "account 1000")
    waiting(store, "mine", 1, "tab a")
    assert order(store)[:3] == ["sweep-00", "mine", "sweep-01"]
    with Job(store.folder / "sweep-00").claim():
        assert order(store)[:2] == ["mine", "sweep-01"], "what is worked on counts as the sweep's turn"
        found = queue.places(store.list())
        assert (found["mine"], found["sweep-01"], len(found)) == (1, 2, 100)


def test_three_launchers_go_round(tmp_path):
    store = RunStore(tmp_path)
    for launcher, age in (("a", 300), ("b", 200), ("c", 100)):
        for number in range(2):
            waiting(store, f"{launcher}-{number}", age - number, launcher)
    assert order(store) == ["a-0", "b-0", "c-0", "a-1", "b-1", "c-1"]


def test_runs_of_reproduce_from_before_launchers_were_noted_are_one_launcher(tmp_path):
    store = RunStore(tmp_path)
    for number in range(3):
        waiting(store, f"paper-digits-standard-{number}", 100 - number)
    waiting(store, "other", 1)
    assert order(store)[:2] == ["paper-digits-standard-0", "other"]


def test_the_backlog_takes_turns_and_measurements_first(tmp_path):
    from dynat_core.store import evaluations
    from dynat_core.store.evaluation_settings import Ladder

    store = RunStore(tmp_path)
    for number in range(2):
        waiting(store, f"sweep-{number}", 100 - number, "sweep")
    waiting(store, "mine", 1, "me")
    asked = evaluations.create(tmp_path / "mine", Ladder(n=10), "ladder-x")
    found = [task.id for task in Backlog(store).waiting()]
    assert found == [asked.id, "sweep-0", "mine", "sweep-1"]


def test_a_run_that_was_deleted_and_made_again_under_its_name_is_taken(tmp_path):
    store = RunStore(tmp_path)
    backlog = Backlog(store)
    for again in range(2):
        waiting(store, "mine", 1)
        assert [task.id for task in backlog.waiting()] == ["mine"], again
        (store.folder / "mine" / "result.json").write_text("{}")
        assert backlog.waiting() == []
        shutil.rmtree(store.folder / "mine")
    assert backlog.waiting() == []


def test_a_new_run_is_told_how_many_come_before_it_and_how_long_they_take(tmp_path):
    store = RunStore(tmp_path)
    for number in range(3):
        waiting(store, f"sweep-{number}", 100 - number, "sweep")
    waiting(store, "done", 500)
    records = [f'{{"epoch": {t}, "seconds/train": 8.0, "seconds/evaluate": 2.0}}\n' for t in range(3)]
    (store.folder / "done" / "epochs.jsonl").write_text("".join(records))
    (store.folder / "done" / "result.json").write_text("{}")
    runs = store.list()
    assert queue.before_new(runs, "me") == 1 and queue.before_new(runs, "sweep") == 3
    # two epochs of 10 s each: a run takes 20 s
    assert queue.wait_for_new(runs, "me", devices=1) == pytest.approx(20)
    assert queue.wait_for_new(runs, "sweep", devices=1) == pytest.approx(60)
    assert queue.wait_for_new(runs, "sweep", devices=2) == pytest.approx(20)
    with Job(store.folder / "sweep-0").claim():
        assert queue.wait_for_new(runs, "sweep", devices=1) is None, "it has not said how long it takes"
        Job(store.folder / "sweep-0").write_status({"eta_s": 5.0})
        assert queue.wait_for_new(runs, "sweep", devices=1) == pytest.approx(45)
        assert queue.wait_for_new(runs, "me", devices=2) == 0


def test_where_no_device_is_known_no_time_is_made_up(tmp_path):
    store = RunStore(tmp_path)
    assert queue.wait_for_new([], "me", devices=0) is None
    waiting(store, "first", 10, "a")
    assert queue.wait_for_new(store.list(), "me", devices=0) is None


def test_how_long_a_network_takes_that_never_ran_is_not_made_up(tmp_path):
    store = RunStore(tmp_path)
    waiting(store, "first", 10, "a")
    assert queue.wait_for_new(store.list(), "b", devices=1) is None
    assert queue.wait_for_new([], "b", devices=1) == 0


def test_a_run_keeps_who_launched_it(tmp_path):
    store = RunStore(tmp_path)
    assert RunStore(tmp_path).open(store.create(tiny(), launcher="tab 7").id).launcher == "tab 7"
    assert RunStore(tmp_path).open(store.create(tiny()).id).launcher == ""


# ----------------------------------------------------------------------------------------------- a worker, a device


@pytest.mark.parametrize(
    "device, asked, mine",
    [
        ("cuda:1", "auto", ["cuda:1"]),
        ("cuda:1", "cuda:1", ["cuda:1"]),
        ("cuda:1", "cuda:0", None),
        ("cuda:1", "cpu", None),
        ("cpu", "auto", None),
        ("cpu", "cpu", ["cpu"]),
        ("cpu", "cuda:7", ["cuda:7"]),  # nobody has it: whoever takes it fails it with a sentence
        (None, "auto", ["cuda:0", "cuda:1"]),
        (None, "cpu", ["cpu"]),
    ],
)
def test_a_worker_takes_what_its_device_may_do(tmp_path, two_gpus, device, asked, mine):
    RunStore(tmp_path).create(tiny(device=asked), "a-run")
    supervisor = Supervisor(tmp_path, device=device)
    assert [devices for _, devices in supervisor._mine()] == ([mine] if mine else [])
    os.close(supervisor._presence)


def test_a_worker_for_a_device_that_is_not_there_is_refused_with_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "dynat_core", "worker", "--device", "cuda:9"],
        env=child_environment(tmp_path), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "there is no device cuda:9 here; this machine has" in done.stderr


def test_workers_that_others_see_to_are_not_started(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAT_WORKERS", "elsewhere")
    ensure_worker(tmp_path)
    assert worker_states(tmp_path) == [] and not (tmp_path / ".worker").exists()


def test_every_device_gets_a_worker_and_none_a_second(tmp_path, two_gpus, monkeypatch):
    monkeypatch.setenv("DYNAT_WORKER_IDLE", "60")
    ensure_worker(tmp_path)
    until(lambda: all(state["pid"] for state in worker_states(tmp_path)), "all have begun")
    first = worker_states(tmp_path)
    assert [state["device"] for state in first] == ["cpu", "cuda:0", "cuda:1"]
    ensure_worker(tmp_path)
    assert worker_states(tmp_path) == first
    os.kill(first[1]["pid"], signal.SIGKILL)
    until(lambda: len(worker_states(tmp_path)) == 2, "one is gone")
    ensure_worker(tmp_path)
    until(lambda: all(state["pid"] != first[1]["pid"] for state in worker_states(tmp_path)), "it is replaced")
    assert [state["device"] for state in worker_states(tmp_path)] == ["cpu", "cuda:0", "cuda:1"]
    stop_workers(tmp_path)
    until(lambda: not worker_alive(tmp_path), "they end")


def test_all_devices_work_at_once_on_one_queue(tmp_path, two_gpus):
    """`worker --all --once`: three runs on two devices, two of them at the same time, each once, none changed by it."""
    store = RunStore(tmp_path / "store")
    runs = [store.create(tiny(seed=str(seed), **LONG)) for seed in range(2)] + [store.create(tiny(seed="9"))]
    crew = subprocess.Popen(
        [sys.executable, "-m", "dynat_core", "worker", "--all", "--once"],
        env=child_environment(store.folder), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def both() -> bool:
        busy = {state["device"]: state["busy_with"] for state in worker_states(store.folder) if state["busy_with"]}
        return busy.keys() == {"cuda:0", "cuda:1"} and all(run.running for run in runs[:2])

    until(both, "both devices are busy")
    said = crew.communicate(timeout=120)[0]
    assert crew.returncode == 0
    assert [run.state for run in runs] == ["finished"] * 3 and [len(run.starts()) for run in runs] == [1] * 3
    placed = [line.split(" on ") for line in said.splitlines()]
    assert sorted(id for id, _ in placed) == sorted(run.id for run in runs), "no worker starts what another has"
    assert {device for id, device in placed if id != runs[2].id} == {"cuda:0", "cuda:1"}
    assert_same(runs[2], finished_run(tmp_path / "alone", tiny(seed="9")))


def test_a_signal_ends_all_workers_and_one_that_is_killed_is_replaced(tmp_path, two_gpus, monkeypatch):
    monkeypatch.setenv("DYNAT_WORKER_IDLE", "inf")
    crew = subprocess.Popen([sys.executable, "-m", "dynat_core", "worker", "--all"], env=child_environment(tmp_path))
    until(lambda: len([s for s in worker_states(tmp_path) if s["pid"]]) == 3, "all have begun")
    killed = worker_states(tmp_path)[1]["pid"]
    os.kill(killed, signal.SIGKILL)
    until(lambda: len({s["pid"] for s in worker_states(tmp_path)} - {killed, None}) == 3, "it is replaced")
    crew.send_signal(signal.SIGTERM)
    assert crew.wait(60) == 0
    assert not worker_alive(tmp_path)


# ------------------------------------------------------------------------------------------- several places on the CPU


@pytest.fixture
def two_places(monkeypatch):
    """For processes that are started, and for this one: a CPU that does two jobs side by side."""
    for name in ("DYNAT_DEVICE", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DYNAT_CPU_JOBS", "2")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(machine, "gpu_count", lambda: 0)


def test_a_cpu_that_does_two_jobs_is_two_places_with_half_the_threads_each(two_places, monkeypatch):
    assert machine.devices() == machine.devices_for("auto") == machine.devices_for("cpu") == ["cpu", "cpu:2"]
    assert machine.cpu_threads() == 4
    assert _shared_out({"A": "b"}, "cpu:2") == {"A": "b", "OMP_NUM_THREADS": "4"}
    assert _shared_out({"OMP_NUM_THREADS": "1"}, "cpu") == {"OMP_NUM_THREADS": "1"}, "who says how many is heard"
    assert _shared_out({}, "cuda:0") == {}
    monkeypatch.setattr(machine, "gpu_count", lambda: 1)
    assert machine.devices_for("auto") == ["cuda:0"] and machine.devices_for("cpu") == ["cpu", "cpu:2"]
    monkeypatch.setenv("DYNAT_CPU_JOBS", "3")
    assert machine.devices() == ["cuda:0", "cpu", "cpu:2", "cpu:3"] and machine.cpu_threads() == 2
    monkeypatch.delenv("DYNAT_CPU_JOBS")
    assert machine.devices_for("cpu") == ["cpu"] and machine.cpu_threads() is None


@pytest.mark.parametrize("value", ["0", "9", "-1", "two", "1.5", "\u00b2", " "])
def test_a_cpu_is_not_divided_into_nonsense(two_places, monkeypatch, value):
    monkeypatch.setenv("DYNAT_CPU_JOBS", value)
    sentence = f"DYNAT_CPU_JOBS must be a whole number from 1 to 8, the processors here (got {value})."
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        machine.devices()


def test_nonsense_gets_one_sentence_on_the_command_line_and_on_screen(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAT_CPU_JOBS", "many")
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path))
    for words in (["worker", "--all"], ["worker", "--device", "cpu"], ["reproduce", "figure1a", "--dry-run"]):
        done = subprocess.run(
            [sys.executable, "-m", "dynat_core", *words],
            env=child_environment(tmp_path),
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0 and "DYNAT_CPU_JOBS must be a whole number" in done.stderr, words
        assert "Traceback" not in done.stderr
    screen = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    assert not screen.exception
    assert ["must be a whole number" in message.value for message in screen.error] == [True]
    assert screen.button, "the rest of the screen is there"


def test_two_jobs_side_by_side_on_the_cpu_share_its_threads(tmp_path, monkeypatch):
    """`worker --all --once` with real processes: both at once, one thread each, and each as it would be alone."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("needs two processors")
    for name in ("DYNAT_DEVICE", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DYNAT_CPU_JOBS", str(os.cpu_count()))
    store = RunStore(tmp_path / "store")
    runs = [store.create(tiny(seed=str(seed), **LONG)) for seed in range(2)]
    crew = subprocess.Popen(
        [sys.executable, "-m", "dynat_core", "worker", "--all", "--once"], env=child_environment(store.folder)
    )
    until(lambda: all(run.running for run in runs), "both are worked on")
    assert {s["device"] for s in worker_states(store.folder) if s["busy_with"]} <= set(machine.devices_for("cpu"))
    assert crew.wait(120) == 0
    assert [run.state for run in runs] == ["finished"] * 2
    assert [[start["threads"] for start in run.starts()] for run in runs] == [[1], [1]]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert_same(runs[0], finished_run(tmp_path / "alone", tiny(seed="0", **LONG)))


# ----------------------------------------------------------------------------------------------------- on the screens


@pytest.mark.parametrize(
    "busy, words",
    [
        ({"cpu": None}, "CPU, idle"),
        ({"cpu": "a-run"}, "CPU, training"),
        ({"cuda:0": "a-run/check-1"}, "GPU 0, measuring"),
        ({"cpu": "a-run", "cpu:2": None}, "CPU training, CPU 2 idle"),
        ({f"cpu:{n}": "a-run" if n < 3 else None for n in range(8)}, "3 of 8 places on the CPU busy"),
        ({"cuda:0": "a-run", "cuda:1": None}, "GPU 0 training, GPU 1 idle"),
        ({f"cuda:{n}": "a-run" if n < 3 else None for n in range(8)}, "3 of 8 GPUs busy"),
        ({f"cluster:{n}": "a-run" if n < 3 else None for n in range(8)}, "3 of 8 places in the cluster busy"),
    ],
)
def test_the_menu_says_what_every_device_does(busy, words):
    from ui.devices import Device, menu_words

    assert menu_words([Device(name, job) for name, job in busy.items()]) == words


def test_screens_know_the_devices_from_their_workers_and_leave_an_idle_cpu_out(tmp_path, two_gpus, monkeypatch):
    from ui import devices

    monkeypatch.setenv("DYNAT_STORE", str(tmp_path))
    assert [(d.name, d.busy_with) for d in devices.devices()] == [("cuda:0", None), ("cuda:1", None)]
    supervisor = Supervisor(tmp_path, device="cpu")
    supervisor._show("cpu", "a-run")
    assert [(d.words, d.doing) for d in devices.devices()][-1] == ("CPU", "training")
    os.close(supervisor._presence)
    monkeypatch.setenv("DYNAT_WORKERS", "elsewhere")
    assert devices.devices() == [] and "no worker" in devices.menu_html()


@pytest.mark.parametrize("jobs", [0, 1])
def test_train_says_that_no_worker_is_there_where_others_see_to_them(tmp_path, monkeypatch, jobs):
    from tests.test_screens import errors, said, show
    from ui import store as kept

    monkeypatch.setenv("DYNAT_STORE", str(tmp_path))
    monkeypatch.setenv("DYNAT_WORKERS", "elsewhere")
    monkeypatch.setattr(Analyst, "warm", lambda analyst, after=0.0: None)
    for number in range(jobs):
        waiting(RunStore(tmp_path), f"run-{number}", number)
    kept.look_again()
    app = show("train")
    assert errors(app) == []
    assert f"{jobs or 'No'} job{'s' * (jobs != 1)} wait{'s' * jobs}; no worker is there to take a new run." in said(app)


def test_the_train_screen_says_what_waits_and_when_a_new_run_would_start(tmp_path, two_gpus, monkeypatch):
    from ui import store as kept
    from ui.devices import Device, lines, queue_words

    store = RunStore(tmp_path)
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path))
    idle = [Device("cuda:0", None)]
    kept.look_again()
    assert queue_words(idle, "me") == "No jobs wait; a new run would start at once"
    for number in range(3):
        waiting(store, f"sweep-{number}", 100 - number, "sweep")
    with Job(store.folder / "sweep-0").claim():
        Job(store.folder / "sweep-0").write_status({"epoch": 1, "epochs": 2, "batch": 1, "batches": 3, "eta_s": 70})
        kept.look_again()
        assert queue_words([Device("cuda:0", "sweep-0")], "me") == (
            "2 jobs wait; 1 before a new run, which would start in about 1:10"
        )
        said = lines([Device("cuda:0", "sweep-0"), Device("cuda:1", None), Device("cpu", "sweep-0/check-1")])
    assert said[0].startswith("GPU 0 trains ") and said[0].endswith(": epoch 1 of 2, ETA 1:10")
    assert said[1] == "GPU 1 is idle" and said[2].startswith("CPU measures ")
    kept.look_again()
