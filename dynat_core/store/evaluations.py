"""Measurements on a run's network, each a job folder of its own inside the run: `evaluations/NAME/`.

    request.json        kind, settings, when it was asked for
    partial.json        what is known so far, replaced as it goes
    result.json         what was found; the evaluation is finished
    samples.parquet     one row per image
    points.safetensors  (n, C, H, W) the strongest adversarial point known of each image
    state.bin           what an interrupted ladder goes on from
    lock, starts.jsonl, status.json, stop, error.json   the job's (see `jobs`)

No torch here: screens import this.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dynat_core.errors import ConfigError, RunError
from dynat_core.files import jsonable, read_json, replace_file, writing
from dynat_core.recorded import tables
from dynat_core.store.evaluation_settings import Measured, build
from dynat_core.store.jobs import Job
from dynat_core.store.layout import odd_entry
from dynat_core.store.request import moment

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "evaluations"
FORMAT = 1
_NAME = re.compile(r"[a-z]+-[A-Za-z0-9._-]{1,60}")


class Evaluation:
    """One measurement. Its request is read when it is opened, everything else when it is asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises RunError if the request cannot be read."""
        self.folder = folder
        self.name = folder.name
        self.run_id = folder.parent.parent.name
        self.job = Job(folder)
        request = read_json(folder / "request.json")
        version = None if request is None else request.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise RunError(
                f"The evaluation {self.name} of {self.run_id} has format {version} and this version reads format "
                f"{FORMAT}; open it with the version of Dynat that wrote it."
            )
        if request is None or version != FORMAT or odd_entry(folder):
            raise RunError(self.damage)
        try:
            self.settings: Any = build(request["settings"])
            self.created = moment(request["created"])
            self.by = str(request.get("by") or "")
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise RunError(self.damage) from error

    @property
    def damage(self) -> str:
        """The sentence where its request or its result cannot be read."""
        return f"The evaluation {self.name} of {self.run_id} is damaged; delete its folder."

    def __repr__(self) -> str:
        return f"Evaluation({self.run_id}/{self.name}, {self.state})"

    @property
    def id(self) -> str:
        """`run id/name`."""
        return f"{self.run_id}/{self.name}"

    @property
    def kind(self) -> str:
        """check, again, ladder, curves or transfer."""
        return self.settings.kind

    @property
    def epoch(self) -> int | Literal["best", "last"]:
        """The epoch that was measured; what was asked for, which may be best or last, while it has not finished."""
        measured = (self.result() or {}).get("epoch")
        return measured if type(measured) is int else self.settings.epoch

    @property
    def state(self) -> str:
        """One of jobs.STATES, found out now."""
        return self.job.state

    def status(self) -> dict[str, Any] | None:
        """Progress for display: share (0 to 1), words, eta_s, updated; None before the first."""
        return self.job.status()

    def result(self) -> dict[str, Any] | None:
        """What was found, or None while it is not finished."""
        return read_json(self.folder / "result.json")

    def partial(self) -> dict[str, Any] | None:
        """What is known so far, or None."""
        return read_json(self.folder / "partial.json")

    def samples(self) -> pd.DataFrame:
        """One row per image. Raises RunError where there is none or it is damaged."""
        path = self.folder / "samples.parquet"
        if path.is_symlink() or not path.is_file():
            raise RunError(f"{self.id} has no table of images yet.")
        try:
            return tables.read_samples(path)
        except Exception as error:  # pyarrow has many
            raise RunError(f"{self.id}: the table of images is damaged ({path.name} cannot be read).") from error

    def error(self) -> dict[str, str] | None:
        """{"error": sentence, "traceback": text} of a failed one, or None."""
        return self.job.error()

    def request_stop(self) -> None:
        """Ask it to end at the next batch. Raises RunError when there is nothing to stop."""
        if self.state in ("finished", "failed"):
            raise RunError(f"{self.id} is {self.state}; there is nothing to stop.")
        self.job.request_stop()

    def resume(self) -> None:
        """Want it again. Raises RunError when it has finished."""
        if self.state == "finished":
            raise RunError(f"{self.id} has finished; there is nothing to resume.")
        self.job.allow()

    # -- for whoever works on it; the job must be claimed

    def write(self, name: str, content: bytes, durable: bool = True) -> None:
        """Replace one of its files in one step. Raises OSError where the disk refuses."""
        replace_file(self.folder / name, content, durable=durable)

    def write_json(self, name: str, content: dict[str, Any], durable: bool = True) -> None:
        """The same for JSON; numpy's numbers and arrays may be in it."""
        self.write(name, json.dumps(jsonable(content), allow_nan=False).encode(), durable)


def evaluations(run_folder: Path) -> list[Evaluation]:
    """All evaluations of a run that can be read, newest first."""
    return _readable(run_folder, _names(run_folder))[::-1]


def damaged(run_folder: Path, kind: str) -> list[str]:
    """A sentence for each evaluation of a kind, by its name, that cannot even be opened."""
    found = []
    for name in _names(run_folder):
        try:
            if name.startswith(f"{kind}-"):
                Evaluation(run_folder / FOLDER / name)
        except RunError as error:
            found.append(str(error))
    return found


def waiting(run_folder: Path) -> list[Evaluation]:
    """Those of a run that nobody has finished yet, oldest first; cheap where there is none."""
    unfinished = [n for n in _names(run_folder) if not os.path.exists(f"{run_folder}/{FOLDER}/{n}/result.json")]
    return _readable(run_folder, unfinished)


def open_evaluation(run_folder: Path, name: str) -> Evaluation:
    """The evaluation called `name` of a run. Raises RunError when there is none."""
    folder = run_folder / FOLDER / name
    if not _NAME.fullmatch(name) or folder.is_symlink() or not folder.is_dir():
        raise RunError(f"{run_folder.name} has no evaluation called {ascii(name)[1:-1][:60]}.")
    return Evaluation(folder)


def create(run_folder: Path, settings: Measured, name: str | None = None, by: str = "") -> Evaluation:
    """Ask for a measurement: the folder appears whole or not at all. by: who asks, where people sign in.

    Raises JobError where it cannot be written.
    """
    created = datetime.now(UTC)
    request = {
        "format": FORMAT,
        "created": created.isoformat(timespec="microseconds"),
        **({"by": by} if by else {}),
        "settings": settings.model_dump(mode="json"),
    }
    kind = request["settings"]["kind"]
    with writing(run_folder):
        parent = run_folder / FOLDER
        parent.mkdir(exist_ok=True)
        hidden = parent / f".new-{secrets.token_hex(8)}"
        hidden.mkdir()
        try:
            replace_file(hidden / "request.json", json.dumps(request, indent=1).encode())
            folder = parent / (name or f"{kind}-{created:%Y%m%d}-{secrets.token_hex(3)}")
            if folder.exists():
                raise RunError(f"{run_folder.name} already has an evaluation called {folder.name}.")
            hidden.rename(folder)
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise
    return Evaluation(folder)


def _names(run_folder: Path) -> list[str]:
    try:
        with os.scandir(run_folder / FOLDER) as entries:
            return [e.name for e in entries if _NAME.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _readable(run_folder: Path, names: list[str]) -> list[Evaluation]:
    """Oldest first; what cannot be read is left out."""
    found = []
    for name in names:
        with contextlib.suppress(RunError):
            found.append(Evaluation(run_folder / FOLDER / name))
    return sorted(found, key=lambda e: (e.created, e.name))
