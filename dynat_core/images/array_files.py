"""The arrays of an .npz file, read without unpickling and without trusting a size that it claims."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dynat_core.errors import DataError

MAX_BYTES = 2_000_000_000  # of all arrays together, unpacked
_MAX_RATIO = 200  # unpacked to packed; pictures stay far below it
_MAX_HEADER = 10_000  # bytes
_MAKE_ONE = "make one with numpy.savez(file, images=x, labels=y)"
_DAMAGE = (MemoryError, zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, struct.error, SyntaxError,
           KeyError, RuntimeError, TypeError, OverflowError)  # fmt: skip


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive at `path`, its directory checked. Raises DataError for a file that is none, and for whatever goes
    wrong while it is read inside."""
    shown = str(path) if str(path).isprintable() else ascii(str(path))
    shown = shown if len(shown) <= 120 else "..." + shown[-117:]
    try:
        found = os.lstat(path)
    except (OSError, ValueError) as error:
        raise DataError(f"There is no file {shown}; give an .npz file or a folder of class folders.") from error
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{shown} is a link or no ordinary file; give the file itself.")
    try:
        archive = zipfile.ZipFile(path)
    except (*_DAMAGE, NotImplementedError) as error:
        raise DataError(f"{shown} is no .npz file, or it is damaged; {_MAKE_ONE}.") from error
    with archive:
        _check(archive, shown, found.st_size)
        try:
            yield archive
        except _DAMAGE as error:
            lines = str(error).strip("'\"").splitlines()
            said = lines[0][:100].rstrip(".") if lines and lines[0].isprintable() else type(error).__name__
            raise DataError(f"{shown} is damaged ({said}); save it again.") from error


def _check(archive: zipfile.ZipFile, shown: str, size: int) -> None:
    entries = archive.infolist()
    if len(entries) > 64 or any(not entry.filename.endswith(".npy") for entry in entries):
        raise DataError(f"{shown} holds other things than a few arrays; {_MAKE_ONE}.")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MAX_BYTES or unpacked > _MAX_RATIO * size + 1_000_000:
        raise DataError(f"{shown} has {size / 1e6:,.1f} MB and would unpack to {unpacked / 1e6:,.0f} MB, more than is "
                        "read; give fewer images, or save them uncompressed with numpy.savez.")  # fmt: skip


def members(archive: zipfile.ZipFile) -> list[str]:
    """The names of the arrays."""
    return [entry.removesuffix(".npy") for entry in archive.namelist()]


def shape_of(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """The shape that an array's header claims, after it was found to agree with the size of the member.

    Raises DataError, also for an array of Python objects.
    """
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file, max_header_size=_MAX_HEADER)
        start = file.tell()
    if dtype.hasobject:
        raise DataError(f"The array {name} holds Python objects, which would have to be unpickled: pickled code is "
                        "never run here; save plain numbers.")  # fmt: skip
    size = dtype.itemsize
    if size == 0:  # any shape at all would agree with the size of the member
        raise DataError(f"The array {name} holds values of no size; save plain numbers or text.")
    for length in shape:
        size *= int(length)
    if size != entry.file_size - start or any(length < 0 for length in shape):
        raise DataError(f"The array {name} claims another size than it has; the file is damaged.")
    return shape


def array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The numbers of one array. Raises DataError as `shape_of` does."""
    shape_of(archive, name)
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False, max_header_size=_MAX_HEADER)
