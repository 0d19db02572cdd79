"""A simulated venue, whole: its market, what stands before each client, and the faults it was told to make. No socket, no clock.

    refused opened received gone http tick  ->  Venue  ->  Say Hang Cut Freeze Beat Drip Swap

Clients are numbers that whoever holds the connections gave out, never the same twice. Each change of the market is worded at once for every
client that wants its symbol, so that what a client is told and what it fetches never disagree; a client's frames of one turn leave together.
Deterministic: the flow depends on the seed and the number of steps, what is said on the inputs and their times.
Next door: `market.py` is the oracle; `script.py` and `trouble.py` hold the faults; `app.sim` puts real sockets before this.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from msgspec import Struct

from truetape.core.feed.counterpart import Answer, Counterpart, Dismissed, Native, Reply, Subscribed, Unsubscribed
from truetape.core.sim.act import Act, Beat, Cut, Drip, Freeze, Hang, Say, Swap
from truetape.core.sim.faults import OF_TIME, Fault
from truetape.core.sim.loop import Loop
from truetape.core.sim.market import Market
from truetape.core.sim.script import Script
from truetape.core.sim.trouble import BURST, DRIP, NOTICE, Trouble

__all__ = ["Act", "Beat", "Counts", "Cut", "Drip", "Freeze", "Hang", "Missed", "Say", "Swap", "Venue"]

SECOND = 1_000_000_000
TURN_MAX = 500
"""Messages of one turn; what is due beyond waits for the next, so that clients are heard in between."""
CATCH_UP = SECOND // 4
"""What was missed beyond this is not made up for, but counted as late."""
TICK_EVERY = SECOND // 10


class Counts(Struct):
    """What was done so far. `late` messages were skipped to keep up; `cut` clients did not read."""

    messages: int = 0
    steps: int = 0
    frames: int = 0
    late: int = 0
    clients: int = 0
    cut: int = 0


class Missed(Struct, frozen=True, gc=False):
    """A change that no client was told whole: when, of which symbol, and its last number."""

    at: int
    raw: str
    seq: int


class _Client:
    """One connection: the venue that stands before it, what it is told of, and what waits to be written in this turn."""

    __slots__ = ("dead", "frozen", "number", "opened_at", "out", "told", "venue", "warned")

    def __init__(self, number: int, venue: Counterpart, now: int) -> None:
        self.number = number
        self.venue = venue
        self.opened_at = now
        self.frozen = False
        self.warned = False  # of the end of its lifetime
        self.out: list[bytes] = []
        self.told: dict[str, None] = {}
        self.dead: dict[str, None] = {}  # acknowledged, and mute until it is subscribed anew


class Venue:
    """`kind` words what `market` does, at `rate` messages per second in total; `faults` begin to count at `now`.

    With `watch`, `missed` holds every change that no client was told whole, nobody being there to hear included.
    """

    def __init__(
        self, kind: type[Counterpart], market: Market | Loop, now: int, *, rate: float = 100.0, orders: int = 0, key: str = "",
        faults: Sequence[Fault] = (), seed: int = 1, watch: bool = False,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.market = market
        self.rate = rate
        self.counts = Counts()
        self.script = Script(faults, now, Random(f"{seed}:faults").random, kind.wrong)
        self.trouble = Trouble()
        self.missed: list[Missed] | None = [] if watch else None
        self._orders = orders or kind.orders
        self._key = key
        self._clients: dict[int, _Client] = {}
        self._by_raw: dict[str, dict[_Client, None]] = {raw: {} for raw in market.listed}
        self._due_from = now
        self._due_before = 0
        self._next_tick = now
        self._next_ping = now

    # -- what clients do ------------------------------------------------------------------------------------------------

    def refused(self, now: int) -> Reply | None:
        """How a WebSocket handshake is refused; None where it is not."""
        return self.trouble.refusal(now)

    def http(self, path: str, query: dict[str, str], now: int) -> Reply:
        """A plain GET: the venue's own REST."""
        return self.kind.http(self.market.listed, path, query, now + self.trouble.skew)

    def opened(self, client: int, target: str, now: int) -> list[Act]:
        """A client stands before this path and query."""
        one = self._clients[client] = _Client(client, self.kind(self.market.listed, self._key), now)
        self.counts.clients += 1
        drip: list[Act] = [Drip(client, DRIP)] if self.trouble.holds("slow-drip") else []
        if self.trouble.holds("token-expired"):
            return drip + self._expire(one)
        return drip + self._answer(one, one.venue.opened(target, now + self.trouble.skew))

    def received(self, client: int, data: bytes, now: int) -> list[Act]:
        """A client sent one message."""
        one = self._clients.get(client)
        if one is None or one.frozen:
            return []
        if b"subscribe" in data.lower():
            if self.trouble.holds("never-ack"):
                return []
            if self.trouble.holds("rate-3001"):
                return self._say(one, [self.kind.wrong.limited])
        return self._answer(one, one.venue.received(data, now + self.trouble.skew))

    def gone(self, client: int, now: int) -> None:
        """A client left, or was cut."""
        one = self._clients.pop(client, None)
        if one is not None:
            self.script.gone(client)
            for raw in one.told:
                self._by_raw[raw].pop(one, None)

    def _answer(self, client: _Client, answers: list[Answer]) -> list[Act]:
        frames: list[bytes] = []
        dismissed: Dismissed | None = None
        mute = self.trouble.holds("mute-after-ack") or self.trouble.holds("never-ack")
        before: Answer | None = None
        for answer in answers:
            if isinstance(answer, bytes):
                of_it = before.raw if isinstance(before, Subscribed) and b'"success":' not in answer else ""
                if not of_it or not (of_it in client.dead or self.script.mutes(self._names(of_it))):
                    frames.append(answer)
            elif isinstance(answer, Subscribed):
                client.told[answer.raw] = None
                self._by_raw[answer.raw][client] = None
                client.dead.pop(answer.raw, None)
                if mute:
                    client.dead[answer.raw] = None
            elif isinstance(answer, Unsubscribed):
                client.told.pop(answer.raw, None)
                client.dead.pop(answer.raw, None)
                self._by_raw[answer.raw].pop(client, None)
            else:
                dismissed = answer
            before = answer
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
        self._due_before = self.counts.messages + self.counts.late

    def tick(self, now: int) -> list[Act]:
        """One turn, to be taken every few milliseconds: faults, the messages that are due, what the venue says by the clock."""
        acts: list[Act] = []
        for name in self.trouble.ended(now):
            acts += self._end(name, now)
        for fault in self.script.due(now):
            acts += self._begin(fault, now)
        counts, rate = self.counts, self.rate * (BURST if self.trouble.holds("burst-100x") else 1)
        due = self._due_before + int((now - self._due_from) * rate / SECOND)
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
        spoiled, watched, messages, venue_now = (
            self._spoiling, self.missed is not None, self.kind.messages, now + self.trouble.skew,
        )  # fmt: skip
        written: dict[_Client, None] = {}
        while counts.messages < until:
            change = market.step(venue_now, orders)
            counts.messages += messages(change)
            counts.steps += 1
            heard = False
            for client in by_raw[change.raw]:
                frames = client.venue.encode(change, venue_now)
                lost = self.script.lost
                if spoiled:
                    frames = self._left_of(client, change.raw, frames)
                heard = heard or not (client.frozen or change.raw in client.dead or self.script.lost > lost)
                client.out += [frame for _, frame in frames]
                written[client] = None
            if watched and not heard:
                self._miss(now, change.raw, change.seq)
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
            for raw, native in client.venue.tick(now + self.trouble.skew):
                left = self._left_of(client, raw, [native]) if raw and self._spoiling else [native]
                acts += self._say(client, [frame for _, frame in left])
            if ping and not client.frozen:
                acts.append(Beat(client.number))
            if self.trouble.lifetime:
                acts += self._age(client, now)
        return acts

    def _age(self, client: _Client, now: int) -> list[Act]:
        """A connection that is near its end, or at it."""
        left = client.opened_at + self.trouble.lifetime - now
        if left <= 0:
            return [Hang(client.number, 1001, "lifetime")]
        if left > NOTICE or client.warned or not self.kind.wrong.leaving:
            return []
        client.warned = True
        return self._say(client, [self.kind.wrong.leaving])

    def unmute(self) -> None:
        """What was acknowledged and then mute speaks again."""
        for client in self._clients.values():
            client.dead.clear()

    # -- what faults do -------------------------------------------------------------------------------------------------

    @property
    def _spoiling(self) -> bool:
        return self.script.active or any(client.dead or client.frozen for client in self._clients.values())

    def _left_of(self, client: _Client, raw: str, frames: list[Native]) -> list[Native]:
        """What the faults let through of one symbol's frames for one client."""
        if raw in client.dead or client.frozen:
            return []
        return self.script.spoil(client.number, self._names(raw), frames)

    def _names(self, raw: str) -> tuple[str, str]:
        return raw, self.market.listed[raw].instrument.symbol

    def _miss(self, now: int, raw: str, seq: int) -> None:
        if self.missed is not None:
            self.missed.append(Missed(now, raw, seq))

    def _begin(self, fault: Fault, now: int) -> list[Act]:
        """A fault that concerns more than messages."""
        if fault.name in OF_TIME or fault.name == "clock-jump":
            self.trouble.begin(fault, now)
        match fault.name:
            case "half-open":
                return self._freeze(True)
            case "slow-drip":
                return [Drip(number, DRIP) for number in self._clients]
            case "rate-3001":
                return [
                    act for client in self._clients.values() for act in self._say(client, [self.kind.wrong.limited])
                ]
            case "token-expired":
                return [act for client in self._clients.values() for act in self._expire(client)]
            case "burst-100x":
                self.started(now)
            case "seq-reset":
                for raw, listed in self.market.listed.items():
                    if fault.symbol in ("", raw, listed.instrument.symbol):
                        listed.seq = 0
            case "cert-swap":
                return [Swap(fault.value != 1), *(Cut(number) for number in self._clients)]
            case "close-1006":
                return [Cut(number) for number in self._clients]
            case "close-1000" | "close-1001" | "close-1011":
                return [Hang(number, int(fault.name.partition("-")[2])) for number in self._clients]
        return []

    def _end(self, name: str, now: int) -> list[Act]:
        """A fault that lasted is over."""
        if name == "burst-100x":
            self.started(now)
        if name == "slow-drip":
            return [Drip(number, 0) for number in self._clients]
        return self._freeze(False) if name == "half-open" else []

    def _expire(self, client: _Client) -> list[Act]:
        return [*self._say(client, [self.kind.wrong.expired]), Hang(client.number, 1008, "API key expired")]

    def _freeze(self, frozen: bool) -> list[Act]:
        for client in self._clients.values():
            client.frozen = frozen
        return [Freeze(number, frozen) for number in self._clients]
