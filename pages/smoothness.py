"""Smoothness: creases of the adversarial loss, of a logistic model in closed form and of trained networks."""

from __future__ import annotations

import streamlit as st

from dynat_core.errors import RunError
from dynat_core.theory import seeds
from dynat_core.theory.probe import PLACES, probe
from dynat_core.views import Scene, View, weight_line
from dynat_core.views import seeds as paired
from dynat_core.views import smoothness as picture
from ui.frame import page, screen_of
from ui.link import Cursor, choice
from ui.paths import asking, can_be_asked, look_at_helper
from ui.scrubber import scrubber
from ui.store import runs, store
from ui.theory import explained, setting, shipped_networks, use_in_a_run
from ui.words import plain

SCREEN = screen_of("Smoothness")
WAYS = {"random": "random direction", "training": "from the epoch before"}
REACHES, LINE_PLACES = (0.001, 0.003, 0.01, 0.03, 0.1), 30
PROBES = {"across": "across an axis, θ₂ = 0", "zero": "through θ = 0"}
FORMULA = r"""\begin{gathered}\nabla L_{2}(\theta)=-s(-m)\,(yx-\varepsilon\,\theta/\|\theta\|_2)\\
\nabla L_{\infty}(\theta)=-s(-m)\,(yx-\varepsilon\,\mathrm{sign}\,\theta)\\
F(\theta)=-\tau^2\log\!\int\! e^{-\left(L(w)+\frac\gamma2\|w-\theta\|^2\right)/\tau^2}\,dw\end{gathered}"""
WHERE = (
    "Means over 16 points in the plane, drawn here; m = y⟨θ, x⟩ − eps‖θ‖ with the 2-norm (L2) or 1-norm (L-inf), s the "
    "sigmoid, no pixel box. F is the local entropy that EntropySGD descends, computed by quadrature; the released code "
    "uses τ = 10⁻⁴, almost no noise, and γ from 10⁻⁴ (MNIST) and 0.03 (CIFAR-10) on."
)
SHOWS = (
    "For a logistic model under attack, the gradient in the weights jumps wherever one weight crosses 0 under L-inf, "
    "by 2·eps times the mean of s(−m) with no box, and under L2 at θ = 0 alone; the local entropy has no jump, "
    "its second derivatives are at most γ."
)
SHOWS_NETWORK = (
    "Along one line through this network's weights, how much faster the gradient changes once images are attacked, and "
    "how fast the input gradient's signs turn. The closer the places, the larger the quotients: jumps, not bends."
)
NOT = (
    "A Lipschitz constant, or other data than the digits: the comparison with SGD at equal gradient evaluations is of "
    "these presets, on these seeds; an interval that holds 0 says nothing, one that does not says so for this set-up."
)
CAUTIONS = (
    "A crease has a norm and a place: L2 is not smooth where the gradient in x is 0, here at θ = 0.",
    "A measured quotient is a lower bound; it is not the Lipschitz constant. On a network the attack is PGD, not the "
    "exact maximiser, and ReLU has creases of its own.",
    "Kanai et al.'s adversarial settings and results are UNKNOWN here: only the abstract and opening could be read, so "
    "none of their numbers is shown. The formulas are worked out here and checked by tests.",
)
SOURCE = (
    'Kanai, Yamada, Takahashi, Yamanaka and Ida, "Smoothness Analysis of Adversarial Training" (arXiv 2103.01400; IEEE '
    'TNNLS 2024); local entropy: Chaudhari et al., "Entropy-SGD: Biasing Gradient Descent Into Wide Valleys" (2017).'
)


def main() -> None:
    """Ask, compute, draw."""
    chosen = choice(SCREEN, "of", "Model", {"logistic": "logistic, closed form", **shipped_networks()}, "model")
    if chosen == "logistic" or not network(chosen):
        logistic()
        explained(FORMULA, WHERE, SHOWS, NOT, CAUTIONS, SOURCE)
    else:
        explained(FORMULA, WHERE, SHOWS_NETWORK, NOT, CAUTIONS, SOURCE)
    use_in_a_run("EntropySGD", "digits-entropy")


# ------------------------------------------------------------------------------------------------ the logistic model


def logistic() -> None:
    """Two weights, everything in closed form."""
    asked = st.columns([4, 3, 3, 3], gap="medium", vertical_alignment="bottom")
    with asked[0]:
        which = choice(SCREEN, "probe", "Probe", PROBES)
    with asked[1]:
        eps = setting(SCREEN, "eps", "eps, attack radius", (0, 0.1, 0.25, 0.5, 0.75, 1), 0.5, "0 is clean training")
    with asked[2]:
        gamma = setting(SCREEN, "gamma", "γ, pull of the smoothing", (0.3, 1, 3, 10), 1, "Small: wide smoothing")
    with asked[3]:
        tau = setting(SCREEN, "tau", "τ, noise of the smoothing", (0.05, 0.1, 0.2, 0.4), 0.2, "τ² is the temperature")
    cursor = Cursor(SCREEN, "place")
    problem = cursor.read(PLACES - 1)
    if problem:
        st.info(plain(problem))
    with st.container(key="smoothness-picture"):
        start = cursor.goto if cursor.goto is not None else PLACES // 2 - 4
        cursor.heard(
            scrubber("smoothness", scene(which, eps, gamma, tau), run="smoothness", cursor=start, jump=cursor.jump)
        )


@st.cache_data(show_spinner=False, max_entries=100)
def scene(which: str, eps: float, gamma: float, tau: float) -> Scene:
    """The picture of one probe."""
    return picture.smoothness(probe(which, eps, gamma, tau), [comparison(PLACES)])


def comparison(n: int) -> View:
    """EntropySGD and SGD over the same seeds, for n places of a cursor."""
    return paired.paired(seeds.measured(), "entropy-sgd", "SGD", n)


# ------------------------------------------------------------------------------------------------ a trained network


def network(id: str) -> bool:
    """Draw a run's network along a line; False, with one sentence, where that cannot be computed."""
    asked = st.columns([5, 5], gap="medium", vertical_alignment="bottom")
    with asked[0]:
        way = choice(SCREEN, "way", "Line through the weights", WAYS, "line")
    with asked[1]:
        reach = setting(
            SCREEN, "reach", "half the line, share of the weights' norm", REACHES, 0.01, "Short: near places"
        )
    cursor = Cursor(SCREEN, "at")
    problem = cursor.read(LINE_PLACES - 1)
    if problem:
        st.info(plain(problem))
    above = st.container(key="smoothness-line")
    try:
        found = line_of(id, way, reach)
    except RunError as error:
        st.info(plain(f"{error} Shown instead: the logistic model."))
        return False
    with above:
        start = cursor.goto if cursor.goto is not None else LINE_PLACES // 2
        drawn = weight_line.weight_line(found, [comparison(LINE_PLACES)])
        cursor.heard(scrubber("smoothness", drawn, run=f"smoothness-{id}", cursor=start, jump=cursor.jump))
    return True


def line_of(id: str, way: str, reach: float) -> weight_line.Line:
    """The line through a run's last checkpoint, asked of the helper. Raises RunError."""
    run = next(run for run in runs() if run.id == id)
    epoch = run.kept_epochs()[-1]
    can_be_asked(run, epoch, "This line")
    question = {"store": str(store().folder.absolute()), "run": id, "epoch": epoch, "way": way, "reach": reach}
    question["places"] = LINE_PLACES
    looks = {"line": asking("weight_line", run, question, "smoothness")}
    answer = look_at_helper(looks, "attacking at each place of the line", "smoothness-line")["line"]
    if answer.value is None:
        raise RunError(answer.error or "The measurement gave no answer; choose the network again.")
    header, arrays = answer.value
    about = (
        f"{run.title}, epoch {epoch}, {header['n']} test images, eps {header['eps']:.3g}, PGD-20 (10 steps of eps/4, "
    )
    about += "10 of eps/32) from the same random starts at every place"
    other = (-header["apart"], f"epoch {header['before']}") if header["before"] is not None else None
    return weight_line.Line(arrays, about, other)


with page("Smoothness", "Where does the adversarial loss have a crease, and does smoothing iron it out?"):
    main()
