"""docs/performance.md, written from the JSON of a measurement: no number on it is typed by hand.

python -m benchmarks.peers.page            # from benchmarks/results/peers.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.plots import pictures
from dynat_core.comparison import spread

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PAGE, WORDS = (
    ROOT / "benchmarks/results/peers.json",
    ROOT / "docs/performance.md",
    Path(__file__).with_name("words.md"),
)
GOALS = {
    ("cifar10", "dynat-fast"): 3.5,
    ("mnist", "dynat-fast"): 2.5,
    ("cifar10", "dynat-exact"): 1.7,
    ("mnist", "dynat-exact"): 1.4,
}  # times the fastest other loop


def page(found: dict[str, Any], beside: dict[str, dict[str, Any]]) -> str:
    """The whole page as Markdown. beside: the results of benchmarks/dynamic.py, cpu_jobs.py and precision.py, by their
    names."""
    parts = [
        "# Performance",
        "How fast the attack loop is beside libraries in use today, measured side by side in one run: a ratio on one "
        "machine, no promise for another. This page is written by `benchmarks/peers/page.py` from "
        "[the results](../benchmarks/results/peers.json); `make bench` measures again.",
        machine(found),
        throughput(found),
        training(found),
        *([dynamic(beside["dynamic"])] if beside.get("dynamic") else []),
        *([cpu_jobs(beside["cpu_jobs"])] if beside.get("cpu_jobs") else []),
        growth(found),
        *([precision(beside["precision"])] if beside.get("precision") else []),
        WORDS.read_text(encoding="utf-8").strip(),
        "[All guides](README.md)",
    ]
    return "\n\n".join(parts) + "\n"


def machine(found: dict[str, Any]) -> str:
    """What measured."""
    of = found["machine"]
    limits = ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in found["matrix_limit"].items())
    versions = ", ".join(f"{name} {v}" for name, v in found["contenders"].items() if v)
    quick = "" if settled(found) else (
        " **This was the short measurement, or others were computing: see which loops are slow, but trust no ratio of "
        "wall times until `make bench` has run whole on a quiet machine.**"
    )  # fmt: skip
    left_out = f" Left out, not installed: {', '.join(found['missing'])}." if found["missing"] else ""
    return (
        f"Measured {found['measured']} in {found['seconds']} s: {of['processor']}, {of['cores']} cores, "
        f"{of['threads']} compute thread(s), bfloat16 in hardware: {'yes' if of['bfloat16_in_hardware'] else 'no'}; "
        f"load {of['load_at_start']} at the start and {of['load_at_end']} at the end; Python {of['python']}, torch "
        f"{of['torch']}, {versions}. A large matrix product there: {limits}.{quick}{left_out}"
    )


def settled(found: dict[str, Any]) -> bool:
    """Whether all repeats were made and nobody else computed: only then is a goal judged."""
    return not found["quick"] and found["machine"]["load_at_start"] < 1


def throughput(found: dict[str, Any]) -> str:
    """Attacks, and how far from the machine's limit."""
    fastest = {name: ratio["fastest"] for name, ratio in found["ratios"].items()}
    rate = {(r["network"], r["contender"]): r["gradients_per_second"] for r in found["throughput"]}
    spent = {(r["network"], r["contender"]): r["cpu_seconds"]["median"] for r in found["throughput"]}
    lines = [
        "## Attacks",
        "PGD-10 from a random start on one batch: gradients per second from the median time, with the slowest and the "
        "fastest repeat; how many times that of the fastest library or textbook loop, by wall time and by processor "
        "time, which others on the machine disturb less; the share of a matrix product's "
        "speed in the same precision; the most memory held, beyond what the process held before; and the mean "
        "cross-entropy reached, on the network itself in float32, which shows that all did the same work.",
        "",
        "| network | loop | gradients/s | slowest to fastest | times, wall | times, processor | of limit | MB | loss |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in found["throughput"]:
        n, base = r["batch"] * r["steps"], rate[r["network"], fastest[r["network"]]]
        low, high = n / r["seconds"]["high"], n / r["seconds"]["low"]
        memory = "" if r["peak_mb"] is None else f"{r['peak_mb']:.0f}"
        lines.append(
            f"| {r['network']} | {r['contender']} | {r['gradients_per_second']:,.0f} | {low:,.0f} to {high:,.0f} | "
            f"{r['gradients_per_second'] / base:.2f} | "
            f"{spent[r['network'], fastest[r['network']]] / r['cpu_seconds']['median']:.2f} | "
            f"{r['of_matrix_limit']:.0%} | {memory} | {r['loss']:.3f} |"
        )
    lines += ["", "| goal | wanted | measured | |", "|---|---|---|---|"]
    networks = dict.fromkeys(r["network"] for r in found["throughput"])
    lines[2:2] = [
        f"![Gradients per second of every loop on the {n} network.](img/throughput-{n}.svg)\n" for n in networks
    ]
    for (network, who), wanted in GOALS.items():
        got = found["ratios"][network][who]
        judged = ("reached" if got >= wanted else "missed") if settled(found) else "not judged"
        lines.append(f"| {network}, {who} | {wanted} | {got:.2f} | {judged} |")
    return "\n".join(lines)


def training(found: dict[str, Any]) -> str:
    """Epochs, the parts of a step, and files."""
    of = found["training"]
    lines = [
        "## Training",
        "A part of an epoch, all of training's work on the same images with the weights held still, at thresholds that "
        "stop so many of the images after their first step. The network is a trained one; what a whole run saves also "
        "depends on its schedule.",
        "",
        "| network | strategy | c_t | images | gradients/image | seconds | lowest to highest | of Standard's time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in of["epochs"]:
        c = "" if r["c_t"] is None else f"{r['c_t']:.3g}"
        s = r["seconds"]
        lines.append(
            f"| {r['network']} | {r['strategy']} | {c} | {r['images']} | {r['gradients_per_image']:.1f} | "
            f"{s['median']:.3f} | {s['low']:.3f} to {s['high']:.3f} | {r['of_standard']:.2f} |"
        )
    lines += [
        "",
        "One step taken apart, in milliseconds (`exact`); FOSC with its comparison as a share of the step (goal: 1.5 % "
        "or less), and the one gradient more that recording FOSC at the end point takes, as a share of PGD-10:",
        "",
        "| network | gradient | move | FOSC | FOSC of the step | recorded gradient of the attack |",
        "|---|---|---|---|---|---|",
    ]
    for r in of["step"]:
        ms = " | ".join(f"{1000 * r[part]['median']:.2f}" for part in ("gradient", "move", "fosc"))
        lines.append(f"| {r['network']} | {ms} | {r['fosc_of_step']:.1%} | {r['recorded_gradient_of_attack']:.0%} |")
    w = of["writing"]
    lines += [
        "",
        f"Records and the file to resume from, {w['epochs']} epochs of `{w['preset']}`: training "
        f"{w['train']['median']:.2f} s an epoch, evaluating {w['evaluate']['median']:.2f} s. Writing is done beside "
        f"the "
        f"loop and takes {1000 * w['beside']['median']:.0f} ms there ({w['beside_of_epoch']:.1%} of an epoch, most "
        f"of it "
        f"waiting for the disk); the loop itself gives {1000 * w['in_loop']['median']:.1f} ms for it, "
        f"{w['in_loop_of_epoch']:.1%} of an epoch (goal: 1 % or less).",
    ]
    return "\n".join(lines)


def growth(found: dict[str, Any]) -> str:
    """Time against sizes."""
    lines = [
        "## Growth",
        "Time of an attack on the MNIST network (`exact`; 5 steps on 64 images unless varied) against one size, "
        "and the exponent of the power law that fits best. Width multiplies all layers: 2 is all they could cost.",
        "",
        "![Time against each size on logarithmic axes.](img/growth.svg)",
        "",
        "| against | sizes: milliseconds | exponent |",
        "|---|---|---|",
    ]
    for row in found["growth"]:
        points = ", ".join(f"{p['size']:g}: {1000 * p['seconds']['median']:.0f}" for p in row["points"])
        lines.append(f"| {row['against']} | {points} | {row['exponent']:.2f} |")
    return "\n".join(lines)


def dynamic(found: dict[str, Any]) -> str:
    """Standard and Dynamic over seeds."""
    lines = [
        "## Dynamic beside Standard",
        "Whole trainings over the same seeds, K = 10 each, the same code, an epoch of one after an epoch of the "
        "other; the "
        "box form of FOSC, c_max as the launch form suggests it, T_control at four fifths of the epochs "
        f"(`{found['command']}`). {machine_words(found)} Means over the seeds with the 95 % interval of the pairs; "
        f"goals: "
        "at most .75 of the gradients, at most .8 of the time, robust accuracy not lower beyond the interval.",
        "",
        "| data | seeds | epochs x images | c_max | gradients | training time, wall | clean, points | PGD-20, points | "
        "Standard's own |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for of in found["setups"]:
        pairs = list(zip(of["rows"]["standard"], of["rows"]["dynamic"], strict=True))
        ratio = {what: spread([d[what] / s[what] for s, d in pairs]) for what in ("gradients", "seconds")}
        change = {what: spread([d[what] - s[what] for s, d in pairs]) for what in ("clean", "robust")}
        own = ", ".join(f"{100 * spread([s[what] for s, _ in pairs]).mean:.1f} {what}" for what in ("clean", "robust"))
        lines.append(
            f"| {of['name']}, {of['precision']} | {len(pairs)} | {of['epochs']} x {of['images']:,} | {of['c_max']:g} | "
            + " | ".join(interval(ratio[what], 1, 2) for what in ratio)
            + " | "
            + " | ".join(interval(change[what], 100, 1) for what in change)
            + f" | {own}, n {of['n']:,} |"
        )
    return "\n".join(lines)


def cpu_jobs(found: dict[str, Any]) -> str:
    """Runs in turns and side by side on the CPU."""
    lines = [
        "## Several runs on one CPU",
        f"{found['jobs']} runs that differ in their seeds, by a real worker: one after another with the "
        f"threads that a run gets by itself (the digits one, others all), and side by side with one thread "
        f"each (`DYNAT_CPU_JOBS={found['jobs']}`, [how](cluster.md)); {found['rounds']} rounds in turns, "
        f"training time in seconds, median and range (`{found['command']}`). {machine_words(found)}",
        "",
        "| data | epochs x images | one after another | side by side | times as fast |",
        "|---|---|---|---|---|",
    ]
    for of in found["setups"]:
        alone, beside = sorted(of["seconds"]["alone"]), sorted(of["seconds"]["beside"])
        lines.append(
            f"| {of['name']}, {of['precision']} | {of['epochs']} x {of['images']:,} | "
            + " | ".join(f"{median(s):.1f} ({s[0]:.1f} to {s[-1]:.1f})" for s in (alone, beside))
            + f" | {median(alone) / median(beside):.2f} |"
        )
    return "\n".join(lines)


def precision(found: dict[str, Any]) -> str:
    """PGD-20 made exactly and fast."""
    lines = [
        "## Fast beside exact",
        "Robust accuracy under PGD-20 made with float32 and with bfloat16 gradients: the same checkpoint, images and "
        "random "
        f"starts (`{found['command']}`). {machine_words(found)} Goal: at most {found['goal']} points apart.",
        "",
        "| network | threat | images x starts | exact | fast | fast minus exact, points (95 %) | |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in found["rows"]:
        norm = "L-inf" if r["norm"] == "linf" else "L2"
        inside = -found["goal"] <= r["low"] and r["high"] <= found["goal"]
        judged = "held" if inside else "mean held" if abs(r["difference"]) <= found["goal"] else "missed"
        lines.append(
            f"| {r['network']} | {norm} {r['eps']:.3g} | {r['images']:,} x {r['starts']} | {r['exact']:.2f} | "
            f"{r['fast']:.2f} | {r['difference']:+.2f} ({r['low']:+.2f} to {r['high']:+.2f}) | {judged} |"
        )
    return "\n".join([*lines, "", "Held: the whole interval lies inside the goal; mean held: only the mean does."])


def machine_words(found: dict[str, Any]) -> str:
    """Where and how busy."""
    of = found["machine"]
    return f"{of['processor']}, {of['threads']} thread(s), load {of['load_at_start']} at the start."


def interval(one: Any, times: float, digits: int) -> str:
    """A mean and its interval."""
    return f"{times * one.mean:.{digits}f} ({times * one.low:.{digits}f} to {times * one.high:.{digits}f})"


def main() -> None:
    """Write the page and its pictures from the files named, or from the results that are kept."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    found = json.loads(source.read_text(encoding="utf-8"))
    PAGE.write_text(page(found, kept_beside()), encoding="utf-8")
    for name, drawn in pictures(found).items():
        (PAGE.parent / "img" / name).write_text(drawn, encoding="utf-8")


def kept_beside() -> dict[str, dict[str, Any]]:
    """The results of the other benchmarks that share the page."""
    paths = {name: RESULTS.with_name(f"{name}.json") for name in ("dynamic", "cpu_jobs", "precision")}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}


if __name__ == "__main__":
    main()
