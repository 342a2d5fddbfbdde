"""What can be taken away from a run, an evaluation or a comparison: tables, adversarial examples, figures, a LaTeX row.

Everything is bytes, made when it is asked for, and opens without Dynat. No torch: screens import this.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dynat_core import views
from dynat_core.comparison import Compared, common, paired, restricted
from dynat_core.config import NORM_WORDS, RunConfig, describe_eps
from dynat_core.errors import JobError, RunError
from dynat_core.recorded import tables
from dynat_core.reports import latex
from dynat_core.reports.compared import NOT_CHECKED, training_gradients, training_seconds, verdict
from dynat_core.statistics import wilson
from dynat_core.store.evaluations import Evaluation
from dynat_core.store.layout import part
from dynat_core.store.rerun import evaluation_command
from dynat_core.store.run import Run
from dynat_core.views import compare
from dynat_core.views.svg import svg

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # and their wide forms
Files = dict[str, Callable[[], bytes]]


def run_files(run: Run) -> Files:
    """File name -> what makes its bytes, for everything that this run has to give. Raises RunError without records."""
    epoch = shown_epoch(run)
    files: Files = {
        "about.json": lambda: _json(about(run)),
        "epochs.csv": lambda: _csv(records(run)),
        "epochs.parquet": lambda: _parquet(records(run)),
        "settings.json": lambda: run.config.to_json(indent=1).encode(),
        "row.tex": lambda: latex.row(outcome(run)).encode(),
    }
    if (table := _table_of(run, epoch)) is not None:
        files["samples.csv"] = lambda: _csv(run.samples(table))
        files["samples.parquet"] = lambda: tables.samples_to_bytes(run.samples(table))
    if run.paths() is not None:
        files["adversarial.npz"] = lambda: path_ends(run)
    if run.config.trains_here:
        files["reproduce.sh"] = lambda: _script(run.rerun_command(), f"Trains {run.id} again.")
    return files | {f"figures/{name}.svg": (lambda view=view: svg(view, epoch).encode()) for name, view in figures(run)}


def evaluation_files(run: Run, evaluation: Evaluation) -> Files:
    """The same for a finished evaluation. Raises RunError for one that is not."""
    result = evaluation.result()
    if result is None:
        raise RunError(f"{evaluation.id} is {evaluation.state}; it can be exported once it has finished.")
    files: Files = {
        "result.json": lambda: _json(result),
        "reproduce.sh": lambda: _script(evaluation_command(evaluation), f"Measures {evaluation.id} again."),
    }
    if (evaluation.folder / "samples.parquet").is_file():
        files["samples.csv"] = lambda: _csv(evaluation.samples())
        files["samples.parquet"] = lambda: tables.samples_to_bytes(evaluation.samples())
    if (evaluation.folder / "points.safetensors").is_file():
        files["adversarial.npz"] = lambda: points(evaluation)
    if evaluation.kind == "ladder":
        files["rungs.csv"] = lambda: _csv(rungs(result))
        files["rungs.parquet"] = lambda: _parquet(rungs(result))
        files["row.tex"] = lambda: latex.row(ladder_outcome(run, evaluation, result)).encode()
    return files


def comparison_files(networks: Sequence[Compared]) -> Files:
    """The same for a comparison of networks that may be compared."""
    return {
        "comparison.csv": lambda: _csv(comparison_table(networks)),
        "comparison.parquet": lambda: _parquet(comparison_table(networks)),
        "rows.tex": lambda: latex.table([compared_outcome(network) for network in networks]).encode(),
        "figures/accuracies.svg": lambda: svg(compare.accuracies(networks), 0).encode(),
        "figures/deltas.svg": lambda: svg(compare.deltas(networks), 0).encode(),
    }


def write(files: Mapping[str, Callable[[], bytes]], folder: Path) -> list[Path]:
    """Write all of them into `folder`, which is made; returns the paths. Raises JobError where that is refused."""
    written = []
    try:
        for name, content in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content())
            written.append(target)
    except OSError as error:
        raise JobError(f"{folder} cannot be written ({error.strerror}); name another folder with --to.") from error
    return written


def zipped(files: Mapping[str, Callable[[], bytes]]) -> bytes:
    """All of them in one .zip file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content())
    return out.getvalue()


# ----------------------------------------------------------------------------------------------------------- of a run


def shown_epoch(run: Run) -> int:
    """The epoch that stands for a run: its best one, or the newest. Raises RunError before the first record."""
    return run.epoch_of("best" if run.result() else "last")


def outcome(run: Run) -> latex.Outcome:
    """What a run reached at the epoch that stands for it, with everything that must stand beside it."""
    epoch = shown_epoch(run)
    found = (run.result() or {}).get("best")
    if found:
        clean, robust, n = found["clean_correct"], found["robust_correct"], found["n"]
    else:
        record = run.last_record() or {}
        n = record.get("test/n") or 0
        if not n or record.get("test/robust_accuracy") is None:
            raise RunError(f"{run.title} has measured no test images yet; there is nothing to report.")
        clean, robust = (round(record[f"test/{kind}_accuracy"] * n) for kind in ("clean", "robust"))
    threat, attack = run.config.threat, run.config.attack_words()
    which = chosen_words(run.config) if found else "the newest"
    return latex.Outcome(
        run.title, run.id, f"epoch {epoch}, {which}", clean, robust, n, attack.rpartition(", ")[0], threat.norm,
        threat.eps, verdict(run, epoch), run.config.seed if run.config.trains_here else None,
    )  # fmt: skip


def chosen_words(config: RunConfig) -> str:
    """How the epoch that stands for a run was chosen; of a network from elsewhere only the last one is known."""
    return "best on held-out images" if config.trains_here else "the last one recorded"


def about(run: Run) -> dict[str, Any]:
    """What must be known beside the numbers of a run, as JSON-able data."""
    found, starts = outcome(run), run.starts()
    numbers = {}
    for kind, correct in (("clean", found.clean), ("robust", found.robust)):
        low, high = wilson(correct, found.n)
        numbers[kind] = {"correct": correct, "n": found.n, "accuracy": correct / found.n, "interval_95": [low, high]}
    return {
        "run": run.id,
        "title": run.title,
        "kind": run.kind,
        "epoch": shown_epoch(run),
        **numbers,
        "attack": run.config.attack_words(),
        "eps": describe_eps(run.config.threat.eps),
        "norm": NORM_WORDS[run.config.threat.norm],
        "verdict": found.verdict,
        "training_gradients_per_image_and_epoch": training_gradients(run),
        "training_seconds": training_seconds(run),
        "recorded_path": (run.paths() or (None, {}))[1].get("settings"),
        "reproduce": run.rerun_command() if run.config.trains_here else None,
        "started_with": starts[-1] if starts else None,
    }


def records(run: Run) -> pd.DataFrame:
    """One row per epoch, in the order of the keys' first appearance."""
    past = run.history()
    return pd.DataFrame(past.records, columns=past.keys)


def path_ends(run: Run) -> bytes:
    """x, adversarial (n,C,H,W), index, label (n,) of the recorded paths' last points, and their settings as text."""
    found = run.paths()
    if found is None:
        raise RunError(f"{run.title} keeps no paths of its test images.")
    try:
        paths = tables.read_paths(part(run.folder, "paths", found[0]))
    except Exception as error:  # pyarrow has many
        raise RunError(f"{run.title}: the paths of epoch {found[0]} are damaged.") from error
    settings = {**paths.settings, "run": run.id, "epoch": found[0]}
    return _npz({"x": paths.x, "adversarial": paths.z[:, -1], "index": paths.index, "label": paths.label}, settings)


def figures(run: Run) -> list[tuple[str, views.View]]:
    """(name, view) of the epochs screen's pictures of this run's test images, as they are first shown."""
    scene = views.epochs([views.NamedHistory(run.title, run.history(), run.config, run.running)], "test")
    chosen = {switch.name: switch.value for switch in scene.switches}
    colors = {f"s{k}": series.color for k, series in enumerate(scene.series)}
    shown = [v for v in scene.views if v.fig is not None and all(chosen[k] == at for k, at in v.when.items())]
    return [(view.id, replace(view, colors=colors)) for view in shown]


def _table_of(run: Run, epoch: int) -> int | str | None:
    """The fullest table of samples there is of the epoch that stands for the run."""
    there = ("best", epoch) if run.result() else (epoch,)
    return next((which for which in there if part(run.folder, "samples", which).is_file()), None)


# ---------------------------------------------------------------------------------------------------- of an evaluation


def points(evaluation: Evaluation) -> bytes:
    """adversarial (n,C,H,W), index, label (n,): the strongest point known of each image, and the settings as text."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        kept = load_file(evaluation.folder / "points.safetensors")
        found, index = kept["points"], kept["index"]
    except (SafetensorError, OSError, KeyError) as error:
        raise RunError(f"{evaluation.id}: the adversarial points are damaged.") from error
    labels = evaluation.samples().set_index("index")["label"].reindex(index).to_numpy()
    settings = {"run": evaluation.run_id, **evaluation.settings.model_dump(mode="json")}
    return _npz({"adversarial": found, "index": index, "label": labels}, settings)


def rungs(result: Mapping[str, Any]) -> pd.DataFrame:
    """One row per attack of a ladder's result, the worst case last."""
    keys = ("name", "words", "n", "correct", "accuracy", "low", "high", "seconds", "gradients", "own")
    rows = [{key: rung.get(key) for key in keys} for rung in result.get("rungs", [])]
    worst = {key: (result.get("worst") or {}).get(key) for key in ("correct", "accuracy", "low", "high")}
    rows.append({"name": "worst case", "words": "right under every attack above", "n": result.get("n"), **worst})
    return pd.DataFrame(rows, columns=list(keys)).assign(
        eps=result.get("eps"), norm=result.get("norm"), seed=result.get("seed")
    )


def ladder_outcome(run: Run, evaluation: Evaluation, result: Mapping[str, Any]) -> latex.Outcome:
    """The worst case over a ladder, with everything that must stand beside it."""
    climbed, n = result["rungs"], int(result["n"])
    clean = next((rung["correct"] for rung in climbed if rung["name"] == "clean"), 0)
    names = ", ".join(rung["name"] for rung in climbed if rung["name"] != "clean")
    epoch, threat = int(result["epoch"]), run.config.threat
    checked = (result["norm"], result["eps"]) == (threat.norm, threat.eps)  # the verdict is about the run's own
    return latex.Outcome(
        run.title, evaluation.id, f"epoch {epoch}", int(clean), int(result["worst"]["correct"]), n,
        f"worst case of {names}", str(result["norm"]), float(result["eps"]),
        verdict(run, epoch) if checked else NOT_CHECKED,
        run.config.seed if run.config.trains_here else None,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ of a comparison


def comparison_table(networks: Sequence[Compared]) -> pd.DataFrame:
    """One row per network on the shared test images; differences are to the first one. Runs are named by their ids."""
    shared = common(networks)
    first, rows = restricted(networks[0], shared), []
    for k, network in enumerate(networks):
        row: dict[str, Any] = {
            "run": network.id, "strategy": network.config.strategy.name, "training_seed": network.config.seed,
            "epoch": network.epoch, "n": len(shared),
        }  # fmt: skip
        for kind, right, before in zip(("clean", "robust"), restricted(network, shared), first, strict=True):
            low, high = wilson(int(right.sum()), len(right))
            row |= {f"{kind}_correct": int(right.sum()), f"{kind}_accuracy": right.mean(), f"{kind}_low": low,
                    f"{kind}_high": high}  # fmt: skip
            if k:
                found = paired(before, right)
                row |= {f"{kind}_delta": found.delta, f"{kind}_delta_low": found.low, f"{kind}_delta_high": found.high,
                        f"{kind}_only_first": found.only_a, f"{kind}_only_this": found.only_b,
                        f"{kind}_mcnemar_p": found.p}  # fmt: skip
        threat = network.config.threat
        row |= {
            "training_gradients": network.gradients, "training_seconds": network.seconds,
            "attack_gradients": network.spent, "attack": network.config.attack_words(), "norm": threat.norm,
            "eps": threat.eps, "verdict": network.verdict,
        }  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)


def compared_outcome(network: Compared) -> latex.Outcome:
    """A network of a comparison, on all of its own images."""
    threat, config = network.config.threat, network.config
    return latex.Outcome(
        network.title, network.id, f"epoch {network.epoch}, {chosen_words(config)}", int(network.clean.sum()),
        int(network.robust.sum()), network.n, config.attack_words().rpartition(", ")[0], threat.norm, threat.eps,
        network.verdict, config.seed if config.trains_here else None,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- as bytes


def _csv(table: pd.DataFrame) -> bytes:
    """The table as it may be opened in a spreadsheet: text that would be taken for a formula has a ' before it."""
    texts = [name for name in table.columns if table[name].dtype.kind not in "biufc"]
    return (
        table.assign(**{name: table[name].map(_no_formula) for name in texts})
        .to_csv(index=False, lineterminator="\n")
        .encode()
    )


def _no_formula(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" ").startswith(_FORMULA) else cell


def _parquet(table: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    table.to_parquet(out, index=False)
    return out.getvalue()


def _json(content: Any) -> bytes:
    return json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False).encode()


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not known is null."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _npz(arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> bytes:
    """Arrays, and settings as text under `setting_NAME`; nothing in it is pickled."""
    out = io.BytesIO()
    texts = {f"setting_{name}": np.asarray(str(value)) for name, value in settings.items()}
    np.savez_compressed(out, **arrays, **texts)  # pyright: ignore[reportArgumentType]
    return out.getvalue()


def _script(command: str, what: str) -> bytes:
    return f"#!/bin/sh\n# {what} To be run in the folder of Dynat.\n{command}\n".encode()
