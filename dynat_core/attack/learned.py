"""A learned inner optimiser: what replaces alpha * sign(g), and the attack that takes its steps.

Xiong and Hsieh, "Improved Adversarial Training via Learned Optimizer" (ECCV 2020): a recurrent network chooses the
direction and size of every inner step. Its cell, what it reads and how its output is scaled are ours (only the abstract
could be read): one LSTM layer shared by all pixels, each with its own state; the gradient as Andrychowicz et al. (2016)
feed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import LOSSES, Attacked, Loss, Outcome, in_eval_mode, value_and_grad
from dynat_core.attack.threat import Ball

CUT = 10.0  # gradients below e^-10 are read on a linear scale
REACH = 2.0  # the longest step, in units of alpha
Memory = Any  # what a rule remembers of the steps before; None at the start


class Rule(Protocol):
    """A step of an attack: gradients (n, ...) of each sample's own loss in, displacements (n, ...) in pixels out."""

    def __call__(self, ball: Ball, grad: Tensor, memory: Memory) -> tuple[Tensor, Memory]: ...


class Sign:
    """alpha along the steepest direction: PGD (Madry et al. 2018). alpha: pixels."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def __call__(self, ball: Ball, grad: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        return self.alpha * ball.steepest_step(grad), None


class Momentum:
    """PGD along a running sum of gradients, each divided by its L1 norm (Dong et al. 2018). alpha: pixels."""

    def __init__(self, alpha: float, decay: float = 1.0) -> None:
        self.alpha, self.decay = alpha, decay

    def __call__(self, ball: Ball, grad: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        size = grad.flatten(1).abs().sum(1).clamp(min=torch.finfo(grad.dtype).tiny).view(-1, *[1] * (grad.dim() - 1))
        total = grad / size if memory is None else self.decay * memory + grad / size
        return self.alpha * ball.steepest_step(total), total


class Recurrent(nn.Module):
    """The learned rule's network: (pixels, 2) features of the gradient in, one number per pixel out."""

    def __init__(self, units: int = 20) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(2, units)
        self.out = nn.Linear(units, 1)

    @classmethod
    def seeded(cls, units: int, seed: int) -> Recurrent:
        """With start weights that depend on `seed` alone; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(units)

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> Recurrent:
        """With these weights. Raises KeyError or RuntimeError where they belong to something else."""
        net = cls(weights["out.weight"].shape[1])
        net.load_state_dict(dict(weights))
        return net

    def forward(self, features: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        memory = self.cell(features, memory)
        return self.out(memory[0]).squeeze(1), memory


class Learned:
    """2 * alpha * tanh of what the network says: in each pixel (L-inf), or divided by the square root of their number
    (L2), so that a step is at most 2 * alpha long in the threat's norm. alpha: pixels."""

    def __init__(self, net: Recurrent, alpha: float) -> None:
        self.net, self.alpha = net, alpha

    def __call__(self, ball: Ball, grad: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        dtype = self.net.out.weight.dtype
        said, memory = self.net(read(grad.flatten()).to(dtype), memory)
        longest = REACH * self.alpha / (grad[0].numel() ** 0.5 if ball.norm == "l2" else 1.0)
        return longest * said.tanh().view(grad.shape).to(grad.dtype), memory


def read(grad: Tensor) -> Tensor:
    """(pixels, 2) what the network reads of gradients (pixels,): (log|g| / 10, sign g), or (-1, e^10 g) below e^-10.

    Source: Andrychowicz et al. 2016, appendix A.
    """
    size = grad.abs()
    large = size >= torch.exp(torch.tensor(-CUT, dtype=grad.dtype))
    # the other branch's value is never used, but must be finite
    first = torch.where(large, torch.log(torch.where(large, size, 1.0)) / CUT, -1.0)
    second = torch.where(large, grad.sign(), grad * torch.exp(torch.tensor(CUT, dtype=grad.dtype)))
    return torch.stack([first, second], dim=1)


def attack(
    model: nn.Module,
    ball: Ball,
    y: Tensor,
    rule: Rule,
    steps: int,
    *,
    loss: Literal["ce", "margin"] | Loss = "ce",
    start: Literal["random", "clean"] | Tensor = "random",
    generator: torch.Generator | None = None,
    keep_path: bool = False,
) -> Attacked:
    """`steps` steps of `rule` on any network, projected on ball and box: `steps` + 1 gradients, the end point's too.

    y: (n,) labels. start: as for `attacks.pgd`, with which it agrees bit for bit under the rule `Sign`.
    """
    return unroll(
        model, ball, y, rule, steps, loss=loss, start=start, generator=generator, keep_path=keep_path, learning=False
    )[0]


def unroll(
    model: nn.Module,
    ball: Ball,
    y: Tensor,
    rule: Rule,
    steps: int,
    *,
    loss: Literal["ce", "margin"] | Loss = "ce",
    start: Literal["random", "clean"] | Tensor = "random",
    generator: torch.Generator | None = None,
    keep_path: bool = False,
    learning: bool = True,
) -> tuple[Attacked, Tensor]:
    """The attack, and a scalar whose gradient in the rule's weights is that of sum_k w_k loss(z_k), batch mean,
    w_k = k / (1 + ... + steps).

    Gradients g_k in z are constants for the rule (no second derivatives), so loss(z_k) may stand as <g_k, z_k>: the
    gradient through the steps and projections is the same, and the model is passed no second time. A pixel that is cut
    passes none on. learning: whether that graph is kept, `steps` times the pixels times the units large.
    """
    climb = LOSSES[loss] if isinstance(loss, str) else loss
    with in_eval_mode(model), torch.set_grad_enabled(learning):
        if isinstance(start, Tensor):
            z = ball.project(start)
        else:
            z = ball.x.clone() if start == "clean" else ball.random_point(generator)
        outcome, memory, gain = Outcome(z.detach(), y, keep_path, keep_best=False), None, z.new_zeros(())
        for step in range(steps + 1):
            logits, value, grad = value_and_grad(model, climb, z, y)
            outcome.see(slice(None), logits, value, grad)
            if step and learning:
                gain = gain + step * (grad * z).sum()
            if step < steps:
                move, memory = rule(ball, grad, memory)
                z = ball.project(z + move)
                outcome.move(slice(None), z.detach())
        weight = steps * (steps + 1) / 2 * max(len(y), 1)
        return outcome.attacked(points=steps + 1), gain / max(weight, 1)


def shipped(file: Path) -> Recurrent:
    """The learned rule in a safetensors file. Raises OSError, KeyError or RuntimeError."""
    from safetensors.torch import load_file

    return Recurrent.of(load_file(file)).eval().requires_grad_(False)
