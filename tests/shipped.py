"""The digits network of a shipped run, and test images."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from dynat_core.config import Digits
from dynat_core.images import data
from dynat_core.networks import models

STORE = Path(__file__).parents[1] / "checkpoints"
EPS = 0.15  # what the shipped run was trained for


@cache
def digits(n: int) -> tuple[Tensor, Tensor]:
    """The first n test images (n, 1, 8, 8) and labels (n,)."""
    test = data.load(Digits()).test
    return test.pixels(slice(0, n)), test.labels[:n]


@cache
def shipped(run: str = "demo-digits-standard") -> nn.Module:
    """The network of a shipped digits run at its last epoch; its weights are kept in float16."""
    net = models.digits_cnn()
    net.load_state_dict(load_file(STORE / run / "weights" / "0030.safetensors"))
    return net.float().eval()
