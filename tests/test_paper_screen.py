"""The paper screen without a browser: published beside measured, reduced runs marked, what is not run and how to."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dynat_core.paper import reproduce, results
from dynat_core.paper.paper_runs import paper_eps
from dynat_core.paper.published import CAUTIONS, TABLES
from dynat_core.statistics import score_difference
from dynat_core.views import paper as picture
from dynat_core.views import paper_words as told
from tests.reproductions import everything
from ui import store

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = reproduce.SHIPPED


@pytest.fixture(autouse=True)
def unshipped(monkeypatch, tmp_path):
    """Nothing is shipped, so that the screens show what the test has made."""
    monkeypatch.setattr(reproduce, "SHIPPED", tmp_path / "nowhere")


@pytest.fixture
def reproduced(monkeypatch) -> Path:
    """A store in which everything was reproduced on the digits, in short."""
    monkeypatch.setenv("DYNAT_STORE", str(everything()))
    store.look_again()
    return everything()


@pytest.fixture
def nothing(tmp_path, monkeypatch) -> Path:
    """A store without any result."""
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path / "store"))
    store.look_again()
    return tmp_path / "store"


def kept(part: str) -> dict[str, Any]:
    """The content of a result on the digits, made in short."""
    return json.loads(next((everything() / reproduce.FOLDER).glob(f"{part}-*.json")).read_text())


def as_if(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The same numbers as if they came from elsewhere: of other data at their eps, of more seeds, of another scale."""
    changed = json.loads(json.dumps(content | changes))
    if "data" in changes:
        changed |= {"target": f"{changed['part']}-{changes['data']}", "eps": paper_eps(changes["data"])}
        for run in changed["runs"]:
            run["config"]["data"], run["config"]["threat"]["eps"] = {"name": changes["data"]}, changed["eps"]
    return changed


@pytest.fixture
def put(nothing) -> Callable[[dict[str, Any]], Path]:
    """put(content) -> the file in the store's results that has this content."""

    def write(content: dict[str, Any]) -> Path:
        path = (
            nothing / reproduce.FOLDER / f"{content['target']}-scale{content['scale']:g}-seeds{content['seeds']}.json"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return path

    return write


def show(**query: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    app.query_params.clear()
    for name, value in query.items():
        app.query_params[name] = value
    app.switch_page("pages/paper.py").run()
    assert not app.exception
    assert not [e.value for e in app.error]
    return app


def markup(app: AppTest) -> str:
    return "\n".join(str(box.body) for box in app.get("html"))


def said(app: AppTest) -> str:
    return unescape(re.sub(r"<[^>]+>", " ", markup(app)))


def cells(app: AppTest) -> list[list[str]]:
    """The rows of every table on the screen."""
    rows = re.findall(r"<tr>(.*?)</tr>", markup(app), re.DOTALL)
    return [[unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", row, re.DOTALL)] for row in rows]


@pytest.mark.parametrize("data", ["mnist", "cifar10"])
def test_every_published_number_stands_in_its_row_with_its_column(nothing, data):
    app = show(data=data)
    heads = [re.findall(r"<th>(.*?)</th>", row) for row in re.findall(r"<thead>(.*?)</thead>", markup(app), re.DOTALL)]
    tables = [table for name, table in TABLES.items() if name.endswith(data)]
    rows = [row for row in cells(app) if row and row[-1] == "published"]
    wanted = [[f"{text} %" for text in values] for table in tables for values in table.rows.values()]
    assert [row[1:-1] for row in rows] == wanted
    assert [unescape(" ".join(head)) for head in heads] == [
        " ".join(["defence", *(told.COLUMNS[c][0] for c in table.columns), "whose numbers"]) for table in tables
    ]
    words = said(app)
    for caution in CAUTIONS:
        assert caution in words
    if data == "cifar10":
        assert any(row[0] == "Standard (Madry's)" for row in rows)


@pytest.mark.parametrize("shown", ["tables", "1", "2", "3", "4", "ablation"])
def test_what_was_not_run_is_said_with_the_command_that_runs_it(nothing, shown):
    app = show(show=shown, data="cifar10")
    commands = [code.value for code in app.code]
    assert commands and all(command.startswith("python -m dynat_core reproduce ") for command in commands)
    assert said(app).count("Nothing has been run for this yet on CIFAR-10") == len(commands)
    from dynat_core.__main__ import _parser
    from dynat_core.paper.paper_runs import target

    for command in commands:
        arguments = _parser().parse_args(command.split()[3:])
        assert target(arguments.target, arguments.data, arguments.scale, arguments.seeds).data == "cifar10"
    assert not app.get("plotly_chart")


@pytest.mark.parametrize("shown, charts", [("1", 4), ("2", 6), ("3", 3), ("4", 3)])
@pytest.mark.parametrize("form", ["paper", "box"])
def test_each_figure_is_drawn_from_runs_and_says_how_reduced_it_is(reproduced, shown, charts, form):
    app = show(show=shown, data="digits", form=form)
    assert len(app.get("plotly_chart")) == charts
    assert "Measured, reduced: 5 of 30 epochs" in said(app) and "Published reading:" in said(app)


def test_measured_rows_carry_the_reduction_in_the_same_cell_type_as_the_number(reproduced):
    content = kept("table1")
    heads, rows = told.table("table1", "digits", content)
    assert heads[-1] == "whose numbers" and len(rows) == 5
    for row in rows:
        assert row[-1].startswith("measured, reduced: 5 of 30 epochs") and row[-1].endswith("2 training seeds")
        assert len(row) == len(heads)
    shares = [c / n for c, n in content["rows"]["dynamic"]["pgd-20"]]
    mean, least, most = (100 * v for v in (sum(shares) / 2, min(shares), max(shares)))
    assert rows[-1][heads.index("PGD-20")] == f"{mean:.1f} % ({least:.1f} to {most:.1f})"
    css = (ROOT / "ui" / "theme.css").read_text()
    assert re.search(r"\.dynat-table \{[^}]*font-size", css) and not re.search(
        r"\.dynat-table td[^{]*\{[^}]*font-size", css
    )


def test_disagreement_is_said_whichever_way_it_falls():
    published = {"unsecured": [9920, 1404, 0, 0, 0], "standard": [9761, 9471, 9121, 9062, 9103],
                 "curriculum": [9862, 9551, 9124, 9065, 9112], "dynamic": [9796, 9534, 9163, 9127, 9147]}  # fmt: skip
    rungs = ["clean", "fgsm", "pgd-10", "pgd-20", "cw-30"]
    rows = {
        row: {rung: [[v, 10_000]] for rung, v in zip(rungs, values, strict=True)} for row, values in published.items()
    }
    same = told.disagreements("table1", "mnist", {"rows": rows})
    assert len(same) == 5 and all("the same order was measured" in line for line in same)
    rows["dynamic"]["pgd-20"] = [[5000, 10_000]]
    line = told.disagreements("table1", "mnist", {"rows": rows})[3]
    assert "published Dynamic > Curriculum > Standard; measured Curriculum > Standard > Dynamic" in line
    assert line.endswith("Dynamic is furthest away, −41.3 points.")


def test_an_order_within_chance_is_said_to_be_one():
    rows = {"standard": [[912, 1000]], "curriculum": [[788, 1000]], "dynamic": [[896, 1000]]}
    (line,) = told.disagreements("table1", "mnist", {"rows": {row: {"pgd-20": of} for row, of in rows.items()}})
    assert "measured Standard > Dynamic > Curriculum, but Standard and Dynamic are not told apart;" in line
    rows["curriculum"] = [[890, 1000]]
    (line,) = told.disagreements("table1", "mnist", {"rows": {row: {"pgd-20": of} for row, of in rows.items()}})
    assert "but neither Standard and Dynamic nor Dynamic and Curriculum are told apart;" in line
    rows["curriculum"] = rows["standard"]
    (line,) = told.disagreements("table1", "mnist", {"rows": {row: {"pgd-20": of} for row, of in rows.items()}})
    assert "measured Standard = Curriculum > Dynamic, but neither Standard and Curriculum nor Curriculum and" in line
    # over seeds the same images are the same luck for both
    assert told.told_apart([[900, 1000], [890, 1000], [880, 1000]], [[897, 1000], [886, 1000], [877, 1000]])
    assert not told.told_apart([[900, 1000], [890, 1000], [880, 1000]], [[880, 1000], [891, 1000], [902, 1000]])


@pytest.mark.parametrize(
    "a, n, b, m, low, high",
    [(56, 70, 48, 80, 0.0524, 0.3339), (9, 10, 3, 10, 0.1705, 0.8090), (6, 7, 2, 7, 0.0582, 0.8062),
     (5, 56, 0, 29, -0.0381, 0.1926), (0, 10, 0, 20, -0.1611, 0.2775), (10, 10, 0, 20, 0.6791, 1.0)],
)  # fmt: skip
def test_the_interval_of_two_shares_is_that_of_newcombes_table(a, n, b, m, low, high):
    assert score_difference(a, n, b, m) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    "low, high, words",
    [(0.01, 0.05, "a gain beyond"), (-0.05, -0.01, "a loss beyond"), (-0.01, 0.03, "not told apart"),
     (None, None, "one seed says nothing")],
)  # fmt: skip
def test_an_answer_of_the_ablation_is_printed_whichever_way_it_falls(low, high, words):
    answer = {"question": "all of it", "mean": 0.02, "low": low, "high": high, "seeds": 3}
    assert words in told.answer_words(answer) and told.answer_words(answer).startswith("All of it: +2.0")


def test_the_ablation_stands_with_its_table_and_every_answer(reproduced):
    app = show(show="ablation", data="digits")
    rows = [row for row in cells(app) if len(row) == 6]
    assert len(rows) == 7 and rows[0][0] == "Standard, CE"
    assert said(app).count("points of the worst case") == 7


def test_a_damaged_result_is_said_and_markup_in_one_is_text(put):
    path = put(as_if(kept("table1"), data="mnist", reduced="<img src=x onerror=alert(1)>"))
    (path.parent / "broken.json").write_text("{")
    app = show(data="mnist")
    assert "<img src=x" not in markup(app) and "<img src=x" in unescape(markup(app))
    assert 'broken.json cannot be read; delete it and run its "reproduce" again.' in said(app)


def test_of_three_and_five_seeds_the_five_are_shown_and_the_three_are_named(put):
    three = as_if(kept("table1"), scale=1.0, reduced=None, epochs=30)
    five = json.loads(json.dumps(three)) | {"seeds": 5}
    for row in five["rows"].values():
        for rung in row:
            row[rung] = [[k, 40] for k in (30, 31, 32, 33, 34)]
    put(three)
    put(five)
    app = show(data="digits")
    rows = [row for row in cells(app) if row and row[-1].startswith("measured")]
    assert len(rows) == 5 and all(row[-1].endswith("5 training seeds") for row in rows)
    assert rows[0][1] == "80.0 % (75.0 to 85.0)"
    assert "Also there: full length: 30 epochs, 40 test images, 2 training seeds." in said(app)
    # fewer seeds at full length go before more of a part of it
    put(as_if(five, scale=0.5, reduced="reduced: 15 of 30 epochs", seeds=6) | {"rows": kept("table1")["rows"]})
    best = results.results(put(five).parent)[0]
    assert (best["scale"], best["seeds"]) == (1.0, 5)


def test_mnist_stands_beside_what_was_published_and_beside_the_digits(put):
    """Tables under the published rows, with the reduction in the cell beside them; figures with both data sets."""
    for part in ("table1", "table2", "figure1a", "figure4"):
        content = kept(part)
        put(content)
        put(as_if(content, data="mnist", reduced="reduced: 5 of 50 epochs, 1,000 test images", full_epochs=50))
    app = show(data="mnist")
    rows = [row for row in cells(app) if row and row[0] == "Dynamic"]
    whose = [row[-1] for row in rows]
    assert whose == ["published", "measured, reduced: 5 of 50 epochs, 1,000 test images, 2 training seeds"] * 2
    assert rows[0][1] == "97.96 %" and re.fullmatch(r"\d+\.\d % \(\d+\.\d to \d+\.\d\)", rows[1][1])
    for shown, words in (("1", "rank correlation of bin and accuracy"), ("4", "Dynamic less Standard")):
        app = show(show=shown, data="mnist")
        lines = [line for line in re.findall(r'dynat-said">(.*?)</p>', markup(app)) if words in line]
        on = [line.partition(":")[0] for line in lines]
        assert [line.partition(", ")[0] for line in on] == ["Measured on MNIST", "Measured on digits"]
        assert "reduced: 5 of 50 epochs" in lines[0] and len(app.get("plotly_chart")) in (2, 3)
    css = (ROOT / "ui" / "theme.css").read_text()
    sizes = {re.search(rf"\.{name} {{[^}}]*font-size: ([\d.]+rem)", css)[1] for name in ("dynat-said", "dynat-line")}
    assert len(sizes) == 1  # what says how reduced a figure is, and its numbers


def _changed(content: dict[str, Any], *path: Any) -> dict[str, Any]:
    """The content with another value at the end of the path."""
    place = content
    *way, last, value = path
    for key in way:
        place = place[key]
    place[last] = value
    return content


MISLEADING = {
    "an eps that differs": (("runs", 1, "config", "threat", "eps", 0.1), "compares runs at eps 0.1 and 0.15"),
    "other data": (("runs", 1, "config", "data", "name", "mnist"), "holds a run on mnist among those on digits"),
    "mixed n": (("rows", "dynamic", "fgsm", [[20, 40], [300, 500]]), "compares shares of 40 and 500 images"),
    "an attack with a typo": (
        ("rows", "dynamic", "pgd_20", [[20, 40], [30, 40]]),
        "names an attack 'pgd_20' that is not on the ladder; did it mean pgd-20",
    ),
    "a seed that is missing": (("rows", "dynamic", "fgsm", [[20, 40]]), "does not have 2 seeds of everything"),
    "another format": (("format", 99), "is of format 99, and this version reads 1"),
    "an unknown part": (("part", "table9"), "lacks a part and data that there are, or its runs"),
    "no rows": (("rows", None), "cannot be shown, since rows is missing or cannot be what was measured"),
    "more right than there are": (
        ("rows", "dynamic", "fgsm", [[20, 40], [41, 40]]),
        "cannot be shown, since rows.dynamic.fgsm.1 is missing or cannot be what was measured",
    ),
    "no runs": (("runs", []), "lacks a part and data that there are, or its runs"),
}


@pytest.mark.parametrize("path, problem", MISLEADING.values(), ids=MISLEADING)
def test_a_comparison_that_would_mislead_is_not_drawn_and_one_sentence_says_why(put, path, problem):
    file = put(kept("table1"))
    file.write_text(json.dumps(_changed(kept("table1"), *path)))
    assert results.results(file.parent) == []
    (sentence,) = results.left_out(file.parent)
    assert sentence == f'{file.name} {problem}; delete it and run its "reproduce" again.'
    if "eps" in problem:
        app = show(data="digits")
        assert sentence in said(app) and not [row for row in cells(app) if row and row[-1].startswith("measured")]


@pytest.mark.parametrize("part", [[], {}, None, 7])
def test_a_part_that_is_no_name_is_damage_like_any_other(part):
    content = dict.fromkeys(results._NEEDED, 1) | {"format": results.FORMAT, "data": "digits", "part": part}
    assert results.problem_of(content) == "lacks a part and data that there are, or its runs"


PARTS = ("table1", "table2", "figure1a", "figure1b", "figure2", "figure3", "figure4", "ablation")
ODD = (None, True, "", "<b>x</b>", -1, 0, 7, 10**12, -0.5, 1e300, float("nan"), float("inf"), [], {}, [[]], [1, 2, 3])


def _places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in a nested value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, one in inner for found in [(*way, key), *_places(one, (*way, key))]]


def _damaged(content: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """The content with one thing in it gone, doubled, or something odd."""
    changed = json.loads(json.dumps(content))
    *way, last = chance.choice(_places(changed))
    place = changed
    for key in way:
        place = place[key]
    what = chance.randrange(4)
    if what == 0:
        del place[last]
    elif what == 1 and isinstance(place, list):
        place.insert(last, json.loads(json.dumps(place[last])))
    else:
        place[last] = chance.choice(ODD)
    return changed


def _show_all(content: dict[str, Any]) -> None:
    """Everything that the screen says and draws of a result."""
    part, data = content["part"], content["data"]
    told.run_words(content)
    told.setup_words(content)
    for form in ("paper", "box"):
        picture.drawn(content, form)
        told.figure_words(content, form)
        told.directions([content], part, data, form)
    if part.startswith("table"):
        told.table(part, data, content)
        told.disagreements(part, data, content)
    if part == "ablation":
        told.ablation_table(content)
        [told.answer_words(answer) for answer in content["answers"]]
    if "order" in content:
        told.order_words(content)


@pytest.mark.parametrize("part", PARTS)
def test_whatever_is_damaged_in_a_results_file_it_is_shown_whole_or_left_out(part, tmp_path):
    whole, chance = kept(part), random.Random(part)
    assert results.problem_of(whole) is None
    shown = 0
    for _ in range(300):
        damaged = _damaged(whole, chance)
        problem = results.problem_of(damaged)
        if problem is None:
            _show_all(damaged)
            shown += 1
        else:
            assert "\n" not in problem and len(problem) < 300
    assert 0 < shown < 300  # some damage is none that matters


def test_runs_at_another_eps_than_the_published_do_not_stand_beside_them(put):
    content = as_if(kept("table1"), data="mnist")
    for run in content["runs"]:
        run["config"]["threat"]["eps"] = 0.1
    file = put(content | {"eps": 0.1})
    assert "is at eps 0.1, and what stands beside it at 0.3" in results.left_out(file.parent)[0]


@pytest.mark.parametrize(
    "low, high, words",
    [(0.02, 0.2, "in the direction of"), (-0.2, -0.02, "against"), (-0.02, 0.2, "too little for a direction"),
     (None, None, "too little for a direction")],
)  # fmt: skip
def test_figure_4_comes_down_to_one_number_and_is_judged_by_its_interval(low, high, words):
    content = kept("figure4")
    content["gain"]["paper"] = {"mean": 0.1, "low": low, "high": high, "seeds": 2}
    (line,) = told.directions([content], "figure4", "digits", "paper")
    assert words in line and "+0.10" in line and ("95 % interval" in line) == (low is not None)


@pytest.mark.parametrize("rank, words", [(0.9, "in the direction of"), (-0.9, "against"), (0.3, "too little"),
                                         (None, "every bin has the same")])  # fmt: skip
def test_figure_1a_comes_down_to_a_rank_correlation_that_chance_must_not_explain(rank, words):
    content = kept("figure1a")
    content["forms"]["box"] |= {"n": [10] * 21, "rank_correlation": rank}
    (line,) = told.directions([content], "figure1a", "digits", "box")
    assert words in line and line.startswith("Measured on digits, box form (reduced: 5 of 30 epochs")


def test_the_screen_works_without_torch(reproduced, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    assert len(show(show="4", data="digits").get("plotly_chart")) == 3


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_what_is_shipped_can_be_read_and_drawn_and_holds_no_path_of_a_machine(path):
    content = json.loads(path.read_text())
    assert results.problem_of(content) is None and path.stem.startswith(content["target"])
    assert not re.search(r"/(home|tmp|work|root)/", path.read_text())
    for form in ("paper", "box"):
        for view in picture.drawn(content, form):
            figure = view.at(0)
            assert len(figure.data) and all(len(trace.x) for trace in figure.data)
        told.figure_words(content, form)
    if content["part"].startswith("table"):
        heads, rows = told.table(content["part"], content["data"], content)
        assert all(len(row) == len(heads) for row in rows)


def test_what_is_shipped_is_small():
    assert sum(path.stat().st_size for path in SHIPPED.glob("*")) < 2_000_000
