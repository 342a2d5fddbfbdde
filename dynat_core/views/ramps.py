"""Colour ramps of pictures: what a byte of an image array is drawn as, here and in the browser."""

from __future__ import annotations

import numpy as np

# Anchors at equal distances from byte 0 to byte 255; colours between them are mixed linearly.
RAMPS: dict[str, tuple[str, ...]] = {
    "grey": ("#000000", "#ffffff"),
    # ColorBrewer's PRGn: told apart with any colour vision, and unlike the colours of the strategies.
    "signed": ("#40004b", "#762a83", "#9970ab", "#c2a5cf", "#f7f7f7", "#a6dba0", "#5aae61", "#1b7837", "#00441b"),
    # After cividis (Nunez, Anderton and Renslow 2018): rises evenly in lightness.
    "amount": ("#00224e", "#2a3f6d", "#575c6e", "#7d7c78", "#a59c74", "#d2c060", "#fee838"),
}


def table(name: str) -> np.ndarray:
    """Return the ramp as (256, 3) uint8."""
    anchors = np.array([[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in RAMPS[name]], dtype=np.float64)
    at = np.linspace(0, len(anchors) - 1, 256)
    return (
        np.stack([np.interp(at, np.arange(len(anchors)), anchors[:, k]) for k in range(3)], axis=1)
        .round()
        .astype(np.uint8)
    )


def to_bytes(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values -> uint8, `low` to 0 and `high` to 255; NaN goes to 0."""
    scaled = (np.nan_to_num(values, nan=low) - low) / ((high - low) or 1.0)
    return (np.clip(scaled, 0, 1) * 255).round().astype(np.uint8)
