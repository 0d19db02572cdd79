"""Simulated venues, a virtual network and a pump, on one virtual clock: what tests of lines and hand-overs happen in."""

from __future__ import annotations

import heapq
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from truetape.app.dialects import Names, dialect
from truetape.app.sim import counterpart
from truetape.core.feed.plan import Feed
from truetape.core.feed.session import Timing
from truetape.core.feed.venue import Want
from truetape.core.route import checkpoint
from truetape.core.route.mailbox import Mailbox
from truetape.core.route.modes import drop_oldest
from truetape.core.route.pump import Pump
from truetape.core.sim.faults import parse
from truetape.core.sim.listing import listings
from truetape.core.sim.market import Market
from truetape.core.sim.venue import Cut, Hang, Say, Venue
from truetape.model.effect import Close, Effect, Fetch, Open, Ping, Send
from truetape.model.event import Book, Gap, Status, Trade

S = 1_000_000_000
MS = 1_000_000
T0 = 1_780_000_000 * S
TURN = 10 * MS


class World:
    """`loss`: the share of data frames that a line does not bring; `delay_ms`: each frame is late by up to so much, in order on its line."""

    def __init__(
        self, venue: str, *, seed: int, channels: tuple[str, ...] = ("book", "trade"), lines: int = 2, loss: float = 0.0,
        delay_ms: float = 30, rate: float = 200, symbols: int = 2, faults: tuple[str, ...] = (), timing: Timing | None = None,
        restart_every: int = 0, dial_s: float = 0.005,
    ) -> None:  # fmt: skip
        kind, other = dialect(venue), counterpart(venue)
        self.random, self.loss, self.delay = Random(seed), loss, delay_ms * MS
        self.now = T0
        self.market = Market(listings(symbols, seed, other.size_decimals), kind.native, seed, T0, history=True)
        self.venue = Venue(other, self.market, T0, rate=rate, faults=parse(faults), seed=seed, watch=False)
        wants = tuple(
            Want(channel, raw, kind.canonical(raw, kind.url), 0) for raw in self.market.listed for channel in channels
        )
        wants = tuple(
            Want(w.channel, w.raw, w.symbol, 100 if w.channel == "book" and venue.startswith("kraken") else 0)
            for w in wants
        )
        self.feed = Feed(
            "f",
            venue,
            venue,
            kind,
            kind.url,
            kind.rest_url,
            wants,
            Names(kind, kind.url),
            timing or Timing(),
            lines=lines,
        )
        self.pump = self.fresh()
        self.box = self.consumer()
        self.events: list[Any] = []
        self.effects: list[Effect] = []
        self.journal: list[tuple[str, tuple[Any, ...]]] = []
        self.queue: list[tuple[int, int, str, Any]] = []
        self.count = 0
        self.clients: dict[str, int] = {}
        self.sources: dict[int, str] = {}
        self.arrive: dict[int, int] = {}
        self.leave: dict[str, int] = {}
        self.lost = {"f-1": 0, "f-1b": 0}
        self.sent: dict[str, int] = {}
        self.restart_every, self.dial_s = restart_every, dial_s
        self.peak = 0
        self.apply(self.pump.start(self.now))

    def fresh(self) -> Pump:
        return Pump([self.feed], seed=7, now=T0, flow=True)

    def consumer(self) -> Mailbox:
        box = Mailbox("all", drop_oldest, 1_000_000)
        kinds = ("book_delta", "trade", "quote", "ticker", "bar")
        self.pump.router.subscribe(box, [(kind, "*", "*") for kind in kinds])
        return box

    # -- time

    def run(self, seconds: float) -> World:
        end = self.now + round(seconds * S)
        while self.now < end:
            self.now += TURN
            self.acts(self.venue.tick(self.now))
            while self.queue and self.queue[0][0] <= self.now:
                at, _, what, item = heapq.heappop(self.queue)
                self.happen(what, item, at)
            due = self.pump.deadline
            if due is not None and due <= self.now:
                self.call("tick", self.now)
            self.pump.router.flush(self.now)
            self.events += self.box.take(1_000_000, self.now)
        return self

    def later(self, delay: float, what: str, item: Any) -> None:
        self.count += 1
        heapq.heappush(self.queue, (self.now + round(delay), self.count, what, item))

    def happen(self, what: str, item: Any, at: int) -> None:
        if what == "open":
            self.open(item, at)
        elif what == "frame":
            client, data = item
            if client in self.sources:
                self.call("frame", self.sources[client], data, at)
        elif what == "send":
            client, data = item
            if client in self.sources:
                self.acts(self.venue.received(client, data, at))
        elif what == "gone":
            self.gone(*item, at=at)
        elif what == "fetch":
            split = urlsplit(item.url)
            reply = self.venue.http(split.path, dict(parse_qsl(split.query)), at)
            self.later(self.lag(), "fetched", (item.source, item.ref, reply))
        elif what == "fetched":
            source, ref, reply = item
            self.call("fetched", source, ref, reply.status, reply.body, at)
        elif what == "pong":
            client, source, began = item
            if self.clients.get(source) == client:
                self.call("sampled", source, "pong", float(at - began), at)

    def call(self, what: str, *given: Any) -> None:
        self.journal.append((what, given))
        if self.restart_every and len(self.journal) % self.restart_every == 0:
            state = checkpoint.save(self.pump)
            self.pump = self.fresh()
            self.pump.start(T0)
            checkpoint.load(self.pump, state)
            self.box = self.consumer()
        self.apply(getattr(self.pump, what)(*given))
        if self.restart_every:
            self.pump.router.flush(self.now)
            self.events += self.box.take(1_000_000, self.now)

    # -- network

    def lag(self) -> float:
        return self.random.random() * self.delay

    def apply(self, effects: list[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            match effect:
                case Open():
                    self.later(self.dial_s * S + self.lag(), "open", effect)
                case Send():
                    client = self.clients.get(effect.source)
                    at = self.leave[effect.source] = max(self.leave.get(effect.source, 0), self.now + round(self.lag()))
                    self.later(at - self.now, "send", (client, effect.data))
                case Ping():
                    client = self.clients.get(effect.source)
                    self.later(2 * self.lag(), "pong", (client, effect.source, self.now))
                case Close():
                    self.hang_up(effect.source, effect.reason)
                case Fetch():
                    self.later(self.lag(), "fetch", effect)

    def open(self, effect: Open, at: int) -> None:
        number = self.count = self.count + 1
        self.clients[effect.source], self.sources[number] = number, effect.source
        self.peak = max(self.peak, len(self.clients))
        split = urlsplit(effect.url)
        self.call("opened", effect.source, at)
        self.acts(self.venue.opened(number, f"{split.path or '/'}?{split.query}".rstrip("?"), at))

    def hang_up(self, source: str, reason: str) -> None:
        """Our side closes: what is on its way to us is not read any more."""
        client = self.clients.pop(source, None)
        if client is None:
            return
        del self.sources[client]
        self.venue.gone(client, self.now)
        self.call("lost", source, reason, self.now)

    def kill(self, source: str) -> None:
        """The connection breaks: what is on its way is lost with it."""
        client = self.clients[source]
        self.venue.gone(client, self.now)
        self.gone(client, "connection_lost: killed", 1006, at=self.now)

    def gone(self, client: int, why: str, code: int, *, at: int) -> None:
        source = self.sources.pop(client, None)
        if source is not None:
            self.clients.pop(source, None)
            self.call("lost", source, why, at, code)

    def acts(self, acts: list[Any]) -> None:
        for act in acts:
            client = act.client if not isinstance(act, type) and hasattr(act, "client") else -1
            if client not in self.sources:
                continue
            at = self.arrive[client] = max(self.arrive.get(client, 0), self.now + round(self.lag()))
            if isinstance(act, Say):
                for frame in act.frames:
                    self.say(client, frame, at)
            elif isinstance(act, Hang | Cut):
                code = act.code if isinstance(act, Hang) else 1006
                self.venue.gone(client, self.now)
                self.later(at - self.now, "gone", (client, f"closed_by_venue: {code}", code))

    def say(self, client: int, frame: bytes, at: int) -> None:
        source = self.sources[client]
        data = b'"update"' in frame or b'"e":' in frame or b'"u":' in frame
        if data:
            self.sent[source] = self.sent.get(source, 0) + 1
            if self.random.random() < self.loss:
                self.lost[source] = self.lost.get(source, 0) + 1
                return
        self.later(at - self.now, "frame", (client, bytes(frame)))

    # -- what came of it

    def gaps(self) -> list[Gap]:
        return [event for event in self.events if isinstance(event, Gap)]

    def states(self) -> list[tuple[str, str, str]]:
        return [(e.channel, e.symbol, e.state) for e in self.events if isinstance(e, Status) and e.channel]

    def trades(self, raw: str) -> list[Trade]:
        return [event for event in self.events if isinstance(event, Trade) and event.raw == raw]

    def books(self, raw: str) -> list[Book]:
        return [event for event in self.events if isinstance(event, Book) and event.raw == raw]

    def settle(self) -> World:
        """No more loss, and the venue stands still: what is on its way arrives."""
        self.venue.rate = 0.0
        self.venue.started(self.now)
        return self.run(2.0)

    def replayed(self) -> str:
        """The digest of the same records, played again."""
        pump = self.fresh()
        pump.start(T0)
        for what, given in self.journal:
            getattr(pump, what)(*given)
        return pump.digest.value()
