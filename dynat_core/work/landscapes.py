"""How a checkpoint's loss bends: around its images, and along a line through its weights."""

from __future__ import annotations

import numpy as np
import torch

from dynat_core.attack.attacks import in_eval_mode
from dynat_core.attack.segments import bends
from dynat_core.attack.threat import Ball
from dynat_core.errors import RunError
from dynat_core.training.evaluate import ball_of, generator_for
from dynat_core.training.weight_line import direction_from, probed, random_direction
from dynat_core.work.analysis import Answer, Cancelled, Request, Said, look
from dynat_core.work.helper_memory import data_of, model_of, run_of
from dynat_core.work.loading import device_of, pixels

_LINE = {"reach": 0.01, "places": 30, "count": 50}  # of a weight line, unless asked otherwise


def curvature(request: Request, cancelled: Cancelled, said: Said) -> Answer:
    """How the loss of a run's checkpoint bends along random segments in the balls of its first test images.

    request: store, run, epoch, and optionally share (of eps, the balls' radius; default 1), count (of segments; default
    2000). Returns curvature and straight (count,) as in `segments.bends`, and accuracy on those images, n, eps.
    """
    model, config = model_of(request)
    test = data_of(config.data).test
    count, eps = int(request.get("count", 2000)), config.threat.eps * float(request.get("share", 1))
    chosen = torch.arange(count) % min(len(test), count)
    x, y = pixels(test, device_of(model), chosen)

    def looked(share: float) -> None:
        look(cancelled)
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
    model, config = model_of(request)
    test, device = data_of(config.data).test, device_of(model)
    reach, places, count = (request.get(name, usual) for name, usual in _LINE.items())
    before, apart = None, None
    if request.get("way", "random") == "training":
        run = run_of(request)
        before = max((epoch for epoch in run.kept_epochs() if epoch < int(request["epoch"])), default=None)
        if before is None:
            raise RunError(f"{run.title} kept no epoch before {request['epoch']}; choose the random direction.")
        direction, apart = direction_from(model, model_of({**request, "epoch": before})[0])
    else:
        direction = random_direction(model, generator_for(torch.device("cpu"), config.seed, "weight line"))
    x, y = pixels(test, device, torch.arange(min(int(count), len(test))))

    def looked(share: float) -> None:
        look(cancelled)
        said(share)

    at = torch.linspace(-float(reach), float(reach), int(places) + 1, dtype=torch.float64)
    randomness = generator_for(device, config.seed, "weight line starts")
    found = probed(model, ball_of(config.threat, x), y, direction, at, randomness, looked)
    header = {"n": len(x), "eps": config.threat.eps, "reach": float(reach), "before": before, "apart": apart}
    return header, {name: values.float().cpu().numpy() for name, values in (found | {"at": at[1:]}).items()}
