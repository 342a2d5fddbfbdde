"""Two machines on one: each its own mounts, process numbers and /dev/shm, and one file system through its own client.

What is shared is served on the loopback address by a server of its own, so whatever a client keeps in memory it keeps
for one machine alone. A machine is lost as in a power cut: all its processes, the file system's client among them, are
killed at one instant.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from dynat_core.store.workers import child_environment

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds until a server or a mount is there

_BRICK = """
volume posix
  type storage/posix
  option directory {export}
end-volume
volume locks
  type features/locks
  subvolumes posix
end-volume
volume brick
  type performance/io-threads
  subvolumes locks
end-volume
volume server
  type protocol/server
  option transport-type tcp
  option transport.address-family inet
  option transport.socket.bind-address 127.0.0.1
  option transport.socket.listen-port {port}
  option auth.addr.brick.allow 127.0.0.1
  subvolumes brick
end-volume
"""
_CLIENT = """
volume remote
  type protocol/client
  option transport-type tcp
  option transport.address-family inet
  option remote-host 127.0.0.1
  option remote-port {port}
  option remote-subvolume brick
end-volume
"""
_SSHD = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
Subsystem sftp internal-sftp
ForceCommand internal-sftp
"""


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server(ABC):
    """A file server on the loopback address: `export` is the folder it serves, `mount` the words that mount it."""

    programs: tuple[str, ...]

    def __init__(self, folder: Path) -> None:
        self.folder, self.export, self.port = folder, folder / "export", free_port()
        self.export.mkdir(parents=True)
        self.process = self.serve()
        end = time.monotonic() + PATIENCE
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.programs[0]} did not start; see {folder}")
            time.sleep(0.1)

    @abstractmethod
    def serve(self) -> subprocess.Popen[bytes]:
        """Start it."""

    @abstractmethod
    def mount(self, at: Path) -> list[str]:
        """The words that mount it there."""

    def _answers(self) -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Gluster(Server):
    """GlusterFS: one brick, and clients with the caches that they have by default."""

    programs = ("glusterfsd", "glusterfs")
    caches = ("write-behind", "open-behind", "quick-read", "md-cache")

    def serve(self) -> subprocess.Popen[bytes]:
        parts, below = [_CLIENT.format(port=self.port)], "remote"
        for cache in self.caches:
            parts.append(f"volume {cache}\n  type performance/{cache}\n  subvolumes {below}\nend-volume\n")
            below = cache
        (self.folder / "client.vol").write_text("".join(parts))
        (self.folder / "brick.vol").write_text(_BRICK.format(export=self.export, port=self.port))
        log = self.folder / "brick.log"
        return subprocess.Popen(["glusterfsd", "-N", "-f", str(self.folder / "brick.vol"), "-l", str(log)])

    def mount(self, at: Path) -> list[str]:
        words = ["-f", str(self.folder / "client.vol"), "-l", str(self.folder / "client.log")]
        return ["glusterfs", *words, str(at)]


class Ssh(Server):
    """sshfs with the given options."""

    programs = ("sshd", "sshfs", "ssh-keygen")
    options: tuple[str, ...] = ()

    def serve(self) -> subprocess.Popen[bytes]:
        key = self.folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own empty folder, which its service would make
        (self.folder / "sshd.conf").write_text(_SSHD.format(port=self.port, folder=self.folder))
        sshd = shutil.which("sshd") or "/usr/sbin/sshd"  # it asks for its whole path
        command = [sshd, "-D", "-f", str(self.folder / "sshd.conf"), "-E", str(self.folder / "sshd.log")]
        return subprocess.Popen(command)

    def mount(self, at: Path) -> list[str]:
        asked = [f"IdentityFile={self.folder}/key", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null",
                 "LogLevel=ERROR", *self.options]  # fmt: skip
        words = [word for option in asked for word in ("-o", option)]
        return ["sshfs", "-F", "/dev/null", "-p", str(self.port), *words, f"127.0.0.1:{self.export}", str(at)]


class SshUncached(Ssh):
    """sshfs whose clients keep nothing of what they were told of folders and files."""

    options = ("dir_cache=no", "attr_timeout=0", "entry_timeout=0", "negative_timeout=0")


SERVERS: dict[str, type[Server]] = {"glusterfs": Gluster, "sshfs": Ssh, "sshfs-uncached": SshUncached}


class Machine:
    """A machine that has `server`'s folder mounted at `store`. environment: of all its processes."""

    def __init__(self, name: str, server: Server, store: Path, **environment: str) -> None:
        self.name, self.store = name, store
        self.environment = child_environment(store) | environment
        store.mkdir(parents=True, exist_ok=True)
        ready = server.folder / f"{name}.ready"
        ready.unlink(missing_ok=True)
        # The last line is the machine's first process, and ignores the ends of others, so that they do not linger.
        script = f"""set -e
            mount --make-rprivate /
            mkdir -p /tmp/ray && mount -t tmpfs none /tmp/ray && mount -t tmpfs none /dev/shm
            {" ".join(server.mount(store))}
            mountpoint -q {store}
            touch {ready}
            trap '' CHLD
            exec sleep infinity"""
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
        self._log = open(server.folder / f"{name}.log", "ab")  # noqa: SIM115 - as long as the machine
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        end = time.monotonic() + PATIENCE
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"machine {name} has no file system; see {self._log.name}")
            time.sleep(0.05)
        (self._first,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()

    def start(self, *command: str, **how: Any) -> subprocess.Popen[str]:
        """A process on this machine; what it prints goes to the machine's log unless `how` says otherwise."""
        words = ["nsenter", "-t", self._first, "-m", "-p", *command]
        how = {"stdout": self._log, "stderr": self._log, "text": True, **how}
        return subprocess.Popen(
            words, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, start_new_session=True, **how
        )

    def say(self, *command: str, patience: float = 300.0) -> str:
        """What a command on this machine printed, errors included."""
        process = self.start(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            return process.communicate(timeout=patience)[0]
        finally:
            process.kill()

    def kill(self) -> None:
        """Power off."""
        self.process.kill()  # its first process is killed with it, and with that all others
        self.process.wait()
        end = time.monotonic() + PATIENCE
        while os.path.exists(f"/proc/{self._first}") and time.monotonic() < end:
            time.sleep(0.02)
        self._log.close()

    # -- what runs on it

    def _processes(self) -> list[Path]:
        ours = os.readlink(f"/proc/{self._first}/ns/mnt")
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(entry / "ns/mnt") == ours:
                    found.append(entry)
            except OSError:
                continue
        return found

    def runs(self, word: str) -> bool:
        """Whether a process of it has this word in its command."""
        return any(word.encode() in _read(entry / "cmdline") for entry in self._processes())

    def open_files(self, name: str) -> list[str]:
        """The folders whose file called `name` is open on it."""
        found = set()
        for entry in self._processes():
            try:
                files = {os.readlink(file) for file in (entry / "fd").iterdir()}
            except OSError:
                continue
            found |= {Path(file).parent.name for file in files if file.endswith("/" + name)}
        return sorted(found)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
