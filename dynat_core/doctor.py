"""Is everything in place? Each finding that is not good comes with what to do about it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from dynat_core.access import (
    GUARDED,
    configured_address,
    exposed,
    exposure_words,
    is_local,
    read_files,
    secret_files,
)
from dynat_core.config import SHAPES
from dynat_core.errors import DynatError
from dynat_core.places import ROOT
from dynat_core.store.queue import in_turn
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import child_environment, worker_states

# In a process of its own: a torch that is broken, or that takes the whole process with it, is a finding.
_COMPUTING = f"""
import json
import torch, torchvision
from dynat_core.images import data
from dynat_core.devices import choose
found = {{"folder": str(data.folder()), "threads": torch.get_num_threads()}}
found["cuda"] = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
found["missing"] = {{name: len(data.missing(name)) for name in {list(SHAPES)!r}}}
try:
    found["device"] = str(choose("auto"))
except Exception as error:
    found["device_error"] = str(error)
print("\\n" + json.dumps(found))
"""
_PACKAGES = ("torch", "torchvision", "numpy", "pandas", "pyarrow", "pydantic", "safetensors", "streamlit", "plotly")


@dataclass(frozen=True)
class Finding:
    """level: "good", "note" (works, but something is not there) or "bad". fix: what to do; empty when good."""

    level: str
    what: str
    fix: str = ""


def examine(store: RunStore) -> list[Finding]:
    """Look at versions, device, data, store and worker; takes a few seconds, the time torch takes to start."""
    findings = _versions()
    computing = _computing(store)
    if computing is None:
        what = "torch is not installed: looking at runs works, training does not"
        findings.append(Finding("note", what, "pip install -r requirements.txt"))
    elif "error" in computing:
        fix = "install torch and torchvision again, in the versions of requirements.txt"
        findings.append(Finding("bad", f"torch does not start: {computing['error']}", fix))
    else:
        findings += [_device(computing), *_data(computing)]
    return [*findings, *_store(store), *_worker(store), *_strangers()]


def _versions() -> list[Finding]:
    found, lacking = [f"Python {sys.version.split()[0]}"], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lacking.append(name)
    findings = [Finding("good", ", ".join(found))]
    lacking = [name for name in lacking if not name.startswith("torch")]  # told with more words below
    if lacking:
        findings.append(Finding("bad", f"{', '.join(lacking)} not installed", "pip install -r requirements-view.txt"))
    return findings


def _computing(store: RunStore) -> dict[str, Any] | None:
    """What a process with torch says; None where torch is not installed, {"error": ...} where it does not start."""
    try:
        metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None
    try:
        done = subprocess.run(
            [sys.executable, "-c", _COMPUTING],
            capture_output=True,
            text=True,
            timeout=120,
            env=child_environment(store.folder),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": type(error).__name__}
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    return {"error": lines[-1] if lines else f"it ended with code {done.returncode}"}


def _device(computing: dict[str, Any]) -> Finding:
    if "device_error" in computing:
        return Finding("bad", computing["device_error"], "change or unset DYNAT_DEVICE")
    names = computing["cuda"]
    if names:
        return Finding("good", f"device {computing['device']}; GPUs: {', '.join(names)}")
    return Finding("good", f"device {computing['device']}, {computing['threads']} threads; no GPU that torch can use")


def _data(computing: dict[str, Any]) -> list[Finding]:
    findings = []
    for name, missing in computing["missing"].items():
        if missing:
            fix = f'run "python -m dynat_core data {name}", or name the folder that has it in DYNAT_DATA'
            findings.append(Finding("note", f"{name} not in {computing['folder']}", fix))
        else:
            findings.append(Finding("good", f"{name} found"))
    return findings


def _attempt(what: Callable[[], Any]) -> tuple[Any, str | None]:
    """(answer, None) or (None, sentence)."""
    try:
        return what(), None
    except (DynatError, OSError) as error:
        return None, str(error)


def _store(store: RunStore) -> list[Finding]:
    runs, problem = _attempt(store.list)
    if problem:
        return [Finding("bad", problem, "name another folder in DYNAT_STORE")]
    folder = store.folder
    while not folder.exists():  # it is made with the first run
        folder = folder.parent
    _, problem = _attempt(lambda: tempfile.TemporaryFile(dir=folder).close())
    where = f"run store {store.folder.absolute()}, {len(runs)} run{'s' * (len(runs) != 1)}"
    if problem:
        fix = "make it writable or name another folder in DYNAT_STORE; looking at runs works without"
        findings = [Finding("bad", f"{where}, cannot be written", fix)]
    else:
        findings = [Finding("good", f"{where}, writable")]
    broken = [run.problem for run in runs if run.state == "broken"]
    return findings + [Finding("note", problem or "", "the other runs are not affected") for problem in broken]


def _strangers() -> list[Finding]:
    """Who can reach the screens, as they are set up: `streamlit run` may still be told otherwise."""
    folders = [Path.cwd(), ROOT]
    try:
        access = read_files(secret_files(folders))
        address = configured_address([Path.home(), *folders])
    except DynatError as error:
        return [Finding("bad", str(error), "mend that file; until then the screens let nobody in")]
    findings = []
    if exposed(address, access):
        fix = 'set server.address to "localhost" in .streamlit/config.toml, or set up sign-in (docs/sign-in.md)'
        findings.append(Finding("bad", exposure_words(address), fix))
    elif access.sign_in:
        people = f"{len(access.editors)} entries for editors, {len(access.viewers)} for viewers"
        findings.append(Finding("good", f"people sign in; {people}"))
    else:
        why = "" if is_local(address) else f"; {GUARDED} says that something else keeps strangers out"
        where = address or "all addresses"
        findings.append(Finding("good", f"screens listen on {where}, and nobody has to sign in{why}"))
    if access.sign_in and importlib.util.find_spec("authlib") is None:
        fix = "pip install -r requirements-signin.txt"
        findings.append(Finding("bad", "sign-in is set up, and Authlib is not installed: nobody can sign in", fix))
    if access.sign_in and not access.editors:
        findings.append(Finding("note", "nobody is an editor", "name some in [dynat] of .streamlit/secrets.toml"))
    return findings


def _worker(store: RunStore) -> list[Finding]:
    states = worker_states(store.folder)
    if states:
        words = [f"{s['device']} {'busy with ' + s['busy_with'] if s['busy_with'] else 'idle'}" for s in states]
        return [Finding("good", f"worker{'s' * (len(states) > 1)} alive, {', '.join(words)}")]
    runs, problem = _attempt(store.list)
    waiting = 0 if problem else len(in_turn(runs))
    if waiting:
        wait = "1 run waits" if waiting == 1 else f"{waiting} runs wait"
        return [Finding("bad", f"no worker, and {wait}", 'run "python -m dynat_core worker"')]
    return [Finding("good", "no worker alive; none is needed, one starts with the next run")]
