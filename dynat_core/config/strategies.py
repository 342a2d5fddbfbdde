"""How training examples are made, as settings: one class per strategy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dynat_core.config.base import Number, Settings, StepSize, Whole


class Unsecured(Settings):
    """Clean training, no attack: what the defences are compared with."""

    name: Literal["unsecured"] = "unsecured"


class AttackedStrategy(Settings):
    """What strategies that attack their training images share."""

    steps: Whole = Field(default=10, ge=1, le=1000, description="steps of the attack per training image, K")
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
    T_control: Whole = Field(default=24, ge=1, description="epochs until the threshold reaches 0")
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
    steps: Whole = Field(default=10, ge=1, le=50, description="steps of the learned attack per training image, T")
    alpha: StepSize = Field(default="eps/4", description="half the longest step; in pixels or as a part of eps")
    units: Whole = Field(default=20, ge=1, le=100, description="units of the recurrent network, shared by all pixels")
    attacker_lr: Number = Field(default=1e-3, gt=0, description="learning rate (Adam) of the recurrent network")

    @property
    def gradients(self) -> int:
        """One more than steps: the loss at the last point trains the attacker too."""
        return self.steps + 1


class Curriculum(PgdStrategy):
    """The attack gets one step longer whenever the present lesson is learnt (Cai et al. 2018).

    Lesson k = 0, growth, 2 growth, .. steps attacks with k steps. What target, patience and longest lesson Wang et al.
    used is unknown beyond 7 steps on CIFAR-10 and 40 on MNIST.
    """

    name: Literal["curriculum"] = "curriculum"
    steps: Whole = Field(default=7, ge=1, le=1000, description="steps of the last lesson, K")
    growth: Whole = Field(
        default=1, ge=1, le=1000, description="steps a lesson has more than the one before; above 1 for short trainings"
    )
    target: Number = Field(
        default=0.95, gt=0, le=1, description="training accuracy on the images of the lesson that ends it"
    )
    patience: Whole = Field(
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
    switch: Whole = Field(default=15, ge=0, description="epochs of FGSM, one step of eps, before PGD takes over")


class Elsewhere(Settings):
    """Trained elsewhere: how is not known here."""

    name: Literal["elsewhere"] = "elsewhere"


Strategy = Annotated[
    Unsecured | Standard | Dynamic | Curriculum | FgsmThenPgd | Trades | L2L | Elsewhere, Field(discriminator="name")
]
