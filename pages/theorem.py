"""Theorem: the paper's bound with each term live, where every constant in it is known."""

from __future__ import annotations

import numpy as np
import streamlit as st

from dynat_core.errors import RunError
from dynat_core.theory import concavity, minimax
from dynat_core.views import theorem as picture
from dynat_core.views.words import percent
from ui.frame import page, screen_of
from ui.link import Cursor, choice
from ui.paths import asking, can_be_asked, look_at_helper
from ui.scrubber import scrubber
from ui.store import runs, store
from ui.theory import explained, setting, shipped_networks
from ui.words import plain

SCREEN = screen_of("Theorem")
EPS = 0.1  # pixels; the plane of the moons is 1 wide
HORIZONS = [2**k for k in range(12)]
DELTAS = [0.0, *(float(d) for d in np.logspace(-3, 1, 17))]
FORMULA = r"""\begin{gathered}\frac1T\sum_{t<T}\mathbb E\,\|\nabla L_S(\theta_t)\|^2
\;\le\; 4\sigma\sqrt{\frac{L\Delta}{T}}
+ \frac{5L_{\theta x}^2\,\delta}{\mu}\\ L=\frac{L_{\theta x}L_{x\theta}}{\mu}+L_{\theta\theta}\end{gathered}"""
WHERE = (
    "The problem drawn: f(θ, x) = ½‖θ‖² + ⟨θ, x⟩ − ½μ‖x − xᵢ‖² with two weights, |x − xᵢ| ≤ eps in each coordinate; "
    "L_tt = L_tx = L_xt = 1, Δ = L_S(θ₀) − min L_S, step min(1/L, √(Δ/(Lσ²T))). δ bounds the FOSC of every inner "
    "solution, because μ‖z − z*‖² ≤ FOSC(z)."
)
SHOWS = (
    "On a problem that meets every assumption the bound holds, and how loose it is; an error of FOSC ≤ δ that "
    "always pushes one way puts a floor under training that more steps do not remove, an early stop does not here."
)
NOT = (
    "Anything about a network: a ReLU network breaks the second assumption, as the lowest picture measures on real "
    "ones, so there the theorem is no guarantee."
)
CAUTIONS = (
    "ReLU networks are piecewise linear in x and cross-entropy is convex in the logits, so strong concavity cannot "
    "hold inside a linear region.",
    "δ bounds ALL examples used, so the theorem gives no reason for a falling threshold c_t: that part of Dynamic "
    "training is empirical.",
    "The constants are loose: the same argument gives 3σ√(LΔ/T) + 1·L_tx²δ/μ, and the 4σ form needs T ≥ LΔ/σ² "
    "(dotted upright line); before that it is not drawn, since it need not hold.",
)
SOURCE = (
    'Wang, Ma, Bailey, Yi, Zhou and Gu, "On the Convergence and Robustness of Adversarial Training" (ICML 2019, '
    "arXiv 2112.08304), Theorem 1. The problem, the second bound and the measurements are this program's own."
)


def main() -> None:
    """Ask, compute, draw."""
    asked = st.columns(4, gap="medium")
    with asked[0]:
        horizon = setting(SCREEN, "T", "T, training steps", HORIZONS, 1024, "The T of the picture on the right")
    with asked[1]:
        mu = setting(SCREEN, "mu", "μ, concavity", (0.25, 0.5, 1, 2, 4), 1, "How strongly concave the inner problem is")
    with asked[2]:
        sigma = setting(
            SCREEN, "sigma", "σ, gradient noise", (0.25, 0.5, 1, 2), 1, "Standard deviation of the gradient"
        )
    with asked[3]:
        eps = setting(SCREEN, "eps", "eps, attack radius", (0.1, 0.3, 1, 3), 1, "The attack's reach in each coordinate")
    cursor = Cursor(SCREEN, "delta")
    problem = cursor.read(len(DELTAS) - 1)
    if problem:
        st.info(plain(problem))
    above, below = st.container(key="theorem-picture"), st.columns([7, 3], gap="large", vertical_alignment="bottom")
    with below[0]:
        known = shipped_networks()
        chosen = choice(SCREEN, "network", "Network of the lowest picture", {"small": "small, trained here", **known})
    with below[1]:
        share = setting(
            SCREEN, "ball", "radius, share of eps", (0.05, 0.25, 0.5, 1), 1, "Of the balls it is measured in"
        )
    relu = small(share) if chosen == "small" else of_run(chosen, share)
    with above:
        scene = picture.theorem(study(mu, sigma, eps), int(horizon), relu)
        start = cursor.goto if cursor.goto is not None else 13
        cursor.heard(scrubber("theorem", scene, run="theorem", cursor=start, jump=cursor.jump))
    explained(FORMULA, WHERE, SHOWS, NOT, CAUTIONS, SOURCE)


@st.cache_data(show_spinner=False, max_entries=200)
def study(mu: float, sigma: float, eps: float) -> picture.Study:
    """Every run of the problem with these constants."""
    p = minimax.MinMax(mu=mu, noise=sigma, eps=eps)
    early, pushed = (minimax.mean_squared_gradients(p, attack, HORIZONS, DELTAS) for attack in (p.early, p.lowest))
    return picture.Study(p, HORIZONS, DELTAS, early, pushed)


# ------------------------------------------------------------------------------------------------------ the networks


@st.cache_data(show_spinner=False, max_entries=20)
def small(share: float) -> concavity.Measured:
    """Curvatures on a small ReLU network, trained here on the Learn screen's moons, in balls of `share` of EPS."""
    x, y = concavity.moons()
    return concavity.measure(concavity.trained(x, y, epochs=120), x, y, EPS * share)


def of_run(id: str, share: float) -> concavity.Measured:
    """Curvatures on a run's last checkpoint, asked of the helper; the small network, and why, where it cannot."""
    run = next(run for run in runs() if run.id == id)
    epoch = run.kept_epochs()[-1]
    try:
        can_be_asked(run, epoch, "This curvature")
        question = {"store": str(store().folder.absolute()), "run": id, "epoch": epoch, "share": share}
        looks = {"curvature": asking("curvature", run, question, "theorem")}
        answer = look_at_helper(looks, "measuring the curvature", "theorem-picture")["curvature"]
        if answer.value is None:
            raise RunError(answer.error or "The measurement gave no answer; choose the network again.")
    except RunError as error:
        st.info(plain(f"{error} Shown instead: the small network."))
        return small(share)
    header, arrays = answer.value
    about = f"{run.title}, epoch {epoch}, {header['n']} test images, eps {header['eps']:.3g}"
    about += f", accuracy there {percent(header['accuracy'], 1)}"
    return concavity.Measured(arrays["curvature"], arrays["straight"] > 0, about)


with page("Theorem", "Theorem 1: what does an unfinished attack cost training, and when does the bound apply?"):
    main()
