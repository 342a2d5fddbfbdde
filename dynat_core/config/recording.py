"""What is measured and kept at every epoch, as settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dynat_core.config.base import Settings, StepSize, Whole


class Recording(Settings):
    """What is measured and kept at every epoch. More of it never changes the training itself."""

    steps: Whole = Field(
        default=20, ge=1, le=1000, description="PGD steps of the robust accuracy measured at every epoch"
    )
    alpha: StepSize = Field(default="eps/4", description="step size of that attack")
    test_images: Whole | None = Field(
        default=1000, ge=1, description="test images evaluated at every epoch; all if empty"
    )
    train_rows: Whole | None = Field(
        default=1000, ge=1, description="training images with a row of their own at every epoch; all if empty"
    )
    final_gradients: Whole | None = Field(
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
    probes: Whole = Field(
        default=8, ge=0, le=100, description="test images whose whole PGD path is kept at every epoch"
    )
    paths: bool = Field(default=False, description="keep the PGD path of every test image at the last epoch")
    path_steps: Whole = Field(default=10, ge=1, le=200, description="PGD steps of the kept paths")
