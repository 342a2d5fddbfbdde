"""The training loop: a generator that yields what happened; it knows nothing of folders, queues or screens.

Random numbers come from (seed, purpose, epoch, batch), so measuring more or recording less never changes training, and
a run that goes on from a saved state, even in the middle of an epoch, is the same run.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from dynat_core.attack.attacks import Attacked
from dynat_core.attack.frozen import Frozen
from dynat_core.config import RunConfig
from dynat_core.devices import choose, shortened
from dynat_core.errors import StateError
from dynat_core.images import data
from dynat_core.networks import models
from dynat_core.recorded.records import Histograms, Record, reached, summarise
from dynat_core.training import optimizers, strategies
from dynat_core.training.evaluate import (
    ball_of,
    batches,
    fixed_subset,
    generator_for,
    measures,
    recorded_paths,
    recorded_robustness,
)
from dynat_core.training.events import EpochDone, Finished, Progress, State
from dynat_core.training.group import Alone
from dynat_core.training.seen import Seen
from dynat_core.training.strategy import Moment


def train(
    config: RunConfig,
    *,
    device: str | None = None,
    state: State | None = None,
    dataset: data.DataSet | None = None,
    group: Alone | None = None,
) -> Iterator[Progress | EpochDone | Finished]:
    """Train as `config` says, from the start or on from `state`.

    device: overrides config.device. dataset: that of `config.data`, for a caller who has it already. group: the
    processes that share each batch; all of them call this, with the same arguments, and see the same epochs.
    Raises DataError, DeviceError, or StateError for a state that another version saved, before the first event.
    """
    run = _Run(config, choose(device or config.device), dataset or data.load(config.data), group or Alone())
    if state is not None:
        try:
            run.load(*state)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            first = (str(error).strip().splitlines() or [""])[0][:120]
            raise StateError(
                f"The saved state is of another version of Dynat ({type(error).__name__}: {first})."
            ) from error
    if run.epoch < 0:
        yield from run.measure_untrained()
        yield from run.close_epoch()
    while run.epoch < config.epochs:
        order = run.order()
        for chosen in order[run.batch :]:
            run.step(chosen)
            yield run.progress("train")
        yield from run.close_epoch()
    yield from run.finish()


class _Run:
    """A training run in memory: `epoch` epochs are closed (-1: not even the untrained network's), `batch` batches of
    the next one are done, and `seen` holds what they showed."""

    def __init__(self, config: RunConfig, device: torch.device, dataset: data.DataSet, group: Alone) -> None:
        self.config, self.device, self.group = config, device, group
        torch.backends.cudnn.deterministic = config.precision == "exact"
        torch.backends.cudnn.benchmark = config.precision == "fast"
        self.data = dataset.to(device)
        self.model = group.prepare(models.initialise(config.model, config.shape[0], config.seed)).to(
            device, memory_format=torch.channels_last
        )  # type: ignore[call-overload]
        self.trained = group.trained(self.model)
        self.frozen = Frozen(self.model, config.precision)
        self.strategy = strategies.build(config.strategy, config.threat.eps, config.seed, device)
        self.optimizer = optimizers.build(config.optimizer, self.model)
        rows = fixed_subset(len(self.data.train), config.recording.train_rows).to(device)
        self.seen = Seen(self.data.train, rows, self.strategy.columns)
        self.measured = fixed_subset(len(self.data.train), config.recording.final_gradients).to(device)
        self.test = self.data.test[fixed_subset(len(self.data.test), config.recording.test_images).to(device)]
        self.probe_images = self.data.test[
            torch.arange(min(config.recording.probes, len(self.data.test)), device=device)
        ]
        self.epoch, self.batch = -1, 0
        self.best_epoch, self.best_accuracy = 0, -1.0
        self.best_weights: dict[str, Tensor] = {}
        self.last_weights: dict[str, Tensor] = {}  # once it finishes, since the model then takes others to be measured
        self.seconds = {"train": 0.0, "evaluate": 0.0}
        self.gradients_total = 0

    # -- one batch

    def order(self) -> list[Tensor]:
        """The batches of the coming epoch, as positions in the training split, on the CPU; a last batch of one image
        joins its neighbour, since BatchNorm cannot train on one."""
        shuffle = generator_for(torch.device("cpu"), self.config.seed, "order", self.epoch)
        positions = torch.randperm(len(self.data.train), generator=shuffle)
        size = self.config.optimizer.batch
        parts = list(positions.split(size))
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]
        self.batches = len(parts)
        return parts

    def step(self, positions: Tensor) -> None:
        """Attack one batch and update the weights on what the attack found. Nothing here waits for the device but the
        attack, when it asks how many images are left."""
        began = time.perf_counter()
        t, config = self.epoch, self.config
        chosen = positions.to(self.device, non_blocking=True)
        self.optimizer.begin()
        randomness = generator_for(self.device, config.seed, "batch", t, self.batch)
        x, y = self.data.train.pixels(chosen), self.data.train.labels[chosen]
        if data.augments(config.data):
            x = data.augment(x, randomness)
        own = self.group.share(len(chosen))
        self.frozen.refresh()
        self.model.train()
        with shortened(config.precision == "fast"):
            loss, attacked = self.strategy.loss(self.trained, x[own], y[own], self._moment(t, randomness, chosen))
            self.model.zero_grad(set_to_none=True)
            self.group.weighed(loss, len(chosen)).backward()
        self.optimizer.step(config.optimizer.rate(t, t * self.batches + self.batch), randomness)
        self._see(chosen, x[own], y[own], attacked, self.seen.with_row_among(positions[own]))
        self.batch += 1
        self.seconds["train"] += time.perf_counter() - began

    def _moment(self, t: int, randomness: torch.Generator, chosen: Tensor) -> Moment:
        return Moment(
            t=t,
            frozen=self.frozen,
            ball=self.group.ball(lambda x: ball_of(self.config.threat, x), len(chosen)),
            generator=randomness,
            measured=self.measured[chosen[self.group.share(len(chosen))]],
        )

    def _see(self, chosen: Tensor, x: Tensor, y: Tensor, attacked: Attacked, rows: Tensor) -> None:
        """Note the columns of these training images, as the training loop saw them; x, y and attacked are of this
        process's share. rows: places in the share of the images that have a row of their own."""
        with torch.no_grad():
            found = measures(ball_of(self.config.threat, x), attacked, y) | dict(attacked.more)
            found["clean_correct"] = torch.zeros_like(y, dtype=torch.bool)
            if len(rows):
                found["clean_correct"][rows] = self.frozen(x[rows]).argmax(1) == y[rows]
            self.seen.note(chosen, self.group.joined(found, len(chosen)))

    # -- one epoch

    def measure_untrained(self) -> Generator[Progress, None, None]:
        """Epoch 0: the training attack on the recorded training images, nothing learnt."""
        self.batches = 0
        for number, chosen in enumerate(self.seen.with_row.split(self.config.optimizer.batch)):
            x, y = self.data.train.pixels(chosen), self.data.train.labels[chosen]
            randomness = generator_for(self.device, self.config.seed, "untrained", number)
            own = self.group.share(len(chosen))
            x, y = x[own], y[own]
            attacked = self.strategy.attack(x, y, self._moment(0, randomness, chosen))
            self._see(chosen, x, y, attacked, torch.arange(len(x), device=self.device))
            yield self.progress("evaluate")

    def close_epoch(self) -> Generator[Progress | EpochDone, None, None]:
        """Measure the network as it is now and hand out the epoch's record."""
        began = time.perf_counter()
        self.optimizer.settle()
        validation = yield from self._robustness(self.data.validation, "validation")
        test = yield from self._robustness(self.test, "test")
        probes = recorded_paths(self.model, self.probe_images, self.config) if len(self.probe_images) else None
        self.epoch, self.batch = self.epoch + 1, 0
        # a network that never met an attack is judged by what it was trained for
        right = validation.clean_correct if self.config.alpha is None else validation.predicted == validation.label
        accuracy = float(right.mean())
        if self.epoch > 0 and accuracy > self.best_accuracy:
            self.best_epoch, self.best_accuracy, self.best_weights = self.epoch, accuracy, self._weights()
        record, histograms = self._record(validation, test)
        if self.epoch > 0:
            self.strategy.close_epoch(self.epoch - 1, record)
        self.seconds["evaluate"] += time.perf_counter() - began
        record["seconds/train"], record["seconds/evaluate"] = (round(self.seconds[k], 4) for k in ("train", "evaluate"))
        train_rows = self.seen.table()
        self.seen.forget()
        self.seconds = {"train": 0.0, "evaluate": 0.0}
        yield EpochDone(
            record,
            pd.concat([train_rows, test], ignore_index=True),
            histograms,
            probes,
            self._kept(self._weights()),
            self.state,
        )

    def _robustness(self, split: data.Split, name: str) -> Generator[Progress, None, pd.DataFrame]:
        """Rows of the recorded attack, on the network itself in float32."""
        numbers = [number for number, _ in self.group.dealt(batches(len(split)))]
        done: dict[int, pd.DataFrame] = {}
        for part in recorded_robustness(self.model, split, name, self.config, numbers):
            done[numbers[len(done)]] = part
            yield self.progress("evaluate")
        return pd.concat(self.group.collected(done), ignore_index=True)

    def _record(self, validation: pd.DataFrame, test: pd.DataFrame) -> tuple[Record, Histograms]:
        t = max(self.epoch - 1, 0)
        learnt = self.epoch > 0  # epoch 0 looked at the recorded images alone, and its gradients trained nothing
        train = self.seen.arrays()
        if not learnt:
            train = {name: values[train["row"]] for name, values in train.items()}
        self.gradients_total += int(train["gradients"].sum()) if learnt else 0
        record: Record = {
            "epoch": self.epoch,
            "lr": self.config.optimizer.rate(t, t * self.batches),
            "c_t": self.strategy.threshold(t),
            **self.strategy.facts(),
            "best_epoch": self.best_epoch,
            "examples": len(train["label"]) if learnt else 0,
            "gradients/train_total": self.gradients_total,
        }
        measured, histograms = summarise(train, validation, test, self.strategy.columns)
        if self.config.alpha is None:
            measured["train/stopped_after_one"] = None  # nothing is attacked, so nothing stops
        return record | measured, histograms

    # -- the end

    def finish(self) -> Generator[Progress | Finished, None, None]:
        """All test images at the best and the last epoch, under the weights as they are stored."""
        self.last_weights = self._weights()
        tables: dict[str, pd.DataFrame] = {}
        self._take(self._kept(self.best_weights))
        tables["best"] = yield from self._robustness(self.data.test, "test")
        self._take(self._kept(self.last_weights))
        if self.best_epoch == self.epoch:
            tables["last"] = tables["best"]
        else:
            tables["last"] = yield from self._robustness(self.data.test, "test")
        result = {
            "attack": self.config.attack_words(),
            "gradients_train_total": self.gradients_total,
            "gradients_per_image": self.gradients_total / (self.config.epochs * len(self.data.train)),
            "data_fingerprint": self.data.fingerprint,
        }
        result |= {"best": reached(self.best_epoch, tables["best"]), "last": reached(self.epoch, tables["last"])}
        kept = recorded_paths(self.model, self.data.test, self.config) if self.config.recording.paths else None
        yield Finished(result, tables, kept)

    # -- state

    def progress(self, phase: Literal["train", "evaluate"]) -> Progress:
        return Progress(self.epoch + 1, self.batch, self.batches, phase, self.state)

    def state(self) -> State:
        """Everything needed to go on from here: tensors (copies, on the CPU) and a JSON-able rest."""
        optimizer, counters = self.optimizer.state()
        parts = {
            **{f"model/{name}": value for name, value in (self.last_weights or self.model.state_dict()).items()},
            **optimizer,
            **{f"strategy/{name}": value for name, value in self.strategy.state_dict().items()},
            **{f"best/{name}": value for name, value in self.best_weights.items()},
            **{f"seen/{name}": value for name, value in self.seen.columns.items()},
        }
        tensors = {name: value.detach().cpu().clone().contiguous() for name, value in parts.items()}
        rest = {
            "epoch": self.epoch,
            "batch": self.batch,
            "best_epoch": self.best_epoch,
            "best_accuracy": self.best_accuracy,
            "seconds": dict(self.seconds),
            "gradients_total": self.gradients_total,
            "optimizer": counters,
        }
        return tensors, rest

    def load(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        """Go on from a state. Raises KeyError or RuntimeError if it belongs to another network."""

        def group(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): value.to(self.device)
                for name, value in tensors.items()
                if name.startswith(prefix)
            }

        self._take(group("model/"))
        self.optimizer.load({name: value.to(self.device) for name, value in tensors.items()}, rest.get("optimizer", {}))
        self.strategy.load_state_dict(group("strategy/"))
        self.best_weights = {name: value.cpu() for name, value in group("best/").items()}
        self.seen.columns = group("seen/")
        self.epoch, self.batch, self.gradients_total = rest["epoch"], rest["batch"], rest["gradients_total"]
        self.best_epoch, self.best_accuracy, self.seconds = (
            rest["best_epoch"],
            rest["best_accuracy"],
            dict(rest["seconds"]),
        )
        self.batches = self.batch
        self.frozen.refresh()

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone().contiguous() for name, value in self.model.state_dict().items()}

    def _kept(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights as they are stored."""
        dtype = {"float32": torch.float32, "float16": torch.float16}[self.config.recording.weights_dtype]
        return {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}

    def _take(self, weights: dict[str, Tensor]) -> None:
        self.model.load_state_dict(weights)
