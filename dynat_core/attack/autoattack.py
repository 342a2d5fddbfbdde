"""AutoAttack standard through pyautoattack, the authors' own code: four attacks that leave nothing to be tuned.

The package is optional (`requirements-attack.txt`). It is kept from what a library should not do to its caller: it
writes no file, its random numbers, trace function and log handlers are its own, and parameters get no gradient.
Source: Croce and Hein 2020.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util

import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import in_eval_mode
from dynat_core.attack.threat import Ball, Norm
from dynat_core.errors import DynatError

PARTS = ("apgd-ce", "apgd-t", "fab-t", "square")  # the standard version, in its order
COST = {"apgd-ce": 100, "apgd-t": 900, "fab-t": 1300, "square": 1700}  # gradients on an image that stands, roughly
INSTALL = (
    'AutoAttack needs pyautoattack, which is not installed: run "python -m pip install -r requirements-attack.txt"'
)
_TARGETS = 9  # other classes that the standard version aims at, where there are that many
_DLR_CLASSES = 4  # the targeted DLR loss is divided by a difference that takes four logits


class AutoAttackError(DynatError):
    """AutoAttack was asked for and is not there, or cannot run on this model."""


@dataclass(frozen=True)
class AutoAttacked:
    """z: (n, ...) adversarial points inside the ball, the clean image where nothing was found. gradients: what they
    cost, summed over the images; forward passes count nothing. warnings: the package's own words, each once."""

    z: Tensor
    gradients: int
    warnings: tuple[str, ...]


def available() -> str | None:
    """The version of pyautoattack, None where it is not installed."""
    if util.find_spec("pyautoattack") is None:
        return None
    return metadata.version("pyautoattack")


def standard(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    norm: Norm = "linf",
    seed: int = 0,
    *,
    parts: tuple[str, ...] = PARTS,
    batch: int = 250,
) -> AutoAttacked:
    """Run AutoAttack standard, or some of its `parts`, on images that the model classifies correctly.

    x: (n, C, H, W) float32 in [0, 1]; y: (n,) int64. Each part starts from `seed` and gets the images that the parts
    before it left, so parts run one by one with the same seed find what they find together. A network with fewer than
    ten classes is attacked towards all it has; with fewer than four the targeted DLR loss does not exist and apgd-t is
    left out (a warning says so). Raises AutoAttackError if the package is not installed.
    """
    if available() is None:
        raise AutoAttackError(f"{INSTALL}.")
    from pyautoattack import AutoAttack

    if len(x) == 0:
        return AutoAttacked(x.clone(), 0, ())
    counted = _Counted(model)
    with in_eval_mode(model), _without_traces(model, x.device) as said, torch.enable_grad():
        attack = AutoAttack(
            counted, norm="Linf" if norm == "linf" else "L2", eps=eps, seed=seed, version="standard", device=x.device
        )
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        targets = min(_TARGETS, classes - 1)
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
        attack.attacks_to_run = [part for part in parts if part != "apgd-t" or classes >= _DLR_CLASSES]
        if "apgd-t" in parts and classes < _DLR_CLASSES:
            said.append(f"apgd-t is left out: the targeted DLR loss takes {_DLR_CLASSES} classes (there are {classes})")
        found, _ = attack.run_standard_evaluation(x, y, batch_size=batch)
    z = Ball(x, eps, norm).project(found.detach())  # its points may leave the ball by rounding
    return AutoAttacked(z, counted.gradients, tuple(dict.fromkeys(said)))


class _Counted(nn.Module):
    """The model, counting the images whose gradient is asked for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.gradients = model, 0
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            self.gradients += len(x)
        return self.model(x)


class _Words(logging.Handler):
    """Puts what is logged into a list."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextlib.contextmanager
def _without_traces(model: nn.Module, device: torch.device) -> Iterator[list[str]]:
    """Collect everything that is logged, warned or printed; afterwards the process is as it was before."""
    from pyautoattack import checks

    said: list[str] = []
    logger, handler, printed = logging.getLogger("auto-attack"), _Words(said), io.StringIO()
    trace, learning = sys.gettrace(), [p for p in model.parameters() if p.requires_grad]
    level, propagate = logger.level, logger.propagate
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))  # its search for dynamic defences counts over a whole process
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    for parameter in learning:  # FAB calls backward, which would leave gradients in the parameters
        parameter.requires_grad_(False)
    try:
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            warnings.catch_warnings(record=True) as warned,
            contextlib.redirect_stdout(printed),
        ):
            warnings.simplefilter("always")
            yield said
        said += [str(entry.message) for entry in warned]
        said += [line.strip() for line in printed.getvalue().splitlines() if line.strip()]
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
        sys.settrace(trace)
