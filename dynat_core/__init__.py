"""Dynat's notebook face. Nothing is imported until it is asked for, so `import dynat_core` costs nothing.

FOSC itself is `from dynat_core.fosc import fosc`: the module already has that name here.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "Ball": "threat",
    "relative_fosc": "fosc",
    "fosc_map": "fosc",
    "stop_below": "fosc",
    "fgsm": "attacks",
    "pgd": "attacks",
    "cw": "attacks",
    "diagnose": "diagnosis",
    "log_run": "own_training",
    "RunConfig": "config",
    "RunStore": "runs",
}
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'dynat_core' has no attribute {name!r}")
    return getattr(import_module(f"dynat_core.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
