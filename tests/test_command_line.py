"""The command line as a person meets it: one sentence for every mistake, and the whole life of a run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import PATIENCE, until, write_run

from dynat_core import doctor
from dynat_core.__main__ import main
from dynat_core.errors import ConfigError
from dynat_core.store.jobs import Job
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import child_environment, ensure_worker, worker_alive, worker_states

# A run of a few seconds; `quick` with fewer images.
SMALL = ["--set", "data.train_size=320", "--set", "data.test_size=60", "--set", "data.validation_size=40",
         "--set", "recording.steps=3", "--set", "recording.paths=false"]  # fmt: skip


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path))
    monkeypatch.setenv("DYNAT_WORKER_IDLE", "0.5")
    return RunStore(tmp_path)


@pytest.fixture
def no_worker(monkeypatch):
    """Runs are only put into the queue."""
    monkeypatch.setattr("dynat_core.commands.asked.ensure_worker", lambda store: None)


def command(store: RunStore, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dynat_core", *words],
        env=child_environment(store.folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


# ---------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "words, says, code",
    [
        ([], "The following arguments are required: COMMAND", 2),
        (["trian"], "There is no command trian; did you mean train?", 2),
        (["frobnicate"], "There is no command frobnicate; there is train, runs,", 2),
        (["train"], "The following arguments are required: --preset", 2),
        (["train", "--preset", "quikc"], "There is no preset called quikc; did you mean quick?", 1),
        (["train", "--preset", "quick", "--set", "strategy.cmax=1"], "did you mean strategy.c_max?", 1),
        (["train", "--preset", "quick", "--set", "stratgy.c_max=1"], "did you mean strategy?", 1),
        (["train", "--preset", "quick", "--set", "strategy.c_max=-1"], "strategy.c_max must be 0 or more (got -1)", 1),
        (["train", "--preset", "quick", "--set", "strategy.c_max"], "is not of the form a.b=value", 1),
        (["train", "--preset", "quick", "--set", "=1"], "is not of the form a.b=value", 1),
        (["train", "--preset", "quick", "--set", "epochs=3"], "strategy.T_control must be at most epochs (4 > 3)", 1),
        (["train", "--preset", "quick", "--set", "device=gpu"], "device must be auto, cpu, cuda or cuda:N", 1),
        (["train", "--preset", "quick", "--set", "seed=1e99999"], "seed", 1),
        (["train", "--preset", "quick", "--set", f"epochs={'9' * 5000}"], "epochs must be a whole number", 1),
        (["train", "--preset", "quick", "--set", f"optimizer.milestones={'9' * 5000}"], "must be a whole number", 1),
        (["train", "--preset", "quick", "--set", "strategy.name=[1]"], "strategy.name must be one of unsecured", 1),
        (["train", "--preset", "quick", "--set", 'threat.norm={"a": 1}'], "threat.norm must be one of linf, l2", 1),
        (["evaluate", "mine", "--set", f"n={'9' * 5000}"], "n must be a whole number", 1),
        (
            ["train", "--preset", "quick", "--set", "threat.eps=0"],
            "threat.eps must be above 0 where Dynamic attacks",
            1,
        ),
        (["evaluate", "mine", "--set", "eps=2"], "threat.eps must be 1 or less", 1),
        (["evaluate", "mine", "--set", "epoch=-1"], "epoch must be best, last or the number of an epoch", 1),
        (["train", "--preset", "quick", "--id", "../x"], "../x cannot name a run", 1),
        (["train", "--preset", "quick", "--id", "mine"], "There already is a run called mine", 1),
        (["train", "--preset", "quick", "--nmae", "x"], "Unrecognized arguments: --nmae x", 2),
        (["stop"], "The following arguments are required: RUN", 2),
        (["stop", "nothing"], "There is no run called nothing", 1),
        (["stop", "../mine"], "There is no run called ../mine", 1),
        (["stop", "a\nb"], "There is no run called 'a\\nb'", 1),
        (["stop", "done"], "done is finished; there is nothing to stop", 1),
        (["resume", "done"], "done is finished; there is nothing to resume", 1),
        (["resume", "newer"], "newer has format 9 and this version reads formats 1 to 2", 1),
        (["data", "mnits"], "There is no data set called mnits; did you mean mnist?", 1),
        (["worker", "--once", "--stop"], "not allowed with argument", 2),
        (["job", "no/such/folder"], "There is no folder", 1),
        (["job", "mine/../done", "--device"], "expected one argument", 2),
    ],
)
def test_a_mistake_is_one_sentence_on_stderr(store, no_worker, capsys, words, says, code):
    write_run(store.folder / "mine")
    (write_run(store.folder / "done") / "result.json").write_text("{}")
    write_run(store.folder / "newer", format=9)
    try:
        got = main(words)
    except SystemExit as end:
        got = end.code
    out, err = capsys.readouterr()
    assert got == code
    assert out == "" and says in err
    assert err.count("\n") == 1 and "Traceback" not in err
    assert sorted(run.id for run in store.list()) == ["done", "mine", "newer"]


@pytest.mark.parametrize("given", ["1m", "-1", "nan", "9" * 5000 + "s", "\x1b[2J"])
@pytest.mark.parametrize(
    "variable, words", [("DYNAT_WORKER_IDLE", ["worker", "--once"]), ("DYNAT_LEASE", ["runs"])]
)  # fmt: skip
def test_a_variable_that_is_no_number_of_seconds_is_one_sentence(store, monkeypatch, capsys, variable, words, given):
    (write_run(store.folder / "mine") / "lease.json").touch()
    monkeypatch.setenv(variable, given)
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"{variable} must be a number of seconds")
    assert err.count("\n") == 1 and len(err) < 200 and err[:-1].isprintable()


def test_no_worker_is_started_that_would_end_at_once(store, monkeypatch):
    monkeypatch.setattr("dynat_core.store.workers.start_worker", lambda *words, **how: pytest.fail("it was started"))
    for variable, given in (("DYNAT_WORKER_IDLE", "1m"), ("DYNAT_CPU_JOBS", "9" * 5000)):
        with monkeypatch.context() as here, pytest.raises(ConfigError, match=f"{variable} must be"):
            here.setenv(variable, given)
            ensure_worker(store.folder)


@pytest.mark.parametrize("command", [["train", "--preset", "quick", "--set"], ["evaluate", "mine", "--set"]])
def test_a_list_however_deep_is_one_sentence(store, no_worker, capsys, command):
    """Somewhere it can be read and no more be said, and where that is depends on who asks."""
    write_run(store.folder / "mine")
    key = "threat.eps" if command[0] == "train" else "eps"
    for depth in range(700, 1000):
        assert main([*command, f"{key}={'[' * depth}{']' * depth}"]) == 1
        assert "Traceback" not in capsys.readouterr().err


def test_a_store_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path / "file" / "store"))
    for words in (["train", "--preset", "quick"], ["worker", "--once"]):
        assert main(words) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "name another store in DYNAT_STORE" in err


def test_damaged_data_is_one_sentence(store, tmp_path, monkeypatch, capsys):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz",
                 "t10k-labels-idx1-ubyte.gz"):  # fmt: skip
        (raw / name).write_bytes(b"torn")
    monkeypatch.setenv("DYNAT_DATA", str(tmp_path / "data"))
    assert main(["data", "mnist"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "is damaged (md5 differs)" in err and "python -m dynat_core data mnist" in err


# ------------------------------------------------------------------------------------------------- without computing


def test_help_names_the_commands_and_not_the_workers_own(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    assert all(f"\n    {name} " in out for name in ("train", "runs", "stop", "resume", "worker", "presets", "doctor"))
    assert "\n    job" not in out


def test_presets_are_listed_with_what_they_are(capsys):
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(re.match(r"quick +Dynamic training on the 8x8 digits", line) for line in lines)


def test_the_last_line_of_train_is_the_run_folder(store, no_worker, capsys):
    assert main(["train", "--preset", "quick", "--set", "threat.eps=8/255", "--set", "seed=3", "--name", "007"]) == 0
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    run = RunStore(folder.parent).open(folder.name)
    assert (run.config.seed, run.config.threat.eps, run.title, run.state) == (3, 8 / 255, "007", "queued")


def test_train_says_which_milestones_never_come(store, no_worker, capsys):
    assert main(["train", "--preset", "quick", "--set", "optimizer.milestones=500", "--id", "mine"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == str(store.folder / "mine")
    assert err == "optimizer.milestones: 500 is not reached in 5 epochs.\n"


def test_a_kind_and_its_settings_can_be_set_in_any_order(store, no_worker, capsys):
    changes = ["--set", "threat.eps=0.5", "--set", "threat.norm=l2", "--set", "strategy.name=standard"]
    assert main(["train", "--preset", "quick", *changes, "--id", "demo-x"]) == 0
    config = store.open("demo-x").config
    assert (config.threat.norm, config.threat.eps, config.strategy.name) == ("l2", 0.5, "standard")


def test_runs_lists_everything_and_a_broken_folder_only_says_so(store, no_worker, capsys):
    assert main(["runs"]) == 0
    assert "No runs yet" in capsys.readouterr().out
    assert main(["train", "--preset", "quick", "--id", "mine"]) == 0
    (store.folder / "torn").mkdir()
    (store.folder / "torn" / "run.json").write_text("{")
    failed = write_run(store.folder / "lost")
    (failed / "error.json").write_text('{"error": "It broke."}')
    capsys.readouterr()
    assert main(["runs"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "queued" in lines["mine"] and "Dynamic on digits" in lines["mine"]
    assert "run.json of torn is damaged" in lines["torn"]
    assert "failed" in lines["lost"] and "It broke." in lines["lost"]


def test_a_run_can_be_named_by_its_folder(store, no_worker, capsys, monkeypatch):
    main(["train", "--preset", "quick"])
    folder = capsys.readouterr().out.splitlines()[-1]
    assert main(["stop", folder]) == 0
    monkeypatch.chdir(store.folder.parent)
    assert store.open(Path(folder).name).state == "stopped"
    assert main(["resume", os.path.relpath(folder)]) == 0
    assert store.open(Path(folder).name).state == "queued"
    assert main(["resume", str(Path("elsewhere") / Path(folder).name)]) == 1


def test_stopping_a_queued_run_and_resuming_it(store, no_worker, capsys):
    main(["train", "--preset", "quick", "--id", "mine"])
    assert main(["stop", "mine"]) == 0
    assert "mine is stopped" in capsys.readouterr().out
    assert main(["resume", "mine"]) == 0
    assert store.open("mine").state == "queued"


def test_a_run_that_ends_while_it_is_stopped_has_finished(store, capsys, monkeypatch):
    folder = write_run(store.folder / "mine")
    monkeypatch.setattr(Job, "request_stop", lambda job: (folder / "result.json").write_text("{}"))
    assert main(["stop", "mine"]) == 0
    assert capsys.readouterr().out == "mine has finished before it could be stopped.\n"


def test_what_a_program_of_ones_own_records_needs_no_worker(store):
    (write_run(store.folder / "own", kind="external") / "starts.jsonl").touch()
    (finding,) = doctor._worker(store)
    assert finding.level == "good", finding
    write_run(store.folder / "mine")
    (finding,) = doctor._worker(store)
    assert (finding.level, finding.what) == ("bad", "no worker, and 1 run waits")
    write_run(store.folder / "mine-too")
    assert doctor._worker(store)[0].what == "no worker, and 2 runs wait"


def test_stopping_workers_where_there_are_none(store, capsys):
    assert main(["worker", "--stop"]) == 0
    assert capsys.readouterr().out == "No worker is alive.\n"


def test_commands_that_do_not_compute_load_no_torch(store):
    program = (
        "import sys\nsys.modules['torch'] = None\nfrom dynat_core.__main__ import main\n"
        "for words in (['presets'], ['runs'], ['worker', '--once'], ['worker', '--stop']): assert main(words) == 0\n"
        "assert 'pandas' not in sys.modules and 'pyarrow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], env=child_environment(store.folder), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


# --------------------------------------------------------------------------------------------------------- real life


def test_doctor_names_what_is_missing_and_how_to_mend_it(store, tmp_path, monkeypatch):
    write_run(store.folder / "waits")
    monkeypatch.setenv("DYNAT_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("DYNAT_DEVICE", "cuda:9")
    done = command(store, "doctor")
    assert done.returncode == 1 and done.stderr == ""
    assert re.search(r"good  Python .*torch \d", done.stdout)
    assert "bad   The device cuda:9 is not there" in done.stdout
    assert "good  digits found" in done.stdout
    assert re.search(r"note  mnist not in .*nothing\n +to mend it: run .python -m dynat_core data mnist", done.stdout)
    assert f"good  run store {store.folder}, 1 run, writable" in done.stdout
    assert 'bad   no worker, and 1 run waits\n      to mend it: run "python -m dynat_core worker"' in done.stdout


def test_train_stop_resume_and_wait(store):
    """Launched, stopped in the middle, resumed: the worker starts by itself and ends by itself."""
    started = command(store, "train", "--preset", "quick", *SMALL, "--set", "epochs=25")
    assert started.returncode == 0, started.stderr
    run = store.open(Path(started.stdout.splitlines()[-1]).name)
    until(lambda: len(run.records()) >= 2, "two records")
    assert run.id in [state["busy_with"] for state in worker_states(store.folder)]
    stopped = command(store, "stop", run.id)
    assert stopped.returncode == 0 and f"{run.id} is stopped" in stopped.stdout
    assert run.state == "stopped" and len(run.records()) < 26
    finished = command(store, "resume", run.id, "--wait")
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert lines[-1] == str(run.folder)
    assert "finished" in lines and "epoch 25 of 25: clean" in finished.stdout
    assert re.search(r"last, epoch 25: clean \d+\.\d %, robust \d+\.\d % of 60 test images", finished.stdout)
    assert [record["epoch"] for record in run.records()] == list(range(26)) and len(run.starts()) == 2
    until(lambda: not worker_alive(store.folder), "the worker ends")


def test_a_run_that_fails_while_one_waits_is_one_sentence(store):
    done = command(store, "train", "--preset", "quick", *SMALL, "--set", "device=cuda:5", "--wait")
    assert done.returncode == 1
    assert done.stderr.startswith("The device cuda:5 is not there") and done.stderr.count("\n") == 1
    assert Path(done.stdout.splitlines()[-1]).is_dir()


def test_waiting_for_a_run_that_is_deleted_ends_with_one_sentence(store, no_worker, monkeypatch, capsys):
    from dynat_core.work import follow

    def deleted_meanwhile(folder: Path) -> bool:
        shutil.rmtree(folder / "mine", ignore_errors=True)
        return True  # a worker is there, so that it might wait without end

    looks = iter(range(20))
    monkeypatch.setattr(follow, "worker_alive", deleted_meanwhile)
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: next(looks))
    assert main(["train", "--preset", "quick", "--id", "mine", "--wait"]) == 1
    assert "mine was deleted or moved while it was waited for; " in capsys.readouterr().err


def test_a_job_folder_can_be_worked_on_alone(store):
    """As a task on a cluster does it: no supervisor, no queue."""
    data = {"name": "digits", "train_size": 64, "test_size": 20}
    settings = {"epochs": 1, "strategy": {"name": "unsecured"}, "recording": {"steps": 1}, "data": data}
    write_run(store.folder / "alone", config=settings)
    done = command(store, "job", str(store.folder / "alone"))
    assert done.returncode == 0, done.stderr
    assert store.open("alone").state == "finished"
    assert not (store.folder / ".worker").exists()


def test_on_a_terminal_a_bar_shows_how_long_it_takes(store, monkeypatch, capsys):
    from dynat_core.work import follow

    run = store.open(write_run(store.folder / "mine").name)
    states = iter(["queued", "running", "running", "finished"])
    monkeypatch.setattr(type(run), "state", property(lambda self: next(states)))
    monkeypatch.setattr(follow, "worker_alive", lambda store: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    status = '{"epoch": 1, "batch": 1, "batches": 2, "eta_s": 70.4, "phase": "train"}'
    (run.folder / "status.json").write_text(status)
    assert follow.follow(run) == "finished"
    assert "1:10 left" in capsys.readouterr().out


@pytest.mark.parametrize(
    "seconds, words",
    [(0, "0:00"), (9.6, "0:10"), (70, "1:10"), (3599.6, "1 h 00 min"), (7380, "2 h 03 min"), (None, "–"),
     (float("nan"), "–")],
)  # fmt: skip
def test_a_duration_reads_the_same_at_the_command_line_and_on_every_screen(seconds, words):
    from dynat_core.work import follow
    from ui import words as screens

    assert follow.duration(seconds) == screens.duration(seconds) == words
