"""`worker --all`: one worker for each device of this machine, in the foreground, until they have all ended."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from dynat_core import machine
from dynat_core.errors import JobError
from dynat_core.store.jobs import exclusive
from dynat_core.store.workers import start_worker, worker_alive, worker_folder

_LOOK = 0.2  # seconds


def work_on_all(store: Path | str, *, once: bool = False) -> int:
    """Start a worker for each device and wait for them; a signal to end goes on to all. One that dies is replaced.

    Returns 0, or 1 if a worker ended with an error. Raises JobError where the store cannot be written, or while another
    process starts workers.
    """
    store = Path(store).absolute()
    folder = worker_folder(store)
    options = ["--once"] if once else []
    with exclusive(folder / "start.lock", patience=5) as held:
        if not held:
            raise JobError(f"Another process is starting the workers of {store}; try again in a moment.")
        if not worker_alive(store):
            (folder / "stop").unlink(missing_ok=True)  # it was meant for workers that are gone
        crew = {device: start_worker(store, device, *options) for device in machine.devices()}
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    passed_on, failed = 0, False
    while crew:
        for worker in crew.values():
            for _ in asked[passed_on:]:
                worker.send_signal(signal.SIGTERM)
        passed_on = len(asked)
        for device, worker in list(crew.items()):
            code = worker.poll()
            if code is None:
                continue
            if code < 0 and not asked:  # killed: nobody meant it to end
                print(f"the worker for {device} died (signal {-code}) and is started again", flush=True)
                crew[device] = start_worker(store, device, *options)
                continue
            failed |= code > 0
            del crew[device]
        time.sleep(_LOOK)
    return int(failed)
