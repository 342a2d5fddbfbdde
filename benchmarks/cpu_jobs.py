"""Runs one after another with the threads each gets, or side by side with one? `worker --all` on the CPU, both ways.

    python benchmarks/cpu_jobs.py                  # digits; MNIST and CIFAR-10 where DYNAT_DATA has them

As many runs as there are processors, real jobs of a real worker in a store of their own: first with DYNAT_CPU_JOBS=1,
then with DYNAT_CPU_JOBS at the number of processors, again and again in turns. Time is that of training alone: the sum
over runs that went one after another, the longest of those side by side. Starting processes and evaluating are left
out, since a run that is worth it takes hours. Written to benchmarks/results/cpu_jobs.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.peers.machine import about  # noqa: E402
from benchmarks.settings.bare import BARE  # noqa: E402
from dynat_core import machine  # noqa: E402
from dynat_core.images import data  # noqa: E402
from dynat_core.presets import preset  # noqa: E402
from dynat_core.store.runs import RunStore  # noqa: E402
from dynat_core.store.workers import child_environment  # noqa: E402

RESULTS = ROOT / "benchmarks/results/cpu_jobs.json"


@dataclass(frozen=True)
class Setup:
    """What each run trains. changes: to the preset, in dotted keys."""

    name: str
    preset: str
    changes: dict[str, Any]


FEW = {"data.validation_size": 10, "data.test_size": 10, "precision": "fast"}
SETUPS = (
    Setup("digits", "demo-digits-standard", {"epochs": 15, "optimizer.milestones": [12]}),
    Setup("mnist", "demo-mnist-standard", {**FEW, "epochs": 2, "optimizer.milestones": [1], "data.train_size": 4096}),
    Setup("cifar10", "cifar10-standard", {**FEW, "epochs": 2, "optimizer.milestones": [1], "data.train_size": 512}),
)


def main() -> None:
    """Train, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=[setup.name for setup in SETUPS], help="keep what is there of the others")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    jobs = os.cpu_count() or 1
    if jobs < 2:
        sys.exit("With one processor there is nothing to compare; run it on a machine that has more.")
    if machine.gpu_count():
        os.environ["DYNAT_DEVICE"] = "cpu"
    found: dict[str, Any] = {
        "command": "python benchmarks/cpu_jobs.py", "machine": about(jobs), "jobs": jobs, "rounds": asked.rounds,
        "setups": [],
    }  # fmt: skip
    kept = {row["name"]: row for row in json.loads(asked.results.read_text())["setups"]} if asked.only else {}
    for setup in SETUPS:
        if asked.only not in (None, setup.name):
            found["setups"] += [kept[setup.name]] if setup.name in kept else []
            continue
        config = preset(setup.preset).with_values({**BARE, **setup.changes})
        if data.missing(config.data.name):
            print(f"{setup.name} is left out: its data is not here", file=sys.stderr)
            continue
        taken: dict[str, list[float]] = {"alone": [], "beside": []}
        for _ in range(asked.rounds):
            taken["alone"].append(seconds(config, jobs, at_once=1))
            taken["beside"].append(seconds(config, jobs, at_once=jobs))
            alone, beside = (of[-1] for of in taken.values())
            print(f"{setup.name}: {alone:.1f} s one after another, {beside:.1f} s side by side", flush=True)
        row = {"name": setup.name, "epochs": config.epochs, "images": config.train_size, "precision": config.precision}
        found["setups"].append({**row, "seconds": {how: [round(s, 2) for s in of] for how, of in taken.items()}})
    asked.results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def seconds(config: Any, runs: int, at_once: int) -> float:
    """How long `runs` runs of `config`, which differ in their seeds, train when `at_once` are worked on at a time."""
    with tempfile.TemporaryDirectory(prefix="cpu-jobs-") as folder:
        store = RunStore(Path(folder))
        made = [store.create(config.model_copy(update={"seed": seed})) for seed in range(runs)]
        environment = {**child_environment(store.folder), machine.CPU_JOBS: str(at_once)}
        environment.pop("OMP_NUM_THREADS", None)
        subprocess.run(
            [sys.executable, "-m", "dynat_core", "worker", "--all", "--once"],
            env=environment, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        each = [sum(record["seconds/train"] for record in run.records()) for run in made]
    return sum(each) if at_once == 1 else max(each)


if __name__ == "__main__":
    main()
