"""The analysis helper: a process that imports torch, and answers one request after another over stdin and stdout.

Frames are 8 bytes of little-endian length, then a blob of `packing`. It ends with its owner, kill -9 included: stdin
closes, and on Linux the kernel kills it. Importing this module does not import torch; serving does.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from dynat_core.errors import DynatError
from dynat_core.recorded.packing import pack, unpack
from dynat_core.store import logs
from dynat_core.work.analysis import Analysis

ANALYSES = "dynat_core.work.analyses"

POLITE = 5  # niceness: where processors are short, whoever trains and the server that draws for everybody come first


def write_frame(stream: BinaryIO | Any, blob: bytes) -> None:
    """Write one frame and flush. Raises OSError if the other side is gone."""
    stream.write(len(blob).to_bytes(8, "little") + blob)
    stream.flush()


def read_frame(stream: BinaryIO | Any) -> bytes | None:
    """Read one frame; None at the end of the stream, also in the middle of a frame."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    length = int.from_bytes(head, "little")
    blob = stream.read(length)
    return blob if len(blob) == length else None


# ---------------------------------------------------------------------------------------------- requests and answers


class _Inbox:
    """Requests as they come, and which of them are not wanted any more."""

    def __init__(self, stream: BinaryIO) -> None:
        self.requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.cancelled: set[int] = set()
        threading.Thread(target=self._listen, args=(stream,), daemon=True).start()

    def _listen(self, stream: BinaryIO) -> None:
        while (blob := read_frame(stream)) is not None:
            header, _ = unpack(blob)
            if "cancel" in header:
                self.cancelled.add(header["cancel"])
            else:
                self.requests.put(header)
        os._exit(0)  # the owner is gone, and what is being computed has nobody to go to


def die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the closed stdin does it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before we asked
            os._exit(0)


def answer(analysis: Analysis, header: dict[str, Any], inbox: _Inbox, say: Callable[[bytes], None]) -> bytes:
    """Run one analysis and return the frame to send back; `say` sends one that says how far it is."""
    number = header["id"]

    def cancelled() -> bool:
        return number in inbox.cancelled

    def progress(share: float) -> None:
        say(pack({"id": number, "state": "working", "progress": float(share)}, {}))

    try:
        value, arrays = analysis(header["request"], cancelled, progress)
        return pack({"id": number, "state": "ready", "value": value}, arrays)
    except DynatError as error:
        sentence = str(error)
    except Exception as error:  # noqa: BLE001 (whatever it was, the screen gets one sentence and the log the rest)
        first_line = (str(error).splitlines() or [""])[0]
        sentence = f"The analysis failed: {type(error).__name__}: {first_line}".rstrip(": ")
        if not cancelled():
            traceback.print_exc()
    return pack({"id": number, "state": "failed", "error": sentence}, {})


def serve(analyses: str, log: Path | None = None) -> None:
    """Answer requests from stdin until it closes. log: where what is printed goes, if it is to be kept short."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print must not land between two frames
    inbox = _Inbox(sys.stdin.buffer)
    kinds: dict[str, Analysis] = importlib.import_module(analyses).ANALYSES
    while True:
        header = inbox.requests.get()
        write_frame(out, answer(kinds[header["kind"]], header, inbox, lambda blob: write_frame(out, blob)))
        inbox.cancelled.discard(header["id"])
        if log is not None:
            logs.keep_short(log)


def main() -> None:
    """`python -m dynat_core.work.helper`: the helper; started by `Analyst`, of no use by hand."""
    parser = argparse.ArgumentParser(prog="python -m dynat_core.work.helper")
    parser.add_argument("--analyses", default=ANALYSES)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--log", type=Path)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the web server, which then closes us
    die_with(arguments.parent)
    if hasattr(os, "nice"):
        os.nice(POLITE)
    serve(arguments.analyses, arguments.log)


if __name__ == "__main__":
    main()
