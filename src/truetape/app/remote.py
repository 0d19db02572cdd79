"""A subscription at a gateway elsewhere: an async iterator in a program with an event loop, a plain one in a program without.

Next door: `client.py` makes one for each `subscribe`; `core.serve.intake` is its box; `tables.py` makes tables of what it kept.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any, Self

from truetape.app import notebook
from truetape.app.hub import ClientError, Hub, error_of
from truetape.app.subscription import BATCH, Closed
from truetape.app.tables import Events
from truetape.core.serve.intake import Intake
from truetape.core.serve.reader import State
from truetape.io.clock import now as clock
from truetape.io.net.uplink import Uplink
from truetape.model.event import Ledger, Market
from truetape.model.wire import Subscribe

QUIETLY = ("closed", "unsubscribed")
"""Ends that are no error: iteration stops, and `closed` says why."""


class ClientSubscription:
    """What one program asked of a gateway. It ends with `close()`, at the end of a `with`, or when the last reference to it goes."""

    def __init__(
        self,
        hub: Hub,
        want: Subscribe,
        intake: Intake,
        call: Callable[[Callable[[], Any]], Any] | None,
        timeout_s: float | None,
    ) -> None:
        self._hub = hub
        self._intake = intake
        self._timeout_s = timeout_s
        self._apart = call is not None  # the loop is another thread's
        self._ready: asyncio.Event | threading.Event = threading.Event() if self._apart else asyncio.Event()
        ready = self._ready.set
        if call is None:
            self._loop = asyncio.get_running_loop()
            self._uplink: Uplink = hub.attach(want, intake, ready)
        else:
            self._loop = call(asyncio.get_running_loop)
            self._uplink = call(lambda: hub.attach(want, intake, ready))

    # -- with an event loop ---------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Market]:
        return self

    async def __anext__(self) -> Market:
        try:
            return (await self.take(1))[0]  # one at a time: what was not read yet is judged by its mode
        except Closed:
            raise StopAsyncIteration from None

    async def take(self, most: int = BATCH) -> list[Market]:
        """The next events, at least one; waits for them. Raises Closed at the end, ClientError where the gateway refused, TimeoutError."""
        ready = self._ready
        if not isinstance(ready, asyncio.Event):
            raise RuntimeError("this client was opened with `with`; iterate with `for`, or read()")
        while True:
            ready.clear()
            if events := self._now(most):
                return events
            try:
                async with asyncio.timeout(self._timeout_s):
                    await ready.wait()
            except TimeoutError:
                raise self._late(self._timeout_s) from None

    # -- without one ----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Market]:
        return self

    def __next__(self) -> Market:
        try:
            return self.read(1)[0]
        except Closed:
            raise StopIteration from None

    def read(self, most: int = BATCH, timeout_s: float | None = None) -> list[Market]:
        """As `take`, for a program without an event loop. `timeout_s`: instead of the subscription's own."""
        ready = self._ready
        if not isinstance(ready, threading.Event):
            raise RuntimeError("this client was opened with `async with`; iterate with `async for`, or await take()")
        within = self._timeout_s if timeout_s is None else timeout_s
        until = None if within is None else clock() + round(within * 1e9)
        while True:
            ready.clear()
            if events := self._now(most):
                return events
            if not ready.wait(None if until is None else max(0.0, (until - clock()) / 1e9)) and not ready.is_set():
                raise self._late(within)

    # -- both -----------------------------------------------------------------------------------------------------------

    def _now(self, most: int) -> list[Market]:
        """What there is. Raises at the end."""
        with self._uplink.lock:
            events = self._intake.take(most, clock())
        if events:
            return events
        if self._intake.box.closed_reason is not None:
            self.close(self._intake.box.closed_reason)
            raise Closed(self._intake.box.closed_reason)
        end = self._uplink.reader.end
        if end is not None:
            if end.reason in QUIETLY:
                raise Closed(end.text)
            raise error_of(end, self._hub.where)
        return events

    def _late(self, within: float | None) -> TimeoutError:
        return TimeoutError(f"no event of {self.name} within {within:g} s; the connection is {self.state}")

    @property
    def name(self) -> str:
        """What was asked for."""
        return self._intake.box.name

    @property
    def state(self) -> State:
        """Of its connection: `live` where it stands."""
        return self._uplink.reader.state

    @property
    def reconnects(self) -> int:
        """How often the connection was made anew."""
        return self._uplink.reader.reconnects

    @property
    def ledger(self) -> Ledger:
        """What became of all that came to this program: received = delivered + conflated + dropped + expired + queued."""
        with self._uplink.lock:
            return self._intake.ledger

    @property
    def closed(self) -> str | None:
        """Why it ended; None while it goes on."""
        end = self._uplink.reader.end
        return self._intake.box.closed_reason or (end.text if end is not None else None)

    # -- what was kept --------------------------------------------------------------------------------------------------

    def last(self, count: int | None = None) -> Events:
        """The last events that came, taken or not, oldest first; at most `keep` (see `subscribe`)."""
        with self._uplink.lock:
            kept = list(self._intake.kept)
        return Events(kept if count is None else kept[max(0, len(kept) - count) :])

    def to_arrow(self, kind: str = "") -> Any:
        """Arrow tables of what was kept: of one kind (`trade`), or a dict of all. So `to_polars` and `to_pandas`; see `truetape.Events`."""
        return self.last().to_arrow(kind)

    def to_polars(self, kind: str = "") -> Any:
        """As `to_arrow`."""
        return self.last().to_polars(kind)

    def to_pandas(self, kind: str = "") -> Any:
        """As `to_arrow`."""
        return self.last().to_pandas(kind)

    # -- its end --------------------------------------------------------------------------------------------------------

    def close(self, reason: str = "closed by its consumer") -> None:
        """End it."""
        uplink = self._uplink
        if uplink.reader.end is None:
            with suppress(RuntimeError):  # the loop is closed, and so is the connection
                if self._apart:
                    self._loop.call_soon_threadsafe(uplink.close)
                else:
                    uplink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<truetape subscription of {self.name}: {self.closed or self.state}>"

    def _repr_html_(self) -> str:
        """For a notebook: its state and ledger, and the last events where they are kept."""
        caption = f"truetape subscription{f': {self.closed}' if self.closed else ''}"
        rows = [(self.name, "closed" if self.closed else self.state, self.reconnects, self.ledger)]
        kept = self.last()
        return notebook.of_subscriptions(caption, rows) + (notebook.of_events(kept) if kept else "")

    def __del__(self) -> None:
        uplink = getattr(self, "_uplink", None)
        if uplink is not None and uplink.reader.end is None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(uplink.close)


__all__ = ["ClientError", "ClientSubscription"]
