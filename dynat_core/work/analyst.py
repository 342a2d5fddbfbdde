"""One analysis at a time in a warm helper process, so that the web server never imports torch.

The web process owns one `Analyst`, which starts and talks to `python -m dynat_core.work.helper`. Requests carry a
`view`, the place on a screen that waits for the answer: a newer request of the same view replaces the older one, which
is cancelled between two steps of its attack once nobody waits for it. Sessions take turns, the same question of several
is answered once, and a session that has not looked for a while has left (see `questions`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dynat_core.places import PACKAGE, ROOT
from dynat_core.recorded.packing import pack, unpack
from dynat_core.store.logs import put_aside
from dynat_core.work.answer_cache import AnswerCache, Value
from dynat_core.work.helper import ANALYSES, read_frame, write_frame
from dynat_core.work.questions import LEFT, MOST, Answer, Question, Questions

NO_TORCH = "Computing this needs torch: run `pip install -r requirements.txt`, then start Dynat again."
_REMEMBERED = 4 * MOST  # answers kept in memory, newest asked last: none is dropped before whoever waits for it looks
_REMEMBERED_BYTES = 64 * 2**20
_GRACE = 15.0  # seconds from "enough" until a helper that does not hear it is ended


class Analyst:
    """Answers requests through one helper process; safe to call from any thread.

    folder: the run store; answers are kept in its `.cache/analyses`. analyses: the module whose ANALYSES the helper
    serves, `{kind: f(request, cancelled, progress) -> (header, arrays)}`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        analyses: str = ANALYSES,
        threads: int | None = 1,
        most: int = MOST,
        left: float = LEFT,
    ) -> None:
        """threads: that its helper computes with; None for as many as there are. most: questions that may wait. left:
        seconds without a look after which a session's questions are dropped."""
        self.patience: float | None = None  # seconds that one answer may take to compute; None: any time
        self._folder = folder
        self._threads = threads
        self._analyses = analyses
        self._cache = AnswerCache(folder / ".cache" / "analyses")
        self._answers: OrderedDict[str, tuple[Value, float]] = OrderedDict()
        self._questions = Questions(lambda question: self._send({"cancel": question.number}), most=most, left=left)
        self._wake = threading.Condition()
        self._warm_at: float | None = None  # when the helper is to be started without a question
        self._closed = False
        self._helper: subprocess.Popen[bytes] | None = None
        self._writing = threading.Lock()
        self._numbers = itertools.count(1)
        self._lane: threading.Thread | None = None

    def ask(
        self,
        kind: str,
        request: Mapping[str, Any],
        *,
        view: str | None = None,
        session: str | None = None,
        stamp: str | None = None,
    ) -> Answer:
        """The state of this request, at once; asks for it if it is new. Call again to poll.

        view: the place that waits, `kind` if not given. session: whose place it is, with a line of its own in the
        queue; it has to go on polling. Without one the view has a line of its own and waits until it is answered.
        stamp: what the answer depends on beside the request (hashes of weights and data); only answers with a stamp
        are kept on disk. When too many wait already, the answer is a refusal, and asking again tries again.
        """
        view = view or kind
        text = json.dumps(dict(request), sort_keys=True, allow_nan=False)
        key = hashlib.sha256("\0".join((code_hash(), kind, stamp or "", text)).encode()).hexdigest()
        with self._wake:
            there = self._questions.look(view, key)
            if (known := self._answers.get(key)) is not None:
                self._answers.move_to_end(key)
                return Answer("ready", value=known[0], seconds=known[1])
            if there is not None:
                return there
        kept = self._cache.get(key) if stamp is not None else None
        with self._wake:
            if kept is not None:
                self._remember(key, kept, 0.0)
                return Answer("ready", value=kept)
            if missing_torch(self._analyses):
                return Answer("failed", error=NO_TORCH)
            question = Question(next(self._numbers), kind, json.loads(text), key, stamp is not None)
            answer = self._questions.add(view, session, question)
            self._start_lane()
            self._wake.notify_all()
            return answer

    def warm(self, after: float = 0.0) -> None:
        """Start the helper if it is not there, so that the first question does not wait for torch. Returns at once.

        after: seconds to wait first, so that importing torch does not compete with the drawing of a page.
        """
        if not missing_torch(self._analyses):
            with self._wake:
                if self._warm_at is None and self.helper_pid is None:
                    self._warm_at = time.monotonic() + after
                self._start_lane()
                self._wake.notify_all()

    def forget(self, view: str) -> None:
        """Cancel what `view` waits for, if anything, and drop its failure or answer, so that asking again tries again.

        An answer kept on disk stays: it depends on nothing but its question and its stamp.
        """
        with self._wake:
            question = self._questions.give_up(view)
            if question is not None:
                self._answers.pop(question.key, None)

    def close(self) -> None:
        """End the helper; the Analyst answers nothing afterwards."""
        with self._wake:
            self._closed = True
            helper = self._helper
            self._wake.notify_all()
        if helper is not None:
            _end(helper)

    @property
    def helper_pid(self) -> int | None:
        """The helper's process id while it lives."""
        helper = self._helper
        return helper.pid if helper is not None and helper.poll() is None else None

    # -- with the lock held

    def _remember(self, key: str, value: Value, seconds: float) -> None:
        self._answers[key] = (value, seconds)
        size = sum(_bytes(kept) for kept, _ in self._answers.values())
        while len(self._answers) > 1 and (len(self._answers) > _REMEMBERED or size > _REMEMBERED_BYTES):
            size -= _bytes(self._answers.popitem(last=False)[1][0])

    def _is_due(self) -> bool:
        return self._warm_at is not None and time.monotonic() >= self._warm_at

    def _start_lane(self) -> None:
        if self._lane is None:
            self._lane = threading.Thread(target=self._work, name="analyst", daemon=True)
            self._lane.start()

    # -- the lane: one thread for the life of the Analyst. It also starts the helper, because Linux sends the
    #    parent-death signal when the *thread* that started a process ends, and a page's thread ends with its run.

    def _work(self) -> None:
        while True:
            with self._wake:
                while not (self._closed or self._questions.waiting or self._is_due()):
                    self._wake.wait(None if self._warm_at is None else max(self._warm_at - time.monotonic(), 0.01))
                if self._closed:
                    return
                self._warm_at = None
                question = self._questions.next()
            try:
                helper = self._living_helper()
                if question is not None and not question.cancelled:
                    self._send({"id": question.number, "kind": question.kind, "request": question.request})
                    with self._time_limit(helper, question):
                        self._await(helper, question)
            except OSError as error:
                if question is not None:
                    self._fail(question, f"The analysis process could not be started ({error.strerror or error}).")
            with self._wake:
                self._questions.running = None

    def _living_helper(self) -> subprocess.Popen[bytes]:
        helper = self._helper
        if helper is None or helper.poll() is not None:
            helper = start_helper(self._analyses, self._folder, self._threads)
            with self._wake:
                self._helper, closed = helper, self._closed
            if closed:
                _end(helper)
        return helper

    def _send(self, header: dict[str, Any]) -> None:
        helper = self._helper
        if helper is not None and helper.stdin is not None:
            with self._writing, contextlib.suppress(OSError, ValueError):  # a dead helper shows when it is read from
                write_frame(helper.stdin, pack(header, {}))

    @contextlib.contextmanager
    def _time_limit(self, helper: subprocess.Popen[bytes], question: Question) -> Iterator[None]:
        """Cancel what takes too long, and end a helper that does not hear it."""

        def enough() -> None:
            question.overdue = True
            self._send({"cancel": question.number})

        timers = []
        if self.patience is not None:
            timers = [
                threading.Timer(self.patience, enough),
                threading.Timer(self.patience + _GRACE, helper.kill),
            ]
        for timer in timers:
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()

    def _await(self, helper: subprocess.Popen[bytes], question: Question) -> None:
        assert helper.stdout is not None
        while True:
            blob = read_frame(helper.stdout)
            if blob is None:
                self._fail(question, f"The analysis process ended unexpectedly{_how(helper)}; ask again.")
                return
            header, arrays = unpack(blob)
            if header.get("id") not in (question.number, None):
                continue
            if header["state"] == "working":
                question.progress = header["progress"]
                with self._wake:
                    if self._questions.waiting:  # else what nobody looks for any more is still worth keeping
                        self._questions.sweep()
            elif header["state"] == "ready":
                self._succeed(question, header["value"], arrays)
                return
            else:
                self._fail(question, header["error"])
                return

    def _succeed(self, question: Question, value: dict[str, Any], arrays: dict[str, Any]) -> None:
        if question.keep:
            self._cache.put(question.key, pack(value, arrays))
        with self._wake:
            seconds = self._questions.close(question)
            if not question.cancelled:  # else it was forgotten meanwhile, and may have been asked anew since
                self._remember(question.key, (value, arrays), seconds)

    def _fail(self, question: Question, sentence: str) -> None:
        if question.overdue:
            sentence = (
                f"This takes longer than {self.patience:g} s, the most that one answer may take here; ask for less."
            )
        with self._wake:
            self._questions.close(question, sentence)


def _bytes(value: Value) -> int:
    return sum(array.nbytes for array in value[1].values())


@cache
def code_hash() -> str:
    """Changes with the code of dynat_core, so that answers of another version are not taken for today's."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def missing_torch(analyses: str = ANALYSES) -> bool:
    """True in a view-only install, where nothing can be computed."""
    return analyses == ANALYSES and importlib.util.find_spec("torch") is None


def start_helper(analyses: str, folder: Path, threads: int | None = 1) -> subprocess.Popen[bytes]:
    """Start the helper process; its messages go to `.cache/analyst.log` in the store where that can be written."""
    calm = {"OMP_NUM_THREADS": str(threads)} if threads else {"OMP_WAIT_POLICY": "PASSIVE"}
    log: Any = subprocess.DEVNULL
    path = folder.absolute() / ".cache" / "analyst.log"
    put_aside(path)
    with contextlib.suppress(OSError):
        log = open(path, "ab")  # noqa: SIM115 (handed to the child, closed below)
    try:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "dynat_core.work.helper",
                "--analyses",
                analyses,
                "--parent",
                str(os.getpid()),
                "--log",
                str(path),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            env={**calm, **os.environ},
        )
    finally:
        if log is not subprocess.DEVNULL:
            log.close()


def _end(helper: subprocess.Popen[bytes]) -> None:
    helper.kill()  # it holds nothing that could be lost
    with contextlib.suppress(subprocess.TimeoutExpired):
        helper.wait(5)


def _how(helper: subprocess.Popen[bytes]) -> str:
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = helper.wait(2)
        return f" ({signal.Signals(-code).name})" if code < 0 else f" (exit code {code})"
    return ""
