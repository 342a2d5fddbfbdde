"""The set an attack may reach: an eps-ball around each clean image, cut with the pixel box."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2"]
_BISECTIONS = 60  # halves the bracket of the multiplier's logarithm, at most 1,500 wide, below float64 resolution


def inner(a: Tensor, b: Tensor) -> Tensor:
    """(n,) inner products of two (n, ...) tensors, sample by sample."""
    return (a * b).flatten(1).sum(1)


def euclidean(a: Tensor) -> Tensor:
    """(n,) Euclidean lengths of an (n, ...) tensor, also where the squares would be too small or too large to hold: a
    confident network's gradients of cross-entropy are."""
    peak, level = _levelled(a)
    return peak * level.flatten(1).norm(dim=1)


def _levelled(a: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) the largest entry of each sample, and the samples (n, ...) divided by it."""
    peak = a.flatten(1).abs().amax(1)
    return peak, a / _per_sample(torch.where(peak > 0, peak, torch.ones_like(peak)), a)


def _per_sample(value: Tensor, like: Tensor) -> Tensor:
    """(n,) -> (n, 1, ..., 1), to multiply with `like`."""
    return value.view(-1, *[1] * (like.dim() - 1))


@dataclass(frozen=True)
class Ball:
    """The points within `eps` of `x` in `norm`, and inside the pixel box [low, high].

    x: (n, ...) clean images, inside the box. eps: radius in pixels, at least 0. Every method works sample by sample.
    """

    x: Tensor
    eps: float
    norm: Norm = "linf"
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise ValueError(f"norm must be linf or l2 (got {self.norm})")
        if not 0 <= self.eps < float("inf"):
            raise ValueError(f"eps must be a radius of 0 or more (got {self.eps})")
        if not self.low < self.high:
            raise ValueError(f"the pixel box must have low < high (got {self.low}, {self.high})")

    def __getitem__(self, keep: Tensor | slice) -> Ball:
        """The same ball for some of the samples: `keep` is a mask or indices."""
        return replace(self, x=self.x[keep])

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def faces(self) -> tuple[Tensor, Tensor]:
        """(l, u), each (n, ...): the lowest and highest value of each pixel, L-inf only. Computed once; not to be
        changed."""
        return (self.x - self.eps).clamp_(min=self.low), (self.x + self.eps).clamp_(max=self.high)

    def project(self, z: Tensor) -> Tensor:
        """(n, ...) the point of the set nearest to `z` (L-inf), or `z` pulled radially into the ball, then cut with the
        box (L2: inside both, as attacks usually do; not the Euclidean projection onto the intersection)."""
        if self.norm == "linf":
            return torch.clamp(z, *self.faces)
        delta = z - self.x
        length = delta.flatten(1).norm(dim=1).clamp(min=torch.finfo(z.dtype).tiny)
        inside = self.x + delta * _per_sample((self.eps / length).clamp(max=1.0), z)
        return inside.clamp(self.low, self.high)  # moves each pixel towards x, so it stays in the ball

    def random_point(self, generator: torch.Generator | None = None) -> Tensor:
        """(n, ...) a uniform point of the ball, cut with the box."""
        if self.norm == "linf":
            noise = torch.rand(self.x.shape, generator=generator, dtype=self.x.dtype, device=self.x.device)
            return self.project(self.x + self.eps * (2 * noise - 1))
        way = torch.randn(self.x.shape, generator=generator, dtype=self.x.dtype, device=self.x.device)
        radius = torch.rand(len(self.x), generator=generator, dtype=self.x.dtype, device=self.x.device)
        size = self.x[0].numel() if len(self.x) else 1
        length = way.flatten(1).norm(dim=1).clamp(min=torch.finfo(way.dtype).tiny)
        return self.project(self.x + way * _per_sample(self.eps * radius ** (1 / size) / length, way))

    def noise(self, generator: torch.Generator | None = None) -> Tensor:
        """(n, ...) standard normal numbers, one a pixel."""
        return torch.randn(self.x.shape, generator=generator, dtype=self.x.dtype, device=self.x.device)

    def steepest_step(self, grad: Tensor) -> Tensor:
        """(n, ...) the direction of unit norm that raises a linear loss fastest: sign(g), or g / ||g||_2; 0 where g is
        0."""
        if self.norm == "linf":
            return grad.sign()
        _, level = _levelled(grad)
        length = level.flatten(1).norm(dim=1)
        return level / _per_sample(torch.where(length > 0, length, torch.ones_like(length)), grad)

    def linear_max(self, grad: Tensor) -> Tensor:
        """(n,) max of <grad, point> over the set, exact for both norms.

        L-inf: each pixel on its own face. L2 with the box: the maximiser is clip(x + grad / lam, box) for the
        multiplier lam at which it touches the ball; found by bisection on log lam (no closed form exists).
        """
        if self.norm == "linf":
            low, high = self.faces
            return torch.where(grad > 0, grad * high, grad * low).flatten(1).sum(1)
        return inner(grad, self._l2_corner(grad))

    def contains(self, z: Tensor, tolerance: float = 1e-6) -> Tensor:
        """(n,) whether each `z` lies in the set, up to `tolerance` pixels."""
        delta = (z - self.x).flatten(1)
        reach = delta.abs().amax(1) if self.norm == "linf" else delta.norm(dim=1)
        flat = z.flatten(1)
        in_box = (flat >= self.low - tolerance).all(1) & (flat <= self.high + tolerance).all(1)
        return (reach <= self.eps + tolerance) & in_box

    def _l2_corner(self, grad: Tensor) -> Tensor:
        """(n, ...) the point of ball and box where <grad, point> is largest."""
        unit = self.steepest_step(grad)
        # the furthest any pixel can usefully go along the gradient is the box's far side
        far = torch.where(grad > 0, self.high - self.x, torch.where(grad < 0, self.low - self.x, 0.0))
        reach = far.flatten(1).norm(dim=1) <= self.eps  # the box's own corner lies inside the ball
        # eps along the gradient never leaves the ball, and where a pixel hardly has a slope it takes very much more
        below = torch.full((len(self.x),), self.eps, dtype=grad.dtype, device=grad.device)
        speed = torch.where(unit != 0, (far / torch.where(unit != 0, unit, 1.0)), 0.0)
        most = torch.finfo(grad.dtype).max
        above = torch.maximum(speed.flatten(1).amax(1).clamp(max=most), below)
        for _ in range(_BISECTIONS):
            middle = below.sqrt() * above.sqrt()
            delta = (self.x + _per_sample(middle, unit) * unit).clamp(self.low, self.high) - self.x
            inside = delta.flatten(1).norm(dim=1) <= self.eps
            below, above = torch.where(inside, middle, below), torch.where(inside, above, middle)
        touching = (self.x + _per_sample(below, unit) * unit).clamp(self.low, self.high)
        return torch.where(_per_sample(reach, unit), self.x + far, touching)
