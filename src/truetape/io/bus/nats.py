"""NATS core: publish, and a ping that comes back when the server has it all. Reconnecting is `sink.py`'s affair, not the library's."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import nats.errors
from nats.aio.client import Client

from truetape.io.bus.bus import BusError, Row

CLOSE_S = 1.0
LOOK_S = 0.1
"""How often a wait looks whether the connection is still there."""


class Nats:
    """One connection. `secret` gives the password of `user`, or without a user the token; it is read on each dial."""

    def __init__(
        self, url: str, user: str, secret: Callable[[], str] | None, context: ssl.SSLContext | None, within_s: float
    ) -> None:
        self.size_max = 1 << 20
        self.confirmed = 0
        self._url = url
        self._user = user
        self._secret = secret
        self._context = context
        self._within_s = within_s
        self._client = Client()
        self._lost = False
        self._patience: asyncio.Timeout | None = None
        self._watch: asyncio.TimerHandle
        self._said: list[Exception] = []
        self._written = 0

    async def open(self) -> None:
        """Connect and authenticate, or raise."""
        self._client = Client()
        self._lost = False
        self._said.clear()
        self._written = self.confirmed = 0
        word = self._secret() if self._secret is not None else None
        try:
            await self._client.connect(
                self._url, name="truetape", allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0,
                connect_timeout=max(1, round(self._within_s)), error_cb=self._failed, disconnected_cb=self._gone, closed_cb=self._gone,
                user=self._user or None, password=word if self._user else None, token=None if self._user else word,
                tls=self._context, pending_size=0, no_echo=True, skip_subject_validation=True,
            )  # fmt: skip
        except nats.errors.NoServersError:
            raise (self._said or [BusError(f"{self._url}: no answer")])[-1] from None
        self.size_max = self._client.max_payload

    async def _failed(self, error: Exception) -> None:
        """Also what the server says without hanging up, such as a subject that is not permitted."""
        self._said.append(error)

    def _look(self) -> None:
        """The library's tasks may cancel each other as they end, and then nobody is called back."""
        if self._patience is not None:
            if self._client.is_connected:
                self._watch = asyncio.get_running_loop().call_later(LOOK_S, self._look)
            else:
                self._end()

    async def _gone(self) -> None:
        self._end()

    def _end(self) -> None:
        self._lost = True
        patience, self._patience = self._patience, None  # it may be told twice
        if patience is not None:
            patience.reschedule(0)  # nothing will be answered any more

    async def write(self, rows: list[Row]) -> None:
        """Into the library's buffer, which its own task empties."""
        async with self._patiently():
            for subject, payload in rows:
                await self._client.publish(subject, payload)
        self._written += len(rows)

    async def confirm(self) -> None:
        """A round trip behind all that was written; raises when the connection ends first, or something was not permitted."""
        async with self._patiently():
            await self._client.flush(math.ceil(self._within_s) + 1)
        self.confirmed += self._written
        self._written = 0

    @asynccontextmanager
    async def _patiently(self) -> AsyncIterator[None]:
        """Until the connection ends: the library's own waits do not notice that, and its flush then returns as if all were well."""
        self._refuse_loss()
        self._watch = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        try:
            async with asyncio.timeout(self._within_s) as self._patience:
                yield
        except (TimeoutError, nats.errors.Error):
            if not self._lost:
                raise
        finally:
            self._patience = None
            self._watch.cancel()
        self._refuse_loss()

    def _refuse_loss(self) -> None:
        if self._said:
            raise self._said[-1]
        if self._lost or not self._client.is_connected:
            raise BusError("the connection ended")

    async def close(self) -> None:
        """A server that takes nothing more is not waited for."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._client.close()
        except Exception:  # noqa: BLE001  whatever it was, the socket is dropped
            writer = getattr(getattr(self._client, "_transport", None), "_io_writer", None)
            if writer is not None:
                writer.transport.abort()
