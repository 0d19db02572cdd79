"""Subjects of a bus: one for each topic, no symbol that a bus would read as a pattern."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truetape.core.serve.subjects import place, subject, token
from truetape.model.event import Gap, Lagged, Status

TOPICS = {("trade", "x", "A"), ("book_delta", "x", "A"), ("bar", "x", "A")}


@pytest.mark.parametrize(
    ("symbol", "part"),
    [
        ("BTC-USDT", "BTC-USDT"),
        ("AAPL.US", "AAPL%2EUS"),
        ("BTC/USD", "BTC/USD"),
        ("*", "%2A"),
        (">", "%3E"),
        ("a b\t", "a%20b%09"),
        ("50%", "50%25"),
        ("", "_"),
    ],
)
def test_what_a_bus_forbids_is_escaped(symbol: str, part: str) -> None:
    assert subject("truetape", "trade", "kraken", symbol) == f"truetape.trade.kraken.{part}"


@given(
    st.text(min_size=1).filter(lambda text: text.isprintable()),
    st.text(min_size=1).filter(lambda text: text.isprintable()),
)
def test_each_symbol_has_a_part_of_its_own(one: str, other: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_%/:@+$=,-]+", token(one))
    assert (token(one) == token(other)) == (one == other)


def test_a_notice_goes_where_its_data_go() -> None:
    assert place(Lagged("x", "A", "trade", 3), TOPICS) == ("trade", "x", "A")
    gap = Gap("x", "A", "a", 1, "book", 0, 1, "lost")
    assert place(gap, TOPICS) == ("book_delta", "x", "A")
    assert place(gap, {("book", "x", "A")}) == ("book", "x", "A")
    assert place(gap, set()) == ("status", "x", "A")
    assert place(Status("x", "A", "a", 1, "bar.1m", "LIVE", ""), TOPICS) == ("bar", "x", "A")
    assert place(Status("x", "x#1", "wss://…", 1, "", "OPEN", ""), TOPICS) == ("status", "x", "x#1")
