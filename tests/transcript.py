"""Transcripts: a venue's conversation as a text file, played through the real pump, sessions, books and router.

One line is one step; its first character says what it is, a number right behind that which connection (`<2 …`; the first needs none):

    %   want       % book BTC-USD depth=10 · % trade ETH-USD · % -trade ETH-USD (no more, while it runs) · % url=… rest=… pong=off
    @   clock      @ 12.5 (seconds since the start) · @ +0.5; timers fire on the way, and pings are answered unless pong=off
    !   opened     the connection that we dialled stands
    <   frame in   < {"event":"pong"}
    $   fetched    $ depth:BTCUSDT 200 {"lastUpdateId":1,…}
    ~   lost       ~ 1006 closed by the venue
    >   must send  > {"op":"subscribe"} a subset of the next frame that we send, or its whole text; pings of the protocol are not frames
    ?   must open or fetch     ? wss://ws.kraken.com — a part of the next address
    =   must emit  = trade {"price":1.5} a subset of the next trade, quote, ticker, bar or gap; = delta {…} of a following change of a
                   book and = status {…} of a following change of state, where others may come between; = book {"symbol":…, "state":
                   "LIVE", "bids":[[2,1]], "evidence":…} what the book says now, as far as is written
    x   must close x dead_link — a part of the reason
    #   a comment

Wants, `url` and `rest` before the first other step make the feed; the clock starts at 0. Everything that the pump does must be in the
file, except changes of books and states: an effect or event that nobody asked for fails. A frame `<` is text as the venue sent it.
"""

import json
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from truetape.app.dialects import Names, dialect
from truetape.core.feed.health import Stream
from truetape.core.feed.plan import Feed
from truetape.core.feed.session import Timing
from truetape.core.feed.venue import Want
from truetape.core.route.mailbox import Mailbox
from truetape.core.route.modes import drop_oldest
from truetape.core.route.orders import Order
from truetape.core.route.pump import Pump
from truetape.core.route.router import Router
from truetape.model.effect import Close, Doubt, Effect, Fetch, Open, Ping, Send
from truetape.model.event import KINDS as KIND_OF
from truetape.model.event import Book, Market, Status

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
ROUND_TRIP = 1_000_000
KINDS = ("trade", "quote", "book_delta", "bar", "ticker")
ENCODE = msgspec.msgpack.Encoder().encode


class Complaint(AssertionError):
    """A step that was not fulfilled: file, line, and what was expected and found."""


@dataclass(frozen=True)
class Step:
    """One line."""

    where: str
    kind: str
    conn: int
    text: str


@dataclass(frozen=True)
class Transcript:
    """A file: the venue that its name begins with, and its steps."""

    path: Path
    venue: str
    steps: list[Step]

    @property
    def frames(self) -> list[int]:
        """Which steps are frames."""
        return [at for at, step in enumerate(self.steps) if step.kind == "<"]


def read(path: Path) -> Transcript:
    """A transcript named `<venue>-<topic>.txt`."""
    steps = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        where, kind, rest = f"{path.name}:{number}", text[0], text[1:]
        if kind not in "%@!<$~>?=x" or (rest and not (rest[0].isspace() or rest[0].isdecimal())):
            raise Complaint(
                f"{where}: expected a line that begins with one of % @ ! < $ ~ > ? = x #, found {text[:40]!r}"
            )
        digits, _, body = rest.partition(" ")
        steps.append(Step(where, kind, int(digits or 1), body.strip()))
    return Transcript(path, path.name.partition("-")[0], steps)


@dataclass
class World:
    """What the pump did and nobody asked for yet, and the clock."""

    now: int = START
    effects: dict[str, deque[Effect]] = field(default_factory=dict)
    sent: dict[str, deque[Send]] = field(default_factory=dict)
    events: deque[Market] = field(default_factory=deque)
    deltas: deque[Market] = field(default_factory=deque)
    statuses: deque[Status] = field(default_factory=deque)
    told: list[Market] = field(default_factory=list)


class Player:
    """Plays steps through a pump of its own. `lenient`: expectations are passed over, and the world answers by itself."""

    def __init__(self, transcript: Transcript, *, lenient: bool = False) -> None:
        self.transcript = transcript
        self.lenient = lenient
        self.world = World()
        self.options: dict[str, str] = {}
        self.box = Mailbox("transcript", drop_oldest, 1_000_000)
        self.router = Router()
        self.router.subscribe(self.box, [(kind, "*", "*") for kind in KINDS])
        self.answers = {
            step.text.split(" ", 2)[0]: step.text.split(" ", 2)[1:] for step in transcript.steps if step.kind == "$"
        }
        self.pump: Pump

    # -- playing

    def play(self, steps: Iterable[Step] | None = None) -> None:
        """All steps; afterwards nothing may be left over."""
        rest = deque(self.transcript.steps if steps is None else steps)
        first: list[Step] = []
        while rest and rest[0].kind == "%":
            first.append(rest.popleft())
        self.pump = self.start(first)
        for step in rest:
            self.step(step)
        if not self.lenient:
            self.leftovers()

    def start(self, steps: list[Step]) -> Pump:
        kind = dialect(self.transcript.venue)
        for step in steps:
            self.options |= dict(
                word.split("=", 1) for word in step.text.split() if "=" in word and "depth=" not in word
            )
        url, rest = self.options.get("url", kind.url), self.options.get("rest", kind.rest_url)
        names = Names(kind, url)
        asked = tuple(want for step in steps if (want := self.want(step, url)) is not None)
        for want in asked:
            names[want.raw] = want.symbol
        venue = self.transcript.venue
        feed = Feed(venue, venue, venue, kind, url, rest, asked, names, Timing(jitter=0.0), "streams" in self.options)
        pump = self.pump = Pump([feed], router=self.router, seed=1, now=self.world.now, flow=True)
        self.did(pump.start(self.world.now))
        return pump

    def want(self, step: Step, url: str) -> Want | None:
        words = [word for word in step.text.lstrip("-").split() if "=" not in word]
        if not words:
            return None
        if len(words) != 2:
            raise Complaint(f"{step.where}: expected a channel and a symbol, found {step.text!r}")
        kind = dialect(self.transcript.venue)
        depth = int(next((word[6:] for word in step.text.split() if word.startswith("depth=")), "0"))
        return Want(words[0], kind.native(words[1]), words[1], depth)

    def step(self, step: Step) -> None:
        match step.kind:
            case "%":
                self.ask(step)
            case "@":
                self.wait(step)
            case "!":
                self.opened(step)
            case "<":
                self.frame(step.conn, step.text.encode("utf-8", "surrogateescape"))
            case "$":
                self.fetched(step)
            case "~":
                self.lost(step)
            case _ if not self.lenient:
                self.expect(step)

    def source(self, number: int) -> str:
        """The transcript's connections are counted over all addresses, in the order of its wants."""
        return list(self.pump.links)[number - 1]

    def is_open(self, number: int) -> bool:
        link = self.pump.links.get(self.source(number))
        return link is not None and link.session is not None and link.session.state == "OPEN"

    def did(self, effects: list[Effect]) -> None:
        """Take in what the pump answered: effects by connection, events in order."""
        world = self.world
        for effect in effects:
            match effect:
                case Ping():
                    if self.options.get("pong") != "off" or self.lenient:
                        self.did(self.pump.sampled(effect.source, "pong", ROUND_TRIP, world.now))
                case Doubt():
                    pass  # a transcript has messages, no frames that could be wrong
                case Send():
                    world.sent.setdefault(effect.source, deque()).append(effect)
                case _:
                    world.effects.setdefault(effect.source, deque()).append(effect)
        self.router.flush(world.now)
        for event in self.box.take(1_000_000, world.now):
            world.told.append(event)
            if isinstance(event, Status):
                world.statuses.append(event)
            elif isinstance(event, Book):
                world.deltas.append(event)
            else:
                world.events.append(event)
        check(self.pump)
        if self.lenient:
            self.obey()

    def obey(self) -> None:
        """The world of a mangled transcript does what it is asked: it opens, closes, and answers with what the file has."""
        for source, effects in list(self.world.effects.items()):
            while effects:
                match effects.popleft():
                    case Open():
                        self.did(self.pump.opened(source, self.world.now))
                    case Close() as close:
                        self.did(self.pump.lost(source, close.reason, self.world.now))
                    case Fetch() as fetch:
                        status, body = (*self.answers.get(fetch.ref, ["503"]), "")[:2]
                        self.did(
                            self.pump.fetched(
                                source, fetch.ref, int(status), body.encode("utf-8", "surrogateescape"), self.world.now
                            )
                        )

    # -- steps that are inputs

    def ask(self, step: Step) -> None:
        want = self.want(step, self.options.get("url", ""))
        if want is None:
            raise Complaint(f"{step.where}: url and rest belong to the top of the file")
        order = Order("unwant" if step.text.startswith("-") else "want", self.source(step.conn), [want])
        self.did(self.pump.command(msgspec.json.encode(order), self.world.now))

    def wait(self, step: Step) -> None:
        seconds = float(step.text.removeprefix("+"))
        until = (self.world.now if step.text.startswith("+") else START) + round(seconds * SECOND)
        while (due := self.pump.deadline) is not None and due <= until:
            self.world.now = max(self.world.now, due)
            self.did(self.pump.tick(self.world.now))
        self.world.now = max(self.world.now, until)
        self.did(self.pump.tick(self.world.now))

    def opened(self, step: Step) -> None:
        if not self.lenient:
            self.did(self.pump.opened(self.source(step.conn), self.world.now))

    def frame(self, number: int, data: bytes) -> None:
        if self.lenient and not self.is_open(number):
            return
        self.world.now += 1000
        self.did(self.pump.frame(self.source(number), data, self.world.now))

    def fetched(self, step: Step) -> None:
        if self.lenient:
            return
        ref, status, body = (*step.text.split(" ", 2), "")[:3]
        self.did(
            self.pump.fetched(
                self.source(step.conn), ref, int(status), body.encode("utf-8", "surrogateescape"), self.world.now
            )
        )

    def lost(self, step: Step) -> None:
        if self.lenient and not self.is_open(step.conn):
            return
        code, _, reason = step.text.partition(" ")
        number, why = (int(code), reason) if code.isdecimal() else (0, step.text)
        self.did(self.pump.lost(self.source(step.conn), why, self.world.now, number))

    # -- steps that are expectations

    def expect(self, step: Step) -> None:
        match step.kind:
            case ">":
                self.must_send(step)
            case "?":
                effect = self.next_effect(step, (Open, Fetch), "open or fetch")
                if not isinstance(effect, Open | Fetch) or step.text not in effect.url:
                    raise Complaint(f"{step.where}: expected to open or fetch {step.text}, found {effect}")
            case "x":
                effect = self.next_effect(step, (Close,), "close")
                if not isinstance(effect, Close) or step.text not in effect.reason:
                    raise Complaint(f"{step.where}: expected to close for {step.text}, found {effect}")
            case "=":
                self.must_emit(step)

    def next_effect(self, step: Step, kinds: tuple[type, ...], what: str) -> Effect:
        effects = self.world.effects.get(self.source(step.conn), deque())
        if not effects:
            raise Complaint(f"{step.where}: expected to {what} {step.text}, found nothing done")
        return effects.popleft()

    def must_send(self, step: Step) -> None:
        sent = self.world.sent.get(self.source(step.conn), deque())
        if not sent:
            raise Complaint(f"{step.where}: expected to send {step.text}, found nothing sent")
        data = sent.popleft().data.decode()
        if data == step.text:
            return
        try:
            wanted, found = json.loads(step.text), json.loads(data)
        except ValueError:
            raise Complaint(f"{step.where}: expected to send {step.text}, found {data}") from None
        if (why := differs(wanted, found)) is not None:
            raise Complaint(f"{step.where}: expected to send {step.text}, found {data}: {why}")

    def must_emit(self, step: Step) -> None:
        name, _, text = step.text.partition(" ")
        wanted = parsed(step, text or "{}")
        if name == "book":
            if (why := differs(wanted, self.book(wanted))) is not None:
                raise Complaint(f"{step.where}: {why}")
            return
        loose = {"status": self.world.statuses, "delta": self.world.deltas}.get(name)
        queue: deque[Any] = self.world.events if loose is None else loose
        if loose is None:
            wanted |= {"kind": name}
        seen = []
        while queue:
            event = queue.popleft()
            why = differs(wanted, {"kind": KIND_OF[type(event)], **msgspec.structs.asdict(event)})
            if why is None:
                return
            seen.append(f"{event}: {why}")
            if loose is None:
                break
        raise Complaint(f"{step.where}: expected {step.text}, found {'; '.join(seen[-3:]) or 'nothing emitted'}")

    def book(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """What a book says now; levels only where it is LIVE, and no more of them than are asked about."""
        name = wanted.get("symbol")
        for stream in self.books():
            if name in (stream.symbol, stream.raw):
                sync = stream.sync
                assert sync is not None, "books have a sync"
                live = sync.live and stream.state == "LIVE"
                sides = {"bids": sync.book.bids(), "asks": sync.book.asks()} if live else {"bids": [], "asks": []}
                return {
                    "symbol": name,
                    "raw": stream.raw,
                    "state": stream.state,
                    "reason": stream.reason,
                    "evidence": sync.evidence,
                    "seq": sync.seq,
                    "trusted_depth": sync.trusted_depth,
                    **{side: [list(level) for level in levels] for side, levels in sides.items()},
                    **msgspec.structs.asdict(sync.counts),
                }
        return {"symbol": f"no book of {name}"}

    def books(self) -> list[Stream]:
        return [stream for link in self.pump.links.values() for stream in link.book_streams()]

    def leftovers(self) -> None:
        """What was done or said and nobody expected."""
        end = f"{self.transcript.path.name}: at the end"
        for queues, what in ((self.world.effects, "did"), (self.world.sent, "sent")):
            for source, queue in queues.items():
                if queue:
                    raise Complaint(f"{end}, {source} {what} what no line expects: {queue[0]}")
        if self.world.events:
            raise Complaint(f"{end}, no line expects {self.world.events[0]}")

    def outcome(self) -> tuple[str, list[Market]]:
        """What two plays of the same must agree on."""
        return self.pump.digest.value(), self.world.told


def parsed(step: Step, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Complaint(f"{step.where}: expected JSON behind the kind, found {text!r}: {error}") from None
    if not isinstance(found, dict):
        raise Complaint(f"{step.where}: expected an object, found {text!r}")
    return found


def differs(wanted: Any, found: Any, path: str = "") -> str | None:
    """Why `found` does not hold `wanted`: objects may hold more, text that ends in … need only begin so; None where it does."""
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return f"at {path or 'the top'} expected an object, found {found!r}"
        for key, value in wanted.items():
            if key not in found:
                return f"expected {path}{key}, found none"
            if (why := differs(value, found[key], f"{path}{key}.")) is not None:
                return why
        return None
    if isinstance(wanted, list) and isinstance(found, list | tuple):
        if len(wanted) != len(found):
            return f"at {path[:-1]} expected {wanted}, found {found}"
        whys = (differs(a, b, f"{path}{at}.") for at, (a, b) in enumerate(zip(wanted, found, strict=True)))
        return next((why for why in whys if why is not None), None)
    if isinstance(wanted, str) and wanted.endswith("…") and isinstance(found, str):
        same = found.startswith(wanted[:-1])
    else:
        same = wanted == found and isinstance(wanted, bool) == isinstance(found, bool)
    return None if same else f"at {path[:-1]} expected {wanted!r}, found {found!r}"


def check(pump: Pump) -> None:
    """What must hold at any instant: a LIVE book is sorted, not crossed, and made of finite numbers above zero."""
    for link in pump.links.values():
        for stream in link.book_streams():
            sync = stream.sync
            assert sync is not None, "books have a sync"
            assert sync.live or stream.state != "LIVE", f"{stream.raw} is called LIVE, its book is {sync.state}"
            if not sync.live:
                continue
            bids, asks = sync.book.bids(), sync.book.asks()
            prices = [[price for price, _ in side] for side in (bids, asks)]
            assert all(math.isfinite(price) and price > 0 for side in prices for price in side), prices
            assert all(math.isfinite(size) and size > 0 for side in (bids, asks) for _, size in side), (bids, asks)
            assert prices[0] == sorted(prices[0], reverse=True), f"bids are not best first: {prices[0]}"
            assert prices[1] == sorted(prices[1]), f"asks are not best first: {prices[1]}"
            if sync.rule.snapshot != "whole":  # there only a sample is looked through for prices that stand twice
                assert all(len(set(side)) == len(side) for side in prices), f"a price stands twice: {prices}"
            assert not (bids and asks and bids[0][0] >= asks[0][0]), f"crossed: {bids[0]} {asks[0]}"
