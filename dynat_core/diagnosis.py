"""`diagnose`: attack a model, and say whether the attack may be believed and on which images not."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from dynat_core.attacks import Attacked, Loss, cross_entropy, in_eval_mode, margin, margin_loss, pgd, value_and_grad
from dynat_core.config import NORM_WORDS, describe_eps, parse_number
from dynat_core.errors import DynatError
from dynat_core.evaluate import batches, generator_for
from dynat_core.fosc import fosc, relative_fosc
from dynat_core.preflight import Finding, preflight
from dynat_core.threat import Ball, Norm, inner
from dynat_core.verdict import Verdict, masked, optimised, restarts_agree, stall

BATCH = 256
SEARCH = 150  # queries of the random search on each image that is left
NOISE = 10  # random corners tried on each image
PHASES = ((0.5, 4), (0.3, 16), (0.2, 64))  # share of the steps, and what eps is divided by for their size
LARGE_EPS = {"linf": 0.5, "l2": 10.0}  # L-inf .5 contains the plain grey image, so nothing can be right there


@dataclass(frozen=True)
class Report:
    """What `diagnose` found. Shows itself in a notebook.

    verdict: the three lights and the sentence. samples: one row per image (see the class's columns below). findings:
    the checks made before the attack. settings: everything that was asked, with seconds nowhere in it, so it can be
    compared.

    samples: index, label, clean_correct, predicted (at the strongest point found), robust_correct, broken_by (which
    attack broke it first, "" if none), restart (which restart, -1), margin (true logit minus best other), fosc,
    relative_fosc (box, margin loss), gradient_l1, advice (done, more steps, smaller steps, masked; "" for images that
    are broken).
    """

    verdict: Verdict
    samples: pd.DataFrame
    findings: tuple[Finding, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [self.verdict.sentence, ""]
        for light in self.verdict.lights:
            lines.append(f"[{'ok' if light.ok else light.state}] {light.question} {light.sentence}")
        lines += [f"[before] {f.sentence}" for f in self.findings if not f.ok]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        colour = {True: "#009E73", False: "#D55E00"}
        rows = "".join(
            f'<tr><td><b style="color:{colour[light.ok]}">{"●" if light.ok else "▲"} '
            f"{html.escape(light.state)}</b></td>"
            f"<td>{html.escape(light.question)}</td><td>{html.escape(light.sentence)}</td></tr>"
            for light in self.verdict.lights
        )
        before = "".join(f"<li>{html.escape(f.sentence)}</li>" for f in self.findings if not f.ok)
        return f"<p>{html.escape(self.verdict.sentence)}</p><table>{rows}</table><ul>{before}</ul>"


class NotDiagnosable(DynatError):
    """The model or the images are such that no attack makes sense; the message says why and what to do."""


def diagnose(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float | str = "8/255",
    norm: Norm = "linf",
    steps: int = 50,
    restarts: int = 5,
    *,
    seed: int = 0,
    batch: int | None = None,
    overridden: tuple[str, ...] = (),
    progress: Callable[[str, float], None] | None = None,
) -> Report:
    """Attack `model` on the images and say whether the result may be believed.

    x: (n, C, H, W) floats in [0, 1]; y: (n,) labels; both are moved to the model's device and dtype. eps: pixels, a
    number or text such as "8/255". The attack is PGD on the margin loss with step sizes falling from eps/4 over eps/16
    to eps/64; images that one restart broke are not attacked again. batch: images at a time (256; halved, and said,
    when memory runs out). overridden: names of findings that are known and accepted; the verdict then says so.
    progress(words, share done). Raises NotDiagnosable for a finding after which no attack makes sense, ValueError for
    impossible arguments.
    """
    radius = parse_number(eps)
    if not isinstance(radius, int | float) or not 0 < radius < float("inf"):
        raise ValueError(f"eps must be above 0, such as 0.03 or 8/255 (got {eps})")
    if steps < 3 or restarts < 1 or len(x) != len(y):
        raise ValueError(
            f"it takes 3 steps, 1 restart and a label for each image (got {steps}, {restarts}, {len(x)}/{len(y)})"
        )
    first = next((p for p in model.parameters()), x)
    work = _Work(
        model,
        x.to(first.device, first.dtype),
        y.to(first.device).long(),
        float(radius),
        norm,
        steps,
        seed,
        batch or BATCH,
        progress or (lambda words, share: None),
    )
    found = preflight(model, work.ball(slice(None)), work.y)
    for finding in found:
        if finding.fatal and not finding.ok and finding.name not in overridden:
            raise NotDiagnosable(finding.sentence)
    with in_eval_mode(model), torch.no_grad():
        return _report(work, restarts, tuple(found), overridden)


def _report(work: _Work, restarts: int, found: tuple[Finding, ...], overridden: tuple[str, ...]) -> Report:
    deterministic = next((f.ok for f in found if f.name == "deterministic"), True)
    work.measure_clean()
    for restart in range(restarts):
        work.say(f"restart {restart + 1} of {restarts}", 0.1 + 0.5 * restart / restarts)
        work.climb(restart)
    work.say("blind attacks", 0.65)
    blind = work.blind()
    work.say("logits scaled", 0.75)
    scaled = work.scaled()
    work.say("large radius", 0.9)
    large = LARGE_EPS[work.norm]
    left = work.accuracy_at(max(large, work.eps))
    correct, robust = work.correct.cpu().numpy(), work.robust.cpu().numpy()
    rho, l1 = work.rho.cpu().numpy(), work.l1.cpu().numpy()
    no_gradient = correct & (work.start_l1.cpu().numpy() == 0)
    lights = (
        optimised(robust, rho, l1),
        restarts_agree(correct, np.where(work.by == "pgd margin", work.restart.cpu().numpy(), -1), restarts),
        masked(
            correct, no_gradient, blind, scaled, work.accuracy_at(work.eps), left, max(large, work.eps), deterministic
        ),
    )
    advice = np.where(robust, work.advice, "")
    samples = pd.DataFrame(
        {
            "index": np.arange(len(correct)),
            "label": work.y.cpu().numpy(),
            "clean_correct": correct,
            "predicted": work.predicted.cpu().numpy(),
            "robust_correct": robust,
            "broken_by": work.by,
            "restart": work.restart.cpu().numpy(),
            "margin": work.margin.float().cpu().numpy(),
            "fosc": work.fosc.float().cpu().numpy(),
            "relative_fosc": rho,
            "gradient_l1": l1,
            "advice": advice,
        }
    )
    settings = {
        "eps": work.eps,
        "norm": work.norm,
        "steps": work.steps,
        "restarts": restarts,
        "loss": "margin",
        "seed": work.seed,
        "step_sizes": "eps/4, eps/16, eps/64",
        "n": len(correct),
        "batch": work.batch,
        "words": f"PGD-{work.steps} x {restarts}, margin loss, {NORM_WORDS[work.norm]} eps {describe_eps(work.eps)}",
        "accuracy_with_logits_scaled": {str(k): v for k, v in scaled.items()},
        "accuracy_at_large_eps": left,
    }
    work.say("done", 1.0)
    failed = [f for f in found if not f.ok]
    warnings = tuple(f.sentence for f in failed if f.name not in overridden and not f.harmless)
    accepted = tuple(f.name for f in failed if f.name in overridden)
    return Report(Verdict(lights, int(robust.sum()), len(correct), warnings, accepted), samples, found, settings)


class _Work:
    """Everything known about every image while the attacks go on."""

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        eps: float,
        norm: Norm,
        steps: int,
        seed: int,
        batch: int,
        say: Callable[[str, float], None],
    ) -> None:
        self.model, self.x, self.y, self.eps, self.steps = model, x, y, eps, steps
        self.norm: Norm = norm
        self.seed, self.batch, self.say = seed, batch, say
        n, device = len(x), x.device
        self.correct = torch.zeros(n, dtype=torch.bool, device=device)
        self.robust = self.correct.clone()
        self.predicted = torch.full((n,), -1, device=device)
        self.restart = torch.full((n,), -1, device=device)
        self.margin, self.fosc, self.rho, self.l1, self.start_l1 = (
            torch.full((n,), float("nan"), device=device) for _ in range(5)
        )
        self.by = np.full(n, "", dtype=object)
        self.advice = np.full(n, "", dtype=object)

    def ball(self, some: Tensor | slice, eps: float | None = None) -> Ball:
        return Ball(self.x[some], self.eps if eps is None else eps, self.norm)

    def parts(self, who: Tensor) -> Iterator[tuple[Tensor, torch.Generator]]:
        """Positions `who` a batch at a time, each with random numbers of its own."""
        for number, some in enumerate(batches(len(who), self.batch)):
            yield who[some], generator_for(self.x.device, self.seed, "diagnose", number)

    def measure_clean(self) -> None:
        everyone = torch.arange(len(self.x), device=self.x.device)
        for who, _ in self.parts(everyone):
            logits, _, grad = value_and_grad(self.model, margin_loss, self.x[who], self.y[who])
            self.predicted[who] = logits.argmax(1)
            self.correct[who] = logits.argmax(1) == self.y[who]
            self.margin[who] = margin(logits, self.y[who]).float()
            self.start_l1[who] = grad.flatten(1).abs().sum(1).float()
        self.robust = self.correct.clone()
        self.by[~self.correct.cpu().numpy()] = "misclassified"

    def climb(self, restart: int) -> None:
        """One restart of the main attack on the images that still stand."""
        for who, randomness in self.parts(torch.nonzero(self.robust).flatten()):
            randomness.manual_seed(randomness.initial_seed() + restart)
            ball, y = self.ball(who), self.y[who]
            rho, l1, attacked = self._phases(ball, y, ball.random_point(randomness))
            self._settle(who, attacked, "pgd margin", restart)
            stands = self.robust[who]
            here = margin(attacked.logits, y).float()
            nearer = stands & ((here < self.margin[who]) | self.rho[who].isnan())
            kept = who[nearer]
            self.margin[kept] = here[nearer]
            self.fosc[kept] = fosc(ball, attacked.z, attacked.grad)[nearer].float()
            self.rho[kept], self.l1[kept] = rho[-1][nearer], l1[-1][nearer]
            self.advice[kept.cpu().numpy()] = stall(rho.cpu().numpy(), l1.cpu().numpy())[nearer.cpu().numpy()]

    def _phases(self, ball: Ball, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Attacked]:
        """The climb with falling step sizes: relative FOSC and gradient norm (K+1, n) along it, and its end; the last
        FOSC is that of the settled gradient."""
        rhos: list[Tensor] = []
        l1s: list[Tensor] = []
        attacked: Attacked | None = None
        for share, over in PHASES:
            attacked = pgd(
                self.model,
                ball,
                y,
                steps=max(1, round(share * self.steps)),
                alpha=self.eps / over,
                loss="margin",
                start=z,
                keep_path=True,
            )
            assert attacked.path is not None
            for point, grad in zip(attacked.path.z, attacked.path.grad, strict=True):
                rhos.append(relative_fosc(ball, point, grad).float())
                l1s.append(grad.flatten(1).abs().sum(1).float())
            z = attacked.z
        assert attacked is not None and attacked.path is not None
        rhos[-1] = _settled_fosc(ball, attacked.path.z, attacked.path.grad).float()
        return torch.stack(rhos), torch.stack(l1s), attacked

    def _settle(self, who: Tensor, attacked: Attacked, name: str, restart: int = -1) -> Tensor:
        """Note which of `who` are wrong at the end point or anywhere seen; returns the mask."""
        wrong = (attacked.logits.argmax(1) != self.y[who]) & self.robust[who]
        hit = who[wrong]
        self.robust[hit] = False
        self.predicted[hit] = attacked.logits.argmax(1)[wrong]
        self.margin[hit] = margin(attacked.logits, self.y[who]).float()[wrong]
        self.restart[hit] = restart
        self.by[hit.cpu().numpy()] = name
        return wrong

    def blind(self) -> np.ndarray:
        """(n,) images that random corners or a random search break although the gradient attack did not."""
        broken = np.zeros(len(self.x), dtype=bool)
        for who, randomness in self.parts(torch.nonzero(self.robust).flatten()):
            ball, y = self.ball(who), self.y[who]
            best, z = torch.full((len(who),), float("inf"), device=self.x.device), ball.x.clone()
            for query in range(NOISE + SEARCH):
                tried = _corner(ball, randomness) if query < NOISE else _square(ball, z, randomness, query - NOISE)
                logits = self.model(tried)
                now = margin(logits, y)
                better = now < best
                best = torch.where(better, now, best)
                z = torch.where(better.view(-1, 1, 1, 1), tried, z)
                wrong = (logits.argmax(1) != y) & self.robust[who]
                hit = who[wrong]
                self.robust[hit], self.predicted[hit] = False, logits.argmax(1)[wrong]
                self.margin[hit] = now[wrong].float()
                self.by[hit.cpu().numpy()] = "noise" if query < NOISE else "random search"
                broken[hit.cpu().numpy()] = True
        return broken

    def scaled(self) -> dict[float, float]:
        """Robust accuracy under 20 steps of PGD on the cross-entropy of the logits times 0.1, 1 and 10, on the same
        starts."""
        everyone = torch.arange(len(self.x), device=self.x.device)
        accuracy = {}
        for factor in (0.1, 1.0, 10.0):
            right = 0

            def loss(logits: Tensor, y: Tensor, factor: float = factor) -> Tensor:
                return cross_entropy(factor * logits, y)

            for who, randomness in self.parts(everyone):
                right += int(self._short(self.ball(who), who, loss, randomness).sum())
            accuracy[factor] = right / len(self.x)
        return accuracy

    def accuracy_at(self, eps: float) -> float:
        """Accuracy under 20 steps on the margin loss at another radius."""
        everyone = torch.arange(len(self.x), device=self.x.device)
        right = 0
        for who, randomness in self.parts(everyone):
            right += int(self._short(self.ball(who, eps), who, margin_loss, randomness).sum())
        return right / len(self.x)

    def _short(self, ball: Ball, who: Tensor, loss: Loss, randomness: torch.Generator) -> Tensor:
        """(m,) whether each image is still right at the end."""
        attacked = pgd(
            self.model, ball, self.y[who], steps=20, alpha=ball.eps / 4, loss=loss, start=ball.random_point(randomness)
        )
        return (attacked.logits.argmax(1) == self.y[who]) & self.correct[who]


def _settled_fosc(ball: Ball, z: Tensor, grad: Tensor) -> Tensor:
    """(n,) relative FOSC of the gradient averaged over the points of the last phase, z, grad (K+1, n, ...).

    Where the loss has a crease, single gradients jump from side to side and each promises a gain that no step can
    keep; what they have in common is what is left to climb. On a smooth loss this is the FOSC of the last points.
    """
    mean = grad.mean(0)
    if ball.norm == "linf":
        low, high = ball.faces
        scale = inner(grad.abs().mean(0), high - low) / 2
    else:
        scale = torch.stack([fosc(ball, ball.x, g) for g in grad]).mean(0)
    gap = fosc(ball, z.mean(0), mean)
    return torch.where(scale > 0, gap / scale, torch.full_like(gap, float("nan")))


def _corner(ball: Ball, randomness: torch.Generator) -> Tensor:
    """(n, ...) a random corner of the L-inf ball, or a random point of the L2 sphere, cut with the box."""
    way = torch.randn(ball.x.shape, generator=randomness, device=ball.x.device, dtype=ball.x.dtype)
    return ball.project(ball.x + ball.eps * ball.steepest_step(way))


def _square(ball: Ball, z: Tensor, randomness: torch.Generator, query: int) -> Tensor:
    """(n, ...) `z` with a random square of pixels sent to a random face: a plain random search (after Andriushchenko
    et al. 2020, Square attack), blind to gradients."""
    n, channels, height, width = z.shape
    side = max(1, round(min(height, width) * (0.5 if query < SEARCH // 3 else 0.25)))
    top = int(torch.randint(0, height - side + 1, (1,), generator=randomness, device=z.device))
    left = int(torch.randint(0, width - side + 1, (1,), generator=randomness, device=z.device))
    way = torch.randint(0, 2, (n, channels, 1, 1), generator=randomness, device=z.device).to(z.dtype) * 2 - 1
    tried = z.clone()
    tried[:, :, top : top + side, left : left + side] = (ball.x + ball.eps * way)[
        :, :, top : top + side, left : left + side
    ]
    return ball.project(tried)
