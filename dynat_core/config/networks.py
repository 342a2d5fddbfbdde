"""Networks, as settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from dynat_core.config.base import Settings, Whole


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
    depth: Whole = Field(default=34, ge=10, description="layers: 10, 16, 22, 28, 34, ... (6 n + 4)")
    width: Whole = Field(
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
        default="none", max_length=200, description="what is done to the pixels first: a convention by its name"
    )


class Custom(Settings):
    """A network that lives in somebody's own program: what it computed is recorded, its weights are not."""

    name: Literal["custom"] = "custom"
    words: str = Field(default="", max_length=200, description="what it is")


Model = Annotated[
    DigitsCNN | MnistCNN | Cifar10CNN | PreActResNet18 | WideResNet | Imported | Custom, Field(discriminator="name")
]
