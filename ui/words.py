"""Runs in words: what the cards, tables and strips of every screen say, the same everywhere."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Literal

from dynat_core.config import STRATEGY_WORDS, RunConfig
from dynat_core.durations import duration
from dynat_core.reports.compared import training_gradients
from dynat_core.store.runs import Run
from dynat_core.views.facts import cost_words

_CODE = re.compile(r"(?<!`)(`[^`]+`)(?!`)")
_BREAKS = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")  # a line of its own could be a list, a rule, a heading
_MARKS = re.compile(r"([\\`*_\[\]!<>$~#:|]|^[-+=]|(?<=\d)[.)](?= )|(?<=[wW]{3})\.)")
_ADDRESS = re.compile(r"(?i)(https?\\:|www)(?=//|\\\.)")  # made a link after all unless a hidden joiner parts it
_JOINER = "\u2060"


def plain(text: object) -> str:
    """Text for a place that reads markdown, so that what somebody typed makes no link, picture or heading.

    Words between two single backticks stay code, where nothing else has a meaning; other backticks are themselves.
    """
    parts = _CODE.split(_BREAKS.sub(" ", str(text)).lstrip())
    return "".join(part if k % 2 else _literal(part) for k, part in enumerate(parts))


def _literal(text: str) -> str:
    return _ADDRESS.sub(rf"\1{_JOINER}", _MARKS.sub(r"\\\1", text))


def epoch_shown(run: Run) -> Literal["best", "last"]:
    """The epoch a run stands for: clean training has none worth choosing by robust accuracy, so it is its last one."""
    return "last" if run.config.strategy.name == "unsecured" else "best"


def outcome(run: Run, which: Literal["best", "last", "newest"] | None = None) -> dict[str, Any] | None:
    """What a run has reached: epoch, n, clean and robust as shares of n; at its best or last epoch, else at its newest.

    which: "best" (chosen on held-out images) or "last"; None: what the run stands for. None before the first record.
    """
    found = (run.result() or {}).get(which or epoch_shown(run))
    if found:
        n = found["n"]
        return {
            "epoch": found["epoch"],
            "n": n,
            "clean": found["clean_correct"] / n,
            "robust": found["robust_correct"] / n,
        }
    record = run.last_record()
    if record and record.get("test/n") and record.get("test/robust_accuracy") is not None:
        return {"epoch": record["epoch"], "n": record["test/n"], "clean": record["test/clean_accuracy"],
                "robust": record["test/robust_accuracy"]}  # fmt: skip
    return None


def gradients_per_image(run: Run) -> str:
    """What training has spent per image and epoch, recording not counted: `6.8 of 10`; `no attack` for clean training,
    a dash where nothing is known, as before the first epoch."""
    return cost_words(run.config, training_gradients(run))


def strategy_words(config: RunConfig) -> str:
    """The strategy as a person says it."""
    return STRATEGY_WORDS.get(config.strategy.name, config.strategy.name)


def progress(status: dict[str, Any] | None, epochs: int) -> tuple[float, str]:
    """(share done, words) of a running job: `epoch 7 of 30, ETA 1:10`."""
    if not status:
        return 0.0, "starting"
    epoch, batch, batches = (int(status.get(key) or 0) for key in ("epoch", "batch", "batches"))
    done = (max(epoch - 1, 0) + (batch / batches if batches and epoch else 0)) / epochs
    words = f"epoch {epoch} of {epochs}" if epoch else "measuring the untrained network"
    if epoch > epochs:
        words = "measuring best and last"
    eta = status.get("eta_s")
    return min(done, 1.0), words + (f", ETA {duration(eta)}" if eta is not None else "")


def recorded(run: Run) -> tuple[float, str]:
    """(share done, words) of a run that a program of one's own records: `epoch 7 of 30 is recorded`."""
    last, epochs = run.last_record(), run.config.epochs
    if last is None:
        return 0.0, "nothing is recorded yet"
    share = min(last["epoch"] / epochs, 1.0) if epochs else 0.0
    return share, f"epoch {last['epoch']}{f' of {epochs}' if epochs else ''} is recorded"


def waiting(before: int | None, running: Run | None) -> str:
    """What a queued run waits for: `2 before you, the one that runs needs about 3:10`. before: its place in the queue,
    None where it has just been taken."""
    if not before:
        return "next in the queue"
    eta = (running.status() or {}).get("eta_s") if running is not None else None
    return f"{before} before you" + (f", the one that runs needs about {duration(eta)}" if eta is not None else "")


def ago(moment: datetime) -> str:
    """`2 hours ago`, `20 Nov 2026`."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            n = int(seconds // size)
            return f"{moment:%-d %b %Y}" if word == "day" and n > 6 else f"{n} {word}{'s' * (n != 1)} ago"
    return "just now"
