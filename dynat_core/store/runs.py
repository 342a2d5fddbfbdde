"""The run store: a folder of run folders. What one of them holds is in `run`. No torch here: screens import this."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from dynat_core.config import RunConfig
from dynat_core.errors import RunError, shown
from dynat_core.files import replace_file, writing
from dynat_core.store import request
from dynat_core.store.run import Run

__all__ = ["Run", "RunStore"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


class RunStore:
    """A folder of run folders; it need not exist yet."""

    def __init__(self, folder: Path | str | None = None) -> None:
        """folder: default DYNAT_STORE, or else checkpoints/."""
        self.folder = Path(folder or os.environ.get("DYNAT_STORE") or "checkpoints")

    def list(self, skip: Collection[str] = ()) -> list[Run]:
        """All runs but those in `skip` (ids), newest first. One that cannot be read is listed too, with state "broken"
        and a `problem`. Raises RunError if the store itself cannot be read.
        """
        runs = [_checked(Path(e.path), e.is_symlink(), self.folder) for e in self._entries() if e.name not in skip]
        return sorted(runs, key=lambda run: (run.created, run.id), reverse=True)

    def open(self, id: str) -> Run:
        """The run called `id`. Raises RunError when there is none or it cannot be read."""
        folder = self.folder / id if isinstance(id, str) and _ID.fullmatch(id) else None
        if folder is None or not folder.is_dir():
            raise RunError(f'There is no run called {shown(id)}; "python -m dynat_core runs" lists them.')
        run = _checked(folder, folder.is_symlink(), self.folder)
        if run.problem is not None and run.state == "broken":
            raise RunError(run.problem)
        return run

    def create(
        self,
        config: RunConfig,
        id: str | None = None,
        *,
        kind: str = "training",
        files: Mapping[str, bytes] | None = None,
        launcher: str = "",
        by: str = "",
    ) -> Run:
        """Put a new run into the queue: the folder appears whole or not at all.

        kind: "training"; "imported", a network from a file, which is measured once; "external", recorded by a program
        of one's own and never queued. files: what the folder holds from the start, path below it -> content.
        launcher: who shares the machine with others, a sweep or a browser tab: launchers take turns.
        by: who asked for it, where people sign in; all that one person asks for takes turns as one.
        Raises RunError if `id` is taken or no name for a folder, or if settings of this kind cannot be trained;
        JobError where the store cannot be written.
        """
        if kind == "training" and not config.trains_here:
            raise RunError("These settings are about a network from elsewhere: it can be measured, not trained here.")
        if kind == "training" and (why := config.pointless()):
            raise RunError(why)
        if id is not None and not _ID.fullmatch(id):
            raise RunError(f"{shown(id)} cannot name a run: use letters, digits, dots, hyphens and underscores.")
        created = datetime.now(UTC)
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            while True:
                what = config.strategy.name if kind == "training" else kind
                name = id or f"{created:%Y-%m-%d}-{what}-{config.data.name}-{secrets.token_hex(2)}"
                if self._appear(name, request.to_bytes(name, kind, config, created, launcher, by), files or {}):
                    return Run(self.folder / name)
                if id is not None:
                    raise RunError(f"There already is a run called {id}; choose another name, or delete that one.")

    def _appear(self, name: str, asked: bytes, files: Mapping[str, bytes]) -> bool:
        """Make the folder under a hidden name and rename it; False if the name is taken."""
        if os.path.lexists(self.folder / name):
            return False
        hidden = self.folder / f".new-{secrets.token_hex(8)}"
        hidden.mkdir()
        try:
            for path, content in {**files, "run.json": asked}.items():
                (hidden / path).parent.mkdir(parents=True, exist_ok=True)
                replace_file(hidden / path, content)
            hidden.rename(self.folder / name)
        except OSError:
            shutil.rmtree(hidden, ignore_errors=True)
            if os.path.lexists(self.folder / name):
                return False  # somebody else was faster
            raise
        return True

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self.folder) as entries:
                yield from (e for e in entries if not e.name.startswith(".") and (e.is_dir() or e.is_symlink()))
        except FileNotFoundError:
            return
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
            raise RunError(f"The run store {self.folder} {reason}; name another in DYNAT_STORE.") from error


def _checked(folder: Path, link: bool, store: Path) -> Run:
    """The run in `folder`, broken if the folder is a link that leads out of the store."""
    if link and folder.resolve().parent != store.resolve():
        return Run(folder, f"{folder.name} is a link out of the run store and is not followed; move the run itself in.")
    return Run(folder)
