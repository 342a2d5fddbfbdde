"""A cluster's store on a real file system that two machines share: does it hold what docs/cluster.md asks for?

    python -m benchmarks.shared_store glusterfs sshfs

It makes two machines of this one (own mounts, process numbers and file system client each; see `machines`), has a
server of its own on the loopback address, queues runs and measurements, kills machines, and holds what was recorded
against runs that nothing disturbed. It needs Linux, root, FUSE, Ray, and the programs of the file systems that are
named: glusterfs-server, or openssh-server and sshfs. It takes some minutes for each, ends with code 1 if anything did
not hold, and takes away everything it made.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.chaos.ledger import Ledger
from benchmarks.shared_store.machines import SERVERS


def lacking(names: list[str]) -> str | None:
    """One sentence about what is missing here, or None."""
    if sys.platform != "linux" or os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        return "This needs Linux, root and FUSE (/dev/fuse), to mount file systems."
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    programs = ["unshare", "nsenter", *(program for name in names for program in SERVERS[name].programs)]
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    if missing:
        return f"There is no {missing[0]} here: install glusterfs-server, or openssh-server and sshfs."
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True).returncode:
        return "Mount and process namespaces cannot be made here."
    if importlib.util.find_spec("ray") is None:
        return 'Ray is not installed; install it with "pip install -r requirements-cluster.txt".'
    return None


def on(name: str, ledger: Ledger, scenes: list[str]) -> dict[str, object]:
    """What came of the scenes on one file system."""
    from benchmarks.shared_store.scenes import House

    folder = Path(tempfile.mkdtemp(prefix="dynat-shared-"))
    server, scene = SERVERS[name](folder / "server"), "the start"
    try:
        house = House(ledger, server, folder)
        try:
            for scene in scenes:
                ledger.say(f"{name}: {scene.replace('_', ' ')}")
                getattr(house, scene)()
                if scene == "properties" and any(line.startswith("bad ") for line in house.found["doctor"]):
                    ledger.say(f"{name}: no cluster may work on it, so nothing is run there")
                    break
        except Exception as error:
            ledger.problem(f"{name}, {scene}: {type(error).__name__}: {error}")
            for log in (folder / "server").glob("*.log"):
                print(f"--- {log.name}", log.read_text(errors="replace")[-3000:], sep="\n")
        finally:
            house.close()
        return house.found
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


SCENES = ("properties", "runs_and_a_lost_node", "shared_run_and_a_lost_node", "delays", "two_lone_workers")


def main() -> int:
    """Run it, print and write what came out."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shared_store", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("names", nargs="*", default=["glusterfs"], metavar="FILE-SYSTEM", help=", ".join(SERVERS))
    parser.add_argument("--scenes", default=",".join(SCENES), help="some of them, separated by commas")
    parser.add_argument("--to", type=Path, metavar="FILE.json", help="where to write the figures")
    arguments = parser.parse_args()
    if unknown := sorted({*arguments.names} - SERVERS.keys()):
        parser.error(f"there is no {unknown[0]}, but {', '.join(SERVERS)}")
    if sentence := lacking(arguments.names):
        print(sentence, file=sys.stderr)
        return 1
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was made is taken away then, too
    began = time.monotonic()
    ledger = Ledger(say=lambda words: print(f"{time.monotonic() - began:6.0f} s  {words}", flush=True))
    found = {name: on(name, ledger, arguments.scenes.split(",")) for name in arguments.names}
    whole = {"seconds": round(time.monotonic() - began), "load": os.getloadavg(), **found, **ledger.to_json()}
    print(json.dumps(whole, indent=1))
    if arguments.to:
        arguments.to.write_text(json.dumps(whole, indent=1) + "\n")
    return ledger.code


if __name__ == "__main__":
    sys.exit(main())
