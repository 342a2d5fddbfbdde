"""The command line: `python -m dynat_core COMMAND`. Every error is one sentence on stderr, and the exit code is not 0.

No torch is imported here: commands that compute start a worker, which imports it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from dynat_core.commands import keeping, measuring, training
from dynat_core.commands.asked import nearest
from dynat_core.errors import DynatError
from dynat_core.terminal import cleaned


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, with the nearest word there is."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice: " in message:
            typed = message.partition("invalid choice: ")[2].partition(" (choose from")[0].strip("'\"")
            message = f"There is no command {typed}; {nearest(typed, list(COMMANDS))}"
        else:
            message = f'{message[:1].upper()}{message[1:]}; see "{self.prog} --help".'
        print(message, file=sys.stderr)
        raise SystemExit(2)


def _no_options(parser: argparse.ArgumentParser) -> None:
    """For commands that take none."""


Command = Callable[[argparse.Namespace], int]
Options = Callable[[argparse.ArgumentParser], None]
COMMANDS: dict[str, tuple[Command, Options]] = {
    "train": (training.train, training.train_options),
    "runs": (keeping.runs, keeping.runs_options),
    "label": (keeping.label, keeping.label_options),
    "delete": (keeping.delete, keeping.delete_options),
    "restore": (keeping.restore, keeping.restore_options),
    "prune": (keeping.prune, keeping.prune_options),
    "stop": (training.stop, training.stop_options),
    "resume": (training.resume, training.resume_options),
    "evaluate": (measuring.evaluate, measuring.evaluate_options),
    "export": (keeping.export, keeping.export_options),
    "report": (keeping.report, keeping.report_options),
    "worker": (training.worker, training.worker_options),
    "presets": (training.presets, _no_options),
    "data": (training.data, training.data_options),
    "model": (measuring.model, measuring.model_options),
    "reproduce": (measuring.reproduce, measuring.reproduce_options),
    "doctor": (keeping.doctor, keeping.doctor_options),
    "job": (training.job, training.job_options),
}
_HIDDEN = {"job"}  # the worker's own: not in the list of commands


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m dynat_core", description="Dynamic adversarial training, and FOSC.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, (command, options) in COMMANDS.items():
        words = (command.__doc__ or "").strip()
        if name in _HIDDEN:
            options(commands.add_parser(name, description=words))
        else:
            options(commands.add_parser(name, description=words, help=words))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    with cleaned():
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parser().parse_args(argv)  # an option's value may be refused too
        return COMMANDS[arguments.command][0](arguments)
    except DynatError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # `... | head` has seen enough
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
