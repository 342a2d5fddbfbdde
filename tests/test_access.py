"""Who may do what: roles, limits, how far a server can be reached, and the one door that changes pass through."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from streamlit import config
from streamlit.runtime.secrets import secrets_singleton
from streamlit.testing.v1 import AppTest

from dynat_core.access import Access, Limits, exposed, is_local, read, read_files
from dynat_core.config import RunConfig
from dynat_core.doctor import _strangers
from dynat_core.errors import AccessError, ConfigError
from dynat_core.presets import preset
from dynat_core.store import bookkeeping, evaluations
from dynat_core.store.evaluation_settings import Ladder
from dynat_core.store.queue import waiting_for
from dynat_core.store.runs import RunStore
from dynat_core.work.analyst import Analyst
from ui import actions, store
from ui.access import VIEWER, _say_in_the_terminal

ROOT = Path(__file__).resolve().parent.parent
AUTH = '[auth]\nclient_id = "x"\n'
LISTS = '[dynat]\neditors = ["Ada@Lab.test"]\nviewers = ["*@lab.test", "guest@*"]\n'


def signed(email: object, **claims: object) -> dict[str, object]:
    return {"is_logged_in": True, "email_verified": True, "email": email, **claims}


# ------------------------------------------------------------------------------------------------------------- roles


@pytest.fixture
def rules(tmp_path) -> Access:
    (tmp_path / "secrets.toml").write_text(AUTH + LISTS)
    return read_files([tmp_path / "missing.toml", tmp_path / "secrets.toml"])


@pytest.mark.parametrize(
    "user, role",
    [
        ({}, "unknown"),
        ({"email": "ada@lab.test", "email_verified": True}, "unknown"),
        ({"is_logged_in": "yes", "email": "ada@lab.test", "email_verified": True}, "unknown"),
        (signed("ada@lab.test"), "editor"),
        (signed("ADA@LAB.TEST"), "editor"),
        (signed("ben@lab.test"), "viewer"),
        (signed("guest@anywhere.test"), "viewer"),
        (signed("eve@elsewhere.test"), "stranger"),
        (signed("ada@lab.test", email_verified=False), "stranger"),
        (signed("ada@lab.test", email_verified=None), "stranger"),
        (signed("ada@lab.test", email_verified="true"), "stranger"),
        (signed("eve@evil.test,x@lab.test"), "stranger"),
        (signed("eve@evil.test x@lab.test"), "stranger"),
        (signed("eve@evil.test\n@lab.test"), "stranger"),
        (signed("eve@evil.test@lab.test"), "stranger"),
        (signed("аda@lab.test"), "stranger"),  # the first letter is a Cyrillic one
        (signed("ada@lab.test.evil.test"), "stranger"),
        (signed(None), "stranger"),
        (signed(["ada@lab.test"]), "stranger"),
        (signed(""), "stranger"),
    ],
)
def test_an_address_is_an_editor_a_viewer_or_a_stranger(rules, user, role):
    assert rules.role(user) == role


def test_only_a_star_means_anything_in_a_pattern():
    odd = read({"auth": {"client_id": "x"}, "dynat": {"viewers": ["a?a@lab.test", "[ab]@lab.test"]}})
    assert [odd.role(signed(email)) for email in ("ada@lab.test", "a@lab.test")] == ["stranger", "stranger"]


def test_without_lists_nobody_gets_in_and_without_sign_in_everybody_edits():
    assert read({"auth": {"client_id": "x"}}).role(signed("ada@lab.test")) == "stranger"
    assert read({}).role({}) == read({"dynat": {"editors": []}}).role({}) == "editor"


def test_unverified_addresses_are_believed_where_that_is_said():
    trusting = read({"auth": {"client_id": "x"}, "dynat": {"editors": ["a@b.c"], "unverified": True}})
    assert trusting.role(signed("a@b.c", email_verified=None)) == "editor"


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("dynat = 3", "[dynat]"),
        ('[dynat]\neditors = "ada@lab.test"', "must be a list of addresses"),
        ("[dynat]\neditors = [3]", "must be a list of addresses"),
        ('[dynat]\neditor = ["a"]', "has no editor; there is editors"),
        ("[dynat]\nunverified = 1", "true or false"),
        ("[dynat.limits]\nwaiting = 0", "whole number of 1 or more"),
        ("[dynat.limits]\nwaiting = true", "whole number of 1 or more"),
        ("[dynat.limits]\nqueue = 3", "has no queue"),
        ("[dynat\n", "cannot be read"),
        (AUTH.replace("auth", "Auth") + LISTS, "[auth] is missing or empty"),
        ("[auth]\n" + LISTS, "[auth] is missing or empty"),
        ("auth = []\n" + LISTS, "[auth] is missing or empty"),
        ('[dynat]\nviewers = ["*@lab.test"]', "[auth] is missing or empty"),
    ],
)
def test_rules_that_cannot_be_read_are_a_sentence_and_let_nobody_in(tmp_path, text, sentence):
    (tmp_path / "secrets.toml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        read_files([tmp_path / "secrets.toml"])


@pytest.mark.parametrize(
    "address, local",
    [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True),
     ("LOCALHOST.", True), ("unix:///run/dynat.sock", True), (None, False), ("", False), ("0.0.0.0", False),
     ("::", False),
     ("192.168.1.5", False), ("gpu.lab.test", False), ("localhost.evil.test", False), ("127.0.0.1.evil.test", False)],
)  # fmt: skip
def test_which_addresses_are_of_this_machine_alone(address, local, monkeypatch):
    assert is_local(address) is local
    assert exposed(address, Access()) is not local
    assert not exposed(address, Access(sign_in=True))
    monkeypatch.setenv("DYNAT_GUARDED", "1")
    assert not exposed(address, Access())


def test_the_doctor_says_what_keeps_strangers_from_a_server_that_listens_everywhere(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STREAMLIT_SERVER_ADDRESS", "0.0.0.0")  # noqa: S104 (what is warned of)
    monkeypatch.delenv("DYNAT_GUARDED", raising=False)
    assert [found.level for found in _strangers()] == ["bad"]
    monkeypatch.setenv("DYNAT_GUARDED", "1")
    (guarded,) = _strangers()
    assert guarded.level == "good" and "DYNAT_GUARDED says that something else keeps strangers out" in guarded.what
    monkeypatch.setenv("STREAMLIT_SERVER_ADDRESS", "localhost")
    assert "DYNAT_GUARDED" not in _strangers()[0].what


# ------------------------------------------------------------------------------------------------------- the one door

MUTATING = {
    "create", "request_stop", "resume", "allow", "set_label", "write", "write_json", "write_text", "write_bytes",
    "touch", "mkdir", "unlink", "rename", "rmdir", "rmtree", "symlink_to", "Popen", "ensure_worker", "stop_workers",
    "trust", "prune", "replace_file", "append_line", "check_call", "system", "copytree", "makedirs", "remove",
}  # fmt: skip
KEEPERS = {"rename", "tag", "note", "edit", "take_back", "archive", "delete", "restore", "empty"}  # of bookkeeping
LINKS = re.compile(r"link|named|clone|schedule", re.IGNORECASE)  # write into the query string, not to the disk
ALLOWED = {("ui/scrubber/__init__.py", name) for name in ("mkdir", "unlink")}  # lays plotly's script beside the pages


def of_screens() -> list[Path]:
    every = [ROOT / "app.py", *ROOT.glob("pages/*.py"), *ROOT.glob("ui/**/*.py")]
    return [path for path in every if path.name != "actions.py"]


@pytest.mark.parametrize("path", of_screens(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_screens_change_nothing_but_through_the_door(path):
    name, guilty = path.relative_to(ROOT).as_posix(), []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            keepers = KEEPERS if node.module == "dynat_core.store.bookkeeping" else set()
            guilty += [alias.name for alias in node.names if alias.name in MUTATING | keepers]
        if isinstance(node, ast.Attribute):
            base = ast.unparse(node.value)
            harmless = base == "actions" or (node.attr == "write" and LINKS.search(base))
            if not harmless and node.attr in MUTATING | (KEEPERS if base == "bookkeeping" else set()):
                guilty.append(node.attr)
    assert not [found for found in guilty if (name, found) not in ALLOWED]


def test_every_action_asks_who_it_is(monkeypatch):
    """Whatever `actions` offers refuses before it looks at what it was given."""

    def refuse() -> None:
        raise PermissionError("asked")

    monkeypatch.setattr(actions, "refuse_viewers", refuse)
    here: dict[str, Any] = {name: found for name, found in vars(actions).items() if callable(found) and name[0] != "_"}
    guarded = {name: found for name, found in here.items() if hasattr(found, "__wrapped__")}
    own = {name for name, found in here.items() if getattr(found, "__module__", "") == actions.__name__}
    assert own - guarded.keys() == {"editors_only"}
    assert {"launch", "stop", "delete", "add_model", "push", "edit", "empty_trash"} <= guarded.keys()
    for action in guarded.values():
        if action.__wrapped__.__module__ != "ui.store":  # `look_again` and the like are kept by Streamlit
            with pytest.raises(PermissionError, match="asked"):
                action(*[None] * action.__wrapped__.__code__.co_argcount)


# ------------------------------------------------------------------------------------------------------------ screens


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A store with one run of one's own and a shipped one; no helper starts, and no worker."""
    made = tmp_path / "store"
    shutil.copytree(ROOT / "checkpoints" / "demo-digits-standard", made / "demo-digits-standard")
    (RunStore(made).create(preset("quick"), "mine").folder / "stop").touch()
    monkeypatch.setenv("DYNAT_STORE", str(made))
    monkeypatch.setattr(Analyst, "warm", lambda analyst, after=0.0: None)
    monkeypatch.setattr(actions, "ensure_worker", lambda store: None)
    store.look_again()
    return made


@pytest.fixture
def secrets(tmp_path):
    """secrets(text): what stands in secrets.toml from now on, as if the server had just started."""
    file, before = tmp_path / "secrets.toml", config.get_option("secrets.files")
    config.set_option("secrets.files", [str(file)])

    def write(text: str) -> None:
        file.write_text(text)
        secrets_singleton._reset()

    yield write
    config.set_option("secrets.files", before)
    secrets_singleton._reset()


def show(page: str, user: dict[str, object] | None = None) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    if user is not None:
        app.user = user
    app.run()
    if page != "app.py":
        app.switch_page(page).run()
    assert not app.exception
    return app


def button(app: AppTest, label: str):
    return next(found for found in app.button if found.label == label)


def words(app: AppTest) -> str:
    boxes = [*app.get("html"), *app.markdown, *app.caption, *app.info, *app.error]
    return "\n".join(str(getattr(box, "body", "") or getattr(box, "value", "")) for box in boxes).replace("\\", "")


def test_nobody_signed_in_sees_the_way_in_and_nothing_else(folder, secrets):
    secrets(AUTH + LISTS)
    for page in ("app.py", "pages/runs.py"):
        app = show(page, {})
        assert [found.label for found in app.button] == ["Sign in"]
        assert "Sign in to look at the runs" in words(app) and "Digits" not in words(app)


def test_several_providers_each_have_a_button(folder, secrets):
    secrets('[auth]\n[auth.lab]\nclient_id = "x"\n[auth.university]\nclient_id = "y"\n' + LISTS)
    assert [found.label for found in show("app.py", {}).button] == ["Sign in with lab", "Sign in with university"]


def test_rules_that_cannot_be_read_show_one_sentence_and_nothing_else(folder, secrets):
    secrets("[auth\n")
    app = show("app.py")
    assert not app.button and len(app.error) == 1 and "cannot be read" in words(app)


def test_a_viewer_s_press_of_a_dead_button_is_refused(folder, secrets):
    secrets(AUTH + LISTS)
    app = show("pages/train.py", signed("ben@lab.test"))
    start = button(app, "Start the run")
    assert start.disabled and start.help == VIEWER
    start._value = True  # what `click` will not do, and a browser can
    app.run()
    assert VIEWER in words(app) and not app.exception
    assert len(RunStore(folder).list()) == 2
    resume = button(app, "Resume")
    assert resume.disabled
    resume._value = True
    app.run()
    assert VIEWER in words(app)
    assert RunStore(folder).open("mine").state == "stopped"


def test_an_editor_s_run_bears_the_name_of_who_asked_and_counts_for_them_alone(folder, secrets):
    secrets(AUTH + LISTS + "[dynat.limits]\nwaiting = 1\n")
    app = show("pages/train.py", signed("ada@lab.test"))
    button(app, "Start the run").click().run()
    (made,) = [run for run in RunStore(folder).list() if run.by]
    assert made.by == "ada@lab.test" and waiting_for(RunStore(folder), "ada@lab.test") == 1
    button(app, "Start the run").click().run()
    assert "You have 1 runs and measurements in the queue, and 1 is the most" in words(app)
    assert waiting_for(RunStore(folder)) == 1 and waiting_for(RunStore(folder), "ben@lab.test") == 0


def test_who_is_signed_in_is_told_the_place_that_their_own_run_would_have(folder, secrets):
    """Runs take their turns by who asked for them, so a second run of one person comes after everybody's first."""
    secrets(AUTH + LISTS)
    for name, by in (("one", "ada"), ("two", "ben"), ("three", "ada"), ("four", "ada")):
        RunStore(folder).create(preset("quick"), name, by=f"{by}@lab.test")
    store.look_again()
    for person, before in (("ada@lab.test", 4), ("ben@lab.test", 3), ("guest@anywhere.test", 2)):
        assert f"4 jobs wait; {before} before a new run" in words(show("pages/train.py", signed(person)))


def test_a_model_bears_the_name_of_who_added_it_and_screens_say_it(folder, secrets, monkeypatch):
    secrets(AUTH + LISTS)
    asked: list[str] = []
    monkeypatch.setattr(actions, "_read_apart", lambda name, content, options: (asked.extend(options), ("x", []))[1])
    monkeypatch.setattr(actions, "person", lambda: "ada@lab.test")
    monkeypatch.setattr(actions, "refuse_viewers", lambda: None)
    actions.add_model("net.pt", b"x", {"--name": "a"})
    assert asked == ["--name=a", "--by=ada@lab.test"]
    config = RunConfig.build(
        {"epochs": 0, "model": {"name": "imported", "program": "torchscript"}, "strategy": {"name": "elsewhere"}}
    )
    RunStore(folder).create(
        config, "added", kind="imported", files={"weights/0000.safetensors": b""}, by="<i>@lab.test"
    )
    store.look_again()
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.user = signed("ada@lab.test")
    app.run()
    app.query_params["run"] = "added"
    app.switch_page("pages/check.py").run()
    assert not app.exception and "Added by &lt;i&gt;@lab.test." in words(app)


def test_measurements_count_as_waiting(folder):
    run = RunStore(folder).open("demo-digits-standard")
    evaluations.create(run.folder, Ladder(n=8), by="ada@lab.test")
    assert waiting_for(RunStore(folder), "ada@lab.test") == waiting_for(RunStore(folder)) == 1


def test_without_sign_in_all_share_one_limit_and_nothing_is_signed(folder, secrets):
    secrets("[dynat.limits]\nwaiting = 1\n")
    app = show("pages/train.py")
    button(app, "Start the run").click().run()
    button(app, "Start the run").click().run()
    assert "There are 1 runs and measurements in the queue" in words(app)
    (made,) = [run for run in RunStore(folder).list() if run.state == "queued"]
    assert made.by == "" and '"by"' not in (made.folder / "run.json").read_text()


@pytest.mark.parametrize("end", ["stop", "error.json"])
def test_what_was_stopped_or_failed_goes_back_into_the_queue_within_the_same_limit(folder, secrets, end):
    secrets("[dynat.limits]\nwaiting = 1\n")
    mine = RunStore(folder).open("mine")
    (mine.folder / "stop").rename(mine.folder / end)
    ladder = evaluations.create(folder / "demo-digits-standard", Ladder(n=8))
    (ladder.folder / end).touch()
    ended = mine.state
    waits = RunStore(folder).create(preset("quick"), "waits")
    store.look_again()
    app = show("pages/train.py")
    next(found for found in app.button if found.key and found.key.endswith("resume-mine")).click().run()
    assert "There are 1 runs and measurements in the queue" in words(app)
    app.query_params["run"] = "demo-digits-standard"
    app.switch_page("pages/check.py").run()
    button(app, "Go on").click().run()
    assert "There are 1 runs and measurements in the queue" in words(app)
    assert mine.state == ladder.state == ended != "queued"
    waits.request_stop()
    app.run()
    button(app, "Go on").click().run()
    assert ladder.state == "queued"


@pytest.mark.parametrize("what", ["a run", "a measurement"])
def test_what_waits_comes_back_out_of_the_trash_within_the_same_limit_and_with_a_worker(
    folder, secrets, monkeypatch, what
):
    secrets("[dynat.limits]\nwaiting = 1\n")
    asked: list[Path] = []
    monkeypatch.setattr(actions, "ensure_worker", asked.append)
    monkeypatch.setattr(actions, "refuse_viewers", lambda: None)
    here = RunStore(folder)
    gone = here.create(preset("quick"), "gone")
    if what == "a measurement":
        (gone.folder / "stop").touch()
        evaluations.create(gone.folder, Ladder(n=8))
    bookkeeping.delete(gone)
    waits = here.create(preset("quick"), "waits")
    with pytest.raises(AccessError, match="There are 1 runs and measurements in the queue, and 1 is the most"):
        actions.restore("gone")
    assert [entry.id for entry in bookkeeping.deleted(here)] == ["gone"] and not asked
    waits.request_stop()
    assert actions.restore("gone").folder == folder / "gone"
    assert asked == [folder] and waiting_for(here) == 1
    bookkeeping.delete(here.open("mine"))
    actions.restore("mine")
    assert asked == [folder], "what was stopped needs no room in the queue, and no worker"


def test_what_waits_already_can_be_given_a_worker_at_the_limit(folder, secrets, monkeypatch):
    secrets("[dynat.limits]\nwaiting = 1\n")
    RunStore(folder).create(preset("quick"), "waits")
    asked: list[Path] = []
    monkeypatch.setattr(actions, "ensure_worker", asked.append)
    store.look_again()
    app = show("pages/train.py")
    button(app, "Start now").click().run()
    assert asked and "in the queue, and 1 is the most" not in words(app)


def test_what_was_typed_last_is_what_the_button_starts(folder, secrets):
    """The click that leaves a field arrives together with what was typed into it."""
    secrets("")
    app = show("pages/train.py")
    for name, text in (("name", "Typed last"), ("epochs", "7")):
        next(field for field in app.text_input if field.label == name).set_value(text)
    button(app, "Start the run").click().run()
    (made,) = [run for run in RunStore(folder).list() if run.state == "queued"]
    assert (made.config.name, made.config.epochs) == ("Typed last", 7)
    next(field for field in app.text_input if field.label == "epochs").set_value("-1")
    button(app, "Start the run").click().run()
    assert "1 setting to correct" in words(app) and not app.exception
    assert len([run for run in RunStore(folder).list() if run.state == "queued"]) == 1


def test_an_upload_that_is_too_large_is_a_sentence(folder, secrets):
    secrets("[dynat.limits]\nupload_mb = 1\n")

    def page() -> None:
        from ui.add_model import brought

        brought("net.pt", bytes(1_000_001), {})

    app = AppTest.from_function(page, default_timeout=60).run()
    assert "The file has more than 1 MB" in words(app)


@pytest.mark.parametrize("said", [{"--name": "a\x00b"}, {"--eps": "1\n2"}, {"--name": "a\x1b[2J"}])
def test_control_characters_in_a_form_are_a_sentence(folder, said):
    def page(said) -> None:
        from ui.add_model import brought

        brought("net.pt", b"x", said)

    app = AppTest.from_function(page, args=(said,), default_timeout=60).run()
    assert "has control characters in it" in words(app) and not app.exception


def test_whoever_is_taken_off_the_list_is_off_it_at_once(folder, secrets):
    secrets(AUTH + LISTS)
    app = show("pages/train.py", signed("ada@lab.test"))
    assert not button(app, "Start the run").disabled
    secrets(AUTH + "[dynat]\neditors = []\n")
    button(app, "Start the run").click().run()
    assert len(RunStore(folder).list()) == 2
    assert "may not look at anything here" in words(app)


@pytest.mark.parametrize("address, warned", [("0.0.0.0", True), ("localhost", False)])
def test_every_screen_of_a_server_that_strangers_can_reach_says_so(folder, secrets, address, warned, capsys):
    secrets("")
    _say_in_the_terminal.clear()
    before = config.get_option("server.address")
    config.set_option("server.address", address)
    try:
        for page in ("app.py", "pages/runs.py"):
            assert ("can start, stop and delete runs here: nobody has to sign in" in words(show(page))) is warned
        assert capsys.readouterr().out.count("WARNING: Anybody who can reach") == int(warned)
    finally:
        config.set_option("server.address", before)


def test_the_limits_have_sensible_defaults():
    assert read({}).limits == Limits(waiting=100, upload_mb=200, analysis_s=300)


def test_deleting_and_labels_go_through_the_door_for_editors(folder):
    run = RunStore(folder).open("mine")
    bookkeeping.rename(run, "x")
    assert RunStore(folder).open("mine").title == "x"
