"""Which programs in run folders may run: those that somebody added to this very store, told by their sha256.

A run folder that came from elsewhere may hold one too; looking at it must not run it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from dynat_core.errors import RunError
from dynat_core.files import writing

_LIST = ".trusted-programs"  # in the store, one sha256 a line; run folders are copied without it


def trust(store: Path, content: bytes) -> None:
    """Let a program run from now on, in this store. Raises JobError where the store cannot be written."""
    with writing(store):
        store.mkdir(parents=True, exist_ok=True)
        file = os.open(store / _LIST, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, hashlib.sha256(content).hexdigest().encode() + b"\n")
        finally:
            os.close(file)


def refuse_untrusted(store: Path, program: Path) -> None:
    """Raises RunError for a program that nobody added here, or that is not what was added."""
    try:
        with open(program, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        known = (store / _LIST).read_text().split()
    except FileNotFoundError:
        found, known = "", []
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"The program of {program.parents[1].name} cannot be read; add its file again.") from error
    if found not in known:
        raise RunError(
            f"{program.parents[1].name} holds a program that was not added to this store, so it is not run; "
            'if you trust its file, add it with "python -m dynat_core model add".'
        )
