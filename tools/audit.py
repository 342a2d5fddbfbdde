"""Have the packages that Dynat stands on known holes? `python tools/audit.py`; --lint: what `make lint` asks.

An audit needs a list of known holes, which lies on the network. What can be said without one is checked first: that
every requirement has an upper end, and that the installed packages fit each other. With --lint a list that cannot be
reached is a loud note; alone, who asked for an audit and got none is told so by the exit code.

Exit codes: 0 nothing found, 1 something found, 2 not known.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
NOT_SHIPPED = ("requirements-dev.txt", "requirements-bench.txt")  # no part of what people run
# Holes that are known and do not matter here: id -> why. Each is looked at again when its package moves.
ACCEPTED: dict[str, str] = {}
SERVICE = "DYNAT_ADVISORIES"  # the address of another list that speaks OSV's language, such as a mirror
PATIENCE = 600.0  # seconds for all packages together


def requirements() -> list[Path]:
    """Every requirements file."""
    return sorted(ROOT.glob("requirements*.txt"))


def lines(file: Path) -> list[str]:
    """What a requirements file asks for, without comments and without the files it names."""
    found = (line.partition(" #")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in found if line and not line.startswith(("#", "-"))]


def loose(files: Iterable[Path]) -> list[str]:
    """A sentence for each requirement that a new version of a package could slip through."""
    sentences = []
    for file in files:
        for line in lines(file):
            try:
                marks = {mark.operator for mark in Requirement(line).specifier}
            except InvalidRequirement:
                sentences.append(f"{file.name}: {line} is no requirement.")
                continue
            if not marks & {"==", "~="} and not (marks & {">=", ">"} and marks & {"<", "<="}):
                sentences.append(f"{file.name}: {line} needs a lower and an upper end.")
    return sentences


def shipped(files: Iterable[Path]) -> dict[str, str]:
    """Name -> version of each installed package that the requirements bring along, directly or not."""
    found: dict[str, str] = {}
    waiting = [Requirement(line) for file in files for line in lines(file)]
    while waiting:
        wanted = waiting.pop()
        if wanted.marker is not None and not any(
            wanted.marker.evaluate({"extra": extra}) for extra in (*wanted.extras, "")
        ):
            continue
        name = canonicalize_name(wanted.name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # optional, or for another system
            continue
        if name in found:
            continue
        found[name] = distribution.version
        for line in distribution.requires or []:
            part = Requirement(line)
            extras = (*wanted.extras, "")
            if part.marker is None or any(part.marker.evaluate({"extra": extra}) for extra in extras):
                part.marker = None
                waiting.append(part)
    return dict(sorted(found.items()))


def known_holes(packages: dict[str, str]) -> list[str] | None:
    """A sentence for each known hole in these packages; None where the list of holes could not be asked."""
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        file = Path(folder) / "installed.txt"
        file.write_text("".join(f"{name}=={_public(version)}\n" for name, version in packages.items()))
        command = [sys.executable, "-m", "pip_audit", "-r", str(file), "--no-deps", "--disable-pip",
                   "--vulnerability-service", "osv", "--format", "json", "--progress-spinner", "off",
                   "--timeout", "5"]  # fmt: skip
        if address := os.environ.get(SERVICE):
            command += ["--osv-url", address]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            answer = json.loads(done.stdout)["dependencies"]
        except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
            return None
    return [
        f"{package['name']} {package['version']}: {hole['id']}, mended in "
        f"{', '.join(hole['fix_versions']) or 'no version'}."
        for package in answer
        for hole in package.get("vulns", [])
        if not {hole["id"], *hole.get("aliases", [])} & ACCEPTED.keys()
    ]


def _public(version: str) -> str:
    """A version without the part that says who built it, such as +cpu."""
    return re.sub(r"\+.*", "", version)


def _today(packages: dict[str, str]) -> str:
    """Changes with the packages, with the day and with what is accepted."""
    return hashlib.sha256(repr((packages, ACCEPTED, datetime.now(UTC).date())).encode()).hexdigest()


def lint(stamp: Path) -> int:
    """What needs no network, then an audit unless today's was clean already."""
    problems = loose(requirements())
    fitting = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    problems += fitting.stdout.strip().splitlines() if fitting.returncode else []
    packages = shipped(file for file in requirements() if file.name not in NOT_SHIPPED)
    now = _today(packages)
    if not (stamp.is_file() and stamp.read_text() == now):
        found = known_holes(packages)
        if found is None:
            print("NOT AUDITED: the list of known holes cannot be reached from here; `make audit` asks it again.")
        elif not found:
            stamp.write_text(now)
        problems += found or []
    print("\n".join(problems) or f"{len(packages)} packages: every requirement has two ends, and they fit each other.")
    return int(bool(problems))


def audit() -> int:
    """Ask for the known holes, and for nothing else."""
    packages = shipped(file for file in requirements() if file.name not in NOT_SHIPPED)
    found = known_holes(packages)
    if found is None:
        print(f"The list of known holes cannot be reached, so {len(packages)} packages are not audited; try again "
              f"with a network, or name a mirror in {SERVICE}.", file=sys.stderr)  # fmt: skip
        return 2
    for id, why in ACCEPTED.items():
        print(f"accepted: {id}, {why}")
    print("\n".join(found) or f"No known holes in {len(packages)} packages.")
    return int(bool(found))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Look for known holes in the packages that Dynat stands on.")
    parser.add_argument("--lint", action="store_true", help="what make lint asks: works without a network")
    parser.add_argument("--stamp", type=Path, default=Path(sys.prefix) / ".audited", help=argparse.SUPPRESS)
    given = parser.parse_args()
    return lint(given.stamp) if given.lint else audit()


if __name__ == "__main__":
    sys.exit(main())
