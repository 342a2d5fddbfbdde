"""What is measured on images of a fixed set: one row per image, or the whole path of the attack.

Everything here runs in float32 on the unfolded model in eval mode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import Attacked, Loss, in_eval_mode, margin, pgd
from dynat_core.attack.fosc import fosc, relative_fosc
from dynat_core.attack.threat import Ball
from dynat_core.config import RunConfig, Threat
from dynat_core.images.data import Split
from dynat_core.recorded.trajectories import Trajectories

_RECORDED_SEED = 0  # which images are recorded belongs to the data set, so that runs show the same ones
BATCH = 250  # images attacked together; part of what makes random starts repeatable


def generator_for(device: torch.device, seed: int, *purpose: str | int) -> torch.Generator:
    """A random generator that depends on `seed` and `purpose` alone, so that measuring more never changes training."""
    key = "/".join(str(part) for part in (seed, *purpose))
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
    return torch.Generator(device=device).manual_seed(number)


def fixed_subset(n: int, size: int | None) -> Tensor:
    """(n,) mask, on the CPU, of `size` random images, always the same ones; all if None."""
    mask = torch.zeros(n, dtype=torch.bool)
    order = torch.randperm(n, generator=generator_for(torch.device("cpu"), _RECORDED_SEED, "recorded", n))
    mask[order[:size]] = True
    return mask


def ball_of(threat: Threat, x: Tensor) -> Ball:
    """The set that `threat` allows around the clean images `x` (n, ...)."""
    return Ball(x, threat.eps, threat.norm)


def described(model: nn.Module) -> str:
    """A network in words: `Net, 9,850 parameters`."""
    return f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters"[:200]


def batches(n: int, size: int = BATCH) -> Iterator[slice]:
    """Slices of at most `size` that cover range(n)."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def measures(ball: Ball, attacked: Attacked, y: Tensor) -> dict[str, Tensor]:
    """The per-sample columns that follow from an attack, each (n,); NaN or -1 where the end point was not measured.

    predicted, steps, gradients, steps_to_fool: whole numbers. fosc (box), fosc_paper, loss: loss units. relative_fosc:
    box, no unit. gradient_l1: sum of absolute gradients. margin: true logit minus the best other, above 0 is correct.
    """
    known = ~attacked.loss.isnan() if attacked.logits.shape[1] else torch.zeros_like(y, dtype=torch.bool)
    if attacked.logits.shape[1]:
        predicted = torch.where(known, attacked.logits.argmax(1), -1)
        margins = margin(attacked.logits, y)
    else:
        predicted, margins = torch.full_like(y, -1), torch.full_like(attacked.loss, float("nan"))
    return {
        "predicted": predicted,
        "fosc": fosc(ball, attacked.z, attacked.grad),
        "fosc_paper": fosc(ball, attacked.z, attacked.grad, "paper"),
        "relative_fosc": relative_fosc(ball, attacked.z, attacked.grad),
        "gradient_l1": attacked.grad.flatten(1).abs().sum(1),
        "loss": attacked.loss,
        "margin": torch.where(known, margins, float("nan")),
        "steps": attacked.steps,
        "gradients": attacked.gradients,
        "steps_to_fool": attacked.steps_to_fool,
    }


KINDS = {
    "index": "int32",
    "label": "int16",
    "predicted": "int16",
    "clean_correct": "bool",
    "steps": "int16",
    "gradients": "int16",
    "steps_to_fool": "int16",
}


def table(split_name: str, columns: dict[str, Tensor]) -> pd.DataFrame:
    """One row per image with the column `split`; everything not in KINDS is float32."""
    frame = pd.DataFrame(
        {name: values.cpu().numpy().astype(KINDS.get(name, "float32")) for name, values in columns.items()}
    )
    frame.insert(1, "split", pd.Categorical([split_name] * len(frame), categories=["train", "validation", "test"]))
    return frame


def robustness(
    model: nn.Module,
    split: Split,
    split_name: str,
    threat: Threat,
    *,
    steps: int,
    alpha: float,
    seed: int,
    numbers: Collection[int] | None = None,
) -> Iterator[pd.DataFrame]:
    """PGD from one random start on every image of `split`: rows, batch by batch, with `clean_correct`.

    alpha: pixels. numbers: of the batches that are wanted; all if None. The random starts depend on seed and split name
    alone, so every epoch is measured from the same ones.
    """
    for number, some in enumerate(batches(len(split))):
        if numbers is not None and number not in numbers:
            continue
        x, y = split.pixels(some), split.labels[some]
        ball = ball_of(threat, x)
        randomness = generator_for(x.device, seed, "test attack", split_name, number)
        with in_eval_mode(model), torch.no_grad():
            clean_correct = model(x).argmax(1) == y
            attacked = pgd(model, ball, y, steps=steps, alpha=alpha, generator=randomness)
        head = {"index": split.index[some], "label": y, "clean_correct": clean_correct}
        yield table(split_name, head | measures(ball, attacked, y))


@torch.no_grad()
def paths(
    model: nn.Module,
    split: Split,
    threat: Threat,
    *,
    steps: int,
    alpha: float,
    seed: int,
    loss: Literal["ce", "margin"] | Loss = "ce",
    start: Literal["random", "clean"] = "random",
) -> Trajectories:
    """The whole PGD path on every image of `split`. start: a random point of the ball, or the clean image.

    An image's random start depends on seed and its index alone, so it is the same path whoever asks for it.
    """
    parts = []
    with in_eval_mode(model):
        for some in batches(len(split)):
            x, y, index = split.pixels(some), split.labels[some], split.index[some]
            ball = ball_of(threat, x)
            begin = x if start == "clean" else _own_starts(ball, index, seed)
            attacked = pgd(model, ball, y, steps=steps, alpha=alpha, loss=loss, start=begin, keep_path=True)
            parts.append(_trajectories(ball, attacked, y, index))
    settings = {
        "eps": threat.eps,
        "norm": threat.norm,
        "alpha": alpha,
        "steps": steps,
        "loss": loss if isinstance(loss, str) else "custom",
        "start": start,
        "seed": seed,
        "low": 0.0,
        "high": 1.0,
    }
    whole = Trajectories.joined(parts)
    return whole.labelled(**settings)


# ------------------------------------------------------------------------------------- as a run's settings record them


def recorded_robustness(
    model: nn.Module, split: Split, split_name: str, config: RunConfig, numbers: Collection[int] | None = None
) -> Iterator[pd.DataFrame]:
    """`robustness` under the attack that a run of these settings records every epoch."""
    steps, alpha, seed = config.recording.steps, config.recording_alpha, config.seed
    return robustness(model, split, split_name, config.threat, steps=steps, alpha=alpha, seed=seed, numbers=numbers)


def recorded_paths(model: nn.Module, split: Split, config: RunConfig) -> Trajectories:
    """`paths` of the attack whose steps a run of these settings records."""
    steps, alpha, seed = config.recording.path_steps, config.recording_alpha, config.seed
    return paths(model, split, config.threat, steps=steps, alpha=alpha, seed=seed)


# -------------------------------------------------------------------------------------------------------- step by step


def _own_starts(ball: Ball, index: Tensor, seed: int) -> Tensor:
    """(n, ...) random starts, each from its own generator on the CPU: the same on every device and in every batch."""
    cpu = Ball(ball.x.cpu(), ball.eps, ball.norm, ball.low, ball.high)
    starts = [
        cpu[place : place + 1].random_point(generator_for(torch.device("cpu"), seed, "path", int(number)))
        for place, number in enumerate(index)
    ]
    return torch.cat(starts).to(ball.x.device)


def _trajectories(ball: Ball, attacked: Attacked, y: Tensor, index: Tensor) -> Trajectories:
    path = attacked.path
    assert path is not None
    curves: dict[str, list[Tensor]] = {
        "fosc": [],
        "fosc_paper": [],
        "relative_fosc": [],
        "gradient_l1": [],
        "margin": [],
    }
    for z, grad, logits in zip(path.z, path.grad, path.logits, strict=True):
        curves["fosc"].append(fosc(ball, z, grad))
        curves["fosc_paper"].append(fosc(ball, z, grad, "paper"))
        curves["relative_fosc"].append(relative_fosc(ball, z, grad))
        curves["gradient_l1"].append(grad.flatten(1).abs().sum(1))
        curves["margin"].append(margin(logits, y))

    def image_first(points: Tensor) -> np.ndarray:
        """(K+1, n, ...) -> (n, K+1, ...) float32"""
        return points.transpose(0, 1).contiguous().cpu().numpy().astype(np.float32)

    return Trajectories(
        index=index.cpu().numpy().astype(np.int32),
        label=y.cpu().numpy().astype(np.int32),
        x=ball.x.cpu().numpy(),
        z=image_first(path.z),
        grad=image_first(path.grad),
        logits=image_first(path.logits),
        loss=image_first(path.loss),
        **{name: image_first(torch.stack(values)) for name, values in curves.items()},
        settings={},
    )
