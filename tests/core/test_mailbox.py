"""One box: what each way of delivery keeps, counts and tells. The router only fills it here."""

from collections import deque
from math import fsum, isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truetape.core.route.mailbox import NOTICES_MAX, Mailbox, Mode
from truetape.core.route.modes import conflate, disconnect, drop_newest, drop_oldest, max_age
from truetape.core.route.router import Router, Topic
from truetape.core.route.shed import relieve
from truetape.model.event import Bar, Book, Gap, Lagged, Market, Quote, Status, Trade

MS = 1_000_000
S = 1_000 * MS


def trade(n: int, symbol: str = "BTC-USD", price: float = 100.0, size: float = 1.0, recv: int = 0) -> Trade:
    return Trade("kraken", symbol, symbol, 10 * n, recv, price, size, side="buy", id=str(n))


def quote(n: int, symbol: str = "BTC-USD") -> Quote:
    return Quote("kraken", symbol, symbol, n, 0, bid=n, bid_size=1.0, ask=n + 1.0, ask_size=1.0)


def bar(start: int, close: float, closed: bool = False, interval: str = "1m") -> Bar:
    return Bar("kraken", "BTC-USD", "BTC-USD", 0, 0, interval, start, 1.0, 9.0, 1.0, close, 5.0, closed=closed)


def gap(symbol: str = "BTC-USD", n: int = 0) -> Gap:
    return Gap("kraken", symbol, symbol, n, "trade", 0, n, "stale")


def status(n: int, symbol: str = "BTC-USD", channel: str = "trade") -> Status:
    return Status("kraken", symbol, symbol, n, channel, "LIVE", "")


def lagged(dropped: int, topic: str = "trade", symbol: str = "BTC-USD", reason: str = "dropped") -> Lagged:
    return Lagged("kraken", symbol, topic, dropped, reason)


class Bench:
    """A router, one box, and the topics of kraken."""

    def __init__(self, mode: Mode, *kinds: str, bound: int = 1000, depth: int = 0) -> None:
        self.router = Router()
        self.box = Mailbox("box", mode, bound, depth)
        self.router.subscribe(self.box, [(kind, "kraken", "*") for kind in kinds or ("trade",)])

    def topic(self, kind: str = "trade", symbol: str = "BTC-USD") -> Topic:
        return self.router.topic(kind, "kraken", symbol)

    def trades(self, first: int, last: int, symbol: str = "BTC-USD") -> None:
        for n in range(first, last + 1):
            self.router.publish(self.topic("trade", symbol), trade(n, symbol))

    def quotes(self, first: int, last: int) -> None:
        for n in range(first, last + 1):
            self.router.publish(self.topic("quote"), quote(n))

    def take(self, most: int = 1000, now: int = 0) -> list[Market]:
        batch = self.box.take(most, now)
        assert self.box.ledger().balanced
        return batch


def ids(batch: list[Market]) -> list[int | str]:
    """Trades by their number, all else by class name."""
    return [int(event.id) if isinstance(event, Trade) else type(event).__name__ for event in batch]


class Side:
    """A true book, as the venue has it, and what the pump would publish of it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.bids: dict[float, float] = {float(price): 1.0 for price in range(90, 100)}
        self.live = True
        self.seq = 0
        self.topic = bench.topic("book_delta")
        self.topic.state = self.state

    def state(self, depth: int) -> Book | None:
        bids = sorted(self.bids.items(), reverse=True)[: depth or None]
        return Book("kraken", "BTC-USD", "BTC-USD", 0, 0, bids, [], True, seq=self.seq) if self.live else None

    def change(self, *prices: float) -> None:
        """Each change comes with a new size for a price."""
        for price in prices:
            self.seq += 1
            self.bids[price] = float(self.seq)
            level = (price, float(self.seq))
            self.bench.router.publish(self.topic, Book("kraken", "BTC-USD", "BTC-USD", 0, 0, [level], [], seq=self.seq))

    def snapshot(self) -> None:
        self.seq += 1
        self.live = True
        state = self.state(0)
        assert state is not None
        self.bench.router.publish(self.topic, state)


def rebuilt(batch: list[Market]) -> dict[float, float]:
    """The book that a reader of this batch has in the end."""
    bids: dict[float, float] = {}
    for event in batch:
        if isinstance(event, Book):
            bids = {**({} if event.snapshot else bids), **dict(event.bids)}
    return bids


# Bounded queues


def test_drop_oldest_keeps_the_newest_and_tells_first_what_is_missing() -> None:
    bench = Bench(drop_oldest, bound=3)
    bench.trades(1, 10)
    assert bench.take() == [lagged(7), trade(8), trade(9), trade(10)]
    ledger = bench.box.ledger()
    assert (ledger.received, ledger.delivered, ledger.dropped, ledger.queued) == (10, 3, 7, 0)


def test_drop_newest_keeps_the_oldest_and_tells_where_the_rest_is_missing() -> None:
    bench = Bench(drop_newest, bound=3)
    bench.trades(1, 10)
    assert bench.take(2) == [trade(1), trade(2)]
    bench.trades(11, 14)
    assert bench.take() == [trade(3), lagged(7), trade(11), trade(12), lagged(2)]
    assert bench.box.ledger().dropped == 9


def test_each_topic_has_its_own_lagged_before_its_next_event() -> None:
    bench = Bench(drop_oldest, "trade", "quote", bound=2)
    bench.trades(1, 2)
    bench.quotes(1, 3)
    assert bench.take(1) == [lagged(2)]
    assert bench.take() == [lagged(1, "quote"), quote(2), quote(3)]


def test_losses_that_go_on_are_added_to_the_lagged_that_waits() -> None:
    bench = Bench(drop_oldest, bound=2)
    for n in range(1, 50):
        bench.trades(n, n)
        bench.router.flush(n)
    assert bench.take() == [lagged(47), trade(48), trade(49)]


@pytest.mark.parametrize("mode", [drop_oldest, drop_newest])
@settings(deadline=None, print_blob=True)
@given(bound=st.integers(1, 5), steps=st.lists(st.tuples(st.sampled_from("ptf"), st.integers(1, 7)), max_size=40))
def test_takes_give_what_a_strictly_bounded_queue_would_give(
    mode: Mode, bound: int, steps: list[tuple[str, int]]
) -> None:
    """Judged at flush and take only, yet never seen to differ from a queue that judges each event when it comes."""
    bench = Bench(mode, bound=bound)
    strict: deque[Market] = deque()
    dropped = n = 0
    for step, times in steps:
        if step == "p":
            for _ in range(times):
                n += 1
                event = trade(n, f"S{n % 3}")
                bench.router.publish(bench.topic("trade", event.symbol), event)
                if len(strict) < bound:
                    strict.append(event)
                else:
                    dropped += 1
                    if mode is drop_oldest:
                        strict.popleft()
                        strict.append(event)
        elif step == "f":
            bench.router.flush(0)
        else:
            batch = bench.take(times)
            data = [event for event in batch if not isinstance(event, Lagged)]
            assert data == [strict.popleft() for _ in data]
            assert len(batch) == times or not strict
        ledger = bench.box.ledger()
        assert (ledger.queued, ledger.dropped) == (len(strict), dropped)


def test_notices_keep_their_place_and_are_not_dropped() -> None:
    bench = Bench(drop_oldest, bound=2)
    for n in range(1, 6):
        bench.trades(n, n)
        bench.router.notify(gap(n=n))
    assert ids(bench.take()) == ["Lagged", "Gap", "Gap", "Gap", 4, "Gap", 5, "Gap"]
    assert bench.box.ledger().received == 5


def test_drop_newest_keeps_notices_in_place_too() -> None:
    bench = Bench(drop_newest, bound=2)
    for n in range(1, 5):
        bench.trades(n, n)
        bench.router.notify(gap(n=n))
    assert ids(bench.take()) == [1, "Gap", 2, "Gap", "Lagged", "Gap", "Gap"]


def test_old_statuses_give_way_to_later_ones_when_too_many_wait() -> None:
    bench = Bench(drop_oldest)
    for n in range(2 * NOTICES_MAX):
        bench.router.notify(status(n, channel="trade" if n % 2 else "book"))
        bench.router.flush(n)
    bench.router.notify(gap())
    batch = bench.take(5_000)
    assert len(batch) <= NOTICES_MAX + 2
    assert batch[-3:] == [status(1998, channel="book"), status(1999), gap()]
    assert bench.box.stats.replaced + len(batch) == 2 * NOTICES_MAX + 1
    assert (bench.box.others, bench.box.data()) == (0, 0)


def test_gaps_never_give_way() -> None:
    bench = Bench(conflate(), bound=10)
    for n in range(3 * NOTICES_MAX):
        bench.router.notify(gap(n=n))
    assert [event.recv for event in bench.take(5_000) if isinstance(event, Gap)] == list(range(3 * NOTICES_MAX))


@pytest.mark.parametrize("mode", [drop_oldest, drop_newest, max_age(1), conflate(5)])
def test_thousands_without_a_flush_do_not_make_a_box_grow(mode: Mode) -> None:
    bench = Bench(mode, "trade", bound=10)
    for n in range(5_000):
        bench.trades(n, n)
        assert len(bench.box.inbox) <= 10 + bench.router.relief
    bench.router.flush(0)
    assert bench.box.ledger().queued <= 10
    assert bench.box.ledger().balanced


def test_disconnect_closes_the_box_and_tells_what_it_lost() -> None:
    bench = Bench(disconnect, "trade", "quote", bound=3)
    bench.trades(1, 2)
    bench.quotes(1, 1)
    assert bench.router.flush(0) == [bench.box]
    assert bench.box.closed_reason is None
    bench.router.notify(gap())
    bench.quotes(2, 2)
    bench.router.flush(0)
    bench.trades(3, 9)
    assert bench.box.closed_reason == "too slow: more than 3 events waited"
    assert bench.take() == [gap(), lagged(2, reason="closed"), lagged(2, "quote", reason="closed")]
    assert bench.take() == []
    assert not bench.box.waiting
    ledger = bench.box.ledger()
    assert (ledger.received, ledger.dropped, ledger.queued) == (4, 4, 0)


def test_a_closed_box_wakes_its_reader_once() -> None:
    bench = Bench(disconnect, bound=3)
    assert bench.take() == []
    bench.trades(1, 4)
    assert bench.router.flush(0) == [bench.box]
    assert bench.take() == [lagged(4, reason="closed")]
    assert bench.take() == []
    bench.trades(5, 9)
    assert bench.router.flush(1) == []


def test_an_overflow_that_a_take_finds_first_closes_too() -> None:
    bench = Bench(disconnect, bound=3)
    bench.trades(1, 4)
    assert bench.take() == [lagged(4, reason="closed")]
    bench.trades(5, 6)
    bench.router.flush(0)
    assert bench.topic().boxes == []
    ledger = bench.box.ledger()
    assert (ledger.received, ledger.dropped) == (6, 6)


def test_a_box_that_closes_recalls_no_book() -> None:
    bench = Bench(drop_oldest, "book_delta", bound=2)
    book = Side(bench)
    book.snapshot()
    bench.take()
    book.change(90, 91, 92)
    assert bench.box.ledger().dropped == 3
    bench.router.close(bench.box)
    assert bench.take() == [lagged(3, "book_delta")]


def test_a_box_that_overflows_recalls_no_book_either() -> None:
    bench = Bench(disconnect, "book_delta", "trade", bound=3)
    book = Side(bench)
    book.live = False
    book.change(90)
    assert bench.take() == []
    book.live = True
    book.change(91)
    bench.trades(1, 4)
    assert bench.take() == [lagged(2, "book_delta"), lagged(4, reason="closed")]


def test_max_age_expires_what_is_too_old_when_it_is_taken() -> None:
    bench = Bench(max_age(2), bound=10)
    for n in range(1, 6):
        bench.router.publish(bench.topic(), trade(n, recv=n * S))
    assert ids(bench.take(2, now=5 * S)) == ["Lagged", 3]
    assert bench.take(now=7 * S) == [lagged(1, reason="expired"), trade(5, recv=5 * S)]
    ledger = bench.box.ledger()
    assert (ledger.delivered, ledger.expired, ledger.dropped) == (2, 3, 0)


def test_max_age_tells_what_expired_even_if_nothing_follows() -> None:
    bench = Bench(max_age(1))
    bench.trades(1, 3)
    assert bench.take(now=9 * S) == [lagged(3, reason="expired")]


# Changes of a book


@pytest.mark.parametrize("mode", [drop_oldest, drop_newest, max_age(1)])
def test_after_a_lost_change_the_true_book_is_rebuilt_from_what_was_taken(mode: Mode) -> None:
    bench = Bench(mode, "book_delta", bound=4)
    book = Side(bench)
    book.snapshot()
    first = bench.take(1)
    book.change(*range(90, 97))
    before = bench.take(3) if mode is drop_newest else []
    second = bench.take(2)
    assert [type(event) for event in second] == ([Book, Lagged] if mode is drop_newest else [Lagged, Book])
    book.change(92, 91)
    taken = [*first, *before, *second, *bench.take()]
    assert rebuilt(taken) == book.bids
    lost = next(at for at, event in enumerate(taken) if isinstance(event, Lagged))
    after = taken[lost + 1]
    assert isinstance(after, Book)
    assert after.snapshot
    ledger = bench.box.ledger()
    assert ledger.received == book.topic.published + bench.box.stats.recalled
    assert bench.box.stats.recalled == 1


def test_once_a_change_is_lost_the_other_changes_of_that_book_go_with_it() -> None:
    bench = Bench(drop_oldest, "book_delta", "trade", bound=4)
    book = Side(bench)
    book.snapshot()
    bench.take()
    book.change(90)
    bench.trades(1, 2)
    book.change(91, 92)
    assert ids(bench.take()) == ["Lagged", "Book", 1, 2]
    assert bench.box.ledger().dropped == 3


def test_of_many_books_so_many_are_given_up_at_once_that_an_eighth_of_the_bound_is_free() -> None:
    bench = Bench(drop_oldest, "book_delta", bound=80)
    topics = [bench.topic("book_delta", f"S{n}-USD") for n in range(100)]
    for topic in topics:
        whole = Book("kraken", topic.symbol, topic.symbol, 0, 0, [(1.0, 1.0)], [], True)
        topic.state = lambda _depth, whole=whole: whole  # type: ignore[misc]
        bench.router.publish(topic, whole)
        bench.take()
    for n, topic in enumerate(topics[:81]):
        bench.router.publish(topic, Book("kraken", topic.symbol, topic.symbol, n, n, [(2.0, 1.0)], []))
    bench.router.flush(0)
    ledger = bench.box.ledger()
    assert (ledger.dropped, ledger.queued) == (11, 70), "the one too many, and ten more"
    batch = bench.take()
    assert batch[:2] == [lagged(1, "book_delta", "S0-USD"), topics[0].state and topics[0].state(0)]
    assert sum(isinstance(event, Lagged) for event in batch) == 11
    assert sum(isinstance(event, Book) and not event.snapshot for event in batch) == 70


def test_while_the_book_is_not_live_nothing_follows_its_lagged_until_a_snapshot() -> None:
    bench = Bench(drop_oldest, "book_delta", bound=2)
    book = Side(bench)
    book.snapshot()
    bench.take()
    book.change(90, 91, 92)
    book.live = False
    assert bench.take() == [lagged(3, "book_delta")]
    assert bench.take() == []
    book.snapshot()
    book.change(93)
    batch = bench.take()
    assert [type(event) for event in batch] == [Book, Book]
    assert rebuilt(batch) == book.bids


def test_no_change_passes_between_a_lagged_and_the_next_whole_book() -> None:
    bench = Bench(drop_oldest, "trade", bound=2)
    book = Side(bench)
    bench.router.subscribe(bench.box, [("book_delta", "kraken", "*")])
    assert bench.take() == [book.state(0)]
    book.change(90, 91, 92)
    book.live = False
    assert bench.box.take(10, 0) == [lagged(3, "book_delta")]
    book.change(93)
    assert bench.box.take(10, 0) == []
    bench.trades(1, 2)
    assert bench.box.take(10, 0) == [trade(1), trade(2)]
    book.change(94)
    assert bench.take() == []


def test_no_change_passes_before_the_first_whole_book_of_a_late_subscription() -> None:
    bench = Bench(drop_oldest, "trade", bound=5)
    book = Side(bench)
    book.live = False
    bench.trades(1, 3)
    assert bench.box.ledger().queued == 3
    assert bench.box.take(10, 0) == [trade(1), trade(2), trade(3)]
    bench.router.subscribe(bench.box, [("book_delta", "kraken", "*")])
    book.change(90)
    assert bench.box.take(10, 0) == []


def test_a_book_that_is_live_again_without_a_snapshot_is_recalled_with_its_next_change() -> None:
    bench = Bench(drop_oldest, "book_delta", bound=2)
    book = Side(bench)
    book.live = False
    book.change(90, 91)
    assert bench.take() == []
    assert bench.box.ledger().dropped == 2
    book.live = True
    book.change(92, 93)
    assert bench.take() == [lagged(4, "book_delta"), book.state(0)]


def test_a_snapshot_after_untold_losses_comes_behind_its_lagged() -> None:
    bench = Bench(drop_oldest, "book_delta", bound=2)
    book = Side(bench)
    book.live = False
    book.change(90, 91)
    bench.take()
    book.snapshot()
    assert bench.take() == [lagged(2, "book_delta"), book.state(0)]


def test_a_reader_of_one_item_at_a_time_gets_on_though_its_box_overflows() -> None:
    bench = Bench(drop_oldest, "book_delta", "trade", bound=3)
    book = Side(bench)
    book.snapshot()
    bench.take()
    kinds = []
    for n in range(12):
        book.change(90, 91, 92)
        bench.trades(n, n)
        kinds += [type(event).__name__ for event in bench.take(1)]
    assert kinds.count("Book") >= 4


def test_a_recalled_book_that_waits_is_dropped_with_its_subscription() -> None:
    bench = Bench(drop_oldest, "book_delta", bound=2)
    book = Side(bench)
    book.snapshot()
    bench.take()
    book.change(90, 91, 92)
    assert bench.take(1) == [lagged(3, "book_delta")]
    assert bench.box.ledger().queued == 1
    bench.router.unsubscribe(bench.box, [("book_delta", "kraken", "*")])
    assert bench.take() == []
    assert bench.box.ledger().balanced
    assert bench.box.stats.withdrawn == 1


def test_a_recalled_book_that_waits_is_dropped_when_the_box_closes() -> None:
    bench = Bench(drop_oldest, "book_delta", bound=2)
    book = Side(bench)
    book.snapshot()
    bench.take()
    book.change(90, 91, 92)
    bench.take(1)
    bench.router.close(bench.box, "shutdown")
    assert bench.take() == [lagged(1, "book_delta", reason="closed")]


def test_a_book_asked_for_again_starts_afresh() -> None:
    bench = Bench(drop_oldest, "book_delta", bound=2)
    book = Side(bench)
    book.snapshot()
    bench.take()
    book.change(90, 91, 92)
    assert bench.box.ledger().dropped == 3
    bench.router.unsubscribe(bench.box, [("book_delta", "kraken", "*")])
    bench.router.subscribe(bench.box, [("book_delta", "kraken", "*")])
    book.change(93)
    batch = bench.take()
    assert batch[0] == lagged(3, "book_delta"), "of the time before"
    assert [type(event) for event in batch[1:]] == [Book, Book]
    assert rebuilt(batch) == book.bids


def test_losses_before_and_after_asking_again_are_told_apart() -> None:
    bench = Bench(drop_oldest, bound=2)
    bench.trades(1, 5)
    bench.router.unsubscribe(bench.box, [("trade", "kraken", "*")])
    bench.router.subscribe(bench.box, [("trade", "kraken", "*")])
    bench.trades(6, 9)
    assert bench.take() == [lagged(3), lagged(2), trade(8), trade(9)]


def test_losses_of_the_time_before_are_told_before_what_memory_took_of_the_time_after() -> None:
    bench = Bench(drop_newest, "book_delta", bound=1)
    book = Side(bench)
    book.snapshot()
    book.change(90, 91)
    bench.router.unsubscribe(bench.box, [("book_delta", "kraken", "*")])
    bench.router.subscribe(bench.box, [("book_delta", "kraken", "*")])
    assert relieve([bench.box], 1, 0, superseded=False)[0] == 1, "the whole book that it came back to"
    batch = bench.take()
    assert batch[:2] == [lagged(2, "book_delta"), lagged(1, "book_delta", reason="memory")]
    assert rebuilt(batch[2:]) == book.bids


def test_who_is_hung_up_with_many_topics_is_looked_through_once() -> None:
    looks = 0

    class Watched(Mailbox):
        def key(self, event: Market) -> tuple[str, str, str]:
            nonlocal looks
            looks += 1
            return super().key(event)

    router, count = Router(), 300
    box = Watched("box", drop_newest, count)
    router.subscribe(box, [("trade", "kraken", "*")])
    for n in range(2 * count):
        symbol = f"S{n % count}-USD"
        router.publish(router.topic("trade", "kraken", symbol), trade(n, symbol))
    router.close(box, "shutdown")
    assert box.stats.withdrawn == 0
    assert box.ledger().dropped == 2 * count
    assert looks <= 4 * count


def test_leaving_one_topic_lets_no_change_of_a_broken_book_slip_through() -> None:
    bench = Bench(drop_oldest, "book_delta", "trade", bound=3)
    book = Side(bench)
    book.snapshot()
    bench.take()
    book.change(90, 91, 92, 93)
    book.live = False
    assert bench.take() == [lagged(4, "book_delta")]
    book.change(94)
    bench.trades(1, 1)
    bench.router.unsubscribe(bench.box, [("trade", "kraken", "*")])
    book.change(95)
    assert bench.take() == []
    assert bench.box.ledger().dropped == 7


def test_changes_are_never_cut_to_a_depth_nor_the_books_that_they_follow() -> None:
    bench = Bench(drop_oldest, "book_delta", bound=2, depth=3)
    book = Side(bench)
    book.snapshot()
    batch = bench.take()
    book.change(90, 91, 92)
    batch += bench.take()
    assert rebuilt(batch) == book.bids
    assert len(book.bids) == 10


def test_whole_books_are_cut_to_the_depth_of_the_box() -> None:
    bench = Bench(drop_oldest, "book", depth=2)
    levels = [(9.0, 1.0), (8.0, 1.0), (7.0, 1.0)]
    marks = (["90", "80", "70"], ["91"])
    whole = Book("kraken", "BTC-USD", "BTC-USD", 1, 1, levels, [(9.1, 1.0)], True, marks=marks)
    bench.router.publish(bench.topic("book"), whole)
    (cut,) = bench.take()
    assert isinstance(cut, Book)
    assert (cut.bids, cut.asks, cut.marks) == (levels[:2], [(9.1, 1.0)], (["90", "80"], ["91"]))
    assert whole.bids == levels


# Conflation


def test_conflate_gives_the_latest_of_each_topic_at_each_take() -> None:
    bench = Bench(conflate(), "quote", "trade")
    bench.quotes(1, 5)
    bench.trades(1, 1)
    assert bench.take() == [quote(5), trade(1)]
    assert bench.take() == []
    assert bench.box.ledger().conflated == 4


def test_conflate_waits_for_the_end_of_the_window_of_the_first_unsent_event() -> None:
    bench = Bench(conflate(ms=2), "quote")
    bench.quotes(1, 1)
    assert bench.router.flush(10 * MS) == []
    bench.quotes(2, 2)
    assert bench.router.flush(11 * MS) == []
    assert bench.box.deadline == bench.router.deadline == 12 * MS
    assert bench.take(now=12 * MS - 1) == []
    assert bench.router.tick(12 * MS) == [bench.box]
    assert bench.take(now=12 * MS) == [quote(2)]
    assert bench.box.deadline is None


@settings(deadline=None, print_blob=True)
@given(st.lists(st.tuples(st.floats(1e-8, 1e6), st.floats(1e-8, 1e9), st.booleans()), min_size=2, max_size=60))
def test_merged_trades_keep_count_volume_and_notional(parts: list[tuple[float, float, bool]]) -> None:
    bench = Bench(conflate())
    total: list[Trade] = []
    for n, (price, size, again) in enumerate(parts, 1):
        bench.router.publish(bench.topic(), trade(n, price=price, size=size))
        if again:
            bench.router.flush(n)
        total.append(trade(n, price=price, size=size))
    (merged,) = bench.take(now=100)
    assert isinstance(merged, Trade)
    assert (merged.count, merged.id, merged.price) == (len(total), str(len(total)), total[-1].price)
    assert (merged.first_ts, merged.last_ts, merged.ts) == (10, total[-1].ts, total[-1].ts)
    assert isclose(merged.size, fsum(t.size for t in total), rel_tol=1e-9)
    assert isclose(merged.size * merged.vwap, fsum(t.size * t.price for t in total), rel_tol=1e-9)


def test_trades_that_were_merged_upstream_merge_again() -> None:
    bench = Bench(conflate())
    first = Trade("kraken", "BTC-USD", "", 9, 9, 5.0, 4.0, count=3, vwap=2.0, first_ts=1, last_ts=9)
    bench.router.publish(bench.topic(), first)
    bench.router.publish(bench.topic(), trade(2, price=10.0, size=4.0))
    (merged,) = bench.take()
    assert isinstance(merged, Trade)
    assert (merged.count, merged.size, merged.vwap, merged.first_ts, merged.last_ts) == (4, 8.0, 6.0, 1, 20)


def test_trades_without_size_merge_at_the_last_price() -> None:
    bench = Bench(conflate())
    for n in (1, 2):
        bench.router.publish(bench.topic(), trade(n, price=n, size=0.0))
    (merged,) = bench.take()
    assert isinstance(merged, Trade)
    assert (merged.size, merged.vwap) == (0.0, 2.0)


def test_a_closed_bar_is_not_replaced_by_the_next_bar() -> None:
    bench = Bench(conflate(), "bar")
    sent = [bar(0, 1.0), bar(0, 2.0, closed=True), bar(60, 3.0), bar(60, 4.0), bar(0, 7.0, interval="5m")]
    for event in sent:
        bench.router.publish(bench.topic("bar"), event)
    assert bench.take() == [sent[1], sent[3], sent[4]]


def test_more_bars_than_the_bound_drop_the_oldest_but_the_latest_of_other_topics_stays() -> None:
    bench = Bench(conflate(ms=60), "bar", "quote", bound=3)
    bench.quotes(1, 2)
    for start in range(10):
        bench.router.publish(bench.topic("bar"), bar(start, 1.0))
    batch = bench.take()
    assert batch == [lagged(7, "bar")]
    assert bench.take(now=60 * MS) == [quote(2), bar(7, 1.0), bar(8, 1.0), bar(9, 1.0)]


def test_bars_that_were_taken_or_released_count_no_more() -> None:
    bench = Bench(conflate(), "bar", bound=2)
    for start in range(0, 8, 2):
        bench.router.publish(bench.topic("bar"), bar(start, 1.0))
        bench.router.publish(bench.topic("bar"), bar(start + 1, 1.0))
        if start % 4:
            bench.router.notify(gap())
        assert len(bench.take()) == 2 + (start % 4 > 0)
    assert (bench.box.ledger().delivered, bench.box.stats.longest) == (8, 2)


def test_bars_that_went_with_their_subscription_count_no_more() -> None:
    bench = Bench(conflate(ms=60), "bar", bound=2)
    for _ in range(2):
        for start in range(2):
            bench.router.publish(bench.topic("bar"), bar(start, 1.0))
        bench.router.flush(0)
        bench.router.unsubscribe(bench.box, [("bar", "kraken", "*")])
        bench.router.subscribe(bench.box, [("bar", "kraken", "*")])
    bench.router.publish(bench.topic("bar"), bar(2, 1.0))
    assert bench.take(now=0) == []
    assert bench.take(now=60 * MS) == [bar(2, 1.0)]


def test_reading_a_ledger_begins_no_window() -> None:
    bench = Bench(conflate(ms=2))
    bench.trades(1, 2)
    assert bench.box.ledger().queued == 2
    assert bench.router.flush(10 * MS) == []
    assert bench.box.deadline == 12 * MS
    ledger = bench.box.ledger()
    assert (ledger.queued, ledger.conflated) == (1, 1)


def test_a_notice_is_read_after_what_came_before_it() -> None:
    bench = Bench(conflate(ms=50), "trade", "quote", "bar")
    bench.trades(1, 2)
    bench.trades(1, 1, "ETH-USD")
    bench.quotes(1, 1)
    bench.router.publish(bench.topic("bar"), bar(0, 1.0))
    bench.router.notify(gap())
    bench.trades(3, 3)
    assert ids(bench.take()) == [2, "Quote", "Bar", "Gap"]
    assert ids(bench.take(now=50 * MS)) == [1, 3]


def test_a_notice_of_one_symbol_leaves_the_windows_of_others() -> None:
    bench = Bench(conflate(ms=50))
    bench.trades(1, 1)
    bench.router.notify(status(0, symbol="ETH-USD"))
    assert ids(bench.take()) == ["Status"]


def test_a_lost_connection_ends_the_windows_of_its_venue() -> None:
    bench = Bench(conflate(ms=50))
    bench.trades(1, 1)
    bench.trades(2, 2, "ETH-USD")
    bench.router.notify(status(0, symbol="line 1", channel=""))
    assert ids(bench.take()) == [1, 2, "Status"]


def test_what_notices_released_is_bounded_too() -> None:
    bench = Bench(conflate(ms=50), bound=2)
    for n in range(1, 7):
        bench.trades(n, n)
        bench.router.notify(gap(n=n))
    bench.trades(7, 7)
    batch = bench.take()
    assert batch[0] == lagged(4)
    assert ids(batch[1:]) == ["Gap", "Gap", "Gap", "Gap", 5, "Gap", 6, "Gap"]
    assert ids(bench.take(now=50 * MS)) == [7]
    assert bench.box.ledger().dropped == 4


def test_conflated_changes_become_the_whole_book_of_the_moment() -> None:
    bench = Bench(conflate(ms=5), "book_delta", depth=3)
    book = Side(bench)
    book.snapshot()
    book.change(90, 99)
    bench.router.flush(0)
    book.change(95)
    assert bench.take(now=5 * MS) == [book.state(3)]
    ledger = bench.box.ledger()
    assert (ledger.received, ledger.delivered, ledger.conflated) == (4, 1, 3)


def test_conflated_changes_of_a_book_that_is_not_live_are_told_as_lost() -> None:
    bench = Bench(conflate(), "book_delta")
    book = Side(bench)
    book.snapshot()
    book.live = False
    assert bench.take() == [lagged(1, "book_delta", reason="not LIVE")]
    assert bench.box.ledger().dropped == 1


def test_conflation_takes_no_more_than_asked() -> None:
    bench = Bench(conflate())
    for symbol in "ABCDE":
        bench.trades(1, 3, symbol)
    assert [len(bench.take(2)) for _ in range(4)] == [2, 2, 1, 0]


# The box itself


@pytest.mark.parametrize(("bound", "depth"), [(0, 0), (-1, 0), (10, -1)])
def test_a_box_without_room_is_refused(bound: int, depth: int) -> None:
    with pytest.raises(ValueError, match="mailbox box: expected bound of 1 or more"):
        Mailbox("box", drop_oldest, bound, depth)


@pytest.mark.parametrize("ms", [-1, float("nan"), float("inf")])
def test_a_window_that_never_ends_is_refused(ms: float) -> None:
    with pytest.raises(ValueError, match="conflate: expected ms of 0 or more"):
        conflate(ms)


@pytest.mark.parametrize("s", [0, -1, float("nan"), float("inf")])
def test_an_age_that_nothing_has_is_refused(s: float) -> None:
    with pytest.raises(ValueError, match="max_age: expected s above 0"):
        max_age(s)


def test_seconds_are_rounded_to_nanoseconds() -> None:
    assert (max_age(4.1).ns, conflate(ms=4.1).ns) == (4_100_000_000, 4_100_000)


def test_a_box_counts_its_longest_queue_wakes_and_notices() -> None:
    bench = Bench(drop_oldest, bound=5)
    bench.take()
    bench.trades(1, 4)
    bench.router.notify(gap())
    bench.router.flush(0)
    bench.take()
    stats = bench.box.stats
    assert (stats.longest, stats.wakes, stats.notices, stats.recalled, stats.withdrawn) == (4, 1, 1, 0, 0)


def test_the_longest_queue_is_seen_when_nothing_had_to_be_judged() -> None:
    bench = Bench(drop_oldest)
    bench.trades(1, 7)
    bench.box.take(3, 0)
    bench.box.take(9, 0)
    assert bench.box.stats.longest == 7
