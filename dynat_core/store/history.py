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
        self._used = 0
        self._identity: tuple[int, int] | None = None
        self._tail = b""

    def update(self, path: Path) -> tuple[bool, list[dict[str, Any]]]:
        """(whether what was read before still stands, the records after it)."""
        try:
            with open_file(path) as file:
                stat = os.fstat(file.fileno())
                grown = self._grew(file, (stat.st_dev, stat.st_ino), stat.st_size)
                if not grown:
                    self._used = 0
                if stat.st_size > _MOST:
                    raise OSError("too large to be a history")
                self._identity = (stat.st_dev, stat.st_ino)
                file.seek(self._used)
                new = file.read()
        except OSError:
            self.__init__(self._measures)
            return False, []
        records, used = parse_lines(new)
        if self._measures:
            records = [measures(record) for record in records]
        if records:
            self._tail = new[max(0, used - 64) : used]
            self._used += used
        return grown, records

    def _grew(self, file: Any, identity: tuple[int, int], size: int) -> bool:
        """Whether the file is the one read before with lines added: a resumed run cuts it and writes on."""
        if identity != self._identity or size < self._used:
            return False
        file.seek(self._used - len(self._tail))
        return file.read(len(self._tail)) == self._tail


class _Reader:
    """Both line files of one run: the records, and the counts as arrays that grow with them. The counts' lines are not
    kept: as Python lists they take ten times the memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epochs, self._histograms = _Lines(measures=True), _Lines()
        self._lines: list[dict[str, Any]] = []
        self._records: list[dict[str, Any]] = []
        self._rows: dict[str, np.ndarray] = {}  # with room for epochs to come
        self._known: History | None = None  # what was told last, while it is still so

    def records(self, epochs: Path) -> list[dict[str, Any]]:
        with self._lock:
            self._take_records(epochs)
            return self._records

    def history(self, epochs: Path, counts: Path, classes: tuple[str, ...]) -> History:
        with self._lock:
            self._take_records(epochs)
            grown, lines = self._histograms.update(counts)
            if not grown:
                self._rows, self._known = {}, None
            self._take_counts(lines)
            if self._known is None or self._known.classes != classes:
                n = len(self._records)
                stacked = {key: _reaching(rows, n)[:n] for key, rows in self._rows.items()}
                self._known = History(np.arange(n), self._records, stacked, classes)
            return self._known

    def _take_records(self, path: Path) -> None:
        grown, new = self._epochs.update(path)
        if new or not grown:
            self._lines = [*(self._lines if grown else []), *new]  # a new list: earlier callers keep theirs
            self._records = whole_epochs(self._lines)
            self._known = None

    def _take_counts(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            epoch = line.get("epoch")
            if line.get("version") != histograms.VERSION or not isinstance(epoch, int):
                continue
            if not 0 <= epoch < len(self._records) + len(lines) + _AHEAD:
                continue
            for key, row in line.items():
                if isinstance(row, list) and len(row) == _entries(key):
                    there = self._rows.get(key, np.zeros((0, len(row)), dtype=np.uint32))
                    there = self._rows[key] = _reaching(there, epoch + 1)
                    with suppress(ValueError, TypeError, OverflowError):  # no counts, so none for this epoch
                        there[epoch] = row
            self._known = None


def _reaching(rows: np.ndarray, n: int) -> np.ndarray:
    """`rows`, or a copy of them with zero rows after, so that there are at least n; room is made for half as many more.

    A copy, because whoever was given the first rows keeps them as they were.
    """
    if len(rows) >= n:
        return rows
    return np.concatenate([rows, np.zeros((n + n // 2 - len(rows), rows.shape[1]), rows.dtype)])


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
_AHEAD = 100  # counts are written before their record; a line that names a much later epoch is damaged
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
