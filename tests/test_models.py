"""The networks: sizes, shapes, normalisation inside, start weights that depend on the seed alone; and the frozen
view."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dynat_core import config
from dynat_core.attack.attacks import cross_entropy, value_and_grad
from dynat_core.attack.frozen import Frozen
from dynat_core.networks import models
from tests.networks import images, network

COUNTS = [
    (config.DigitsCNN(), 1, 9_850),
    (config.MnistCNN(), 1, 421_834),
    (config.Cifar10CNN(), 3, 1_639_794),
    (config.PreActResNet18(), 3, 11_172_170),
    (config.WideResNet(depth=28, width=10), 3, 36_479_194),
    (config.WideResNet(depth=34, width=10), 3, 46_160_474),
]


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("settings, channels, count", COUNTS, ids=lambda v: getattr(v, "name", None))
def test_parameter_counts(settings, channels, count):
    with torch.device("meta"):
        assert parameters(models.build(settings, channels)) == count


@pytest.mark.parametrize("data, model", [
    ("digits", "digits-cnn"), ("digits", "preact-resnet18"), ("mnist", "mnist-cnn"), ("mnist", "preact-resnet18"),
    ("cifar10", "cifar10-cnn"), ("cifar10", "wide-resnet"),
])  # fmt: skip
def test_every_allowed_pair_gives_ten_logits_and_a_gradient(data, model):
    settings = (
        config.WideResNet(depth=10, width=1) if model == "wide-resnet" else config.union_kinds("model")[1][model]()
    )
    channels, height, width = config.SHAPES[data][2]
    net = models.initialise(settings, channels, seed=0).eval()
    x = torch.rand(2, channels, height, width, requires_grad=True)
    logits = net(x)
    assert logits.shape == (2, 10)
    (grad,) = torch.autograd.grad(logits.sum(), x)
    assert grad.abs().sum() > 0


def test_start_weights_depend_on_the_seed_alone_and_leave_the_global_state():
    before = torch.random.get_rng_state()
    first = models.initialise(config.DigitsCNN(), 1, 3).state_dict()
    torch.rand(10)
    again, other = (models.initialise(config.DigitsCNN(), 1, s).state_dict() for s in (3, 4))
    assert all(torch.equal(v, again[k]) for k, v in first.items())
    assert not torch.equal(first["0.weight"], other["0.weight"])
    torch.random.set_rng_state(before)
    models.initialise(config.DigitsCNN(), 1, 3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_normalisation_sits_inside_so_a_constant_picture_of_the_mean_becomes_zero():
    norm = models.Normalise((0.5, 0.25, 0.75), (0.5, 0.25, 0.25))
    x = torch.tensor([0.5, 0.25, 0.75]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert norm(x).abs().max() == 0
    torch.testing.assert_close(norm(torch.ones(1, 3, 1, 1)).flatten(), torch.tensor([1.0, 3.0, 1.0]))


@pytest.mark.parametrize("name", ["digits-cnn", "mnist-cnn", "cifar10-cnn", "preact-resnet18"])
def test_the_frozen_view_is_the_network_in_eval_mode_up_to_rounding(name):
    net, (x, _) = network(name), images(name, n=3)
    frozen = Frozen(net)
    torch.testing.assert_close(frozen(x), net(x), atol=1e-10, rtol=1e-10)
    gradients = [value_and_grad(m, cross_entropy, x, torch.tensor([1, 2, 3]))[2] for m in (net, frozen)]
    torch.testing.assert_close(*gradients, atol=1e-10, rtol=1e-8)
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(isinstance(m, nn.Identity) for n, m in frozen.net.named_modules() if n in {b for _, b in frozen._pairs})


def test_the_frozen_view_follows_training_in_place_and_leaves_the_network_alone():
    net, (x, y) = network("digits-cnn").train(), images("digits-cnn", n=8)
    frozen = Frozen(net)
    places = {name: p.data_ptr() for name, p in frozen.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    assert net.training
    frozen.refresh()
    torch.testing.assert_close(frozen(x), net.eval()(x), atol=1e-10, rtol=1e-10)
    assert places == {name: p.data_ptr() for name, p in frozen.named_parameters()}


def test_fast_means_rounding_only():
    net, (x, _) = network("mnist-cnn", torch.float32), images("mnist-cnn", n=32, dtype=torch.float32)
    logits, rounded = net(x), Frozen(net, "fast")(x)
    assert rounded.dtype == torch.float32
    assert not torch.equal(logits, rounded)
    assert (logits - rounded).abs().max() < 0.03 * logits.abs().max()
    assert (logits.argmax(1) == rounded.argmax(1)).float().mean() > 0.9
