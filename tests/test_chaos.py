"""The short form of `make chaos`: faults of every kind that needs no minutes, and that what counts them can see.

Its kinds with whole processes, with browsers and by the hundred are in benchmarks/chaos (docs/faults.md).
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from benchmarks.chaos import damage
from benchmarks.chaos.jobs import Jobs, can_mount
from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.screens import PAGES, Screens
from dynat_core.store.run import Run
from tests.running import finished_run, load_torch, tiny


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Run:
    load_torch()
    return finished_run(tmp_path_factory.mktemp("twin"), tiny(**{"recording.keep_weights": "all"}))


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(say=lambda words: None)


@pytest.fixture
def jobs(ledger, twin, tmp_path) -> Jobs:
    return Jobs(ledger, tmp_path, twin, random.Random(7))


@pytest.fixture
def screens(ledger, tmp_path, twin, monkeypatch):
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path / "seen"))  # given back afterwards
    shutil.copytree(twin.folder, tmp_path / "seen" / "whole")
    shown = Screens(ledger, tmp_path / "seen")
    yield shown
    shown.close()


def nothing_lost(ledger: Ledger) -> None:
    assert ledger.problems == []
    assert (ledger.lost, ledger.twice, ledger.different) == (0, 0, 0) and ledger.compared > 0


# ----------------------------------------------------------------------------------------------- what counts can see


def test_a_lost_a_doubled_and_a_changed_epoch_are_each_seen(ledger, twin, tmp_path):
    def changed(name: str, change) -> Run:
        shutil.copytree(twin.folder, tmp_path / name)
        path = tmp_path / name / "epochs.jsonl"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
        return Run(tmp_path / name)

    ledger.compare(changed("same", lambda lines: lines), twin, "nothing")
    assert ledger.problems == []
    ledger.compare(changed("lost", lambda lines: lines[:-1]), twin, "losing one")
    assert (ledger.lost, ledger.twice, ledger.different) == (1, 0, 0)
    ledger.compare(changed("twice", lambda lines: [*lines, lines[-1]]), twin, "doubling one")
    assert (ledger.lost, ledger.twice, ledger.different) == (1, 1, 0)
    other = lambda lines: [*lines[:-1], json.dumps({**json.loads(lines[-1]), "lr": 7}) + "\n"]  # noqa: E731
    ledger.compare(changed("different", other), twin, "changing one")
    assert (ledger.lost, ledger.twice, ledger.different) == (1, 1, 1)


def test_a_file_that_is_not_the_twins_is_seen(ledger, twin, tmp_path):
    shutil.copytree(twin.folder, tmp_path / "a-run")
    (tmp_path / "a-run" / "weights" / "0001.safetensors").write_bytes(b"other")
    ledger.compare(Run(tmp_path / "a-run"), twin, "a change")
    assert len(ledger.problems) == 1 and "weights/0001.safetensors" in ledger.problems[0]


def test_a_screen_that_fails_is_seen(ledger, screens, monkeypatch):
    screens.open("pages/epochs.py", "nothing", run=["whole"])
    assert ledger.problems == []
    monkeypatch.setattr(Run, "history", lambda run: 1 / 0)
    screens.open("pages/epochs.py", "a broken reader", run=["whole"])
    assert len(ledger.problems) == 1 and "pages/epochs.py after a broken reader" in ledger.problems[0]


@pytest.mark.parametrize("kind", damage.KINDS)
def test_every_damage_changes_the_file(kind, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 20)
    damage.KINDS[kind](path, random.Random(1))
    assert path.is_symlink() or not path.is_file() or path.read_bytes() != b"0123456789" * 20


# -------------------------------------------------------------------------------------------------------- the faults


def test_signals_at_random_moments_lose_nothing(jobs, ledger):
    jobs.signals(6)
    nothing_lost(ledger)
    assert sum(ledger.faults.values()) == 6


def test_a_run_goes_on_after_damage_to_its_files(jobs, ledger):
    jobs.damaged(damage.KINDS, ("epochs.jsonl", "resume.safetensors", "lock"))
    nothing_lost(ledger)
    assert sum(ledger.faults.values()) == 18


def test_quotas_and_a_deleted_folder_lose_nothing(jobs, ledger):
    jobs.limits(2)
    jobs.deleted(1)
    nothing_lost(ledger)


def test_a_full_and_a_read_only_disk_lose_nothing(jobs, ledger, tmp_path):
    if not can_mount(tmp_path / "disk"):
        pytest.skip("mounting a file system needs root")
    jobs.full(tmp_path / "disk", 1)
    jobs.read_only(tmp_path / "disk", 1)
    nothing_lost(ledger)


def test_every_screen_opens_on_a_store_full_of_damage(ledger, screens, tmp_path):
    rng = random.Random(11)
    damaged = []
    for name in damage.FINISHED:
        kind = rng.choice(list(damage.KINDS))
        copy = tmp_path / "seen" / f"{kind}-{Path(name).name}"
        shutil.copytree(tmp_path / "seen" / "whole", copy)
        damage.KINDS[kind](copy / name, rng)
        damaged.append(copy.name)
    for name in damaged:
        screens.of([name, "whole"], name)
    screens.all("all of it", run=["whole", damaged[0]])
    assert ledger.problems == [] and ledger.screens == len(damaged) + len(PAGES)
