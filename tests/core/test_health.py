"""When silence becomes a fault: the threshold that a stream learns, its states through the pump, and the gaps around them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from health_room import BOOK, CALM, T0, TICKER, TRADE, Room, S
from truetape.app.dialects import Names, dialect
from truetape.core.feed.cadence import DEFAULT_STALE_S, FINE, SAMPLES_MIN, STALE_MIN
from truetape.core.feed.health import Stream, StreamState
from truetape.core.feed.plan import Feed
from truetape.core.feed.venue import Want
from truetape.core.route.orders import Order
from truetape.core.route.pump import Pump
from truetape.model.effect import Send
from truetape.model.event import Status
from truetape.venues.kraken import checksum


def stream(channel: str = "trade") -> Stream:
    return Stream("kraken", "k-1", Want(channel, "BTC/USD", "BTC-USD"), None, T0)


def fed(intervals: list[int], channel: str = "trade") -> Stream:
    one = stream(channel)
    now = T0
    one.touch(now)
    one.enter("LIVE", "", now)
    for interval in intervals:
        now += interval
        one.touch(now)
    return one


# The threshold


@pytest.mark.parametrize("channel", ["book", "trade", "quote", "ticker", "bar.1m"])
def test_before_thirty_intervals_a_default_holds(channel: str) -> None:
    default = round(DEFAULT_STALE_S[channel.partition(".")[0]] * S)
    assert stream(channel).threshold == default
    assert fed([10 * S] * (SAMPLES_MIN - 1), channel).threshold == default
    assert fed([10 * S] * SAMPLES_MIN, channel).threshold != default


def test_a_quick_stream_is_stale_after_three_seconds() -> None:
    one = fed([10_000_000] * 1000)
    assert one.threshold == STALE_MIN == 3 * S
    verdict = one.verdict(one.last + 3 * S + 1)
    assert one.verdict(one.last + 3 * S) is None and verdict is not None and verdict.state == "STALE"


def test_a_slow_beginning_does_not_keep_the_default_for_ever() -> None:
    one = fed([S // 5] * 5 + [10_000_000] * 10_000)
    assert one.threshold == STALE_MIN


def test_a_steady_stream_may_be_silent_for_five_of_its_intervals() -> None:
    for seconds in (1, 2, 7, 60):
        threshold = fed([seconds * S] * 100).threshold
        assert threshold == max(STALE_MIN, 5 * seconds * S)


def test_the_threshold_is_never_below_the_longest_interval_seen() -> None:
    one = fed([10_000_000] * 100_000 + [47 * S])
    assert one.threshold == 47 * S, "one in 100,000 is beyond p99.9"


@given(
    st.lists(st.one_of(st.integers(0, FINE), st.integers(FINE + 1, 60 * S)), min_size=SAMPLES_MIN, max_size=400),
)
def test_the_threshold_is_five_times_the_p999_interval(intervals: list[int]) -> None:
    """Against a naive percentile; the histogram may say up to 12.5 % more, never less."""
    one = fed(intervals, "quote")  # trades come in bursts, and count moments
    ordered = sorted(intervals)
    p999 = ordered[min(len(ordered) - 1, max(0, -(-999 * len(ordered) // 1000) - 1))]
    exact = max(STALE_MIN, 5 * p999, ordered[-1])
    assert exact <= one.threshold <= max(exact, round(5 * p999 * 1.126))


@given(st.lists(st.integers(0, 20 * S), max_size=80), st.integers(0, 79))
def test_the_threshold_depends_on_the_intervals_alone_not_on_when_it_is_read(intervals: list[int], at: int) -> None:
    one, two = stream(), stream()
    now = T0
    for number, interval in enumerate(intervals):
        now += interval
        for each in (one, two):
            each.touch(now)
        one.verdict(now + S)
        assert one.threshold == one.threshold
        if number == at:
            two.load(msgspec.msgpack.decode(msgspec.msgpack.encode(two.save()), type=StreamState))
    assert one.threshold == two.threshold


# Through the pump


def test_a_stream_that_was_never_acknowledged_becomes_stale() -> None:
    room = Room(BOOK).open()
    room.until(31)
    assert room.statuses() == [(30.25, "STALE", "nothing for 30.2 s, and never acknowledged")]
    assert room.gaps() == [], "it never saw anything: nothing was lost"


def test_a_stream_that_was_acknowledged_and_then_silent_becomes_stale() -> None:
    room = Room(TICKER).open()
    room.accept("ticker")
    room.until(121)
    assert room.statuses() == [(120.25, "STALE", "nothing for 120.2 s")]


def test_data_make_it_live_again_and_the_gap_tells_from_when_to_when() -> None:
    room = Room(TRADE).open()
    for number in range(40):
        room.until(1 + number)
        room.trade(number)
    assert room.statuses() == [(1.0, "LIVE", "")]
    room.until(60)
    ((at, state, reason),) = room.statuses()
    assert (state, reason) == ("STALE", f"nothing for {at - 40:.1f} s") and 45 < at <= 45.5
    assert room.gaps() == [("trade", 40.0, at, "stale", False)]
    room.trade(41)
    assert room.statuses() == [(60.0, "LIVE", "")]
    assert room.gaps()[1:] == [("trade", 40.0, 60.0, "stale", False)], "nothing brings lost trades back"


def test_a_book_that_speaks_again_after_staleness_is_healed() -> None:
    room = Room(BOOK).open()
    room.until(1)
    room.book()
    room.until(40)
    assert room.statuses() == [(1.0, "LIVE", ""), (31.25, "STALE", "nothing for 30.2 s")]
    room.book("update")
    assert [row[1] for row in room.statuses()] == ["RESYNC"], "nothing would show a change that is missing"
    room.book()
    assert room.statuses() == [(40.0, "LIVE", "")]
    assert room.gaps() == [("book", 1.0, 31.25, "stale", False), ("book", 1.0, 40.0, "stale", True)]


def test_a_loss_is_a_gap_until_the_next_snapshot() -> None:
    room = Room(BOOK, TRADE).open()
    room.until(5)
    room.book()
    room.trade()
    room.until(7)
    room.pump.lost("k-1", "closed_by_venue: 1006", room.now)
    room.until(8)
    room.open()
    room.until(9)
    room.book()
    room.trade(2)
    why = "connection lost: closed_by_venue: 1006"
    assert room.gaps() == [
        ("book", 5.0, 7.0, why, False), ("trade", 5.0, 7.0, why, False),
        ("book", 5.0, 9.0, why, True), ("trade", 5.0, 9.0, why, False),
    ]  # fmt: skip


def test_a_loss_before_the_first_data_is_no_gap() -> None:
    room = Room(BOOK, TRADE).open()
    room.until(700)
    room.pump.lost("k-1", "closed_by_venue: 1006", room.now)
    assert room.gaps() == [], "stale by then, but it had never seen anything"


def test_the_time_between_connections_is_no_interval() -> None:
    room = Room(TRADE).open()
    for number in range(40):
        room.until(1 + number)
        room.trade(number)
    room.pump.lost("k-1", "gone", room.now)
    room.until(400)
    room.open()
    room.trade(50)
    room.until(401)
    room.trade(51)
    (one,) = room.pump.links["k-1"].streams.values()
    assert one.longest == S and 5 * S <= one.threshold <= 5.7 * S


def test_a_subscription_added_late_has_its_own_time() -> None:
    room = Room(TRADE).open()
    room.trade()
    room.until(500)
    room.trade(2)
    room.pump.command(msgspec.json.encode(Order("want", "k-1", [BOOK])), room.now)
    room.told()
    room.until(529)
    assert room.statuses() == []
    room.until(531)
    assert room.statuses() == [(530.25, "STALE", "nothing for 30.2 s, and never acknowledged")]


def test_a_book_that_waits_for_its_snapshot_in_silence_becomes_stale() -> None:
    kind = dialect("binance")
    names = Names(kind, "ws://b")
    feed = Feed(
        "b", "binance", "binance", kind, "ws://b", "http://b", (Want("book", "BTCUSDT", "BTC-USDT"),), names, CALM
    )
    pump = Pump([feed], now=T0)
    pump.start(T0)
    pump.opened("b-1", T0)
    pump.frame("b-1", b'{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":5,"u":6,"b":[["1","1"]],"a":[]}', T0)
    pump.fetched("b-1", "depth:BTCUSDT", 200, b'{"lastUpdateId":9,"bids":[],"asks":[]}', T0 + 1)
    (one,) = pump.links["b-1"].streams.values()
    assert (one.state, one.sync.reason) == ("SYNCING", "waiting for the change that bridges snapshot 9")  # type: ignore[union-attr]
    while (due := pump.deadline) is not None and due < T0 + 31 * S:
        pump.tick(due)
    assert one.state == "STALE" and one.reason.startswith("nothing for 30.")


def test_a_book_whose_changes_flow_without_the_whole_book_is_asked_for_again() -> None:
    """Acknowledged, and its snapshot lost: changes that belong to nothing break no silence, so that nothing else would ever notice."""
    kind = dialect("kraken")
    names = Names(kind, "ws://k")
    wants = (Want("book", "BTC/USD", "BTC-USD", 10),)
    pump = Pump([Feed("k", "kraken", "kraken", kind, "ws://k", "http://k", wants, names, CALM)], now=T0)
    pump.start(T0)
    pump.opened("k-1", T0)
    change = b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":1.0,"qty":1.0}],"asks":[],"checksum":1}]}'
    asked = []
    for second in range(1, 8):
        pump.frame("k-1", change, T0 + second * S)
        while (due := pump.deadline) is not None and due <= T0 + (second + 1) * S:
            asked += [(due - T0) / S for effect in pump.tick(due) if isinstance(effect, Send)]
    assert asked and 5 < asked[0] < 6


def test_health_is_looked_at_even_where_every_timer_is_off() -> None:
    room = Room(TRADE).open()
    assert room.pump.deadline == T0 + S // 4


def test_a_status_says_threshold_and_samples() -> None:
    room = Room(TRADE).open()
    for number in range(40):
        room.until(1 + number)
        room.trade(number)
    room.until(60)
    status = [event for event in room.told() if isinstance(event, Status)][-1]
    expected = ("kraken", "BTC-USD", "BTC/USD", "trade", "STALE", "none", 40)
    found = (status.venue, status.symbol, status.raw, status.channel, status.state, status.evidence, status.samples)
    assert found == expected and status.since == status.recv and status.threshold_s == 5.0


@pytest.mark.parametrize(("offered", "evidence"), [(True, "checksum"), (False, "none")])
def test_a_book_says_how_far_live_can_be_proven(offered: bool, evidence: str) -> None:
    room = Room(BOOK).open()
    number = checksum(["1010"], ["2010"])
    room.book(more=f',"checksum":{number}' if offered else "")
    (status,) = (event for event in room.told() if isinstance(event, Status) and event.channel)
    assert (status.state, status.evidence) == ("LIVE", evidence)


def test_a_saved_stream_goes_on_as_the_one_that_was_saved() -> None:
    one = fed([S // 7 * (1 + i % 9) for i in range(200)])
    two = stream()
    two.load(msgspec.msgpack.decode(msgspec.msgpack.encode(one.save()), type=StreamState))
    now = one.last + 9 * S
    for each in (one, two):
        each.touch(now)
    assert two.save() == one.save() and two.threshold == one.threshold
