"""What was done to the store and what came of it, counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynat_core.store.run import Run
from tests.running import recorded


@dataclass
class Ledger:
    """faults: how many of each kind. lost, twice, different: recorded epochs that were missing in the end, were there
    more than once, or were not those of the undisturbed twin. snapshots: folders as a fault left them."""

    faults: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    twice: int = 0
    different: int = 0
    compared: int = 0
    screens: int = 0
    problems: list[str] = field(default_factory=list)
    say: Callable[[str], object] = print

    def fault(self, kind: str) -> None:
        """One more fault of this kind was injected."""
        self.faults[kind] += 1

    def problem(self, sentence: str) -> None:
        """Something did not hold."""
        self.problems.append(sentence)
        self.say(f"  PROBLEM: {sentence}")

    def compare(self, run: Run, twin: Run, after: str, but: tuple[str, ...] = ()) -> None:
        """Hold what `run` recorded against its undisturbed twin, bit for bit; `but`: files that a fault destroyed."""
        self.compared += 1
        if run.state != "finished":
            self.problem(f"after {after} the run is {run.state}: {run.problem}")
        wanted, found = records(twin.folder), records(run.folder)
        lost = [epoch for epoch in wanted if epoch not in found]
        different = [epoch for epoch in wanted if epoch in found and found[epoch][0] != wanted[epoch][0]]
        twice = [epoch for epoch, lines in found.items() if len(lines) > 1]
        self.lost, self.twice, self.different = (
            self.lost + len(lost),
            self.twice + len(twice),
            self.different + len(different),
        )
        if lost or different or twice:
            self.problem(f"after {after}: epochs lost {lost}, different {different}, twice {twice}")
        mine, theirs = recorded(run), recorded(twin)
        files = sorted(
            name
            for name in mine.keys() | theirs.keys()
            if name not in but and not name.startswith((".", "evaluations")) and mine.get(name) != theirs.get(name)
        )
        if files:
            self.problem(f"after {after} these files differ from the twin's: {files}")

    @property
    def code(self) -> int:
        """The exit code: 1 if anything did not hold."""
        return int(bool(self.problems or self.lost or self.twice))

    def to_json(self) -> dict[str, Any]:
        """Everything, for the results file."""
        return {
            "faults": dict(sorted(self.faults.items())),
            "faults_in_all": sum(self.faults.values()),
            "runs_compared": self.compared,
            "epochs_lost": self.lost,
            "epochs_twice": self.twice,
            "epochs_different": self.different,
            "screens_opened": self.screens,
            "problems": self.problems,
        }


def records(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """epoch -> every line about it in epochs.jsonl, without timings; read here by hand."""
    found: dict[int, list[dict[str, Any]]] = {}
    try:
        lines = (folder / "epochs.jsonl").read_bytes().split(b"\n")[:-1]
    except OSError:
        return {}
    for line in lines:
        try:
            record = json.loads(line)
            epoch = record["epoch"]
        except (ValueError, KeyError, TypeError):
            continue
        found.setdefault(epoch, []).append({k: v for k, v in record.items() if not k.startswith("seconds/")})
    return found
