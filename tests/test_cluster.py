"""A real Ray cluster of two nodes on this machine: jobs fan out, a node dies, and the records are as if it had not.

Ray listens on the loopback address alone, without dashboard and without usage reports.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from running import PATIENCE, assert_same, recorded, tiny, until

from dynat_core.config import RunConfig
from dynat_core.files import read_json
from dynat_core.store.jobs import LAG
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import child_environment, ensure_worker, worker_alive, worker_states

ray = pytest.importorskip("ray")

ROOT = Path(__file__).resolve().parent.parent
LONGER = {"epochs": "12", "data.train_size": "320", "recording.steps": "5", "strategy.T_control": "8"}
NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "PYTHONPATH": str(ROOT),
    "DYNAT_LEASE": "9",
    "RAY_raylet_death_check_interval_milliseconds": "100",  # in which a run goes on though its node is lost
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",  # else a shared run waits for a minute for a node that is lost
    "RAY_worker_niceness": "0",  # else it is 15, and other work on this machine starves what is tested
}


def of(cluster, number: int) -> list:
    """The cluster's nodes beside its head, which works on nothing since it is never lost: as many as are wanted."""
    nodes = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]
    for node in nodes[number:]:
        cluster.remove_node(node)
    nodes = nodes[:number]
    while len(nodes) < number:
        nodes.append(cluster.add_node(**NODE))
    return nodes


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    from ray.cluster_utils import Cluster

    kept = dict(os.environ)
    os.environ.update(SETTINGS)
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
    of(cluster, 2)
    try:
        yield cluster
    finally:
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(kept)


class Dispatching:
    """`worker --ray` as a process of its own."""

    def __init__(self, cluster, store: RunStore, *options: str) -> None:
        store.folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "dynat_core", "worker", "--ray", cluster.address, *options]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=child_environment(store.folder), stdout=subprocess.PIPE, text=True
        )

    def said(self) -> str:
        """What it printed, once it has ended well."""
        output = self.process.communicate(timeout=3 * PATIENCE)[0]
        assert self.process.returncode == 0, output
        return output


def alone(folder: Path, config: RunConfig) -> Run:
    """The same run, undisturbed, without a cluster."""
    run = RunStore(folder).create(config)
    environment = child_environment(folder) | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dynat_core", "job", str(run.folder)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)
    assert run.state == "finished", run.problem
    return run


def place(run: Run) -> str | None:
    """The node that records it."""
    return (read_json(run.folder / "lease.json") or {}).get("where")


def listening_of_ray() -> list[str]:
    """The addresses on which sockets of Ray's processes listen (Linux)."""
    sockets = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes()
            if entry.name.isdigit() and (b"raylet" in words or b"gcs_server" in words or words.startswith(b"ray::")):
                sockets |= {os.readlink(file).strip("socket:[]") for file in (entry / "fd").iterdir()}
    found = []
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in sockets:
                raw = bytes.fromhex(local.split(":")[0])
                words = b"".join(raw[k : k + 4][::-1] for k in range(0, len(raw), 4))
                found.append(socket.inet_ntop(family, words))
    return found


def test_runs_fan_out_and_a_dead_node_changes_nothing(cluster, tmp_path):
    """Two runs take both nodes; one node dies under its run, and the node that is left takes it up. A third run waits
    for its turn. All record what undisturbed ones record."""
    store = RunStore(tmp_path / "store")
    configs = [tiny(seed="1", **LONGER), tiny(seed="2", **LONGER), tiny(seed="3")]
    runs = [store.create(config) for config in configs]
    dying, staying = of(cluster, 2)

    def trained_there() -> list[Run]:
        return [run for run in runs if run.running and place(run) == dying.node_id and len(run.records()) >= 2]

    dispatching = Dispatching(cluster, store, "--once")
    until(lambda: trained_there(), "the node that is to die trains")
    (lost,) = trained_there()
    cluster.remove_node(dying, allow_graceful=False)
    assert {s["device"].partition(":")[0] for s in worker_states(store.folder)} == {"cluster"}
    ensure_worker(store.folder)
    assert not list((store.folder / ".worker").glob("*.alive")), "no worker of this machine beside a cluster"
    said = dispatching.said()
    assert f"{lost.id} died" in said and f"{lost.id} finished on node {staying.node_id[:8]}" in said, said
    assert f"on node {dying.node_id[:8]}" not in said, "it died before it finished anything"
    assert [run.state for run in runs] == ["finished"] * 3
    assert [len(run.starts()) for run in runs] == [1 + (run is lost) for run in runs]
    assert not [path for run in runs for path in run.folder.glob("lease.json")]
    for run in (lost, runs[2]):
        assert_same(run, alone(tmp_path / "alone", run.config))
    assert not worker_alive(store.folder)


LONG = pytest.mark.skipif("DYNAT_LONG_TESTS" not in os.environ, reason="DYNAT_LONG_TESTS=1 runs it, for two minutes")


@pytest.mark.parametrize(
    "recorder_dies", [True, pytest.param(False, marks=LONG)], ids=["the-one-that-records", "the-other"]
)
def test_two_workers_share_a_run_one_is_lost_with_its_node_and_one_goes_on_to_find_what_one_finds(
    cluster, tmp_path, recorder_dies
):
    """The node of either worker dies, and one is left. Without an attack, whose signs could turn on a rounding; in
    float32 roundings grow, so the first epochs are compared. (`test_group` kills either, and compares bit for bit.)"""
    nodes = of(cluster, 2)
    store = RunStore(tmp_path / "store")
    longer = {key: value for key, value in LONGER.items() if not key.startswith("strategy")}
    config = tiny(**longer, **{"strategy.name": "unsecured"})
    shared = store.create(config)
    dispatching = Dispatching(cluster, store, "--once", "--split", "2")
    until(lambda: place(shared) and len(shared.records()) >= 2, "it is shared and trains")
    recorder = place(shared)
    dying = next(node for node in nodes if (node.node_id == recorder) == recorder_dies)
    cluster.remove_node(dying, allow_graceful=False)
    said = dispatching.said()
    assert f"{shared.id} died" in said and shared.state == "finished", said
    assert [start.get("workers", 1) for start in shared.starts()] == [2, 1]
    assert [record["epoch"] for record in shared.records()] == list(range(config.epochs + 1))
    lines = [line for line in (shared.folder / "log.txt").read_text().splitlines() if line.startswith("epoch ")]
    assert len(set(lines)) == config.epochs + 1 and len(lines) <= config.epochs + 2, "each once, but for one left off"
    reference = alone(tmp_path / "alone", config)
    assert recorded(shared).keys() == recorded(reference).keys()
    for epoch in (0, 1):
        ours, theirs = shared.samples(epoch), reference.samples(epoch)
        assert list(ours["index"]) == list(theirs["index"])
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    "changes, workers, shared",
    [
        ({}, 3, True),
        ({}, 33, False),  # a batch has 32 images
        ({"data.train_size": "99"}, 3, True),
        ({"data.train_size": "99"}, 4, False),  # the last batch has 3
        ({"data.train_size": "97"}, 4, True),  # a last image joins its neighbours
        ({"strategy.name": "curriculum"}, 2, False),
        ({"strategy.name": "l2l"}, 2, False),
        ({"strategy.name": "trades"}, 2, True),
    ],
)
def test_a_run_is_shared_if_every_batch_has_an_image_for_each(tmp_path, changes, workers, shared):
    from dynat_core.work.split import shares

    assert shares(RunStore(tmp_path).create(tiny(**changes)).folder, workers) == shared


def test_a_run_is_handed_on_no_sooner_than_every_node_sees_what_the_last_one_wrote(tmp_path):
    from dynat_core.work.backlog import Backlog
    from dynat_core.work.cluster import Dispatcher

    store = RunStore(tmp_path)
    new, left = store.create(tiny()), store.create(tiny())
    (left.folder / "starts.jsonl").write_text("{}\n")
    tasks = {task.id: task for task in Backlog(store).waiting()}
    dispatcher, now = object.__new__(Dispatcher), time.monotonic()
    dispatcher._left, dispatcher._began = {}, now  # of the one before it, it knows nothing
    assert dispatcher._settled(tasks[new.id]) and not dispatcher._settled(tasks[left.id])
    dispatcher._began = now - LAG
    assert dispatcher._settled(tasks[left.id])
    dispatcher._left[new.id] = dispatcher._left[left.id] = time.monotonic()
    assert not dispatcher._settled(tasks[new.id]) and not dispatcher._settled(tasks[left.id])


def test_measurements_and_broken_runs_are_not_shared(tmp_path):
    from dynat_core.store import evaluations
    from dynat_core.store.evaluation_settings import Ladder
    from dynat_core.work.split import shares

    run = RunStore(tmp_path).create(tiny())
    assert not shares(evaluations.create(run.folder, Ladder(n=10)).folder, 2)
    (run.folder / "run.json").write_text("{")
    assert not shares(run.folder, 2)


def test_a_cluster_that_keeps_to_this_machine_listens_on_its_loopback_address_alone(cluster):
    found = listening_of_ray()
    assert found and all(address.startswith(("127.", "::1", "::ffff:127.")) for address in found)


def test_no_cluster_at_an_address_is_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "dynat_core", "worker", "--ray", "nonsense"],
        cwd=ROOT, env=child_environment(tmp_path), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("No Ray cluster answers at nonsense; start one with")
