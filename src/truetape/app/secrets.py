"""Secrets are references (`env:NAME`, `file:/path`), read again on each dial, and never shown.

A read value lives only inside `Secret`, whose repr is `***`, and in the text that goes to the socket. `redact` is the last line of
defence: whatever is logged, recorded or raised passes through it with every value that was ever read.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, quote_plus

MARK = "***"
_SEEN: dict[str, None] = {}
"""Every value that was ever read, as it stands in text, in a URL and in JSON; the longest first, for one may be part of another."""
HARD = "\\\"'"
_HARD: list[re.Pattern[str]] = []
"""Those with letters that Python escapes, again and again where a repr holds a repr: a traceback that shows locals is made of these."""
_TOKEN = re.compile(r"eyJ[\w-]{4,}\.[\w-]+(?:\.[\w-]*)?")
"""Clients' tokens, which are too many to be remembered: they all begin like this, for a JWT begins with a JSON object."""


class SecretError(LookupError):
    """A reference that cannot be resolved: names the reference, never a value."""


class Secret:
    """A reference to a value that must not be shown. `reveal` reads it anew."""

    __slots__ = ("reference",)

    def __init__(self, reference: str) -> None:
        kind, _, rest = reference.partition(":")
        if kind not in ("env", "file") or not rest:
            raise SecretError(
                "expected a secret as env:NAME or file:/path, found something else (not shown, it may be the secret itself)"
            )
        self.reference = reference

    def __repr__(self) -> str:
        return MARK

    __str__ = __repr__

    def reveal(self) -> str:
        """The value as it is now. Raises SecretError naming the reference."""
        kind, _, rest = self.reference.partition(":")
        try:
            value = os.environ[rest] if kind == "env" else Path(rest).read_text(encoding="utf-8").strip()
        except KeyError:
            raise SecretError(
                f"secret {self.reference}: the environment variable {rest} is not set; export it and start again"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise SecretError(f"secret {self.reference}: the file cannot be read: {type(error).__name__}") from None
        if not value:
            raise SecretError(f"secret {self.reference}: it is empty")
        if value not in _SEEN:
            spellings = [value, quote(value, safe=""), quote(value), quote_plus(value), json.dumps(value)[1:-1]]
            if not value.isascii() or not value.isprintable() or any(letter in value for letter in HARD):
                _HARD.append(_escaped(value))
            known = sorted({*_SEEN, *spellings}, key=lambda text: (-len(text), text))
            _SEEN.clear()
            _SEEN.update(dict.fromkeys(known))
        return value


def redact(text: str) -> str:
    """The text with every secret that was ever read replaced, and whatever looks like a client's token."""
    for value in _SEEN:
        text = text.replace(value, MARK)
    if "\\" in text:
        for pattern in _HARD:
            text = pattern.sub(MARK, text)
    return _TOKEN.sub(MARK, text) if "eyJ" in text else text


def _escaped(value: str) -> re.Pattern[str]:
    """The value with any number of backslashes before what may be escaped, and each letter beyond ASCII in each of its spellings."""
    parts = []
    for letter in value:
        if letter == "\\":
            parts.append(r"\\+")
        elif letter.isascii() and letter.isprintable():
            parts.append(rf"\\*{re.escape(letter)}" if letter in HARD else re.escape(letter))
        else:
            names = [f"x{ord(letter):02x}", f"u{ord(letter):04x}", f"U{ord(letter):08x}", repr(letter)[2:-1]]
            wire = "".join(rf"\\+x{byte:02x}" for byte in letter.encode())
            parts.append(f"(?:{re.escape(letter)}|{wire}|" + "|".join(rf"\\+{name}" for name in names if name) + ")")
    return re.compile("".join(parts))


class Redactor(logging.Filter):
    """Takes secrets out of log records, their arguments and their tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always keeps the record; never its secrets."""
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True


def shield_logs() -> None:
    """What libraries log in a program of ours, and what ends a thread or is raised where nobody can catch it, goes to stderr redacted."""
    handler = logging.StreamHandler()
    handler.addFilter(Redactor())
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for other in logging.getLogger().handlers:
        if not any(isinstance(one, Redactor) for one in other.filters):
            other.addFilter(Redactor())  # somebody made it before us
    threading.excepthook = lambda what: _tell(what.exc_type, what.exc_value, what.exc_traceback, "in a thread")
    sys.unraisablehook = lambda what: _tell(
        what.exc_type, what.exc_value, what.exc_traceback, what.err_msg or "ignored"
    )


def _tell(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None, where: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(redact(f"{where}: {''.join(traceback.format_exception(kind, error, trace))}"))
