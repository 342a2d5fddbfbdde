"""Model files: public layouts compute what their repositories compute, files are freed of their wrappers, the way of
feeding is found, programs run, and what is added is measured."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from running import in_child, train_here
from safetensors.torch import load_file, save_file
from torch import nn

from dynat_core.__main__ import main
from dynat_core.attack.attacks import cross_entropy, in_eval_mode, value_and_grad
from dynat_core.attack.threat import Ball
from dynat_core.check.preflight import preflight
from dynat_core.config import Digits, Imported, RunConfig
from dynat_core.errors import ConfigError, DynatError, ModelFileError, RunError
from dynat_core.images import data, own_data
from dynat_core.networks import models, state_dict
from dynat_core.networks.architectures import PUBLIC, SamePadWideResNet, WideResNet
from dynat_core.networks.conventions import conventions, label_order, order_of
from dynat_core.networks.model_files import inspect, load_program
from dynat_core.store.runs import RunStore
from dynat_core.store.trusted_programs import trust
from dynat_core.work import model_adding
from dynat_core.work.loading import network
from dynat_core.work.model_adding import Wish, add_model

DEMO = Path(__file__).resolve().parent.parent / "checkpoints" / "demo-digits-dynamic"
DIGITS = DEMO / "weights" / "0030.safetensors"
CLASSES = 10


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAT_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("DYNAT_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("dynat_core.commands.asked.ensure_worker", lambda store: None)
    return RunStore(tmp_path / "store")


@pytest.fixture(scope="module")
def inspected():
    """The shipped network's file, looked at once."""
    return inspect(DIGITS)


def lively(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network in float64 and eval mode, with weights and BatchNorm statistics that are not those of a fresh one."""
    gen = torch.Generator().manual_seed(seed)
    net = net.double().eval().requires_grad_(False)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=gen, dtype=torch.float64)
            scale = max(1.0, tensor[0].numel() / 3) if tensor.dim() > 1 else 1.0
            positive = name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight"))
            tensor.copy_(0.5 + noise if positive else (2 * noise - 1) / scale**0.5)
    return net


# ------------------------------------------------------------------- the public layouts, computed from the names alone


class ByName:
    """Layers as calls on a state dict: what a public repository's forward pass does, written out."""

    def __init__(self, net: nn.Module) -> None:
        self.w = net.state_dict()

    def conv(self, name, x, stride=1, padding=1):
        return F.conv2d(x, self.w[f"{name}.weight"], None, stride, padding)

    def bn(self, name, x):
        w = self.w
        return F.batch_norm(
            x, w[f"{name}.running_mean"], w[f"{name}.running_var"], w[f"{name}.weight"], w[f"{name}.bias"]
        )

    def dense(self, name, x):
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])


def preact_reference(net, x, source, last):
    """As in the repositories on fast adversarial training and robust overfitting: average pooling over 4x4, `view`."""
    m = ByName(net)
    x = m.conv("conv1", x)
    for layer, block in itertools.product(range(1, 5), range(2)):
        at = f"layer{layer}.{block}"
        stride = 2 if layer > 1 and block == 0 else 1
        out = F.relu(m.bn(f"{at}.bn1", x))
        if f"{at}.shortcut.0.weight" in m.w:
            around = m.conv(f"{at}.shortcut.0", out if source == "activation" else x, stride, 0)
        else:
            assert stride == 1
            around = x
        out = m.conv(f"{at}.conv1", out, stride)
        x = m.conv(f"{at}.conv2", F.relu(m.bn(f"{at}.bn2", out))) + around
    if last:
        x = F.relu(m.bn("bn", x))
    return m.dense("linear", F.avg_pool2d(x, 4).view(len(x), -1))


def resnet_reference(net, x):
    m = ByName(net)
    x = F.relu(m.bn("bn1", m.conv("conv1", x)))
    for layer, block in itertools.product(range(1, 5), range(2)):
        at = f"layer{layer}.{block}"
        stride = 2 if layer > 1 and block == 0 else 1
        out = m.bn(f"{at}.bn2", m.conv(f"{at}.conv2", F.relu(m.bn(f"{at}.bn1", m.conv(f"{at}.conv1", x, stride)))))
        around = x if stride == 1 else m.bn(f"{at}.shortcut.1", m.conv(f"{at}.shortcut.0", x, stride, 0))
        x = F.relu(out + around)
    return m.dense("linear", F.avg_pool2d(x, 4).view(len(x), -1))


def wide_reference(net, x, blocks):
    """As in TRADES: where the width changes, x itself becomes the activation before both ways part."""
    m = ByName(net)
    x = m.conv("conv1", x)
    for group, block in itertools.product(range(1, 4), range(blocks)):
        at = f"block{group}.layer.{block}"
        stride = 2 if group > 1 and block == 0 else 1
        changes = m.w[f"{at}.conv1.weight"].shape[0] != m.w[f"{at}.conv1.weight"].shape[1]
        if changes:
            x = F.relu(m.bn(f"{at}.bn1", x))
            out = x
        else:
            out = F.relu(m.bn(f"{at}.bn1", x))
        out = m.conv(f"{at}.conv2", F.relu(m.bn(f"{at}.bn2", m.conv(f"{at}.conv1", out, stride))))
        x = out + (m.conv(f"{at}.convShortcut", x, stride, 0) if changes else x)
    return m.dense("fc", F.avg_pool2d(F.relu(m.bn("bn1", x)), 8).view(len(x), -1))


def same_pad_reference(net, x, blocks, active):
    m = ByName(net)
    x = m.conv("init_conv", x)
    for group, block in itertools.product(range(3), range(blocks)):
        at = f"layer.{group}.block.{block}"
        stride = 2 if group > 0 and block == 0 else 1
        out = active(m.bn(f"{at}.batchnorm_0", x))
        around = m.conv(f"{at}.shortcut", out, stride, 0) if f"{at}.shortcut.weight" in m.w else x
        pad = (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1)
        out = m.conv(f"{at}.conv_0", F.pad(out, pad), stride, 0)
        x = m.conv(f"{at}.conv_1", active(m.bn(f"{at}.batchnorm_1", out))) + around
    x = active(m.bn("batchnorm", x))
    return m.dense("logits", F.avg_pool2d(x, 8).view(len(x), -1))


REFERENCES = {
    "preact-resnet18": lambda net, x: preact_reference(net, x, "activation", True),
    "preact-resnet18-input": lambda net, x: preact_reference(net, x, "input", True),
    "preact-resnet18-bare": lambda net, x: preact_reference(net, x, "activation", False),
    "preact-resnet18-bare-input": lambda net, x: preact_reference(net, x, "input", False),
    "resnet18": resnet_reference,
    "wrn-16-1": lambda net, x: wide_reference(net, x, 2),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_public_layout_computes_what_its_repository_computes(name):
    net = lively(PUBLIC[name](3, CLASSES))
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net(x), REFERENCES[name](net, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("width", [2, 3])
def test_wider_networks_of_the_trades_layout_do_too(width):
    net = lively(WideResNet(3, CLASSES, 10, width))
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(net(x), wide_reference(net, x, 1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("active", [F.silu, F.relu])
def test_deepminds_layout_pads_right_and_below(active):
    net = lively(SamePadWideResNet(3, CLASSES, 16, 1, active))
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(net(x), same_pad_reference(net, x, 2, active), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name, count", [
    ("preact-resnet18", 11_172_170), ("preact-resnet18-bare", 11_171_146), ("resnet18", 11_173_962),
    ("wrn-28-10", 36_479_194), ("wrn-34-10", 46_160_474), ("wrn-28-10-swish", 36_479_194),
])  # fmt: skip
def test_parameter_counts_are_the_published_ones(name, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in PUBLIC[name](3, CLASSES).parameters()) == count


def test_every_architecture_is_described_and_takes_other_channels_and_classes():
    for name, function in models.ARCHITECTURES.items():
        assert (function.__doc__ or "").strip(), name
        with torch.device("meta"):
            state = function(1, 7).state_dict()
        assert any(t.dim() == 4 and t.shape[1] == 1 for t in state.values()), name
        assert any(t.dim() == 2 and t.shape[0] == 7 for t in state.values()), name


# ---------------------------------------------------------------------------------------- wrappers and conventions


def tiny(name: str = "wrn-16-1", seed: int = 0) -> dict[str, torch.Tensor]:
    return lively(models.ARCHITECTURES[name](3, CLASSES), seed).float().state_dict()


def add(prefix: str, state: dict) -> dict:
    return {prefix + name: value for name, value in state.items()}


MEAN, STD = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2471, 0.2435, 0.2616])
OWN = ".4914,.4822,.4465/.2471,.2435,.2616"
WRAPPED = {
    "bare": (lambda s: s, ""),
    "state_dict": (lambda s: {"state_dict": s, "epoch": 3}, ""),
    "model_state_dict": (lambda s: {"model_state_dict": s, "optimizer": {"state": {}}}, ""),
    "net": (lambda s: {"net": s, "acc": 93.0}, ""),
    "model": (lambda s: {"model": s, "ema": s}, ""),
    "ema": (lambda s: {"ema": s, "step": 1}, ""),
    "nested": (lambda s: {"state": {"model": add("module.", s)}}, ""),
    "data parallel": (lambda s: add("module.", s), ""),
    "compiled": (lambda s: add("_orig_mod.", s), ""),
    "both": (lambda s: add("module._orig_mod.model.", s), ""),
    "normalising sequential": (lambda s: {"0.mean": MEAN, "0.std": STD, **add("1.", s)}, OWN),
    "sequential without buffers": (lambda s: add("1.", s), ""),
    "robustbench": (lambda s: {"mu": MEAN.view(1, 3, 1, 1), "sigma": STD.view(1, 3, 1, 1), **s}, OWN),
    "robustbench parallel": (lambda s: add("module.", {"mu": MEAN, "sigma": STD, **s}), OWN),
    "robustness library": (
        lambda s: add("module.", {"normalizer.new_mean": MEAN.view(3, 1, 1), "normalizer.new_std": STD.view(3, 1, 1),
                                  **add("model.", s), **add("attacker.model.", s),
                                  "attacker.normalize.new_mean": MEAN, "attacker.normalize.new_std": STD}), OWN),
    "without counters": (lambda s: {n: t for n, t in s.items() if "num_batches" not in n}, ""),
    "trades' idle group": (lambda s: {**s, **add("sub_", {n: t for n, t in s.items() if n.startswith("block1")})}, ""),
    "half": (lambda s: {n: t.half() if t.is_floating_point() else t for n, t in s.items()}, ""),
    "double": (lambda s: {n: t.double() if t.is_floating_point() else t for n, t in s.items()}, ""),
    "parameters": (lambda s: {n: nn.Parameter(t, False) for n, t in s.items()}, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", WRAPPED)
def test_what_wrappers_add_is_taken_off_and_said(case):
    state = tiny()
    wrap, normalisation = WRAPPED[case]
    done = state_dict.tidy(wrap(state), room=10**9)
    assert done.normalisation == normalisation
    plain = {n: t for n, t in state.items() if "num_batches" not in n}
    assert done.tensors.keys() == plain.keys()
    exact = case != "half"
    assert all(torch.equal(t, plain[n]) if exact else torch.allclose(t, plain[n], atol=1e-3)
               for n, t in done.tensors.items())  # fmt: skip
    assert bool(done.repairs) == (case not in ("bare", "without counters", "parameters"))
    assert [m.architecture for m in state_dict.matches(done.tensors, ordered=False)] == ["wrn-16-1"]


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_files_own_normalisation_is_used_to_the_last_bit(kind, channels):
    mean = torch.tensor([0.4914, -1 / 3, 1e-5 / 3, 100 / 3], dtype=torch.float64)[:channels].to(kind)
    std = torch.tensor([1 / 255, 2 / 255, 3 / 255, 4 / 255], dtype=torch.float64)[:channels].to(kind)
    done = state_dict.tidy({"mu": mean, "sigma": std, **tiny()}, room=10**9)
    config = Imported(architecture="wrn-16-1", normalisation=done.normalisation)
    front = models.front(config.normalisation, channels)
    x = torch.rand(2, channels, 4, 4)
    shape = (1, channels, 1, 1)
    assert torch.equal(front(x), (x - mean.float().view(shape)) / std.float().view(shape))


def test_weights_that_fit_several_networks_name_all_of_them():
    found = state_dict.matches(state_dict.tidy(tiny("preact-resnet18"), 10**9).tensors, ordered=True)
    assert [m.architecture for m in found] == ["preact-resnet18", "preact-resnet18-input"]
    assert not any(m.by_order for m in found)


def test_another_naming_of_a_known_network_is_matched_by_the_order_of_its_layers():
    renamed = {f"stage{k}.{name.rpartition('.')[2]}": t for k, (name, t) in enumerate(tiny("digits-cnn").items())
               if "num_batches" not in name}  # fmt: skip
    (match,) = state_dict.matches(renamed, ordered=True)
    assert match.architecture == "digits-cnn" and match.by_order
    assert list(match.names.values()) == list(renamed)
    with pytest.raises(ModelFileError, match="fit no architecture that is known here"):
        state_dict.matches(renamed, ordered=False)


def test_the_nearest_network_and_what_differs_are_named():
    state = state_dict.tidy(tiny(), 10**9).tensors
    state["fc.weight"] = torch.zeros(10, 63)
    del state["bn1.bias"]
    with pytest.raises(
        ModelFileError, match=r"nearest is wrn-16-1, where fc.weight is 10x64 and not 10x63, .*bn1.bias"
    ):
        state_dict.matches(state, ordered=True)


@pytest.mark.parametrize("write", [
    pytest.param(lambda s, p: torch.save({"state_dict": add("module.", s)}, p), id="torch"),
    pytest.param(lambda s, p: torch.save(s, p, _use_new_zipfile_serialization=False), id="legacy torch"),
    pytest.param(lambda s, p: save_file(s, p), id="safetensors"),
])  # fmt: skip
def test_a_file_gives_the_network_that_was_saved(write, tmp_path):
    net = lively(models.digits_cnn()).float()
    write(net.state_dict(), tmp_path / "file")
    found = inspect(tmp_path / "file")
    match = found.match("digits-cnn")
    x = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(found.network(match, "none")(x), net(x))
    normalised = found.network(match, "half-grey")(x)
    torch.testing.assert_close(normalised, net((x - 0.5) / 0.5))
    built = models.build(Imported(architecture="digits-cnn", normalisation="half-grey"), 1, classes=10).eval()
    (tmp_path / "kept.safetensors").write_bytes(found.to_bytes(match))
    built.load_state_dict(load_file(tmp_path / "kept.safetensors"))
    torch.testing.assert_close(built(x), normalised)
    with pytest.raises(ConfigError, match="do not fit mnist-cnn; they fit digits-cnn"):
        found.match("mnist-cnn")
    with pytest.raises(ConfigError, match="no architecture called 'x'"):
        found.match("x")


@pytest.mark.parametrize("name, channels, says", [
    ("nonsense", 3, "no normalisation called 'nonsense'"), ("mnist", 3, "not for images of 3 channels"),
    (".5/.2", 3, "not for images of 3 channels"), (".5/0", 1, "above 0"),
    ("nan/1", 1, "finite"), ("1/inf", 1, "above 0"),
])  # fmt: skip
def test_a_normalisation_that_cannot_be_is_refused(name, channels, says):
    with pytest.raises(ConfigError, match=says):
        models.statistics(name, channels)


def test_a_normalisation_may_be_given_in_numbers():
    assert models.statistics(".49,.48,.45/.25,.24,.26", 3) == ((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))


# ------------------------------------------------------------------------------------------- how it wants to be fed


@pytest.fixture(scope="module")
def digits():
    """The shipped network, and 300 test digits in no order of class."""
    net = models.digits_cnn()
    net.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in load_file(DIGITS).items()})
    test = data.load(Digits()).test
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:300]
    return net.eval(), test.pixels(order), test.labels[order]


class Brighter(nn.Module):
    """Right when it is fed with its own convention: class 1 where the mean pixel of the picture itself is above .4."""

    def __init__(self, convention):
        super().__init__()
        known = models.statistics(convention, 1) or ((0.0,), (1.0,))
        (self.mean,), (self.std,) = known

    def forward(self, z):
        bright = (z * self.std + self.mean).mean(dim=(1, 2, 3)) - 0.4
        return torch.stack([-bright, bright], dim=1)


def fed_into(net):
    def fed(name):
        known = models.statistics(name, 1)
        return nn.Sequential(nn.Identity() if known is None else models.Normalise(*known), net)

    return fed


@pytest.mark.parametrize("convention", models.normalisations(1))
def test_the_convention_that_gets_more_right_comes_first(convention):
    gen = torch.Generator().manual_seed(0)
    x = (0.4 + 0.4 * (torch.rand(300, 1, 1, 1, generator=gen) - 0.5)).expand(300, 1, 4, 4)
    y = (x.mean(dim=(1, 2, 3)) > 0.4).long()
    fed = fed_into(Brighter(convention))
    found = conventions(fed, x, y, models.normalisations(1))
    assert (found[0].name, found[0].n) == (convention, 300) and found[0].accuracy > 0.95
    for tried in found:
        right = fed(tried.name)(x[: tried.n]).argmax(1) == y[: tried.n]
        assert (tried.correct, tried.n) == (int(right.sum()), len(right)) and tried.n in (64, 300)
    assert len(found) == len(models.normalisations(1))


def test_what_chance_could_explain_leaves_the_more_usual_convention_in_front(digits):
    """The shipped network gets about as many digits right whatever it is fed with; it was trained without any."""
    net, x, y = digits
    names = models.normalisations(1)
    assert names[0] == "none"
    found = conventions(fed_into(net), x, y, names)
    assert found[0].name == "none"
    assert max(t.correct for t in found) - found[0].correct < 10
    assert conventions(fed_into(net), x, y, ["mnist", "none"])[0].name == "mnist"


def test_the_order_of_the_labels_is_found_and_the_preflight_says_it(digits):
    net, x, y = digits
    place = torch.tensor([3, 1, 2, 0, 5, 4, 9, 7, 8, 6])  # label k is called place[k]
    assert label_order(net, x, y) is None
    found = label_order(net, x, place[y])
    assert found is not None
    assert [int(place[c]) for c in found.network_class] == list(range(10))
    assert found.as_given < 0.5 < 0.95 < found.reordered
    assert found.words() == ("label 0 is its class 3, label 3 is its class 0, label 4 is its class 5, "
                             "label 5 is its class 4 and 2 more")  # fmt: skip
    for labels, ok in ((y, True), (place[y], False)):
        said = {f.name: f for f in preflight(net, Ball(x, 0.1), labels)}["label order"]
        assert said.ok == ok and (ok or "label 0 is its class 3" in said.sentence)


def test_the_order_is_the_best_of_all_permutations():
    rng = np.random.default_rng(0)
    for _ in range(5):
        truth, label = rng.permutation(4), rng.integers(0, 4, 400)
        predicted = np.where(rng.random(400) < 0.8, truth[label], rng.integers(0, 4, 400))
        best = max(itertools.permutations(range(4)), key=lambda p: (np.array(p)[label] == predicted).sum())
        found = order_of(predicted, label, 4)
        if list(best) == [0, 1, 2, 3]:
            assert found is None
        elif found is not None:
            assert found.network_class == best


def test_chance_is_never_called_an_order():
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert order_of(rng.integers(0, 10, 60), rng.integers(0, 10, 60), 10) is None


# ---------------------------------------------------------------------------------------------------------- programs


@pytest.fixture(scope="module")
def programs(digits, tmp_path_factory):
    """The shipped network as TorchScript, as torch.export with any batch, and with batches of 2 alone."""
    net, x, _ = digits
    folder = tmp_path_factory.mktemp("programs")
    torch.jit.script(net).save(folder / "script.pt")
    batch = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(net, (x[:2],), dynamic_shapes=batch), folder / "export.pt2")
    torch.export.save(torch.export.export(net, (x[:2],)), folder / "fixed.pt2")
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file, kind", [("script.pt", "torchscript"), ("export.pt2", "export")])
def test_a_program_is_recognised_and_computes_what_the_network_did(file, kind, programs, digits):
    net, x, y = digits
    assert inspect(programs / file).program == kind
    program = load_program(programs / file, kind, "none", 1)
    with in_eval_mode(program):
        found = value_and_grad(program, cross_entropy, x[:7], y[:7])
    for got, wanted in zip(found, value_and_grad(net, cross_entropy, x[:7], y[:7]), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    assert program.train() is program and next(program.parameters()).device.type == "cpu"
    with pytest.raises(ModelFileError, match=r"does not take 3 images of 2x8x8 \("):
        program(torch.rand(3, 2, 8, 8))
    halves = load_program(programs / file, kind, "half-grey", 1)
    torch.testing.assert_close(halves(x[:3]), net((x[:3] - 0.5) / 0.5), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_program_for_one_batch_size_alone_says_so(programs):
    program = load_program(programs / "fixed.pt2", "export", "none", 1)
    assert program(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(
        ModelFileError, match="does not take 5 images of 1x8x8 .*export it with a batch size of its own"
    ):
        program(torch.rand(5, 1, 8, 8))


def test_a_program_that_is_none_is_one_sentence(tmp_path):
    (tmp_path / "broken.pt").write_bytes(b"PK\x03\x04 and nothing more")
    for kind in ("torchscript", "export"):
        with pytest.raises(ModelFileError, match="broken.pt cannot be loaded") as caught:
            load_program(tmp_path / "broken.pt", kind)
        assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------ bringing it in


def test_adding_weights_makes_a_run_that_is_measured_like_the_run_they_come_from(store, capsys):
    words = ["model", "add", str(DIGITS), "--name", "Mine", "--id", "mine", "--n", "60", "--eps", "0.15"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "numbers that fit digits-cnn" in out and "float16 turned into float32" in out
    assert "digits-cnn, no normalisation: 99." in out and "clean images right" in out
    run = store.open("mine")
    assert (run.kind, run.state, run.title, run.config.epochs) == ("imported", "queued", "Mine", 0)
    assert (run.config.model.architecture, run.config.model.normalisation) == ("digits-cnn", "none")
    assert (run.config.recording.test_images, run.config.recording.probes) == (60, 8)
    assert in_child(lambda: train_here(run)) == 0 and run.state == "finished", run.problem
    result = run.result()["best"]
    assert result["n"] == 60
    test = data.part_of(data.load(Digits()).test, 60)
    demo = network(RunStore(DEMO.parent).open(DEMO.name), 30, torch.device("cpu"))
    assert result["clean_correct"] == int((demo(test.pixels()).argmax(1) == test.labels).sum())
    assert 0 < result["robust_correct"] < result["clean_correct"]
    assert len(run.records()) == 1


@pytest.mark.filterwarnings("ignore")
def test_adding_a_program_says_what_it_is_and_measures_the_same(store, programs, capsys):
    assert main(["model", "add", str(programs / "script.pt"), "--data", "digits", "--id", "p", "--n", "40"]) == 0
    out = capsys.readouterr().out
    assert "a TorchScript program" in out and "runs with your rights" in out
    run = store.open("p")
    assert (run.folder / "weights" / "0000.program").read_bytes() == (programs / "script.pt").read_bytes()
    assert (run.config.model.program, run.config.model.normalisation) == ("torchscript", "none")
    assert in_child(lambda: train_here(run)) == 0 and run.state == "finished", run.problem
    test = data.part_of(data.load(Digits()).test, 40)
    demo = network(RunStore(DEMO.parent).open(DEMO.name), 30, torch.device("cpu"))
    assert run.result()["best"]["clean_correct"] == int((demo(test.pixels()).argmax(1) == test.labels).sum())


@pytest.mark.filterwarnings("ignore")
def test_a_program_that_came_with_a_run_folder_is_not_run(programs, tmp_path):
    elsewhere, here = RunStore(tmp_path / "theirs"), RunStore(tmp_path / "mine")
    content = (programs / "script.pt").read_bytes()
    config = RunConfig.build({"epochs": 0, "strategy": {"name": "elsewhere"},
                              "model": {"name": "imported", "program": "torchscript"}})  # fmt: skip
    trust(elsewhere.folder, content)
    run = elsewhere.create(config, "theirs", kind="imported", files={"weights/0000.program": content})
    assert network(run, 0, torch.device("cpu"))(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    shutil.copytree(run.folder, here.folder / "theirs")
    with pytest.raises(RunError, match="theirs holds a program that was not added to this store"):
        network(here.open("theirs"), 0, torch.device("cpu"))
    trust(here.folder, content + b" ")
    with pytest.raises(RunError, match="was not added"):
        network(here.open("theirs"), 0, torch.device("cpu"))
    trust(here.folder, content)
    network(here.open("theirs"), 0, torch.device("cpu"))


def test_of_networks_with_the_same_names_and_shapes_the_one_that_is_right_is_taken(store, tmp_path):
    """The labels are what a network with shortcuts from the block's input says; its file does not tell that."""
    net = lively(PUBLIC["preact-resnet18-input"](3, CLASSES)).float()
    x = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(2)).mul(255).byte()
    mean, std = models.statistics("cifar10", 3)  # type: ignore[misc]
    with torch.no_grad():
        y = net(models.Normalise(mean, std)(x / 255)).argmax(1)
    assert len(y.unique()) > 2
    np.savez(tmp_path / "x.npz", x=x.numpy(), y=y.numpy())
    own_data.add(tmp_path / "x.npz", "teacher", [f"class {k}" for k in range(CLASSES)])
    torch.save(net.state_dict(), tmp_path / "net.pt")
    run = add_model(store, tmp_path / "net.pt", Wish(data="teacher", n=10), print)
    assert (run.config.model.architecture, run.config.model.normalisation) == ("preact-resnet18-input", "cifar10")


def test_the_usual_way_with_such_images_is_thought_of_first(inspected):
    for name, first in (("mnist", ["none", "mnist"]), ("cifar10", ["none", "cifar10", "cifar10-batch"]),
                        ("fashion-mnist", ["none", "fashion-mnist"])):  # fmt: skip
        ways = model_adding._normalisations(Wish(), inspected, model_adding.data_named(name))
        assert ways[: len(first)] == first and set(ways) == set(models.normalisations(3 if name == "cifar10" else 1))


@pytest.mark.parametrize("words, says", [
    (["model", "ad"], "There is no model ad; did you mean add?"),
    (["model", "add"], "Give a file:"),
    (["model", "add", "nothing.pt"], "There is no file nothing.pt"),
    (["model", "add", "DIGITS", "--data", "mnits"], "There is no data set called 'mnits'"),
    (["model", "add", "DIGITS", "--eps", "x"], "threat.eps must be a number or a fraction such as 8/255"),
    (["model", "add", "DIGITS", "--norm", "l7"], "threat.norm"),
    (["model", "add", "DIGITS", "--n", "0"], "recording.test_images must be 1 or more"),
    (["model", "add", "DIGITS", "--architecture", "vgg"], "There is no architecture called 'vgg'"),
    (["model", "add", "DIGITS", "--normalisation", "x"], "There is no normalisation called 'x'"),
    (["model", "add", "DIGITS", "--id", "../x"], "../x cannot name a run"),
])  # fmt: skip
def test_a_mistake_is_one_sentence(words, says, store, capsys, monkeypatch, inspected):
    monkeypatch.setattr(
        "dynat_core.work.model_adding.inspect", lambda path: inspected if path == DIGITS else inspect(path)
    )
    assert main([str(DIGITS) if word == "DIGITS" else word for word in words]) == 1
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
    assert store.list() == []


def test_images_of_another_kind_are_named(store, tmp_path, monkeypatch, inspected):
    monkeypatch.setattr("dynat_core.work.model_adding.inspect", lambda path: inspected)
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 8, 8, 3), np.uint8), y=np.arange(20) % 4)
    assert main(["data", "add", str(tmp_path / "x.npz"), "--name", "four"]) == 0
    with pytest.raises(DynatError, match="takes 1 channels and tells 10 classes apart; four has 3 and 4"):
        add_model(store, DIGITS, Wish(data="four"), print)


def test_architectures_are_listed(capsys):
    assert main(["model", "architectures"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("preact-resnet18 ", "wrn-28-10 ", "wrn-34-10 "))


def test_the_settings_of_an_imported_run_come_back(store, monkeypatch, inspected):
    monkeypatch.setattr("dynat_core.work.model_adding.inspect", lambda path: inspected)
    assert main(["model", "add", str(DIGITS), "--id", "again", "--norm", "l2", "--n", "5"]) == 0
    config = store.open("again").config
    assert json.loads(config.to_json())["threat"] == {"norm": "l2", "eps": 0.5}
    assert not config.trains_here
