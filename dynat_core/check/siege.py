"""Everything that is known about every image while one attack after another goes at it; what `diagnose` judges by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import Attacked, Loss, Watch, cross_entropy, margin, margin_loss, pgd, value_and_grad
from dynat_core.attack.fosc import fosc, half_width, relative_fosc
from dynat_core.attack.inputs import for_any_precision
from dynat_core.attack.memory import all_or_half
from dynat_core.attack.threat import Ball, Norm, euclidean
from dynat_core.check.verdict import stall
from dynat_core.training.evaluate import described, generator_for, measures

SEARCH = 150  # queries of the random search on each image that is left
NOISE = 10  # random corners tried on each image
PHASES = ((0.4, 4), (0.2, 16))  # share of the steps, and what eps is divided by for their size
# The rest of the steps go along the gradient itself. What eps is divided by for the first and the last of them: for the
# length in the average pixel under L-inf, of the whole step under L2, where it falls evenly in the logarithm.
SETTLE: dict[Norm, tuple[int, int]] = {"linf": (64, 64), "l2": (4, 64)}
FINER = 4  # times as small, all of them, when smaller steps are asked for
_LEAST = 4  # steps it takes to settle
SCALES = (1.0, 0.1, 0.01, 10.0)  # factors on the logits; 0.01 brings back a model that multiplies its own by 100
SHORT = 20  # steps of the attacks that are compared with each other


class Siege:
    """A model, n images and what each attack did to them. The model must be in eval mode.

    x: (n, C, H, W) in [0, 1], float32 or float64; y: (n,) int64, both on the model's device. batch: images at a time;
    halved when the device runs out of memory. Arrays over the images: correct (without an attack), robust (still right
    after everything so far), attacked (by the main attack at least once), restart (that broke it, -1), by (which attack
    broke it, "" none); predicted and margin at the point that broke it, or else the label and the smallest margin that
    was seen; fosc, rho (relative, box form), l1 (of the gradient) of the margin loss and advice (see `verdict.stall`)
    at the end of the climb that came nearest, for images that stand: NaN for others.
    """

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor, eps: float, norm: Norm, *, steps: int, seed: int, batch: int
    ) -> None:
        self.described, self.model = described(model), for_any_precision(model)
        self.x, self.y, self.eps, self.steps = x, y, eps, steps
        self.norm: Norm = norm
        self.seed, self.batch = seed, batch
        self.phases, self.settle = PHASES, SETTLE[norm]
        self.spent = 0.0  # gradient evaluations so far; a forward pass counts a third
        n, device = len(x), x.device
        self.correct, self.attacked = (torch.zeros(n, dtype=torch.bool, device=device) for _ in range(2))
        self.robust = self.correct.clone()
        self.predicted = torch.full((n,), -1, device=device)
        self.restart = torch.full((n,), -1, device=device)
        self.margin, self.fosc, self.rho, self.l1, self.start_l1 = (
            torch.full((n,), float("nan"), device=device) for _ in range(5)
        )
        self.by = np.full(n, "", dtype=object)
        self.advice = np.full(n, "", dtype=object)
        self.columns: dict[str, Tensor] = {}  # what PGD-20 on cross-entropy, the attack runs record, left

    def ball(self, some: Tensor | slice, eps: float | None = None) -> Ball:
        """The set around some of the images."""
        return Ball(self.x[some], self.eps if eps is None else eps, self.norm)

    @property
    def everyone(self) -> Tensor:
        """Positions of all images."""
        return torch.arange(len(self.x), device=self.x.device)

    @property
    def standing(self) -> Tensor:
        """Positions of the images that nothing broke yet."""
        return torch.nonzero(self.robust).flatten()

    def each(
        self, who: Tensor, what: Callable[[Tensor, torch.Generator], None], size: int | None = None
    ) -> Iterator[int]:
        """Call `what` on a batch of `who` at a time, each with random numbers of its own; yield how many are done.

        A batch that does not fit into the device's memory is tried again at half the size, so `what` writes down what
        it found only at its end. Raises torch.OutOfMemoryError when not even one image fits.
        """
        done = number = 0
        while done < len(who):
            wanted = who[done : done + min(size or self.batch, self.batch)]

            def anew(some: Tensor, number: int = number) -> None:  # a second try draws what the first one drew
                what(some, generator_for(self.x.device, self.seed, "diagnose", number))

            part, _ = all_or_half(anew, wanted)
            if len(part) < len(wanted):
                self.batch = len(part)
            done, number = done + len(part), number + 1
            yield done

    def refine(self) -> None:
        """Make every step a quarter as long."""
        first, last = self.settle
        self.phases = tuple((share, over * FINER) for share, over in self.phases)
        self.settle = first * FINER, last * FINER

    @property
    def plan(self) -> tuple[int, ...]:
        """How many steps each part of a climb takes, the settling last; more than `steps` in all where those are too
        few to settle."""
        signed = [max(1, round(share * self.steps)) for share, _ in self.phases]
        return (*signed, max(_LEAST, self.steps - sum(signed)))

    @property
    def gradients(self) -> int:
        """What a climb costs each image: one more than its steps in each part, since every part looks at its end."""
        return sum(self.plan) + len(self.plan)

    # -- the attacks; each yields after every batch

    def measure_clean(self) -> Iterator[int]:
        """Which images are right without an attack, and whether their margin has a slope at all."""

        def look(who: Tensor, randomness: torch.Generator) -> None:
            logits, _, grad = value_and_grad(self.model, margin_loss, self.x[who], self.y[who])
            here, l1 = margin(logits, self.y[who]).float(), grad.flatten(1).abs().sum(1).float()
            self.predicted[who] = logits.argmax(1)
            self.correct[who] = logits.argmax(1) == self.y[who]
            self.robust[who] = self.correct[who]
            self.margin[who], self.start_l1[who] = here, l1
            self.by[who[~self.correct[who]].cpu().numpy()] = "misclassified"
            self.spent += len(who)

        yield from self.each(self.everyone, look)

    def climb(self, restart: int, size: int | None = None) -> Iterator[int]:
        """One restart of the main attack on the images that still stand."""

        def attack(who: Tensor, randomness: torch.Generator) -> None:
            randomness.manual_seed(randomness.initial_seed() + restart)
            ball, y = self.ball(who), self.y[who]
            rho, l1, end, nearest = self._phases(ball, y, ball.random_point(randomness))
            here, gap = margin(end.logits, y).float(), fosc(ball, end.z, end.grad).float()
            self._settle(who, nearest, "pgd margin", restart)
            stands = self.robust[who]
            nearer = stands & ((here < self.margin[who]) | self.rho[who].isnan())
            kept = who[nearer]
            self.margin[kept], self.fosc[kept] = here[nearer], gap[nearer]
            self.rho[kept], self.l1[kept] = rho[-1][nearer], l1[-1][nearer]
            self.advice[kept.cpu().numpy()] = stall(rho.cpu().numpy(), l1.cpu().numpy())[nearer.cpu().numpy()]
            self.attacked[: int(who[-1]) + 1] = True  # those between were wrong without an attack
            self.spent += len(who) * len(rho)

        yield from self.each(self.standing, attack, size)
        self.attacked[:] = True

    def _phases(self, ball: Ball, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Attacked, Tensor]:
        """The climb with falling step sizes, settled at its end.

        Returns relative FOSC and gradient norm (K+1, n) along it, the last FOSC being that of the settled gradient; the
        end point; and the logits (n, classes) of the point with the smallest margin of all that were visited. Points
        are measured as they are passed: a path of large pictures has no room in memory.
        """
        rhos: list[Tensor] = []
        l1s: list[Tensor] = []
        nearest: Tensor | None = None

        def see(point: Tensor, grad: Tensor, logits: Tensor) -> None:
            nonlocal nearest
            rhos.append(relative_fosc(ball, point, grad).float())
            l1s.append(grad.flatten(1).abs().sum(1).float())
            if nearest is None:
                nearest = logits.clone()
            nearer = margin(logits, y) < margin(nearest, y)
            nearest = torch.where(nearer[:, None], logits, nearest)

        *signed, left = self.plan
        for steps, (_, over) in zip(signed, self.phases, strict=True):
            z = pgd(self.model, ball, y, steps=steps, alpha=self.eps / over, loss="margin", start=z, watch=see).z
        first, last = self.settle
        alphas = [self.eps / first * (first / last) ** (step / (left - 1)) for step in range(left)]
        end, rho = _settled(self.model, ball, y, z, alphas, watch=see)
        rhos[-1] = rho.float()
        assert nearest is not None
        return torch.stack(rhos), torch.stack(l1s), end, nearest

    def _settle(self, who: Tensor, logits: Tensor, name: str, restart: int) -> None:
        """Note which of `who` are wrong by these logits (m, classes)."""
        wrong = (logits.argmax(1) != self.y[who]) & self.robust[who]
        hit = who[wrong]
        self._break(hit, logits.argmax(1)[wrong], margin(logits, self.y[who]).float()[wrong])
        self.restart[hit] = restart
        self.by[hit.cpu().numpy()] = name

    def _break(self, hit: Tensor, predicted: Tensor, here: Tensor) -> None:
        """The images `hit` do not stand any more, at a point of this class and margin. What an earlier restart measured
        at the end of its climb belongs to another point."""
        self.robust[hit] = False
        self.predicted[hit], self.margin[hit] = predicted, here
        for measured in (self.fosc, self.rho, self.l1):
            measured[hit] = float("nan")

    def blind(self, broken: np.ndarray, search: int = SEARCH) -> Iterator[int]:
        """Mark in `broken` (n,) the images that random corners or a random search break although no gradient did."""

        def try_out(who: Tensor, randomness: torch.Generator) -> None:
            ball, y = self.ball(who), self.y[who]
            best, z = torch.full((len(who),), float("inf"), device=self.x.device), ball.x.clone()
            fooled = torch.full_like(who, -1)  # the query that broke each first
            predicted, at = fooled.clone(), best.clone()
            for query in range(NOISE + search):
                tried = (
                    _corner(ball, randomness)
                    if query < NOISE
                    else _square(ball, z, randomness, (query - NOISE) / search)
                )
                logits = self.model(tried)
                now = margin(logits, y).float()
                better = now < best
                best = torch.where(better, now, best)
                z = torch.where(better.view(-1, 1, 1, 1), tried, z)
                first = (logits.argmax(1) != y) & (fooled < 0)
                predicted, at = torch.where(first, logits.argmax(1), predicted), torch.where(first, now, at)
                fooled = fooled.masked_fill(first, query)
            hit, left = who[fooled >= 0], who[fooled < 0]
            self._break(hit, predicted[fooled >= 0], at[fooled >= 0])
            self.margin[left] = torch.fmin(self.margin[left], best[fooled < 0])
            self.by[hit.cpu().numpy()] = np.where(fooled[fooled >= 0].cpu().numpy() < NOISE, "noise", "random search")
            broken[hit.cpu().numpy()] = True
            self.spent += len(who) * (NOISE + search) / 3

        yield from self.each(self.standing, try_out)

    def scaled(self, accuracy: dict[float, float]) -> Iterator[int]:
        """Fill `accuracy` with the robust accuracy under 20 steps of PGD on the cross-entropy of the logits times each
        of SCALES, on the same starts."""
        for factor in SCALES:
            right = torch.zeros(len(self.x), dtype=torch.bool, device=self.x.device)

            def loss(logits: Tensor, y: Tensor, factor: float = factor) -> Tensor:
                return cross_entropy(factor * logits, y)

            yield from self._short(self.eps, loss, right, record=factor == 1.0)
            accuracy[factor] = float(right.float().mean())

    def at(self, eps: float, accuracy: dict[float, float]) -> Iterator[int]:
        """Put the accuracy under 20 steps on the margin loss at another radius into `accuracy`."""
        right = torch.zeros(len(self.x), dtype=torch.bool, device=self.x.device)
        yield from self._short(eps, margin_loss, right)
        accuracy[eps] = float(right.float().mean())

    def _short(self, eps: float, loss: Loss, right: Tensor, record: bool = False) -> Iterator[int]:
        """Mark in `right` (n,) the images that are still right at the end of a short attack."""

        def attack(who: Tensor, randomness: torch.Generator) -> None:
            ball, y = self.ball(who, eps), self.y[who]
            start = ball.random_point(randomness)
            attacked = pgd(self.model, ball, y, steps=SHORT, alpha=ball.eps / 4, loss=loss, start=start)
            found = measures(ball, attacked, y) if record else {}
            right[who] = (attacked.logits.argmax(1) == y) & self.correct[who]
            for name, values in found.items():
                self.columns.setdefault(name, values.new_zeros(len(self.x)))[who] = values
            self.spent += len(who) * (SHORT + 1)

        yield from self.each(self.everyone, attack)


def _settled(
    model: nn.Module, ball: Ball, y: Tensor, z: Tensor, alphas: Sequence[float], watch: Watch | None = None
) -> tuple[Attacked, Tensor]:
    """Climb along the gradient itself, not its sign, on the margin loss; the end, and what was left to climb.

    The second is the (n,) relative FOSC of the mean gradient over the later half (see `_Slope`). watch: see `ascend`.

    A step is alpha long, in the average pixel (L-inf) or as a whole (L2), were the gradient the first one; the scale
    stays that one ever after. Where nothing projects, the gradients of such steps, each times its alpha, add up to the
    way made: the mean gradient of a climb that only goes to and fro across a crease of the loss tends to 0, and that of
    a climb that still gets on does not. Steps along the sign lack this: their pixels turn as often up as down whatever
    the slopes.
    """
    slope, steps = _Slope(ball), len(alphas)
    logits, loss, grad = value_and_grad(model, margin_loss, z, y)
    long = grad.flatten(1).abs().mean(1) if ball.norm == "linf" else euclidean(grad)
    scale = long.clamp_min(torch.finfo(grad.dtype).tiny).view(-1, 1, 1, 1)
    for step in range(steps + 1):
        if step:
            z = ball.project(z + alphas[step - 1] * grad / scale)
            logits, loss, grad = value_and_grad(model, margin_loss, z, y)
        if watch is not None:
            watch(z, grad, logits)
        if step >= steps // 2:
            slope.add(z, grad, alphas[min(step, steps - 1)] / alphas[-1])
    count = torch.full((len(z),), steps + 1, dtype=torch.int32, device=z.device)
    fooled = torch.full_like(count, -1)
    end = Attacked(z=z, grad=grad, loss=loss, logits=logits, gradients=count, steps=count - 1, steps_to_fool=fooled)
    return end, slope.relative_fosc()


class _Slope:
    """The gradient averaged over some points of a climb, kept as sums.

    Where the loss has a crease, single gradients jump from side to side and each promises a gain that no step can
    keep; what they have in common is what is left to climb. On a smooth loss this is the FOSC of the points.
    """

    def __init__(self, ball: Ball) -> None:
        self.ball = ball
        self.weight = 0.0
        self.z, self.grad = torch.zeros_like(ball.x), torch.zeros_like(ball.x)
        self.size = ball.x.new_zeros(len(ball))

    def add(self, z: Tensor, grad: Tensor, weight: float = 1.0) -> None:
        """One more point (n, ...)."""
        self.weight += weight
        self.z += weight * z
        self.grad += weight * grad
        self.size += weight * half_width(self.ball, grad)

    def relative_fosc(self) -> Tensor:
        """(n,) of the mean gradient in the mean point; NaN where every gradient is 0."""
        scale = self.size / self.weight
        gap = fosc(self.ball, self.z / self.weight, self.grad / self.weight)
        return torch.where(scale > 0, gap / scale, torch.full_like(gap, float("nan")))


def _corner(ball: Ball, randomness: torch.Generator) -> Tensor:
    """(n, ...) a random corner of the L-inf ball, or a random point of the L2 sphere, cut with the box."""
    way = torch.randn(ball.x.shape, generator=randomness, device=ball.x.device, dtype=ball.x.dtype)
    return ball.project(ball.x + ball.eps * ball.steepest_step(way))


def _square(ball: Ball, z: Tensor, randomness: torch.Generator, share: float) -> Tensor:
    """(n, ...) `z` with a random square of pixels sent to a random face (L-inf) or shifted by eps in all (L2): a plain
    random search (after Andriushchenko et al. 2020, Square attack), blind to gradients."""
    n, channels, height, width = z.shape
    side = max(1, round(min(height, width) * (0.5 if share < 1 / 3 else 0.25)))
    top = int(torch.randint(0, height - side + 1, (1,), generator=randomness, device=z.device))
    left = int(torch.randint(0, width - side + 1, (1,), generator=randomness, device=z.device))
    way = torch.randint(0, 2, (n, channels, 1, 1), generator=randomness, device=z.device).to(z.dtype) * 2 - 1
    tried = z.clone()
    square = (..., slice(top, top + side), slice(left, left + side))
    if ball.norm == "linf":
        tried[square] = (ball.x + ball.eps * way)[square]
    else:  # as long as the radius: with every pixel eps further, projecting would wipe out all that was found before
        tried[square] += ball.eps * way / (channels * side**2) ** 0.5
    return ball.project(tried)
