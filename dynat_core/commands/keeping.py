"""The store: listed, labelled, taken away, kept in order, looked after."""

from __future__ import annotations

import argparse
from pathlib import Path

from dynat_core.commands.asked import find, id_in
from dynat_core.errors import DynatError, JobError, RunError
from dynat_core.store.evaluations import Evaluation, open_evaluation
from dynat_core.store.jobs import UNFINISHED
from dynat_core.store.run import Run
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import ensure_worker


def runs(arguments: argparse.Namespace) -> int:
    """One line per run, newest first, with --size the largest first; archived ones only with --all."""
    from dynat_core.store import bookkeeping, disk
    from dynat_core.work.follow import accuracies

    every = RunStore().list()
    labels = {run.id: bookkeeping.label(run) for run in every}
    found = [run for run in every if arguments.tag is None or arguments.tag in labels[run.id].tags]
    hidden = 0 if arguments.all else sum(labels[run.id].archived for run in found)
    found = [run for run in found if arguments.all or not labels[run.id].archived]
    if not every:
        print('No runs yet; "python -m dynat_core train --preset quick" makes one.')
    elif not found and not hidden:
        print(f"No run has the tag {arguments.tag}.")
    width = max((len(run.id) for run in found), default=0)
    sizes = {run.id: disk.size(run) for run in found} if arguments.size else {}
    if arguments.size:
        found = sorted(found, key=lambda run: -sizes[run.id])
    for run in found:
        state = run.state
        if state == "broken":
            words = run.problem or ""
        else:
            words = run.config.summary()
            if last := run.last_record():
                words = f"epoch {last['epoch']} of {run.config.epochs}, {accuracies(last, run.config.recording.steps)}"
            words += f": {run.problem}" if state == "failed" else ""
        words += "".join(f"  #{tag}" for tag in labels[run.id].tags)
        words = f"{disk.words(sizes[run.id]):>10}  {words}" if arguments.size else words
        print(f"{run.id:{width}}  {state:11}  {words}{'  (archived)' if labels[run.id].archived else ''}")
    if arguments.size:
        print(f"{disk.words(sum(sizes.values()))} in all; deleted runs take room until the trash is emptied.")
    if hidden:
        print(f"{hidden} archived; --all lists {'it' if hidden == 1 else 'them'} too.")
    return 0


def runs_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--all", action="store_true", help="archived runs too")
    add("--tag", metavar="TAG", help="only runs with this tag")
    add("--size", action="store_true", help="what each takes on the disk, the largest first")


def label(arguments: argparse.Namespace) -> int:
    """Give a run a title, tags or a note, archive it or bring it back; without an option say what it has."""
    from dynat_core.store import bookkeeping

    run = find(arguments.run)
    bookkeeping.edit(run, title=arguments.title, add=arguments.tag, remove=arguments.untag, note=arguments.note)
    if arguments.archive or arguments.unarchive:
        bookkeeping.archive(run, arguments.archive)
    found = bookkeeping.label(run)
    print(f"{run.id}: {run.title}" + (" (archived)" if found.archived else ""))
    if found.tags:
        print(f"tags: {', '.join(found.tags)}")
    if found.note:
        print(found.note)
    return 0


def label_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", help='the id of a run, as "runs" lists it')
    add("--title", metavar="TITLE", help="what to call it; an empty one brings the automatic title back")
    add("--tag", action="append", default=[], metavar="TAG", help="add a tag; may be given several times")
    add("--untag", action="append", default=[], metavar="TAG", help="take a tag away")
    add("--note", metavar="TEXT", help="a note to keep with it; an empty one takes it away")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--archive", action="store_true", help="take it off the lists")
    either.add_argument("--unarchive", action="store_true", help="put it back on the lists")


def delete(arguments: argparse.Namespace) -> int:
    """Move runs into the store's trash, from where "restore" brings them back; --empty removes old ones for good."""
    from dynat_core.store import bookkeeping

    if not arguments.run and arguments.empty is None:
        raise RunError('Name the runs to delete, or empty the trash with "--empty 30".')
    broken = {run.id: run for run in RunStore().list() if run.state == "broken"}  # which `find` would refuse
    found = [broken.get(id_in(text)) or find(text) for text in arguments.run]
    for run in found:  # all of them are known before the first is moved
        name = bookkeeping.delete(run)
        print(f'{run.id} is deleted; "python -m dynat_core restore {name}" brings it back.')
    if arguments.empty is not None:
        gone = bookkeeping.empty(RunStore(), arguments.empty)
        print(f"{len(gone)} run{'s' * (len(gone) != 1)} removed for good.")
    return 0


def delete_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", nargs="*", help='the ids of runs, as "runs" lists them')
    add("--empty", type=float, metavar="DAYS", help="remove for good what was deleted more than DAYS days ago")


def restore(arguments: argparse.Namespace) -> int:
    """Bring a deleted run back, with a worker if it has not ended; without a name list what was deleted."""
    from dynat_core.store import bookkeeping

    store = RunStore()
    if arguments.run is not None:
        run = bookkeeping.restore(store, arguments.run)
        if run.state in UNFINISHED:
            ensure_worker(store.folder)
        print(run.folder)
        return 0
    for entry in bookkeeping.deleted(store):
        print(f"{entry.name}  deleted {entry.since:%Y-%m-%d %H:%M} UTC  {entry.title}")
    return 0


def restore_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", nargs="?", help='a deleted run, as "restore" lists it')


def prune(arguments: argparse.Namespace) -> int:
    """Remove the weights of epochs that nobody needs: the first, the best and the last stay, and every K-th."""
    from dynat_core.store import disk

    keep, tables = arguments.keep_every, arguments.tables
    named = [find(text) for text in arguments.run]
    for run in named:  # all of them are known to be possible before anything is removed
        disk.plan(run, keep, tables)
    freed = 0
    for run in named or [run for run in RunStore().list() if run.state != "broken" and not disk.is_shipped(run)]:
        try:
            done = disk.plan(run, keep, tables) if arguments.dry_run else disk.prune(run, keep, tables)
        except DynatError as error:
            if named:
                raise
            print(error)  # such as one that runs: it stays as it is, the others are done
            continue
        freed += done.frees
        if done.files:
            epochs = f"{len(done.epochs)} epoch{'s' * (len(done.epochs) != 1)}"
            print(f"{run.id}: {epochs}, {disk.words(done.frees)}; it takes {disk.words(done.left)} then.")
    print(f"{disk.words(freed)} {'would be freed; nothing was removed' if arguments.dry_run else 'freed'}.")
    return 0


def prune_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", nargs="*", help="the ids of runs; all but the shipped demos and those at work by default")
    add("--keep-every", type=int, metavar="K", help="keep every K-th epoch too")
    add("--tables", action="store_true", help="remove the tables of samples and probes of these epochs as well")
    add("--dry-run", action="store_true", help="say what would be freed, and remove nothing")


def export(arguments: argparse.Namespace) -> int:
    """Write tables, adversarial examples, figures and a LaTeX row of a run or an evaluation into a folder."""
    from dynat_core.reports import exports

    run, evaluation = _find_measured(arguments.what)
    files = exports.evaluation_files(run, evaluation) if evaluation else exports.run_files(run)
    for path in exports.write(files, Path(arguments.to)):
        print(path)
    return 0


def export_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("what", metavar="RUN[/EVALUATION]", help='the id of a run, as "runs" lists it, or of an evaluation of it')
    add("--to", required=True, metavar="FOLDER", help="where the files are put; it is made if need be")


def report(arguments: argparse.Namespace) -> int:
    """Write a run, an evaluation, or several runs compared, as one HTML file that opens without a network."""
    from dynat_core.reports import comparison_report, report

    target = Path(arguments.to)
    if len(arguments.what) > 1:
        content = comparison_report.comparison_report([find(what) for what in arguments.what])
    else:
        run, evaluation = _find_measured(arguments.what[0])
        content = report.evaluation_report(run, evaluation) if evaluation else report.run_report(run)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError as error:
        raise JobError(f"{target} cannot be written ({error.strerror}); name another file with --to.") from error
    print(target)
    return 0


def report_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("what", nargs="+", metavar="RUN[/EVALUATION]", help="one run or evaluation, or two to six runs to compare")
    add("--to", required=True, metavar="FILE.html", help="the file to write")


def _find_measured(text: str) -> tuple[Run, Evaluation | None]:
    """The run `RUN`, or the run and its evaluation `RUN/EVALUATION`; folders of both are understood too."""
    path = Path(text)
    if path.parent.name == "evaluations":  # the folder that `evaluate` prints
        text = f"{path.parent.parent.name}/{path.name}"
    elif len(path.parts) != 2 or path.parent.absolute() == RunStore().folder.absolute():
        return find(text), None
    id, _, name = text.partition("/")
    run = find(id)
    return run, open_evaluation(run.folder, name)


def doctor(arguments: argparse.Namespace) -> int:
    """Say what is in place and what is not, each with what to do."""
    from dynat_core.doctor import Finding, examine

    store = RunStore()
    if arguments.shared is not None:
        from dynat_core.work.shared_store import between_nodes

        findings = [Finding(*found) for found in between_nodes(store.folder, arguments.shared)]
    else:
        findings = examine(store)
    for finding in findings:
        print(f"{finding.level:4}  {finding.what}")
        if finding.fix:
            print(f"      to mend it: {finding.fix}")
    return int(any(finding.level == "bad" for finding in findings))


def doctor_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    words = "instead: does the store's file system hold what a Ray cluster at host:port needs, seen from two nodes"
    add("--shared", metavar="ADDRESS", help=words)
