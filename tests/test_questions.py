"""The queue of the analysis helper: whose turn it is, what is asked once for several, who has left, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dynat_core.work.analyst import Analyst
from dynat_core.work.questions import Question, Questions
from dynat_core.work.turns import Turns
from tests.test_analyst import wait_for

# ---------------------------------------------------------------------------------------------------------- whose turn


def served(turns: Turns) -> list:
    return list(iter(turns.next, None))


def test_a_session_with_many_questions_waits_for_one_with_few():
    turns: Turns[str] = Turns(10)
    for item in ("a1", "a2", "a3", "a4"):
        turns.join("a", item)
    turns.join("b", "b1")
    turns.join("c", "c1")
    assert served(turns) == ["a1", "b1", "c1", "a2", "a3", "a4"]


def test_a_session_that_was_just_served_comes_after_those_that_wait():
    turns: Turns[str] = Turns(10)
    turns.join("a", "a1")
    turns.join("b", "b1")
    assert turns.next() == "a1"
    turns.join("a", "a2")
    turns.join("c", "c1")
    assert turns.next() == "b1"
    assert served(turns) == ["a2", "c1"]


def test_what_two_sessions_wait_for_is_served_once_at_the_earlier_turn():
    turns: Turns[str] = Turns(10)
    turns.join("a", "a1")
    turns.join("a", "both")
    turns.join("b", "both")
    assert len(turns) == 2
    turns.leave("a", "both")
    assert served(turns) == ["a1", "both"]


def test_when_too_many_wait_a_new_one_is_refused_and_a_known_one_is_not():
    turns: Turns[str] = Turns(2)
    assert turns.join("a", "a1") and turns.join("b", "b1")
    assert not turns.join("c", "c1")
    assert turns.join("c", "a1")
    assert served(turns) == ["a1", "b1"]


@given(some.lists(some.tuples(some.sampled_from("abcd"), some.integers(0, 12)), max_size=30))
def test_the_place_that_is_told_is_the_place_that_is_kept(joins):
    turns: Turns[int] = Turns(100)
    for session, item in joins:
        turns.join(session, item)
    told = {item: turns.before(item) for _, item in joins}
    order = served(turns)
    assert {item: place for place, item in enumerate(order)} == told
    assert len(order) == len(set(order))


# ------------------------------------------------------------------------------------------------- who waits for what


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cancelled() -> list[str]:
    return []


@pytest.fixture
def questions(clock, cancelled) -> Questions:
    return Questions(lambda question: cancelled.append(question.key), most=3, left=10, clock=clock)


def question(key: str) -> Question:
    return Question(0, "kind", {}, key, keep=False)


def test_everybody_is_told_how_many_come_before(questions):
    questions.add("v1", "one", question("a"))
    questions.add("v2", "two", question("b"))
    assert questions.add("v3", "three", question("c")).before == 2
    questions.next()
    assert [questions.look(v, k).before for v, k in (("v1", "a"), ("v2", "b"), ("v3", "c"))] == [None, 1, 2]


def test_a_full_queue_refuses_with_a_sentence_and_takes_again_when_there_is_room(questions):
    for number in range(3):
        questions.add(f"v{number}", f"s{number}", question(str(number)))
    refused = questions.add("late", "late", question("late"))
    assert refused.state == "failed"
    assert refused.error == "3 questions wait for the analysis process already; ask again in a minute."
    questions.next()
    assert questions.add("late", "late", question("late")).state == "queued"


def test_a_session_that_stopped_looking_waits_no_longer(questions, clock):
    questions.add("gone", "gone", question("a"))
    questions.add("here", "here", question("b"))
    clock.now = 9.0
    questions.look("here", "b")
    clock.now = 11.0
    assert questions.next().key == "b"
    assert questions.views == 1


def test_one_that_waits_without_a_session_waits_as_long_as_it_takes(questions, clock):
    questions.add("measurement", None, question("a"))
    clock.now = 1000.0
    assert questions.next().key == "a"


def test_what_nobody_looks_for_is_stopped_and_what_one_still_looks_for_is_not(questions, clock, cancelled):
    questions.add("v1", "one", question("a"))
    questions.add("v2", "two", question("a"))
    assert questions.waiting == 1 and questions.next().key == "a"
    clock.now = 9.0
    questions.look("v2", "a")
    clock.now = 12.0
    questions.sweep()
    assert cancelled == []
    clock.now = 20.0
    questions.sweep()
    assert cancelled == ["a"]


def test_ten_thousand_tabs_that_came_and_went_leave_little_behind(questions, clock):
    for number in range(10_000):
        clock.now += 0.01
        questions.add(f"v{number}", f"s{number}", question(f"k{number}"))
        questions.next()
    assert questions.views <= 512


# ------------------------------------------------------------------------------------------ with the real helper


@pytest.fixture
def start_analyst(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    opened: list[Analyst] = []

    def start(**how) -> Analyst:
        opened.append(Analyst(tmp_path, analyses="tiny_analyses", **how))
        return opened[-1]

    yield start
    for it in opened:
        it.close()


def test_fifty_sessions_with_two_questions_each_get_their_first_before_anybody_gets_a_second(start_analyst):
    analyst, blocking = start_analyst(), {"steps": 10_000}
    analyst.ask("slow", blocking, view="first")  # while it works, all the others come
    wait_for(lambda: analyst.ask("slow", blocking, view="first").state == "working")
    waiting = {(session, n): f"{session}/{n}" for session in range(50) for n in range(2)}
    places: dict[tuple[int, int], int] = {}

    def look() -> bool:
        for (session, n), view in list(waiting.items()):
            answer = analyst.ask("double", {"n": 2 * session + n}, view=view, session=str(session))
            assert answer.state != "failed", answer.error
            if answer.value is not None:
                waiting.pop((session, n))
                places[session, n] = answer.value[0]["place"]
        return not waiting

    look()
    assert len(waiting) == 100
    analyst.forget("first")
    wait_for(look)
    firsts, seconds = ([places[s, n] for s in range(50)] for n in (0, 1))
    assert max(firsts) < min(seconds)


def test_the_same_question_of_several_sessions_is_computed_once(start_analyst):
    analyst = start_analyst()
    analyst.ask("slow", {"steps": 20}, view="first")

    def answers():
        found = [analyst.ask("double", {"n": 7}, view=f"v{s}", session=str(s)) for s in range(10)]
        return found if all(answer.state == "ready" for answer in found) else None

    assert len({answer.value[0]["place"] for answer in wait_for(answers)}) == 1


def test_the_work_of_a_session_that_left_is_stopped_for_one_that_waits(start_analyst):
    analyst, endless = start_analyst(left=0.5), {"steps": 10_000}  # 200 seconds
    wait_for(lambda: analyst.ask("slow", endless, view="gone", session="gone").progress)
    helper = analyst.helper_pid
    wait_for(lambda: analyst.ask("double", {"n": 1}, view="here", session="here").state == "ready")
    assert analyst.helper_pid == helper, "stopped between its steps, not killed"
