"""Analyses without torch, for the tests of the helper process."""

from __future__ import annotations

import itertools
import os
import time

import numpy as np

from dynat_core.errors import DataError

_answered = itertools.count()


def double(request, cancelled, progress):
    print("a stray print must not break the frames")
    place = next(_answered)
    return {"pid": os.getpid(), "asked": request["n"], "place": place}, {
        "twice": np.arange(request["n"], dtype=np.float32) * 2
    }


def slow(request, cancelled, progress):
    for step in range(request["steps"]):
        if cancelled():
            raise RuntimeError("cancelled")
        progress(step / request["steps"])
        time.sleep(0.02)
    return {"steps": request["steps"]}, {}


def refuse(request, cancelled, progress):
    raise DataError("The data are not here; put them there.")


def stumble(request, cancelled, progress):
    raise ValueError("first line\nsecond line")


def die(request, cancelled, progress):
    os._exit(7)


def deaf(request, cancelled, progress):
    time.sleep(60)
    return {}, {}


def until_cancelled(request, cancelled, progress):
    while not cancelled():
        time.sleep(0.02)
    return {}, {}


ANALYSES = {
    "deaf": deaf, "double": double, "slow": slow, "refuse": refuse, "stumble": stumble, "die": die,
    "until_cancelled": until_cancelled,
}  # fmt: skip
