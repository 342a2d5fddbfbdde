"""The path of an attack on one image, and the loss around it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dynat_core.attack.attacks import LOSSES, cross_entropy, in_eval_mode, margin
from dynat_core.attack.threat import inner
from dynat_core.errors import RunError
from dynat_core.recorded.packing import unpack
from dynat_core.recorded.trajectories import Trajectory
from dynat_core.training.evaluate import ball_of, paths
from dynat_core.work.analysis import Answer, Cancelled, Request, Said, look
from dynat_core.work.helper_memory import data_of, model_of
from dynat_core.work.loading import device_of


def trajectory(request: Request, cancelled: Cancelled, said: Said) -> Answer:
    """The whole PGD path on one test image of a run's kept checkpoint.

    request: store, run, epoch, index, and optionally steps, alpha (pixels or "eps/4"), loss ("ce" | "margin"), start
    ("random" | "clean"), seed. Returns a packed `Trajectory`. Raises RunError for an image or checkpoint that is not
    there.
    """
    return unpack(_attacked_path(request, cancelled, said).to_bytes())


def loss_slice(request: Request, cancelled: Cancelled, said: Said) -> Answer:
    """The loss on a plane through the clean image, the end of the path and its first step.

    Axis 1 is z_K - x, axis 2 the part of z_1 - x orthogonal to it, each scaled to length eps in the threat's norm.
    request: as for `trajectory`, and resolution (default 41). Returns loss, margin (r, r) with rows along axis 2, axis
    (r,) and path (K+1, 2), in units of eps: the path is projected onto the plane.
    """
    path = _attacked_path(request, cancelled, said)
    model, config = model_of(request)
    ball = ball_of(config.threat, torch.from_numpy(path.x)[None])
    first, second = _plane(torch.from_numpy(path.delta), config.threat.eps, config.threat.norm)
    resolution = int(request.get("resolution", 41))
    axis, clean = torch.linspace(-1.25, 1.25, resolution), torch.from_numpy(path.x)
    losses, margins = [], []
    with in_eval_mode(model), torch.no_grad():
        for row, up in enumerate(axis):
            look(cancelled)
            points = clean + axis.view(-1, 1, 1, 1) * first + up * second
            logits = model(points.clamp(ball.low, ball.high).to(device_of(model)))
            label = torch.full((resolution,), path.label, device=logits.device)
            losses.append(cross_entropy(logits, label).cpu())
            margins.append(margin(logits, label).cpu())
            said((row + 1) / resolution)
    delta = torch.from_numpy(path.delta)
    steps = torch.stack([_along(delta, first), _along(delta, second)], dim=1)
    header = {"index": path.index, "label": path.label, "settings": dict(path.settings)}
    arrays = {"loss": torch.stack(losses), "margin": torch.stack(margins), "axis": axis, "path": steps}
    return header, {name: value.numpy().astype(np.float32) for name, value in arrays.items()}


def _attacked_path(request: Request, cancelled: Cancelled, said: Said) -> Trajectory:
    model, config = model_of(request)
    test = data_of(config.data).test
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
        look(cancelled)
        said(next(done) / (steps + 1))
        return LOSSES[loss](logits, y)

    found = paths(
        model,
        test[place].to(device_of(model)),
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
