"""The open questions of the analysis helper: who waits for which, in what order, and who has left.

A question is worked on once, whoever asks it, and no further once nobody waits for it. No threads and no processes
here: the `Analyst` holds a lock around every call.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from dynat_core.work.answer_cache import Value
from dynat_core.work.turns import Turns

FULL = "{} questions wait for the analysis process already; ask again in a minute."
MOST = 100  # questions that may wait
LEFT = 10.0  # seconds without a look after which a session has left; looks come several times a second
_VIEWS = 512  # views remembered; browser tabs come and go

State = Literal["queued", "working", "ready", "failed"]


@dataclass(frozen=True)
class Answer:
    """What is known right now. `value` only when ready, `error` (one sentence) only when failed."""

    state: State
    value: Value | None = None
    error: str | None = None
    progress: float | None = None  # 0..1 where the analysis says it
    seconds: float = 0.0  # since it was asked; when ready, what it took
    before: int | None = None  # while queued: how many questions come first, the one worked on included


@dataclass(eq=False)
class Question:
    """One question, once, whoever asks it. keep: whether its answer may be kept on disk."""

    number: int
    kind: str
    request: dict[str, Any]
    key: str
    keep: bool
    views: set[str] = field(default_factory=set)  # the places that wait for it
    state: State = "queued"
    cancelled: bool = False
    overdue: bool = False  # it took longer than one answer may
    error: str | None = None
    progress: float | None = None


@dataclass
class _View:
    """A place on somebody's screen, and what it waits for. session: None for one that waits without looking."""

    question: Question
    session: str | None
    asked: float
    seen: float


class Questions:
    """What waits and what is worked on."""

    def __init__(
        self, cancel: Callable[[Question], None], *, most: int, left: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """cancel: called with the question worked on when nobody waits for it any more. most: questions that may wait.
        left: seconds without a look after which a session has left."""
        self.running: Question | None = None
        self._cancel, self._left, self._clock = cancel, left, clock
        self._turns: Turns[Question] = Turns(most)
        self._views: OrderedDict[str, _View] = OrderedDict()  # whoever looked last stands last
        self._open: dict[str, Question] = {}  # key -> a question that waits or is worked on

    @property
    def waiting(self) -> int:
        """How many questions wait."""
        return len(self._turns)

    @property
    def views(self) -> int:
        """How many places on screens are remembered."""
        return len(self._views)

    def look(self, view: str, key: str) -> Answer | None:
        """How far a view's question is; None if it has to be asked. Its question before, if another, is given up."""
        there = self._views.get(view)
        if there is not None and there.question.key != key:
            self.give_up(view)
            there = None
        if there is None or there.question.state == "ready":  # and its answer forgotten since
            return None
        there.seen = self._clock()
        self._views.move_to_end(view)
        question = there.question
        before = self._turns.before(question)
        if before is not None and self.running is not None:
            before += 1
        return Answer(question.state, None, question.error, question.progress, there.seen - there.asked, before)

    def add(self, view: str, session: str | None, question: Question) -> Answer:
        """Have `view` wait for a question, the one that is open already where somebody else asked the same."""
        self.sweep()
        self.give_up(view)  # whatever it waited for: two threads may ask for one view
        question = self._open.get(question.key, question)
        if question.state == "queued" and not self._turns.join(session or view, question):
            return Answer("failed", error=FULL.format(self.waiting))
        now = self._clock()
        self._views[view] = _View(question, session, now, now)
        self._views.move_to_end(view)
        self._open[question.key] = question
        question.views.add(view)
        while len(self._views) > _VIEWS:
            self.give_up(next(iter(self._views)))
        return self.look(view, question.key) or Answer(question.state)

    def give_up(self, view: str) -> Question | None:
        """Forget a view; what nobody else waits for is not computed, or no further. Returns what it had asked."""
        gone = self._views.pop(view, None)
        if gone is None:
            return None
        question, line = gone.question, gone.session or view
        question.views.discard(view)
        if not any((self._views[other].session or other) == line for other in question.views):
            self._turns.leave(line, question)
        if not question.views and self._open.get(question.key) is question:
            del self._open[question.key]
            if question is self.running:
                question.cancelled = True
                self._cancel(question)
        return question

    def sweep(self) -> None:
        """Forget the views of sessions that have left."""
        latest = self._clock() - self._left
        for view in [v for v, there in self._views.items() if there.session is not None and there.seen < latest]:
            self.give_up(view)

    def next(self) -> Question | None:
        """The question to work on now, or None."""
        self.sweep()
        self.running = self._turns.next()
        if self.running is not None:
            self.running.state = "working"
        return self.running

    def close(self, question: Question, error: str | None = None) -> float:
        """Note its end, with a sentence if it failed; returns the seconds that somebody waited for it.

        Whoever asks the same from now on asks anew.
        """
        question.state, question.error = ("failed", error) if error else ("ready", None)
        if self._open.get(question.key) is question:
            del self._open[question.key]
        now = self._clock()
        return max((now - self._views[view].asked for view in question.views), default=0.0)
