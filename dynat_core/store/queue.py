"""What waits in a store, and for whom. No torch here: screens import this."""

from __future__ import annotations

from dynat_core.store import evaluations
from dynat_core.store.jobs import UNFINISHED
from dynat_core.store.runs import RunStore


def waiting_for(store: RunStore, by: str = "") -> int:
    """How many runs and measurements wait, of all people, or of the one who asked for them. Raises RunError.

    by: an address as it stands in run.json; "" for everybody's.
    """
    count = 0
    for run in store.list():
        if run.state == "broken":
            continue
        count += run.kind != "external" and run.state in UNFINISHED and by in ("", run.by)
        count += sum(job.state in UNFINISHED and by in ("", job.by) for job in evaluations.waiting(run.folder))
    return count
