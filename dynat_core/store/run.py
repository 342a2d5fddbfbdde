"""One run folder: what it holds and how to read it. This module and `run_writer` alone know the layout.

    epochs.jsonl            one flat record per epoch, keys `split/measure`; line 0 is the untrained network
    histograms.jsonl        one line per epoch: counts on the fixed bins of `histograms`
    samples/0007.parquet    one row per image; samples/best.parquet and last.parquet hold every test image
    probes/0007.parquet     the paths of the same few images at every epoch
    paths/0030.parquet      the paths of all test images at the last epoch
    weights/0007.safetensors, resume.safetensors, label.json, log.txt; the rest is the job's (see `jobs`)

No torch here: screens import this.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynat_core.config import RunConfig
from dynat_core.errors import ConfigError, RunError
from dynat_core.files import open_file, parse_lines, read_file, read_json, read_lines, replace_file, writing
from dynat_core.recorded import tables
from dynat_core.recorded.trajectories import Trajectories, Trajectory
from dynat_core.store import history, logs
from dynat_core.store.formats import upgraded
from dynat_core.store.history import History
from dynat_core.store.jobs import STATES, UNFINISHED, Job, take

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from dynat_core.store.run_writer import RunWriter

EPOCHS, HISTOGRAMS, RESUME, LOG = "epochs.jsonl", "histograms.jsonl", "resume.safetensors", "log.txt"
ENDINGS = {"samples": ".parquet", "probes": ".parquet", "paths": ".parquet", "weights": ".safetensors"}
_FULL_BELOW = 1 << 20  # bytes left on a disk that cannot take even a sentence


def part(folder: Path, kind: str, epoch: int | str) -> Path:
    """Where the `kind` (a key of ENDINGS) of an epoch lies, or of "best" or "last" for samples."""
    if isinstance(epoch, str) and epoch not in ("best", "last"):
        raise RunError(f"There is no epoch {shown(epoch)}; give a number, best or last.")
    name = epoch if isinstance(epoch, str) else f"{epoch:04d}"
    return folder / kind / (name + ENDINGS[kind])


class Run:
    """One run folder. Its settings are read when it is opened, everything else when it is asked for."""

    def __init__(self, folder: Path, broken: str | None = None) -> None:
        """broken: why the folder must not be read as a run, if that is known already."""
        self.folder = folder
        self.id = folder.name
        self._job = Job(folder)
        self._config: RunConfig | None = None
        self._broken = broken
        self.kind = "training"  # or "imported" or "external", see RunStore.create
        self.launcher = ""  # whose turns in the queue it takes; empty: nobody in particular
        self.by = ""  # who asked for it, where people sign in
        self.created = _changed(folder)
        if broken:
            return
        if odd := odd_entry(folder):
            why = "is a link or no plain file and is not followed; put a file in its place"
            self._broken = f"{shown(odd)} in {self.id} {why}."
            return
        try:
            request = _read_request(folder)
            self.created = datetime.fromisoformat(request["created"]).astimezone(UTC)
            self._config = RunConfig.build(request["config"])
            self.kind = str(request["kind"])
            self.launcher = str(request.get("launcher") or "")[:80]
            self.by = str(request.get("by") or "")
        except RunError as error:
            self._broken = str(error)
        except ConfigError as error:
            self._broken = (
                f"{self.id} has a setting that this version of Dynat cannot take ({str(error).removesuffix('.')}); "
                "nothing of it is lost, open it with the version that wrote it."
            )

    def __repr__(self) -> str:
        return f"Run({self.id!r}, {self.state})"

    # -- what it is

    @property
    def config(self) -> RunConfig:
        """Everything that was asked for. Raises RunError for a broken run."""
        if self._config is None:
            raise RunError(self._broken or f"{self.id} is broken.")
        return self._config

    @property
    def state(self) -> str:
        """One of jobs.STATES, found out now."""
        return "broken" if self._broken else self._job.state

    @property
    def running(self) -> bool:
        """Whether a process works on it now."""
        return self.state == "running"

    @property
    def stopping(self) -> bool:
        """Whether it still runs though somebody asked for its end."""
        return self._job.stop_requested and self.running

    @property
    def problem(self) -> str | None:
        """One sentence for a run that is broken, failed or interrupted; None for others."""
        state = self.state
        if state == "broken":
            return self._broken
        if state == "failed":
            return (self._job.error() or {}).get("error")
        if state != "interrupted":
            return None
        if self.kind == "external":
            return self._broke_off()
        with suppress(OSError):  # the folder may just have been deleted
            if shutil.disk_usage(self.folder).free < _FULL_BELOW:
                return f"The disk that holds {self.folder} is full: free some space and resume; no record is lost."
        return f"The worker stopped {self._left_at()}; resume to go on from there."

    def _left_at(self) -> str:
        last = self.last_record()
        return f"after epoch {last['epoch']}" if last else "before its first record"

    def _broke_off(self) -> str:
        return f"The program that records it ended {self._left_at()}; log_run on the same folder goes on."

    @property
    def title(self) -> str:
        """The name somebody gave it, or else what its settings say; of a broken run its id."""
        title = self.label().get("title")
        return (
            (isinstance(title, str) and title.isprintable() and title)
            or (self._config and self._config.title())
            or self.id
        )

    @property
    def modified(self) -> float:
        """A key, in seconds, that changes when a record is added or the state changes, also while the clock is moved
        back."""
        watched = ("run.json", EPOCHS, "result.json", "error.json", "label.json")
        stats = [_stat(self.folder / name) for name in watched]
        newest, size = max(time for time, _ in stats), sum(size for _, size in stats)
        return newest + STATES.index(self.state) / 16 + size / (1 << 20)

    @property
    def position_in_queue(self) -> int | None:
        """How many runs come first (0: next); None if it does not wait."""
        if self.state not in UNFINISHED or self.kind == "external":
            return None
        from dynat_core.store.queue import before
        from dynat_core.store.runs import RunStore

        return before(self, RunStore(self.folder.parent).list())

    def label(self) -> dict[str, Any]:
        """What a person wrote about it: title, tags, note, archived; {} when nothing."""
        return read_json(self.folder / "label.json") or {}

    def set_label(self, **changes: Any) -> None:
        """Change entries of the label. Raises JobError where the store cannot be written."""
        with writing(self.folder), _one_at_a_time(self.folder):
            replace_file(self.folder / "label.json", json.dumps({**self.label(), **changes}).encode())

    def rerun_command(self) -> str:
        """One command line that trains the same again."""
        from dynat_core.store.rerun import command

        return command(self.config)

    # -- how it goes

    def status(self) -> dict[str, Any] | None:
        """Progress as last written: epoch, epochs, batch, batches, phase, eta_s, updated; None before the first."""
        return self._job.status()

    def starts(self) -> list[dict[str, Any]]:
        """One entry per start: versions, device, threads, data hash, commit."""
        return read_lines(self.folder / "starts.jsonl")

    def result(self) -> dict[str, Any] | None:
        """The summary of a finished run, or None."""
        found = read_json(self.folder / "result.json")
        if found is None:
            return None
        return {key: value for key, value in found.items() if key not in ("best", "last") or _is_summary(value)}

    def error(self) -> dict[str, str] | None:
        """{"error": sentence, "traceback": text} of a failed run, or None."""
        return self._job.error()

    def log_tail(self, n: int = 40) -> str:
        """The last `n` lines that its processes printed."""
        return logs.end(self.folder / LOG, n)

    def request_stop(self) -> None:
        """Ask it to stop at the next batch, with a checkpoint. Raises RunError when there is nothing to stop."""
        state = self.state
        if state in ("finished", "failed", "broken"):
            raise RunError(f"{self.id} is {state}; there is nothing to stop.")
        self._job.request_stop()

    def resume(self) -> None:
        """Want it again: a stopped or failed run goes back to the queue. Raises RunError when it has finished."""
        state = self.state
        if state in ("finished", "broken"):
            raise RunError(f"{self.id} is {state}; there is nothing to resume.")
        if self.kind == "external":
            raise RunError(f"{self.id} is recorded by a program of one's own; start that program again.")
        self._job.allow()

    # -- what it recorded

    def records(self) -> list[dict[str, Any]]:
        """One flat dict per epoch; not to be changed. A torn last line is left out."""
        return list(history.reader(self.folder).records(self.folder / EPOCHS))

    def last_record(self) -> dict[str, Any] | None:
        """The newest record, read from the end of the file, or None."""
        try:
            with open_file(self.folder / EPOCHS) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 16_384))
                end = file.read()
        except OSError:
            return None
        lines = end.split(b"\n")[:-1]  # what follows the last newline is torn
        records = [history.measures(one) for one in parse_lines(lines[-1] + b"\n")[0]] if lines else []
        return records[0] if records and isinstance(records[0].get("epoch"), int) else (self.records() or [None])[-1]

    def history(self) -> History:
        """All epochs and their histograms; cheap to ask again, only new lines are read."""
        return history.reader(self.folder).history(self.folder / EPOCHS, self.folder / HISTOGRAMS, self.config.classes)

    def epoch_of(self, which: int | str) -> int:
        """The epoch that "best", "last" or a number means. Raises RunError for one that is not recorded."""
        last = self.last_record()
        if last is None:
            raise RunError(f"{self.id} has no epoch yet.")
        found = {"last": last["epoch"], "best": last.get("best_epoch")}.get(which) if isinstance(which, str) else which
        if not isinstance(found, int) or not 0 <= found <= last["epoch"]:
            raise RunError(f"{self.id} has no epoch {which}; it recorded 0 to {last['epoch']}.")
        return found

    def samples(self, epoch: int | str, columns: list[str] | None = None, split: str | None = None) -> pd.DataFrame:
        """One row per image at an epoch; "best" and "last" hold every test image. Raises RunError."""
        path = part(self.folder, "samples", epoch)
        with self._reading(path, f"table of samples for epoch {epoch}"):
            return tables.read_samples(path, columns, split)

    def probes(self, epoch: int) -> Trajectories:
        """The recorded paths of the few images followed through all epochs. Raises RunError."""
        path = part(self.folder, "probes", epoch)
        with self._reading(path, f"recorded paths for epoch {epoch}"):
            return tables.read_paths(path).labelled(run=self.id, epoch=epoch)

    def paths(self) -> tuple[int, dict[str, Any]] | None:
        """(epoch, {"settings", "shapes", "indices"}) of the newest recording of every test image's path, or None."""
        epochs = self.epochs_of("paths")
        if not epochs:
            return None
        path = part(self.folder, "paths", epochs[-1])
        with self._reading(path, f"paths of epoch {epochs[-1]}"):
            return epochs[-1], tables.paths_note(path)

    def recorded_indices(self, epoch: int) -> list[int]:
        """The images whose path was recorded at this epoch, in rising order; [] when none was."""
        found: set[int] = set()
        if (path := part(self.folder, "paths", epoch)).exists():
            with self._reading(path, f"paths of epoch {epoch}"):
                found.update(tables.paths_note(path)["indices"])
        if part(self.folder, "probes", epoch).exists():
            found.update(self.probes(epoch).index.tolist())
        return sorted(found)

    def trajectory(self, index: int, epoch: int) -> Trajectory | None:
        """The recorded path of one image at an epoch, or None if it was not recorded. Reads little more than that."""
        path = part(self.folder, "paths", epoch)
        if path.exists():
            with self._reading(path, f"paths of epoch {epoch}"):
                found = tables.read_path(path, index)
            if found is not None:
                return replace(found, settings={**found.settings, "run": self.id, "epoch": epoch})
        if part(self.folder, "probes", epoch).exists():
            probes = self.probes(epoch)
            places = (probes.index == index).nonzero()[0]
            return probes.one(int(places[0])) if len(places) else None
        return None

    def curves(self, epoch: int, names: tuple[str, ...] = ("relative_fosc", "margin")) -> dict[str, np.ndarray]:
        """index, label (n,) and the named curves (n, K+1) over all paths recorded at an epoch. Raises RunError."""
        path = part(self.folder, "paths", epoch)
        with self._reading(path, f"paths of epoch {epoch}"):
            return tables.read_curves(path, names)

    def kept_epochs(self) -> list[int]:
        """The epochs whose weights are kept, in rising order."""
        return self.epochs_of("weights")

    def epochs_of(self, kind: str) -> list[int]:
        """The epochs of which a file of this kind (a key of ENDINGS) is kept, in rising order."""
        try:
            names = [name.partition(".")[0] for name in os.listdir(self.folder / kind) if name.endswith(ENDINGS[kind])]
        except OSError:
            return []
        return sorted(int(name) for name in names if name.isdigit())

    def weights(self, epoch: int | str) -> Path:
        """The weights file of an epoch, "best" or "last". Raises RunError if it was not kept."""
        number, kept = self.epoch_of(epoch), self.kept_epochs()
        path = part(self.folder, "weights", number)
        if not kept:
            raise RunError(
                f"{self.id} has no weights any more; bring its folder weights back, or delete the run and train it "
                "again."
            )
        if path.is_symlink() or not path.is_file():
            raise RunError(f"{self.id} did not keep the weights of epoch {number}; kept: {', '.join(map(str, kept))}.")
        return path

    def writer(self) -> RunWriter:
        """What records into this run; its job must be claimed first."""
        from dynat_core.store.run_writer import RunWriter

        return RunWriter(self)

    # -- inside

    @contextmanager
    def _reading(self, path: Path, what: str) -> Iterator[None]:
        """Whatever goes wrong while a recorded file is read becomes one sentence."""
        if path.is_symlink() or not path.is_file():
            raise RunError(f"{self.id} has no {what}.")
        try:
            yield
        except RunError:
            raise
        except KeyError as error:
            raise RunError(f"{self.id}: the {what} lacks {error}; it is damaged or of another version.") from error
        except Exception as error:  # pyarrow and safetensors each have many
            raise RunError(f"{self.id}: the {what} is damaged ({path.name} cannot be read).") from error


def _is_summary(found: Any) -> bool:
    """Whether this is what a run says about its best or last epoch, and not something else under that name."""
    if not isinstance(found, dict):
        return False
    n, *right = (found.get(key) for key in ("n", "clean_correct", "robust_correct"))
    return (
        type(found.get("epoch")) is int
        and type(n) is int
        and n > 0
        and all(type(k) is int and 0 <= k <= n for k in right)
    )


def odd_entry(folder: Path) -> str | None:
    """The name of something in a run's or an evaluation's folder that is neither a file nor a folder of its own.

    A folder that came from elsewhere may hold links: what they lead to would be shown, and written to.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False) and not entry.is_dir(follow_symlinks=False):
                return entry.name
    return None


def _read_request(folder: Path) -> dict[str, Any]:
    """The content of run.json. Raises RunError with one sentence."""
    try:
        request = json.loads(read_file(folder / "run.json"))
    except FileNotFoundError as error:
        raise RunError(f"{folder.name} has no run.json; put the file back or delete the folder.") from error
    except OSError as error:
        raise RunError(f"run.json of {folder.name} cannot be read ({error.strerror}); mend that first.") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"run.json of {folder.name} is damaged; put a copy back or delete the folder.") from error
    if not isinstance(request, dict):
        raise RunError(f"run.json of {folder.name} is damaged; put a copy back or delete the folder.")
    request = upgraded(request, folder.name)
    try:
        datetime.fromisoformat(request["created"]).astimezone()
        request["config"]
        request["kind"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RunError(f"run.json of {folder.name} is incomplete; put a copy back or delete the folder.") from error
    return request


def _changed(folder: Path) -> datetime:
    return datetime.fromtimestamp(_mtime(folder), UTC)


def _mtime(path: Path) -> float:
    return _stat(path)[0]


def _stat(path: Path) -> tuple[float, int]:
    """(when it was last changed, bytes); zeros where it is not there."""
    try:
        stat = path.stat()
        return stat.st_mtime, stat.st_size
    except OSError:
        return 0.0, 0


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Two people change different entries of a label at once, and both changes stay: the folder itself is locked."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks on folders: as good as it gets
            take(file, fcntl.LOCK_EX, patience=2)
        yield
    finally:
        os.close(file)


def shown(text: Any) -> str:
    """What somebody typed, short and without control characters."""
    shown = text if isinstance(text, str) and text.isprintable() else ascii(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."
