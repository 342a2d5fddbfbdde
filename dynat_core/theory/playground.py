"""The 2-D classifier of the Learn screen: PGD, FOSC and training on points of the unit square, in plain Python.

What the browser computes (ui/playground/maths.js) is held to this file by tests. A point is (right, up), two "pixels"
in [0, 1]; lengths are in pixels, losses in nats. No array library, so that every line can be read beside the formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Point = tuple[float, float]
Norm = Literal["linf", "l2"]
Strategy = Literal["unsecured", "standard", "dynamic"]

HIDDEN = 12
LOW, HIGH = 0.0, 1.0
CLASSES = {"moons": 2, "rings": 2, "three": 3}
COUNT, RATE, STEPS, PACE, C_MAX = 60, 0.04, 10, 0.25, 0.25
DECAY = {"unsecured": 0.006, "standard": 0.002, "dynamic": 0.002}
EPOCHS = {"unsecured": 200, "standard": 160, "dynamic": 160}
_SLACK = 1e-12  # pixels: rounding of the crossings of a circle and an edge


def stream(seed: int) -> Callable[[], float]:
    """Return a source of uniform numbers in [0, 1) (Mulberry32, so that the browser draws the same ones)."""
    state = seed & 0xFFFFFFFF

    def draw() -> float:
        nonlocal state
        state = (state + 0x6D2B79F5) & 0xFFFFFFFF
        t = ((state ^ (state >> 15)) * (1 | state)) & 0xFFFFFFFF
        t = ((t + (((t ^ (t >> 7)) * (61 | t)) & 0xFFFFFFFF)) & 0xFFFFFFFF) ^ t
        return (t ^ (t >> 14)) / 4294967296

    return draw


def bell(draw: Callable[[], float]) -> float:
    """Return a standard normal number (Box and Muller)."""
    u, v = 1 - draw(), draw()
    return math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)


def cloud(name: str, count: int, seed: int) -> tuple[list[Point], list[int]]:
    """Return `count` points of each class of data set `name` ("moons", "rings", "three") and their labels."""
    draw, points, labels = stream(seed), [], []
    for label in range(CLASSES[name]):
        for _ in range(count):
            t, a, b = draw(), bell(draw), bell(draw)
            if name == "moons":
                turn = math.pi * t
                right = 0.34 + 0.23 * (1 - math.cos(turn) if label else math.cos(turn)) + 0.028 * a
                up = 0.42 + 0.3 * (0.5 - math.sin(turn) if label else math.sin(turn)) + 0.028 * b
            elif name == "rings":
                radius, turn = 0.36 if label else 0.1, 2 * math.pi * t
                right, up = 0.5 + radius * math.cos(turn) + 0.03 * a, 0.5 + radius * math.sin(turn) + 0.03 * b
            else:
                turn = math.pi * (0.5 + 2 * label / 3)
                right, up = 0.5 + 0.27 * math.cos(turn) + 0.08 * a, 0.46 + 0.27 * math.sin(turn) + 0.08 * b
            points.append((_clip(right), _clip(up)))
            labels.append(label)
    return points, labels


@dataclass
class Network:
    """One hidden tanh layer. weights, flat: input weights (HIDDEN x 2), biases, output weights (classes x HIDDEN),
    biases."""

    classes: int
    weights: list[float]


def untrained(classes: int, seed: int) -> Network:
    """Return a network with random weights."""
    draw = stream(seed)
    weights = [0.9 * bell(draw) for _ in range(3 * HIDDEN)] + [0.5 * bell(draw) for _ in range(classes * HIDDEN)]
    return Network(classes, weights + [0.0] * classes)


@dataclass(frozen=True)
class Look:
    """Cross-entropy loss at a point (nats), its gradient in the point, and the logits."""

    loss: float
    grad: Point
    logits: tuple[float, ...]


def look(net: Network, p: Point, y: int, sums: list[float] | None = None) -> Look:
    """Return loss, gradient and logits at `p` for label `y`; the gradient in the weights is added to `sums`."""
    w, biases, outer = net.weights, 2 * HIDDEN, 3 * HIDDEN
    last = outer + net.classes * HIDDEN
    s, t = 4 * (p[0] - 0.5), 4 * (p[1] - 0.5)  # centred and scaled inside the model, so eps means pixels
    hidden = [math.tanh(w[2 * j] * s + w[2 * j + 1] * t + w[biases + j]) for j in range(HIDDEN)]
    logits = []
    for c in range(net.classes):
        z = w[last + c]
        for j in range(HIDDEN):
            z += w[outer + c * HIDDEN + j] * hidden[j]
        logits.append(z)
    top = max(logits)
    total = sum(math.exp(z - top) for z in logits)
    back = [0.0] * HIDDEN
    for c in range(net.classes):
        q = math.exp(logits[c] - top) / total - (1 if c == y else 0)
        for j in range(HIDDEN):
            back[j] += q * w[outer + c * HIDDEN + j]
            if sums is not None:
                sums[outer + c * HIDDEN + j] += q * hidden[j]
        if sums is not None:
            sums[last + c] += q
    right = up = 0.0
    for j in range(HIDDEN):
        h = back[j] * (1 - hidden[j] * hidden[j])
        right += h * w[2 * j]
        up += h * w[2 * j + 1]
        if sums is not None:
            sums[2 * j] += h * s
            sums[2 * j + 1] += h * t
            sums[biases + j] += h
    return Look(top - logits[y] + math.log(total), (4 * right, 4 * up), tuple(logits))


@dataclass(frozen=True)
class Ball:
    """The points within `eps` of `x` in `norm`, and inside the pixel box."""

    x: Point
    eps: float
    norm: Norm = "linf"

    @property
    def faces(self) -> tuple[Point, Point]:
        """(l, u): the lowest and highest value of each pixel; L-inf only."""
        low, high = (max(v - self.eps, LOW) for v in self.x), (min(v + self.eps, HIGH) for v in self.x)
        return _pair(low), _pair(high)

    def project(self, z: Point) -> Point:
        """Return the nearest allowed point (L-inf), or `z` pulled into the disc and then cut with the box (L2)."""
        if self.norm == "linf":
            low, high = self.faces
            return _pair(min(max(v, a), b) for v, a, b in zip(z, low, high, strict=True))
        delta = _minus(z, self.x)
        length = _length(delta)
        pull = self.eps / length if length > self.eps else 1.0
        return _pair(_clip(v + pull * d) for v, d in zip(self.x, delta, strict=True))

    def start(self, r: Point) -> Point:
        """Return the random start that two uniform numbers stand for: uniform in the ball, then cut with the box."""
        if self.norm == "linf":
            way = (2 * r[0] - 1, 2 * r[1] - 1)
        else:
            turn, far = 2 * math.pi * r[0], math.sqrt(r[1])
            way = (far * math.cos(turn), far * math.sin(turn))
        return self.project((self.x[0] + self.eps * way[0], self.x[1] + self.eps * way[1]))

    def steepest(self, grad: Point) -> Point:
        """Return the step of unit norm that climbs a straight slope fastest: sign(g), or g / ||g||_2; 0 where g is."""
        if self.norm == "linf":
            return _sign(grad[0]), _sign(grad[1])
        length = _length(grad)
        return (grad[0] / length, grad[1] / length) if length > 0 else (0.0, 0.0)

    def best_of_ball(self, z: Point, grad: Point) -> Point:
        """Return the point of the ball furthest uphill, without the pixel box; where the gradient is 0, stay at z."""
        way = self.steepest(grad)
        if self.norm == "l2":
            return z if grad == (0, 0) else (self.x[0] + self.eps * way[0], self.x[1] + self.eps * way[1])
        return _pair(a if w == 0 else v + self.eps * w for a, v, w in zip(z, self.x, way, strict=True))

    def best(self, z: Point, grad: Point) -> Point:
        """Return the allowed point furthest uphill, argmax of <point, grad>; where the gradient is 0, stay at z.

        L2: where the disc's own best point is outside the box, the best of the corners and crossings; exact in 2-D.
        """
        if self.norm == "linf":
            low, high = self.faces
            sides = zip(z, grad, low, high, strict=True)
            return _pair(b if g > 0 else a if g < 0 else v for v, g, a, b in sides)
        best = self.best_of_ball(z, grad)
        if _in_box(best) or grad == (0, 0):
            return best
        corners = [(a, b) for a in (LOW, HIGH) for b in (LOW, HIGH)]
        rivals = [p for p in corners if _length(_minus(p, self.x)) <= self.eps] + self._crossings()
        return max(rivals, key=lambda p: _dot(p, grad))

    def _crossings(self) -> list[Point]:
        found = []
        for i in (0, 1):
            for edge in (LOW, HIGH):
                rest = self.eps * self.eps - (edge - self.x[i]) ** 2
                for side in (-1, 1) if rest >= 0 else ():
                    along = self.x[1 - i] + side * math.sqrt(rest)
                    found.append((edge, along) if i == 0 else (along, edge))
        return [p for p in found if _in_box(p)]

    def dual(self, grad: Point) -> float:
        """Return ||g||_1 (L-inf) or ||g||_2 (L2): what the slope promises per pixel of eps."""
        return abs(grad[0]) + abs(grad[1]) if self.norm == "linf" else _length(grad)


def fosc_box(ball: Ball, z: Point, grad: Point) -> float:
    """Return FOSC over ball and pixel box, <best - z, g>, in nats. Source: Wang et al. 2019, exact where pixels are
    cut."""
    return _dot(_minus(ball.best(z, grad), z), grad)


def fosc_paper(ball: Ball, z: Point, grad: Point) -> float:
    """Return FOSC over the ball alone, eps * ||g||_1 - <z - x, g> (L2: ||g||_2). Source: Wang et al. 2019."""
    return ball.eps * ball.dual(grad) - _dot(_minus(z, ball.x), grad)


def middle(ball: Ball, grad: Point) -> float:
    """Return what the same slope would promise from the middle of the set, half its width along the gradient: the unit
    of relative FOSC."""
    if ball.norm == "l2":
        back = (-grad[0], -grad[1])
        return (fosc_box(ball, ball.x, grad) + fosc_box(ball, ball.x, back)) / 2
    low, high = ball.faces
    return (abs(grad[0]) * (high[0] - low[0]) + abs(grad[1]) * (high[1] - low[1])) / 2


@dataclass(frozen=True)
class Stand:
    """Everything there is to know at one place of a path; the relative forms are None where the gradient is 0."""

    z: Point
    seen: Look
    fosc: float
    paper: float
    middle: float
    best: Point
    steepness: float
    relative: float | None
    relative_paper: float | None


def stand(net: Network, ball: Ball, y: int, z: Point) -> Stand:
    """Look around at `z`."""
    seen = look(net, z, y)
    g, scale, paper_scale = seen.grad, middle(ball, seen.grad), ball.eps * ball.dual(seen.grad)
    box, paper = fosc_box(ball, z, g), fosc_paper(ball, z, g)
    relative, relative_paper = box / scale if scale > 0 else None, paper / paper_scale if paper_scale > 0 else None
    return Stand(z, seen, box, paper, scale, ball.best(z, g), _length(g), relative, relative_paper)


def climb(net: Network, ball: Ball, y: int, z0: Point, alpha: float, steps: int) -> list[Stand]:
    """Return PGD's steps + 1 places from `z0`, the start first. alpha: step size in pixels."""
    path = [stand(net, ball, y, z0)]
    for _ in range(steps):
        path.append(stand(net, ball, y, _step(ball, path[-1].z, path[-1].seen.grad, alpha)))
    return path


def expectation(k: int, pace: float, random: bool, norm: Norm = "linf") -> float | None:
    """Return relative FOSC (paper form) after k steps of `pace` eps under a constant gradient.

    random: the mean over uniform random starts, (2 - k pace)^2 / 4; else from x, 1 - k pace. None for a disc with
    random starts, where no closed form is known here.
    """
    if random and norm == "l2":
        return None
    left = max((2 if random else 1) - k * pace, 0.0)
    return left * left / 4 if random else left


def mean_relative(
    net: Network, ball: Ball, y: int, alpha: float, steps: int, count: int, seed: int
) -> list[float] | None:
    """Return relative FOSC (paper form) step by step, averaged over `count` random starts; None on a zero gradient."""
    draw, mean = stream(seed), [0.0] * (steps + 1)
    for _ in range(count):
        z = ball.start((draw(), draw()))
        for k in range(steps + 1):
            grad = look(net, z, y).grad
            scale = ball.eps * ball.dual(grad)
            if not scale > 0:
                return None
            mean[k] += fosc_paper(ball, z, grad) / scale / count
            z = _step(ball, z, grad, alpha)
    return mean


@dataclass
class Training:
    """A training under way: full-batch Adam, one update an epoch, on points that `strategy` has attacked."""

    data: str
    strategy: Strategy
    seed: int
    eps: float
    epoch: int = 0
    gradients: int = 0
    net: Network = field(init=False)

    def __post_init__(self) -> None:
        self.net = untrained(CLASSES[self.data], self.seed)
        self.points, self.labels = cloud(self.data, COUNT, 1000 + self.seed)
        self.epochs = EPOCHS[self.strategy]
        self._m, self._v = [0.0] * len(self.net.weights), [0.0] * len(self.net.weights)

    def threshold(self) -> float:
        """Return c_t of the coming epoch; it reaches 0 at four fifths of the epochs. Source: Wang et al. 2019."""
        return max(C_MAX - self.epoch * C_MAX / (0.8 * self.epochs), 0.0)

    def hardened(self, x: Point, y: int, r: Point) -> Point:
        """Return the point that example `x` is moved to; Algorithm 1, lines 6 to 10, with the box form."""
        if self.strategy == "unsecured":
            return x
        ball, c = Ball(x, self.eps), self.threshold() if self.strategy == "dynamic" else -math.inf
        z = ball.start(r)
        for k in range(STEPS):
            grad = look(self.net, z, y).grad
            self.gradients += 1
            if k > 0 and fosc_box(ball, z, grad) <= c:  # the first step is always taken; equality stops
                break
            z = _step(ball, z, grad, PACE * self.eps)
        return z

    def advance(self) -> None:
        """Train one epoch."""
        sums = [0.0] * len(self.net.weights)
        draw = stream(self.seed * 1000003 + self.epoch * 7919 + 17)
        for x, y in zip(self.points, self.labels, strict=True):
            look(self.net, self.hardened(x, y, (draw(), draw())), y, sums)
        self.epoch += 1
        first, second = 1 - 0.9**self.epoch, 1 - 0.999**self.epoch
        for i, total in enumerate(sums):
            g = total / len(self.points) + DECAY[self.strategy] * self.net.weights[i]
            self._m[i] = 0.9 * self._m[i] + 0.1 * g
            self._v[i] = 0.999 * self._v[i] + 0.001 * g * g
            self.net.weights[i] -= RATE * (self._m[i] / first) / (math.sqrt(self._v[i] / second) + 1e-8)


def _step(ball: Ball, z: Point, grad: Point, alpha: float) -> Point:
    way = ball.steepest(grad)
    return ball.project((z[0] + alpha * way[0], z[1] + alpha * way[1]))


def _pair(values) -> Point:
    right, up = values
    return right, up


def _clip(v: float) -> float:
    return min(max(v, LOW), HIGH)


def _sign(v: float) -> float:
    return float((v > 0) - (v < 0))


def _dot(a: Point, b: Point) -> float:
    return a[0] * b[0] + a[1] * b[1]


def _minus(a: Point, b: Point) -> Point:
    return a[0] - b[0], a[1] - b[1]


def _length(v: Point) -> float:
    return math.sqrt(v[0] * v[0] + v[1] * v[1])


def _in_box(p: Point) -> bool:
    return all(LOW - _SLACK <= v <= HIGH + _SLACK for v in p)
