"""L2L: adversarial training whose attack is learnt along with the classifier (Xiong and Hsieh, ECCV 2020).

Per batch one unroll of the attack, one Adam step of the attacker uphill and one step of the weights downhill, at the
same end points. The paper says co-trained; order and frequency are ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dynat_core import config
from dynat_core.attack.attacks import Attacked, cross_entropy
from dynat_core.attack.learned import Learned, Recurrent, attack, unroll
from dynat_core.training.strategy import Moment, Strategy

CLIP = 1.0  # largest norm of the attacker's gradient


class L2L(Strategy[config.L2L]):
    """The attacker maximises the losses along its path, the later ones more; the classifier minimises that at its end.

    The gradient at the end point trains the attacker, so every image costs T + 1, recorded or not.
    """

    def __init__(self, settings: config.L2L, eps: float, seed: int = 0, device: torch.device | str = "cpu") -> None:
        super().__init__(settings, eps, seed, device)
        self.net = Recurrent.seeded(settings.units, seed).to(device)
        self.rule = Learned(self.net, self.alpha)
        self.adam = torch.optim.Adam(self.net.parameters(), lr=settings.attacker_lr)

    def attack(self, x: Tensor, y: Tensor, moment: Moment) -> Attacked:
        return attack(moment.frozen, moment.ball(x), y, self.rule, self.settings.steps, generator=moment.generator)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, moment: Moment) -> tuple[Tensor, Attacked]:
        attacked, gain = unroll(
            moment.frozen, moment.ball(x), y, self.rule, self.settings.steps, generator=moment.generator
        )
        if self.eps > 0:  # else nothing moves, and there is nothing to learn
            self.adam.zero_grad(set_to_none=True)
            (-gain).backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
            self.adam.step()
        return cross_entropy(model(attacked.z), y).mean(), attacked

    def state_dict(self) -> dict[str, Tensor]:
        found = {f"net/{name}": value for name, value in self.net.state_dict().items()}
        for name, p in self.net.named_parameters():
            found |= {f"adam/{name}/{part}": value for part, value in self.adam.state.get(p, {}).items()}
        return found

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.net.load_state_dict({name: state[f"net/{name}"] for name in self.net.state_dict()})
        for name, p in self.net.named_parameters():
            prefix = f"adam/{name}/"
            kept = {key.removeprefix(prefix): value.clone() for key, value in state.items() if key.startswith(prefix)}
            if kept:
                self.adam.state[p] = {**kept, "step": kept["step"].cpu()}
