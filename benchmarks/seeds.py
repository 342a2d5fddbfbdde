"""EntropySGD, TRADES and L2L beside PGD adversarial training (Standard, SGD), over the same seeds on the digits.

    OMP_NUM_THREADS=1 python benchmarks/seeds.py     # about ten minutes of one core

Each preset as it is, 30 epochs; a seed decides start weights, order and attack starts, so the trainings of one seed
begin alike. The last epoch's weights are attacked on all 500 test images: PGD-20, C&W_inf with 30 steps, and apgd-ce
and apgd-t of AutoAttack; worst case is what stands all of them. An epoch of EntropySGD takes as many batches as one of
SGD, attacked the same way, so equal epochs are equal gradient evaluations. Written to dynat_core/theory/seeds.json
after every run, which the screens read; the paired differences are printed whichever way they fall.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.settings.bare import BARE  # noqa: E402
from dynat_core.attack import autoattack  # noqa: E402
from dynat_core.attack.attacks import cw, in_eval_mode, pgd  # noqa: E402
from dynat_core.config import RunConfig  # noqa: E402
from dynat_core.images import data  # noqa: E402
from dynat_core.networks import models  # noqa: E402
from dynat_core.presets import preset  # noqa: E402
from dynat_core.theory.seeds import AGAINST, MEASURED, MEASURES, of, told_apart  # noqa: E402
from dynat_core.training.evaluate import ball_of, generator_for  # noqa: E402
from dynat_core.training.events import EpochDone, Finished  # noqa: E402
from dynat_core.training.trainer import train  # noqa: E402

TRAININGS = {
    "standard": "demo-digits-standard",
    "entropy-sgd": "digits-entropy",
    "trades": "digits-trades",
    "l2l": "digits-l2l",
}
PARTS = ("apgd-ce", "apgd-t")
UNRECORDED = {**BARE, "recording.steps": 1, "recording.weights_dtype": "float32"}


def main() -> None:
    """Train, attack, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--results", type=Path, default=MEASURED)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if autoattack.available() is None:
        sys.exit(f"{autoattack.INSTALL}.")
    dataset = data.load(preset("quick").data)
    found: dict[str, Any] = {
        "command": "python benchmarks/seeds.py",
        "data": "digits",
        "n": len(dataset.test),
        "epochs": asked.epochs,
        "eps": preset(TRAININGS[AGAINST]).threat.eps,
        "presets": TRAININGS,
        "attacks": ["PGD-20", "C&W_inf, 30 steps", *(f"AutoAttack {autoattack.available()} {p}" for p in PARTS)],
        "versions": {"torch": torch.__version__, "threads": 1},
        "seeds": [],
        "rows": {name: [] for name in TRAININGS},
    }
    for seed in range(asked.seeds):
        found["seeds"].append(seed)
        for name in TRAININGS:
            found["rows"][name].append(row := trained(config_of(name, seed, asked.epochs), dataset))
            print(f"seed {seed}, {name}: {row}", flush=True)
        asked.results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    said(found)


def config_of(name: str, seed: int, epochs: int) -> RunConfig:
    """The preset with this seed; the learning rate falls at the same shares of another number of epochs."""
    whole = preset(TRAININGS[name])
    falls = sorted({max(1, round(m * epochs / whole.epochs)) for m in whole.optimizer.milestones})
    return whole.with_values({**UNRECORDED, "seed": seed, "epochs": epochs, "optimizer.milestones": falls})


def trained(config: RunConfig, dataset: data.DataSet) -> dict[str, Any]:
    """One training's numbers; see `dynat_core.theory.seeds.Seeds`."""
    began, weights, result = time.process_time(), {}, {}
    for event in train(config, device="cpu", dataset=dataset):
        if isinstance(event, EpochDone):
            weights = event.weights
        elif isinstance(event, Finished):
            result = event.result
    seconds = time.process_time() - began
    model = models.initialise(config.model, config.shape[0], 0)
    model.load_state_dict(weights)
    shares = attacked(model.eval(), config, dataset.test)
    return shares | {"gradients": round(result["gradients_per_image"], 3), "seconds": round(seconds, 1)}


def attacked(model: nn.Module, config: RunConfig, test: data.Split) -> dict[str, float]:
    """Shares of the test images that are right: without attack, also under PGD-20, also under every other attack."""
    x, y = test.pixels(), test.labels
    ball, eps = ball_of(config.threat, x), config.threat.eps
    with in_eval_mode(model), torch.no_grad():
        clean = model(x).argmax(1) == y
        draw = generator_for(x.device, 0, "seeds")  # the same starts for every network
        first = pgd(model, ball, y, steps=20, alpha=eps / 4, generator=draw)
        under = clean & (first.logits.argmax(1) == y)
        stands = under & (cw(model, ball, y, generator=draw).logits.argmax(1) == y)
    left = torch.nonzero(stands).flatten()
    strongest = autoattack.standard(model, x[left], y[left], eps, parts=PARTS)
    with torch.no_grad():
        stands[left] = model(strongest.z).argmax(1) == y[left]
    counts = {"clean": clean, "pgd": under, "worst": stands}
    return {name: round(int(right.sum()) / len(y), 5) for name, right in counts.items()}


def said(found: dict[str, Any]) -> None:
    """Means over the seeds and paired differences."""
    seeds = of(found)
    for measure, words in MEASURES.items():
        for name in TRAININGS:
            mean, apart = seeds.mean(name, measure), seeds.difference(name, measure)
            line = f"{words}, {name}: {100 * mean.mean:.2f} % (sd {100 * mean.sd:.2f})"
            if name != AGAINST:
                line += f", minus {AGAINST} {100 * apart.mean:+.2f} points "
                line += f"({100 * apart.low:+.2f} to {100 * apart.high:+.2f}): {told_apart(apart)}"
            print(line)


if __name__ == "__main__":
    main()
