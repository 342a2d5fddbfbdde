"""The recorded path of an attack on one image or on several: plain arrays, no torch, so that screens can draw them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from dynat_core.recorded.packing import pack, unpack

CURVES = ("loss", "margin", "fosc", "fosc_paper", "relative_fosc", "gradient_l1")


def unit_of(loss: str) -> str:
    """The unit of a loss that an attack climbs, and of FOSC: nats of cross-entropy, or logits of a margin."""
    return "nats" if loss == "ce" else "logits"


@dataclass(frozen=True)
class Trajectory:
    """One image and the K+1 points of an attack on it: 0 is where the attack started, K where it ended.

    x: (C,H,W) clean image in [low, high]. z, grad: (K+1,C,H,W) points and per-sample loss gradients there.
    logits: (K+1,classes). loss (see `unit`), margin (true logit minus best other, > 0 is correct), fosc (box form, loss
    units), fosc_paper, relative_fosc (box form, no unit), gradient_l1: (K+1,). Everything float32. settings: what was
    asked: eps, norm, alpha, steps, loss, start, low, high, and for display run, epoch, classes.
    """

    index: int
    label: int
    x: np.ndarray
    z: np.ndarray
    grad: np.ndarray
    logits: np.ndarray
    loss: np.ndarray
    margin: np.ndarray
    fosc: np.ndarray
    fosc_paper: np.ndarray
    relative_fosc: np.ndarray
    gradient_l1: np.ndarray
    settings: Mapping[str, Any]

    @property
    def steps(self) -> int:
        """K, the number of updates on the path."""
        return len(self.z) - 1

    @property
    def reach(self) -> np.ndarray:
        """eps times the gradient's norm, (K+1,), in loss units: what a straight line promises from the middle of the
        ball. The norm is the one dual to the threat's, L1 for L-inf and Euclidean for L2 (Wang et al. 2019, FOSC)."""
        eps = float(self.settings["eps"])
        if self.settings["norm"] == "linf":
            return eps * self.gradient_l1.astype(np.float64)
        return eps * np.linalg.norm(self.grad.reshape(len(self.z), -1).astype(np.float64), axis=1)

    @property
    def unit(self) -> str:
        """The unit of loss and FOSC."""
        return unit_of(self.settings.get("loss", "ce"))

    @property
    def delta(self) -> np.ndarray:
        """z - x, (K+1,C,H,W), in pixels."""
        return self.z - self.x

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, (K+1, classes)."""
        shifted = np.exp(self.logits - self.logits.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)

    @property
    def predicted(self) -> np.ndarray:
        """(K+1,) the class the model says at each point."""
        return self.logits.argmax(axis=-1)

    @property
    def steps_to_fool(self) -> int | None:
        """The first point at which the model is wrong (0: already at the start), or None."""
        wrong = np.flatnonzero(self.predicted != self.label)
        return int(wrong[0]) if len(wrong) else None

    def fosc_map(self) -> np.ndarray:
        """Box FOSC per pixel, (K+1,H,W), summed over channels; each map adds up to `fosc` (L-inf only).

        Raises ValueError for L2, whose FOSC does not split into pixels.
        Source: the exact form for X = eps-ball cut with the box; every term is non-negative.
        """
        if self.settings["norm"] != "linf":
            raise ValueError("only the L-inf FOSC is a sum over pixels")
        low, high, eps = self.settings["low"], self.settings["high"], self.settings["eps"]
        below, above = np.maximum(self.x - eps, low), np.minimum(self.x + eps, high)
        return np.where(self.grad > 0, self.grad * (above - self.z), self.grad * (below - self.z)).sum(axis=1)

    def to_bytes(self) -> bytes:
        """The trajectory as one blob (see `packing`)."""
        header = {"index": self.index, "label": self.label, "settings": dict(self.settings)}
        return pack(header, {f.name: getattr(self, f.name) for f in fields(self) if f.name not in header})

    @classmethod
    def from_bytes(cls, blob: bytes) -> Trajectory:
        """The trajectory in a blob. Raises ValueError if it is damaged or lacks a part."""
        header, arrays = unpack(blob)
        try:
            return cls(index=header["index"], label=header["label"], settings=header["settings"], **arrays)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a trajectory: {error}") from error


@dataclass(frozen=True)
class Trajectories:
    """The paths of n images under the same attack: the fields of `Trajectory`, each with a leading axis n.

    index, label: (n,) int32.
    """

    index: np.ndarray
    label: np.ndarray
    x: np.ndarray
    z: np.ndarray
    grad: np.ndarray
    logits: np.ndarray
    loss: np.ndarray
    margin: np.ndarray
    fosc: np.ndarray
    fosc_paper: np.ndarray
    relative_fosc: np.ndarray
    gradient_l1: np.ndarray
    settings: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.index)

    def one(self, place: int) -> Trajectory:
        """The trajectory at position `place` (not: with that image index)."""
        parts = {f.name: getattr(self, f.name)[place] for f in fields(self) if f.name != "settings"}
        parts["index"], parts["label"] = int(parts["index"]), int(parts["label"])
        return Trajectory(**parts, settings=self.settings)

    def labelled(self, **settings: Any) -> Trajectories:
        """The same paths with further settings for display, such as run and epoch."""
        return replace(self, settings={**self.settings, **settings})

    @classmethod
    def joined(cls, parts: list[Trajectories]) -> Trajectories:
        """The parts one after another; their settings must be those of the first."""
        names = [f.name for f in fields(cls) if f.name != "settings"]
        return cls(
            **{name: np.concatenate([getattr(p, name) for p in parts]) for name in names}, settings=parts[0].settings
        )
