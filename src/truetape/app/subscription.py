"""A consumer's end of its mailbox: an async iterator, or batches by `take`.

Next door: `live.py` makes one for each `subscribe` and ends it on `release`; the driver wakes it when its box has something.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Self

from truetape.core.feed.delay import SAMPLE_EVERY, Stages
from truetape.core.route.mailbox import Mailbox
from truetape.io.clock import now as clock
from truetape.model.event import Ledger, Market, Status

BATCH = 256


class Closed(Exception):
    """A subscription ended: it was closed, or its mode is `disconnect` and it fell behind."""


class Subscription:
    """What one consumer asked for. Iterate (`async for`), or `await take()` for batches.

    It ends with `close()`, at the end of a `with`, or when the last reference to it goes: `async for event in gw.subscribe(…)` ends its
    subscription wherever the loop is left. One that you hold goes on after a `break`, and has lost nothing.
    """

    def __init__(
        self,
        box: Mailbox,
        loop: asyncio.AbstractEventLoop,
        release: Callable[[Mailbox, str], None],
        arm: Callable[[], None],
        stages: Stages,
    ) -> None:
        self._box = box
        self._loop = loop
        self._release = release
        self._arm = arm
        self._stages = stages
        self._unsampled = 0  # batches until the next that is measured
        self._taken = 0  # when the one that is measured was taken
        self._ready = asyncio.Event()
        self.wake: Callable[[], None] = self._ready.set
        """What the driver calls when there is something to take."""

    def __aiter__(self) -> AsyncIterator[Market]:
        return self

    async def __anext__(self) -> Market:
        try:
            return (await self.take(1))[0]  # one at a time: what was not read yet stays in the box, judged by its mode
        except Closed:
            raise StopAsyncIteration from None

    async def take(self, most: int = BATCH) -> list[Market]:
        """The next events, at least one; waits for them. Raises Closed at the end."""
        if self._taken:
            self._stages.delivery.add(clock() - self._taken)
            self._taken = 0
        while True:
            self._ready.clear()
            events = self._box.take(most, now := clock())
            if events:
                self._unsampled -= 1
                if self._unsampled < 0:
                    self._measure(events, now)
                return events
            if (reason := self._box.closed_reason) is not None:
                self._release(self._box, reason)
                raise Closed(reason)
            self._arm()
            await self._ready.wait()

    def _measure(self, events: list[Market], now: int) -> None:
        """How long did the oldest of these wait?"""
        self._unsampled = SAMPLE_EVERY
        self._taken = now
        if (recv := getattr(events[0], "recv", 0)) and type(events[0]) is not Status:
            self._stages.queue.add(now - recv)

    @property
    def name(self) -> str:
        """As it stands in the status."""
        return self._box.name

    @property
    def ledger(self) -> Ledger:
        """received = delivered + conflated + dropped + expired + queued, exact now."""
        return self._box.ledger()

    @property
    def closed(self) -> str | None:
        """Why it ended; None while it goes on."""
        return self._box.closed_reason

    def close(self, reason: str = "closed by its consumer") -> None:
        """End it; what is queued is counted as dropped."""
        self._release(self._box, reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._box.closed_reason is None:
            with suppress(RuntimeError):  # the loop is closed, and so is the gateway
                # not now: whoever dropped the last reference may be in the middle of a frame
                self._loop.call_soon_threadsafe(self._release, self._box, "its consumer left")
