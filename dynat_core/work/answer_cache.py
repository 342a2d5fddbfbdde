"""Answers of the analysis helper on disk: diskcache, restricted to raw bytes so that opening a cache runs no code."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import MODE_BINARY, MODE_RAW, UNKNOWN

from dynat_core.recorded.packing import unpack

SIZE_LIMIT = 256 * 2**20  # bytes; the oldest answers go first
_TROUBLE = (OSError, sqlite3.Error, diskcache.Timeout, TypeError)
_FILE = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")

Value = tuple[dict[str, Any], dict[str, Any]]


class PlainDisk(diskcache.Disk):
    """Keeps bytes under text keys and nothing else; diskcache's own disk pickles whatever it does not know.

    Raises TypeError for a value that is not bytes, for a key that is not text, and for a row that asks for a pickle or
    for a file outside the cache.
    """

    def put(self, key: Any) -> Any:
        if type(key) is not str:
            raise TypeError(f"a cache key is text, not {type(key).__name__}")
        return key, True

    def get(self, key: Any, raw: bool) -> str:
        if not raw or type(key) is not str:
            raise TypeError("the cache holds a key that is not text")
        return key

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> Any:
        if type(value) is not bytes or read:
            raise TypeError(f"the cache keeps bytes, not {type(value).__name__}")
        return super().store(value, read, key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode not in (MODE_RAW, MODE_BINARY) or (filename is not None and not _FILE.fullmatch(filename)):
            raise TypeError("the cache holds something that is not plain bytes")
        return super().fetch(mode, filename, value, read)


class AnswerCache:
    """(header, arrays) by key, in `folder`. A cache that cannot be read or written is as good as an empty one."""

    def __init__(self, folder: Path) -> None:
        self._cache: diskcache.Cache | None = None
        with contextlib.suppress(*_TROUBLE):
            self._cache = diskcache.Cache(str(folder), disk=PlainDisk, size_limit=SIZE_LIMIT, timeout=2)

    def get(self, key: str) -> Value | None:
        """The answer kept under `key`, or None; a damaged one is dropped."""
        if self._cache is None:
            return None
        try:
            blob: Any = self._cache.get(key)
            return None if blob is None else unpack(blob)
        except (*_TROUBLE, ValueError):
            with contextlib.suppress(*_TROUBLE):
                self._cache.delete(key)
            return None

    def put(self, key: str, blob: bytes) -> None:
        """Keep a packed answer; does nothing where the disk is full or read-only."""
        if self._cache is not None:
            with contextlib.suppress(*_TROUBLE):
                self._cache.set(key, blob)
