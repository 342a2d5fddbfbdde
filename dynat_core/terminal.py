"""What is printed shows and does nothing else: a run folder from elsewhere may hold text that drives a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


def clean(text: str) -> str:
    """`text` with control characters spelled out, as `\\x1b`; line ends and tabs stay.

    So do other signs that cannot be printed, among them those that turn the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


class _Clean:
    """A text stream that cleans what is written; everything else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(clean(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def cleaned() -> Iterator[None]:
    """Clean whatever is printed meanwhile; `raw` is the way past it."""
    out, err = cast(TextIO, _Clean(sys.stdout)), cast(TextIO, _Clean(sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


def raw(stream: TextIO) -> TextIO:
    """The stream behind a cleaned one, for progress bars, which drive the terminal on purpose."""
    return stream._stream if isinstance(stream, _Clean) else stream
