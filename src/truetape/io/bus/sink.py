"""The driver of one sink: takes from its mailbox, encodes, publishes, and comes back by itself when the bus was away.

    DOWN ── open ─► UP ── write, confirm, write, … ── lost, refused or silent ─► DOWN (backoff with jitter) ── … ── finish ─► CLOSED

The feed never waits for a bus: while it is away the mailbox fills and judges by its own mode, and what that cost is published as `Lagged`,
in its place, when the bus is back. What was written but not confirmed stays `in hand`, bounded in bytes, and is sent again first: at
least once and in order. Of a `max_age` box, what grew too old in hand is told as `Lagged` instead.

Next door: `bus.py` is what it asks of a server, `nats.py` and `redis.py` speak to theirs; `core/serve/subjects.py` says where an event goes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from random import Random
from typing import Any, Literal

import msgspec
from msgspec import Struct

from truetape.core.feed.backoff import Backoff
from truetape.core.route.mailbox import OUTSIDE, Key, Mailbox
from truetape.core.route.shed import LOOKED_AT, weigh, weight
from truetape.core.serve.frames import Encoding, encode_event
from truetape.core.serve.subjects import place, subject
from truetape.io.bus.bus import Bus, Row
from truetape.io.clock import now as clock
from truetape.io.obs import log
from truetape.model.event import Gap, Lagged, Market, Status

SECOND = 1_000_000_000
SLICE = 64
"""Messages that are encoded and written in one go, before the loop may do something else."""
TAKE = 256
IDLE_S = 2.0
"""With nothing to publish the bus is asked this often whether it is still there."""
NAMES_MAX = 50_000


class How(Struct, frozen=True):
    """How a sink behaves. `in_flight`: bytes that may be written and not confirmed."""

    prefix: str = "truetape"
    encoding: Encoding = "json"
    in_flight: int = 1 << 20
    confirm_s: float = 10.0
    backoff_first_s: float = 0.25
    backoff_max_s: float = 10.0


class Counts(Struct):
    """`taken = published + in hand + expired + abandoned`, notices included; `refused` were too big and are published as `Lagged`."""

    taken: int = 0
    published: int = 0
    bytes: int = 0
    again: int = 0
    refused: int = 0
    expired: int = 0
    abandoned: int = 0
    errors: int = 0
    outages: int = 0
    reconnects: int = 0


class Sink:
    """One bus and its box. `redact` cleans what servers say; `tell` hears of each change between up and down."""

    def __init__(
        self, name: str, bus: Bus, box: Mailbox, how: How, luck: Random, *,
        arm: Callable[[], None], redact: Callable[[str], str], tell: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self.name = name
        self.box = box
        self.how = how
        self.state: Literal["DOWN", "UP", "CLOSED"] = "DOWN"
        self.since = clock()
        self.last_error = ""
        self.counts = Counts()
        self._bus = bus
        self._backoff = Backoff(how.backoff_first_s, how.backoff_max_s, 0.3, luck)
        self._arm = arm
        self._redact = redact
        self._tell = tell
        self._ready = asyncio.Event()
        self._end = asyncio.Event()
        self._said_down = False
        self._was_up = False
        self._hand: deque[Market] = deque()  # in order: the first `_written` of them are with the bus, unconfirmed
        self._written = 0
        self._in_flight = 0
        self._names: dict[Key, str] = {}
        self._parted = False

    # -- life -----------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """The box has something."""
        self._ready.set()

    def finish(self) -> None:
        """Publish what lies in the box, and end. Whoever cannot wait for that cancels `run`."""
        self._end.set()
        self._ready.set()

    def part(self) -> None:
        """The same, but what comes into the box from now on is not its to publish."""
        now = clock() + (self.box.mode.ns if self.box.mode.whole else 0)  # windows that are open now are over
        while events := self.box.take(TAKE, now):
            self.counts.taken += len(events)
            self._hand.extend(events)
        self._parted = True
        self.finish()

    @property
    def queued(self) -> int:
        """Events that wait for the bus: in the box, and taken from it and not confirmed. Settles nothing."""
        box = self.box
        return max(0, box.data()) + len(box.pending) + (box.hand is not None) + len(self._hand)

    @property
    def queue_bytes(self) -> int:
        """What these take, by estimate."""
        return weigh(self.box) + self._hand_bytes

    @property
    def held(self) -> int:
        """Bytes beside the box: events in hand, by the first of them, and what was written, which the library may hold."""
        return self._hand_bytes + self._in_flight

    @property
    def _hand_bytes(self) -> int:
        few = [weight(event) for event in islice(self._hand, LOOKED_AT)]
        return sum(few) * len(self._hand) // max(1, len(few))

    async def run(self) -> None:
        """Until `finish` and all is out, or until cancelled."""
        try:
            while not (self._end.is_set() and self._empty()):
                await self._visit()
                if not (self._end.is_set() and self._empty()):
                    await self._pause(self._backoff.wait(at_once=False) / SECOND)
        finally:
            self.counts.abandoned += len(self._hand)
            self._hand.clear()
            self._become("CLOSED", "")

    async def _pause(self, seconds: float) -> None:
        """Before the next dial; who is to finish does not sleep through that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await (asyncio.sleep(seconds) if self._end.is_set() else self._end.wait())

    async def _visit(self) -> None:
        """One connection, from opening to its end."""
        self._backoff.attempts += 1
        self._written = self._in_flight = 0
        try:
            async with asyncio.timeout(self.how.confirm_s):
                await self._bus.open()
            self._expire(clock())
            self.counts.again += len(self._hand)
            await self._publish()
        except Exception as error:  # noqa: BLE001  libraries, sockets and servers raise what they like; backoff decides what is next
            self.counts.errors += 1
            self._settle()
            said = self._redact(str(error)) or "no answer in time"
            self._become("DOWN", f"{type(error).__name__}: {said}"[:300])
        finally:
            with suppress(Exception):
                await self._bus.close()

    async def _publish(self) -> None:
        """Take, write and confirm, for as long as the bus is there."""
        while True:
            self._ready.clear()
            await self._fill()
            if self._written or self.state != "UP":
                await self._confirm()
            elif self._end.is_set():
                return
            else:
                self._arm()
                try:
                    async with asyncio.timeout(IDLE_S):
                        await self._ready.wait()
                except TimeoutError:
                    await self._confirm()

    # -- what is in hand ------------------------------------------------------------------------------------------------

    async def _fill(self) -> None:
        """Write what is in hand, then what the box gives, up to the bytes that may be in flight."""
        while self._in_flight < self.how.in_flight:
            if self._written == len(self._hand):
                if self.state != "UP" or self._parted:
                    return  # the box judges what waits for a bus that is not proven yet; hands must not fill with it
                now = clock()
                if self._end.is_set() and self.box.mode.whole:
                    now += self.box.mode.ns  # windows that are open now are over
                events = self.box.take(TAKE, now)
                if not events:
                    return
                self.counts.taken += len(events)
                self._hand.extend(events)
            rows = [self._row(at) for at in range(self._written, min(self._written + SLICE, len(self._hand)))]
            self._written += len(rows)
            self._in_flight += sum(len(payload) for _, payload in rows)
            async with asyncio.timeout(self.how.confirm_s):
                await self._bus.write(rows)
            await asyncio.sleep(0)

    async def _confirm(self) -> None:
        async with asyncio.timeout(self.how.confirm_s):
            await self._bus.confirm()
        if self._written:
            self._backoff.attempts = 0  # it carried something: that is health, an open socket is not
        self._settle()
        if self.state != "UP":
            self._become("UP", "")  # not before: a server may open its door and refuse all that comes

    def _settle(self) -> None:
        """What the server has is out of our hands."""
        done = min(self._bus.confirmed, self._written)
        for _ in range(done):
            self._hand.popleft()
        self.counts.published += done
        self._bus.confirmed -= done
        self._written -= done
        if not self._written:
            self.counts.bytes += self._in_flight
            self._in_flight = 0

    def _row(self, at: int) -> Row:
        event = self._hand[at]
        payload = encode_event(event, self.how.encoding, self._redact)
        if len(payload) > self._bus.size_max:
            self.counts.refused += 1
            kind, venue, symbol = self._key(event)
            size, most = len(payload), self._bus.size_max
            self.last_error = (
                f"{kind} {venue}:{symbol}: expected at most {most} bytes, found {size}; ask for less depth"
            )
            event = self._hand[at] = Lagged(venue, symbol, kind, 1, "too_big")
            payload = encode_event(event, self.how.encoding, self._redact)
        return self._name(self._key(event)), payload

    def _key(self, event: Market) -> Key:
        return place(event, self.box.topics) if isinstance(event, Gap | Lagged | Status) else self.box.key(event)

    def _name(self, key: Key) -> str:
        known = self._names.get(key)
        if known is None:
            if len(self._names) >= NAMES_MAX:
                self._names.clear()
            known = self._names[key] = subject(self.how.prefix, *key)
        return known

    def _expire(self, now: int) -> None:
        """Of a box that gives nothing older than its age: what grew old in hand during an outage is told, not sent."""
        if self.box.mode.name != "max_age" or not self._hand:
            return
        oldest, lost, kept = now - self.box.mode.ns, dict[Key, int](), deque[Market]()
        for event in self._hand:
            key = self._key(event)
            # a change of a book goes out at any age: the next would not fit without it
            if type(event) in OUTSIDE or key[0] == "book_delta" or getattr(event, "recv", now) >= oldest:
                kept.append(event)
            else:
                lost[key] = lost.get(key, 0) + 1
        self.counts.expired += sum(lost.values())
        self.counts.taken += len(lost)  # the notices that stand for them
        kept.extendleft(Lagged(venue, symbol, kind, count, "expired") for (kind, venue, symbol), count in lost.items())
        self._hand = kept

    def _empty(self) -> bool:
        box = self.box
        waits = not self._parted and bool(box.inbox or box.front or box.pending or box.hand is not None)
        return not self._hand and not waits

    # -- what is said ---------------------------------------------------------------------------------------------------

    def _become(self, state: Literal["DOWN", "UP", "CLOSED"], why: str) -> None:
        if why:
            self.last_error = why
        changed = state != self.state
        if changed:
            self.state, self.since = state, clock()
        if state == "DOWN" and (changed or not self._said_down):
            self._said_down = True
            self.counts.outages += 1
            log.warning("sink down", sink=self.name, why=why)
            self._tell("SINK_DOWN", why)
        elif state == "UP":
            log.info("sink up", sink=self.name, in_hand=len(self._hand))
            was_up, self._was_up = self._was_up, True
            if self._said_down:
                self._said_down = False
                self.counts.reconnects += was_up
                self._tell("SINK_UP", "")
        elif state == "CLOSED" and self.counts.abandoned:
            log.warning("sink ended with events unconfirmed", sink=self.name, abandoned=self.counts.abandoned)

    def status(self) -> dict[str, Any]:
        """For `truetape status`."""
        return {
            "name": self.name,
            "state": self.state,
            "since": self.since,
            **msgspec.to_builtins(self.counts),
            "in_hand": len(self._hand),
            "queued": self.queued,
            "queue_bytes": self.queue_bytes,
            "last_error": self.last_error,
        }
