"""What every test shares: one compute thread per test process, and reproducible property tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Two test processes on two cores otherwise fight over them. The variables reach the processes that tests start, too.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# A slow moment of a shared machine is no failure, so no example has a deadline; with CI=true the examples are the
# same ones each time, so that a red run can be repeated.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI", "").lower() == "true" else "here")
