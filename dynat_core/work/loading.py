"""A run's network and its test images, ready to be attacked; for processes that have torch."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dynat_core.config import Custom, Imported, RunConfig
from dynat_core.errors import RunError
from dynat_core.images import data
from dynat_core.images.data import Split
from dynat_core.networks import models
from dynat_core.store.evaluation_settings import Measured
from dynat_core.store.layout import part
from dynat_core.store.run import Run
from dynat_core.store.trusted_programs import refuse_untrusted


def network(run: Run, epoch: int | str, device: torch.device) -> nn.Module:
    """The network of a run with the weights of an epoch, in eval mode, float32, its parameters without gradients.

    Raises RunError when the weights were not kept or cannot be read.
    """
    config = run.config
    if isinstance(config.model, Custom):
        raise RunError(f"{run.id} was recorded by a program of one's own, which kept its network; attack it there.")
    if isinstance(config.model, Imported):  # there from the start, before anything is recorded
        if config.model.program:
            from dynat_core.networks.model_files import load_program

            file = run.folder / "weights" / "0000.program"
            refuse_untrusted(run.folder.parent, file)
            return load_program(file, config.model.program, config.model.normalisation, config.shape[0]).to(device)
        return weighted(config, part(run.folder, "weights", 0)).to(device)
    return weighted(config, run.weights(epoch)).to(device)


def weighted(config: RunConfig, file: Path) -> nn.Module:
    """The network of these settings with the weights in `file`. Raises RunError."""
    model = (
        models.build(config.model, config.shape[0], classes=len(config.classes))
        if isinstance(config.model, Imported)
        else models.initialise(config.model, config.shape[0], 0)
    )
    try:
        model.load_state_dict(load_file(file))
    except Exception as error:  # whatever a damaged file makes the parsers say
        raise RunError(
            f"The weights {file.name} of {file.parent.parent.name} cannot be read or are another network's "
            f"({type(error).__name__}); choose another epoch, or delete the run and train it again."
        ) from error
    return model.float().eval().requires_grad_(False)


def chosen_images(run: Run, settings: Measured) -> tuple[Split, str]:
    """(the test images asked for, how they were chosen), on the CPU. Raises DataError, RunError."""
    test = data.load(run.config.data).test
    if settings.images is not None:
        known = {int(number): place for place, number in enumerate(test.index)}
        unknown = [number for number in settings.images if number not in known]
        if unknown:
            raise RunError(f"{run.id} has no test image {unknown[0]}; it has {len(test)}.")
        return test[torch.tensor([known[number] for number in settings.images])], "chosen by number"
    if settings.n >= len(test):
        return test, "all test images"
    return data.part_of(test, settings.n), "classes in proportion"


def pixels(split: Split, device: torch.device, keep: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
    """(x (n, C, H, W) float32 in [0, 1], y (n,)) on `device`, of the images `keep`."""
    return split.pixels(keep).to(device), split.labels[keep].to(device)


def device_of(model: nn.Module) -> torch.device:
    """Where the network's parameters lie."""
    return next(model.parameters()).device
