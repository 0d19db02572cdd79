"""Structured logs on stderr: an event name and fields, JSON where stderr is no terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

# a program that embeds the gateway hears it through logging's "truetape", until `setup` takes over
_LIBRARY = logging.getLogger("truetape")
_SAY: Callable[..., Any] | None = None


def setup(redact: Callable[[str], str], level: int = logging.INFO, json: bool | None = None) -> None:
    """Send everything to stderr; every text field passes through `redact`."""
    import structlog  # it brings rich along, 5 MB that an embedded gateway need not have

    def clean(_logger: Any, _name: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: redact(value) if isinstance(value, str) else value for key, value in fields.items()}

    global _SAY
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
