"""The tensors of a file made ready for a registered network: found, freed of wrappers' prefixes, checked, matched.

Everything that is changed on the way is said in words.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dynat_core.errors import ModelFileError, shown
from dynat_core.networks.models import ARCHITECTURES

State = dict[str, Tensor]

_WRAPPED = ("state_dict", "model_state_dict", "state", "model", "net", "network", "weights", "params", "ema")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.", "0.", "1.")
_MEANS, _STDS = ("mean", "mu", "new_mean"), ("std", "sigma", "new_std")
_COUNTER = "num_batches_tracked"  # how many batches BatchNorm has seen: of no use in eval mode
_UNUSED = "sub_block1."  # TRADES' WideResNet holds a group that its forward pass never calls
_AN_ATTACK = "attacker."  # the robustness library keeps the network a second time inside its attack


@dataclass
class Tidy:
    """Tensors under the network's own names. normalisation: what the file itself says is done to the pixels, as
    `models.statistics` reads it; "" if it says nothing."""

    tensors: State
    repairs: list[str] = field(default_factory=list)
    normalisation: str = ""


@dataclass(frozen=True)
class Match:
    """A registered network that the tensors fit. names: the network's name of a tensor -> the file's."""

    architecture: str
    channels: int
    classes: int
    names: dict[str, str]
    by_order: bool


# -------------------------------------------------------------------------------------------------------- tidying up


def tidy(content: Any, room: int) -> Tidy:
    """The weights in what a file holds. room: bytes they may take at most; a small file can claim a great many.

    Raises ModelFileError where there are none that can be used.
    """
    where, state = _unwrapped(content)
    done = Tidy({name: value for name, value in state.items() if isinstance(value, Tensor)})
    if where:
        done.repairs.append(f'taken from "{where}" inside the file')
    _drop(done, lambda name: name.rpartition(".")[2] == _COUNTER, "")
    _strip_prefixes(done)
    _drop(done, lambda name: name.startswith(_UNUSED), "left out the group sub_block1, which no forward pass uses")
    _check(done.tensors, room)
    kinds = {str(t.dtype).removeprefix("torch.") for t in done.tensors.values()} - {"float32"}
    if kinds:
        done.repairs.append(f"{' and '.join(sorted(kinds))} turned into float32")
    done.tensors = {name: t.detach().to(torch.float32).contiguous() for name, t in done.tensors.items()}
    bad = next((name for name, t in done.tensors.items() if not bool(torch.isfinite(t).all())), None)
    if bad is not None:
        raise ModelFileError(f"{shown(bad)} holds numbers that are not finite (NaN or infinity); "
                             "export the weights again, from before training broke off.")  # fmt: skip
    return done


def _unwrapped(content: Any) -> tuple[str, Mapping[str, Any]]:
    """(where inside, the mapping that holds the tensors)."""
    where: list[str] = []
    for _ in range(4):
        if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
            break
        tensors = sum(isinstance(value, Tensor) for value in content.values())
        inner = next((name for name in _WRAPPED if isinstance(content.get(name), Mapping)), None)
        if inner is None or tensors > len(content) / 2:
            if tensors:
                return ".".join(where), content
            break
        where.append(inner)
        content = content[inner]
    raise ModelFileError(
        "It holds no weights: give a file made with torch.save(model.state_dict(), ...) or safetensors."
    )


def _drop(done: Tidy, unwanted: Any, words: str) -> None:
    kept = {name: value for name, value in done.tensors.items() if not unwanted(name)}
    if len(kept) < len(done.tensors) and words:
        done.repairs.append(words)
    done.tensors = kept


def _strip_prefixes(done: Tidy) -> None:
    """Take off what wrappers put before every name, and take out a normalising layer's numbers."""
    while True:
        _take_normalisation(done)
        _drop(done, lambda name: name.startswith(_AN_ATTACK), "left out the copy of the network inside its attack")
        prefix = next((p for p in _PREFIXES if done.tensors and all(n.startswith(p) for n in done.tensors)), None)
        if prefix is None:
            return
        done.tensors = {name.removeprefix(prefix): value for name, value in done.tensors.items()}
        done.repairs.append(f'took "{prefix}" off every name')


def _take_normalisation(done: Tidy) -> None:
    """Remove a pair such as mean and std of one number per channel, and keep it as the normalisation."""
    for name, mean in list(done.tensors.items()):
        prefix, leaf = name[: len(name) - len(name.rpartition(".")[2])], name.rpartition(".")[2]
        if leaf not in _MEANS:
            continue
        other = prefix + _STDS[_MEANS.index(leaf)]
        std = done.tensors.get(other)
        if std is None or not 1 <= mean.numel() <= 4 or mean.numel() != std.numel():
            continue
        found = "/".join(",".join(map(_number, t.detach().flatten())) for t in (mean, std))
        if not bool((std > 0).all()) or not bool(torch.isfinite(mean).all() & torch.isfinite(std).all()):
            raise ModelFileError(f"The normalisation inside ({shown(name)}) needs finite means and deviations above 0.")
        if done.normalisation and done.normalisation != found:
            raise ModelFileError("It holds two different normalisations; save the network without its wrappers.")
        if not done.normalisation:
            done.repairs.append(f"the file's own normalisation is used: mean and standard deviation {found}")
        done.normalisation = found
        done.tensors = {n: t for n, t in done.tensors.items() if n not in (name, other)}


def _number(value: Tensor) -> str:
    """The fewest digits that give the same number back in its own precision: `.4914`, `.003921569`."""
    exact = value if value.dtype in (torch.float32, torch.float64) else value.float()
    return str(exact.numpy()[()]).lstrip("0")


def _check(tensors: State, room: int) -> None:
    if not tensors:
        raise ModelFileError("It holds no weights: give a file made with torch.save(model.state_dict(), ...).")
    for name, t in tensors.items():
        if t.layout != torch.strided or t.is_quantized or t.device.type != "cpu":
            raise ModelFileError(f"{shown(name)} is quantised, sparse or empty of numbers; save plain float weights.")
        if not t.is_floating_point():
            raise ModelFileError(f"{shown(name)} holds {t.dtype}, not floating point numbers; save the float network.")
    if sum(t.numel() * 4 for t in tensors.values()) > room:
        raise ModelFileError("It claims more numbers than a file of its size can hold; it is damaged.")


# ---------------------------------------------------------------------------------------------------------- matching


def matches(tensors: State, ordered: bool) -> list[Match]:
    """The registered networks that these tensors fit exactly: by name and shape, or else by shape in order.

    ordered: whether the tensors come in the order of the layers; safetensors sorts them by name. Raises ModelFileError,
    naming the nearest network and what differs, when there is none.
    """
    by_name, by_order, nearest = [], [], (float("inf"), "")
    for architecture, channels, classes, shapes in _built(tensors):
        if shapes.keys() == tensors.keys() and all(tensors[n].shape == shape for n, shape in shapes.items()):
            by_name.append(Match(architecture, channels, classes, {name: name for name in shapes}, False))
            continue
        if ordered and _same_in_order(tensors, shapes):
            names = dict(zip(shapes, tensors, strict=True))
            by_order.append(Match(architecture, channels, classes, names, True))
        away, words = _difference(tensors, shapes)
        nearest = min(nearest, (away, f"nearest is {architecture}, {words}"))
    if not (found := by_name or by_order):
        raise ModelFileError(
            f"The weights fit no architecture that is known here ({nearest[1]}); add it to ARCHITECTURES in "
            "dynat_core/networks/models.py, or export the network as TorchScript."
        )
    return found


def _built(tensors: State) -> Iterator[tuple[str, int, int, dict[str, torch.Size]]]:
    """(architecture, channels, classes, shape of each tensor) for every network that could be meant."""
    kernels = {t.shape[1] for t in tensors.values() if t.dim() == 4 and 1 <= t.shape[1] <= 4} or {3}
    heads = {t.shape[0] for t in tensors.values() if t.dim() == 2 and 1 <= t.shape[0] <= 10_000} or {10}
    for name, function in ARCHITECTURES.items():
        for channels, classes in itertools.product(sorted(kernels)[:3], sorted(heads)[:3]):
            with torch.device("meta"):
                state = function(channels, classes).state_dict()
            yield name, channels, classes, {n: t.shape for n, t in state.items() if n.rpartition(".")[2] != _COUNTER}


def _same_in_order(tensors: State, shapes: Mapping[str, torch.Size]) -> bool:
    """Whether another naming of the same network could have given these: kinds and shapes agree one by one."""
    if len(tensors) != len(shapes):
        return False
    pairs = zip(tensors.items(), shapes.items(), strict=True)
    return all(t.shape == shape and a.rpartition(".")[2] == b.rpartition(".")[2] for (a, t), (b, shape) in pairs)


def _difference(tensors: State, shapes: Mapping[str, torch.Size]) -> tuple[int, str]:
    """How far apart the two are, and in words."""
    missing = [n for n in shapes if n not in tensors]
    left = [n for n in tensors if n not in shapes]
    other = [n for n in shapes if n in tensors and tensors[n].shape != shapes[n]]
    told = []
    if other:
        told.append(f"where {shown(other[0])} is {_size(shapes[other[0]])} and not {_size(tensors[other[0]].shape)}")
    if missing:
        told.append(f"which also has {shown(missing[0])}{_more(missing)}")
    if left:
        told.append(f"which has no {shown(left[0])}{_more(left)}")
    # same multiset of shapes under other names is nearer than the same names with nothing alike
    have, want = Counter(t.shape for t in tensors.values()), Counter(shapes.values())
    apart = sum(((have - want) + (want - have)).values())
    return len(missing) + len(left) + 2 * len(other) + apart, ", ".join(told)


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _size(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "a single number"
