"""A real Ray cluster of two nodes on this machine: jobs fan out, a node dies, and the records are as if it had not.

Ray listens on the loopback address alone, without dashboard and without usage reports.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import assert_same, tiny, until

from dynat_core.config import RunConfig
from dynat_core.files import read_json
from dynat_core.store.jobs import child_environment, ensure_worker, worker_alive, worker_states
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore

ray = pytest.importorskip("ray")

ROOT = Path(__file__).resolve().parent.parent
LONGER = {"epochs": "16", "data.train_size": "640", "recording.steps": "5", "strategy.T_control": "10"}
NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "PYTHONPATH": str(ROOT),
    "DYNAT_LEASE": "6",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    from ray.cluster_utils import Cluster

    kept = dict(os.environ)
    os.environ.update(SETTINGS)
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    cluster.add_node(**NODE)
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
        output = self.process.communicate(timeout=120)[0]
        assert self.process.returncode == 0, output
        return output


def alone(folder: Path, config: RunConfig) -> Run:
    """The same run, undisturbed, without a cluster."""
    run = RunStore(folder).create(config)
    environment = child_environment(folder) | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dynat_core", "job", str(run.folder)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=120)
    assert run.state == "finished", run.problem
    return run


def listening() -> set[str]:
    """The addresses that sockets of this machine listen on (Linux)."""
    found = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A":
                raw = bytes.fromhex(local.split(":")[0])
                words = b"".join(raw[k : k + 4][::-1] for k in range(0, len(raw), 4))
                found.add(f"{socket.inet_ntop(family, words)} {int(local.split(':')[1], 16)}")
    return found


def test_runs_fan_out_and_a_dead_node_changes_nothing(cluster, tmp_path):
    """Two long runs take both nodes; one node dies under its run, which another node that joins, or the one that is
    left, takes up. A third run waits for its turn. All record what undisturbed ones record."""
    store = RunStore(tmp_path / "store")
    configs = [tiny(seed="1", **LONGER), tiny(seed="2", **LONGER), tiny(seed="3")]
    runs = [store.create(config) for config in configs]
    dispatching = Dispatching(cluster, store, "--once")
    until(lambda: all(len(run.records()) >= 2 for run in runs[:2]), "both nodes train")
    assert [run.state for run in runs] == ["running", "running", "queued"]
    assert sorted(s["busy_with"] for s in worker_states(store.folder)) == sorted(run.id for run in runs[:2])
    ensure_worker(store.folder)
    assert not list((store.folder / ".worker").glob("*.alive")), "no worker of this machine beside a cluster"
    places = {(read_json(run.folder / "lease.json") or {})["where"]: run for run in runs[:2]}
    assert len(places) == 2
    dying = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
    lost = places[dying.node_id]
    cluster.remove_node(dying, allow_graceful=False)
    said = dispatching.said()
    assert f"{lost.id} died" in said, said
    assert said.count(f"{lost.id} handed out") == 2
    assert [run.state for run in runs] == ["finished"] * 3
    assert len(lost.starts()) == 2 and sum(len(run.starts()) for run in runs) == 4
    for run, config in zip(runs, configs, strict=True):
        assert not (run.folder / "lease.json").exists()
        assert_same(run, alone(tmp_path / "alone", config))
    assert not worker_alive(store.folder)
