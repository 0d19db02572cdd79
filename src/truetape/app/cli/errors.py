"""Errors that a person can mend, as one line on stderr and an exit code."""

from __future__ import annotations

import sys

import typer

from truetape.app.capture import BadInput
from truetape.app.config import ConfigError
from truetape.app.dialects import UnknownVenue
from truetape.app.secrets import SecretError, redact
from truetape.io.serve.control import ControlError, Taken
from truetape.io.store.journal import JournalError

# typer carries a copy of click; its exceptions are reached through the public BadParameter
USAGE: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
WRONG_USE = (ConfigError, UnknownVenue, BadInput, SecretError, Taken)
EXPECTED = (*WRONG_USE, USAGE, ControlError, JournalError, ExceptionGroup)


def explain(error: BaseException) -> int:
    """Print it; returns the exit code."""
    if isinstance(error, ExceptionGroup):
        if len(error.exceptions) == 1 and isinstance(error.exceptions[0], EXPECTED):
            return explain(error.exceptions[0])
        raise error
    if isinstance(error, USAGE):
        error.show()  # type: ignore[attr-defined]  # every ClickException has it
        return 2
    print(f"truetape: {redact(str(error))}", file=sys.stderr)
    return 2 if isinstance(error, WRONG_USE) else 1
