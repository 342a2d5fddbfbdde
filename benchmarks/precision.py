"""Does `precision: fast` change what an attack finds? PGD-20 made with float32 and with bfloat16 gradients, paired.

    python benchmarks/precision.py            # about ten minutes of one core; needs DYNAT_DATA for MNIST and CIFAR-10

The same checkpoint, images and random starts; what the points do is judged in float32 on the unfolded network. Goal:
robust accuracies that differ by at most .3 points. From one start either errs by a point either way, as two random
starts of one precision do, since paths part where a gradient is near 0; so the interval of the paired difference stands
beside it. No CIFAR-10 network is shipped: one is trained here for a few minutes first. Written to
benchmarks/results/precision.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.peers.machine import about  # noqa: E402
from benchmarks.settings.bare import BARE  # noqa: E402
from dynat_core.attack.attacks import pgd  # noqa: E402
from dynat_core.attack.frozen import Frozen  # noqa: E402
from dynat_core.attack.threat import Ball, Norm  # noqa: E402
from dynat_core.errors import DataError  # noqa: E402
from dynat_core.images import data  # noqa: E402
from dynat_core.networks import models  # noqa: E402
from dynat_core.presets import preset  # noqa: E402
from dynat_core.store.runs import RunStore  # noqa: E402
from dynat_core.training.events import EpochDone  # noqa: E402
from dynat_core.training.trainer import train  # noqa: E402
from dynat_core.work.loading import network  # noqa: E402

RESULTS = ROOT / "benchmarks/results/precision.json"
GOAL = 0.3  # points of robust accuracy
BATCH = 500


@dataclass(frozen=True)
class Cell:
    """A network, named by its run or trained here, under a threat. starts: random starts of every image."""

    network: str
    norm: Norm
    eps: float
    images: int
    starts: int


CELLS = (
    *(Cell(f"demo-digits-{kind}", "linf", eps, 500, 12) for kind, eps in (("standard", 0.15), ("strong-dynamic", 0.3))),
    *(Cell(f"demo-digits-{kind}", "l2", 1.0, 500, 12) for kind in ("standard", "strong-dynamic")),
    *(Cell(f"demo-mnist-{kind}", "linf", 0.3, 5000, 1) for kind in ("standard", "dynamic")),
    *(Cell(f"demo-mnist-{kind}", "l2", 2.0, 2500, 1) for kind in ("standard", "dynamic")),
    Cell("cifar10-cnn", "linf", 8 / 255, 2000, 1),
    Cell("cifar10-cnn", "l2", 0.5, 1000, 1),
)
HERE = {  # the CIFAR-10 network: enough to have something to attack
    **BARE, "recording.steps": 1, "epochs": 4, "data.train_size": 4000, "data.validation_size": 200,
    "data.test_size": 100, "data.augment": False, "strategy.steps": 5, "optimizer.milestones": [3], "precision": "fast",
}  # fmt: skip


def robust(net: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: float, starts: int) -> dict[str, Tensor]:
    """(starts * n,) 100 where an image survives PGD-20, steps of eps/4, else 0, for each precision, same random starts.

    Raises AssertionError if a point is outside the ball or not float32.
    """
    ball, found = Ball(x, eps, norm), {}
    for precision in ("exact", "fast"):
        view, right = Frozen(net, precision), []
        for seed in range(starts):
            start = ball.random_point(torch.Generator().manual_seed(seed))
            z = pgd(view, ball, y, steps=20, alpha=eps / 4, start=start, final=False).z
            assert z.dtype == torch.float32 and bool(ball.contains(z).all())
            with torch.no_grad():
                right.append(100.0 * (net(z).argmax(1) == y))
        found[precision] = torch.cat(right)
    return found


def measured(cell: Cell, net: nn.Module, test: data.Split) -> dict[str, Any]:
    """Robust accuracies in points, and fast minus exact with its 95 % interval: over images, a mean of their starts."""
    found: dict[str, list[Tensor]] = {"exact": [], "fast": []}
    began = time.process_time()
    for first in range(0, cell.images, BATCH):
        part = test[slice(first, min(first + BATCH, cell.images))]
        survived = robust(net, part.pixels(), part.labels, cell.norm, cell.eps, cell.starts)
        for name, values in survived.items():
            found[name].append(values.view(cell.starts, -1).mean(0))
    exact, fast = (torch.cat(found[name]).double() for name in ("exact", "fast"))
    each = fast - exact
    mean, error = float(each.mean()), float(each.std()) / len(each) ** 0.5
    return {
        "network": cell.network, "norm": cell.norm, "eps": cell.eps, "images": len(each), "starts": cell.starts,
        "exact": float(exact.mean()), "fast": float(fast.mean()), "difference": mean,
        "low": mean - 1.96 * error, "high": mean + 1.96 * error, "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


def of_run(name: str) -> tuple[nn.Module, data.Split]:
    """A shipped network and the test images of its data."""
    run = RunStore(ROOT / "checkpoints").open(name)
    return network(run, "best", torch.device("cpu")), data.load(run.config.data).test


def trained_here() -> tuple[nn.Module, data.Split]:
    """The CIFAR-10 network after a short Standard training, and all test images. Raises DataError."""
    config = preset("cifar10-standard").with_values(HERE)
    weights: dict[str, Tensor] = {}
    for event in train(config, device="cpu"):
        if isinstance(event, EpochDone):
            weights = event.weights
            print(f"cifar10-cnn, epoch {event.record['epoch']} of {config.epochs}", file=sys.stderr, flush=True)
    net = models.initialise(config.model, 3, 0)
    net.load_state_dict(weights)
    everything = config.data.model_copy(update={"test_size": None})
    return net.eval(), data.load(everything).test


def _cell(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["network"], row["norm"], row["eps"]


def main() -> None:
    """Attack, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--only", default="", metavar="NAME", help="networks whose name begins so; other rows stay")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found: dict[str, Any] = {"command": "python benchmarks/precision.py", "goal": GOAL, "machine": about(asked.threads)}
    if asked.only and asked.results.exists():
        found = json.loads(asked.results.read_text(encoding="utf-8"))
    before = {_cell(row): row for row in found.get("rows", [])}
    known: dict[str, tuple[nn.Module, data.Split]] = {}
    rows = found["rows"] = []
    for cell in CELLS:
        if not cell.network.startswith(asked.only):
            rows += [kept] if (kept := before.get(_cell(vars(cell)))) else []
            continue
        try:
            if cell.network not in known:
                known[cell.network] = trained_here() if cell.network == "cifar10-cnn" else of_run(cell.network)
        except DataError as error:
            print(f"{cell.network} is left out: {error}", file=sys.stderr)
            continue
        rows.append(row := measured(cell, *known[cell.network]))
        print(
            f"{row['network']}, {row['norm']} eps {row['eps']:.4g}: exact {row['exact']:.2f}, fast {row['fast']:.2f}, "
            f"{row['difference']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f}) points, {row['images']} images",
            flush=True,
        )
        write(asked.results, found)
    write(asked.results, found)


def write(path: Path, found: Mapping[str, Any]) -> None:
    """What is known so far."""
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
