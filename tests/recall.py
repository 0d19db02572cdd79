"""A seeded venue of numbered books for the pump, frame by frame, and an oracle of what was lost: who must be told of which gap.

Frames are spelled as the venues' papers have them. What was sent, and what of it was kept from the pump, is known here by its number; a
message that was kept back while its book was LIVE must lie inside a `Gap`, and no other gap may be told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

import msgspec
from msgspec import Struct, field

from truetape.app.dialects import Names, dialect
from truetape.core.feed.plan import Feed
from truetape.core.feed.session import Timing
from truetape.core.feed.venue import Want
from truetape.core.route.pump import Pump
from truetape.model.effect import Effect, Fetch, Send

S = 1_000_000_000
T0 = 1_780_000_000 * S
STEP = 1_000_000
"""Between two messages, ns."""
TIME = "2026-05-29T00:00:00Z"
CALM = Timing(ping_every_s=0, app_ping_every_s=0, dead_after_s=0, ack_within_s=0, jitter=0, messages_per_s=0)
VENUES = ("binance", "binance_usdm", "bybit", "okx", "coinbase")
SYMBOLS = 20


class Faults(Struct):
    """Chances for each message; `drop` alone is the issue's 0.2 %."""

    drop: float = 0.0
    burst: float = 0.0
    repeat: float = 0.0
    old: float = 0.0
    reset: float = 0.0
    cut: float = 0.0


class Symbol(Struct):
    """One book at the venue: its last number, one size on each side, and what the oracle holds against the gateway."""

    raw: str
    seq: int = 1000
    bid: int = 1
    ask: int = 1
    asked: bool = True
    missing: list[tuple[int, int]] = field(default_factory=list)
    since: int = -1  # from_seq of the gap that is open
    until: int = -1  # its to_seq
    recent: deque[bytes] = field(default_factory=lambda: deque(maxlen=5))
    excused: bool = False  # a cut, or a venue that counts anew: a gap may be told although nothing was kept back
    late: int = 0


class Tally(Struct):
    """What came of it."""

    messages: int = 0
    dropped: int = 0
    dropped_live: int = 0
    found: int = 0
    missed: int = 0
    gaps: int = 0
    false: int = 0
    repeats: int = 0
    resets: int = 0
    cuts: int = 0
    wrong: int = 0
    compared: int = 0
    late: int = 0
    """Messages of the same book that came between a loss and its gap: 0, but where a count that began anew was itself lost."""
    notes: list[str] = field(default_factory=list)


class World:
    """One venue's connection, its pump, and the tally."""

    def __init__(self, venue: str, seed: int, faults: Faults) -> None:
        self.venue, self.random, self.faults = venue, Random(f"{seed}:{venue}"), faults
        kind = dialect(venue)
        names = [kind.native(f"S{i}-USDT{'-PERP' if venue == 'binance_usdm' else ''}") for i in range(SYMBOLS)]
        self.symbols = {raw: Symbol(raw) for raw in names}
        self.rows = list(self.symbols.values())
        wants = tuple(Want("book", raw, raw, 50) for raw in names)
        feed = Feed("v", venue, venue, kind, kind.url, "http://rest", wants, Names(kind, kind.url), CALM)
        self.pump = Pump([feed], now=T0)
        self.source = next(iter(self.pump.links))
        self.link = self.pump.links[self.source]
        self.now = T0
        self.counter = -1  # of frames (coinbase), of numbers over all symbols (futures)
        self.tally = Tally()
        self.owed: deque[tuple[int, Callable[[], None]]] = deque()
        self.gaps_seen = 0
        self.drop_next = 0
        self.change: Callable[[Symbol], bytes] = getattr(self, f"_{venue}")
        self.obey(self.pump.start(self.now))
        self.obey(self.pump.opened(self.source, self.now))
        self.settle()

    # -- the venue --------------------------------------------------------------------------------------------------------

    def _binance(self, s: Symbol) -> bytes:
        first, s.seq = s.seq + 1, s.seq + self.random.choice((1, 1, 2, 7))
        return b'{"e":"depthUpdate","E":1,"s":"%b","U":%d,"u":%d,"b":[["99","%d"]],"a":[["101","%d"]]}' % (
            s.raw.encode(), first, s.seq, s.bid, s.ask,
        )  # fmt: skip

    def _binance_usdm(self, s: Symbol) -> bytes:
        prev = s.seq
        first = self.counter = max(self.counter, prev) + 1
        self.counter = s.seq = first + self.random.choice((0, 1, 5))
        return (
            b'{"e":"depthUpdate","E":1,"T":1,"s":"%b","U":%d,"u":%d,"pu":%d,"b":[["99","%d"]],"a":[["101","%d"]]}'
            % (s.raw.encode(), first, s.seq, prev, s.bid, s.ask)
        )

    def _bybit(self, s: Symbol) -> bytes:
        s.seq += 1
        return self._bybit_frame(s, b"delta")

    def _bybit_frame(self, s: Symbol, kind: bytes) -> bytes:
        raw = s.raw.encode()
        return (
            b'{"topic":"orderbook.50.%b","type":"%b","ts":1,"data":{"s":"%b","b":[["99","%d"]],"a":[["101","%d"]],"u":%d,"seq":1},"cts":1}'
            % (raw, kind, raw, s.bid, s.ask, s.seq)
        )

    def _okx(self, s: Symbol) -> bytes:
        prev, s.seq = s.seq, s.seq + self.random.choice((1, 3, 9))
        return self._okx_frame(s, b"update", prev)

    def _okx_frame(self, s: Symbol, kind: bytes, prev: int) -> bytes:
        return (
            b'{"arg":{"channel":"books","instId":"%b"},"action":"%b","data":[{"bids":[["99","%d","0","1"]],"asks":[["101","%d","0","1"]],'
            b'"ts":"1","checksum":0,"prevSeqId":%d,"seqId":%d}]}' % (s.raw.encode(), kind, s.bid, s.ask, prev, s.seq)
        )

    def _coinbase(self, s: Symbol) -> bytes:
        return self._coinbase_frame(s, b"update")

    def _coinbase_frame(self, s: Symbol, kind: bytes) -> bytes:
        self.counter += 1
        s.seq = self.counter
        row = b'{"side":"%b","event_time":"2026-05-29T00:00:00Z","price_level":"%d","new_quantity":"%d"}'
        rows = row % (b"bid", 99, s.bid) + b"," + row % (b"offer", 101, s.ask)
        return (
            b'{"channel":"l2_data","client_id":"","timestamp":"2026-05-29T00:00:00Z","sequence_num":%d,"events":[{"type":"%b",'
            b'"product_id":"%b","updates":[%b]}]}' % (self.counter, kind, s.raw.encode(), rows)
        )

    def snapshot(self, s: Symbol) -> bytes:
        """The whole book as the stream has it."""
        if self.venue == "bybit":
            return self._bybit_frame(s, b"snapshot")
        return self._okx_frame(s, b"snapshot", -1) if self.venue == "okx" else self._coinbase_frame(s, b"snapshot")

    # -- the wire ---------------------------------------------------------------------------------------------------------

    def obey(self, effects: list[Effect]) -> None:
        """Snapshots that are asked for come some messages later."""
        for effect in effects:
            wait = self.now + self.random.randrange(8) * STEP
            if isinstance(effect, Fetch):
                raw = effect.ref.partition(":")[2]
                self.owed.append((wait, lambda raw=raw: self.fetched(raw)))  # type: ignore[misc]
            elif (
                isinstance(effect, Send)
                and self.venue not in ("binance", "binance_usdm")
                and self.subscribes(effect.data)
            ):
                for s in self.rows:
                    if b'%b"' % s.raw.encode() in effect.data:
                        self.owed.append((wait, lambda s=s: self.deliver(s, self.snapshot(s))))  # type: ignore[misc]

    def subscribes(self, data: bytes) -> bool:
        return b"unsubscribe" not in data and b"subscribe" in data

    def fetched(self, raw: str) -> None:
        s = self.symbols[raw]
        body = b'{"lastUpdateId":%d,"E":1,"T":1,"bids":[["99","%d"]],"asks":[["101","%d"]]}' % (s.seq, s.bid, s.ask)
        self.obey(self.pump.fetched(self.source, f"depth:{raw}", 200, body, self.now))
        self.judge(s)

    def deliver(self, s: Symbol, data: bytes) -> None:
        """One frame reaches the pump."""
        gaps = self.tally.gaps
        effects = self.pump.frame(self.source, data, self.now)
        if effects:
            self.obey(effects)
        self.judge(s)
        if s.missing and self.tally.gaps == gaps and self.live(s):
            s.late += 1
            self.tally.late = max(self.tally.late, s.late)

    def live(self, s: Symbol) -> bool:
        stream = self.link.books[s.raw]
        return stream.sync is not None and stream.sync.live and stream.state == "LIVE"

    def step(self) -> None:
        """One message of the venue, with whatever may befall it."""
        self.now += STEP
        due = self.pump.deadline
        if due is not None and due <= self.now:
            self.obey(self.pump.tick(self.now))
        while self.owed and self.owed[0][0] <= self.now:
            self.owed.popleft()[1]()
        random, faults = self.random.random, self.faults
        s = self.rows[int(random() * SYMBOLS)]
        if faults.cut and random() < faults.cut:
            self.cut()
        if faults.reset and self.venue in ("bybit", "okx") and random() < faults.reset:
            if s.seq > 2:  # a count that begins anew twice within two messages repeats its own numbers
                self.reset(s)
            return
        before = s.seq
        s.bid, s.ask = 1 + int(random() * 9), 1 + int(random() * 9)
        data = self.change(s)
        self.tally.messages += 1
        if faults.burst and random() < faults.burst:
            self.drop_next = 2 + int(random() * 30)
        if self.drop_next or random() < faults.drop:
            self.drop_next = max(0, self.drop_next - 1)
            self.dropped(s, before)
            return
        self.deliver(s, data)
        self.befall(s, data)

    def befall(self, s: Symbol, data: bytes) -> None:
        """The same again, or an old one: neither is a gap. A counter over a whole connection cannot repeat."""
        random, faults = self.random.random, self.faults
        if self.venue == "coinbase":
            return
        if faults.old:
            s.recent.append(data)
        again = data if random() < faults.repeat else s.recent[0] if faults.old and random() < faults.old else None
        if again is not None:
            self.tally.repeats += 1
            self.deliver(s, again)

    def dropped(self, s: Symbol, before: int) -> None:
        self.tally.dropped += 1
        rows = self.rows if self.venue == "coinbase" else [s]
        for each in rows:
            if self.live(each):
                self.tally.dropped_live += 1
                each.missing.append((s.seq if self.venue == "coinbase" else before + 1, s.seq))

    def reset(self, s: Symbol) -> None:
        """The venue restarts one book's count: Bybit sends a whole book numbered 1, OKX goes on from a lower number, chained."""
        self.tally.resets += 1
        s.recent.clear()
        if self.random.random() < 0.5:  # what came just before is lost too
            before = s.seq
            s.bid = 1 + int(self.random.random() * 9)
            self.change(s)
            self.tally.messages += 1
            self.dropped(s, before)
        s.excused = True
        prev, s.seq = s.seq, 1
        self.deliver(
            s, self._bybit_frame(s, b"snapshot") if self.venue == "bybit" else self._okx_frame(s, b"update", prev)
        )

    def cut(self) -> None:
        """The connection breaks, and what comes until it stands again is lost; so may be what came just before."""
        self.tally.cuts += 1
        for s in self.rows:
            s.excused = True
            s.recent.clear()
            if self.live(s) and self.random.random() < 0.5:
                before = s.seq
                s.bid = 1 + int(self.random.random() * 9)
                self.change(s)
                self.tally.messages += 1
                self.dropped(s, before)
        self.owed.clear()
        self.obey(self.pump.lost(self.source, "connection_lost: cut", self.now))
        for s in self.rows:
            self.judge(s)
        for _ in range(self.random.randrange(50)):
            self.change(self.random.choice(self.rows))
        if self.venue == "coinbase":
            self.counter = -1
        self.now += 60 * S
        self.obey(self.pump.tick(self.now))
        self.obey(self.pump.opened(self.source, self.now))

    # -- the oracle -------------------------------------------------------------------------------------------------------

    def judge(self, s: Symbol) -> None:
        """Set what was told against what was kept back."""
        gaps = self.pump.gaps
        while gaps:
            gap = gaps.popleft()
            told = self.symbols[gap.raw]
            if not gap.recovered:
                self.tally.gaps += 1
                told.since, told.until, told.late = gap.from_seq, gap.to_seq, 0
                if not told.missing and not told.excused:
                    self.tally.false += 1
                    self.note(f"false: {gap}")
                continue
            # the number of the first good message afterwards, or that of the snapshot; one count over a connection has the first only
            last = max(gap.to_seq, told.until - 1)
            covered = [row for row in told.missing if told.since < row[0] and (row[1] <= last or told.excused)]
            self.tally.found += len(covered)
            left = [row for row in told.missing if row not in covered]
            if left and self.live(told):
                self.tally.missed += len(left)
                self.note(f"missed: {left} outside of {gap}")
            told.missing, told.since, told.excused = [], -1, False
        stream = self.link.books[s.raw]
        if self.venue != "coinbase" and stream.sync is not None and stream.sync.seq == s.seq and self.live(s):
            self.tally.compared += 1
            book = stream.sync.book
            if (book.bids(1), book.asks(1)) != ([(99.0, float(s.bid))], [(101.0, float(s.ask))]) and not s.missing:
                self.tally.wrong += 1
                self.note(f"wrong: {s} holds {book.bids(1)} {book.asks(1)}")

    def note(self, text: str) -> None:
        if len(self.tally.notes) < 20:
            self.tally.notes.append(f"{self.tally.messages}: {text}")

    def settle(self) -> None:
        """The venue goes on without faults until every book is LIVE and what was lost has been told."""
        faults, self.faults = self.faults, Faults()
        self.drop_next = 0
        for _ in range(60_000):
            if not self.owed and all(self.live(s) and not s.missing for s in self.rows):
                break
            self.step()
        self.faults = faults

    def run(self, messages: int) -> Tally:
        """So many messages, then calm; whatever was still not told is missed."""
        until = self.tally.messages + messages
        while self.tally.messages < until:
            self.step()
        self.settle()
        for s in self.rows:
            self.tally.missed += len(s.missing)
            if s.missing or not self.live(s):
                self.note(f"at the end: {s} {self.link.books[s.raw].state} {self.link.books[s.raw].reason}")
        return self.tally


def told(tally: Tally) -> str:
    """For a failure and for the soak's table."""
    return msgspec.json.format(msgspec.json.encode(tally)).decode()
