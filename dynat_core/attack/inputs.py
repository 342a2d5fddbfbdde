"""What the measurements on a finished network ask of images and radius, judged once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynat_core.attack.threat import Norm


class Cast(nn.Module):
    """`model`, whose weights are in `dtype`, shown images of another. Scores come out in the dtype of the images."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        scores = self.model(x.to(self.dtype))
        return scores.to(x.dtype) if isinstance(scores, Tensor) else scores  # what else it is is judged elsewhere


def for_any_precision(model: nn.Module) -> nn.Module:
    """The model, such that it takes float32 images whatever its weights are in: images rounded to half precision would
    leave the ball, by up to 9 % of its radius in bfloat16."""
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    return Cast(model, dtype) if dtype in (torch.float16, torch.bfloat16, torch.float64) else model


def judged(model: nn.Module, x: Tensor, y: Tensor, eps: float, norm: Norm, batch: int) -> tuple[Tensor, Tensor]:
    """Images (n, C, H, W) as float32 and labels (n,) as int64, on the device of the model's first parameter.

    Raises ValueError without images or a label for each, for pixels outside [0, 1], and for an impossible radius, norm
    or batch.
    """
    device = next((p.device for p in model.parameters()), x.device)
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(f"it takes images and a label for each (got {len(x)} and {len(y)})")
    if not 0 < eps < float("inf"):
        raise ValueError(f"eps must be above 0, such as 0.03 (got {eps})")
    if norm not in ("linf", "l2"):
        raise ValueError(f"norm must be linf or l2 (got {norm})")
    if batch < 1:
        raise ValueError(f"a batch must hold 1 image or more (got {batch})")
    x, y = x.to(device, torch.float32), y.to(device).long()
    if not (x.amin() >= 0 and x.amax() <= 1):
        raise ValueError("images must have their pixels in [0, 1]")
    return x, y
