"""The simulated market: its matching book against a naive one, its flow by seed, and both dialects against our own gateway."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from truetape.app.dialects import Names, dialect
from truetape.app.sim import counterpart
from truetape.core.feed.counterpart import Counterpart, Ladder, Subscribed, Unsubscribed
from truetape.core.feed.parse import rfc3339_ns
from truetape.core.feed.plan import Feed
from truetape.core.feed.venue import Want
from truetape.core.feed.write import decimal, rfc3339, steps
from truetape.core.route.pump import Pump
from truetape.core.sim.flow import LEVELS_MIN, Flow
from truetape.core.sim.listing import listings
from truetape.core.sim.loop import Loop
from truetape.core.sim.market import Market
from truetape.core.sim.matching import MatchingBook
from truetape.venues._serve_kraken_words import checksum

T0 = 1_780_000_000_000_000_000
MS = 1_000_000


def market(venue: str = "kraken", symbols: int = 3, seed: int = 7, *, history: bool = False) -> Market:
    kind = counterpart(venue)
    rows = listings(symbols, seed, kind.size_decimals, venue == "tickdb")
    return Market(rows, dialect(venue).native, seed, T0, history=history)


# Exact texts


@given(st.integers(0, 10**17), st.integers(0, 10))
def test_decimal_text_keeps_every_digit(value: int, places: int) -> None:
    text = decimal(value, places)
    assert int(text.replace(".", "")) == value
    assert len(text.partition(".")[2]) == places


@given(st.integers(0, 10**14), st.integers(0, 10))
def test_steps_of_a_float_give_the_steps_back(value: int, places: int) -> None:
    assert steps(float(decimal(value, places)), places) == value


@given(st.integers(0, 4_102_444_800_000_000))
def test_a_written_time_reads_as_the_same_time(micros: int) -> None:
    assert rfc3339_ns(rfc3339(micros * 1000)) == micros * 1000


# The matching book


class Naive:
    """Price-time priority by sorting a list: slow and plainly right."""

    def __init__(self) -> None:
        self.resting: list[list[int]] = []  # [number, buy, price, lots]
        self.last = 0

    def send(self, buy: bool, price: int | None, lots: int) -> list[tuple[int, int, int]]:
        self.last += 1
        fills = []
        others = [order for order in self.resting if order[1] != buy]
        for order in sorted(others, key=lambda order: (order[2] if buy else -order[2], order[0])):
            if not lots or (price is not None and (order[2] > price if buy else order[2] < price)):
                break
            taken = min(lots, order[3])
            fills.append((order[2], taken, order[0]))
            lots -= taken
            order[3] -= taken
        self.resting = [order for order in self.resting if order[3]]
        if lots and price is not None:
            self.resting.append([self.last, buy, price, lots])
        return fills

    def cancel(self, number: int) -> bool:
        before = len(self.resting)
        self.resting = [order for order in self.resting if order[0] != number]
        return len(self.resting) < before

    def levels(self, buy: bool) -> dict[int, int]:
        sizes: dict[int, int] = {}
        for order in self.resting:
            if order[1] == buy:
                sizes[order[2]] = sizes.get(order[2], 0) + order[3]
        return sizes


ORDERS = st.lists(
    st.one_of(
        st.tuples(st.just("limit"), st.booleans(), st.integers(90, 110), st.integers(1, 9)),
        st.tuples(st.just("market"), st.booleans(), st.just(0), st.integers(1, 30)),
        st.tuples(st.just("cancel"), st.booleans(), st.integers(1, 60), st.just(0)),
    ),
    max_size=60,
)


@given(ORDERS)
def test_the_book_matches_as_a_naive_one_does(orders: list[tuple[str, bool, int, int]]) -> None:
    book, naive = MatchingBook(), Naive()
    told: tuple[Ladder, Ladder] = (Ladder(1), Ladder(-1))
    for kind, buy, number, lots in orders:
        if kind == "cancel":
            resting = [order for order in naive.resting if order[0] == number and order[1] == buy]
            assert book.cancel(number, buy) is bool(resting)
            if resting:
                naive.cancel(number)
        else:
            price = number if kind == "limit" else None
            expected = naive.send(buy, price, lots)
            fills = book.limit(buy, number, lots) if price is not None else book.market(buy, lots)
            assert [(fill.price, fill.size, fill.maker) for fill in fills] == expected
            assert all(fill.buy is buy and fill.taker == book.last for fill in fills)
        changed = book.changes()
        for side, ladder, levels in zip((book.bids, book.asks), told, changed, strict=True):
            assert len({price for price, _ in levels}) == len(levels), "a level is told once"
            for level in levels:
                ladder.put(*level)
            assert dict(side.top()) == naive.levels(side is book.bids) == dict(ladder.top())
            assert side.keys == sorted(side.sizes) == ladder.keys
            assert {key: sum(queue.values()) for key, queue in side.queues.items()} == side.sizes
    assert sorted(book.orders) == sorted(order[0] for order in naive.resting)


# The flow


def test_the_same_seed_makes_the_same_flow() -> None:
    flows = []
    for seed, start in ((7, T0), (7, T0 + 5), (8, T0)):
        rows = market(seed=seed)
        changes = [rows.step(start + i) for i in range(2000)]
        flows.append(
            [(c.raw, c.seq, c.bids, c.asks, [(p.price, p.size, p.side, p.id) for p in c.prints]) for c in changes]
        )
    assert flows[0] == flows[1], "the flow does not depend on the clock"
    assert flows[0] != flows[2]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("orders", [1, 5])
def test_books_stay_deep_uncrossed_and_numbered_without_a_hole(seed: int, orders: int) -> None:
    rows = market(seed=seed, symbols=25)
    last = {raw: listed.seq for raw, listed in rows.listed.items()}
    traded = 0
    for i in range(30_000):
        change = rows.step(T0 + i, orders)
        listed = rows.listed[change.raw]
        assert change.first == last[change.raw] + 1
        assert change.seq == last[change.raw] + len(change.bids) + len(change.asks) >= change.first
        last[change.raw] = change.seq
        assert min(len(listed.bids.keys), len(listed.asks.keys)) >= LEVELS_MIN, f"seed {seed}, step {i}"
        assert 0 < listed.bids.best < listed.asks.best, f"seed {seed}, step {i}"
        traded += bool(change.prints)
    assert 0.02 < traded / 30_000 / orders < 0.2
    for listed in rows.listed.values():
        assert max(len(listed.bids.keys), len(listed.asks.keys)) < 120
        assert (listed.asks.best - listed.bids.best) / listed.bids.best < 0.02
        assert 0.5 < listed.day.close / listed.day.open < 2


@pytest.mark.parametrize("price", [5_000, 7_123, 12_345, 671_234])
@pytest.mark.parametrize("seed", [1, 2])
def test_after_an_hour_the_best_levels_are_still_near_the_fair_price(price: int, seed: int) -> None:
    """40,000 orders: an hour of the busiest of 1,000 symbols at 3,400 messages a second."""
    flow = Flow(MatchingBook(), price, 1000, Random(f"{seed}:{price}").random)
    flow.open()
    for step in range(40_000):
        flow.step()
        if step % 50:
            continue
        flow.book.changes()
        bids, asks = flow.book.bids.keys, flow.book.asks.keys
        middle = (bids[-1] - asks[-1]) / 2
        where = f"price {price}, seed {seed}, step {step}"
        assert abs(middle - flow._fair) < 0.02 * price, f"{where}: stands at {middle}, fair is {flow._fair}"
        assert max(middle - bids[-20], -asks[-20] - middle) < 0.03 * price, f"{where}: 20 levels reach too far"


def test_history_gives_the_book_at_any_number() -> None:
    rows = market(history=True)
    seen = {}
    for i in range(500):
        change = rows.step(T0 + i)
        seen[change.raw, change.seq] = rows.levels(change.raw, 12)
    for (raw, seq), levels in seen.items():
        assert rows.levels_at(raw, seq, 12) == levels
    with pytest.raises(ValueError, match="expected the last number of a change"):
        rows.levels_at("BTC/USDT", 5)
    with pytest.raises(ValueError, match="no history"):
        market().levels_at("BTC/USDT", 5)


def test_generated_symbols_follow_the_known_ones() -> None:
    rows = listings(30, 1, 8)
    assert [row.symbol for row in rows[:2]] == ["BTC-USDT", "ETH-USDT"]
    assert rows[29].symbol == "S0030-USDT"
    assert len({row.symbol for row in rows}) == 30
    assert [row.symbol for row in listings(4, 1, 8, shares=True)] == ["BTC-USDT", "AAPL.US", "ETH-USDT", "NVDA.US"]


def test_a_loop_goes_there_and_back_again() -> None:
    rows = market()
    loop = Loop(rows, 200, 2, T0)
    opening = {raw: loop.levels(raw) for raw in loop.listed}
    assert opening == {raw: market().levels(raw) for raw in loop.listed}
    path = [opening]
    last = {raw: listed.seq for raw, listed in loop.listed.items()}
    for i in range(1000):
        change = loop.step(T0 + i)
        assert (
            change.first == last[change.raw] + 1
            and change.seq == change.first + len(change.bids) + len(change.asks) - 1
        )
        last[change.raw] = change.seq
        path.append({raw: loop.levels(raw) for raw in loop.listed})
    assert path[400] == path[800] == opening != path[200]
    assert path[200] == path[600] == {raw: rows.levels(raw) for raw in rows.listed}
    assert path[199] == path[201] and path[17] == path[383] == path[417]
    assert [trade.id for trade in loop.listed["BTC/USDT"].prints] == list(range(*_ids(loop, "BTC/USDT")))


def _ids(loop: Loop, raw: str) -> tuple[int, int]:
    prints = loop.listed[raw].prints
    return prints[0].id, prints[-1].id + 1


# A client of ours before a simulated venue, with no socket between them


class Table:
    """Our gateway on one side, a counterpart on the other, a market behind it."""

    def __init__(
        self, venue: str, rows: Market, *, depth: int = 0, channels: tuple[str, ...] = ("book", "trade")
    ) -> None:
        kind = dialect(venue)
        self.rows = rows
        self.venue: Counterpart = counterpart(venue)(rows.listed)
        self.source = "sim"
        self.now = T0
        self.told: set[str] = set()
        self.frames = 0
        url = {"kraken": "ws://sim/v2", "binance": "ws://sim/stream"}.get(venue, "ws://sim")
        self.pump = Pump()
        self.pump.observe(self.source, Feed("sim", venue, venue, kind, url, "http://sim", (), Names(kind, url)), url)
        self.pump.opened(self.source, self.now)
        self.take(self.venue.opened(url.partition("//sim")[2] or "/", self.now))
        self.link = self.pump.links[self.source]
        names = {raw: listed.instrument.symbol for raw, listed in rows.listed.items()}
        self.wants = [Want(channel, raw, names[raw], depth) for raw in rows.listed for channel in channels]

    def take(self, answers: Any) -> None:
        for answer in answers:
            if isinstance(answer, bytes):
                self.frames += 1
                self.pump.frame(self.source, answer, self.now)
            elif isinstance(answer, Subscribed):
                self.told.add(answer.raw)
            elif isinstance(answer, Unsubscribed):
                self.told.discard(answer.raw)

    def ask(self, messages: list[bytes]) -> None:
        for message in messages:
            self.take(self.venue.received(message, self.now))

    def fetch(self, want: Want) -> None:
        url = self.link.dialect.snapshot_url(want, "http://sim")
        assert url is not None
        path, _, query = url.removeprefix("http://sim").partition("?")
        pairs = dict(pair.split("=") for pair in query.split("&"))
        reply = self.venue.http(self.rows.listed, path, pairs, self.now)
        assert reply.status == 200
        self.pump.fetched(self.source, f"depth:{want.raw}", 200, reply.body, self.now)

    def run(self, steps: int, orders: int = 1) -> None:
        for _ in range(steps):
            self.now += MS
            change = self.rows.step(self.now, orders)
            if change.raw in self.told:
                self.take(frame for _, frame in self.venue.encode(change, self.now))
            self.take(frame for _, (_, frame) in self.venue.tick(self.now))

    def agrees(self, depth: int) -> None:
        """Every book is LIVE and equals the oracle's."""
        for raw in self.rows.listed:
            sync = self.link.streams["book", raw].sync
            assert sync is not None and (sync.state, sync.reason) == ("LIVE", "")
            truth = self.rows.levels(raw, depth)
            assert sync.book.bids() == [(float(price), float(size)) for price, size in truth[0]]
            assert sync.book.asks() == [(float(price), float(size)) for price, size in truth[1]]


@pytest.mark.parametrize("depth", [10, 25, 1000])
@pytest.mark.parametrize("orders", [1, 6])
def test_our_kraken_client_holds_the_true_window_and_every_checksum(depth: int, orders: int) -> None:
    table = Table("kraken", market("kraken"), depth=depth)
    table.run(50)
    table.ask(table.link.dialect.subscribe(table.wants))
    for _ in range(60):
        table.run(100, orders)
        table.agrees(depth)
    counts = [stream.sync.counts for stream in table.link.streams.values() if stream.sync is not None]
    assert sum(count.checksums_failed for count in counts) == 0
    assert sum(count.checksums_ok for count in counts) > 1500
    assert table.link.counts.errors == table.link.counts.damaged == 0


def test_kraken_sends_no_delete_for_what_falls_out_and_the_worst_again() -> None:
    rows = market("kraken", symbols=1)
    venue = counterpart("kraken")(rows.listed)
    venue.received(b'{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USDT"],"depth":10}}', T0)
    listed = rows.listed["BTC/USDT"]
    held = {side: dict(getattr(listed, side).top(10)) for side in ("bids", "asks")}
    fell = back = 0
    for i in range(4000):
        change = rows.step(T0 + i)
        for _, frame in venue.encode(change, T0 + i):
            data = json.loads(frame, parse_float=str, parse_int=str)["data"][0]
            for side in ("bids", "asks"):
                levels = [(steps(float(row["price"]), 1), steps(float(row["qty"]), 8)) for row in data[side]]
                removed = [size == 0 for _, size in levels]
                assert removed == sorted(removed, reverse=True), "removals stand first"
                for price, size in levels:
                    assert size or price in held[side], "only what the client holds is removed"
                    if size and (price, size) not in getattr(change, side):
                        back += 1
                    held[side][price] = size
                    if not size:
                        del held[side][price]
                true = dict(getattr(listed, side).top(10))
                fell += len(held[side].keys() - true.keys())
                held[side] = {price: held[side][price] for price in true}
                assert held[side] == true
    assert fell > 50 and back > 50


def test_krakens_published_example_has_its_checksum() -> None:
    """The worked example of the checksum guide (docs.kraken.com, read 2026-11): 3310070434."""
    asks = [("45285.2", "0.00100000"), ("45286.4", "1.54571953"), ("45286.6", "1.54571109"), ("45289.6", "1.54560911"),
            ("45290.2", "0.15890660"), ("45291.8", "1.54553491"), ("45294.7", "0.04454749"), ("45296.1", "0.35380000"),
            ("45297.5", "0.09945542"), ("45299.5", "0.18772827")]  # fmt: skip
    bids = [("45283.5", "0.10000000"), ("45283.4", "1.54582015"), ("45282.1", "0.10000000"), ("45281.0", "0.10000000"),
            ("45280.3", "1.54592586"), ("45279.0", "0.07990000"), ("45277.6", "0.03310103"), ("45277.5", "0.30000000"),
            ("45277.3", "1.54602737"), ("45276.6", "0.15445238")]  # fmt: skip
    sides = []
    for sign, levels in ((1, bids), (-1, asks)):
        ladder = Ladder(sign)
        for price, size in levels:
            ladder.put(steps(float(price), 1), steps(float(size), 8))
        sides.append(ladder)
    assert checksum(*sides) == 3310070434


def test_kraken_refuses_in_the_venues_words() -> None:
    venue = counterpart("kraken")(market("kraken").listed)
    status = venue.opened("/v2", T0)
    assert b'"channel":"status"' in status[0]  # type: ignore[operator]
    unknown, fine, known, snapshot = venue.received(
        b'{"method":"subscribe","params":{"channel":"book","symbol":["NO/PE","BTC/USDT"]},"req_id":9}', T0
    )
    assert json.loads(unknown)["error"] == "Currency pair not supported NO/PE"  # type: ignore[arg-type]
    assert json.loads(unknown)["req_id"] == 9  # type: ignore[arg-type]
    assert json.loads(fine)["result"]["depth"] == 10  # type: ignore[arg-type]
    assert known == Subscribed("BTC/USDT")
    assert b'"snapshot"' in snapshot  # type: ignore[operator]
    (depth,) = venue.received(
        b'{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USDT"],"depth":11}}', T0
    )
    assert json.loads(depth)["error"] == "Subscription depth not supported"  # type: ignore[arg-type]
    for garbage in (
        b"{",
        b"\xff\xfe",
        b"[1,2]",
        b'{"method":"dance"}',
        b'{"method":"subscribe","params":{"channel":"fish"}}',
    ):
        (answer,) = venue.received(garbage, T0)
        assert json.loads(answer)["success"] is False  # type: ignore[arg-type]
    gone = venue.received(b'{"method":"unsubscribe","params":{"channel":"book","symbol":["BTC/USDT"]}}', T0)
    assert gone[1:] == [Unsubscribed("BTC/USDT")]
    (again,) = venue.received(b'{"method":"unsubscribe","params":{"channel":"book","symbol":["BTC/USDT"]}}', T0)
    assert json.loads(again)["error"] == "Subscription Not Found"  # type: ignore[arg-type]
    (pong,) = venue.received(b'{"method":"ping","req_id":3}', T0)
    assert json.loads(pong)["method"] == "pong"  # type: ignore[arg-type]


def test_our_binance_client_joins_the_snapshot_and_follows() -> None:
    table = Table("binance", market("binance"))
    table.ask(table.link.dialect.subscribe(table.wants))
    table.run(300, 4)
    for want in table.wants:
        if want.channel == "book":
            table.fetch(want)
    for _ in range(40):
        table.run(200, 4)
        table.agrees(0)
    counts = [stream.sync.counts for stream in table.link.streams.values() if stream.sync is not None]
    assert [(count.sequence_gaps, count.snapshots) for count in counts] == [(0, 1)] * 3
    assert table.pump.digest.counts()["trade"] > 1000


def test_a_binance_snapshot_is_neither_behind_nor_ahead_of_the_stream() -> None:
    rows = market("binance", symbols=1)
    kind = counterpart("binance")
    venue = kind(rows.listed)
    venue.opened("/ws/btcusdt@depth@100ms", T0)
    expected = rows.listed["BTCUSDT"].seq + 1
    for i in range(500):
        for _, frame in venue.encode(rows.step(T0 + i, 3), T0 + i):
            diff = json.loads(frame)
            assert diff["U"] == expected
            expected = diff["u"] + 1
        depth = json.loads(kind.http(rows.listed, "/api/v3/depth", {"symbol": "BTCUSDT", "limit": "5000"}, T0).body)
        assert depth["lastUpdateId"] == expected - 1
    assert len(depth["bids"]) >= LEVELS_MIN


def streams(venue: Counterpart) -> list[str]:
    (answer,) = venue.received(b'{"method":"LIST_SUBSCRIPTIONS","id":5}', T0)
    found: list[str] = json.loads(answer)["result"]  # type: ignore[arg-type]
    return found


def test_binance_takes_streams_from_the_url_and_by_command() -> None:
    listed = market("binance").listed
    for target, expected in (
        ("/ws", []), ("/ws/0", []), ("/ws/btcusdt@trade", ["btcusdt@trade"]), ("/stream", []),
        ("/stream?streams=btcusdt@depth@100ms/ethusdt@aggTrade", ["btcusdt@depth@100ms", "ethusdt@aggTrade"]),
    ):  # fmt: skip
        venue = counterpart("binance")(listed)
        answers = venue.opened(target, T0)
        assert streams(venue) == expected
        assert len(answers) == len(expected)
    venue = counterpart("binance")(listed)
    venue.opened("/ws/1", T0)
    asked = b'{"method":"SUBSCRIBE","params":["btcusdt@trade","nopenope@trade"],"id":"a"}'
    for _ in range(2):  # a second SUBSCRIBE to the same stream is accepted, and so is one that does not exist
        assert venue.received(asked, T0)[0] == b'{"result":null,"id":"a"}'
    assert streams(venue) == ["btcusdt@trade", "nopenope@trade"]
    assert venue.received(b'{"method":"UNSUBSCRIBE","params":["btcusdt@trade"],"id":7}', T0) == [
        b'{"result":null,"id":7}', Unsubscribed("BTCUSDT"),
    ]  # fmt: skip
    for garbage, code in (
        (b"{", 3),
        (b"\xff", 3),
        (b"[]", 2),
        (b'{"method":"FLY","id":1}', 2),
        (b'{"method":"SUBSCRIBE"}', 2),
    ):
        (answer,) = venue.received(garbage, T0)
        assert json.loads(answer)["error"]["code"] == code  # type: ignore[arg-type]


def test_binance_other_channels_reach_our_events() -> None:
    table = Table("binance", market("binance", symbols=1), channels=("quote", "ticker", "bar.1m", "trade"))
    table.ask(table.link.dialect.subscribe(table.wants))
    table.run(5_000)
    seen = table.pump.digest.counts()
    assert min(seen[kind] for kind in ("quote", "ticker", "bar", "trade")) >= 2
    assert table.link.counts.errors == table.link.counts.damaged == table.link.counts.ignored == 0


def test_kraken_other_channels_reach_our_events() -> None:
    table = Table("kraken", market("kraken", symbols=1), channels=("quote", "ticker", "bar.1m", "trade"))
    table.ask(table.link.dialect.subscribe(table.wants))
    table.run(5_000)
    seen = table.pump.digest.counts()
    assert min(seen[kind] for kind in ("quote", "ticker", "bar", "trade")) >= 2
    assert table.link.counts.errors == table.link.counts.damaged == table.link.counts.ignored == 0


def test_candles_close_and_hold_what_was_traded() -> None:
    rows = market("binance", symbols=1)
    venue = counterpart("binance")(rows.listed)
    venue.opened("/ws/btcusdt@kline_1s/btcusdt@trade", T0)
    traded: dict[int, list[dict[str, Any]]] = {}
    closed = []
    for i in range(6_000):
        now = T0 + i * MS
        for _, frame in [*venue.encode(rows.step(now), now), *(native for _, native in venue.tick(now))]:
            data = json.loads(frame)
            if data["e"] == "trade":
                traded.setdefault(data["T"] // 1000, []).append(data)
            elif data["k"]["x"]:
                closed.append(data["k"])
    assert len(closed) >= 4
    for candle in closed[1:]:  # the first began when it was asked for
        trades = traded[candle["t"] // 1000]
        prices = [float(trade["p"]) for trade in trades]
        assert candle["n"] == len(trades)
        assert (float(candle["o"]), float(candle["c"])) == (prices[0], prices[-1]) or candle["n"] == 0
        assert (float(candle["h"]), float(candle["l"])) == (max(prices), min(prices))
        assert float(candle["v"]) == pytest.approx(sum(float(trade["q"]) for trade in trades))


def test_our_tickdb_client_holds_the_true_top() -> None:
    table = Table("tickdb", market("tickdb", symbols=4), channels=("book", "trade", "ticker"))
    table.ask(table.link.dialect.subscribe(table.wants))
    for _ in range(40):
        table.run(100, 3)
        table.agrees(10)
    assert list(table.rows.listed) == ["BTCUSDT", "AAPL.US", "ETHUSDT", "NVDA.US"]
    seen = table.pump.digest.counts()
    assert min(seen[kind] for kind in ("book", "trade", "ticker")) > 1000
    assert table.link.counts.errors == table.link.counts.damaged == table.link.counts.ignored == 0


@pytest.mark.parametrize("venue", ["kraken", "binance", "tickdb"])
def test_a_loop_is_as_true_as_live_flow(venue: str) -> None:
    table = Table(venue, Loop(market(venue), 300, 3, T0), depth=10)
    table.ask(table.link.dialect.subscribe(table.wants))
    for want in table.wants if venue == "binance" else []:
        if want.channel == "book":
            table.fetch(want)
    for _ in range(30):
        table.run(70)
        table.agrees(0 if venue == "binance" else 10)
    counts = [stream.sync.counts for stream in table.link.streams.values() if stream.sync is not None]
    assert sum(count.checksums_failed + count.sequence_gaps for count in counts) == 0
    assert table.link.counts.errors == table.link.counts.damaged == 0


@pytest.mark.parametrize("venue", ["kraken", "binance"])
def test_the_listed_instruments_are_read_by_our_dialect(venue: str) -> None:
    rows = market(venue, symbols=25)
    kind = dialect(venue)
    url = kind.instruments_url("http://sim")
    assert url is not None
    reply = counterpart(venue).http(rows.listed, url.removeprefix("http://sim"), {}, T0)
    ours = {row.instrument.raw: row.instrument for row in rows.listed.values()}
    for found in kind.decode_instruments(reply.body):
        true = ours.pop(found.raw)
        assert (found.symbol, found.price_decimals, found.size_decimals) == (
            true.symbol,
            true.price_decimals,
            true.size_decimals,
        )
        assert kind.native(true.symbol) == true.raw and kind.canonical(true.raw, "") == true.symbol
    assert ours == {}


def test_rest_answers_what_clients_ask() -> None:
    kraken, binance = market("kraken").listed, market("binance").listed
    pair = json.loads(counterpart("kraken").http(kraken, "/0/public/AssetPairs", {"pair": "BTC/USDT"}, T0).body)
    assert pair["result"]["BTC/USDT"]["pair_decimals"] == 1
    wrong = json.loads(counterpart("kraken").http(kraken, "/0/public/AssetPairs", {"pair": "NO/PE"}, T0).body)
    assert wrong == {"error": ["EQuery:Unknown asset pair"]}
    for path in ("/0/public/Assets", "/0/public/Time", "/0/public/SystemStatus"):
        assert json.loads(counterpart("kraken").http(kraken, path, {}, T0).body)["error"] == []
    kind = counterpart("binance")
    assert json.loads(kind.http(binance, "/api/v3/time", {}, T0).body) == {"serverTime": T0 // MS}
    assert kind.http(binance, "/api/v3/ping", {}, T0).body == b"{}"
    assert kind.http(binance, "/api/v3/depth", {"symbol": "NOPE"}, T0).status == 400
    assert kind.http(binance, "/nothing", {}, T0).status == 404
    one = json.loads(kind.http(binance, "/api/v3/exchangeInfo", {"symbol": "BTCUSDT"}, T0).body)
    assert [row["symbol"] for row in one["symbols"]] == ["BTCUSDT"]
    assert one["symbols"][0]["filters"][0]["filterType"] == "PRICE_FILTER"


@settings(max_examples=50)
@given(st.binary(max_size=200))
@example(b"/[")
def test_nothing_that_a_client_sends_raises(data: bytes) -> None:
    for venue in ("kraken", "binance", "tickdb"):
        rows = market(venue, symbols=1)
        side = counterpart(venue)(rows.listed)
        side.received(data, T0)
        side.opened("/" + data.decode("latin-1"), T0)


def test_random_subscriptions_keep_the_client_true() -> None:
    """Clients come, go, and change their depth; whatever they hold is the true window. Seeds 1 to 5."""
    for seed in range(1, 6):
        random = Random(seed)
        table = Table("kraken", market("kraken", seed=seed), depth=10)
        for _ in range(40):
            depth = random.choice([10, 25, 100])
            wants = [Want(want.channel, want.raw, want.symbol, depth) for want in table.wants if want.channel == "book"]
            table.ask(table.link.dialect.unsubscribe(wants) if random.random() < 0.3 else [])
            table.ask(table.link.dialect.subscribe(wants))
            table.run(random.randrange(200), random.choice([1, 4]))
            table.agrees(depth)
