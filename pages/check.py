"""The check screen: may one believe a robust accuracy, on which images not, and what to run next."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from dynat_core.check.verdict import next_actions
from dynat_core.config import NORM_WORDS, describe_eps, parse_number
from dynat_core.errors import ConfigError
from dynat_core.store.evaluation_settings import Again, Check, build
from dynat_core.store.evaluations import Evaluation
from dynat_core.store.run import Run
from dynat_core.store.workers import worker_alive
from dynat_core.views import check as pictures
from dynat_core.views.facts import share
from ui import actions
from ui.access import may_edit, why_not
from ui.add_model import form
from ui.checks import BUSY, busy, found_by, of_kind, progress, reading, refused, remember, say_damaged, warm_up
from ui.choose import DEMO_PAIR, empty_store, titles
from ui.exports import take_away_evaluation
from ui.frame import live, page, screen_of, teaching, view_only
from ui.link import Link, carry, moved, unknown
from ui.live import MOVING, interrupted_banner, moving_line
from ui.measured import measured_tabs
from ui.stills import head, picture
from ui.store import places, runs, state_of, store
from ui.words import epoch_shown, plain

SCREEN = screen_of("Check a model")
LOOK = 0.5  # seconds between looks at a check that is under way
CARRIED = 300  # images a link takes along
PARTS = {"optimised": "converged", "restarts": "gain", "masked": "sign"}


def main() -> None:
    """Ask, load, draw."""
    known = {run.id: run for run in runs() if run.state != "broken" and can_be_checked(run)}
    if not known:
        empty_store() if not runs() else st.info(
            "No run here has a network that can be checked yet; one epoch is enough."
        )
        return
    warm_up()
    run, check = choose(known)
    st.html(f'<p class="dynat-facts">{escape(about(run))}</p>')
    added, found = st.session_state.get("added-model", ("", []))
    for line in found if added == run.id else []:  # kept, for the script may run again before anybody has read it
        st.caption(plain(line))
    if run.kind == "imported":
        being_measured(run)
    if check is None:
        nothing_yet(run)
    else:
        watch(run, check)
    measured_tabs(run, known)


def can_be_checked(run: Run) -> bool:
    """Whether there is a network to attack, or a check that was made elsewhere."""
    return bool(run.kept_epochs()) or run.kind == "imported" or bool(of_kind(run, "check"))


# ------------------------------------------------------------------------------------------------------------ asking


def choose(known: dict[str, Run]) -> tuple[Run, Evaluation | None]:
    """The model, and the check that is shown: the newest unless the link names one."""
    links = {name: Link(SCREEN, name) for name in ("run", "check")}
    for link in links.values():
        link.arrived()
    asked = links["run"].value
    if asked is not None and asked not in known:
        st.error(plain(f"There is nothing to check in a run called {asked[:60]}; choose another."))
        asked = None
    shown = asked or next((id for id in reversed(DEMO_PAIR) if id in known), next(iter(known)))
    names = titles(list(known.values()))
    which, start, add = st.columns([5, 4, 3], vertical_alignment="bottom")

    def changed(id: str) -> None:
        links["run"].write(id)
        links["check"].write(None)

    with which:
        st.selectbox(
            "Model", list(known), format_func=names.__getitem__, **moved(f"{SCREEN}.run", shown, changed, list(known))
        )
    run = known[shown]
    with start, st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        start_form(run, links["check"])
    with add:
        add_model(links)
    found = of_kind(run, "check")
    say_damaged(run, "check")
    check = next((c for c in found if c.name == links["check"].value), found[0] if found else None)
    if problem := unknown(links["check"], [c.name for c in found]):
        st.info(plain(problem))
    if len(found) > 1:
        older(found, check, links["check"])
    return run, check


def start_form(run: Run, link: Link) -> None:
    """The button that checks, and what it may be told."""
    if view_only() or not (run.kept_epochs() or run.kind == "imported"):
        st.caption("Checking computes: it needs torch and the network's weights.")
        return
    threat = run.config.threat
    epoch = epoch_shown(run)
    settings: Check | None = Check(epoch=epoch)
    with st.popover("Settings"):
        n = st.number_input("test images", 8, run.config.test_size, min(256, run.config.test_size), key=f"{SCREEN}.n")
        eps = st.text_input("eps, pixels", describe_eps(threat.eps).partition(" ")[0], key=f"{SCREEN}.eps.{run.id}")
        steps = st.number_input("PGD steps", 3, 5000, 50, key=f"{SCREEN}.steps")
        restarts = st.number_input("restarts", 1, 100, 5, key=f"{SCREEN}.restarts")
        st.caption(f"{NORM_WORDS[threat.norm]}, margin loss; classes in proportion; {epoch} epoch.")
        try:
            values: dict[str, Any] = {"kind": "check", "n": n, "eps": parse_number(eps), "steps": steps}
            settings = build({**values, "restarts": restarts, "epoch": epoch})  # type: ignore[assignment]
        except ConfigError as error:
            st.error(plain(error))
            settings = None
    dead = settings is None or not may_edit()
    if st.button("Check now", type="primary", disabled=dead, help=why_not(), key=f"{SCREEN}.start") and settings:
        check = actions.measure_here(run, settings)
        remember(check)
        link.write(check.name)
        st.rerun()


def older(found: list[Evaluation], shown: Evaluation | None, link: Link) -> None:
    """Earlier checks of the same model."""
    names = {c.name: f"{c.created:%-d %b, %H:%M}: {words_of(c)}" for c in found}
    st.selectbox(
        f"{len(found)} checks of this model", list(names), format_func=names.__getitem__, label_visibility="collapsed",
        **moved(f"{SCREEN}.check", shown.name if shown else found[0].name, link.write, list(names)),
    )  # fmt: skip


def words_of(check: Evaluation) -> str:
    """What a check was asked, shortly."""
    settings = check.settings
    eps = f", eps {describe_eps(settings.eps)}" if settings.eps else ""
    return f"PGD-{settings.steps} x {settings.restarts} on {settings.n} images{eps}, {check.state}"


def add_model(links: dict[str, Link]) -> None:
    """A network of one's own, from a file."""
    if view_only() or teaching():
        return
    with st.popover("Add a model", width="stretch", disabled=not may_edit(), help=why_not()):
        added = form()
    if added is not None:
        links["run"].write(added)
        links["check"].write(None)
        st.rerun()


def about(run: Run) -> str:
    """The model in a line: what it is, and the number that is to be believed."""
    config, shown = run.config, (run.result() or {}).get(epoch_shown(run))
    words = f"{config.summary()}; {NORM_WORDS[config.threat.norm]}"
    if shown:
        recorded = share(shown["robust_correct"], shown["n"])
        words += f". Recorded: {recorded} of {shown['n']:,} against {config.attack_words()}"
    return words + (f". Added by {run.by}." if run.kind == "imported" and run.by else ".")


def being_measured(run: Run) -> None:
    """A network that was just brought in is measured once, by the worker; where that ended early, the way on."""
    if state_of(run) not in MOVING:
        interrupted_banner(SCREEN, run)
        return

    @live(LOOK)
    def state() -> None:
        if state_of(run) not in MOVING:
            st.rerun()
        st.html(
            '<p class="dynat-waiting" role="status">Measuring the network once, so that every screen shows it; '
            "it can be checked already.</p>"
        )
        if not run.running and not worker_alive(store().folder):
            moving_line(SCREEN, run, places().get(run.id))

    state()


def nothing_yet(run: Run) -> None:
    """No check so far: what one would tell."""
    st.html(
        '<div class="dynat-empty"><h3>Not yet checked</h3><p>A check attacks a few hundred images with the margin '
        "loss, several restarts and blind searches, and answers three questions: had the attack finished, do its "
        "restarts agree, and is something hiding the gradient? It says on which images not, and what to run next."
        "</p></div>"
    )


# ----------------------------------------------------------------------------------------------------------- the check


def watch(run: Run, check: Evaluation) -> None:
    """The verdict; while the check runs it grows."""
    moving = busy(check)

    @live(LOOK if moving else None)
    def verdict() -> None:
        if moving and refused(check, check.name):
            return
        if moving != busy(check):
            st.rerun()
        progress(check, check.name, here=True)
        with reading(check):
            found = found_by(check)
            known = check.partial() if found is None else found
            if known is None:
                looking(check)
                return
            lights(run, check, known)
            if check.state == "finished":
                after(run, check, known)

    verdict()


def looking(check: Evaluation) -> None:
    """Before the first image: what is being done."""
    if check.state in BUSY:
        st.html('<p class="dynat-waiting" role="status">Looking at the model and its images.</p>')


def lights(run: Run, check: Evaluation, known: dict[str, Any]) -> None:
    """The sentence, the three lights, and what was found before the attack."""
    verdict = known["verdict"]
    kind = "ok" if verdict["ok"] else "partial" if verdict.get("so_far") else "loud"
    st.html(f'<p class="dynat-sentence {kind}" role="status">{escape(verdict["sentence"])}</p>')
    for place, light in zip(st.columns(3), verdict["lights"], strict=True):
        with place, st.container(border=True, height="stretch"):
            st.html(light_card(light))
            count_button(run, check, light)
    failed = [f for f in known["findings"] if not f["ok"]]
    passed = len(known["findings"]) - len(failed)
    for finding in failed:
        before_the_attack(run, check, finding)
    words = known["settings"]["words"]
    st.html(f'<p class="dynat-facts">{escape(words)}; {passed} checks before the attack found nothing.</p>')


def before_the_attack(run: Run, check: Evaluation, finding: dict[str, Any]) -> None:
    """What was found before the attack; who knows it already may say so, and the verdict says that it was said."""
    accepted = finding["name"] in check.settings.overridden
    with st.container(
        horizontal=True,
        vertical_alignment="center",
        gap="small",
        wrap=False,
        key=f"finding-{check.name}-{finding['name']}",
    ):
        words = "Before the attack, known and accepted." if accepted else "Before the attack."
        st.html(f'<p class="dynat-note"><b>{words}</b> {escape(finding["sentence"])}</p>', width="stretch")
        offered = check.state == "finished" and not accepted and not finding["harmless"] and not view_only()
        if (
            offered
            and run.kind != "external"
            and st.button(
                "I know; check again",
                key=f"know-{check.name}-{finding['name']}",
                disabled=not may_edit(),
                help=why_not(),
            )
        ):
            settings = check.settings.model_copy(update={"overridden": (*check.settings.overridden, finding["name"])})
            again = actions.measure_here(run, settings)
            remember(again)
            Link(SCREEN, "check").write(again.name)
            st.rerun(scope="app")


def light_card(light: dict[str, Any]) -> str:
    """One light: a sign and a word, never a colour alone; the number beside its threshold, n and the loss."""
    sign, kind = {"no problem found": ("●", "ok"), "insufficient": ("▲", "loud")}.get(light["state"], ("○", "open"))
    measured = ""
    if light["number"] is not None and light["threshold"] is not None:
        measured = f"{light['number']:.3g}, threshold {light['threshold']:.3g}, "
    return (
        f'<div class="dynat-light {kind}"><h4>{escape(light["question"])}</h4>'
        f"<p><b><i>{sign}</i> {escape(light['state'])}</b></p><p>{escape(light['sentence'])}</p>"
        f'<p class="dynat-facts">{measured}n = {escape(str(light["n"]))}, {escape(light["loss"])} loss</p></div>'
    )


def count_button(run: Run, check: Evaluation, light: dict[str, Any]) -> None:
    """The images behind a count, in Trajectory, under the loss they were judged by."""
    images = light["images"]
    if not images:
        return
    words = f"Open {'the image' if len(images) == 1 else f'these {len(images)} images'}"
    if st.button(words, key=f"open-{check.name}-{light['name']}"):
        attack = None if run.kind == "external" else f"{min(check.settings.steps, 200)},eps/4,margin,random"
        result = check.result() or {}
        query = carry(
            run=run.id, epoch=result.get("epoch"), image=images[0], attack=attack,
            images=",".join(str(k) for k in images[:CARRIED]),
        )  # fmt: skip
        st.switch_page("pages/trajectory.py", query_params=query)


# ---------------------------------------------------------------------------------------------------------- and then?


def after(run: Run, check: Evaluation, known: dict[str, Any]) -> None:
    """Where the images ended, and what would show more."""
    samples = check.samples()
    left, right = st.columns([7, 5], gap="medium")
    with left:
        picture(pictures.endings(samples), f"endings-{check.name}", zooms=True)
    with right:
        next_steps(run, check, known, samples)
        head("Take it away")
        take_away_evaluation(run, check)


def next_steps(run: Run, check: Evaluation, known: dict[str, Any], samples: pd.DataFrame) -> None:
    """What to run next, one press each, and what those that were run changed."""
    head("What to run next?")
    done = [a for a in of_kind(run, "again") if a.settings.after == check.name]
    offered = next_actions(samples, {light["name"]: light["ok"] for light in known["verdict"]["lights"]})
    if not offered and not done:
        st.html(
            '<p class="dynat-line">Every image that stands is converged. The ladder below attacks with more methods; '
            "an attack made for this model may still do better.</p>"
        )
    for action in offered:
        tried = next((a for a in done if a.settings.action == action.action), None)
        if tried is None and not view_only() and run.kind != "external":
            key = f"next-{check.name}-{action.action}"
            if st.button(action.words, key=key, disabled=not may_edit(), help=why_not()):
                settings = check.settings
                again = Again(
                    epoch=check.epoch, eps=settings.eps, norm=settings.norm, seed=settings.seed,
                    images=action.images, after=check.name, action=action.action,
                )  # fmt: skip
                remember(actions.measure_here(run, again))
                st.rerun()
        elif tried is None:
            st.html(f'<p class="dynat-line">{escape(action.words)}.</p>')
    for again in done:
        compared(run, again)


def compared(run: Run, again: Evaluation) -> None:
    """One next action: before and after, image by image."""

    moving = busy(again)

    @live(LOOK if moving else None)
    def outcome() -> None:
        if moving and refused(again, again.name):
            return
        if moving != busy(again):
            st.rerun()
        progress(again, again.name, here=True)
        with reading(again):
            if (result := found_by(again)) is not None:
                before_and_after(run, again, result)

    outcome()


def before_and_after(run: Run, again: Evaluation, result: dict[str, Any]) -> None:
    """What a next action changed, and the images it broke."""
    newly, n = result["newly_broken"], result["n"]
    attacked, before, after = (escape(str(result[key])) for key in ("attacked", "converged_before", "converged_after"))
    words = (
        f"<b>{escape(result['action'].capitalize())}</b> on {attacked} images, "
        f"{result['seconds']:.1f} s: "
        f"robust accuracy {share(result['robust_before'], n)} before, {share(result['robust_after'], n)} after; "
        f"converged {before} before, {after} after; "
        f"{len(newly)} newly broken."
    )
    st.html(f'<p class="dynat-line">{words}</p>')
    if newly and st.button(f"Open the {len(newly)} newly broken", key=f"newly-{again.name}"):
        query = carry(run=run.id, image=newly[0], images=",".join(str(k) for k in newly[:CARRIED]))
        st.switch_page("pages/trajectory.py", query_params=query)


with page("Check a model", "May I believe this number? Had the attack finished, and on which images not?"):
    main()
