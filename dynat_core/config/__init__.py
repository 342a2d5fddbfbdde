"""Every setting of a run, as one frozen schema: behind the form, the command line, run.json and the docs.

After a `RunConfig` is built nobody checks again. What is wrong is said in one sentence (`ConfigError`).
"""

from __future__ import annotations

from dynat_core.config.base import Number, Settings, StepSize, Whole, describe_eps, parse_number, step_size
from dynat_core.config.images import SHAPES, Cifar10, Data, DataSettings, Digits, FashionMnist, Mnist, OwnData
from dynat_core.config.networks import (
    Cifar10CNN,
    Custom,
    DigitsCNN,
    Imported,
    MnistCNN,
    Model,
    PreActResNet18,
    WideResNet,
)
from dynat_core.config.optimizers import Descent, EntropySgd, Optimizer, Sgd
from dynat_core.config.recording import Recording
from dynat_core.config.run import NORM_WORDS, OPTIMIZER_WORDS, STRATEGY_WORDS, RunConfig, get_model_names, union_kinds
from dynat_core.config.strategies import (
    L2L,
    AttackedStrategy,
    Curriculum,
    Dynamic,
    Elsewhere,
    FgsmThenPgd,
    PgdStrategy,
    Standard,
    Strategy,
    Trades,
    Unsecured,
)
from dynat_core.config.threats import L2, MOST_EPS, Linf, Threat, threat_of

__all__ = [
    "AttackedStrategy",
    "Cifar10",
    "Cifar10CNN",
    "Curriculum",
    "Custom",
    "Data",
    "DataSettings",
    "Descent",
    "Digits",
    "DigitsCNN",
    "Dynamic",
    "Elsewhere",
    "EntropySgd",
    "FashionMnist",
    "FgsmThenPgd",
    "Imported",
    "L2",
    "L2L",
    "Linf",
    "Mnist",
    "MOST_EPS",
    "MnistCNN",
    "Model",
    "NORM_WORDS",
    "Number",
    "OPTIMIZER_WORDS",
    "Optimizer",
    "OwnData",
    "PgdStrategy",
    "PreActResNet18",
    "Recording",
    "RunConfig",
    "SHAPES",
    "STRATEGY_WORDS",
    "Settings",
    "Sgd",
    "Standard",
    "StepSize",
    "Strategy",
    "Threat",
    "Trades",
    "Unsecured",
    "Whole",
    "WideResNet",
    "describe_eps",
    "get_model_names",
    "parse_number",
    "step_size",
    "threat_of",
    "union_kinds",
]
