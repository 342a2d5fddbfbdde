"""Below a verdict: the ladder of attacks, the reviewer's curves, and examples carried from network to network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import streamlit as st

from dynat_core.config import NORM_WORDS, describe_eps
from dynat_core.store.evaluation_settings import Curves, Ladder, Measured, Transfer
from dynat_core.store.evaluations import Evaluation
from dynat_core.store.run import Run
from dynat_core.views import check as pictures
from dynat_core.views import reviewer
from dynat_core.views.facts import share
from dynat_core.views.words import percent
from ui import actions
from ui.access import may_edit, why_not
from ui.checks import busy, found_by, of_kind, progress, reading, say_damaged
from ui.choose import titles
from ui.exports import take_away_evaluation
from ui.frame import live, teaching, view_only
from ui.stills import picture, table
from ui.words import plain

LOOK = 1.0  # seconds between looks at a job that is under way


def measured_tabs(run: Run, known: Mapping[str, Run]) -> None:
    """One tab for each kind of measurement; what has not been measured can be asked for."""
    if teaching():
        return
    ladder, curves, transfer = st.tabs(["Ladder of attacks", "Curves", "From model to model"])
    with ladder:
        section(run, "ladder", _ladder_form, _ladder_result)
    with curves:
        section(run, "curves", _curves_form, _curves_result)
    with transfer:
        section(run, "transfer", lambda r: _transfer_form(r, known), _transfer_result)


def section(
    run: Run,
    kind: str,
    form: Callable[[Run], Measured | None],
    result: Callable[[Evaluation, dict[str, Any]], None],
) -> None:
    """The newest measurement of a kind, and the form that asks for another."""
    found = of_kind(run, kind)
    newest = found[0] if found else None
    moving = newest is not None and busy(newest)

    @live(LOOK if moving else None)
    def shown() -> None:
        if newest is None:
            return
        if moving != busy(newest):
            st.rerun()  # the whole page: its form depends on it, and polling ends
        progress(newest, newest.name)
        with reading(newest):
            known = found_by(newest)
            if known is not None:
                result(newest, known)
                take_away_evaluation(run, newest)

    say_damaged(run, kind)
    shown()
    if view_only() or not (run.kept_epochs() or run.kind == "imported"):
        if newest is None:
            st.caption("Not measured, and measuring needs torch and the network's weights.")
        return
    if moving:
        return
    settings: Measured | None = form(run)
    if settings is not None:
        actions.measure_by_worker(run, settings)
        st.rerun()


def _start(words: str, key: str, ready: bool = True) -> bool:
    """A button that asks for a measurement; dead for a viewer."""
    return st.button(words, type="primary", key=key, disabled=not (ready and may_edit()), help=why_not())


# --------------------------------------------------------------------------------------------------------- the ladder


def _ladder_form(run: Run) -> Ladder | None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        most = run.config.test_size
        n = st.number_input("images on the ladder", 8, most, min(1000, most), key=f"ladder.n.{run.id}", width=170)
        hint = (
            "Needs pyautoattack (requirements-attack.txt); where it is not installed it is left out, and that is said."
        )
        with_aa = st.toggle("with AutoAttack", True, key=f"ladder.aa.{run.id}", help=hint)
        if _start("Climb the ladder", f"ladder.start.{run.id}"):
            return Ladder(n=int(n), autoattack=with_aa)
    return None


def _ladder_result(evaluation: Evaluation, result: dict[str, Any]) -> None:
    left, right = st.columns([6, 6], gap="medium")
    worst = result["worst"]
    with left:
        picture(pictures.ladder(result), f"ladder-{evaluation.name}", zooms=True)
    with right:
        st.html(
            f'<p class="dynat-sentence">Worst case over all attacks: '
            f"{share(worst['correct'], result['n'])} of {result['n']:,} images, {escape(result['chosen'])}.</p>"
        )
        rows = [
            {
                "attack": pictures.SHORT.get(rung["name"], rung["name"]),
                "right": percent(rung["accuracy"], 1),
                "95 %": f"{100 * rung['low']:.1f} to {100 * rung['high']:.1f}",
                "broke first": sum(rung["broke"]) if isinstance(rung["broke"], list) else rung["broke"],
                "gradients": round(rung["gradients"]),
                "seconds": round(rung["seconds"], 1),
                "what it is": rung["words"],
            }
            for rung in result["rungs"]
        ]
        st.dataframe(rows, hide_index=True, height="content")
        for note in [*result.get("left_out", []), *(w for rung in result["rungs"] for w in rung["warnings"])]:
            st.caption(plain(note))


# ---------------------------------------------------------------------------------------------------- curves, transfer


def _curves_form(run: Run) -> Curves | None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        most = run.config.test_size
        n = st.number_input("images for the curves", 8, most, min(200, most), key=f"curves.n.{run.id}", width=170)
        if _start("Draw the curves", f"curves.start.{run.id}"):
            return Curves(n=int(n))
    return None


def _curves_result(evaluation: Evaluation, result: dict[str, Any]) -> None:
    st.html(
        f'<p class="dynat-facts">{escape(str(result["n"]))} test images, {escape(result["chosen"])}; '
        f"{NORM_WORDS[result['norm']]} eps {describe_eps(result['eps'])}; bands are 95 % intervals.</p>"
    )
    shown = reviewer.views(result, evaluation.samples())
    for start in range(0, len(shown), 3):
        for place, (view, sentence) in zip(st.columns(3, gap="medium"), shown[start : start + 3], strict=False):
            with place:
                picture(view, f"{view.id}-{evaluation.name}", zooms=True)
                st.html(f'<p class="dynat-facts">{escape(sentence)}</p>')


def _transfer_form(run: Run, known: Mapping[str, Run]) -> Transfer | None:
    names = titles(list(known.values()))
    fitting = [id for id, other in known.items() if id != run.id and other.config.data.name == run.config.data.name]
    if not fitting:
        st.caption("There is no other model of the same data here.")
        return None
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        others = st.multiselect("with", fitting, format_func=lambda id: names[id], key=f"transfer.others.{run.id}")
        if _start("Carry examples across", f"transfer.start.{run.id}", ready=bool(others)):
            return Transfer(others=tuple(others))
    return None


def _transfer_result(evaluation: Evaluation, result: dict[str, Any]) -> None:
    names, called = result["names"], result["titles"]
    rows = []
    for source in names:
        cells = [escape(called[source])]
        for target in names:
            accuracy, low, high = (result[key][source][target] for key in ("accuracy", "low", "high"))
            words = f"{percent(accuracy, 1)} ({100 * low:.1f} to {100 * high:.1f})"
            cells.append(f"<b>{words}</b> white-box" if source == target else words)
        rows.append(cells)
    table(["examples made on ↓, shown to →", *(called[id] for id in names)], rows, markup=True)
    st.html(
        f'<p class="dynat-facts">{escape(result["sentence"])} '
        f"{escape(str(result['n']))} test images, {escape(result['chosen'])}.</p>"
    )
