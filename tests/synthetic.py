"""Made-up histories and paths with the shapes, bins and keys of real ones, for tests of pictures and for benchmarks.

The numbers only resemble training: what is drawn from them is checked against them, never against a real run.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from dynat_core.config import RunConfig
from dynat_core.recorded.histograms import count
from dynat_core.recorded.trajectories import Trajectory
from dynat_core.store.history import History
from dynat_core.views import NamedHistory

MEASURES = ("fosc", "fosc_paper", "relative_fosc", "loss", "margin")


def config(strategy: str, epochs: int, **more: Any) -> RunConfig:
    """Settings of a digits run of that strategy."""
    own: dict[str, Any] = {"name": strategy}
    if strategy == "dynamic":
        own |= {"c_max": 0.1, "T_control": max(1, int(0.8 * epochs))}
    return RunConfig.build({"epochs": epochs, "strategy": own | more})


@cache
def history(strategy: str, epochs: int = 30, samples: int = 500, seed: int = 0, nan_from: int | None = None) -> History:
    """A History of epochs 0 .. `epochs`, with all measures of both splits; NaN losses from epoch `nan_from` on."""
    rng = np.random.default_rng([seed, len(strategy), epochs])
    settings = config(strategy, epochs).strategy
    records, rows = [], {}
    for e in range(epochs + 1):
        broken = nan_from is not None and e >= nan_from
        record: dict[str, Any] = {
            "epoch": e,
            "c_t": settings.threshold(max(e - 1, 0)) if strategy == "dynamic" else None,
        }
        for split in ("train", "test"):
            drawn = _samples(rng, strategy, e / epochs, samples, split == "train", record["c_t"])
            for name in MEASURES:
                rows.setdefault(f"{split}/{name}", []).append(
                    count(name, drawn[name] * np.nan if broken else drawn[name])
                )
            record[f"{split}/loss"] = None if broken else float(drawn["loss"].mean())
            record[f"{split}/robust_accuracy"] = float((drawn["margin"] > 0).mean())
            record[f"{split}/clean_accuracy"] = 0.1 + 0.88 * (1 - 0.9 ** (e * 30 / epochs))
            record[f"{split}/n"] = samples
        steps = drawn_steps(rng, strategy, record["c_t"], samples)
        rows.setdefault("train/steps", []).append(count("steps", steps))
        record["train/stopped_after_one"] = float((steps == 1).mean())
        records.append(record)
    counts = {key: np.array(value, dtype=np.uint32) for key, value in rows.items()}
    return History(np.arange(epochs + 1), records, counts, tuple("0123456789"))


def _samples(
    rng: np.random.Generator, strategy: str, t: float, n: int, train: bool, c_t: float | None
) -> dict[str, np.ndarray]:
    centre = -1.1 - 0.5 * t + (0.5 * (1 - t) if strategy == "dynamic" and train else 0)
    fosc = 10 ** rng.normal(centre, 0.5 - 0.15 * t, n)
    if c_t is not None and train:
        fosc = np.minimum(fosc, np.maximum(c_t * rng.uniform(0.6, 1, n), fosc * 0.3))
    fosc[rng.random(n) < 0.04 + 0.08 * t] = 0.0
    gradient = 10 ** rng.normal(0.2, 0.4, n)
    margin = rng.normal(-2 + 5 * t, 1.5 + t, n)
    loss = np.log1p(np.exp(-margin))
    return {
        "fosc": fosc,
        "fosc_paper": fosc + 0.03 * gradient,
        "relative_fosc": np.minimum(fosc / (0.15 * gradient), 2),
        "loss": loss,
        "margin": margin,
    }


def drawn_steps(rng: np.random.Generator, strategy: str, c_t: float | None, n: int) -> np.ndarray:
    """(n,) steps that images took."""
    if strategy == "unsecured":
        return np.zeros(n, dtype=int)
    if strategy != "dynamic" or not c_t:
        return np.full(n, 10)
    return np.clip(np.round(rng.gamma(3, 0.25 / c_t**0.75 / 3, n) + 0.6), 1, 10).astype(int)


def named(*strategies: str, epochs: int = 30, samples: int = 500, **more: Any) -> list[NamedHistory]:
    """Histories with their settings, ready for `views.epochs`."""
    return [NamedHistory(s.capitalize(), history(s, epochs, samples, **more), config(s, epochs)) for s in strategies]


def trajectory(
    seed: int = 0,
    steps: int = 10,
    size: int = 8,
    channels: int = 1,
    eps: float = 0.15,
    index: int = 7,
    run: str = "demo-digits-standard",
) -> Trajectory:
    """The true PGD path of one image on a made-up two-layer network: its numbers fit one another as they should."""
    rng = np.random.default_rng(seed)
    shape, d = (channels, size, size), channels * size * size
    x = np.clip(rng.normal(0.35, 0.4, shape), 0, 1)
    first, second = rng.normal(0, 0.4, (24, d)), rng.normal(0, 0.6, (10, 24))

    def look(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        hidden = np.tanh(first @ z.ravel() - 1)
        logits = second @ hidden
        p = np.exp(logits - logits.max())
        p /= p.sum()
        error = p - np.eye(10)[label]
        return logits, (((error @ second) * (1 - hidden**2)) @ first).reshape(shape), float(-np.log(p[label]))

    label = 0
    label = int(look(x)[0].argmax())
    z = np.clip(x + rng.uniform(-eps, eps, shape), 0, 1)
    low, high = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
    points = []
    for _ in range(steps + 1):
        points.append((z, *look(z)))
        z = np.clip(np.clip(z + eps / 4 * np.sign(points[-1][2]), x - eps, x + eps), 0, 1)
    zs, logits, grads, losses = (np.stack([np.asarray(p[k]) for p in points]) for k in range(4))
    axes = (1, 2, 3)
    l1 = np.abs(grads).sum(axes)
    fosc = np.where(grads > 0, grads * (high - zs), grads * (low - zs)).sum(axes)
    others = np.where(np.eye(10, dtype=bool)[label], -np.inf, logits).max(1)
    curves = {
        "loss": losses,
        "margin": logits[:, label] - others,
        "fosc": fosc,
        "gradient_l1": l1,
        "fosc_paper": eps * l1 - (grads * (zs - x)).sum(axes),
        "relative_fosc": fosc / (np.abs(grads) * (high - low) / 2).sum(axes),
    }
    settings = {
        "eps": eps,
        "norm": "linf",
        "alpha": eps / 4,
        "steps": steps,
        "loss": "ce",
        "start": "random",
        "low": 0.0,
        "high": 1.0,
        "run": run,
        "epoch": 30,
        "classes": list("0123456789"),
    }
    arrays = {"x": x, "z": zs, "grad": grads, "logits": logits} | curves
    return Trajectory(
        index=index, label=label, settings=settings, **{k: v.astype(np.float32) for k, v in arrays.items()}
    )


def cut(run: NamedHistory, epochs: int) -> NamedHistory:
    """The run as it stood when epoch `epochs` was its last record."""
    whole = run.history
    assert isinstance(whole, History)
    there = History(
        whole.epochs[: epochs + 1],
        whole.records[: epochs + 1],
        {key: rows[: epochs + 1] for key, rows in whole.counts.items()},
        whole.classes,
    )
    return NamedHistory(run.name, there, run.config, running=epochs < run.config.epochs)


def surface(path: Trajectory, resolution: int = 41) -> dict[str, np.ndarray]:
    """What the loss-slice analysis answers, made up: a hill that rises along the path."""
    at = np.linspace(-1.25, 1.25, resolution, dtype=np.float32)
    across, up = np.meshgrid(at, at)
    loss = np.log1p(np.exp(2 * across - 0.8 * up**2))
    along = np.linspace(0.1, 1, len(path.z), dtype=np.float32)
    steps = np.stack([along, 0.4 * np.sin(3 * along) * (1 - along)], axis=1)
    return {"loss": loss, "margin": (1.2 - loss).astype(np.float32), "axis": at, "path": steps.astype(np.float32)}
