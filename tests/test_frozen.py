"""The frozen view's own gradient at the image, against autograd's; on a GPU where there is one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dynat_core.attack.attacks import cross_entropy, margin_loss, pgd, plain_value_and_grad, value_and_grad
from dynat_core.attack.fosc import stop_below
from dynat_core.attack.frozen import Frozen
from dynat_core.attack.graphs import Graphs, padded, padded_size, same
from dynat_core.attack.threat import Ball
from tests.networks import images, network

torch.set_num_threads(1)
CONVOLUTIONS = {
    "same": {"kernel_size": 3, "padding": 1},
    "no padding": {"kernel_size": 3},
    "stride": {"kernel_size": 3, "stride": 2, "padding": 1},
    "stride that leaves a rest": {"kernel_size": 4, "stride": 3},
    "dilation": {"kernel_size": 3, "dilation": 2, "padding": 2},
    "oblong": {"kernel_size": (3, 5), "padding": (1, 2), "stride": (2, 1)},
    "no bias": {"kernel_size": 1, "bias": False},
    "reflected": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "padding in words": {"kernel_size": 3, "padding": "same"},
}


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
@pytest.mark.parametrize("settings", CONVOLUTIONS)
def test_the_gradient_at_the_image_is_that_of_autograd(channels, settings):
    torch.manual_seed(3)
    conv = nn.Conv2d(channels, 5, **CONVOLUTIONS[settings])
    net = nn.Sequential(conv, nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)).double()
    x, y = torch.rand(3, channels, 9, 11, dtype=torch.float64), torch.tensor([0, 3, 1])
    net(x)
    net.eval()
    mine, theirs = (value_and_grad(m, cross_entropy, x, y) for m in (Frozen(net), net))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("part", [slice(0, 1), slice(1, 6), slice(0, 0)])
def test_the_gradient_is_the_same_for_any_layout_and_part_of_the_batch(layout, part):
    net, (x, y) = network("mnist-cnn"), images("mnist-cnn")
    whole = value_and_grad(Frozen(net), cross_entropy, x, y)[2][part]
    some = value_and_grad(Frozen(net), cross_entropy, x[part].to(memory_format=layout), y[part])[2]
    torch.testing.assert_close(some, whole, atol=1e-12, rtol=0)


def test_groups_and_wide_layers_keep_their_own_gradient():
    net = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
    view = Frozen(net)
    assert [type(m).__name__ for m in view.net.modules() if isinstance(m, nn.Conv2d)] == [
        "Conv2d",
        "_ImageConv2d",
        "Conv2d",
    ]
    assert not any(type(m).__name__ == "_ImageConv2d" for m in net.modules())  # the network itself is left as it was


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_the_frozen_view_repeats_itself_bit_for_bit(precision):
    x, y = images("mnist-cnn", n=32, dtype=torch.float32)
    seen = [
        pgd(
            Frozen(network("mnist-cnn", torch.float32), precision), Ball(x, 0.3), y, steps=4, alpha=0.075,
            stop=stop_below(0.05), generator=torch.Generator().manual_seed(1),
        )
        for _ in range(2)
    ]  # fmt: skip
    assert torch.equal(seen[0].z, seen[1].z) and torch.equal(seen[0].grad, seen[1].grad)


@pytest.mark.parametrize("n", [*range(1, 70), 100, 127, 128, 129, 255, 500, 1000])
def test_batches_are_padded_to_few_sizes_and_by_little(n):
    size = padded_size(n)
    assert n <= size < n + max(8, n / 8) and size % 8 == 0
    assert padded_size(size) == size  # a size once recorded serves its own batch
    assert len({padded_size(m) for m in range(n, 2 * n)}) <= 9


def test_rows_added_to_a_batch_change_no_samples_own_gradient():
    net, (x, y) = network("digits-cnn"), images("digits-cnn", n=5)
    alone = value_and_grad(net, cross_entropy, x, y)
    among = value_and_grad(net, cross_entropy, padded(x, 8), padded(y, 8))
    for a, b in zip(alone, among, strict=True):
        torch.testing.assert_close(a, b[:5], atol=1e-12, rtol=0)


def test_what_cannot_be_recorded_is_computed_by_autograd_and_asked_for_once():
    """This processor records nothing, as a device whose library refuses does not."""
    net, (x, y) = network("digits-cnn"), images("digits-cnn", n=5)
    graphs = Graphs(lambda *asked: value_and_grad(net, *asked), (cross_entropy,))
    tried = []
    graphs._record = lambda *asked: tried.append(asked)
    for loss in (cross_entropy, cross_entropy, margin_loss):
        for a, b in zip(graphs(loss, x, y), value_and_grad(net, loss, x, y), strict=True):
            assert torch.equal(a, b)
    assert len(tried) == 1 and len(tried[0][1]) == 8


# ----------------------------------------------------------------------------------------------------------- on a GPU

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT TESTED: this machine has no CUDA device")


@on_gpu
@pytest.mark.parametrize("name", ["digits-cnn", "mnist-cnn", "cifar10-cnn", "preact-resnet18"])
@pytest.mark.parametrize("norm, eps", [("linf", 8 / 255), ("l2", 0.5)])
def test_an_attack_on_a_gpu_is_the_attack_on_the_cpu(name, norm, eps):
    x, y = images(name)
    start = Ball(x, eps, norm).random_point(torch.Generator().manual_seed(2))
    found = []
    for device in ("cpu", "cuda"):
        net, ball = Frozen(network(name).to(device)), Ball(x.to(device), eps, norm)
        stop = stop_below(0.02)
        found.append(pgd(net, ball, y.to(device), steps=5, alpha=eps / 4, start=start.to(device), stop=stop))
    torch.testing.assert_close(found[1].z.cpu(), found[0].z, atol=1e-9, rtol=0)
    assert torch.equal(found[1].gradients.cpu(), found[0].gradients)


@on_gpu
@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_a_replayed_gradient_is_autograds_also_after_the_weights_have_changed(precision):
    net = network("cifar10-cnn", torch.float32).cuda()
    view = Frozen(net, precision)
    for turn, n in enumerate((30, 32, 17, 30)):
        x, y = (part.cuda() for part in images("cifar10-cnn", n=n, seed=turn, dtype=torch.float32))
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(1.05)
        view.refresh()
        for a, b in zip(view.value_and_grad(cross_entropy, x, y), plain_value_and_grad(view, cross_entropy, x, y),
                        strict=True):  # fmt: skip
            torch.testing.assert_close(a, b, atol=1e-3 if precision == "exact" else 5e-2, rtol=1e-2)
    assert view._graphs is not None and any(view._graphs._kept.values()), "nothing could be recorded"


@on_gpu
@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_the_frozen_view_on_a_gpu_is_close_to_the_network(precision):
    net, (x, _) = network("cifar10-cnn", torch.float32).cuda(), images("cifar10-cnn", dtype=torch.float32)
    tolerance = 1e-3 if precision == "exact" else 0.1
    torch.testing.assert_close(Frozen(net, precision)(x.cuda()), net(x.cuda()), atol=tolerance, rtol=tolerance)


def test_a_replay_of_small_gradients_is_judged_by_their_own_size():
    small = 1e-3 * torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert same(small * 1.001, small)
    assert not same(torch.zeros_like(small), small) and not same(-small, small)
