"""What is taken away opens elsewhere, and says the same as the screens: recounted from the files alone."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dynat_core import comparison
from dynat_core.errors import JobError, RunError
from dynat_core.recorded import tables
from dynat_core.reports import compared, exports, latex, report
from dynat_core.store import evaluations
from dynat_core.store.evaluation_settings import Check, Transfer
from dynat_core.store.rerun import evaluation_command
from dynat_core.store.runs import Run, RunStore
from dynat_core.views import View
from dynat_core.views.svg import png, svg
from tests.ladders import make_ladder
from tests.running import finished_run, in_child, tiny

PLAIN = latex.Outcome("A", "a", "epoch 3", 90, 70, 100, "PGD-20, step 0.1", "linf", 8 / 255, "not yet checked", 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return finished_run(tmp_path_factory.mktemp("exports") / "store", tiny(name="Tiny & <one>_100%"))


@pytest.fixture(scope="module")
def ladder(run):
    return make_ladder(run)


@pytest.fixture(scope="module")
def taken(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("taken")
    exports.write(exports.run_files(run), folder)
    return folder


# -------------------------------------------------------------------------------------------------------------- tables


def test_the_records_open_in_pandas_and_are_those_of_the_run(run, taken):
    for table in (pd.read_csv(taken / "epochs.csv"), pd.read_parquet(taken / "epochs.parquet")):
        assert table["epoch"].tolist() == [0, 1, 2]
        wanted = [record["test/robust_accuracy"] for record in run.records()]
        assert table["test/robust_accuracy"].tolist() == wanted


def test_the_table_of_images_is_the_same_as_csv_and_parquet_and_gives_the_counts_again(run, taken):
    text, whole = pd.read_csv(taken / "samples.csv"), pd.read_parquet(taken / "samples.parquet")
    assert text.columns.tolist() == whole.columns.tolist()
    assert np.array_equal(text["margin"].to_numpy("float32"), whole["margin"].to_numpy())
    best = run.result()["best"]
    assert (text["predicted"] == text["label"]).sum() == best["robust_correct"]
    assert text["clean_correct"].sum() == best["clean_correct"] and len(text) == best["n"]


def test_what_stands_beside_the_accuracy_is_written_beside_it(run, taken):
    said = json.loads((taken / "about.json").read_text())
    assert said["attack"] == run.config.attack_words() and said["verdict"] == "not yet checked"
    assert said["eps"] == "0.15 (38.25/255)" and said["robust"]["n"] == 40
    low, high = said["robust"]["interval_95"]
    assert low <= said["robust"]["accuracy"] <= high


def test_the_ends_of_the_recorded_paths_are_points_of_the_ball_that_the_network_says_what_was_recorded_of(run, taken):
    with np.load(taken / "adversarial.npz", allow_pickle=False) as file:
        x, z, index = file["x"], file["adversarial"], file["index"]
        assert str(file["setting_steps"]) == "3" and str(file["setting_run"]) == run.id
    assert np.abs(z - x).max() <= 0.15 + 1e-6 and z.min() >= 0 and z.max() <= 1
    epoch = int(run.paths()[0])
    at = [run.trajectory(int(i), epoch) for i in index[:5]]
    assert all(np.array_equal(one.z[-1], point) for one, point in zip(at, z, strict=False))


def test_the_figures_are_xml_with_a_title_and_without_a_script(taken):
    drawn = sorted((taken / "figures").glob("*.svg"))
    assert len(drawn) >= 4
    for path in drawn:
        root = ElementTree.fromstring(path.read_text())
        assert root.tag.endswith("svg") and root[0].text and "NaN" not in path.read_text()
        assert not re.search(r"<script|http(?!://www\.w3\.org)|@s\d|var\(", path.read_text())


@pytest.mark.parametrize("shape", [(8, 5), (7, 9, 3)])
def test_a_picture_is_a_png_that_another_library_reads(shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)


def test_a_folder_that_cannot_be_written_is_one_sentence(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JobError, match=r"cannot be written \(.*\); name another folder with --to\."):
        exports.write(exports.run_files(run), tmp_path / "file" / "below")


def test_a_run_without_records_or_an_evaluation_that_waits_has_nothing_to_give(tmp_path, run):
    with pytest.raises(RunError, match="has no epoch yet"):
        exports.run_files(RunStore(tmp_path).create(tiny(), "empty"))
    waiting = evaluations.create(run.folder, Check(n=5))
    with pytest.raises(RunError, match="can be exported once it has finished"):
        exports.evaluation_files(run, waiting)
    shutil.rmtree(waiting.folder)


# --------------------------------------------------------------------------------------------------------- evaluations


def test_the_worst_case_is_that_of_an_independent_recount_from_the_exported_files(run, ladder, tmp_path):
    exports.write(exports.evaluation_files(run, ladder), tmp_path)
    table, rungs = pd.read_csv(tmp_path / "samples.csv"), pd.read_csv(tmp_path / "rungs.csv").set_index("name")
    outcomes = table.filter(like="correct/").to_numpy()
    standing = [not (row == 0).any() for row in outcomes]
    assert rungs.loc["worst case", "correct"] == sum(standing) == json.loads((tmp_path / "result.json").read_text())[
        "worst"]["correct"]  # fmt: skip
    with np.load(tmp_path / "adversarial.npz", allow_pickle=False) as file:
        kept = {name: file[name] for name in ("adversarial", "index", "label")}
    assert kept["index"].tolist() == table["index"].tolist()

    def recount():
        import torch

        from dynat_core.work.loading import network

        with torch.no_grad():
            logits = network(run, "best", torch.device("cpu")).eval()(torch.from_numpy(kept["adversarial"]))
        right = logits.argmax(1).numpy() == kept["label"]
        assert right.tolist() == standing, "the points do not give the table"

    assert in_child(recount) == 0


def test_a_ladder_at_another_radius_carries_no_verdict_of_the_run_s_own(run, ladder):
    result = {**(ladder.result() or {}), "eps": 0.3}
    checked = run.folder / "evaluations" / "check-made-up"
    assert exports.ladder_outcome(run, ladder, result).verdict == compared.NOT_CHECKED
    assert exports.ladder_outcome(run, ladder, ladder.result()).verdict == compared.verdict(run, run.epoch_of("best"))
    assert not checked.exists()


def test_a_damaged_result_is_one_sentence_in_the_reports(run, ladder, tmp_path):
    copy = Run(Path(shutil.copytree(run.folder, tmp_path / "store" / run.id)))
    damaged = evaluations.open_evaluation(copy.folder, ladder.name)
    (damaged.folder / "result.json").write_text('{"n": 5}')
    with pytest.raises(RunError, match="is damaged; measure it again"):
        report.evaluation_report(copy, damaged)
    assert f"The evaluation {ladder.name} is damaged; measure it again." in report.run_report(copy).decode()


def test_what_is_not_known_is_null_in_json():
    found = json.loads(exports._json({"a": float("nan"), "b": [1.0, float("inf")], "c": {"d": 2}}))
    assert found == {"a": None, "b": [1.0, None], "c": {"d": 2}}


def test_damaged_points_are_one_sentence(run, ladder, tmp_path):
    copy = tmp_path / run.id
    shutil.copytree(run.folder, copy)
    (copy / "evaluations" / ladder.name / "points.safetensors").write_bytes(b"\x00" * 40)
    files = exports.evaluation_files(Run(copy), evaluations.open_evaluation(copy, ladder.name))
    with pytest.raises(RunError, match="the adversarial points are damaged"):
        files["adversarial.npz"]()


@pytest.mark.parametrize(
    "settings",
    [
        Check(),
        Check(n=64, steps=20, eps=8 / 255, norm="l2", epoch=3, images=(4, 1), overridden=("logits", "two words")),
        Transfer(others=("demo-digits-dynamic", "other"), seed=7, epoch="last"),
    ],
)
def test_the_command_of_an_evaluation_asks_for_exactly_the_same(run, settings, monkeypatch):
    """It is executed, up to the worker: what it puts into the queue has the same settings."""
    from dynat_core import __main__ as command_line

    monkeypatch.setenv("DYNAT_STORE", str(run.folder.parent))
    monkeypatch.setattr("dynat_core.commands.measuring.ensure_worker", lambda store: None)
    evaluation = evaluations.create(run.folder, settings)
    words = shlex.split(evaluation_command(evaluation))
    shutil.rmtree(evaluation.folder)
    assert words[:3] == ["python", "-m", "dynat_core"]
    assert command_line.main([*words[3:], "--no-wait"]) == 0
    again = evaluations.evaluations(run.folder)[0]
    assert again.settings == settings and again.state == "queued"
    shutil.rmtree(again.folder)


def test_the_script_of_a_run_trains_the_same_again(run, taken, tmp_path):
    """It is executed: its command makes a run of the same settings, which records the same."""
    environment = os.environ | {"DYNAT_STORE": str(tmp_path / "store"), "DYNAT_WORKER_IDLE": "0.5"}
    script = (taken / "reproduce.sh").read_text().rstrip() + " --wait\n"
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        ["sh", "-c", script.replace("python -m", f"{sys.executable} -m", 1)],
        cwd=root, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (again,) = RunStore(tmp_path / "store").list()
    assert again.config == run.config
    assert again.samples("best").equals(run.samples("best"))


def finished(run: Run, settings, result: dict, table: pd.DataFrame | None = None):
    """An evaluation with this result."""
    evaluation = evaluations.create(run.folder, settings)
    if table is not None:
        evaluation.write("samples.parquet", tables.samples_to_bytes(table))
    evaluation.write_json("result.json", result)
    return evaluation


def test_the_report_of_a_check_has_its_sentence_lights_and_findings_and_the_run_names_its_verdict(run):
    light = {"name": "optimised", "question": "Was the attack optimised?", "state": "insufficient",
             "number": 0.4, "threshold": 0.95, "n": 17, "loss": "margin", "ok": False,
             "sentence": "7 of 17 are <not> done."}  # fmt: skip
    verdict = {
        "sentence": "An upper bound: 7 of 17.",
        "ok": False,
        "robust": 17,
        "n": 20,
        "lights": [light],
        "warnings": [],
    }
    findings = [{"name": "logits", "ok": False, "sentence": "Not logits.", "fix": "Leave out softmax."}]
    rows = pd.DataFrame({"index": [0, 1, 2], "label": [0, 1, 2], "robust_correct": [True, True, False],
                         "margin": [0.5, 1.5, -1.0], "relative_fosc": [0.01, 0.4, 0.2]})  # fmt: skip
    evaluation = finished(run, Check(n=20), {"verdict": verdict, "findings": findings}, rows)
    said = report.evaluation_report(run, evaluation).decode()
    for words in ("An upper bound: 7 of 17.", "7 of 17 are &lt;not&gt; done.", "0.4 against 0.95", "Leave out softmax.",
                  "85.0 % (64.0 to 94.8) of 20 images", "--kind check", "<svg"):  # fmt: skip
        assert words in said, words
    short = compared.read(run).verdict
    assert short == "insufficient (Was the attack optimised?); the check leaves 85.0 % (64.0 to 94.8) of 20"
    assert latex.escaped(short) in latex.row(exports.outcome(run))
    shutil.rmtree(evaluation.folder)
    assert compared.read(run).verdict == "not yet checked"


def test_the_report_of_a_transfer_has_every_pair_and_an_unknown_form_is_shown_as_it_is(run):
    pairs = {"a": {"a": 3, "b": 9}, "b": {"a": 8, "b": 2}}
    clean = {"a": {"correct": 10}, "b": {"correct": 10}}
    result = {"names": ["a", "b"], "titles": {"a": "A & a"}, "n": 10, "correct": pairs, "clean": clean, "steps": 20,
              "eps": 8 / 255, "norm": "linf", "sentence": "Rows: made on."}  # fmt: skip
    evaluation = finished(run, Transfer(others=("b",)), result)
    said = report.evaluation_report(run, evaluation).decode()
    for words in ("A &amp; a", "90.0 % (59.6 to 98.2)", "8/255 (0.03137)", "Rows: made on.", "--set others=b"):
        assert words in said, words
    shutil.rmtree(evaluation.folder)


@pytest.mark.parametrize(
    "axis, values, places",
    [
        ({"type": "log", "range": [0, 2]}, [1, 10, 100], [50, 150, 250]),
        ({"range": [0, 4]}, [0, 1, 4], [50, 100, 250]),
        ({"type": "log"}, [1, 100], [50 + 200 * 0.1 / 2.2, 250 - 200 * 0.1 / 2.2]),
    ],
)
def test_dots_stand_where_linear_and_logarithmic_axes_put_them(axis, values, places):
    trace = {"type": "scatter", "mode": "markers", "x": values, "y": [0.5] * len(values), "marker": {"color": "@ink"}}
    margin = {"l": 50, "r": 50, "t": 0, "b": 0}
    layout = {"margin": margin, "xaxis": axis, "yaxis": {"range": [0, 1]}}
    drawn = svg(View("v", "V", height=100, fig={"data": [trace], "layout": layout}), 0, width=300)
    found = [float(x) for x in re.findall(r'<circle cx="([\d.]+)" cy="50\.0"', drawn)]
    assert found == pytest.approx(places, abs=0.06)


# -------------------------------------------------------------------------------------------------------------- LaTeX


def compile_latex(body: str, folder: Path) -> None:
    """Compile a document around `body`; booktabs is imitated where it is not installed."""
    rules = (
        r"\IfFileExists{booktabs.sty}{\usepackage{booktabs}}{\let\toprule\hline\let\midrule\hline\let\bottomrule\hline}"
    )
    head = f"\\documentclass{{article}}\n\\usepackage[utf8]{{inputenc}}\n{rules}\n"
    text = f"{head}\\begin{{document}}\n{body}\\end{{document}}\n"
    (folder / "row.tex").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "row.tex"],
        cwd=folder, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-1500:]


NASTY = (
    "50 % & more_{x}^2 $~#\\",
    "Ünïcode æøß ł café",
    '日本 🎉 − … “quoted” <b>|"',
    "two\nlines\tand\x00 more",
    "\\end{tabular}",
)


@pytest.mark.parametrize("title", NASTY)
def test_a_row_has_seven_cells_on_one_line_whatever_the_title(title):
    found = latex.row(latex.Outcome(**{**vars(PLAIN), "title": title, "attack": title, "verdict": title}))
    comment, row, end = found.split("\n")
    assert comment.startswith("% ") and end == ""
    cells = re.split(r"(?<!\\)&", row)
    assert len(cells) == len(latex.COLUMNS) and row.endswith(r" \\")
    assert row.startswith("{}")  # what begins with [ or * would be taken for an option of the line before
    bare = re.sub(r"\\[{}\\]", "", row)
    assert bare.count("{") == bare.count("}") and not re.search(r"(?<!\\)[%#_]", row.replace(r"\ell_", ""))


def test_a_row_says_everything_that_must_stand_beside_a_robust_accuracy():
    found = latex.row(PLAIN)
    for part in ("90.0 [82.6, 94.5]", "70.0 [60.4, 78.1]", "PGD-20, step 0.1", "8/255 (0.03137)", "& 100 &",
                 "not yet checked", r"\ell_\infty"):  # fmt: skip
        assert part in found
    assert "95 % Wilson" in found.split("\n")[0] and "one training seed (0)" in found.split("\n")[0]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_a_table_of_nasty_rows_compiles(tmp_path):
    rows = [latex.Outcome(**{**vars(PLAIN), "title": title, "verdict": title, "norm": norm})
            for title, norm in zip(NASTY, ("linf", "l2") * 3, strict=False)]  # fmt: skip
    compile_latex(latex.table(rows), tmp_path)
    assert (tmp_path / "row.pdf").stat().st_size > 1000


@given(st.text(max_size=40))
def test_escaped_text_has_no_sign_that_latex_would_read(text):
    named = r"\\(textbackslash|textasciicircum|textasciitilde|textbar|dots)\{\}"
    found = re.sub(named + r"|\\[{}$&#%_]|\$[<>-]\$|\$\\(cdot|times)\$", "", latex.escaped(text))
    assert not set(found) & set("\\{}$&#%_^~\n")


# --------------------------------------------------------------------------------------------------------- comparisons


def test_a_comparison_is_recounted_from_its_table(run, tmp_path):
    other = finished_run(tmp_path / "store", tiny(seed=3))
    networks = [compared.read(run), compared.read(other)]
    exports.write(exports.comparison_files(networks), tmp_path)
    table = pd.read_csv(tmp_path / "comparison.csv")
    assert table["training_seed"].tolist() == [0, 3]
    assert table["verdict"].tolist() == ["not yet checked"] * 2 and table["eps"].tolist() == [0.15] * 2
    first, second = table.to_dict("records")
    difference = second["robust_correct"] - first["robust_correct"]
    assert second["robust_delta"] == pytest.approx(difference / 40)
    assert second["robust_only_this"] - second["robust_only_first"] == difference
    assert (tmp_path / "rows.tex").read_text().count(r" \\") == 3
    assert comparison.seed_groups([network.config for network in networks]) == [[0, 1]]


def test_ladders_of_a_run_are_read_into_a_comparison(run, ladder):
    found = compared.read(run)
    assert found.rungs is not None and list(found.rungs) == ["clean", "pgd-3", "pgd-5"]
    assert comparison.stands(found.rungs).sum() == ladder.result()["worst"]["correct"]
    assert compared.attack_seeds(run, found.epoch) == [(0, ladder.result()["worst"]["correct"], 30)]


# ---------------------------------------------------------------------------------------------------- command line


def test_export_and_report_write_what_they_name(run, ladder, tmp_path, monkeypatch, capsys):
    from dynat_core.__main__ import main

    monkeypatch.setenv("DYNAT_STORE", str(run.folder.parent))
    folder, page = tmp_path / "out", tmp_path / "new" / "page.html"
    for what in (f"{run.id}/{ladder.name}", str(ladder.folder)):  # the folder is what `evaluate` prints
        assert main(["export", what, "--to", str(folder)]) == 0
    named = {Path(line) for line in capsys.readouterr().out.split()}
    assert named == {path for path in folder.rglob("*") if path.is_file()} and folder / "rungs.csv" in named
    for what in (run.id, f"{run.id}/{ladder.name}"):
        assert main(["report", what, "--to", str(page)]) == 0
        assert page.read_bytes().startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize(
    "words, says",
    [
        (["export", "nobody", "--to", "x"], "There is no run called nobody"),
        (["export", "../etc/passwd", "--to", "x"], "There is no run called"),
        (["report", "{run}/../../x", "--to", "x.html"], "There is no run called"),
        (["report", "{run}/ladder-nothing", "--to", "x.html"], "has no evaluation called"),
        (["report", "{run}", "{run}", "--to", "/proc/none/x.html"], "cannot be written"),
        (["report", *["{run}"] * 7, "--to", "x.html"], "7 runs are too many to tell apart; compare 6 at most."),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(run, tmp_path, monkeypatch, capsys, words, says):
    from dynat_core.__main__ import main

    monkeypatch.setenv("DYNAT_STORE", str(run.folder.parent))
    monkeypatch.chdir(tmp_path)
    assert main([word.format(run=run.id) for word in words]) == 1
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and not list(tmp_path.iterdir())
