"""Structured logs on stderr: one event with fields, JSON or for a console. `choose` changes level and format while running."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Literal, TypeAlias

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
Format: TypeAlias = Literal["auto", "json", "console"]
LEVELS: dict[str, int] = {
    "debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR
}  # fmt: skip
FORMATS: tuple[Format, ...] = ("auto", "json", "console")

# a program that embeds the gateway hears it through logging's "truetape", until `setup` takes over
_LIBRARY = logging.getLogger("truetape")
_SAY: Callable[..., Any] | None = None
_REDACT: Callable[[str], str] = str


def setup(redact: Callable[[str], str], level: int = logging.INFO, json: bool | None = None) -> None:
    """Send everything to stderr; all text of every field, however deep, passes through `redact`. `json` None: where stderr is no terminal."""
    import structlog  # it brings rich along, 5 MB that an embedded gateway need not have

    def clean(_logger: Any, _name: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: _clean(value, redact) for key, value in fields.items()}

    global _SAY, _REDACT
    _REDACT = redact
    as_json = not sys.stderr.isatty() if json is None else json
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"), clean, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    _SAY = structlog.get_logger().log


def choose(level: Level, form: Format = "auto") -> bool:
    """Another level or format from now on; False in a program whose logs are its own (`setup` was not called)."""
    if _SAY is None:
        return False
    setup(_REDACT, LEVELS[level], None if form == "auto" else form == "json")
    return True


def _clean(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {_clean(key, redact): _clean(one, redact) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(one, redact) for one in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(str(value))  # whatever it is, an exception for instance, its text is what is written


def debug(event: str, **fields: Any) -> None:
    """For whoever looks for a mistake."""
    _say(logging.DEBUG, event, fields)


def info(event: str, **fields: Any) -> None:
    """The story an operator reads."""
    _say(logging.INFO, event, fields)


def warning(event: str, **fields: Any) -> None:
    """Needs a person today."""
    _say(logging.WARNING, event, fields)


def _say(level: int, event: str, fields: dict[str, Any]) -> None:
    try:
        if _SAY is not None:
            _SAY(level, event, **fields)
        else:
            _LIBRARY.log(level, "%s %s", event, fields)
    except (OSError, ValueError):
        pass  # stderr is closed, full or read by nobody any more: the data flow on
