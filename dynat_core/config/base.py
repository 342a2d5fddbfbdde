"""What all settings share, and how numbers and sizes are typed."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticKnownError


class Settings(BaseModel):
    """Frozen, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def parse_number(value: Any) -> Any:
    """`"8/255"` -> 0.03137...; anything that is not a fraction in text is returned as it is, for pydantic to judge."""
    if isinstance(value, str) and len(value) <= 100:
        text = value.replace(" ", "")
        try:  # only what has a slash is a Fraction: of 1e999999999 it would write out all the digits
            return float(Fraction(text)) if "/" in text else float(text)
        except (ValueError, ZeroDivisionError, OverflowError):
            return value
    return value


def describe_eps(eps: float) -> str:
    """A pixel size in both units, `8/255 (0.0314)`; a size that is no simple part of 255 reads `0.0310 (7.91/255)`."""
    steps = eps * 255
    if abs(steps - round(steps)) < 1e-6 and round(steps) != 0:
        return f"{round(steps)}/255 ({eps:.4g})"
    return f"{eps:.4g} ({steps:.4g}/255)"


def _number(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would take a switch for 0 or 1
        raise PydanticKnownError("float_type")
    return parse_number(value)


def _whole(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticKnownError("int_type")
    return value


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]

_OF_EPS = re.compile(r"^eps(?:/(?P<over>[0-9.]+))?$")


def _parse_step_size(value: Any) -> Any:
    if isinstance(value, str):
        text = value.replace(" ", "")
        found = _OF_EPS.match(text)
        if found:
            over = found["over"]
            if over is not None and (over.count(".") > 1 or over == "." or float(over) <= 0):
                raise ValueError('must be a size in pixels above 0, such as 2/255, or a part of eps, such as "eps/4"')
            return text
        value = parse_number(text)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError('must be a size in pixels above 0, such as 2/255, or a part of eps, such as "eps/4"')
    return float(value)


StepSize = Annotated[float | str, BeforeValidator(_parse_step_size)]


def step_size(alpha: float | str, eps: float) -> float:
    """A step size in pixels: `"eps/4"` is resolved with `eps`, a number is itself."""
    if isinstance(alpha, str):
        over = alpha.partition("/")[2]
        return eps / float(over) if over else eps
    return alpha
