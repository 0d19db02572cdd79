"""Mailboxes made lighter: what goes first, how it is told, and that the books of account stay exact."""

from __future__ import annotations

import pytest

from tests.core.test_mailbox import Bench, Side, gap, ids, quote, trade
from truetape.core.route import shed
from truetape.core.route.mailbox import Mailbox
from truetape.core.route.modes import conflate, drop_newest, drop_oldest
from truetape.model.event import Book, Lagged, Quote, Status, Trade

ALL = 1 << 40


def test_states_that_a_later_one_replaces_go_before_anything_else() -> None:
    bench = Bench(drop_oldest, "quote", "trade")
    bench.trades(1, 3)
    bench.quotes(1, 5)
    assert shed.relieve([bench.box], ALL, 0, superseded=True) == (4, 4 * shed.EVENT)
    batch = bench.take()
    assert batch[0] == Lagged("kraken", "BTC-USD", "quote", 4, "memory")
    assert ids(batch[1:4]) == [1, 2, 3]
    assert batch[4:] == [quote(5)]
    assert bench.box.ledger().dropped == 4


def test_then_the_oldest_go_whatever_they_are_and_only_as_many_as_are_wanted() -> None:
    bench = Bench(drop_oldest)
    bench.trades(1, 10)
    assert shed.relieve([bench.box], 3 * shed.EVENT, 0, superseded=False) == (3, 3 * shed.EVENT)
    assert ids(bench.take()) == ["Lagged", *range(4, 11)]


def test_the_heaviest_box_gives_first() -> None:
    light, heavy = Bench(drop_oldest), Bench(drop_oldest)
    light.trades(1, 5)
    heavy.trades(1, 50)
    shed.relieve([light.box, heavy.box], 40 * shed.EVENT, 0, superseded=False)
    assert (light.box.ledger().queued, heavy.box.ledger().queued) == (5, 10)


def test_of_equals_the_older_box_gives() -> None:
    older, younger = Bench(drop_oldest), Bench(drop_oldest)
    older.trades(1, 5)
    younger.trades(1, 5)
    shed.relieve([older.box, younger.box], shed.EVENT, 0, superseded=False)
    assert (older.box.ledger().queued, younger.box.ledger().queued) == (4, 5)


def test_a_book_of_which_changes_were_shed_comes_back_whole() -> None:
    bench = Bench(drop_oldest, "book_delta")
    side = Side(bench)
    bench.topic("book_delta").state = side.state
    side.change(90.0)
    bench.take()  # the first whole state
    side.change(91.0, 92.0, 93.0)
    assert shed.relieve([bench.box], 1, 0, superseded=False)[0] == 3
    side.change(94.0)
    lag, whole = bench.take()
    assert lag == Lagged("kraken", "BTC-USD", "book_delta", 4, "memory")
    assert isinstance(whole, Book)
    assert whole.snapshot
    assert whole.seq == side.seq


def test_what_drop_newest_kept_and_what_it_lost_are_told_each_in_its_place() -> None:
    bench = Bench(drop_newest, bound=3)
    bench.trades(1, 5)
    bench.box.settle(0)
    shed.relieve([bench.box], shed.EVENT, 0, superseded=False)
    batch = bench.take()
    assert ids(batch) == ["Lagged", 2, 3, "Lagged"]
    assert [event.reason for event in batch if isinstance(event, Lagged)] == ["memory", "dropped"]


def test_notices_are_never_shed() -> None:
    bench = Bench(drop_oldest)
    bench.trades(1, 2)
    bench.router.notify(gap())
    bench.trades(3, 4)
    shed.relieve([bench.box], ALL, 0, superseded=False)
    assert ids(bench.take()) == ["Lagged", "Gap"]


def test_after_notices_alone_were_passed_over_what_comes_is_still_judged() -> None:
    bench = Bench(drop_newest, bound=1)
    bench.router.notify(gap())
    bench.router.notify(gap(n=1))
    assert shed.relieve([bench.box], 1, 0, superseded=False) == (0, 0)
    bench.trades(1, 3)
    assert ids(bench.take()) == ["Gap", "Gap", 1, "Lagged"]


def test_a_conflating_box_keeps_the_latest_of_each_topic() -> None:
    bench = Bench(conflate(), "quote")
    bench.quotes(1, 9)
    assert shed.relieve([bench.box], ALL, 0, superseded=False) == (0, 0)
    assert bench.take() == [quote(9)]


def test_the_work_of_one_order_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shed, "WORK_MAX", 100)
    bench = Bench(drop_oldest, bound=10_000)
    bench.trades(1, 1_000)
    assert shed.relieve([bench.box], ALL, 0, superseded=False)[0] == 100
    bench = Bench(drop_oldest, "quote", bound=10_000)
    bench.quotes(1, 1_000)
    assert shed.relieve([bench.box], ALL, 0, superseded=True)[0] == 99


def test_of_an_event_in_several_boxes_each_holds_its_part() -> None:
    boxes = [Mailbox(name, drop_oldest, 10_000) for name in "abcd"]
    for n in range(100):
        event = trade(n)
        for box in boxes:
            box.inbox.append(event)
    del event
    assert sum(map(shed.weigh, boxes)) == 100 * shed.EVENT
    boxes[0].inbox.clear()
    assert shed.weigh(boxes[1]) == 100 * (shed.EVENT // 3)


def shared(*benches: Bench) -> None:
    for n in range(10):
        event = trade(n)
        for bench in benches:
            bench.router.publish(bench.topic(), event)


def test_what_two_boxes_share_is_free_when_both_gave_it() -> None:
    first, second = Bench(drop_oldest), Bench(drop_oldest)
    shared(first, second)
    assert shed.relieve([first.box], ALL, 0, superseded=False) == (10, 0)
    assert shed.relieve([second.box], ALL, 0, superseded=False) == (10, 10 * shed.EVENT)


def test_of_what_boxes_share_each_gives_the_oldest_and_no_more_than_is_wanted() -> None:
    benches = [Bench(drop_oldest) for _ in range(3)]
    shared(*benches)
    boxes = [bench.box for bench in benches]
    assert shed.relieve(boxes, 4 * shed.EVENT, 0, superseded=False) == (12, 4 * shed.EVENT)
    assert [ids(bench.take()) for bench in benches] == [["Lagged", *range(4, 10)]] * 3


def test_a_box_weighs_about_what_lies_in_it() -> None:
    box = Mailbox("box", drop_oldest, 10_000)
    assert shed.weigh(box) == 0
    box.inbox.extend(trade(n) for n in range(1_000))
    assert shed.weigh(box) == 1_000 * shed.EVENT
    levels = [(float(price), 1.0) for price in range(20)]
    box.inbox.clear()
    box.inbox.extend(Book("kraken", "BTC-USD", "BTC-USD", 0, n, list(levels), list(levels), True) for n in range(100))
    assert shed.weigh(box) == 100 * (shed.EVENT + 40 * shed.LEVEL)


def test_an_estimate_is_near_what_is_really_held() -> None:
    tracemalloc = pytest.importorskip("tracemalloc")
    box = Mailbox("box", drop_oldest, 100_000)
    tracemalloc.start()
    try:
        for n in range(2_000):
            sides = [[(n + price / 7, price / 3 + n) for price in range(10)] for _ in range(2)]
            box.inbox.append(
                Book("kraken", "BTC-USD", "BTC-USD", n * 10**9, n * 10**9 + 1, *sides, True, seq=10**6 + n)
            )
            box.inbox.append(
                Trade("kraken", "BTC-USD", "BTC-USD", n * 10**9, n * 10**9 + 1, n / 7, n / 3, id=f"{n:012}")
            )
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.6 < shed.weigh(box) / held < 1.6


def test_a_notice_without_a_venue_is_for_everybody() -> None:
    bench = Bench(drop_oldest, "quote")
    told = Status("", "", "", 1, "", "LAGGING", "loop_lag: the event loop came 120 ms late")
    bench.router.notify(told)
    bench.quotes(1, 1)
    assert bench.router.flush(0) == [bench.box]
    first, second = bench.take()
    assert first == told
    assert isinstance(second, Quote)
