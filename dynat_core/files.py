"""Files that are never seen half-written: replaced in one step, or grown by whole lines. Full disks get a sentence."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from dynat_core.errors import JobError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MOST_READ = 1 << 28  # bytes of a file that is read whole
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def storage_sentence(error: OSError, folder: Path) -> str | None:
    """The sentence for a disk that is full or read-only, or None when `error` is about something else."""
    if error.errno in FULL:
        return (
            f"The disk that holds {folder} is full (or over its quota): free some space and resume; "
            "everything recorded before is kept."
        )
    if error.errno in READ_ONLY:
        return (
            f"{folder} cannot be written (read-only or not yours): make it writable, "
            "or name another store in DYNAT_STORE."
        )
    return None


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn whatever a disk refuses into a JobError with one sentence."""
    try:
        yield
    except OSError as error:
        raise JobError(_refusal(error, folder)) from error


def _refusal(error: OSError, folder: Path) -> str:
    if sentence := storage_sentence(error, folder):
        return sentence
    if isinstance(error, FileNotFoundError) and not os.path.lexists(folder):
        return f"{folder} is not there any more: it was deleted or moved, and nothing was changed."
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"{folder} is not a folder that can be written: name another store in DYNAT_STORE."
    where = error.filename2 or error.filename or folder  # a folder or a link where a file belongs, a disk that fails
    return f"{os.fsdecode(where)} cannot be written ({error.strerror}): see what is in its place, and try again."


def replace_file(path: Path, content: bytes, durable: bool = True) -> None:
    """Write `content` to `path` in one step: readers see the old file or the new one, whole.

    durable: on disk before the old file is given up, so that a power cut leaves one of the two as well.
    Raises OSError; nothing is left behind and the old file stays.
    """
    file, name = tempfile.mkstemp(prefix=f".writing-{path.name}-", dir=path.parent)
    try:
        with os.fdopen(file, "wb") as out:
            os.fchmod(out.fileno(), 0o644)
            out.write(content)
            out.flush()
            if durable:
                os.fsync(out.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def sync_file(path: Path) -> None:
    """What the file holds, and that it is there, is on disk when this returns. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append `record` as one line of JSON, on disk when this returns. Raises OSError; half a line is taken back."""
    line = json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        before = os.fstat(file).st_size
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(file, left) :]
            os.fsync(file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, before)
            raise
    finally:
        os.close(file)


def jsonable(value: Any) -> Any:
    """What JSON takes: numpy's numbers and arrays become Python's; NaN and infinity, which it has not, become None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: jsonable(entry) for key, entry in value.items()}
    return [jsonable(entry) for entry in value] if isinstance(value, list | tuple) else value


def open_file(path: Path) -> BinaryIO:
    """Open a plain file to read. Raises OSError: for a link, which may lead anywhere, and for a pipe, which may never
    end, too."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "is not a file", str(path))
    return os.fdopen(file, "rb")


def read_file(path: Path) -> bytes:
    """The content of a plain file. Raises OSError, as `open_file` does, and for one that is too large to be ours."""
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > MOST_READ:
            raise OSError(errno.EFBIG, "is too large", str(path))
        return file.read()


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None when the file is missing, unreadable or holds anything else."""
    try:
        found = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines up to the first torn or damaged line; empty when there is no file."""
    try:
        return parse_lines(read_file(path))[0]
    except OSError:
        return []


def parse_lines(content: bytes) -> tuple[list[dict[str, Any]], int]:
    """(records, bytes used) of whole lines of JSON objects; stops at the first line that is torn or damaged."""
    records: list[dict[str, Any]] = []
    used = 0
    while (end := content.find(b"\n", used)) >= 0:
        try:
            record = json.loads(content[used:end])
        except (ValueError, RecursionError):
            break
        if not isinstance(record, dict):
            break
        records.append(record)
        used = end + 1
    return records, used
