"""A run or an evaluation as one HTML file that opens anywhere, without a network and without a script.

No torch: screens import this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from dynat_core.config import NORM_WORDS, RunConfig, describe_eps
from dynat_core.errors import RunError
from dynat_core.reports import exports
from dynat_core.reports.compared import NOT_CHECKED, UNREADABLE, latest, training_gradients, training_seconds, verdict
from dynat_core.reports.health import notes
from dynat_core.store.evaluations import Evaluation, evaluations
from dynat_core.store.rerun import evaluation_command
from dynat_core.store.run import Run
from dynat_core.views import check as pictures
from dynat_core.views import document as doc
from dynat_core.views import reviewer
from dynat_core.views.base import styled
from dynat_core.views.document import Html
from dynat_core.views.facts import cost_words, seconds_words, share, value_words
from dynat_core.views.svg import svg

Section = tuple[str, Sequence[Html]]
_BRACKETS = "In brackets: 95 % intervals (Wilson). A robust accuracy holds for the attack beside it and for no other."


def run_report(run: Run) -> bytes:
    """What a run reached, its courses, its checks and everything needed to repeat it. Raises RunError."""
    config = run.config
    epoch = exports.shown_epoch(run)
    (series,) = styled([(run.title, config.strategy.name)])
    drawn = [(view.title, svg(view, epoch, width=420, theme="both")) for _, view in exports.figures(run)]
    courses = [doc.legend([series]), doc.paragraph(f"Test images, cursor at epoch {epoch}.", "facts")]
    health = [doc.paragraph(f"{n.kind}: {n.sentence} {n.advice}", "said") for n in notes(run.history(), config)]
    sections: list[Section] = [
        ("What did it reach?", _reached(run)),
        ("Was the attack checked?", _checked(run, epoch)),
        ("What looks wrong?", health),
        ("How did it get there?", [*courses, doc.figures(drawn)] if drawn else []),
        ("How is it repeated?", _repeated(run)),
        ("Settings", [_settings(config)]),
    ]
    return doc.document(run.title, f"{config.summary()}. {made_by(run.id)}", sections)


def evaluation_report(run: Run, evaluation: Evaluation) -> bytes:
    """What an evaluation found. Raises RunError for one that has not finished."""
    result = evaluation.result()
    if result is None:
        raise RunError(f"{evaluation.id} is {evaluation.state}; it can be reported once it has finished.")
    forms = {"check": _check, "ladder": _ladder, "transfer": _transfer}
    try:
        drawn: Section = ("Pictures", _pictures(evaluation, result))
        told = forms.get(evaluation.kind, _anything)(result)
    except UNREADABLE:
        raise RunError(f"{evaluation.id} is damaged; measure it again.") from None
    found = [drawn, *told] if evaluation.kind == "curves" else [*told, drawn]
    asked = evaluation.settings.model_dump(mode="json")
    command = [doc.paragraph("This command line measures the same again:"), doc.command(evaluation_command(evaluation))]
    settings = doc.table(("setting", "value"), [(key, value_words(value)) for key, value in asked.items()])
    threat = run.config.threat
    eps, norm = describe_eps(evaluation.settings.eps or threat.eps), evaluation.settings.norm or threat.norm
    which = f"{evaluation.kind} of {run.id}, epoch {evaluation.epoch}"
    about = f"{which}, {NORM_WORDS[norm]} eps {eps}. {made_by(evaluation.id)}"
    sections = [*found, ("How is it repeated?", command), ("Settings", [settings])]
    return doc.document(f"{run.title}: {evaluation.kind}", about, sections)


def made_by(id: str) -> str:
    """Where a file comes from."""
    what = f"Run or evaluation {id}. " if id else ""
    return f"{what}Written by Dynat on {datetime.now(UTC):%d %B %Y}."


# ----------------------------------------------------------------------------------------------------------- of a run


def _reached(run: Run) -> list[Html]:
    """Best and last with everything that stands beside an accuracy."""
    result = run.result() or {}
    rows = []
    cost, seconds = cost_words(run.config, training_gradients(run)), seconds_words(training_seconds(run))
    for which in ("best", "last"):
        if found := result.get(which):
            shares = (share(found[f"{kind}_correct"], found["n"]) for kind in ("clean", "robust"))
            said = verdict(run, found["epoch"])
            rows.append((f"{which}, epoch {found['epoch']}", *shares, f"{found['n']:,}", cost, seconds, said))
    if not rows:
        found = exports.outcome(run)
        shares = share(found.clean, found.n), share(found.robust, found.n)
        rows.append((found.which, *shares, f"{found.n:,}", cost, seconds, found.verdict))
    head = ("epoch", "clean", "robust", "images", "gradients an image", "training", "verdict on the attack")
    seed = f" One training seed ({run.config.seed})." if run.config.trains_here else ""
    return [
        doc.table(head, rows),
        doc.paragraph(f"Robust under {run.config.attack_words()}.{seed} {_BRACKETS}", "facts"),
    ]


def _checked(run: Run, epoch: int) -> list[Html]:
    """The newest check and the newest ladder of this epoch."""
    parts: list[Html] = []
    for kind, draw in (("check", _check), ("ladder", _ladder)):
        found = latest(run, kind, epoch)
        if found is not None and (result := found.result()):
            try:
                parts += [part for _, some in draw(result) for part in some]
            except UNREADABLE:
                parts.append(doc.paragraph(f"The evaluation {found.name} is damaged; measure it again.", "said"))
    others = len([e for e in evaluations(run.folder) if e.state == "finished"])
    if not parts:
        parts.append(doc.paragraph(f"Verdict: {NOT_CHECKED}. Another attack may break more images than this one did."))
    elif others > 2:
        parts.append(doc.paragraph(f"{others} evaluations of this run have finished; these are the newest.", "facts"))
    return parts


def _repeated(run: Run) -> list[Html]:
    parts: list[Html] = []
    if run.config.trains_here:
        parts = [doc.paragraph("This command line trains the same again:"), doc.command(run.rerun_command())]
    else:
        parts = [doc.paragraph("This network was trained elsewhere; how is not known here.")]
    starts = run.starts()
    if starts:
        facts = starts[-1] | {"versions": ", ".join(f"{k} {v}" for k, v in (starts[-1].get("versions") or {}).items())}
        parts.append(doc.table(("of its last start", ""), [(k, v) for k, v in facts.items() if v is not None]))
    table = exports.run_files(run)["epochs.csv"]()
    return [*parts, doc.attached("Save the records (CSV)", f"{run.id}-epochs.csv", table, "text/csv")]


def _settings(config: RunConfig) -> Html:
    flat = []
    for key, value in config.model_dump(mode="json").items():
        flat += (
            [(f"{key}.{k}", value_words(v)) for k, v in value.items()]
            if isinstance(value, dict)
            else [(key, value_words(value))]
        )
    return doc.table(("setting", "value"), flat)


# ---------------------------------------------------------------------------------------------------- of an evaluation


def _check(result: Mapping[str, Any]) -> list[Section]:
    found = result.get("verdict") or {}
    robust, n = found.get("robust"), found.get("n")
    said = [doc.paragraph(found.get("sentence") or NOT_CHECKED, "said")]
    if isinstance(robust, int) and n:
        said.append(
            doc.paragraph(f"Right under the whole attack: {share(robust, n)} of {n:,} images. {_BRACKETS}", "facts")
        )
    lights = [
        (
            light.get("question", light.get("name", "")),
            light.get("state", ""),
            light.get("sentence", ""),
            _against(light.get("number"), light.get("threshold")),
            light.get("n", ""),
            light.get("loss", ""),
        )
        for light in found.get("lights") or []
    ]
    warnings = [doc.paragraph(words, "said") for words in found.get("warnings") or []]
    before = [
        ("in order" if one.get("ok") else "not in order", one.get("sentence", ""), one.get("fix") or "")
        for one in result.get("findings") or []
    ]
    head = ("question", "state", "why", "number", "images", "loss")
    return [
        ("What does the check say?", [*said, *warnings, *([doc.table(head, lights)] if lights else [])]),
        ("Before the attack", [doc.table(("state", "what", "what to do"), before)] if before else []),
    ]


def _against(number: float | None, threshold: float | None) -> str:
    """`0.98 against 0.95`; the number alone where there is no one threshold."""
    return value_words(number) if threshold is None else f"{value_words(number)} against {value_words(threshold)}"


def _ladder(result: Mapping[str, Any]) -> list[Section]:
    n, worst = int(result["n"]), result["worst"]
    rows = [
        (
            rung["name"],
            rung.get("words", ""),
            share(rung["correct"], rung["n"]),
            f"{rung['n']:,}",
            "its own number" if rung.get("own", True) else "what all before left standing",
            value_words(rung.get("gradients")),
            seconds_words(rung.get("seconds")),
        )
        for rung in result["rungs"]
    ]
    rows.append(("worst case", "right under every attack above", share(worst["correct"], n), f"{n:,}", "", "", ""))
    said = [doc.paragraph(w, "said") for rung in result["rungs"] for w in rung.get("warnings") or []]
    eps = f"{NORM_WORDS[result['norm']]} eps {describe_eps(float(result['eps']))}, attack seed {result.get('seed')}"
    head = ("attack", "in words", "right", "images", "means", "gradients", "seconds")
    return [("Attack by attack", [doc.table(head, rows), *said, doc.paragraph(f"{eps}. {_BRACKETS}", "facts")])]


def _pictures(evaluation: Evaluation, result: Mapping[str, Any]) -> list[Html]:
    """What the screen Check a model draws of it."""
    if evaluation.kind == "ladder":
        drawn = [(pictures.ladder(result), "")]
    elif evaluation.kind == "check":
        drawn = [(pictures.endings(evaluation.samples()), "")]
    elif evaluation.kind == "curves":
        drawn = reviewer.views(result, evaluation.samples())
    else:
        return []
    return [doc.figures([(view.title, svg(view, 0, width=460, theme="both") + _said(words)) for view, words in drawn])]


def _said(words: str) -> str:
    return doc.paragraph(words, "facts") if words else ""


def _transfer(result: Mapping[str, Any]) -> list[Section]:
    """Rows: made on; columns: shown to."""
    names, titles, n = result["names"], result.get("titles") or {}, int(result["n"])
    head = ("made on", *(titles.get(name, name) for name in names))
    rows = [
        (titles.get(source, source), *(share(result["correct"][source][target], n) for target in names))
        for source in names
    ]
    clean = ("no attack", *(share(result["clean"][name]["correct"], n) for name in names))
    facts = f"PGD-{result['steps']}, {NORM_WORDS[result['norm']]} eps {describe_eps(float(result['eps']))}. {_BRACKETS}"
    said = [doc.paragraph(result["sentence"], "said")]
    return [("From model to model", [*said, doc.table(head, [*rows, clean]), doc.paragraph(facts, "facts")])]


def _anything(result: Mapping[str, Any]) -> list[Section]:
    """What has no form of its own here: its sentences, and everything else as it was written."""
    said = []
    if "steps" not in result:  # curves: their sentences stand below the pictures
        said = [doc.paragraph(value, "said") for key, value in _leaves(result) if key == "sentence" and value]
    whole = escape(json.dumps(result, indent=1, ensure_ascii=False)[:200_000])
    folded = Html(f"<details><summary>Everything as it was written</summary><pre>{whole}</pre></details>")
    return [("What was found", [*said, folded])]


def _leaves(value: Any, key: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for name, part in value.items() for leaf in _leaves(part, str(name))]
    if isinstance(value, list):
        return [leaf for part in value[:200] for leaf in _leaves(part, key)]
    return [(key, value)]
