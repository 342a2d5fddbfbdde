"""What a screen asks for on demand: pure functions `(request, cancelled, progress) -> (header, arrays)`, run in a warm
helper.

Between two gradient evaluations each looks whether somebody has asked for something newer (`cancelled`), and ends
early.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import LOSSES, cross_entropy, in_eval_mode, margin, pgd
from dynat_core.attack.fosc import fosc
from dynat_core.attack.frozen import Frozen
from dynat_core.attack.segments import bends
from dynat_core.attack.threat import Ball, inner
from dynat_core.config import Data, Dynamic, PgdStrategy, RunConfig
from dynat_core.devices import choose
from dynat_core.errors import RunError
from dynat_core.images import data
from dynat_core.networks import models
from dynat_core.recorded.packing import unpack
from dynat_core.recorded.trajectories import Trajectory
from dynat_core.store.evaluations import open_evaluation
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore
from dynat_core.training import strategies
from dynat_core.training.evaluate import ball_of, generator_for, paths
from dynat_core.training.strategy import Moment
from dynat_core.training.weight_line import direction_from, probed, random_direction
from dynat_core.work.loading import network
from dynat_core.work.measurements import work_on

Request = dict[str, Any]
Answer = tuple[dict[str, Any], dict[str, np.ndarray]]
Cancelled = Callable[[], bool]
Said = Callable[[float], None]


class Replaced(Exception):
    """Somebody asked for something newer."""


# ----------------------------------------------------------------------------------------------------- the analyses


def trajectory(request: Request, cancelled: Cancelled, said: Said) -> Answer:
    """The whole PGD path on one test image of a run's kept checkpoint.

    request: store, run, epoch, index, and optionally steps, alpha (pixels or "eps/4"), loss ("ce" | "margin"), start
    ("random" | "clean"), seed. Returns a packed `Trajectory`. Raises RunError for an image or checkpoint that is not
    there.
    """
    return _packed(_attacked_path(request, cancelled, said))


def loss_slice(request: Request, cancelled: Cancelled, said: Said) -> Answer:
    """The loss on a plane through the clean image, the end of the path and its first step.

    Axis 1 is z_K - x, axis 2 the part of z_1 - x orthogonal to it, each scaled to length eps in the threat's norm.
    request: as for `trajectory`, and resolution (default 41). Returns loss, margin (r, r) with rows along axis 2, axis
    (r,) and path (K+1, 2), in units of eps: the path is projected onto the plane.
    """
    path = _attacked_path(request, cancelled, said)
    model, config = _model(request)
    ball = ball_of(config.threat, torch.from_numpy(path.x)[None])
    first, second = _plane(torch.from_numpy(path.delta), config.threat.eps, config.threat.norm)
    resolution = int(request.get("resolution", 41))
    axis, clean = torch.linspace(-1.25, 1.25, resolution), torch.from_numpy(path.x)
    losses, margins = [], []
    with in_eval_mode(model), torch.no_grad():
        for row, up in enumerate(axis):
            _look(cancelled)
            points = clean + axis.view(-1, 1, 1, 1) * first + up * second
            logits = model(points.clamp(ball.low, ball.high).to(_device(model)))
            label = torch.full((resolution,), path.label, device=logits.device)
            losses.append(cross_entropy(logits, label).cpu())
            margins.append(margin(logits, label).cpu())
            said((row + 1) / resolution)
    delta = torch.from_numpy(path.delta)
    steps = torch.stack([_along(delta, first), _along(delta, second)], dim=1)
    header = {"index": path.index, "label": path.label, "settings": dict(path.settings)}
    arrays = {"loss": torch.stack(losses), "margin": torch.stack(margins), "axis": axis, "path": steps}
    return header, {name: value.numpy().astype(np.float32) for name, value in arrays.items()}


def indices(request: Request, cancelled: Cancelled, said: Said) -> Answer:
    """The test images a run may be asked about. request: store, run. Returns index and label (n,)."""
    test = _data(_run(request).config.data).test
    return {"n": len(test)}, {
        "index": test.index.numpy().astype(np.int32),
        "label": test.labels.numpy().astype(np.int32),
    }


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
    train = _data(config.data).train
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


def measurement(request: Request, cancelled: Cancelled, said: Said) -> Answer:
    """Work on an evaluation's job here and now; what it finds is written into its folder.

    request: store, run, evaluation (its name). Returns its state afterwards. Raises JobError if somebody else works on
    it already, RunError if there is none.
    """
    evaluation = open_evaluation(_run(request).folder, request["evaluation"])
    with evaluation.job.claim():
        return {"state": work_on(evaluation, ended=cancelled)}, {}


def curvature(request: Request, cancelled: Cancelled, said: Said) -> Answer:
    """How the loss of a run's checkpoint bends along random segments in the balls of its first test images.

    request: store, run, epoch, and optionally share (of eps, the balls' radius; default 1), count (of segments; default
    2000). Returns curvature and straight (count,) as in `segments.bends`, and accuracy on those images, n, eps.
    """
    model, config = _model(request)
    test = _data(config.data).test
    count, eps = int(request.get("count", 2000)), config.threat.eps * float(request.get("share", 1))
    chosen = torch.arange(count) % min(len(test), count)
    x, y = _some(test, chosen, _device(model))

    def looked(share: float) -> None:
        _look(cancelled)
        said(share)

    ball = Ball(x, eps, config.threat.norm)
    found, straight = bends(model, ball, y, generator_for(x.device, config.seed, "curvature"), looked)
    with in_eval_mode(model), torch.no_grad():
        right = (model(x).argmax(dim=1) == y).float().mean()
    arrays = {"curvature": found.float().cpu().numpy(), "straight": straight.cpu().numpy().astype(np.uint8)}
    return {"n": len(chosen.unique()), "eps": eps, "accuracy": float(right)}, arrays


def weight_line(request: Request, cancelled: Cancelled, said: Said) -> Answer:
    """The adversarial loss and its gradient along a straight line through a checkpoint's weights.

    request: store, run, epoch, and optionally way ("random" | "training", the way from the epoch kept before), reach
    (half the line, as a share of the weights' norm; default .01), places (default 30), count (of test images; default
    50). Returns the arrays (places,) of `weight_line.probed`, and n, eps, reach, before (that epoch, or None) and
    apart (how far its weights are, as a share of the norm). Raises RunError where no epoch before was kept.
    """
    model, config = _model(request)
    test, device = _data(config.data).test, _device(model)
    reach, places, count = (request.get(name, usual) for name, usual in _LINE.items())
    before, apart = None, None
    if request.get("way", "random") == "training":
        run = _run(request)
        before = max((epoch for epoch in run.kept_epochs() if epoch < int(request["epoch"])), default=None)
        if before is None:
            raise RunError(f"{run.title} kept no epoch before {request['epoch']}; choose the random direction.")
        direction, apart = direction_from(model, _model({**request, "epoch": before, "stamp": None})[0])
    else:
        direction = random_direction(model, generator_for(torch.device("cpu"), config.seed, "weight line"))
    x, y = _some(test, torch.arange(min(int(count), len(test))), device)

    def looked(share: float) -> None:
        _look(cancelled)
        said(share)

    at = torch.linspace(-float(reach), float(reach), int(places) + 1, dtype=torch.float64)
    randomness = generator_for(device, config.seed, "weight line starts")
    found = probed(model, ball_of(config.threat, x), y, direction, at, randomness, looked)
    header = {"n": len(x), "eps": config.threat.eps, "reach": float(reach), "before": before, "apart": apart}
    return header, {name: values.float().cpu().numpy() for name, values in (found | {"at": at[1:]}).items()}


_LINE = {"reach": 0.01, "places": 30, "count": 50}


ANALYSES: dict[str, Callable[[Request, Cancelled, Said], Answer]] = {
    "trajectory": trajectory,
    "loss_slice": loss_slice,
    "indices": indices,
    "probe": probe,
    "curvature": curvature,
    "weight_line": weight_line,
    "measurement": measurement,
}


# ------------------------------------------------------------------------------------------------ paths and pictures


def _attacked_path(request: Request, cancelled: Cancelled, said: Said) -> Trajectory:
    model, config = _model(request)
    test = _data(config.data).test
    index = int(request["index"])
    place = torch.nonzero(test.index == index).flatten()
    if len(place) == 0:
        raise RunError(f"There is no test image {index} in this run; it has {len(test):,} test images.")
    changes = {
        f"recording.{key}": request[name]
        for name, key in (("alpha", "alpha"), ("steps", "path_steps"))
        if name in request
    }
    asked = config.with_values(changes) if changes else config
    loss, steps = request.get("loss", "ce"), asked.recording.path_steps
    if loss not in LOSSES:
        raise RunError(f"loss must be ce or margin (got {loss}).")
    done = iter(range(1, steps + 2))

    def watched(logits: Tensor, y: Tensor) -> Tensor:
        _look(cancelled)
        said(next(done) / (steps + 1))
        return LOSSES[loss](logits, y)

    found = paths(
        model,
        test[place].to(_device(model)),
        config.threat,
        steps=steps,
        alpha=asked.recording_alpha,
        seed=int(request.get("seed", config.seed)),
        loss=watched,
        start=request.get("start", "random"),
    )
    return found.labelled(loss=loss, run=request["run"], epoch=int(request["epoch"]), classes=list(config.classes)).one(
        0
    )


def _plane(delta: Tensor, eps: float, norm: str) -> tuple[Tensor, Tensor]:
    """Two orthogonal directions (C, H, W), each of length eps in `norm`, from the path's displacements (K+1, C, H,
    W)."""

    def scaled(direction: Tensor) -> Tensor:
        size = direction.abs().max() if norm == "linf" else direction.norm()
        if float(size) < 1e-12:
            raise RunError("The attack did not move this image, so there is no plane to draw.")
        return direction * (eps / size)

    first = scaled(delta[-1])
    for begin in (delta[1] if len(delta) > 1 else delta[0], delta[0]):
        across = begin - _along(begin[None], first)[0] * first
        if float(across.norm()) > 1e-6 * float(first.norm()):
            return first, scaled(across)
    turned = torch.flip(first, dims=(-1,))  # a straight path spans no plane: any direction across will do
    return first, scaled(turned - _along(turned[None], first)[0] * first)


def _along(delta: Tensor, direction: Tensor) -> Tensor:
    """(n,) coordinates of displacements (n, C, H, W) along `direction`, in units of it."""
    return inner(delta, direction.expand_as(delta)) / direction.square().sum()


# --------------------------------------------------------------------------------------------------------- the probe

_WARM_UP = 40  # batches; enough for the loss to have left its start on every preset
_WARM_UP_SECONDS = 20.0  # only what is far too large for the device ends sooner: a suggestion must not depend on haste


def _warm_up(model: nn.Module, config: RunConfig, train: data.Split, cancelled: Cancelled, said: Said) -> int:
    """Train a few batches on one-step examples; returns how many."""
    sgd = config.optimizer
    optimizer = torch.optim.SGD(model.parameters(), lr=sgd.lr, momentum=sgd.momentum, weight_decay=sgd.weight_decay)
    order = torch.randperm(len(train), generator=generator_for(torch.device("cpu"), config.seed, "probe"))
    parts = [part for part in order.split(sgd.batch) if len(part) > 1]
    began, number = time.perf_counter(), 0
    while number < _WARM_UP and (number == 0 or time.perf_counter() - began < _WARM_UP_SECONDS):
        _look(cancelled)
        x, y = _some(train, parts[number % len(parts)], _device(model))
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
    x, y = _some(train, chosen, _device(model))
    moment = Moment(
        t=0,
        frozen=frozen,
        ball=lambda x: ball_of(config.threat, x),
        generator=generator_for(x.device, config.seed, "probe time"),
        measured=torch.ones(len(x), dtype=torch.bool, device=x.device),
    )

    def step() -> float:
        _look(cancelled)
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
    for number, some in enumerate(order[:500].split(100)):
        _look(cancelled)
        x, y = _some(train, some, _device(model))
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


def _some(split: data.Split, chosen: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    return split.pixels(chosen).to(device), split.labels[chosen].to(device)


# ------------------------------------------------------------------------------------------------------- kept warm


def _run(request: Request) -> Any:
    return RunStore(Path(request["store"])).open(request["run"])


def _model(request: Request) -> tuple[nn.Module, RunConfig]:
    run = _run(request)
    return _network(str(run.folder), int(request["epoch"]), request.get("stamp") or run.modified), run.config


@lru_cache(maxsize=4)
def _network(folder: str, epoch: int, stamp: Any) -> nn.Module:
    return network(Run(Path(folder)), epoch, choose("auto"))


_loaded: OrderedDict[str, data.DataSet] = OrderedDict()
_LOADED = 2  # data sets: sessions take turns, and two that look at different ones must not read them anew each time


def _data(settings: Data) -> data.DataSet:
    """The data set on the CPU, kept while it is among the last that were asked for."""
    key = settings.model_dump_json()
    if key not in _loaded:
        while len(_loaded) >= _LOADED:
            _loaded.popitem(last=False)
        _loaded[key] = data.load(settings)
    _loaded.move_to_end(key)
    return _loaded[key]


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _look(cancelled: Cancelled) -> None:
    if cancelled():
        raise Replaced


def _packed(path: Trajectory) -> Answer:
    return unpack(path.to_bytes())
