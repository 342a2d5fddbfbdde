"""Results that `reproduce` has written, read back: the best of each target first, and none that would mislead."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dynat_core.files import read_json
from dynat_core.paper.paper_runs import DATA, PARTS, paper_eps
from dynat_core.paper.reproduced import COLUMNS, FORMAT
from dynat_core.paper.results_format import first_wrong

_NEEDED = {"target", "part", "data", "scale", "seeds", "epochs", "full_epochs", "train_images", "n", "eps", "reduced",
           "runs"}  # fmt: skip


def results(*folders: Path) -> list[dict[str, Any]]:
    """What was reproduced, as it was written; of each target the largest share first, then the most seeds, then the
    most test images."""
    found = [content for _, content, problem in _read(folders) if problem is None]
    return sorted(found, key=lambda c: (c["target"], -c["scale"], -c["seeds"], -c["n"]))


def left_out(*folders: Path) -> list[str]:
    """One sentence for each file that is no result, or whose numbers may not stand beside one another."""
    again = 'delete it and run its "reproduce" again.'
    return [f"{path.name} {problem}; {again}" for path, _, problem in _read(folders) if problem is not None]


def _read(folders: tuple[Path, ...]) -> Iterator[tuple[Path, dict[str, Any], str | None]]:
    """(file, content, what is wrong with it) of each name; a folder goes before those after it."""
    seen: set[str] = set()
    for folder in folders:
        for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
            if path.name not in seen:
                seen.add(path.name)
                content = read_json(path)
                yield path, content if isinstance(content, dict) else {}, problem_of(content)


def problem_of(content: Any) -> str | None:
    """What is wrong with the content of a results file, as the end of a sentence; None for one that can be shown."""
    if not isinstance(content, dict):
        return "cannot be read"
    if content.get("format") != FORMAT:
        return f"is of format {str(content.get('format'))[:20]}, and this version reads {FORMAT}"
    missing = sorted(_NEEDED - content.keys())
    if missing or content["part"] not in [*PARTS] or content["data"] not in DATA or not content["runs"]:
        return f"lacks {', '.join(missing) or 'a part and data that there are, or its runs'}"
    if wrong := first_wrong(content):
        return f"cannot be shown, since {wrong} is missing or cannot be what was measured"
    return _mixed(content)


def _mixed(content: Mapping[str, Any]) -> str | None:
    """What may not stand in one comparison: runs on other data or at another eps, and counts of other images."""
    data = content["data"]
    others = {run["config"]["data"]["name"] for run in content["runs"]} - {data}
    if others:
        return f"holds a run on {', '.join(sorted(others))} among those on {data}"
    radii = {float(run["config"]["threat"]["eps"]) for run in content["runs"]} | {float(content["eps"])}
    if max(radii) - min(radii) > 1e-9:
        return f"compares runs at eps {' and '.join(f'{eps:.4g}' for eps in sorted(radii))}"
    if not math.isclose(min(radii), paper_eps(data), rel_tol=1e-6):
        return f"is at eps {min(radii):.4g}, and what stands beside it at {paper_eps(data):.4g}"
    if strange := sorted(set(_columns(content)) - set(COLUMNS)):
        near = difflib.get_close_matches(strange[0], COLUMNS, n=1)
        hint = f"; did it mean {near[0]}" if near else ""
        return f"names an attack {strange[0][:40]!r} that is not on the ladder{hint}"
    sizes = {int(n) for counts in _counts(content) for _, n in counts}
    if len(sizes) > 1:
        return f"compares shares of {' and '.join(f'{n:,}' for n in sorted(sizes))} images"
    if {len(counts) for counts in _counts(content)} - {content["seeds"]}:
        return f"does not have {content['seeds']} seeds of everything"
    return None


def _columns(content: Mapping[str, Any]) -> Iterator[str]:
    """The attacks of every row of a table."""
    if content["part"].startswith("table") or content["part"] == "ablation":
        yield from (name for row in content["rows"].values() for name in row)


def _counts(content: Mapping[str, Any]) -> Iterator[list[list[int]]]:
    """[[images right, images] of each seed], of every cell."""
    if content["part"].startswith("table") or content["part"] == "ablation":
        yield from (counts for row in content["rows"].values() for counts in row.values())
    if content["part"] == "figure2":
        yield from (one["robust"] for one in content["settings"].values())
