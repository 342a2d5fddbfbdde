"""What the analysis helper keeps in memory from question to question: networks and data sets."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from dynat_core.config import Data, RunConfig
from dynat_core.devices import choose
from dynat_core.images import data
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import worker_states
from dynat_core.work.analysis import Request
from dynat_core.work.loading import network


def run_of(request: Request) -> Run:
    """The run that a request is about. Raises RunError when there is none."""
    return RunStore(Path(request["store"])).open(request["run"])


def model_of(request: Request) -> tuple[nn.Module, RunConfig]:
    """The network of the request's run and epoch, in eval mode, and the run's settings. Raises RunError.

    The newest four are kept; what was trained anew under the same name is told apart.
    """
    run, device = run_of(request), free_device(request["store"])
    return _network(str(run.folder), int(request["epoch"]), run.modified, str(device)), run.config


def free_device(store: Path | str) -> torch.device:
    """Where the helper computes: on the device that `auto` means, or on the CPU while a job of the store holds that.

    What was kept on the device is let go then: the job needs its memory.
    """
    device = choose("auto")
    if device.type == "cpu":
        return device
    if any(state["device"] == str(device) and state["busy_with"] for state in worker_states(store)):
        _network.cache_clear()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        return torch.device("cpu")
    return device


@lru_cache(maxsize=4)
def _network(folder: str, epoch: int, modified: float, device: str) -> nn.Module:
    return network(Run(Path(folder)), epoch, torch.device(device))


_loaded: OrderedDict[str, data.DataSet] = OrderedDict()
_LOADED = 2  # data sets: sessions take turns, and two that look at different ones must not read them anew each time


def data_of(settings: Data) -> data.DataSet:
    """The data set on the CPU, kept while it is among the last that were asked for."""
    key = settings.model_dump_json()
    if key not in _loaded:
        while len(_loaded) >= _LOADED:
            _loaded.popitem(last=False)
        _loaded[key] = data.load(settings)
    _loaded.move_to_end(key)
    return _loaded[key]
