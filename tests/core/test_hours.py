"""Market hours: told by a command, kept over a checkpoint, and a closed market is quiet, not stale."""

from random import Random

import msgspec
import pytest

from health_room import BOOK, T0, Room, S
from truetape.core.feed.hours import Hours, Table, market_of
from truetape.core.feed.venue import Want
from truetape.core.route import checkpoint
from truetape.core.route.orders import Told
from truetape.model.event import Status
from truetape.venues.tickdb import Dialect as TickDB

HOUR = 3600
DAY = 24 * HOUR


def tell(room: Room, *spans: tuple[int, int], end: int = 9 * DAY) -> None:
    """Sessions in seconds from T0."""
    table = Table("M", T0 - DAY * S, T0 + end * S, [(T0 + a * S, T0 + b * S) for a, b in spans])
    assert room.pump.command(msgspec.json.encode(Told(table)), room.now) == [] and room.pump.refused == 0


def states(room: Room) -> list[tuple[float, str, str]]:
    return [
        (round((e.recv - T0) / S, 2), e.state, e.reason) for e in room.told() if isinstance(e, Status) and e.channel
    ]


@pytest.mark.parametrize("seed", range(1))
def test_a_hundred_symbols_raise_no_alarm_over_close_and_open(seed: int) -> None:
    """Trades once an hour in two sessions of a market with a lunch break, and a few outside; then a day on which it stays closed."""
    print("seed", seed)
    random = Random(seed)
    wants = [Want("trade", f"S{i}/USD", f"S{i}-USD") for i in range(100)]
    room = Room(*wants, market="M").open()
    sessions = (0, 3 * HOUR), (4 * HOUR, 7 * HOUR), (22 * HOUR, 24 * HOUR)
    tell(room, *sessions)
    at, number, told = 0.0, 0, []
    while (at := at + random.expovariate(100 / HOUR)) < 24 * HOUR:
        if any(a <= at < b for a, b in sessions) or random.random() < 0.01:
            room.until(at)
            number += 1
            room.trade(number, random.choice(wants).raw)
            told += states(room)
    room.until(24 * HOUR)
    told += states(room)
    assert {row[1] for row in told} == {"LIVE", "QUIET"} and room.gaps() == []
    assert any("is closed, and opens in" in row[2] for row in told) and any("has opened" in row[2] for row in told)


def test_a_fast_book_is_quiet_over_night_and_stale_only_when_silent_after_the_opening() -> None:
    room = Room(BOOK, market="M").open()
    tell(room, (0, 600), (10_000, 20_000))
    for at in range(600):
        room.until(at)
        room.book()
    (stream,) = room.pump.links["k-1"].streams.values()
    threshold = stream.threshold
    room.until(9_999)
    assert states(room) == [(0, "LIVE", ""), (659.25, "QUIET", "market M is closed, and opens in 2.6 h")]
    assert stream.readable, "nothing was due"
    room.until(10_029)
    assert [row[1:] for row in states(room)] == [("QUIET", "market M has opened, and nothing came yet")]
    room.until(10_100)
    assert stream.state == "STALE"
    assert 10_030 < (stream.since - T0) / S <= 10_030.5 + threshold / S
    room.book()
    assert stream.state == "LIVE" and stream.threshold == threshold, "the night was no interval"


def test_stale_before_the_close_is_quiet_after_it_and_not_read_as_good() -> None:
    room = Room(BOOK, Want("trade", "X/USD", "X-USD"), market="M").open()
    tell(room, (-100, 100), (10_000, 20_000))
    room.book()
    stream = room.pump.links["k-1"].books["BTC/USD"]
    for at in range(41):
        room.until(at)
        room.trade(at, "X/USD")
    assert stream.state == "STALE"
    for at in range(41, 300):
        room.until(at)
        room.trade(at, "X/USD")
    assert stream.state == "QUIET" and not stream.readable


def test_unknown_hours_are_no_alarm_and_no_good_book() -> None:
    room = Room(BOOK, market="M").open()
    room.book()
    room.until(500)
    assert states(room)[-1] == (30.25, "QUIET", "nothing for 30.2 s, and the hours of market M are not known")
    (stream,) = room.pump.links["k-1"].streams.values()
    assert not stream.readable
    tell(room, (0, 20_000))
    room.until(510)
    assert stream.state == "STALE", "now they are known, and it was open"


def test_hours_survive_a_checkpoint() -> None:
    room, again = Room(BOOK, market="M").open(), Room(BOOK, market="M")
    tell(room, (0, 100), (10_000, 20_000))
    room.book()
    checkpoint.load(again.pump, checkpoint.save(room.pump))
    again.now = room.now
    room.told()
    for each in (room, again):
        each.until(12_000)
    assert states(room) == states(again) and checkpoint.save(room.pump) == checkpoint.save(again.pump)


def test_a_table_that_is_none_is_refused_and_counted() -> None:
    room = Room(BOOK, market="M").open()
    room.pump.command(b'{"do":"hours","table":{"market":"M"}}', room.now)
    assert room.pump.refused == 1


def test_what_is_open_when() -> None:
    hours = Hours("M")
    assert not hours.known(5) and hours.within(1, 9)
    hours.told(Table("M", 0, 100, [(10, 20), (30, 40)]))
    assert [hours.opened(at) for at in (9, 10, 19, 20, 30, 39, 40)] == [0, 10, 10, 0, 30, 30, 0]
    assert hours.within(10, 19) and not hours.within(15, 35) and not hours.within(20, 25)
    assert hours.known(99) and not hours.known(100)


def test_whose_hours_a_symbol_keeps() -> None:
    found = {
        raw: market_of("", TickDB, raw)
        for raw in ("AAPL.US", "700.HK", "000001.SZ", "EURUSD", "XAUUSD", "BTCUSDT", "SPX")
    }
    assert found == {
        "AAPL.US": "US", "700.HK": "HK", "000001.SZ": "SZ", "EURUSD": "FX", "XAUUSD": "FX", "BTCUSDT": "", "SPX": "",
    }  # fmt: skip
    assert market_of("always", TickDB, "AAPL.US") == "" and market_of("XLON", TickDB, "AAPL.US") == "XLON"
