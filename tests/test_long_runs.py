"""Long runs and large stores: no epoch is missing, nothing is read or drawn twice, and what is kept is bounded."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from streamlit.testing.v1 import AppTest

from dynat_core import views
from dynat_core.recorded.histograms import BINS, count, quantiles
from dynat_core.recorded.packing import Blob, pack, unpack
from dynat_core.store.runs import RunStore
from tests.shipped import STORE
from tests.stores import lengthened, multiplied
from ui.scrubber import Prepared
from ui.store import look_again

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 1000
DEMO = STORE / "demo-digits-dynamic"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RunStore:
    folder = tmp_path_factory.mktemp("long")
    lengthened(DEMO, folder / "long", EPOCHS)
    return RunStore(folder)


def test_every_epoch_of_a_long_run_is_in_the_picture(store):
    run = store.open("long")
    scene = views.epochs([views.NamedHistory(run.title, run.history(), run.config)])
    assert scene.n == EPOCHS + 1
    assert {len(array) for array in scene.arrays.values()} == {EPOCHS + 1}
    known = json.loads((DEMO / "histograms.jsonl").read_text().splitlines()[3])
    name = "train/relative_fosc"
    np.testing.assert_array_equal(run.history().counts[name][3::31][:5], [known[name]] * 5)


def test_a_long_run_takes_few_bytes_for_each_epoch(store):
    run = store.open("long")
    scene = views.epochs([views.NamedHistory(run.title, run.history(), run.config)])
    assert len(Prepared(scene).blob.with_header(run="long")) < 1600 * EPOCHS


def test_a_history_that_has_not_changed_is_not_put_together_again(store):
    run = store.open("long")
    assert run.history() is store.open("long").history()


def test_what_is_kept_of_the_counts_is_a_fixed_size_for_each_epoch(store):
    counts = store.open("long").history().counts
    entries = sum(len(BINS[key.rpartition("/")[2]]) + 1 for key in counts)
    kept = sum((table.base if table.base is not None else table).nbytes for table in counts.values())
    assert kept <= 1.5 * 4 * entries * (EPOCHS + 1) + 4 * entries


def test_histories_that_were_given_away_stay_as_they_were_while_the_run_goes_on(tmp_path):
    run = RunStore(tmp_path).open(shutil.copytree(DEMO, tmp_path / "run").name)
    whole = {name: (run.folder / name).read_text().splitlines(keepends=True) for name in ("epochs", "histograms")
             for name in (f"{name}.jsonl",)}  # fmt: skip

    def cut(n: int) -> None:
        for name, lines in whole.items():
            with open(run.folder / name, "w") as file:
                file.writelines(lines[:n])

    def more(n: int) -> None:
        for name, lines in whole.items():
            with open(run.folder / name, "a") as file:
                file.writelines(lines[n : n + 1])

    cut(5)
    first = run.history()
    before = {key: table.copy() for key, table in first.counts.items()}
    for n in range(5, 31):
        more(n)
        assert len(run.history()) == n + 1
    assert len(first) == 5
    for key, table in before.items():
        np.testing.assert_array_equal(first.counts[key], table)
        np.testing.assert_array_equal(run.history().counts[key][:5], table)
        np.testing.assert_array_equal(run.history().counts[key][30], json.loads(whole["histograms.jsonl"][30])[key])


@pytest.mark.parametrize("row", [[-1], [2.5e9], ["a"], [None], [[1, 2]]])
def test_a_row_of_damaged_counts_costs_its_epoch_and_no_other(tmp_path, row):
    run = RunStore(tmp_path).open(shutil.copytree(DEMO, tmp_path / "run").name)
    path, key = run.folder / "histograms.jsonl", "test/loss"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    right = np.array([line[key] for line in lines])
    lines[4][key] = row * len(lines[4][key])
    lines.append({**lines[5], "epoch": 10**9})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = run.history().counts[key]
    np.testing.assert_array_equal(np.delete(found, 4, axis=0), np.delete(right, 4, axis=0))


def test_a_screen_that_is_looked_at_again_and_again_reads_no_more_files_each_time(store, monkeypatch):
    monkeypatch.setenv("DYNAT_STORE", str(store.folder))
    look_again()
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.query_params["run"] = "long"
    app.switch_page("pages/epochs.py").run()
    assert not app.exception and not app.error

    def again() -> None:
        look_again()  # the list of runs is read anew, as it is every two seconds
        app.run()

    again()
    second = reads(store.folder, again)
    for _ in range(5):
        again()
    assert 0 < reads(store.folder, again) <= second <= 60


def test_listing_a_store_reads_the_same_few_files_of_every_run(tmp_path):
    multiplied(DEMO, tmp_path, 40)
    assert reads(tmp_path, lambda: [(r.id, r.state, r.title) for r in RunStore(tmp_path).list()]) <= 3 * 40


_seen: list[str] | None = None


def _audit(event: str, arguments: tuple) -> None:
    if _seen is not None and event == "open":
        _seen.append(str(arguments[0]))


sys.addaudithook(_audit)


def reads(folder: Path, task) -> int:
    """How many files below `folder` a task opens."""
    global _seen
    _seen = []
    try:
        task()
        return sum(name.startswith(str(folder)) for name in _seen)
    finally:
        _seen = None


# ------------------------------------------------------------------------------------------------ quantiles and blobs


@given(
    some.lists(some.lists(some.floats(1e-5, 90.0), min_size=1, max_size=30), min_size=1, max_size=8),
    some.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
)
def test_the_quantiles_of_many_rows_lie_in_the_bins_of_the_values_they_stand_for(rows, q):
    counts = np.stack([count("fosc", np.array(row)) for row in rows])
    for found, row in zip(quantiles("fosc", counts, q), rows, strict=True):
        value = np.sort(row)[max(0, int(np.ceil(q * len(row) - 1e-9)) - 1)]
        place = int(np.searchsorted(BINS["fosc"], value, side="right"))
        assert BINS["fosc"][place - 1] - 1e-12 <= found <= BINS["fosc"][place] + 1e-12


def test_a_blob_that_is_packed_once_says_the_same_as_one_packed_anew():
    header, arrays = {"views": [1, {"a": "ä"}]}, {"x": np.arange(7, dtype=np.uint8), "y": np.eye(3, dtype=np.float32)}
    once = Blob(header, arrays)
    for more in ({"cursor": None, "run": "a"}, {"cursor": 12_345, "run": "é" * 9}):
        said, there = unpack(once.with_header(**more))
        wanted, those = unpack(pack({**header, **more}, arrays))
        assert said == wanted
        for name, array in those.items():
            np.testing.assert_array_equal(there[name], array)
