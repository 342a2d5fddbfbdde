"""A store over the years: what runs take on the disk, what is given back, logs that stay short, other versions."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import assert_same, finished_run, in_child, load_torch, recorded, tiny, train_here, until, write_run
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

from dynat_core.__main__ import main
from dynat_core.errors import ConfigError, JobError, RunError
from dynat_core.store import disk, evaluations, formats, logs, run_writer
from dynat_core.store.evaluation_settings import Check
from dynat_core.store.jobs import Job
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import child_environment, worker_states
from ui.run_list import Wish, asked, rows, table

ROOT = Path(__file__).resolve().parent.parent
ALL = {"epochs": "5", "recording.keep_weights": "all"}


@pytest.fixture(scope="module", autouse=True)
def torch_is_loaded():
    load_torch()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    return finished_run(tmp_path_factory.mktemp("trained"), tiny(**ALL))


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Run:
    return finished_run(tmp_path_factory.mktemp("undisturbed"), tiny())


@pytest.fixture
def run(trained, tmp_path, monkeypatch) -> Run:
    """A copy of a finished run of five epochs that kept all weights, in the store of the command line."""
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path))
    shutil.copytree(trained.folder, tmp_path / "a-run")
    return Run(tmp_path / "a-run")


def best(run: Run) -> int:
    return (run.last_record() or {})["best_epoch"]


# ----------------------------------------------------------------------------------------------------- disk, pruning


def test_the_size_of_a_run_is_the_sum_of_its_files(run):
    evaluations.create(run.folder, Check())
    (run.folder / "link").symlink_to("/usr")
    files = [p for p in run.folder.rglob("*") if p.is_file() and not p.is_symlink()]
    assert disk.size(run) == sum(p.stat().st_size for p in files) + len("/usr")
    weights = sum(p.stat().st_size for p in (run.folder / "weights").iterdir())
    assert disk.sizes(run)["weights"] == weights > 0 and disk.sizes(run)["evaluations"] > 0


@pytest.mark.parametrize("size, words", [(0, "0 bytes"), (999, "999 bytes"), (34_210_000, "34.2 MB"), (2e9, "2.0 GB")])
def test_a_size_is_said_with_its_unit(size, words):
    assert disk.words(int(size)) == words


@pytest.mark.parametrize("every", [None, 1, 2, 3, 100])
def test_pruning_keeps_the_first_the_best_the_last_and_every_kth_epoch(run, every):
    wanted = {0, best(run), 5, *(range(0, 6, every) if every else ())}
    before, size = recorded(run), disk.size(run)
    plan = disk.plan(run, every)
    assert recorded(run) == before, "a plan removes nothing"
    done = disk.prune(run, every)
    assert run.kept_epochs() == sorted(wanted) and done.epochs == plan.epochs == tuple({*range(6)} - wanted)
    assert size - disk.size(run) == done.frees == plan.frees and disk.size(run) == done.left == plan.left
    assert {name: found for name, found in before.items() if name in recorded(run)} == recorded(run)
    assert disk.prune(run, every).files == ()


def test_tables_go_with_the_weights_only_when_that_is_asked_for(run):
    disk.prune(run)
    assert run.epochs_of("samples") == run.epochs_of("probes") == [*range(6)]
    history = run.records()
    disk.prune(run, tables=True)
    assert run.epochs_of("samples") == run.epochs_of("probes") == run.kept_epochs()
    assert len(run.samples("best")) == len(run.samples("last")) == 40 and run.records() == history
    lost = next(epoch for epoch in range(6) if epoch not in run.kept_epochs())
    with pytest.raises(RunError, match=f"has no table of samples for epoch {lost}"):
        run.samples(lost)


def test_the_weights_an_evaluation_is_about_stay(run):
    asked = next(epoch for epoch in range(1, 5) if epoch != best(run))
    evaluations.create(run.folder, Check(epoch=asked))
    disk.prune(run)
    assert run.kept_epochs() == sorted({0, asked, best(run), 5})


def test_a_run_somebody_works_on_is_not_pruned(run):
    before = run.kept_epochs()
    (run.folder / "result.json").unlink()
    with Job(run.folder).claim(), pytest.raises(RunError, match="is running; stop it"):
        disk.prune(run)
    assert run.kept_epochs() == before


def test_without_records_nothing_is_pruned(run):
    (run.folder / "epochs.jsonl").write_bytes(b"\xff")
    with pytest.raises(RunError, match="nothing is pruned"):
        disk.prune(run)
    with pytest.raises(ConfigError, match="k of 1 or more"):
        disk.plan(run, 0)
    assert run.kept_epochs() == [*range(6)]


def test_an_interrupted_run_that_is_pruned_still_goes_on_bit_identically(tmp_path, trained):
    run = RunStore(tmp_path).create(tiny(**ALL))
    assert in_child(lambda: train_here(run, lambda: len(run.records()) == 4)) == 0
    disk.prune(run)
    kept = run.kept_epochs()
    assert 2 <= len(kept) < 4 and in_child(lambda: train_here(run)) == 0
    whole = recorded(trained)
    found = recorded(run)
    pruned = {name for name in whole if name.startswith("weights/")} - found.keys()
    assert len(pruned) == 4 - len(kept) and {k: v for k, v in whole.items() if k not in pruned} == found


def killed_after_a_record(run: Run) -> Path:
    """Leave the run as a process does that is killed between epoch 5, its best one, and the file to resume from."""
    (run.folder / "result.json").unlink()
    records = [{**record, "best_epoch": min(2, record["epoch"])} for record in run.records()]
    records[-1]["best_epoch"] = 5
    (run.folder / "epochs.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    resume = run.folder / "resume.safetensors"
    save_file(load_file(run.weights("last")), resume, {"format": "2", "recorded": "4", "state": "{}"})
    return resume


def test_what_an_interrupted_run_goes_back_to_stays(run):
    killed_after_a_record(run)
    disk.prune(run)
    assert run.kept_epochs() == [0, 2, 4, 5]


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 50, b"\x02" + bytes(7) + b"{}", b"\x02" + bytes(7) + b"[]"],
    ids=["empty", "no header", "nothing in it", "a list"],
)
def test_an_interrupted_run_that_does_not_say_where_it_goes_on_is_not_pruned(run, content):
    killed_after_a_record(run).write_bytes(content)
    with pytest.raises(RunError, match="has a resume.safetensors that cannot be read, .* nothing is pruned"):
        disk.prune(run)
    assert run.kept_epochs() == [*range(6)]


def test_the_command_says_what_it_would_free_and_leaves_shipped_runs_alone(run, capsys):
    shutil.copytree(ROOT / "checkpoints" / "demo-digits-dynamic", run.folder.parent / "demo-digits-dynamic")
    demo = Run(run.folder.parent / "demo-digits-dynamic")
    assert main(["prune", "--keep-every", "2", "--dry-run"]) == 0
    frees = disk.plan(run, 2).frees
    assert f"{disk.words(frees)} would be freed; nothing was removed." in capsys.readouterr().out
    assert len(run.kept_epochs()) == 6
    assert main(["prune"]) == 0
    assert "a-run: " in capsys.readouterr().out and len(run.kept_epochs()) < 6 and len(demo.kept_epochs()) == 31
    assert main(["prune", demo.id]) == 0
    assert len(demo.kept_epochs()) <= 3
    assert main(["runs", "--size"]) == 0
    assert f"{disk.words(disk.size(run) + disk.size(demo))} in all" in capsys.readouterr().out


def test_the_command_leaves_out_a_run_at_work_and_refuses_one_that_is_named(run, capsys):
    (run.folder / "result.json").unlink()
    with Job(run.folder).claim():
        assert main(["prune"]) == 0
        assert "a-run is running" in capsys.readouterr().out
        assert main(["prune", "a-run"]) == 1
        assert "a-run is running" in capsys.readouterr().err


def disk_popover() -> None:
    """The script of a page that shows only the popover; what its button asks for stays in the session."""
    import streamlit as st

    from dynat_core.store.runs import RunStore
    from ui.room import room

    def prune(*asked: object) -> None:
        st.session_state["asked"] = asked

    room(RunStore().list, "here", prune)


def test_the_screen_says_what_pruning_would_free_and_spares_the_demos_among_several(run):
    shutil.copytree(ROOT / "checkpoints" / "demo-digits-dynamic", run.folder.parent / "demo-digits-dynamic")
    app = AppTest.from_function(disk_popover, default_timeout=60).run()
    assert app.button(key="prune").label == f"Prune: frees {disk.words(disk.plan(run).frees)}"
    assert any("demos that came with Dynat are left out" in caption.value for caption in app.caption)
    app.number_input(key="here.every").set_value(2)
    app.checkbox(key="here.tables").check().run()
    assert app.button(key="prune").label == f"Prune: frees {disk.words(disk.plan(run, 2, True).frees)}"
    app.number_input(key="here.every").set_value(3)  # left by the click on the button: what is typed counts
    app.button(key="prune").click().run()
    runs, every, tables = app.session_state["asked"]
    assert ([one.id for one in runs], every, tables) == (["a-run"], 3, True)
    assert len(run.kept_epochs()) == 6, "the popover itself removes nothing"


def test_the_list_says_megabytes_and_orders_by_them(run):
    shutil.copytree(run.folder, run.folder.parent / "larger")
    (run.folder.parent / "larger" / "log.txt").write_text("x" * 3_000_000)
    found = asked(rows(RunStore().list()), Wish(by="size"))
    assert [row.run.id for row in found] == ["larger", "a-run"]
    assert table(found)["MB"].tolist() == [round(disk.size(row.run) / 1e6, 1) for row in found]
    assert table(found, sized=False)["MB"].tolist() == [None, None]


# --------------------------------------------------------------------------------------------------- other versions


def make_format_1(run: Run) -> None:
    """Write a run's request, and what it would go on from, as format 1 had them: SGD and training went unsaid."""
    request = json.loads((run.folder / "run.json").read_text())
    del request["kind"], request["config"]["optimizer"]["name"]
    (run.folder / "run.json").write_text(json.dumps({**request, "format": 1}))
    resume = run.folder / "resume.safetensors"
    if resume.exists():
        change_resume(resume, format="1")


def change_resume(path: Path, **note: str) -> None:
    with safe_open(path, framework="pt") as file:
        old = file.metadata()
    kept = {key: text for key, text in {**old, **note}.items() if key != "crc32" or note.get("format") != "1"}
    save_file(load_file(path), path, kept)


def test_a_run_of_the_previous_format_opens_as_what_it_is_and_its_files_stay(tmp_path):
    run = RunStore(tmp_path).create(tiny())
    make_format_1(run)
    before = (run.folder / "run.json").read_bytes()
    opened = RunStore(tmp_path).open(run.id)
    assert (opened.config, opened.kind, opened.state) == (run.config, "training", "queued")
    assert (run.folder / "run.json").read_bytes() == before


def test_a_run_begun_in_the_previous_format_goes_on_bit_identically(tmp_path, reference):
    run = RunStore(tmp_path).create(tiny())
    assert in_child(lambda: train_here(run, lambda: len(run.records()) == 2)) == 0
    make_format_1(run)
    assert in_child(lambda: train_here(run)) == 0
    assert_same(run, reference)


def test_an_optimizer_without_a_name_is_damage_today(tmp_path):
    config = tiny().model_dump(mode="json")
    del config["optimizer"]["name"]
    write_run(tmp_path / "a-run", config=config)
    assert "optimizer.name must be one of" in (Run(tmp_path / "a-run").problem or "")


@pytest.mark.parametrize("version", [0, -1, 3, 1.0, True, "2", None, [1]])
def test_any_other_format_is_refused_with_one_sentence(tmp_path, version):
    run = Run(write_run(tmp_path / "a-run", format=version))
    assert run.state == "broken" and "this version reads formats 1 to 2; open it with" in (run.problem or "")


def test_every_format_has_a_way_to_the_next():
    assert sorted(formats._STEPS) == [*range(1, formats.FORMAT)]


def test_a_queued_run_with_a_setting_that_is_not_known_here_waits_for_the_version_that_knows_it(tmp_path):
    config = tiny().model_dump(mode="json")
    folder = write_run(tmp_path / "a-run", config={**config, "recording": {**config["recording"], "colour": "red"}})
    before = (folder / "run.json").read_bytes()
    problem = Run(folder).problem or ""
    assert problem.startswith("a-run has a setting that this version of Dynat cannot take (recording.colour is not")
    assert problem.endswith("nothing of it is lost, open it with the version that wrote it.")
    command = [sys.executable, "-m", "dynat_core", "worker", "--once"]
    assert subprocess.run(command, env=child_environment(tmp_path), timeout=60).returncode == 0
    assert sorted(os.listdir(folder)) == ["run.json"] and (folder / "run.json").read_bytes() == before


def test_a_queued_run_from_before_a_setting_takes_what_was_done_then(tmp_path):
    config = tiny().model_dump(mode="json")
    del config["precision"], config["recording"]["weights_dtype"]
    run = Run(write_run(tmp_path / "a-run", config=config))
    assert run.state == "queued" and run.config == tiny()


def test_what_a_later_version_would_go_on_from_is_refused_and_nothing_is_changed(tmp_path):
    run = RunStore(tmp_path).create(tiny())
    assert in_child(lambda: train_here(run, lambda: len(run.records()) == 2)) == 0
    resume = run.folder / "resume.safetensors"
    change_resume(resume, format="3", recorded="?")
    before = recorded(run)
    assert in_child(lambda: train_here(run)) == 0
    assert run.problem == (
        f"{run.id} was begun by another version of Dynat (format 3); its records are kept, resume it with that version."
    )
    assert {name: found for name, found in recorded(run).items() if name != "error.json"} == before


@pytest.mark.parametrize("part", ["model/", "best/", "state"])
def test_one_wrong_number_in_the_file_to_resume_from_is_damage_and_no_other_run(tmp_path, part):
    run = RunStore(tmp_path).create(tiny())
    assert in_child(lambda: train_here(run, lambda: len(run.records()) == 2)) == 0
    resume = run.folder / "resume.safetensors"
    with safe_open(resume, framework="pt") as file:
        note = file.metadata()
    tensors = load_file(resume)
    if part == "state":
        note["state"] = note["state"].replace('"best_epoch": ', '"best_epoch": 1')
    else:
        name = next(name for name in tensors if name.startswith(part) and tensors[name].is_floating_point())
        tensors[name].view(-1)[0] += 1e-6
    save_file(tensors, resume, note)
    before = recorded(run)
    assert in_child(lambda: train_here(run)) == 0
    assert run.state == "failed" and f"{resume} is damaged; its records are kept" in (run.problem or "")
    assert {name: found for name, found in recorded(run).items() if name != "error.json"} == before


@pytest.mark.parametrize("change", ["renamed", "reshaped"])
def test_a_state_of_a_network_that_changed_since_is_refused_and_the_records_stay(tmp_path, reference, change):
    run = RunStore(tmp_path).create(tiny())
    assert in_child(lambda: train_here(run, lambda: len(run.records()) == 2)) == 0
    resume = run.folder / "resume.safetensors"
    whole = resume.read_bytes()
    with safe_open(resume, framework="pt") as file:
        note = file.metadata()
    tensors = load_file(resume)
    name = next(name for name in tensors if name.startswith("model/") and tensors[name].dim() > 1)
    tensors["model/other" if change == "renamed" else name] = tensors.pop(name)[:1].contiguous()
    save_file(tensors, resume, {**note, "crc32": run_writer._checksum(tensors, note)})
    records = run.records()
    assert in_child(lambda: train_here(run)) == 0
    assert run.problem == (
        f"{run.id} cannot go on: {resume} was saved by another version of Dynat; its records are kept. "
        "Resume it with that version, or delete that file and epochs.jsonl and resume to train it again from the start."
    )
    assert run.records() == records
    resume.write_bytes(whole)  # that version comes back
    run.resume()
    assert in_child(lambda: train_here(run)) == 0
    assert_same(run, reference)


def test_an_evaluation_of_a_later_version_is_not_called_damaged(tmp_path, run):
    folder = evaluations.create(run.folder, Check(), "check-1").folder
    request = json.loads((folder / "request.json").read_text())
    (folder / "request.json").write_text(json.dumps({**request, "format": 7}))
    with pytest.raises(RunError, match="has format 7 and this version reads format 1; open it with"):
        evaluations.open_evaluation(run.folder, "check-1")


def test_a_worker_begins_again_when_its_code_is_replaced_and_takes_what_the_new_code_knows(tmp_path):
    """An upgrade under a living worker: a run with a new setting is damage to the old code, and work to the new."""
    shutil.copytree(ROOT / "dynat_core", tmp_path / "dynat_core", ignore=shutil.ignore_patterns("__pycache__"))
    supervisor = tmp_path / "dynat_core" / "work" / "supervisor.py"
    supervisor.write_text(supervisor.read_text().replace("SETTLED = 4.0", "SETTLED = 0.2"))
    recording = tmp_path / "dynat_core" / "config" / "recording.py"
    store = tmp_path / "store"
    store.mkdir()
    log = store / "out"
    environment = {**child_environment(store), "PYTHONPATH": str(tmp_path), "DYNAT_WORKER_IDLE": "30"}
    with open(log, "wb") as out:
        command = [sys.executable, "-m", "dynat_core", "worker"]
        worker = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=out, stderr=out)
    try:
        until(lambda: worker_states(store), "the worker begins")
        config = tiny().model_dump(mode="json")
        folder = write_run(store / "new", config={**config, "recording": {**config["recording"], "colour": "red"}})
        recording.write_text(recording.read_text() + '    colour: str = Field(default="", description="new")\n')
        until(lambda: (folder / "starts.jsonl").exists(), "the new worker takes the run")
        assert worker.poll() is None and [state["pid"] for state in worker_states(store)] == [worker.pid]
        assert log.read_text().splitlines()[0].startswith("the code was replaced")
    finally:
        worker.terminate()
        worker.wait(60)


# -------------------------------------------------------------------------------------------------------------- logs


def test_a_log_that_is_past_its_bound_is_put_aside_and_its_end_still_read(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("".join(f"line {k}\n" for k in range(50)))
    logs.put_aside(log, bound=1000)
    assert log.exists() and logs.end(log, 2) == "line 48\nline 49"
    logs.put_aside(log, bound=100)
    assert not log.exists() and logs.older(log).exists()
    log.write_text("line 50\n")
    assert logs.end(log, 3) == "line 48\nline 49\nline 50"
    assert logs.end(tmp_path / "none", 3) == ""


def printing(log: Path, lines: int, bound: int) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    for k in range(lines):
        os.write(1 + k % 2, f"line {k}\n".encode())
        logs.keep_short(log, bound)


def test_what_a_process_prints_stays_within_its_bound_and_no_line_is_torn_or_lost_at_the_seam(tmp_path):
    log = tmp_path / "log.txt"
    assert in_child(lambda: printing(log, 1000, bound=2000)) == 0
    assert log.stat().st_size <= 2010 and logs.older(log).stat().st_size <= 2010
    found = (logs.older(log).read_text() + log.read_text()).splitlines()
    assert found == [f"line {k}" for k in range(1000 - len(found), 1000)] and len(found) > 200


def test_two_processes_that_share_a_log_both_follow_it(tmp_path):
    log = tmp_path / "log.txt"
    processes = [multiprocessing.get_context("fork").Process(target=printing, args=(log, 400, 500)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(os.listdir(tmp_path)) == ["log.txt", "log.txt.1"]
    assert log.stat().st_size < 1000 and logs.end(log, 1) == "line 399"


def test_output_that_goes_elsewhere_is_left_alone(tmp_path):
    log, elsewhere = tmp_path / "log.txt", tmp_path / "elsewhere"
    log.write_text("x" * 100)

    def print_elsewhere():
        file = os.open(elsewhere, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.write(1, b"y" * 100)
        logs.keep_short(log, bound=10)

    assert in_child(print_elsewhere) == 0
    assert log.read_text() == "x" * 100 and elsewhere.read_text() == "y" * 100


def test_the_log_of_a_job_is_put_aside_while_it_writes(tmp_path):
    from dynat_core.work.worker import serve_job

    run = RunStore(tmp_path).create(tiny())
    (run.folder / "log.txt").write_text("old line\n" * (logs.BOUND // 9 + 1))
    owner = os.getpid()

    def work():
        file = os.open(run.folder / "log.txt", os.O_WRONLY | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        serve_job(run.folder, None, owner)

    assert in_child(work) == 0
    assert run.state == "finished" and (run.folder / "log.txt").stat().st_size < 1000
    assert (run.folder / "log.txt.1").stat().st_size > logs.BOUND
    assert run.log_tail(1).startswith("epoch 2 of 2") and "old line" in run.log_tail(10)


def test_a_folder_that_is_gone_is_said_to_be_gone(tmp_path):
    run = Run(write_run(tmp_path / "a-run"))
    shutil.rmtree(run.folder)
    with pytest.raises(JobError, match="is not there any more"):
        run.set_label(title="x")
    with pytest.raises(JobError, match="is not there any more"):
        run.request_stop()


@pytest.mark.parametrize("name", ["lock", "label.json"])
def test_a_folder_where_a_file_belongs_is_told_in_one_sentence(tmp_path, name):
    run = Run(write_run(tmp_path / "a-run"))
    (run.folder / name).mkdir()
    with pytest.raises(JobError, match=rf"{name} cannot be written \(Is a directory\)"):
        if name == "lock":
            Job(run.folder).claim().__enter__()
        else:
            run.set_label(title="x")


def test_two_people_who_change_different_things_of_a_label_both_have_their_way(tmp_path):
    from dynat_core.store import bookkeeping

    run = Run(write_run(tmp_path / "a-run"))

    def titles():
        for k in range(60):
            bookkeeping.rename(run, f"title {k}")

    child = multiprocessing.get_context("fork").Process(target=titles)
    child.start()
    for k in range(60):
        bookkeeping.note(run, f"note {k}")
    child.join(60)
    assert bookkeeping.label(run).title == "title 59" and bookkeeping.label(run).note == "note 59"


def test_the_modified_key_changes_with_a_record_while_the_clock_is_moved_back(tmp_path):
    run = Run(write_run(tmp_path / "a-run"))
    (run.folder / "epochs.jsonl").write_text('{"epoch": 0}\n')
    before = run.modified
    with open(run.folder / "epochs.jsonl", "a") as file:
        file.write('{"epoch": 1}\n')
    os.utime(run.folder / "epochs.jsonl", (1e9, 1e9))  # which run.json is newer than
    assert run.modified != before


def test_asking_for_the_commit_under_a_quota_leaves_no_lock_in_the_repository(tmp_path, monkeypatch):
    from dynat_core.work import provenance

    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path), *words], check=True)

    git("init", "-q")
    (tmp_path / "file").write_text("x")
    git("add", "file")
    git("commit", "-qm", "one")
    os.utime(tmp_path / "file", (1e9, 1e9))  # git looks whether it differs, and would note that it does not
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    commit = provenance._commit.__wrapped__  # another test may have asked before, of another folder

    def ask():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
        commit()

    assert in_child(ask) == 0
    assert not (tmp_path / ".git" / "index.lock").exists()
    assert len(commit() or "") == 40
