"""The train screen: settings from a preset or another run, what they would cost here, the start, and the queue."""

from __future__ import annotations

import time
from html import escape
from typing import Any

import streamlit as st

from dynat_core.config import Dynamic, RunConfig
from dynat_core.durations import duration
from dynat_core.errors import RunError
from dynat_core.presets import PRESETS, describe, preset
from dynat_core.store.rerun import command
from dynat_core.views.words import number, percent
from dynat_core.work.questions import Answer
from ui import actions
from ui.access import may_edit, person, why_not
from ui.devices import devices, lines, queue_words
from ui.form import ConfigForm
from ui.frame import guarded, live, page, screen_of, teaching, view_only
from ui.link import BEGUN_WITH, Link, carry
from ui.live import EVERY, MOVING, live_strip, stuck_cards
from ui.paths import asking_plainly, look_at_helper, tab
from ui.store import runs, store, warm_up
from ui.words import plain

SCREEN = screen_of("Train")
FIRST = "quick"
PRESET = f"{SCREEN}.preset"
LAUNCHER = "tab {}"  # browser tabs take turns in the queue, where nobody signs in


def main() -> None:
    """Ask, estimate, start."""
    if view_only():
        st.info("Training needs torch, which is not installed here: run `pip install -r requirements.txt`.")
    else:
        warm_up()
    form = ConfigForm(SCREEN, preset(FIRST))
    left, right = st.columns([8, 4], gap="medium")
    with left:
        choose_start(form)
        if teaching():
            simple_form(form)
        else:
            whole_form(form)
    with right:
        with st.container(border=True, key="launch"):
            launch(form)
        devices_and_queue()
    st.html('<h4 class="dynat-head">Under way</h4>')
    live_strip(SCREEN)
    stuck_cards(SCREEN)


# ------------------------------------------------------------------------------------------------------------- form


def choose_start(form: ConfigForm) -> None:
    """Where the settings come from: a preset, or a run to clone."""
    clone, named = (Link(SCREEN, name) for name in ("clone", "preset"))
    arrived = [link.arrived() for link in (clone, named)]
    # The menu brings the same link again after a visit elsewhere: what was typed since then stays.
    if any(arrived) and (clone.value, named.value) != st.session_state.get(BEGUN_WITH):
        begin(form, clone.value, named.value)
    st.session_state.setdefault(PRESET, st.session_state.get(BEGUN_WITH, (None, FIRST))[1])

    def chosen() -> None:
        name = st.session_state[PRESET]
        if name == st.session_state.get(BEGUN_WITH, (None, FIRST))[1]:  # as it is told after a hurried visit elsewhere
            return
        if name is not None:  # else taken away by hand: what is typed stays
            form.load(preset(name))
            st.session_state.pop(f"{SCREEN}.cloned", None)
            clone.write(None)
        named.write(name)
        st.session_state[BEGUN_WITH] = (clone.value, name)

    names = [name for name in PRESETS if not teaching() or "digits" in name or name == FIRST]
    st.selectbox(
        "Begin with a preset", names, index=None, key=PRESET, on_change=chosen, placeholder="settings of a run",
        format_func=lambda n: f"{n}: {describe(n)}",
    )  # fmt: skip
    cloned = st.session_state.get(f"{SCREEN}.cloned")
    if cloned:
        st.caption(plain(f"These are the settings of {cloned}; change what should be different."))


def begin(form: ConfigForm, clone: str | None, named: str | None) -> None:
    """Fill the form from the run or the preset of a link; a preset counts where both are there."""
    begun = bool(clone) and take_clone(form, clone)
    if named in PRESETS:
        form.load(preset(named))
        st.session_state[PRESET] = named
        st.session_state.pop(f"{SCREEN}.cloned", None)
        begun = True
    elif named:
        st.error(plain(f"There is no preset called {named[:40]!r}; the list below has them all."))
    if begun:
        st.session_state[BEGUN_WITH] = (clone, named)


def take_clone(form: ConfigForm, id: str) -> bool:
    """Fill the form with the settings of a run; False where that cannot be, which is said."""
    try:
        run = store().open(id)
    except RunError as error:
        st.error(plain(error))
        return False
    if not run.config.trains_here:
        st.error(plain(f"{run.id} was not trained here, so it has no settings to begin with; choose another run."))
        return False
    title = f"{run.title}, changed"[:120] if run.config.name else None
    form.load(run.config.model_copy(update={"name": title}))
    st.session_state[f"{SCREEN}.cloned"] = run.title
    st.session_state[PRESET] = None
    return True


def whole_form(form: ConfigForm) -> None:
    """Every setting; what is rarely changed is folded away."""
    form.row(["name", "epochs", "seed"])
    for place, group in zip(st.columns(3), ("data", "model", "threat"), strict=True):
        with place:
            st.html(f'<h4 class="dynat-head">{HEADINGS[group]}</h4>')
            form.group(group, columns=2, only=None if group != "data" else ())
    st.html(f'<h4 class="dynat-head">{HEADINGS["strategy"]}</h4>')
    form.group("strategy", columns=4)
    with st.expander(f"How many images{said_wrong(form, 'data')}"):
        form.group("data", choose=False)
    with st.expander(f"Optimiser{said_wrong(form, 'optimizer')}"):
        form.group("optimizer")
    with st.expander(f"What is recorded{said_wrong(form, 'recording')}"):
        form.group("recording")
    with st.expander(f"Precision and device{said_wrong(form, 'precision', 'device')}"):
        form.row(["precision", "device"], columns=2)


HEADINGS = {
    "data": "Which images?",
    "model": "Which network?",
    "strategy": "How are training examples made?",
    "threat": "What may the attack change?",
}


def simple_form(form: ConfigForm) -> None:
    """Teacher mode: how the examples are made, and for how long."""
    form.row(["epochs"])
    form.group("strategy", columns=2, only=("c_max", "T_control"))


def said_wrong(form: ConfigForm, *groups: str) -> str:
    """A mark for a folded part in which something is wrong."""
    wrong = sum(path.partition(".")[0] in groups for path in form.problems)
    return f" :red[({wrong} to correct)]" if wrong else ""


# ----------------------------------------------------------------------------------------------------------- launch


def launch(form: ConfigForm) -> None:
    """What would be started, what it would cost, and the button."""
    config = form.config
    if config is None:
        wrong = len(form.problems)
        st.html(f'<h4 class="dynat-head">{wrong} setting{"s" * (wrong != 1)} to correct</h4>')
        for sentence in form.problems.values():
            st.error(plain(sentence))
    else:
        st.html('<h4 class="dynat-head">This run</h4>')
        st.text(config.summary())
        estimate(form, config)
    hint = "Needs torch." if view_only() else None
    ready = config is not None and not view_only() and may_edit()
    st.button(
        "Start the run",
        type="primary",
        width="stretch",
        disabled=not ready,
        on_click=launched,
        args=(form,),
        help=why_not(hint),
    )
    begun = st.session_state.get(f"{SCREEN}.begun")
    if begun:
        st.success(f"{begun} was put into the queue.")
        if st.button("Watch it", width="stretch"):
            st.switch_page("pages/epochs.py", query_params=carry(run=begun))
    if config is not None and not teaching():
        box = st.expander("The same from the command line", key=f"{SCREEN}.command", on_change="rerun")
        if box.open:
            box.code(command(config), language="bash", wrap_lines=True)


def devices_and_queue() -> None:
    """What each device does, and where in the queue a new run would stand; looked at again while something moves."""
    moving = any(run.state in MOVING for run in runs())

    @live(EVERY if moving else None)
    def look() -> None:
        found = devices()
        words = [*lines(found), queue_words(found, person() or LAUNCHER.format(tab()))]
        said = "".join(f'<p class="dynat-facts">{escape(sentence)}.</p>' for sentence in words)
        with st.container(key="devices"):
            st.html(f'<h4 class="dynat-head">Devices and queue</h4>{said}')

    look()


def launched(form: ConfigForm) -> None:
    """Put the run into the queue, with what is typed by now, and see that somebody works on it."""
    form.read_again()
    if form.config is None:  # the screen says what to correct
        return
    with guarded():
        st.session_state[f"{SCREEN}.begun"] = actions.launch(form.config, LAUNCHER.format(tab())).id


def estimate(form: ConfigForm, config: RunConfig) -> None:
    """Measured on this device, for these very settings, when asked."""
    key = f"{SCREEN}.estimate"
    settings = config.model_dump(mode="json", exclude={"name"})

    def ask() -> None:
        form.read_again()
        if form.config is not None:  # each press measures anew
            typed = form.config.model_dump(mode="json", exclude={"name"})
            st.session_state[key] = {"config": typed, "asked": time.time()}

    asked = st.session_state.get(key)
    same = asked is not None and asked["config"] == settings
    words = "Estimate the cost" if asked is None or same else "Estimate again for these settings"
    st.button(words, width="stretch", on_click=ask, disabled=view_only(), icon=":material/timer:")
    if asked is None or view_only():
        return
    if not same:
        st.caption("The settings have changed since the last estimate.")
        return
    answer = measured(asked)
    if answer.value is None:
        st.error(plain(answer.error or "The probe gave no answer; ask again."))
        st.session_state.pop(key, None)
        return
    with st.container(key="estimate"):
        show_estimate(form, config, answer.value[0])


def measured(question: dict[str, Any]) -> Answer:
    """A short probe in the analysis helper."""
    looks = {"probe": asking_plainly("probe", question, "probe")}
    return look_at_helper(looks, "training a few batches to see", "estimate")["probe"]


def show_estimate(form: ConfigForm, config: RunConfig, found: dict[str, Any]) -> None:
    """Cost of an epoch and of the whole, and what the threshold would do."""
    bound = "at most " if isinstance(config.strategy, Dynamic) else ""
    device = escape(str(found["device"]).upper())
    gradient = f"{number(1e6 * found['seconds_per_gradient'])} µs a gradient and image"
    st.html(
        f'<p class="dynat-estimate">{bound}<b>{duration(found["seconds_total"])}</b> on {device}</p>'
        f'<p class="dynat-facts">{bound}{number(found["seconds_per_epoch"])} s an epoch of {found["images"]:,} images, '
        f"{gradient}. Measured just now; other work on this machine counts.</p>"
    )
    if isinstance(config.strategy, Dynamic):
        show_threshold(form, config.strategy.c_max, found)


def show_threshold(form: ConfigForm, c_max: float, found: dict[str, Any]) -> None:
    """The share of images that would stop after one step, and a threshold at which a third would."""
    suggested, at = found["suggested_c_max"], found["quantiles"]
    asked = (("0.1", "10 %"), ("0.5", "median"), ("0.9", "90 %"))
    shares = ", ".join(f"{number(at[q])} ({words})" for q, words in asked)
    share = percent(found["stopped_after_one"])
    st.html(
        f'<p class="dynat-estimate">At c_max {number(c_max)}, <b>{share}</b> of the images would stop after the first '
        f'step.</p><p class="dynat-facts">Measured on a network that has just begun to learn: {found["form"]} FOSC '
        f"after one step is {shares}. At {number(suggested)} a third would stop.</p>"
    )

    def use() -> None:
        form.put("strategy.c_max", f"{suggested:g}")

    st.button(f"Use c_max {number(suggested)}", on_click=use, disabled=suggested == c_max)


with page("Train", "What should be trained, and what will it cost here?"):
    main()
