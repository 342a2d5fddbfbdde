"""The probe of the launch form: what a run would cost on this device, and what its threshold would do."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch import nn

from dynat_core.attack.attacks import cross_entropy, pgd
from dynat_core.attack.fosc import fosc
from dynat_core.attack.frozen import Frozen
from dynat_core.attack.threat import inner
from dynat_core.config import Dynamic, PgdStrategy, RunConfig
from dynat_core.devices import choose
from dynat_core.images import data
from dynat_core.networks import models
from dynat_core.training import strategies
from dynat_core.training.evaluate import ball_of, generator_for
from dynat_core.training.strategy import Moment
from dynat_core.work.analysis import Answer, Cancelled, Request, Said, look
from dynat_core.work.helper_memory import data_of
from dynat_core.work.loading import device_of, pixels

_WARM_UP = 40  # batches; enough for the loss to have left its start on every preset
_WARM_UP_SECONDS = 20.0  # only what is far too large for the device ends sooner: a suggestion must not depend on haste


def probe(request: Request, cancelled: Cancelled, said: Said) -> Answer:
    """What a run would cost on this device, measured, and what its threshold would do.

    A few batches are trained with one attack step each, to have a network that has begun to learn; then one whole
    training step is timed, and FOSC is taken after the first step of the attack. request: config (nested dict).
    Returns seconds_per_epoch and seconds_total (every image attacked with all its steps, so an upper bound for
    Dynamic; recording included), seconds_per_gradient (per image), images, device; for attacking strategies also
    quantiles of FOSC after the first step in the form that stops, suggested_c_max, and for Dynamic stopped_after_one
    at its own c_max.
    """
    config = RunConfig.build(request["config"])
    device = choose(config.device)
    train = data_of(config.data).train
    model = models.initialise(config.model, config.shape[0], config.seed).to(device)
    trained = _warm_up(model, config, train, cancelled, said)
    timing = _time_a_step(model, config, train, cancelled)
    said(0.8)
    recorded = min(config.recording.test_images or config.test_size, config.test_size) + config.data.validation_size
    evaluation = recorded * (config.recording.steps + 1) * timing["seconds_per_gradient"]
    header: dict[str, Any] = {
        **timing,
        "seconds_evaluation": evaluation,
        "seconds_per_epoch": timing["seconds_training"] + evaluation,
        "seconds_total": config.epochs * timing["seconds_training"] + (config.epochs + 1) * evaluation,
        "images": config.train_size,
        "device": str(device),
        "batches_trained": trained,
    }
    if isinstance(config.strategy, PgdStrategy):
        header |= _first_step(model, config, train, cancelled)
    return header, {}


def _warm_up(model: nn.Module, config: RunConfig, train: data.Split, cancelled: Cancelled, said: Said) -> int:
    """Train a few batches on one-step examples; returns how many."""
    sgd = config.optimizer
    optimizer = torch.optim.SGD(model.parameters(), lr=sgd.lr, momentum=sgd.momentum, weight_decay=sgd.weight_decay)
    order = torch.randperm(len(train), generator=generator_for(torch.device("cpu"), config.seed, "probe"))
    parts = [part for part in order.split(sgd.batch) if len(part) > 1]
    began, number = time.perf_counter(), 0
    while number < _WARM_UP and (number == 0 or time.perf_counter() - began < _WARM_UP_SECONDS):
        look(cancelled)
        x, y = pixels(train, device_of(model), parts[number % len(parts)])
        ball = ball_of(config.threat, x)
        if config.alpha is not None:
            x = pgd(model, ball, y, steps=1, alpha=config.alpha, start="clean", final=False).z
        model.train()
        optimizer.zero_grad()
        cross_entropy(model(x), y).mean().backward()
        optimizer.step()
        number += 1
        said(0.6 * number / _WARM_UP)
    return number


def _time_a_step(model: nn.Module, config: RunConfig, train: data.Split, cancelled: Cancelled) -> dict[str, float]:
    """Seconds of one training step, as seconds for a whole epoch and for one gradient of one image."""
    strategy = strategies.build(_standard(config), config.threat.eps)
    frozen = Frozen(model, config.precision)
    chosen = torch.arange(min(config.optimizer.batch, len(train)))
    x, y = pixels(train, device_of(model), chosen)
    moment = Moment(
        t=0,
        frozen=frozen,
        ball=lambda x: ball_of(config.threat, x),
        generator=generator_for(x.device, config.seed, "probe time"),
        measured=torch.ones(len(x), dtype=torch.bool, device=x.device),
    )

    def step() -> float:
        look(cancelled)
        began = time.perf_counter()
        frozen.refresh()
        model.train()
        loss, attacked = strategy.loss(model, x, y, moment)
        loss.backward()
        spent.append(float(attacked.gradients.float().mean()))  # reading it waits for the device
        return time.perf_counter() - began

    spent: list[float] = []
    first = step()
    seconds = first if first > 3 else sorted(step() for _ in range(3))[1]
    batches = math.ceil(config.train_size / len(chosen))
    return {
        "seconds_training": seconds * batches,
        "seconds_per_gradient": seconds
        / (len(chosen) * (spent[-1] + 1)),  # the step for the weights counts as one more
    }


def _standard(config: RunConfig) -> Any:
    """The same strategy with every step taken: what Dynamic costs at most."""
    return (
        config.strategy.model_copy(update={"c_max": 0.0}) if isinstance(config.strategy, Dynamic) else config.strategy
    )


def _first_step(model: nn.Module, config: RunConfig, train: data.Split, cancelled: Cancelled) -> dict[str, Any]:
    """FOSC after the first step of the attack, over up to 500 training images."""
    strategy, alpha = config.strategy, config.alpha
    assert isinstance(strategy, PgdStrategy) and alpha is not None
    form = strategy.stop_form if isinstance(strategy, Dynamic) else "box"
    order = torch.randperm(len(train), generator=generator_for(torch.device("cpu"), config.seed, "probe fosc"))
    values = []
    for number, chosen in enumerate(order[:500].split(100)):
        look(cancelled)
        x, y = pixels(train, device_of(model), chosen)
        ball = ball_of(config.threat, x)
        randomness = generator_for(x.device, config.seed, "probe start", number)
        start = x if strategy.start == "clean" else ball.random_point(randomness)
        moved = pgd(model, ball, y, steps=1, alpha=alpha, start=start)
        gap = fosc(ball, moved.z, moved.grad, "box" if form == "box" else "paper")
        values.append(gap + inner(moved.grad, start - x) if form == "code" else gap)
    c = torch.cat(values).double().cpu().numpy()
    found = {
        "form": form,
        "quantiles": {str(q): float(np.quantile(c, q)) for q in (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)},
        # A third of the images of a network that has begun to learn would stop after one step. Half saves more and was
        # not more robust (docs/performance.md).
        "suggested_c_max": float(f"{max(float(np.quantile(c, 1 / 3)), 1e-6):.2g}"),
    }
    if isinstance(strategy, Dynamic):
        found["stopped_after_one"] = float((c <= strategy.c_max).mean())
    return found
