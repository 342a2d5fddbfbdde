"""The import rules that keep the house in order, read from the source: who may import what, who is free of torch.

Screens, views and the run store work where torch is not installed, and start without the seconds its import takes.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What computes, and may therefore import torch at the top. Every other module is free of it, a new one too.
HEAVY = {
    f"dynat_core.{name}"
    for name in (
        "threat", "fosc", "attacks", "frozen", "models", "data", "devices",
        "strategy", "strategies", "curriculum", "trades", "learned", "l2l", "optimizers", "trainer",
        "evaluate", "analyses", "segments", "weight_line", "preflight", "diagnosis", "siege", "own_training",
        "measured_epoch", "next_action", "loading", "measurements", "provenance",
        "ladder", "ladder_rungs", "ladder_state", "curves", "curves_result", "transfer", "autoattack",
        "memory", "inputs",
        "architectures", "conventions", "state_dict", "model_files", "model_reader", "model_adding",
        "black_box",
    )
}  # fmt: skip
COMPUTING = {"torch", "torchvision", "sklearn", "scipy"}

# Start in a process without torch and import it inside a function, when there is something to compute.
LAZY = {
    "dynat_core",  # the notebook face: attributes are imported when they are asked for
    "dynat_core.__main__",
    "dynat_core.worker",  # the job in its child process
    "dynat_core.analyst",
    "dynat_core.helper",  # the analysis process
}

# Only these own modules, beside dynat_core.errors; what is not named here is bound by the other rules alone.
MAY_IMPORT = {
    "dynat_core.errors": set(),
    "dynat_core.refusals": set(),
    "dynat_core.config": {"dynat_core.refusals"},
    "dynat_core.presets": {"dynat_core.config"},
    "dynat_core.histograms": set(),
    "dynat_core.packing": set(),
    "dynat_core.files": set(),
    "dynat_core.jobs": {"dynat_core.files"},
    "dynat_core.threat": set(),
    "dynat_core.fosc": {"dynat_core.threat"},
    "dynat_core.attacks": {"dynat_core.fosc", "dynat_core.threat"},
    "dynat_core.architectures": set(),
    "dynat_core.models": {"dynat_core.config", "dynat_core.architectures"},
    "dynat_core.data": {"dynat_core.config", "dynat_core.own_data"},
    "dynat_core.array_files": set(),
    "dynat_core.picture_folders": {"dynat_core.array_files"},
    "dynat_core.own_data": {
        "dynat_core.config",
        "dynat_core.files",
        "dynat_core.array_files",
        "dynat_core.picture_folders",
    },
}

# These know nothing of folders, queues, processes and screens: plain data in, plain data out.
PURE = {
    "dynat_core.threat", "dynat_core.fosc", "dynat_core.attacks", "dynat_core.frozen", "dynat_core.models",
    "dynat_core.strategy", "dynat_core.strategies", "dynat_core.curriculum", "dynat_core.trades",
    "dynat_core.learned", "dynat_core.l2l",
    "dynat_core.optimizers", "dynat_core.trainer", "dynat_core.evaluate",
    "dynat_core.architectures", "dynat_core.conventions", "dynat_core.state_dict",
    "dynat_core.preflight", "dynat_core.verdict", "dynat_core.siege", "dynat_core.next_action",
    "dynat_core.ladder", "dynat_core.ladder_rungs", "dynat_core.ladder_state", "dynat_core.curves",
    "dynat_core.curves_result", "dynat_core.transfer", "dynat_core.autoattack", "dynat_core.memory",
    "dynat_core.inputs",
    "dynat_core.measured_epoch", "dynat_core.diagnosis", "dynat_core.records",
    "dynat_core.histograms", "dynat_core.trajectories", "dynat_core.packing",
    "dynat_core.config", "dynat_core.presets",
    "dynat_core.theory.minimax", "dynat_core.theory.concavity", "dynat_core.theory.logistic",
    "dynat_core.theory.entropy", "dynat_core.theory.probe", "dynat_core.theory.adversarial_sgd",
    "dynat_core.theory.weak_order", "dynat_core.theory.learning_rate", "dynat_core.theory.small_network",
    "dynat_core.theory.seeds", "dynat_core.weight_line",
    "dynat_core.comparison", "dynat_core.published", "dynat_core.paper_runs",
}  # fmt: skip
FOLDERS_AND_PROCESSES = {
    "dynat_core.runs", "dynat_core.run", "dynat_core.run_writer", "dynat_core.evaluations", "dynat_core.jobs",
    "dynat_core.worker",
    "dynat_core.supervisor", "dynat_core.follow", "dynat_core.doctor", "dynat_core.analyst", "dynat_core.helper",
    "dynat_core.__main__", "dynat_core.compared", "dynat_core.exports", "dynat_core.report",
    "dynat_core.comparison_report", "dynat_core.bookkeeping",
    "dynat_core.model_files", "dynat_core.model_reader", "dynat_core.model_adding", "dynat_core.trusted_programs",
    "dynat_core.own_data", "dynat_core.reproduce", "dynat_core.reproduced", "dynat_core.black_box",
}  # fmt: skip


def source_files() -> list[Path]:
    """Every file of the product."""
    folders = ("dynat_core", "ui", "pages")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(found + [path for path in [ROOT / "app.py"] if path.exists()])


def module_name(path: Path) -> str:
    """`dynat_core/views/epochs.py` -> `dynat_core.views.epochs`; a package is called by its folder."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in source_files()}


class _Imports(ast.NodeVisitor):
    """Collects full names; what only type checkers read is left out, function bodies too unless asked for."""

    def __init__(self, package: str, into_functions: bool) -> None:
        self.package, self.into_functions, self.found = package, into_functions, set[str]()

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        parts = self.package.split(".")
        above = parts[: len(parts) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        self.found |= {base} | {f"{base}.{alias.name}" for alias in node.names}

    def visit_If(self, node: ast.If) -> None:
        for child in node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else ast.iter_child_nodes(node):
            self.visit(child)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if self.into_functions:
            self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef


@cache
def imports(module: str, into_functions: bool) -> frozenset[str]:
    """Full names of what a module imports: at its top, or anywhere (also inside functions)."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    visitor = _Imports(package, into_functions)
    visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
    return frozenset(visitor.found)


def own(names: frozenset[str]) -> set[str]:
    """The product's own modules among imported names (`from dynat_core import runs` counts as runs)."""
    return {name for name in names if name in MODULES}


def third_party(names: frozenset[str]) -> set[str]:
    """First parts of the other names."""
    return {name.partition(".")[0] for name in names if name}


@cache
def reached(module: str) -> frozenset[str]:
    """Every own module that importing this one brings along, itself included."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            parents = {name.rpartition(".")[0]} & MODULES.keys()
            waiting += [*own(imports(name, False)), *parents]
    return frozenset(seen)


def reached_third_party(module: str) -> dict[str, str]:
    """Third-party package -> the own module that imports it, for all that importing `module` brings along."""
    return {package: name for name in reached(module) for package in third_party(imports(name, False))}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - HEAVY))
def test_importing_what_does_not_compute_never_imports_torch(module):
    brought = reached_third_party(module)
    guilty = {package: brought[package] for package in COMPUTING & brought.keys()}
    assert not guilty, f"{module} brings {guilty}"


@pytest.mark.parametrize("module", sorted(MODULES.keys() - HEAVY - LAZY))
def test_what_does_not_compute_imports_nothing_heavy_inside_a_function_either(module):
    names = imports(module, True)
    assert not third_party(names) & COMPUTING
    assert not own(names) & HEAVY


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("dynat_core")))
def test_the_core_knows_no_streamlit_and_no_screen(module):
    names = imports(module, True)
    assert "streamlit" not in third_party(names)
    assert not {name for name in own(names) if not name.startswith("dynat_core")}


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith(("ui", "pages", "app"))))
def test_screens_never_import_the_worker(module):
    assert "dynat_core.worker" not in reached(module)
    assert "dynat_core.worker" not in imports(module, True)


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("dynat_core.views")))
def test_views_take_plain_data(module):
    assert not own(imports(module, True)) & FOLDERS_AND_PROCESSES


@pytest.mark.parametrize("module", sorted(MODULES.keys() & PURE))
def test_what_computes_knows_nothing_of_folders_and_processes(module):
    assert not own(imports(module, True)) & FOLDERS_AND_PROCESSES


@pytest.mark.parametrize("module", sorted(MODULES.keys() & MAY_IMPORT.keys()))
def test_the_lower_floors_rest_on_nothing_above(module):
    allowed = MAY_IMPORT[module] | {"dynat_core", "dynat_core.errors"}
    assert own(imports(module, True)) <= allowed


@pytest.mark.parametrize("module", sorted(name for name in MODULES if not name.startswith("dynat_core.views")))
def test_pictures_are_drawn_in_views_alone(module):
    if module.startswith("dynat_core"):
        assert "plotly" not in third_party(imports(module, True))


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"dynat_core.data"}))
def test_nothing_is_pickled_but_the_published_files_of_cifar10(module):
    assert not third_party(imports(module, True)) & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def test_no_file_is_called_utils():
    vague = {"utils", "util", "helpers", "misc", "common"}
    assert not [module for module in MODULES if module.rpartition(".")[2] in vague]


def test_what_does_not_compute_really_imports_where_torch_is_not_installed():
    scripts = ("pages", "app", "dynat_core.__main__")  # importing one would run it
    light = sorted(name for name in MODULES.keys() - HEAVY if not name.startswith(scripts))
    program = (
        "import importlib, sys\n"
        f"for name in {sorted(COMPUTING)!r}: sys.modules[name] = None\n"
        f"for name in {light!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
