"""Every setting of a run, as one frozen schema: behind the form, the command line, run.json and the docs.

After a `RunConfig` is built nobody checks again. What is wrong is said in one sentence (`ConfigError`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from dynat_core.errors import ConfigError
from dynat_core.refusals import sentence, unknown


class Settings(BaseModel):
    """Frozen, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


# ---------------------------------------------------------------------------------------------------------- numbers


def parse_number(value: Any) -> Any:
    """`"8/255"` -> 0.03137...; anything that is not a fraction in text is returned as it is, for pydantic to judge."""
    if isinstance(value, str):
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            return value
    return value


def describe_eps(eps: float) -> str:
    """A pixel size in both units, `8/255 (0.0314)`; a size that is no simple part of 255 reads `0.0310 (7.91/255)`."""
    steps = eps * 255
    if abs(steps - round(steps)) < 1e-6 and round(steps) != 0:
        return f"{round(steps)}/255 ({eps:.4g})"
    return f"{eps:.4g} ({steps:.4g}/255)"


Number = Annotated[float, BeforeValidator(parse_number)]

_OF_EPS = re.compile(r"^eps(?:/(?P<over>[0-9.]+))?$")


def _parse_step_size(value: Any) -> Any:
    if isinstance(value, str):
        text = value.replace(" ", "")
        found = _OF_EPS.match(text)
        if found:
            over = found["over"]
            if over is not None and (over.count(".") > 1 or over == "." or float(over) <= 0):
                raise ValueError('must be a size in pixels above 0, such as 2/255, or a part of eps, such as "eps/4"')
            return text
        value = parse_number(text)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError('must be a size in pixels above 0, such as 2/255, or a part of eps, such as "eps/4"')
    return float(value)


StepSize = Annotated[float | str, BeforeValidator(_parse_step_size)]


def step_size(alpha: float | str, eps: float) -> float:
    """A step size in pixels: `"eps/4"` is resolved with `eps`, a number is itself."""
    if isinstance(alpha, str):
        over = alpha.partition("/")[2]
        return eps / float(over) if over else eps
    return alpha


# ------------------------------------------------------------------------------------------------------------- data


class DataSettings(Settings):
    """What all data sets share. Sizes left empty mean all there is."""

    validation_size: int = Field(
        default=1000, ge=1, description="training images held out to choose the best checkpoint; test images never do"
    )
    train_size: int | None = Field(
        default=None, ge=1, description="training images used, after the validation split; all if empty"
    )
    test_size: int | None = Field(default=None, ge=1, description="test images used; all if empty")

    @property
    def counts(self) -> tuple[int, int]:
        """(training images, validation included, test images) there are."""
        return SHAPES[self.__dict__["name"]][:2]  # every kind has its own literal name

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return SHAPES[self.__dict__["name"]][2]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        return SHAPES[self.__dict__["name"]][3]

    @property
    def words(self) -> str:
        """What people call it."""
        return self.__dict__["name"]

    @model_validator(mode="after")
    def _fits(self) -> DataSettings:
        have_train, have_test = self.counts
        left = have_train - self.validation_size
        if left < 1:
            raise ValueError(f"validation_size must be below {have_train:,}, the number of training images")
        if self.train_size is not None and self.train_size > left:
            raise ValueError(
                f"train_size must be at most {left:,}, what is left beside {have_train - left:,} for validation"
            )
        if self.test_size is not None and self.test_size > have_test:
            raise ValueError(f"test_size must be at most {have_test:,}, the number of test images")
        return self


class Digits(DataSettings):
    """8x8 grey digits that come with scikit-learn: 1,297 training and 500 test images, nothing to download."""

    name: Literal["digits"] = "digits"
    validation_size: int = Field(
        default=147, ge=1, description=DataSettings.model_fields["validation_size"].description
    )


class Mnist(DataSettings):
    """28x28 grey handwritten digits: 60,000 training and 10,000 test images."""

    name: Literal["mnist"] = "mnist"


class FashionMnist(DataSettings):
    """28x28 grey pictures of clothes: 60,000 training and 10,000 test images."""

    name: Literal["fashion-mnist"] = "fashion-mnist"


class Cifar10(DataSettings):
    """32x32 colour pictures of ten kinds: 50,000 training and 10,000 test images."""

    name: Literal["cifar10"] = "cifar10"
    augment: bool = Field(
        default=True, description="rotate by up to 10 degrees, shift by up to 20 %, flip, as the authors' code does"
    )


class OwnData(Settings):
    """Images that somebody brought: models are measured on them, none is trained here.

    A collection is a file of the data folder; it is empty where the images were handed over in a program.
    """

    name: Literal["own"] = "own"
    collection: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,79})?$", description="its name")
    channels: int = Field(default=1, ge=1, le=64, description="channels of an image")
    height: int = Field(default=1, ge=1, le=4096, description="rows of an image")
    width: int = Field(default=1, ge=1, le=4096, description="columns of an image")
    images: int = Field(default=1, ge=1, description="how many images there are")
    class_names: tuple[str, ...] = Field(default=(), max_length=10_000, description="names of the classes")
    validation_size: Literal[0] = 0
    train_size: Literal[0] = 0
    test_size: int | None = Field(default=None, ge=1, description="images used; all if empty")

    @property
    def counts(self) -> tuple[int, int]:
        """(0, images): all of them are test images."""
        return 0, self.images

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return self.channels, self.height, self.width

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        return self.class_names

    @property
    def words(self) -> str:
        """What people call it."""
        return self.collection or "images of one's own"


Data = Annotated[Digits | Mnist | FashionMnist | Cifar10 | OwnData, Field(discriminator="name")]

SHAPES: dict[str, tuple[int, int, tuple[int, int, int], tuple[str, ...]]] = {
    # training images, test images, (channels, height, width), class names
    "digits": (1297, 500, (1, 8, 8), tuple("0123456789")),
    "mnist": (60_000, 10_000, (1, 28, 28), tuple("0123456789")),
    "fashion-mnist": (
        60_000, 10_000, (1, 28, 28),
        ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    "cifar10": (
        50_000, 10_000, (3, 32, 32),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
}  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- models


class DigitsCNN(Settings):
    """A small network for the 8x8 digits: 9,850 parameters."""

    name: Literal["digits-cnn"] = "digits-cnn"


class MnistCNN(Settings):
    """The paper's MNIST network: 421,834 parameters."""

    name: Literal["mnist-cnn"] = "mnist-cnn"


class Cifar10CNN(Settings):
    """The paper's CIFAR-10 network: 1,639,794 parameters."""

    name: Literal["cifar10-cnn"] = "cifar10-cnn"


class PreActResNet18(Settings):
    """Residual network with pre-activation, 18 layers: about 11.2 million parameters."""

    name: Literal["preact-resnet18"] = "preact-resnet18"


class WideResNet(Settings):
    """Wide residual network; depth counts convolutions and the classifier, as in WRN-28-10 and WRN-34-10."""

    name: Literal["wide-resnet"] = "wide-resnet"
    depth: int = Field(default=34, ge=10, description="layers: 10, 16, 22, 28, 34, ... (6 n + 4)")
    width: int = Field(
        default=10, ge=1, le=20, description="width factor: the groups have 16, 32 and 64 times as many channels"
    )

    @field_validator("depth")
    @classmethod
    def _whole_blocks(cls, depth: int) -> int:
        if (depth - 4) % 6:
            raise ValueError("must be 6 n + 4: 10, 16, 22, 28, 34, 40, ...")
        return depth


class Imported(Settings):
    """A network brought in from a file: weights for an architecture that is known here, or a program that PyTorch
    saved."""

    name: Literal["imported"] = "imported"
    architecture: str = Field(
        default="", max_length=80, description="the known network that the weights fit; empty for a program"
    )
    program: Literal["", "torchscript", "export"] = Field(
        default="", description="the file is a whole program: TorchScript or torch.export"
    )
    normalisation: str = Field(
        default="none", max_length=40, description="what is done to the pixels first: a convention by its name"
    )


class Custom(Settings):
    """A network that lives in somebody's own program: what it computed is recorded, its weights are not."""

    name: Literal["custom"] = "custom"
    words: str = Field(default="", max_length=200, description="what it is")


Model = Annotated[
    DigitsCNN | MnistCNN | Cifar10CNN | PreActResNet18 | WideResNet | Imported | Custom, Field(discriminator="name")
]


# ---------------------------------------------------------------------------------------------------------- threats


class Linf(Settings):
    """Each pixel may change by at most eps."""

    norm: Literal["linf"] = "linf"
    eps: Number = Field(
        default=0.3, ge=0, le=1, description="radius in pixels of [0, 1]; a fraction such as 8/255 may be typed"
    )


class L2(Settings):
    """The change as a whole may have Euclidean length at most eps."""

    norm: Literal["l2"] = "l2"
    eps: Number = Field(default=0.5, ge=0, description="radius in pixels of [0, 1], Euclidean; a fraction may be typed")


Threat = Annotated[Linf | L2, Field(discriminator="norm")]


def threat_of(norm: Literal["linf", "l2"], eps: float) -> Threat:
    """The threat of a norm and a radius in pixels."""
    return Linf(eps=eps) if norm == "linf" else L2(eps=eps)


# ------------------------------------------------------------------------------------------------------- strategies


class Unsecured(Settings):
    """Clean training, no attack: what the defences are compared with."""

    name: Literal["unsecured"] = "unsecured"


class AttackedStrategy(Settings):
    """What strategies that attack their training images share."""

    steps: int = Field(default=10, ge=1, le=1000, description="steps of the attack per training image, K")
    alpha: StepSize = Field(default="eps/4", description="step size, in pixels or as a part of eps")

    @property
    def gradients(self) -> int:
        """Gradients an image costs at most; what recording adds is not counted."""
        return self.steps


class PgdStrategy(AttackedStrategy):
    """What strategies that train on PGD examples share."""

    start: Literal["random", "clean"] = Field(
        default="random", description="where PGD starts: a uniform random point of the ball, or x"
    )


class Standard(PgdStrategy):
    """Every image is attacked with all K steps of PGD (Madry et al. 2018)."""

    name: Literal["standard"] = "standard"
    as_published: Literal["paper", "code"] = Field(
        default="paper",
        description="outer loss: cross-entropy, or weighted by itself from the second epoch on, as the authors' code "
        "of Dynamic does",
    )


class Dynamic(PgdStrategy):
    """An image is attacked only until its FOSC is at most c_t, which falls to 0 during training (Wang et al. 2019)."""

    name: Literal["dynamic"] = "dynamic"
    c_max: Number = Field(default=0.5, ge=0, description="FOSC threshold of the first epoch, in loss units")
    T_control: int = Field(default=24, ge=1, description="epochs until the threshold reaches 0")
    stop_form: Literal["box", "paper", "code"] = Field(
        default="box",
        description="FOSC that stops: with the pixel box; the paper's closed form; or the authors' code's, "
        "from the start point",
    )
    as_published: Literal["paper", "code"] = Field(
        default="paper",
        description="outer loss: cross-entropy, or as in the authors' code weighted by itself from the second epoch on",
    )

    def threshold(self, t: int) -> float:
        """c_t of epoch t = 0, 1, ...: linear from c_max to 0 at T_control (Wang et al. 2019, Algorithm 1)."""
        return max(self.c_max - t * self.c_max / self.T_control, 0.0)


class Trades(AttackedStrategy):
    """Clean cross-entropy plus beta times the worst divergence of the prediction near the image (Zhang et al. 2019).

    The attack climbs the divergence from x + 0.001 N(0, 1); it never sees the label.
    """

    name: Literal["trades"] = "trades"
    beta: Number = Field(
        default=6.0,
        ge=0,
        description="weight of the divergence: KL summed over classes, averaged over the batch; 0 is clean training",
    )
    as_published: Literal["paper", "code"] = Field(
        default="paper",
        description="one clean pass for both terms, or as in the authors' code two, which BatchNorm's averages see",
    )


class L2L(AttackedStrategy):
    """A small recurrent network, trained along with the classifier, chooses every step of the attack (Xiong and Hsieh
    2020)."""

    name: Literal["l2l"] = "l2l"
    steps: int = Field(default=10, ge=1, le=50, description="steps of the learned attack per training image, T")
    alpha: StepSize = Field(default="eps/4", description="half the longest step; in pixels or as a part of eps")
    units: int = Field(default=20, ge=1, le=100, description="units of the recurrent network, shared by all pixels")
    attacker_lr: Number = Field(default=1e-3, gt=0, description="learning rate (Adam) of the recurrent network")

    @property
    def gradients(self) -> int:
        """One more than steps: the loss at the last point trains the attacker too."""
        return self.steps + 1


class Curriculum(PgdStrategy):
    """The attack gets one step longer whenever the present lesson is learnt (Cai et al. 2018).

    Lesson k = 0, 1, .. steps attacks with k steps. What target, patience and longest lesson Wang et al. used is unknown
    beyond 7 steps on CIFAR-10 and 40 on MNIST.
    """

    name: Literal["curriculum"] = "curriculum"
    steps: int = Field(default=7, ge=1, le=1000, description="steps of the last lesson, K")
    target: float = Field(
        default=0.95, gt=0, le=1, description="training accuracy on the images of the lesson that ends it"
    )
    patience: int = Field(
        default=3, ge=1, description="epochs without a better one after which the lesson ends all the same"
    )
    mixing: bool = Field(
        default=True,
        description="cut each batch into k + 1 equal parts attacked with 0 to k steps, so that earlier lessons are not "
        "forgotten; else every image gets k steps",
    )


class FgsmThenPgd(PgdStrategy):
    """FGSM in the early epochs, PGD later: does it hurt to begin with weak examples? (Wang et al. 2019, figure 3)."""

    name: Literal["fgsm-then-pgd"] = "fgsm-then-pgd"
    switch: int = Field(default=15, ge=0, description="epochs of FGSM, one step of eps, before PGD takes over")


class Elsewhere(Settings):
    """Trained elsewhere: how is not known here."""

    name: Literal["elsewhere"] = "elsewhere"


Strategy = Annotated[
    Unsecured | Standard | Dynamic | Curriculum | FgsmThenPgd | Trades | L2L | Elsewhere, Field(discriminator="name")
]


# -------------------------------------------------------------------------------------------- optimiser, recording


class Descent(Settings):
    """What all optimisers share."""

    lr: Number = Field(default=0.01, gt=0, description="learning rate of the first epoch")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum")
    weight_decay: float = Field(default=1e-4, ge=0, description="weight decay")
    batch: int = Field(default=128, ge=2, description="images per step")
    schedule: Literal["milestones", "hold-then-fall"] = Field(
        default="milestones",
        description="milestones: times factor at each; hold-then-fall: lr until hold, then lr / (1 + fall * (epoch - "
        "hold)), the form of the rule that is best for a quadratic model; for a network it is a guess",
    )
    milestones: tuple[int, ...] = Field(
        default=(), description="epochs after which the learning rate is multiplied by factor (schedule milestones)"
    )
    factor: float = Field(
        default=0.1, gt=0, le=1, description="what the learning rate is multiplied by at each milestone"
    )
    hold: Number = Field(default=10.0, ge=0, description="epochs at the full rate (schedule hold-then-fall)")
    fall: Number = Field(default=1.0, ge=0, description="how fast the rate falls then, per epoch; 0 is never")

    @field_validator("milestones")
    @classmethod
    def _rising(cls, milestones: tuple[int, ...]) -> tuple[int, ...]:
        if any(m < 1 for m in milestones) or list(milestones) != sorted(set(milestones)):
            raise ValueError("must be epochs of at least 1 in rising order, such as [20, 40]")
        return milestones

    def rate(self, t: int, step: int = 0) -> float:
        """Learning rate of epoch t = 0, 1, ...; step: updates made since training began.

        hold-then-fall has the form of u = min(1, M / (2 M_inf)): 1 until t*, then 1 / (1 + kappa (t - t*)); worked out
        for adversarial SGD on a quadratic (`theory.learning_rate`).
        """
        if self.schedule == "hold-then-fall":
            return self.lr / (1 + self.fall * max(t - self.hold, 0.0))
        return self.lr * self.factor ** sum(t >= m for m in self.milestones)


class Sgd(Descent):
    """Stochastic gradient descent with momentum, weight decay and a schedule.

    The last two settings are what stands for weight decay in the code of Wang et al. 2019: Keras' `decay`, which is no
    weight decay, and a penalty on one layer.
    """

    name: Literal["sgd"] = "sgd"
    step_decay: float = Field(
        default=0.0, ge=0, description="the rate is divided by 1 + this times the updates made, Keras' decay; 0 is off"
    )
    dense_l2: float = Field(
        default=0.0, ge=0, description="times the sum of squares of the first dense layer's weights, added to the loss"
    )

    def rate(self, t: int, step: int = 0) -> float:
        """Learning rate of epoch t after `step` updates; see `Descent`."""
        return super().rate(t) / (1 + self.step_decay * step)


class EntropySgd(Descent):
    """Follows the mean of a short noisy walk round the weights, so that the loss is smoothed (Chaudhari et al. 2017).

    A step of the weights takes `walk` batches, each attacked like any other: walk times the gradients of a step of SGD.
    """

    name: Literal["entropy-sgd"] = "entropy-sgd"
    lr: Number = Field(default=0.1, gt=0, description="how far the weights go towards the walk's mean, first epoch")
    walk: int = Field(default=20, ge=0, le=1000, description="steps of the walk, L, one batch each; 0 is plain SGD")
    walk_lr: Number = Field(default=0.1, gt=0, description="learning rate of the walk")
    memory: float = Field(default=0.75, ge=0, lt=1, description="share of the walk's mean that a step of it keeps")
    noise: Number = Field(default=1e-4, ge=0, description="tau, noise of the walk; tau squared is the temperature")
    gamma: Number = Field(default=0.03, ge=0, description="pull of the walk towards the weights, at first")
    scoping: Number = Field(
        default=1e-3, ge=0, description="by what share the pull grows with each step of the weights"
    )


Optimizer = Annotated[Sgd | EntropySgd, Field(discriminator="name")]


class Recording(Settings):
    """What is measured and kept at every epoch. More of it never changes the training itself."""

    steps: int = Field(
        default=20, ge=1, le=1000, description="PGD steps of the robust accuracy measured at every epoch"
    )
    alpha: StepSize = Field(default="eps/4", description="step size of that attack")
    test_images: int | None = Field(
        default=1000, ge=1, description="test images evaluated at every epoch; all if empty"
    )
    train_rows: int | None = Field(
        default=1000, ge=1, description="training images with a row of their own at every epoch; all if empty"
    )
    final_gradients: int | None = Field(
        default=1000,
        ge=0,
        description="training images whose FOSC after the last step is measured, one gradient more each; all if empty",
    )
    keep_weights: Literal["all", "best-last"] = Field(
        default="best-last", description="weights of every epoch, or of first, best and last"
    )
    weights_dtype: Literal["float32", "float16"] = Field(
        default="float32", description="how kept weights are stored; float16 takes half the room and rounds them"
    )
    probes: int = Field(default=8, ge=0, le=100, description="test images whose whole PGD path is kept at every epoch")
    paths: bool = Field(default=False, description="keep the PGD path of every test image at the last epoch")
    path_steps: int = Field(default=10, ge=1, le=200, description="PGD steps of the kept paths")


# --------------------------------------------------------------------------------------------------------- the run

_NEEDS = {"digits-cnn": ("digits",), "mnist-cnn": ("mnist", "fashion-mnist"), "cifar10-cnn": ("cifar10",)}


class RunConfig(Settings):
    """Everything that decides a training run."""

    name: str | None = Field(default=None, max_length=120, description="a title to find the run by")
    seed: int = Field(
        default=0, ge=0, le=2**31 - 1, description="decides start weights, order, augmentation and attack starts"
    )
    epochs: int = Field(default=30, ge=0, le=10_000, description="passes over the training images")
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

    @field_validator("optimizer", mode="before")
    @classmethod
    def _sgd_unless_said(cls, optimizer: Any) -> Any:
        """Settings from before there was a choice need not name it."""
        return {"name": "sgd", **optimizer} if isinstance(optimizer, Mapping) else optimizer

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
        except (json.JSONDecodeError, RecursionError) as error:
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
        """A copy with dotted keys changed, `{"strategy.c_max": "0.1"}`; text is read as JSON where it is JSON.

        A change of kind (`strategy.name`, `threat.norm`) keeps the settings that both kinds have. Raises ConfigError.
        """
        tree = self.model_dump(mode="json")
        ordered = sorted(changes.items(), key=lambda item: item[0].rpartition(".")[2] not in _TAGS)
        for key, value in ordered:
            _put(tree, key, _read(value))
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
    except (json.JSONDecodeError, RecursionError):
        return value


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
        if value in kinds and value != branch[rest]:
            fresh = kinds[value]().model_dump(mode="json")
            tree[head] = {k: branch.get(k, default) for k, default in fresh.items()}
        tree[head][rest] = value
        return
    if rest not in branch:
        raise ConfigError(unknown(key, rest, list(branch), head + "."))
    branch[rest] = value
