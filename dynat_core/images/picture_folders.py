"""Pictures in a folder of class folders, as arrays. Sizes are read from the headers before a picture is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from dynat_core.errors import DataError
from dynat_core.images.array_files import MAX_BYTES

MAX_IMAGES = 1_000_000
MAX_SIDE = 4096  # pixels
MAX_CLASSES = 10_000
_ENDINGS = {".png", ".jpg", ".jpeg"}


def pictures(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """(images (n, C, H, W) uint8, labels (n,) int64, class names, what was understood) of a folder of class folders.

    Classes come in numeric order if all are numbers, or else by name. Raises DataError with one sentence.
    """
    classes = _in_order([entry.name for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)])
    files = [(file, k) for k, name in enumerate(classes) for file in _files(path / name)]
    if not files:
        raise DataError(
            f"{path} has no pictures in class folders; put PNG or JPEG files into one folder for each class."
        )
    if len(files) > MAX_IMAGES or len(classes) > MAX_CLASSES:
        raise DataError(f"{path} has {len(files):,} pictures in {len(classes):,} folders, more than are read.")
    modes = {mode for file, _ in files for mode in [_size(file)]}
    sizes = {size for size, _ in modes}
    if len(sizes) > 1:
        some = " and ".join("x".join(map(str, size)) for size in sorted(sizes)[:2])
        raise DataError(f"The pictures in {path} differ in size ({some} pixels, for example); make them all the same.")
    (width, height), grey = sizes.pop(), all(mode == "L" for _, mode in modes)
    if len(files) * width * height * (1 if grey else 3) > MAX_BYTES:
        raise DataError(f"The pictures in {path} take more than {MAX_BYTES / 1e9:.0f} GB; give fewer or smaller ones.")
    images = np.stack([_pixels(file, "L" if grey else "RGB", (width, height)) for file, _ in files])
    order = "in numeric order" if all(name.isdecimal() for name in classes) else "in alphabetical order"
    notes = (f"{len(files):,} pictures of {height}x{width}, {'grey' if grey else 'colour'}", f"classes {order}")
    images = images[:, None] if grey else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return images, np.array([k for _, k in files], dtype=np.int64), tuple(classes), notes


def _in_order(classes: list[str]) -> list[str]:
    classes = [name for name in classes if not name.startswith(".")]
    return sorted(classes, key=int) if all(n.isdecimal() and n.isascii() for n in classes) else sorted(classes)


def _files(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        here = sorted((e for e in entries if Path(e.name).suffix.lower() in _ENDINGS), key=lambda e: e.name)
    link = next((e for e in here if not e.is_file(follow_symlinks=False)), None)
    if link is not None:
        raise DataError(f"{_shown(link.name)} is a link or no ordinary file; put the pictures themselves there.")
    return [Path(entry.path) for entry in here]


def _size(file: Path) -> tuple[tuple[int, int], str]:
    """((width, height), mode "L" or "RGB") from a picture's header alone."""
    with _told(file), Image.open(file, formats=("PNG", "JPEG")) as picture:
        size, mode = picture.size, picture.mode
    if max(size) > MAX_SIDE:
        raise DataError(f"{file.name} has {size[0]}x{size[1]} pixels; at most {MAX_SIDE} a side are read.")
    if mode not in ("L", "1", "RGB", "P", "CMYK", "YCbCr"):
        raise DataError(
            f"{file.name} is a picture of kind {mode} (transparent or 16 bit); save it as plain grey or RGB."
        )
    return size, "L" if mode in ("L", "1") else "RGB"


def _pixels(file: Path, mode: str, size: tuple[int, int]) -> np.ndarray:
    with _told(file), Image.open(file, formats=("PNG", "JPEG")) as picture:
        if picture.size != size:
            raise DataError(f"{file.name} changed while it was read; try again.")
        return np.asarray(picture.convert(mode), dtype=np.uint8)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Whatever a damaged picture makes the decoder say becomes one sentence."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{_shown(file.name)} is no PNG or JPEG picture, or it is damaged; take it out or save it again."
        ) from error


def _shown(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]
