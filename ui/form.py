"""A form made from the settings classes: what `config.py` knows, one can type here, and nothing is listed twice.

A field's description is its help, a union is a choice that brings its own fields, and what is wrong stands as one
sentence beside its field. Everything typed is kept as text until `RunConfig` has judged it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Literal, get_args, get_origin

import streamlit as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails

from dynat_core.config import (
    NORM_WORDS,
    OPTIMIZER_WORDS,
    STRATEGY_WORDS,
    Recording,
    RunConfig,
    Settings,
    describe_eps,
    step_size,
    union_kinds,
)
from dynat_core.refusals import sentence

UNIONS = ("data", "model", "threat", "strategy", "optimizer")
GROUPS: dict[str, type[Settings]] = {"recording": Recording}
PIXEL_SIZES = ("eps", "alpha")  # shown as parts of 255 and echoed in both units
WORDS = NORM_WORDS | STRATEGY_WORDS | OPTIMIZER_WORDS  # the other kinds are called by their names


class ConfigForm:
    """The settings being typed, kept in the session under `key`, so that they survive a visit to another screen.

    config: the settings if they are whole, else None. problems: {dotted field: sentence}; "" holds what belongs to no
    single field.
    """

    def __init__(self, key: str, start: RunConfig) -> None:
        self._key = key
        if f"{key}.draft" not in st.session_state:
            self.load(start)
        self.read_again()

    # -- what is in it

    def read_again(self) -> None:
        """Take over what is typed by now. A callback has to: it runs before the script, so the form it was given may
        be a moment older than the last field, which is left by the very click on the button."""
        self._keep_what_was_typed()
        self.config, self.problems = judge(self.tree())

    def load(self, config: RunConfig) -> None:
        """Begin again from these settings."""
        round_ = st.session_state.get(f"{self._key}.round", 0) + 1  # new widgets, or the old ones would keep their text
        st.session_state[f"{self._key}.round"] = round_
        st.session_state[f"{self._key}.draft"] = as_text(config)
        self.config, self.problems = judge(self.tree())

    def put(self, path: str, text: Any) -> None:
        """Set one field, as if it had been typed."""
        self._draft[path] = text
        st.session_state[self._widget(path)] = text
        self.config, self.problems = judge(self.tree())

    def tree(self) -> dict[str, Any]:
        """The nested values of all fields that the chosen kinds have, read from what was typed."""
        tree: dict[str, Any] = {}
        for path, field in self._fields():
            group, _, name = path.rpartition(".")
            into = tree.setdefault(group, {}) if group else tree
            into[name] = read(self._draft.get(path, show(path, default_of(field))), field)
        return tree

    # -- drawing

    def group(self, name: str, columns: int = 3, only: tuple[str, ...] | None = None, choose: bool = True) -> None:
        """Draw a union (its choice, unless it stands elsewhere, then that kind's fields) or a group of settings.

        only: the fields to draw, all if None.
        """
        if name in UNIONS and choose:
            self._choice(name)
        fields = [p for p, _ in self._fields() if p.startswith(name + ".") and not self._is_choice(p)]
        fields = [p for p in fields if only is None or p.partition(".")[2] in only]
        self.row(fields, columns)

    def row(self, paths: list[str], columns: int = 3) -> None:
        """Draw these fields side by side, `columns` to a line."""
        for start in range(0, len(paths), columns):
            for place, path in zip(st.columns(columns), paths[start : start + columns], strict=False):
                with place:
                    self.field(path)

    def field(self, path: str) -> None:
        """Draw one field, and below it what is wrong with it or how its size reads in both units."""
        field = dict(self._fields())[path]
        key = self._widget(path)
        st.session_state.setdefault(key, self._draft.get(path, show(path, default_of(field))))
        label, hint = label_of(path), f"{field.description}  \n`{path}`"
        options = choices(field)
        if options:
            st.selectbox(label, options, key=key, help=hint)
        elif field.annotation is bool:
            st.toggle(label, key=key, help=hint)
        else:
            empty = "all" if may_be_empty(field) and path != "name" else None
            st.text_input(label, key=key, help=hint, placeholder=empty, max_chars=200)
        self._below(path)

    def _choice(self, name: str) -> None:
        tag, kinds = union_kinds(name)
        path = f"{name}.{tag}"
        key = self._widget(path)
        st.session_state.setdefault(key, self._draft[path])
        st.selectbox(
            name, list(kinds), key=key, on_change=self._kind_changed, args=(name, path), label_visibility="collapsed",
            format_func=lambda kind: WORDS.get(str(kind), str(kind)),
        )  # fmt: skip
        st.caption(first_line(kinds[st.session_state[key]]))
        self._below(path)

    def _below(self, path: str) -> None:
        problem = self.problems.get(path)
        if problem:
            st.html(f'<p class="dynat-problem" role="alert">{escape(problem)}</p>')
            return
        if path.rpartition(".")[2] in PIXEL_SIZES and self.config is not None:
            group, _, name = path.partition(".")
            size = getattr(getattr(self.config, group), name)
            st.caption(describe_eps(step_size(size, self.config.threat.eps)))
        if path == "optimizer.milestones" and self.config is not None and (note := self.config.unreached()):
            st.caption(note.partition(": ")[2])

    # -- the session

    @property
    def _draft(self) -> dict[str, Any]:
        return st.session_state[f"{self._key}.draft"]

    def _widget(self, path: str) -> str:
        return f"{self._key}.{st.session_state[f'{self._key}.round']}.{path}"

    def _keep_what_was_typed(self) -> None:
        for path, _ in list(self._fields()):
            if self._widget(path) in st.session_state:
                self._draft[path] = st.session_state[self._widget(path)]

    def _kind_changed(self, name: str, path: str) -> None:
        """Another data set brings its own sizes, and a network that fits it."""
        before = self._draft[path]
        self._draft[path] = st.session_state.get(self._widget(path), before)
        if name != "data" or self._draft[path] == before:  # a change is also told after a hurried visit elsewhere
            return
        for known in [p for p in self._draft if p.startswith("data.") and p != path]:
            del self._draft[known]
            st.session_state.pop(self._widget(known), None)
        for model in (self._draft["model.name"], *union_kinds("model")[1]):
            self.put("model.name", model)
            if "model.name" not in self.problems:
                return

    def _fields(self) -> Iterator[tuple[str, FieldInfo]]:
        """Every field that the chosen kinds have, by dotted path."""
        for name, field in RunConfig.model_fields.items():
            settings = self._settings_class(name)
            if settings is None:
                yield name, field
            else:
                yield from ((f"{name}.{part}", inner) for part, inner in settings.model_fields.items())

    def _settings_class(self, name: str) -> type[Settings] | None:
        if name in UNIONS:
            tag, kinds = union_kinds(name)
            return kinds[self._draft[f"{name}.{tag}"]]
        return GROUPS.get(name)

    def _is_choice(self, path: str) -> bool:
        group, _, name = path.partition(".")
        return group in UNIONS and name == union_kinds(group)[0]


# -------------------------------------------------------------------------------------------------- text and values


def judge(tree: Mapping[str, Any]) -> tuple[RunConfig | None, dict[str, str]]:
    """(settings, {}) if `tree` is whole, else (None, {dotted field: sentence}), every field that is wrong at once."""
    try:
        config = RunConfig.model_validate(tree)
        why = config.pointless()
        return (None, _placed(why, tree)) if why else (config, {})
    except ValidationError as error:
        problems: dict[str, str] = {}
        for line in error.errors(include_url=False):
            detail = InitErrorDetails(
                type=line["type"],
                loc=line["loc"],
                input=line["input"],
                ctx=line.get("ctx", {}),  # pyright: ignore
            )
            alone = ValidationError.from_exception_data(error.title, [detail])
            words = sentence(alone, RunConfig, {name: union_kinds(name) for name in UNIONS}, GROUPS)
            problems = _placed(words, tree) | problems
        return None, problems


def _placed(words: str, tree: Mapping[str, Any]) -> dict[str, str]:
    """A sentence by the field that it begins with."""
    place = words.partition(" ")[0]
    field = next((p for p in as_paths(tree) if place == p or place.startswith(p + ".")), "")
    return {field: words.replace(place, label_of(field), 1) if field else words}


def as_paths(tree: Mapping[str, Any]) -> set[str]:
    """The dotted paths of a nested dict."""
    paths = set()
    for name, value in tree.items():
        paths |= {f"{name}.{part}" for part in value} if isinstance(value, Mapping) else {name}
    return paths


def as_text(config: RunConfig) -> dict[str, Any]:
    """Every setting as the form shows it, by dotted path."""
    draft: dict[str, Any] = {}
    for name in RunConfig.model_fields:
        value = getattr(config, name)
        if isinstance(value, Settings):
            draft |= {
                f"{name}.{part}": show(f"{name}.{part}", getattr(value, part)) for part in type(value).model_fields
            }
        else:
            draft[name] = show(name, value)
    return draft


def show(path: str, value: Any) -> Any:
    """A value as it stands in the form: text, except for switches."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return value
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    if isinstance(value, float) and path.rpartition(".")[2] in PIXEL_SIZES:
        parts = value * 255
        if abs(parts - round(parts)) < 1e-9 and 0 < round(parts) <= 64:
            return f"{round(parts)}/255"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def read(text: Any, field: FieldInfo) -> Any:
    """What was typed, as the settings take it: an empty field is None where that is allowed, `20, 40` is a list."""
    if not isinstance(text, str):
        return text
    text = text.strip()
    if text == "" and may_be_empty(field):
        return None
    if get_origin(field.annotation) is tuple:
        return [part for part in text.replace(",", " ").split() if part not in "[]"]
    return text


def label_of(path: str) -> str:
    """A field's name for people; symbols stay as they are."""
    name = path.rpartition(".")[2]
    return name if name in ("c_max", "T_control") else name.replace("_", " ")


def default_of(field: FieldInfo) -> Any:
    """A field's default."""
    return field.get_default(call_default_factory=True)


def choices(field: FieldInfo) -> list[Any]:
    """The values of a Literal field, else []."""
    return list(get_args(field.annotation)) if get_origin(field.annotation) is Literal else []


def may_be_empty(field: FieldInfo) -> bool:
    """Whether the field may be None."""
    return type(None) in get_args(field.annotation)


def first_line(settings: type[Settings]) -> str:
    """What a kind of settings is, from its docstring."""
    return (settings.__doc__ or "").strip().splitlines()[0]
