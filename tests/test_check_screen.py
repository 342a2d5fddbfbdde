"""The check screen without a browser: states of a check, what may be accepted, runs that cannot be attacked here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest

from dynat_core.config import Digits, Elsewhere, Imported, RunConfig
from dynat_core.reports.compared import verdict
from dynat_core.store import evaluations
from dynat_core.store.evaluation_settings import Again, Check, Curves, Ladder, Transfer
from dynat_core.store.runs import Run, RunStore
from dynat_core.work.analyst import Analyst
from dynat_core.work.own_check import diagnose
from dynat_core.work.own_training import log_run
from dynat_core.work.questions import Answer
from dynat_core.work.worker import run_job
from tests.zoo import digits, perceptron
from ui import actions, store
from ui.cards import run_card

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "checkpoints"
ONE, OTHER = "demo-digits-standard", "demo-digits-unsecured"


@pytest.fixture(autouse=True)
def cold(monkeypatch):
    """No helper process is started; what it is asked is noted."""
    asked: list[str] = []
    monkeypatch.setattr(Analyst, "warm", lambda analyst, after=0.0: None)
    real = Analyst.ask

    def ask(self, kind, request, **how):
        if kind == "measurement":
            asked.append(request["evaluation"])
            return Answer("working")
        return real(self, kind, request, **how)

    monkeypatch.setattr(Analyst, "ask", ask)
    return asked


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    for name in (ONE, OTHER):
        shutil.copytree(SHIPPED / name, tmp_path / name)
        shutil.rmtree(tmp_path / name / "evaluations", ignore_errors=True)
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path))
    store.look_again()
    return tmp_path


def opened(page: str = "pages/check.py", **query: str) -> AppTest:
    test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    test.query_params.clear()
    for key, value in query.items():
        test.query_params[key] = value
    (test.switch_page(page) if page != "app.py" else test).run()
    assert not test.exception
    return test


def text(test: AppTest) -> str:
    """Everything that is written on the screen."""
    boxes = [*test.get("html"), *test.markdown, *test.caption, *test.info, *test.error]
    return unescape("\n".join(str(getattr(box, "body", "") or getattr(box, "value", "")) for box in boxes))


def measured(folder: Path, settings, run: str = ONE) -> evaluations.Evaluation:
    evaluation = evaluations.create(folder / run, settings)
    run_job(evaluation.folder, "cpu")
    return evaluation


def test_a_run_that_was_never_checked_says_what_a_check_would_tell(folder):
    test = opened(run=ONE)
    assert "Not yet checked" in text(test) and "PGD-20" in text(test)
    assert [b.label for b in test.button if b.label == "Check now"]


def test_what_was_found_in_a_model_that_was_brought_in_stays_while_it_is_shown(folder):
    test = opened(run=ONE)
    test.session_state["added-model"] = ONE, ["The file was made for digits."]
    for _ in range(2):  # the script runs again by itself, once the network is measured
        test.run()
        assert "The file was made for digits." in text(test)
    assert "made for digits" not in text(opened(run=OTHER))


def test_a_finished_check_shows_its_lights_and_its_counts(folder):
    check = measured(folder, Check(n=40, steps=5, restarts=2))
    found = (check.result() or {})["verdict"]
    said = text(opened(run=ONE))
    for light in found["lights"]:
        assert light["question"] in said and light["state"] in said
    stuck = found["lights"][0]["images"]
    assert any(b.label == f"Open these {len(stuck)} images" for b in opened(run=ONE).button)


def test_what_is_known_and_accepted_is_asked_for_and_said(folder, cold):
    check = measured(folder, Check(epoch=0, n=40, steps=4, restarts=1))
    assert any(f["name"] == "better than chance" and not f["ok"] for f in (check.result() or {})["findings"])
    test = opened(run=ONE)
    assert "about chance" in text(test)
    next(b for b in test.button if b.label == "I know; check again").click().run()
    (again,) = [e for e in evaluations.evaluations(folder / ONE) if e.name != check.name]
    assert again.settings.overridden == ("better than chance",) and again.name in cold
    run_job(again.folder, "cpu")
    assert "Overridden: better than chance" in text(opened(run=ONE))


def test_pressing_check_now_asks_the_helper_and_shows_that_it_works(folder, cold):
    test = opened(run=ONE)
    next(b for b in test.button if b.label == "Check now").click().run()
    (check,) = evaluations.evaluations(folder / ONE)
    assert cold[0] == check.name and check.settings.n == 256 and check.settings.epoch == "best"
    assert any(b.label == "Stop" for b in test.button)


def test_what_is_checked_is_the_epoch_that_the_card_of_a_run_shows(folder, cold):
    shutil.copytree(SHIPPED / "demo-digits-unsecured", folder / "unsecured")
    run = Run(folder / "unsecured")
    assert "not yet checked" not in run_card(run)  # the shipped check is of that epoch
    shutil.rmtree(run.folder / "evaluations")
    test = opened(run="unsecured")
    assert any("last epoch" in caption.value for caption in test.caption)
    assert f"Recorded: {run.result()['last']['robust_correct'] / 5:.1f} %" in text(test)  # of 500 images
    next(b for b in test.button if b.label == "Check now").click().run()
    (check,) = evaluations.evaluations(run.folder)
    run_job(check.folder, "cpu")
    assert check.state == "finished" and verdict(run, run.config.epochs) in run_card(run)


def test_a_check_that_failed_or_was_left_says_why_and_can_go_on(folder):
    check = measured(folder, Check(n=20, images=(9999,)))
    test = opened(run=ONE)
    assert "has no test image 9999" in text(test) and any(b.label == "Go on" for b in test.button)
    assert check.state == "failed"


@pytest.fixture
def looks(monkeypatch) -> Callable[[Callable[[], None]], list[float | None]]:
    """looks(meanwhile): what looks again by itself does so once, after `meanwhile`; notes how often each part does."""

    def install(meanwhile: Callable[[], None]) -> list[float | None]:
        noted: list[float | None] = []

        def live(every: float | None):
            def wrap(body):
                def run() -> None:
                    noted.append(every)
                    body()
                    if every is not None:
                        meanwhile()
                        with st.container(key=f"look-{len(noted)}"):
                            body()

                return run

            return wrap

        for module in ("ui.live", "ui.measured", "ui.frame"):  # the last is where the others have it from
            monkeypatch.setattr(f"{module}.live", live)
        return noted

    return install


def test_the_form_of_a_measurement_comes_back_when_it_ends_and_nothing_looks_again(folder, looks, monkeypatch):
    ladder = evaluations.create(folder / ONE, Ladder(n=8, autoattack=False))
    monkeypatch.setattr("ui.checks.worker_alive", lambda store: True)
    noted = looks(lambda: (ladder.folder / "result.json").write_bytes(b"{}"))
    test = opened(run=ONE)
    assert noted[noted.index(1.0) :] == [1.0, *[None] * 3]  # the whole page was drawn again: ladder, curves, transfer
    assert any(b.label == "Climb the ladder" for b in test.button)


def test_a_next_action_that_has_ended_is_not_looked_at_any_more(folder, looks, monkeypatch):
    check = measured(folder, Check(n=20, steps=3, restarts=1))
    again = evaluations.create(folder / ONE, Again(images=(0,), after=check.name, action="more steps"))
    monkeypatch.setattr("ui.checks.worker_alive", lambda store: True)
    noted = looks(lambda: (again.folder / "result.json").write_bytes(b"{}"))
    opened(run=ONE)
    assert noted[noted.index(0.5) :] == [0.5, *[None] * 5]  # the whole page again: check, next action, and the three


@pytest.mark.parametrize("kind", ["check", "again"])
def test_what_the_helper_refused_says_why_and_can_go_on(folder, cold, monkeypatch, kind):
    check = evaluations.create(folder / ONE, Check(n=20, steps=3, restarts=1))
    hurt = check
    if kind == "again":
        run_job(check.folder, "cpu")
        hurt = evaluations.create(folder / ONE, Again(images=(0,), after=check.name, action="more steps"))
    died = "The analysis process ended unexpectedly (SIGKILL); ask again."
    forgotten: list[str] = []
    dead, alive = Answer("failed", error=died), Answer("working")
    monkeypatch.setattr(Analyst, "ask", lambda *_, **__: alive if forgotten else dead)
    monkeypatch.setattr(Analyst, "forget", lambda analyst, view: forgotten.append(view))
    test = opened(run=ONE)
    test.session_state["checks.asked"] = {hurt.id}
    test.run()
    assert died.replace(";", "") in text(test).replace("\\", "").replace(";", "")
    next(b for b in test.button if b.label == "Go on").click().run()
    assert forgotten == [hurt.id] and "SIGKILL" not in text(test)
    assert [b.label for b in test.button if b.key and b.key.endswith(hurt.name)] == ["Stop"]


@pytest.mark.parametrize("settings", [Check(n=20), Ladder(n=8)])
def test_what_waits_and_nobody_will_do_can_go_on_or_be_stopped(folder, cold, monkeypatch, settings):
    started: list[Path] = []
    monkeypatch.setattr(actions, "ensure_worker", started.append)
    waits = evaluations.create(folder / ONE, settings)
    test = opened(run=ONE)
    assert {b.label for b in test.button if b.key and b.key.endswith(waits.name)} == {"Stop", "Go on"}
    assert "waiting for a worker" not in text(test) and not cold and not started
    next(b for b in test.button if b.label == "Go on").click().run()
    assert (waits.name in cold) if settings.kind == "check" else started
    monkeypatch.setattr("ui.checks.worker_alive", lambda store: True)
    test.run()
    assert {b.label for b in test.button if b.key and b.key.endswith(waits.name)} == {"Stop"}


def test_every_kind_of_measurement_is_shown(folder):
    measured(folder, Ladder(n=30, autoattack=False))
    measured(folder, Curves(n=20))
    measured(folder, Transfer(n=30, others=(OTHER,), steps=3))
    said = text(opened(run=ONE))
    assert "Worst case over all attacks" in said and "as it must" in said and "white-box" in said


@pytest.fixture
def brought(folder) -> Run:
    """A model from a file that waits to be measured once, with a check that has finished."""
    few = Digits(test_size=40)
    config = RunConfig(epochs=0, data=few, model=Imported(architecture="digits-cnn"), strategy=Elsewhere(), name="B")
    run = RunStore(folder).create(config, "brought", kind="imported", files={"weights/0000.safetensors": b"not read"})
    shipped = next((SHIPPED / ONE / "evaluations").glob("check-*"))
    shutil.copytree(shipped, run.folder / "evaluations" / shipped.name)
    store.look_again()
    return run


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_model_that_is_being_measured_shows_its_check_below_that(brought, state):
    with brought._job.claim() if state == "running" else nullcontext():
        said = text(opened(run="brought"))
    assert "Measuring the network once" in said and "surviving images" in said
    assert ("no worker is there to take it" in said) is (state == "queued")


@pytest.mark.parametrize("state", ["failed", "stopped", "interrupted"])
def test_a_model_that_could_not_be_measured_says_why_and_shows_its_check(brought, state):
    name, content = {
        "failed": ("error.json", '{"error": "The data are gone."}'), "stopped": ("stop", ""),
        "interrupted": ("starts.jsonl", "{}\n"),
    }[state]  # fmt: skip
    (brought.folder / name).write_text(content)
    assert brought.state == state
    test = opened(run="brought")
    why = {"failed": "The data are gone.", "stopped": "Measuring it was stopped", "interrupted": "The worker stopped"}[
        state
    ]
    assert why in text(test) and "Measuring the network once" not in text(test)
    assert "surviving images" in text(test) and any(b.label == "Resume" for b in test.button)


def test_measuring_that_ends_draws_the_page_again_and_is_not_looked_at_any_more(brought, looks):
    noted = looks(lambda: (brought.folder / "stop").touch() if noted[-1] == 0.5 else None)  # not on the overview yet
    test = opened(run="brought")
    assert noted[noted.index(0.5) :] == [0.5, *[None] * 4] and any(b.label == "Resume" for b in test.button)


@pytest.mark.parametrize("query", [
    {"run": "nobody"}, {"run": "../../etc/passwd"}, {"run": "<script>alert(1)</script>"}, {"check": "check-none"},
])  # fmt: skip
def test_a_query_for_what_is_not_there_is_a_sentence(folder, query):
    said = text(opened(**query))
    assert "run" not in query or "There is nothing to check" in said


def test_a_saved_report_is_shown_and_not_attacked_again(folder):
    x, y = digits(30)
    report = diagnose(perceptron(1, True), x, y, eps=0.1, steps=5, restarts=2)
    report.save(folder / "my-check", name="<b>Mine</b>")
    store.look_again()
    test = opened(run="my-check")
    said = text(test)
    assert report.verdict.sentence[:40] in said
    assert not any(b.label == "Check now" for b in test.button)
    path = opened("pages/trajectory.py", run="my-check")
    assert not path.error
    assert RunStore(folder).open("my-check").paths() is not None


def test_ones_own_training_opens_on_every_screen(folder):
    with log_run(folder / "mine", eps=0.1, steps=3, name="Mine") as run:
        for epoch in range(2):
            run.epoch(epoch, perceptron(1, True), *digits(20))
    store.look_again()
    for page in ("app.py", "pages/epochs.py", "pages/trajectory.py", "pages/check.py"):
        test = opened(page, run="mine")
        assert not [e.value for e in test.error if "nothing to check" not in e.value]
    assert "mine" not in [run.id for run in RunStore(folder).list() if run.state == "interrupted"]


DAMAGED = {
    "no JSON": lambda kind: b"{",
    "no parts": lambda kind: b"{}",
    "parts of another kind": lambda kind: json.dumps(
        {"verdict": {"n": 3}, "rungs": 7, "worst": [], "n": "x", "names": None, "steps": {"k": [1]}}
    ).encode(),
}


@pytest.fixture
def shipped(folder) -> Path:
    """The store with a run that has a check, a ladder, curves and a transfer, as it is shipped."""
    shutil.copytree(SHIPPED / ONE / "evaluations", folder / ONE / "evaluations")
    return folder


@pytest.mark.parametrize("kind", ["check", "ladder", "curves", "transfer"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_result_is_a_sentence_in_its_place_and_the_others_are_shown(shipped, kind, damage):
    (hurt,) = [found for found in evaluations.evaluations(shipped / ONE) if found.kind == kind]
    (hurt.folder / "result.json").write_bytes(DAMAGED[damage](kind))
    test = opened(run=ONE)
    said = text(test).replace("\\", "")
    assert [e.value.replace("\\", "") for e in test.error] == [hurt.damage]
    signs = {"check": "surviving images", "ladder": "Worst case over all attacks", "curves": "as it must",
             "transfer": "white-box"}  # fmt: skip
    assert {name: sign in said for name, sign in signs.items()} == {name: name != kind for name in signs}


EVIL = "<b id=evil>3</b>"


def replaced(found: Any, names: set[str]) -> Any:
    """A result whose entries of these names are EVIL, however deep they are."""
    if isinstance(found, dict):
        return {name: EVIL if name in names else replaced(value, names) for name, value in found.items()}
    return [replaced(value, names) for value in found] if isinstance(found, list) else found


@pytest.mark.parametrize("name", ["n", "chosen", "attacked", "converged_before", "converged_after", "loss", "action"])
def test_what_stands_in_a_result_makes_no_markup(shipped, name):
    check = next(found for found in evaluations.evaluations(shipped / ONE) if found.kind == "check")
    again = evaluations.create(shipped / ONE, Again(images=(0,), after=check.name, action="more steps"))
    result = {"action": "more steps", "n": 3, "attacked": 1, "robust_before": 2, "robust_after": 2, "seconds": 1.0,
              "newly_broken": [], "converged_before": 1, "converged_after": 1}  # fmt: skip
    (again.folder / "result.json").write_text(json.dumps(result))
    for found in evaluations.evaluations(shipped / ONE):
        (found.folder / "result.json").write_text(json.dumps(replaced(found.result(), {name})))
    test = opened(run=ONE)
    bodies = [str(box.body) for box in test.get("html")]
    assert not [body for body in bodies if "<b id" in body]
    assert [body for body in bodies if "&lt;b id" in body.lower()]  # it was shown, as text


def test_a_request_that_cannot_be_read_is_a_sentence_where_its_measurement_would_be(shipped):
    (hurt,) = [found for found in evaluations.evaluations(shipped / ONE) if found.kind == "ladder"]
    (hurt.folder / "request.json").write_text("[]")
    test = opened(run=ONE)
    assert [e.value.replace("\\", "") for e in test.error] == [hurt.damage]
    assert "surviving images" in text(test) and "as it must" in text(test)


@pytest.mark.parametrize("page", ["app.py", "pages/epochs.py", "pages/compare.py", "pages/inner_optimizer.py"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_result_leaves_every_other_screen_standing(shipped, page, damage):
    for hurt in evaluations.evaluations(shipped / ONE):
        (hurt.folder / "result.json").write_bytes(DAMAGED[damage](hurt.kind))
    test = opened(page, **({"run": f"{ONE},{OTHER}"} if page != "app.py" else {}))
    assert not test.error
    assert "is damaged" in text(test)
    assert RunStore(shipped).open(ONE).state == "finished"
