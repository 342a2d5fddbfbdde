"""What is asked of a measurement on a finished network: one frozen schema for each kind, behind form and command line.

Left empty, eps and norm are those the network was trained for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from dynat_core.config import MOST_EPS, Number, RunConfig, Settings, Threat, Whole
from dynat_core.errors import ConfigError, shown
from dynat_core.refusals import sentence


def _epoch(value: Any) -> Any:
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) else value
    if number not in ("best", "last") and (type(number) is not int or number < 0):
        raise ValueError("must be best, last or the number of an epoch")
    return number


class Measured(Settings):
    """What all kinds share."""

    epoch: Annotated[int | Literal["best", "last"], BeforeValidator(_epoch)] = Field(
        default="best", description="whose weights: a number, best or last"
    )
    n: Whole = Field(default=1000, ge=1, le=1_000_000, description="test images, classes in proportion")
    eps: Number | None = Field(
        default=None, gt=0, le=MOST_EPS, description="radius in pixels; the network's own if empty"
    )
    norm: Literal["linf", "l2"] | None = Field(default=None, description="the network's own if empty")
    seed: Whole = Field(default=0, ge=0, le=2**31 - 1, description="decides random starts")
    images: tuple[Annotated[Whole, Field(ge=0)], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=100_000,
        description="these test images instead of a stratified choice of n",
    )

    @model_validator(mode="after")
    def _fits(self) -> Measured:
        if self.norm == "linf" and self.eps is not None and self.eps > 1:
            raise ValueError(f"eps must be 1 or less where norm is linf (got {self.eps:g})")
        return self


class Check(Measured):
    """Did the attack converge, do restarts agree, is something masked? (`diagnose`)."""

    kind: Literal["check"] = "check"
    n: Whole = Field(default=256, ge=1, le=100_000, description="test images, classes in proportion")
    steps: Whole = Field(default=50, ge=3, le=5000, description="PGD steps on the margin loss")
    restarts: Whole = Field(default=5, ge=1, le=100, description="random starts")
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
    n: Whole = Field(default=200, ge=1, le=100_000, description="test images, classes in proportion")


class Transfer(Measured):
    """Examples made on one network, shown to another; for every pair."""

    kind: Literal["transfer"] = "transfer"
    n: Whole = Field(default=500, ge=1, le=100_000, description="test images, classes in proportion")
    others: tuple[str, ...] = Field(min_length=1, max_length=20, description="the other runs, each at its best epoch")
    steps: Whole = Field(default=20, ge=1, le=1000, description="PGD steps, step size eps/4")


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


def measured_threat(config: RunConfig, settings: Measured) -> Threat:
    """What may change in a measurement on a network of `config`: the radius and norm asked for, or the network's own.

    Raises ConfigError where the two together are nothing that can be measured.
    """
    changes: dict[str, Any] = {"threat.norm": settings.norm} if settings.norm else {}
    changes |= {"threat.eps": settings.eps} if settings.eps else {}
    threat = config.with_values(changes).threat if changes else config.threat
    if threat.eps == 0:
        raise ConfigError("The network's own eps is 0, where there is nothing to attack; give another, such as 8/255.")
    return threat


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
