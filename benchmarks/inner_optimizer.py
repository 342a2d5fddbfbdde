"""Does a learned step beat sign steps on a model it was not trained on? Measured, and kept for the screen.

    python benchmarks/inner_optimizer.py digits           # on the shipped digits runs: under a minute on one core
    python benchmarks/inner_optimizer.py mnist            # on the shipped MNIST runs: minutes
    python benchmarks/inner_optimizer.py digits --train   # first trains the learned rule anew (minutes)

Everything starts from the same random points of the same test images. The step size of PGD and of momentum PGD is
chosen for each model on held-out training images, by the mean loss after the steps compared. Written to
dynat_core/rules/NAME.json, which the screen inner-optimizer reads.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dynat_core.attack.attacks import Path as Points  # noqa: E402
from dynat_core.attack.fosc import relative_fosc  # noqa: E402
from dynat_core.attack.learned import Learned, Momentum, Rule, Sign, attack, shipped  # noqa: E402
from dynat_core.attack.threat import Ball  # noqa: E402
from dynat_core.config import RunConfig  # noqa: E402
from dynat_core.images import data  # noqa: E402
from dynat_core.presets import preset  # noqa: E402
from dynat_core.store.runs import RunStore  # noqa: E402
from dynat_core.training.evaluate import generator_for  # noqa: E402
from dynat_core.work.loading import network  # noqa: E402

TRAINED, LAST = 10, 30
TUNING = 200  # held-out images on which step sizes are chosen, at most
COMPARED = (5, 10, 20)
SIZES = (16.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.5)  # alpha = eps / size
BINS = np.concatenate([-np.logspace(1, -5, 13), np.logspace(-5, 1, 13)])  # of a gradient, in loss per pixel
FEW = 40  # pixels that a bin needs before its median is drawn


@dataclass(frozen=True)
class SetUp:
    """Which models are attacked on how many test images, and how the rule was trained. runs: name -> shipped run."""

    name: str
    eps: float
    images: int
    trained: str
    config: RunConfig
    runs: Mapping[str, str]

    @property
    def rule(self) -> Path:
        """Where the learned rule is kept."""
        return ROOT / f"dynat_core/rules/{self.name}.safetensors"


def _mnist() -> RunConfig:
    """A short co-training: 2,000 images, 4 epochs."""
    return preset("digits-l2l").with_values(
        {
            "data.name": "mnist", "data.train_size": 2000, "data.validation_size": 200, "data.test_size": 100,
            "model.name": "mnist-cnn", "threat.eps": 0.3, "epochs": 4, "optimizer.milestones": [3],
            "recording.test_images": 20, "recording.train_rows": 20, "recording.final_gradients": 20,
            "recording.steps": 5, "recording.probes": 1,
        }
    )  # fmt: skip


SETUPS = {
    "digits": SetUp(
        "digits", 0.15, 500, "preset digits-l2l, seed 0: 30 epochs along with a classifier of its own",
        preset("digits-l2l"),
        {"standard": "demo-digits-standard", "dynamic": "demo-digits-dynamic", "unsecured": "demo-digits-unsecured"},
    ),
    "mnist": SetUp(
        "mnist", 0.3, 100, "2,000 MNIST images, seed 0: 4 epochs along with a classifier of its own", _mnist(),
        {"standard": "demo-mnist-standard", "dynamic": "demo-mnist-dynamic"},
    ),
}  # fmt: skip


def main() -> None:
    """Train if asked, measure, write, print."""
    torch.set_num_threads(1)
    setup = SETUPS[next((name for name in SETUPS if name in sys.argv[1:]), "digits")]
    if "--train" in sys.argv:
        train_rule(setup)
    sets = data.load(RunStore(ROOT / "checkpoints").open(next(iter(setup.runs.values()))).config.data)
    models = {name: study(setup, run, sets) for name, run in setup.runs.items()}
    found = {
        "data": f"{setup.name}, {setup.images} test images",
        "eps": setup.eps,
        "norm": "linf",
        "trained_steps": TRAINED,
        "trained": setup.trained,
        "models": models,
        "versions": {"torch": torch.__version__, "threads": 1},
    }
    setup.rule.with_suffix(".json").write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
    for name, model in models.items():
        for row in model["compared"]:
            print(f"{name}, {row['steps']} steps: " + said(row))


def said(row: dict[str, Any]) -> str:
    """`learned 1.234, PGD (eps/8) 1.250, difference -0.016 (-0.020 to -0.012)`"""
    low, high = row["interval"]
    return (
        f"learned {row['learned']:.4f}, PGD ({row['alpha']}) {row['pgd']:.4f}, difference {row['difference']:+.4f} "
        f"({low:+.4f} to {high:+.4f})"
    )


def train_rule(setup: SetUp) -> None:
    """The learned rule of a run of these settings, as it is after its last epoch."""
    from safetensors.torch import save_file

    from dynat_core.training.events import EpochDone
    from dynat_core.training.trainer import train

    last = None
    for event in train(setup.config, device="cpu"):
        if isinstance(event, EpochDone):
            last = event
            print(f"epoch {event.record['epoch']}: loss {event.record['train/loss']:.3f}", flush=True)
    assert last is not None
    prefix = "strategy/net/"
    tensors = {name.removeprefix(prefix): t for name, t in last.state()[0].items() if name.startswith(prefix)}
    setup.rule.parent.mkdir(exist_ok=True)
    save_file(tensors, setup.rule)


def study(setup: SetUp, run: str, sets: data.DataSet) -> dict[str, Any]:
    """Everything the screen shows of one model."""
    model = network(RunStore(ROOT / "checkpoints").open(run), "last", torch.device("cpu"))
    tuning, few = (
        data.part_of(split, min(n, len(split))) for split, n in ((sets.validation, TUNING), (sets.test, setup.images))
    )
    held_out, test = (Images(model, split, purpose, setup.eps) for split, purpose in ((tuning, "tune"), (few, "test")))
    eps = setup.eps
    learned = Learned(shipped(setup.rule), eps / 4)
    best = {rule: held_out.tuned(kind, TRAINED) for rule, kind in (("pgd", Sign), ("momentum", Momentum))}
    rules: dict[str, Rule] = {
        "pgd": Sign(eps / best["pgd"]),
        "momentum": Momentum(eps / best["momentum"]),
        "learned": learned,
    }
    paths = {key: test.climb(rule, LAST) for key, rule in rules.items()}
    return {
        "run": run,
        "alpha": {key: part(size) for key, size in best.items()},
        "step": {key: round(1 / size, 4) for key, size in best.items()},
        "curves": {key: curves(test.ball, path) for key, path in paths.items()},
        "compared": [compared(held_out, test, learned, steps) for steps in COMPARED],
        "seconds": {key: test.seconds(rule) for key, rule in rules.items()},
        "broken": {key: [int(n) for n in test.broken(path)] for key, path in paths.items()},
        "rule": rule_curves(test.ball, paths["learned"], learned),
    }


def part(size: float) -> str:
    """`eps/4`, `eps`, `2 eps`"""
    return f"eps/{size:g}" if size > 1 else "eps" if size == 1 else f"{1 / size:g} eps"


class Images:
    """Images of one split and their random starts, the same for every rule."""

    def __init__(self, model: nn.Module, split: data.Split, purpose: str, eps: float) -> None:
        self.model, self.y, self.eps = model, split.labels, eps
        self.ball = Ball(split.pixels(), eps)
        self.start = self.ball.random_point(generator_for(torch.device("cpu"), 0, "inner optimizer", purpose))

    def climb(self, rule: Rule, steps: int) -> Points:
        path = attack(self.model, self.ball, self.y, rule, steps, start=self.start, keep_path=True).path
        assert path is not None
        return path

    def loss(self, rule: Rule, steps: int) -> Tensor:
        """(n,) cross-entropy after `steps` steps."""
        return attack(self.model, self.ball, self.y, rule, steps, start=self.start).loss.double()

    def tuned(self, kind: Callable[[float], Rule], steps: int) -> float:
        """The size in SIZES whose steps reach the highest mean loss."""
        return max(SIZES, key=lambda size: float(self.loss(kind(self.eps / size), steps).mean()))

    def broken(self, path: Points) -> Tensor:
        """(K+1,) images that are misread at each point."""
        return (path.logits.argmax(2) != self.y).sum(1)

    def seconds(self, rule: Rule) -> float:
        """Wall time of the trained number of steps on all images, the median of three."""
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            self.loss(rule, TRAINED)
            taken.append(time.perf_counter() - began)
        return round(sorted(taken)[1], 3)


def curves(ball: Ball, path: Points) -> dict[str, list[list[float]]]:
    """Lower quartile, median and upper quartile over the images at each point, of loss and exact relative FOSC."""
    rho = torch.stack([relative_fosc(ball, z, grad) for z, grad in zip(path.z, path.grad, strict=True)])
    return {
        name: np.nanquantile(values.numpy(), (0.25, 0.5, 0.75), axis=1).round(5).tolist()
        for name, values in (("loss", path.loss), ("relative_fosc", rho))
    }


def compared(held_out: Images, test: Images, learned: Rule, steps: int) -> dict[str, Any]:
    """Mean loss after `steps` steps beside PGD's tuned for as many, and the paired difference with its interval."""
    size = held_out.tuned(Sign, steps)
    ours, theirs = test.loss(learned, steps), test.loss(Sign(test.eps / size), steps)
    gain = ours - theirs
    half = 1.96 * float(gain.std()) / len(gain) ** 0.5
    mean = float(gain.mean())
    return {
        "steps": steps, "n": len(gain), "alpha": part(size), "learned": round(float(ours.mean()), 5),
        "pgd": round(float(theirs.mean()), 5), "difference": round(mean, 5),
        "interval": [round(mean - half, 5), round(mean + half, 5)],
    }  # fmt: skip


def rule_curves(ball: Ball, path: Points, rule: Rule) -> dict[str, Any]:
    """The learned rule as a curve: quartiles of its step in units of eps, for gradients in each bin, at each step.

    Where a pixel is cut the step asked for is not seen, so the rule is run again over the recorded gradients.
    """
    memory, rows = None, []
    for grad in path.grad[:-1]:
        move, memory = rule(ball, grad, memory)
        g, d = grad.flatten().numpy(), move.flatten().numpy() / ball.eps
        place = np.digitize(g, BINS)
        row = []
        for k in range(1, len(BINS)):
            inside = d[place == k]
            quartiles = np.quantile(inside, (0.25, 0.5, 0.75)).round(4).tolist() if len(inside) >= FEW else [None] * 3
            row.append(quartiles)
        rows.append(row)
    return {"edges": BINS.round(9).tolist(), "quartiles": rows}


if __name__ == "__main__":
    main()
