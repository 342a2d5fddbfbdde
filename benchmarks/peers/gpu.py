"""Throughput on a CUDA device: CIFAR-10 CNN and WRN-34-10, Dynat beside the textbook's float32 loop.

    python -m benchmarks.peers.gpu --results benchmarks/results/gpu.json

Not run yet on any device by the authors unless benchmarks/results/ holds its file. Times come from device events, after
a warm-up, in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.contender import textbook
from benchmarks.peers.machine import about, matrix_limit
from benchmarks.peers.subjects import Subject, flops_of
from benchmarks.peers.training import spread
from dynat_core.attack.attacks import cross_entropy, pgd
from dynat_core.attack.fosc import Stop, fosc, stop_below
from dynat_core.attack.frozen import Frozen
from dynat_core.attack.threat import Ball
from dynat_core.devices import choose, shortened
from dynat_core.networks import models

STEPS, REPEATS = 10, 5
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "cifar10-cnn": (models.cifar10_cnn, 1024),
    "wrn-34-10": (lambda: models.wide_resnet(3, 34, 10), 128),
}


def seconds(work: Callable[[], object]) -> float:
    """Device time of `work`."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def measure(name: str, make: Callable[[], nn.Module], n: int, limits: dict[str, float]) -> list[dict[str, Any]]:
    """PGD-10 with each kind of loop, and a training step of Standard and of Dynamic with the fast one; Dynamic at the
    threshold that half of the images meet after one step."""
    torch.manual_seed(0)
    device = choose("cuda")  # float32 is float32 from here on, for the textbook's loop too
    net = make().to(device).eval()
    subject = Subject(name, (3, 32, 32), n, 8 / 255, None)
    x, y = torch.rand(n, 3, 32, 32, device=device), torch.randint(0, 10, (n,), device=device)
    flops = flops_of(make().eval(), subject.shape)
    views = {"dynat-exact": Frozen(net), "dynat-fast": Frozen(net, "fast")}

    def climb(view: nn.Module, stop: Stop | None = None) -> Tensor:
        return pgd(view, Ball(x, subject.eps), y, steps=STEPS, alpha=subject.alpha, stop=stop, final=False).z

    def train_step(stop: Stop | None = None) -> None:
        views["dynat-fast"].refresh()
        z = climb(views["dynat-fast"], stop)
        net.train()
        with shortened(True):
            cross_entropy(net(z), y).mean().backward()
        net.zero_grad(set_to_none=True)
        net.eval()

    once = pgd(views["dynat-exact"], Ball(x, subject.eps), y, steps=1, alpha=subject.alpha)
    half = stop_below(float(fosc(Ball(x, subject.eps), once.z, once.grad).median()))
    plain = textbook(net, subject, STEPS)
    work: dict[str, Callable[[], object]] = {
        "dynat-exact": lambda: climb(views["dynat-exact"]),
        "dynat-fast": lambda: climb(views["dynat-fast"]),
        "textbook": lambda: plain(x, y),
        "standard, fast: a training step": train_step,
        "dynamic, fast: a training step": lambda: train_step(half),
    }
    seen: dict[str, list[float]] = {who: [] for who in work}
    peak: dict[str, float] = {}
    for turn in range(REPEATS + 2):
        for who, what in work.items():
            torch.cuda.reset_peak_memory_stats()
            taken = seconds(what)
            peak[who] = torch.cuda.max_memory_allocated() / 1e6
            if turn > 1:
                seen[who].append(taken)
    rows = []
    for who, taken in seen.items():
        rate = n * STEPS / spread(taken)["median"]
        limit = limits["float32" if who in ("textbook", "dynat-exact") else "bfloat16"]
        rows.append(
            {
                "network": name, "contender": who, "batch": n, "seconds": spread(taken), "gradients_per_second": rate,
                "images_per_second": rate / STEPS, "of_matrix_limit": rate * flops / limit, "peak_mb": peak[who],
            }
        )  # fmt: skip
    return rows


def main() -> int:
    """Measure, print, write; 1 without a CUDA device."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here; nothing was measured.", file=sys.stderr)
        return 1
    torch.backends.cudnn.benchmark = True
    limits = {str(p)[6:]: matrix_limit(p, "cuda", 8192) for p in (torch.float32, torch.bfloat16)}
    rows = [row for name, (make, n) in NETWORKS.items() for row in measure(name, make, n, limits)]
    found = {"command": "sh benchmarks/gpu.sh", "machine": about(0), "matrix_limit": limits, "throughput": rows}
    text = json.dumps(found, indent=1) + "\n"
    print(text)
    if asked.results:
        asked.results.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
