"""The list of runs, and how the other screens open on networks that were not trained here; without a browser."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from running import tiny, write_run
from synthetic import trajectory

from dynat_core.config import Custom, Elsewhere, Imported, Linf, OwnData, Recording, RunConfig
from dynat_core.presets import preset
from dynat_core.recorded.histograms import count
from dynat_core.recorded.trajectories import Trajectories
from dynat_core.store import bookkeeping, queue
from dynat_core.store.jobs import Job
from dynat_core.store.run import Run
from dynat_core.store.run_writer import RunWriter
from dynat_core.store.runs import RunStore
from dynat_core.work.analyst import Analyst
from tests.test_screens import errors, said, scene, show
from ui import store as ui_store
from ui.run_list import Wish, asked, rows, table
from ui.stills import fitted
from ui.words import recorded as recorded_words

ROOT = Path(__file__).resolve().parent.parent
N = 60


@pytest.fixture
def store(tmp_path, monkeypatch) -> RunStore:
    monkeypatch.setattr(Analyst, "warm", lambda analyst, after=0.0: None)
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path))
    ui_store.look_again()
    return RunStore(tmp_path)


def demo(store: RunStore, name: str = "demo-digits-standard") -> Run:
    shutil.copytree(ROOT / "checkpoints" / name, store.folder / name)
    ui_store.look_again()
    return store.open(name)


# -------------------------------------------------------------------------------------------------------- the list


@pytest.fixture
def many(store) -> RunStore:
    """Seven runs: two shipped, a broken one, and four queued with labels."""
    demo(store)
    demo(store, "demo-digits-unsecured")
    (store.folder / "broken").mkdir()
    for seed, (name, tags) in enumerate({"a": ["paper"], "b": ["paper", "x"], "c": [], "d": []}.items()):
        run = store.create(tiny(seed=seed), f"run-{name}")
        bookkeeping.tag(run, tags)
        time.sleep(0.002)
    bookkeeping.note(store.open("run-c"), "Rate too HIGH\nsecond line")
    bookkeeping.archive(store.open("run-d"))
    ui_store.look_again()
    return store


@pytest.mark.parametrize(
    "wish, ids",
    [
        ({"by": "newest", "text": "run-"}, ["run-c", "run-b", "run-a"]),
        ({"by": "oldest", "text": "run-"}, ["run-a", "run-b", "run-c"]),
        ({"text": "run-", "archived": True, "by": "oldest"}, ["run-a", "run-b", "run-c", "run-d"]),
        ({"tag": "paper", "by": "oldest"}, ["run-a", "run-b"]),
        ({"tag": "pap"}, []),
        ({"text": "too high"}, ["run-c"]),
        ({"text": "HIGH rate second"}, ["run-c"]),
        ({"text": "x PAPER"}, ["run-b"]),
        ({"state": "broken"}, ["broken"]),
        ({"state": "finished", "by": "robust"}, ["demo-digits-standard", "demo-digits-unsecured"]),
        ({"strategy": "Unsecured"}, ["demo-digits-unsecured"]),
        ({"strategy": "Dynamic", "by": "title", "archived": True}, ["run-a", "run-b", "run-c", "run-d"]),
        ({"data": "mnist"}, []),
        ({"text": "(.*["}, []),
    ],
)
def test_filters_and_orders_leave_what_was_asked_for(many, wish, ids):
    assert [row.run.id for row in asked(rows(many.list()), Wish(**wish))] == ids


def test_a_robust_accuracy_in_the_list_stands_with_interval_n_and_attack(many):
    shown = table(asked(rows(many.list()), Wish(text="demo-digits-standard"))).iloc[0]
    best = (many.open("demo-digits-standard").result() or {})["best"]
    assert shown["robust %"] == round(100 * best["robust_correct"] / 500, 1)
    low, high = (float(v) for v in shown["95 % interval"].split(" to "))
    assert low < shown["robust %"] < high and shown["images"] == 500
    assert shown["attack"] == "PGD-20, eps 0.15 (38.25/255)" and shown["epoch"] == f"{best['epoch']} of 30"


def test_a_broken_run_says_its_problem_in_the_list(many):
    (shown,) = table(asked(rows(many.list()), Wish(state="broken"))).to_dict("records")
    assert "has no run.json" in shown["note"] and shown["title"] == "broken"


def test_the_screen_opens_filters_by_its_link_and_hides_the_archived(many):
    app = show_runs()
    assert errors(app) == []
    assert sorted(app.dataframe[0].value["id"]) == sorted(
        ["broken", "demo-digits-standard", "demo-digits-unsecured", "run-a", "run-b", "run-c"]
    )
    assert "6 of 7 runs, 1 archived" in said(app)
    app = show_runs(tag="paper", by="oldest")
    assert list(app.dataframe[0].value["id"]) == ["run-a", "run-b"]
    app = show_runs(archived="1", find="run-d")
    assert list(app.dataframe[0].value["title"]) == ["archived: Dynamic, digits, eps .15, seed 3"]
    app = show_runs(find="nothing like it")
    assert any("No run is like that" in box.value for box in app.info)
    assert errors(show_runs(state="<script>", by="../..", tag="nobody", archived="maybe")) == []


@pytest.mark.parametrize("rows_, height", [(1, "content"), (7, "content"), (10, "content"), (11, 360), (500, 360)])
def test_a_table_is_as_tall_as_its_rows_up_to_a_limit(rows_, height):
    assert fitted(rows_, 360, 29) == height


def test_the_list_says_who_asked_for_a_run_where_somebody_signed_in(many):
    assert "by" not in table(rows(many.list())).columns
    many.create(tiny(seed=9), "run-e", by="ada@lab.test")
    listed = table(rows(many.list()))
    shown = dict(zip(listed["id"], listed["by"], strict=True))
    assert (shown["run-e"], shown["run-a"]) == ("ada@lab.test", "")


def test_choosing_a_filter_goes_into_the_query_string(many):
    app = show_runs()
    app.selectbox(key="all-runs.state").set_value("queued").run()
    assert app.query_params["state"] == "queued" and len(app.dataframe[0].value) == 3
    app.text_input(key="all-runs.find").set_value("  seed 2 ").run()
    assert app.query_params["find"] == "seed 2" and list(app.dataframe[0].value["id"]) == ["run-c"]
    app.selectbox(key="all-runs.state").set_value("").run()
    assert "state" not in app.query_params


def test_a_search_is_left_to_whoever_types_on_while_it_is_answered(many):
    app = show_runs()
    app.text_input(key="all-runs.find").set_value("seed ").run()
    assert app.query_params["find"] == "seed" and not app.text_input(key="all-runs.find").proto.set_value
    app.query_params["find"] = "run-b"  # Back
    app.run()
    assert app.text_input(key="all-runs.find").value == "run-b"


def test_undo_takes_back_what_was_done_last_and_once(many):
    """Also where the script has not drawn it yet, or the button is pressed twice."""
    taken: list[str] = []

    def done(name: str) -> SimpleNamespace:
        return SimpleNamespace(said=f"{name} is done.", problems=[], undo=[lambda: taken.append(name)])

    app = show_runs()
    app.session_state["all-runs.done"] = done("the first")
    app.run()
    app.session_state["all-runs.done"] = done("the second")
    app.button(key="undo-button").click().run()
    assert taken == ["the second"] and "Taken back." in said(app)
    again = SimpleNamespace(said="Taken back.", problems=[], undo=[])
    app.session_state["all-runs.done"] = done("the third")
    app.run()
    app.session_state["all-runs.done"] = again  # the second press of two
    app.button(key="undo-button").click().run()
    assert taken == ["the second"] and "Taken back." in said(app)


@pytest.fixture
def tick(monkeypatch):
    """tick(app, *places): tick these rows of the table that is shown now, as a person would; a new table has none."""
    import streamlit

    ticks: dict[str, list[int]] = {}
    shown: list[str] = []

    def dataframe(rows: pd.DataFrame, *, key: str, **how: object) -> None:
        shown.append(key)
        streamlit.session_state[key] = {"selection": {"rows": ticks.get(key, [])}}

    def ticked(app: Any, *places: int) -> None:
        ticks[shown[-1]] = list(places)
        app.run()

    monkeypatch.setattr(streamlit, "dataframe", dataframe)
    return ticked


def write(app: Any, label: str, text: str) -> None:
    next(f for f in (*app.text_input, *app.text_area) if f.label == label).set_value(text)


def press(app: Any, label: str) -> None:
    next(b for b in app.button if b.label == label).click().run()
    assert not app.exception


@pytest.mark.parametrize("new_run", [False, True])
def test_what_was_typed_about_a_run_is_saved_though_the_list_has_changed_meanwhile(many, tick, new_run):
    app = show_runs(find="run-", by="oldest")
    tick(app, 0)
    write(app, "Title", "Mine")
    write(app, "Tags", "paper, fresh")
    write(app, "Note", "by hand")
    if new_run:
        many.create(tiny(seed=9), "run-e")
        ui_store.look_again()
    press(app, "Save")
    assert "run-a is saved." in said(app)
    assert bookkeeping.label(many.open("run-a")) == bookkeeping.Label("Mine", ("paper", "fresh"), "by hand")
    press(app, "Undo")
    assert bookkeeping.label(many.open("run-a")) == bookkeeping.Label(None, ("paper",))


@pytest.mark.parametrize("new_run", [False, True])
def test_tags_are_given_though_the_list_has_changed_meanwhile(many, tick, new_run):
    app = show_runs(find="run-", by="oldest")
    tick(app, 0, 2)
    write(app, "Add tags", "fresh")
    if new_run:
        many.create(tiny(seed=9), "run-e")
        ui_store.look_again()
    press(app, "Add tags")
    assert "2 runs tagged fresh." in said(app)
    found = {run.id: bookkeeping.label(run).tags for run in many.list() if run.id.startswith("run-")}
    assert found["run-a"] == ("paper", "fresh") and found["run-c"] == ("fresh",) and "fresh" not in found["run-b"]


def test_what_is_refused_changes_nothing_and_stays_typed(many, tick):
    app = show_runs(find="run-", by="oldest")
    tick(app, 0)
    write(app, "Title", "Mine")
    write(app, "Tags", "x" * 41)
    write(app, "Note", "a long thought")
    press(app, "Save")
    assert "A tag may have at most 40 characters" in said(app) and "is saved" not in said(app)
    assert bookkeeping.label(many.open("run-a")) == bookkeeping.Label(None, ("paper",))
    assert [f.value for f in app.text_area] == ["a long thought"]
    write(app, "Tags", "x" * 40)
    press(app, "Save")
    assert bookkeeping.label(many.open("run-a")) == bookkeeping.Label("Mine", ("x" * 40,), "a long thought")
    assert not app.text_area, "it is done"


def test_two_who_edit_a_run_at_once_keep_both_their_changes(many, tick):
    app = show_runs(find="run-", by="oldest")
    tick(app, 0)
    bookkeeping.edit(many.open("run-a"), add=["theirs"], note="theirs")
    app.run()  # whatever for: what the form opened with still counts
    write(app, "Title", "Mine")
    press(app, "Save")
    assert bookkeeping.label(many.open("run-a")) == bookkeeping.Label("Mine", ("paper", "theirs"), "theirs")
    bookkeeping.edit(many.open("run-a"), note="theirs again")
    press(app, "Undo")
    assert bookkeeping.label(many.open("run-a")) == bookkeeping.Label(None, ("paper", "theirs"), "theirs again")


def test_undoing_tags_takes_those_back_alone(many, tick):
    app = show_runs(find="run-", by="oldest")
    tick(app, 0, 1)
    write(app, "Add tags", "x, fresh")
    press(app, "Add tags")
    bookkeeping.edit(many.open("run-b"), note="theirs")
    press(app, "Undo")
    assert bookkeeping.label(many.open("run-a")) == bookkeeping.Label(None, ("paper",))
    assert bookkeeping.label(many.open("run-b")) == bookkeeping.Label(None, ("paper", "x"), "theirs")


def test_what_was_deleted_is_listed_and_restored(many):
    bookkeeping.delete(many.open("run-a"))
    ui_store.look_again()
    app = show_runs()
    assert "run-a" not in list(app.dataframe[0].value["id"])
    next(b for b in app.button if b.label == "Restore").click().run()
    assert "1 run is back." in said(app) and "run-a" in list(app.dataframe[0].value["id"])
    assert not [b for b in app.button if b.label == "Restore"]


def test_five_hundred_runs_are_one_short_look(store):
    for k in range(500):
        folder = write_run(store.folder / f"run-{k:03d}")
        (folder / "label.json").write_text(json.dumps({"tags": ["x"]}))
    found = rows(store.list())
    assert len(asked(found, Wish(tag="x", text="seed", by="title"))) == 500
    assert len(table(found)) == 500


def test_an_empty_store_says_how_to_fill_it(store):
    app = show_runs()
    assert errors(app) == [] and any(code.value == "make demos" for code in app.code)


def test_a_run_with_a_card_is_not_listed_again_when_the_store_is_looked_at_anew(store, monkeypatch):
    demo(store)
    demo(store, "demo-digits-strong-standard")
    monkeypatch.setattr(ui_store, "runs", lambda: RunStore(store.folder).list())  # other objects each time
    keys = [button.key for button in show("overview").button]
    assert "open-demo-digits-strong-standard" in keys and "open-demo-digits-standard" not in keys


def test_archived_runs_are_off_the_overview(store):
    demo(store)
    run = demo(store, "demo-digits-strong-standard")
    assert "Digits at eps .3, Standard" in said(show("overview"))
    bookkeeping.archive(run)
    ui_store.look_again()
    assert "Digits at eps .3, Standard" not in said(show("overview"))


def test_the_place_in_the_queue_is_looked_up_once_for_all_lines(store, monkeypatch):
    """Each line that looked for itself would read the whole store again, every second, in every tab."""
    for number in range(4):
        store.create(tiny(seed=number), f"run-{number}")
        time.sleep(0.002)
    found, looks, turns = store.list(), Mock(), Mock(wraps=queue._turns)
    monkeypatch.setattr("ui.live.worker_alive", lambda store: True)
    monkeypatch.setattr(ui_store, "_runs", Mock(return_value=(-1, found)))  # what the screens have looked at already
    monkeypatch.setattr(RunStore, "list", looks)
    monkeypatch.setattr(queue, "_turns", turns)
    for number, screen in enumerate(("overview", "epochs")):
        words = said(show(screen, run="run-0,run-1,run-2,run-3") if number else show(screen))
        assert "next in the queue" in words and all(f"{place} before you" in words for place in (1, 2, 3))
        assert not looks.called
    assert turns.call_count == 3  # the overview was drawn twice, for every screen comes after it


def test_archived_runs_need_no_hand_and_all_runs_has_those_that_have_no_card(store):
    for number in range(7):
        (store.create(tiny(seed=number), f"run-{number}").folder / "stop").touch()
    bookkeeping.archive(store.open("run-6"))
    ui_store.look_again()
    for screen in ("overview", "train"):
        app = show(screen)
        cards = {button.key for button in app.button if "-resume-" in str(button.key)}
        assert len(cards) == 4 and not [key for key in cards if "run-6" in key]
        (more,) = [link.proto for link in app.get("page_link") if "more like these" in link.proto.label]
        assert more.label == "All runs: 2 more like these" and more.page == "runs"


def test_epochs_leaves_a_waiting_run_that_somebody_deleted(store):
    demo(store)
    store.create(tiny(), "mine")
    ui_store.look_again()
    app = show("epochs", run="mine")
    ui_store.runs()  # anew, so that the list of before is believed for two seconds more
    shutil.rmtree(store.folder / "mine")
    app.run()
    assert errors(app) == [] and not [button for button in app.button if "mine" in str(button.key)]
    assert any("Choose a run above" in box.value for box in app.info)


@pytest.mark.parametrize("screen", ["epochs", "trajectory"])
def test_where_every_run_is_broken_none_is_said_to_be_missing(store, screen):
    (store.folder / "broken").mkdir()
    ui_store.look_again()
    app = show(screen)
    assert errors(app) == [] and not any("There are no runs" in box.value for box in app.info)
    if screen == "epochs":
        (box,) = app.info
        assert "can be opened" in box.value and "All runs" in box.value and not app.code


def show_runs(**query: str) -> Any:
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    app.query_params.clear()
    for name, value in query.items():
        app.query_params[name] = value
    app.switch_page("pages/runs.py").run()
    assert not app.exception
    return app


# ------------------------------------------------------------------------------------- networks from elsewhere


def samples() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    label, margin = rng.integers(0, 10, N), rng.normal(1, 2, N)
    return pd.DataFrame(
        {
            "index": np.arange(N), "split": "test", "label": label,
            "predicted": np.where(margin < 0, (label + 1) % 10, label), "clean_correct": True, "margin": margin,
            "fosc": 10 ** rng.normal(-2, 1, N), "fosc_paper": 10 ** rng.normal(-1, 1, N),
            "relative_fosc": rng.random(N), "gradient_l1": 10 ** rng.normal(0, 1, N),
            "loss": np.log1p(np.exp(-margin)), "steps": 20, "gradients": 21,
            "steps_to_fool": np.where(margin < 0, 3, -1),
        }
    )  # fmt: skip


def external(store: RunStore, kind: str = "external", *, paths: bool = False, finished: bool = True) -> Run:
    """A run that a program recorded, or a model from a file after it was measured: test images alone."""
    own = OwnData(channels=1, height=8, width=8, images=N, class_names=tuple("abcdefghij"))
    config = RunConfig(
        epochs=0, data=own, model=Custom(words="mine") if kind == "external" else Imported(program="torchscript"),
        strategy=Elsewhere(), threat=Linf(eps=0.15), recording=Recording(test_images=None, probes=0),
    )  # fmt: skip
    files = {"weights/0000.safetensors": b"not read here"} if kind == "imported" else {}
    run = store.create(config, f"from-{kind}", kind=kind, files=files)
    found = samples()
    robust = int((found.predicted == found.label).sum())
    with Job(run.folder).claim():
        writer = RunWriter(run)
        writer.go_on()
        writer.start({"versions": {}})
        counts = {f"test/{name}": count(name, found[name].to_numpy()).tolist()
                  for name in ("fosc", "fosc_paper", "relative_fosc", "loss", "margin")}  # fmt: skip
        record = {"epoch": 0, "best_epoch": 0, "test/n": N, "test/clean_accuracy": 1.0,
                  "test/robust_accuracy": robust / N, "test/relative_fosc_p50": 0.5}  # fmt: skip
        writer.epoch(record, found, counts, None, None)
        if finished:
            last = {"epoch": 0, "n": N, "clean_correct": N, "robust_correct": robust,
                    "clean_accuracy": 1.0, "robust_accuracy": robust / N}  # fmt: skip
            result = {"best": last, "last": last, "attack": config.attack_words()}
            writer.finish(result, {"best": found, "last": found}, recorded() if paths else None)
    ui_store.look_again()
    return run


def recorded() -> Trajectories:
    some = [trajectory(k, index=k) for k in range(6)]
    names = [name for name in vars(some[0]) if name not in ("index", "label", "settings")]
    arrays = {name: np.stack([getattr(one, name) for one in some]) for name in names}
    index, label = (np.array([getattr(one, name) for one in some], np.int32) for name in ("index", "label"))
    return Trajectories(index=index, label=label, settings=some[0].settings, **arrays)


@pytest.mark.parametrize("kind", ["external", "imported"])
@pytest.mark.parametrize("finished", [True, False])
def test_overview_epochs_and_the_list_open_on_a_network_from_elsewhere(store, kind, finished):
    run = external(store, kind, finished=finished)
    app = show("overview")
    assert errors(app) == [] and run.title in said(app)
    app = show("epochs", run=run.id)
    assert errors(app) == []
    header = scene(app)
    words = "\n".join(str(part) for lines in header["texts"] for part in lines)
    assert header["n"] == 1 and "Epoch 0:" in words and "untrained" not in words
    assert "trained on" not in " ".join(view.get("text", "") for view in header["views"])
    app = show_runs()
    assert errors(app) == [] and list(app.dataframe[0].value["strategy"]) == ["Trained elsewhere"]


@pytest.mark.parametrize("kind", ["external", "imported"])
def test_epochs_shows_test_images_where_nothing_was_trained(store, kind):
    run = external(store, kind)
    app = show("epochs", run=run.id)
    control = next(c for c in app.get("button_group") if "split" in str(c.key))
    assert control.value in ("test", ["test"])
    assert [v for v in scene(app)["views"] if v["slot"] == "slope" and v["bins"]["arrays"]]  # there is something in it
    demo(store)
    both = show("epochs", run=f"{run.id},demo-digits-standard")  # beside a trained one there is a choice
    assert len(next(c for c in both.get("button_group") if "split" in str(c.key)).options) == 2


@pytest.mark.parametrize("kind", ["external", "imported"])
def test_trajectory_opens_on_the_recorded_paths_of_a_network_from_elsewhere(store, kind):
    run = external(store, kind, paths=True)
    app = show("trajectory", run=run.id)
    assert errors(app) == []
    assert scene(app)["n"] == 11
    assert len(app.dataframe[0].value) == N


def test_trajectory_says_in_one_sentence_that_an_external_run_keeps_nothing_to_attack(store):
    run = external(store, "external")
    demo(store)
    app = show("trajectory", run=run.id)
    (sentence,) = errors(app)
    assert "has no checkpoint or recorded path" in sentence.replace("\\", "")
    assert scene(app)["n"] == 11  # the demo is shown instead


@pytest.mark.parametrize("kind", ["external", "imported"])
def test_a_network_from_elsewhere_is_not_cloned_and_train_stands(store, kind):
    run = external(store, kind)
    app = show("train", clone=run.id)
    (sentence,) = errors(app)
    assert "was not trained here" in sentence
    for query in ({"preset": "quick"}, {}):
        app.query_params.clear()
        for name, value in query.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception and errors(app) == []
    assert app.session_state["train.draft"]["strategy.name"] == preset("quick").strategy.name


@pytest.mark.parametrize("kind", ["external", "imported"])
def test_no_screen_offers_to_clone_a_network_from_elsewhere(store, kind):
    run, other = external(store, kind), demo(store)
    assert f"clone-{run.id}" not in [button.key for button in show("overview").button]
    app = show("epochs", run=f"{run.id},{other.id}")
    for id in (run.id, other.id):
        app.session_state[f"about-{id}"] = True
    app.run()
    keys = [button.key for button in app.button]
    assert f"clone-{other.id}" in keys and f"clone-{run.id}" not in keys


@pytest.mark.parametrize("alive", [False, True])
@pytest.mark.parametrize("epochs", [0, 5])
def test_a_run_that_its_own_program_records_is_shown_as_that(store, monkeypatch, alive, epochs):
    """No worker takes it, nobody can stop or resume it from here, and how far it is stands in its records."""
    monkeypatch.setattr(ui_store, "worker_alive", lambda store: alive)
    monkeypatch.setattr("ui.live.worker_alive", lambda store: alive)
    run = external(store, "external", finished=False)
    asked = json.loads((run.folder / "run.json").read_text())
    asked["config"]["epochs"] = epochs
    (run.folder / "run.json").write_text(json.dumps(asked))
    ui_store.look_again()
    for screen in ("overview", "train", "epochs"):
        app = show(screen, **({"run": run.id} if screen == "epochs" else {}))
        assert "The program that records it ended after epoch 0; log_run on the same folder goes on." in said(app)
        assert "queue" not in said(app).partition("Under way")[2]
        assert not {"Resume", "Stop", "Start now"} & {button.label for button in app.button}
    with Job(run.folder).claim():
        ui_store.look_again()
        for screen in ("overview", "train", "epochs"):
            app = show(screen, **({"run": run.id} if screen == "epochs" else {}))
            (bar,) = app.get("progress")
            assert bar.proto.text == f"epoch 0{' of 5' if epochs else ''} is recorded"
            assert "Stop" not in {button.label for button in app.button}
    (run.folder / "epochs.jsonl").unlink()
    with Job(run.folder).claim():
        assert recorded_words(run) == (0.0, "nothing is recorded yet")


def test_a_stop_of_before_is_no_reason_to_offer_to_resume_an_external_run(store):
    run = external(store, "external", finished=False)
    (run.folder / "stop").touch()
    app = show("overview")
    assert "log_run on the same folder goes on" in said(app) and "kept its checkpoint" not in said(app)


def test_an_imported_model_that_was_stopped_has_no_checkpoint_to_go_on_from(store):
    run = external(store, "imported", finished=False)
    (run.folder / "epochs.jsonl").unlink()
    (run.folder / "stop").touch()
    app = show("overview")
    assert "Measuring it was stopped; resume to measure it." in said(app) and "kept its checkpoint" not in said(app)


@pytest.mark.parametrize("state", ["queued", "interrupted"])
def test_an_imported_model_that_waits_to_be_measured_breaks_no_screen(store, state):
    run = external(store, "imported", finished=False)
    for name in ("epochs.jsonl", "histograms.jsonl", *(["starts.jsonl"] if state == "queued" else [])):
        (run.folder / name).unlink()
    demo(store)
    for screen in ("overview", "epochs", "trajectory"):
        app = show(screen)
        assert errors(app) == []
    assert errors(show("epochs", run=run.id)) == []


def test_a_run_of_quick_settings_is_found_by_its_automatic_title(store):
    config = preset("quick").model_copy(update={"name": None})
    run = store.create(config)
    assert run.title == config.title() and run.title.startswith("Dynamic, digits, eps ")


def test_the_link_of_a_picture_says_filters_images_and_threshold(store):
    demo(store)
    asked_for = {"only": "fooled;margin=-2,0;by=-fosc", "images": "8,20,42", "threshold": "30"}
    app = show("trajectory", run="demo-digits-standard", **asked_for)
    assert errors(app) == []
    (link,) = [code.value for code in app.code if "/trajectory?" in code.value or "?run=" in code.value]
    for name, value in asked_for.items():
        assert f"{name}={value}" in link
    assert len(app.get("bidi_component")) == 2  # the path, and the threshold slider
