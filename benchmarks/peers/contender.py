"""One way to attack, in a process of its own: it waits for a question on its input and answers with times.

    python -m benchmarks.peers.contender foolbox

A question and an answer are one line of JSON each. Only one contender is asked at a time, so that they take turns on
the same processor while none of them shares memory, thread pools or an allocator with another.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.subjects import SUBJECTS, Subject
from dynat_core.attack.attacks import pgd
from dynat_core.attack.frozen import Frozen
from dynat_core.attack.threat import Ball

Attack = Callable[[Tensor, Tensor], Tensor]  # images, labels -> adversarial images


def dynat(net: nn.Module, subject: Subject, steps: int, precision: Any) -> Attack:
    """What the training loop does for a batch: weights are taken over, then the attack."""
    frozen = Frozen(net, precision)

    def attack(x: Tensor, y: Tensor) -> Tensor:
        frozen.refresh()
        return pgd(frozen, Ball(x, subject.eps), y, steps=steps, alpha=subject.alpha, final=False).z

    return attack


def textbook(net: nn.Module, subject: Subject, steps: int) -> Attack:
    """PGD as it stands in tutorials, with no gradient for the parameters."""
    eps, alpha = subject.eps, subject.alpha

    def attack(x: Tensor, y: Tensor) -> Tensor:
        z = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
        for _ in range(steps):
            z.requires_grad_(True)
            (grad,) = torch.autograd.grad(F.cross_entropy(net(z), y), z)
            z = z.detach() + alpha * grad.sign()
            z = torch.min(torch.max(z, x - eps), x + eps).clamp(0, 1)
        return z

    return attack


def foolbox(net: nn.Module, subject: Subject, steps: int) -> Attack:
    from foolbox.attacks.projected_gradient_descent import LinfProjectedGradientDescentAttack
    from foolbox.criteria import Misclassification
    from foolbox.models.pytorch import PyTorchModel

    model = PyTorchModel(net, bounds=(0, 1), device="cpu")
    kind = LinfProjectedGradientDescentAttack(abs_stepsize=subject.alpha, steps=steps, random_start=True)
    return lambda x, y: kind.run(model, x, Misclassification(y), epsilon=subject.eps)


def torchattacks(net: nn.Module, subject: Subject, steps: int) -> Attack:
    from torchattacks.attacks.pgd import PGD  # type: ignore[import-not-found]

    return PGD(net, eps=subject.eps, alpha=subject.alpha, steps=steps, random_start=True)


def art(net: nn.Module, subject: Subject, steps: int) -> Attack:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    estimator = PyTorchClassifier(
        net, nn.CrossEntropyLoss(), subject.shape, 10, clip_values=(0.0, 1.0), device_type="cpu"
    )

    def attack(x: Tensor, y: Tensor) -> Tensor:
        kind = ProjectedGradientDescentPyTorch(
            estimator, eps=subject.eps, eps_step=subject.alpha, max_iter=steps, num_random_init=1,
            batch_size=len(x), verbose=False,
        )  # fmt: skip
        return torch.from_numpy(kind.generate(x.numpy(), y.numpy()))

    return attack


MAKE: dict[str, Callable[[nn.Module, Subject, int], Attack]] = {
    "dynat-exact": lambda net, subject, steps: dynat(net, subject, steps, "exact"),
    "dynat-fast": lambda net, subject, steps: dynat(net, subject, steps, "fast"),
    "textbook": textbook,
    "foolbox": foolbox,
    "torchattacks": torchattacks,
    "art": art,
}
PACKAGES = {"foolbox": "foolbox", "torchattacks": "torchattacks", "art": "adversarial-robustness-toolbox"}


class Contender:
    """What answers; attacks once made are kept, so that a repeat measures the attack alone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.made: dict[tuple[str, int, float], Attack] = {}
        self.images = cache(lambda network, n: SUBJECTS[network].images(n))
        self.model = cache(lambda network, width: SUBJECTS[network].model(width))

    def answer(self, network: str, n: int, steps: int, width: float = 1.0, of: int | None = None) -> dict[str, Any]:
        """Times of one attack on `n` images in batches of `of`. seconds: wall; cpu_seconds: all threads together;
        peak_mb: the most memory held during it, beyond what the process held before the first attack; loss: mean
        cross-entropy reached, on the network itself in float32; broken: share of images that are misread."""
        subject, (x, y), net = SUBJECTS[network], self.images(network, n), self.model(network, width)
        key = (network, steps, width)
        if key not in self.made:
            self.made[key] = MAKE[self.name](net, subject, steps)
            self.made[key](x[:2], y[:2])
        attack = self.made[key]
        torch.manual_seed(0)
        before = _reset_peak()
        began, burnt = time.perf_counter(), time.process_time()
        z = torch.cat([attack(a, b) for a, b in zip(x.split(of or n), y.split(of or n), strict=True)])
        taken, spent = time.perf_counter() - began, time.process_time() - burnt
        with torch.no_grad():
            logits = net(z.float())
        return {
            "seconds": taken,
            "cpu_seconds": spent,
            "peak_mb": _peak_mb(before),
            "loss": float(F.cross_entropy(logits, y)),
            "broken": float((logits.argmax(1) != y).float().mean()),
            "farthest": float((z - x).abs().max()),
        }


_STATUS = Path("/proc/self/status")


def _memory(key: str) -> float:
    """VmRSS or VmHWM of this process in MB; NaN where the system does not say."""
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(key + ":")), float("nan"))


_HELD_AT_START: list[float] = []


def _reset_peak() -> float:
    """Forget the peak so far (Linux); return what was held before the first attack."""
    if not _HELD_AT_START:
        _HELD_AT_START.append(_memory("VmRSS"))
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return float("nan")
    return _HELD_AT_START[0]


def _peak_mb(before: float) -> float | None:
    peak = _memory("VmHWM") - before
    return None if peak != peak else round(peak, 1)


def version(name: str) -> str | None:
    """The version of the package behind a contender; None for what is written here."""
    return importlib.metadata.version(PACKAGES[name]) if name in PACKAGES else None


def main() -> None:
    """Answer until the input ends."""
    name, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    out, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    contender = Contender(name)
    out.write(json.dumps({"ready": True, "version": version(name)}) + "\n")
    out.flush()
    for line in sys.stdin:
        out.write(json.dumps(contender.answer(**json.loads(line))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
