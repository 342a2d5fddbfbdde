"""Images that somebody brought, from an .npz file or a folder of class folders, kept as one file in the data folder.

Nothing is unpickled, and every size is read from the headers and checked before the numbers are. No torch here.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynat_core.config import SHAPES, OwnData
from dynat_core.errors import ConfigError, DataError
from dynat_core.files import storage_sentence
from dynat_core.images.array_files import array, members, opened, shape_of
from dynat_core.images.picture_folders import MAX_CLASSES, MAX_IMAGES, MAX_SIDE, pictures

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_IMAGES, _LABELS = ("images", "x", "data", "x_test", "X", "arr_0"), ("labels", "y", "targets", "y_test", "Y", "arr_1")


@dataclass(frozen=True)
class Collection:
    """Images (n, C, H, W) uint8, or float32 in [0, 1]. labels (n,) int64. class_names in label order. notes: what was
    understood, in words."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def folder() -> Path:
    """Where collections are kept: `own` in the data folder."""
    return Path(os.environ.get("DYNAT_DATA") or "data") / "own"


def place(name: str) -> Path:
    """The file of a collection. Raises ConfigError for what cannot name one."""
    if not _NAME.fullmatch(name):
        shown = name if name.isprintable() and len(name) <= 60 else ascii(name)[:60]
        raise ConfigError(f"{shown} cannot name a data set: use letters, digits, dots, hyphens and underscores.")
    if name in SHAPES:
        raise ConfigError(f"{name} is the name of a data set that comes with Dynat; choose another.")
    return folder() / f"{name}.npz"


def names() -> list[str]:
    """The collections there are."""
    return sorted(path.stem for path in folder().glob("*.npz") if _NAME.fullmatch(path.stem))


def add(path: Path | str, name: str, classes: Sequence[str] | None = None) -> Collection:
    """Read images from an .npz file or a folder of class folders, and keep them under `name`.

    classes: names in label order. Raises DataError or ConfigError with one sentence.
    """
    target = place(name)
    if os.path.lexists(target):
        raise ConfigError(f"There already is a data set called {name}; choose another name, or delete {target}.")
    folder_given = Path(path).is_dir() and not Path(path).is_symlink()
    found = Collection(*pictures(Path(path))) if folder_given else _from_npz(Path(path))
    found = _named(found, classes)
    _write(target, found)
    return found


def settings(name: str) -> OwnData:
    """What a run's configuration says about a collection. Raises DataError."""
    path = place(name)
    if not path.is_file():
        there = ", ".join(names()) or "none yet"
        raise DataError(f"There is no data set called {name} (of one's own: {there}); "
                        f'"python -m dynat_core data add FILE --name {name}" makes it.')  # fmt: skip
    with opened(path) as archive:
        n, channels, height, width = shape_of(archive, "images")
        class_names = _class_names(archive)
    return OwnData(collection=name, channels=channels, height=height, width=width, images=n, class_names=class_names)


def read(wanted: OwnData) -> tuple[np.ndarray, np.ndarray]:
    """(images (n, C, H, W) uint8 or float32, labels (n,) int64) of a collection.

    Raises DataError where the file is not there or is not the one that `wanted` describes.
    """
    if not wanted.collection:
        raise DataError("These images were handed over in a program and are not kept; give them there again.")
    now = settings(wanted.collection)
    differs = (now.counts, now.shape, now.class_names) != (wanted.counts, wanted.shape, wanted.class_names)
    if differs:
        raise DataError(f"The data set {wanted.collection} is no longer what it was: put the old file back into "
                        f"{folder()}, or add the new one under another name.")  # fmt: skip
    with opened(place(wanted.collection)) as archive:
        return array(archive, "images"), array(archive, "labels").astype(np.int64)


# ------------------------------------------------------------------------------------------------------------- .npz


def _from_npz(path: Path) -> Collection:
    with opened(path) as archive:
        x_name, y_name = _one_of(archive, _IMAGES, "images"), _one_of(archive, _LABELS, "labels")
        images, labels = array(archive, x_name), array(archive, y_name)
        class_names = _class_names(archive) if "class_names" in members(archive) else ()
    images, notes = _arranged(images)
    images, more = _scaled(images)
    return Collection(images, _whole(labels, len(images)), class_names, (*notes, *more))


def _one_of(archive: zipfile.ZipFile, wanted: tuple[str, ...], what: str) -> str:
    there = members(archive)
    found = next((name for name in wanted if name in there), None)
    if found is None:
        listed = ", ".join(ascii(name)[1:-1][:40] for name in there[:6]) or "nothing"
        raise DataError(f"There are no {what} in it: name the array {wanted[0]} or {wanted[1]} (there is {listed}).")
    return found


def _class_names(archive: zipfile.ZipFile) -> tuple[str, ...]:
    count = math.prod(shape_of(archive, "class_names"))
    if count > MAX_CLASSES:
        raise DataError(f"There are {count:,} class names; at most {MAX_CLASSES:,} are read.")
    return tuple(str(c) for c in array(archive, "class_names").ravel())


def _arranged(images: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """(n, C, H, W), and how the axes were read."""
    shape = "x".join(map(str, images.shape))
    if images.dtype.kind not in "uif" or images.size == 0:
        raise DataError(f"The images are {shape} of {images.dtype}; give numbers, at least one image.")
    if images.ndim == 3:
        images, said = images[:, None], f"{shape} read as images, rows, columns: grey pictures"
    elif images.ndim == 4:
        first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
        if first == last:
            raise DataError(f"The images are {shape}, and which axis holds the colours is not clear; "
                            "give (n, 1 or 3, height, width).")  # fmt: skip
        said = f"{shape} read as images, " + ("channels, rows, columns" if first else "rows, columns, channels")
        images = images if first else images.transpose(0, 3, 1, 2)
    else:
        raise DataError(f"The images are {shape}; give (n, channels, height, width), or (n, height, width) if grey.")
    if max(images.shape[2:]) > MAX_SIDE or len(images) > MAX_IMAGES:
        raise DataError(f"The images are {shape}; at most {MAX_IMAGES:,} of at most {MAX_SIDE} pixels a side are read.")
    return images, (said,)


def _scaled(images: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """uint8, or float32 in [0, 1], and how the values were read."""
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images), ("values 0 to 255, divided by 255 when used",)
    low, high = float(images.min()), float(images.max())
    if not np.isfinite(low) or not np.isfinite(high) or not bool(np.isfinite(images).all()):
        raise DataError("Some pixels are not finite numbers; clean the images.")
    if low >= 0 and 1 < high <= 255 and bool((images == np.floor(images)).all()):
        return np.ascontiguousarray(images.astype(np.uint8)), ("whole numbers 0 to 255, kept as bytes",)
    if images.dtype.kind != "f" or low < 0 or high > 1:
        raise DataError(f"The pixels run from {low:.4g} to {high:.4g}; give bytes from 0 to 255, or floats in [0, 1] "
                        "without normalisation, so that eps means pixels.")  # fmt: skip
    return np.ascontiguousarray(images.astype(np.float32)), (f"floats from {low:.3g} to {high:.3g}, used as they are",)


def _whole(labels: np.ndarray, n: int) -> np.ndarray:
    """(n,) int64 labels from 0 on."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and len(labels) == n:
        raise DataError("The labels have a column for each class; give whole numbers, such as labels.argmax(1).")
    if labels.ndim != 1 or len(labels) != n or labels.dtype.kind not in "ui":
        shape = "x".join(map(str, labels.shape)) or "a single value"
        raise DataError(f"The labels are {shape} of {labels.dtype} for {n:,} images; give one whole number for each.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MAX_CLASSES:
        raise DataError(f"The labels run from {low} to {high}; give whole numbers from 0 to {MAX_CLASSES - 1:,}.")
    if low == 1 and len(np.unique(labels)) == high:
        raise DataError(f"The labels run from 1 to {high}, and a network's classes from 0: subtract 1.")
    return labels.astype(np.int64)


# ------------------------------------------------------------------------------------------------------------ keeping


def _named(found: Collection, classes: Sequence[str] | None) -> Collection:
    """The collection with a name for every class."""
    given = [c.strip() for c in classes] if classes is not None else list(found.class_names)
    count = int(found.labels.max()) + 1
    if not given:
        given = [str(k) for k in range(count)]
    if len(given) < count:
        raise ConfigError(
            f"There are labels up to {count - 1} and {len(given)} class names; name {count} or more classes."
        )
    if len(given) > MAX_CLASSES or any(not c or len(c) > 80 or not c.isprintable() for c in given):
        raise ConfigError("A class name is empty, longer than 80 characters or not printable; give plain names.")
    if len(set(given)) < len(given):
        raise ConfigError("Two classes have the same name; give each its own.")
    return Collection(found.images, found.labels, tuple(given), found.notes)


def _write(target: Path, found: Collection) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    arrays = {"images": found.images, "labels": found.labels, "class_names": np.array(found.class_names, dtype=np.str_)}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(partial, target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        told = storage_sentence(error, target.parent)
        reason = told.replace("another store in DYNAT_STORE", "another folder in DYNAT_DATA") if told else None
        raise DataError(reason or f"{target} could not be written ({error.strerror}).") from error
