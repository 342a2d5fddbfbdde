"""Streamlit servers as people start them, each on a free port of the loopback, and what they cost the machine."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120.0  # seconds until it answers first


def free_port() -> int:
    """A port of this machine that nobody has now, and that no other test process takes before it is used.

    Below those that the system gives away by itself, which on Linux are all odd or all even.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = range(20_000 + own, 32_000, processes)
    for port in random.SystemRandom().sample(mine, len(mine)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("every port from 20000 to 32000 is taken")


class Server:
    """A Streamlit server of Dynat on a free port of the loopback."""

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self.process, self.address = process, address

    def memory(self) -> dict[str, float]:
        """Resident MB of the server ("web") and of the processes it started ("helpers"). Linux only."""
        web = self.process.pid
        return {"web": _resident(web), "helpers": sum(_resident(pid) for pid in children(web))}

    def processor(self) -> dict[str, float]:
        """Seconds of processor time that the server and what it started have used. Linux only."""
        web = self.process.pid
        return {"web": processor(web), "helpers": sum(processor(pid) for pid in children(web))}

    def answers(self) -> bool:
        """Whether it can be reached now."""
        with suppress(OSError):
            urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=2).close()
            return True
        return False

    def end(self) -> None:
        """End it, and do not wait for ever."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def started(
    script: Path | str = "app.py",
    *,
    prefix: tuple[str, ...] = (),
    options: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Server:
    """A server that has just been started, and answers. Whoever asked for it ends it.

    script: by default Dynat itself. prefix: a command to start it with, as `taskset -c 0`. environment: all of it, by
    default that of this process. Raises RuntimeError where it ends or does not answer.
    """
    port = free_port()
    command = [*prefix, sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port),
               "--server.address", "127.0.0.1", "--server.headless", "true"]  # fmt: skip
    for name, value in (options or {}).items():
        command += [f"--{name}", value]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = Server(process, f"http://127.0.0.1:{port}")
    try:
        _await(server)
    except BaseException:
        server.end()
        raise
    return server


@contextmanager
def served(
    store: Path, *, prefix: tuple[str, ...] = (), options: Mapping[str, str] | None = None, **environment: str
) -> Iterator[Server]:
    """A running server of Dynat for `store`, ended with the block."""
    whole = os.environ | {"DYNAT_STORE": str(store)} | environment
    server = started(prefix=prefix, options=options, environment=whole)
    try:
        yield server
    finally:
        server.end()


def _await(server: Server) -> None:
    end = time.monotonic() + PATIENCE
    while not server.answers():
        if server.process.poll() is not None:
            raise RuntimeError(f"streamlit ended with {server.process.returncode}")
        if time.monotonic() > end:
            raise RuntimeError(f"streamlit did not answer at {server.address}")
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that still live, with theirs. Linux only."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(word) for word in task.read_text().split()]
    return found + [below for child in found for below in children(child)]


def processor(pid: int) -> float:
    """Seconds of processor time that a process has used so far, 0 when it has ended. Linux only."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _resident(pid: int) -> float:
    """MB of memory that a process holds, 0 when it has ended."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
    return 0.0
