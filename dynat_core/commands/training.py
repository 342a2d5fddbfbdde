"""Runs: started, stopped, gone on with; the worker that does them; what settings and data there are."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from dynat_core import machine
from dynat_core.commands.asked import assignments, find, launched, nearest
from dynat_core.errors import ConfigError, JobError, RunError
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import stop_workers, worker_alive

_STOP_PATIENCE = 30.0  # seconds `stop` and `worker --stop` wait before they say that it will happen


def train(arguments: argparse.Namespace) -> int:
    """Put a run into the queue, start a worker if none lives, and with --wait show how it goes."""
    from dynat_core.presets import preset

    changes = assignments(arguments.set, "strategy.c_max=0.1")
    if arguments.name is not None:
        changes["name"] = json.dumps(arguments.name)
    store = RunStore()
    config = preset(arguments.preset).with_values(changes)
    if note := config.unreached():
        print(note, file=sys.stderr)
    run = store.create(config, id=arguments.id, launcher=f"account {os.getuid()}")
    return launched(run, arguments.wait)


def train_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--preset", required=True, metavar="NAME", help='the settings to start from; "presets" lists them')
    add("--set", action="append", default=[], metavar="a.b=value", help="change a setting, such as strategy.c_max=0.1")
    add("--name", metavar="TITLE", help="a title to find the run by")
    add("--id", metavar="ID", help="the name of the run's folder; one is made up by default")
    add("--wait", action="store_true", help="show how it goes, and return when it has ended")


def resume(arguments: argparse.Namespace) -> int:
    """Put a stopped, failed or interrupted run back into the queue."""
    run = find(arguments.run)
    if run.state != "running":
        run.resume()
    return launched(run, arguments.wait)


def resume_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", help='the id of a run, as "runs" lists it')
    add("--wait", action="store_true", help="show how it goes, and return when it has ended")


def stop(arguments: argparse.Namespace) -> int:
    """Stop a run at its next batch; what it did is kept."""
    run = find(arguments.run)
    run.request_stop()
    until = time.monotonic() + _STOP_PATIENCE
    while run.running and time.monotonic() < until:
        time.sleep(0.05)
    state = run.state
    if state == "running":
        print(f"{run.id} stops at its next batch.")
    elif state == "finished":
        print(f"{run.id} has finished before it could be stopped.")
    else:
        print(f'{run.id} is {state}; "python -m dynat_core resume {run.id}" goes on with it.')
    return 0


def stop_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", help='the id of a run, as "runs" lists it')


def worker(arguments: argparse.Namespace) -> int:
    """Work on waiting runs; or end the workers that do."""
    store = RunStore().folder
    if arguments.stop:
        return _stop_workers(store)
    if arguments.ray:
        from dynat_core.work.cluster import Dispatcher

        if arguments.split < 1:
            raise ConfigError(f"--split must be 1 or more (got {arguments.split}).")
        Dispatcher(store, arguments.ray, once=arguments.once, split=arguments.split).work()
        return 0
    if arguments.all:
        from dynat_core.work.crew import work_on_all

        return work_on_all(store, once=arguments.once)
    from dynat_core.work.supervisor import Supervisor

    Supervisor(store, device=arguments.device, once=arguments.once, presence=arguments.presence).work()
    return 0


def worker_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="one worker for each device of this machine")
    which.add_argument("--device", metavar="NAME", type=_device, help="work for this device alone: cpu, cuda:0, ...")
    which.add_argument("--ray", metavar="ADDRESS", help="hand the jobs to the Ray cluster at host:port")
    add("--split", metavar="N", type=int, default=1, help="with --ray: N workers share each training run")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--once", action="store_true", help="end as soon as nothing waits")
    either.add_argument("--stop", action="store_true", help="end the workers of this store; their runs can be resumed")
    add("--presence", type=int, help=argparse.SUPPRESS)


def _device(name: str) -> str:
    known = machine.devices()
    if name not in known:
        raise argparse.ArgumentTypeError(f"there is no device {name} here; this machine has {', '.join(known)}")
    return name


def _stop_workers(store: Path) -> int:
    if not worker_alive(store):
        print("No worker is alive.")
        return 0
    stop_workers(store)
    until = time.monotonic() + _STOP_PATIENCE
    while worker_alive(store) and time.monotonic() < until:
        time.sleep(0.05)
    print("The worker ends when its run reaches the next batch." if worker_alive(store) else "The worker has ended.")
    return 0


def job(arguments: argparse.Namespace) -> int:
    """Work on one job folder; what the worker starts."""
    from dynat_core.work.worker import run_job, serve_job

    folder = Path(arguments.folder).absolute()
    if not folder.is_dir():
        raise RunError(f"There is no folder {folder}.")
    if arguments.parent is None:
        state = run_job(folder, arguments.device)
    else:
        state = serve_job(folder, arguments.device, arguments.parent, arguments.claim)
    return int(state == "failed")


def job_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", metavar="FOLDER")
    add("--device")
    add("--parent", type=int, help=argparse.SUPPRESS)
    add("--claim", type=int, help=argparse.SUPPRESS)


def presets(arguments: argparse.Namespace) -> int:
    """What `train --preset` takes."""
    from dynat_core.presets import PRESETS, describe

    width = max(map(len, PRESETS))
    for name in PRESETS:
        print(f"{name:{width}}  {describe(name)}")
    return 0


def data(arguments: argparse.Namespace) -> int:
    """Fetch what is missing of a data set, and check it; or add images of your own: data add FILE --name NAME."""
    from pydantic import TypeAdapter

    from dynat_core.config import SHAPES, Data

    if arguments.data == "add":
        return _add_data(arguments)
    if arguments.file or arguments.name or arguments.classes:
        raise ConfigError('Images of your own are added with "python -m dynat_core data add FILE --name NAME".')
    if arguments.data not in SHAPES:
        raise ConfigError(f"There is no data set called {arguments.data}; {nearest(arguments.data, list(SHAPES))}")
    try:
        from dynat_core.images import data as data_sets
    except ImportError as error:
        raise JobError("torch is not installed, and without it data sets are not needed; "
                       'install it with "pip install -r requirements.txt".') from error  # fmt: skip
    data_sets.fetch(arguments.data)
    found = data_sets.load(TypeAdapter(Data).validate_python({"name": arguments.data}))
    images = len(found.train) + len(found.validation)
    print(f"{arguments.data}: {images:,} training and {len(found.test):,} test images, all in order.")
    return 0


def data_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="NAME", help='digits, mnist, fashion-mnist or cifar10; or "add"')
    add("file", metavar="FILE", nargs="?", help="with add: an .npz file, or a folder with one folder for each class")
    add("--name", metavar="NAME", help="with add: what to call the images")
    add("--classes", metavar="A,B,C", help="with add: names of the classes, in label order")


def _add_data(arguments: argparse.Namespace) -> int:
    from dynat_core.images import own_data

    if not arguments.file or not arguments.name:
        raise ConfigError('Give a file and a name: "python -m dynat_core data add FILE --name NAME".')
    classes = arguments.classes.split(",") if arguments.classes is not None else None
    found = own_data.add(Path(arguments.file), arguments.name, classes)
    n, channels, height, width = found.images.shape
    for note in found.notes:
        print(f"  {note}")
    print(f"{arguments.name}: {n:,} images of {channels}x{height}x{width}, {len(found.class_names)} classes")
    for k, name in enumerate(found.class_names[:20]):
        print(f"  label {k}: {name}, {int((found.labels == k).sum()):,} images")
    if len(found.class_names) > 20:
        print(f"  and {len(found.class_names) - 20} more classes")
    print("A network must number its classes in this order; it is checked when a model is added or checked.")
    print(own_data.place(arguments.name))
    return 0
