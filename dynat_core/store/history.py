"""All epochs of a run at once, read incrementally: what was read before is kept, and a live run costs its new lines."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dynat_core.files import open_file, parse_lines
from dynat_core.recorded import histograms


@dataclass(frozen=True)
class History:
    """Records 0..E-1 of a run and their histograms.

    epochs: (E,) int. records: E flat dicts, keys `split/measure`. counts: `split/measure` -> (E, bins) uint32 on the
    bins of `histograms.BINS`, zero rows where an epoch has none. classes: names in label order.
    """

    epochs: np.ndarray
    records: list[dict[str, Any]]
    counts: dict[str, np.ndarray]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.epochs)

    def column(self, key: str) -> np.ndarray:
        """(E,) float64 values of one record key; NaN where it is absent or None."""
        values = (record.get(key) for record in self.records)
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64)

    @property
    def keys(self) -> list[str]:
        """Every key that some record has, in order of appearance."""
        return list(dict.fromkeys(key for record in self.records for key in record))


_MOST = 1 << 30  # bytes


class _Lines:
    """The whole lines of a growing file; after the first read only what was added is read and parsed."""

    def __init__(self, measures: bool = False) -> None:
        """measures: of records whose values are numbers."""
        self._measures = measures
        self.records: list[dict[str, Any]] = []
        self._used = 0
        self._identity: tuple[int, int] | None = None
        self._tail = b""

    def update(self, path: Path) -> bool:
        """Read what is new; say whether the records before it are still the same."""
        try:
            with open_file(path) as file:
                stat = os.fstat(file.fileno())
                grown = self._grew(file, (stat.st_dev, stat.st_ino), stat.st_size)
                if not grown:
                    self.records, self._used = [], 0
                if stat.st_size > _MOST:
                    raise OSError("too large to be a history")
                self._identity = (stat.st_dev, stat.st_ino)
                file.seek(self._used)
                new = file.read()
        except OSError:
            self.__init__(self._measures)
            return False
        records, used = parse_lines(new)
        if self._measures:
            records = [measures(record) for record in records]
        if records:
            self.records = [*self.records, *records]  # a new list: earlier callers keep the one they were given
            self._tail = new[max(0, used - 64) : used]
            self._used += used
        return grown

    def _grew(self, file: Any, identity: tuple[int, int], size: int) -> bool:
        """Whether the file is the one read before with lines added: a resumed run cuts it and writes on."""
        if identity != self._identity or size < self._used:
            return False
        file.seek(self._used - len(self._tail))
        return file.read(len(self._tail)) == self._tail


class _Reader:
    """Both line files of one run, and the counts as arrays that grow with them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epochs, self._histograms = _Lines(measures=True), _Lines()
        self._rows: dict[str, dict[int, np.ndarray]] = {}
        self._seen = 0

    def records(self, epochs: Path) -> list[dict[str, Any]]:
        with self._lock:
            self._epochs.update(epochs)
            return whole_epochs(self._epochs.records)

    def history(self, epochs: Path, counts: Path, classes: tuple[str, ...]) -> History:
        with self._lock:
            self._epochs.update(epochs)
            if not self._histograms.update(counts):
                self._rows, self._seen = {}, 0
            self._take_counts()
            records = whole_epochs(self._epochs.records)
            return History(np.arange(len(records)), records, self._stacked(len(records)), classes)

    def _take_counts(self) -> None:
        for line in self._histograms.records[self._seen :]:
            if line.get("version") == histograms.VERSION and isinstance(line.get("epoch"), int):
                for key, row in line.items():
                    if isinstance(row, list) and len(row) == _entries(key):
                        with suppress(TypeError, ValueError, OverflowError):  # no counts
                            self._rows.setdefault(key, {})[line["epoch"]] = np.array(row, dtype=np.uint32)
        self._seen = len(self._histograms.records)

    def _stacked(self, epochs: int) -> dict[str, np.ndarray]:
        found = {}
        for key, rows in self._rows.items():
            table = np.zeros((epochs, _entries(key)), dtype=np.uint32)
            for epoch, row in rows.items():
                if 0 <= epoch < epochs:
                    table[epoch] = row
            found[key] = table
        return found


def _entries(key: str) -> int:
    """How many counts a histogram of `split/measure` has; 0 for a measure this version does not know."""
    edges = histograms.BINS.get(key.rpartition("/")[2])
    return 0 if edges is None else len(edges) + 1


_OTHERS = ("lr", "c_t", "best_epoch", "examples")  # numbers of no split


def measures(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its measures (`split/measure`) as numbers; what is none counts as not measured."""
    odd = [key for key, value in record.items() if ("/" in key or key in _OTHERS) and not _is_number(value)]
    return {**record, **dict.fromkeys(odd)} if odd else record


def _is_number(value: Any) -> bool:
    return value is None or type(value) is float or (type(value) is int and abs(value) < 1 << 62)


def whole_epochs(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records up to the first that is out of order: a damaged file never shifts an epoch."""
    for epoch, record in enumerate(records):
        if type(record.get("epoch")) is not int or record["epoch"] != epoch:
            return records[:epoch]
    return records


_KEPT = 64  # runs whose lines are kept in memory
_readers: OrderedDict[str, _Reader] = OrderedDict()
_readers_lock = threading.Lock()


def reader(folder: Path) -> _Reader:
    """The reader of the run in `folder`, with what it has read so far."""
    with _readers_lock:
        found = _readers.setdefault(str(folder.absolute()), _Reader())
        _readers.move_to_end(str(folder.absolute()))
        while len(_readers) > _KEPT:
            _readers.popitem(last=False)
        return found
