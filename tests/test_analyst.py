"""The analysis helper with real processes: answers, replacement, death with its owner, and a cache without pickles."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from dynat_core.recorded.packing import pack
from dynat_core.work.analyst import Analyst, start_helper
from dynat_core.work.answer_cache import AnswerCache, PlainDisk, Value

TESTS = Path(__file__).parent
LIMIT = 120.0  # seconds; generous, because a wait ends as soon as its condition holds


def wait_for(condition, limit: float = LIMIT):
    """The first true value of `condition()`; fails after `limit` seconds."""
    end = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)
    return value


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def analyst(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    it = Analyst(tmp_path, analyses="tiny_analyses")
    yield it
    it.close()


def settled(analyst: Analyst, *args, **kwargs):
    """Poll as a page does until the answer is ready or failed."""

    def done():
        answer = analyst.ask(*args, **kwargs)
        return answer if answer.state in ("ready", "failed") else None

    return wait_for(done)


def result(analyst: Analyst, *args, **kwargs) -> Value:
    """(header, arrays) of a request, waited for."""
    value = settled(analyst, *args, **kwargs).value
    assert value is not None
    return value


def test_an_answer_comes_back_as_header_and_arrays(analyst):
    header, arrays = result(analyst, "double", {"n": 4})
    assert header["asked"] == 4
    assert arrays["twice"].tolist() == [0, 2, 4, 6]


def test_asking_returns_at_once_and_the_same_helper_answers_again(analyst):
    assert analyst.ask("double", {"n": 1}).state == "queued"
    first = result(analyst, "double", {"n": 1})[0]["pid"]
    assert result(analyst, "double", {"n": 2})[0]["pid"] == first == analyst.helper_pid


def test_a_newer_request_of_the_same_view_cancels_the_older_one(analyst):
    analyst.ask("slow", {"steps": 30_000}, view="left")
    wait_for(lambda: analyst.ask("slow", {"steps": 30_000}, view="left").progress)
    assert settled(analyst, "double", {"n": 3}, view="left").state == "ready"  # the older one would take ten minutes


def test_a_request_replaced_before_it_began_is_never_computed(analyst):
    analyst.ask("slow", {"steps": 20}, view="other")
    analyst.ask("slow", {"steps": 30_000}, view="left")
    assert settled(analyst, "double", {"n": 5}, view="left").state == "ready"
    assert settled(analyst, "slow", {"steps": 20}, view="other").state == "ready"


def test_two_views_wait_for_each_other(analyst):
    analyst.ask("slow", {"steps": 10}, view="left")
    analyst.ask("slow", {"steps": 5}, view="right")
    assert result(analyst, "slow", {"steps": 10}, view="left")[0] == {"steps": 10}
    assert result(analyst, "slow", {"steps": 5}, view="right")[0] == {"steps": 5}


@pytest.mark.parametrize(
    "kind, words",
    [
        ("refuse", "The data are not here; put them there."),
        ("stumble", "The analysis failed: ValueError: first line"),
        ("die", "The analysis process ended unexpectedly (exit code 7); ask again."),
    ],
)
def test_a_failure_is_one_sentence_and_the_helper_serves_on(analyst, kind, words):
    answer = settled(analyst, kind, {})
    assert (answer.state, answer.error) == ("failed", words)
    assert analyst.ask(kind, {}).error == words  # polling on does not try again
    assert settled(analyst, "double", {"n": 2}).state == "ready"
    analyst.forget(kind)
    assert analyst.ask(kind, {}).state == "queued"


def test_what_was_answered_is_computed_anew_once_it_is_forgotten(analyst):
    """Measuring has the same question each time, and what it answered, such as "stopped", is old by then."""
    first = result(analyst, "double", {"n": 2})[0]["place"]
    assert result(analyst, "double", {"n": 2})[0]["place"] == first
    analyst.forget("double")
    assert analyst.ask("double", {"n": 2}).state == "queued"
    assert result(analyst, "double", {"n": 2})[0]["place"] == first + 1


def test_what_is_forgotten_while_it_is_computed_does_not_answer_who_asks_next(analyst):
    analyst.ask("until_cancelled", {})
    wait_for(lambda: analyst.ask("until_cancelled", {}).state == "working")
    analyst.forget("until_cancelled")
    assert wait_for(lambda: (s := analyst.ask("until_cancelled", {}).state) != "queued" and s) == "working"


def test_a_killed_helper_is_said_and_replaced(analyst):
    analyst.ask("slow", {"steps": 30_000})
    wait_for(lambda: analyst.ask("slow", {"steps": 30_000}).progress)
    os.kill(analyst.helper_pid, signal.SIGKILL)
    answer = settled(analyst, "slow", {"steps": 30_000})
    assert answer.error == "The analysis process ended unexpectedly (SIGKILL); ask again."
    assert settled(analyst, "double", {"n": 2}).state == "ready"


def test_warm_starts_the_helper_before_the_first_question(analyst):
    analyst.warm()
    pid = wait_for(lambda: analyst.helper_pid)
    assert result(analyst, "double", {"n": 1})[0]["pid"] == pid


def test_warming_can_wait_and_a_question_does_not(analyst):
    analyst.warm(after=60)
    assert analyst.helper_pid is None
    settled(analyst, "double", {"n": 1})
    assert analyst.helper_pid is not None


def test_the_helper_lets_training_and_the_web_server_come_first(analyst):
    settled(analyst, "double", {"n": 1})
    ours, its = os.getpriority(os.PRIO_PROCESS, 0), os.getpriority(os.PRIO_PROCESS, analyst.helper_pid)
    assert its > ours


def test_closing_ends_the_helper(analyst):
    settled(analyst, "double", {"n": 1})
    pid = analyst.helper_pid
    analyst.close()
    wait_for(lambda: not alive(pid))


OWNER = """
import sys, threading, time
from pathlib import Path
from dynat_core.work.analyst import Analyst
analyst = Analyst(Path(sys.argv[1]), analyses="tiny_analyses")
thread = threading.Thread(target=analyst.ask, args=("slow", {"steps": 30_000}))   # as a page's thread: it ends at once
thread.start(); thread.join()
while not analyst.ask("slow", {"steps": 30_000}).progress:
    time.sleep(0.02)
print(analyst.helper_pid, flush=True)
time.sleep(120)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_helper_dies_with_its_owner_in_the_middle_of_work(tmp_path, how):
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}
    command = [sys.executable, "-c", textwrap.dedent(OWNER), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert alive(pid)
        owner.send_signal(how)
        owner.wait(LIMIT)
    wait_for(lambda: not alive(pid))


def test_the_helper_ends_when_stdin_closes(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    helper = start_helper("tiny_analyses", tmp_path)
    assert helper.stdin is not None
    helper.stdin.close()
    assert helper.wait(LIMIT) == 0


def test_answers_with_a_stamp_survive_on_disk_and_others_do_not(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    first = Analyst(tmp_path, analyses="tiny_analyses")
    pid = result(first, "double", {"n": 6}, stamp="weights")[0]["pid"]
    settled(first, "double", {"n": 7})
    first.close()
    second = Analyst(tmp_path, analyses="tiny_analyses")
    kept = second.ask("double", {"n": 6}, stamp="weights")
    assert kept.value is not None and kept.value[0]["pid"] == pid
    assert second.helper_pid is None
    assert second.ask("double", {"n": 6}, stamp="other weights").state == "queued"
    assert second.ask("double", {"n": 7}, view="again").state == "queued"
    second.close()


def test_without_torch_the_answer_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("dynat_core.work.analyst.importlib.util.find_spec", lambda name: None)
    answer = Analyst(tmp_path).ask("trajectory", {})
    assert answer.state == "failed" and "pip install -r requirements.txt" in str(answer.error)


# ------------------------------------------------------------------------------------------------------- the cache


@pytest.mark.parametrize("value", [{"a": 1}, "text", 3, 2.5, None, [b"x"]])
def test_the_cache_stores_nothing_but_bytes(tmp_path, value):
    disk = PlainDisk(str(tmp_path))
    with pytest.raises(TypeError):
        disk.store(value, False)


def test_a_pickle_planted_in_the_cache_is_not_opened(tmp_path):
    touched = tmp_path / "touched"

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (touched,))

    cache = AnswerCache(tmp_path / "cache")
    cache.put("key", pack({"a": 1}, {}))
    with sqlite3.connect(tmp_path / "cache" / "cache.db") as base:
        base.execute("UPDATE Cache SET mode = 4, filename = NULL, value = ?", (pickle.dumps(Bomb()),))
    assert AnswerCache(tmp_path / "cache").get("key") is None
    assert not touched.exists()


def test_a_cache_row_cannot_point_outside_the_cache(tmp_path):
    (tmp_path / "secret").write_bytes(pack({"a": 1}, {}))
    cache = AnswerCache(tmp_path / "cache")
    cache.put("key", pack({"a": 2}, {}))
    with sqlite3.connect(tmp_path / "cache" / "cache.db") as base:
        base.execute("UPDATE Cache SET filename = '../secret'")
    assert AnswerCache(tmp_path / "cache").get("key") is None


def test_a_damaged_answer_is_a_miss(tmp_path):
    cache = AnswerCache(tmp_path)
    cache.put("key", b"\x10\0\0\0 nonsense")
    assert cache.get("key") is None
    cache.put("key", pack({"a": 2}, {}))
    assert cache.get("key") == ({"a": 2}, {})


def test_a_cache_that_cannot_be_written_is_an_empty_one(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = AnswerCache(tmp_path / "file")
    cache.put("key", pack({}, {}))
    assert cache.get("key") is None


@pytest.mark.parametrize("kind", ["slow", "deaf"])
def test_what_takes_too_long_ends_with_a_sentence_and_the_next_question_is_answered(analyst, kind, monkeypatch):
    monkeypatch.setattr("dynat_core.work.analyst._GRACE", 0.2)
    wait_for(lambda: settled(analyst, "double", {"n": 1}).state == "ready")
    analyst.patience = 0.2
    answer = settled(analyst, kind, {"steps": 10_000})
    assert answer.error == "This takes longer than 0.2 s, the most that one answer may take here; ask for less."
    analyst.patience = LIMIT
    assert settled(analyst, "double", {"n": 2}).state == "ready"
