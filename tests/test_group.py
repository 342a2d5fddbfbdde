"""Several processes that share each batch compute what one process computes: weights, and the record of every image.

The processes are real and speak gloo over the loopback address. In float64, where what is left of the difference is the
order of sums; in float32 a sign in an attack may turn on such a difference, as it may between two devices.
"""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from running import PATIENCE, assert_same, shared_run, sharing, tiny, until
from safetensors.torch import load_file, save_file
from torch import nn

from dynat_core.config import RunConfig
from dynat_core.images import data
from dynat_core.presets import preset
from dynat_core.store.runs import RunStore
from dynat_core.training.events import EpochDone, Finished, Progress
from dynat_core.training.group import Alone, Group, _WholeBatch1d, _WholeBatch2d
from dynat_core.training.trainer import train

torch.set_num_threads(1)
BASE = {
    "epochs": 2, "data.train_size": 61, "data.test_size": 30, "optimizer.batch": 15, "recording.probes": 2,
    "recording.train_rows": 20, "recording.steps": 3, "strategy.steps": 3, "recording.path_steps": 2,
}  # fmt: skip


def config(**changes: Any) -> RunConfig:
    return preset("quick").with_values({**BASE, "strategy.name": "standard", **changes})


def in_double() -> None:
    """For the rest of this process."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    data.Split.pixels = lambda split, keep=slice(None): split.images[keep].double() / split.levels


def trained(settings: RunConfig, group: Alone, out: Path, state: Path | None = None) -> None:
    """Train and write down what came out; `state` is where to go on from, and where the middle of it is left."""
    found: list[dict[str, Any]] = []
    weights: dict[str, torch.Tensor] = {}
    begin = None
    if state and state.exists():
        begin = load_file(state), json.loads(state.with_suffix(".json").read_text())
    for event in train(settings, device="cpu", group=group, state=begin):
        if isinstance(event, EpochDone):
            found.append({k: v for k, v in event.record.items() if not k.startswith("seconds/")})
            event.tables.to_parquet(out / f"{event.record['epoch']}.parquet")
            weights = event.weights
        elif isinstance(event, Progress) and state and not begin and (event.epoch, event.batch) == (2, 2):
            tensors, rest = event.state()
            save_file(tensors, state)
            state.with_suffix(".json").write_text(json.dumps(rest))
            return
        elif isinstance(event, Finished):
            event.final_tables["last"].to_parquet(out / "last.parquet")
    (out / "records.json").write_text(json.dumps(found))
    save_file(weights, out / "weights.safetensors")


def run_group(size: int, folder: Path, task: Any) -> None:
    """`task(group, folder of the rank)` in `size` processes of one group, or in one process without."""
    folder.mkdir(exist_ok=True)

    def work(rank: int) -> None:
        in_double()
        (folder / str(rank)).mkdir(exist_ok=True)
        if size > 1:
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=size
            )
        task(Group() if size > 1 else Alone(), folder / str(rank))
        if size > 1:
            torch.distributed.destroy_process_group()

    children = [multiprocessing.get_context("fork").Process(target=work, args=(rank,)) for rank in range(size)]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENCE)
    assert [child.exitcode for child in children] == [0] * size
    (folder / "meeting").unlink(missing_ok=True)


def assert_close(a: Path, b: Path) -> None:
    """Weights to the last few bits of float64; records and rows, which are kept in float32, to its last bits."""
    mine, other = load_file(a / "weights.safetensors"), load_file(b / "weights.safetensors")
    assert mine.keys() == other.keys()
    for name, value in mine.items():
        torch.testing.assert_close(value, other[name], rtol=1e-9, atol=1e-11, msg=lambda m, name=name: f"{name}: {m}")
    mine, other = (json.loads((folder / "records.json").read_text()) for folder in (a, b))
    assert len(mine) == len(other) == 3
    for one, two in zip(mine, other, strict=True):
        assert one.keys() == two.keys()
        for key, value in one.items():
            if value is None or two[key] is None:
                assert value == two[key], key
            else:
                assert value == pytest.approx(two[key], rel=1e-5, abs=1e-6), key
    for name in ("0", "1", "2", "last"):
        one, two = (pd.read_parquet(folder / f"{name}.parquet") for folder in (a, b))
        assert list(one.columns) == list(two.columns) and len(one) == len(two)
        for column in one.columns.drop("split"):
            np.testing.assert_allclose(one[column], two[column], rtol=1e-4, atol=1e-5, err_msg=column)


CASES = {
    "dynamic": {"strategy.name": "dynamic", "strategy.T_control": 2},
    "trades": {"strategy.name": "trades"},
    "L2": {"threat.norm": "l2", "threat.eps": 1.0},
    "a noisy walk": {"optimizer.name": "entropy-sgd", "optimizer.walk": 3, "optimizer.noise": 0.001},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())
def test_two_processes_train_what_one_does(tmp_path, changes):
    settings = config(**changes)
    run_group(1, tmp_path / "one", lambda group, out: trained(settings, group, out))
    run_group(2, tmp_path / "two", lambda group, out: trained(settings, group, out))
    assert_close(tmp_path / "two" / "0", tmp_path / "one" / "0")
    assert_close(tmp_path / "two" / "1", tmp_path / "one" / "0")


def test_three_processes_go_on_in_the_middle_of_an_epoch_from_where_one_left(tmp_path):
    settings, state = config(), tmp_path / "state.safetensors"
    run_group(1, tmp_path / "one", lambda group, out: trained(settings, group, out))
    run_group(1, tmp_path / "begun", lambda group, out: trained(settings, group, out, state))
    run_group(3, tmp_path / "three", lambda group, out: trained(settings, group, out, state))
    mine, other = (load_file(tmp_path / who / "0" / "weights.safetensors") for who in ("three", "one"))
    for name, value in mine.items():
        torch.testing.assert_close(value, other[name], rtol=1e-9, atol=1e-11)


def test_a_shared_run_of_which_a_process_is_killed_is_left_and_goes_on_as_if_it_had_not(tmp_path):
    """First the second process, then the first, which records: that the others are gone is no fault of the run."""
    config = tiny(epochs="12", **{"data.train_size": "160", "strategy.T_control": "12"})
    run = RunStore(tmp_path / "store").create(config)
    for killed in (1, 0):
        children, last = sharing(run), len(run.records())
        until(lambda last=last: len(run.records()) > last, "it goes on")
        children[killed].kill()
        for child in children:
            child.join(PATIENCE)
        assert [child.exitcode for child in children] == ([1, -9] if killed else [-9, 1])
        assert run.state == "interrupted" and not (run.folder / "error.json").exists()
    for child in sharing(run):
        child.join(PATIENCE)
    assert_same(run, shared_run(tmp_path / "twin", config))


def test_batchnorm_takes_its_statistics_over_the_shares_of_all(tmp_path):
    """Outputs, gradients at input and weights, and running averages, against torch's own layer on the whole batch."""

    def task(group: Alone, out: Path) -> None:
        for whole, shared, shape in (
            (nn.BatchNorm2d, _WholeBatch2d, (7, 3, 4, 4)),
            (nn.BatchNorm1d, _WholeBatch1d, (7, 3)),
        ):
            torch.manual_seed(0)
            x, slope = 3 + 2 * torch.randn(shape), torch.randn(shape)
            own = group.share(7)
            layer, other = whole(3), group.prepare(nn.Sequential(whole(3)))[0]
            assert type(other) is shared
            for each in (layer, other):
                nn.init.uniform_(each.weight)
            other.load_state_dict(layer.state_dict())
            for _ in range(2):
                a, b = x.clone().requires_grad_(), x[own].clone().requires_grad_()
                layer(a).mul(slope).sum().backward()
                found = other(b)
                found.mul(slope[own]).sum().backward()
                torch.testing.assert_close(found, layer(x)[own])
                layer.load_state_dict(other.state_dict())  # the line above moved its averages once more
                torch.testing.assert_close(b.grad, a.grad[own])
            gradient = other.weight.grad.clone()
            torch.distributed.all_reduce(gradient)
            torch.testing.assert_close(gradient, layer.weight.grad)
            reference = whole(3)
            reference.load_state_dict(whole(3).state_dict())
            fresh = group.prepare(nn.Sequential(whole(3)))[0]
            reference(x)
            fresh(x[own])
            torch.testing.assert_close(fresh.running_mean, reference.running_mean)
            torch.testing.assert_close(fresh.running_var, reference.running_var)
            torch.testing.assert_close(fresh.eval()(x), reference.eval()(x))

    run_group(3, tmp_path / "three", task)


def test_shares_cover_a_batch_once(tmp_path):
    def task(group: Alone, out: Path) -> None:
        for n in (3, 4, 5, 17):
            own = group.share(n)
            everybody = group.collected({group.rank: list(range(n))[own]})
            assert [k for each in everybody for k in each] == list(range(n))
            column = torch.arange(n)
            joined = group.joined({"k": column[own], "half": column[own].float() / 2, "odd": column[own] % 2 == 1}, n)
            assert torch.equal(joined["k"], column) and joined["odd"].dtype == torch.bool
            assert torch.equal(joined["half"], column.float() / 2)
        assert group.agreed(group.rank == 2) and not group.agreed(False)
        assert group.told(group.rank) == 0

    run_group(3, tmp_path / "three", task)


def test_a_process_alone_has_everything_to_itself():
    alone = Alone()
    assert alone.share(5) == slice(0, 5) and alone.dealt("ab") == [(0, "a"), (1, "b")]
    assert alone.agreed(True) and not alone.agreed(False) and alone.told(3) == 3
    model, loss = nn.Linear(2, 2), torch.ones(())
    assert alone.prepare(model) is model and alone.trained(model) is model and alone.weighed(loss, 9) is loss
