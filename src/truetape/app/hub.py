"""A client's connections, all in one event loop: one for each subscription, so that one that is slow or refused never holds another.

Next door: `client.py` is what a program holds, in its own loop or, for programs without one, with a thread around this room.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from random import Random, SystemRandom
from typing import TypeAlias
from urllib.parse import parse_qs, urlsplit

from truetape.app.secrets import Secret, redact
from truetape.core.serve.errand import Ended
from truetape.core.serve.frames import Encoding
from truetape.core.serve.intake import Intake
from truetape.core.serve.reader import Reader, Timing
from truetape.io.clock import now as clock
from truetape.io.net.gatepipe import Where
from truetape.io.net.uplink import Uplink
from truetape.model.wire import Subscribe

PATH = "/v1/stream"
Token: TypeAlias = str | Callable[[], str] | None
"""A token, `env:NAME` or `file:/path` of one, or what gives it; the last three are asked anew at each dial."""


class ClientError(Exception):
    """The gateway cannot be reached or refuses: `code` is its close code or HTTP status (0 without one), `reason` its name for programs."""

    def __init__(self, text: str, reason: str = "", code: int = 0) -> None:
        super().__init__(text)
        self.reason = reason
        self.code = code


class Hub:
    """The connections of one client. Everything here runs in the loop that `open` was awaited in."""

    def __init__(self, where: Where, token: Token, encoding: Encoding, timing: Timing, connect_s: float) -> None:
        self.where = where
        self.uplinks: list[Uplink] = []
        self.ended = 0  # reconnections of links that are gone
        self._token = reader_of(token)
        self._renewable = callable(token) or (isinstance(token, str) and token.startswith(("env:", "file:")))
        self._encoding: Encoding = encoding
        self._timing = timing
        self._connect_s = connect_s
        self._random = Random(
            SystemRandom().getrandbits(48)
        )  # two clients that were cut off together must not dial together
        self._group = asyncio.TaskGroup()
        self._spare: Uplink | None = None

    async def open(self) -> None:
        """Connect. Raises ClientError where nobody answers within `connect_s`, or the token is refused."""
        await self._group.__aenter__()
        self._spare = self._uplink()
        try:
            async with asyncio.timeout(self._connect_s):
                await self._spare.greeted()
        except TimeoutError:
            why = self._spare.reader.why or "no answer"
            await self.close()
            raise ClientError(f"no gateway at {self.where.name} within {self._connect_s:g} s: {redact(why)}") from None
        except BaseException:
            await self.close()
            raise
        if (end := self._spare.reader.end) is not None:
            await self.close()
            raise error_of(end, self.where)

    def attach(self, want: Subscribe, intake: Intake, wake: Callable[[], None]) -> Uplink:
        """A connection for this subscription; the one that was opened first, where it is free."""
        uplink, self._spare = self._spare or self._uplink(), None
        uplink.wake = wake
        uplink.begin(intake, uplink.reader.subscribe(want, clock()))
        return uplink

    def detach(self, uplink: Uplink) -> None:
        """It is no longer wanted."""
        uplink.close()

    async def close(self) -> None:
        """End them all."""
        for uplink in list(self.uplinks):
            uplink.close()
        await self._group.__aexit__(None, None, None)

    def _uplink(self) -> Uplink:
        reader = Reader(self._encoding, self._timing, self._random, renewable=self._renewable)
        uplink = Uplink(self.where, self._encoding, reader, self._token)
        self.uplinks.append(uplink)
        self._group.create_task(self._run(uplink))
        return uplink

    async def _run(self, uplink: Uplink) -> None:
        try:
            await uplink.run()
        finally:
            self.uplinks.remove(uplink)
            self.ended += uplink.reader.reconnects


def error_of(end: Ended, where: Where) -> ClientError:
    """What a program is raised."""
    code = f"{end.code} " if end.code else ""
    return ClientError(f"gateway {where.name}: {code}{end.reason}: {redact(end.text)}", end.reason, end.code)


def reader_of(token: Token) -> Callable[[], str] | None:
    """What reads a token at each dial; it raises LookupError, with a text without the token."""
    if not token:
        return None
    if isinstance(token, str):
        if token.startswith(("env:", "file:")):
            return Secret(token).reveal
        return lambda: token

    def asked() -> str:
        try:
            found = token()
        except Exception as error:  # noqa: BLE001  the program's own; what it says may contain the token
            raise LookupError(f"the token's function raised {type(error).__name__}") from None
        if not found:
            raise LookupError("expected a text from the token's function, found something else")
        return found

    return asked


def where_of(url: str, ca_file: str | Path | None, context: ssl.SSLContext | None) -> Where:
    """The address of a gateway. Raises ValueError."""
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("//") else path
        if not path:
            raise ValueError("expected unix:/path/of/the/socket, found no path")
        return Where(path=str(Path(path).expanduser()))
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"expected ws://host:port, wss://host:port or unix:/path, found {parts.scheme or url!r}")
    if parts.username or parts.password or "token" in parse_qs(parts.query):
        raise ValueError(
            "expected no credentials in the address, for it is shown in logs; give truetape.client(url, token=…)"
        )
    path = parts.path if parts.path not in ("", "/") else PATH
    made = f"{parts.scheme}://{parts.netloc}{path}{f'?{parts.query}' if parts.query else ''}"
    if parts.scheme == "ws":
        return Where(url=made)
    try:
        return Where(url=made, context=context or ssl.create_default_context(cafile=str(ca_file) if ca_file else None))
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"ca_file {ca_file}: expected certificates in PEM: {error}") from None
