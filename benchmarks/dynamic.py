"""Does Dynamic save time? Standard and Dynamic adversarial training, K = 10 each, over the same seeds, side by side.

    python benchmarks/dynamic.py                   # digits, 5 seeds; MNIST, 2 seeds where DYNAT_DATA has it
    python benchmarks/dynamic.py --only digits

Both go through the same code; an epoch of one follows an epoch of the other, so that whatever else the machine does
meets both. Dynamic stops at the box form of FOSC, with the c_max that the launch form suggests for the network (a short
probe, seed 0) and T_control at four fifths of the epochs. Time is that of training alone: nothing is recorded of the
training images, and evaluating is left out. Robust accuracy: PGD-20, steps of eps/4, one random start, at the last
epoch. Written to benchmarks/results/dynamic.json; goals: at most .75 of the gradients and .8 of the time, and a robust
accuracy that is not lower beyond the paired interval.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.peers.machine import about  # noqa: E402
from benchmarks.settings.bare import BARE  # noqa: E402
from dynat_core.comparison import spread  # noqa: E402
from dynat_core.config import Dynamic, RunConfig, Standard  # noqa: E402
from dynat_core.errors import DataError  # noqa: E402
from dynat_core.images import data  # noqa: E402
from dynat_core.presets import preset  # noqa: E402
from dynat_core.training.events import EpochDone, Finished  # noqa: E402
from dynat_core.training.trainer import train  # noqa: E402
from dynat_core.work.launch_probe import probe  # noqa: E402

RESULTS = ROOT / "benchmarks/results/dynamic.json"
NAMES = ("standard", "dynamic")
GOALS = {"gradients": 0.75, "seconds": 0.8}


@dataclass(frozen=True)
class Setup:
    """What is trained. changes: to the preset, in dotted keys."""

    name: str
    preset: str
    seeds: int
    changes: dict[str, Any]


SETUPS = (
    Setup("digits", "demo-digits-standard", 5, {}),
    Setup(
        "mnist", "demo-mnist-standard", 2,
        {"epochs": 8, "data.train_size": 10_000, "data.validation_size": 200, "data.test_size": 1000,
         "optimizer.milestones": [5, 7], "precision": "fast"},
    ),
)  # fmt: skip


def main() -> None:
    """Train, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[setup.name for setup in SETUPS])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found: dict[str, Any] = {"command": "python benchmarks/dynamic.py", "machine": about(asked.threads), "setups": []}
    for setup in SETUPS:
        if asked.only not in (None, setup.name):
            continue
        try:
            found["setups"].append(measured(setup))
        except DataError as error:
            print(f"{setup.name} is left out: {error}", file=sys.stderr)
            continue
        asked.results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        for line in said(found["setups"][-1]):
            print(line, flush=True)


def measured(setup: Setup) -> dict[str, Any]:
    """Every seed of a set-up: {"rows": {training: [one mapping a seed]}, ...}. Raises DataError."""
    base = preset(setup.preset).with_values({**BARE, **setup.changes})
    dataset = data.load(base.data)
    suggested, _ = probe({"config": base.model_dump(mode="json")}, lambda: False, lambda share: None)
    c_max = suggested["suggested_c_max"]
    strategies = {
        "standard": Standard(),
        "dynamic": Dynamic(c_max=c_max, T_control=round(0.8 * base.epochs), stop_form="box"),
    }
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    for seed in range(setup.seeds):
        configs = {name: base.model_copy(update={"strategy": s, "seed": seed}) for name, s in strategies.items()}
        for name, row in trained(configs, dataset).items():
            rows[name].append(row)
            print(f"{setup.name}, seed {seed}, {name}: {row}", flush=True)
    return {
        "name": setup.name, "epochs": base.epochs, "images": base.train_size, "n": base.test_size,
        "eps": base.threat.eps, "precision": base.precision, "c_max": c_max, "attack": base.attack_words(),
        "seeds": list(range(setup.seeds)), "rows": rows,
    }  # fmt: skip


def trained(configs: dict[str, RunConfig], dataset: data.DataSet) -> dict[str, dict[str, Any]]:
    """One seed of both, an epoch in turns. gradients: of the attack, per image and epoch; seconds: of training, wall;
    cpu_seconds: of everything, the evaluations included, all threads."""
    running = {name: epochs(config, dataset) for name, config in configs.items()}
    rows = {name: {"gradients": 0.0, "seconds": 0.0, "cpu_seconds": 0.0} for name in configs}
    while running:
        for name, epoch in list(running.items()):
            began, event = time.process_time(), next(epoch)
            rows[name]["cpu_seconds"] += time.process_time() - began
            if isinstance(event, EpochDone):
                rows[name]["seconds"] += float(event.record["seconds/train"] or 0)
                continue
            last = event.result["last"]
            rows[name] |= {
                "gradients": event.result["gradients_per_image"],
                "clean": last["clean_accuracy"],
                "robust": last["robust_accuracy"],
            }
            del running[name]
    return rows


def epochs(config: RunConfig, dataset: data.DataSet) -> Iterator[EpochDone | Finished]:
    """What `train` yields, without what comes between."""
    for event in train(config, device="cpu", dataset=dataset):
        if isinstance(event, EpochDone | Finished):
            yield event


def said(found: dict[str, Any]) -> list[str]:
    """Ratios and paired differences, in lines."""
    standard, dynamic = (found["rows"][name] for name in NAMES)
    pairs = list(zip(standard, dynamic, strict=True))
    lines = [f"{found['name']}: {len(pairs)} seeds, c_max {found['c_max']:g}"]
    for what, goal in GOALS.items():
        ratio = spread([d[what] / s[what] for s, d in pairs])
        lines.append(f"  {what}, Dynamic over Standard: {words(ratio, 1, 2)}; goal at most {goal}")
    for what in ("clean", "robust"):
        change = spread([d[what] - s[what] for s, d in pairs])
        lines.append(f"  {what} accuracy, Dynamic minus Standard: {words(change, 100, 1)} points")
    return lines


def words(one: Any, times: float, digits: int) -> str:
    """A mean with its 95 % interval (Student's t)."""
    return f"{times * one.mean:.{digits}f} ({times * one.low:.{digits}f} to {times * one.high:.{digits}f})"


if __name__ == "__main__":
    main()
