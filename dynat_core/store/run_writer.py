"""Recording into a run folder, in the order that makes a kill, or a power cut, at any instant harmless.

Per epoch: tables, probes, weights, the histograms line, the epochs line, then the file to resume from; only then are
weights that nobody keeps deleted. All of it is on disk before the file to resume from is replaced, and before the run
is finished. What is newer than that file is cut off before a run goes on, so its records are those of a run that was
never interrupted.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynat_core.errors import RunError, shown
from dynat_core.files import append_line, jsonable, parse_lines, replace_file, sync_file
from dynat_core.recorded import histograms, tables
from dynat_core.store.formats import FORMAT
from dynat_core.store.history import whole_epochs
from dynat_core.store.layout import ENDINGS, EPOCHS, HISTOGRAMS, RESUME, is_number, part
from dynat_core.store.run import Run

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from dynat_core.recorded.trajectories import Trajectories


class RunWriter:
    """Records into `run`, whose job the caller has claimed. Everything raises OSError where the disk refuses."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.folder = run.folder
        self.recorded = -1  # the last epoch in epochs.jsonl; known after `recover`
        self.best: int | None = None
        self._unsynced: list[Path] = []  # what a power cut could still take

    # -- before training

    def recover(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the (tensors, meta) to go on from, or None to start at the beginning; cut off everything newer.

        Raises RunError if the file to resume from is damaged, or missing though epochs are recorded: nothing is changed
        then.
        """
        found = self._read_resume()
        state, recorded = found if found else (None, -1)
        if found is None and self._trained():
            raise RunError(
                f"{self.run.id} cannot go on: {self.folder / RESUME} is missing; its records are kept. "
                f"Bring that file back and resume, or delete {EPOCHS} too and resume to train it again from the start."
            )
        records = whole_epochs(self._lines(EPOCHS))
        if len(records) <= recorded:
            raise RunError(
                f"{self.run.id} lacks records before epoch {recorded}, where it would go on ({EPOCHS} is damaged). "
                f"Delete {self.folder / RESUME} and {EPOCHS}, and resume to train it again from the start."
            )
        self._cut(recorded)
        self.recorded = recorded
        self.best = records[recorded].get("best_epoch") if recorded >= 0 else None
        self._prune()
        return state

    def go_on(self) -> None:
        """Keep every whole epoch, cut off what is torn, and go on after them: for a run that a program records."""
        records = whole_epochs(self._lines(EPOCHS))
        self.recorded = len(records) - 1
        self.best = records[-1].get("best_epoch") if records else None
        self._cut(self.recorded)

    def start(self, entry: Mapping[str, Any]) -> None:
        """Append one line about this start: versions, device, threads, data hash, commit."""
        path = self.folder / "starts.jsonl"
        self._cut_lines(path, lambda record: True)  # the half line of a start that was killed would swallow this one
        append_line(path, dict(entry))

    # -- while training

    def epoch(
        self,
        record: Mapping[str, Any],
        samples: pd.DataFrame,
        counts: Mapping[str, list[int]],
        probes: Trajectories | None,
        weights: Mapping[str, Tensor] | None,
    ) -> None:
        """Record one epoch; it counts from the moment its line is in epochs.jsonl. Weights that are None are not
        written: they are there, or are nobody's."""
        epoch = record["epoch"]
        self._write("samples", epoch, tables.samples_to_bytes(samples))
        if probes is not None and len(probes):
            self._write("probes", epoch, tables.paths_to_parquet(probes))
        if weights is not None:
            self._write("weights", epoch, _tensors_to_bytes(weights))
        append_line(self.folder / HISTOGRAMS, {"version": histograms.VERSION, "epoch": epoch, **counts})
        append_line(self.folder / EPOCHS, {key: jsonable(value) for key, value in record.items()})
        self.recorded, self.best = epoch, record.get("best_epoch")

    def resume(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Replace the file to resume from, then delete the weights that are not kept."""
        self._sync()
        note = {"format": str(FORMAT), "recorded": str(self.recorded), "state": json.dumps(meta)}
        note["crc32"] = _checksum(tensors, note)
        replace_file(self.folder / RESUME, _tensors_to_bytes(tensors, note))
        self._prune()

    def _prune(self) -> None:
        """Delete the weights that are not kept; none that the file to resume from could still need is among them."""
        if self.run.config.recording.keep_weights == "best-last":
            for epoch in self.run.kept_epochs():
                if epoch not in (0, self.best, self.recorded):
                    part(self.folder, "weights", epoch).unlink(missing_ok=True)

    # -- after training

    def finish(self, result: Mapping[str, Any], final: Mapping[str, pd.DataFrame], paths: Trajectories | None) -> None:
        """Record what is measured once; the run is finished from the moment result.json is there."""
        for name, table in final.items():
            self._write("samples", name, tables.samples_to_bytes(table))
        if paths is not None and len(paths):
            self._write("paths", self.recorded, tables.paths_to_parquet(paths))
        self._sync()
        replace_file(self.folder / "result.json", json.dumps(jsonable(result), indent=1, allow_nan=False).encode())
        for name in (RESUME, "status.json"):
            (self.folder / name).unlink(missing_ok=True)

    # -- inside

    def _write(self, kind: str, epoch: int | str, content: bytes) -> None:
        path = part(self.folder, kind, epoch)
        path.parent.mkdir(exist_ok=True)
        replace_file(path, content, durable=False)  # so that the record need not wait for the disk
        self._unsynced.append(path)

    def _sync(self) -> None:
        """Put what was written on the disk: once the file to resume from, or the result, is behind it, nobody makes it
        again."""
        for path in self._unsynced:
            with suppress(FileNotFoundError):  # somebody took it away meanwhile
                sync_file(path)
        self._unsynced.clear()

    def _read_resume(self) -> tuple[tuple[dict[str, Tensor], dict[str, Any]], int] | None:
        """((tensors, meta), last recorded epoch) or None when there is no such file."""
        path = self.folder / RESUME
        if not path.exists():
            return None
        try:
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                note = file.metadata() or {}
                _refuse_other_version(self.run.id, note["format"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            if note["format"] != "1" and note["crc32"] != _checksum(tensors, note):
                raise ValueError("the checksum differs")  # one wrong bit in a weight, and it would be another run
            return (tensors, json.loads(note["state"])), int(note["recorded"])
        except RunError:
            raise
        except Exception as error:  # whatever a cut or scrambled file makes the parsers say
            raise RunError(
                f"{self.run.id} cannot go on: {path} is damaged; its records are kept. "
                f"Delete that file and {EPOCHS}, and resume to train it again from the start."
            ) from error

    def _lines(self, name: str) -> list[dict[str, Any]]:
        try:
            return parse_lines((self.folder / name).read_bytes())[0]
        except FileNotFoundError:
            return []

    def _trained(self) -> bool:
        """Whether epochs after the untrained network's are recorded, though a line may be damaged: the file to resume
        from is there from epoch 0 on, so that without it this is a copy, perhaps one under way."""
        try:
            return (self.folder / EPOCHS).read_bytes().count(b"\n") > 1
        except FileNotFoundError:
            return False

    def _cut(self, last: int) -> None:
        """Take away what belongs to epochs after `last`, torn lines and files left half-written."""
        for name in (HISTOGRAMS, EPOCHS):
            self._cut_lines(self.folder / name, lambda record: record.get("epoch", last + 1) <= last)
        for kind, ending in ENDINGS.items():
            if kind == "weights" and self.run.kind == "imported":
                continue  # they were there first
            for path in (self.folder / kind).glob("*" + ending):
                if not is_number(path.stem) or int(path.stem) > last:
                    path.unlink()
        for path in [*self.folder.glob(".writing-*"), *self.folder.glob("*/.writing-*")]:
            if not path.name.startswith(".writing-label.json"):  # the one file that somebody else may be writing
                path.unlink(missing_ok=True)

    def _cut_lines(self, path: Path, keep: Any) -> None:
        """Keep the lines, byte for byte, up to the first that is torn or that `keep` refuses."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return
        kept = 0
        for line in content.splitlines(keepends=True):
            records, used = parse_lines(line)
            if not used or not keep(records[0]):
                break
            kept += used
        if kept < len(content):
            replace_file(path, content[:kept])


def _refuse_other_version(id: str, version: str) -> None:
    """What the file to resume from holds has been the same in every format so far."""
    if version not in map(str, range(1, FORMAT + 1)):
        raise RunError(
            f"{id} was begun by another version of Dynat (format {shown(version)}); its records are kept, "
            "resume it with that version."
        )


def _checksum(tensors: Mapping[str, Tensor], note: Mapping[str, str]) -> str:
    """Of everything a run goes on from: names, numbers, and where it stands."""
    place = f"{note['recorded']} {note['state']}".encode()
    return f"{zlib.crc32(_tensors_to_bytes(tensors), zlib.crc32(place)):08x}"


def _tensors_to_bytes(tensors: Mapping[str, Tensor], note: dict[str, str] | None = None) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, note)
