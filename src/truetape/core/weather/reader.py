"""A simulated consumer: takes what lies in its box at its own speed, and knows exactly what it should have been given.

The router is watched (`WatchedRouter`), so that every box can be held against what was published on its topics: in a queue the next item is the
next that was published, or a `Lagged` said before it how many are missing; a conflating box ends with the last.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from truetape.core.book.book import OrderBook
from truetape.core.route import modes
from truetape.core.route.mailbox import Key, Mailbox, Mode
from truetape.core.route.router import Router, Topic
from truetape.core.weather.clock import MS, Clock
from truetape.core.weather.scenario import ConsumerPlan
from truetape.model.event import Book, Gap, Lagged, Market, Status, Trade

CHECK_EVERY = 8
"""Takes between two looks at the ledger, which are made a few times a second besides."""


class Violation(AssertionError):
    """Something that must always hold did not."""


class WatchedRouter(Router):
    """A router that remembers what it published on every topic, and tells of gaps."""

    def __init__(self, relief: int = 512) -> None:
        super().__init__(relief)
        self.log: dict[Key, list[Market]] = {}
        self.gaps = 0
        self.gap: Callable[[Gap], None] = _nothing

    def publish(self, topic: Topic, event: Market) -> None:
        """As `Router.publish`."""
        rows = self.log.get(topic.key)
        if rows is None:
            rows = self.log[topic.key] = []
        rows.append(event)
        super().publish(topic, event)

    def notify(self, event: Gap | Status) -> None:
        """As `Router.notify`."""
        if event.__class__ is Gap:
            self.gaps += 1
            self.gap(event)
        super().notify(event)


def mode(plan: ConsumerPlan) -> Mode:
    """The delivery mode of a plan."""
    if plan.mode == "conflate":
        return modes.conflate(plan.value)
    if plan.mode == "max_age":
        return modes.max_age(plan.value)
    return {"drop_newest": modes.drop_newest, "disconnect": modes.disconnect}.get(plan.mode, modes.drop_oldest)


class Reader:
    """One consumer of everything."""

    def __init__(self, number: int, plan: ConsumerPlan, clock: Clock, router: WatchedRouter) -> None:
        self.name = f"consumer-{number}"
        self.plan = plan
        self.clock = clock
        self.router = router
        self.box = Mailbox(self.name, mode(plan), plan.bound, plan.depth)
        router.subscribe(self.box, [(kind, "*", "*") for kind in plan.channels])
        self.slow_ns = 0
        self.quick = False
        self._takes = 0
        self.taken = 0  # data items
        self.gaps = 0
        self.last: dict[Key, Market] = {}
        self.books: dict[Key, OrderBook] = {}  # kept from `book_delta`
        self._next: dict[Key, int] = {}  # which of the published comes next
        self._lagged: dict[Key, int] = {}
        self._whole: dict[Key, None] = {}  # of which the next item must be a whole book
        self._seq: dict[Key, int] = {}
        self._depth: dict[Key, int] = {}

    def wake(self) -> None:
        """The router says that there is something."""
        self.clock.after(self._service(1), self._take)

    def _service(self, items: int) -> int:
        if self.quick:
            return MS
        return int(self.plan.service_ms * MS * (0.5 + 0.5 * min(items, 10))) + self.slow_ns

    def _take(self) -> None:
        items = self.box.take(100 if self.quick else self.plan.most, self.clock.now)
        for item in items:
            self._read(item)
        self._takes += 1
        if not self._takes % CHECK_EVERY:
            self.check()
        if items:
            self.clock.after(self._service(len(items)), self._take)

    def fail(self, text: str) -> None:
        """Raise Violation."""
        raise Violation(f"{self.name} ({self.plan.mode}, bound {self.plan.bound}): {text}")

    # -- what it reads --------------------------------------------------------------------------------------------------

    def _read(self, item: Market) -> None:
        if isinstance(item, Lagged):
            key = (item.topic, item.venue, item.symbol)
            self._lagged[key] = self._lagged.get(key, 0) + item.dropped
            self._whole[key] = None
            return
        if isinstance(item, (Gap, Status)):
            self.gaps += isinstance(item, Gap)
            return
        self.taken += 1
        key = self.box.key(item)
        if key[0] == "book_delta":
            self._change(key, item)
        elif self.plan.mode == "conflate":
            self._latest(key, item)
        else:
            self._in_turn(key, item)
        self.last[key] = item
        self._whole.pop(key, None)

    def _in_turn(self, key: Key, item: Market) -> None:
        """A queue: the next that was published, but for as many as a Lagged told of."""
        at = self._next.get(key, 0) + self._lagged.pop(key, 0)
        rows = self.router.log.get(key, [])
        if at >= len(rows) or not self._same(item, rows[at]):
            found = next((i for i, row in enumerate(rows) if self._same(item, row)), None)
            self.fail(
                f"{key}: expected the published item {at}, found {found} of {len(rows)}: a loss untold, a double or another order"
            )
        self._next[key] = at + 1

    def _latest(self, key: Key, item: Market) -> None:
        """A conflating box: each published event is told of once, by itself or by a later one that stands for it."""
        rows = self.router.log.get(key, [])
        lagged = self._lagged.pop(key, 0)
        at = self._next.get(key, 0) + lagged
        if isinstance(item, Trade):
            end = at + item.count
            if lagged:  # what was dropped may have stood for several
                end = next((i for i in range(end, len(rows) + 1) if getattr(rows[i - 1], "id", "") == item.id), 0)
            if not end or end > len(rows) or getattr(rows[end - 1], "id", "") != item.id:
                self.fail(f"{key}: expected {item.count} trades from number {at} on to end with {item.id}")
            self._next[key] = end
            return
        found = next((i for i in range(at, len(rows)) if self._same(item, rows[i])), None)
        if found is None:
            self.fail(f"{key}: an item that was not published since number {at}")
        self._next[key] = (found or 0) + 1

    def _same(self, item: Market, row: Market) -> bool:
        if item is row:
            return True
        if not (isinstance(item, Book) and isinstance(row, Book)):
            return False
        depth = self.plan.depth
        return (item.recv, item.seq, item.bids[:depth], item.asks[:depth]) == (
            row.recv, row.seq, row.bids[:depth], row.asks[:depth],
        )  # fmt: skip

    def _change(self, key: Key, item: Market) -> None:
        """Changes of a book, each on top of the one before."""
        assert isinstance(item, Book), "cannot happen because the topic is book_delta"
        self._lagged.pop(key, None)
        if key in self._whole and not item.snapshot:
            self.fail(f"{key}: after a Lagged expected a whole book, found a change")
        if item.snapshot:
            book = self.books[key] = OrderBook()
            book.replace(item.bids[:], item.asks[:])
            self._depth[key] = item.depth
        elif key not in self.books:
            self.fail(f"{key}: expected to begin with a whole book, found a change")
        else:
            before = self._seq.get(key, -1)
            if item.first >= 0 and not (item.first <= before + 1 <= item.seq):
                self.fail(f"{key}: expected a change that follows {before}, found {item.first} to {item.seq}")
            book = self.books[key]
            book.apply(item.bids, item.asks)
            if depth := self._depth[key]:
                book.truncate(depth)  # the venue sends no removals for what falls out
        self._seq[key] = item.seq

    # -- what must hold -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """The ledger balances, agrees with what was handed out, and the bound holds."""
        ledger = self.box.ledger()
        if not ledger.balanced:
            self.fail(f"the ledger does not balance: {ledger}")
        if ledger.delivered != self.taken:
            self.fail(f"the ledger says {ledger.delivered} delivered, {self.taken} were")
        room = self.plan.bound + (len(self.box.topics) if self.plan.mode == "conflate" else 1)
        if ledger.queued > room:
            self.fail(f"expected {room} queued at most, found {ledger.queued}")

    def drained(self, whole: Callable[[Key, int], Book | None]) -> None:
        """Nothing is wrong, time has passed, and everything was taken: what it has now is what there is."""
        box = self.box
        if box.closed_reason is not None:
            return
        self.check()
        ledger = box.ledger()
        published = sum(len(rows) for key, rows in self.router.log.items() if key in box.topics)
        if ledger.received - box.recalled != published:
            self.fail(f"the ledger says {ledger.received - box.recalled} received, {published} were published")
        if self.gaps != self.router.gaps:
            self.fail(f"{self.router.gaps} gaps were told, {self.gaps} arrived")
        for key, rows in self.router.log.items():
            if key not in box.topics or not rows:
                continue
            if key[0] == "book_delta":
                self._agrees(key, whole(key, 0))
            elif key in self.last and key not in self._lagged and not self._ended(key, rows):
                self.fail(
                    f"{key}: expected to end with the last of {len(rows)} published, found {self._next.get(key, 0)}"
                )

    def _ended(self, key: Key, rows: list[Market]) -> bool:
        """Whether the last that was published was the last that was read."""
        return self._next.get(key, 0) == len(rows) or (
            self.plan.mode == "conflate" and self._same(self.last[key], rows[-1])
        )

    def _agrees(self, key: Key, book: Book | None) -> None:
        """What was made from changes is the gateway's book."""
        mine = self.books.get(key)
        if book is None:
            return
        if mine is None or key in self._whole:
            self.fail(f"{key}: the book is LIVE, and this consumer was never given a whole one")
            return
        depth = self.plan.depth if self.plan.mode == "conflate" else 0
        ours = book.bids[:depth] if depth else book.bids, book.asks[:depth] if depth else book.asks
        if (mine.bids(depth), mine.asks(depth)) != ours:
            self.fail(f"{key}: the book made from its changes differs from the gateway's")

    def begin_slow(self, ns: int) -> None:
        """It takes so much longer over everything from now on; 0: no longer."""
        self.slow_ns = ns


def whole_of(router: Router) -> Callable[[Key, int], Book | None]:
    """The gateway's whole book of a topic, None where it is not LIVE."""
    return partial(_whole_of, router)


def _whole_of(router: Router, key: Key, depth: int) -> Book | None:
    topic = router.topics.get(key)
    return topic.state(depth) if topic is not None and topic.state is not None else None


def _nothing(_gap: Gap) -> None:
    """Nobody listens."""
