"""Who gets what, from when on, and who is woken: topics, patterns, notices, late joins, leaving and the flush."""

from collections.abc import Callable

import pytest

from truetape.core.route.mailbox import Mailbox, Mode
from truetape.core.route.modes import conflate, drop_newest, drop_oldest
from truetape.core.route.router import Pattern, Router, Topic
from truetape.model.event import Book, Gap, Market, Quote, Status, Trade

MS = 1_000_000


def trade(n: int, venue: str = "kraken", symbol: str = "BTC-USD") -> Trade:
    return Trade(venue, symbol, symbol, n, n, 100.0, 1.0, id=str(n))


def quote(n: int, symbol: str = "BTC-USD") -> Quote:
    return Quote("kraken", symbol, symbol, n, n, bid=1.0, bid_size=1.0, ask=2.0, ask_size=1.0)


def status(channel: str = "trade", symbol: str = "BTC-USD", venue: str = "kraken") -> Status:
    return Status(venue, symbol, symbol, 0, channel, "LIVE", "")


def whole(depth: int = 0, seq: int = 1) -> Book:
    bids = [(10.0 - n, 1.0) for n in range(5)][: depth or None]
    return Book("kraken", "BTC-USD", "BTC-USD", 0, 0, bids, [], True, seq=seq)


def box_for(router: Router, *patterns: Pattern, mode: Mode = drop_oldest, depth: int = 0, bound: int = 1000) -> Mailbox:
    box = Mailbox(f"box of {patterns}", mode, bound, depth)
    router.subscribe(box, patterns)
    return box


def publish(router: Router, *events: Trade | Quote) -> None:
    for event in events:
        kind = "trade" if isinstance(event, Trade) else "quote"
        router.publish(router.topic(kind, event.venue, event.symbol), event)


# Topics and patterns


def test_a_topic_is_made_once() -> None:
    router = Router()
    topic = router.topic("trade", "kraken", "BTC-USD")
    assert router.topic("trade", "kraken", "BTC-USD") is topic
    assert repr(topic) == "Topic(trade kraken:BTC-USD, published 0, to 0)"


@pytest.mark.parametrize(
    "pattern",
    [
        ("trade", "kraken", "BTC-USD"),
        ("trade", "kraken", "*"),
        ("trade", "*", "BTC-USD"),
        ("trade", "*", "*"),
    ],
)
@pytest.mark.parametrize("early", [True, False])
def test_patterns_match_topics_that_are_there_and_that_come_later(pattern: Pattern, early: bool) -> None:
    router = Router()
    if early:
        publish(router, trade(0), trade(0, symbol="ETH-USD"), trade(0, "okx"), trade(0, "okx", "ETH-USD"), quote(0))
    box = box_for(router, pattern)
    sent = [trade(1), trade(2, symbol="ETH-USD"), trade(3, "okx"), trade(4, "okx", "ETH-USD"), quote(5)]
    publish(router, *sent)
    _, venue, symbol = pattern
    assert box.take(10, 0) == [
        event
        for event in sent
        if isinstance(event, Trade) and venue in ("*", event.venue) and symbol in ("*", event.symbol)
    ]
    assert box.ledger().balanced


def test_overlapping_patterns_deliver_once() -> None:
    router = Router()
    box = box_for(router, ("trade", "*", "*"), ("trade", "kraken", "*"), ("trade", "kraken", "BTC-USD"))
    publish(router, trade(1))
    router.subscribe(box, [("trade", "*", "BTC-USD")])
    publish(router, trade(2))
    assert box.take(10, 0) == [trade(1), trade(2)]


def test_unsubscribe_leaves_what_another_pattern_matches() -> None:
    router = Router()
    box = box_for(router, ("trade", "kraken", "*"), ("trade", "*", "BTC-USD"))
    publish(router, trade(1), trade(2, symbol="ETH-USD"))
    router.unsubscribe(box, [("trade", "kraken", "*")])
    publish(router, trade(3), trade(4, symbol="ETH-USD"))
    assert box.take(10, 0) == [trade(1), trade(3)]


@pytest.mark.parametrize("mode", [drop_oldest, drop_newest, conflate()])
def test_what_lies_in_the_box_goes_with_its_subscription_and_is_accounted_for(mode: Mode) -> None:
    router = Router()
    box = box_for(router, ("trade", "kraken", "*"), ("quote", "kraken", "*"), mode=mode)
    publish(router, trade(1), quote(2), trade(3, symbol="ETH-USD"), quote(4))
    router.unsubscribe(box, [("trade", "kraken", "*")])
    ledger = box.ledger()
    assert ledger.balanced
    assert (ledger.received, ledger.dropped) == (4, 2)
    assert box.take(10, 0)[-1] == quote(4)
    publish(router, trade(5))
    assert box.take(10, 0) == []
    assert box.ledger().received == 4
    assert box.stats.withdrawn == 2


def test_the_app_learns_which_patterns_became_wanted_and_unwanted() -> None:
    router = Router()
    a: Pattern = ("trade", "kraken", "BTC-USD")
    b: Pattern = ("quote", "kraken", "*")
    one, two = Mailbox("one", drop_oldest), Mailbox("two", drop_oldest)
    assert router.subscribe(one, [a, a, b]) == [a, b]
    assert router.subscribe(two, [a]) == []
    assert router.subscribe(two, [a]) == []
    assert router.wanted() == {a: 2, b: 1}
    assert router.unsubscribe(one, [a, b, b]) == [b]
    assert router.unsubscribe(one, [a]) == []
    assert router.close(two) == [a]
    assert router.wanted() == {}


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mailbox x: expected one of trade, quote, .* found depth"):
        Router().subscribe(Mailbox("x", drop_oldest), [("depth", "kraken", "*")])


@pytest.mark.parametrize("second", [("book_delta", "kraken", "BTC-USD"), ("book_delta", "*", "*")])
def test_a_box_has_a_book_or_its_changes_not_both(second: Pattern) -> None:
    router = Router()
    box = box_for(router, ("book", "kraken", "*"))
    with pytest.raises(ValueError, match=r"expected one of book and book_delta of kraken:\*, found both"):
        router.subscribe(box, [("trade", "kraken", "*"), second])
    assert router.wanted() == {("book", "kraken", "*"): 1}
    assert router.subscribe(box, [("book_delta", "okx", "BTC-USD")]) == [("book_delta", "okx", "BTC-USD")]


# Notices


@pytest.mark.parametrize(
    ("patterns", "told"),
    [
        ([("trade", "kraken", "BTC-USD")], True),
        ([("quote", "kraken", "BTC-USD")], True),
        ([("trade", "kraken", "*"), ("quote", "*", "BTC-USD")], True),
        ([("trade", "*", "*")], True),
        ([("trade", "kraken", "ETH-USD")], False),
        ([("trade", "okx", "*")], False),
        ([("trade", "*", "ETH-USD")], False),
    ],
)
def test_a_notice_reaches_once_whoever_asked_for_anything_of_the_symbol(patterns: list[Pattern], told: bool) -> None:
    router = Router()
    box = box_for(router, *patterns)
    router.notify(status("book"))
    assert box.take(10, 0) == [status("book")] * told


@pytest.mark.parametrize(
    ("pattern", "told"),
    [(("trade", "kraken", "BTC-USD"), True), (("trade", "*", "ETH-USD"), True), (("trade", "okx", "*"), False)],
)
def test_the_state_of_a_connection_reaches_whoever_asked_for_anything_of_the_venue(
    pattern: Pattern, told: bool
) -> None:
    router = Router()
    box = box_for(router, pattern)
    router.notify(status("", symbol="line 1"))
    assert box.take(10, 0) == [status("", symbol="line 1")] * told


def test_notices_end_with_the_subscription() -> None:
    router = Router()
    box = box_for(router, ("trade", "kraken", "*"), ("quote", "kraken", "*"))
    router.unsubscribe(box, [("trade", "kraken", "*")])
    router.notify(status())
    router.unsubscribe(box, [("quote", "kraken", "*")])
    router.notify(status())
    router.notify(status("", symbol="line 1"))
    assert box.take(10, 0) == [status()]


def test_a_gap_stands_between_what_came_before_and_after_it() -> None:
    router = Router()
    gap = Gap("kraken", "BTC-USD", "BTC-USD", 0, "trade", 0, 1, "stale")
    box = box_for(router, ("trade", "kraken", "BTC-USD"))
    publish(router, trade(1))
    router.notify(gap)
    publish(router, trade(2))
    assert box.take(10, 0) == [trade(1), gap, trade(2)]
    ledger = box.ledger()
    assert (ledger.received, ledger.delivered) == (2, 2)


# Late subscribers


@pytest.mark.parametrize("kind", ["book", "book_delta"])
@pytest.mark.parametrize("mode", [drop_oldest, drop_newest, conflate()])
def test_a_late_subscriber_of_a_book_gets_it_at_once(kind: str, mode: Mode) -> None:
    router = Router()
    topic = router.topic(kind, "kraken", "BTC-USD")
    topic.state = whole
    router.publish(topic, whole())
    box = box_for(router, (kind, "kraken", "*"), mode=mode)
    assert router.flush(0) == [box]
    assert box.take(10, 0) == [whole()]
    ledger = box.ledger()
    assert (ledger.received, ledger.delivered, box.stats.recalled) == (1, 1, 1)


def test_a_late_subscriber_of_a_book_gets_the_depth_that_it_asked_for() -> None:
    router = Router()
    asked: list[int] = []

    def state(depth: int) -> Book:
        asked.append(depth)
        return whole(depth)

    for kind in ("book", "book_delta"):
        router.topic(kind, "kraken", "BTC-USD").state = state
        box_for(router, (kind, "kraken", "*"), depth=3)
    assert asked == [3, 0], "changes need the whole book beneath them"


def test_a_late_subscriber_of_a_book_that_is_not_live_gets_nothing_until_it_is() -> None:
    router = Router()
    live: Callable[[int], Book | None] = whole
    topic = router.topic("book_delta", "kraken", "BTC-USD")
    topic.state = lambda depth: None
    box = box_for(router, ("book_delta", "kraken", "*"))
    change = Book("kraken", "BTC-USD", "BTC-USD", 0, 0, [(1.0, 1.0)], [])
    router.publish(topic, change)
    router.flush(0)
    assert box.take(10, 0) == []
    topic.state = live
    router.publish(topic, whole(seq=2))
    router.publish(topic, change)
    batch: list[Market] = box.take(10, 0)
    assert batch[1:] == [whole(seq=2), change]
    assert box.ledger().dropped == 1


def test_the_depth_of_a_topic_is_the_deepest_that_anybody_wants() -> None:
    router = Router()
    topic = router.topic("book", "kraken", "BTC-USD")
    asked: Pattern = ("book", "kraken", "BTC-USD")
    ten = box_for(router, asked, depth=10)
    five = box_for(router, asked, depth=5)
    assert topic.depth == 10
    router.close(ten)
    assert topic.depth == 5
    everything = box_for(router, asked)
    assert topic.depth == 0
    router.unsubscribe(everything, [asked])
    assert topic.depth == 5
    router.publish(topic, whole())
    (cut,) = five.take(10, 0)
    assert cut == whole(5)
    router.unsubscribe(five, [asked])
    assert (topic.puts, topic.boxes) == ([], [])


# The flush


def test_flush_returns_those_that_wait_and_have_something() -> None:
    router = Router()
    reader, other, busy = (box_for(router, ("trade", "kraken", "BTC-USD")) for _ in range(3))
    idle = box_for(router, ("trade", "okx", "BTC-USD"))
    assert router.flush(0) == []
    publish(router, trade(1))
    assert busy.take(1, 0) == [trade(1)]
    assert router.flush(1) == [reader, other]
    assert router.flush(2) == []
    publish(router, trade(2))
    assert router.flush(3) == [], "they were woken, and have not come yet"
    assert reader.take(10, 3) == [trade(1), trade(2)]
    assert reader.take(10, 3) == []
    publish(router, trade(3))
    assert router.flush(4) == [reader]
    assert idle.waiting
    assert reader.stats.wakes == 2


def test_boxes_of_several_topics_are_woken_once_and_in_a_fixed_order() -> None:
    router = Router()
    boxes = [box_for(router, ("trade", "*", "*"), ("quote", "*", "*")) for _ in range(20)]
    publish(router, trade(1), quote(2))
    router.notify(status())
    assert router.flush(0) == boxes
    assert (router._dirty, router._stirred) == ([], {})


def test_a_stalled_consumer_changes_nothing_for_the_others() -> None:
    def run(stalled: int) -> list[tuple[object, list[Market]]]:
        router = Router()
        asked: Pattern = ("trade", "kraken", "*")
        readers = [box_for(router, asked, mode=mode, bound=50) for mode in (drop_oldest, drop_newest, conflate(ms=1))]
        dead = [box_for(router, asked, mode=drop_oldest, bound=20) for _ in range(stalled)]
        seen: list[list[Market]] = [[] for _ in readers]
        for n in range(300):
            publish(router, trade(n))
            if n % 7 == 0:
                for box in router.flush(n * MS):
                    if box in readers:
                        seen[readers.index(box)] += box.take(100, n * MS) + box.take(100, n * MS)
        assert all(box.ledger().dropped == 280 for box in dead)
        return [(box.ledger(), batch) for box, batch in zip(readers, seen, strict=True)]

    assert run(stalled=0) == run(stalled=3)


def test_each_window_that_ends_wakes_its_box_and_no_other() -> None:
    router = Router()
    asked: Pattern = ("trade", "kraken", "*")
    fast, slow = (box_for(router, asked, mode=conflate(ms=ms)) for ms in (2, 5))
    publish(router, trade(1))
    assert router.flush(0) == []
    publish(router, trade(2, symbol="ETH-USD"))
    assert router.flush(1 * MS) == []
    assert router.deadline == 2 * MS
    assert len(router._alarms) == 2
    assert router.tick(2 * MS) == [fast]
    assert fast.take(10, 2 * MS) == [trade(1)]
    assert fast.take(10, 2 * MS) == []
    assert router.deadline == 3 * MS
    assert router.tick(3 * MS) == [fast]
    assert router.deadline == 5 * MS
    assert router.tick(5 * MS) == [slow]
    assert len(slow.take(10, 6 * MS)) == 2
    assert router.tick(6 * MS) == []
    assert router.deadline is None


def test_windows_that_end_together_wake_all() -> None:
    router = Router()
    boxes = [box_for(router, ("trade", "kraken", "*"), mode=conflate(ms=2)) for _ in range(3)]
    publish(router, trade(1))
    router.flush(0)
    assert router.tick(2 * MS) == boxes
    assert [box.stats.wakes for box in boxes] == [1, 1, 1]


def test_windows_begin_at_the_last_known_time_when_nobody_flushes() -> None:
    router = Router(relief=10)
    box = box_for(router, ("trade", "kraken", "*"), mode=conflate(ms=2))
    router.flush(7 * MS)
    publish(router, *(trade(n) for n in range(10)))
    assert box.deadline == 9 * MS


def test_windows_end_in_the_order_in_which_they_began_whoever_settled_last() -> None:
    router = Router(relief=2)
    box = box_for(router, ("trade", "kraken", "*"), mode=conflate(ms=10))
    publish(router, trade(1))
    assert box.take(10, 5 * MS) == []
    publish(router, trade(2, symbol="ETH-USD"))
    assert router.flush(6 * MS) == []
    assert router.deadline == 15 * MS
    assert router.tick(15 * MS) == [box]
    assert box.take(10, 15 * MS) == [trade(1), trade(2, symbol="ETH-USD")]


def test_a_reader_that_comes_back_late_is_still_woken_for_the_next_window() -> None:
    router = Router()
    box = box_for(router, ("trade", "kraken", "*"), mode=conflate(ms=10))
    publish(router, trade(1))
    router.flush(0)
    assert router.tick(10 * MS) == [box]
    publish(router, trade(2, symbol="ETH-USD"))
    router.flush(12 * MS)
    publish(router, trade(3))
    router.flush(13 * MS)
    assert len(box.take(10, 14 * MS)) == 1
    assert box.take(10, 14 * MS) == []
    assert router.deadline == 22 * MS
    assert router.tick(22 * MS) == [box]


def test_boxes_are_brought_back_within_bounds_though_nobody_flushes() -> None:
    router = Router(relief=100)
    asked: Pattern = ("trade", "kraken", "*")
    boxes = [box_for(router, asked, mode=mode, bound=10) for mode in (drop_oldest, drop_newest, conflate(ms=1))]
    for n in range(1_000):
        publish(router, trade(n, symbol=f"S{n % 3}"))
        assert all(len(box.inbox) <= 10 + 100 + 3 for box in boxes), "bound, relief, and a Lag for each topic"
    assert len(router._dirty) == 3
    for box in boxes:
        assert box.ledger().balanced
        assert box.ledger().received == 1_000
        assert box.stats.longest <= 10


# Closing


def test_a_closed_box_gets_nothing_more_and_its_ledger_stays_exact() -> None:
    router = Router()
    asked: Pattern = ("trade", "kraken", "*")
    box = box_for(router, asked)
    publish(router, trade(1), trade(2))
    assert box.take(1, 0) == [trade(1)]
    assert router.close(box, "shutdown") == [asked]
    publish(router, trade(3))
    router.notify(status())
    assert router.subscribe(box, [asked]) == []
    publish(router, trade(4))
    assert box.closed_reason == "shutdown"
    assert [event.dropped for event in box.take(10, 0)] == [1]  # type: ignore[union-attr]  # it is a Lagged
    assert box.take(10, 0) == []
    ledger = box.ledger()
    assert ledger.balanced
    assert (ledger.received, ledger.delivered, ledger.dropped, ledger.queued) == (2, 1, 1, 0)
    assert router.close(box) == []
    assert box.closed_reason == "shutdown"


def test_closing_wakes_a_reader_that_waits() -> None:
    router = Router()
    box = box_for(router, ("trade", "kraken", "*"))
    assert box.take(10, 0) == []
    router.close(box)
    assert router.flush(0) == [box]
    assert box.take(10, 0) == []
    assert not box.waiting


def test_nothing_of_a_closed_box_stays_behind() -> None:
    router = Router()
    topic: Topic = router.topic("trade", "kraken", "BTC-USD")
    boxes = [box_for(router, ("trade", "kraken", "*"), ("trade", "*", "BTC-USD")) for _ in range(3)]
    for box in boxes:
        router.close(box)
    router.flush(0)
    assert (topic.boxes, topic.puts) == ([], [])
    assert router.wanted() == {}
    assert not any((router._asked, router._holders, router._listeners, router._stirred, router._alarms, router._dirty))


def test_who_unsubscribes_while_over_the_bound_is_woken_for_what_was_lost() -> None:
    router = Router()
    pattern = ("trade", "kraken", "BTC-USD")
    box = box_for(router, pattern, bound=1)
    assert box.take(10, 0) == []
    publish(router, trade(1), trade(2))
    router.unsubscribe(box, [pattern])
    assert router.flush(0) == [box]
    assert [type(event).__name__ for event in box.take(10, 0)] == ["Lagged"]
