"""What an attack may change, as settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dynat_core.config.base import Number, Settings

MOST_EPS = 100_000  # pixels, in L2: further than any two images are apart


class Linf(Settings):
    """Each pixel may change by at most eps."""

    norm: Literal["linf"] = "linf"
    eps: Number = Field(
        default=0.3, ge=0, le=1, description="radius in pixels of [0, 1]; a fraction such as 8/255 may be typed"
    )


class L2(Settings):
    """The change as a whole may have Euclidean length at most eps."""

    norm: Literal["l2"] = "l2"
    eps: Number = Field(
        default=0.5, ge=0, le=MOST_EPS, description="radius in pixels of [0, 1], Euclidean; a fraction may be typed"
    )


Threat = Annotated[Linf | L2, Field(discriminator="norm")]


def threat_of(norm: Literal["linf", "l2"], eps: float) -> Threat:
    """The threat of a norm and a radius in pixels."""
    return Linf(eps=eps) if norm == "linf" else L2(eps=eps)
