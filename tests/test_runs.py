"""The run store: what can be opened, what is listed, what is read back, and what a live run costs to look at again."""

from __future__ import annotations

import json
import os
import shlex
import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from running import finished_run, tiny, write_run

from dynat_core import presets
from dynat_core.errors import DynatError, JobError, RunError
from dynat_core.files import append_line
from dynat_core.recorded.histograms import BINS
from dynat_core.store import evaluations, queue
from dynat_core.store.evaluation_settings import Check
from dynat_core.store.formats import FORMAT
from dynat_core.store.history import reader
from dynat_core.store.queue import waiting_for
from dynat_core.store.run import Run
from dynat_core.store.run_writer import RunWriter
from dynat_core.store.runs import RunStore
from dynat_core.work.backlog import Backlog

STORE = "a store"
WIDTH = len(BINS["fosc"]) + 1  # counts of one histogram


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("finished"), tiny(**{"recording.keep_weights": "all"}))


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / STORE)


def write_epochs(run: Run, epochs: range, bins: bool = True) -> None:
    for epoch in epochs:
        if bins:
            append_line(run.folder / "histograms.jsonl", {"version": 1, "epoch": epoch, "train/fosc": [epoch] * WIDTH})
        record = {"epoch": epoch, "best_epoch": epoch // 2, "c_t": None if epoch else 0.5, "test/loss": epoch / 2}
        append_line(run.folder / "epochs.jsonl", record)


# --------------------------------------------------------------------------------------------------------- creating


def test_a_new_run_is_queued_and_says_what_was_asked(store):
    run = store.create(tiny(name='"My run"'))
    assert (run.state, run.title, run.config) == ("queued", "My run", tiny(name='"My run"'))
    assert run.id.startswith(f"{run.created:%Y-%m-%d}-dynamic-digits-")
    assert json.loads((run.folder / "run.json").read_text())["format"] == FORMAT == 2
    assert store.open(run.id).config == run.config
    assert datetime.now(UTC) - run.created < timedelta(minutes=1)


def test_a_run_folder_appears_whole(store):
    """Whoever looks while runs are made never sees one without its settings."""
    looking, seen = True, set()

    def look():
        while looking:
            seen.update((run.id, run.state) for run in store.list())

    onlooker = threading.Thread(target=look)
    onlooker.start()
    made = {store.create(tiny()).id for _ in range(60)}
    looking = False
    onlooker.join()
    assert {state for _, state in seen} <= {"queued"}
    assert {id for id, _ in seen} <= made
    assert sorted(os.listdir(store.folder)) == sorted(made)


@pytest.mark.parametrize("refused", ["mkdir", "rename"])
def test_nothing_is_left_when_a_run_cannot_be_made(store, refused, monkeypatch):
    from pathlib import Path

    store.create(tiny(), id="first")

    def refuse(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, refused, refuse)
    with pytest.raises(JobError, match="is full"):
        store.create(tiny())
    assert os.listdir(store.folder) == ["first"]


def test_a_name_is_given_once(store):
    store.create(tiny(), id="demo-mine")
    with pytest.raises(RunError, match="There already is a run called demo-mine"):
        store.create(tiny(), id="demo-mine")


def test_a_name_that_is_taken_while_the_run_is_made_is_not_overwritten(store, monkeypatch):
    from pathlib import Path

    rename = Path.rename

    def be_slower(self, target):
        write_run(target, created="2020-01-01T00:00:00+00:00")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", be_slower)
    with pytest.raises(RunError, match="There already is"):
        store.create(tiny(), id="demo-mine")
    assert store.open("demo-mine").created.year == 2020
    assert os.listdir(store.folder) == ["demo-mine"]


def test_a_store_that_cannot_be_written_is_told_in_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="name another store in DYNAT_STORE"):
        RunStore(tmp_path / "file" / "store").create(tiny())


# ------------------------------------------------------------------------------------------------ which run is meant


@pytest.mark.parametrize(
    "id",
    ["..", ".", "", "../outside", "/etc", "a/b", "a\\b", ".hidden", ".worker", "a\x00b", "a\nb", "x" * 121, "link-out",
     "no-such-run", "ünï", "a b", "%2e%2e", None, 7, "store", "a-file"],
)  # fmt: skip
def test_only_a_run_of_the_store_can_be_opened(store, tmp_path, id):
    write_run(tmp_path / "outside")
    store.create(tiny(), id="mine")
    (store.folder / "link-out").symlink_to(tmp_path / "outside")
    (store.folder / "a-file").touch()
    with pytest.raises(RunError) as error:
        store.open(id)
    assert str(error.value).isprintable() and len(str(error.value)) < 200


def test_a_link_within_the_store_is_followed_and_one_out_of_it_is_listed_as_broken(store, tmp_path):
    write_run(tmp_path / "outside")
    store.create(tiny(), id="mine")
    (store.folder / "same").symlink_to("mine")
    (store.folder / "link-out").symlink_to(tmp_path / "outside")
    (store.folder / "link-nowhere").symlink_to(tmp_path / "nowhere")
    found = {run.id: run.state for run in store.list()}
    assert found == {"mine": "queued", "same": "queued", "link-out": "broken", "link-nowhere": "broken"}


BROKEN = {
    "empty": None,
    "torn": '{"format": 1, "id"',
    "list": "[]",
    "newer": {"format": FORMAT + 1},
    "no-format": {"format": None},
    "no-date": {"created": "yesterday"},
    "bad-setting": {"config": {"strategy": {"name": "dynamic", "c_max": -1}}},
    "unknown-setting": {"config": {"epoch": 3}},
    "no-config": {"config": None},
    "deep": "[" * 100_000,
}


@pytest.fixture
def broken_store(store):
    store.create(tiny(), id="good")
    for name, content in BROKEN.items():
        folder = store.folder / name
        if isinstance(content, dict):
            write_run(folder, **content)
        else:
            folder.mkdir()
            if content is not None:
                (folder / "run.json").write_text(content)
    return store


def test_broken_folders_are_listed_with_one_sentence_and_break_nothing(broken_store):
    runs = {run.id: run for run in broken_store.list()}
    assert runs.keys() == {"good", *BROKEN}
    assert runs.pop("good").state == "queued"
    for run in runs.values():
        assert run.state == "broken"
        assert run.problem and run.problem.isprintable() and "\n" not in run.problem
        assert run.id in run.problem
        assert run.title == run.id and run.modified > 0 and run.created and run.label() == {}


@pytest.mark.parametrize("name", BROKEN)
def test_opening_a_broken_run_says_the_same_sentence(broken_store, name):
    with pytest.raises(RunError) as error:
        broken_store.open(name)
    assert str(error.value) == Run(broken_store.folder / name).problem


def test_a_date_that_utc_has_not_is_broken_east_of_it_too(store, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        write_run(store.folder / "a-run", created="0001-01-01T00:00:00+09:00")
        (run,) = store.list()
        assert run.state == "broken" and "is incomplete" in (run.problem or "")
    finally:
        monkeypatch.undo()
        time.tzset()


REQUEST = {"format": 1, "created": "2026-01-01T00:00:00+00:00", "settings": {"kind": "check"}}
MALFORMED = {
    "settings-a-list": {"settings": [1]},
    "settings-text": {"settings": "check"},
    "no-settings": {"settings": None},
    "kind-a-list": {"settings": {"kind": ["check"]}},
    "before-the-calendar": {"created": "0001-01-01T00:00:00+01:00"},
    "after-the-calendar": {"created": "9999-12-31T23:59:59-01:00"},
    "no-date": {"created": 5},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_of_a_measurement_stops_nobody(store, name):
    run = store.create(tiny(), id="a-run")
    good = evaluations.create(run.folder, Check())
    bad = run.folder / evaluations.FOLDER / "check-bad"
    bad.mkdir()
    (bad / "request.json").write_text(json.dumps({**REQUEST, **MALFORMED[name]}))
    assert [found.name for found in evaluations.waiting(run.folder)] == [good.name]
    assert len(Backlog(store).waiting()) == 2 and waiting_for(store) == 2
    assert "delete its folder" in evaluations.damaged(run.folder, "check")[0]


def test_a_format_from_the_future_says_so(broken_store):
    with pytest.raises(RunError, match="newer has format 3 and this version reads formats 1 to 2"):
        broken_store.open("newer")


def test_hidden_folders_and_files_are_no_runs(store):
    store.create(tiny(), id="mine")
    (store.folder / ".worker").mkdir()
    (store.folder / "notes.txt").touch()
    assert [run.id for run in store.list()] == ["mine"]


def test_a_store_that_does_not_exist_yet_is_empty(store):
    assert store.list() == []


def test_the_store_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path))
    assert RunStore().folder == tmp_path
    monkeypatch.delenv("DYNAT_STORE")
    assert str(RunStore().folder) == "checkpoints"


def test_five_hundred_runs_are_listed_newest_first(store):
    for number in range(500):
        moment = f"2026-01-01T00:{number // 60:02d}:{number % 60:02d}Z"
        folder = write_run(store.folder / f"run-{number}", created=moment)
        if number % 3:
            (folder / "result.json").write_text("{}")
    runs = store.list()
    assert [run.id for run in runs] == [f"run-{number}" for number in reversed(range(500))]
    assert sum(run.state == "finished" for run in runs) == 333


def test_the_queue_is_served_oldest_first(store):
    for number in range(3):
        write_run(store.folder / f"run-{number}", created=f"2026-01-0{number + 1}T00:00:00Z")
    assert queue.places(store.list()) == {"run-0": 0, "run-1": 1, "run-2": 2}
    store.open("run-0").request_stop()
    assert queue.places(store.list()) == {"run-1": 0, "run-2": 1}


# ----------------------------------------------------------------------------------------- stopping, labels, changes


def test_stopping_and_resuming_a_queued_run(store):
    run = store.create(tiny())
    run.request_stop()
    assert run.state == "stopped"
    run.resume()
    assert run.state == "queued"


def test_what_has_ended_can_neither_be_stopped_nor_resumed(finished):
    with pytest.raises(RunError, match="is finished; there is nothing to stop"):
        finished.request_stop()
    with pytest.raises(RunError, match="is finished; there is nothing to resume"):
        finished.resume()


def test_resuming_a_failed_run_forgets_the_failure(store):
    run = store.create(tiny())
    (run.folder / "error.json").write_text('{"error": "It broke.", "traceback": ""}')
    assert (run.state, run.problem) == ("failed", "It broke.")
    run.resume()
    assert (run.state, run.problem) == ("queued", None)


def test_an_interrupted_run_says_where_it_stands(store):
    run = store.create(tiny())
    (run.folder / "starts.jsonl").touch()
    assert run.problem == "The worker stopped before its first record; resume to go on from there."
    write_epochs(run, range(13))
    assert run.problem == "The worker stopped after epoch 12; resume to go on from there."


def test_the_modified_key_changes_with_every_record_and_state(store):
    run = store.create(tiny())
    keys = [run.modified]

    def note():
        keys.append(run.modified)

    (run.folder / "starts.jsonl").touch()
    note()
    from dynat_core.store.jobs import Job

    with Job(run.folder).claim():
        note()
        for epoch in range(3):
            write_epochs(run, range(epoch, epoch + 1))
            os.utime(run.folder / "epochs.jsonl", ns=(0, run.folder.stat().st_mtime_ns + 10**7 * (epoch + 1)))
            note()
    run.request_stop()
    note()
    run.resume()
    (run.folder / "result.json").write_text("{}")
    note()
    assert len(set(keys)) == len(keys)


def test_labels_are_kept_beside_the_settings(store):
    run = store.create(tiny(name='"first"'))
    run.set_label(title="second", tags=["a"])
    run.set_label(archived=True)
    assert run.title == "second" and run.label() == {"title": "second", "tags": ["a"], "archived": True}
    (run.folder / "label.json").write_text("{")
    assert run.title == "first"


# ---------------------------------------------------------------------------------------------------------- reading


def test_records_and_last_record_leave_out_a_torn_line(store):
    run = store.create(tiny())
    assert run.records() == [] and run.last_record() is None
    write_epochs(run, range(5))
    with open(run.folder / "epochs.jsonl", "ab") as file:
        file.write(b'{"epoch": 5, "test/lo')
    assert [record["epoch"] for record in run.records()] == [0, 1, 2, 3, 4]
    assert run.last_record() == run.records()[-1]


def test_the_history_lines_up_epochs_and_counts(store):
    run = store.create(tiny())
    write_epochs(run, range(4))
    history = run.history()
    assert history.epochs.tolist() == [0, 1, 2, 3]
    assert history.counts["train/fosc"].shape == (4, WIDTH)
    assert history.counts["train/fosc"][:, 0].tolist() == [0, 1, 2, 3]
    assert history.column("test/loss").tolist() == [0, 0.5, 1, 1.5]
    np.testing.assert_array_equal(history.column("c_t"), [0.5, np.nan, np.nan, np.nan])
    assert np.isnan(history.column("no/such")).all()
    assert history.classes == tuple("0123456789")


def test_a_histogram_that_is_ahead_of_its_record_waits_for_it(store):
    run = store.create(tiny())
    write_epochs(run, range(2))
    append_line(run.folder / "histograms.jsonl", {"version": 1, "epoch": 2, "train/fosc": [2] * WIDTH})
    assert run.history().counts["train/fosc"].shape[0] == 2
    append_line(run.folder / "epochs.jsonl", {"epoch": 2})
    assert run.history().counts["train/fosc"][2, 0] == 2


def test_counts_of_other_bins_are_not_shown_on_these(store):
    run = store.create(tiny())
    write_epochs(run, range(1), bins=False)
    append_line(run.folder / "histograms.jsonl", {"version": 2, "epoch": 0, "train/fosc": [1] * WIDTH})
    append_line(run.folder / "histograms.jsonl", {"version": 1, "epoch": 0, "train/fosc": [1, 2], "train/new": [3]})
    assert run.history().counts == {}


def test_looking_again_reads_only_what_is_new(store, monkeypatch):
    from dynat_core.store import history as module

    run = store.create(tiny())
    write_epochs(run, range(50))
    assert len(run.history()) == 50
    parsed = []
    parse = module.parse_lines
    monkeypatch.setattr(module, "parse_lines", lambda content: parsed.append(len(content)) or parse(content))
    write_epochs(run, range(50, 51))
    assert len(store.open(run.id).history()) == 51
    assert sum(parsed) < 2 * 1024
    assert run.history().counts["train/fosc"][50, 0] == 50


def test_a_torn_line_is_read_once_it_is_whole(store):
    run = store.create(tiny())
    write_epochs(run, range(2))
    with open(run.folder / "epochs.jsonl", "ab") as file:
        file.write(b'{"epoch": 2, "test')
        file.flush()
        assert len(run.history()) == 2
        file.write(b'/loss": 7.0}\n')
    assert run.history().column("test/loss")[2] == 7


@pytest.mark.parametrize("in_place", [True, False])
def test_a_history_that_was_cut_and_written_on_is_read_again(store, in_place):
    run = store.create(tiny())
    write_epochs(run, range(6))
    before = run.history()
    lines = (run.folder / "epochs.jsonl").read_bytes().splitlines(keepends=True)
    path = run.folder / "epochs.jsonl"
    if not in_place:
        path.unlink()
    path.write_bytes(b"".join(lines[:3]))
    for epoch in range(3, 9):
        append_line(path, {"epoch": epoch, "test/loss": 100 + epoch})
    assert run.history().column("test/loss").tolist() == [0, 0.5, 1, *range(103, 109)]
    assert before.column("test/loss").tolist() == [0, 0.5, 1, 1.5, 2, 2.5]


def test_records_out_of_order_end_the_history(store):
    run = store.create(tiny())
    for epoch in (0, 1, 3, 2):
        append_line(run.folder / "epochs.jsonl", {"epoch": epoch})
    assert run.history().epochs.tolist() == [0, 1]


def test_threads_that_look_at_once_see_the_same(store):
    run = store.create(tiny())
    write_epochs(run, range(40))
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(len(run.history()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [40] * 8
    assert reader(run.folder) is reader(store.open(run.id).folder)


# -------------------------------------------------------------------------------------------- what a real run holds


def test_a_finished_run_gives_back_everything(finished):
    assert finished.state == "finished" and finished.problem is None
    assert len(finished.history()) == 3 and finished.result()["last"]["epoch"] == 2
    assert set(finished.history().counts) >= {"train/fosc", "test/fosc", "train/gradients", "test/margin"}
    assert finished.starts()[0]["threads"] == 1 and len(finished.starts()[0]["data_hash"]) == 64
    assert finished.kept_epochs() == [0, 1, 2]
    assert finished.weights("last").name == "0002.safetensors"
    assert finished.epoch_of("best") == finished.records()[-1]["best_epoch"]
    assert not (finished.folder / "resume.safetensors").exists() and finished.status() is None


def test_samples_by_epoch_column_and_split(finished):
    table = finished.samples(1)
    assert set(table.split) == {"train", "test"} and len(table) == 96 + 40
    few = finished.samples(1, columns=["fosc", "index"], split="test")
    assert list(few) == ["fosc", "index"] and len(few) == 40
    pd.testing.assert_frame_equal(few, table[table.split == "test"].reset_index(drop=True)[["fosc", "index"]])
    last = finished.samples("last")
    assert len(last) == 40 and (last.predicted == last.label).sum() == finished.result()["last"]["robust_correct"]
    kinds = {name: str(kind) for name, kind in table.dtypes.items()}
    assert kinds["index"] == "int32" and kinds["label"] == "int16" and kinds["fosc"] == "float32"
    assert kinds["clean_correct"] == "bool" and kinds["steps_to_fool"] == "int16"


def test_recorded_paths_are_found_by_image_and_epoch(finished):
    epoch, note = finished.paths()
    assert epoch == 2 and note["settings"]["eps"] == finished.config.threat.eps
    assert len(finished.recorded_indices(2)) == 40 and len(finished.recorded_indices(1)) == 2
    assert finished.recorded_indices(7) == [] and finished.trajectory(0, 7) is None
    probe = finished.probes(2).one(0)
    path = finished.trajectory(probe.index, 2)
    assert path.steps == 3 and path.settings["run"] == finished.id and path.settings["epoch"] == 2
    np.testing.assert_allclose(path.z, probe.z, atol=1e-6)
    np.testing.assert_allclose(path.fosc_map().sum(axis=(1, 2)), path.fosc, rtol=1e-4, atol=1e-6)
    assert path.fosc_map().min() >= 0
    assert finished.trajectory(probe.index, 1).index == probe.index
    assert finished.trajectory(10_000, 2) is None and finished.trajectory(10_000, 1) is None


def test_every_recorded_path_is_the_image_it_says(finished):
    for index in finished.recorded_indices(2):
        assert finished.trajectory(index, 2).index == index


@pytest.mark.parametrize(
    "ask, says",
    [
        (lambda run: run.samples(9), "has no table of samples for epoch 9"),
        (lambda run: run.samples(0, columns=["crit"]), "lacks 'crit'"),
        (lambda run: run.probes(9), "has no recorded paths for epoch 9"),
        (lambda run: run.weights(9), "has no epoch 9; it recorded 0 to 2"),
        (lambda run: run.weights("first"), "has no epoch first"),
        (lambda run: run.epoch_of(-1), "has no epoch -1"),
    ],
)
def test_asking_for_what_is_not_there_is_one_sentence(finished, ask, says):
    with pytest.raises(RunError, match=says):
        ask(finished)


@pytest.mark.parametrize(
    "kind, name", [("samples", "0001.parquet"), ("probes", "0001.parquet"), ("paths", "0002.parquet")]
)
@pytest.mark.parametrize("cut", [0, 7, 500])
def test_a_half_written_table_is_one_sentence(finished, tmp_path, kind, name, cut):
    import shutil

    folder = tmp_path / finished.id
    shutil.copytree(finished.folder, folder)
    path = folder / kind / name
    path.write_bytes(path.read_bytes()[:cut])
    run = RunStore(tmp_path).open(finished.id)
    ask = {"samples": lambda: run.samples(1), "probes": lambda: run.probes(1), "paths": run.paths}[kind]
    with pytest.raises(RunError, match="is damaged"):
        ask()
    assert len(run.history()) == 3


def test_weights_that_were_not_kept_name_those_that_were(store):
    run = store.create(tiny())
    write_epochs(run, range(5))
    (run.folder / "weights").mkdir()
    (run.folder / "weights" / "0000.safetensors").touch()
    with pytest.raises(RunError, match="did not keep the weights of epoch 3; kept: 0"):
        run.weights(3)
    (run.folder / "weights" / "0000.safetensors").unlink()
    with pytest.raises(RunError, match="has no weights any more; bring its folder weights back"):
        run.weights("best")


@pytest.mark.parametrize("name", ["²", "٣", "x", "-1"])
def test_a_file_that_is_named_after_no_epoch_is_of_none(store, name):
    run = store.create(tiny())
    write_epochs(run, range(2))
    (run.folder / "weights").mkdir()
    for stem in ("0001", name):
        (run.folder / "weights" / f"{stem}.safetensors").touch()
    assert run.kept_epochs() == [1]
    RunWriter(run).go_on()
    assert os.listdir(run.folder / "weights") == ["0001.safetensors"]


def test_the_log_is_read_from_its_end(store):
    run = store.create(tiny())
    assert run.log_tail() == ""
    (run.folder / "log.txt").write_text("".join(f"line {n}\n" for n in range(1000)))
    assert run.log_tail(3) == "line 997\nline 998\nline 999"


# ----------------------------------------------------------------------------------------------------- doing it again


def _from_command(line: str):
    from dynat_core.__main__ import _parser

    words = shlex.split(line)
    assert words[:4] == ["python", "-m", "dynat_core", "train"]
    arguments = _parser().parse_args(words[3:])
    changes = dict(text.split("=", 1) for text in arguments.set)
    if arguments.name is not None:
        changes["name"] = json.dumps(arguments.name)
    return presets.preset(arguments.preset).with_values(changes)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_is_rerun_by_its_name_alone(store, name):
    line = store.create(presets.preset(name)).rerun_command()
    assert line == f"python -m dynat_core train --preset {name}"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"name": '"it\'s \\"mine\\" \U0001f600"'},
        {"name": '"12"'},
        {"threat.norm": "l2", "threat.eps": "1/3"},
        {"strategy.name": "unsecured"},
        {"strategy.name": "standard", "strategy.alpha": "eps/8", "strategy.steps": "7"},
        {"data.name": "cifar10", "data.augment": "false", "model.name": "wide-resnet", "model.depth": "16",
         "model.width": "2", "threat.eps": "8/255"},
        {"optimizer.milestones": "[1, 2]", "epochs": "40", "strategy.T_control": "31", "recording.test_images": "null"},
        {"seed": "7", "device": "cuda:1", "precision": "fast"},
    ],
)  # fmt: skip
def test_the_rerun_command_means_exactly_the_same_settings(store, changes):
    config = tiny(**changes) if "data.name" not in changes else tiny(**{"data.train_size": "null"}).with_values(changes)
    assert _from_command(store.create(config).rerun_command()) == config


def test_every_error_of_the_store_is_one_of_ours():
    assert issubclass(RunError, DynatError) and issubclass(JobError, DynatError)
