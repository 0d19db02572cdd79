"""The room that turns events into a venue's words, and the digits that it keeps, without a socket."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from truetape.core.serve import grain
from truetape.core.serve.bot import Ask
from truetape.core.serve.native import AGAIN, NativeRoom, Told
from truetape.core.sim.act import Hang, Say
from truetape.model.event import Book, Gap, Level, Market, Status, Trade
from truetape.venues import _serve_binance, _serve_kraken
from truetape.venues._kraken import digits

NOW = 1_780_000_000_000_000_000
Whole = dict[str, Book]


def book(bids: list[Level], asks: list[Level], seq: int, snapshot: bool = True, **more: Any) -> Book:
    return Book("binance", "BTC-USDT", "BTCUSDT", NOW, NOW, bids, asks, snapshot, seq, seq, **more)


def room(first: Book) -> NativeRoom:
    found = NativeRoom("binance", _serve_binance.Counterpart)
    found.add("BTCUSDT", "BTC-USDT", NOW)
    feed(found, [first], first)
    granted(found, 1, found.opened(1, "/ws/btcusdt@depth/btcusdt@trade", found.listed, NOW))
    return found


def granted(found: NativeRoom, number: int, told: list[Told]) -> None:
    """Whatever it asks for is there."""
    for act in told:
        assert isinstance(act, Ask)
        for pair in act.pairs:
            found.settled(number, pair, None)
    while found.waiting(number):
        found.proceed(number, NOW)


def feed(found: NativeRoom, events: list[Market], now_whole: Book | None) -> list[Any]:
    told = found.feed(events, lambda _raw: now_whole, NOW)
    return [json.loads(frame) for act in told if isinstance(act, Say) for frame in act.frames] + [
        act for act in told if isinstance(act, Hang)
    ]


def test_steps_come_back_exactly_or_not_at_all() -> None:
    seed = Random().randrange(1 << 32)
    print(f"seed {seed}")
    draw = Random(seed)
    for _ in range(20_000):
        places = draw.randrange(13)
        steps = draw.randrange(10 ** draw.randrange(1, 16))
        value = float(Decimal(steps).scaleb(-places))
        if float(Decimal(repr(value)).scaleb(places)) == steps:  # a float has the digits
            assert grain.whole(value, places) == steps
    assert grain.whole(0.1 + 0.2, 8) == -1, "more digits than there are places are told, not rounded"
    assert grain.whole(1e9, 8) == 10**17
    assert (grain.places(0.5), grain.places(3.0), grain.places(1e-8), grain.places(1200.0)) == (1, 0, 8, 0)


def test_places_are_read_from_the_digits_that_a_checksum_is_made_of() -> None:
    for texts in ([("63501.6", "0.02922270")], [("1.000", "1.00"), ("0.120", "33.50")], [("0.00001230", "5000")]):
        levels = [(float(price), float(size)) for price, size in texts]
        marks = [digits(price) + digits(size) for price, size in texts]
        price, size = (len(text.partition(".")[2]) for text in texts[0])
        assert grain.marked(levels, marks) == (price, size)
    assert grain.marked([(1.5, 2.0)], ["777"]) is None


def test_numbers_have_no_hole_whatever_the_source_numbers() -> None:
    first = book([(10.0, 1.0)], [(11.0, 1.0)], -1)
    found = room(first)
    last = found.listed["BTCUSDT"].seq
    for size in (2.0, 3.0, 4.25):
        (frame,) = feed(found, [book([(10.0, size)], [(11.5, size)], -1, False)], first)
        assert frame["U"] == last + 1
        last = frame["u"]
    assert last == found.listed["BTCUSDT"].seq
    assert frame["b"] == [["10.00000000", "4.25000000"]], "finer digits than the first book had"


def test_a_whole_book_over_a_whole_book_is_told_as_what_changed() -> None:
    found = room(book([(10.0, 1.0), (9.0, 1.0)], [(11.0, 1.0)], 5))
    after = book([(10.0, 1.0), (9.5, 2.0)], [(11.0, 3.0)], 9)
    (frame,) = feed(found, [after], after)
    assert (frame["U"], frame["u"]) == (6, 9)
    assert frame["b"] == [["9.00000000", "0.00000000"], ["9.50000000", "2.00000000"]]
    assert frame["a"] == [["11.00000000", "3.00000000"]]
    assert feed(found, [after], after) == [], "the same again is no news"


@pytest.mark.parametrize(
    "notice",
    [
        Gap("binance", "BTC-USDT", "BTCUSDT", NOW, "book", NOW, NOW, "sequence"),
        Status("binance", "BTC-USDT", "BTCUSDT", NOW, "book", "STALE", "silent"),
        Status("binance", "BTC-USDT", "BTCUSDT", NOW, "book", "QUIET", "nothing due, but nobody knows"),
    ],
)
def test_what_comes_behind_a_doubt_is_never_told_on_top_of_it(notice: Gap | Status) -> None:
    first = book([(10.0, 1.0)], [(11.0, 1.0)], 5)
    found = room(first)
    told = feed(found, [notice, book([(10.0, 9.0)], [], 7, False)], None)
    (act,) = told
    assert isinstance(act, Hang), "and nothing else"
    assert (act.client, act.code) == (1, AGAIN)
    assert found.http("/api/v3/depth", {"symbol": "BTCUSDT"}, found.listed, NOW).status == 503
    assert feed(found, [], first) == []
    assert found.http("/api/v3/depth", {"symbol": "BTCUSDT"}, found.listed, NOW).status == 200


def test_a_kraken_bot_waits_for_a_book_that_is_not_live_and_may_change_its_mind() -> None:
    found = NativeRoom("kraken", _serve_kraken.Counterpart, True)
    found.add("BTC/USD", "BTC-USD", NOW)
    whole = Book(
        "kraken",
        "BTC-USD",
        "BTC/USD",
        NOW,
        NOW,
        [(10.0, 1.0)],
        [(11.0, 1.0)],
        True,
        marks=(["1000100"], ["1100100"]),
        depth=10,
    )
    ask = b'{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"]},"req_id":4}'
    for number, leaves in ((1, False), (2, True)):
        found.opened(number, "/v2", found.listed, NOW)
        for request in (ask, ask.replace(b'"subscribe"', b'"unsubscribe"'))[: 1 + leaves]:
            granted(found, number, [act for act in found.received(number, request, NOW) if isinstance(act, Ask)])
    feed(found, [], whole)
    assert found.waiting(1)
    assert not found.waiting(2)
    (act,) = found.proceed(1, NOW)
    assert isinstance(act, Say)
    answer, snapshot = map(json.loads, act.frames)
    assert (answer["success"], answer["req_id"]) == (True, 4)
    assert snapshot["type"] == "snapshot"
    assert b'"price":10.00,"qty":1.00' in act.frames[1], "the digits that the checksum is made of"


def test_a_symbol_that_is_gone_is_gone_for_bots_of_narrow_tokens_too() -> None:
    found = NativeRoom("kraken", _serve_kraken.Counterpart, True)
    found.add("BTC/USD", "BTC-USD", NOW)
    found.opened(1, "/v2", dict(found.listed), NOW)
    found.drop("BTC/USD")
    ask = b'{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"]},"req_id":4}'
    (act,) = found.received(1, ask, NOW)
    assert isinstance(act, Ask)
    found.settled(1, ("book", "BTC/USD"), None)
    (say,) = found.proceed(1, NOW)
    assert isinstance(say, Say)
    assert json.loads(say.frames[0])["error"] == "Currency pair not supported BTC/USD"


def test_trades_keep_the_venues_ids() -> None:
    found = room(book([(10.0, 1.0)], [(11.0, 1.0)], 5))
    trade = Trade("binance", "BTC-USDT", "BTCUSDT", NOW, NOW, 10.125, 2.0, "sell", "900719")
    (frame,) = feed(found, [trade], book([(10.0, 1.0)], [(11.0, 1.0)], 5))
    assert (frame["t"], frame["p"], frame["q"], frame["m"]) == (900719, "10.12500000", "2.00000000", True)
