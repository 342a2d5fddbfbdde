"""What is asked of a measurement on a finished network: one frozen schema for each kind, behind form and command line.

Left empty, eps and norm are those the network was trained for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from dynat_core.config import Number, Settings
from dynat_core.errors import ConfigError, shown
from dynat_core.refusals import sentence


class Measured(Settings):
    """What all kinds share."""

    epoch: int | Literal["best", "last"] = Field(default="best", description="whose weights: a number, best or last")
    n: int = Field(default=1000, ge=1, le=1_000_000, description="test images, classes in proportion")
    eps: Number | None = Field(default=None, gt=0, description="radius in pixels; the network's own if empty")
    norm: Literal["linf", "l2"] | None = Field(default=None, description="the network's own if empty")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="decides random starts")
    images: tuple[int, ...] | None = Field(
        default=None, max_length=100_000, description="these test images instead of a stratified choice of n"
    )


class Check(Measured):
    """Did the attack converge, do restarts agree, is something masked? (`diagnose`)."""

    kind: Literal["check"] = "check"
    n: int = Field(default=256, ge=1, le=100_000, description="test images, classes in proportion")
    steps: int = Field(default=50, ge=3, le=5000, description="PGD steps on the margin loss")
    restarts: int = Field(default=5, ge=1, le=100, description="random starts")
    overridden: tuple[str, ...] = Field(
        default=(), max_length=30, description="findings of the checks before the attack that are known and accepted"
    )


class Again(Measured):
    """One next action after a check, on the images that it is about, compared with before image by image."""

    kind: Literal["again"] = "again"
    after: str = Field(description="the check that it goes on from")
    action: Literal["more steps", "smaller steps", "more restarts", "random search"] = Field(
        description="what is done differently"
    )


class Ladder(Measured):
    """Every attack from none to AutoAttack, and the worst case over all of them."""

    kind: Literal["ladder"] = "ladder"
    autoattack: bool = Field(default=True, description="with AutoAttack, where pyautoattack is installed")
    restarts: bool = Field(default=True, description="with the attacks of ten restarts on what the others left")


class Curves(Measured):
    """Accuracy against steps, restarts, step size and eps, and what else a reviewer asks for."""

    kind: Literal["curves"] = "curves"
    n: int = Field(default=200, ge=1, le=100_000, description="test images, classes in proportion")


class Transfer(Measured):
    """Examples made on one network, shown to another; for every pair."""

    kind: Literal["transfer"] = "transfer"
    n: int = Field(default=500, ge=1, le=100_000, description="test images, classes in proportion")
    others: tuple[str, ...] = Field(min_length=1, max_length=20, description="the other runs, each at its best epoch")
    steps: int = Field(default=20, ge=1, le=1000, description="PGD steps, step size eps/4")


KINDS: dict[str, type[Measured]] = {
    "check": Check, "again": Again, "ladder": Ladder, "curves": Curves, "transfer": Transfer,
}  # fmt: skip


def build(values: Any) -> Check | Again | Ladder | Curves | Transfer:
    """Settings from a dict with its `kind`. Raises ConfigError with one sentence."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"The settings of an evaluation must be a group of settings (got {shown(values)}).")
    kind = KINDS.get(str(values.get("kind")))
    if kind is None:
        raise ConfigError(
            f"There is no evaluation of kind {str(values.get('kind'))[:40]!r}; there is {', '.join(KINDS)}."
        )
    try:
        return kind.model_validate(values)  # type: ignore[return-value]
    except ValidationError as error:
        raise ConfigError(sentence(error, kind, {}, {})) from error


def asked(kind: str, changes: Mapping[str, str]) -> Check | Again | Ladder | Curves | Transfer:
    """Settings of a kind with values typed as text, `{"eps": "8/255", "others": "a,b"}`. Raises ConfigError."""
    known = KINDS.get(kind)
    values: dict[str, Any] = {"kind": kind}
    for key, text in changes.items():
        field = known.model_fields.get(key) if known else None
        several = field is not None and "tuple" in str(field.annotation)
        listed = several and not text.lstrip().startswith("[")  # else JSON, which is taken too
        values[key] = [part.strip() for part in text.split(",")] if listed else _read(text)
    return build(values)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or more digits than Python reads
        return text
