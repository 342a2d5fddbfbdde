"""The screens without a browser: what the query string, an empty store, broken folders and a missing torch lead to."""

from __future__ import annotations

import json
import re
import shutil
import time
from html import unescape
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from streamlit.testing.v1 import AppTest

from dynat_core.presets import preset
from dynat_core.store.runs import RunStore
from dynat_core.work.analyst import Analyst
from tests.running import write_run
from tests.stores import demos
from ui import link, paths, store
from ui.cards import run_card
from ui.images import Pick, read_pick
from ui.link import remembered
from ui.paths import recorded_attack
from ui.words import plain

ROOT = Path(__file__).resolve().parent.parent
SCREENS = {
    "overview": "app.py",
    "train": "pages/train.py",
    "epochs": "pages/epochs.py",
    "trajectory": "pages/trajectory.py",
}


@pytest.fixture(autouse=True)
def cold(monkeypatch):
    """No helper process is started before one is asked something, and nothing here asks."""
    monkeypatch.setattr(Analyst, "warm", lambda analyst, after=0.0: None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the store with the demos, used by the screens."""
    target = tmp_path / "store"
    shutil.copytree(demos(), target)
    monkeypatch.setenv("DYNAT_STORE", str(target))
    store.look_again()
    return target


@pytest.fixture
def view_only(monkeypatch):
    """As if torch were not installed."""
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))


def show(screen: str, **query: str) -> AppTest:
    """The screen after its first run; nothing may have gone wrong in it."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    if screen != "overview":
        app.query_params.clear()
        for name, value in query.items():
            app.query_params[name] = value
        app.switch_page(SCREENS[screen]).run()
    elif query:
        for name, value in query.items():
            app.query_params[name] = value
        app.run()
    assert not app.exception
    return app


def errors(app: AppTest) -> list[str]:
    return [box.value for box in app.error]


def said(app: AppTest) -> str:
    """Everything written on the screen."""
    boxes = [*app.get("html"), *app.markdown, *app.caption, *app.info, *app.error, *app.success]
    return unescape("\n".join(str(getattr(box, "body", "") or getattr(box, "value", "")) for box in boxes))


def scene(app: AppTest) -> dict:
    """The header of what the scrubber was given."""
    from dynat_core.recorded.packing import unpack

    (component,) = [c for c in app.main if c.type == "bidi_component"] or app.get("bidi_component")
    return unpack(component.proto.bytes)[0]


def widget(app: AppTest, key: str):
    """The widget with this key, or with one of those that follow it as it is moved, whatever kind it is."""
    keys = re.compile(rf"{re.escape(key)}(\.\d+)?")
    kinds = ("multiselect", "selectbox", "number_input")
    return next(w for kind in kinds for w in app.get(kind) if keys.fullmatch(w.key or ""))


@pytest.mark.parametrize("screen", SCREENS)
def test_each_screen_opens_on_real_runs(folder, screen):
    app = show(screen)
    assert errors(app) == []
    if screen != "train":
        header = scene(app)
        assert header["n"] == (11 if screen in ("overview", "trajectory") else 7)
        assert [s["name"].rpartition(" ")[2] for s in header["series"]][:2] in (
            ["Dynamic", "Standard"],
            ["Standard", "Dynamic"],
        )


@pytest.mark.parametrize("screen", SCREENS)
def test_an_empty_store_says_how_to_fill_it(tmp_path, monkeypatch, screen):
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path / "nothing"))
    store.look_again()
    app = show(screen)
    assert errors(app) == []
    if screen != "train":
        assert any(code.value == "make demos" for code in app.code)
        assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("screen", SCREENS)
def test_without_torch_each_screen_opens(folder, view_only, screen):
    app = show(screen)
    assert errors(app) == []
    assert "view only" in said(app)
    if screen == "train":
        assert any("pip install -r requirements.txt" in box.value for box in app.info)
        assert next(b for b in app.button if b.label == "Start the run").disabled
    if screen == "trajectory":
        assert scene(app)["n"] == 11


def test_without_torch_a_path_that_was_not_recorded_is_a_sentence(folder, view_only):
    index = RunStore(folder).open("demo-digits-standard").recorded_indices(6)[40]  # probes are the first three
    app = show("trajectory", epoch="3", image=str(index))
    (sentence,) = errors(app)
    assert "was not recorded" in sentence and "pip install -r requirements.txt" in sentence


def test_best_and_last_stand_with_attack_interval_and_verdict(folder):
    words = said(show("epochs"))
    for part in (
        "best, epoch",
        "last, epoch 6",
        "PGD-8, step",
        "cross-entropy",
        "1 restart",
        "not yet checked",
        "Wilson",
    ):
        assert part in words


def test_the_cards_give_what_is_needed_to_believe_them(folder):
    words = said(show("overview"))
    for part in (
        "80 test images",
        "95 % intervals",
        "one seed (0)",
        "eps 0.15 (38.25/255)",
        "of 10",
        "not yet checked",
    ):
        assert part in words


def test_only_clean_training_is_said_to_spend_nothing_on_an_attack(folder):
    runs = {name: RunStore(folder).open(f"demo-digits-{name}") for name in ("dynamic", "unsecured")}
    for run in runs.values():  # as they are before the first epoch is trained
        (run.folder / "result.json").unlink()
        lines = (run.folder / "epochs.jsonl").read_text().splitlines(keepends=True)
        (run.folder / "epochs.jsonl").write_text(lines[0])
        (run.folder / "histograms.jsonl").unlink()
    store.look_again()
    said_of = {name: said(show("epochs", run=run.id)) for name, run in runs.items()}
    assert "no attack" not in said_of["dynamic"] and "<td>no attack</td>" in said_of["unsecured"]
    cards = {name: run_card(run) for name, run in runs.items()}
    assert "<b>–</b>" in cards["dynamic"] and "no attack" not in cards["dynamic"]
    assert "<b>0</b> <small>no attack</small>" in cards["unsecured"]


# ------------------------------------------------------------------------------------------------- query strings


def test_a_deep_link_opens_run_epoch_split_and_form(folder):
    app = show("epochs", run="demo-digits-standard", epoch="2", split="test", form="box")
    header = scene(app)
    assert (header["cursor"], [s["name"] for s in header["series"]]) == (2, ["Digits, Standard"])
    assert next(s for s in header["switches"] if s["name"] == "form")["value"] == "box"
    assert header["opens"] == "Open in Trajectory"


def test_a_deep_link_opens_image_step_and_models(folder):
    index = str(RunStore(folder).open("demo-digits-dynamic").recorded_indices(6)[7])
    app = show("trajectory", run="demo-digits-unsecured,demo-digits-dynamic", epoch="6", image=index, step="2")
    header = scene(app)
    assert (header["cursor"], header["n"]) == (2, 11)
    assert [s["name"] for s in header["series"]] == ["Digits, Unsecured", "Digits, Dynamic"]
    assert widget(app, "trajectory.number").value == int(index)


@pytest.mark.parametrize(
    "screen, query, sentence",
    [
        ("epochs", {"run": "nobody"}, "There is no run called nobody"),
        ("epochs", {"run": "../../etc"}, "There is no run called ../../etc"),
        ("epochs", {"run": "<script>alert(1)</script>"}, "There is no run called <script>"),
        ("epochs", {"epoch": "999"}, "There is no epoch 999; the last one is 6."),
        ("epochs", {"epoch": "-1"}, "'-1' is no epoch; it must be a whole number, 0 or more."),
        ("epochs", {"epoch": "9" * 400}, "is no epoch"),
        ("epochs", {"split": "valid"}, "There is no split called 'valid'; there is train, test."),
        ("trajectory", {"run": "nobody"}, "There is no run called nobody"),
        ("trajectory", {"epoch": "77"}, "at epoch 77; there is 0, 1, 2, 3, 4, 5, 6."),
        ("trajectory", {"image": "5000"}, "There is no test image 5000 in this run; it has 80 of them"),
        ("trajectory", {"image": "²"}, "There is no test image ²"),
        ("trajectory", {"step": "50"}, "There is no step 50; the last one is 10."),
        ("trajectory", {"attack": "strong"}, "attack=strong is not like 10,eps/4,ce,random"),
        ("trajectory", {"attack": "0000019999999,eps/4,ce,random"}, "is not like 10,eps/4,ce,random, with 1 to 200"),
        ("trajectory", {"attack": f"000001{'0' * 5000},eps/4,ce,random"}, "is not like 10,eps/4,ce,random"),
        ("trajectory", {"epoch": "0000001"}, "at epoch 0000001; there is 0, 1, 2, 3, 4, 5, 6."),
        ("trajectory", {"attack": "10,-1,ce,random"}, "must be a size in pixels above 0"),
        ("trajectory", {"attack": "10,eps/4,hinge,random"}, "The loss of an attack is ce or margin"),
        ("overview", {"step": "11"}, "There is no step 11; the last one is 10."),
        ("train", {"preset": "imagenet"}, "There is no preset called 'imagenet'"),
        ("train", {"clone": "nobody"}, "There is no run called nobody"),
    ],
)  # fmt: skip
def test_what_the_query_string_cannot_mean_is_one_sentence_and_the_screen_stands(folder, screen, query, sentence):
    app = show(screen, **query)
    boxes = [re.sub(r"\\(.)", r"\1", box) for box in (*errors(app), *(box.value for box in app.info))]
    assert [box for box in boxes if sentence in box], boxes
    assert len(boxes) == 1
    if screen != "train":
        assert scene(app)["n"] > 1


@pytest.mark.parametrize("step, written", [(None, 2), ("8", 2), ("1", 1)])
def test_the_link_names_a_step_that_its_attack_has(folder, monkeypatch, step, written):
    real = paths.recorded
    monkeypatch.setattr(paths, "recorded", lambda run, index, epoch, _: real(run, index, epoch, recorded_attack(run)))
    app = show("trajectory", **({"step": step} if step else {}))
    app.query_params["attack"] = "2,eps/4,ce,random"
    app.run()
    (address,) = [box.value for box in app.code if "image=" in box.value]
    assert dict(parse_qsl(address.partition("?")[2]))["step"] == str(written)


def test_a_pick_from_another_screen_filters_the_images(folder):
    app = show("trajectory", pick="relative_fosc,0.05,0.1")
    filter_ = next(s for s in app.selectbox if (s.key or "").startswith("trajectory.filter"))
    table = RunStore(folder).open("demo-digits-standard").samples("last", split="test")
    n = int(((table.relative_fosc >= 0.05) & (table.relative_fosc < 0.1)).sum())
    assert filter_.options[-1] == f"brushed: relative FOSC 0.05 to 0.1 ({n})"
    assert len(app.dataframe[0].value) == n


@pytest.mark.parametrize("text", [None, "", "loss", "loss,1", "loss,a,b", "__class__,0,1", "loss,nan,1", "loss,inf,"])
def test_a_pick_that_means_nothing_is_ignored(text):
    assert read_pick(text) is None


def test_an_open_pick_has_one_end():
    assert read_pick("margin,,0") == Pick("margin", None, 0.0)
    assert Pick("margin", None, 0.0).words() == "margin below 0"


def test_cloning_fills_the_form_with_the_run_s_settings(folder):
    app = show("train", clone="demo-digits-standard")
    assert app.session_state["train.draft"]["name"] == "Digits, Standard, changed"
    assert app.session_state["train.draft"]["strategy.name"] == "standard"
    assert "These are the settings of Digits, Standard" in said(app)


def test_a_preset_in_the_query_string_fills_the_form(folder):
    app = show("train", preset="mnist-dynamic")
    assert app.session_state["train.draft"]["data.name"] == "mnist"


def field(app: AppTest, name: str):
    """A field of the form on Train."""
    key = f"train.{app.session_state['train.round']}.{name}"
    return next(found for found in app.text_input if found.key == key)


def away_and_back(app: AppTest) -> None:
    """To another screen, and by the menu to Train again."""
    app.query_params.clear()
    app.switch_page("app.py").run()
    (entry,) = [link.proto for link in app.get("page_link") if link.proto.label == "Train"]
    for name, value in parse_qsl(entry.query_string):
        app.query_params[name] = value
    app.switch_page("pages/train.py").run()
    assert not app.exception


@pytest.mark.parametrize("query", [{"clone": "demo-digits-standard"}, {"preset": "digits-trades"}, {}])
def test_what_was_typed_on_train_outlives_a_visit_to_another_screen(folder, query):
    app = show("train", **query)
    field(app, "epochs").set_value("77").run()
    chosen = widget(app, "train.preset").value
    away_and_back(app)
    assert field(app, "epochs").value == "77" and widget(app, "train.preset").value == chosen
    assert ("These are the settings of Digits, Standard" in said(app)) == ("clone" in query)
    app.query_params.clear()
    app.query_params["preset"] = "mnist-dynamic"  # another one is another wish
    app.run()
    assert field(app, "epochs").value != "77" and widget(app, "train.preset").value == "mnist-dynamic"


def test_the_preset_chosen_last_is_in_the_link_and_stays(folder):
    app = show("train", preset="digits-trades")
    widget(app, "train.preset").set_value("digits-l2l").run()
    assert dict(app.query_params) == {"preset": "digits-l2l"}
    field(app, "epochs").set_value("77").run()
    away_and_back(app)
    assert widget(app, "train.preset").value == "digits-l2l" and field(app, "epochs").value == "77"
    widget(app, "train.preset").set_value(None).run()
    assert dict(app.query_params) == {} and field(app, "epochs").value == "77"
    away_and_back(app)
    assert widget(app, "train.preset").value is None and field(app, "epochs").value == "77"


def test_a_change_of_preset_or_images_that_is_none_leaves_what_was_typed(folder, monkeypatch):
    """Streamlit tells of one when somebody goes to another screen and back before that screen is drawn."""
    import streamlit

    real, told = streamlit.selectbox, []

    def selectbox(label, options, *, key, on_change=None, args=(), **how):
        found = real(label, options, key=key, on_change=on_change, args=args, **how)
        if told and key.endswith(("train.preset", "data.name")):
            assert on_change is not None
            on_change(*args)
            told.append(key)
        return found

    app = show("train", preset="digits-trades")
    for name, text in (("epochs", "77"), ("data.train_size", "333")):
        field(app, name).set_value(text).run()
    monkeypatch.setattr(streamlit, "selectbox", selectbox)
    told.append("now")
    app.run()
    assert not app.exception and errors(app) == [] and len(told) == 3
    assert (field(app, "epochs").value, field(app, "data.train_size").value) == ("77", "333")


def test_to_clone_a_run_again_begins_with_its_settings_again(folder):
    app = show("train", clone="demo-digits-standard")
    field(app, "epochs").set_value("77").run()
    app.query_params.clear()
    app.query_params["run"] = "demo-digits-standard"
    app.switch_page("pages/epochs.py").run()
    app.session_state["about-demo-digits-standard"] = True
    app.run()
    next(button for button in app.button if button.key == "clone-demo-digits-standard").click().run()
    assert field(app, "epochs").value == "6"


# ---------------------------------------------------------------------------------------------- the browser's report


def report(app: AppTest, key: str, **words) -> None:
    """What the scrubber would report."""
    run = scene(app)["run"]
    app.session_state[key] = {
        "report": {"run": run, "follow": False, "chosen": {}, "hidden": [], **words},
        "action": None,
    }


def test_the_cursor_and_the_switches_go_into_the_query_string(folder):
    app = show("epochs")
    report(app, "epochs", i=3, chosen={"form": "paper", "kind": "heatmap"})
    app.run()
    assert dict(app.query_params) == {"epoch": "3", "form": "paper", "view": "heatmap"}


def test_back_moves_the_cursor_to_where_it_was_also_right_after_it_was_moved(folder, monkeypatch):
    app = show("epochs", epoch="1")
    jump = scene(app)["jump"]
    report(app, "epochs", i=3)
    app.run()
    assert app.query_params["epoch"] == "3" and scene(app)["jump"] == jump
    app.query_params["epoch"] = "1"
    monkeypatch.setattr(link, "went_back", lambda: True)
    app.run()
    header = scene(app)
    assert (header["cursor"], header["jump"]) == (1, jump + 1)


def test_an_old_query_string_right_after_a_write_does_not_pull_the_cursor_back(folder):
    app = show("epochs", epoch="1")
    report(app, "epochs", i=3)
    app.run()
    app.query_params["epoch"] = "1"  # the browser has not heard of 3 yet
    app.run()
    assert scene(app)["jump"] == 1
    app.query_params["epoch"] = "3"
    app.run()
    assert scene(app)["jump"] == 1
    app.query_params["epoch"] = "2"  # neither of them: a link of the page itself, which is followed
    app.run()
    assert (scene(app)["cursor"], scene(app)["jump"]) == (2, 2)


def test_a_link_from_another_screen_is_followed_however_soon_it_comes(folder):
    app = show("epochs", epoch="1")
    report(app, "epochs", i=3)
    app.run()
    app.query_params.clear()
    app.switch_page("app.py").run()
    app.query_params["epoch"] = "1"
    app.switch_page("pages/epochs.py").run()
    assert scene(app)["cursor"] == 1


def test_two_changes_that_arrive_together_are_both_kept(folder):
    """A slow script has not run between them, so what it gave the second widget knows nothing of the first."""
    app = show("trajectory", run="demo-digits-standard", only="fooled")
    widget(app, "trajectory.class.true").set_value(3)
    widget(app, "trajectory.by").set_value("loss")
    app.run()
    assert app.query_params["only"] == "fooled;true=3;by=loss"


def test_an_image_number_is_stepped_in_one_field_that_stays(folder):
    app = show("trajectory", run="demo-digits-standard", epoch="6")
    some = RunStore(folder).open("demo-digits-standard").recorded_indices(6)
    for index in some[3:5]:
        widget(app, "trajectory.number").set_value(index).run()
        assert app.query_params["image"] == str(index)
    assert not widget(app, "trajectory.number").proto.set_value  # the field is left to whoever steps it on
    app.query_params["image"] = str(some[7])
    app.run()
    assert widget(app, "trajectory.number").value == some[7]


def test_a_number_between_the_images_of_a_run_is_passed_and_the_image_stays(folder):
    there = sorted(int(i) for i in RunStore(folder).open("demo-digits-standard").samples(6, split="test")["index"])
    before, after = next((a, b) for a, b in pairwise(there) if b > a + 1)
    app = show("trajectory", run="demo-digits-standard", epoch="6", image=str(before))
    widget(app, "trajectory.number").set_value(before + 1).run()
    assert widget(app, "trajectory.number").value == before + 1 and app.query_params["image"] == str(before)
    said = f"There is no test image {before + 1} in this run; number {before} is shown still."
    assert said in [info.value for info in app.info]
    app.run()  # it stays there, whatever else is done
    assert widget(app, "trajectory.number").value == before + 1
    widget(app, "trajectory.number").set_value(after).run()
    assert app.query_params["image"] == str(after) and not widget(app, "trajectory.number").proto.set_value
    assert said not in [info.value for info in app.info]
    widget(app, "trajectory.number").set_value(before + 1).run()
    app.query_params["image"] = str(before)
    app.run()
    assert widget(app, "trajectory.number").value == before


def test_a_number_that_another_run_has_is_not_said_to_be_missing_there(folder, tmp_path, monkeypatch):
    more = tmp_path / "more"
    shutil.copytree(folder, more)
    run = RunStore(more).open("demo-digits-standard")
    there = sorted(int(i) for i in run.samples(6, split="test")["index"])
    before = next(a for a, b in pairwise(there) if b > a + 1)
    request = json.loads((run.folder / "run.json").read_text())
    whole = more / "whole"
    shutil.copytree(run.folder, whole)
    request |= {"id": "whole"}
    request["config"]["data"]["test_size"] = None
    (whole / "run.json").write_text(json.dumps(request))
    monkeypatch.setenv("DYNAT_STORE", str(more))
    app = show("trajectory", run="demo-digits-standard", epoch="6", image=str(before))
    widget(app, "trajectory.number").set_value(before + 1).run()
    assert any("is shown still" in info.value for info in app.info)
    app.query_params["run"] = "whole"
    app.run()
    assert not any("is shown still" in info.value for info in app.info)
    assert widget(app, "trajectory.number").value == before


def test_leaving_a_screen_and_coming_back_by_the_menu_keeps_the_place(folder):
    app = show("epochs", run="demo-digits-standard", epoch="2")
    app.query_params.clear()
    app.switch_page("app.py").run()
    (entry,) = [link.proto for link in app.get("page_link") if link.proto.label == "Epochs"]
    assert entry.query_string == "run=demo-digits-standard&epoch=2"


# --------------------------------------------------------------------------------------------------- runs in trouble


def test_a_broken_folder_is_said_and_hurts_nothing(folder):
    (folder / "my-notes").mkdir()
    write_run(folder / "from-the-future", format=9)
    store.look_again()
    app = show("overview")
    words = said(app)
    assert errors(app) == []
    assert "my-notes has no run.json" in words and "from-the-future has format 9" in words
    assert "my-notes" not in str(widget(show("epochs"), "epochs.run").options)


def test_damaged_paths_of_one_run_take_no_other_run_s_screen_away(folder):
    damaged = folder / "demo-digits-dynamic"
    (path,) = (damaged / "paths").iterdir()
    path.write_bytes(b"no paths")
    overview = show("overview")
    assert errors(overview) == [] and scene(overview)["n"] == 11
    other = show("trajectory", run="demo-digits-standard")
    assert errors(other) == [] and scene(other)["n"] == 11
    asked = show("trajectory", run="demo-digits-dynamic")
    assert any("paths of epoch" in words and "damaged" in words for words in errors(asked))


def test_only_what_is_still_kept_is_offered_after_pruning(folder, view_only):
    run = RunStore(folder).open("demo-digits-standard")
    before = widget(show("trajectory", run=run.id), "trajectory.epoch").options
    for path in (run.folder / "probes").iterdir():
        path.unlink()
    store.look_again()
    after = widget(show("trajectory", run=run.id), "trajectory.epoch").options
    assert len(before) == 7 and after == [f"{epoch} (last)" for epoch in run.epochs_of("paths")]


def test_a_failed_run_shows_its_sentence_a_way_on_and_its_log(folder):
    run = RunStore(folder).create(preset("quick"), "sad")
    (run.folder / "starts.jsonl").write_text("{}\n")
    (run.folder / "error.json").write_text(json.dumps({"error": "The data are gone.", "traceback": "Traceback <b>"}))
    store.look_again()
    for screen in ("overview", "train"):
        app = show(screen)
        assert "The data are gone." in said(app)
        assert any(button.label == "Resume" for button in app.button)
        assert any("Traceback <b>" in code.value for code in app.code)
    assert "The data are gone." in said(show("epochs", run="sad"))


def test_an_interrupted_run_keeps_its_history_and_offers_to_resume(folder):
    run = RunStore(folder).open("demo-digits-dynamic")
    (run.folder / "result.json").unlink()
    lines = (run.folder / "epochs.jsonl").read_text().splitlines(keepends=True)
    (run.folder / "epochs.jsonl").write_text("".join(lines[:4]) + lines[4][:50])  # and a torn last line
    store.look_again()
    app = show("epochs", run="demo-digits-dynamic")
    assert "The worker stopped after epoch 3" in said(app)
    assert scene(app)["n"] == 4
    assert any(button.label == "Resume" for button in app.button)


def test_a_queued_run_has_empty_axes_and_says_what_it_waits_for(folder):
    RunStore(folder).create(preset("quick"), "waiting")
    store.look_again()
    app = show("epochs", run="waiting")
    assert "no worker is there to take it" in said(app)
    assert [button.label for button in app.button if button.key and "waiting" in button.key][:2] == [
        "Start now",
        "Stop",
    ]
    assert scene(app)["n"] == 0 and scene(app)["empty"]


def test_names_of_people_are_shown_as_text(folder):
    evil = "<img src=x onerror=alert(1)>"
    RunStore(folder).open("demo-digits-dynamic").set_label(title=evil)
    store.look_again()
    for screen in ("overview", "epochs"):
        app = show(screen)
        assert not any("<img" in str(html.body) for html in app.get("html"))


@pytest.mark.parametrize(
    "text, shown",
    [
        ("![x](http://far.away/x.png)", "\\!\\[x\\](http\\:\u2060//far.away/x.png)"),
        ("# a *b* :red[c] <i>", r"\# a \*b\* \:red\[c\] \<i\>"),
        ("a `b``[x](y)", r"a \`b\`\`\[x\](y)"),
        ("`[x](javascript:y)", r"\`\[x\](javascript\:y)"),
        ("- a\n# b", r"\- a \# b"),
        ("1. a | b", r"1\. a \| b"),
        ("run `pip install -r a_b.txt`", "run `pip install -r a_b.txt`"),
    ],
)
def test_what_was_typed_makes_no_link_picture_or_heading(text, shown):
    assert plain(text) == shown


def test_teacher_mode_hides_what_experts_need(folder):
    assert "Reproduce" in str([e.label for e in show("epochs").expander])
    assert show("epochs", teach="1").expander == []
    labels = [s.label for s in show("train", teach="1").get("text_input")]
    assert labels == ["epochs", "c_max", "T_control"]


def test_an_error_inside_a_screen_is_one_sentence(folder, monkeypatch, caplog):
    def fail(*args):
        raise ZeroDivisionError("inside")

    monkeypatch.setattr("dynat_core.reports.health.notes", fail)
    monkeypatch.setattr(store, "notes", fail)
    (sentence,) = errors(show("epochs"))
    assert sentence.startswith("This screen met an error of its own (ZeroDivisionError)")
    assert "ZeroDivisionError: inside" in caplog.text


def test_the_list_of_five_hundred_runs_opens_at_once(folder):
    config = RunStore(folder).open("demo-digits-dynamic").config
    for number in range(500):
        RunStore(folder).create(config, f"run-{number:03d}")
        (folder / f"run-{number:03d}" / "stop").touch()
    store.look_again()
    show("epochs")  # what is imported once is imported now
    store.look_again()
    began = time.thread_time()  # of this machine's time, what this takes; others may have the rest
    found = store.runs()
    assert len(found) == 503 and time.thread_time() - began < 3
    assert remembered("epochs") == {}
