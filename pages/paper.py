"""The paper screen: each table and figure of Wang et al. 2019, published beside measured, and what has not been run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import streamlit as st

from dynat_core.paper import reproduce, results
from dynat_core.paper.paper_runs import PARTS
from dynat_core.paper.published import CAUTIONS, SOURCE, TABLES
from dynat_core.views import paper as picture
from dynat_core.views import paper_words as told
from dynat_core.views.words import number
from ui import stills
from ui.frame import page, screen_of
from ui.link import choice
from ui.stills import head, table
from ui.store import store

SCREEN = screen_of("Paper")
SHOWN = {"tables": "Tables", "1": "Figure 1", "2": "Figure 2", "3": "Figure 3", "4": "Figure 4", "ablation": "Ablation"}
PARTS_OF = {
    "tables": ("table1", "table2", "table3"),
    "1": ("figure1a", "figure1b"),
    "2": ("figure2",),
    "3": ("figure3",),
    "4": ("figure4",),
    "ablation": ("ablation",),
}
FORMS = {"paper": "paper form", "box": "box form"}
SURROGATES = (
    "Black-box examples of the paper come from another Standard network (MNIST) and a ResNet-50 (CIFAR-10; here a "
    "PreAct-ResNet-18)."
)
WEIGHTED = (
    "The authors' code weighs each loss by itself from the second epoch on, which the paper does not say; gains of the "
    "released code cannot be credited to FOSC alone. Standard stops nothing, so it has no stop form."
)
WORST = "Worst case: an image counts only if it stands under every attack of one start on the ladder."
SEVERAL = (
    "Seven questions are asked of the same runs and no interval is widened for that: one that misses 0 by itself may "
    "be chance."
)
READINGS = {  # what the paper reads off its figures; from its slides
    "figure1a": "Published reading: lower FOSC, lower accuracy, higher loss.",
    "figure1b": "Published reading: FOSC goes to 0 for all while losses settle over a wide range.",
    "figure2": "Published reading: eps/2 and eps/4 best; FOSC concentrates at 0 there; loss distributions look alike.",
    "figure3": "Published reading: Standard already trains on converged examples early.",
    "figure4": "Published reading: Dynamic is more concentrated within an epoch and better separated between epochs.",
}


def main() -> None:
    """Ask, load, draw."""
    asked = st.columns([7, 3.4, 3.2], gap="medium", vertical_alignment="bottom")
    with asked[0]:
        shown = choice(SCREEN, "show", "Show", SHOWN, "part")
    with asked[1]:
        data = choice(SCREEN, "data", "Data", {name: told.DATA_WORDS[name] for name in ("mnist", "cifar10", "digits")},
                      "data set")  # fmt: skip
    form = "paper"
    if shown in "1234":
        with asked[2]:
            form = choice(SCREEN, "form", "FOSC", FORMS)
    found, left_out = loaded(str(store().folder), stamp())
    said(left_out)
    for part in PARTS_OF[shown]:
        if part == "table3" and data != "cifar10":
            continue
        head(TABLES[f"{part}-{data}"].title if f"{part}-{data}" in TABLES else PARTS[part][1])
        here = [one for one in found if one["part"] == part and one["data"] == data]
        if part.startswith("table"):
            tabulated(part, data, here)
        elif part == "ablation":
            ablation(data, here)
        else:
            figure(part, data, form, here, found)
    if shown == "tables":
        head("Read with care")
        st.html('<ul class="dynat-line">' + "".join(f"<li>{escape(line)}</li>" for line in CAUTIONS) + "</ul>")
    st.html(f'<p class="dynat-quiet">{escape(f"Published numbers: {SOURCE}, slides. {SURROGATES}")}</p>')


def stamp() -> float:
    """Changes when a result is written."""
    folder = store().folder / reproduce.FOLDER
    return max((path.stat().st_mtime for path in folder.glob("*.json")), default=0.0) if folder.is_dir() else 0.0


@st.cache_data(show_spinner=False, max_entries=4)
def loaded(folder: str, changed: float) -> tuple[list[dict[str, Any]], list[str]]:
    """What was reproduced in this store and what is shipped, and sentences about files that are left out."""
    places = store().folder / reproduce.FOLDER, reproduce.SHIPPED
    return results.results(*places), results.left_out(*places)


# ---------------------------------------------------------------------------------------------------------- the parts


def tabulated(part: str, data: str, here: Sequence[dict[str, Any]]) -> None:
    """A table: published, and beside it what was measured."""
    result = here[0] if here else None
    heads, rows = told.table(part, data, result)
    if rows:
        table(heads, rows)
    if result is None:
        unrun(part, data)
        return
    facts([told.setup_words(result), *([told.order_words(result)] if part != "table2" else [])])
    if part == "table2":
        facts([f"Examples were made on: {result['surrogate']}."])
    said(told.disagreements(part, data, result))
    provenance(result, here)


def figure(part: str, data: str, form: str, here: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> None:
    """A figure from the runs there are, and what it comes down to on every data set."""
    facts([READINGS[part]])
    said(told.directions(found, part, data, form))
    if not here:
        unrun(part, data)
        return
    result = here[0]
    st.html(f'<div class="dynat-line"><b>Measured, {escape(told.run_words(result))}</b></div>')
    said(told.figure_words(result, form))
    views = picture.drawn(result, form)
    wide = 3 if len(views) % 3 == 0 else 2
    for first in range(0, len(views), wide):
        for place, view in zip(st.columns(wide), views[first : first + wide], strict=False):
            with place:
                stills.picture(view, f"{SCREEN}.{view.id}")
    facts([f"The recorded attack: {result['attack']}."] if "attack" in result else [])
    provenance(result, here)


def ablation(data: str, here: Sequence[dict[str, Any]]) -> None:
    """Does Dynamic's gain survive without the weighted loss, and at equal gradients?"""
    facts([WEIGHTED])
    if not here:
        unrun("ablation", data)
        return
    result = here[0]
    st.html(f'<div class="dynat-line"><b>Measured, {escape(told.run_words(result))}</b></div>')
    said([told.answer_words(answer) for answer in result["answers"]])
    table(*told.ablation_table(result))
    facts([told.setup_words(result), told.order_words(result), WORST, SEVERAL])
    provenance(result, here)


def unrun(part: str, data: str) -> None:
    """What has not been run, and the command that runs it."""
    st.html(f'<p class="dynat-said">{escape(told.missing_words(part, data))}</p>')
    st.code(told.command(part, data), language="sh")


def provenance(result: dict[str, Any], here: Sequence[dict[str, Any]]) -> None:
    """Which runs it rests on, the command that runs it again, and the file."""
    name = result["target"]
    many = len(result["runs"])
    with st.expander(f"What was run: {many} run{'s' * (many != 1)}"):
        asked = (result[key] for key in ("part", "data", "scale", "seeds", "n"))
        st.code(told.command(*asked), language="sh")
        rows = [
            [run["id"], str(run["row"]), str(run["seed"]), str(run["best_epoch"]), number(run["gradients"], 3),
             f"{run['device_name'] or run['device']}, torch {(run['versions'] or {}).get('torch', '?')}",
             str(run["commit"] or "?")[:12]]
            for run in result["runs"]
        ]  # fmt: skip
        table(["run", "training", "seed", "best epoch", "gradients an image", "device", "commit"], rows)
        if len(here) > 1:
            facts([f"Also there: {'; '.join(told.run_words(one) for one in here[1:])}."])
        content = json.dumps(result, indent=1)
        st.download_button("Results (JSON)", content, f"{name}.json", key=f"{SCREEN}.keep.{name}", on_click="ignore")


# ------------------------------------------------------------------------------------------------------------- markup


def said(lines: Sequence[str]) -> None:
    """What a person should read first."""
    for line in lines:
        st.html(f'<p class="dynat-said">{escape(line)}</p>')


def facts(lines: Sequence[str]) -> None:
    """What stands beside numbers."""
    for line in lines:
        st.html(f'<p class="dynat-facts">{escape(line)}</p>')


with page("Paper", "Does the paper reproduce? Published beside measured."):
    main()
