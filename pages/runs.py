"""The list of all runs: find them, name them, tag them, put them aside, delete them and bring them back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from dynat_core.errors import DynatError
from dynat_core.store import bookkeeping, disk
from dynat_core.store.runs import Run
from ui import actions
from ui.access import may_edit, why_not
from ui.choose import empty_store
from ui.frame import exists, page, screen_of
from ui.link import Link, carry, train_with, unknown
from ui.room import room
from ui.run_list import ORDERS, SIZED, Row, Wish, asked, rows, table
from ui.stills import fitted
from ui.store import look_again, look_at_sizes_again, runs, store
from ui.words import plain

SCREEN = screen_of("All runs")
HEIGHT, ROW = 360, 29  # pixels, the height at most
TABLE = f"{SCREEN}.table"
Step = tuple[Callable[[], object], Callable[[], object] | None]  # an action and the way back, None where there is none
# The rows ticked by now. Callbacks ask, for they run before the script, which may not have seen the last tick yet.
Ticked = Callable[[], list[Row]]


@dataclass
class Done:
    """What the last action did, what went wrong with it, and how to take it back. It stays until the next one."""

    said: str = ""
    problems: list[str] = field(default_factory=list)
    undo: list[Callable[[], object]] = field(default_factory=list)


def main() -> None:
    """Ask, load, draw."""
    every = rows(runs())
    if not every and not bookkeeping.deleted(store()):
        empty_store()
    wish = ask(every)
    last_action()
    found = asked(every, wish)
    count(found, every, wish)  # above the table, whose own toolbar would otherwise lie over the filters
    ticked = choose(found, sized=len(found) <= SIZED or wish.by == "size")
    if ticked():
        act(ticked)
    trash()


# ---------------------------------------------------------------------------------------------------------- asking


def ask(every: Sequence[Row]) -> Wish:
    """The filters and the order, all of them in the query string."""
    find, state, strategy, data, tag, order, archived = st.columns(
        [2.3, 1.2, 1.2, 1.2, 1.2, 1.5, 1.3], gap="small", vertical_alignment="bottom"
    )
    with find:
        text = typed("find", "Find", "title, id, tag or note")
    problems: list[str | None] = []
    with state:
        a_state = one_of("state", "State", [row.state for row in every], problems)
    with strategy:
        a_strategy = one_of("strategy", "Strategy", [row.strategy for row in every], problems)
    with data:
        a_set = one_of("data", "Data", [row.data for row in every], problems)
    with tag:
        a_tag = one_of("tag", "Tag", [one for row in every for one in row.label.tags], problems)
    with order:
        by = one_of("by", "Order", list(ORDERS), problems, any_of=False, words=ORDERS)
    with archived:
        too = switched("archived", "archived too", problems)
    for sentence in filter(None, problems):
        st.info(plain(sentence))
    return Wish(text, a_state, a_strategy, a_set, a_tag, too, by)


def linked(name: str) -> tuple[Link, bool]:
    """A value of this screen, as the query string has it now, and whether it has just come from there."""
    link = Link(SCREEN, name)
    return link, link.arrived()


def typed(name: str, label: str, hint: str) -> str:
    """A text to search for."""
    (link, _), key = linked(name), f"{SCREEN}.{name}"
    wanted = (link.value or "")[:200]
    if st.session_state.get(key, "").strip() != wanted:  # else left alone: somebody may be typing on meanwhile
        st.session_state[key] = wanted
    st.text_input(label, key=key, placeholder=hint, on_change=lambda: link.write(st.session_state[key].strip() or None))
    return st.session_state[key]


def one_of(
    name: str, label: str, there: list[str], problems: list[str | None], any_of: bool = True,
    words: dict[str, str] | None = None,
) -> str:  # fmt: skip
    """One of the values that are there, with how many runs have it; or any. problems: gets a sentence when the link
    asks for what is not there."""
    options = ["", *sorted({value for value in there if value})] if any_of else there
    (link, came), key = linked(name), f"{SCREEN}.{name}"
    if came:
        problems.append(unknown(link, [value for value in options if value], label.lower()))
    st.session_state[key] = link.value if link.value in options else options[0]

    def said(value: str) -> str:
        return words[value] if words else f"{value} ({there.count(value)})" if value else "any"

    st.selectbox(
        label, options, format_func=said, key=key,
        on_change=lambda: link.write(None if st.session_state[key] == options[0] else st.session_state[key]),
    )  # fmt: skip
    return st.session_state[key]


def switched(name: str, label: str, problems: list[str | None]) -> bool:
    """A toggle that is off unless the link says 1. problems: gets a sentence when it says something else."""
    (link, came), key = linked(name), f"{SCREEN}.{name}"
    if came:
        problems.append(unknown(link, ["1"]))
    st.session_state[key] = link.value == "1"
    st.toggle(label, key=key, on_change=lambda: link.write("1" if st.session_state[key] else None))
    return st.session_state[key]


def choose(found: list[Row], sized: bool) -> Ticked:
    """The table; what is ticked in it is chosen."""
    if not found:
        st.info("No run is like that: change the filters above, or look among the archived ones.")
        return list
    shown = table(found, sized)
    times = st.session_state.setdefault(f"{SCREEN}.times", 0)  # an action that did something unticks everything
    key = f"{TABLE}.{times}.{hash(tuple(row.run.id for row in found)) & 0xFFFFFFFF}"
    wide = {"title": 200, "state": 84, "strategy": 92, "data": 84, "epoch": 74, "clean %": 66, "robust %": 72,
            "95 % interval": 100, "images": 64, "MB": 56, "attack": 190, "note": 200, "tags": 120,
            "by": 160, "id": 240}  # fmt: skip
    config: dict[str, Any] = {name: st.column_config.Column(width=width) for name, width in wide.items()}
    for name in ("clean %", "robust %", "MB"):
        config[name] = st.column_config.NumberColumn(width=wide[name], format="%.1f")
    config["made"] = st.column_config.DatetimeColumn(format="distance", width=100)
    st.dataframe(
        shown, key=key, on_select="rerun", selection_mode="multi-row", hide_index=True,
        height=fitted(len(found), HEIGHT, ROW), row_height=ROW, column_config=config, placeholder="–",
    )  # fmt: skip
    st.caption("Robust under the attack beside it, 95 % intervals (Wilson). Whether to believe it: Check a model.")
    return lambda: [found[k] for k in st.session_state[key]["selection"]["rows"] if k < len(found)]


def count(found: Sequence[Row], every: Sequence[Row], wish: Wish) -> None:
    """How many are shown, and how to choose among them."""
    hidden = 0 if wish.archived else sum(row.label.archived for row in every)
    words = f"{len(found):,} of {len(every):,} runs" + (f", {hidden} archived" if hidden else "")
    st.caption(f"{words}. Tick rows to name, tag, archive or delete them; by keyboard: arrow keys, then Shift+Space.")


# ---------------------------------------------------------------------------------------------------------- actions


def act(ticked: Ticked) -> None:
    """What can be done with the chosen runs."""
    chosen = ticked()
    with st.container(border=True, key="act"):
        if len(chosen) == 1:
            edit(chosen[0])
        else:
            st.markdown(f"**{len(chosen)} runs chosen**")
            with st.form("tags-of-many", border=False):
                text, button = st.columns([4, 1], vertical_alignment="bottom")
                text.text_input("Add tags", key=f"{SCREEN}.add-tags", placeholder="several with commas between them")
                button.form_submit_button(
                    "Add tags", on_click=add_tags, args=(ticked,), disabled=not may_edit(), help=why_not()
                )
        how: dict[str, Any] = {"disabled": not may_edit(), "help": why_not()}
        with st.container(horizontal=True, gap="small"):
            ways(chosen)
            if not all(row.label.archived for row in chosen):
                st.button("Archive", on_click=archive, args=(ticked, True), key="archive", **how)
            if any(row.label.archived for row in chosen):
                words = "Bring back from the archive"
                st.button(words, on_click=archive, args=(ticked, False), key="unarchive", **how)
            if any(row.state != "broken" for row in chosen):
                room(lambda: [row.run for row in ticked() if row.state != "broken"], SCREEN, prune)
            st.button("Delete", on_click=delete, args=(ticked,), key="delete", icon=":material/delete:", **how)


def ways(chosen: list[Row]) -> None:
    """Buttons to the screens that show these runs."""
    ids = [row.run.id for row in chosen if row.state != "broken"]
    places = [("Epochs", "pages/epochs.py", 4)]
    places += [("Trajectory", "pages/trajectory.py", 2)]
    places += [("Compare", "pages/compare.py", 6)] if len(ids) > 1 else []
    for words, path, most in places:
        if ids and exists(path) and st.button(words, key=f"way-{words}"):
            st.switch_page(path, query_params=carry(run=ids[:most]))
    if len(ids) == 1 and chosen[0].run.config.trains_here and st.button("Clone and edit", key="way-clone"):
        train_with(clone=ids[0])


def edit(row: Row) -> None:
    """Title, tags and note of one run."""
    run, old, key = row.run, row.label, f"{SCREEN}.edit.{row.run.id}"
    usual = run.id if row.state == "broken" else run.config.title()
    if f"{key}.title" not in st.session_state:  # it opens now; Streamlit forgets the fields once they are not drawn
        fields = {"title": old.title or "", "tags": ", ".join(old.tags), "note": old.note, "opened": old}
        st.session_state.update({f"{key}.{name}": value for name, value in fields.items()})
    with st.form(f"edit-{run.id}", border=False):
        title, tags, button = st.columns([3, 3, 1], vertical_alignment="bottom")
        title.text_input("Title", key=f"{key}.title", placeholder=usual, max_chars=bookkeeping.TITLE)
        tags.text_input("Tags", key=f"{key}.tags", placeholder="several with commas between them")
        st.text_area("Note", key=f"{key}.note", height=68, max_chars=bookkeeping.NOTE)
        button.form_submit_button(
            "Save", type="primary", on_click=save, args=(run, key), disabled=not may_edit(), help=why_not()
        )


def save(run: Run, key: str) -> None:
    """Write what was changed in the form, and nothing else: somebody else may have written meanwhile."""
    old: bookkeeping.Label = st.session_state[f"{key}.opened"]
    title, note = st.session_state[f"{key}.title"], st.session_state[f"{key}.note"]
    wanted = _tags(st.session_state[f"{key}.tags"])
    changes = {
        "title": title if title != (old.title or "") else None,
        "note": note if note != old.note else None,
        "add": [one for one in wanted if one not in old.tags],
        "remove": [one for one in old.tags if one not in wanted],
    }
    finish(f"{run.id} is saved.", [_labelled(run, changes)])


def add_tags(ticked: Ticked) -> None:
    """Give all of them the tags that are typed."""
    chosen, tags = ticked(), _tags(st.session_state[f"{SCREEN}.add-tags"])
    if tags:
        said = f"{_many(len(chosen))} tagged {', '.join(tags)}."
        finish(said, [_labelled(row.run, {"add": tags}) for row in chosen])


def _tags(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _labelled(run: Run, changes: dict[str, Any]) -> Step:
    """Change what is written about a run, and the way back to what stood there right before."""
    labels: list[bookkeeping.Label] = []
    return lambda: labels.extend(actions.edit(run, **changes)), lambda: actions.take_back(run, *labels)


def archive(ticked: Ticked, away: bool) -> None:
    """Take them off the lists, or put them back."""
    chosen = [row for row in ticked() if row.label.archived != away]

    def step(run: Run) -> Step:
        return lambda: actions.archive(run, away), lambda: actions.archive(run, not away)

    said = "archived" if away else "back on the lists"
    finish(f"{_many(len(chosen))} {said}.", [step(row.run) for row in chosen])


def delete(ticked: Ticked) -> None:
    """Move them into the trash."""
    chosen = ticked()

    def step(run: Run) -> Step:
        names: list[str] = []
        return lambda: names.append(actions.delete(run)), lambda: actions.restore(names[0])

    finish(f"{_many(len(chosen))} deleted.", [step(row.run) for row in chosen])


def prune(runs: Sequence[Run], every: int | None, tables: bool) -> None:
    """Remove what nobody needs of these runs."""

    def step(run: Run) -> Step:
        return lambda: freed.append(actions.prune(run, every, tables)), None

    freed: list[int] = []
    finish(f"{_many(len(runs))} pruned.", [step(run) for run in runs])
    done: Done = st.session_state[f"{SCREEN}.done"]
    done.said += f" {disk.words(sum(freed))} freed." if done.said else ""
    look_at_sizes_again()


def finish(said: str, steps: Sequence[Step]) -> None:
    """Do (action, way back) one by one; what one of them refuses is said, and the others are done."""
    done = Done()
    for action, back in steps:
        try:
            action()
        except DynatError as error:
            done.problems.append(str(error))
            continue
        done.said = said
        if back is not None:
            done.undo.append(back)
    if done.problems and done.said:
        done.said = f"{said} {len(done.problems)} of {len(steps)} not, see above."
    st.session_state[f"{SCREEN}.done"] = done
    if done.said:  # where nothing was done the ticks stay, and with them what was typed
        st.session_state[f"{SCREEN}.times"] = st.session_state.get(f"{SCREEN}.times", 0) + 1
    look_again()


def last_action() -> None:
    """What was done last, and [Undo]."""
    done: Done | None = st.session_state.get(f"{SCREEN}.done")
    if done is None:
        return
    for problem in done.problems:
        st.error(plain(problem))
    if done.said:
        with st.container(key="undo", horizontal=True, vertical_alignment="center", gap="small", border=True):
            st.markdown(plain(done.said))
            if done.undo:
                dead = not may_edit()
                st.button("Undo", on_click=undo, key="undo-button", icon=":material/undo:", disabled=dead)


def undo() -> None:
    """Take the last action back: the last by now, which the script may not have drawn yet; once, however often it is
    pressed."""
    done: Done = st.session_state[f"{SCREEN}.done"]
    if done.undo:
        finish("Taken back.", [(back, None) for back in reversed(done.undo)])


def _many(n: int) -> str:
    return "1 run" if n == 1 else f"{n} runs"


# ------------------------------------------------------------------------------------------------------------ trash


def trash() -> None:
    """What was deleted, each with [Restore], and a way to remove what is old for good."""
    found = bookkeeping.deleted(store())
    if not found:
        return
    with st.expander(f"Deleted runs ({len(found)})", icon=":material/delete:"):
        for entry in found[:20]:
            with st.container(key=f"gone-{entry.name}", horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(plain(f"{entry.title}, {entry.id}, deleted {entry.since:%-d %b %Y %H:%M} UTC"))
                st.button(
                    "Restore", key=f"restore-{entry.name}", on_click=bring_back, args=(entry.name,),
                    disabled=not may_edit(), help=why_not(),
                )  # fmt: skip
        if len(found) > 20:
            st.caption(f'{len(found) - 20} more: "python -m dynat_core restore" lists all.')
        words = f"Remove for good what was deleted more than {bookkeeping.DAYS} days ago"
        st.button(words, on_click=empty, key="empty", disabled=not may_edit(), help=why_not())


def bring_back(name: str) -> None:
    """Put one back out of the trash."""
    finish("1 run is back.", [(lambda: actions.restore(name), None)])


def empty() -> None:
    """Remove what is old for good; there is no way back from this one."""
    finish("The trash is emptied of what is old.", [(actions.empty_trash, None)])


with page("All runs", "Which runs are there, and what became of them?"):
    main()
