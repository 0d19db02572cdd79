"""Redis: PUBLISH, or XADD with a bound to each stream; every command has its own answer, so what was taken is known to the message.

Commands are written without waiting and answered in order. Reconnecting is `sink.py`'s affair, not the library's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from truetape.io.bus.bus import BusError, Row

CLOSE_S = 1.0
PORT = 6379
SIZE_MAX = 64 << 20
"""Redis takes strings of 512 MB; a message beyond this is a mistake."""
SLICE = 64
"""Answers that are read before the loop may do something else."""


class Redis:
    """One connection. `stream`: XADD, with about `maxlen` entries kept (0: all), else PUBLISH. `secret` is read on each dial."""

    def __init__(
        self, url: str, user: str, secret: Callable[[], str] | None, ca_file: str, *, stream: bool, maxlen: int
    ) -> None:
        self.size_max = SIZE_MAX
        self.confirmed = 0
        self._url = url
        self._user = user
        self._secret = secret
        self._ca_file = ca_file
        self._head: tuple[Any, ...] = ()
        self._stream = stream
        self._maxlen = maxlen
        self._connection: Connection | UnixDomainSocketConnection | None = None
        self._unanswered = 0

    async def open(self) -> None:
        """Connect, authenticate, choose the database, or raise."""
        self._unanswered = self.confirmed = 0
        self._connection = self._make()
        await self._connection.connect()  # type: ignore[no-untyped-call]  # the library's gap

    def _make(self) -> Connection | UnixDomainSocketConnection:
        parts = urlsplit(self._url)
        how: dict[str, Any] = {
            "username": self._user or None, "password": self._secret() if self._secret is not None else None, "protocol": 2,
            "client_name": "truetape", "driver_info": None, "retry": Retry(NoBackoff(), 0), "socket_timeout": None,
        }  # fmt: skip
        if parts.scheme == "unix":
            return UnixDomainSocketConnection(path=parts.path, **how)
        how |= {"host": parts.hostname, "port": parts.port or PORT, "db": int(parts.path.strip("/") or 0)}
        if parts.scheme == "rediss":
            how |= {"ssl_ca_certs": self._ca_file or None, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
            return SSLConnection(**how)
        return Connection(**how)

    @property
    def _open(self) -> Connection | UnixDomainSocketConnection:
        if self._connection is None or not self._connection.is_connected:
            raise BusError(
                "the connection ended"
            )  # the library would connect anew, and answers would be counted wrongly
        return self._connection

    async def write(self, rows: list[Row]) -> None:
        """All the commands at once."""
        connection = self._open
        commands = connection.pack_commands([self._command(name, payload) for name, payload in rows])
        self._unanswered += len(rows)
        await connection.send_packed_command(commands, check_health=False)

    def _command(self, name: str, payload: bytes) -> tuple[str | bytes | int, ...]:
        if not self._stream:
            return ("PUBLISH", name, payload)
        if not self._maxlen:
            return ("XADD", name, "*", "event", payload)
        return ("XADD", name, "MAXLEN", "~", self._maxlen, "*", "event", payload)

    async def confirm(self) -> None:
        """Read the answers that are due; with none a PING's. A command that was refused ends the connection: it is sent again on the next."""
        connection = self._open
        if not self._unanswered:
            await connection.send_packed_command(connection.pack_command("PING"), check_health=False)
            await connection.read_response()
            return
        while self._unanswered:
            await connection.read_response()
            self._unanswered -= 1
            self.confirmed += 1
            if not self._unanswered % SLICE:
                await asyncio.sleep(0)

    async def close(self) -> None:
        """A server that takes nothing more is not waited for."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_S):
                    await connection.disconnect(nowait=True)
