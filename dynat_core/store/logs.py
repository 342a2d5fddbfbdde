"""What processes print, in files that stay small: past a bound a log becomes NAME.1, the older one goes, NAME goes on.

A process whose own output is the log turns to the new file itself, so no line of it is lost.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from dynat_core.files import open_file

BOUND = 1_000_000  # bytes of a log; with the older one twice that, and what is printed between two looks
_OUTPUTS = (1, 2)  # standard output and error


def older(path: Path) -> Path:
    """Where the part of a log lies that was put aside."""
    return path.with_name(path.name + ".1")


def put_aside(path: Path, bound: int = BOUND) -> None:
    """Begin a log anew if it is past its bound; for a log that nobody writes to now. A disk that refuses is let be."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > bound:
            path.replace(older(path))


def keep_short(path: Path, bound: int = BOUND) -> None:
    """The same for the log that this process's own output goes to; nothing is done if it goes elsewhere.

    Cheap: a process may call it several times a second. Another process that prints into the same log follows with its
    own next call.
    """
    with contextlib.suppress(OSError):
        for output in _OUTPUTS:
            ours = os.fstat(output)
            if not stat.S_ISREG(ours.st_mode):
                continue
            here = _is(ours, path)
            if here and ours.st_size > bound:
                path.replace(older(path))
            elif here or not _is(ours, older(path)):
                continue
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            for other in _OUTPUTS:
                if os.path.samestat(os.fstat(other), ours):
                    os.dup2(file, other)
            os.close(file)


def end(path: Path, lines: int) -> str:
    """The last `lines` lines of a log, also where it was just begun anew; "" when there is none."""
    found: list[str] = []
    for part in (path, older(path)):
        if len(found) < lines:
            found = [*_last(part, lines - len(found)), *found]
    return "\n".join(found)


def _last(path: Path, lines: int) -> list[str]:
    try:
        with open_file(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 200 * lines))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def _is(found: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(found, path.stat(follow_symlinks=False))
    except OSError:
        return False
