"""Dynat beside the libraries people use today: same networks, images, batch, eps, alpha, steps; in turns, in one run.

    make bench                                   # with its own venv; about ten minutes on two cores
    python -m benchmarks.peers --quick           # under three minutes, to see that it runs
    python -m benchmarks.peers --results FILE    # where the JSON goes

A contender whose package is missing is named and left out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.contender import MAKE
from benchmarks.peers.machine import about, matrix_limit
from benchmarks.peers.subjects import ROOT, SUBJECTS, flops_of
from benchmarks.peers.training import spread
from dynat_core.store.workers import KEPT_MEMORY

OWN = ("dynat-exact", "dynat-fast")
STEPS = 10
# attacks of each contender on each network, the first of which warms up and is thrown away
REPEATS = {True: {"digits": 4, "mnist": 2, "cifar10": 2}, False: {"digits": 16, "mnist": 10, "cifar10": 4}}


class Asked:
    """A contender's process. memory: "kept" as in Dynat's jobs, or "given back", which is how any program starts."""

    def __init__(self, name: str, threads: int, memory: str) -> None:
        self.name = name
        environment = environment_of(threads, memory)
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers.contender", name, str(threads)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.version = self._line()["version"]

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self._line()

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended without an answer")
        return json.loads(line)


def environment_of(threads: int, memory: str) -> dict[str, str]:
    """The same for everybody but the allocator: threads that wait sleep, since another process may be busy."""
    kept = KEPT_MEMORY if memory == "kept" else {}
    clean = {key: value for key, value in os.environ.items() if key not in KEPT_MEMORY}
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return clean | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": paths} | kept


def start(threads: int) -> tuple[dict[str, Asked], list[str]]:
    """(contenders that are there, names of those whose package is missing)."""
    there, missing = {}, []
    for name in MAKE:
        try:
            there[name] = Asked(name, threads, "kept" if name in OWN else "given back")
        except RuntimeError:
            missing.append(name)
    if "textbook" in there:  # how much of the difference is the allocator's
        there["textbook, memory kept"] = Asked("textbook", threads, "kept")
    return there, missing


def throughput(contenders: dict[str, Asked], quick: bool, limits: dict[str, float]) -> list[dict[str, Any]]:
    """PGD-10 on one batch of each network, in turns that begin with another contender each time.

    quick: an eighth of the CIFAR-10 batch.
    """
    rows = []
    for name, subject in SUBJECTS.items():
        batch = subject.batch // 8 if quick and name == "cifar10" else subject.batch
        answers: dict[str, list[dict[str, Any]]] = {who: [] for who in contenders}
        names = list(contenders)
        for turn in range(REPEATS[quick][name]):
            for who in names[turn % len(names) :] + names[: turn % len(names)]:
                answers[who].append(contenders[who].ask(network=name, n=batch, steps=STEPS))
        flops = flops_of(subject.model(), subject.shape)
        for who, found in answers.items():
            seconds = [answer["seconds"] for answer in found[1:]]
            rate = batch * STEPS / statistics.median(seconds)
            limit = limits["bfloat16" if who == "dynat-fast" else "float32"]
            rows.append(
                {
                    "network": name, "contender": who, "batch": batch, "steps": STEPS, "eps": subject.eps,
                    "alpha": subject.alpha, "repeats": len(seconds), "seconds": spread(seconds),
                    "cpu_seconds": spread([answer["cpu_seconds"] for answer in found[1:]]),
                    "gradients_per_second": rate, "of_matrix_limit": rate * flops / limit,
                    "peak_mb": max((a["peak_mb"] or math.nan) for a in found), "loss": found[-1]["loss"],
                    "broken": found[-1]["broken"], "farthest": found[-1]["farthest"],
                }
            )  # fmt: skip
            said = f"{rate:9.0f} gradients/s, loss {found[-1]['loss']:.3f}"
            print(f"{name:8} {who:22} {said}", file=sys.stderr, flush=True)
    return rows


def growth(contender: Asked, quick: bool) -> list[dict[str, Any]]:
    """Time of the MNIST network's attack against one size at a time, in turns, and the exponent that fits."""
    usual: dict[str, Any] = {"network": "mnist", "n": 64, "steps": 5}
    questions = {
        "steps": [(k, usual | {"steps": k}) for k in (2, 4, 8, 16)],
        "batch": [(n, usual | {"n": n}) for n in (16, 32, 64, 128, 256)],
        "width": [(w, usual | {"width": w}) for w in (0.5, 0.75, 1.5, 2.0)],
        "images": [(n, usual | {"n": n, "of": 64}) for n in (64, 128, 256, 512)],
    }
    seen: dict[tuple[str, float], list[float]] = {}
    for turn in range(1 if quick else 5):
        for what, sizes in questions.items():
            for size, question in sizes:
                seconds = contender.ask(**question)["seconds"]
                if turn or quick:
                    seen.setdefault((what, size), []).append(seconds)
    rows = []
    for what, sizes in questions.items():
        points = [{"size": size, "seconds": spread(seen[what, size])} for size, _ in sizes]
        exponent = slope([(math.log(p["size"]), math.log(p["seconds"]["median"])) for p in points])
        rows.append({"against": what, "points": points, "exponent": exponent})
    return rows


def slope(points: list[tuple[float, float]]) -> float:
    """The slope of the least-squares line through (x, y) points."""
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def training(threads: int, quick: bool) -> dict[str, Any]:
    """What `benchmarks.peers.training` measures, in a process that starts as a job does."""
    command = [sys.executable, "-m", "benchmarks.peers.training", str(threads), "quick" if quick else "full"]
    environment = environment_of(threads, "kept")
    return json.loads(subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def goals(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """{network: {precision: times the throughput of the fastest other one, "fastest": its name}}, from medians."""
    found: dict[str, dict[str, Any]] = {}
    for name in SUBJECTS:
        rate = {r["contender"]: r["gradients_per_second"] for r in rows if r["network"] == name}
        others = {who: value for who, value in rate.items() if who not in OWN and who != "textbook, memory kept"}
        fastest = max(others, key=others.__getitem__)
        found[name] = {who: rate[who] / others[fastest] for who in OWN} | {"fastest": fastest}
    return found


def main() -> None:
    """Measure, print the ratios, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats: under three minutes, larger spread")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--results", type=Path, help="where the JSON goes; printed if not named")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    began = time.monotonic()
    machine = about(asked.threads)
    limits = {str(p).removeprefix("torch."): matrix_limit(p) for p in (torch.float32, torch.bfloat16)}
    contenders, missing = start(asked.threads)
    for name in missing:
        print(f"{name} is left out: its package is not installed (make bench installs it).", file=sys.stderr)
    try:
        rows = throughput(contenders, asked.quick, limits)
        curves = growth(contenders["dynat-exact"], asked.quick)
    finally:
        for contender in contenders.values():
            contender.end()
    found = {
        "command": "python -m benchmarks.peers" + (" --quick" if asked.quick else ""),
        "quick": asked.quick,
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": machine | {"load_at_end": round(os.getloadavg()[0], 2)},
        "contenders": {name: contender.version for name, contender in contenders.items()},
        "missing": missing,
        "matrix_limit": limits,
        "throughput": rows,
        "ratios": goals(rows),
        "growth": curves,
        "training": training(asked.threads, asked.quick),
    }
    found["seconds"] = round(time.monotonic() - began)
    text = json.dumps(rounded(found), indent=1) + "\n"
    if asked.results:
        asked.results.parent.mkdir(exist_ok=True, parents=True)
        asked.results.write_text(text, encoding="utf-8")
    print(json.dumps(rounded(found["ratios"]), indent=1) if asked.results else text)


def rounded(value: Any) -> Any:
    """Numbers with five significant digits; NaN is None."""
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
