"""How weights follow the gradient, as settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from dynat_core.config.base import Number, Settings, Whole


class Descent(Settings):
    """What all optimisers share."""

    lr: Number = Field(default=0.01, gt=0, description="learning rate of the first epoch")
    momentum: Number = Field(default=0.9, ge=0, lt=1, description="momentum")
    weight_decay: Number = Field(default=1e-4, ge=0, description="weight decay")
    batch: Whole = Field(default=128, ge=2, description="images per step")
    schedule: Literal["milestones", "hold-then-fall"] = Field(
        default="milestones",
        description="milestones: times factor at each; hold-then-fall: lr until hold, then lr / (1 + fall * (epoch - "
        "hold)), the form of the rule that is best for a quadratic model; for a network it is a guess",
    )
    milestones: tuple[Whole, ...] = Field(
        default=(), description="epochs after which the learning rate is multiplied by factor (schedule milestones)"
    )
    factor: Number = Field(
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

    def unreached(self, epochs: int) -> tuple[int, ...]:
        """The milestones that come after all of so many epochs, and so change nothing."""
        return tuple(m for m in self.milestones if m >= epochs) if self.schedule == "milestones" else ()

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
    step_decay: Number = Field(
        default=0.0, ge=0, description="the rate is divided by 1 + this times the updates made, Keras' decay; 0 is off"
    )
    dense_l2: Number = Field(
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
    walk: Whole = Field(default=20, ge=0, le=1000, description="steps of the walk, L, one batch each; 0 is plain SGD")
    walk_lr: Number = Field(default=0.1, gt=0, description="learning rate of the walk")
    memory: Number = Field(default=0.75, ge=0, lt=1, description="share of the walk's mean that a step of it keeps")
    noise: Number = Field(default=1e-4, ge=0, description="tau, noise of the walk; tau squared is the temperature")
    gamma: Number = Field(default=0.03, ge=0, description="pull of the walk towards the weights, at first")
    scoping: Number = Field(
        default=1e-3, ge=0, description="by what share the pull grows with each step of the weights"
    )


Optimizer = Annotated[Sgd | EntropySgd, Field(discriminator="name")]
