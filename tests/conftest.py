"""What every test shares: one compute thread per test process, what is made once, and reproducible property tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.shared import PLACE

# Two test processes on two cores otherwise fight over them. The variables reach the processes that tests start, too.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# A slow moment of a shared machine is no failure, so no example has a deadline; with CI=true the examples are the
# same ones each time, so that a red run can be repeated.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI", "").lower() == "true" else "here")


@pytest.fixture(scope="session", autouse=True)
def place_of_what_is_shared(tmp_path_factory) -> None:
    """Tell `shared` a folder that all processes of this session have: with several, the one above their own."""
    own = tmp_path_factory.getbasetemp()
    os.environ[PLACE] = str((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared")


# Without a browser the longest first, then the rest; the browser's likewise, from the longest to the shortest: what
# runs last is short, so that no process is left with a long file while the others have nothing more to do.
LONGEST = ("test_cluster.py", "test_worker.py", "test_devices.py", "test_reproduce.py", "test_screens.py",
           "test_chaos.py", "test_model_files.py", "test_command_line.py", "test_malformed_inputs.py",
           "test_audit.py")  # fmt: skip
IN_THE_BROWSER = ("test_screens.py", "test_learn.py", "test_check.py", "test_scrubber.py", "test_theory_screens.py",
                  "test_bookkeeping.py", "test_take_away.py", "test_lesson.py", "test_inner_optimizer.py")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files into that order."""

    def place(item: pytest.Item) -> tuple[bool, int]:
        browser = item.path.parent.name == "browser"
        order = IN_THE_BROWSER if browser else LONGEST
        return browser, order.index(item.path.name) if item.path.name in order else len(order)

    items.sort(key=place)
