"""The pictures of each screen: plain data in, a `Scene` of views under one cursor out. No torch, no Streamlit."""

from __future__ import annotations

from dynat_core.views.base import Key, Note, Scene, Series, Switch, View, strategy_style
from dynat_core.views.epoch_runs import NamedHistory
from dynat_core.views.epochs import epochs
from dynat_core.views.overview import NamedPaths, overview
from dynat_core.views.trajectory import trajectory

__all__ = [
    "Key",
    "NamedHistory",
    "NamedPaths",
    "Note",
    "Scene",
    "Series",
    "Switch",
    "View",
    "epochs",
    "overview",
    "strategy_style",
    "trajectory",
]
