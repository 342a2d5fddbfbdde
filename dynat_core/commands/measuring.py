"""Finished networks, and networks from files: measured, and put beside the paper's numbers."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from dynat_core import machine
from dynat_core.commands.asked import assignments, find, launched, nearest
from dynat_core.errors import ConfigError, JobError
from dynat_core.store.runs import RunStore
from dynat_core.store.workers import PATIENT, ensure_worker


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure a finished network: the ladder of attacks, a check of the attack, curves, or a transfer matrix."""
    from dynat_core.store import evaluations
    from dynat_core.store.evaluation_settings import asked, measured_threat

    run = find(arguments.run)
    changes = {"n": str(arguments.n)} if arguments.n is not None else {}
    settings = asked(arguments.kind, changes | assignments(arguments.set, "n=256 or eps=8/255"))
    if arguments.resume:
        evaluation = evaluations.open_evaluation(run.folder, arguments.resume)
        evaluation.resume()
    else:
        measured_threat(run.config, settings)  # what cannot be measured is refused now, not in the queue
        evaluation = evaluations.create(run.folder, settings)
    ensure_worker(run.folder.parent)
    code = 0
    if not arguments.no_wait:
        from dynat_core.work.follow import follow_evaluation

        try:
            code = follow_evaluation(evaluation)
        except KeyboardInterrupt:
            print(f"It goes on; {evaluation.folder}/stop, an empty file, stops it.", file=sys.stderr)
            code = 130
    print(evaluation.folder, flush=True)
    return code


def evaluate_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", help='the id of a run or of an imported model, as "runs" lists it')
    add("--kind", default="ladder", metavar="KIND", help="ladder (the default), check, curves or transfer")
    add("--n", type=int, metavar="N", help="test images, classes in proportion")
    add("--set", action="append", default=[], metavar="key=value", help="another setting, such as eps=8/255")
    add("--resume", metavar="NAME", help="go on with an evaluation that was stopped, by its folder's name")
    add("--no-wait", action="store_true", help="return at once; a worker does it")


def model(arguments: argparse.Namespace) -> int:
    """Bring in a network from a file (model add FILE), or list the architectures whose weights are understood."""
    try:
        from dynat_core.networks import models
        from dynat_core.work import model_adding
    except ImportError as error:
        raise JobError("torch is not installed, and a model file cannot be read without it; "
                       'install it with "pip install -r requirements.txt".') from error  # fmt: skip
    if arguments.action == "architectures":
        width = max(map(len, models.ARCHITECTURES))
        for name, function in models.ARCHITECTURES.items():
            print(f"{name:{width}}  {(function.__doc__ or '').strip().splitlines()[0].rstrip('.')}")
        return 0
    if arguments.action != "add":
        near = nearest(arguments.action, ["add", "architectures"])
        raise ConfigError(f"There is no model {arguments.action}; {near}")
    if not arguments.file:
        raise ConfigError('Give a file: "python -m dynat_core model add FILE".')
    wish = model_adding.Wish(
        data=arguments.data, eps=arguments.eps, norm=arguments.norm, architecture=arguments.architecture,
        normalisation=arguments.normalisation, name=arguments.name, id=arguments.id, n=arguments.n,
        programs=not arguments.weights_only, by=arguments.by,
    )  # fmt: skip
    return launched(model_adding.add_model(RunStore(), Path(arguments.file), wish, print), arguments.wait)


def model_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
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
    add("--by", default="", metavar="WHO", help="who brings it in; the screens say so themselves where people sign in")
    add("--wait", action="store_true", help="show how it goes, and return when it has been measured")


def reproduce(arguments: argparse.Namespace) -> int:
    """Run what a table or figure of the paper needs, whole or at a share of the cost, and write what was measured."""
    from dynat_core.paper import paper_runs
    from dynat_core.paper import reproduce as reproduction

    target = paper_runs.target(arguments.target, arguments.data, arguments.scale, arguments.seeds, arguments.images)
    os.environ.setdefault(*PATIENT)  # before torch is loaded, which reads it then
    places = machine.devices_for("auto")
    if arguments.dry_run and machine.is_cpu(places[0]) and (threads := machine.cpu_threads()):
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # the pace of one of the jobs side by side
    try:
        from dynat_core.paper.black_box import seconds_per_gradient, transferred
    except ImportError as error:
        raise JobError("torch is not installed, and nothing can be trained without it; "
                       'install it with "pip install -r requirements.txt".') from error  # fmt: skip
    store = RunStore()
    if arguments.dry_run:
        for line in reproduction.told(reproduction.costs(store, target, seconds_per_gradient), len(places)):
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


def reproduce_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("target", metavar="TARGET", help="table1-mnist, table2-cifar10, table3, figure1a, ..., ablation")
    add("--data", metavar="NAME", help="digits, mnist or cifar10, where the target does not say it")
    add("--scale", type=float, default=1.0, metavar="S", help="share of the full cost, such as 0.1; 5 epochs at least")
    add("--seeds", type=int, default=1, metavar="N", help="training seeds of every run, 1 by default")
    add("--images", type=int, metavar="N", help="test images to measure on; by default 1,000, or all at full length")
    add("--autoattack", action="store_true", help="with AutoAttack on the ladder, where it is installed")
    add("--dry-run", action="store_true", help="say what it would take on this device, and do nothing")
