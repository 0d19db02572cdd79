"""The gateway in process, as a program or a notebook uses it: `truetape.open`, subscriptions, books, errors, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import socket
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import truetape
from tests.app.conftest import WITHIN_S, Simulator, all_live, states, until, write_config
from truetape.core.book import metrics
from truetape.io.clock import now as clock


@pytest.fixture
async def gw(kraken: Simulator, binance: Simulator, tickdb: Simulator) -> AsyncIterator[truetape.Gateway]:
    """A gateway on three simulators, every book LIVE."""
    async with truetape.open({"feeds": [kraken.feed(), binance.feed(), tickdb.feed()]}) as gateway:
        assert await gateway.ready(), gateway.status()
        yield gateway


async def some(subscription: truetape.Subscription, count: int, *kinds: type) -> list[Any]:
    """The next so many events of these kinds."""
    found: list[Any] = []
    async with asyncio.timeout(WITHIN_S):
        async for event in subscription:
            if not kinds or isinstance(event, kinds):
                found.append(event)
            if len(found) == count:
                return found
    raise AssertionError("the subscription ended")


# -- as the issue writes it


async def test_the_example_of_the_issue_runs(tmp_path: Path, binance: Simulator) -> None:
    path = write_config(tmp_path / "gateway.toml", {"feeds": [binance.feed()]})
    books: list[truetape.Book] = []
    async with asyncio.timeout(WITHIN_S), truetape.open(str(path)) as gw:
        async for event in gw.subscribe("binance:BTC-USDT", ["book", "trade"], mode=truetape.conflate(ms=2)):
            of_the_connection = isinstance(event, truetape.Status) and not event.channel
            assert (event.venue, event.symbol) == ("binance", "binance-1" if of_the_connection else "BTC-USDT")
            if isinstance(event, truetape.Book):
                books.append(event)
            if len(books) == 10:
                break
        assert gw.book("binance:BTC-USDT").state == "LIVE"
    assert all(book.snapshot and book.bids[0][0] < book.asks[0][0] for book in books)
    assert [book.recv for book in books] == sorted(book.recv for book in books)


async def test_a_path_a_tree_and_a_config_open_the_same_gateway(tmp_path: Path, kraken: Simulator) -> None:
    tree = {"feeds": [kraken.feed()]}
    path = write_config(tmp_path / "gateway.toml", tree)
    gateways = [truetape.open(path), truetape.open(str(path)), truetape.open(tree)]
    gateways.append(truetape.open(gateways[0].config))
    assert len({repr(gateway.config) for gateway in gateways}) == 1


async def test_the_members_of_a_book_agree_with_each_other(
    gw: truetape.Gateway, kraken: Simulator, binance: Simulator, tickdb: Simulator
) -> None:
    evidence = {"kraken": "checksum", "binance": "sequence", "tickdb": "none"}
    for name in [*kraken.ids(), *binance.ids(), *tickdb.ids()]:
        book = gw.book(name)
        bids, asks = book.bids, book.asks
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        (bid, bid_size), (ask, ask_size) = bids[0], asks[0]
        assert book.top(1) == ([bids[0]], [asks[0]])
        assert book.spread == ask - bid > 0
        assert book.mid == (ask + bid) / 2
        assert book.spread_bps == pytest.approx(book.spread / book.mid * 1e4)
        assert book.microprice == pytest.approx((bid * ask_size + ask * bid_size) / (bid_size + ask_size))
        assert bid < book.microprice < ask
        summed = [sum(size for _, size in side[:3]) for side in (bids, asks)]
        assert book.pressure(3) == pytest.approx(summed[0] / summed[1])
        assert book.imbalance(3) == pytest.approx((summed[0] - summed[1]) / sum(summed))
        assert (book.state, book.reason) == ("LIVE", "")
        assert book.since > 0
        venue = name.partition(":")[0]
        assert book.evidence == evidence[venue]
        age = book.verified_age_s
        assert (age is None) == (venue == "tickdb")
        assert age is None or 0 <= age < WITHIN_S
        assert book.trusted_depth >= 0
        assert name in repr(book)
        assert name in book._repr_html_()


async def test_native_and_canonical_spellings_name_the_same_book(gw: truetape.Gateway) -> None:
    assert gw.book("binance:BTCUSDT").top(1) == gw.book("binance:BTC-USDT").top(1)
    event = (await some(gw.subscribe("binance:BTCUSDT", ["book"]), 1, truetape.Book))[0]
    assert (event.symbol, event.raw) == ("BTC-USDT", "BTCUSDT")


# -- what is asked for, and what is not there


async def test_a_late_subscriber_gets_the_book_at_once(
    gw: truetape.Gateway, kraken: Simulator, binance: Simulator, tickdb: Simulator
) -> None:
    names = [*kraken.ids(), *binance.ids(), *tickdb.ids()]
    for channel in ("book", "book_delta"):
        late = gw.subscribe(names, [channel])
        first = await asyncio.wait_for(late.take(), 0.01)
        assert {f"{event.venue}:{event.symbol}" for event in first if isinstance(event, truetape.Book)} == set(names)
        assert all(event.snapshot for event in first if isinstance(event, truetape.Book))
        late.close()


async def test_book_delta_rebuilds_the_book(gw: truetape.Gateway, kraken: Simulator) -> None:
    name = kraken.ids()[0]
    changes = gw.subscribe(name, ["book_delta"])
    sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
    for _ in range(50):
        for event in await changes.take():
            if not isinstance(event, truetape.Book):
                continue
            for side, levels in zip(sides, (event.bids, event.asks), strict=True):
                if event.snapshot:
                    side.clear()
                for price, size in levels:
                    if size:
                        side[price] = size
                    else:
                        side.pop(price, None)
        bids, asks = gw.book(name).top(5)  # all that came was taken: no await stands between
        assert sorted(sides[0].items(), reverse=True)[:5] == bids
        assert sorted(sides[1].items())[:5] == asks


async def test_stars_stand_for_all_venues_and_all_symbols(
    gw: truetape.Gateway, kraken: Simulator, tickdb: Simulator, binance: Simulator
) -> None:
    for pattern, expected in (
        ("*", {*kraken.ids(), *binance.ids(), *tickdb.ids()}),
        ("kraken:*", set(kraken.ids())),
    ):
        everything = gw.subscribe(pattern, ["book"])
        seen: set[str] = set()
        async with asyncio.timeout(WITHIN_S):
            while seen != expected:
                seen |= {
                    f"{event.venue}:{event.symbol}"
                    for event in await everything.take()
                    if isinstance(event, truetape.Book)
                }
                assert seen <= expected
        everything.close()


@pytest.mark.parametrize(
    ("symbols", "channels", "said"),
    [
        ("nasdaq:AAPL", ["book"], ["nasdaq", "kraken", "venue:SYMBOL"]),
        ("BTC-USDT", ["book"], ["venue:SYMBOL", "BTC-USDT"]),
        ("nasdaq:*", ["book"], ["nasdaq", "kraken"]),
        ("kraken:", ["book"], ["venue:SYMBOL", "kraken:"]),
        ("kraken:BTC-USDT", ["candlesticks"], ["kraken:BTC-USDT", "candlesticks", "book"]),
        ("*", ["candlesticks"], ["candlesticks", "book"]),
        ("kraken:*", ["candlesticks"], ["candlesticks", "book"]),
        ("kraken:BTC-USDT", ["book", "book_delta"], ["book_delta", "BTC-USDT"]),
        ("kraken:BTC-USDT", [], ["channel"]),
        ([], ["book"], ["symbol"]),
    ],
)  # fmt: skip
async def test_what_cannot_be_subscribed_is_refused_in_words(
    gw: truetape.Gateway, symbols: str | list[str], channels: list[str], said: list[str]
) -> None:
    before = (len(gw.boxes), sorted(states(gw)))
    with pytest.raises(truetape.ConfigError) as refused:
        gw.subscribe(symbols, channels)
    assert [word for word in said if word not in str(refused.value)] == [], str(refused.value)
    assert (len(gw.boxes), sorted(states(gw))) == before, "nothing is left of it"


async def test_a_bound_or_depth_that_makes_no_sense_is_refused(gw: truetape.Gateway) -> None:
    for wrong in ({"bound": 0}, {"depth": -1}):
        with pytest.raises(ValueError, match="expected bound of 1 or more"):
            gw.subscribe("kraken:BTC-USDT", ["book"], **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_age: expected s above 0"):
        truetape.max_age(s=0)
    with pytest.raises(ValueError, match="conflate: expected ms of 0 or more"):
        truetape.conflate(ms=-1)


async def test_a_symbol_that_the_venue_does_not_know_is_closed_with_its_reason(gw: truetape.Gateway) -> None:
    for name in ("kraken:NO-SUCH", "tickdb:NO-SUCH"):
        waiting = gw.subscribe(name, ["book"])
        async with asyncio.timeout(WITHIN_S):
            while True:
                told = [event for event in await waiting.take() if isinstance(event, truetape.Status)]
                if told and told[-1].state == "CLOSED":
                    break
        assert told[-1].reason
        with pytest.raises(truetape.NotLive) as refused:
            _ = gw.book(name).mid
        assert (refused.value.state, refused.value.reason) == ("CLOSED", told[-1].reason)
        waiting.close()
    assert all_live(gw), "the others were not touched"


async def test_a_book_that_nobody_subscribed_says_what_there_is(gw: truetape.Gateway) -> None:
    with pytest.raises(KeyError, match="kraken:BTC-USDT"):
        gw.book("kraken:XRP-EUR")
    with pytest.raises(KeyError, match="nasdaq"):
        gw.book("nasdaq:AAPL")


async def test_a_gateway_that_was_not_entered_says_so(kraken: Simulator) -> None:
    gateway = truetape.open({"feeds": [kraken.feed()]})
    with pytest.raises(RuntimeError, match="async with"):
        gateway.subscribe("kraken:BTC-USDT", ["book"])
    with pytest.raises(RuntimeError, match="async with"):
        await gateway.ready()
    with pytest.raises(truetape.NotLive):
        _ = gateway.book("kraken:BTC-USDT").mid
    gateway.status()


async def test_a_gateway_is_entered_once(kraken: Simulator) -> None:
    gateway = truetape.open({"feeds": [kraken.feed()]})
    async with gateway:
        assert await gateway.ready()
    with pytest.raises(RuntimeError, match=r"truetape\.open"):
        async with gateway:
            pass
    with pytest.raises(RuntimeError, match="closed"):
        gateway.subscribe("kraken:BTC-USDT", ["book"])


async def test_no_feeds_at_all_is_refused() -> None:
    with pytest.raises(truetape.ConfigError, match="feeds"):
        truetape.open({})


# -- not live


async def test_a_book_is_not_live_before_it_was_synchronised(simulate: Callable[..., Simulator]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    feed = {"venue": "kraken", "symbols": ["BTC-USDT"], "url": f"ws://127.0.0.1:{port}/v2"}
    async with truetape.open({"feeds": [feed]}) as gateway:
        book = gateway.book("kraken:BTC-USDT")
        assert book.state == "SYNCING"
        for read in ("bids", "asks", "spread", "spread_bps", "mid", "microprice"):
            with pytest.raises(truetape.NotLive) as refused:
                getattr(book, read)
            assert (refused.value.state, refused.value.name) == ("SYNCING", "kraken:BTC-USDT")
            assert refused.value.since > 0
        for metric in (book.pressure, book.imbalance, book.top):
            with pytest.raises(truetape.NotLive):
                metric(5)
        empty = gateway.book("kraken:BTC-USDT", stale_ok=True)
        assert (empty.bids, empty.asks, empty.mid, empty.pressure(5), empty.imbalance(5)) == ([], [], None, None, None)
        assert book.verified_age_s is None
        assert "SYNCING" in repr(book)
        assert not await gateway.ready(0.05)


async def test_a_dead_venue_s_book_is_not_live_and_stale_ok_reads_its_last_levels(
    simulate: Callable[..., Simulator],
) -> None:
    venue = simulate("kraken")
    async with truetape.open({"feeds": [venue.feed()]}) as gateway:
        assert await gateway.ready()
        name = venue.ids()[0]
        venue.signal(signal.SIGKILL)
        await until(gateway, lambda: states(gateway)[name] == "SYNCING")
        with pytest.raises(truetape.NotLive, match="connection lost") as refused:
            _ = gateway.book(name).mid
        last = gateway.book(name, stale_ok=True)
        assert last.mid is not None
        assert last.bids
        assert refused.value.since == last.since
        assert (last.state, last.reason) == ("SYNCING", refused.value.reason)


# -- the consumer's choice


def balance(subscription: truetape.Subscription) -> truetape.Ledger:
    ledger = subscription.ledger
    assert ledger.balanced, ledger
    return ledger


async def test_a_slow_consumer_is_told_what_it_lost_and_its_ledger_balances(gw: truetape.Gateway) -> None:
    slow = gw.subscribe("*", ["book", "trade"], bound=5, name="slow")
    quick = gw.subscribe("*", ["book", "trade"], name="quick")
    delivered = 0
    async with asyncio.timeout(WITHIN_S):
        while balance(slow).dropped < 20:
            delivered += len([e for e in await quick.take() if not isinstance(e, truetape.Status)])
    assert balance(slow).queued == 5
    told = await slow.take()
    lagged = [event for event in told if isinstance(event, truetape.Lagged)]
    after = balance(slow)
    assert sum(event.dropped for event in lagged) == after.dropped
    assert after.delivered == len(
        [e for e in told if not isinstance(e, truetape.Lagged | truetape.Status | truetape.Gap)]
    )
    assert balance(quick).dropped == 0, "nobody else paid for it"
    slow.close()
    assert balance(slow).queued == 0


@pytest.mark.parametrize(
    "mode",
    [
        truetape.drop_oldest,
        truetape.drop_newest,
        truetape.conflate(ms=20),
        truetape.conflate(),
        truetape.max_age(s=0.05),
    ],
    ids=lambda mode: mode.name,
)
async def test_every_mode_balances_at_any_instant(gw: truetape.Gateway, mode: Any) -> None:
    subscription = gw.subscribe("*", ["book", "trade"], mode=mode, bound=20)
    quick = gw.subscribe("*", ["trade"])
    async with asyncio.timeout(WITHIN_S):
        while balance(subscription).received < 300:
            await quick.take()
            if balance(subscription).received % 3 == 0:
                await subscription.take(7)
    balance(subscription)


async def test_disconnect_ends_a_consumer_that_is_too_slow(gw: truetape.Gateway) -> None:
    slow = gw.subscribe("*", ["book", "trade"], mode=truetape.disconnect, bound=5)
    await until(gw, lambda: balance(slow).dropped > 0)
    told = await slow.take()
    assert sum(event.dropped for event in told if isinstance(event, truetape.Lagged)) == balance(slow).dropped
    with pytest.raises(truetape.Closed, match="too slow: more than 5 events waited"):
        await slow.take()
    with pytest.raises(truetape.Closed):
        await slow.take()
    assert [event async for event in slow] == [], "`async for` just ends"
    assert slow.closed == "too slow: more than 5 events waited"
    assert slow not in gw.boxes


async def test_conflated_trades_stand_for_all_that_were_merged(gw: truetape.Gateway, binance: Simulator) -> None:
    name = binance.ids()[0]
    each = gw.subscribe(name, ["trade"])
    merged = gw.subscribe(name, ["trade"], mode=truetape.conflate(ms=10_000))
    trades = await some(each, 20, truetape.Trade)
    merged.close()
    again = gw.subscribe(name, ["trade"], mode=truetape.conflate(ms=300))
    several = [trade for trade in await some(again, 3, truetape.Trade) if trade.count > 1]
    assert trades
    for trade in several:
        assert trade.vwap > 0
        assert 0 < trade.first_ts <= trade.last_ts
    assert balance(again).conflated == sum(trade.count - 1 for trade in several) or balance(again).queued


async def test_a_window_ends_in_time_though_nothing_else_happens(simulate: Callable[..., Simulator]) -> None:
    """A conflated event leaves its box no later than 5 ms after its window; measured at the median, for the machine is shared."""
    venue = simulate("binance", 1, 20)
    async with truetape.open({"feeds": [venue.feed()]}) as gateway:
        assert await gateway.ready()
        late: list[float] = []
        window = truetape.conflate(ms=2)
        subscription = gateway.subscribe("*", ["book", "trade"], mode=window)
        async with asyncio.timeout(WITHIN_S):
            while len(late) < 40:
                late += [
                    (clock() - event.recv) / 1e6 - 2
                    for event in await subscription.take()
                    if isinstance(event, truetape.Trade | truetape.Book)
                ]
        assert sorted(late)[len(late) // 2] < 5, late


async def test_a_consumer_that_leaves_its_loop_is_forgotten(gw: truetape.Gateway, kraken: Simulator) -> None:
    before = len(gw.boxes)
    name = kraken.ids()[0]
    async for _ in gw.subscribe(name, ["quote"]):
        break
    await until(
        gw, lambda: len(gw.boxes) == before + 1, what="the box of the loop that was left is gone"
    )  # + until's own
    assert not [row for row in gw.status()["subscriptions"] if row["channel"] == "quote"], (
        "nor is the venue asked for it"
    )


async def test_a_subscription_that_is_held_goes_on_after_a_break_and_loses_nothing(
    gw: truetape.Gateway, kraken: Simulator
) -> None:
    held = gw.subscribe(kraken.ids()[0], ["book_delta"])
    checked: list[truetape.Book] = []
    for _ in range(30):
        async for event in held:
            if isinstance(event, truetape.Book):
                checked.append(event)
            break
    assert balance(held).delivered == len(checked)
    held.close()
    with pytest.raises(truetape.Closed, match="closed by its consumer"):
        await held.take()


async def test_a_subscription_can_be_held_by_a_with(gw: truetape.Gateway, kraken: Simulator) -> None:
    before = len(gw.boxes)
    with gw.subscribe(kraken.ids()[0], ["book"]) as subscription:
        assert await some(subscription, 1, truetape.Book)
        assert len(gw.boxes) == before + 1
    assert len(gw.boxes) == before


async def test_the_last_consumer_of_a_symbol_takes_it_from_the_venue_too(
    gw: truetape.Gateway, kraken: Simulator
) -> None:
    def carried() -> bool:
        return any(row["channel"] == "quote" and row["venue"] == "kraken" for row in gw.status()["subscriptions"])

    name = kraken.ids()[0]
    assert not carried()
    one, two = gw.subscribe(name, ["quote"]), gw.subscribe(name, ["quote"])
    assert await some(one, 3, truetape.Quote)
    one.close()
    assert carried(), "another one still reads it"
    assert await some(two, 3, truetape.Quote)
    two.close()
    two.close()
    assert not carried()
    assert all_live(gw)


async def test_a_book_and_its_changes_are_one_subscription_at_the_venue(kraken: Simulator) -> None:
    async with truetape.open({"feeds": [kraken.feed(symbols=kraken.symbols[:1])]}) as gateway:
        name = kraken.ids()[1]
        whole, changes = gateway.subscribe(name, ["book"]), gateway.subscribe(name, ["book_delta"])
        await until(gateway, lambda: states(gateway).get(name) == "LIVE")
        whole.close()
        assert states(gateway)[name] == "LIVE", "the other one still reads it"
        assert await some(changes, 3, truetape.Book)
        changes.close()
        assert name not in states(gateway)


async def test_the_venue_s_own_list_spells_what_is_wanted_later_too(binance: Simulator) -> None:
    tree = {"feeds": [binance.feed(symbols=binance.symbols[:1], instruments=True)]}
    async with truetape.open(tree) as gateway:
        for name in (binance.ids()[1], binance.ids()[1].replace("-", "")):
            with gateway.subscribe(name, "book") as later:
                book = (await some(later, 1, truetape.Book))[0]
                assert (book.symbol, book.raw) == (binance.symbols[1], binance.symbols[1].replace("-", ""))


async def test_a_list_that_cannot_be_had_or_read_is_told_and_done_without(
    binance: Simulator, kraken: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    for rest in ("http://127.0.0.1:1", kraken.rest, binance.rest + "/api/v3/depth?symbol=BTCUSDT&x="):
        caplog.clear()
        async with truetape.open(
            {"feeds": [kraken.feed(venue="kraken"), binance.feed(rest_url=rest, instruments=True)]}
        ) as gateway:
            assert {stream.symbol for link in gateway.pump.links.values() for stream in link.book_streams()} == set(
                binance.symbols
            )
        assert "instruments not fetched" in caplog.text


async def test_names_may_come_without_a_list(gw: truetape.Gateway, kraken: Simulator) -> None:
    assert await some(gw.subscribe(kraken.ids()[0], "book"), 1, truetape.Book)


# -- life


async def test_a_bug_inside_ends_the_gateway_with_it_and_wakes_everybody(kraken: Simulator) -> None:
    async with truetape.open({"feeds": [kraken.feed()]}) as other:
        with pytest.raises(AssertionError, match=r"^a bug$"):
            async with truetape.open({"feeds": [kraken.feed()]}) as gateway:
                assert await gateway.ready()
                waiting = gateway.subscribe("*", ["book"], mode=truetape.conflate(ms=60_000))
                gateway.driver.fail(AssertionError("a bug"))
                async for _ in waiting:
                    pass
                await asyncio.Event().wait()
        assert waiting.closed == "the gateway was closed"
        assert await other.ready(), "another gateway is none the worse"


async def test_two_gateways_live_side_by_side(tmp_path: Path, kraken: Simulator, binance: Simulator) -> None:
    thresholds = gc.get_threshold()
    async with truetape.open({"feeds": [kraken.feed()], "journal": {"dir": str(tmp_path / "a")}}) as one:
        async with truetape.open({"feeds": [binance.feed()], "journal": {"dir": str(tmp_path / "b")}}) as two:
            assert await one.ready()
            assert await two.ready()
            assert {row["venue"] for row in one.status()["subscriptions"]} == {"kraken"}
            assert {row["venue"] for row in two.status()["subscriptions"]} == {"binance"}
        assert await some(one.subscribe("*", ["book"]), 5, truetape.Book)
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == 0


def test_a_notebook_enters_and_leaves_by_hand(kraken: Simulator) -> None:
    """Each cell is a call into a loop that runs on; nothing needs a thread."""
    with asyncio.Runner() as cells:
        gw = cells.run(truetape.open({"feeds": [kraken.feed()]}).__aenter__())
        assert cells.run(gw.ready())
        assert gw.book("kraken:BTC-USDT").mid
        subscription = gw.subscribe("kraken:BTC-USDT", ["book"])
        assert cells.run(subscription.take())
        cells.run(gw.__aexit__(None, None, None))


async def test_an_exception_in_the_body_comes_out_as_it_is(kraken: Simulator) -> None:
    class Mine(Exception):
        pass

    with pytest.raises(Mine, match="the user's own"):
        async with truetape.open({"feeds": [kraken.feed()]}) as gateway:
            assert await gateway.ready()
            raise Mine("the user's own")
    assert not sockets()


async def test_cancelling_the_body_is_a_clean_end(kraken: Simulator) -> None:
    inside = asyncio.Event()

    async def body() -> None:
        async with truetape.open({"feeds": [kraken.feed()]}) as gateway:
            assert await gateway.ready()
            inside.set()
            async for _ in gateway.subscribe("*", ["book"], mode=truetape.conflate(ms=60_000)):
                pass

    task = asyncio.create_task(body())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not sockets()


async def test_a_timeout_around_a_gateway_is_a_timeout(kraken: Simulator) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5), truetape.open({"feeds": [kraken.feed()]}) as gateway:
            async for _ in gateway.subscribe("*", ["book"]):
                pass
    assert not sockets()


async def test_leaving_the_gateway_ends_every_subscription(kraken: Simulator) -> None:
    async with truetape.open({"feeds": [kraken.feed()]}) as gateway:
        assert await gateway.ready()
        subscription = gateway.subscribe("*", ["book"])

        async def consume() -> int:
            return len([event async for event in subscription])

        consumer = asyncio.create_task(consume())
        await until(gateway, lambda: balance(subscription).delivered > 3)
    assert await consumer > 0
    with pytest.raises(truetape.Closed, match="the gateway was closed"):
        await subscription.take()


async def test_a_control_socket_that_is_taken_leaves_nothing_behind(tmp_path: Path, kraken: Simulator) -> None:
    tree = {
        "feeds": [kraken.feed()],
        "control": {"socket": str(tmp_path / "s")},
        "journal": {"dir": str(tmp_path / "a")},
    }
    async with truetape.open(tree):
        with pytest.raises(Exception, match="another gateway answers there"):
            async with truetape.open({**tree, "journal": {"dir": str(tmp_path / "b")}}):
                raise AssertionError("it must not be entered")
    async with truetape.open({**tree, "journal": {"dir": str(tmp_path / "b")}}) as gateway:
        assert await gateway.ready(), "the tape's lock was given back"


def sockets() -> list[str]:
    """Connected TCP sockets of this process, by their targets."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(number))) as copy:
                if copy.family == socket.AF_INET:
                    found.append(f"{copy.getsockname()} -> {copy.getpeername()}")
        except OSError:
            continue
    return found


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("consumed", [True, False], ids=["consumed", "left at once"])
async def test_twenty_cycles_leave_no_task_no_file_and_no_warning(
    tmp_path: Path, kraken: Simulator, binance: Simulator, consumed: bool
) -> None:
    tree = {
        "feeds": [kraken.feed(), binance.feed(instruments=True)],
        "journal": {"dir": str(tmp_path / "tape")},
        "control": {"socket": str(tmp_path / "s")},
    }

    async def cycle() -> None:
        async with truetape.open(tree) as gateway:
            if consumed:
                assert await gateway.ready()
                assert await some(gateway.subscribe("*", ["book", "trade"]), 3)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await cycle()
        gc.collect()
        before, tasks = open_files(), asyncio.all_tasks()
        for _ in range(20):
            await cycle()
        gc.collect()
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
    assert open_files() <= before
    assert not sockets()


async def test_metrics_of_an_empty_side_are_none() -> None:
    assert metrics.pressure([], [(1.0, 1.0)], 5) is None
    assert metrics.imbalance([(1.0, 1.0)], [], 5) is None
    assert math.isclose(metrics.pressure([(1.0, 2.0)], [(2.0, 1.0)], 5) or 0, 2.0)
