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

COMPUTING = {"torch", "torchvision", "sklearn", "scipy"}

# The house, from the ground up: what a package of dynat_core may import at all, beside itself and the ground floor: the
# modules that lie in no package (errors, files, places, statistics, ...).
FLOORS: dict[str, set[str]] = {
    "config": set(),
    "recorded": set(),
    "attack": set(),
    "images": {"config"},
    "networks": {"config", "store"},
    "training": {"config", "recorded", "attack", "images", "networks"},
    "check": {"config", "recorded", "attack", "images", "networks", "training"},
    "store": {"config", "recorded"},
    "theory": set(),
    "work": {"config", "recorded", "attack", "images", "networks", "training", "check", "store"},
    "views": {"config", "recorded", "theory", "paper"},
    "reports": {"config", "recorded", "store", "views"},
    "paper": {"config", "recorded", "attack", "networks", "training", "check", "store", "work"},
    "commands": {"config", "images", "networks", "store", "work", "reports", "paper"},
}
GROUND = {  # module of the ground floor -> the packages it may import
    "access": set(),
    "comparison": {"config"},
    "doctor": {"config", "store"},
    "presets": {"config"},
    "terminal": set(),
    "__main__": {"commands"},
    "__init__": set(),
}

# What computes, and may therefore import torch at the top: these packages, and these modules of others.
COMPUTES = ("attack", "images", "networks", "training", "check", "work")
COMPUTES_TOO = {"dynat_core.devices", "dynat_core.paper.black_box"}
# Modules of theirs that do not: screens and the run store read them, or they start a process before torch is there.
FREE = {
    "dynat_core.images.own_data",
    "dynat_core.images.array_files",
    "dynat_core.images.picture_folders",
    "dynat_core.check.verdict",
    "dynat_core.work.supervisor",
    "dynat_core.work.backlog",
    "dynat_core.work.crew",
    "dynat_core.work.lease",
    "dynat_core.work.shared_store",
    "dynat_core.work.cluster",
    "dynat_core.work.split",
    "dynat_core.work.follow",
    "dynat_core.work.answer_cache",
    "dynat_core.work.beside",
    "dynat_core.work.worker",
    "dynat_core.work.analysis",
    "dynat_core.work.analyst",
    "dynat_core.work.helper",
    "dynat_core.work.questions",
    "dynat_core.work.turns",
    *(f"dynat_core.{package}" for package in COMPUTES),  # the packages themselves: empty
}

# Start in a process without torch and import it inside a function, when there is something to compute.
LAZY = {
    "dynat_core",  # the notebook face: attributes are imported when they are asked for
    "dynat_core.commands.training",
    "dynat_core.commands.measuring",
    "dynat_core.work.worker",  # the job in its child process
    "dynat_core.work.split",  # inside a worker of the cluster
    "dynat_core.work.analyst",
    "dynat_core.work.helper",  # the analysis process
}

# These know nothing of folders, queues, processes and screens: plain data in, plain data out.
PURE = ("config", "recorded", "attack", "training", "check", "theory", "presets", "comparison", "statistics")
PURE_TOO = {
    f"dynat_core.{name}"
    for name in ("networks.models", "networks.architectures", "networks.conventions", "networks.state_dict",
                 "paper.published", "paper.paper_runs")
}  # fmt: skip
FOLDERS_AND_PROCESSES = ("store", "work", "reports", "commands", "doctor")
FOLDERS_AND_PROCESSES_TOO = {
    "dynat_core.networks.model_files", "dynat_core.networks.model_reader", "dynat_core.images.own_data",
    "dynat_core.paper.reproduce", "dynat_core.paper.reproduced", "dynat_core.paper.black_box",
    "dynat_core.paper.results",
}  # fmt: skip


def package(module: str) -> str:
    """`dynat_core.store.runs` -> `store`; a module of the ground floor is its own name."""
    return (module.split(".") + ["__init__"])[1]


def of(packages: tuple[str, ...], too: set[str]) -> set[str]:
    """The modules of dynat_core in these packages, and these."""
    return {name for name in MODULES if name.startswith("dynat_core.") and package(name) in packages} | too


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
HEAVY = of(COMPUTES, COMPUTES_TOO) - FREE


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
    assert "dynat_core.work.worker" not in reached(module)
    assert "dynat_core.work.worker" not in imports(module, True)


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("dynat_core.views")))
def test_views_take_plain_data(module):
    assert not own(imports(module, True)) & of(FOLDERS_AND_PROCESSES, FOLDERS_AND_PROCESSES_TOO)


@pytest.mark.parametrize("module", sorted(of(PURE, PURE_TOO)))
def test_what_computes_knows_nothing_of_folders_and_processes(module):
    assert not own(imports(module, True)) & of(FOLDERS_AND_PROCESSES, FOLDERS_AND_PROCESSES_TOO)


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("dynat_core")))
def test_each_floor_rests_on_those_below_it_alone(module):
    here = package(module)
    allowed = FLOORS.get(here, GROUND.get(here, set())) | {here}
    above = {name for name in own(imports(module, True)) if package(name) in FLOORS and package(name) not in allowed}
    assert not above


def test_no_two_packages_rest_on_each_other():
    def below(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        return {name} if name in seen else set().union(*(below(n, seen | {name}) | {n} for n in FLOORS[name]), set())

    assert not [name for name in FLOORS if name in below(name)]


def test_every_package_has_its_floor():
    folders = {path.name for path in (ROOT / "dynat_core").iterdir() if any(path.glob("*.py"))}
    assert folders == FLOORS.keys()


@pytest.mark.parametrize("module", sorted(name for name in MODULES if not name.startswith("dynat_core.views")))
def test_pictures_are_drawn_in_views_alone(module):
    if module.startswith("dynat_core"):
        assert "plotly" not in third_party(imports(module, True))


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"dynat_core.images.data"}))
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
