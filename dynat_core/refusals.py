"""What is wrong with settings, in one sentence that names the field and what is allowed."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from dynat_core.errors import shown

Unions = Mapping[str, tuple[str, Mapping[str, type[BaseModel]]]]  # field -> (tag, value of the tag -> settings class)
Groups = Mapping[str, type[BaseModel]]  # field -> its settings class

_RULES = {
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be {le} or less",
    "less_than": "must be below {lt}",
    "literal_error": "must be one of {expected}",
    "finite_number": "must be a finite number",
    "missing": "is missing",
    "string_too_long": "must have at most {max_length} characters",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number of at most 4,300 digits",
    "float_parsing": "must be a number or a fraction such as 8/255",
    "float_type": "must be a number or a fraction such as 8/255",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "model_type": "must be a group of settings",
    "model_attributes_type": "must be a group of settings",
    "string_type": "must be text",
    "too_short": "must name at least {min_length}",
    "too_long": "must name at most {max_length}",
    "tuple_type": "must be a list such as [20, 40]",
}
_BETWEEN_FIELDS = ("strategy.", "model.")  # rules about two groups name their field themselves
_SIZES = ("train_size", "test_size", "validation_size")


def sentence(error: ValidationError, root: type[BaseModel], unions: Unions, groups: Groups) -> str:
    """The first thing wrong. unions, groups: the fields of `root` that are unions, or groups of one kind."""
    first = error.errors(include_url=False)[0]
    place = _dotted(first["loc"], unions)
    kind, context, given = first["type"], first.get("ctx", {}), first.get("input")
    got = f" (got {_short(given)})"
    if kind == "extra_forbidden":
        prefix, _, name = place.rpartition(".")
        return unknown(place, name, _siblings(first["loc"], root, unions, groups), prefix + "." * bool(prefix))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag, kinds = unions[place]
        asked = f" (got {_short(given.get(tag))})" if isinstance(given, dict) else got
        return f"{place}.{tag} must be one of {', '.join(kinds)}{asked}."
    if kind == "value_error":
        why = str(context["error"])
        if why.startswith(_BETWEEN_FIELDS) or not place:
            return f"{why}."
        return f"{place}.{why}." if why.startswith(_SIZES) else f"{place} {why}{got}."
    rule = _RULES.get(kind)
    message = first["msg"][:1].lower() + first["msg"][1:]
    words = rule.format(**{k: _plain(v) for k, v in context.items()}) if rule else message
    return f"{place or 'settings'} {words}{'' if kind == 'missing' else got}."


def unknown(key: str, name: str, known: list[str], prefix: str) -> str:
    """That `key` is no setting, with the nearest one, or all there are beside it."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {prefix}{near[0]}?" if near else f"there is {', '.join(prefix + k for k in known)}."
    return f"{_short(key)} is not a setting; {hint}"


def _dotted(loc: tuple[int | str, ...], unions: Unions) -> str:
    """The field's dotted key: pydantic also lists the kind of a union, and how it tried to read a value."""
    parts = [str(p) for p in loc]
    if len(parts) > 1 and parts[0] in unions and parts[1] in unions[parts[0]][1]:
        del parts[1]
    return ".".join(p for p in parts if p not in ("float", "str") and not p.startswith("function-"))


def _siblings(loc: tuple[int | str, ...], root: type[BaseModel], unions: Unions, groups: Groups) -> list[str]:
    group = str(loc[0])
    if len(loc) > 1 and group in unions and loc[1] in unions[group][1]:
        return list(unions[group][1][str(loc[1])].model_fields)
    return list((groups.get(group, root) if len(loc) > 1 else root).model_fields)


def _short(value: Any) -> str:
    try:
        return shown(value if isinstance(value, str) else json.dumps(value, default=str))
    except RecursionError:  # it was read a little further up
        return "a list in a list in a list ..."


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
