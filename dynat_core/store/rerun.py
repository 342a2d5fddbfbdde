"""The command line that trains the same run again, or measures the same network again."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from dynat_core import presets
from dynat_core.config import RunConfig
from dynat_core.errors import ConfigError

if TYPE_CHECKING:
    from dynat_core.store.evaluations import Evaluation


def command(config: RunConfig) -> str:
    """`python -m dynat_core train --preset ... --set ...`: the preset that needs the fewest changes, and those."""
    name, changes = min((_changes(name, config) for name in presets.PRESETS), key=lambda found: len(found[1]))
    words = ["python", "-m", "dynat_core", "train", "--preset", name]
    if "name" in changes and isinstance(config.name, str):
        del changes["name"]
        words += ["--name", config.name]
    for key, value in changes.items():
        words += ["--set", f"{key}={json.dumps(value)}" if not isinstance(value, str) else f"{key}={value}"]
    return shlex.join(words)


def _changes(name: str, goal: RunConfig) -> tuple[str, dict[str, Any]]:
    """(name, dotted keys to change) that make the preset called `name` into `goal`."""
    start = presets.preset(name)
    wanted = _flat(goal)
    kinds = {key: value for key, value in wanted.items() if key.endswith((".name", ".norm"))}
    changes = {key: value for key, value in kinds.items() if _flat(start).get(key) != value}
    # A new kind of a part brings its own defaults along, so what else differs is only known after it.
    half = _flat_after(start, changes)
    changes |= {key: value for key, value in wanted.items() if half.get(key, object()) != value}
    return name, changes


def _flat_after(start: RunConfig, kinds: dict[str, Any]) -> dict[str, Any]:
    try:
        return _flat(start.with_values(kinds))
    except ConfigError:  # half-way between two runs need not be a possible run
        return {}


def _flat(config: RunConfig) -> dict[str, Any]:
    tree = config.model_dump(mode="json")
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": entry for name, entry in value.items()}
        else:
            flat[key] = value
    return flat


def evaluation_command(evaluation: Evaluation) -> str:
    """`python -m dynat_core evaluate RUN --kind ... --set ...`: one command line that measures the same again.

    What goes on from another evaluation of the same run ("again") names it, and needs it to be there.
    """
    words = ["python", "-m", "dynat_core", "evaluate", evaluation.run_id, "--kind", evaluation.kind]
    asked = evaluation.settings.model_dump(mode="json")
    usual = {name: field.get_default() for name, field in type(evaluation.settings).model_fields.items()}
    for key, value in asked.items():
        if key == "kind" or value == usual[key]:
            continue
        if isinstance(value, list):
            words += ["--set", f"{key}={','.join(map(str, value))}"] if value else []
        else:
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)
