"""What an analysis is: a pure function `(request, cancelled, progress) -> (header, arrays)`, run in a warm helper.

Between two gradient evaluations each looks whether somebody has asked for something newer (`cancelled`), and ends
early.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Request = dict[str, Any]
Answer = tuple[dict[str, Any], dict[str, np.ndarray]]
Cancelled = Callable[[], bool]
Said = Callable[[float], None]
Analysis = Callable[[Request, Cancelled, Said], Answer]


class Replaced(Exception):
    """Somebody asked for something newer."""


def look(cancelled: Cancelled) -> None:
    """Raises Replaced once nobody waits for the answer any more."""
    if cancelled():
        raise Replaced
