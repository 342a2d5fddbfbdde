"""The scrubber's JavaScript against Python: run by node where there is one, else in the browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynat_core.recorded.packing import pack
from dynat_core.views import ramps, still
from dynat_core.views.trajectory import stop_step
from tests.synthetic import trajectory
from ui import scrubber

DATA = (Path(scrubber.__file__).parent / "data.js").read_text(encoding="utf-8")


@pytest.fixture
def javascript(request, tmp_path) -> Callable[..., Any]:
    """javascript(body, blob) -> what `body` returns after data.js, with `blob` as a Uint8Array."""
    node = shutil.which("node")
    page = None if node else request.getfixturevalue("chromium").new_page()

    def run(body: str, blob: bytes = b"") -> Any:
        code = f"{DATA}\nconst blob = Uint8Array.from({list(blob)});\n{body}"
        if page is not None:
            return page.evaluate(f"() => {{ {code} }}")
        (tmp_path / "run.cjs").write_text(f"console.log(JSON.stringify((() => {{ {code} }})()))", encoding="utf-8")
        done = subprocess.run([str(node), str(tmp_path / "run.cjs")], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int32", "float32"])
def test_what_python_packs_the_browser_unpacks(javascript, kind):
    rng = np.random.default_rng(0)
    arrays = {
        "odd": rng.integers(0, 200, (3, 5)).astype(kind),
        "line": rng.integers(0, 200, 7).astype(kind),
        "deep": rng.integers(0, 200, (2, 3, 3, 3)).astype(kind),
        "none": np.zeros((0, 4), kind),
    }
    header = {"name": "Größe – ρ", "texts": [["a", 2, "b", 1], []], "n": 3}
    read = """
      const s = unpack(blob), rows = a => Array.from({length: a.shape[0]}, (_, i) => Array.from(row(a, i)));
      return {...s, rows: Object.fromEntries(Object.entries(s.arrays).map(([k, a]) => [k, rows(a)])), arrays: 0};"""
    found = javascript(read, pack(header, arrays))
    assert found["name"] == header["name"] and found["texts"] == [["a", "a", "b"], []]
    for name, array in arrays.items():
        assert found["rows"][name] == [np.ravel(part).tolist() for part in array]


def test_colours_and_shares_are_those_of_python(javascript):
    colors = {"s0": ["#0072B2", "#4DB1EC"], "ink": ["#1B1F24", "#F2F3F5"]}
    fig = {"a": "@s0/0.25", "b": ["@ink", 1, None], "c": {"d": [[0, "@s0/0"], [1, "@s0"]]}, "e": "plain @s0"}
    both = f"painted({json.dumps(fig)}, {json.dumps(colors)}, true), Array.from(shares([1, 0, 3]))"
    found = javascript(f"return [{both}];")
    assert found == [still.painted(fig, {"s0": ("#0072B2", "#4DB1EC")}, True), [0.25, 0, 0.75]]


@pytest.mark.parametrize("name", ramps.RAMPS)
def test_ramps_are_those_of_python(javascript, name):
    found = np.array(javascript(f"return Array.from(rampTable({json.dumps(ramps.RAMPS[name])}));")).reshape(256, 4)
    assert np.abs(found[:, :3] - ramps.table(name).astype(int)).max() <= 1  # halves are rounded differently
    assert (found[:, 3] == 255).all()


def test_the_slider_stops_where_python_stops(javascript):
    curves = [trajectory(seed).fosc.astype(float).tolist() for seed in range(6)] + [[0.0, 0.5, 0.3, 0.1, 0.2, 0.0]]
    levels = [0.0, 0.05, 0.1, 0.3, 0.5, 1.0, 5.0]
    found = javascript(f"return {json.dumps(curves)}.map(f => {json.dumps(levels)}.map(c => stopStep(f, c)));")
    assert found == [[stop_step(np.array(curve), c) for c in levels] for curve in curves]
