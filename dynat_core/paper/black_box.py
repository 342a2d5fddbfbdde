"""Examples made on one network, shown to others, and how fast this device computes gradients; for `reproduce`."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from dynat_core.attack.attacks import cw_loss, pgd
from dynat_core.attack.frozen import Frozen
from dynat_core.check.ladder_rungs import RUNGS
from dynat_core.config import RunConfig
from dynat_core.devices import choose, fit_threads
from dynat_core.networks import models
from dynat_core.paper.reproduced import ATTACKS
from dynat_core.store.evaluation_settings import Transfer
from dynat_core.store.run import Run
from dynat_core.training.evaluate import BATCH, ball_of, batches, generator_for
from dynat_core.work.loading import chosen_images, network, pixels

_PROBE_SECONDS = 1.0


def transferred(surrogate: Run, others: Sequence[Run], n: int) -> dict[str, dict[str, int]]:
    """run id -> attack -> images right, of n test images attacked on the best network of `surrogate`.

    The attacks are FGSM, PGD-10, PGD-20 and C&W as on the ladder, one start each. Raises RunError, DataError.
    """
    device = choose(surrogate.config.device)
    model = network(surrogate, "best", device)
    targets = {run.id: network(run, "best", device) for run in others}
    split, _ = chosen_images(surrogate, Transfer(n=n, others=("any",)))
    x, y = pixels(split, device)
    found: dict[str, dict[str, int]] = {id: {name: 0 for name in ATTACKS} for id in targets}  # noqa: C420
    for rung in (rung for rung in RUNGS if rung.name in ATTACKS):
        for number, some in enumerate(batches(len(y))):
            ball = ball_of(surrogate.config.threat, x[some])
            randomness = generator_for(device, 0, "black box", rung.name, number)
            loss = cw_loss(50.0) if rung.loss == "cw" else "ce"
            z = pgd(
                model, ball, y[some], steps=rung.steps, alpha=ball.eps / rung.over, loss=loss, generator=randomness,
                final=False,
            ).z  # fmt: skip
            with torch.no_grad():
                for id, other in targets.items():
                    found[id][rung.name] += int((other(z).argmax(1) == y[some]).sum())
    return found


def seconds_per_gradient(config: RunConfig) -> float:
    """Seconds that one gradient of one image takes here, from attacking noise for a moment as training does: an
    untrained network's frozen view, at the precision of the run, PGD-10."""
    device = choose(config.device)
    fit_threads(config.model.name, device)
    model = Frozen(models.initialise(config.model, config.shape[0], 0).to(device), config.precision)
    size = min(BATCH, config.optimizer.batch)
    y = torch.zeros(size, dtype=torch.long, device=device)
    ball = ball_of(config.threat, torch.rand(size, *config.shape, device=device))

    def attack() -> None:
        pgd(model, ball, y, steps=10, alpha=ball.eps / 4, final=False).z.sum().item()  # which waits for the device

    attack()  # the first one warms up
    began, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - began < _PROBE_SECONDS:
        attack()
        done += 1
    return (time.perf_counter() - began) / (done * 10 * size)
