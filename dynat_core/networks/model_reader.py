"""The process that opens a model file from elsewhere, so that a bad one can hurt nothing but this process.

`python -m dynat_core.networks.model_reader FILE FOLDER` reads weights and writes them to FOLDER as safetensors; what it
found goes to stdout as one line of JSON. Nothing in the file is ever run: a torch file is read with `weights_only`, and
a program (TorchScript, torch.export) is recognised by its directory and not loaded. Memory and time are bounded.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

from dynat_core.errors import ModelFileError

MAX_FILE = 4_000_000_000  # bytes; the largest network known here takes 1.1e9
_MAX_HEADER = 100_000_000  # bytes of a safetensors header, the format's own limit
_MAX_ENTRIES = 20_000  # tensors in a torch file
_SECONDS = 120  # of computing
_SLACK = 600_000_000  # bytes beside what torch takes and the file needs
_GIVE_WEIGHTS = "save only the weights: torch.save(model.state_dict(), ...), or safetensors"


def main(arguments: list[str]) -> int:
    """Read the file, answer with one line of JSON, leave with 0; what is wrong with it is a part of the answer."""
    path, into = Path(arguments[0]), Path(arguments[1])
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no part of the answer
    try:
        answer = _read(path, into)
    except ModelFileError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "It takes more memory than a file of its size may; it is damaged or made to do harm."}
    with out:
        out.write(json.dumps(answer) + "\n")
    return 0


def _read(path: Path, into: Path) -> dict[str, Any]:
    _limit_time()
    kind = kind_of(path)
    if kind in ("torchscript", "export"):
        return {"program": kind}
    import torch
    from safetensors.torch import load_file, save_file

    from dynat_core.networks.state_dict import matches, tidy

    size = path.stat().st_size
    _limit_memory(size)
    torch.set_num_threads(1)
    try:
        content = load_file(path) if kind == "safetensors" else _weights_only(path, kind)
        done = tidy(content, room=8 * size)
        found = matches(done.tensors, ordered=kind != "safetensors")
        save_file(done.tensors, into / "weights.safetensors")
    except (ModelFileError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged file makes the parsers say
        if _out_of_memory(error):
            raise MemoryError from error
        raise ModelFileError(_sentence(error)) from error
    return {
        "repairs": done.repairs,
        "normalisation": done.normalisation,
        "matches": [vars(match) for match in found],
        "format": kind,
    }


# ------------------------------------------------------------------------------------------------- what kind of file


def kind_of(path: Path) -> str:
    """ "safetensors", "torch-zip", "torch-legacy", "torchscript" or "export", from the first bytes and the directory of
    an archive. Raises ModelFileError for anything else."""
    size = os.lstat(path).st_size
    with open(path, "rb") as file:
        head = file.read(512)
        if head[:4] == b"PK\x03\x04":
            return _kind_of_archive(file)
    if len(head) > 8 and head[8:9] == b"{":
        (length,) = struct.unpack("<Q", head[:8])
        if length > min(_MAX_HEADER, size - 8):
            raise ModelFileError("Its header claims to be larger than the file; it is cut off or damaged.")
        return "safetensors"
    if head[:1] == b"\x80":
        return "torch-legacy"
    others = {
        b"\x89HDF\r\n": "an HDF5 file, as Keras writes it",
        b"\x93NUMPY": "a single NumPy array",
        b"PK\x05\x06": "an empty archive",
        b"\x1f\x8b": "gzipped",
        b"Rar!": "a RAR archive",
    }
    what = next((words for start, words in others.items() if head.startswith(start)), None)
    if head[257:262] == b"ustar":
        what = "a tar archive"
    if wants := re.match(rb"c([\w.]{1,60})\n([\w.]{1,60})\n", head):
        what = f"pickled code that wants to run {wants[1].decode()}.{wants[2].decode()}"
    if what:
        raise ModelFileError(f"It is {what}, not a model file that is read here; {_GIVE_WEIGHTS}.")
    raise ModelFileError(f"It is neither safetensors nor a file that PyTorch saved; {_GIVE_WEIGHTS}.")


def _kind_of_archive(file: io.BufferedReader) -> str:
    """Look into the directory of a zip archive without unpacking anything."""
    size = file.seek(0, os.SEEK_END)
    try:
        entries = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError, UnicodeDecodeError) as error:
        raise ModelFileError("It is an archive that is cut off or damaged; download or save it again.") from error
    if len(entries) > _MAX_ENTRIES:
        raise ModelFileError(f"It is an archive of {len(entries):,} entries, far more than a network has tensors.")
    unpacked = sum(entry.file_size for entry in entries)
    names = {entry.filename.partition("/")[2] for entry in entries}
    if unpacked > 50 * size + 100_000_000:
        raise ModelFileError(f"It is an archive of {size / 1e6:,.1f} MB that would unpack to {unpacked / 1e6:,.0f} MB; "
                             "it is made to do harm.")  # fmt: skip
    if "archive_format" in names or any(e.filename == "serialized_exported_program.json" for e in entries):
        return "export"
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return "torchscript"
    if "data.pkl" in names:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or unpacked > size:
            raise ModelFileError(f"Its parts are compressed, which PyTorch never does; {_GIVE_WEIGHTS}.")
        return "torch-zip"
    if entries and all(entry.filename.endswith(".npy") for entry in entries):
        raise ModelFileError('It is an archive of NumPy arrays; for images, "python -m dynat_core data add" takes it.')
    raise ModelFileError(f"It is a zip archive that PyTorch did not write; {_GIVE_WEIGHTS}.")


def _weights_only(path: Path, kind: str) -> Any:
    import torch

    return torch.load(str(path), map_location="cpu", weights_only=True, mmap=kind == "torch-zip")


# ------------------------------------------------------------------------------------------------------ what it says


def _sentence(error: Exception) -> str:
    """What a parser said, as one sentence without its advice on how to run the file after all."""
    text = str(error)
    wants = re.search(r"GLOBAL ([\w.]{1,120})", text) or re.search(
        r"Unsupported (?:class|global|operand)[^A-Za-z0-9]{1,3}([\w.]{1,120})", text
    )
    if wants and not wants[1].isdigit():
        name = wants[1]
        what = "the whole network, pickled," if name.startswith("torch.nn.") else "more than weights"
        return f"It holds {what} and wants Python to load {name}; pickled code is never run here: {_GIVE_WEIGHTS}."
    first = next((line.strip() for line in text.splitlines() if line.strip()), "") or type(error).__name__
    first = first if first.isprintable() else ascii(first)
    if "Weights only load failed" in first:
        first = "its pickle holds what weights never need"
    return f"It is damaged or cut off ({first[:120].rstrip('.;:, ')}); download or save it again."


def _out_of_memory(error: Exception) -> bool:
    return any(words in str(error) for words in ("allocate memory", "Cannot allocate", "ENOMEM", "bad_alloc"))


# ------------------------------------------------------------------------------------------------------------ limits


def _limit_time() -> None:
    """Nothing is read for longer than this; where there is no such limit, whoever started this process ends it."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_memory(size: int) -> None:
    """From now on this process may take a few times the file's `size` (bytes), and a little more."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 5 * size + _SLACK
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
