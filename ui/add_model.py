"""A network of one's own: the form."""

from __future__ import annotations


def form() -> str | None:
    return None
