"""Inner optimiser: a learned step beside sign steps on the same images, and what each training was measured to give."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from dynat_core.config import describe_eps
from dynat_core.reports.compared import latest, training_seconds, verdict, worst_case
from dynat_core.store.runs import Run
from dynat_core.theory import seeds
from dynat_core.views import inner_optimizer as picture
from dynat_core.views import seeds as paired
from dynat_core.views.facts import seconds_words, share
from ui.cards import swatch
from ui.frame import page, screen_of
from ui.link import Cursor, choice, train_with
from ui.scrubber import scrubber
from ui.stills import head, table
from ui.stills import picture as still
from ui.store import runs
from ui.theory import explained
from ui.words import gradients_per_image, outcome, plain

SCREEN = screen_of("Inner optimiser")
STUDIES = Path(__file__).resolve().parent.parent / "dynat_core" / "rules"
DIGITS, MNIST = STUDIES / "digits.json", STUDIES / "mnist.json"
MODELS = {
    "standard": "Standard",
    "dynamic": "Dynamic",
    "unsecured": "Unsecured",
    "mnist-standard": "MNIST, Standard",
    "mnist-dynamic": "MNIST, Dynamic",
}
TRAININGS = ("standard", "trades", "l2l")
SHOWN_RUNS = 12
SEEDS = "Presets as they are, nothing tuned for the comparison, which says nothing about other settings or data."
FORMULA = r"""\begin{gathered}z_{k+1}=\Pi\big(z_k+d_k\big),\quad g_k=\nabla_z\,\ell(\theta,z_k)\\
\text{PGD: } d_k=\alpha\,\mathrm{sign}\,g_k\qquad
\text{learned: } (d_k,h_{k+1})=m_\varphi(g_k,h_k)\\
\max_\varphi\ \textstyle\sum_k w_k\,\ell(\theta,z_k),\qquad \min_\theta\ \ell(\theta,z_T)\end{gathered}"""
WHERE = (
    "m is one LSTM layer of 20 units shared by all pixels, each with its own state h; its step is 2·(eps/4)·tanh of "
    "its output, T = 10, w_k = k/(1 + … + T). It was trained along with a classifier of its own (digits: preset "
    "digits-l2l; MNIST: 2,000 images, 4 epochs), not with the model drawn. PGD's and momentum PGD's step sizes were "
    "chosen on held-out training images, among "
    "eps/16 to 2 eps, by the mean loss after 10 steps."
)
SHOWS = (
    "On these models and images, how high each rule climbs for the same number of gradients, how close to stationary "
    "it gets, and what the learned rule does with a gradient at each of its steps."
)
NOT = (
    "That a learned rule is a stronger attack in general, or what training with one does for robustness: its own "
    "attack does not decide that, the ladder of attacks does."
)
CAUTIONS = (
    "One rule for each data set, trained once, on digits at eps 0.15 and briefly on MNIST at eps 0.3; another seed may "
    "come out the other way.",
    "A lower relative FOSC is closer to first-order stationary, which is not the same as a higher loss.",
    "Cell, input, output scale, T, weights and schedule are ours: of Xiong and Hsieh's paper only the abstract could "
    "be read, so none of their figures is shown. What is called L2L elsewhere (Jiang et al., a convolutional attacker) "
    "is another system.",
)
SOURCE = (
    'Xiong and Hsieh, "Improved Adversarial Training via Learned Optimizer" (ECCV 2020, arXiv 2004.12227); Zhang et '
    'al., "Theoretically Principled Trade-off between Robustness and Accuracy" (TRADES, ICML 2019); Dong et al., '
    "momentum (CVPR 2018)."
)
# training, set-up, clean, attacked, source; accuracies in %
PUBLISHED = (
    ("PGD AT (Standard)", "MNIST, CNN, eps 0.3", "97.61", "91.21 (PGD-10), 90.62 (PGD-20)", "Wang et al., slides"),
    ("PGD AT (Standard)", "CIFAR-10, CNN, eps 8/255", "66.31", "44.39 (PGD-10), 40.02 (PGD-20)", "Wang et al., slides"),
    ("TRADES", "MNIST, CNN, eps 0.3", "99.48", "96.07 (PGD-40); strongest listed 92.46", "authors' repository"),
    ("TRADES", "CIFAR-10, WRN-34-10, eps 0.031", "84.92", "56.61 (PGD-20); AutoAttack 53.08", "authors' repository"),
    ("L2L", "MNIST, CIFAR-10, SVHN", "UNKNOWN", "UNKNOWN", "no figure could be read"),
)


def main() -> None:
    """Ask, draw, then the tables."""
    there = {key: words for key, words in MODELS.items() if not key.startswith("mnist-") or MNIST.is_file()}
    name = choice(SCREEN, "model", "Attacked model, a shipped run on digits or MNIST", there)
    which = MNIST if name.startswith("mnist-") else DIGITS
    found = study(str(which), which.stat().st_mtime_ns)
    model = found["models"][name.removeprefix("mnist-")]
    cursor = Cursor(SCREEN, "k")
    problem = cursor.read(len(model["curves"]["pgd"]["loss"][0]) - 1)
    if problem:
        st.info(plain(problem))
    with st.container(key="inner-picture"):
        start = cursor.goto if cursor.goto is not None else found["trained_steps"]
        scene = picture.inner_optimizer(model, found["trained_steps"], f"{model['compared'][0]['n']} test images")
        cursor.heard(scrubber("inner", scene, run="inner", cursor=start, jump=cursor.jump))
    compared(model, name)
    explained(FORMULA, WHERE, SHOWS, NOT, CAUTIONS, SOURCE)
    over_seeds()
    trainings()


@st.cache_data(show_spinner=False)
def study(file: str, modified: int) -> dict[str, Any]:
    """What benchmarks/inner_optimizer.py measured."""
    return json.loads(Path(file).read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------------- the figures


def compared(model: dict[str, Any], name: str) -> None:
    """Mean loss after k steps of the learned rule and of PGD tuned for k, whichever way it falls; and the costs."""
    rows = []
    for row in model["compared"]:
        low, high = row["interval"]
        reads = "the learned rule higher" if low > 0 else "PGD higher" if high < 0 else "not told apart"
        rows.append(
            (
                str(row["steps"]), f"{row['learned']:.3f}", f"{row['pgd']:.3f} (step {row['alpha']})",
                f"{row['difference']:+.3f} ({low:+.3f} to {high:+.3f})".replace("-", "−"), f"{row['n']}", reads,
            )
        )  # fmt: skip
    title = f"Mean loss after k steps on the {MODELS[name]} model, PGD's step tuned for each k"
    heads = ("steps k", "learned rule", "PGD", "difference (95 %, paired)", "images", "so")
    head(title)
    table(heads, rows)
    seconds = model["seconds"]
    st.html(
        '<p class="dynat-facts">Each step costs one gradient and the end point one more, whatever the rule. 10 steps '
        f"on all {rows[0][4]} images took {seconds['pgd']:.2f} s with PGD, {seconds['momentum']:.2f} s with momentum "
        f"and {seconds['learned']:.2f} s with the learned rule, on one CPU thread of the machine that measured this "
        "(benchmarks/inner_optimizer.py; other work there counts).</p>"
    )


# ------------------------------------------------------------------------------------------------------- the trainings


def over_seeds() -> None:
    """TRADES and L2L less PGD AT, seed by seed."""
    found = seeds.measured()
    for place, training in zip(st.columns(2), ("trades", "l2l"), strict=True):
        with place:
            still(paired.paired(found, training, "PGD AT", 1), f"{SCREEN}.seeds.{training}")
    st.html(f'<p class="dynat-facts">{escape(paired.about(found))}. {escape(SEEDS)}</p>')


def trainings() -> None:
    """PGD AT, TRADES and L2L: the runs of this store, measured; and what is published, marked as such."""
    head("PGD AT, TRADES and L2L: runs measured here")
    known = [run for run in runs() if _is_one(run)][:SHOWN_RUNS]
    rows = [_measured(run) for run in known]
    if rows:
        heads = ("run", "eps", "clean", "robust", "under", "ladder, worst case", "gradients an image", "training",
                 "verdict")  # fmt: skip
        table(heads, rows, markup=True)
    missing = [name for name in TRAININGS if name not in {run.config.strategy.name for run in known}]
    if missing:
        words = {"standard": "PGD AT", "trades": "TRADES", "l2l": "L2L"}
        st.html(
            f'<p class="dynat-facts">No run of {" or ".join(words[name] for name in missing)} is in this store yet.</p>'
        )
    with st.container(horizontal=True, gap="small"):
        for label, preset in (("Use L2L in a run", "digits-l2l"), ("Use TRADES in a run", "digits-trades")):
            if st.button(label, key=f"inner-{preset}"):
                train_with(preset=preset)
    head("Published")
    marked = [(*row, "published" if row[2] != "UNKNOWN" else "") for row in PUBLISHED]
    table(("training", "set-up", "clean %", "attacked %", "source", ""), marked)
    st.html(
        '<p class="dynat-facts">Networks, eps and attacks differ from row to row and from the runs above, so the rows '
        "do not rank the trainings. In brackets above: 95 % intervals (Wilson).</p>"
    )


def _is_one(run: Run) -> bool:
    return run.kind == "training" and run.config.strategy.name in TRAININGS and outcome(run) is not None


def _measured(run: Run) -> tuple[str, ...]:
    found = outcome(run, "best")
    assert found is not None
    ladder = latest(run, "ladder", found["epoch"])
    worst = worst_case(ladder) if ladder else None
    return (
        f"{swatch(run.config.strategy.name)}{escape(run.title)}, epoch {found['epoch']}",
        escape(describe_eps(run.config.threat.eps)),
        share(found["clean"] * found["n"], found["n"]),
        share(found["robust"] * found["n"], found["n"]),
        f"PGD-{run.config.recording.steps}",
        share(*worst) if worst else "–",
        escape(gradients_per_image(run)),
        escape(seconds_words(training_seconds(run))),
        escape(verdict(run, found["epoch"])),
    )


with page("Inner optimiser", "Does a learned step beat sign steps on this model?"):
    main()
