"""What several commands do: find the run that is meant, read `--set`, start a worker and wait."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

from dynat_core.errors import ConfigError
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import ensure_worker


def nearest(typed: str, known: list[str]) -> str:
    near = difflib.get_close_matches(typed, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there is {', '.join(known)}."


def assignments(texts: list[str], example: str) -> dict[str, str]:
    """`--set a.b=value`, several times, as a dict. Raises ConfigError."""
    changes: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {text} is not of the form a.b=value, such as {example}.")
        changes[key.strip()] = value.strip()
    return changes


def find(text: str) -> Run:
    """The run with this id, or in this folder: `train` prints the folder."""
    return RunStore().open(id_in(text))


def id_in(text: str) -> str:
    """The id that is meant by an id or by a run's folder in the store; any other path stays what it is, and is no id:
    a run of the same name elsewhere is another run."""
    path = Path(text)
    here = len(path.parts) == 1 or path.parent.absolute() == RunStore().folder.absolute()
    return (here and path.name) or text


def launched(run: Run, wait: bool) -> int:
    """Start a worker, wait if asked to, and end with the run folder as the last line."""
    from dynat_core.work.follow import follow

    ensure_worker(run.folder.parent)
    code = 0
    if wait:
        try:
            code = _told_end(run, follow(run))
        except KeyboardInterrupt:
            print(f'The run goes on; "python -m dynat_core stop {run.id}" stops it.', file=sys.stderr)
            code = 130
    print(run.folder, flush=True)
    return code


def _told_end(run: Run, state: str) -> int:
    if state == "finished":
        result = run.result() or {}
        for name in ("best", "last"):
            entry = result.get(name) or {}
            if {"epoch", "n", "clean_accuracy", "robust_accuracy"} <= entry.keys():
                clean, robust = (f"{kind} {100 * entry[kind + '_accuracy']:.1f} %" for kind in ("clean", "robust"))
                print(f"{name}, epoch {entry['epoch']}: {clean}, {robust} of {entry['n']} test images")
        print(f"robust against {result.get('attack')}")
        return 0
    what = {"stopped": "was stopped", "queued": "waits for a worker"}.get(state, f"is {state}")
    sentence = run.problem or f'{run.id} {what}; "python -m dynat_core resume {run.id}" goes on with it.'
    print(sentence, file=sys.stderr)
    return 1
