"""Dynat's notebook face. Nothing is imported until it is asked for, so `import dynat_core` costs nothing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "Ball": "attack.threat",
    "fosc": "attack.fosc",
    "relative_fosc": "attack.fosc",
    "fosc_map": "attack.fosc",
    "stop_below": "attack.fosc",
    "fgsm": "attack.attacks",
    "pgd": "attack.attacks",
    "cw": "attack.attacks",
    "diagnose": "work.own_check",
    "log_run": "work.own_training",
    "RunConfig": "config",
    "RunStore": "store.runs",
}
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'dynat_core' has no attribute {name!r}")
    return getattr(import_module(f"dynat_core.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
