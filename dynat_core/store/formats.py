"""The versions of a run folder, and the way from each to the next.

An older folder is brought up to date while it is read; its files stay as they are, so that a read-only store opens and
the version of Dynat that wrote them still reads them. A newer one is refused with one sentence.

When what is written changes so that an older reader, or today's reader of an older folder, would get it wrong: raise
FORMAT and add a step. A setting that is only new needs neither, as long as its default is what was done before it.

    1   settings need not name their optimiser, which was SGD, nor the run its kind, which was training
    2   both are always named; the file to resume from carries a checksum of what it holds
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dynat_core.errors import RunError, shown

FORMAT = 2
Request = dict[str, Any]  # what run.json holds


def upgraded(request: Request, id: str) -> Request:
    """What run.json of the run `id` would hold had this version written it. Raises RunError for a format that is none
    of ours."""
    version = known(request.get("format"), id)
    while version < FORMAT:
        request, version = _STEPS[version](request), version + 1
    return {**request, "format": FORMAT}


def known(version: object, id: str) -> int:
    """`version` of the run `id`, if this version of Dynat reads it. Raises RunError."""
    if type(version) is int and 1 <= version <= FORMAT:
        return version
    said = shown(str(version) if type(version) is int else ascii(version))
    raise RunError(
        f"{id} has format {said} and this version reads formats 1 to {FORMAT}; "
        "open it with the version of Dynat that wrote it."
    )


def _from_1(request: Request) -> Request:
    config = request.get("config")
    if isinstance(config, Mapping) and isinstance(config.get("optimizer"), Mapping):
        config = {**config, "optimizer": {"name": "sgd", **config["optimizer"]}}
    return {**request, "kind": request.get("kind") or "training", "config": config}


_STEPS: dict[int, Callable[[Request], Request]] = {1: _from_1}  # from that version to the next
