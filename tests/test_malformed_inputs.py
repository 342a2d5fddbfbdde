"""A thousand malformed inputs: names, links, form values, files of runs, uploads.

Each ends in one sentence or in nothing at all; no traceback is shown; no file outside the store is touched or shown.
What reads an input takes most of them; screens take a few dozen, some of them over a real connection to a real server.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest
from websockets.exceptions import InvalidStatus

from dynat_core.config import RunConfig
from dynat_core.errors import DynatError
from dynat_core.images import own_data
from dynat_core.presets import preset
from dynat_core.reports.health import notes
from dynat_core.store import bookkeeping, evaluations
from dynat_core.store.runs import RunStore
from dynat_core.terminal import clean
from dynat_core.work.analyst import Analyst
from tests.forged import Forged
from ui import actions, store
from ui.form import as_text, judge
from ui.images import read_images, read_lens, read_pick
from ui.paths import read_attack
from ui.run_list import rows, table
from ui.words import outcome, plain, progress

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "checkpoints" / "demo-digits-standard"
SECRET = "the words of a file that is nobody's business"
TAKEN: Counter[str] = Counter()  # what kind of input -> how many were tried
PAGES = (
    "", "epochs", "trajectory", "check", "train", "runs", "compare", "paper", "inner_optimizer", "smoothness",
    "sde", "theorem", "learn",
)  # fmt: skip
NAMES = (
    "run", "epoch", "image", "step", "attack", "pick", "only", "images", "threshold", "check", "preset", "clone",
    "schedule", "split", "form", "view", "find", "state", "tag", "by", "archived", "teach", "show", "data", "of",
)  # fmt: skip
NASTY = (
    "", " ", ".", "..", "../", "../../outside/secret.txt", "/etc/passwd", "..\\..\\outside", "demo/../../outside",
    "%2e%2e%2foutside", "..%c0%afoutside", "．．／outside", "․․/outside", "outside\x00.png", "\x00", "a\nb",
    "a\r\nb: c", "\x1b[2J\x1b]0;owned\x07", "\x7f", "\u202egnp.exe", "\u200b", "\ufeff", "\U000e0001", "é" * 90,
    "a" * 5000, "~root", "$(touch ran)", "`touch ran`", "; touch ran", "| touch ran", "-rf", "--help",
    "--set=epochs=1", "con", "nul", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))", "![x](http://far.away/x)", ":red[a]", "$\\frac{1}{0}$", "# a", "- a", "{{7*7}}",
    "{0.__class__}", "%s%n", "%{x}", "' or 1=1 --", "=1+1", "@ink", "nan", "inf", "-inf", "1e999", "1e999999999",
    "10,1e999999999,ce,random", "-1", "-0",
    "0x10", "1_000", "９", "²", "½", "1,2,3,4", "10,eps/4,ce,random", "10,eps/0,ce,random", "9" * 400, "9" * 5000,
    "[" * 3000, "true", "null", "None", "__proto__", "demo-digits-standard,", "demo-digits-standard/", ".trash",
    ".worker", ".cache/analyses", "demo-digits-standard\n",
)  # fmt: skip
texts = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=40),
    st.lists(st.sampled_from(NASTY[:20]), min_size=2, max_size=4).map("/".join),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


def many(n: int):
    """`n` examples, from one seed with CI=true."""
    return settings(max_examples=n, suppress_health_check=list(HealthCheck), deadline=None)


# ---------------------------------------------------------------------------------------------------------- the house


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A folder with a store, a data folder, and something outside of both that must stay as it is and unseen."""
    made = tmp_path_factory.mktemp("house")
    shutil.copytree(DEMO, made / "store" / DEMO.name)
    RunStore(made / "store").create(preset("quick"), "waiting")
    (made / "store" / "waiting" / "stop").touch()
    (made / "data" / "own").mkdir(parents=True)
    (made / "outside" / "run").mkdir(parents=True)
    (made / "outside" / "secret.txt").write_text(SECRET)
    (made / "outside" / "secret.json").write_text(json.dumps({"title": SECRET, "error": SECRET, "sentence": SECRET}))
    (made / "outside" / "run" / "run.json").write_bytes((DEMO / "run.json").read_bytes())
    return made


@pytest.fixture(autouse=True)
def inside(house, monkeypatch):
    """Every test looks at the store of the house; nothing outside of it may have changed afterwards."""
    monkeypatch.setenv("DYNAT_STORE", str(house / "store"))
    monkeypatch.setenv("DYNAT_DATA", str(house / "data"))
    monkeypatch.setattr(Analyst, "warm", lambda analyst, after=0.0: None)
    monkeypatch.setattr(actions, "ensure_worker", lambda store: None)
    store.look_again()
    before = around(house)
    yield
    assert around(house) == before


def around(house: Path) -> dict[str, object]:
    """Everything outside the store: each file's kind, size, time and content; the names beside house and project."""
    found: dict[str, object] = {}
    for path in sorted((house / "outside").rglob("*")):
        stat = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (stat.st_mode, stat.st_size, stat.st_mtime_ns, content)
    skipped = {".pytest_cache", ".ruff_cache", ".hypothesis", "test-output", ".git", "__pycache__"}
    for folder in (house, house / "data", house / "data" / "own", house.parent, ROOT, ROOT / "checkpoints"):
        found[str(folder) + "/"] = sorted(set(os.listdir(folder)) - skipped)
    return found


def one_sentence(error: DynatError) -> None:
    text = str(error)
    assert text and "\n" not in text.strip() and "Traceback" not in text and len(text) < 1200, text
    assert clean(text) == text, ascii(text)


# ------------------------------------------------------------------------------------------------------- names, links


@many(260)
@given(texts)
def test_a_name_leads_into_the_store_or_nowhere(house, name):
    TAKEN["names"] += 1
    here = RunStore(house / "store")
    home = here.open(DEMO.name)
    for read in (
        lambda: here.open(name).folder,
        lambda: evaluations.open_evaluation(home.folder, name).folder,
        lambda: bookkeeping.restore(here, name).folder,
        lambda: own_data.settings(name),
        lambda: own_data.place(name),
    ):
        try:
            found = read()
        except DynatError as error:
            one_sentence(error)
        else:
            assert isinstance(found, Path) and house.resolve() in found.resolve().parents
            assert house / "outside" not in found.resolve().parents


@many(60)
@given(texts)
def test_a_new_run_is_made_in_the_store_or_not_at_all(house, name):
    TAKEN["new names"] += 1
    here = RunStore(house / "store")
    try:
        made = here.create(preset("quick"), name)
    except DynatError as error:
        one_sentence(error)
    else:
        assert made.folder.parent == here.folder and made.folder.is_dir()
        shutil.rmtree(made.folder)


@many(160)
@given(texts)
def test_what_a_link_says_is_understood_or_refused(house, text):
    TAKEN["links"] += 1
    run = RunStore(house / "store").open(DEMO.name)
    assert all(isinstance(k, int) for k in read_images(text))
    assert read_pick(text) is None or read_lens(f"{text}") is not None
    for read in (lambda: read_attack(text, run), lambda: run.samples(text), lambda: run.weights(text)):
        with suppress(DynatError):
            read()


@many(60)
@given(texts)
def test_a_sentence_with_anything_in_it_is_only_a_sentence(house, text):
    TAKEN["sentences"] += 1
    shown = plain(text)
    assert not set("\n\r\x00\x1b") & set(shown)
    outside_code = "".join(shown.split("`")[::2]) if "\\`" not in shown else ""
    assert "](" not in outside_code.replace("\\]", "") and "<" not in outside_code.replace("\\<", "")


# -------------------------------------------------------------------------------------------------------- form values

FIELDS = sorted(as_text(preset("quick")))


@many(150)
@given(st.dictionaries(st.sampled_from(FIELDS), values, min_size=1, max_size=4))
def test_a_form_holds_settings_or_says_what_is_wrong(house, typed):
    TAKEN["forms"] += 1
    tree: dict = preset("quick").model_dump(mode="json")
    for path, value in typed.items():
        group, _, name = path.rpartition(".")
        if group:
            tree[group][name] = value
        else:
            tree[name] = value
    config, problems = judge(tree)
    assert (config is None) == bool(problems)
    for sentence in problems.values():
        assert "Traceback" not in sentence and sentence.strip()
    with suppress(DynatError):
        RunConfig.build(tree)


@many(60)
@given(title=texts, tags=st.lists(texts, max_size=3), note=texts)
def test_a_label_is_kept_as_typed_or_refused(house, title, tags, note):
    TAKEN["labels"] += 1
    run = RunStore(house / "store").open("waiting")
    for write in (
        lambda: bookkeeping.rename(run, title),
        lambda: bookkeeping.tag(run, tags, run.label().get("tags") or ()),
        lambda: bookkeeping.note(run, note),
    ):
        try:
            write()
        except DynatError as error:
            one_sentence(error)
    kept = bookkeeping.label(run)
    assert run.title.isprintable() and all(tag.isprintable() for tag in kept.tags)


@many(60)
@given(texts)
def test_an_upload_s_name_names_a_file_and_no_place(house, name):
    TAKEN["uploads"] += 1
    assert Path(actions._plain_name(name)).name == actions._plain_name(name)
    assert actions._plain_name(name)[0] not in ".-" and len(actions._plain_name(name)) <= 80


# ---------------------------------------------------------------------------------------------------- files of a run

SMALL = (
    "run.json", "label.json", "status.json", "result.json", "error.json", "epochs.jsonl", "starts.jsonl", "log.txt",
    "stop", "histograms.jsonl",
)  # fmt: skip


def spoilt(folder: Path, chance: random.Random) -> str:
    """A run folder at `folder` with one file that is not as it should be; returns which, and how."""
    folder.mkdir()
    for name in ("run.json", "epochs.jsonl", "result.json", "starts.jsonl"):
        shutil.copyfile(DEMO / name, folder / name)
    name = chance.choice(SMALL)
    how = chance.choice(
        ("bytes", "cut", "values", "values", "values", "deep", "link", "link", "folder", "pipe", "huge")
    )
    path, outside = folder / name, folder.parents[1] / "outside"
    whole = path.read_bytes() if path.exists() else json.dumps({"epoch": 3, "title": "x", "eta_s": 1}).encode()
    path.unlink(missing_ok=True)
    if how == "bytes":
        path.write_bytes(chance.randbytes(chance.randrange(200)))
    elif how == "cut":
        path.write_bytes(whole[: chance.randrange(len(whole))])
    elif how == "values":
        lines = whole.splitlines() if name.endswith("l") else [whole]
        k = chance.randrange(len(lines))
        lines[k] = json.dumps(other_values(json.loads(lines[k]), chance)).encode()
        path.write_bytes(b"\n".join(lines) + b"\n")
    elif how == "deep":
        path.write_bytes(b'{"a":' + b"[" * 100_000)
    elif how == "link":
        path.symlink_to(outside / chance.choice(("secret.txt", "secret.json", "run/run.json", "missing")))
    elif how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    else:
        with open(path, "wb") as file:
            file.truncate(1 << 40)  # a hole: it takes no room on the disk
    return f"{name}, {how}"


ODD = (
    None, True, -1, 0, 1e308, float("nan"), 10**30, "", "x", "<b>", "\x1b[2J", [], [1], {}, {"a": 1}, "9" * 99,
)  # fmt: skip


def other_values(value: object, chance: random.Random) -> object:
    """The same with some entries of another kind, gone, or new."""
    if isinstance(value, dict):
        kept = {key: other_values(part, chance) for key, part in value.items() if chance.random() > 0.06}
        return kept | ({"new": chance.choice(ODD)} if chance.random() < 0.2 else {})
    if isinstance(value, list):
        return [other_values(part, chance) for part in value]
    return chance.choice(ODD) if chance.random() < 0.15 else value


def looked_at(here: RunStore, id: str) -> str:
    """What lists, cards and commands read of a run; everything that they would show."""
    (run,) = [run for run in here.list() if run.id == id]
    said = [run.title, run.state, run.problem or "", json.dumps(run.label(), default=str), run.log_tail()]
    said += [str(run.error()), repr(progress(run.status(), 30)), table(rows([run])).to_csv()]
    if run.state != "broken":
        said += [str(run.starts()), run.config.summary(), repr(outcome(run)), repr(outcome(run, "last"))]
        said += [note.sentence for note in notes(run.history(), run.config)]
        for read in (lambda: run.samples("best"), lambda: run.weights("best"), lambda: run.probes(1), run.paths):
            try:
                read()
            except DynatError as error:
                one_sentence(error)
    return "\n".join(said)


@pytest.mark.parametrize("seed", range(240))
def test_a_run_with_a_spoilt_file_is_listed_and_shows_nothing_from_elsewhere(house, seed):
    TAKEN["files of runs"] += 1
    here, id = RunStore(house / "store"), f"spoilt-{seed}"
    what = spoilt(here.folder / id, random.Random(seed))
    try:
        assert SECRET not in looked_at(here, id), what
        with suppress(DynatError):
            here.open(id)
    finally:
        shutil.rmtree(here.folder / id)


# ------------------------------------------------------------------------------------------------------------ screens


def address_of(page: str, chance: random.Random) -> str:
    """A query string with something wrong in it."""
    names = chance.sample(NAMES, chance.randrange(1, 4))
    parts = [f"{name}={quote(chance.choice(NASTY), safe='')}" for name in names]
    if page in ("epochs", "trajectory", "check") and chance.random() < 0.5:
        parts.insert(0, f"run={DEMO.name}")
    return "&".join(parts)[:8000]


@pytest.fixture(scope="module")
def address(house) -> Iterator[str]:
    """The address of a real server on the store of the house, started from a folder that is not the project's."""
    from tests.servers import free_port

    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(port),
               "--server.headless", "true"]  # fmt: skip
    environment = os.environ | {"DYNAT_STORE": str(house / "store"), "DYNAT_DATA": str(house / "data")}
    with open(house / "store" / ".server.log", "wb") as log:
        server = subprocess.Popen(command, cwd=house, env=environment, stdout=log, stderr=log)
    address = f"http://localhost:{port}"
    try:
        until = time.monotonic() + 180
        while time.monotonic() < until:
            assert server.poll() is None
            with suppress(OSError):
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
                break
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(60)


def test_a_real_server_shows_no_traceback_whatever_the_link_and_the_files(house, address):
    """Pages with odd links on a store with odd runs; then a store of evaluations that hold what they should not."""
    here, chance = RunStore(house / "store"), random.Random(7)
    odd = [here.folder / f"odd-{k}" for k in range(12)]
    for folder in odd:
        spoilt(folder, chance)
    evil = here.create(preset("quick"), "evil")
    evil.set_label(title='<img src=x onerror="alert(1)"> [x](javascript:alert(1)) :red[y] $z$', tags=["<b>", "[x](y)"])
    (evil.folder / "error.json").write_text(
        json.dumps({"error": "\x1b[2J<script>alert(1)</script>", "traceback": "Trace"})
    )
    evaluated = here.folder / DEMO.name / "evaluations"
    kept = [path for path in evaluated.iterdir() if path.name.startswith(("check", "ladder", "curves"))]
    before = {path: (path / "result.json").read_bytes() for path in kept if (path / "result.json").is_file()}
    tried = 0
    try:
        with Forged(address) as line:
            for page in (*PAGES, *chance.choices(PAGES, k=22)):
                line.open(page, address_of(page, chance))
                tried += 1
                seen(line)
                assert "error of its own" not in line.words(), page
            for path, content in before.items():
                (path / "result.json").write_text(json.dumps(other_values(json.loads(content), chance)))
                line.open("check", f"run={DEMO.name}")
                tried += 1
                seen(line)
    finally:
        for folder in odd:
            shutil.rmtree(folder)
        shutil.rmtree(evil.folder)
        for path, content in before.items():
            (path / "result.json").write_bytes(content)
    TAKEN["pages"] += tried
    said = (house / "store" / ".server.log").read_text(errors="replace")
    assert clean(said) == said, "something drove the terminal"


def test_a_server_that_was_told_nothing_listens_on_this_machine_alone(address):
    port = int(address.rpartition(":")[2])
    listening = []
    for table_, own in (("/proc/net/tcp", {"0100007F"}), ("/proc/net/tcp6", {"00000000000000000000000001000000"})):
        for line in Path(table_).read_text().splitlines()[1:]:
            where, state = line.split()[1], line.split()[3]
            if state == "0A" and int(where.rpartition(":")[2], 16) == port:
                listening.append(where.partition(":")[0] in own)
    assert listening and all(listening)


def test_a_page_under_a_borrowed_name_or_from_another_site_gets_nothing(address):
    port = address.rpartition(":")[2]
    with Forged(address, host=f"evil.test:{port}", origin=f"http://evil.test:{port}") as line:
        line.open("runs")
        assert "This Dynat is for one machine and was asked for as evil.test" in line.words()
        assert DEMO.name not in line.words() and "dataframe" not in line.kinds()
    with pytest.raises(InvalidStatus), Forged(address, origin="http://evil.test") as line:
        line.open("runs")


def seen(line: Forged) -> None:
    """What a page may not show."""
    words = line.words()
    assert "exception" not in line.kinds(), words
    assert "Traceback (most" not in words and SECRET not in words
    for raw in ("<img src=x", "<script>alert", "<b></b>"):
        assert raw not in "".join(line.html()), raw


def show(page: str, query: dict[str, str]) -> AppTest:
    """A page in this process."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    for name, value in query.items():
        app.query_params[name] = value
    app = app.run() if page == "app.py" else app.switch_page(page).run()
    return app


@pytest.mark.parametrize("seed", range(10))
def test_a_screen_with_an_odd_link_says_one_sentence(house, seed):
    TAKEN["screens"] += 1
    chance = random.Random(seed)
    page = chance.choice(("app.py", "pages/epochs.py", "pages/trajectory.py", "pages/train.py", "pages/runs.py"))
    app = show(page, {name: chance.choice(NASTY)[:2000] for name in chance.sample(NAMES, 3)})
    assert not app.exception
    for box in (*app.error, *app.info):
        assert "error of its own" not in box.value and "Traceback" not in box.value, box.value


@pytest.mark.parametrize("typed", ["\x1b[2J", "../../outside/secret.txt", "9" * 200, "<script>", "nan"])
def test_what_is_typed_into_the_train_form_is_judged(house, typed):
    app = show("pages/train.py", {})
    for field in app.get("text_input"):
        TAKEN["typed"] += 1
        if not field.disabled:
            field.set_value(typed)
    app.run()
    assert not app.exception
    assert not [box.value for box in app.error if "error of its own" in box.value or "Traceback" in box.value]
    assert len(RunStore(house / "store").list()) == 2


def test_that_were_a_thousand(request):
    """Counted where all of this file ran in one process."""
    if len(TAKEN) < 11:
        pytest.skip("only a part of this file ran")
    assert sum(TAKEN.values()) >= 1000, TAKEN
