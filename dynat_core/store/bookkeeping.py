"""Keeping a store in order: titles, tags, notes, the archive, and a trash that gives back what was deleted.

What a person writes lies in the run's `label.json`; a deleted run lies in `STORE/.trash/ID`, moved there by one rename.
No torch here: screens and the command line import this.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dynat_core.errors import ConfigError, JobError, RunError, shown
from dynat_core.files import writing
from dynat_core.presets import PRESETS
from dynat_core.store.evaluations import evaluations
from dynat_core.store.jobs import Job
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore

TITLE, TAG, NOTE = 120, 40, 4000  # characters at most
TAGS = 20  # of one run
DAYS = 30  # what was deleted longer ago may go for good
TRASH = ".trash"
_DAY = 86_400.0
_TRIES = 20  # at removing what somebody else removes at the same time
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}(~[0-9]{1,6})?")  # of a folder in the trash: ID, ID~2, ...


@dataclass(frozen=True)
class Label:
    """What somebody wrote about a run. title: None where the automatic one stands."""

    title: str | None = None
    tags: tuple[str, ...] = ()
    note: str = ""
    archived: bool = False


@dataclass(frozen=True)
class Deleted:
    """A run in the trash: its folder's name there, the id it had, what it was called, and since when it is there."""

    name: str
    id: str
    title: str
    since: datetime


def label(run: Run) -> Label:
    """The label of a run; what is of the wrong kind in its file counts as not written."""
    found = run.label()
    title, tags, note = found.get("title"), found.get("tags"), found.get("note")
    return Label(
        title if isinstance(title, str) and title and title.isprintable() else None,
        tuple(tag for tag in tags if isinstance(tag, str) and tag.isprintable()) if isinstance(tags, list) else (),
        note if isinstance(note, str) else "",
        found.get("archived") is True,
    )


# ---------------------------------------------------------------------------------------------------------- labels


def rename(run: Run, title: str) -> None:
    """Give a run a title; an empty one brings the automatic title back. Raises ConfigError, or JobError where the store
    cannot be written."""
    edit(run, title=title)


def tag(run: Run, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
    """Add tags to a run and take others away; a tag it has already stays where it is. Raises as `rename` does."""
    edit(run, add=add, remove=remove)


def note(run: Run, text: str) -> None:
    """Keep a note with a run, of several lines if need be; an empty one takes it away. Raises as `rename` does."""
    edit(run, note=text)


def edit(
    run: Run, *, title: str | None = None, add: Iterable[str] = (), remove: Iterable[str] = (), note: str | None = None
) -> tuple[Label, Label]:
    """Change title, tags and note at once: all of it, or nothing where one of them is refused.

    title, note: None leaves it as it is. Returns the label before and after, which `take_back` takes. Raises as
    `rename` does.
    """
    before = label(run)
    changes: dict[str, Any] = {}
    if title is not None:
        changes["title"] = _line(title, "A title", TITLE) or None
    gone, wanted = {one.strip() for one in remove}, [one for one in map(_tag, add) if one]
    if gone or wanted:
        changes["tags"] = tuple(one for one in dict.fromkeys((*before.tags, *wanted)) if one not in gone)
        if len(changes["tags"]) > TAGS:
            raise ConfigError(f"A run may have at most {TAGS} tags (got {len(changes['tags'])}); take some away first.")
    if note is not None:
        if len(note) > NOTE:
            raise ConfigError(f"A note may have at most {NOTE:,} characters (got {len(note):,}); shorten it.")
        changes["note"] = "".join(c for c in note if c.isprintable() or c in "\n\t").strip()
    if changes:
        run.set_label(**changes)
    return before, replace(before, **changes)


def take_back(run: Run, before: Label, after: Label) -> None:
    """Undo the change from `before` to `after`; what somebody else has written since stays. Raises JobError."""
    now = label(run)
    changes: dict[str, Any] = {}
    for name in ("title", "note"):
        if getattr(before, name) != getattr(after, name) == getattr(now, name):
            changes[name] = getattr(before, name)
    if before.tags != after.tags:
        given = set(after.tags) - set(before.tags)
        stays = [one for one in now.tags if one not in given]
        # Those that it had come first, in their old order, but for one that somebody else took away meanwhile.
        had = [one for one in before.tags if one in stays or one not in after.tags]
        changes["tags"] = list(dict.fromkeys((*had, *stays)))
    if changes:
        run.set_label(**changes)


def archive(run: Run, archived: bool = True) -> None:
    """Take a run off the usual lists, or put it back; nothing else about it changes. Raises JobError."""
    run.set_label(archived=archived)


def _tag(text: str) -> str:
    found = _line(text, "A tag", TAG)
    if "," in found:
        raise ConfigError(f"A tag has no comma in it (got {shown(found)}); give several tags one by one.")
    return found


def _line(text: str, what: str, most: int) -> str:
    found = text.strip()
    if not found.isprintable():
        raise ConfigError(f"{what} is one line of text without control characters (got {shown(found)}).")
    if len(found) > most:
        raise ConfigError(f"{what} may have at most {most} characters (got {len(found)}); shorten it.")
    return found


# ------------------------------------------------------------------------------------------------------- the trash


def delete(run: Run) -> str:
    """Move a run into its store's trash, by one rename; returns its name there, which `restore` takes.

    Raises RunError for a run, or an evaluation in it, that somebody works on, and for a shipped demo; JobError where
    the store cannot be written.
    """
    if run.id.startswith("demo-") and run.id in PRESETS:
        raise RunError(f"{run.id} is a shipped demo and stays; archive it to take it off the lists.")
    store = run.folder.parent
    if run.folder.is_symlink():  # the link goes, what it leads to stays
        return _into_trash(store, run.id)
    busy = [evaluation.id for evaluation in evaluations(run.folder) if evaluation.state == "running"]
    if run.running or busy:
        raise RunError(f"{busy[0] if busy else run.id} is running; stop it before the run is deleted.")
    with Job(run.folder).claim():  # no worker takes it while it moves
        return _into_trash(store, run.id)


def restore(store: RunStore, name: str) -> Run:
    """Put a run back out of the trash. name: as `delete` returned it, or the id it had, then the last one deleted.

    Raises RunError if there is none or if its id is taken meanwhile, JobError where the store cannot be written.
    """
    entry = _called(store, name)
    target = store.folder / entry.id
    if os.path.lexists(target):
        raise RunError(f"There is a run called {entry.id} again; delete or move that one first.")
    with writing(store.folder):
        (store.folder / TRASH / entry.name).rename(target)
    return Run(target)


def in_trash(store: RunStore, name: str) -> Run:
    """The run that `restore` would put back, where it lies now. Raises RunError if there is none."""
    return Run(store.folder / TRASH / _called(store, name).name)


def _called(store: RunStore, name: str) -> Deleted:
    found = [entry for entry in deleted(store) if name in (entry.name, entry.id)]
    found = [entry for entry in found if entry.name == name and "~" in name] or found
    if not found:
        raise RunError(f'There is no deleted run called {shown(name)}; "python -m dynat_core restore" lists them.')
    return found[0]


def deleted(store: RunStore) -> list[Deleted]:
    """What lies in the trash, the last one deleted first."""
    found = []
    for path in _trash(store.folder):
        run = Run(path)
        title = run.id if run.state == "broken" else run.title
        since = _since(path)
        if since is not None:
            found.append(Deleted(path.name, path.name.partition("~")[0], title, datetime.fromtimestamp(since, UTC)))
    return sorted(found, key=lambda entry: (entry.since, entry.name), reverse=True)


def empty(store: RunStore, days: float = DAYS) -> list[str]:
    """Remove for good what was deleted more than `days` days ago; returns the names. Raises ConfigError, JobError."""
    if not days >= 0:
        raise ConfigError(f"The trash is emptied of what is older than 0 days or more (got {days:g}).")
    until = time.time() - days * _DAY
    old = [path for path in _trash(store.folder) if (since := _since(path)) is not None and since <= until]
    return [path.name for path in old if _removed(path)]


def _since(path: Path) -> float | None:
    """Since when it lies in the trash; None where somebody else has just emptied that or put it back."""
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return None


def _removed(path: Path) -> bool:
    """Whether it was there to be removed: others may be emptying the trash, too. Raises JobError."""
    with writing(path.parent):
        for _ in range(_TRIES):
            try:
                path.unlink() if path.is_symlink() else shutil.rmtree(path)
                return True
            except FileNotFoundError:  # somebody else was faster with it, or with something in it
                if not os.path.lexists(path):
                    return False
    raise JobError(f"{path.name} is being removed by somebody else; look again.")


def _into_trash(store: Path, id: str) -> str:
    trash = store / TRASH
    with writing(store):
        trash.mkdir(exist_ok=True)
        if trash.is_symlink():
            raise RunError(f"{trash} is a link and is not followed; put a folder in its place.")
        names = [id, *(f"{id}~{k}" for k in range(2, 1_000_000))]
        name = next(name for name in names if not os.path.lexists(trash / name))
        # Its age counts from now. Set before it moves, so that nothing is ever older in the trash than it should be.
        os.utime(store / id, follow_symlinks=False)
        (store / id).rename(trash / name)
    return name


def _trash(store: Path) -> Sequence[Path]:
    try:
        if (store / TRASH).is_symlink():
            return []
        return [path for path in (store / TRASH).iterdir() if _NAME.fullmatch(path.name)]
    except OSError:
        return []
