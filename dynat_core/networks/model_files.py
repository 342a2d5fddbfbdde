"""Networks from files: looked at in a process of its own, loaded as plain numbers, or as a program if so wanted.

Weights (safetensors, or a torch file that holds nothing else) are read by `model_reader`, which never runs what a file
holds. TorchScript and torch.export files are programs: whoever loads one gives it one's own rights.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dynat_core.errors import ConfigError, ModelFileError
from dynat_core.files import READ_ONLY
from dynat_core.networks import models
from dynat_core.networks.conventions import LabelOrder, Tried, conventions, label_order
from dynat_core.networks.model_reader import MAX_FILE
from dynat_core.networks.state_dict import Match, State
from dynat_core.store.workers import child_environment

__all__ = ["Inspected", "LabelOrder", "Match", "Tried", "conventions", "inspect", "label_order", "load_program"]

_PATIENCE = 180.0  # seconds until the process that reads a file is ended
PROGRAM_WORDS = {"torchscript": "a TorchScript program", "export": "a torch.export program"}


@dataclass(frozen=True)
class Inspected:
    """What a file turned out to be. program: "torchscript" or "export" and nothing else is known, or "" for weights.

    tensors: the weights under the file's own names, without prefixes. matches: the registered networks they fit.
    repairs: what was changed, in words. normalisation: what the file itself says is done to the pixels, or "".
    """

    path: Path
    program: str = ""
    tensors: Mapping[str, Tensor] | None = None
    matches: tuple[Match, ...] = ()
    repairs: tuple[str, ...] = ()
    normalisation: str = ""

    def match(self, architecture: str) -> Match:
        """The one of that name. Raises ConfigError when the weights do not fit it."""
        for match in self.matches:
            if match.architecture == architecture:
                return match
        if architecture not in models.ARCHITECTURES:
            raise ConfigError(f"There is no architecture called {architecture[:40]!r}; "
                              '"python -m dynat_core model architectures" lists them.')  # fmt: skip
        fits = ", ".join(match.architecture for match in self.matches)
        raise ConfigError(f"The weights do not fit {architecture}; they fit {fits}.")

    def state(self, match: Match) -> State:
        """The weights under the names that `models.imported` gives them, BatchNorm's counters at 0."""
        assert self.tensors is not None
        with torch.device("meta"):
            wanted = models.imported(match.architecture, "none", match.channels, match.classes).state_dict()
        counters = {name: torch.zeros((), dtype=torch.int64) for name in wanted if name.endswith("num_batches_tracked")}
        return {**counters, **{f"1.{name}": self.tensors[ours] for name, ours in match.names.items()}}

    def network(self, match: Match, normalisation: str) -> nn.Sequential:
        """The network in eval mode with these weights, behind a normalisation. Raises ConfigError."""
        net = models.imported(match.architecture, normalisation, match.channels, match.classes)
        net.load_state_dict(self.state(match))
        net.eval().requires_grad_(False)
        return net

    def to_bytes(self, match: Match) -> bytes:
        """The safetensors file of a run folder."""
        return save({name: value.contiguous() for name, value in self.state(match).items()})


def inspect(path: Path | str) -> Inspected:
    """Look at a model file. Nothing in it is run. Raises ModelFileError with one sentence."""
    path = Path(path)
    _refuse_what_is_no_file(path)
    with tempfile.TemporaryDirectory(prefix="dynat-model-") as folder:
        answer = _ask_reader(path, Path(folder))
        if "error" in answer:
            raise ModelFileError(f"{_named(path)}: {answer['error'][:1].lower()}{answer['error'][1:]}")
        if "program" in answer:
            return Inspected(path, program=answer["program"])
        return Inspected(
            path,
            tensors=load_file(Path(folder) / "weights.safetensors"),
            matches=tuple(Match(**match) for match in answer["matches"]),
            repairs=tuple(answer["repairs"]),
            normalisation=answer["normalisation"],
        )


def _refuse_what_is_no_file(path: Path) -> None:
    try:
        found = os.lstat(path)
    except (OSError, ValueError) as error:
        raise ModelFileError(f"There is no file {_named(path)}; give the path of one.") from error
    if stat.S_ISLNK(found.st_mode):
        raise ModelFileError(f"{_named(path)} is a link and is not followed; give the file itself.")
    if stat.S_ISDIR(found.st_mode):
        raise ModelFileError(f"{_named(path)} is a folder; give the file of weights in it.")
    if not stat.S_ISREG(found.st_mode):
        raise ModelFileError(f"{_named(path)} is no ordinary file; give a file of weights.")
    if found.st_size == 0:
        raise ModelFileError(f"{_named(path)} is empty; download or save it again.")
    if found.st_size > MAX_FILE:
        raise ModelFileError(f"{_named(path)} has {found.st_size / 1e9:.1f} GB, and at most {MAX_FILE / 1e9:.0f} GB "
                             "are read; save the weights without the optimiser's state.")  # fmt: skip
    if not os.access(path, os.R_OK):
        raise ModelFileError(f"{_named(path)} cannot be read; check its permissions.")


def _ask_reader(path: Path, folder: Path) -> dict[str, Any]:
    """What the reading process answered; its death is an answer too."""
    command = [sys.executable, "-m", "dynat_core.networks.model_reader", str(path.absolute()), str(folder)]
    environment = {**child_environment(folder), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, env=environment, cwd=folder
        )
    except subprocess.TimeoutExpired:
        return {"error": f"It could not be read within {_PATIENCE:.0f} seconds; it is damaged or made to do harm."}
    except OSError as error:
        what = "not allowed" if error.errno in READ_ONLY else error.strerror
        raise ModelFileError(f"The process that reads model files could not be started ({what}).") from error
    with contextlib.suppress(ValueError, IndexError):
        answer = json.loads(done.stdout.splitlines()[-1])
        if isinstance(answer, dict):
            return answer
    return {"error": "Reading it broke the process that reads model files; it is damaged or made to do harm."}


def _named(path: Path) -> str:
    text = str(path) if str(path).isprintable() else ascii(str(path))
    return text if len(text) <= 120 else "..." + text[-117:]


# ---------------------------------------------------------------------------------------------------------- programs


class Program(nn.Module):
    """A program from a file, as a network: it knows no training mode, and its trouble is told in one sentence."""

    def __init__(self, program: nn.Module, kind: str, front: nn.Module) -> None:
        super().__init__()
        self.front, self.program, self._kind = front, program, kind
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)  # tells where it is, should the program not
        self.training = False

    def train(self, mode: bool = True) -> Program:
        """Nothing: a program runs as it was saved."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        try:
            logits = self.program(self.front(x))
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError, TypeError, ValueError, IndexError) as error:
            raise ModelFileError(self._trouble(x, error)) from error
        if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(x):
            what = f"{tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise ModelFileError(f"The program gives {what} for {len(x)} images; it must give one row of logits each.")
        return logits

    def _trouble(self, x: Tensor, error: Exception) -> str:
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1][:160].rstrip(". ")
        advice = (
            "export it with a batch size of its own choice, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)"
            if self._kind == "export"
            else "save one that takes such images"
        )
        return f"The program does not take {len(x)} images of {'x'.join(map(str, x.shape[1:]))} ({said}); {advice}."


def load_program(path: Path | str, kind: str, normalisation: str = "none", channels: int = 3) -> nn.Module:
    """The network in a TorchScript or torch.export file, on the CPU, behind a normalisation.

    The file is a program and runs with the rights of this process: only job and helper processes call this, and only
    for a file that somebody gave by its path. Raises ModelFileError.
    """
    front = models.front(normalisation, channels)
    try:
        if kind == "torchscript":
            program: nn.Module = torch.jit.load(str(path), map_location="cpu").eval()
        else:
            program = torch.export.load(str(path)).module()
    except Exception as error:  # whatever a damaged file makes the parsers say
        said = (str(error).strip().splitlines() or [""])[0][:120].rstrip(". ")
        raise ModelFileError(
            f"{Path(path).name} cannot be loaded ({type(error).__name__}: {said}); save it with this version of torch."
        ) from error
    for parameter in program.parameters():
        parameter.requires_grad_(False)
    return Program(program, kind, front)
