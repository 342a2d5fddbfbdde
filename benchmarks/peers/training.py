"""What training costs: Standard and Dynamic at several thresholds, FOSC, the recorded gradient, files.

    python -m benchmarks.peers.training 2 quick      # threads; prints one JSON object

Weights stand still (learning rate 0) while everything else is done as in training, so that every repeat and every
threshold sees the same network.
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.subjects import SUBJECTS, Subject
from dynat_core import config
from dynat_core.attack.attacks import cross_entropy, value_and_grad
from dynat_core.attack.fosc import fosc, stop_below
from dynat_core.attack.frozen import Frozen
from dynat_core.attack.threat import Ball
from dynat_core.presets import preset
from dynat_core.store.run_writer import RunWriter
from dynat_core.store.runs import RunStore
from dynat_core.training import strategies
from dynat_core.training.evaluate import generator_for
from dynat_core.training.events import EpochDone, State
from dynat_core.training.strategy import Moment
from dynat_core.training.trainer import train
from dynat_core.work.beside import Beside

CPU = torch.device("cpu")
SHARES = (0.75, 0.5, 0.25)  # of the images that a threshold would stop after the first step


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(int(sys.argv[1]))
    quick = sys.argv[2] == "quick"
    digits, mnist = ((8, 3), (2, 2)) if quick else ((8, 9), (8, 5))  # (batches, repeats)
    found = {
        "epochs": epochs(SUBJECTS["digits"], *digits) + epochs(SUBJECTS["mnist"], *mnist),
        "step": [step(SUBJECTS[name], 9 if quick else 31) for name in ("digits", "mnist")],
        "writing": writing(2 if quick else 6),
    }  # fmt: skip
    print(json.dumps(found))


# ---------------------------------------------------------------------------------------------------------- epochs


def epochs(subject: Subject, batches: int, repeats: int) -> list[dict[str, Any]]:
    """Standard, and Dynamic at thresholds from the network's own FOSC, in turns, on the same images."""
    x, y = subject.images(batches * subject.batch)
    thresholds = _thresholds(subject, x, y)
    kinds: dict[str, tuple[float | None, Any]] = {"standard": (None, config.Standard())}
    for share, c in thresholds.items():
        kinds[f"dynamic, {share:.0%} stop after one step"] = (c, config.Dynamic(c_max=c, T_control=1))
    part = {name: _Part(subject, settings, x, y) for name, (_, settings) in kinds.items()}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for turn in range(repeats + 1):
        for name, training in part.items():
            found = training()
            if turn:  # the first warms up
                seen[name].append(found)
    base = statistics.median(seconds for seconds, _ in seen["standard"])
    rows = []
    for name, (c, _) in kinds.items():
        seconds = [s for s, _ in seen[name]]
        rows.append(
            {
                "network": subject.name, "strategy": name, "c_t": c, "images": len(x), "repeats": repeats,
                "seconds": spread(seconds), "gradients_per_image": seen[name][0][1] / len(x),
                "of_standard": statistics.median(seconds) / base,
            }
        )  # fmt: skip
    return rows


def _thresholds(subject: Subject, x: Tensor, y: Tensor) -> dict[float, float]:
    """The c_t at which each of SHARES of the images would stop after the first step."""
    net, ball = subject.model(), Ball(x, subject.eps)
    z = ball.random_point(torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, _, grad = value_and_grad(net, cross_entropy, z, y)
        z = ball.project(z + subject.alpha * ball.steepest_step(grad))
        _, _, grad = value_and_grad(net, cross_entropy, z, y)
        gaps = fosc(ball, z, grad)
    return {share: float(gaps.quantile(share)) for share in SHARES}


class _Part:
    """A part of an epoch: attack, loss, gradient for the weights, step; returns (seconds, gradients)."""

    def __init__(self, subject: Subject, settings: Any, x: Tensor, y: Tensor) -> None:
        self.subject, self.x, self.y = subject, x, y
        self.model = copy.deepcopy(subject.model()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 0.0  # the statistics stand still too
        self.frozen = Frozen(self.model, "exact")
        self.strategy = strategies.build(settings, subject.eps)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.0, momentum=0.9, weight_decay=1e-4)

    def __call__(self) -> tuple[float, float]:
        spent, began = 0.0, time.perf_counter()
        size = self.subject.batch
        for number, (x, y) in enumerate(zip(self.x.split(size), self.y.split(size), strict=True)):
            self.frozen.refresh()
            self.model.train()
            moment = Moment(
                t=0, frozen=self.frozen, ball=lambda x: Ball(x, self.subject.eps),
                generator=generator_for(CPU, 0, "bench", number), measured=torch.zeros(len(x), dtype=torch.bool),
            )  # fmt: skip
            loss, attacked = self.strategy.loss(self.model, x, y, moment)
            self.model.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            spent += float(attacked.gradients.sum())
        return time.perf_counter() - began, spent


# ------------------------------------------------------------------------------------------------- parts of a step


def step(subject: Subject, repeats: int) -> dict[str, Any]:
    """One step of an attack taken apart: the gradient, the move, FOSC with its comparison; in turns, in seconds."""
    x, y = subject.images(subject.batch)
    frozen, ball, stop = Frozen(subject.model()), Ball(x, subject.eps), stop_below(0.1)
    z = ball.random_point(torch.Generator().manual_seed(0))
    _, _, grad = value_and_grad(frozen, cross_entropy, z, y)
    parts: dict[str, Callable[[], object]] = {
        "gradient": lambda: value_and_grad(frozen, cross_entropy, z, y),
        "move": lambda: ball.project(z + subject.alpha * ball.steepest_step(grad)),
        "fosc": lambda: bool(stop(ball, z, grad, z).all()),
        "refresh": frozen.refresh,
    }
    seen: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repeats):
        for name, part in parts.items():
            part()
            began = time.perf_counter()
            part()
            seen[name].append(time.perf_counter() - began)
    middle = {name: statistics.median(values) for name, values in seen.items()}
    return {
        "network": subject.name, "batch": len(x), "repeats": repeats,
        **{name: spread(values) for name, values in seen.items()},
        "fosc_of_step": middle["fosc"] / (middle["gradient"] + middle["move"] + middle["fosc"]),
        "recorded_gradient_of_attack": middle["gradient"] / (10 * (middle["gradient"] + middle["move"])),
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------------- records


def writing(epochs: int) -> dict[str, Any]:
    """A run of the digits demo of a few epochs: training, evaluating, and putting its records on the disk beside it, as
    a job does. in_loop: what the loop waits for, copies of the state included; beside: what the writing takes."""
    settings = preset("demo-digits-dynamic").with_values({"epochs": epochs, "strategy.T_control": epochs})
    train_s, evaluate_s, loop_s, beside_s = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, Beside() as beside:
        writer = RunWriter(RunStore(folder).create(settings))
        writer.recover()

        def write(event: EpochDone, state: State) -> None:
            began = time.perf_counter()
            writer.epoch(event.record, event.tables, event.histograms, event.probes, event.weights)
            writer.resume(*state)
            beside_s.append(time.perf_counter() - began)

        for event in train(settings, device="cpu"):
            if not isinstance(event, EpochDone):
                continue
            began = time.perf_counter()
            beside.do(partial(write, event, event.state()))
            if event.record["epoch"]:
                loop_s.append(time.perf_counter() - began)
                train_s.append(event.record["seconds/train"])
                evaluate_s.append(event.record["seconds/evaluate"])
    whole = sum(statistics.median(part) for part in (train_s, evaluate_s, loop_s))
    return {
        "preset": "demo-digits-dynamic", "epochs": epochs, "train": spread(train_s), "evaluate": spread(evaluate_s),
        "in_loop": spread(loop_s), "in_loop_of_epoch": statistics.median(loop_s) / whole,
        "beside": spread(beside_s[1:]), "beside_of_epoch": statistics.median(beside_s[1:]) / whole,
    }  # fmt: skip


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


if __name__ == "__main__":
    main()
