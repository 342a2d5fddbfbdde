"""How often are the lights of a check right? Honest networks, masked ones, and attacks that were cut short.

    python benchmarks/lights.py [--results benchmarks/results/lights.json]

The second zoo has architectures, seeds and radii that nobody looked at when the thresholds were chosen. "Insufficient"
or a refusal is a warning. Honest networks under the whole attack should get none, all others one.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dynat_core.check.diagnosis import NotDiagnosable  # noqa: E402
from dynat_core.config import Mnist  # noqa: E402
from dynat_core.errors import DataError  # noqa: E402
from dynat_core.store.evaluation_settings import Check  # noqa: E402
from dynat_core.store.runs import RunStore  # noqa: E402
from dynat_core.work.loading import chosen_images, network, pixels  # noqa: E402
from dynat_core.work.own_check import diagnose  # noqa: E402
from tests.zoo import HONEST, MASKS, SECOND, STORE, Wrapped, digits, perceptron, shipped  # noqa: E402

Images = tuple[torch.Tensor, torch.Tensor]


def warned(net: nn.Module, images: Images, eps: float, steps: int, restarts: int) -> tuple[bool, str]:
    """Whether a check warns, and what it says."""
    torch.manual_seed(0)
    try:
        report = diagnose(net, *images, eps=eps, steps=steps, restarts=restarts)
    except NotDiagnosable as refused:
        return True, f"refused: {refused}"
    return not report.verdict.ok, report.verdict.sentence


def mnist() -> list[tuple[str, Callable[[], nn.Module], Images]]:
    """The shipped MNIST networks with 100 test images, where the pictures are at hand."""
    found = []
    for name in ("demo-mnist-standard", "demo-mnist-dynamic"):
        run = RunStore(STORE).open(name)
        assert isinstance(run.config.data, Mnist)
        try:
            images = pixels(chosen_images(run, Check(n=100))[0], torch.device("cpu"))
        except DataError as error:
            print(f"{name} left out: {error}", file=sys.stderr)
            return []
        found.append((name, lambda run=run: network(run, "best", torch.device("cpu")), images))
    return found


def main() -> None:
    """Judge every network of both zoos and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path)
    torch.set_num_threads(1)
    asked = parser.parse_args()
    brought = mnist()
    rows: list[dict[str, object]] = []

    def judge(
        zoo: str, kind: str, name: str, net: nn.Module, images: Images, eps: float, steps: int = 50, restarts: int = 5
    ) -> None:
        began = time.monotonic()
        warning, said = warned(net, images, eps, steps, restarts)
        seconds = round(time.monotonic() - began, 1)
        rows.append({"zoo": zoo, "kind": kind, "name": name, "warned": warning, "said": said, "seconds": seconds})
        print(f"{zoo:6} {kind:8} {'warned' if warning else '-':7} {seconds:5.1f} s  {name}: {said[:110]}", flush=True)

    for name, (make, eps) in HONEST.items():
        judge("first", "honest", name, make(), digits(), eps)
    for name, (make, eps) in SECOND.items():
        judge("second", "honest", name, make(), digits(), eps)
    for name, make, images in brought:
        judge("second", "honest", f"{name} at .3", make(), images, 0.3)
    for mask, how in MASKS.items():
        judge("first", "masked", mask, Wrapped(shipped("demo-digits-standard"), **how).eval(), digits(), 0.15)
        for seed, smooth in ((11, True), (12, False)):
            net = Wrapped(perceptron(seed, smooth), **how).eval()
            judge("second", "masked", f"{mask}, perceptron {seed}", net, digits(), 0.1)
        for name, make, images in brought[1:]:
            judge("second", "masked", f"{mask}, {name}", Wrapped(make(), **how).eval(), images, 0.3)
    for name, (make, eps) in list(SECOND.items())[:4]:
        judge("second", "cut short", f"6 steps, {name}", make(), digits(), eps, steps=6, restarts=2)
    for name, make, images in brought:
        judge("second", "cut short", f"6 steps, {name} at .3", make(), images, 0.3, steps=6, restarts=2)
    table = {
        f"{zoo} {kind}": {
            "networks": len(some := [r for r in rows if (r["zoo"], r["kind"]) == (zoo, kind)]),
            "warned": sum(bool(r["warned"]) for r in some),
        }
        for zoo in ("first", "second")
        for kind in ("honest", "masked", "cut short")
    }
    print(json.dumps(table, indent=1))
    if asked.results:
        about = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
        asked.results.parent.mkdir(exist_ok=True)
        asked.results.write_text(json.dumps({"about": about, "table": table, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
