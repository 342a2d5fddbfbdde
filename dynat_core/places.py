"""Where this code itself lies."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # the project: screens, shipped runs, shipped reproductions
