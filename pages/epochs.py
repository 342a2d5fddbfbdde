"""The epochs screen: how FOSC, accuracy and loss moved while it trained, one cursor for all of it."""

from __future__ import annotations

from dataclasses import replace
from html import escape

import streamlit as st

from dynat_core import views
from dynat_core.store.runs import Run
from ui.choose import choose_runs, titles
from ui.details import about_run, results_table
from ui.frame import live, page, screen_of, teaching
from ui.link import Cursor, Switched, carry, choice, told
from ui.live import MOVING, interrupted_banner, moving_line
from ui.scrubber import Prepared, Report, scrubber
from ui.store import health, history, look_again, places, state_of
from ui.words import plain

SCREEN = screen_of("Epochs")
EVERY = 1.5  # seconds between looks at a run that is under way
SPLITS = {"train": "training images", "test": "test images"}
FORMS, KINDS = ("relative", "box", "paper"), ("histogram", "ecdf", "heatmap")


def main() -> None:
    """Ask, load, draw."""
    choosing, images = st.columns([3, 1], vertical_alignment="bottom")
    with choosing:
        runs = choose_runs(SCREEN)
    with images:
        splits = splits_of(runs)
        split = choice(SCREEN, "split", "Images", splits, label_visibility="collapsed", width="stretch")
    for run in runs:
        interrupted_banner(SCREEN, run)
    cursor = Cursor(SCREEN, "epoch")
    last = max(len(history(run)) - 1 for run in runs)
    switches = Switched(SCREEN, "form", "form", FORMS), Switched(SCREEN, "view", "kind", KINDS)
    problem = cursor.read(None if any(state_of(run) in MOVING for run in runs) else last)
    for sentence in filter(None, (problem, *(switch.read() for switch in switches))):
        st.info(plain(sentence))
    scrub(runs, split, cursor, *switches)
    health_notes(runs, cursor)
    results_table(runs)
    if not teaching():
        for run in runs:
            about_run(run)


def splits_of(runs: list[Run]) -> dict[str, str]:
    """The images there are to look at: a network from elsewhere has no training images here."""
    splits = SPLITS if any(run.config.trains_here for run in runs) else {"test": SPLITS["test"]}
    if st.session_state.get(f"{SCREEN}.split") not in splits:
        st.session_state.pop(f"{SCREEN}.split", None)
    return splits


def scrub(runs: list[Run], split: str, cursor: Cursor, form: Switched, kind: Switched) -> None:
    """The picture; while a run is under way it looks for new epochs, and the cursor stays where it is."""
    moving = [run.id for run in runs if state_of(run) in MOVING]

    @live(EVERY if moving else None)
    def picture() -> None:
        if not all(run.folder.exists() for run in runs):  # somebody deleted it meanwhile
            look_again()
            st.rerun()
        if [run.id for run in runs if state_of(run) in MOVING] != moving:
            st.rerun()  # banners and results depend on the states, and polling ends with the last run
        place = places() if moving else {}
        for run in runs:
            if run.id in moving:
                moving_line(SCREEN, run, place.get(run.id))
        token = ",".join(run.id for run in runs)
        form.heard(told("epochs", token))
        kind.heard(told("epochs", token))
        scene = drawn(runs, split, form.value, kind.value)
        start = cursor.goto if cursor.goto is not None or moving else first_place(scene)
        follow = bool(moving) and cursor.goto is None
        with st.container(key="epochs-picture"):
            report = scrubber(
                "epochs", scene, run=token, cursor=start, live=bool(moving),
                follow=follow, jump=cursor.jump,
            )  # fmt: skip
        cursor.heard(report)
        if report.action == "open-selection" and report.selection:
            open_in_trajectory(runs, report)

    picture()


def drawn(runs: list[Run], split: str, form: str, kind: str) -> Prepared:
    """The scene of these runs as they are now; drawn once for everybody who looks at them."""
    names = titles(runs)
    running = tuple(run.state == "running" for run in runs)
    known = tuple((str(run.folder), run.modified, names[run.id]) for run in runs)
    return _drawn(known, running, split, form, kind, runs)


@st.cache_resource(show_spinner=False, max_entries=16)
def _drawn(known: tuple, running: tuple[bool, ...], split: str, form: str, kind: str, _runs: list[Run]) -> Prepared:
    histories = [
        views.NamedHistory(name, history(run), run.config, moves)
        for run, moves, (_, _, name) in zip(_runs, running, known, strict=True)
    ]
    scene = views.epochs(histories, split, form, kind)
    return Prepared(replace(scene, opens="Open in Trajectory" if split == "test" else ""))


def first_place(scene: Prepared) -> int | None:
    """Where the cursor opens: early, while strategies still differ, and with the rest of the way to scrub."""
    return max(1, scene.last // 6) if scene.n > 1 else None


def open_in_trajectory(runs: list[Run], report: Report) -> None:
    """Take the brushed images of the run that has most of them along."""
    picked = report.selection
    assert picked is not None
    first = max(picked.counts, key=lambda k: picked.counts[k], default=0)
    ordered = [runs[first].id, *(run.id for k, run in enumerate(runs) if k != first)][:2]
    low, high = ("" if v is None else f"{v:.6g}" for v in (picked.low, picked.high))
    query = carry(run=ordered, epoch=picked.i, pick=f"{picked.measure},{low},{high}")
    st.switch_page("pages/trajectory.py", query_params=query)


def health_notes(runs: list[Run], cursor: Cursor) -> None:
    """What looks wrong in these runs, where, and what to do."""
    for run in runs:
        for note in health(run):
            key = f"{run.id}-{note.kind}-{note.epoch}"
            with st.container(key=f"note-{key}", horizontal=True, vertical_alignment="center", gap="small", wrap=False):
                what = f"<b>{escape(run.title)}: {escape(note.kind)}.</b>"
                said = f"{what} {escape(note.sentence)} <i>{escape(note.advice)}</i>"
                st.html(f'<p class="dynat-note">{said}</p>', width="stretch")
                words = f"Go to epoch {note.epoch}"
                st.button(words, key=f"goto-{key}", on_click=cursor.to, args=(note.epoch,))


with page("Epochs", "How did FOSC, accuracy and loss move while it trained?"):
    main()
