"""The evaluation ladder: attack after attack, from none to AutoAttack, and the worst case of each image over all.

One batch at a time, and each batch draws its random numbers from seed, rung, restart and batch number alone: a ladder
that goes on from any state ends with the table of one that was never interrupted, to the last bit. The attacks of one
random start share it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dynat_core.attack import autoattack as aa
from dynat_core.attack.attacks import in_eval_mode
from dynat_core.attack.inputs import judged
from dynat_core.attack.memory import all_or_half
from dynat_core.attack.threat import Ball, Norm
from dynat_core.check.ladder_rungs import RUNGS, Found, Rung, attack, rungs
from dynat_core.check.ladder_state import BROKEN, MEASURED, STANDS, LadderError, LadderState, blank, tabulated
from dynat_core.statistics import wilson
from dynat_core.training.evaluate import generator_for

__all__ = ["LadderError", "LadderEvent", "LadderFinished", "LadderState", "Rung", "ladder", "rungs"]


@dataclass(frozen=True)
class LadderEvent:
    """How far a ladder is, after a batch.

    words: what it does. share: of the work, 0 to 1, never falling. remaining: the work to come, in gradients, guessed
    from the images that still stand; done: the same for the work behind. state: see `LadderState`, the caller's to
    keep. note: something a person should know, such as a batch that was halved.
    """

    words: str
    share: float
    remaining: float
    done: float
    state: LadderState
    note: str = ""


@dataclass(frozen=True)
class LadderFinished(LadderEvent):
    """The last event. result: JSON-able, see `ladder`."""

    result: dict[str, Any] = field(default_factory=dict)


def ladder(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    seed: int = 0,
    batch: int = 250,
    autoattack: bool = True,
    restarts: bool = True,
    state: LadderState | None = None,
) -> Iterator[LadderEvent]:
    """Attack the images rung by rung, and tell after every batch; the last event is a `LadderFinished`.

    model: float32, logits out. x: (n, C, H, W) in [0, 1]; y: (n,) labels; both are moved to the model's device. eps:
    pixels. batch: images at a time, halved when memory runs out. autoattack: run it where it is installed. restarts:
    with the attacks of ten restarts. state: go on from here, with the same model, images and settings.

    The result: n, eps, norm, seed; `rungs`, each with the fields of `Rung`, n, attacked (images it was run on),
    correct, accuracy, low, high (Wilson), seconds, gradients (what the attack cost, without one for each image's FOSC),
    broke (images it broke first, pass by pass), median_relative_fosc (of its end points, margin loss, None without) and
    warnings; `worst` with correct, accuracy, low, high: an image counts only if it stands on every rung; `broken_by`:
    rung -> images it broke first, "none" for those that stand; left_out: sentences on what was not run; versions.
    Raises LadderError for a state of something else, ValueError for impossible arguments.
    """
    x, y = judged(model, x, y, eps, norm, batch)
    names = [rung.name for rung in rungs(autoattack and aa.available() is not None, restarts)]
    asked = {"eps": float(eps), "norm": norm, "seed": int(seed), "of": _fingerprint(model, x, y)}
    if state is None:
        progress = {
            "asked": asked, "rungs": names, "rung": 0, "pass": 0, "number": 0, "batch": int(batch), "done": 0.0,
            "wanted": bool(autoattack), "records": {},
        }  # fmt: skip
        state = blank(y.cpu().numpy(), x.cpu().numpy(), names, progress)
    elif state.progress["asked"] != asked:
        raise LadderError("The saved state belongs to another model, other images or settings; start the ladder again.")
    elif "autoattack" in state.progress["rungs"] and aa.available() is None:
        raise LadderError(f"This ladder was begun with AutoAttack. {aa.INSTALL}.")
    climb = _Climb(model, x, y, state)
    while climb.rung is not None:
        words, note = climb.advance()
        yield LadderEvent(words, climb.share, climb.remaining, climb.done, climb.state(), note)
    yield LadderFinished("done", 1.0, 0.0, climb.done, climb.state(), result=climb.result())


class _Climb:
    """The arrays of a ladder while it is at work. Everything else is in `state`, so nothing else has to be saved."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, state: LadderState) -> None:
        self.model, self.x, self.y = model, x, y
        at = self.at = _deep(state.progress)
        self.eps, self.norm, self.seed = at["asked"]["eps"], at["asked"]["norm"], at["asked"]["seed"]
        self.rungs = tuple(rung for rung in RUNGS if rung.name in at["rungs"])
        self.known = {str(name): column.to_numpy(copy=True) for name, column in state.table.items()}
        self.known["broken_by"] = self.known["broken_by"].astype(object)
        self.points, self.queue, self.ends = state.points.copy(), state.queue.copy(), state.ends.copy()
        self._shown = state.points  # the copy that the last state holds, while no point has changed since

    @property
    def rung(self) -> Rung | None:
        """The present one; None when all are over."""
        return self.rungs[self.at["rung"]] if self.at["rung"] < len(self.rungs) else None

    @property
    def standing(self) -> np.ndarray:
        """(n,) bool: nothing broke them so far."""
        return self.known["broken_by"] == ""

    @property
    def right(self) -> np.ndarray:
        """(n,) bool: not known to be wrong without an attack."""
        return self.known["broken_by"] != "misclassified"

    def state(self) -> LadderState:
        """What is known now; shares nothing with the arrays that go on changing."""
        if self._shown is None:
            self._shown = self.points.copy()
        table = tabulated(self.known, self.at["rungs"])
        return LadderState(table, self._shown, self.queue.copy(), self.ends.copy(), _deep(self.at))

    # -- work

    def advance(self) -> tuple[str, str]:
        """Attack the next batch. Returns what was done in words, and a note if the batch had to be halved."""
        rung, began = self.rung, time.perf_counter()
        assert rung is not None
        record = self.at["records"].setdefault(
            rung.name, {"attacked": len(self.queue), "seconds": 0.0, "gradients": 0, "broke": [], "warnings": []}
        )
        part = torch.from_numpy(self.queue[: self.at["batch"]].astype(np.int64)).to(self.x.device)
        with in_eval_mode(self.model), torch.no_grad():
            done, found = all_or_half(lambda who: self._attack(rung, who), part)
        note = ""
        if len(done) < len(part):
            self.at["batch"] = len(done)
            note = f"Memory ran out; {len(done)} images at a time now."
        broke = self._note(rung, done.cpu().numpy(), found)
        record["broke"] += [0] * (self.at["pass"] + 1 - len(record["broke"]))
        record["broke"][self.at["pass"]] += broke
        record["gradients"] += found.gradients
        record["warnings"] = list(dict.fromkeys([*record["warnings"], *found.warnings]))[:20]
        self.at["done"] += len(done) * rung.cost(self.at["pass"])
        self.queue = self.queue[len(done) :]
        words = self._words(rung)
        self.at["number"] += 1
        record["seconds"] += time.perf_counter() - began
        self._go_on()
        return words, note

    def _attack(self, rung: Rung, who: Tensor) -> Found:
        number = self.at["pass"]
        # single attacks begin at the same points, so that what differs between them is the attack and not the luck
        starts = "single" if rung.own and rung.steps else rung.name
        randomness = generator_for(self.x.device, self.seed, "ladder", starts, number, self.at["number"])
        return attack(rung, number, self.model, Ball(self.x[who], self.eps, self.norm), self.y[who], randomness)

    def _words(self, rung: Rung) -> str:
        which = ""
        if rung.passes > 1:
            number = self.at["pass"]
            which = aa.PARTS[number] if rung.name == "autoattack" else f"restart {number + 1} of {rung.restarts}"
            which = f", {which}"
        left = f", {len(self.queue)} images to go" if len(self.queue) else ""
        return f"{rung.name}{which}{left}"

    def _note(self, rung: Rung, who: np.ndarray, found: Found) -> int:
        """Take over what an attack found on the images `who`; returns how many it broke first."""
        known, wrong = self.known, found.wrong
        before = known["broken_by"][who] != ""
        known[f"correct/{rung.name}"][who] = np.where(wrong, BROKEN, STANDS)
        nearer = (wrong & ~before) | ((wrong == before) & (found.measured["margin"] < known["margin"][who]))
        nearer |= np.isnan(known["margin"][who])  # the first look
        for name in MEASURED:
            known[name][who[nearer]] = found.measured[name][nearer]
        first = wrong & ~before
        known["broken_by"][who[first]] = "misclassified" if rung.name == "clean" else rung.name
        if (moved := nearer & wrong).any():
            self.points[who[moved]] = found.z[moved]
            self._shown = None
        self.ends[who] = found.measured["relative_fosc"]
        return int(first.sum())

    def _go_on(self) -> None:
        """To the next pass or rung that has images to attack."""
        while len(self.queue) == 0 and (rung := self.rung) is not None:
            if self.at["pass"] + 1 < rung.passes:
                self.at["pass"] += 1
            else:
                self._close(rung)
                self.at["rung"] += 1
                self.at["pass"] = 0
                self.ends[:] = np.nan
            self.at["number"] = 0
            if self.rung is not None:
                self.queue = np.flatnonzero(self.right if self.rung.own else self.standing).astype(np.int32)

    def _close(self, rung: Rung) -> None:
        nothing = {"attacked": 0, "seconds": 0.0, "gradients": 0, "broke": [], "warnings": []}
        record = self.at["records"].setdefault(rung.name, nothing)
        seen = self.ends[~np.isnan(self.ends)]
        record["median_relative_fosc"] = float(np.median(seen)) if len(seen) and rung.steps else None
        if rung.name == "autoattack" and len(record["broke"]) == len(aa.PARTS) and record["broke"][-1]:
            record["warnings"].append(
                f"Square, which uses no gradients, broke {record['broke'][-1]} images that nothing before it did: "
                "gradients may be masked."
            )

    # -- how far it is

    @property
    def done(self) -> float:
        """The work behind, in gradients as planned."""
        return self.at["done"]

    @property
    def remaining(self) -> float:
        """The work to come, in gradients as planned, if nothing more were broken."""
        right, standing, to_come = int(self.right.sum()), int(self.standing.sum()), 0.0
        for place in range(self.at["rung"], len(self.rungs)):
            rung = self.rungs[place]
            here = place == self.at["rung"]
            first = self.at["pass"] + 1 if here else 0
            to_come += (right if rung.own else standing) * sum(rung.cost(k) for k in range(first, rung.passes))
            to_come += len(self.queue) * rung.cost(self.at["pass"]) if here else 0.0
        return to_come

    @property
    def share(self) -> float:
        """Of the work, 0 to 1."""
        return self.done / max(self.done + self.remaining, 1.0)

    # -- the result

    def result(self) -> dict[str, Any]:
        """See `ladder`."""
        n, broken_by, told, stood = len(self.y), self.known["broken_by"], [], np.ones(len(self.y), dtype=bool)
        for rung in self.rungs:
            found = self.known[f"correct/{rung.name}"]
            stood &= found != BROKEN
            correct = int((found == STANDS).sum() if rung.own else (stood & self.right).sum())
            told.append(rung.to_json() | {"n": n} | self.at["records"][rung.name] | _share(correct, n))
        names = ["misclassified", *(rung.name for rung in self.rungs[1:])]
        counts = {name: int((broken_by == name).sum()) for name in names} | {"none": int(self.standing.sum())}
        left_out = []
        if "autoattack" not in self.at["rungs"]:
            left_out.append(f"{aa.INSTALL}." if self.at["wanted"] else "AutoAttack was not asked for.")
        if not any(rung.restarts > 1 for rung in self.rungs):
            left_out.append("The attacks of ten restarts were not asked for.")
        asked = {name: self.at["asked"][name] for name in ("eps", "norm", "seed")}
        return {
            "n": n, **asked, "batch": self.at["batch"], "rungs": told, "worst": _share(counts["none"], n),
            "broken_by": counts, "left_out": left_out,
            "versions": {"torch": str(torch.__version__), "pyautoattack": aa.available()},
        }  # fmt: skip


def _share(correct: int, n: int) -> dict[str, float]:
    low, high = wilson(correct, n)
    return {"correct": correct, "accuracy": correct / n, "low": low, "high": high}


def _deep(progress: dict[str, Any]) -> dict[str, Any]:
    """A copy that shares no list or dict."""
    if isinstance(progress, dict):
        return {name: _deep(value) for name, value in progress.items()}
    return [_deep(value) for value in progress] if isinstance(progress, list) else progress


def _fingerprint(model: nn.Module, x: Tensor, y: Tensor) -> str:
    """Tells models and images apart, by their numbers."""
    digest = hashlib.sha256()
    for value in [*model.state_dict().values(), x, y]:
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
