"""The overview screen, and the only entry point: `streamlit run app.py`."""

from __future__ import annotations

import streamlit as st

from dynat_core import views
from dynat_core.store.bookkeeping import label
from dynat_core.store.runs import Run
from ui.cards import run_card, run_line
from ui.choose import DEMO_TRIO
from ui.frame import exists, page, screen_of, teaching
from ui.link import Cursor, carry, train_with
from ui.live import MOVING, STUCK, live_strip, stuck_cards
from ui.reach import say_how_to_reach
from ui.scrubber import scrubber
from ui.store import curves, lost_between, runs, state_of, store, trajectory
from ui.words import plain, strategy_words

SCREEN = screen_of("Overview")
START = 4  # the step at which the picture opens: in the middle of the attack
LISTED = 12


def main() -> None:
    """Draw the screen."""
    found = [run for run in runs() if run.state != "broken"]
    demos = [run for id in DEMO_TRIO for run in found if run.id == id]
    if not runs():
        nothing_yet()
        return
    slope_picture([run for run in demos if curves(run)] or [run for run in found if curves(run)][:1])
    cards(demos or [run for run in found if run.state == "finished"][:3])
    ways_on()
    live_strip(SCREEN)
    stuck_cards(SCREEN)
    above = {run.id for run in demos}  # by id: the store may have been looked at anew meanwhile
    settled = [run for run in runs() if run.id not in above and state_of(run) not in (*MOVING, *STUCK, "broken")]
    everything([run for run in settled if not label(run).archived])


def slope_picture(shown: list[Run]) -> None:
    """How much slope is left after k steps, and one image at the same step."""
    if not shown:
        st.info(
            "No run here keeps the paths of its attacks yet: the digits demos do, and every run with `recording.paths`."
        )
        return
    pair = [run for run in shown if run.config.strategy.name != "unsecured"][:2] or shown[:1]
    kept = {run.id: found for run in pair if (found := curves(run))}
    pictured = next((run for run in pair if run.config.strategy.name == "standard"), pair[0])
    epoch, of_all = kept[pictured.id]
    index = lost_between(of_all, 3, 6)
    index = int(of_all["index"][0]) if index is None else index
    models = [
        views.NamedPaths(strategy_words(run.config), run.config.strategy.name, kept[run.id][1]["relative_fosc"])
        for run in pair
    ]
    scene = views.overview(models, trajectory(pictured, index, epoch), strategy_words(pictured.config))
    cursor = Cursor(SCREEN, "step")
    problem = cursor.read(scene.n - 1)
    if problem:
        st.info(plain(problem))
    with st.container(key="overview-picture"):
        start = START if cursor.goto is None else cursor.goto
        report = scrubber("overview", scene, run=",".join(kept), cursor=start, jump=cursor.jump)
    cursor.heard(report)
    others = [run.id for run in pair if run is not pictured]
    query = carry(run=[pictured.id, *others], image=index, step=report.i if report.i is not None else start)
    if st.button("Open this image", icon=":material/open_in_full:"):
        st.switch_page("pages/trajectory.py", query_params=query)


def cards(shown: list[Run]) -> None:
    """What the runs reached, with what is needed to believe it."""
    for place, run in zip(st.columns(3), shown, strict=False):
        with place, st.container(border=True, height="stretch"):
            st.html(run_card(run))
            with st.container(horizontal=True, gap="small"):
                if st.button("Epochs", key=f"epochs-{run.id}"):
                    st.switch_page("pages/epochs.py", query_params=carry(run=run.id))
                if st.button("Trajectory", key=f"trajectory-{run.id}"):
                    st.switch_page("pages/trajectory.py", query_params=carry(run=run.id))


def ways_on() -> None:
    """The buttons that start something."""
    ways = (
        ("Teach me: 10 min", "pages/learn.py", {"teach": "1"}),
        ("Compare the two runs", "pages/compare.py", {}),
        ("Check my model", "pages/check.py", {}),
        ("Start a run", "pages/train.py", {}),
    )
    with st.container(horizontal=True, gap="small", key="ways"):
        for words, path, query in ways:
            if exists(path) and not (teaching() and path == "pages/check.py"):
                kind = "primary" if path == "pages/train.py" else "secondary"
                if st.button(words, type=kind, key=f"way-{path}"):
                    st.switch_page(path, query_params={**carry(), **query})


def everything(others: list[Run]) -> None:
    """Every other run, newest first."""
    if not others or teaching():
        return
    st.html('<h4 class="dynat-head">Other runs</h4>')
    for run in others[:LISTED]:
        with st.container(key=f"line-{run.id}", horizontal=True, vertical_alignment="center", gap="small", wrap=False):
            st.html(f'<span class="dynat-line">{run_line(run)}</span>', width="stretch")
            if run.state != "broken":
                if st.button("Open", key=f"open-{run.id}"):
                    st.switch_page("pages/epochs.py", query_params=carry(run=run.id))
                if run.config.trains_here and st.button("Clone and edit", key=f"clone-{run.id}"):
                    train_with(clone=run.id)
    more = f", {len(others) - LISTED} older ones among them" if len(others) > LISTED else ""
    st.page_link("pages/runs.py", label=f"All runs{more}: find, name, tag, archive, delete")


def nothing_yet() -> None:
    """An empty store: what Dynat shows, and how to get something to show."""
    st.html(
        '<div class="dynat-empty"><h3>Nothing has been trained here yet</h3>'
        "<p>Dynat shows what an attack does to an image step by step, whether it has finished, and what training on it "
        "does to a network, epoch by epoch. For that it needs a run.</p></div>"
    )
    st.markdown("The finished demo runs, about five minutes on two cores for those on digits:")
    st.code("make demos", language="bash")
    st.markdown("Or a first run of your own, a few seconds long:")
    st.code("python -m dynat_core train --preset quick", language="bash")
    if st.button("Start a run", type="primary"):
        st.switch_page("pages/train.py", query_params=carry())
    st.caption(plain(f"Runs are looked for in {store().folder.absolute()}; DYNAT_STORE names another folder."))


say_how_to_reach()
with page("Overview", "See whether an attack has finished, and what training on it does."):
    main()
