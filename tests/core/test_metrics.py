"""What a book says about the market, against formulas written out with fractions."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truetape.core.book import metrics
from truetape.core.book.book import OrderBook
from truetape.core.book.tape import Flow
from truetape.model.event import Level, Trade

NUMBERS = st.floats(1e-8, 1e8)
ROWS = st.lists(st.tuples(st.integers(1, 10**7), NUMBERS), max_size=12, unique_by=lambda row: row[0])
DEPTHS = st.integers(1, 15)
Sides = tuple[list[Level], list[Level]]


@st.composite
def books(draw: st.DrawFn) -> Sides:
    """Bids best first below the asks best first; either side may be empty."""
    rows = draw(ROWS)
    cut = draw(st.integers(0, len(rows)))
    levels = [(price / 100, size) for price, size in sorted(rows)]
    return levels[:cut][::-1], levels[cut:]


def close(found: float | None, exact: Fraction) -> bool:
    return found == pytest.approx(float(exact), rel=1e-9, abs=1e-12)


def total(levels: list[Level], n: int) -> Fraction:
    return sum((Fraction(size) for _, size in levels[:n]), Fraction(0))


@given(books())
def test_spread_mid_and_microprice_follow_their_formulas(sides: Sides) -> None:
    bids, asks = sides
    if not bids or not asks:
        assert metrics.spread(bids, asks) is metrics.mid(bids, asks) is None
        assert metrics.spread_bps(bids, asks) is metrics.microprice(bids, asks) is None
        return
    (bid, bid_size), (ask, ask_size) = [[Fraction(x) for x in side[0]] for side in sides]
    assert close(metrics.spread(bids, asks), ask - bid)
    assert close(metrics.mid(bids, asks), (ask + bid) / 2)
    assert close(metrics.spread_bps(bids, asks), (ask - bid) / ((ask + bid) / 2) * 10_000)
    assert close(metrics.microprice(bids, asks), (bid * ask_size + ask * bid_size) / (bid_size + ask_size))
    micro = metrics.microprice(bids, asks)
    assert micro is not None and bid - Fraction(1, 10**6) <= micro <= ask + Fraction(1, 10**6)


@given(books(), DEPTHS)
def test_pressure_and_imbalance_follow_their_formulas(sides: Sides, n: int) -> None:
    bids, asks = sides
    if not bids or not asks:
        assert metrics.pressure(bids, asks, n) is metrics.imbalance(bids, asks, n) is None
        assert metrics.summary(bids, asks, n) is None
        return
    bid, ask = total(bids, n), total(asks, n)
    assert close(metrics.pressure(bids, asks, n), bid / ask)
    imbalance = metrics.imbalance(bids, asks, n)
    assert close(imbalance, (bid - ask) / (bid + ask)) and imbalance is not None and -1 <= imbalance <= 1


@given(books(), st.one_of(DEPTHS, st.just(5)))
def test_the_summary_is_the_three_at_the_price_of_one(sides: Sides, n: int) -> None:
    bids, asks = sides
    three = (metrics.spread_bps(bids, asks), metrics.pressure(bids, asks, n), metrics.imbalance(bids, asks, n))
    found = metrics.summary(bids, asks, n)
    assert found == (pytest.approx(three, rel=1e-12, abs=1e-15) if three[0] is not None else None)


@given(books(), DEPTHS)
def test_the_total_is_the_sum_of_the_best_levels(sides: Sides, n: int) -> None:
    assert close(metrics.total(sides[0], n), total(sides[0], n))


@given(books(), DEPTHS)
def test_the_metrics_do_not_change_the_book(sides: Sides, n: int) -> None:
    kept = (sides[0][:], sides[1][:])
    metrics.summary(*sides, n)
    metrics.microprice(*sides)
    assert sides == kept


@given(books(), DEPTHS)
def test_metrics_of_a_book_are_those_of_its_levels(sides: Sides, n: int) -> None:
    book = OrderBook()
    book.replace([], [])
    book.apply(*sides)
    assert metrics.pressure(book.bids(n), book.asks(n), n) == metrics.pressure(*sides, n)


def test_more_bids_press_upwards() -> None:
    bids, asks = [(99.0, 3.0), (98.0, 1.0)], [(101.0, 1.0), (102.0, 7.0)]
    assert metrics.pressure(bids, asks, 1) == 3.0 and metrics.imbalance(bids, asks, 1) == 0.5
    assert metrics.pressure(bids, asks, 2) == 0.5
    assert metrics.spread(bids, asks) == 2.0 and metrics.spread_bps(bids, asks) == 200.0
    assert metrics.microprice(bids, asks) == 100.5, "leans to the side that is about to give way"


# The tape

TRADES = st.lists(st.tuples(NUMBERS, NUMBERS, st.sampled_from(["buy", "sell", ""])), max_size=40)


@given(TRADES)
def test_flow_sums_what_was_traded(rows: list[tuple[float, float, str]]) -> None:
    flow = Flow()
    for price, size, side in rows:
        flow.add(Trade("v", "s", "r", 0, 0, price, size, side))
    assert (flow.n, flow.buy, flow.sell) == (
        len(rows), sum(side == "buy" for *_, side in rows), sum(side == "sell" for *_, side in rows),
    )  # fmt: skip
    base = sum((Fraction(size) for _, size, _ in rows), Fraction(0))
    quote = sum((Fraction(size) * Fraction(price) for price, size, _ in rows), Fraction(0))
    assert close(flow.base, base) and close(flow.quote, quote)
    assert close(flow.vwap, quote / base) if rows else flow.vwap is None
