"""Everything at once: publisher, modes, patterns, late joins, leaving, taking, losing books and closing, against a naive model.

The model is a world with true books, whose every event carries its number on its topic, and for each consumer what it believes after
what it took. What must hold at every step: the ledger balances and agrees with what the world counted; per topic nothing comes twice
or goes back; every number that a consumer did not see was told by a Lagged just before; a conflated trade stands for exactly the trades
since the last one; a book rebuilt from changes is the true book of that moment.
"""

from collections import defaultdict
from math import isclose

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from truetape.core.route import shed
from truetape.core.route.mailbox import Mailbox, Mode
from truetape.core.route.modes import conflate, disconnect, drop_newest, drop_oldest, max_age
from truetape.core.route.router import Pattern, Router, Topic
from truetape.model.event import KINDS, Bar, Book, Gap, Lagged, Market, Quote, Status, Ticker, Trade

MS = 1_000_000
VENUES = ("kraken", "okx")
SYMBOLS = ("BTC-USD",)
KINDS_ASKED = ("trade", "quote", "book", "book_delta", "bar", "ticker")
MODES: tuple[Mode, ...] = (
    drop_oldest,
    drop_newest,
    disconnect,
    max_age(0.02),
    conflate(),
    conflate(ms=5),
    conflate(ms=8),
)
PATTERNS = st.lists(
    st.tuples(st.sampled_from(KINDS_ASKED), st.sampled_from((*VENUES, "*")), st.sampled_from((*SYMBOLS, "*"))),
    min_size=1,
    max_size=4,
)
BookSides = tuple[dict[float, float], dict[float, float]]


class TrueBook:
    """A book as the venue has it; `history` remembers what it was at each of its numbers."""

    def __init__(self, venue: str, symbol: str) -> None:
        self.venue, self.symbol = venue, symbol
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}
        self.live = False
        self.seq = 0
        self.history: dict[int, BookSides] = {}

    def event(self, now: int, snapshot: bool, bids: list[tuple[float, float]], asks: list[tuple[float, float]]) -> Book:
        return Book(self.venue, self.symbol, self.symbol, now, now, bids, asks, snapshot, seq=self.seq)

    def state(self, depth: int) -> Book | None:
        if not self.live:
            return None
        bids = sorted(self.bids.items(), reverse=True)[: depth or None]
        return self.event(0, True, bids, sorted(self.asks.items())[: depth or None])

    def change(self, now: int, bids: list[tuple[float, float]], asks: list[tuple[float, float]]) -> Book:
        self.seq += 1
        apply(self.bids, bids)
        apply(self.asks, asks)
        self.history[self.seq] = (dict(self.bids), dict(self.asks))
        return self.event(now, False, bids, asks)


def apply(side: dict[float, float], levels: list[tuple[float, float]]) -> None:
    for price, size in levels:
        if size:
            side[price] = size
        else:
            side.pop(price, None)


class Consumer:
    """What one reader believes after what it took."""

    def __init__(self, box: Mailbox) -> None:
        self.box = box
        self.patterns: dict[Pattern, None] = {}
        self.last: dict[tuple[str, str, str], int] = {}
        self.missed: dict[tuple[str, str, str], int] = defaultdict(int)
        self.seen: dict[tuple[str, str, str], int] = {}
        self.books: dict[tuple[str, str, str], BookSides] = {}
        self.received = 0
        self.delivered = 0
        self.told = 0
        self.finished = False
        self.conflating = box.mode.name == "conflate"

    def wants(self, topic: Topic) -> bool:
        return any(
            k == topic.kind and v in ("*", topic.venue) and s in ("*", topic.symbol) for k, v, s in self.patterns
        )


class Gateway(RuleBasedStateMachine):
    """Hypothesis plays the venues, the driver and the consumers."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Router(relief=7)
        self.now = 1_000 * MS
        self.books = {(v, s): TrueBook(v, s) for v in VENUES for s in SYMBOLS}
        self.consumers: list[Consumer] = []
        self.sent: dict[tuple[str, str, str], list[Market]] = defaultdict(list)
        self.notices: dict[Mailbox, int] = defaultdict(int)

    # -- the world

    def topic(self, kind: str, venue: str, symbol: str) -> Topic:
        topic = self.router.topic(kind, venue, symbol)
        if kind in ("book", "book_delta"):
            topic.state = self.books[venue, symbol].state
        for consumer in self.consumers:
            if consumer.wants(topic):
                consumer.last.setdefault(topic.key, topic.published)
        return topic

    def publish(self, topic: Topic, event: Market) -> None:
        for consumer in self.consumers:
            consumer.received += consumer.wants(topic) and consumer.box.closed_reason is None
        self.sent[topic.key].append(event)
        self.router.publish(topic, event)

    @initialize(
        boxes=st.lists(
            st.tuples(st.sampled_from(MODES), st.integers(1, 6), st.integers(0, 2), PATTERNS), min_size=2, max_size=5
        ),
        live=st.booleans(),
    )
    def open_boxes(self, boxes: list[tuple[Mode, int, int, list[Pattern]]], live: bool) -> None:
        for venue in VENUES[: 2 * live]:
            self.heal_book(venue, SYMBOLS[0], quietly=False)
        for n, (mode, bound, depth, patterns) in enumerate(boxes):
            self.consumers.append(Consumer(Mailbox(f"box {n}", mode, bound, depth)))
            self.subscribe(n, patterns)

    @rule(
        kind=st.sampled_from(("trade", "quote", "bar", "ticker")),
        venue=st.sampled_from(VENUES),
        symbol=st.sampled_from(SYMBOLS),
        times=st.integers(1, 9),
        size=st.sampled_from((0.1, 0.3, 7.0, 1e-9)),
    )
    def publish_data(self, kind: str, venue: str, symbol: str, times: int, size: float) -> None:
        topic = self.topic(kind, venue, symbol)
        for _ in range(times):
            n = topic.published + 1
            head = (venue, symbol, symbol, n, self.now)
            event: Market
            match kind:
                case "trade":
                    event = Trade(*head, price=100.0 + n / 7, size=size * n, side="buy", id=str(n))
                case "quote":
                    event = Quote(*head, bid=n, bid_size=1.0, ask=n + 1.0, ask_size=1.0)
                case "bar":
                    event = Bar(*head, "1m", n // 4, 1.0, 1.0, 1.0, float(n), 1.0, closed=n % 4 == 3)
                case _:
                    event = Ticker(*head, last=float(n))
            self.publish(topic, event)

    @rule(
        venue=st.sampled_from(VENUES),
        symbol=st.sampled_from(SYMBOLS),
        changes=st.lists(
            st.tuples(st.booleans(), st.integers(1, 6), st.sampled_from((0.0, 1.0, 2.5))), min_size=1, max_size=6
        ),
    )
    def change_book(self, venue: str, symbol: str, changes: list[tuple[bool, int, float]]) -> None:
        book = self.books[venue, symbol]
        if not book.live:
            return
        delta, whole = self.topic("book_delta", venue, symbol), self.topic("book", venue, symbol)
        for bid, price, size in changes:
            levels = [(float(price if bid else 10 + price), size)]
            self.publish(delta, book.change(self.now, levels if bid else [], [] if bid else levels))
            state = book.state(whole.depth)
            if whole.puts and state is not None:
                self.publish(whole, state)

    @rule(venue=st.sampled_from(VENUES), symbol=st.sampled_from(SYMBOLS))
    def lose_book(self, venue: str, symbol: str) -> None:
        book = self.books[venue, symbol]
        if book.live:
            book.live = False
            self.notify(Gap(venue, symbol, symbol, self.now, "book", self.now, self.now, "sequence"))

    @rule(venue=st.sampled_from(VENUES), symbol=st.sampled_from(SYMBOLS), quietly=st.booleans())
    def heal_book(self, venue: str, symbol: str, quietly: bool) -> None:
        """With a snapshot; or quietly, as when doubt is lifted without one."""
        book = self.books[venue, symbol]
        if book.live:
            return
        delta, whole = self.topic("book_delta", venue, symbol), self.topic("book", venue, symbol)
        book.live = True
        self.notify(Status(venue, symbol, symbol, self.now, "book", "LIVE", ""))
        if quietly and book.seq:
            return
        book.change(self.now, [(1.0, 1.0 + book.seq)], [(11.0, 1.0)])
        self.publish(delta, book.event(self.now, True, list(book.bids.items()), list(book.asks.items())))
        state = book.state(whole.depth)
        if whole.puts and state is not None:
            self.publish(whole, state)

    @rule(venue=st.sampled_from(VENUES))
    def drop_connection(self, venue: str) -> None:
        self.notify(Status(venue, "line 1", "", self.now, "", "BACKOFF", "lost"))

    def notify(self, event: Gap | Status) -> None:
        self.router.notify(event)
        for consumer in self.consumers:
            if consumer.box.closed_reason is None:
                self.notices[consumer.box] += any(
                    v in ("*", event.venue) and (not event.channel or s in ("*", event.symbol))
                    for _, v, s in consumer.patterns
                )

    # -- the driver

    @rule(ms=st.integers(0, 12))
    def flush(self, ms: int) -> None:
        self.now += ms * MS
        waiting = [consumer.box for consumer in self.consumers if consumer.box.waiting]
        woken = self.router.flush(self.now)
        assert len(set(woken)) == len(woken)
        assert set(woken) <= set(waiting)
        for box in woken:
            assert box.ready(self.now)
        for box in set(waiting) - set(woken):
            assert not box.ready(self.now), f"{box.name} waits, has something, and was not woken"
            if box.deadline is not None and box.closed_reason is None:
                assert self.router.deadline is not None
                assert self.now < self.router.deadline <= box.deadline

    # -- the consumers

    @rule(
        which=st.integers(0, 4),
        patterns=PATTERNS,
    )
    def subscribe(self, which: int, patterns: list[Pattern]) -> None:
        consumer = self.consumers[which % len(self.consumers)]
        kinds = {kind for kind, _, _ in (*consumer.patterns, *patterns)}
        if {"book", "book_delta"} <= kinds:
            patterns = [p for p in patterns if p[0] != "book_delta"]
            if any(kind == "book_delta" for kind, _, _ in consumer.patterns):
                patterns = [p for p in patterns if p[0] != "book"]
        wanted = set(self.router.wanted())
        joined = {key for key, topic in self.router.topics.items() if consumer.wants(topic)}
        first = self.router.subscribe(consumer.box, patterns)
        if consumer.box.closed_reason is not None:
            assert first == []
            return
        assert set(first) == set(patterns) - wanted
        consumer.patterns.update(dict.fromkeys(patterns))
        for key, topic in self.router.topics.items():
            if consumer.wants(topic) and key not in joined:
                consumer.last[key] = topic.published
                consumer.books.pop(key, None)

    @rule(which=st.integers(0, 4), data=st.data())
    def unsubscribe(self, which: int, data: st.DataObject) -> None:
        consumer = self.consumers[which % len(self.consumers)]
        if not consumer.patterns:
            return
        patterns = data.draw(st.lists(st.sampled_from(list(consumer.patterns)), min_size=1, max_size=2))
        consumer.box.settle(self.now)
        lags = [(key, lag.count) for key, lag in consumer.box.lags.items()]
        last = self.router.unsubscribe(consumer.box, patterns)
        for pattern in patterns:
            consumer.patterns.pop(pattern, None)
        assert set(last) == {p for p in patterns if all(p not in c.patterns for c in self.consumers)}
        for key in [key for key in consumer.last if not consumer.wants(self.router.topics[key])]:
            del consumer.last[key]
            consumer.missed[key] = -sum(
                count for lagging, count in lags if lagging == key
            )  # told later, of the time before

    @rule(which=st.integers(0, 4))
    def close(self, which: int) -> None:
        consumer = self.consumers[which % len(self.consumers)]
        if len([c for c in self.consumers if c.box.closed_reason is None]) > 2:
            self.router.close(consumer.box)
            consumer.patterns.clear()

    @rule(which=st.integers(0, 4), most=st.sampled_from((1, 2, 3, 100)), ms=st.integers(0, 3))
    def take(self, which: int, most: int, ms: int) -> None:
        self.now += ms * MS
        self.read(self.consumers[which % len(self.consumers)], most)

    @rule(which=st.integers(0, 4))
    def take_all(self, which: int) -> None:
        while self.read(self.consumers[which % len(self.consumers)], 100):
            pass

    @rule(want=st.sampled_from((1, 600, 2_000, 1_000_000)), superseded=st.booleans())
    def memory_is_short(self, want: int, superseded: bool) -> None:
        boxes = [consumer.box for consumer in self.consumers]
        before = sum(box.dropped for box in boxes)
        events, size = shed.relieve(boxes, want, self.now, superseded=superseded)
        assert sum(box.dropped for box in boxes) - before >= events  # settling may drop for the bound, too
        assert events > 0 or size == 0  # what this test remembers of the events is not free

    def read(self, consumer: Consumer, most: int) -> int:
        box = consumer.box
        batch = box.take(most, self.now)
        assert len(batch) <= most
        assert box.waiting == (not batch and box.closed_reason is None)
        for event in batch:
            match event:
                case Lagged():
                    key = (event.topic, event.venue, event.symbol)
                    assert event.dropped > 0
                    consumer.missed[key] += event.dropped
                    consumer.told += event.dropped
                case Gap() | Status():
                    self.notices[box] -= 1
                case _:
                    consumer.delivered += 1
                    self.check(consumer, event)
        return len(batch)

    def check(self, consumer: Consumer, event: Market) -> None:
        """One data event against what its reader knew before."""
        kind = KINDS[type(event)]
        if kind == "book" and any(p[0] == "book_delta" for p in consumer.patterns):
            kind = "book_delta"
        key = (kind, event.venue, event.symbol)
        assert key in consumer.last, f"{key} came to {consumer.box.name}, which does not want it"
        missed = consumer.missed.pop(key, 0)
        match event:
            case Book() if kind == "book_delta":
                self.check_change(consumer, key, event, missed)
            case Book():
                depth = consumer.box.depth
                bids, asks = self.books[event.venue, event.symbol].history[event.seq]
                assert event.snapshot
                assert event.bids == sorted(bids.items(), reverse=True)[: depth or None]
                assert event.asks == sorted(asks.items())[: depth or None]
                assert event.seq >= consumer.seen.get(key, 0)
                consumer.seen[key] = event.seq
            case Bar() if consumer.conflating:
                assert event.ts == max(
                    b.ts for b in self.sent[key] if isinstance(b, Bar) and b.start == event.start and b.ts <= event.ts
                )
                self.in_order(consumer, key, event.ts)
            case Trade() if consumer.conflating:
                number = int(event.id)
                meant = self.sent[key][number - event.count : number]
                assert missed or number - event.count == consumer.last[key]
                self.same_sums(event, [trade for trade in meant if isinstance(trade, Trade)])
                self.in_order(consumer, key, number)
            case Trade() | Quote() | Bar() | Ticker():
                if not consumer.conflating:
                    assert event.ts == consumer.last[key] + missed + 1, (
                        f"{key}: after {consumer.last[key]}, {missed} missed"
                    )
                    assert event == self.sent[key][event.ts - 1]
                self.in_order(consumer, key, event.ts)

    @staticmethod
    def in_order(consumer: Consumer, key: tuple[str, str, str], number: int) -> None:
        assert number > consumer.last[key], f"{key}: {number} after {consumer.last[key]}"
        consumer.last[key] = number

    @staticmethod
    def same_sums(event: Trade, meant: list[Trade]) -> None:
        """A merged trade keeps count, volume and notional of what it stands for."""
        if event.count == 1:
            assert event == meant[-1]
            return
        last = meant[-1]
        assert len(meant) == event.count
        assert (event.price, event.id, event.ts, event.recv) == (last.price, last.id, last.ts, last.recv)
        assert (event.first_ts, event.last_ts) == (meant[0].ts, last.ts)
        assert isclose(event.size, sum(t.size for t in meant), rel_tol=1e-9)
        assert isclose(event.size * event.vwap, sum(t.size * t.price for t in meant), rel_tol=1e-9)

    def check_change(self, consumer: Consumer, key: tuple[str, str, str], event: Book, missed: int) -> None:
        """Whatever was lost, what the reader has after this is the true book of that moment."""
        last = consumer.last[key]
        if consumer.conflating:
            assert event.snapshot
            assert event.seq >= last
        elif event.snapshot and (missed or key not in consumer.books):
            assert last <= event.seq <= last + missed + 1  # a lost state counts as missed, but has no number of its own
        else:
            assert missed == 0, "a Lagged for a book must be followed by a whole state"
            assert event.seq == last + 1
        if event.snapshot:
            consumer.books[key] = (dict(event.bids), dict(event.asks))
        bids, asks = consumer.books[key]
        if not event.snapshot:
            apply(bids, event.bids)
            apply(asks, event.asks)
        true_bids, true_asks = self.books[event.venue, event.symbol].history[event.seq]
        depth = consumer.box.depth if consumer.conflating else 0
        assert sorted(bids.items()) == sorted(sorted(true_bids.items(), reverse=True)[: depth or None])
        assert sorted(asks.items()) == sorted(true_asks.items())[: depth or None]
        consumer.last[key] = event.seq

    # -- what always holds

    @invariant()
    def ledgers_balance(self) -> None:
        """Reading a ledger settles the box, which could hide something: every second box is audited now and then only."""
        for consumer in self.consumers[::2]:
            self.audit(consumer)

    @rule(which=st.integers(0, 4))
    def read_ledger(self, which: int) -> None:
        self.audit(self.consumers[which % len(self.consumers)])

    def audit(self, consumer: Consumer) -> None:
        box = consumer.box
        ledger = box.ledger()
        assert ledger.balanced, f"{box.name} {box.mode.name}: {ledger}"
        assert ledger.delivered == consumer.delivered
        assert min(ledger.conflated, ledger.dropped, ledger.expired, ledger.queued) >= 0
        if box.closed_reason is None:
            assert ledger.received == consumer.received + box.stats.recalled
            assert ledger.queued <= box.bound + (len(box.topics) + len(box.inbox) if consumer.conflating else 1)
        else:
            assert ledger.queued == 0

    def teardown(self) -> None:
        """All read to the end: nothing is left, every loss was told, every notice came, and the last is the latest."""
        for consumer in self.consumers:
            box = consumer.box
            self.router.flush(self.now)
            self.now += 100 * MS if consumer.conflating else 0
            while self.read(consumer, 3):
                pass
            self.audit(consumer)
            ledger = box.ledger()
            assert ledger.queued == 0
            assert self.notices[box] == 0
            assert (box.others, box.data()) == (0, 0)
            assert len(self.router._alarms) <= len(self.consumers)
            untold = sum(lag.count for lag in box.broken.values())
            assert ledger.dropped + ledger.expired == consumer.told + untold + box.stats.withdrawn
            if box.closed_reason is None and box.mode.name == "conflate":
                for key, topic in box.topics.items():
                    if key[0] in ("trade", "quote", "ticker") and not consumer.missed.get(key):
                        assert consumer.last[key] == topic.published


TestGateway = Gateway.TestCase
TestGateway.settings = settings(max_examples=150, stateful_step_count=50, deadline=None, print_blob=True)


@pytest.mark.soak
class TestGatewayForLong(Gateway.TestCase):  # type: ignore[misc]  # the class is made at run time
    settings = settings(max_examples=10_000, stateful_step_count=80, deadline=None, print_blob=True)
