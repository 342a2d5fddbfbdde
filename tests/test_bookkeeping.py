"""Titles, tags, notes, the archive and the trash: what is written is read back, and nothing is lost by mistake."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time

import pytest
from running import tiny

from dynat_core.__main__ import main
from dynat_core.config import RunConfig
from dynat_core.errors import ConfigError, JobError, RunError
from dynat_core.store import bookkeeping, evaluations
from dynat_core.store.evaluation_settings import Ladder
from dynat_core.store.jobs import Job
from dynat_core.store.runs import RunStore

DAY = 86_400


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path))
    return RunStore(tmp_path)


def content(folder):
    """Every file below a folder with its bytes, but the lock, which says nothing once it is free."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "lock"}


# ----------------------------------------------------------------------------------------------------------- titles


@pytest.mark.parametrize(
    "settings, title",
    [
        ({"seed": 3}, "Dynamic, digits, eps .15, seed 3"),
        ({"strategy": {"name": "standard"}}, "Standard, digits, eps .15, seed 0"),
        ({"threat": {"norm": "linf", "eps": "8/255"}}, "Dynamic, digits, eps 8/255, seed 0"),
        ({"threat": {"norm": "l2", "eps": 0.5}}, "Dynamic, digits, L2 eps .5, seed 0"),
        ({"threat": {"norm": "l2", "eps": 2}}, "Dynamic, digits, L2 eps 2, seed 0"),
        ({"threat": {"norm": "linf", "eps": 0}}, "Dynamic, digits, eps 0, seed 0"),
        ({"name": "Mine"}, "Mine"),
        ({"strategy": {"name": "elsewhere"}, "epochs": 0}, "Trained elsewhere, digits, eps .15"),
        (
            {"strategy": {"name": "elsewhere"}, "epochs": 0, "model": {"name": "imported", "architecture": "resnet18"}},
            "resnet18, digits, eps .15",
        ),
    ],
)  # fmt: skip
def test_an_automatic_title_says_what_tells_runs_apart(settings, title):
    assert RunConfig.build(settings).title() == title


def test_a_run_is_called_by_its_title_then_by_its_settings(store):
    run = store.create(tiny())
    assert run.title == "Dynamic, digits, eps .15, seed 0"
    bookkeeping.rename(run, "  Better  ")
    assert run.title == "Better"
    bookkeeping.rename(run, " ")
    assert run.title == "Dynamic, digits, eps .15, seed 0" and bookkeeping.label(run).title is None


# ----------------------------------------------------------------------------------------------------------- labels


def test_tags_are_added_once_and_taken_away(store):
    run = store.create(tiny())
    bookkeeping.tag(run, ["paper", " table 2 ", "paper"])
    bookkeeping.tag(run, ["seed", "", "paper"], remove=["table 2", "never there"])
    assert bookkeeping.label(run).tags == ("paper", "seed")


def test_a_note_keeps_its_lines_and_loses_control_characters(store):
    run = store.create(tiny())
    bookkeeping.note(run, " first\nsecond\x1b[31m ")
    assert bookkeeping.label(run).note == "first\nsecond[31m"


def test_each_part_of_a_label_leaves_the_others_alone(store):
    run = store.create(tiny())
    bookkeeping.rename(run, "T")
    bookkeeping.tag(run, ["a"])
    bookkeeping.note(run, "n")
    bookkeeping.archive(run)
    assert bookkeeping.label(store.open(run.id)) == bookkeeping.Label("T", ("a",), "n", True)
    bookkeeping.archive(run, False)
    assert bookkeeping.label(run) == bookkeeping.Label("T", ("a",), "n", False)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda run: bookkeeping.rename(run, "a\nb"), "A title is one line of text"),
        (lambda run: bookkeeping.rename(run, "x" * 121), "A title may have at most 120 characters (got 121)"),
        (lambda run: bookkeeping.tag(run, ["a,b"]), "A tag has no comma in it"),
        (lambda run: bookkeeping.tag(run, ["x" * 41]), "A tag may have at most 40 characters"),
        (lambda run: bookkeeping.tag(run, [str(k) for k in range(21)]), "at most 20 tags (got 22)"),
        (lambda run: bookkeeping.note(run, "x" * 4001), "A note may have at most 4,000 characters"),
    ],
)
def test_what_cannot_be_written_is_one_sentence_and_changes_nothing(store, change, sentence):
    run = store.create(tiny())
    bookkeeping.tag(run, ["kept"])
    with pytest.raises(ConfigError) as error:
        change(run)
    assert sentence in str(error.value) and "\n" not in str(error.value)
    assert run.label() == {"tags": ["kept"]}


@pytest.mark.parametrize(
    "refused, sentence",
    [
        ({"title": "x" * 121}, "A title may have at most 120"),
        ({"add": ["fine", "x" * 41]}, "A tag may have at most 40"),
        ({"note": "x" * 4001}, "A note may have at most 4,000"),
    ],
)
def test_title_tags_and_note_are_written_together_or_not_at_all(store, refused, sentence):
    run = store.create(tiny())
    bookkeeping.tag(run, ["kept"])
    with pytest.raises(ConfigError, match=sentence):
        bookkeeping.edit(run, **{"title": "New", "add": ["new"], "note": "n"} | refused)
    assert run.label() == {"tags": ["kept"]}
    bookkeeping.edit(run, title="New", add=["new"], remove=["kept"])
    assert bookkeeping.label(run) == bookkeeping.Label("New", ("new",))


def test_a_change_is_taken_back_and_what_somebody_else_wrote_stays(store):
    run = store.create(tiny())
    bookkeeping.edit(run, title="Old", add=["a", "b", "c"], note="old")
    mine = bookkeeping.edit(run, title="Mine", add=["d"], remove=["a"], note="mine")
    bookkeeping.edit(run, add=["theirs"], remove=["b"], note="theirs")
    bookkeeping.take_back(run, *mine)
    assert bookkeeping.label(run) == bookkeeping.Label("Old", ("a", "c", "theirs"), "theirs")


def test_a_change_that_nobody_touched_is_taken_back_to_what_was_there(store):
    run = store.create(tiny())
    for old in ({}, {"title": "Old", "add": ["a", "b"], "note": "old"}):
        before = bookkeeping.edit(run, **old)[1]
        mine = bookkeeping.edit(run, title="Mine", add=["c"], remove=["a"], note="")
        bookkeeping.take_back(run, *mine)
        assert bookkeeping.label(run) == before


@pytest.mark.parametrize(
    "written",
    [
        "[]",
        "{",
        '{"title": {"a": 1}, "tags": "abc", "note": 3, "archived": "yes"}',
        '{"tags": [1, null]}',
        '{"title": "a\\u001b[31m", "tags": ["\\n"]}',
    ],
)
def test_a_label_of_the_wrong_kind_counts_as_not_written(store, written):
    run = store.create(tiny())
    (run.folder / "label.json").write_text(written)
    assert bookkeeping.label(run) == bookkeeping.Label()
    assert run.title == "Dynamic, digits, eps .15, seed 0"


# ------------------------------------------------------------------------------------------------------- the trash


def test_a_deleted_run_comes_back_byte_for_byte(store):
    run = store.create(tiny(), "mine", files={"weights/0000.safetensors": b"abc"})
    bookkeeping.tag(run, ["kept"])
    before = content(run.folder)
    assert bookkeeping.delete(run) == "mine"
    assert store.list() == [] and not run.folder.exists()
    assert [(entry.name, entry.id) for entry in bookkeeping.deleted(store)] == [("mine", "mine")]
    back = bookkeeping.restore(store, "mine")
    assert content(back.folder) == before and back.state == "queued" and bookkeeping.deleted(store) == []


def test_the_same_name_can_be_deleted_again_and_each_comes_back_as_it_was(store):
    for seed in (1, 2, 3):
        bookkeeping.delete(store.create(tiny(seed=seed), "mine"))
        time.sleep(0.01)
    assert [entry.name for entry in bookkeeping.deleted(store)] == ["mine~3", "mine~2", "mine"]
    assert bookkeeping.restore(store, "mine~2").config.seed == 2
    with pytest.raises(RunError, match="There is a run called mine again"):
        bookkeeping.restore(store, "mine")
    bookkeeping.delete(store.open("mine"))
    assert bookkeeping.restore(store, "mine").config.seed == 2  # the last one deleted, whatever its name there


def test_nothing_is_deleted_that_somebody_works_on(store):
    run = store.create(tiny(), "busy")
    with Job(run.folder).claim(), pytest.raises(RunError, match=r"^busy is running; stop it before"):
        bookkeeping.delete(run)
    asked = evaluations.create(run.folder, Ladder())
    with asked.job.claim(), pytest.raises(RunError, match=r"^busy/ladder-.* is running; stop it before"):
        bookkeeping.delete(run)
    assert store.open("busy").state == "queued"
    assert bookkeeping.delete(run) == "busy"


def test_a_shipped_demo_stays(store):
    run = store.create(tiny(), "demo-digits-dynamic")
    with pytest.raises(RunError, match="is a shipped demo and stays; archive it"):
        bookkeeping.delete(run)
    bookkeeping.archive(run)
    assert bookkeeping.label(store.open(run.id)).archived


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_store_that_cannot_be_written_is_one_sentence(store):
    run = store.create(tiny(), "mine")
    for folder in (run.folder, store.folder):
        os.chmod(folder, stat.S_IRUSR | stat.S_IXUSR)
    try:
        for change in (bookkeeping.delete, bookkeeping.archive, lambda run: bookkeeping.rename(run, "x")):
            with pytest.raises(JobError, match="cannot be written"):
                change(run)
    finally:
        for folder in (store.folder, run.folder):
            os.chmod(folder, stat.S_IRWXU)
    assert [found.id for found in store.list()] == ["mine"]


def test_a_full_disk_is_one_sentence(store, monkeypatch):
    run = store.create(tiny(), "mine")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dynat_core.store.run.replace_file", full)
    with pytest.raises(JobError, match="is full"):
        bookkeeping.archive(run)


def test_a_link_is_deleted_and_what_it_leads_to_stays(store):
    run = store.create(tiny(), "real")
    (store.folder / "link").symlink_to(run.folder)
    bookkeeping.delete(store.open("link"))
    assert [found.id for found in store.list()] == ["real"]
    assert bookkeeping.empty(store, 0) == ["link"] and run.folder.is_dir()


def test_a_trash_that_leads_elsewhere_is_not_followed(store, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "precious").mkdir()
    (store.folder / ".trash").symlink_to(elsewhere)
    assert bookkeeping.deleted(store) == [] and bookkeeping.empty(store, 0) == []
    with pytest.raises(RunError, match="is a link and is not followed"):
        bookkeeping.delete(store.create(tiny(), "mine"))
    assert (elsewhere / "precious").is_dir() and store.open("mine")


def test_the_trash_is_emptied_of_what_is_old_enough(store):
    for name, days in (("old", 31), ("young", 29)):
        bookkeeping.delete(store.create(tiny(), name))
        then = time.time() - days * DAY
        os.utime(store.folder / ".trash" / name, (then, then))
    assert bookkeeping.empty(store) == ["old"]
    assert [entry.id for entry in bookkeeping.deleted(store)] == ["young"]
    with pytest.raises(ConfigError):
        bookkeeping.empty(store, -1)
    with pytest.raises(ConfigError):
        bookkeeping.empty(store, float("nan"))


def test_two_who_list_and_empty_the_trash_at_once_do_not_disturb_each_other(store, monkeypatch):
    for name in ("first", "second"):
        bookkeeping.delete(store.create(tiny(), name))
    seen = bookkeeping._trash(store.folder)
    shutil.rmtree(store.folder / ".trash" / "first")  # since it was looked for
    monkeypatch.setattr(bookkeeping, "_trash", lambda folder: seen)
    assert [entry.id for entry in bookkeeping.deleted(store)] == ["second"]
    remove = shutil.rmtree

    def too_late(path, *how, **ways):
        remove(path)
        remove(path, *how, **ways)

    monkeypatch.setattr(shutil, "rmtree", too_late)
    assert bookkeeping.empty(store, 0) == [], "the other has removed it"
    assert not list((store.folder / ".trash").iterdir())


def test_what_another_removes_from_a_folder_meanwhile_does_not_keep_it_in_the_trash(store, monkeypatch):
    bookkeeping.delete(store.create(tiny(), "mine"))
    remove, tries = shutil.rmtree, []

    def disturbed(path, *how, **ways):
        tries.append(path)
        if len(tries) == 1:
            raise FileNotFoundError(path / "epochs.jsonl")
        remove(path, *how, **ways)

    monkeypatch.setattr(shutil, "rmtree", disturbed)
    assert bookkeeping.empty(store, 0) == ["mine"] and bookkeeping.deleted(store) == []


def test_an_old_run_is_young_in_the_trash(store):
    run = store.create(tiny(), "ancient")
    os.utime(run.folder, (0, 0))
    bookkeeping.delete(run)
    assert bookkeeping.empty(store) == []


@pytest.mark.parametrize("name", ["../mine", "mine/..", "", ".", "mine~", "nobody"])
def test_only_what_lies_in_the_trash_can_be_restored(store, name):
    store.create(tiny(), "mine")
    with pytest.raises(RunError, match="There is no deleted run called"):
        bookkeeping.restore(store, name)


def test_a_broken_folder_can_be_deleted_and_restored(store):
    (store.folder / "broken").mkdir()
    (run,) = store.list()
    assert run.state == "broken"
    bookkeeping.delete(run)
    assert store.list() == [] and bookkeeping.deleted(store)[0].title == "broken"
    assert bookkeeping.restore(store, "broken").state == "broken"
    assert main(["delete", "broken"]) == 0 and store.list() == []


# ------------------------------------------------------------------------------------------------ the command line


def said(capsys, *words: str) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


def test_archived_runs_are_listed_only_when_asked_for(store, capsys):
    for name in ("one", "two"):
        store.create(tiny(), name)
    assert said(capsys, "label", "one", "--archive", "--tag", "a", "--tag", "b").splitlines() == [
        "one: Dynamic, digits, eps .15, seed 0 (archived)",
        "tags: a, b",
    ]
    lines = said(capsys, "runs").splitlines()
    assert [line.split()[0] for line in lines] == ["two", "1"] and lines[1] == "1 archived; --all lists it too."
    assert [line.split()[0] for line in said(capsys, "runs", "--all").splitlines()] == ["two", "one"]
    assert said(capsys, "runs", "--tag", "a") == "1 archived; --all lists it too.\n"
    assert said(capsys, "runs", "--tag", "a", "--all").endswith("#a  #b  (archived)\n")
    assert said(capsys, "runs", "--tag", "c") == "No run has the tag c.\n"
    said(capsys, "label", "one", "--unarchive", "--untag", "a", "--title", "New", "--note", "why")
    assert said(capsys, "label", "one") == "one: New\ntags: b\nwhy\n"


def test_delete_and_restore_from_the_command_line(store, capsys, monkeypatch):
    started = []
    monkeypatch.setattr("dynat_core.commands.keeping.ensure_worker", started.append)
    for name in ("one", "two", "three"):
        store.create(tiny(), name)
    assert '"python -m dynat_core restore one" brings it back' in said(capsys, "delete", "one", "two")
    assert [run.id for run in store.list()] == ["three"]
    assert sorted(line.split()[0] for line in said(capsys, "restore").splitlines()) == ["one", "two"]
    assert said(capsys, "restore", "two").strip() == str(store.folder / "two")
    assert started == [store.folder]  # it waits again, and somebody works on it
    store.open("two").request_stop()
    said(capsys, "delete", "two")
    assert said(capsys, "restore", "two") and len(started) == 1
    assert said(capsys, "delete", "--empty", "0") == "1 run removed for good.\n"
    assert said(capsys, "restore") == ""


def test_one_unknown_name_deletes_nothing(store, capsys):
    store.create(tiny(), "one")
    assert main(["delete", "one", "nobody"]) == 1
    assert "There is no run called nobody" in capsys.readouterr().err
    assert [run.id for run in store.list()] == ["one"]
    assert main(["delete"]) == 1 and "Name the runs to delete" in capsys.readouterr().err


def test_a_broken_run_is_deleted_by_its_id_or_its_folder_and_by_no_other_path(store, capsys, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("another-store") / "torn"
    elsewhere.mkdir()
    for named in (str(store.folder / "torn"), "torn/", "torn"):
        (store.folder / "torn").mkdir()
        (store.folder / "torn" / "run.json").write_text("{")
        assert main(["delete", str(elsewhere)]) == 1
        assert (store.folder / "torn").is_dir() and elsewhere.is_dir()
        assert main(["delete", named]) == 0
        assert not (store.folder / "torn").exists()


def test_what_is_written_survives_the_worker_and_is_plain_json(store):
    run = store.create(tiny(), "mine")
    bookkeeping.rename(run, "Ä \U0001f600 title")
    assert json.loads((run.folder / "label.json").read_text()) == {"title": "Ä \U0001f600 title"}
