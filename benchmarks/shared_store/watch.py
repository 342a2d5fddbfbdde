"""What one machine sees of a store, as a screen would: a line for every change, with the moment.

python -m benchmarks.shared_store.watch STORE
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from dynat_core.store.runs import RunStore


def main() -> None:
    """Look ten times a second, until ended."""
    store, known = RunStore(Path(sys.argv[1])), {}
    while True:
        for run in store.list():
            found = run.state, len(run.records())
            if known.get(run.id) != found:
                known[run.id] = found
                print(json.dumps([time.time(), run.id, *found]), flush=True)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
