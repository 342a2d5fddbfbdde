"""The paper screen without a browser: published beside measured, reduced runs marked, what is not run and how to."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dynat_core.paper import reproduce
from dynat_core.paper.published import CAUTIONS, TABLES
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
    content = json.loads(next((reproduced / reproduce.FOLDER).glob("table1-*")).read_text())
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


def test_a_damaged_result_is_left_out_and_markup_in_one_is_text(nothing):
    folder = nothing / reproduce.FOLDER
    folder.mkdir(parents=True)
    (folder / "broken.json").write_text("{")
    content = json.loads(next((everything() / reproduce.FOLDER).glob("table1-*")).read_text())
    content |= {"data": "mnist", "target": "table1-mnist", "reduced": "<img src=x onerror=alert(1)>"}
    (folder / "table1-mnist.json").write_text(json.dumps(content))
    app = show()
    assert "<img src=x" not in markup(app) and "<img src=x" in unescape(markup(app))


def test_the_screen_works_without_torch(reproduced, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    assert len(show(show="4", data="digits").get("plotly_chart")) == 3


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_what_is_shipped_can_be_read_and_drawn_and_holds_no_path_of_a_machine(path):
    content = next(one for one in reproduce.results(SHIPPED) if path.stem.startswith(one["target"]))
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
