"""run.json: what was asked of a run, written once by whoever launches it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dynat_core.config import RunConfig
from dynat_core.errors import RunError
from dynat_core.files import read_file
from dynat_core.store.formats import FORMAT, upgraded


def to_bytes(id: str, kind: str, config: RunConfig, created: datetime, launcher: str, by: str) -> bytes:
    """The content of run.json for these."""
    request = {
        "format": FORMAT,
        "id": id,
        "created": created.isoformat(timespec="microseconds"),
        "kind": kind,
        **({"launcher": launcher} if launcher else {}),
        **({"by": by} if by else {}),
        "config": config.model_dump(mode="json"),
    }
    return json.dumps(request, indent=1, allow_nan=False).encode()


def read(folder: Path) -> dict[str, Any]:
    """The content of run.json. Raises RunError with one sentence."""
    try:
        request = json.loads(read_file(folder / "run.json"))
    except FileNotFoundError as error:
        raise RunError(f"{folder.name} has no run.json; put the file back or delete the folder.") from error
    except OSError as error:
        raise RunError(f"run.json of {folder.name} cannot be read ({error.strerror}); mend that first.") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"run.json of {folder.name} is damaged; put a copy back or delete the folder.") from error
    if not isinstance(request, dict):
        raise RunError(f"run.json of {folder.name} is damaged; put a copy back or delete the folder.")
    request = upgraded(request, folder.name)
    try:
        moment(request["created"])
        request["config"]
        request["kind"]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"run.json of {folder.name} is incomplete; put a copy back or delete the folder.") from error
    return request


def moment(text: str) -> datetime:
    """The time `text` in UTC. Raises TypeError, or ValueError, also for one that falls out of UTC's calendar."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text} is before year 1 or after year 9999") from error
