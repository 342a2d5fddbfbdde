"""A model file becomes a run of the store: looked at, tried on images with known labels, and put into the queue.

`python -m dynat_core.work.model_adding` is the process in which a program (TorchScript, torch.export) is tried.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from dynat_core.config import SHAPES, Data, RunConfig
from dynat_core.errors import ConfigError, DynatError, ModelFileError
from dynat_core.images import data, own_data
from dynat_core.networks import models
from dynat_core.networks.conventions import LabelOrder, Tried, conventions, label_order
from dynat_core.networks.model_files import PROGRAM_WORDS, Inspected, inspect, load_program
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore
from dynat_core.store.trusted_programs import trust
from dynat_core.store.workers import child_environment

TRIED_IMAGES = 500  # at most, to find out how the network wants to be fed
_PROGRAM_PATIENCE = 300.0  # seconds
_RADII = {"digits": 0.15, "mnist": 0.3, "fashion-mnist": 0.1}  # others: 8/255
_PIXELS = TypeAdapter(Data)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wish:
    """What somebody said about the file; None is found out. n: test images measured. programs: whether a file that is a
    program is taken too. by: who brings it in, where people sign in."""

    data: str | None = None
    eps: str | None = None
    norm: str = "linf"
    architecture: str | None = None
    normalisation: str | None = None
    name: str | None = None
    id: str | None = None
    n: int = 256
    programs: bool = True
    by: str = ""


@dataclass(frozen=True)
class Trial:
    """How the network did when fed in each way, best first, and the order of its classes if it is another."""

    tried: tuple[Tried, ...]
    order: LabelOrder | None


def add_model(store: RunStore, path: Path, wish: Wish, say: Say) -> Run:
    """Bring in the network in `path`; returns its run, which waits for a worker to measure it.

    say: called with each line a person should read. Raises DynatError with one sentence.
    """
    found = inspect(path)
    if found.program and not wish.programs:
        raise ModelFileError(
            f"{path.name} is {PROGRAM_WORDS[found.program]}, which runs with your rights: it is only taken from a file "
            'on this machine, with "python -m dynat_core model add FILE".'
        )
    settings = _data_of(wish, found)
    config = _config(wish, settings, {"architecture": wish.architecture or "", "program": found.program})
    say(_what(found))
    for repair in found.repairs:
        say(f"  {repair}")
    dataset = data.load(settings)
    if found.program:
        choice, files = _program(found, settings, wish, say)
    else:
        choice, files = _weights(found, settings, dataset, wish, say)
    config = _config(wish, settings, choice)
    say(f"To be measured on {wish.n} images of {settings.words}, {config.attack_words()}")
    if found.program:
        trust(store.folder, *files.values())
    return store.create(config, wish.id, kind="imported", files=files, by=wish.by)


def _config(wish: Wish, settings: Data, model: dict[str, str]) -> RunConfig:
    eps = wish.eps if wish.eps is not None else (_radius(settings) if wish.norm == "linf" else 0.5)
    return RunConfig.build(
        {
            "name": wish.name,
            "epochs": 0,
            "data": settings.model_dump(mode="json"),
            "model": {"name": "imported", **model},
            "threat": {"norm": wish.norm, "eps": eps},
            "strategy": {"name": "elsewhere"},
            "recording": {"test_images": wish.n, "probes": 8},
        }
    )


def _radius(settings: Data) -> float:
    """What is usual for such images, in pixels."""
    return _RADII.get(settings.name, 8 / 255)


# --------------------------------------------------------------------------------------------------------- the data


def data_named(name: str) -> Data:
    """The settings of a data set that comes with Dynat, or of one of one's own. Raises DataError, ConfigError."""
    if name in SHAPES:
        return _PIXELS.validate_python({"name": name})
    if name in own_data.names():
        return own_data.settings(name)
    known = ", ".join([*SHAPES, *own_data.names()])
    raise ConfigError(f"There is no data set called {name[:60]!r}; there is {known}, "
                      'and "python -m dynat_core data add" takes your own.')  # fmt: skip


def _data_of(wish: Wish, found: Inspected) -> Data:
    """What was asked for, or what the network is made for."""
    if wish.data is not None:
        return data_named(wish.data)
    for match in found.matches:
        of_ours = {"digits-cnn": "digits", "mnist-cnn": "mnist"}.get(match.architecture)
        if of_ours or (match.channels, match.classes) == (3, 10):
            return data_named(of_ours or "cifar10")
    raise ConfigError("Which images the network was trained on cannot be told from the file; name them with --data.")


def _some(settings: Data, dataset: data.DataSet | None = None) -> tuple[Tensor, Tensor]:
    """x (n, C, H, W) and y (n,) of at most TRIED_IMAGES test images, classes in proportion, in no order of class."""
    test = (dataset or data.load(settings)).test
    part = data.part_of(test, min(TRIED_IMAGES, len(test)))
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))
    return part.pixels(order), part.labels[order]


# -------------------------------------------------------------------------------------------------- how to feed it


def _weights(
    found: Inspected, settings: Data, dataset: data.DataSet, wish: Wish, say: Say
) -> tuple[dict[str, str], dict[str, bytes]]:
    """(what the configuration says of the network, the files of its run folder)."""
    channels, classes = settings.shape[0], len(settings.classes)
    wanted = [found.match(wish.architecture)] if wish.architecture else found.matches
    fits = [match for match in wanted if (match.channels, match.classes) == (channels, classes)]
    if not fits:
        match = wanted[0]
        raise ConfigError(f"The network takes {match.channels} channels and tells {match.classes} classes apart; "
                          f"{settings.words} has {channels} and {classes}: name other images with --data.")  # fmt: skip
    if fits[0].by_order:
        say("  the names are not those of a known layout: matched by the order and shape of the layers")
    ways = {
        f"{match.architecture} {normalisation}": (match, normalisation)
        for match in fits
        for normalisation in _normalisations(wish, found, settings)
    }
    nets = {match.architecture: found.network(match, "none")[1] for match in fits}

    def fed(way: str) -> nn.Module:
        """The one network of an architecture behind different fronts."""
        match, normalisation = ways[way]
        return nn.Sequential(models.front(normalisation, channels), nets[match.architecture])

    x, y = _some(settings, dataset)
    trial = _tried(fed, x, y, list(ways))
    match, normalisation = ways[trial.tried[0].name]
    _tell(trial, {way: f"{m.architecture}, {normalisation_words(n)}" for way, (m, n) in ways.items()}, settings, say)
    choice = {"architecture": match.architecture, "normalisation": normalisation}
    return choice, {"weights/0000.safetensors": found.to_bytes(match)}


def _program(found: Inspected, settings: Data, wish: Wish, say: Say) -> tuple[dict[str, str], dict[str, bytes]]:
    """The same for a program, which is run in a process of its own, here and wherever it is measured."""
    if wish.architecture:
        raise ConfigError("The file is a whole program and needs no --architecture; leave that out.")
    say("  It is a program: it runs with your rights, now and at every measurement. Add only files that you trust.")
    names = _normalisations(wish, found, settings)
    trial = _program_tried(found, settings, names)
    _tell(trial, {name: normalisation_words(name) for name in names}, settings, say)
    choice = {"program": found.program, "normalisation": trial.tried[0].name}
    return choice, {"weights/0000.program": found.path.read_bytes()}


def _normalisations(wish: Wish, found: Inspected, settings: Data) -> list[str]:
    """Those worth a try, likelier ones first: the one asked for, the file's own, or all there are."""
    given, channels = wish.normalisation or found.normalisation, settings.shape[0]
    if not given:
        return sorted(models.normalisations(channels), key=lambda name: _unlikely(name, settings))
    models.statistics(given, channels)
    return [given]


def _unlikely(name: str, settings: Data) -> int:
    """0 for what is done most often with such images."""
    if name in ("none", settings.name):
        return int(name != "none")
    return 2 + (not name.startswith(settings.name))


def _tried(factory: Callable[[str], nn.Module], x: Tensor, y: Tensor, names: Sequence[str]) -> Trial:
    try:
        tried = conventions(factory, x, y, list(names))
    except (RuntimeError, ValueError, IndexError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:160].rstrip(". ")
        size = "x".join(map(str, x.shape[1:]))
        raise ModelFileError(f"The network does not take images of {size} ({said}); name other images.") from error
    best = tried[0]
    order = label_order(factory(best.name), x[: best.n], y[: best.n]) if best.accuracy < 0.7 else None
    return Trial(tuple(tried), order)


def _tell(trial: Trial, words: dict[str, str], settings: Data, say: Say) -> None:
    """Which way was best, against which others, and what looks wrong."""
    best, *others = trial.tried
    say(f"{words[best.name]}: {100 * best.accuracy:.1f} % of {best.n} clean images right")
    for other in others[:3]:
        say(f"  against {100 * other.accuracy:.1f} % of {other.n}: {words[other.name]}")
    if others and others[0].n == best.n and best.accuracy - others[0].accuracy < 0.01:
        say("  These are too close to tell apart, so the most usual one is taken: if you know it, say it "
            "(--architecture, --normalisation).")  # fmt: skip
    if trial.order is not None:
        names = dict(enumerate(settings.classes))
        say(f"  labels in another order: {trial.order.words(names)}; in that order "
            f"{100 * trial.order.reordered:.1f} % are right. Add the images again with the labels in the network's "
            "order.")  # fmt: skip
    elif best.accuracy <= 1.5 / len(settings.classes):
        say(f"  That is about chance: is {settings.words} what it was trained on?")


def normalisation_words(name: str) -> str:
    """A convention in words."""
    return models.NORMALISATIONS[name][0] if name in models.NORMALISATIONS else f"mean and deviation {name}"


def _what(found: Inspected) -> str:
    if found.program:
        return f"{found.path.name}: {PROGRAM_WORDS[found.program]}"
    fits = ", ".join(dict.fromkeys(match.architecture for match in found.matches))
    assert found.tensors is not None
    return f"{found.path.name}: {sum(t.numel() for t in found.tensors.values()):,} numbers that fit {fits}"


# --------------------------------------------------------------------------------------------------- programs apart


def _program_tried(found: Inspected, settings: Data, names: Sequence[str]) -> Trial:
    """Try a program in a process of its own."""
    request = {"path": str(found.path.absolute()), "kind": found.program, "names": list(names),
               "data": settings.model_dump(mode="json")}  # fmt: skip
    command = [sys.executable, "-m", "dynat_core.work.model_adding"]
    environment = child_environment(Path("."))
    try:
        done = subprocess.run(
            command, input=json.dumps(request).encode(), capture_output=True, timeout=_PROGRAM_PATIENCE, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise ModelFileError(f"{found.path.name} did not answer within {_PROGRAM_PATIENCE:.0f} s.") from error
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise ModelFileError(f"{found.path.name} broke the process that tried it; export it again.") from error
    if "error" in answer:
        raise ModelFileError(str(answer["error"]))
    order = answer["order"]
    return Trial(
        tuple(Tried(**tried) for tried in answer["tried"]),
        LabelOrder(**{**order, "network_class": tuple(order["network_class"])}) if order else None,
    )


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    settings = _PIXELS.validate_python(request["data"])
    x, y = _some(settings)

    def fed(name: str) -> nn.Module:
        return load_program(request["path"], request["kind"], name, settings.shape[0])

    try:
        trial = _tried(fed, x, y, request["names"])
    except DynatError as error:
        return {"error": str(error)}
    return {"tried": [asdict(t) for t in trial.tried], "order": asdict(trial.order) if trial.order else None}


if __name__ == "__main__":
    print("\n" + json.dumps(_answer(json.load(sys.stdin))), flush=True)
