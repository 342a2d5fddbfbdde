"""Data sets of one's own: what is read is what was given, axes and values are understood and said, and a run refuses
images that changed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from dynat_core.__main__ import main
from dynat_core.config import OwnData, RunConfig
from dynat_core.errors import ConfigError, DataError
from dynat_core.images import data, own_data


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def some(shape, kind=np.uint8):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, shape).astype(np.uint8) if kind is np.uint8 else rng.random(shape).astype(kind)


def saved(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


LABELS = np.arange(12) % 4
LAYOUTS = {
    "NCHW": (some((12, 3, 6, 5)), lambda x: x, "channels, rows, columns"),
    "NHWC": (some((12, 6, 5, 3)), lambda x: x.transpose(0, 3, 1, 2), "rows, columns, channels"),
    "NHW": (some((12, 6, 5)), lambda x: x[:, None], "grey pictures"),
    "NHW1": (some((12, 6, 5, 1)), lambda x: x.transpose(0, 3, 1, 2), "rows, columns, channels"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64, np.float16])
def test_axes_and_values_are_understood_and_said(layout, kind, tmp_path):
    images, to_nchw, words = LAYOUTS[layout]
    images = images if kind is np.uint8 else (images / 255).astype(kind)
    found = own_data.add(saved(tmp_path / "x.npz", images=images, labels=LABELS), "mine")
    wanted = to_nchw(images)
    assert words in found.notes[0]
    settings = own_data.settings("mine")
    assert settings.shape == wanted.shape[1:] and settings.counts == (0, 12) and settings.classes == tuple("0123")
    sets = data.load(settings)
    assert len(sets.train) == len(sets.validation) == 0 and len(sets.test) == 12
    scaled = wanted.astype(np.float32) / (255 if kind is np.uint8 else 1)
    torch.testing.assert_close(sets.test.pixels(), torch.from_numpy(np.ascontiguousarray(scaled)))
    assert sets.test.labels.tolist() == LABELS.tolist() and sets.test.index.tolist() == list(range(12))
    assert sets.fingerprint == data.load(settings).fingerprint


@pytest.mark.parametrize("names", [("x", "y"), ("data", "targets"), ("x_test", "y_test"), ("images", "labels")])
def test_arrays_may_have_their_usual_names(names, tmp_path):
    arrays = {names[0]: some((12, 6, 5)), names[1]: LABELS[:, None]}
    found = own_data.add(saved(tmp_path / "x.npz", **arrays), "mine")
    assert found.labels.tolist() == LABELS.tolist()


def test_whole_numbers_in_wider_types_are_bytes(tmp_path):
    images = some((12, 6, 5))
    for kind in (np.int64, np.float32):
        found = own_data.add(saved(tmp_path / "x.npz", x=images.astype(kind), y=LABELS), f"as-{np.dtype(kind)}")
        assert found.images.dtype == np.uint8 and (found.images[:, 0] == images).all()


def test_a_part_has_classes_in_proportion_where_they_fit(tmp_path):
    labels = np.repeat(np.arange(4), (40, 30, 20, 10))
    own_data.add(saved(tmp_path / "x.npz", x=some((100, 4, 4)), y=labels), "mine")
    settings = own_data.settings("mine").model_copy(update={"test_size": 20})
    assert torch.bincount(data.load(settings).test.labels).tolist() == [8, 6, 4, 2]
    own_data.add(saved(tmp_path / "x.npz", x=some((100, 4, 4)), y=np.arange(100) // 2), "many")
    settings = own_data.settings("many").model_copy(update={"test_size": 20})
    assert len(set(data.load(settings).test.index.tolist())) == 20  # fewer images than classes


def test_folders_are_read_as_torchvision_reads_them(tmp_path):
    root = tmp_path / "pictures"
    for k, name in enumerate(("cat", "Ant", "bee")):
        (root / name).mkdir(parents=True)
        for j in range(3):
            picture = Image.fromarray(some((7, 5, 3)) // (k + j + 1))
            picture.save(root / name / f"{j}.{'png' if j < 2 else 'jpg'}")
    (root / "cat" / "notes.txt").write_text("not a picture")
    found = own_data.add(root, "mine")
    theirs = ImageFolder(str(root))
    assert list(found.class_names) == theirs.classes
    assert found.labels.tolist() == theirs.targets
    for ours, (picture, _) in zip(found.images, theirs, strict=True):
        assert torch.equal(torch.from_numpy(ours), pil_to_tensor(picture))


def test_folders_called_by_numbers_come_in_their_order_and_grey_stays_grey(tmp_path):
    for k in range(11):
        (tmp_path / "p" / str(k)).mkdir(parents=True)
        Image.fromarray(np.full((4, 4), 20 * k, np.uint8)).save(tmp_path / "p" / str(k) / "a.png")
    found = own_data.add(tmp_path / "p", "mine")
    assert found.class_names == tuple(map(str, range(11))) and "numeric" in found.notes[1]
    assert found.images.shape == (11, 1, 4, 4) and found.images[10, 0, 0, 0] == 200


def test_images_that_changed_under_a_run_are_refused(tmp_path, home):
    own_data.add(saved(tmp_path / "x.npz", x=some((12, 6, 5)), y=LABELS), "mine")
    settings = own_data.settings("mine")
    (home / "own" / "mine.npz").unlink()
    with pytest.raises(DataError, match='no data set called mine .*data add FILE --name mine" makes it'):
        data.load(settings)
    own_data.add(saved(tmp_path / "x.npz", x=some((11, 6, 5)), y=LABELS[:11]), "mine")
    with pytest.raises(DataError, match="mine is no longer what it was"):
        data.load(settings)
    with pytest.raises(DataError, match="handed over in a program"):
        data.load(OwnData())


def test_settings_of_ones_own_data_come_back_from_json(tmp_path):
    own_data.add(saved(tmp_path / "x.npz", x=some((12, 6, 5)), y=LABELS), "mine", ["a", "b", "c", "d", "e"])
    values = {"data": own_data.settings("mine").model_dump(mode="json"), "model": {"name": "custom"}, "epochs": 0,
              "strategy": {"name": "elsewhere"}}  # fmt: skip
    config = RunConfig.build(values)
    assert config.classes == ("a", "b", "c", "d", "e") and config.shape == (1, 6, 5)
    assert RunConfig.from_json(json.dumps(config.model_dump(mode="json"))) == config


@pytest.mark.parametrize("name, classes, says", [
    ("../x", None, "cannot name a data set"), ("a/b", None, "cannot name a data set"), ("", None, "cannot name"),
    ("mnist", None, "comes with Dynat"), ("taken", None, "already is a data set called taken"),
    ("mine", ["a", "b"], "labels up to 3 and 2 class names"), ("mine", ["a", "b", "a", "c"], "same name"),
    ("mine", ["a", "", "b", "c"], "A class name is empty"), ("mine", ["a", "b\n", "c\x1b[2J", "d"], "not printable"),
])  # fmt: skip
def test_names_that_cannot_be_are_refused(name, classes, says, tmp_path, home):
    path = saved(tmp_path / "x.npz", x=some((12, 6, 5)), y=LABELS)
    own_data.add(path, "taken")
    with pytest.raises(ConfigError, match=says) as caught:
        own_data.add(path, name, classes)
    assert "\n" not in str(caught.value)
    assert [p.name for p in (home / "own").iterdir()] == ["taken.npz"]


def test_the_command_says_what_it_found(tmp_path, capsys):
    path = saved(tmp_path / "x.npz", x=some((12, 6, 5)), y=LABELS)
    assert main(["data", "add", str(path), "--name", "mine", "--classes", "a, b, c, d"]) == 0
    out = capsys.readouterr().out
    assert "12 images of 1x6x5, 4 classes" in out and "label 3: d, 3 images" in out and "12x6x5 read as" in out
    for words, says in ((["data", "add"], "Give a file and a name"), (["data", "add", str(path)], "a name"),
                        (["data", "digits", "--name", "x"], "data add FILE --name NAME")):  # fmt: skip
        assert main(words) == 1
        err = capsys.readouterr().err
        assert says in err and err.count("\n") == 1
    assert main(["data", "digits"]) == 0
