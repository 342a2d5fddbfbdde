"""More than two hundred malformed model and data files: each ends in one sentence, runs nothing, takes little memory.

Model files are read by the reader's own code in forked processes, which have torch already: a process of its own for
each, with the same limits. A few go the whole way through a fresh process.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save as safetensors_bytes

from dynat_core.errors import DataError, DynatError, ModelFileError
from dynat_core.images import array_files, own_data
from dynat_core.networks import model_files, model_reader, models, state_dict

MOST_MEMORY = 300_000_000  # bytes that reading a small file may take beyond the process it is read in


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """And what the reader imports: once, so that forked children need not."""
    assert state_dict.ARCHITECTURES
    torch.set_num_threads(1)


def weights(**changes) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {**models.digits_cnn().state_dict(), **changes}


def torch_bytes(content, **options) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, out, **options)
    return out.getvalue()


def legacy_bytes(content) -> bytes:
    return torch_bytes(content, _use_new_zipfile_serialization=False)


# -------------------------------------------------------------------------------------------------- the model files


class Wants:
    """Pickles to a call of `function`, which would run when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def called(module: str, name: str, argument: str = "touch ran") -> bytes:
    """A pickle that calls module.name(argument), whether or not that can be imported here."""
    text = argument.encode()
    return (b"\x80\x02c" + module.encode() + b"\n" + name.encode() + b"\nX" + struct.pack("<I", len(text)) + text
            + b"\x85R.")  # fmt: skip


CODE = [
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("subprocess", "Popen"),
    ("subprocess", "check_output"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "__import__"),
    ("builtins", "getattr"),
    ("builtins", "compile"),
    ("__builtin__", "eval"),
    ("importlib", "import_module"),
    ("pty", "spawn"),
    ("webbrowser", "open"),
    ("shutil", "rmtree"),
    ("runpy", "run_path"),
    ("code", "interact"),
    ("ctypes", "CDLL"),
    ("pickle", "loads"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch.jit", "load"),
    ("torch.serialization", "load"),
    ("numpy", "load"),
    ("functools", "partial"),
    ("operator", "attrgetter"),
    ("types", "FunctionType"),
    ("multiprocessing", "Process"),
    ("dynat_core.files", "replace_file"),
    ("argparse", "Namespace"),
]


def in_zip(pickled: bytes, **more: bytes) -> bytes:
    """The archive that torch.save writes, around another pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in {"data.pkl": pickled, "version": b"3\n", "byteorder": b"little", **more}.items():
            archive.writestr(f"archive/{name}", content)
    return out.getvalue()


def header(entries: object, body: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with this header."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(shape, start=0, end=None, dtype="F32"):
    size = int(np.prod(shape)) * 4
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, start + size if end is None else end]}


def bomb(name: str, size: int) -> bytes:
    """A small archive with one entry of `size` zeros, without ever having them."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w", force_zip64=True) as entry:
        block = bytes(1 << 20)
        for _ in range(size >> 20):
            entry.write(block)
    return out.getvalue()


def deep(levels: int):
    content: dict = {"w": torch.zeros(1)}
    for _ in range(levels):
        content = {"state_dict": content}
    return content


def around(path_parts) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in path_parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def model_files_that_are_bad() -> dict[str, bytes]:
    good = {
        "torch": torch_bytes(weights()),
        "legacy": legacy_bytes(weights()),
        "safetensors": safetensors_bytes(weights()),
    }
    bad: dict[str, bytes] = {}
    for kind, content in good.items():
        for part in (1, 7, 8, 9, 60, 300, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99):
            bad[f"{kind} cut off at {part}"] = content[: int(part * len(content)) if part < 1 else part]
    for module, name in CODE:
        pickled = called(module, name)
        bad[f"{module}.{name} in a torch file"] = in_zip(pickled)
        bad[f"{module}.{name} as a pickle"] = pickled
    for protocol in range(2, 6):
        bad[f"os.mkdir, protocol {protocol}"] = pickle.dumps(Wants(os.mkdir, "ran"), protocol)
        bad[f"open among weights, protocol {protocol}"] = in_zip(
            pickle.dumps({"state_dict": {"w": Wants(open, "ran", "w")}}, protocol)
        )
    bad["protocol 0"] = b"cos\nsystem\n(S'touch ran'\ntR."
    bad["whole network"] = torch_bytes(models.digits_cnn())
    bad["whole network, legacy"] = legacy_bytes(models.digits_cnn())
    bad["optimiser alone"] = torch_bytes(torch.optim.SGD(models.digits_cnn().parameters(), lr=0.1).state_dict())
    for name in ("0.weight", "1.running_var", "10.bias", "8.weight"):
        for value in (float("nan"), float("inf"), -float("inf")):
            spoilt = weights()
            spoilt[name] = spoilt[name].clone().index_fill(0, torch.tensor([0]), value)
            bad[f"{value} in {name}"] = torch_bytes(spoilt) if value == value else safetensors_bytes(spoilt)
    w = weights()
    shapes = {
        "one class more": {"10.weight": torch.zeros(11, 32)},
        "transposed": {"10.weight": w["10.weight"].T.contiguous()},
        "5x5 kernels": {"0.weight": torch.zeros(8, 1, 5, 5)},
        "no dimension": {"1.weight": torch.tensor(1.0)},
        "nothing": {"1.weight": torch.zeros(0)},
        "more": {"12.weight": torch.zeros(3)},
        "whole numbers": {"10.weight": torch.zeros(10, 32, dtype=torch.int64)},
        "complex": {"10.weight": torch.zeros(10, 32, dtype=torch.complex64)},
        "truth values": {"10.weight": torch.zeros(10, 32, dtype=torch.bool)},
        "sparse": {"10.weight": torch.zeros(10, 32).to_sparse()},
        "no numbers": {"10.weight": torch.zeros(10, 32, device="meta")},
        "claims a lot": {"10.weight": torch.zeros(1).expand(10**6, 10**6)},
        "claims a great lot": {"10.weight": torch.zeros(1).expand(2**40)},
        "not a tensor": {"10.weight": "weights"},
    }
    bad |= {f"shapes: {name}": torch_bytes({**w, **change}) for name, change in shapes.items()}
    bad["shapes: less"] = torch_bytes({n: t for n, t in w.items() if n != "4.weight"})
    contents = [[], {}, 3, "text", None, torch.zeros(3), [torch.zeros(2)] * 3, {1: torch.zeros(1)}, {"state_dict": 3},
                {"state_dict": {}}, deep(3), deep(50), {"a\nb\x1b[2J": torch.zeros(3)}, {"x" * 100_000: torch.zeros(3)},
                {"mean": torch.zeros(3), "std": torch.zeros(3), **w}]  # fmt: skip
    bad |= {f"content {k}": torch_bytes(content) for k, content in enumerate(contents)}
    one = {"w": tensor([2])}
    headers = {
        "huge": header(one, bytes(8), 2**63),
        "largest": header(one, bytes(8), 2**64 - 1),
        "beyond the limit": header(one, bytes(8), 100_000_001),
        "longer than the file": header(one, bytes(8), 500),
        "none": header(b"{}"),
        "no JSON": header(b"{" + b"x" * 50),
        "deep": header(b'{"w":' + b"[" * 200_000, bytes(8)),
        "huge shape": header({"w": tensor([2**40, 2**40], 0, 8)}, bytes(8)),
        "negative": header({"w": tensor([-2], 0, 8)}),
        "overlap": header({"a": tensor([2]), "b": tensor([2], 4)}, bytes(12)),
        "beyond": header({"w": tensor([900])}),
        "backwards": header({"w": tensor([2], 8, 0)}, bytes(8)),
        "kind": header({"w": tensor([2], dtype="F31")}, bytes(8)),
        "gap": header({"w": tensor([2], 4)}, bytes(12)),
        "text": header({"w": "x"}),
        "list": header({"w": [1, 2]}),
        "spaces": header(b'{"w":' + b" " * 30_000_000 + b"}"),
        "other network": header(one, bytes(8)),
        "overflow": header({"w": tensor([2**62, 4], 0, 8)}, bytes(8)),
        "twice": header(b'{"w":1,"w":2}'),
    }
    bad |= {f"header: {name}": content for name, content in headers.items()}
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for k in range(21_000):
            archive.writestr(f"a/{k}", b"")
    bad |= {
        "bomb: pickle": bomb("archive/data.pkl", 120 << 20),
        "bomb: entry": bomb("archive/data/0", 120 << 20),
        "bomb: script": bomb("archive/code/x.py", 120 << 20),
        "bomb: entries": many.getvalue(),
        "bomb: compressed": in_zip(zlib.compress(bytes(10**6))),
        "long text": in_zip(b"\x80\x02X\xff\xff\xff\x7f" + b"x" * 1000 + b"."),
        "long number": in_zip(b"\x80\x02\x8b\xff\xff\xff\x7f."),
        "endless marks": in_zip(b"\x80\x02" + b"(" * 10**5 + b"."),
        "memo": in_zip(b"\x80\x02Nr\xff\xff\xff\x7f."),
        "nothing on the stack": in_zip(b"\x80\x02."),
    }
    picture = io.BytesIO()
    Image.new("RGB", (9, 9)).save(picture, "PNG")
    arrays = io.BytesIO()
    np.savez(arrays, x=np.zeros(3))
    bad |= {
        "a picture": picture.getvalue(),
        "arrays": arrays.getvalue(),
        "an array": b"\x93NUMPY\x01\x00v\x00{'descr'",
        "Keras": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "ONNX": b"\x08\x07\x12\x07pytorch" + bytes(90),
        "gzip": b"\x1f\x8b\x08" + bytes(60),
        "tar": around({"storages": b"x", "tensors": b"y", "pickle": called("os", "system")}),
        "text": b"import os\nos.system('touch ran')\n",
        "page": b"<!DOCTYPE html><html>404</html>",
        "zeros": bytes(5000),
        "empty archive": b"PK\x05\x06" + bytes(18),
        "a zip of text": in_zip(b"").replace(b"data.pkl", b"read.txt"),
        "noise": np.random.default_rng(0).bytes(5000),
        "magic alone": b"PK\x03\x04",
        "a byte": b"\x80",
    }
    return bad


BAD_MODELS = model_files_that_are_bad()


PEAKS: list[int] = []  # bytes in memory at most, of each process that read a file, beyond what this one had


def read_in_a_fork(path: Path, into: Path) -> dict:
    """What the reader answers, from a process that is ended by its own limits alone."""
    had = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")  # a fork begins with it
    child = os.fork()
    if child == 0:
        os.chdir(into)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(os.open(into / "answer", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os._exit(model_reader.main([str(path), str(into)]))
    _, status, usage = os.wait4(child, 0)
    assert status == 0, os.waitstatus_to_exitcode(status)
    PEAKS.append(usage.ru_maxrss * 1024 - had)
    return json.loads((into / "answer").read_text().splitlines()[-1])


def assert_one_sentence(text: str) -> None:
    assert text.isprintable() and "\n" not in text and 20 < len(text) < 500, text
    assert text.endswith(".") and "Traceback" not in text, text


@pytest.mark.parametrize("case", BAD_MODELS)
def test_a_bad_model_file_ends_in_one_sentence_and_runs_nothing(case, tmp_path):
    (tmp_path / "file").write_bytes(BAD_MODELS[case])
    answer = read_in_a_fork(tmp_path / "file", tmp_path)
    assert answer.keys() == {"error"}, answer
    assert_one_sentence(answer["error"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["answer", "file"], "something ran"
    for module, name in CODE:
        if case.startswith(f"{module}.{name} "):
            assert name in answer["error"] and "never run" in answer["error"]


def test_reading_them_took_little_memory():
    if not PEAKS:
        pytest.skip("nothing was read before this")
    assert max(PEAKS) < MOST_MEMORY


def test_flipped_bytes_never_break_the_reader(tmp_path):
    rng = np.random.default_rng(0)
    for kind, content in (("zip", torch_bytes(weights())), ("legacy", legacy_bytes(weights())),
                          ("safetensors", safetensors_bytes(weights()))):  # fmt: skip
        for _ in range(4):
            spoilt = bytearray(content)
            for place in rng.integers(0, 400, 3):
                spoilt[place] ^= int(rng.integers(1, 256))
            (tmp_path / kind).write_bytes(spoilt)
            answer = read_in_a_fork(tmp_path / kind, tmp_path)
            assert ("error" in answer) != ("matches" in answer)
            if "error" in answer:
                assert_one_sentence(answer["error"])


@pytest.mark.parametrize("case", ["os.system in a torch file", "bomb: pickle", "shapes: claims a great lot"])
def test_the_whole_way_through_a_fresh_process_ends_the_same(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(BAD_MODELS[case])
    with pytest.raises(ModelFileError) as caught:
        model_files.inspect("file")
    assert_one_sentence(str(caught.value))
    assert str(caught.value).startswith("file: ") and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_is_no_file_is_refused_before_anything_is_opened(tmp_path):
    good = tmp_path / "good.safetensors"
    good.write_bytes(safetensors_bytes(weights()))
    (tmp_path / "link").symlink_to(good)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to("/proc/1/mem")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(model_reader.MAX_FILE + 1)
    for path, says in (
        ("link", "is a link"),
        ("loop", "is a link"),
        ("dangling", "is a link"),
        ("empty", "is empty"),
        ("pipe", "no ordinary file"),
        ("large", "at most 4 GB"),
        ("", "is a folder"),
        ("none", "no file"),
        ("a\0b", "no file"),
        ("x" * 5000, "no file"),
    ):
        with pytest.raises(ModelFileError, match=says) as caught:
            model_files.inspect(tmp_path / path)
        assert_one_sentence(str(caught.value))
    with pytest.raises(ModelFileError, match="no ordinary file"):
        model_files.inspect("/dev/zero")


def test_a_reader_that_dies_or_hangs_is_one_sentence_too(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"anything")
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ModelFileError, match="broke the process"):
        model_files.inspect(tmp_path / "file")
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(slow))
    monkeypatch.setattr(model_files, "_PATIENCE", 0.3)
    with pytest.raises(ModelFileError, match="could not be read within"):
        model_files.inspect(tmp_path / "file")


# --------------------------------------------------------------------------------------------------- the data files


def npz(**arrays) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def members(compress: int = zipfile.ZIP_STORED, **contents: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compress) as archive:
        for name, content in contents.items():
            archive.writestr(f"{name}.npy", content)
    return out.getvalue()


def npy(shape: str, kind: str = "'|u1'", body: bytes = b"", more: str = "") -> bytes:
    """An array file whose header says what it likes."""
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}{more}}}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) & 0xFFFF) + text + body


def in_directory(content: bytes, offset: int, value: int) -> bytes:
    """The archive with one byte of every entry of its directory changed (8: flags, 10: how it is packed)."""
    changed = bytearray(content)
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        changed[at + offset] = value
        at = content.find(b"PK\x01\x02", at + 1)
    return bytes(changed)


def data_files_that_are_bad() -> dict[str, bytes]:
    x, y = np.zeros((6, 5, 4), np.uint8), np.arange(6) % 3
    good = npz(x=x, y=y)
    labels = npy("(6,)", "'<i8'", bytes(48))
    bad = {f"cut off at {part}": good[: int(part * len(good))] for part in (0.01, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99)}
    objects = np.array([Wants(os.mkdir, "ran")] * 6, dtype=object)
    with_code = io.BytesIO()
    np.savez(with_code, x=objects, y=y)
    bad |= {
        "code": with_code.getvalue(),
        "code in labels": npz(x=x, y=objects),
        "a pickle": pickle.dumps(Wants(os.mkdir, "ran")),
        "code in class names": npz(x=x, y=y, class_names=objects),
        "torch file": torch_bytes({"x": torch.zeros(3)}),
        "bomb": bomb("x.npy", 120 << 20),
        "text": b"x,y\n1,2\n",
        "empty": b"",
        "array alone": npy("(6, 5, 4)", body=bytes(120)),
        "many members": members(**{f"a{k}": b"" for k in range(70)}),
        "other members": in_zip(b"x"),
        "no images": npz(y=y),
        "no labels": npz(x=x),
        "nothing": members(),
        "no array": members(x=b"hello", y=labels),
        "magic alone": members(x=b"\x93NUMPY", y=labels),
        "version": members(x=b"\x93NUMPY\x09\x00" + bytes(200), y=labels),
        "huge shape": members(x=npy("(1000000, 1000000, 1000000)"), y=labels),
        "larger than it is": members(x=npy("(6, 5, 400)", body=bytes(120)), y=labels),
        "smaller than it is": members(x=npy("(6, 5)", body=bytes(120)), y=labels),
        "negative": members(x=npy("(-6, -5, 4)", body=bytes(120)), y=labels),
        "no numbers": members(x=npy("('a',)", body=bytes(120)), y=labels),
        "large header": members(x=npy("(6, 5, 4)", body=bytes(120), more=", 'x': '" + "x" * 60_000 + "'"), y=labels),
        "header claims": members(x=b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{", y=labels),
        "header is code": members(x=npy("__import__('os').mkdir('ran')"), y=labels),
        "nested header": members(x=npy("(" * 3000 + ")" * 3000), y=labels),
        "objects": members(x=npy("(6,)", "'|O'", bytes(48)), y=labels),
        "hidden objects": members(x=npy("(6,)", "[('a', '|O')]", bytes(48)), y=labels),
        "records": npz(x=np.zeros(6, [("a", "u1")]), y=y),
        "text array": npz(x=np.array(["a"] * 6), y=y),
        "times": npz(x=np.zeros((6, 5, 4), "M8[s]"), y=y),
        "complex": npz(x=np.zeros((6, 5, 4), complex), y=y),
        "no pictures": npz(x=x[:0], y=y[:0]),
        "flat": npz(x=np.zeros((6, 20), np.uint8), y=y),
        "number": npz(x=3, y=y),
        "five axes": npz(x=np.zeros((6, 1, 1, 5, 4), np.uint8), y=y),
        "ambiguous": npz(x=np.zeros((6, 3, 5, 3), "u1"), y=y),
        "two channels": npz(x=np.zeros((6, 2, 5, 5), "u1"), y=y),
        "wide": npz(x=np.zeros((6, 1, 5000), "u1"), y=y),
        "NaN": npz(x=np.full((6, 5, 4), np.nan), y=y),
        "infinite": npz(x=np.full((6, 5, 4), np.inf), y=y),
        "normalised": npz(x=np.linspace(-2, 2, 120).reshape(6, 5, 4), y=y),
        "over one": npz(x=x + 1.5, y=y),
        "16 bit": npz(x=np.full((6, 5, 4), 60_000, "u2"), y=y),
        "signed": npz(x=np.full((6, 5, 4), -3), y=y),
        "fewer labels": npz(x=x, y=y[:5]),
        "more labels": npz(x=x, y=np.arange(7)),
        "one-hot": npz(x=x, y=np.eye(6)),
        "broken labels": npz(x=x, y=y + 0.5),
        "label text": npz(x=x, y=np.array(list("abcabc"))),
        "one label": npz(x=x, y=1),
        "below 0": npz(x=x, y=y - 1),
        "from 1": npz(x=x, y=y + 1),
        "far": npz(x=x, y=y + 10**9),
        "huge": npz(x=x, y=y + 2**62),
        "names too few": npz(x=x, y=y, class_names=np.array(["a"])),
        "names twice": npz(x=x, y=y, class_names=["a"] * 3),
        "names with controls": npz(x=x, y=y, class_names=["a", "b\x1b[2J", "c"]),
        "damaged": good.replace(bytes(100), b"x" * 100),
        "encrypted": in_directory(good, 8, 1),
        "packed oddly": in_directory(good, 10, 99),
    }
    return bad


BAD_DATA = data_files_that_are_bad()


@pytest.mark.parametrize("case", BAD_DATA)
def test_a_bad_data_file_ends_in_one_sentence_and_runs_nothing(case, tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAT_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.npz").write_bytes(BAD_DATA[case])
    with pytest.raises(DynatError) as caught:
        own_data.add(tmp_path / "x.npz", "mine")
    assert_one_sentence(str(caught.value))
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"], "something ran or was kept"


NO_SIZE = {"text": "'<U0'", "bytes": "'|S0'", "nothing": "'|V0'", "no fields": "[]", "a field": "[('a', '<U0')]"}


@pytest.mark.parametrize("array", ["x", "y", "class_names"])
@pytest.mark.parametrize("kind", NO_SIZE)
def test_an_array_that_may_claim_any_shape_is_never_read(kind, array, tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAT_DATA", str(tmp_path / "data"))
    good = {"x": np.zeros((6, 5, 4), np.uint8), "y": np.arange(6) % 3, "class_names": np.array(list("abc"))}
    contents = {name: written(values) for name, values in good.items()}
    contents[array] = npy("(100000000000,)", NO_SIZE[kind])  # reading it would not be survived
    (tmp_path / "x.npz").write_bytes(members(**contents))
    with zipfile.ZipFile(tmp_path / "x.npz") as archive, pytest.raises(DataError, match="no size"):
        array_files.shape_of(archive, array)
    with pytest.raises(DataError, match=f"{array} holds values of no size"):
        own_data.add(tmp_path / "x.npz", "mine")


def test_class_names_are_counted_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAT_DATA", str(tmp_path / "data"))
    x, y = np.zeros((6, 5, 4), np.uint8), np.arange(6) % 3
    (tmp_path / "x.npz").write_bytes(npz(x=x, y=y, class_names=np.arange(10_001).astype("<U5")))
    with pytest.raises(DataError, match="There are 10,001 class names; at most 10,000 are read"):
        own_data.add(tmp_path / "x.npz", "mine")


def written(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, values)
    return out.getvalue()


def picture(kind: str, size=(5, 4), mode="RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, kind)
    return out.getvalue()


def huge_png() -> bytes:
    """A PNG that claims 60,000 x 60,000 pixels."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + bytes(50)


BAD_FOLDERS = {
    "nothing in it": {}, "no class folders": {"a.png": picture("PNG")}, "no pictures": {"cat/notes.txt": b"hello"},
    "other sizes": {"cat/a.png": picture("PNG"), "dog/b.png": picture("PNG", (6, 4))},
    "cut off": {"cat/a.png": picture("PNG", (64, 64))[:60]}, "no picture": {"cat/a.png": b"import os\n"},
    "another kind": {"cat/a.png": picture("GIF")}, "code": {"cat/a.png": called("os", "system")},
    "transparent": {"cat/a.png": picture("PNG", mode="RGBA")}, "16 bit": {"cat/a.png": picture("PNG", mode="I;16")},
    "huge": {"cat/a.png": huge_png()}, "large": {"cat/a.png": picture("PNG", (4100, 1), "L")},
    "cut off JPEG": {"cat/a.jpg": picture("JPEG", (64, 64))[:300]}, "empty": {"cat/a.jpeg": b""},
}  # fmt: skip


@pytest.mark.parametrize("case", [*BAD_FOLDERS, "link in it", "pipe in it", "link to it"])
def test_a_bad_folder_of_pictures_ends_in_one_sentence(case, tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAT_DATA", str(tmp_path / "data"))
    (tmp_path / "p" / "ape").mkdir(parents=True)
    for name, content in BAD_FOLDERS.get(case, {"cat/a.png": picture("PNG")}).items():
        (tmp_path / "p" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "p" / name).write_bytes(content)
    if case == "link in it":
        (tmp_path / "p" / "cat" / "b.png").symlink_to("/etc/passwd")
    if case == "pipe in it":
        os.mkfifo(tmp_path / "p" / "cat" / "b.png")
    given = tmp_path / "p"
    if case == "link to it":
        given = tmp_path / "link"
        given.symlink_to(tmp_path / "p")
    with pytest.raises(DynatError) as caught:
        own_data.add(given, "mine")
    assert_one_sentence(str(caught.value))
    assert not (tmp_path / "data").exists()


def test_there_are_more_than_two_hundred_of_them():
    assert len(BAD_MODELS) + len(BAD_DATA) + len(BAD_FOLDERS) >= 200
