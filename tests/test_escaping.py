"""Text from people is text wherever it goes: plotly, spreadsheets, LaTeX, reports, the terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from html import unescape
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

from dynat_core.presets import preset
from dynat_core.reports import exports, latex
from dynat_core.store.runs import RunStore
from dynat_core.terminal import clean, cleaned, raw
from dynat_core.views.base import View, styled
from dynat_core.views.document import document, table
from dynat_core.views.figures import as_typed, literal
from dynat_core.views.still import still

ROOT = Path(__file__).resolve().parent.parent
EVIL = '<a href="http://far.away">b</a> <b>x</b> %{x} <extra>'


def view(text: str) -> View:
    trace = {"type": "scatter", "x": [1], "y": [2], "name": text, "text": [text], "line": {"color": "@s0"}}
    layout = {"xaxis": {"title": {"text": "a<br>b"}, "ticktext": [text], "tickvals": [1]},
              "annotations": [{"text": text, "x": 1, "y": 2}]}  # fmt: skip
    (series,) = styled([(text, "standard")])
    return View("evil", text, fig={"data": [trace], "layout": layout}, colors={"s0": series.color})


@pytest.mark.parametrize("text", [EVIL, "@ink", "@nothing/0.3", "a & b", "&lt;b&gt;"])
def test_plotly_is_handed_no_markup_and_no_colour_in_place_of_a_name(text):
    figure = still(view(text), 0)
    assert isinstance(figure, go.Figure)
    shown = [figure.data[0].name, figure.data[0].text[0], figure.layout.annotations[0].text,
             figure.layout.xaxis.ticktext[0], figure.layout.title.text]  # fmt: skip
    for found in shown:
        assert "<" not in found and "%{" not in found
        assert unescape(found) == text  # as plotly decodes it
    assert figure.layout.xaxis.title.text == "a<br>b"
    assert figure.data[0].line.color.startswith("rgba(")


def test_numbers_of_a_figure_stay_as_they_are():
    fig = {"data": [{"x": [1.5, None], "y": ["<b>", "c"], "z": [[1, 2]]}], "layout": {"margin": {"l": 3}}}
    assert literal(fig) == fig
    assert as_typed("plain words") == "plain words"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@sum(a1)", "\t=1", "\r=1", " =1", "＝1"])
def test_a_spreadsheet_takes_no_text_for_a_formula(cell):
    content = exports._csv(pd.DataFrame({"text": [cell, "fine", None], "number": [-1.5, 2, 3]})).decode()
    lines = content.replace('"', "").split("\n")
    assert "'" + cell.replace("\r", "") in content.replace("\r", "")
    assert "fine,2.0" in lines and content.count("'") == 1 and "-1.5" in content


def test_latex_and_reports_take_it_as_text():
    assert latex.escaped(r"\input{/etc/passwd} $x$ 50 % a_b") == (
        r"\textbackslash{}input\{/etc/passwd\} \$x\$ 50 \% a\_b"
    )
    page = document(EVIL, EVIL, [(EVIL, [table([EVIL], [[EVIL]])])]).decode()
    assert "<a href" not in page and "<b>" not in page and "default-src 'none'" in page


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain", "plain"),
        ("two\n\tlines", "two\n\tlines"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("a\rb", r"a\rb"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnp", r"\u202egnp"),
        ("é − ρ", "é − ρ"),
    ],
)
def test_the_terminal_is_written_to_and_not_driven(text, shown, capsys):
    assert clean(text) == shown
    with cleaned():
        print(text)
        print(text, file=sys.stderr)
        assert raw(sys.stdout) is not sys.stdout
    out, err = capsys.readouterr()
    assert out == err == shown + "\n"


def test_a_copied_run_cannot_drive_the_terminal_of_who_lists_it(tmp_path):
    run = RunStore(tmp_path).create(preset("quick"), "copied")
    (run.folder / "starts.jsonl").write_text("{}\n")
    (run.folder / "error.json").write_text(json.dumps({"error": "\x1b]0;owned\x07 gone"}))
    (run.folder / "label.json").write_text(json.dumps({"tags": ["ok", "\x1b[2J"], "note": "\x1b[2J"}))
    for command in (["runs"], ["label", "copied"]):
        done = subprocess.run(
            [sys.executable, "-m", "dynat_core", *command], cwd=ROOT, capture_output=True, timeout=60,
            env={"DYNAT_STORE": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert done.returncode == 0 and b"\x1b" not in done.stdout + done.stderr and b"\x07" not in done.stdout
        assert rb"\x1b" in done.stdout
