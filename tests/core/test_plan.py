"""From wants to connections: limits are kept, nothing is lost, and the channels of one symbol stay together."""

import re
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truetape.app.dialects import Names, dialect
from truetape.core.feed.plan import CONNECTION_MAX, Feed, Impossible, connections, lay
from truetape.core.feed.venue import Dialect, Limits, Want

CHANNELS = ("book", "trade", "quote", "ticker")


def wants(symbols: int, channels: int = 1) -> list[Want]:
    return [Want(channel, f"S{i:04}", f"S{i:04}") for i in range(symbols) for channel in CHANNELS[:channels]]


def feed(venue: str | type[Dialect], rows: list[Want], **named: Any) -> Feed:
    kind = dialect(venue) if isinstance(venue, str) else venue
    return Feed(
        "spot", kind.name, kind.name, kind, kind.url, kind.rest_url, tuple(rows), Names(kind, kind.url), **named
    )


def limited(venue: type[Dialect], most: int = 0, connections: int = 0) -> type[Dialect]:
    """The venue with other limits."""
    limits = Limits(wants_per_connection=most, connections=connections)
    return cast("type[Dialect]", type("Limited", (venue,), {"limits": limits, "plans": {}}))


def carried(made: Feed) -> list[list[Want]]:
    return [endpoint.wants for _, endpoint in connections(made)]


@given(st.integers(0, 60), st.integers(1, 4), st.integers(0, 20), st.integers(0, 20))
def test_a_layout_keeps_the_limits_and_loses_nothing(symbols: int, channels: int, most: int, per: int) -> None:
    rows = wants(symbols, channels)
    parts = carried(feed(limited(dialect("kraken_v1"), most), rows, per_connection=per))
    assert sorted(want for part in parts for want in part) == sorted(rows)
    assert all(parts)
    for part in parts:
        assert not most or len(part) <= most
        assert len({want.raw for want in part}) <= (per or CONNECTION_MAX)


@given(st.integers(1, 60), st.integers(1, 4), st.integers(4, 20), st.integers(0, 20))
def test_channels_of_one_symbol_share_a_connection(symbols: int, channels: int, most: int, per: int) -> None:
    parts = carried(feed(limited(dialect("kraken_v1"), most), wants(symbols, channels), per_connection=per))
    homes = [want.raw for part in parts for want in {want.raw: want for want in part}.values()]
    assert len(homes) == len(set(homes)) == symbols
    fewest = max(-(-symbols // (most // channels)), -(-symbols // (per or CONNECTION_MAX)))
    assert len(parts) <= fewest, "no connection more than that needs"


def test_a_symbol_with_more_channels_than_a_connection_may_carry_is_cut() -> None:
    parts = carried(feed(limited(dialect("kraken_v1"), 3), wants(2, 4)))
    assert sorted(sorted(want.raw for want in part) for part in parts) == [
        ["S0000"] * 3,
        ["S0000", "S0001"],
        ["S0001"] * 3,
    ]


def test_the_default_ceiling_is_five_hundred_symbols() -> None:
    sizes = [len(part) for part in carried(feed("kraken", wants(1200)))]
    assert len(sizes) == 3
    assert sum(sizes) == 1200
    assert max(sizes) <= 450, "spread, not filled one after the other"
    assert len(carried(feed("kraken", wants(500)))) == 1
    assert len(carried(feed("kraken", wants(501)))) == 2


def test_connections_are_named_by_feed_and_number() -> None:
    rows = [Want(channel, f"S{i}/USD", f"S{i}-USD") for channel in ("trade", "book") for i in range(5)]
    layout = connections(feed("kraken", rows, per_connection=2))
    assert [name for name, _ in layout] == ["spot-1", "spot-2", "spot-3"]
    for _, endpoint in layout:
        assert [want.channel for want in endpoint.wants] == ["trade", "book"] * (len(endpoint.wants) // 2)


def test_connections_at_another_address_are_named_by_it() -> None:
    """So that one more connection at the first address renames none at the second."""
    rows = [Want(channel, f"S{i}USDT", f"S{i}-USDT-PERP") for channel in ("book", "trade") for i in range(3)]
    rows.append(Want("book", "BTCUSD_PERP", "BTC-USD-PERP"))
    assert sorted(name for name, _ in connections(feed("binance_usdm", rows, per_connection=2))) == [
        "spot-1", "spot-2", "spot-dstream-1", "spot-market-1", "spot-market-2",
    ]  # fmt: skip
    both = [Want("book", "BTCUSDT", symbol) for symbol in ("BTC-USDT", "BTC-USDT-PERP")]
    assert [name for name, _ in connections(feed("bybit", both))] == ["spot-1", "spot-linear-1"]
    assert [name for name, _ in connections(feed("okx", [Want("bar.1m", "BTC-USDT", "BTC-USDT")]))] == [
        "spot-business-1"
    ]


def test_the_same_wants_in_another_order_give_the_same_connections() -> None:
    """Channels keep the order asked for, so that is not changed; the order of symbols does not matter."""
    rows = [Want("book", f"S{i}/USD", f"S{i}-USD") for i in range(50)]
    layout = connections(feed("kraken", rows, per_connection=7))
    assert connections(feed("kraken", rows[::-1], per_connection=7)) == layout
    assert connections(feed("kraken", rows[25:] + rows[:25], per_connection=7)) == layout


def test_no_wants_need_no_connection() -> None:
    assert connections(feed("kraken", [])) == []


@pytest.mark.parametrize("by_url", [True, False])
def test_streams_in_the_url_are_those_that_the_connection_carries(by_url: bool) -> None:
    rows = [Want("trade", f"S{i}USDT", f"S{i}-USDT") for i in range(5)]
    layout = connections(feed("binance", rows, per_connection=2, by_url=by_url))
    for _, endpoint in layout:
        named = [f"{want.raw.lower()}@trade" for want in endpoint.wants]
        assert endpoint.url.endswith("?streams=" + "/".join(named) if by_url else "/stream")
    assert len(layout) == 3


def test_the_venues_own_limit_on_streams_is_kept() -> None:
    rows = [Want(channel, f"S{i}USDT", f"S{i}-USDT") for i in range(500) for channel in ("book", "trade", "quote")]
    sizes = [len(part) for part in carried(feed("binance", rows))]
    assert len(sizes) == 2, "1,024 streams on one connection, three of a symbol"
    assert max(sizes) <= 1023
    assert sum(sizes) == 1500


# -- plans, and what they refuse


def tickdb(symbols: int, channels: int = 3, **named: Any) -> Feed:
    return feed("tickdb", wants(symbols, channels), **named)


@pytest.mark.parametrize(
    ("plan", "symbols", "channels", "sizes"),
    [
        ("basic", 16, ("book", "trade", "ticker"), [48]),
        ("pro", 100, ("book", "trade", "ticker"), [300]),
        ("enterprise", 500, ("book", "trade", "ticker"), [1500]),
        ("enterprise", 1500, ("book", "trade", "ticker"), [1500, 1500, 1500]),
        ("free", 5, ("ticker",), [5]),
    ],
)
def test_a_plan_buys_so_much(plan: str, symbols: int, channels: tuple[str, ...], sizes: list[int]) -> None:
    rows = [Want(channel, f"S{i}", f"S{i}") for i in range(symbols) for channel in channels]
    assert [len(part) for part in carried(feed("tickdb", rows, plan=plan))] == sizes


def test_two_channels_that_are_one_of_the_venues_count_once() -> None:
    rows = [Want(channel, f"S{i}", f"S{i}") for i in range(5) for channel in ("ticker", "quote")]
    assert [len(part) for part in carried(feed("tickdb", rows, plan="free"))] == [10]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            tickdb(400, plan="pro"),
            "plan pro allows 300 subscriptions on 3 connections; the config wants 1,200 subscriptions of 400 symbols: 300 of 100"
            " symbols fit; drop 300 symbols (in the config's order, from S0100 on), or choose plan enterprise"
            " (5,000 subscriptions, 10 connections)",
        ),
        (
            tickdb(17, plan="basic"),
            "plan basic allows 50 subscriptions on 1 connection; the config wants 51 subscriptions of 17 symbols: 48 of 16"
            " symbols fit; drop 1 symbol (in the config's order, from S0016 on), or choose plan pro (300 subscriptions, 3 connections)",
        ),
        (
            tickdb(1, plan="free"),
            "plan free has no book, trade: ask for ticker, quote, bar only, or choose plan basic (50 subscriptions, 1 connection)",
        ),
        (tickdb(1, plan="gold"), "plan: expected one of free, basic, pro, enterprise, found 'gold'"),
        (feed("kraken", wants(1), plan="pro"), "plan: expected none, for kraken sells none, found 'pro'"),
        (
            tickdb(4, plan="basic", connections=2),
            "connections: expected at most 1, for plan basic allows no more, found 2, or choose plan pro (300 subscriptions, 3 connections)",
        ),
        (
            feed("kraken", wants(5), per_connection=2, connections=2),
            "config connections allows 2 connections, config symbols_per_connection 2 symbols on each; the config wants 5 subscriptions"
            " of 5 symbols: 4 of 4 symbols fit; drop 1 symbol (in the config's order, from S0004 on)",
        ),
        (
            tickdb(4, subscriptions_max=10),
            "config subscriptions_max allows 10 subscriptions; the config wants 12 subscriptions of 4 symbols: 9 of 3 symbols fit;"
            " drop 1 symbol (in the config's order, from S0003 on)",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_what_would_fit(made: Feed, said: str) -> None:
    with pytest.raises(Impossible) as refused:
        lay(made)
    assert str(refused.value) == said


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 12), st.integers(1, 4))
def test_what_is_said_to_fit_fits(symbols: int, channels: int, most: int, connected: int) -> None:
    rows = wants(symbols, channels)
    venue = limited(dialect("kraken_v1"), most, connected)
    try:
        lay(feed(venue, rows))
    except Impossible as refused:
        said = re.search(r"of ([\d,]+) symbols fit; drop ([\d,]+)", str(refused))
        assert said is not None
        fit, drop = (int(text.replace(",", "")) for text in said.groups())
        assert fit + drop == symbols
        kept = [want for want in rows if int(want.raw[1:]) < fit]
        assert len(connections(feed(venue, kept))) <= connected
        with pytest.raises(Impossible):
            lay(feed(venue, [want for want in rows if int(want.raw[1:]) <= fit]))


@pytest.mark.parametrize(("symbols", "asked", "found"), [(10, 3, 3), (2, 3, 2), (1000, 4, 4), (1, 1, 1)])
def test_as_many_connections_as_were_asked_for(symbols: int, asked: int, found: int) -> None:
    sizes = [len(part) for part in carried(feed("kraken", wants(symbols), connections=asked))]
    assert len(sizes) == found
    assert max(sizes) <= -(-symbols // found) * 9 / 8 + 1


def test_connections_asked_for_go_where_they_relieve_most() -> None:
    rows = [Want(c, f"S{i}USDT", f"S{i}-USDT-PERP") for i in range(10) for c in ("book", "quote", "trade")]
    names = [name for name, _ in connections(feed("binance_usdm", rows, connections=3))]
    assert names == ["spot-1", "spot-2", "spot-market-1"]


def test_measured_rates_balance_the_connections() -> None:
    rows = wants(200)
    rates = {("book", f"S{i:04}"): 1000.0 / (i + 1) for i in range(200)}
    made = feed("kraken", rows, connections=4)
    loads = [sum(rates["book", rows[at].raw] for at in part.wants) for part in lay(made, rates)]
    blind = [sum(rates["book", rows[at].raw] for at in part.wants) for part in lay(made)]
    heaviest = max(rates.values())
    assert max(loads) <= max(heaviest, 1.25 * sum(loads) / 4), loads
    assert max(blind) > max(loads)
