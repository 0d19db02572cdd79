"""The fingerprint of what left the pump: equal for equal streams however they came, and for nothing else."""

from hashlib import sha256

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truetape.core.route.digest import CHUNK, Digest
from truetape.model.event import Bar, Book, Gap, Market, Quote, Ticker, Trade

T0 = 1_700_000_000_000_000_000


def trade(number: int, price: float = 100.0) -> Trade:
    return Trade("kraken", "BTC-USD", "BTC/USD", T0 + number, T0 + number, price, 0.5, "buy", str(number))


def fed(events: list[Market], cuts: list[int] | None = None) -> Digest:
    """The events in parts of these lengths, one by one where none are given; folded after each part, as the pump does."""
    digest, at, cuts = Digest(), 0, list(cuts or [])
    while at < len(events):
        size = cuts.pop() if cuts else 1
        digest.chunk += events[at : at + size]
        if len(digest.chunk) >= CHUNK:
            digest.fold()
        at += size
    return digest


MANY: list[Market] = [trade(i, 100.0 + i % 7) for i in range(3 * CHUNK + 17)]


@settings(max_examples=50)
@given(st.lists(st.integers(1, 600), max_size=20), st.lists(st.integers(1, 600), max_size=20))
def test_the_digest_does_not_depend_on_how_events_came(one: list[int], two: list[int]) -> None:
    assert fed(MANY, one).value() == fed(MANY, two).value() == fed(MANY).value()
    assert fed(MANY, one).counts() == {"trade": len(MANY)}


@settings(max_examples=50)
@given(st.integers(0, len(MANY) - 1))
def test_one_price_changes_it(at: int) -> None:
    changed = MANY[:]
    changed[at] = trade(at, 100 + at % 7 + 1e-9)
    assert fed(changed).value() != fed(MANY).value()


@settings(max_examples=50)
@given(st.integers(0, len(MANY) - 2))
def test_the_order_matters(at: int) -> None:
    changed = MANY[:]
    changed[at : at + 2] = changed[at + 1], changed[at]
    assert fed(changed).value() != fed(MANY).value()


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_one_event_more_or_less_changes_it(length: int) -> None:
    assert len({fed(MANY[:n]).value() for n in (length, length + 1, length + 2)}) == 3


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 5])
def test_reading_it_does_not_change_it(length: int) -> None:
    digest = fed(MANY[:length])
    first = digest.value()
    digest.fold()
    assert digest.value() == first == digest.value()
    digest.chunk += MANY[length:]
    digest.fold()
    assert digest.value() == fed(MANY).value()


def test_it_is_the_chain_that_it_is_said_to_be() -> None:
    link = bytes(32)
    for start in range(0, len(MANY), CHUNK):
        link = sha256(link + msgspec.msgpack.encode(MANY[start : start + CHUNK])).digest()
    assert fed(MANY).value() == link.hex()


def test_link_and_open_chunk_carry_it_over_a_checkpoint() -> None:
    for cut in (0, 1, CHUNK - 1, CHUNK, CHUNK + 100, len(MANY)):
        before = fed(MANY[:cut])
        after = Digest()
        after.link, after.by_kind = before.link, dict(before.by_kind)
        after.chunk += msgspec.msgpack.decode(msgspec.msgpack.encode(before.chunk), type=list[Market])
        after.chunk += MANY[cut:]
        after.fold()
        assert after.value() == fed(MANY).value() and after.counts() == {"trade": len(MANY)}


def test_every_kind_is_counted_and_reset_forgets() -> None:
    events: list[Market] = [
        trade(1),
        Quote("v", "s", "r", 1, 2, 1.0, 1.0, 2.0, 1.0),
        Book("v", "s", "r", 1, 2, [(1.0, 1.0)], []),
        Bar("v", "s", "r", 1, 2, "1m", 0, 1.0, 1.0, 1.0, 1.0, 1.0),
        Ticker("v", "s", "r", 1, 2),
        Gap("v", "s", "r", 1, "book", 0, 1, "why"),
    ]
    digest = fed(events * CHUNK)
    assert digest.counts() == dict.fromkeys(("trade", "quote", "book", "bar", "ticker", "gap"), CHUNK)
    digest.reset()
    assert digest.counts() == {} and digest.value() == Digest().value()
