"""What a run recorded, read back from its folder. `run_writer` writes it, and `layout` says where it lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynat_core.errors import RunError
from dynat_core.files import open_file, parse_lines
from dynat_core.recorded import tables
from dynat_core.recorded.trajectories import Trajectories, Trajectory
from dynat_core.store import history
from dynat_core.store.layout import ENDINGS, EPOCHS, is_number, part

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class Recordings:
    """The records, tables, paths and weights in one run folder; each is read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name

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
        return sorted(int(name) for name in names if is_number(name))

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
