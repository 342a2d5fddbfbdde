"""What is made once for all test processes of a session: the first that needs it makes it, the others wait for it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

PLACE = "DYNAT_TESTS_SHARED"  # set by conftest.py: a folder of pytest's that all processes of the session know


def shared(name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` fills when it is asked for the first time. Nobody may change what is in it."""
    folder = Path(os.environ[PLACE]) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.with_name(f"{name}.made")
    with open(folder.with_name(f"{name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # left by one that did not get to its end
            folder.mkdir()
            make(folder)
            made.touch()
    return folder
