"""Errors a person may see. The message is always one sentence: what happened, and what to do."""

from __future__ import annotations

from typing import Any


class DynatError(Exception):
    """Something the person at the screen or the command line can mend; `str(error)` is the sentence to show."""


class ConfigError(DynatError):
    """A setting is unknown or impossible."""


class DataError(DynatError):
    """A data set is missing or damaged."""


class RunError(DynatError):
    """A run folder does not exist, cannot be read, or does not hold what was asked for."""


class StateError(DynatError):
    """What a run would go on from does not fit the code that is to go on."""


class JobError(DynatError):
    """A job cannot be claimed, started or finished."""


class DeviceError(DynatError):
    """The device that was asked for is not there."""


class ModelFileError(DynatError):
    """A file is no network that can be brought in."""


class AccessError(DynatError):
    """Somebody may not do this here, or has reached a limit."""


def shown(given: Any) -> str:
    """What somebody typed or a file holds, for such a sentence: at most 60 characters, none of them a control one."""
    text = given if isinstance(given, str) and given.isprintable() else ascii(given)
    return text if len(text) <= 60 else text[:57] + "..."
