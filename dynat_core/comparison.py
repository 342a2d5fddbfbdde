"""Which network is better, and is it luck? Statistics of the same test images under the same attack. Plain data only.

Two kinds of luck are kept apart. The images: intervals and McNemar's test, for the networks as they are. The training:
several runs that differ in their seed alone, as mean and spread; one run each says nothing about it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dynat_core.config import NORM_WORDS, RunConfig, describe_eps
from dynat_core.statistics import score_difference

ONE_SEED = "One training seed each: the luck of training is not covered by these intervals."
_SAME = 1e-9  # pixels: two radii or step sizes this close are the same number


@dataclass(frozen=True)
class Compared:
    """One network on its test images, at one epoch, under one attack.

    index, label: (n,) image numbers and classes. clean, robust: (n,) whether it is right. gradients: of training, per
    image and epoch; seconds: of training, on the machine that trained; None where unknown. spent: attack gradients per
    image behind `robust`. verdict: what a check said of the attack. rungs: name -> (n_r,) int8 of a finished ladder,
    -1 not attacked, 0 broken, 1 stands, over the images `rungs_index`; ladder: what was asked of it and said by it.
    """

    id: str
    title: str
    config: RunConfig
    epoch: int
    which: str
    index: np.ndarray
    label: np.ndarray
    clean: np.ndarray
    robust: np.ndarray
    gradients: float | None = None
    seconds: float | None = None
    spent: float | None = None
    verdict: str = "not yet checked"
    rungs: Mapping[str, np.ndarray] | None = None
    rungs_index: np.ndarray | None = None
    ladder: Mapping[str, Any] | None = None

    @property
    def n(self) -> int:
        """Test images."""
        return len(self.index)


def told_apart(networks: Sequence[Compared]) -> list[Compared]:
    """The networks with titles that differ: the training seed is added where it tells them apart, or else the id."""
    often = Counter(network.title for network in networks)
    pairs = Counter((network.title, network.config.seed) for network in networks)

    def title(network: Compared) -> str:
        if often[network.title] == 1:
            return network.title
        seed = network.config.seed
        return f"{network.title}, " + (f"seed {seed}" if pairs[network.title, seed] == 1 else network.id)

    return [replace(network, title=title(network)) for network in networks]


# --------------------------------------------------------------------------------------------------- the same images


@dataclass(frozen=True)
class Paired:
    """Two networks on the same n images: how many both, only one, or none of them gets right.

    delta: accuracy of b minus accuracy of a, with its 95 % interval low .. high. p: McNemar's exact test, two-sided.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    delta: float
    low: float
    high: float
    p: float

    @property
    def n(self) -> int:
        """Images."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def a(self) -> int:
        """Images that a gets right."""
        return self.both + self.only_a

    @property
    def b(self) -> int:
        """Images that b gets right."""
        return self.both + self.only_b


def paired(a: np.ndarray, b: np.ndarray) -> Paired:
    """Compare two networks image by image. a, b: (n,) bool, right or not, the same images in the same order.

    The interval is Newcombe's hybrid of two score intervals with his correction for correlation (Newcombe 1998,
    Statistics in Medicine 17, method 10); without images it is NaN.
    """
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if a.shape != b.shape:
        raise ValueError("paired accuracies need the same images")
    both, only_a, only_b = int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum())
    neither = len(a) - both - only_a - only_b
    low, high = newcombe(both, only_a, only_b, neither)
    delta = (only_b - only_a) / len(a) if len(a) else math.nan
    return Paired(both, only_a, only_b, neither, delta, low, high, mcnemar(only_a, only_b))


def newcombe(both: int, only_a: int, only_b: int, neither: int) -> tuple[float, float]:
    """The 95 % interval of accuracy b minus accuracy a on the same images (Newcombe 1998, method 10)."""
    n = both + only_a + only_b + neither
    if not n:
        return math.nan, math.nan
    phi = _correlation(both, only_a, only_b, neither)
    return score_difference(both + only_b, n, both + only_a, n, phi)


def _correlation(both: int, only_a: int, only_b: int, neither: int) -> float:
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if not product:
        return 0.0
    top = both * neither - only_a * only_b
    if top > 0:
        top = max(top - (both + only_a + only_b + neither) / 2, 0)  # Newcombe's continuity correction
    return top / math.sqrt(product)


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p of McNemar's test: images on which exactly one is right fall to either side like a coin."""
    n = only_a + only_b
    if n == 0:
        return 1.0
    tail, term = 0, 1
    for k in range(min(only_a, only_b) + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    return min(1.0, 2 * tail / 2**n)


# -------------------------------------------------------------------------------------------------------- comparable


def refusal(networks: Sequence[Compared]) -> str | None:
    """Why these networks must not be compared, in one sentence; None when images and attack are the same."""
    if len(networks) < 2:
        return "Choose at least two runs to compare."
    first, shared = networks[0], common(networks)
    for other in networks[1:]:
        reason = _different(first, other)
        if reason:
            return f"{first.title} and {other.title} are not compared: {reason}."
    if not len(shared):
        return "These runs are not compared: no test image was measured on all of them."
    for other in networks[1:]:
        if not (_labels(first, shared) == _labels(other, shared)).all():
            return f"{first.title} and {other.title} are not compared: images of the same number have other labels."
    return None


def _different(a: Compared, b: Compared) -> str | None:
    """The first difference between images or attacks, in words."""
    one, two = a.config, b.config
    if one.data.words != two.data.words:
        return f"the test images are those of {one.data.words} and of {two.data.words}"
    if one.threat.norm != two.threat.norm:
        return f"the norm of the attack is {NORM_WORDS[one.threat.norm]} and {NORM_WORDS[two.threat.norm]}"
    eps, other = one.threat.eps, two.threat.eps
    if abs(eps - other) > _SAME:
        near = abs(eps - other) < 0.02 * max(eps, other)
        hint = ", which is close and still another threat" if near else ""
        return f"eps is {describe_eps(eps)} and {describe_eps(other)}{hint}"
    if one.recording.steps != two.recording.steps:
        return f"the attack takes {one.recording.steps} and {two.recording.steps} steps"
    if abs(one.recording_alpha - two.recording_alpha) > _SAME:
        return f"its step size is {describe_eps(one.recording_alpha)} and {describe_eps(two.recording_alpha)}"
    return None


def common(networks: Sequence[Compared]) -> np.ndarray:
    """The numbers of the test images that every network was measured on, in rising order."""
    shared = networks[0].index
    for other in networks[1:]:
        shared = np.intersect1d(shared, other.index)
    return np.sort(shared)


def restricted(network: Compared, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(clean, robust), each (len(index),) bool: the network on these images, in this order."""
    at = _places(network.index, index)
    return network.clean[at], network.robust[at]


def _labels(network: Compared, index: np.ndarray) -> np.ndarray:
    return network.label[_places(network.index, index)]


def _places(have: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    order = np.argsort(have)
    return order[np.searchsorted(have, wanted, sorter=order)]


def size_words(networks: Sequence[Compared]) -> str | None:
    """What is said where the networks were measured on different numbers of images; None when all on the same."""
    shared = common(networks)
    sizes = sorted({network.n for network in networks} | {len(shared)})
    if len(sizes) == 1:
        return None
    counts = ", ".join(f"{network.title} on {network.n:,}" for network in networks)
    return (
        f"Accuracies on different images are not compared: {counts} test images; "
        f"everything below is on the {len(shared):,} that all of them have."
    )


def ladder_refusal(a: Compared, b: Compared) -> str | None:
    """Why the ladders of two networks must not be compared; None when they may."""
    for network in (a, b):
        if network.ladder is None:
            return f"{network.title} has no finished ladder"
    one, two = (dict(network.ladder or {}) for network in (a, b))
    for key in ("norm", "eps", "seed"):
        if one.get(key) != two.get(key):
            say = describe_eps if key == "eps" else str
            what = "attack seed" if key == "seed" else key
            return f"the {what} of their ladders is {say(one[key])} and {say(two[key])}"
    if list(a.rungs or {}) != list(b.rungs or {}):
        return "their ladders have different attacks"
    if not np.array_equal(np.sort(a.rungs_index), np.sort(b.rungs_index)):  # type: ignore[arg-type]
        return "their ladders were climbed on different images"
    return None


def paired_rungs(a: Compared, b: Compared) -> dict[str, Paired]:
    """Rung -> comparison, and "worst case", for two ladders that `ladder_refusal` lets pass.

    An image that a rung did not attack was broken before and counts as broken.
    """
    assert a.rungs and b.rungs and a.rungs_index is not None and b.rungs_index is not None
    index = np.sort(a.rungs_index)
    at, other = _places(a.rungs_index, index), _places(b.rungs_index, index)
    found = {name: paired(a.rungs[name][at] == 1, b.rungs[name][other] == 1) for name in a.rungs}
    return found | {"worst case": paired(stands(a.rungs)[at], stands(b.rungs)[other])}


def stands(rungs: Mapping[str, np.ndarray]) -> np.ndarray:
    """(n,) bool: the image is right under every rung that attacked it, and the clean one among them."""
    return np.logical_and.reduce([values != 0 for values in rungs.values()])


# ---------------------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class Difference:
    """A setting in which the runs differ: dotted key, and its value in each run (None: that kind has no such one)."""

    key: str
    values: tuple[Any, ...]


def differences(configs: Sequence[RunConfig]) -> list[Difference]:
    """Every setting that is not the same in all, in the order of the schema; the name is no setting."""
    flat = [_flat(config) for config in configs]
    keys = dict.fromkeys(key for values in flat for key in values if key != "name")
    rows = [Difference(key, tuple(values.get(key) for values in flat)) for key in keys]
    return [row for row in rows if any(value != row.values[0] for value in row.values[1:])]


def _flat(config: RunConfig) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.model_dump(mode="json").items():
        flat |= {f"{key}.{name}": entry for name, entry in value.items()} if isinstance(value, dict) else {key: value}
    return flat


# ------------------------------------------------------------------------------------------------------------- seeds


def seed_groups(configs: Sequence[RunConfig]) -> list[list[int]]:
    """Places of runs that differ in nothing but training seed and name, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for place, config in enumerate(configs):
        same = config.model_copy(update={"seed": 0, "name": None})
        groups.setdefault(same.model_dump_json(), []).append(place)
    return list(groups.values())


@dataclass(frozen=True)
class Spread:
    """A measure over n training seeds: mean, standard deviation, least and most, and the 95 % t interval of the mean
    (NaN for one seed)."""

    n: int
    mean: float
    sd: float
    least: float
    most: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread of at least one value (Student's t with n - 1 degrees of freedom)."""
    found = np.asarray(values, dtype=np.float64)
    n, mean = len(found), float(found.mean())
    sd = float(found.std(ddof=1)) if n > 1 else math.nan
    half = t_quantile(n - 1) * sd / math.sqrt(n) if n > 1 else math.nan
    return Spread(n, mean, sd, float(found.min()), float(found.max()), mean - half, mean + half)


def between(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float] | None:
    """(difference of the means b - a, low, high) over training seeds, each group with two at least; else None, as where
    no seed changes anything: shares of so many images are rounded, and that is no certainty.

    Welch's t interval, degrees of freedom rounded down.
    """
    if len(a) < 2 or len(b) < 2:
        return None
    one, two = (np.var(values, ddof=1) / len(values) for values in (a, b))
    delta = float(np.mean(b) - np.mean(a))
    total = float(one + two)
    if total == 0:
        return None
    freedom = total**2 / (one**2 / (len(a) - 1) + two**2 / (len(b) - 1))
    half = t_quantile(max(1, int(freedom + 1e-9))) * math.sqrt(total)
    return delta, delta - half, delta + half


def t_quantile(freedom: int, share: float = 0.95) -> float:
    """The t that a share of Student's distribution lies within, -t .. t; whole degrees of freedom of at least 1."""
    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < share else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """Probability of -t .. t (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * k / (k + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
