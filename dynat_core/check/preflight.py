"""Checks of a model and its images before any compute is spent on an attack. Each failure is one sentence and its
fix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import cross_entropy, in_eval_mode, pgd, value_and_grad
from dynat_core.attack.memory import all_or_half
from dynat_core.attack.threat import Ball
from dynat_core.networks.conventions import order_of, predictions
from dynat_core.statistics import wilson

_FEW = 32  # images that are enough to see how a model behaves
_MANY = 250  # classified together
_CONVENTIONS = {
    # what models are often fed with outside: mean and standard deviation of each channel
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "halves": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "MNIST": ((0.1307,), (0.3081,)),
    "half": ((0.5,), (0.5,)),
}


@dataclass(frozen=True)
class Finding:
    """One check. ok: passed. sentence: what was found. fix: what to do, empty when it passed. fatal: no attack makes
    sense before it is mended; others may be overridden, and the result then says so. harmless: a note that mends
    itself."""

    name: str
    ok: bool
    sentence: str
    fix: str = ""
    fatal: bool = False
    harmless: bool = False


def preflight(model: nn.Module, ball: Ball, y: Tensor) -> list[Finding]:
    """Look at model, images (n, C, H, W) in `ball.x` and labels (n,) int64, and return every finding, fatal ones first.

    A few images are looked at closely: as many of 32 as the device has room for. The model's training flags and
    gradients are as found afterwards. A fatal finding ends the list.
    """
    found = list(_input(ball, y))
    if any(f.fatal and not f.ok for f in found):
        return found
    was_training = model.training
    with in_eval_mode(model):
        few = _room(model, ball.x)
        found += _output(model, ball.x[:few], y)
        if not any(f.fatal and not f.ok for f in found):
            found += _behaviour(model, ball[:few], y[:few])
            found += _accuracy(model, ball.x, y, _MANY if few >= min(_FEW, len(ball.x)) else few)
    trouble = "The model was in training mode and is measured in eval mode"
    found.append(
        replace(
            _finding("eval mode", not was_training, trouble, "call model.eval() so that your own numbers agree"),
            harmless=True,
        )
    )
    return found


def _room(model: nn.Module, x: Tensor) -> int:
    """How many of the first images the device has room for at once. Raises torch.OutOfMemoryError without any."""

    def fits(who: Tensor) -> None:
        try:
            with torch.no_grad():
                model(x[: len(who)])
        except torch.OutOfMemoryError:
            raise
        except Exception:
            return  # what else is wrong with it is looked at next

    return len(all_or_half(fits, torch.arange(min(_FEW, len(x)), device=x.device))[0])


def _finding(name: str, ok: bool, trouble: str, fix: str, fatal: bool = False) -> Finding:
    """A check whose sentence is `trouble` and `fix` unless it passed."""
    return Finding(name, True, f"{name}: fine.") if ok else Finding(name, False, f"{trouble}; {fix}.", fix, fatal)


def given(x: Tensor, y: Tensor) -> Iterator[Finding]:
    """Whether images and labels are of the right shapes and kinds; asked before anything is cast."""
    yield _finding(
        "images",
        x.dim() == 4 and len(x) > 0 and x.is_floating_point(),
        f"The images are {tuple(x.shape)} {x.dtype}",
        "give floats of shape (n, channels, height, width)",
        fatal=True,
    )
    yield _finding(
        "labels",
        y.dim() == 1 and len(y) == len(x) and not y.is_floating_point(),
        f"The labels are {tuple(y.shape)} {y.dtype} for {len(x)} images",
        "give one whole number for each image",
        fatal=True,
    )


def _input(ball: Ball, y: Tensor) -> Iterator[Finding]:
    x = ball.x
    yield from given(x, y)
    finite = bool(torch.isfinite(x).all())
    yield _finding("finite images", finite, "Some pixels are not finite numbers", "clean the images", fatal=True)
    low, high = (float(x.min()), float(x.max())) if finite and x.numel() else (0.0, 0.0)
    yield _finding(
        "input range",
        ball.low - 1e-6 <= low and high <= ball.high + 1e-6,
        f"The pixels run from {low:.3g} to {high:.3g}, not within [{ball.low:g}, {ball.high:g}]",
        "give images in [0, 1] and keep the normalisation inside the model, so that eps means pixels",
        fatal=True,
    )


def _output(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Finding]:
    try:
        with torch.no_grad():
            logits = model(x)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        yield _finding(
            "forward pass",
            False,
            f"The model does not take these images ({first})",
            "check their shape and channels",
            fatal=True,
        )
        return
    shaped = isinstance(logits, Tensor) and logits.dim() == 2 and len(logits) == len(x) and logits.shape[1] > 1
    yield _finding(
        "logits",
        shaped,
        f"The model returns {getattr(logits, 'shape', type(logits).__name__)}",
        "it must return one row of class scores for each image",
        fatal=True,
    )
    if not shaped:
        return
    classes = logits.shape[1]
    yield _finding(
        "label range",
        int(y.min()) >= 0 and int(y.max()) < classes,
        f"The labels run from {int(y.min())} to {int(y.max())} and the model knows {classes} classes",
        f"use labels from 0 to {classes - 1}",
        fatal=True,
    )
    yield _finding(
        "finite scores",
        bool(torch.isfinite(logits).all()),
        "The model's scores are not finite numbers",
        "its weights may be damaged or need another precision",
        fatal=True,
    )
    sums = logits.sum(1)
    probabilities = bool(
        (logits >= 0).all() and (logits <= 1).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
    )
    yield _finding(
        "logits, not probabilities",
        not probabilities,
        "The model returns probabilities",
        "take the softmax off its end: its gradients vanish, which hides attacks",
    )


def _behaviour(model: nn.Module, ball: Ball, y: Tensor) -> Iterator[Finding]:
    x = ball.x
    with torch.no_grad():
        first, second = model(x), model(x)
        scale = float(first.abs().max()) + 1e-12
        apart = float((first - second).abs().max()) / scale
        yield _finding(
            "deterministic",
            apart < 1e-4,
            f"Two passes over the same images differ by {100 * apart:.2g} % of the largest score",
            "switch the randomness off or average it in the model; a single pass misleads any attack",
        )
        alone = torch.cat([model(x[k : k + 1]) for k in range(min(4, len(x)))])
        mixed = float((alone - first[: len(alone)]).abs().max()) / scale
        yield _finding(
            "batch independence",
            mixed < 1e-3 or apart >= 1e-4,
            "An image's scores depend on the others in its batch",
            "use fixed statistics (eval mode BatchNorm); per-image results are meaningless otherwise",
        )
    try:
        _, _, grad = value_and_grad(model, cross_entropy, x, y)
    except RuntimeError as error:
        yield _finding(
            "gradient",
            False,
            f"No gradient reaches the images ({str(error).splitlines()[0][:120]})",
            "something in the model cuts it (detach, numpy, argmax, rounding); gradient attacks cannot run",
            fatal=True,
        )
        return
    none = grad.flatten(1).abs().amax(1) == 0
    yield _finding(
        "gradient",
        not bool(none.all()),
        "The gradient of the cross-entropy is zero on every image",
        "the model is saturated or cuts the gradient; FOSC 0 means nothing here",
    )
    yield _finding(
        "finite gradient",
        bool(torch.isfinite(grad).all()),
        "The gradient is not a finite number on some images",
        "look for divisions by zero or logarithms of zero in the model",
    )
    if apart < 1e-4:
        still = pgd(model, Ball(x, 0.0, ball.norm, ball.low, ball.high), y, steps=2, alpha=1.0)
        yield _finding(
            "eps 0",
            bool(((still.logits.argmax(1) == y) == (first.argmax(1) == y)).all()),
            "With eps 0 the attack changes predictions",
            "the model is not a function of its image alone",
        )


def _accuracy(model: nn.Module, x: Tensor, y: Tensor, batch: int) -> Iterator[Finding]:
    with torch.no_grad():
        classes = model(x[:1]).shape[1]

        def accuracy(images: Tensor) -> float:
            parts = [model(part).argmax(1) for part in images.split(batch)]
            return float((torch.cat(parts) == y).float().mean())

        plain = accuracy(x)
        best_name, best = "", plain
        for name, (mean, std) in _CONVENTIONS.items():
            if len(mean) == x.shape[1]:
                shape = (1, -1, 1, 1)
                normal = (x - x.new_tensor(mean).view(shape)) / x.new_tensor(std).view(shape)
                if (found := accuracy(normal)) > best:
                    best_name, best = name, found
    gain = best - plain
    yield _finding(
        "normalisation inside",
        gain <= max(0.05, 2 / len(x) ** 0.5 * 0.5),
        f"Clean accuracy is {100 * plain:.1f} % as given and {100 * best:.1f} % with the {best_name} normalisation",
        "put that normalisation inside the model",
    )
    order = order_of(predictions(model, x).cpu().numpy(), y.cpu().numpy(), classes) if plain < 0.7 else None
    yield _finding(
        "label order",
        order is None,
        f"The labels are in another order than the model's: {order.words()}; clean accuracy is {100 * plain:.1f} % "
        f"as given and {100 * order.reordered:.1f} % in that order"
        if order
        else "",
        "give the labels in the model's order",
    )
    commonest = float(torch.bincount(y.long()).max()) / len(y)
    chance = max(1 / classes, commonest)  # whoever says the commonest label alone is right as often as that
    yield _finding(
        "better than chance",
        wilson(round(plain * len(x)), len(x))[0] > chance or len(x) < 20,
        f"Clean accuracy is {100 * plain:.1f} %, about chance",
        "check the order of the labels and the preprocessing; robustness of a model that knows nothing means nothing",
    )
