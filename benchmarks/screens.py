"""How long each screen takes to stand, a new image's trajectory takes to come, a large store takes to open, a run to
stop.

Everything runs on this machine's loopback with a copy of the shipped runs, and ends by itself:

    python benchmarks/screens.py

Cold is the first visit of each screen to a server that has just started, in a fresh browser profile; warm is the
median of three visits after it, in the same tab.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dynat_core.presets import preset  # noqa: E402
from dynat_core.store.runs import RunStore  # noqa: E402
from dynat_core.work.analyst import Analyst  # noqa: E402
from tests.servers import served  # noqa: E402
from tools.install_browser import find_browser  # noqa: E402

SCREENS = {
    "overview": ("", ".dy[data-ready]"),
    "epochs": ("epochs", ".dy[data-ready]"),
    "trajectory": ("trajectory", ".dy[data-ready]"),
    "train": ("train", "text=Start the run"),
    "learn": ("learn", "text=Touch it"),
}


def first_paints(store: Path) -> None:
    """Seconds from asking for a screen until its pictures stand."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(find_browser()), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, (path, sign) in SCREENS.items():
            with served(store) as server:
                page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()

                def visit(page=page, url=f"{server.address}/{path}", sign=sign) -> float:
                    began = time.perf_counter()
                    page.goto(url)
                    page.wait_for_selector(sign, timeout=60_000)
                    return time.perf_counter() - began

                cold = visit()
                page.wait_for_timeout(1500)
                warm = []
                for _ in range(3):
                    warm.append(visit())
                    page.wait_for_timeout(500)
                print(f"first paint, {name}: cold {cold:.2f} s, warm {statistics.median(warm):.2f} s", flush=True)
        browser.close()


def trajectories(store: Path) -> None:
    """Seconds for the PGD-20 path of an image nobody asked for yet, with a warm process."""
    for name in ("demo-digits-dynamic", "demo-mnist-dynamic"):
        run = RunStore(store).open(name)
        if name.startswith("demo-mnist") and not (Path(os.environ.get("DYNAT_DATA") or "data") / "MNIST/raw").is_dir():
            print(f"trajectory, {name}: not measured, DYNAT_DATA names no folder with MNIST")
            continue
        analyst = Analyst(store / ".cache")
        took = []
        for index in range(6):
            request = {"store": str(store), "run": name, "epoch": run.epoch_of("last"), "index": index, "steps": 20}
            began = time.perf_counter()
            while (answer := analyst.ask("trajectory", request)).state not in ("ready", "failed"):
                time.sleep(0.005)
            if answer.state == "failed":
                raise SystemExit(answer.error)
            took.append(time.perf_counter() - began)
        analyst.close()
        print(f"trajectory of a new image, PGD-20, {name}: warm {1000 * statistics.median(took[1:]):.0f} ms, "
              f"first of the process {took[0]:.1f} s", flush=True)  # fmt: skip


def stores(folder: Path) -> None:
    """Seconds to list 500 runs and to open one of 200 epochs x 10,000 samples."""
    demo = ROOT / "checkpoints" / "demo-digits-dynamic"
    many = folder / "many"
    for number in range(500):
        copy = many / f"run-{number:03d}"
        copy.mkdir(parents=True)
        for name in ("run.json", "epochs.jsonl", "result.json"):
            shutil.copy(demo / name, copy / name)
    began = time.perf_counter()
    runs = [(run.id, run.state, run.title) for run in RunStore(many).list()]
    print(f"listing {len(runs)} runs with state and title: {time.perf_counter() - began:.2f} s", flush=True)

    long = folder / "long" / "run"
    shutil.copytree(demo, long)
    for name in ("epochs.jsonl", "histograms.jsonl"):
        lines = (long / name).read_text().splitlines()
        with open(long / name, "w") as out:
            for epoch in range(201):
                line = lines[epoch % len(lines)]
                out.write(line.replace(f'"epoch":{epoch % len(lines)}', f'"epoch":{epoch}', 1) + "\n")
    random = np.random.default_rng(0)
    measures = {name: random.random(10_000, dtype=np.float32) for name in ("fosc", "loss", "margin")}
    rows = pd.DataFrame({"index": np.arange(10_000, dtype=np.int32), "split": "test", **measures})
    rows.to_parquet(long / "samples" / "0200.parquet")
    began = time.perf_counter()
    run = RunStore(folder / "long").open("run")
    epochs = len(run.history())
    opened = time.perf_counter() - began
    began = time.perf_counter()
    table = run.samples(200, columns=["fosc"])
    read = time.perf_counter() - began
    print(f"opening a run of {epochs - 1} epochs: {opened:.2f} s", flush=True)
    print(f"one column of {len(table):,} rows: {1000 * read:.0f} ms", flush=True)


def stopping(folder: Path) -> None:
    """Seconds from asking a digits run to stop until it has stopped with its work kept."""
    store = RunStore(folder / "stopping")
    run = store.create(preset("demo-digits-dynamic"))
    work = f"from dynat_core.work.worker import run_job; run_job({str(run.folder)!r})"
    child = subprocess.Popen([sys.executable, "-c", work], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not run.records():
        time.sleep(0.05)
    began = time.perf_counter()
    run.request_stop()
    while store.open(run.id).state != "stopped":
        time.sleep(0.01)
    print(f"stop: {time.perf_counter() - began:.2f} s", flush=True)
    child.wait(20)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = folder / "store"
        shutil.copytree(ROOT / "checkpoints", store, ignore=shutil.ignore_patterns(".*"))
        stores(folder)
        stopping(folder)
        trajectories(store)
        first_paints(store)


if __name__ == "__main__":
    main()
