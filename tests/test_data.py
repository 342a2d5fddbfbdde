"""Data sets: known facts about the originals, splits, damage, and the paper's augmentation."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import multiprocessing
import os
import pickle
import random
import shutil
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from dynat_core.config import Cifar10, Digits, FashionMnist, Mnist
from dynat_core.errors import DataError
from dynat_core.images import data

FOLDER = Path(os.environ.get("DYNAT_DATA") or "data")
needs_mnist = pytest.mark.skipif(
    not (FOLDER / "MNIST/raw").is_dir(), reason="set DYNAT_DATA to the folder that holds MNIST"
)
needs_cifar10 = pytest.mark.skipif(
    not (FOLDER / "cifar-10-batches-py").is_dir(), reason="set DYNAT_DATA to the folder that holds CIFAR-10"
)


def test_digits_are_all_of_scikit_learns_digits_split_1297_to_500():
    sets = data.load(Digits())
    assert [len(s) for s in (sets.train, sets.validation, sets.test)] == [1297 - 147, 147, 500]
    rows = torch.cat([s.images.flatten(1) for s in (sets.train, sets.validation, sets.test)])
    expected = load_digits().data.astype(np.uint8)
    assert sorted(map(bytes, rows.numpy())) == sorted(map(bytes, expected))
    assert sets.train.pixels().max() == 1.0 and sets.train.pixels().min() == 0.0
    share = 500 / 1797 * np.bincount(load_digits().target)
    assert np.abs(sets.test.labels.bincount().numpy() - share).max() <= 1


def test_the_splits_are_disjoint_the_same_each_time_and_stratified():
    first, again = data.load(Digits(validation_size=97)), data.load(Digits(validation_size=97))
    assert first.fingerprint == again.fingerprint and torch.equal(first.train.index, again.train.index)
    assert set(first.train.index.tolist()).isdisjoint(first.validation.index.tolist())
    assert len(first.train) + len(first.validation) == 1297
    small = data.load(Digits(train_size=100, test_size=50))
    assert len(small.train) == 100 and small.train.labels.bincount().min() >= 8
    assert set(small.train.index.tolist()) <= set(data.load(Digits()).train.index.tolist())
    assert small.fingerprint == first.fingerprint  # it names the original data, whatever part is used


@needs_mnist
@pytest.mark.data
def test_mnist_is_the_original():
    sets = data.load(Mnist())
    assert [len(s) for s in (sets.train, sets.validation, sets.test)] == [59_000, 1_000, 10_000]
    assert int(sets.train.images.long().sum() + sets.validation.images.long().sum()) == 1_567_298_545
    assert int(sets.test.images.long().sum()) == 264_923_200
    first = sets.train if int(sets.train.index[0]) == 0 else sets.validation
    assert int(first.labels[0]) == 5 and int(sets.test.labels[0]) == 7


@needs_cifar10
@pytest.mark.data
def test_cifar10_is_the_original():
    sets = data.load(Cifar10())
    both = torch.cat([sets.train.images, sets.validation.images]).double()
    assert both.mean((0, 2, 3)).tolist() == pytest.approx([125.307, 122.950, 113.865], abs=1e-3)
    assert both.std((0, 2, 3), correction=0).tolist() == pytest.approx([62.993, 62.089, 66.705], abs=1e-3)
    assert torch.cat([sets.train.labels, sets.validation.labels]).bincount().tolist() == [5000] * 10
    assert sets.test.labels.bincount().tolist() == [1000] * 10


@needs_mnist
@pytest.mark.parametrize(
    "damage", [lambda b: b[:-100], lambda b: b[:5000] + b"x" + b[5001:], lambda b: b"", lambda b: gzip.compress(b"no")]
)
def test_a_damaged_file_is_named_in_one_sentence(damage, tmp_path, monkeypatch):
    shutil.copytree(FOLDER / "MNIST/raw", tmp_path / "MNIST/raw")
    file = tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    monkeypatch.setenv("DYNAT_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz in .* is damaged .* Delete it and run") as caught:
        data.load(Mnist())
    assert "\n" not in str(caught.value)


def test_a_pickle_that_is_not_the_published_file_is_never_opened(tmp_path, monkeypatch):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (folder / name).write_bytes(pickle.dumps({"data": Bomb()}))
    monkeypatch.setenv("DYNAT_DATA", str(tmp_path))
    with pytest.raises(DataError, match="damaged"):
        data.load(Cifar10())
    with pytest.raises(
        pickle.UnpicklingError, match="not allowed"
    ):  # and were the sums to match, this reader still refuses
        data._ArraysOnly(open(folder / "data_batch_1", "rb"), encoding="latin1").load()  # noqa: SIM115
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "settings, file",
    [
        (Mnist(), "train-images-idx3-ubyte.gz"),
        (FashionMnist(), "t10k-labels-idx1-ubyte.gz"),
        (Cifar10(), "data_batch_3"),
    ],
)
def test_without_files_and_network_it_says_which_files_to_put_where(settings, file, tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAT_DATA", str(tmp_path))
    name = settings.name
    folder, _, sums = data._FILES[name]
    monkeypatch.setitem(data._FILES, name, (folder, "http://127.0.0.1:9/", sums))  # a port nobody answers at
    with pytest.raises(DataError, match=file) as caught:
        data.load(settings)
    assert str(tmp_path / folder) in str(caught.value) and "DYNAT_DATA" in str(caught.value)


def test_downloading_checks_what_came_and_keeps_only_the_original(tmp_path, monkeypatch):
    served = tmp_path / "served"
    served.mkdir()
    contents = {name: gzip.compress(name.encode()) for name in data._IDX}
    for name, content in contents.items():
        (served / name).write_bytes(content)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, directory=str(served), **kwargs)

        def log_message(self, format, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        sums = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
        address = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setenv("DYNAT_DATA", str(tmp_path / "mine"))
        monkeypatch.setitem(data._FILES, "mnist", ("MNIST/raw", address, sums))
        data.fetch("mnist")
        assert data.missing("mnist") == []
        monkeypatch.setitem(data._FILES, "fashion-mnist", ("FashionMNIST/raw", address, dict.fromkeys(sums, "0" * 32)))
        with pytest.raises(DataError, match="not the original"):
            data.fetch("fashion-mnist")
        assert not list((tmp_path / "mine/FashionMNIST/raw").iterdir())
    finally:
        server.shutdown()


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_two_jobs_that_fetch_the_same_data_set_both_get_it(name, tmp_path, monkeypatch):
    """Each has begun with every file before either has all of it."""
    below, _, sums = data._FILES[name]
    contents = {file: random.Random(file).randbytes(1 << 20) for file in sums}
    if name == "cifar10":
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            for file, content in contents.items():
                member = tarfile.TarInfo(f"{below}/{file}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        served = {"archive": out.getvalue()}
        monkeypatch.setattr(data, "_CIFAR10_ARCHIVE_MD5", hashlib.md5(served["archive"]).hexdigest())
    else:
        served = contents
    both = {f"/{file}": threading.Barrier(2, timeout=60) for file in served}

    class InStep(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = served[self.path[1:]]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            both[self.path].wait()
            self.wfile.write(content[len(content) // 2 :])

        def log_message(self, format, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), InStep)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/" + ("archive" if name == "cifar10" else "")
    monkeypatch.setenv("DYNAT_DATA", str(tmp_path))
    found = {file: hashlib.md5(content).hexdigest() for file, content in contents.items()}
    monkeypatch.setitem(data._FILES, name, (below, address, found))
    try:
        fork = multiprocessing.get_context("fork")
        jobs = [fork.Process(target=data.fetch, args=(name,)) for _ in range(2)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join(60)
        assert [job.exitcode for job in jobs] == [0, 0]
    finally:
        server.shutdown()
    assert {path.name: path.read_bytes() for path in (tmp_path / below).iterdir()} == contents
    assert [path.name for path in tmp_path.iterdir()] == [below.partition("/")[0]]


def test_augmentation_moves_pixels_no_further_than_it_says_and_repeats_itself():
    gen = torch.Generator().manual_seed(0)
    yy, xx = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    position = torch.stack([xx, yy]).expand(64, 2, 32, 32).contiguous()
    moved = data.augment(position, gen)
    again = data.augment(position, torch.Generator().manual_seed(0))
    assert torch.equal(moved, again)
    centre = moved[:, :, 15:17, 15:17].mean((2, 3)) - 15.5
    assert centre.abs().max() <= 0.2 * 32 + 1e-3 and centre.abs().max() > 3
    right = moved[:, 0, 16, 20] - moved[:, 0, 16, 12]  # a positive slope is not flipped, a negative one is
    assert 0.25 < (right < 0).float().mean() < 0.75
    tilt = (moved[:, 1, 16, 20] - moved[:, 1, 16, 12]).abs() / right.abs()
    inside = (moved[:, 0, 16, 12] > 0) & (moved[:, 0, 16, 20] < 31)
    assert tilt[inside].max() <= np.tan(np.radians(10)) + 1e-3


def test_a_constant_picture_stays_constant_under_augmentation():
    x = torch.full((4, 3, 8, 8), 0.25)
    torch.testing.assert_close(data.augment(x, torch.Generator().manual_seed(1)), x)


def test_unknown_data_sets_are_refused():
    with pytest.raises(DataError, match="no data set called svhn"):
        data.missing("svhn")
