"""Everything that decides a training run, and what is refused with one sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, get_origin

from pydantic import Field, ValidationError, field_validator, model_validator

from dynat_core.config.base import Settings, Whole, describe_eps, step_size
from dynat_core.config.images import Cifar10, Data, Digits, FashionMnist, Mnist, OwnData
from dynat_core.config.networks import (
    Cifar10CNN,
    Custom,
    DigitsCNN,
    Imported,
    MnistCNN,
    Model,
    PreActResNet18,
    WideResNet,
)
from dynat_core.config.optimizers import EntropySgd, Optimizer, Sgd
from dynat_core.config.recording import Recording
from dynat_core.config.strategies import (
    L2L,
    AttackedStrategy,
    Curriculum,
    Dynamic,
    Elsewhere,
    FgsmThenPgd,
    Standard,
    Strategy,
    Trades,
    Unsecured,
)
from dynat_core.config.threats import L2, Linf, Threat
from dynat_core.errors import ConfigError
from dynat_core.refusals import sentence, unknown

_NEEDS = {"digits-cnn": ("digits",), "mnist-cnn": ("mnist", "fashion-mnist"), "cifar10-cnn": ("cifar10",)}


class RunConfig(Settings):
    """Everything that decides a training run."""

    name: str | None = Field(default=None, max_length=120, description="a title to find the run by")
    seed: Whole = Field(
        default=0, ge=0, le=2**31 - 1, description="decides start weights, order, augmentation and attack starts"
    )
    epochs: Whole = Field(default=30, ge=0, le=10_000, description="passes over the training images")
    data: Data = Field(default_factory=Digits, description="data set")
    model: Model = Field(default_factory=DigitsCNN, description="network")
    threat: Threat = Field(default_factory=lambda: Linf(eps=0.15), description="what the attack may change")
    strategy: Strategy = Field(default_factory=lambda: Dynamic(c_max=0.1), description="how training examples are made")
    optimizer: Optimizer = Field(default_factory=Sgd, description="how weights are updated")
    recording: Recording = Field(default_factory=Recording, description="what is measured and kept")
    precision: Literal["exact", "fast"] = Field(
        default="exact",
        description="exact: float32, repeats itself bit for bit on one device; fast: attack gradients in bfloat16",
    )
    device: str = Field(default="auto", description="auto (a GPU when there is one), cpu, cuda or cuda:N")

    @field_validator("device")
    @classmethod
    def _device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", device):
            raise ValueError("must be auto, cpu, cuda or cuda:N")
        return device

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        if self.epochs < 1 and self.trains_here:
            raise ValueError(f"epochs must be 1 or more (got {self.epochs})")
        if isinstance(self.strategy, Dynamic) and self.strategy.T_control > self.epochs:
            raise ValueError(f"strategy.T_control must be at most epochs ({self.strategy.T_control} > {self.epochs})")
        if isinstance(self.strategy, FgsmThenPgd) and self.strategy.switch > self.epochs:
            raise ValueError(f"strategy.switch must be at most epochs ({self.strategy.switch} > {self.epochs})")
        wanted = _NEEDS.get(self.model.name)
        if wanted and self.data.name not in wanted:
            fits = [name for name in get_model_names() if self.data.name in _NEEDS.get(name, (self.data.name,))]
            raise ValueError(f"model.name {self.model.name} is made for {' or '.join(wanted)}; "
                             f"for {self.data.name} choose {', '.join(fits)}")  # fmt: skip
        return self

    # -- what follows from the settings

    @property
    def trains_here(self) -> bool:
        """Whether these settings say how to train; else the network comes from elsewhere and is only measured."""
        return not (
            isinstance(self.strategy, Elsewhere)
            or isinstance(self.model, Imported | Custom)
            or isinstance(self.data, OwnData)
        )

    def pointless(self) -> str | None:
        """Why nobody should begin this training, in one sentence. A run that is there already is read all the same."""
        if self.threat.eps == 0 and isinstance(self.strategy, AttackedStrategy):
            return f"threat.eps must be above 0 where {STRATEGY_WORDS[self.strategy.name]} attacks (got 0)."
        return None

    def unreached(self) -> str | None:
        """That the learning rate will not fall at some milestones, in one sentence: a training may have been shortened
        on purpose."""
        late = self.optimizer.unreached(self.epochs) if self.trains_here else ()
        if not late:
            return None
        named = ", ".join(map(str, late[:3])) + (", ..." if len(late) > 3 else "")
        return f"optimizer.milestones: {named} {'is' if len(late) == 1 else 'are'} not reached in {self.epochs} epochs."

    @property
    def train_size(self) -> int:
        """Training images used."""
        return self.data.train_size or self.data.counts[0] - self.data.validation_size

    @property
    def test_size(self) -> int:
        """Test images used."""
        return self.data.test_size or self.data.counts[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return self.data.shape

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        return self.data.classes

    @property
    def alpha(self) -> float | None:
        """Step size of the training attack in pixels; None for clean training."""
        return step_size(self.strategy.alpha, self.threat.eps) if isinstance(self.strategy, AttackedStrategy) else None

    @property
    def recording_alpha(self) -> float:
        """Step size of the recorded attacks in pixels."""
        return step_size(self.recording.alpha, self.threat.eps)

    def attack_words(self) -> str:
        """The attack behind the recorded robust accuracies, whole: `PGD-20, ...`."""
        return (
            f"PGD-{self.recording.steps}, step {describe_eps(self.recording_alpha)}, cross-entropy, "
            f"random start, 1 restart, {NORM_WORDS[self.threat.norm]} eps {describe_eps(self.threat.eps)}"
        )

    def summary(self) -> str:
        """The run in a few words."""
        strategy = self.training_words()
        length = f", {self.epochs} epochs" if self.trains_here else ""
        return f"{strategy} on {self.data.words}, eps {describe_eps(self.threat.eps)}{length}"

    def training_words(self) -> str:
        """The strategy, and the optimiser where it is not SGD: `Standard with EntropySGD`."""
        optimizer = "" if isinstance(self.optimizer, Sgd) else f" with {OPTIMIZER_WORDS[self.optimizer.name]}"
        return STRATEGY_WORDS[self.strategy.name] + optimizer

    def title(self) -> str:
        """The name somebody gave, or else what tells it from others: `Dynamic, digits, eps .15, seed 3`."""
        if self.name:
            return self.name
        eps, norm = self.threat.eps, "" if self.threat.norm == "linf" else f"{NORM_WORDS[self.threat.norm]} "
        whole = round(eps * 255)
        size = f"{whole}/255" if whole and abs(eps * 255 - whole) < 1e-6 and eps < 1 else f"{eps:.3g}"
        what = self.training_words()
        if isinstance(self.model, Imported) and self.model.architecture:
            what = self.model.architecture
        words = [what, self.data.words, f"{norm}eps {size[1:] if size.startswith('0.') else size}"]
        return ", ".join([*words, *([f"seed {self.seed}"] if self.trains_here else [])])

    # -- text in, text out

    def to_json(self, indent: int | None = None) -> str:
        """The settings as JSON; `RunConfig.from_json` gives them back."""
        return self.model_dump_json(indent=indent)

    @classmethod
    def from_json(cls, text: str) -> RunConfig:
        """Settings from JSON. Raises ConfigError."""
        try:
            return cls.build(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"The settings are not JSON: {error}.") from error

    @classmethod
    def build(cls, values: Any) -> RunConfig:
        """Settings from a nested dict. Raises ConfigError with one sentence."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            kinds = {field: union_kinds(field) for field in _UNIONS}
            raise ConfigError(sentence(error, cls, kinds, {"recording": Recording})) from error

    def with_values(self, changes: Mapping[str, Any]) -> RunConfig:
        """A copy with dotted keys changed, `{"strategy.c_max": "0.1"}`; text is read as JSON where it is JSON, and
        a list also as it is typed into the form, `8, 11`.

        A change of kind (`strategy.name`, `threat.norm`) keeps the settings that both kinds have. Raises ConfigError.
        """
        tree = self.model_dump(mode="json")
        ordered = sorted(changes.items(), key=lambda item: item[0].rpartition(".")[2] not in _TAGS)
        for key, value in ordered:
            read = _read(value)
            if isinstance(value, str) and _is_list(key):
                read = _as_list(value, read)
            _put(tree, key, read)
        return RunConfig.build(tree)


NORM_WORDS = {"linf": "L-inf", "l2": "L2"}
OPTIMIZER_WORDS = {"sgd": "SGD", "entropy-sgd": "EntropySGD"}
STRATEGY_WORDS = {
    "unsecured": "Unsecured",
    "standard": "Standard",
    "dynamic": "Dynamic",
    "curriculum": "Curriculum",
    "fgsm-then-pgd": "FGSM then PGD",
    "trades": "TRADES",
    "l2l": "L2L",
    "elsewhere": "Trained elsewhere",
}
_TAGS = {"name", "norm"}
_UNIONS: dict[str, tuple[str, dict[str, type[Settings]]]] = {
    "data": ("name", {"digits": Digits, "mnist": Mnist, "fashion-mnist": FashionMnist, "cifar10": Cifar10,
                      "own": OwnData}),
    "model": ("name", {"digits-cnn": DigitsCNN, "mnist-cnn": MnistCNN, "cifar10-cnn": Cifar10CNN,
                       "preact-resnet18": PreActResNet18, "wide-resnet": WideResNet, "imported": Imported,
                       "custom": Custom}),
    "threat": ("norm", {"linf": Linf, "l2": L2}),
    "strategy": ("name", {"unsecured": Unsecured, "standard": Standard, "dynamic": Dynamic,
                          "curriculum": Curriculum, "fgsm-then-pgd": FgsmThenPgd, "trades": Trades, "l2l": L2L,
                          "elsewhere": Elsewhere}),
    "optimizer": ("name", {"sgd": Sgd, "entropy-sgd": EntropySgd}),
}  # fmt: skip
_MEASURED_ONLY = {"own", "imported", "custom", "elsewhere"}  # kinds that say nothing about how to train


def get_model_names() -> list[str]:
    """The registered names of networks that can be trained."""
    return list(union_kinds("model")[1])


def union_kinds(field: str) -> tuple[str, dict[str, type[Settings]]]:
    """(tag, {value of the tag: settings class}) of a union field (data, model, threat, strategy, optimizer): what
    training may choose."""
    tag, kinds = _UNIONS[field]
    return tag, {name: kind for name, kind in kinds.items() if name not in _MEASURED_ONLY}


def _read(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # no JSON, or more digits than Python reads
        return value


def _is_list(key: str) -> bool:
    """Whether a dotted key is a setting that holds several values, in any kind of its group."""
    group, _, name = key.partition(".")
    kinds = _UNIONS[group][1].values() if group in _UNIONS else ()
    fields = [kind.model_fields[name] for kind in kinds if name in kind.model_fields]
    return any(get_origin(field.annotation) is tuple for field in fields)


def _as_list(text: str, read: Any) -> Any:
    """`8,11`, `8 11` or `8` as a list of its parts; what is JSON but no number stays what it is."""
    if isinstance(read, bool) or not isinstance(read, str | int | float):
        return read
    return [_read(part) for part in text.replace(",", " ").split()]


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set dotted `key` in `tree`; a new kind of a union drops what the new kind does not have."""
    head, _, rest = key.partition(".")
    if head not in tree:
        raise ConfigError(unknown(key, head, list(tree), ""))
    if not rest:
        tree[head] = value
        return
    branch = tree[head]
    if not isinstance(branch, dict) or "." in rest:
        raise ConfigError(f"{key} is not a setting: {head} has no parts of that name.")
    if head in _UNIONS and rest == _UNIONS[head][0]:
        kinds = _UNIONS[head][1]
        if isinstance(value, str) and value in kinds and value != branch[rest]:
            fresh = kinds[value]().model_dump(mode="json")
            tree[head] = {k: branch.get(k, default) for k, default in fresh.items()}
        tree[head][rest] = value
        return
    if rest not in branch:
        raise ConfigError(unknown(key, rest, list(branch), head + "."))
    branch[rest] = value
