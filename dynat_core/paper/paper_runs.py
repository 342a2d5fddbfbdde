"""The runs behind each table and figure of Wang et al. 2019, as settings, at full length or at a share of the cost.

What the sources do not say (T_control on MNIST, how Curriculum was run, when FGSM gives way to PGD) is ours and kept in
proportion; the digits have set-ups of our own, and nothing was published for them.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Literal

from dynat_core.config import (
    Cifar10,
    Cifar10CNN,
    Curriculum,
    Digits,
    DigitsCNN,
    Dynamic,
    FgsmThenPgd,
    Linf,
    Mnist,
    MnistCNN,
    PreActResNet18,
    Recording,
    RunConfig,
    Sgd,
    Standard,
    Strategy,
    Unsecured,
    WideResNet,
)
from dynat_core.errors import ConfigError

DATA = ("digits", "mnist", "cifar10")
PARTS = {  # part -> (the data it is about unless told otherwise, what it shows)
    "table1": ("mnist", "White-box robustness of each defence"),
    "table2": ("mnist", "Black-box robustness: examples made on another network"),
    "table3": ("cifar10", "White-box robustness of WideResNet"),
    "figure1a": ("digits", "Accuracy and loss of test examples by their FOSC"),
    "figure1b": ("digits", "FOSC and loss of single images, step by step"),
    "figure2": ("digits", "Step size and number of steps of the training attack"),
    "figure3": ("digits", "FOSC of the training examples over the epochs, and FGSM before PGD"),
    "figure4": ("digits", "FOSC of the training examples of each defence"),
    "ablation": ("digits", "Dynamic's gain without the authors' weighted loss, and the other way round"),
}
FEWEST = 5  # epochs, however small the share
REDUCED_IMAGES = 1000  # test images below full length
FEWEST_IMAGES = 50  # a share of fewer says nothing
MOST_SEEDS = 20
SURROGATE_SEED = 1000  # far from any defence's own
ALPHAS = ("eps", "eps/2", "eps/4", "eps/8")
STEPS = (10, 20, 30, 40)
EQUAL_STEPS = 7  # of Standard, about the gradients that Dynamic spends on the digits; both are printed
ROW_WORDS = {
    "unsecured": "Unsecured",
    "standard": "Standard",
    "curriculum": "Curriculum",
    "fgsm-then-pgd": "FGSM then PGD",
    "dynamic": "Dynamic",
    "surrogate": "Surrogate",
}


@dataclass(frozen=True)
class Target:
    """What is to be reproduced. scale: share of the full cost of training, above 0 and at most 1; images: test images
    measured, and held-out ones at most; None for as many as the scale stands for."""

    part: str
    data: str
    scale: float = 1.0
    seeds: int = 1
    images: int | None = None

    @property
    def name(self) -> str:
        """`table1-mnist`."""
        return f"{self.part}-{self.data}"

    @property
    def key(self) -> str:
        """The name with what it was done with, which a file is called by."""
        return f"{self.name}-scale{self.scale:g}-seeds{self.seeds}" + (f"-images{self.images}" if self.images else "")


@dataclass(frozen=True)
class Wanted:
    """A run that a target needs: the row or cell it stands for, its seed and its settings."""

    row: str
    seed: int
    config: RunConfig


def target(text: str, data: str | None = None, scale: float = 1.0, seeds: int = 1, images: int | None = None) -> Target:
    """`table1-mnist`, `figure4`, ... with its options. Raises ConfigError with one sentence."""
    part, _, tail = text.partition("-")
    if part not in PARTS or (tail and tail not in DATA):
        known = list(names())
        near = difflib.get_close_matches(text, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(known)}."
        raise ConfigError(f"There is nothing called {ascii(text)[1:-1][:60]} to reproduce; {hint}")
    if data is not None and data not in DATA:
        raise ConfigError(f"The set-ups are made for {', '.join(DATA)} (got {ascii(data)[1:-1][:60]}).")
    if tail and data and tail != data:
        raise ConfigError(f"{text} is about {tail}, and --data says {data}; leave one of them out.")
    where = tail or data or PARTS[part][0]
    if part == "table3" and where == "mnist":
        raise ConfigError("The table of WideResNet is about cifar10; choose that, or digits for a trial.")
    if not 0 < scale <= 1:
        raise ConfigError(f"--scale is a share of the full cost, above 0 and at most 1 (got {scale:g}).")
    if not 1 <= seeds <= MOST_SEEDS:
        raise ConfigError(f"--seeds must be 1 to {MOST_SEEDS} (got {seeds}).")
    most = full_data(where).counts[1]
    if images is not None and not FEWEST_IMAGES <= images <= most:
        raise ConfigError(f"--images must be {FEWEST_IMAGES} to {most:,}, the test images of {where} (got {images:,}).")
    return Target(part, where, scale, seeds, None if images == tested(where, scale) else images)


def names() -> list[str]:
    """Every target, tables with their data."""
    found = []
    for part in PARTS:
        found += [f"{part}-{data}" for data in DATA] if part in ("table1", "table2") else [part]
    return found


# --------------------------------------------------------------------------------------------------------- set-ups

Network = Literal["cnn", "wide", "surrogate"]


def full_epochs(data: str) -> int:
    """Epochs of the full length."""
    return {"digits": 30, "mnist": 50, "cifar10": 120}[data]


def paper_eps(data: str) -> float:
    """The radius of the paper's attacks; on the digits ours."""
    return {"digits": 0.15, "mnist": 0.3, "cifar10": 8 / 255}[data]


def lengths(data: str, scale: float) -> tuple[int, float]:
    """(epochs, share of the training images) that together cost `scale` of the full length; epochs go first, down to
    FEWEST."""
    whole = full_epochs(data)
    epochs = max(FEWEST, round(scale * whole))
    return epochs, min(1.0, scale * whole / epochs)


def full_data(data: str) -> Digits | Mnist | Cifar10:
    """A data set, whole."""
    return {"digits": Digits(), "mnist": Mnist(), "cifar10": Cifar10()}[data]


def tested(data: str, scale: float) -> int:
    """Test images where nothing else was asked for: all of the digits and at full length, or else REDUCED_IMAGES, which
    training otherwise costs less than."""
    return full_data(data).counts[1] if data == "digits" or scale == 1 else REDUCED_IMAGES


def setup(
    strategy: Strategy,
    data: str,
    scale: float,
    seed: int = 0,
    network: Network = "cnn",
    images: int | None = None,
) -> RunConfig:
    """A run of the paper's, at `scale` of its cost; milestones of the learning rate are scaled along. images: test
    images measured, and held-out ones at most, which cost more than a short training does."""
    epochs, share = lengths(data, scale)
    falls = {"digits": (0.6, 0.85), "mnist": (0.4, 0.8), "cifar10": (0.5, 100 / 120)}[data]
    first = max(1, round(falls[0] * epochs))
    milestones = (first, max(first + 1, round(falls[1] * epochs)))
    whole = full_data(data)
    held_out, most = whole.validation_size, tested(data, scale)
    pool = whole.counts[0] - held_out
    sizes: dict[str, int | None] = {
        "train_size": None if share >= 1 else max(200, round(share * pool)),
        "test_size": None if most == whole.counts[1] else most,
    }
    if images is not None:  # the training images stay as many
        sizes |= {"train_size": sizes["train_size"] or pool, "test_size": images}
        sizes["validation_size"] = min(held_out, images)
    return RunConfig(
        seed=seed,
        epochs=epochs,
        data=whole.model_copy(update=sizes),
        model=_network(data, network),
        threat=Linf(eps=paper_eps(data)),
        strategy=strategy,
        optimizer=Sgd(lr=0.05, batch=64, milestones=milestones) if data == "digits" else Sgd(milestones=milestones),
        recording=_recording(data, scale),
        precision="exact" if data == "digits" or scale == 1 else "fast",
    )


def _network(data: str, network: Network) -> MnistCNN | Cifar10CNN | DigitsCNN | WideResNet | PreActResNet18:
    if data == "digits":
        return DigitsCNN()
    if data == "mnist":
        return MnistCNN()
    # the paper's surrogate is a ResNet-50, which is not among the networks here
    return {"cnn": Cifar10CNN(), "wide": WideResNet(depth=34, width=10), "surrogate": PreActResNet18()}[network]


def _recording(data: str, scale: float) -> Recording:
    """Little of every epoch: what the tables need is measured on finished networks."""
    if data == "digits":
        return Recording(test_images=100, train_rows=100, final_gradients=None, probes=10, path_steps=20)
    watched = 500 if scale == 1 else 200
    return Recording(test_images=watched, train_rows=watched, final_gradients=1000, probes=10, path_steps=20)


def defence(name: str, data: str, epochs: int) -> Strategy:
    """A defence's settings on a data set, with `epochs` epochs to train."""
    known: dict[str, Strategy] = {
        "unsecured": Unsecured(),
        "standard": Standard(),
        "curriculum": curriculum(data, epochs),
        "fgsm-then-pgd": FgsmThenPgd(switch=epochs // 2),
        "dynamic": dynamic(data, epochs),
    }
    return known[name]


def curriculum(data: str, epochs: int) -> Curriculum:
    """Curriculum with the paper's longest attack. A short training has fewer lessons that grow by more, so that the
    last one can still begin at .8 of the epochs, as it can at full length."""
    lessons = {"digits": 10, "mnist": 40, "cifar10": 7}[data]
    growth = math.ceil(lessons / max(1, round(0.8 * epochs)))
    return Curriculum(steps=lessons, growth=growth, patience=max(1, epochs // lessons))


def dynamic(data: str, epochs: int, **more: str) -> Dynamic:
    """Dynamic with the paper's c_max and form of FOSC; on the digits with ours. T_control / epochs is kept."""
    share = 100 / 120 if data == "cifar10" else 0.8
    control = max(1, round(share * epochs))
    given = {"c_max": 0.1, "stop_form": "box"} if data == "digits" else {"c_max": 0.5, "stop_form": "paper"}
    return Dynamic.model_validate({**given, "T_control": control, **more})


# ----------------------------------------------------------------------------------------------- what a target needs

ROWS = {
    "table1": ("unsecured", "standard", "curriculum", "fgsm-then-pgd", "dynamic"),
    "table2": ("standard", "curriculum", "dynamic"),
    "table3": ("standard", "curriculum", "dynamic"),
    "figure1a": ("standard",),
    "figure1b": ("standard",),
    "figure3": ("standard", "fgsm-then-pgd"),
    "figure4": ("standard", "curriculum", "dynamic"),
}


def wanted(target: Target) -> list[Wanted]:
    """Every run that the target needs, seed by seed."""
    data, scale = target.data, target.scale
    epochs, _ = lengths(data, scale)
    found = []
    for seed in range(target.seeds):
        for row, strategy in cells(target.part, data, epochs).items():
            network: Network = "wide" if target.part == "table3" else "cnn"
            found.append(Wanted(row, seed, setup(strategy, data, scale, seed, network, target.images)))
    if target.part == "table2":
        model = setup(Standard(), data, scale, SURROGATE_SEED, "surrogate", target.images)
        found.append(Wanted("surrogate", SURROGATE_SEED, model))
    return found


def cells(part: str, data: str, epochs: int) -> dict[str, Strategy]:
    """Row or cell -> how it is trained."""
    if part == "figure2":
        one: dict[str, Strategy] = {f"{alpha}, 10 steps": Standard(alpha=alpha) for alpha in ALPHAS}
        return one | {f"eps/4, {k} steps": Standard(steps=k) for k in STEPS if k != 10}
    if part == "ablation":
        return ablation(data, epochs)
    return {row: defence(row, data, epochs) for row in ROWS[part]}


def ablation(data: str, epochs: int) -> dict[str, Strategy]:
    """{Standard, Dynamic} x {cross-entropy, weighted by itself} x {box, paper stop form}; Standard stops nothing, so it
    has no form; and Standard with fewer steps, for equal gradients."""
    losses = {"CE": "paper", "CE weighted": "code"}
    found: dict[str, Strategy] = {f"Standard, {name}": Standard(as_published=how) for name, how in losses.items()}  # type: ignore[arg-type]
    for form in ("box", "paper"):
        for name, how in losses.items():
            found[f"Dynamic, {name}, {form}"] = dynamic(data, epochs, as_published=how, stop_form=form)
    return found | {f"Standard, CE, {EQUAL_STEPS} steps": Standard(steps=EQUAL_STEPS)}


def reduced_words(target: Target, n: int) -> str | None:
    """`reduced: 5 of 50 epochs, 11,800 of 59,000 training images, 1,000 test images`; None at full length on as many
    images as that stands for."""
    if target.scale >= 1 and target.images is None:
        return None
    whole = setup(Standard(), target.data, 1.0)
    here = setup(Standard(), target.data, target.scale, images=target.images)
    parts = []
    if target.scale < 1:
        parts.append(f"{here.epochs} of {whole.epochs} epochs")
    if here.train_size < whole.train_size:
        parts.append(f"{here.train_size:,} of {whole.train_size:,} training images")
    return f"reduced: {', '.join([*parts, f'{n:,} test images'])}"
