"""What is written while the work that made it goes on: one thread, one thing at a time, in the order asked for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class Beside:
    """`do` hands over and returns; a second hand-over waits for the first, so that little is ever unwritten.

    What an action raised is raised by the next `do`, by `settle`, or at the end of the `with` block.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="beside")
        self._last: Future[None] | None = None

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown(wait=True)
        if kind is None:  # else that error is the one to tell
            self.settle()

    def do(self, action: Callable[[], None]) -> None:
        """Hand `action` over. Raises what an earlier one raised; nothing is handed over then."""
        self.settle()
        self._last = self._thread.submit(action)

    def settle(self) -> None:
        """Wait until everything is done. Raises what an action raised, once."""
        last, self._last = self._last, None
        if last is not None:
            last.result()
