"""A simulated venue, whole: its market, what stands before each client, and the faults it was told to make. No socket, no clock.

    opened received gone http tick  ->  Venue  ->  Say Hang Cut Freeze Beat

Clients are numbers that whoever holds the connections gave out, never the same twice. Each change of the market is worded at once for every
client that wants its symbol, so that what a client is told and what it fetches never disagree; a client's frames of one turn leave together.
Deterministic: the flow depends on the seed and the number of steps, what is said on the inputs and their times.
Next door: `market.py` is the oracle; `app.sim` puts real sockets before this.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeAlias

from msgspec import Struct

from truetape.core.feed.counterpart import Answer, Counterpart, Dismissed, Native, Reply, Subscribed, Unsubscribed
from truetape.core.sim.faults import Fault, Script
from truetape.core.sim.loop import Loop
from truetape.core.sim.market import Market

SECOND = 1_000_000_000
TURN_MAX = 500
"""Messages of one turn; what is due beyond waits for the next, so that clients are heard in between."""
CATCH_UP = SECOND // 4
"""What was missed beyond this is not made up for, but counted as late."""
TICK_EVERY = SECOND // 10


class Say(Struct, frozen=True, gc=False):
    """Write these messages to a client, in this order."""

    client: int
    frames: list[bytes]


class Hang(Struct, frozen=True, gc=False):
    """End a connection with a close frame; what was said before still leaves."""

    client: int
    code: int
    text: str = ""


class Cut(Struct, frozen=True, gc=False):
    """Break a connection without a word: the client sees 1006."""

    client: int


class Freeze(Struct, frozen=True, gc=False):
    """Neither read nor write on a connection any more, or again: half open."""

    client: int
    frozen: bool


class Beat(Struct, frozen=True, gc=False):
    """Send a protocol ping."""

    client: int


Act: TypeAlias = Say | Hang | Cut | Freeze | Beat
"""What whoever holds the connections must do, in this order."""


class Counts(Struct):
    """What was done so far. `late` messages were skipped to keep up; `cut` clients did not read."""

    messages: int = 0
    steps: int = 0
    frames: int = 0
    late: int = 0
    clients: int = 0
    cut: int = 0


class _Client:
    """One connection: the venue that stands before it, what it is told of, and what waits to be written in this turn."""

    __slots__ = ("frozen", "number", "out", "told", "venue")

    def __init__(self, number: int, venue: Counterpart) -> None:
        self.number = number
        self.venue = venue
        self.frozen = False
        self.out: list[bytes] = []
        self.told: dict[str, None] = {}


class Venue:
    """`kind` words what `market` does, at `rate` messages per second in total; `faults` begin to count at `now`."""

    def __init__(
        self, kind: type[Counterpart], market: Market | Loop, now: int, *, rate: float = 100.0, orders: int = 0, key: str = "",
        faults: Sequence[Fault] = (), seed: int = 1,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.market = market
        self.rate = rate
        self.counts = Counts()
        self.script = Script(faults, now, Random(f"{seed}:faults").random)
        self._orders = orders or kind.orders
        self._key = key
        self._clients: dict[int, _Client] = {}
        self._by_raw: dict[str, dict[_Client, None]] = {raw: {} for raw in market.listed}
        self._due_from = now
        self._next_tick = now
        self._next_ping = now
        self._thaw_at = 0

    # -- what clients do ------------------------------------------------------------------------------------------------

    def http(self, path: str, query: dict[str, str], now: int) -> Reply:
        """A plain GET: the venue's own REST."""
        return self.kind.http(self.market.listed, path, query, now)

    def opened(self, client: int, target: str, now: int) -> list[Act]:
        """A client stands before this path and query."""
        one = self._clients[client] = _Client(client, self.kind(self.market.listed, self._key))
        self.counts.clients += 1
        return self._answer(one, one.venue.opened(target, now))

    def received(self, client: int, data: bytes, now: int) -> list[Act]:
        """A client sent one message."""
        one = self._clients.get(client)
        if one is None or one.frozen:
            return []
        return self._answer(one, one.venue.received(data, now))

    def gone(self, client: int, now: int) -> None:
        """A client left, or was cut."""
        one = self._clients.pop(client, None)
        if one is not None:
            for raw in one.told:
                self._by_raw[raw].pop(one, None)

    def _answer(self, client: _Client, answers: list[Answer]) -> list[Act]:
        frames: list[bytes] = []
        dismissed: Dismissed | None = None
        for answer in answers:
            if isinstance(answer, bytes):
                frames.append(answer)
            elif isinstance(answer, Subscribed):
                client.told[answer.raw] = None
                self._by_raw[answer.raw][client] = None
            elif isinstance(answer, Unsubscribed):
                client.told.pop(answer.raw, None)
                self._by_raw[answer.raw].pop(client, None)
            else:
                dismissed = answer
        acts = self._say(client, frames)
        return acts if dismissed is None else [*acts, Hang(client.number, dismissed.code, dismissed.text)]

    def _say(self, client: _Client, frames: list[bytes]) -> list[Act]:
        if client.frozen or not frames:
            return []
        self.counts.frames += len(frames)
        return [Say(client.number, frames)]

    # -- what the clock does --------------------------------------------------------------------------------------------

    def started(self, now: int) -> None:
        """The rate counts from here: what preparing took is not made up for."""
        self._due_from = now

    def tick(self, now: int) -> list[Act]:
        """One turn, to be taken every few milliseconds: faults, the messages that are due, what the venue says by the clock."""
        acts: list[Act] = []
        for fault in self.script.due(now):
            acts += self._break(fault, now)
        if self._thaw_at and now >= self._thaw_at:
            acts += self._freeze(False)
        counts, rate = self.counts, self.rate
        due = int((now - self._due_from) * rate / SECOND)
        missed = due - counts.messages - counts.late - max(1, int(rate * CATCH_UP / SECOND))
        if missed > 0:
            counts.late += missed
        acts += self._steps(min(due - counts.late, counts.messages + TURN_MAX), now)
        if now >= self._next_tick:
            self._next_tick = now + TICK_EVERY
            acts += self._by_clock(now)
        return acts

    def _steps(self, until: int, now: int) -> list[Act]:
        counts, market, by_raw, orders = self.counts, self.market, self._by_raw, self._orders
        spoiled, messages = self.script.active, self.kind.messages
        written: dict[_Client, None] = {}
        while counts.messages < until:
            change = market.step(now, orders)
            counts.messages += messages(change)
            counts.steps += 1
            for client in by_raw[change.raw]:
                frames = client.venue.encode(change, now)
                if spoiled:
                    frames = self._left_of(change.raw, frames)
                client.out += [frame for _, frame in frames]
                written[client] = None
        acts: list[Act] = []
        for client in written:
            out, client.out = client.out, []
            acts += self._say(client, out)
        return acts

    def _by_clock(self, now: int) -> list[Act]:
        ping = self.kind.ping_every_s and now >= self._next_ping
        if ping:
            self._next_ping = now + round(self.kind.ping_every_s * SECOND)
        acts: list[Act] = []
        for client in self._clients.values():
            said = client.venue.tick(now)
            acts += self._say(client, [frame for raw, native in said for _, frame in self._left_of(raw, [native])])
            if ping and not client.frozen:
                acts.append(Beat(client.number))
        return acts

    def _left_of(self, raw: str, frames: list[Native]) -> list[Native]:
        """What the script lets through of one symbol's frames for one client."""
        if not raw or not self.script.active:
            return frames
        return self.script.spoil((raw, self.market.listed[raw].instrument.symbol), frames)

    def _break(self, fault: Fault, now: int) -> list[Act]:
        """A fault that concerns connections."""
        if fault.name == "half-open":
            self._thaw_at = now + round(fault.value * SECOND) if fault.value else 0
            return self._freeze(True)
        if fault.name == "close-1006":
            return [Cut(number) for number in self._clients]
        code = int(fault.name.partition("-")[2])
        return [Hang(number, code) for number in self._clients]

    def _freeze(self, frozen: bool) -> list[Act]:
        if not frozen:
            self._thaw_at = 0
        for client in self._clients.values():
            client.frozen = frozen
        return [Freeze(number, frozen) for number in self._clients]
