"""From wants to connections: limits are kept, nothing is lost, and the channels of one symbol stay together."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truetape.app.dialects import Names, dialect
from truetape.core.feed.plan import CONNECTION_MAX, Feed, connections, split
from truetape.core.feed.venue import Limits, Want

CHANNELS = ("book", "trade", "quote", "ticker")


def wants(symbols: int, channels: int = 1) -> list[Want]:
    return [Want(channel, f"S{i:04}", f"S{i:04}") for i in range(symbols) for channel in CHANNELS[:channels]]


def feed(venue: str, rows: list[Want], **named: Any) -> Feed:
    kind = dialect(venue)
    return Feed("spot", venue, venue, kind, kind.url, kind.rest_url, tuple(rows), Names(kind, kind.url), **named)


@given(st.integers(0, 60), st.integers(1, 4), st.integers(0, 20), st.integers(0, 20))
def test_splitting_keeps_the_limits_and_loses_nothing(symbols: int, channels: int, most: int, per: int) -> None:
    rows = wants(symbols, channels)
    parts = split(rows, Limits(wants_per_connection=most), per)
    assert [want for part in parts for want in part] == rows
    assert all(parts)
    for part in parts:
        assert not most or len(part) <= most
        assert len({want.raw for want in part}) <= (per or CONNECTION_MAX)


@given(st.integers(1, 60), st.integers(1, 4), st.integers(4, 20), st.integers(0, 20))
def test_channels_of_one_symbol_share_a_connection(symbols: int, channels: int, most: int, per: int) -> None:
    parts = split(wants(symbols, channels), Limits(wants_per_connection=most), per)
    homes = [want.raw for part in parts for want in {want.raw: want for want in part}.values()]
    assert len(homes) == len(set(homes)) == symbols
    fewest = max(-(-symbols // (most // channels)), -(-symbols // (per or CONNECTION_MAX)))
    assert len(parts) == fewest, "and no connection more than that needs"


def test_a_symbol_with_more_channels_than_a_connection_may_carry_is_cut() -> None:
    parts = split(wants(2, 4), Limits(wants_per_connection=3), 0)
    assert [[want.raw for want in part] for part in parts] == [["S0000"] * 3, ["S0000"], ["S0001"] * 3, ["S0001"]]


def test_the_default_ceiling_is_five_hundred_symbols() -> None:
    assert [len(part) for part in split(wants(1200), Limits(), 0)] == [500, 500, 200]


def test_connections_are_named_by_feed_and_number() -> None:
    rows = [Want(channel, f"S{i}/USD", f"S{i}-USD") for channel in ("trade", "book") for i in range(5)]
    layout = connections(feed("kraken", rows, per_connection=2))
    assert [name for name, _ in layout] == ["spot-1", "spot-2", "spot-3"]
    assert [[want.raw for want in endpoint.wants] for _, endpoint in layout] == [
        ["S0/USD", "S0/USD", "S1/USD", "S1/USD"], ["S2/USD", "S2/USD", "S3/USD", "S3/USD"], ["S4/USD", "S4/USD"],
    ]  # fmt: skip


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
    layout = connections(feed("binance", rows))
    assert [len(endpoint.wants) for _, endpoint in layout] == [1023, 477], (
        "1,024 streams on one connection, three of a symbol"
    )
