"""SDE: adversarial SGD beside its stochastic differential equation, where both are known in closed form."""

from __future__ import annotations

import numpy as np
import streamlit as st

from dynat_core.theory import learning_rate, small_network, weak_order
from dynat_core.theory.adversarial_sgd import Quadratic
from dynat_core.views import View, sde_network
from dynat_core.views import sde as picture
from ui.frame import page, screen_of
from ui.link import Cursor, Switched, told
from ui.scrubber import scrubber
from ui.theory import explained, setting, use_in_a_run
from ui.words import plain

SCREEN = screen_of("SDE")
TIME, RUNS = 6.0, 1000
NETWORK_ETAS = (0.1, 0.05, 0.025, 0.0125)
MEASURED_AT, ETAS = 1.0, (0.1, 0.0625, 0.05, 0.04, 0.025, 0.02, 0.0125)  # each divides the time
FORMULA = r"""\begin{gathered}z_{k+1}=z_k+\eta\,\partial_x J,
\qquad\theta\leftarrow\theta-u\,\eta\,\overline{\partial_\theta J(\theta,z_K)}\\
d\Theta=-\nabla\!\left[f+\tfrac{\eta}{2}K\,\mathbb E\|\partial_x J\|^2
+\tfrac\eta4\|\nabla f\|^2\right]dt+\sqrt{\eta S/B}\;dW\end{gathered}"""
WHERE = (
    "The model drawn: J = ½(θ − x)², x normal with variance 1, θ₀ = 2, batches of B, K ascents without sign or "
    "projection. κ = (1 + η)^K; the runs' mean is (1 − ηκ)ⁿθ₀, the equation's rate is 1 + (K + ½)η. The rule: "
    "u = 1 until t* = ln(M₀/M∞ − 1)/2κ, then 1/(1 + κ(t − t*)), M∞ = κη/2B."
)
SHOWS = (
    "On one quadratic model, how closely the equation follows many runs of adversarial SGD, how its error shrinks with "
    "the step size, and that a learning rate that falls once noise dominates ends no higher than these fixed ones."
)
NOT = (
    "Anything about PGD as it is used, whose signs and projection are outside the equation (lowest pictures: its error "
    "does not shrink with the step size), about robustness, or about the best learning rate of a network."
)
SCHEDULE = (
    "Holds the learning rate, then lets it fall as 1/(1 + fall · (epoch − hold)): the form of the rule. When to let it "
    "fall, and how fast, is known for the quadratic model alone; for a network the preset's 12 epochs and "
    "fall of 1 are a guess, yours to change."
)
CAUTIONS = (
    "The order is that of the error in mean or variance at a fixed time. The relative error of the variance is only of "
    "first order.",
    "On the small network only the drift is compared, with all images in every step: the noise term is left out, and "
    "second derivatives are central differences.",
    "The two terms with η are what makes it second order; without them the equation is blind to the attack.",
    "The formulas are worked out here and checked by tests; Gu and Guo's exact theorems, constants, control rule and "
    "experiments are UNKNOWN here (only the abstract could be read), so none of their numbers is shown.",
)
SOURCE = (
    'Gu and Guo, "An SDE Framework for Adversarial Training, with Convergence and Robustness Analysis" (arXiv '
    "2105.08037, 2021); plain SGD, K = 0: Li, Tai and E (2017)."
)


def main() -> None:
    """Ask, compute, draw."""
    asked = st.columns(3, gap="large")
    with asked[0]:
        eta = setting(SCREEN, "eta", "η, step size inside and outside", (0.02, 0.05, 0.1, 0.2), 0.05, "Small: slow")
    with asked[1]:
        ascents = setting(SCREEN, "K", "K, ascents of the attack", (0, 1, 2, 3, 5), 3, "0 is plain SGD")
    with asked[2]:
        batch = setting(SCREEN, "B", "B, batch", (1, 2, 4, 8, 16), 4, "Large: little noise")
    cursor, moment = Cursor(SCREEN, "step"), Switched(SCREEN, "moment", "moment", ("mean", "variance"))
    shown = study(eta, int(ascents), int(batch))
    for problem in filter(None, (moment.read(), cursor.read(len(shown.runs) - 1))):
        st.info(plain(problem))
    moment.heard(told("sde", "sde"))
    with st.container(key="sde-picture"):
        start = cursor.goto if cursor.goto is not None else round(1 / eta)
        scene = picture.sde(shown, moment.value, network(eta, int(ascents)))
        report = scrubber("sde", scene, run="sde", cursor=start, jump=cursor.jump, pace=80)
        cursor.heard(report)
    explained(FORMULA, WHERE, SHOWS, NOT, CAUTIONS, SOURCE)
    use_in_a_run("this schedule", "digits-hold-then-fall", SCHEDULE)


@st.cache_data(show_spinner=False, max_entries=40)
def study(eta: float, ascents: int, batch: int) -> picture.Study:
    """Runs, errors and learning rates of one model."""
    q = Quadratic(eta, ascents, batch)
    steps = round(TIME / eta)
    fixed = {"fixed": 1.0, "half": 0.5, "quarter": 0.25}
    moments = {name: learning_rate.second_moment(q, np.full(steps, u)) for name, u in fixed.items()}
    moments |= {
        "rule": learning_rate.second_moment(q, learning_rate.ruled(q, steps)),
        "best": learning_rate.second_moment(q, learning_rate.best(q, steps)),
    }
    return picture.Study(q, q.paths(steps, RUNS), errors(ascents, batch), moments)


@st.cache_data(show_spinner=False, max_entries=40)
def network(eta: float, ascents: int) -> list[View]:
    """The pictures of the small network; batches play no part in it."""
    found = small_network.changes(ascents, NETWORK_ETAS)
    return sde_network.network(small_network.paths(eta, ascents, round(TIME / eta)), found, eta, ascents)


@st.cache_data(show_spinner=False, max_entries=40)
def errors(ascents: int, batch: int) -> dict[str, weak_order.Errors]:
    """The error of each moment against the step size, exact and measured; it does not depend on the chosen eta."""

    def model(eta: float) -> Quadratic:
        return Quadratic(eta, ascents, batch)

    return {moment: weak_order.errors(model, ETAS, MEASURED_AT, moment) for moment, _ in picture.MOMENTS}


with page("SDE", "Does a stochastic differential equation predict this run of adversarial training?"):
    main()
