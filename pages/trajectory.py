"""The trajectory screen: what an attack did to one image, step by step."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from dynat_core import views
from dynat_core.config import NORM_WORDS
from dynat_core.errors import ConfigError, RunError
from dynat_core.recorded.trajectories import Trajectory
from dynat_core.store.runs import Run
from ui.choose import DEMO_PAIR, default_runs, empty_store, titles
from ui.frame import live, page, screen_of, teaching, view_only
from ui.images import image_table, listed, meaningless, read_pick
from ui.link import Cursor, Link, Switched, moved, told, whole_number
from ui.paths import (
    LOSSES,
    MOST_STEPS,
    STARTS,
    Attack,
    as_npz,
    as_trajectory,
    asking,
    can_be_asked,
    epochs_of,
    look_at_helper,
    read_attack,
    recorded,
    recorded_attack,
    request,
    runs_with_paths,
)
from ui.scrubber import Report, scrubber
from ui.store import curves, lost_between, runs, samples, store, warm_up
from ui.threshold import arrived, kept, threshold_picture, toggle
from ui.words import plain

SCREEN = screen_of("Trajectory")
START = 4
FORMS = ("box", "paper")


@dataclass(frozen=True)
class Shown:
    """What the screen shows: one image, one or two models, each at an epoch, and the attack."""

    models: list[tuple[Run, int]]
    index: int
    attack: Attack


def main() -> None:
    """Ask, load, draw."""
    known = runs_with_paths()
    if not known:
        empty_store() if not runs() else st.info(
            "No run here has a checkpoint or a recorded path yet; one epoch is enough."
        )
        return
    if not view_only():
        warm_up()
    links = {name: Link(SCREEN, name) for name in ("run", "epoch", "image", "attack", "pick", "only", "images")}
    for link in links.values():
        link.arrived()
    links["threshold"] = Link(SCREEN, "threshold")  # read by its own cursor
    *places, how = st.columns([3.4, 1.5, 3, 4.1], gap="small", vertical_alignment="bottom")
    chosen, epochs = choose_models(known, links, places)
    with how:
        attack = choose_attack(chosen[0], links["attack"])
    which, picture = st.columns([3.4, 8.6], gap="small")
    with which:
        index, images = choose_image(chosen, epochs, links)
    with picture:
        draw(Shown(list(zip(chosen, epochs, strict=True)), index, attack), images, links)


# ------------------------------------------------------------------------------------------------------------ asking


def choose_models(
    known: dict[str, Run], links: Mapping[str, Link], places: Sequence[Any]
) -> tuple[list[Run], list[int]]:
    """One model or two, and the epoch of each."""
    asked = (links["run"].value or "").split(",") if links["run"].value else default_models(known)
    unknown = [id for id in asked[:2] if id not in known]
    for id in unknown:
        try:
            store().open(id)
            st.error(plain(f"{id} has no checkpoint or recorded path yet; choose another run."))
        except RunError as error:
            st.error(plain(error))
    asked = [id for id in dict.fromkeys(asked[:2]) if id in known] or default_models(known)
    names = titles(list(known.values()))
    first, when, second = places
    others = ["", *(id for id in known if id != asked[0] and fits(known[id], known[asked[0]]))]
    beside = asked[1] if len(asked) > 1 and asked[1] in others else ""

    def changed(_: str) -> None:
        ids = (st.session_state[widget["key"]] for widget in (a, b))
        links["run"].write(",".join(id for id in dict.fromkeys(ids) if id))

    a, b = (
        moved(f"{SCREEN}.{name}", id, changed, ids)
        for name, id, ids in (("a", asked[0], list(known)), ("b", beside, others))
    )
    with first:
        st.selectbox("Model", list(known), format_func=names.__getitem__, **a)
    with second:
        st.selectbox("beside", others, format_func={"": "no other model", **names}.__getitem__, **b)
    chosen = [known[id] for id in (asked[0], beside) if id]
    with when:
        epoch = choose_epoch(chosen[0], links["epoch"])
    return chosen, [epoch, *(beside_epoch(run, epoch, last_of(chosen[0])) for run in chosen[1:])]


def beside_epoch(run: Run, epoch: int, last: int) -> int:
    """The epoch of the other model: the same one; its own last one beside the first model's last, or if it lacks it."""
    return epoch if epoch != last and epoch in epochs_of(run) else last_of(run)


def default_models(known: dict[str, Run]) -> list[str]:
    """Standard beside Dynamic, whose paths are shipped; or the newest run."""
    return [id for id in reversed(DEMO_PAIR) if id in known] or default_runs(known)


def fits(run: Run, other: Run) -> bool:
    """Whether both were trained on images of the same data set."""
    return run.config.data.name == other.config.data.name


def last_of(run: Run) -> int:
    """The epoch shown first: the one whose paths are all recorded, or the last there is."""
    found = run.epochs_of("paths")
    return found[-1] if found else epochs_of(run)[-1]


def choose_epoch(run: Run, link: Link) -> int:
    """The epoch, from the query string or the list."""
    there = epochs_of(run)
    text = link.value
    if text is not None and whole_number(text) not in there:
        kept = ", ".join(map(str, there)) if len(there) <= 12 else f"{there[0]} to {there[-1]}"
        missing = f"There is no checkpoint or recorded path of {run.title} at epoch {text[:20]}"
        st.info(plain(f"{missing}; there is {kept}."))
        text = None
    epoch = int(text) if text is not None else last_of(run)
    best = (run.last_record() or {}).get("best_epoch")

    def words(epoch: int) -> str:
        return f"{epoch} (last)" if epoch == there[-1] else f"{epoch} (best)" if epoch == best else str(epoch)

    st.selectbox(
        "epoch", there, format_func=words, **moved(f"{SCREEN}.epoch", epoch, lambda e: link.write(str(e)), there)
    )
    return epoch


def choose_attack(run: Run, link: Link) -> Attack:
    """The attack in words, and a form to change it."""
    try:
        attack = read_attack(link.value, run)
    except ConfigError as error:
        st.error(plain(error))
        attack = recorded_attack(run)
    threat = run.config.threat
    place = f"eps {threat.eps:g}, {NORM_WORDS[threat.norm]}, inside the pixel box"
    if teaching() or view_only():
        st.html(f'<p class="dynat-facts">{escape(attack.words(run))}; {place}</p>')
        return attack
    st.html(f'<p class="dynat-label">Attack <span class="dynat-facts">{place}</span></p>')
    with st.popover(attack.words(run), width="stretch"):
        edit_attack(run, attack, link)
    return attack


def edit_attack(run: Run, attack: Attack, link: Link) -> None:
    """Steps, step size, loss and start."""
    with st.form("attack-form", border=False):
        steps = st.number_input("steps", 1, MOST_STEPS, attack.steps)
        alpha = st.text_input(
            "step size", str(attack.alpha), help="pixels, such as 2/255, or a part of eps, such as eps/4"
        )
        loss = st.selectbox("loss", list(LOSSES), list(LOSSES).index(attack.loss), format_func=lambda v: LOSSES[v])
        start = st.selectbox("start", list(STARTS), list(STARTS).index(attack.start), format_func=lambda v: STARTS[v])
        if st.form_submit_button("Attack", type="primary"):
            try:
                new = read_attack(f"{steps},{alpha.strip()},{loss},{start}", run)
            except ConfigError as error:
                st.error(plain(error))
            else:
                link.write(None if new == recorded_attack(run) else new.text())
                st.rerun()
    if attack != recorded_attack(run) and st.button("Back to the recorded attack"):
        link.write(None)
        st.rerun()


# ------------------------------------------------------------------------------------------------------- which image?


def choose_image(chosen: list[Run], epochs: list[int], links: Mapping[str, Link]) -> tuple[int, list[int]]:
    """The image and the images beside it in the table."""
    run, link = chosen[0], links["image"]
    for problem in meaningless(*(links[name].value for name in ("only", "pick", "images"))):
        st.info(plain(problem))
    try:
        table = samples(run, epochs[0])
    except RunError as error:
        table = None
        st.caption(plain(error))
    some = listed(links["images"])
    there = numbers(run, table)
    index = asked_image(run, link.value, there)
    if index is None:
        index = some[0] if some else default_image(chosen, epochs)
    if table is not None and some:
        table = table.loc[table["index"].isin(some).to_numpy()]
    images = some or [index]
    if table is not None:
        pick, classes = read_pick(links["pick"].value), run.config.classes
        images = image_table(table, pick, links["only"], classes, index, lambda i: link.write(str(i)))
        attack = f"PGD-{run.config.recording.steps}"
        st.caption(plain(f"As recorded at epoch {epochs[0]} of {run.title}, under {attack}."))
    number_field(run, index, there, link)
    return index, images


def number_field(run: Run, index: int, there: Container[int], link: Link) -> None:
    """The field to type the image's number in, or to step it. there: the numbers that this run has.

    A number between those that the run has is left in the field, as somebody may be stepping on.
    """
    most = run.config.data.counts[1] - 1
    key = f"{SCREEN}.passing"
    number, meanwhile = st.session_state.pop(key, (index, index))  # in the field; the image that was shown
    passing = meanwhile == index != number <= most and number not in there  # of the run that is shown now
    shown = number if passing else index
    if passing:
        st.session_state[key] = number, index

    def changed(number: int) -> None:
        st.session_state.pop(key, None)
        if number in there:
            link.write(str(number))
        else:
            st.session_state[key] = number, index

    st.number_input("image number", 0, most, **moved(f"{SCREEN}.number", shown, changed))
    if passing:
        st.info(f"There is no test image {shown} in this run; number {index} is shown still.")


def numbers(run: Run, table: pd.DataFrame | None) -> Container[int]:
    """The numbers of the test images that a run has; of a part of them those that were recorded, as far as known."""
    if run.config.data.test_size is None:
        return range(run.config.test_size)
    return range(run.config.data.counts[1]) if table is None else table["index"].to_numpy()


def asked_image(run: Run, text: str | None, there: Container[int]) -> int | None:
    """The image of a query string; None, and a sentence, for one that is not `there`."""
    if text is None:
        return None
    number = whole_number(text, digits=9)
    if number in there:
        return number
    known = f"it has {run.config.test_size:,} of them, and the table lists them"
    if run.config.data.test_size is None:
        known = f"they are numbered 0 to {run.config.test_size - 1:,}"
    st.info(plain(f"There is no test image {text[:20]} in this run; {known}."))
    return None


def default_image(chosen: list[Run], epochs: list[int]) -> int:
    """The lowest-numbered image that the Standard model loses between steps 3 and 6, or one whose path is recorded."""
    ordered = sorted(zip(chosen, epochs, strict=True), key=lambda pair: pair[0].config.strategy.name != "standard")
    for run, epoch in ordered:
        found = curves(run)
        if found and found[0] == epoch and (index := lost_between(found[1], 3, 6)) is not None:
            return index
    known = chosen[0].recorded_indices(epochs[0])
    return known[0] if known else 0


# ----------------------------------------------------------------------------------------------------------- drawing


def draw(shown: Shown, images: list[int], links: Mapping[str, Link]) -> None:
    """The picture under the step cursor."""
    cursor, form = Cursor(SCREEN, "step"), Switched(SCREEN, "form", "form", FORMS)
    for problem in (cursor.read(shown.attack.steps), form.read(), *arrived(SCREEN)):
        if problem:
            st.info(plain(problem))

    @live(None)
    def picture() -> None:
        token = ",".join(f"{run.id}:{epoch}" for run, epoch in shown.models)
        form.heard(told("trajectory", token))
        paths, surface = look(shown)
        names, strategies = names_of(shown)
        scene = views.trajectory(
            paths[0], *paths[1:], names=names, strategies=strategies, surface=surface, form=form.value
        )
        start = step_of(cursor, shown.attack)
        with st.container(key="trace"):
            report = scrubber("trajectory", scene, run=token, cursor=start, jump=cursor.jump)
        cursor.heard(report)
        heard(report, shown, images, links)
        below(paths, shown, links)
        found = kept([run for run, _ in shown.models])
        if not teaching() and st.session_state.get(f"{SCREEN}.threshold.on") and found:
            threshold_picture(SCREEN, found, titles([run for run, _ in found]))

    picture()


def step_of(cursor: Cursor, attack: Attack) -> int:
    """The step shown; where the cursor stands past the end of this attack, as after a longer one, its last."""
    return min(START if cursor.goto is None else cursor.goto, attack.steps)


def names_of(shown: Shown) -> tuple[list[str], list[str]]:
    """Names and strategies of the models, with the epoch where that tells them apart."""
    several = len({epoch for _, epoch in shown.models}) > 1
    names = [f"{run.title}, epoch {epoch}" if several else run.title for run, epoch in shown.models]
    return names, [run.config.strategy.name for run, _ in shown.models]


def look(shown: Shown) -> tuple[list[Trajectory], Mapping[str, Any] | None]:
    """The paths, and the loss slice if it is wanted; what is not recorded is computed while the old picture stays."""
    found: dict[str, Trajectory] = {}
    questions: dict[str, Any] = {}
    for slot, (run, epoch) in zip(("path", "beside"), shown.models, strict=False):
        path = recorded(run, shown.index, epoch, shown.attack)
        if path is not None:
            found[slot] = path
            continue
        can_be_asked(run, epoch)
        questions[slot] = ("trajectory", run, request(run, shown.index, epoch, shown.attack))
    run, epoch = shown.models[0]
    wants_slice = bool(st.session_state.get(f"{SCREEN}.slice")) and not view_only()
    if wants_slice:
        run.weights(epoch)
        questions["slice"] = ("loss_slice", run, request(run, shown.index, epoch, shown.attack))
    looks = {slot: asking(kind, run, question, slot) for slot, (kind, run, question) in questions.items()}
    answers = look_at_helper(looks, "attacking" if set(looks) - {"slice"} else "measuring the slice", "trace")
    surface = answers.pop("slice", None)
    found |= {slot: as_trajectory(answer) for slot, answer in answers.items()}
    if surface is not None and surface.error:
        st.info(plain(surface.error))
    return [found[slot] for slot in ("path", "beside") if slot in found], surface.value[
        1
    ] if surface and surface.value else None


def heard(report: Report, shown: Shown, images: list[int], links: Mapping[str, Link]) -> None:
    """What a person did in the picture: another image, or the other model first."""
    if report.action in ("image-next", "image-previous") and images:
        step = report.times if report.action == "image-next" else -report.times
        place = images.index(shown.index) if shown.index in images else -1 if step > 0 else 0
        links["image"].write(str(images[(place + step) % len(images)]))
        st.rerun()
    if report.action == "swap-model" and len(shown.models) == 2 and report.times % 2:
        links["run"].write(",".join(run.id for run, _ in reversed(shown.models)))
        st.rerun()


def below(paths: list[Trajectory], shown: Shown, links: Mapping[str, Link]) -> None:
    """The way out of a zero gradient, and the buttons under the picture."""
    path, (run, epoch) = paths[0], shown.models[0]
    if not path.gradient_l1.any() and shown.attack.loss == "ce":
        st.info("The gradient is zero on this image; the attack cannot move.")
        if not view_only() and st.button("Try the margin loss"):
            links["attack"].write(Attack(shown.attack.steps, shown.attack.alpha, "margin", shown.attack.start).text())
            st.rerun()
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        if not teaching():
            needs = "Needs torch: `pip install -r requirements.txt`." if view_only() else "The path is projected on it."
            hint = f"The loss on a plane through the image, the first step and the end of the path. {needs}"
            st.toggle("Loss slice", key=f"{SCREEN}.slice", disabled=view_only(), help=hint)
            toggle(SCREEN, bool(kept([run for run, _ in shown.models])))
        name = f"{run.id}-epoch{epoch}-image{path.index}"
        st.download_button("Save the path (npz)", lambda: as_npz(path), f"{name}.npz", on_click="ignore")
        with st.popover("Link"):
            step = step_of(Cursor(SCREEN, "step"), shown.attack)
            query: dict[str, Any] = {"run": ",".join(r.id for r, _ in shown.models), "epoch": epoch}
            query |= {"image": path.index, "step": step}
            query |= {name: links[name].value for name in ("attack", "pick", "only", "images") if links[name].value}
            if links["threshold"].value:
                query["threshold"] = links["threshold"].value
            here = str(st.context.url).partition("?")[0]
            st.code(f"{here}?{urlencode(query, safe=',/:;=')}", language=None, wrap_lines=True)


with page("Trajectory", "What did the attack do to this image?"):
    main()
