"""Attack a model, and say whether the attack may be believed and on which images not."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from dynat_core.attack.attacks import in_eval_mode
from dynat_core.attack.threat import Norm
from dynat_core.check.grey import sure_to_fall
from dynat_core.check.preflight import Finding, given, preflight
from dynat_core.check.siege import NOISE, SCALES, SEARCH, SHORT, Siege
from dynat_core.check.verdict import Light, Verdict, masked, not_yet, optimised, restarts_agree
from dynat_core.config import NORM_WORDS, describe_eps, parse_number, threat_of
from dynat_core.errors import DynatError
from dynat_core.images.data import Split
from dynat_core.recorded.trajectories import Trajectories
from dynat_core.training.evaluate import paths

BATCH = {"cpu": 256, "cuda": 1024}  # images at a time; halved when memory runs out
FIRST = 32  # images of the first batches, so that there is something to show soon
PATHS, PATH_BYTES = 64, 32 << 20  # most images whose path is kept, and the room for them
LARGE_EPS = {"linf": 0.5, "l2": 10.0}  # L-inf .5 contains the plain grey image, L2 10 that of small images


@dataclass(frozen=True)
class Report:
    """What a diagnosis found. Shows itself in a notebook.

    verdict: the three lights and the sentence. samples: one row per image (see below). findings: the checks made before
    the attack. settings: everything that was asked, with seconds nowhere in it, so it can be compared. recorded: the
    columns of a run's table of samples under PGD-20 on cross-entropy, one row per image. paths: PGD-20 on the margin
    loss step by step on the images that the lights are about, then on others, as many as fit into 32 MB.

    samples: index, label, clean_correct, predicted (at the point that broke it), robust_correct, broken_by (which
    attack broke it first, "" if none), restart (which restart, -1), margin (true logit minus best other: at that point,
    or else the smallest that was seen), fosc, relative_fosc (box, margin loss) and gradient_l1 at the end of the climb
    that came nearest, advice (done, more steps, smaller steps, masked). The last four are for images that survived: NaN
    and "" for others.
    """

    verdict: Verdict
    samples: pd.DataFrame
    findings: tuple[Finding, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    recorded: pd.DataFrame | None = None
    paths: Trajectories | None = None

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

    def to_json(self) -> dict[str, Any]:
        """Verdict, findings and settings as JSON has them; the samples are a table of their own."""
        verdict = self.verdict
        lights = [{**asdict(light), "images": list(light.images), "ok": light.ok} for light in verdict.lights]
        words = {"sentence": verdict.sentence, "ok": verdict.ok, "robust": verdict.robust, "n": verdict.n}
        also = {"warnings": list(verdict.warnings), "overridden": list(verdict.overridden), "so_far": verdict.so_far}
        return {
            "verdict": {**words, **also, "lights": lights},
            "findings": [asdict(finding) for finding in self.findings],
            "settings": self.settings,
        }


@dataclass(frozen=True)
class Stage:
    """How far a diagnosis is. words: what it does now. share: of the work, 0 to 1. report: what is known so far; None
    before the first image was attacked. note: something a person should know, such as a batch that was halved."""

    words: str
    share: float
    report: Report | None = None
    note: str = ""


class NotDiagnosable(DynatError):
    """The model or the images are such that no attack makes sense; the message says why and what to do."""


def diagnosing(
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
) -> Iterator[Stage]:
    """Attack `model` on the images, batch by batch, and say whether the result may be believed. The report is partial
    until the last stage.

    x: (n, C, H, W) floats in [0, 1]; y: (n,) labels; both are moved to where the model's first parameter is. eps: in
    pixels, a number or text such as "8/255". batch: images at a time, BATCH unless given. overridden: names of findings
    that are known and accepted. Raises NotDiagnosable for a finding after which no attack makes sense, ValueError for
    impossible arguments.
    """
    siege = besiege(model, x, y, eps, norm, steps, seed=seed, batch=batch)
    if restarts < 1:
        raise ValueError(f"restarts must be 1 or more (got {restarts})")
    yield Stage("looking at model and images", 0.0)
    found: list[Finding] = []
    # what was given is judged as it was given: cast, labels of 1.7 are whole numbers and bytes are floats
    for look in (lambda: given(x, y), lambda: preflight(siege.model, siege.ball(slice(None)), siege.y)):
        found += [finding for finding in look() if finding.name not in {known.name for known in found}]
        for finding in found:
            if finding.fatal and not finding.ok and finding.name not in overridden:
                raise NotDiagnosable(finding.sentence)
    yield from _Diagnosis(siege, restarts, tuple(found), overridden).stages()


def besiege(
    model: nn.Module, x: Tensor, y: Tensor, eps: float | str, norm: Norm, steps: int, *, seed: int, batch: int | None
) -> Siege:
    """The arguments of `diagnosing`, judged and moved to where the model is. Raises ValueError."""
    radius = parse_number(eps)
    if not isinstance(radius, int | float) or not 0 < radius < float("inf"):
        raise ValueError(f"eps must be above 0, such as 0.03 or 8/255 (got {eps})")
    if norm not in LARGE_EPS:
        raise ValueError(f"norm must be linf or l2 (got {norm})")
    if steps < 3 or len(x) != len(y):
        raise ValueError(f"it takes 3 steps and a label for each image (got {steps} and {len(x)}/{len(y)})")
    first = next((p for p in model.parameters()), x)
    at_once = batch or BATCH.get(first.device.type, BATCH["cpu"])
    # in half precision a point of the ball would be rounded out of it
    dtype = first.dtype if first.dtype in (torch.float32, torch.float64) else torch.float32
    x, y = x.to(first.device, dtype), y.to(first.device).long()
    return Siege(model, x, y, float(radius), norm, steps=steps, seed=seed, batch=at_once)


class _Diagnosis:
    """The order of the attacks, and the report at any moment of them."""

    def __init__(self, siege: Siege, restarts: int, found: tuple[Finding, ...], overridden: tuple[str, ...]) -> None:
        self.siege, self.restarts, self.found, self.overridden = siege, restarts, found, overridden
        self.asked_batch = siege.batch
        self.climbed = 0  # restarts that are over
        self.blind = np.zeros(len(siege.x), dtype=bool)
        self.scaled: dict[float, float] = {}
        self.margin_at: dict[float, float] = {}

    def stages(self) -> Iterator[Stage]:
        """Attack, and tell after every batch how far it is."""
        siege, large = self.siege, max(LARGE_EPS[self.siege.norm], self.siege.eps)
        # Modes and gradients are switched on and off around each batch: a generator may be left in the middle.
        yield from self._through("classifying", siege.measure_clean())
        for restart in range(self.restarts):
            words = f"restart {restart + 1} of {self.restarts}"
            size = FIRST if restart == 0 and siege.x.device.type == "cpu" else None
            yield from self._through(words, siege.climb(restart, size), partial=restart == 0)
            self.climbed += 1
            yield Stage(words, self._share(), self.report())
        yield from self._through("blind attacks", siege.blind(self.blind))
        yield from self._through("logits scaled", siege.scaled(self.scaled))
        yield from self._through("margin loss alone", siege.at(siege.eps, self.margin_at))
        yield from self._through("large radius", siege.at(large, self.margin_at))
        report = self.report(large)
        yield Stage("done", 1.0, replace(report, paths=self._paths(report)))

    def _paths(self, report: Report) -> Trajectories:
        """PGD-20 on the margin loss, step by step: first on the images that something is said about."""
        siege = self.siege
        told = [k for light in report.verdict.lights for k in light.images]
        chosen = list(dict.fromkeys([*told, *siege.standing.tolist(), *range(len(siege.x))]))
        fit = max(1, PATH_BYTES // (8 * (SHORT + 1) * siege.x[0].numel()))
        index = torch.tensor(sorted(chosen[: min(fit, PATHS)]), device=siege.x.device)
        threat = threat_of(siege.norm, siege.eps)
        attack = {"steps": SHORT, "alpha": siege.eps / 4, "seed": siege.seed, "loss": "margin"}
        parts = [Split(siege.x[some], siege.y[some], some, levels=1) for some in index.split(siege.batch)]
        return Trajectories.joined([paths(siege.model, part, threat, **attack) for part in parts])

    def _through(self, words: str, batches: Iterator[int], partial: bool = False) -> Iterator[Stage]:
        while True:
            before = self.siege.batch
            with in_eval_mode(self.siege.model), torch.no_grad():
                done = next(batches, None)
            if done is None:
                return
            halved = f"Memory ran out; {self.siege.batch} images at a time now." if self.siege.batch < before else ""
            yield Stage(words, self._share(), self.report() if partial else None, halved)

    def _share(self) -> float:
        """How much is done, in gradient evaluations: those to come are guessed from the images that still stand."""
        siege = self.siege
        n, left = len(siege.x), int(siege.robust.sum())
        whole = siege.gradients
        to_come = left * whole * (self.restarts - max(self.climbed, 1))
        if not self.climbed:
            to_come += int((siege.robust & ~siege.attacked).sum()) * whole
        to_come += (left * (NOISE + SEARCH) / 3) * (not self.scaled) * (not self.blind.any())
        to_come += n * (SHORT + 1) * (len(SCALES) + 2 - len(self.scaled) - len(self.margin_at))
        return min(0.99, siege.spent / max(siege.spent + to_come, 1.0))

    def report(self, large: float | None = None) -> Report:
        """What is known now; large: the large radius, when everything has been measured."""
        siege = self.siege
        seen = siege.attacked.cpu().numpy()
        correct, robust = siege.correct.cpu().numpy() & seen, siege.robust.cpu().numpy() & seen
        rho, l1 = siege.rho.cpu().numpy(), siege.l1.cpu().numpy()
        by_climb = np.where(siege.by == "pgd margin", siege.restart.cpu().numpy(), -1)
        agree = (
            restarts_agree(correct, by_climb, self.restarts)
            if self.climbed == self.restarts
            else not_yet("restarts", "Do the restarts agree?", int(correct.sum()))
        )
        lights = (optimised(robust, rho, l1), agree, self._masked(correct, large))
        failed = [f for f in self.found if not f.ok]
        warnings = tuple(f.sentence for f in failed if f.name not in self.overridden and not f.harmless)
        accepted = tuple(f.name for f in failed if f.name in self.overridden)
        so_far = "" if large else self._so_far(int(seen.sum()))
        verdict = Verdict(lights, int(robust.sum()), int(seen.sum()), warnings, accepted, so_far)
        rows = self._samples().loc[seen].reset_index(drop=True) if not seen.all() else self._samples()
        return Report(
            verdict, rows, self.found, self._settings(large),
            recorded=self._recorded() if large else None,
        )  # fmt: skip

    def _so_far(self, seen: int) -> str:
        of = f"{seen} of {len(self.siege.x)} images" if seen < len(self.siege.x) else f"{seen} images"
        return f"{of}, {max(self.climbed, 1)} of {self.restarts} restarts"

    def _masked(self, correct: np.ndarray, large: float | None) -> Light:
        if large is None:
            return not_yet("masked", "Is the model masked?", int(correct.sum()))
        siege = self.siege
        no_gradient = correct & (siege.start_l1.cpu().numpy() == 0)
        deterministic = next((f.ok for f in self.found if f.name == "deterministic"), True)
        at = self.margin_at
        sure = int(sure_to_fall(siege.model, siege.x, siege.y, large, siege.norm).sum())
        standing = round(at[large] * len(siege.x))  # of all: at most as many of them as are not sure to fall may stand
        left = max(0, standing - (len(siege.x) - sure)), sure
        return masked(
            correct, no_gradient, self.blind, self.scaled, at[siege.eps], left, large, deterministic
        )  # fmt: skip

    def _samples(self) -> pd.DataFrame:
        siege = self.siege
        robust = siege.robust.cpu().numpy()
        return pd.DataFrame(
            {
                "index": np.arange(len(robust)),
                "label": siege.y.cpu().numpy(),
                "clean_correct": siege.correct.cpu().numpy(),
                "predicted": siege.predicted.cpu().numpy(),
                "robust_correct": robust,
                "broken_by": siege.by,
                "restart": siege.restart.cpu().numpy(),
                "margin": siege.margin.float().cpu().numpy(),
                "fosc": siege.fosc.float().cpu().numpy(),
                "relative_fosc": siege.rho.cpu().numpy(),
                "gradient_l1": siege.l1.cpu().numpy(),
                "advice": np.where(robust, siege.advice, ""),
            }
        )

    def _recorded(self) -> pd.DataFrame:
        siege = self.siege
        head = {"index": siege.everyone, "label": siege.y, "clean_correct": siege.correct}
        columns = {name: values.cpu().numpy() for name, values in (head | siege.columns).items()}
        return pd.DataFrame(columns)

    def _settings(self, large: float | None) -> dict[str, Any]:
        siege = self.siege
        of = f"{NORM_WORDS[siege.norm]} eps {describe_eps(siege.eps)}"
        return {
            "model": siege.described,
            "eps": siege.eps,
            "norm": siege.norm,
            "steps": siege.steps,
            "steps_made": sum(siege.plan),
            "restarts": self.restarts,
            "loss": "margin",
            "seed": siege.seed,
            "step_sizes": ", ".join(f"eps/{over}" for _, over in siege.phases) + f", settling {_range(*siege.settle)}",
            "n": len(siege.x),
            "batch": siege.batch,
            "batch_halved": siege.batch < self.asked_batch,
            "words": f"PGD-{sum(siege.plan)} x {self.restarts}, margin loss, {of}",
            "accuracy_with_logits_scaled": {str(k): v for k, v in sorted(self.scaled.items())},
            "accuracy_at_large_eps": self.margin_at.get(large) if large else None,
        }


def _range(first: int, last: int) -> str:
    return f"eps/{first}" if first == last else f"eps/{first} to eps/{last}"


def with_image_numbers(report: Report, index: np.ndarray) -> Report:
    """The same report with images called by their numbers `index` (n,) in a data set, not by their places."""
    rows = report.samples.assign(index=index[report.samples["index"].to_numpy()])
    lights = tuple(
        replace(light, images=tuple(int(index[k]) for k in light.images)) for light in report.verdict.lights
    )  # fmt: skip
    return replace(report, samples=rows, verdict=replace(report.verdict, lights=lights))
