"""The command line: `python -m dynat_core COMMAND`. Every error is one sentence on stderr, and the exit code is not 0.

No torch is imported here: commands that compute start a worker, which imports it.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from dynat_core.errors import ConfigError, DynatError, JobError, RunError
from dynat_core.evaluations import Evaluation, open_evaluation
from dynat_core.jobs import ensure_worker, stop_workers, worker_alive
from dynat_core.run import Run
from dynat_core.runs import RunStore

_STOP_PATIENCE = 30.0  # seconds `stop` and `worker --stop` wait before they say that it will happen


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, with the nearest word there is."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice: " in message:
            typed = message.partition("invalid choice: ")[2].partition(" (choose from")[0].strip("'\"")
            message = f"There is no command {typed}; {_nearest(typed, list(COMMANDS))}"
        else:
            message = f'{message[:1].upper()}{message[1:]}; see "{self.prog} --help".'
        print(message, file=sys.stderr)
        raise SystemExit(2)


def _nearest(typed: str, known: list[str]) -> str:
    near = difflib.get_close_matches(typed, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there is {', '.join(known)}."


# --------------------------------------------------------------------------------------------------------- commands


def train(arguments: argparse.Namespace) -> int:
    """Put a run into the queue, start a worker if none lives, and with --wait show how it goes."""
    from dynat_core.presets import preset

    changes = _assignments(arguments.set, "strategy.c_max=0.1")
    if arguments.name is not None:
        changes["name"] = json.dumps(arguments.name)
    store = RunStore()
    run = store.create(preset(arguments.preset).with_values(changes), id=arguments.id)
    return _launched(run, arguments.wait)


def _assignments(texts: list[str], example: str) -> dict[str, str]:
    """`--set a.b=value`, several times, as a dict. Raises ConfigError."""
    changes: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {text} is not of the form a.b=value, such as {example}.")
        changes[key.strip()] = value.strip()
    return changes


def resume(arguments: argparse.Namespace) -> int:
    """Put a stopped, failed or interrupted run back into the queue."""
    run = _find(arguments.run)
    if run.state != "running":
        run.resume()
    return _launched(run, arguments.wait)


def _launched(run: Run, wait: bool) -> int:
    """Start a worker, wait if asked to, and end with the run folder as the last line."""
    from dynat_core.follow import follow

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


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure a finished network: the ladder of attacks, a check of the attack, curves, or a transfer matrix."""
    from dynat_core import evaluations
    from dynat_core.evaluation_settings import asked

    run = _find(arguments.run)
    changes = {"n": str(arguments.n)} if arguments.n is not None else {}
    settings = asked(arguments.kind, changes | _assignments(arguments.set, "n=256 or eps=8/255"))
    if arguments.resume:
        evaluation = evaluations.open_evaluation(run.folder, arguments.resume)
        evaluation.resume()
    else:
        evaluation = evaluations.create(run.folder, settings)
    ensure_worker(run.folder.parent)
    code = 0
    if not arguments.no_wait:
        from dynat_core.follow import follow_evaluation

        try:
            code = follow_evaluation(evaluation)
        except KeyboardInterrupt:
            print(f"It goes on; {evaluation.folder}/stop, an empty file, stops it.", file=sys.stderr)
            code = 130
    print(evaluation.folder, flush=True)
    return code


def export(arguments: argparse.Namespace) -> int:
    """Write tables, adversarial examples, figures and a LaTeX row of a run or an evaluation into a folder."""
    from dynat_core import exports

    run, evaluation = _find_measured(arguments.what)
    files = exports.evaluation_files(run, evaluation) if evaluation else exports.run_files(run)
    for path in exports.write(files, Path(arguments.to)):
        print(path)
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Write a run, an evaluation, or several runs compared, as one HTML file that opens without a network."""
    from dynat_core import comparison_report, report

    target = Path(arguments.to)
    if len(arguments.what) > 1:
        content = comparison_report.comparison_report([_find(what) for what in arguments.what])
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


def _find_measured(text: str) -> tuple[Run, Evaluation | None]:
    """The run `RUN`, or the run and its evaluation `RUN/EVALUATION`; folders of both are understood too."""
    path = Path(text)
    if path.parent.name == "evaluations":  # the folder that `evaluate` prints
        text = f"{path.parent.parent.name}/{path.name}"
    elif len(path.parts) != 2 or path.parent.absolute() == RunStore().folder.absolute():
        return _find(text), None
    id, _, name = text.partition("/")
    run = _find(id)
    return run, open_evaluation(run.folder, name)


def runs(arguments: argparse.Namespace) -> int:
    """One line per run, newest first; archived ones only with --all."""
    from dynat_core import bookkeeping
    from dynat_core.follow import accuracies

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
        print(f"{run.id:{width}}  {state:11}  {words}{'  (archived)' if labels[run.id].archived else ''}")
    if hidden:
        print(f"{hidden} archived; --all lists {'it' if hidden == 1 else 'them'} too.")
    return 0


def label(arguments: argparse.Namespace) -> int:
    """Give a run a title, tags or a note, archive it or bring it back; without an option say what it has."""
    from dynat_core import bookkeeping

    run = _find(arguments.run)
    if arguments.title is not None:
        bookkeeping.rename(run, arguments.title)
    if arguments.tag or arguments.untag:
        bookkeeping.tag(run, arguments.tag, arguments.untag)
    if arguments.note is not None:
        bookkeeping.note(run, arguments.note)
    if arguments.archive or arguments.unarchive:
        bookkeeping.archive(run, arguments.archive)
    found = bookkeeping.label(run)
    print(f"{run.id}: {run.title}" + (" (archived)" if found.archived else ""))
    if found.tags:
        print(f"tags: {', '.join(found.tags)}")
    if found.note:
        print(found.note)
    return 0


def delete(arguments: argparse.Namespace) -> int:
    """Move runs into the store's trash, from where "restore" brings them back; --empty removes old ones for good."""
    from dynat_core import bookkeeping

    if not arguments.run and arguments.empty is None:
        raise RunError('Name the runs to delete, or empty the trash with "--empty 30".')
    broken = {run.id: run for run in RunStore().list() if run.state == "broken"}  # which `_find` would refuse
    found = [broken.get(Path(text).name) or _find(text) for text in arguments.run]
    for run in found:  # all of them are known before the first is moved
        name = bookkeeping.delete(run)
        print(f'{run.id} is deleted; "python -m dynat_core restore {name}" brings it back.')
    if arguments.empty is not None:
        gone = bookkeeping.empty(RunStore(), arguments.empty)
        print(f"{len(gone)} run{'s' * (len(gone) != 1)} removed for good.")
    return 0


def restore(arguments: argparse.Namespace) -> int:
    """Bring a deleted run back; without a name list what was deleted."""
    from dynat_core import bookkeeping

    store = RunStore()
    if arguments.run is not None:
        print(bookkeeping.restore(store, arguments.run).folder)
        return 0
    for entry in bookkeeping.deleted(store):
        print(f"{entry.name}  deleted {entry.since:%Y-%m-%d %H:%M} UTC  {entry.title}")
    return 0


def stop(arguments: argparse.Namespace) -> int:
    """Stop a run at its next batch; what it did is kept."""
    run = _find(arguments.run)
    run.request_stop()
    until = time.monotonic() + _STOP_PATIENCE
    while run.running and time.monotonic() < until:
        time.sleep(0.05)
    if run.running:
        print(f"{run.id} stops at its next batch.")
    else:
        print(f'{run.id} is {run.state}; "python -m dynat_core resume {run.id}" goes on with it.')
    return 0


def worker(arguments: argparse.Namespace) -> int:
    """Work on waiting runs; or end the workers that do."""
    store = RunStore().folder
    if arguments.stop:
        return _stop_workers(store)
    from dynat_core.supervisor import Supervisor

    Supervisor(store, once=arguments.once, presence=arguments.presence).work()
    return 0


def _stop_workers(store: Path) -> int:
    if not worker_alive(store):
        print("No worker is alive.")
        return 0
    stop_workers(store)
    until = time.monotonic() + _STOP_PATIENCE
    while worker_alive(store) and time.monotonic() < until:
        time.sleep(0.05)
    print("The worker ends when its run reaches the next batch." if worker_alive(store) else "The worker has ended.")
    return 0


def presets(arguments: argparse.Namespace) -> int:
    """What `train --preset` takes."""
    from dynat_core.presets import PRESETS, describe

    width = max(map(len, PRESETS))
    for name in PRESETS:
        print(f"{name:{width}}  {describe(name)}")
    return 0


def data(arguments: argparse.Namespace) -> int:
    """Fetch what is missing of a data set, and check it; or add images of your own: data add FILE --name NAME."""
    from pydantic import TypeAdapter

    from dynat_core.config import SHAPES, Data

    if arguments.data == "add":
        return _add_data(arguments)
    if arguments.file or arguments.name or arguments.classes:
        raise ConfigError('Images of your own are added with "python -m dynat_core data add FILE --name NAME".')
    if arguments.data not in SHAPES:
        raise ConfigError(f"There is no data set called {arguments.data}; {_nearest(arguments.data, list(SHAPES))}")
    try:
        from dynat_core import data as data_sets
    except ImportError as error:
        raise JobError("torch is not installed, and without it data sets are not needed; "
                       'install it with "pip install -r requirements.txt".') from error  # fmt: skip
    data_sets.fetch(arguments.data)
    found = data_sets.load(TypeAdapter(Data).validate_python({"name": arguments.data}))
    images = len(found.train) + len(found.validation)
    print(f"{arguments.data}: {images:,} training and {len(found.test):,} test images, all in order.")
    return 0


def _add_data(arguments: argparse.Namespace) -> int:
    from dynat_core import own_data

    if not arguments.file or not arguments.name:
        raise ConfigError('Give a file and a name: "python -m dynat_core data add FILE --name NAME".')
    classes = arguments.classes.split(",") if arguments.classes is not None else None
    found = own_data.add(Path(arguments.file), arguments.name, classes)
    n, channels, height, width = found.images.shape
    for note in found.notes:
        print(f"  {note}")
    print(f"{arguments.name}: {n:,} images of {channels}x{height}x{width}, {len(found.class_names)} classes")
    for k, name in enumerate(found.class_names[:20]):
        print(f"  label {k}: {name}, {int((found.labels == k).sum()):,} images")
    if len(found.class_names) > 20:
        print(f"  and {len(found.class_names) - 20} more classes")
    print("A network must number its classes in this order; it is checked when a model is added or checked.")
    print(own_data.place(arguments.name))
    return 0


def model(arguments: argparse.Namespace) -> int:
    """Bring in a network from a file (model add FILE), or list the architectures whose weights are understood."""
    try:
        from dynat_core import model_adding, models
    except ImportError as error:
        raise JobError("torch is not installed, and a model file cannot be read without it; "
                       'install it with "pip install -r requirements.txt".') from error  # fmt: skip
    if arguments.action == "architectures":
        width = max(map(len, models.ARCHITECTURES))
        for name, function in models.ARCHITECTURES.items():
            print(f"{name:{width}}  {(function.__doc__ or '').strip().splitlines()[0].rstrip('.')}")
        return 0
    if arguments.action != "add":
        near = _nearest(arguments.action, ["add", "architectures"])
        raise ConfigError(f"There is no model {arguments.action}; {near}")
    if not arguments.file:
        raise ConfigError('Give a file: "python -m dynat_core model add FILE".')
    wish = model_adding.Wish(
        data=arguments.data, eps=arguments.eps, norm=arguments.norm, architecture=arguments.architecture,
        normalisation=arguments.normalisation, name=arguments.name, id=arguments.id, n=arguments.n,
        programs=not arguments.weights_only,
    )  # fmt: skip
    return _launched(model_adding.add_model(RunStore(), Path(arguments.file), wish, print), arguments.wait)


def reproduce(arguments: argparse.Namespace) -> int:
    """Run what a table or figure of the paper needs, whole or at a share of the cost, and write what was measured."""
    from dynat_core import paper_runs
    from dynat_core import reproduce as reproduction

    target = paper_runs.target(arguments.target, arguments.data, arguments.scale, arguments.seeds)
    try:
        from dynat_core.black_box import seconds_per_gradient, transferred
    except ImportError as error:
        raise JobError("torch is not installed, and nothing can be trained without it; "
                       'install it with "pip install -r requirements.txt".') from error  # fmt: skip
    store = RunStore()
    if arguments.dry_run:
        for line in reproduction.told(target, reproduction.costs(store, target, seconds_per_gradient)):
            print(line)
        return 0
    try:
        path = reproduction.reproduce(store, target, transferred, lambda line: print(line, flush=True),
                                      arguments.autoattack)  # fmt: skip
    except KeyboardInterrupt:
        print("The runs go on; the same command again waits for them.", file=sys.stderr)
        return 130
    print(path, flush=True)
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """Say what is in place and what is not, each with what to do."""
    from dynat_core.doctor import examine

    findings = examine(RunStore())
    for finding in findings:
        print(f"{finding.level:4}  {finding.what}")
        if finding.fix:
            print(f"      to mend it: {finding.fix}")
    return int(any(finding.level == "bad" for finding in findings))


def job(arguments: argparse.Namespace) -> int:
    """Work on one job folder; what the worker starts."""
    from dynat_core.worker import run_job, serve_job

    folder = Path(arguments.folder).absolute()
    if not folder.is_dir():
        raise RunError(f"There is no folder {folder}.")
    if arguments.parent is None:
        state = run_job(folder, arguments.device)
    else:
        state = serve_job(folder, arguments.device, arguments.parent)
    return int(state == "failed")


def _find(text: str) -> Run:
    """The run with this id, or in this folder: `train` prints the folder."""
    store = RunStore()
    path = Path(text)
    if len(path.parts) > 1 and path.parent.absolute() == store.folder.absolute():
        text = path.name
    return store.open(text)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": train,
    "runs": runs,
    "label": label,
    "delete": delete,
    "restore": restore,
    "stop": stop,
    "resume": resume,
    "evaluate": evaluate,
    "export": export,
    "report": report,
    "worker": worker,
    "presets": presets,
    "data": data,
    "model": model,
    "reproduce": reproduce,
    "doctor": doctor,
    "job": job,
}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m dynat_core", description="Dynamic adversarial training, and FOSC.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    parsers = {}
    for name, command in COMMANDS.items():
        words = (command.__doc__ or "").strip()
        if name == "job":  # the worker's own: not in the list of commands
            parsers[name] = commands.add_parser(name, description=words)
        else:
            parsers[name] = commands.add_parser(name, description=words, help=words)
    add = parsers["train"].add_argument
    add("--preset", required=True, metavar="NAME", help='the settings to start from; "presets" lists them')
    add("--set", action="append", default=[], metavar="a.b=value", help="change a setting, such as strategy.c_max=0.1")
    add("--name", metavar="TITLE", help="a title to find the run by")
    add("--id", metavar="ID", help="the name of the run's folder; one is made up by default")
    add = parsers["evaluate"].add_argument
    add("run", metavar="RUN", help='the id of a run or of an imported model, as "runs" lists it')
    add("--kind", default="ladder", metavar="KIND", help="ladder (the default), check, curves or transfer")
    add("--n", type=int, metavar="N", help="test images, classes in proportion")
    add("--set", action="append", default=[], metavar="key=value", help="another setting, such as eps=8/255")
    add("--resume", metavar="NAME", help="go on with an evaluation that was stopped, by its folder's name")
    add("--no-wait", action="store_true", help="return at once; a worker does it")
    add = parsers["export"].add_argument
    add("what", metavar="RUN[/EVALUATION]", help='the id of a run, as "runs" lists it, or of an evaluation of it')
    add("--to", required=True, metavar="FOLDER", help="where the files are put; it is made if need be")
    add = parsers["report"].add_argument
    add("what", nargs="+", metavar="RUN[/EVALUATION]", help="one run or evaluation, or two to six runs to compare")
    add("--to", required=True, metavar="FILE.html", help="the file to write")
    add = parsers["runs"].add_argument
    add("--all", action="store_true", help="archived runs too")
    add("--tag", metavar="TAG", help="only runs with this tag")
    add = parsers["label"].add_argument
    add("--title", metavar="TITLE", help="what to call it; an empty one brings the automatic title back")
    add("--tag", action="append", default=[], metavar="TAG", help="add a tag; may be given several times")
    add("--untag", action="append", default=[], metavar="TAG", help="take a tag away")
    add("--note", metavar="TEXT", help="a note to keep with it; an empty one takes it away")
    either = parsers["label"].add_mutually_exclusive_group()
    either.add_argument("--archive", action="store_true", help="take it off the lists")
    either.add_argument("--unarchive", action="store_true", help="put it back on the lists")
    add = parsers["delete"].add_argument
    add("run", metavar="RUN", nargs="*", help='the ids of runs, as "runs" lists them')
    add("--empty", type=float, metavar="DAYS", help="remove for good what was deleted more than DAYS days ago")
    parsers["restore"].add_argument("run", metavar="RUN", nargs="?", help='a deleted run, as "restore" lists it')
    for name in ("train", "resume"):
        parsers[name].add_argument("--wait", action="store_true", help="show how it goes, and return when it has ended")
    for name in ("stop", "resume", "label"):
        parsers[name].add_argument("run", metavar="RUN", help='the id of a run, as "runs" lists it')
    either = parsers["worker"].add_mutually_exclusive_group()
    either.add_argument("--once", action="store_true", help="end as soon as nothing waits")
    either.add_argument("--stop", action="store_true", help="end the workers of this store; their runs can be resumed")
    parsers["worker"].add_argument("--presence", type=int, help=argparse.SUPPRESS)
    add = parsers["data"].add_argument
    add("data", metavar="NAME", help='digits, mnist, fashion-mnist or cifar10; or "add"')
    add("file", metavar="FILE", nargs="?", help="with add: an .npz file, or a folder with one folder for each class")
    add("--name", metavar="NAME", help="with add: what to call the images")
    add("--classes", metavar="A,B,C", help="with add: names of the classes, in label order")
    add = parsers["model"].add_argument
    add("--weights-only", action="store_true", help="refuse TorchScript and torch.export, which are programs")
    add("action", metavar="ACTION", help="add or architectures")
    add("file", metavar="FILE", nargs="?", help="weights (safetensors, or a torch file), TorchScript or torch.export")
    add("--data", metavar="NAME", help='the images it was trained for; "data add" takes your own')
    add("--eps", metavar="SIZE", help="radius, such as 8/255")
    add("--norm", default="linf", metavar="NORM", help="linf (the default) or l2")
    add("--architecture", metavar="NAME", help="the network the weights belong to; guessed by default")
    add("--normalisation", metavar="NAME", help="what is done to the pixels first; by default what gives more right")
    add("--name", metavar="TITLE", help="a title to find the model by")
    add("--id", metavar="ID", help="the name of its folder; one is made up by default")
    add("--n", type=int, default=256, metavar="N", help="test images to measure it on, 256 by default")
    add("--wait", action="store_true", help="show how it goes, and return when it has been measured")
    add = parsers["reproduce"].add_argument
    add("target", metavar="TARGET", help="table1-mnist, table2-cifar10, table3, figure1a, ..., ablation")
    add("--data", metavar="NAME", help="digits, mnist or cifar10, where the target does not say it")
    add("--scale", type=float, default=1.0, metavar="S", help="share of the full cost, such as 0.1; 5 epochs at least")
    add("--seeds", type=int, default=1, metavar="N", help="training seeds of every run, 1 by default")
    add("--autoattack", action="store_true", help="with AutoAttack on the ladder, where it is installed")
    add("--dry-run", action="store_true", help="say what it would take on this device, and do nothing")
    parsers["job"].add_argument("folder", metavar="FOLDER")
    parsers["job"].add_argument("--device")
    parsers["job"].add_argument("--parent", type=int, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return COMMANDS[arguments.command](arguments)
    except DynatError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # `... | head` has seen enough
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
