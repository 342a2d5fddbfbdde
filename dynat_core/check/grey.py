"""Which images a wide set is sure to fool: those from which it reaches the plain grey image, called another class.

One point that everybody shares settles it without an attack. What the model calls as it calls plain grey may truly
stand at any radius, so it says nothing about an attack that leaves it standing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import in_eval_mode
from dynat_core.attack.threat import Norm, euclidean

GREY = 0.5


def sure_to_fall(model: nn.Module, x: Tensor, y: Tensor, eps: float, norm: Norm) -> Tensor:
    """(n,) bool: plain grey lies within `eps` of the image and the model gives it another class than `y`.

    x: (n, C, H, W) in [0, 1]; y: (n,).
    """
    grey = torch.full_like(x[:1], GREY)
    away = (x - grey).flatten(1)
    far = away.abs().amax(1) if norm == "linf" else euclidean(away)
    with in_eval_mode(model), torch.no_grad():
        called = model(grey).argmax(1)
    return (far <= eps + 1e-6) & (called.to(y.device) != y)
