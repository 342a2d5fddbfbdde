"""Data sets as whole uint8 tensors on the device; shuffling and augmentation are tensor operations.

`digits` comes with scikit-learn. The others are read from the folder named by DYNAT_DATA (default `data/`) in their
original files, and are downloaded into it when they are missing and there is a network. MNIST's `.gz` are read as they
are; CIFAR-10's files are pickles, so they are opened only after their published md5 sums matched, and even then with a
reader that can build nothing but arrays.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dynat_core.config import SHAPES, Cifar10, Data, OwnData
from dynat_core.errors import DataError
from dynat_core.images import own_data

_SPLIT_SEED = 0  # the splits belong to the data set, not to a run


@dataclass(frozen=True)
class Split:
    """Images of one purpose. images: (n, C, H, W) uint8, or float32 if they were brought so. labels: (n,) int64. index:
    (n,) int64, place in the original set. levels: the stored value that means 1.0."""

    images: Tensor
    labels: Tensor
    index: Tensor
    levels: int

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, keep: Tensor | slice) -> Split:
        return replace(self, images=self.images[keep], labels=self.labels[keep], index=self.index[keep])

    def pixels(self, keep: Tensor | slice = slice(None)) -> Tensor:
        """(m, C, H, W) float32 in [0, 1]."""
        return self.images[keep].float() / self.levels

    def to(self, device: str | torch.device) -> Split:
        return replace(self, images=self.images.to(device), labels=self.labels.to(device), index=self.index.to(device))


@dataclass(frozen=True)
class DataSet:
    """Training, validation (carved out of training) and test images; fingerprint: sha256 of all pixels and labels."""

    train: Split
    validation: Split
    test: Split
    fingerprint: str

    def to(self, device: str | torch.device) -> DataSet:
        """The same images on another device."""
        return DataSet(self.train.to(device), self.validation.to(device), self.test.to(device), self.fingerprint)


def folder() -> Path:
    """Where data sets are kept."""
    return Path(os.environ.get("DYNAT_DATA") or "data")


def load(settings: Data) -> DataSet:
    """The data set, on the CPU. Raises DataError with one sentence if files are missing or damaged."""
    if isinstance(settings, OwnData):
        return _own(settings)
    images, labels, test_images, test_labels, levels = _READERS[settings.name]()
    digest = hashlib.sha256()
    for array in (images, labels, test_images, test_labels):
        digest.update(np.ascontiguousarray(array).tobytes())
    everything = Split(*_tensors(images, labels), torch.arange(len(labels)), levels)
    test = Split(*_tensors(test_images, test_labels), torch.arange(len(test_labels)), levels)
    held_out, rest = _stratified(everything, settings.validation_size)
    return DataSet(
        train=part_of(rest, settings.train_size),
        validation=held_out,
        test=part_of(test, settings.test_size),
        fingerprint=digest.hexdigest(),
    )


def _own(settings: OwnData) -> DataSet:
    """Images that somebody brought: all of them are test images."""
    images, labels = own_data.read(settings)
    digest = hashlib.sha256()
    for array in (images, labels):
        digest.update(np.ascontiguousarray(array).tobytes())
    levels = 255 if images.dtype == np.uint8 else 1
    test = Split(*_tensors(images, labels), torch.arange(len(labels)), levels)
    none = test[:0]
    return DataSet(none, none, part_of(test, settings.test_size), digest.hexdigest())


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """(n, C, H, W) each picture rotated by up to 10 degrees, shifted by up to 20 % and flipped or not; edges repeat.

    Source: the authors' code for CIFAR-10 (science of the set-up: rotation +-10 degrees, shifts up to 20 %, flip).
    """
    n, device = len(x), x.device
    turn, right, down, side = (2 * torch.rand(4, n, generator=generator, device=device) - 1).unbind(0)
    angle = turn * (10 * torch.pi / 180)
    flip = torch.where(side < 0, -1.0, 1.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    # rows of the map from output to input coordinates, which run from -1 to 1, so 20 % of the width is 0.4
    rows = torch.stack([flip * cos, -sin, 0.4 * right, flip * sin, cos, 0.4 * down], dim=1).view(n, 2, 3)
    grid = F.affine_grid(rows, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def augments(settings: Data) -> bool:
    """Whether training pictures of this data set are augmented."""
    return isinstance(settings, Cifar10) and settings.augment


# ---------------------------------------------------------------------------------------------------------- splits


def _tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(np.array(images)), torch.from_numpy(np.array(labels)).long()


def _stratified(split: Split, size: int) -> tuple[Split, Split]:
    """`size` images with classes in proportion, and the rest, each in original order."""
    from sklearn.model_selection import train_test_split

    members = torch.unique(split.labels, return_counts=True)[1]
    if min(size, len(split) - size) < len(members) or int(members.min()) < 2:  # not every class fits on both sides
        order = np.random.default_rng(_SPLIT_SEED).permutation(len(split))
        chosen, rest = order[:size], order[size:]
    else:
        rest, chosen = train_test_split(
            np.arange(len(split)), test_size=size, random_state=_SPLIT_SEED, stratify=split.labels.numpy()
        )
    return split[torch.from_numpy(np.sort(chosen))], split[torch.from_numpy(np.sort(rest))]


def part_of(split: Split, size: int | None) -> Split:
    """`size` images with classes in proportion; all of them if `size` is None."""
    return split if size is None or size == len(split) else _stratified(split, size)[0]


# --------------------------------------------------------------------------------------------------------- readers

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]


@cache
def _read_digits() -> Arrays:
    """scikit-learn's 1,797 digits, split 1,297 / 500 with classes in proportion; pixel values run from 0 to 16."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]  # type: ignore[union-attr]
    labels = bunch.target.astype(np.uint8)  # type: ignore[union-attr]
    train, test = train_test_split(np.arange(len(labels)), test_size=500, random_state=_SPLIT_SEED, stratify=labels)
    train, test = np.sort(train), np.sort(test)
    return images[train], labels[train], images[test], labels[test], 16


_IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_FILES: dict[str, tuple[str, str, dict[str, str]]] = {
    # folder below DYNAT_DATA, address the files are downloaded from, published md5 of each file
    "mnist": (
        "MNIST/raw", "https://ossci-datasets.s3.amazonaws.com/mnist/",
        dict(zip(_IDX, ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432",
                        "9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"), strict=True)),
    ),
    "fashion-mnist": (
        "FashionMNIST/raw", "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        dict(zip(_IDX, ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
                        "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"), strict=True)),
    ),
    "cifar10": (
        "cifar-10-batches-py", "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        {"data_batch_1": "c99cafc152244af753f735de768cd75f", "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
         "data_batch_3": "54ebc095f3ab1f0389bbae665268c751", "data_batch_4": "634d18415352ddfa80567beed471001a",
         "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb", "test_batch": "40351d587109b95175f43aff81a1287e"},
    ),
}  # fmt: skip
_CIFAR10_ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"


def _read_idx(name: str) -> Arrays:
    """MNIST's format: big-endian 32-bit words (magic, sizes), then unsigned bytes, gzipped."""

    def array(file: str, dims: int) -> np.ndarray:
        raw = gzip.decompress(_checked(name, file))
        sizes = np.frombuffer(raw, ">i4", count=1 + dims)[1:]
        return np.frombuffer(raw, np.uint8, offset=4 * (1 + dims)).reshape(tuple(sizes))

    images, labels, test_images, test_labels = (array(file, 3 if "images" in file else 1) for file in _IDX)
    return images[:, None], labels, test_images[:, None], test_labels, 255


class _ArraysOnly(pickle.Unpickler):
    """Opens a pickle that holds containers, numbers, text and numpy arrays, and refuses everything else."""

    _ALLOWED = {"_reconstruct": np._core.multiarray._reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}  # type: ignore[attr-defined]

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in self._ALLOWED:
            return self._ALLOWED[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def _read_cifar10() -> Arrays:
    """The original Python batches: (10000, 3072) uint8 rows of red, green and blue planes."""

    def batch(file: str) -> tuple[np.ndarray, np.ndarray]:
        entries = _ArraysOnly(io.BytesIO(_checked("cifar10", file)), encoding="latin1").load()
        return entries["data"].reshape(-1, 3, 32, 32), np.array(entries["labels"], dtype=np.uint8)

    parts = [batch(f"data_batch_{k}") for k in range(1, 6)]
    test_images, test_labels = batch("test_batch")
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), test_images, test_labels, 255


_READERS = {
    "digits": _read_digits,
    "mnist": lambda: _read_idx("mnist"),
    "fashion-mnist": lambda: _read_idx("fashion-mnist"),
    "cifar10": _read_cifar10,
}


def _checked(name: str, file: str) -> bytes:
    """The bytes of one original file, after its md5 matched; fetched first if it is not there."""
    below, _, sums = _FILES[name]
    path = folder() / below / file
    if not path.is_file():
        fetch(name)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{name}: {file} in {path.parent} cannot be read ({error.strerror}); check its permissions."
        ) from error
    if hashlib.md5(raw, usedforsecurity=False).hexdigest() != sums[file]:
        raise DataError(
            f"{name}: {file} in {path.parent} is damaged (md5 differs). "
            f'Delete it and run "python -m dynat_core data {name}".'
        )
    return raw


# -------------------------------------------------------------------------------------------------------- fetching


def missing(name: str) -> list[Path]:
    """The files of data set `name` that are not in the data folder; none for digits. Raises DataError for an unknown
    name."""
    if name not in SHAPES:
        raise DataError(f"There is no data set called {name}; there is {', '.join(SHAPES)}.")
    if name not in _FILES:
        return []
    below, _, sums = _FILES[name]
    return [path for file in sums if not (path := folder() / below / file).is_file()]


def fetch(name: str) -> None:
    """Download what is missing of data set `name` into the data folder, with a progress bar on a terminal.

    Raises DataError, saying which files to put where, when there is no network.
    """
    absent = missing(name)
    if not absent:
        return
    target = absent[0].parent
    _, address, sums = _FILES[name]
    try:
        target.mkdir(parents=True, exist_ok=True)
        # In a folder of our own: other jobs may be fetching the same, here or on another machine.
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target) as own:
            if name == "cifar10":
                _fetch_cifar10(address, Path(own), target)
            else:
                for path in absent:
                    os.replace(_download(address + path.name, Path(own) / path.name, sums[path.name]), path)
    except (OSError, urllib.error.URLError) as error:
        files = ", ".join(path.name for path in absent)
        raise DataError(
            f"{name}: {files} not found in {target}, and downloading failed ({getattr(error, 'reason', error)}). "
            f"Put the original files there, or name in DYNAT_DATA the folder that holds {target.relative_to(folder())}."
        ) from error


def _fetch_cifar10(address: str, own: Path, target: Path) -> None:
    archive = _download(address, own / "cifar-10-python.tar.gz", _CIFAR10_ARCHIVE_MD5)
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            file = Path(member.name).name
            if member.isfile() and file in _FILES["cifar10"][2]:
                source = tar.extractfile(member)
                assert source is not None
                with source, open(own / file, "wb") as out:
                    shutil.copyfileobj(source, out)
                os.replace(own / file, target / file)


def _download(address: str, path: Path, md5: str) -> Path:
    """One file, at `path` once this returns. Raises OSError, also where its md5 is another."""
    from rich.progress import Progress

    digest = hashlib.md5(usedforsecurity=False)
    request = urllib.request.urlopen(address, timeout=20)  # noqa: S310 (the addresses stand above)
    with request as source, open(path, "wb") as out, Progress() as bar:
        task = bar.add_task(path.name, total=int(source.headers.get("Content-Length") or 0) or None)
        while block := source.read(1 << 18):
            digest.update(block)
            out.write(block)
            bar.advance(task, len(block))
    if digest.hexdigest() != md5:
        raise OSError(f"what came from {address} is not the original file")
    return path
