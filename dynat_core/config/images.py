"""Data sets, as settings: which images, how many, and what is held out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dynat_core.config.base import Settings, Whole


class DataSettings(Settings):
    """What all data sets share. Sizes left empty mean all there is."""

    validation_size: Whole = Field(
        default=1000, ge=1, description="training images held out to choose the best checkpoint; test images never do"
    )
    train_size: Whole | None = Field(
        default=None, ge=1, description="training images used, after the validation split; all if empty"
    )
    test_size: Whole | None = Field(default=None, ge=1, description="test images used; all if empty")

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
    validation_size: Whole = Field(
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
    channels: Whole = Field(default=1, ge=1, le=64, description="channels of an image")
    height: Whole = Field(default=1, ge=1, le=4096, description="rows of an image")
    width: Whole = Field(default=1, ge=1, le=4096, description="columns of an image")
    images: Whole = Field(default=1, ge=1, description="how many images there are")
    class_names: tuple[str, ...] = Field(default=(), max_length=10_000, description="names of the classes")
    validation_size: Literal[0] = 0
    train_size: Literal[0] = 0
    test_size: Whole | None = Field(default=None, ge=1, description="images used; all if empty")

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
