"""The one path, record by record: what comes from outside is judged, counted and told, and never escapes as an exception."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truetape.app.dialects import Names, dialect, known
from truetape.core.feed.plan import Feed
from truetape.core.feed.session import GARBAGE_MAX, Timing
from truetape.core.feed.venue import Want
from truetape.core.route import checkpoint
from truetape.core.route.mailbox import Mailbox
from truetape.core.route.modes import drop_oldest
from truetape.core.route.orders import Order
from truetape.core.route.pump import Pump
from truetape.core.route.router import Router
from truetape.model.effect import Close, Doubt, Effect, Fetch, Open, Send
from truetape.model.event import Gap, Market, Status, Trade
from truetape.venues.kraken import checksum

S = 1_000_000_000
T0 = 1_780_000_000 * S
TIME = "2026-05-29T00:00:00Z"
CALM = Timing(ping_every_s=0, app_ping_every_s=0, dead_after_s=0, ack_within_s=0, jitter=0)
BOOK, TRADE, OTHER = (
    Want("book", "A/USD", "A-USD", 10),
    Want("trade", "A/USD", "A-USD"),
    Want("book", "B/USD", "B-USD", 10),
)


class Room:
    """A pump of one feed, and all that a consumer of everything is told."""

    def __init__(self, venue: str, *wants: Want, how: Timing = CALM, per_connection: int = 0) -> None:
        kind = dialect(venue)
        self.router, self.now = Router(), T0
        self.box = Mailbox("all", drop_oldest, 100_000)
        kinds = ("trade", "quote", "book_delta", "ticker", "bar")
        self.router.subscribe(self.box, [(name, "*", "*") for name in kinds])
        names = Names(kind, kind.url)
        feed = Feed("f", venue, venue, kind, kind.url, "http://rest", wants, names, how, False, per_connection)
        self.pump = Pump([feed], router=self.router, now=T0)
        self.pump.start(T0)
        for source in self.pump.links:
            self.pump.opened(source, T0)
        self.told()

    def frame(self, tree: Any, source: str = "f-1") -> list[Effect]:
        self.now += 1000
        return self.pump.frame(source, tree if isinstance(tree, bytes) else msgspec.json.encode(tree), self.now)

    def command(self, do: str, *wants: Want, source: str = "f-1") -> list[Effect]:
        return self.pump.command(msgspec.json.encode(Order(do, source, list(wants))), self.now)  # type: ignore[arg-type]

    def until(self, seconds: float) -> list[Effect]:
        """Time passes by the pump's deadlines."""
        end, done, ticks = T0 + round(seconds * S), list[Effect](), 0
        while (due := self.pump.deadline) is not None and due <= end:
            self.now = max(self.now, due)
            done += self.pump.tick(self.now)
            ticks += 1
            assert ticks <= 20 * seconds + 20, "a storm of timers"
        self.now = end
        return done

    def told(self) -> list[Market]:
        self.router.flush(self.now)
        return list(self.box.take(100_000, self.now))

    def statuses(self) -> list[tuple[str, str, str]]:
        return [(e.symbol, e.state, e.reason) for e in self.told() if isinstance(e, Status) and e.channel]

    def states(self) -> dict[str, str]:
        return {f"{s.channel} {s.symbol}": s.state for link in self.pump.links.values() for s in link.streams.values()}

    # Kraken's frames

    def book(
        self, raw: str = "A/USD", kind: str = "snapshot", offered: int | None = None, bid: float = 1.0
    ) -> list[Effect]:
        row: dict[str, Any] = {
            "symbol": raw,
            "bids": [{"price": bid, "qty": 1.0}],
            "asks": [{"price": 2.0, "qty": 1.0}],
        }
        if offered is not None:
            row["checksum"] = offered
        return self.frame({"channel": "book", "type": kind, "data": [row]})

    def trade(self, *numbers: int, raw: str = "A/USD", price: Any = 1.5) -> list[Effect]:
        rows = [
            {"symbol": raw, "side": "buy", "price": price, "qty": 1, "trade_id": n, "timestamp": TIME} for n in numbers
        ]
        return self.frame({"channel": "trade", "type": "update", "data": rows})


def sends(effects: list[Effect]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(effect.data) for effect in effects if isinstance(effect, Send)]


RIGHT = checksum(["1010"], ["2010"])


# What cannot be read


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"[1,2", b"null", b"[]", b"1", b'"x"', b'{"channel":1}', b"[" * 5000]
)
@pytest.mark.parametrize("venue", known())
def test_an_unreadable_frame_never_escapes(venue: str, data: bytes) -> None:
    room = Room(venue, Want("book", dialect(venue).native("BTC-USDT"), "BTC-USDT"))
    link = room.pump.links["f-1"]
    for _ in range(GARBAGE_MAX - 1):
        room.frame(data)
    assert link.counts.frames == GARBAGE_MAX - 1
    assert link.counts.errors + link.counts.ignored + link.counts.damaged <= link.counts.frames


SPOKEN = """channel type data symbol bids asks price qty e s U u b a events product_id updates topic ts arg action cmd code method result
success error id stream book trade update snapshot BTC/USDT BTCUSDT BTC-USDT depthUpdate l2_data depth 1e400 NaN -1"""
WORDS = SPOKEN.split()
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=8), st.sampled_from(WORDS)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(WORDS), inner, max_size=6)),
    max_leaves=20,
)


@pytest.mark.parametrize("venue", known())
@settings(max_examples=20, deadline=None)
@given(st.lists(st.one_of(TREES, st.binary(max_size=60)), max_size=12))
def test_nothing_that_a_venue_says_escapes(venue: str, said: list[Any]) -> None:
    native = dialect(venue).native("BTC-USDT")
    room = Room(venue, Want("book", native, "BTC-USDT"), Want("trade", native, "BTC-USDT"))
    for item in said:
        room.frame(item if isinstance(item, bytes) else msgspec.json.encode(item))
    room.pump.digest.value()
    room.until(60)


def test_many_unreadable_frames_in_a_row_hang_up_and_a_readable_one_forgives() -> None:
    room = Room("kraken", BOOK)
    for _ in range(GARBAGE_MAX - 1):
        assert room.frame(b"{") == [Doubt("f-1")], "whoever has the frame looks whether it was one"
    room.frame({"channel": "heartbeat"})
    effects = [effect for _ in range(GARBAGE_MAX) for effect in room.frame(b"{")]
    assert [type(effect) for effect in effects] == [*[Doubt] * (GARBAGE_MAX - 1), Close, Doubt]


def test_siblings_of_a_damaged_message_survive() -> None:
    room = Room("kraken", TRADE, Want("trade", "B/USD", "B-USD"))
    rows = [
        {"symbol": raw, "side": "buy", "price": price, "qty": 1, "trade_id": n, "timestamp": TIME}
        for n, (raw, price) in enumerate(
            [("A/USD", 1.5), ("A/USD", "NaN"), ("B/USD", 2.5), ("A/USD", -1), ("A/USD", 3.5)]
        )
    ]
    room.frame({"channel": "trade", "type": "update", "data": rows})
    assert [event.price for event in room.told() if isinstance(event, Trade)] == [1.5, 2.5, 3.5]
    assert room.pump.links["f-1"].counts.damaged == 2


def test_a_damaged_change_puts_its_book_in_doubt_and_no_other() -> None:
    room = Room("kraken", BOOK, OTHER)
    room.book("A/USD")
    room.book("B/USD")
    row = {"symbol": "A/USD", "bids": [{"price": "x", "qty": 1}], "asks": []}
    effects = room.frame({"channel": "book", "type": "update", "data": [row]})
    assert room.states() == {"book A-USD": "RESYNC", "book B-USD": "LIVE"}
    assert [(tree["method"], tree["params"]["symbol"]) for tree in sends(effects)] == [
        ("unsubscribe", ["A/USD"]),
        ("subscribe", ["A/USD"]),
    ]


def test_an_unreadable_frame_puts_in_doubt_what_nothing_guards() -> None:
    """Kraken's book without a checksum could have lost a change in it; with one, the next checksum would tell."""
    room = Room("kraken", BOOK, OTHER)
    room.book("A/USD", offered=RIGHT)
    room.book("B/USD")
    room.frame(b"{")
    assert room.states() == {"book A-USD": "LIVE", "book B-USD": "RESYNC"}


# What nobody asked for


def test_data_of_unknown_streams_are_counted_and_not_fatal() -> None:
    room = Room("kraken", TRADE)
    before = room.pump.links["f-1"].counts.ignored
    room.book("NEW/USD")
    room.trade(1, raw="NEW/USD")
    room.frame({"channel": "executions", "type": "update", "data": []})
    assert room.told() == [] and room.pump.links["f-1"].counts.ignored == before + 3
    assert room.pump.digest.counts() == {}


def test_late_data_of_an_unsubscribed_symbol_are_ignored() -> None:
    room = Room("kraken", BOOK, TRADE)
    room.book()
    room.trade(1)
    effects = room.command("unwant", BOOK, TRADE)
    assert sorted(tree["params"]["channel"] for tree in sends(effects)) == ["book", "trade"]
    assert room.statuses()[-2:] == [("A-USD", "CLOSED", "unsubscribed")] * 2
    room.book(kind="update")
    room.trade(2)
    assert room.told() == [] and room.pump.links["f-1"].streams == {} and room.pump.links["f-1"].books == {}


def test_a_late_snapshot_of_an_unsubscribed_symbol_is_ignored() -> None:
    want = Want("book", "BTCUSDT", "BTC-USDT")
    room = Room("binance", want)
    room.frame({"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": 5, "u": 6, "b": [], "a": []})
    room.command("unwant", want)
    room.told()
    assert room.pump.fetched("f-1", "depth:BTCUSDT", 200, b"{}", room.now) == []
    assert room.pump.fetched("f-1", "depth:BTCUSDT", 500, b"", room.now) == []
    assert room.told() == [] and room.pump.links["f-1"].desk.waiting == 0


# Commands


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"do":"dance","source":"f-1","wants":[]}', b'{"do":"want","source":"nowhere","wants":[]}',
     b'{"do":"want","source":"f-1","wants":[{"channel":"book"}]}', b'{"do":"want","source":"f-1","wants":[],"more":1}',
     msgspec.json.encode(Order("want", "f-1", [BOOK, Want("prophecy", "A/USD", "A-USD")])),
     msgspec.json.encode(Order("want", "f-1", [BOOK, Want("bar.7x", "A/USD", "A-USD")])),
     msgspec.json.encode(Order("want", "f-1", [Want("book", "", "A-USD")])),
     msgspec.json.encode(Order("want", "f-1", [Want("book", "A/USD", "")])),
     b"\xff", b"[" * 5000],
)  # fmt: skip
def test_a_command_that_cannot_be_followed_is_counted_and_changes_nothing(body: bytes) -> None:
    room = Room("kraken", TRADE)
    assert room.pump.command(body, room.now) == []
    assert room.pump.refused == 1
    assert room.states() == {"trade A-USD": "SYNCING"} and room.told() == []
    room.pump.lost("f-1", "gone", room.now)
    assert len(sends(room.pump.opened("f-1", room.now))) == 1, "and nothing of it comes back with the connection"


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(
        TREES,
        st.fixed_dictionaries({"do": st.sampled_from(["want", "unwant"]), "source": st.just("f-1"), "wants": TREES}),
    )
)
def test_no_command_stops_the_pump(tree: Any) -> None:
    room = Room("kraken", TRADE)
    room.pump.command(msgspec.json.encode(tree), room.now)
    room.pump.lost("f-1", "gone", room.now)
    room.pump.opened("f-1", room.now)


def test_a_symbol_is_added_while_running() -> None:
    room = Room("kraken", TRADE)
    (request,) = sends(room.command("want", OTHER))
    assert request["params"] == {"channel": "book", "symbol": ["B/USD"], "depth": 10}
    room.book("B/USD")
    assert room.statuses() == [("B-USD", "LIVE", "")]
    assert room.command("want", OTHER) == [], "twice is once"
    room.pump.lost("f-1", "gone", room.now)
    assert len(sends(room.pump.opened("f-1", room.now))) == 2


def test_an_unwant_of_what_is_not_subscribed_is_nothing() -> None:
    room = Room("kraken", TRADE)
    assert room.command("unwant", OTHER) == [] and room.told() == [] and room.pump.refused == 0


def test_a_symbol_has_one_name_in_a_feed() -> None:
    room = Room("kraken", TRADE)
    room.command("want", Want("book", "A/USD", "ALIAS-USD", 10))
    room.book()
    room.trade(1)
    assert {event.symbol for event in room.told()} == {"A-USD"}


def test_unsubscribing_from_trades_leaves_the_books_snapshot_alone() -> None:
    book, trade = Want("book", "BTCUSDT", "BTC-USDT"), Want("trade", "BTCUSDT", "BTC-USDT")
    room = Room("binance", book, trade)
    room.frame({"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": 5, "u": 6, "b": [], "a": []})
    assert room.pump.links["f-1"].desk.waiting == 1
    room.command("unwant", trade)
    assert room.pump.links["f-1"].desk.waiting == 1


# Refusals


def refuse(room: Room, raw: str, error: str = "Currency pair not supported") -> list[Effect]:
    asked = room.pump.links["f-1"].dialect.memory.asked  # type: ignore[attr-defined]
    number = next(number for number, pairs in asked.items() if any(pair[1] == raw for pair in pairs))
    return room.frame({"method": "subscribe", "success": False, "error": error, "symbol": raw, "req_id": int(number)})


def test_a_refused_symbol_is_closed_and_stays_closed_when_the_connection_comes_back() -> None:
    room = Room("kraken", BOOK, OTHER)
    refuse(room, "A/USD")
    assert room.statuses() == [("A-USD", "CLOSED", "unknown_symbol: Currency pair not supported")]
    room.book("B/USD")
    room.pump.lost("f-1", "gone", room.now)
    (request,) = sends(room.pump.opened("f-1", room.now))
    assert request["params"]["symbol"] == ["B/USD"]
    room.until(300)
    assert room.states()["book A-USD"] == "CLOSED", "not STALE: nobody waits for it"
    assert all(event.symbol != "A-USD" for event in room.told())


def test_a_refused_symbol_may_be_asked_for_again() -> None:
    room = Room("kraken", BOOK)
    refuse(room, "A/USD")
    assert len(sends(room.command("want", BOOK))) == 1
    assert room.statuses()[-1] == ("A-USD", "SYNCING", "waiting for the first data")
    room.book()
    assert room.states() == {"book A-USD": "LIVE"}


def test_a_rate_limit_closes_nothing() -> None:
    room = Room("kraken", BOOK)
    assert refuse(room, "A/USD", "rate limit exceeded") == []
    assert room.states() == {"book A-USD": "SYNCING"}


def test_a_stopped_connection_closes_all_that_it_carried_and_is_never_dialed_again() -> None:
    want = Want("book", "AAPL.US", "AAPL.US")
    room = Room("tickdb", want, Want("trade", "AAPL.US", "AAPL.US"))
    room.frame(
        {"cmd": "depth", "data": {"symbol": "AAPL.US", "bids": [["1", "1"]], "asks": [["2", "1"]], "timestamp": 1}}
    )
    (close,) = room.frame({"cmd": "subscribe", "code": 1001, "message": "invalid api key"})
    assert isinstance(close, Close)
    room.pump.lost("f-1", close.reason, room.now)
    assert set(room.statuses()[-2:]) == {("AAPL.US", "CLOSED", close.reason)}
    assert close.reason == "bad_key: invalid api key" and set(room.states().values()) == {"CLOSED"}
    assert not any(isinstance(effect, Open) for effect in room.until(3600))


# Holes, counters, gaps


def test_a_hole_puts_books_in_resync_until_their_next_snapshot() -> None:
    room = Room("kraken", BOOK, TRADE, OTHER)
    room.book()
    room.trade(1)
    refuse(room, "B/USD")
    room.told()
    room.pump.hole(room.now, "overflow")
    assert room.states() == {"book A-USD": "RESYNC", "trade A-USD": "LIVE", "book B-USD": "CLOSED"}
    gaps = [event for event in room.told() if isinstance(event, Gap)]
    assert [(gap.channel, gap.reason, gap.recovered) for gap in gaps] == [
        ("book", "hole in the journal: overflow", False), ("trade", "hole in the journal: overflow", False),
    ]  # fmt: skip
    room.book(kind="update")
    assert room.states()["book A-USD"] == "RESYNC"
    room.book()
    assert room.states()["book A-USD"] == "LIVE"
    assert [(gap.channel, gap.recovered) for gap in room.told() if isinstance(gap, Gap)] == [("book", True)]


def coinbase(number: int, raw: str, kind: str = "update") -> dict[str, Any]:
    rows = [
        {"side": "bid", "price_level": "1", "new_quantity": "1"},
        {"side": "offer", "price_level": "2", "new_quantity": "1"},
    ]
    event = {"type": kind, "product_id": raw, "updates": rows}
    return {"channel": "l2_data", "timestamp": TIME, "sequence_num": number, "events": [event]}


def test_a_broken_counter_doubts_every_book_of_that_connection_only() -> None:
    wants = [Want("book", f"{name}-USD", f"{name}-USD") for name in "ABCD"]
    room = Room("coinbase", *wants, per_connection=2)
    carried = {source: [stream.raw for stream in link.streams.values()] for source, link in room.pump.links.items()}
    assert [len(names) for names in carried.values()] == [2, 2]
    for source, names in carried.items():
        for number, name in enumerate(names):
            room.frame(coinbase(number, name, "snapshot"), source)
    assert set(room.states().values()) == {"LIVE"}
    mine, theirs = carried.values()
    room.frame(coinbase(2, mine[0]))
    effects = room.frame(coinbase(5, mine[0]))
    states = [(name, "RESYNC") for name in mine] + [(name, "LIVE") for name in theirs]
    assert room.states() == {f"book {name}": state for name, state in states}
    assert {effect.source for effect in effects} == {"f-1"}
    gaps = [event for event in room.told() if isinstance(event, Gap)]
    assert [(gap.symbol, gap.from_seq, gap.to_seq, gap.reason) for gap in gaps] == [
        (name, 2, 5, "expected frame 3, found 5") for name in mine
    ]


def depth(first: int, last: int, bid: str = "1") -> dict[str, Any]:
    return {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": first, "u": last, "b": [[bid, "1"]], "a": []}


SNAPSHOT = b'{"lastUpdateId":%d,"bids":[["1","1"]],"asks":[["3","1"]]}'


def binance() -> Room:
    room = Room("binance", Want("book", "BTCUSDT", "BTC-USDT"))
    (fetch,) = room.frame(depth(5, 6))
    assert isinstance(fetch, Fetch) and fetch.ref == "depth:BTCUSDT"
    room.pump.fetched("f-1", fetch.ref, 200, SNAPSHOT % 5, room.now)
    assert room.states() == {"book BTC-USDT": "LIVE"}
    room.told()
    return room


def test_a_gap_tells_its_own_numbers_not_those_of_the_gap_before() -> None:
    room = binance()
    room.frame(depth(9, 9))
    room.frame(depth(10, 10))
    room.pump.fetched("f-1", "depth:BTCUSDT", 200, SNAPSHOT % 9, room.now)
    assert room.states() == {"book BTC-USDT": "LIVE"}
    room.frame(depth(11, 11, bid="4"))
    gaps = [(gap.reason.partition(":")[0], gap.from_seq, gap.to_seq) for gap in room.pump.gaps if not gap.recovered]
    assert gaps == [("expected seq 7, found seq 9", 6, 9), ("crossed", 10, 11)]


def test_a_book_that_breaks_while_it_is_joined_is_asked_for_at_once() -> None:
    room = Room("binance", Want("book", "BTCUSDT", "BTC-USDT"))
    room.frame(depth(5, 6))
    room.frame(depth(9, 9))
    effects = room.pump.fetched("f-1", "depth:BTCUSDT", 200, SNAPSHOT % 5, room.now)
    assert [type(effect) for effect in effects] == [Fetch] and room.states() == {"book BTC-USDT": "RESYNC"}


def test_a_snapshot_that_is_too_old_is_fetched_again_at_once_then_patiently() -> None:
    room = Room("binance", Want("book", "BTCUSDT", "BTC-USDT"))
    room.frame(depth(50, 60))
    at = []
    for _ in range(5):
        effects = room.pump.fetched("f-1", "depth:BTCUSDT", 200, SNAPSHOT % 5, room.now)
        before = room.now
        while not effects and (due := room.pump.deadline) is not None:
            room.now = due
            effects = room.pump.tick(due)
        at.append((room.now - before) / S)
    assert [round(wait) for wait in at] == [0, 1, 2, 4, 8]


def test_a_snapshot_whose_checksum_fails_is_asked_for_again_at_once() -> None:
    room = Room("kraken", BOOK)
    room.book(offered=RIGHT)
    assert len(sends(room.book(kind="update", offered=1))) == 2 and room.states() == {"book A-USD": "RESYNC"}
    assert len(sends(room.book(offered=2))) == 2, "not waited out as if none had come"
    room.book(offered=RIGHT)
    assert room.states() == {"book A-USD": "LIVE"}


def test_a_fetch_that_fails_after_the_connection_was_lost_starts_no_timer() -> None:
    room = Room("binance", Want("book", "BTCUSDT", "BTC-USDT"))
    room.frame(depth(5, 6))
    room.pump.lost("f-1", "refused: later", room.now, 429, 3600.0)
    room.pump.fetched("f-1", "depth:BTCUSDT", 503, b"", room.now)
    room.until(300)
    assert room.pump.links["f-1"].desk.waiting == 0


def test_a_fetched_body_that_cannot_be_read_is_counted_and_tried_again() -> None:
    room = Room("binance", Want("book", "BTCUSDT", "BTC-USDT"))
    room.frame(depth(5, 6))
    for body in (b"<html>", b"{}", b'{"lastUpdateId":"x"}', b"\xff"):
        room.pump.fetched("f-1", "depth:BTCUSDT", 200, body, room.now)
    assert room.pump.links["f-1"].counts.errors == 4
    assert any(isinstance(effect, Fetch) for effect in room.until(2))


def test_a_confirmation_is_for_its_own_channel() -> None:
    room = Room("kraken", BOOK, TRADE)
    room.frame({"method": "subscribe", "success": True, "result": {"channel": "trade", "symbol": "A/USD"}})
    acked = {stream.channel: stream.acked for stream in room.pump.links["f-1"].streams.values()}
    assert acked == {"book": False, "trade": True}
    assert room.pump.links["f-1"].session.unacknowledged == [("book", "A/USD")]  # type: ignore[union-attr]


# -- connections that are opened while running


def test_a_connection_is_opened_and_hung_up_while_running() -> None:
    room = Room("kraken", BOOK)
    more = Want("book", "B/USD", "B-USD")
    opened = room.pump.command(msgspec.json.encode(Order("open", "f-2", [more], "f")), room.now)
    assert [(type(effect), effect.source) for effect in opened] == [(Open, "f-2")]
    sent = room.pump.opened("f-2", room.now)
    assert any(isinstance(effect, Send) and b"B/USD" in effect.data for effect in sent)
    assert room.pump.links["f-2"].extra == more
    room.pump.command(msgspec.json.encode(Order("unwant", "f-2", [more])), room.now)
    closes = [effect for effect in room.until(1) if isinstance(effect, Close)]
    assert [(effect.source, effect.reason) for effect in closes] == [("f-2", "nothing is wanted of it any more")]
    room.pump.lost("f-2", "closed", room.now)
    assert not [effect for effect in room.until(30) if effect.source == "f-2"], "and it is not dialed again"
    again = room.pump.command(msgspec.json.encode(Order("open", "f-2", [more], "f")), room.now)
    assert [type(effect) for effect in again] == [Open]
    assert room.pump.refused == 0


@pytest.mark.parametrize(
    ("source", "feed", "wants"),
    [
        ("f-1", "f", [BOOK]),
        ("f-2", "g", [BOOK]),
        ("f-2", "f", []),
        ("f-2", "f", [Want("prophecy", "A/USD", "A-USD")]),
    ],
)
def test_a_connection_that_cannot_be_opened_changes_nothing(source: str, feed: str, wants: list[Want]) -> None:
    room = Room("kraken", BOOK)
    before = checkpoint.save(room.pump)
    assert room.pump.command(msgspec.json.encode(Order("open", source, wants, feed)), room.now) == []
    assert (room.pump.refused, checkpoint.save(room.pump)) == (1, before)


def test_one_that_was_unwanted_while_it_was_dialed_is_hung_up_once_it_stands() -> None:
    room = Room("kraken", BOOK)
    more = Want("book", "B/USD", "B-USD")
    room.pump.command(msgspec.json.encode(Order("open", "f-2", [more], "f")), room.now)
    room.pump.command(msgspec.json.encode(Order("unwant", "f-2", [more])), room.now)
    assert not [effect for effect in room.until(1) if effect.source == "f-2"]
    room.pump.opened("f-2", room.now)
    assert [type(effect) for effect in room.until(2) if effect.source == "f-2"] == [Close]
