"""Every screen, opened on what a fault left: it must stand, with sentences where something is broken, no traceback."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from benchmarks.chaos.ledger import Ledger
from dynat_core.work.analyst import Analyst
from ui import store as ui_store

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["app.py", *sorted(f"pages/{path.name}" for path in (ROOT / "pages").glob("*.py"))]
OF_A_RUN = ("pages/epochs.py", "pages/trajectory.py", "pages/check.py", "pages/compare.py", "pages/train.py")
FAILED = "met an error of its own"  # what the frame of a screen says instead of a traceback


class Screens:
    """The screens over the store in `folder`, in one session as of one browser tab; no browser is needed."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger = ledger
        self.folder = folder
        self._turn = 0
        os.environ["DYNAT_STORE"] = str(folder)
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        self._warm = Analyst.warm
        setattr(Analyst, "warm", lambda analyst, after=0.0: None)  # noqa: B010 - nothing is asked here
        ui_store.look_again()
        self.app: Any = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()

    def close(self) -> None:
        """End the analysis helper that a screen may have asked something."""
        ui_store.analyst(str(self.folder)).close()
        Analyst.warm = self._warm
        logging.disable(logging.NOTSET)

    def all(self, after: str, **query: Any) -> None:
        """Open every screen."""
        for page in PAGES:
            self.open(page, after, **query)

    def of(self, ids: Iterable[str], after: str) -> None:
        """Open the list of all runs, and the next screen about these, in rotation."""
        wanted = list(ids)
        page = OF_A_RUN[self._turn % len(OF_A_RUN)]
        self._turn += 1
        self.open(page, after, **({"clone": wanted[0]} if page == "pages/train.py" else {"run": wanted}))

    def open(self, page: str, after: str, **query: Any) -> None:
        """Open one screen and hold it to what a screen must be."""
        ui_store.look_again()
        self.app.query_params.clear()
        for name, value in query.items():
            self.app.query_params[name] = value
        self.app.switch_page(page).run()
        self.ledger.screens += 1
        said = [error.value for error in self.app.error] + [error.message for error in self.app.exception]
        failed = [sentence for sentence in said if FAILED in sentence or "Traceback" in sentence]
        failed += [error.message for error in self.app.exception]
        if failed:
            self.ledger.problem(f"{page} after {after}: {failed[0][:300]}")
