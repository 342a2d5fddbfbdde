"""What finished runs say about a table or figure of Wang et al. 2019: plain numbers, ready to be written as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynat_core.comparison import spread
from dynat_core.config import Dynamic
from dynat_core.errors import RunError
from dynat_core.paper.paper_runs import EQUAL_STEPS, ROW_WORDS, Target, Wanted, full_epochs, reduced_words
from dynat_core.recorded.histograms import quantile
from dynat_core.store.evaluations import Evaluation
from dynat_core.store.run import Run

FORMAT = 1
FORMS = {"paper": "fosc_paper", "box": "fosc"}
SHARES = tuple(q / 100 for q in (0, 2.5, *range(5, 100, 5), 97.5, 100))
BIN_EDGES = tuple(k * 0.005 for k in range(21))  # the paper's twenty bins between 0 and 0.1
ATTACKS = ("fgsm", "pgd-10", "pgd-20", "cw-30")
COLUMNS = ("clean", "noise", *ATTACKS, "pgd-50x10-ce", "pgd-50x10-margin", "autoattack", "worst")  # of a ladder
SHOWN_EPOCHS = 5


@dataclass(frozen=True)
class Pair:
    """What was wanted, and the run that is it."""

    wanted: Wanted
    run: Run


def measured(
    target: Target,
    pairs: Sequence[Pair],
    ladders: Sequence[Evaluation],
    transferred: Mapping[str, Mapping[str, int]],
    n: int,
) -> dict[str, Any]:
    """The whole content of a results file. n: test images of ladders and transferred examples. Raises RunError."""
    config = pairs[0].run.config
    found: dict[str, Any] = {
        "format": FORMAT,
        "target": target.name,
        "part": target.part,
        "data": target.data,
        "scale": target.scale,
        "seeds": target.seeds,
        "epochs": config.epochs,
        "full_epochs": full_epochs(target.data),
        "train_images": config.train_size,
        "n": n,
        "eps": config.threat.eps,
        "reduced": reduced_words(target, n),
        "chosen": "the epoch that was best on held-out training images",
    }
    if target.part in ("table1", "table3"):
        found |= white_box(pairs, ladders)
    elif target.part == "table2":
        found |= black_box(pairs, transferred, n)
    elif target.part == "ablation":
        found |= ablation(pairs, ladders)
    else:
        figure = {"figure1a": figure1a, "figure1b": figure1b, "figure2": figure2, "figure3": figure3,
                  "figure4": figure4}[target.part]  # fmt: skip
        found |= figure(pairs)
    return found | {"runs": [provenance(pair) for pair in pairs]}


def provenance(pair: Pair) -> dict[str, Any]:
    """What a run was and what it ran on; nothing that depends on the time."""
    start, result = (pair.run.starts() or [{}])[0], pair.run.result() or {}
    best = result.get("best") or {}
    return {
        "id": pair.run.id,
        "row": pair.wanted.row,
        "seed": pair.wanted.seed,
        "best_epoch": best.get("epoch"),
        "gradients": result.get("gradients_per_image"),
        "data_hash": result.get("data_fingerprint"),
        **{key: start.get(key) for key in ("versions", "device", "device_name", "threads", "commit")},
        "config": pair.run.config.model_dump(mode="json"),
    }


def _rows(pairs: Sequence[Pair]) -> list[str]:
    return list(dict.fromkeys(pair.wanted.row for pair in pairs if pair.wanted.row != "surrogate"))


# ------------------------------------------------------------------------------------------------------------- tables


def white_box(pairs: Sequence[Pair], ladders: Sequence[Evaluation]) -> dict[str, Any]:
    """rows: row -> rung (and "worst") -> [[images right, images] of each seed]; checks: what must hold of a ladder."""
    rows: dict[str, dict[str, list[list[int]]]] = {row: {} for row in _rows(pairs)}
    checks = []
    for pair, ladder in zip(pairs, ladders, strict=True):
        result = ladder.result() or {}
        rungs = {rung["name"]: rung["correct"] for rung in result["rungs"]}
        for name, correct in {**rungs, "worst": result["worst"]["correct"]}.items():
            rows[pair.wanted.row].setdefault(name, []).append([correct, result["n"]])
        checks += [f"{ROW_WORDS.get(pair.wanted.row, pair.wanted.row)}, seed {pair.wanted.seed}: {broken}"
                   for broken in out_of_order(rungs, result["worst"]["correct"], result["n"])]  # fmt: skip
    return {"rows": rows, "order": checks}


def out_of_order(rungs: Mapping[str, int], worst: int, n: int) -> list[str]:
    """Sentences on what does not hold of a ladder: the worst case is at most each attack, PGD-20 at most half a point
    above PGD-10, noise no worse than FGSM."""
    found = [f"the worst case is above {name}" for name, correct in rungs.items() if worst > correct]
    if rungs["pgd-20"] > rungs["pgd-10"] + 0.005 * n:
        found.append("PGD-20 leaves more than half a point more than PGD-10")
    if rungs["noise"] < rungs["fgsm"]:
        found.append("noise leaves less than FGSM")
    return found


def black_box(pairs: Sequence[Pair], transferred: Mapping[str, Mapping[str, int]], n: int) -> dict[str, Any]:
    """rows: row -> attack -> [[images right, images] of each seed], under examples made on the surrogate."""
    rows: dict[str, dict[str, list[list[int]]]] = {row: {} for row in _rows(pairs)}
    for pair in pairs:
        for name, correct in transferred.get(pair.run.id, {}).items():
            rows[pair.wanted.row].setdefault(name, []).append([correct, n])
    (surrogate,) = (pair for pair in pairs if pair.wanted.row == "surrogate")
    words = f"Standard training, {surrogate.run.config.model.name}, seed {surrogate.wanted.seed}"
    return {"rows": rows, "surrogate": words, "order": []}


# ------------------------------------------------------------------------------------------------------------ figures


def figure1a(pairs: Sequence[Pair]) -> dict[str, Any]:
    """forms: form -> bins of FOSC at the end of the recorded attack, all seeds together: edges, n, right, mean loss
    (None in an empty bin; the last bin is open), and the rank correlation of bin and accuracy."""
    tables = [pair.run.samples("best", split="test") for pair in pairs]
    right = np.concatenate([(t["predicted"] == t["label"]).to_numpy() for t in tables])
    loss = np.concatenate([t["loss"].to_numpy(dtype=np.float64) for t in tables])
    forms = {}
    for form, column in FORMS.items():
        values = np.concatenate([t[column].to_numpy(dtype=np.float64) for t in tables])
        place = np.clip(np.searchsorted(BIN_EDGES, values, side="right") - 1, 0, len(BIN_EDGES) - 1)
        inside = [place == k for k in range(len(BIN_EDGES))]
        n = [int(mask.sum()) for mask in inside]
        fooled_or_not = [int(right[mask].sum()) for mask in inside]
        mean_loss = [float(loss[mask].mean()) if mask.any() else None for mask in inside]
        forms[form] = {"edges": list(BIN_EDGES), "n": n, "right": fooled_or_not, "loss": mean_loss,
                       "rank_correlation": _of_bins(n, fooled_or_not)}  # fmt: skip
    return {"forms": forms, "attack": pairs[0].run.config.attack_words()}


def _of_bins(n: Sequence[int], right: Sequence[int]) -> float | None:
    """Rank correlation of a bin's place and its accuracy, over bins of at least five images."""
    kept = [(k, r / m) for k, (m, r) in enumerate(zip(n, right, strict=True)) if m >= 5]
    return rank_correlation([k for k, _ in kept], [a for _, a in kept])


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's: the correlation of ranks, equal values sharing theirs; None below three values or without spread."""
    if len(a) < 3:
        return None
    one, two = _ranks(a), _ranks(b)
    if one.std() == 0 or two.std() == 0:
        return None
    return float(np.corrcoef(one, two)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64)
    return np.array([(found < v).sum() + ((found == v).sum() - 1) / 2 for v in found])


def figure1b(pairs: Sequence[Pair]) -> dict[str, Any]:
    """images: index, label, and loss and both forms of FOSC at each step of the recorded path of the first run, at its
    last epoch."""
    run = pairs[0].run
    paths = run.probes(run.config.epochs)
    rounded = lambda values: [float(f"{v:.4g}") for v in values]  # noqa: E731
    images = [
        {
            "index": int(paths.index[k]),
            "label": int(paths.label[k]),
            "loss": rounded(paths.loss[k]),
            "paper": rounded(paths.fosc_paper[k]),
            "box": rounded(paths.fosc[k]),
        }
        for k in range(len(paths.index))
    ]
    steps, eps = run.config.recording.path_steps, run.config.recording.alpha
    return {"images": images, "attack": f"PGD-{steps}, step {eps}, cross-entropy, random start"}


def figure2(pairs: Sequence[Pair]) -> dict[str, Any]:
    """settings: of each training attack the robust accuracy [[right, n] of each seed], and of the first seed the
    quantiles of FOSC (both forms) and loss of the last epoch's training examples."""
    settings = {}
    for row in _rows(pairs):
        runs = [pair.run for pair in pairs if pair.wanted.row == row]
        counts = runs[0].history().counts
        settings[row] = {
            "robust": [_robust(run) for run in runs],
            "loss": spread_of("loss", counts["train/loss"][-1]),
            **{form: spread_of(measure, counts[f"train/{measure}"][-1]) for form, measure in FORMS.items()},
        }
    return {"settings": settings, "shares": list(SHARES), "attack": pairs[0].run.config.attack_words()}


def _robust(run: Run) -> list[int]:
    best = (run.result() or {})["best"]
    return [best["robust_correct"], best["n"]]


def spread_of(measure: str, counts: np.ndarray) -> list[float]:
    """The quantiles SHARES of a distribution, from its counts on the fixed bins."""
    if not counts.sum():
        raise RunError(f"A run recorded nothing of {measure}, so its distribution cannot be drawn.")
    return [float(f"{quantile(measure, counts, share):.4g}") for share in SHARES]


def figure3(pairs: Sequence[Pair]) -> dict[str, Any]:
    """shown_epochs, and rows: row -> quantiles of FOSC of the training examples at each (first seed), and for
    every epoch the robust accuracy on test images of each seed (null where unknown); with it the `switch` epoch."""
    found = distributions(pairs)
    for row in found["rows"]:
        runs = [pair.run for pair in pairs if pair.wanted.row == row]
        found["rows"][row]["robust"] = [[r.get("test/robust_accuracy") for r in run.records()] for run in runs]
    switch = next(p.run.config.strategy.switch for p in pairs if p.wanted.row == "fgsm-then-pgd")  # type: ignore[union-attr]
    last = pairs[0].run.records()[-1]
    return found | {"switch": switch, "attack": pairs[0].run.config.attack_words(), "test_images": last["test/n"]}


def distributions(pairs: Sequence[Pair]) -> dict[str, Any]:
    """shown_epochs, shares, and rows: row -> form -> quantiles of FOSC of the training examples at each of them."""
    run = pairs[0].run
    epochs = shown_epochs(run.config.epochs)
    rows: dict[str, dict[str, Any]] = {}
    for row in _rows(pairs):
        counts = next(pair.run for pair in pairs if pair.wanted.row == row).history().counts
        rows[row] = {form: [spread_of(m, counts[f"train/{m}"][e]) for e in epochs] for form, m in FORMS.items()}
    return {"shown_epochs": epochs, "shares": list(SHARES), "rows": rows}


def shown_epochs(epochs: int) -> list[int]:
    """Some epochs from the first to the last, evenly."""
    return sorted({round(1 + k * (epochs - 1) / (SHOWN_EPOCHS - 1)) for k in range(SHOWN_EPOCHS)})


def figure4(pairs: Sequence[Pair]) -> dict[str, Any]:
    """As `distributions`, with `separation`: form -> row -> of each seed how often an example of an earlier epoch has
    the larger FOSC, and `gain`: form -> Dynamic's less Standard's, with its interval over the seeds."""
    found = distributions(pairs)
    epochs = found["shown_epochs"]
    separation: dict[str, dict[str, list[float]]] = {form: {} for form in FORMS}
    for pair in pairs:
        counts = pair.run.history().counts
        for form, measure in FORMS.items():
            value = ordered_share([counts[f"train/{measure}"][e] for e in epochs])
            separation[form].setdefault(pair.wanted.row, []).append(value)
    gain = {form: paired_gain(rows["standard"], rows["dynamic"]) for form, rows in separation.items()}
    stops = next(p.run.config.strategy for p in pairs if isinstance(p.run.config.strategy, Dynamic))
    form = "box" if isinstance(stops, Dynamic) and stops.stop_form == "box" else "paper"
    return found | {"separation": separation, "gain": gain, "stop_form": form}


def ordered_share(distributions: Sequence[np.ndarray]) -> float:
    """How often a value of an earlier distribution is larger than one of a later, equal ones counted half, averaged
    over all pairs: 1 is falling without overlap, 0.5 no order, 0 rising. From counts on the same bins."""
    shares = []
    for k, early in enumerate(distributions):
        for late in distributions[k + 1 :]:
            p, q = early / early.sum(), late / late.sum()
            below = np.cumsum(q) - q
            shares.append(float((p * (below + q / 2)).sum()))
    return float(np.mean(shares))


def paired_gain(before: Sequence[float], after: Sequence[float]) -> dict[str, float | int | None]:
    """The mean of after less before, seed by seed, with its 95 % t interval; low and high are None for one seed."""
    found = spread([b - a for a, b in zip(before, after, strict=True)])
    ends = [None if math.isnan(end) else end for end in (found.low, found.high)]
    return {"mean": found.mean, "low": ends[0], "high": ends[1], "seeds": found.n}


# ----------------------------------------------------------------------------------------------------------- ablation

QUESTIONS = (  # (what is asked, the cell before, the cell after)
    ("Dynamic for Standard, cross-entropy, box form, equal steps", "Standard, CE", "Dynamic, CE, box"),
    ("Dynamic for Standard, cross-entropy, paper form, equal steps", "Standard, CE", "Dynamic, CE, paper"),
    ("Dynamic for Standard, weighted loss, box form, equal steps", "Standard, CE weighted",
     "Dynamic, CE weighted, box"),
    ("Dynamic for Standard, weighted loss, paper form, equal steps", "Standard, CE weighted",
     "Dynamic, CE weighted, paper"),
    ("the weighted loss alone, Standard", "Standard, CE", "Standard, CE weighted"),
    ("all that the authors' code changes at once, paper form", "Standard, CE", "Dynamic, CE weighted, paper"),
    (f"Dynamic for Standard of {EQUAL_STEPS} steps, cross-entropy, box form, about equal gradients",
     f"Standard, CE, {EQUAL_STEPS} steps", "Dynamic, CE, box"),
)  # fmt: skip


def ablation(pairs: Sequence[Pair], ladders: Sequence[Evaluation]) -> dict[str, Any]:
    """The rows of `white_box`, gradients: cell -> of each seed, and answers: per question the gain in share of the test
    images under the worst case of the ladder, paired over the seeds, and what changed for each."""
    found = white_box(pairs, ladders)
    gradients: dict[str, list[float | None]] = {}
    for pair in pairs:
        gradients.setdefault(pair.wanted.row, []).append((pair.run.result() or {}).get("gradients_per_image"))
    shares = {row: [correct / n for correct, n in rungs["worst"]] for row, rungs in found["rows"].items()}
    answers = [
        {"question": asked, "before": one, "after": two, **paired_gain(shares[one], shares[two])}
        for asked, one, two in QUESTIONS
    ]
    return found | {"gradients": gradients, "answers": answers}
