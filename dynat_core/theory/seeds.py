"""Trainings compared over the same training seeds: what benchmarks/seeds.py measured, and what may be said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dynat_core.comparison import Spread, spread

MEASURED = Path(__file__).resolve().with_name("seeds.json")
AGAINST = "standard"  # SGD on PGD-10's examples: what the others are compared with
MEASURES = {"clean": "clean accuracy", "pgd": "robust accuracy, PGD-20", "worst": "robust accuracy, worst case"}


@dataclass(frozen=True)
class Seeds:
    """Trainings on the same seeds.

    rows: training -> one mapping for each seed, in the order of `seeds`, with the shares `clean`, `pgd` and `worst` of
    `n` test images, attack `gradients` per image and epoch, and CPU `seconds`. about: how it was measured.
    """

    seeds: tuple[int, ...]
    n: int
    rows: Mapping[str, tuple[Mapping[str, Any], ...]]
    about: Mapping[str, Any]

    def values(self, training: str, measure: str) -> list[float]:
        """The measure for each seed."""
        return [float(row[measure]) for row in self.rows[training]]

    def mean(self, training: str, measure: str) -> Spread:
        """Its mean over the seeds."""
        return spread(self.values(training, measure))

    def difference(self, training: str, measure: str) -> Spread:
        """The training minus Standard, seed by seed: its mean and the 95 % interval of paired differences (Student's
        t)."""
        pairs = zip(self.values(training, measure), self.values(AGAINST, measure), strict=True)
        return spread([one - other for one, other in pairs])


def told_apart(difference: Spread) -> str:
    """`higher`, `lower`, or `not told apart` where the interval holds 0 or is not known, as where all seeds differ by
    exactly as much: shares of so many images are rounded."""
    if not difference.sd > 0:
        return "not told apart"
    return "higher" if difference.low > 0 else "lower" if difference.high < 0 else "not told apart"


def of(found: Mapping[str, Any]) -> Seeds:
    """The trainings in what the benchmark wrote."""
    rows = {name: tuple(values) for name, values in found["rows"].items()}
    about = {key: value for key, value in found.items() if key not in ("rows", "seeds", "n")}
    return Seeds(tuple(found["seeds"]), int(found["n"]), rows, about)


@lru_cache(maxsize=1)
def measured() -> Seeds:
    """What is shipped."""
    return of(json.loads(MEASURED.read_text(encoding="utf-8")))
