"""Smoothness: where the adversarial loss of a logistic model has a crease, L2 beside L-inf, and what smoothing does."""

from __future__ import annotations

import streamlit as st

from dynat_core.theory.probe import PLACES, probe
from dynat_core.views import Scene
from dynat_core.views import smoothness as picture
from ui.frame import page, screen_of
from ui.link import Cursor, choice
from ui.scrubber import scrubber
from ui.theory import explained, setting
from ui.words import plain

SCREEN = screen_of("Smoothness")
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
NOT = (
    "Anything about a deep network, or that EntropySGD trains better: that would need equal gradient evaluations and "
    "several seeds, which this screen does not run."
)
CAUTIONS = (
    "A crease has a norm and a place: L2 is not smooth where the gradient in x is 0, here at θ = 0.",
    "A measured quotient is a lower bound; it is not the Lipschitz constant.",
    "Kanai et al.'s adversarial settings and results are UNKNOWN here: only the abstract and opening could be read, so "
    "none of their numbers is shown. The formulas are worked out here and checked by tests.",
)
SOURCE = (
    'Kanai, Yamada, Takahashi, Yamanaka and Ida, "Smoothness Analysis of Adversarial Training" (arXiv 2103.01400; IEEE '
    'TNNLS 2024); local entropy: Chaudhari et al., "Entropy-SGD: Biasing Gradient Descent Into Wide Valleys" (2017).'
)


def main() -> None:
    """Ask, compute, draw."""
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
    explained(FORMULA, WHERE, SHOWS, NOT, CAUTIONS, SOURCE)


@st.cache_data(show_spinner=False, max_entries=100)
def scene(which: str, eps: float, gamma: float, tau: float) -> Scene:
    """The picture of one probe."""
    return picture.smoothness(probe(which, eps, gamma, tau))


with page("Smoothness", "Where does the adversarial loss have a crease, and does smoothing iron it out?"):
    main()
