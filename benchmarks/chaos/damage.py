"""What can happen to a file: cut at a random byte, scrambled, emptied, gone, a folder or a link in its place."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path, random.Random], None]

# What is damaged in a finished run, and in one that goes on. run.json says what was asked and is written once, before
# anything else: without it there is no run to go on with, which the screens have to say.
FINISHED = (
    "run.json", "starts.jsonl", "epochs.jsonl", "histograms.jsonl", "result.json", "label.json", "log.txt", "lock",
    "samples/0001.parquet", "samples/best.parquet", "samples/last.parquet", "probes/0001.parquet",
    "paths/0002.parquet", "weights/0002.safetensors", "samples", "probes", "weights", "evaluations",
)  # fmt: skip
GOING_ON = (
    "starts.jsonl", "epochs.jsonl", "histograms.jsonl", "resume.safetensors", "status.json", "label.json", "log.txt",
    "lock", "samples/0001.parquet", "weights/0001.safetensors",
)  # fmt: skip


def cut(path: Path, rng: random.Random) -> None:
    """Keep the first bytes of it, up to a random one."""
    content = _content(path)
    path.write_bytes(content[: rng.randrange(max(1, len(content)))])


def scrambled(path: Path, rng: random.Random) -> None:
    """Put random bytes at a random place of it."""
    content = bytearray(_content(path) or b"x")
    at = rng.randrange(len(content))
    content[at : at + 64] = rng.randbytes(min(64, len(content) - at))
    path.write_bytes(content)


def emptied(path: Path, rng: random.Random) -> None:
    """Leave a file without content."""
    _away(path)
    path.write_bytes(b"")


def gone(path: Path, rng: random.Random) -> None:
    """Leave nothing."""
    _away(path)


def folder(path: Path, rng: random.Random) -> None:
    """Put a folder in its place."""
    _away(path)
    path.mkdir()


def link(path: Path, rng: random.Random) -> None:
    """Put a link in its place that leads out of the store."""
    _away(path)
    path.symlink_to(rng.choice(["/etc/hostname", "/nowhere/at/all", "/"]))


KINDS: dict[str, Damage] = {
    "cut": cut, "scrambled": scrambled, "emptied": emptied, "gone": gone, "folder": folder, "link": link,
}  # fmt: skip


def _content(path: Path) -> bytes:
    """Its bytes; of a folder, or of nothing, none."""
    if path.is_dir():
        _away(path)
    return path.read_bytes() if path.is_file() else b""


def _away(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
