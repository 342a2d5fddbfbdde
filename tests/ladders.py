"""Small finished ladders on real networks, written as an evaluation's job writes them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dynat_core.recorded import tables
from dynat_core.statistics import wilson
from dynat_core.store import evaluations
from dynat_core.store.evaluation_settings import Ladder
from dynat_core.store.evaluations import Evaluation
from dynat_core.store.run import Run
from tests.running import in_child

RUNGS = {"clean": "no attack", "pgd-3": "PGD-3, step eps/2, cross-entropy", "pgd-5": "PGD-5, step eps/2, margin"}


def make_ladder(run: Run, n: int = 30, seed: int = 0) -> Evaluation:
    """Attack the best network of a finished run with two PGDs, each image until it is broken, in a child process."""
    return make_ladders((run, n, seed))[0]


def make_ladders(*asked: tuple[Run, int, int]) -> list[Evaluation]:
    """The same for several (run, images, attack seed), all in one child process."""
    made = [evaluations.create(run.folder, Ladder(n=n, seed=seed, autoattack=False)) for run, n, seed in asked]

    def climb() -> None:
        for (run, _, _), evaluation in zip(asked, made, strict=True):
            _climb(run, evaluation)

    assert in_child(climb) == 0
    assert {evaluation.state for evaluation in made} == {"finished"}
    return made


def _climb(run: Run, evaluation: Evaluation) -> None:
    import torch
    from safetensors.numpy import save

    from dynat_core.attack.attacks import pgd
    from dynat_core.attack.threat import Ball
    from dynat_core.work.loading import chosen_images, network, pixels

    torch.set_num_threads(1)
    here, settings, eps = torch.device("cpu"), evaluation.settings, run.config.threat.eps
    model = network(run, "best", here).eval()
    split, _ = chosen_images(run, settings)
    x, y = pixels(split, here)
    index = np.asarray(split.index)
    with torch.no_grad():
        outcomes = {"clean": (model(x).argmax(1) == y).numpy().astype(np.int8)}
    z = x.clone()
    for name, steps, loss in (("pgd-3", 3, "ce"), ("pgd-5", 5, "margin")):
        standing = np.logical_and.reduce([values != 0 for values in outcomes.values()])
        kept = torch.from_numpy(standing)
        generator = torch.Generator().manual_seed(settings.seed)
        found = pgd(model, Ball(x[kept], eps), y[kept], steps=steps, alpha=eps / 2, loss=loss, generator=generator)
        with torch.no_grad():
            right = (model(found.z).argmax(1) == y[kept]).numpy()
        outcomes[name] = np.full(len(x), -1, np.int8)
        outcomes[name][standing] = right
        broken = standing.copy()
        broken[standing] = ~right
        z[torch.from_numpy(broken)] = found.z[torch.from_numpy(~right)]
    worst = np.logical_and.reduce([values != 0 for values in outcomes.values()])
    table = {"index": index, "label": y.numpy()} | {f"correct/{name}": values for name, values in outcomes.items()}
    evaluation.write("samples.parquet", tables.samples_to_bytes(pd.DataFrame(table)))
    evaluation.write("points.safetensors", save({"points": z.numpy(), "index": index.astype(np.int64)}))
    rungs = [
        {"name": name, "words": RUNGS[name], **_count(values == 1), "seconds": 0.1, "gradients": 30, "own": True}
        for name, values in outcomes.items()
    ]
    shared = {"epoch": run.epoch_of("best"), "n": len(x), "eps": eps, "norm": "linf", "seed": settings.seed}
    found = {"rungs": rungs, "worst": _count(worst), "broken_by": {"pgd-3": 1}}
    evaluation.write_json("result.json", {**shared, **found})


def _count(right: np.ndarray) -> dict[str, float]:
    low, high = wilson(int(right.sum()), len(right))
    return {"n": len(right), "correct": int(right.sum()), "accuracy": float(right.mean()), "low": low, "high": high}
