"""One order book: it holds what it was told, best first, however it was told."""

from random import Random
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truetape.core.book.book import OrderBook
from truetape.model.event import Level


def rule(bids: list[str], asks: list[str]) -> int:
    return crc32("|".join([*bids, "/", *asks]).encode())


def whole(bids: list[Level], asks: list[Level]) -> OrderBook:
    book = OrderBook()
    book.replace(list(bids), list(asks))
    return book


def test_a_whole_book_is_put_in_order_without_empty_levels() -> None:
    book = whole([(1.0, 2.0), (3.0, 1.0), (2.0, 0.0)], [(5.0, 1.0), (4.0, 2.0), (4.5, 0.0)])
    assert book.bids() == [(3.0, 1.0), (1.0, 2.0)]
    assert book.asks() == [(4.0, 2.0), (5.0, 1.0)]
    assert book.counts == (2, 2)
    assert not book.crossed


def test_of_a_price_that_stands_twice_the_last_holds() -> None:
    book = whole([(1.0, 2.0), (1.0, 3.0)], [(2.0, 1.0), (2.0, 4.0)])
    assert (book.bids(), book.asks()) == ([(1.0, 3.0)], [(2.0, 4.0)])


def test_changes_set_and_remove() -> None:
    book = whole([(1.0, 2.0)], [(4.0, 2.0)])
    book.apply([(2.0, 1.0), (1.0, 0.0), (0.5, 7.0)], [(3.0, 1.0), (4.0, 5.0)])
    assert book.bids() == [(2.0, 1.0), (0.5, 7.0)]
    assert book.asks() == [(3.0, 1.0), (4.0, 5.0)]
    book.apply([(9.0, 0.0)], [(9.0, 0.0)])
    assert book.counts == (2, 2), "removing what is not there is normal"


def test_the_best_n_are_asked_for_without_the_rest() -> None:
    book = whole([(1.0, 1.0), (2.0, 1.0), (3.0, 1.0)], [(4.0, 1.0), (5.0, 1.0), (6.0, 1.0)])
    for _ in range(2):
        assert book.bids(2) == [(3.0, 1.0), (2.0, 1.0)]
        assert book.asks(2) == [(4.0, 1.0), (5.0, 1.0)]
        assert book.bids(9) == book.bids() and book.asks(9) == book.asks()
        book.apply([], [])  # the same after it was taken apart


@pytest.mark.parametrize(("bid", "ask", "crossed"), [(1.0, 2.0, False), (2.0, 2.0, True), (3.0, 2.0, True)])
def test_a_book_is_crossed_where_its_best_prices_meet(bid: float, ask: float, crossed: bool) -> None:
    book = whole([(bid, 1.0)], [(ask, 1.0)])
    assert book.crossed is crossed
    book.apply([(0.5, 1.0)], [])
    assert book.crossed is crossed


def test_a_book_with_an_empty_side_is_not_crossed() -> None:
    assert not whole([(1.0, 1.0)], []).crossed
    assert not whole([], []).crossed


def test_truncation_keeps_the_best() -> None:
    for apart in (False, True):
        book = whole([(1.0, 1.0), (2.0, 1.0), (3.0, 1.0)], [(4.0, 1.0), (5.0, 1.0), (6.0, 1.0)])
        if apart:
            book.apply([], [])
        book.truncate(2)
        assert (book.bids(), book.asks()) == ([(3.0, 1.0), (2.0, 1.0)], [(4.0, 1.0), (5.0, 1.0)])


def marked(book: OrderBook, bids: list[Level], asks: list[Level], top: int) -> None:
    book.apply(bids, asks)
    book.mark(bids, asks, ([f"{p}:{s}" for p, s in bids], [f"{p}:{s}" for p, s in asks]), top)


def texts(levels: list[Level]) -> list[str]:
    return [f"{price}:{size}" for price, size in levels]


def test_the_checksum_is_that_of_the_best_levels_now() -> None:
    random = Random("checksum")
    book = OrderBook()
    book.replace([], [], ([], []))
    for _ in range(500):
        bids = [(float(random.randint(1, 20)), random.choice([0.0, 1.0, 2.0])) for _ in range(random.randint(0, 2))]
        asks = [(float(random.randint(21, 40)), random.choice([0.0, 1.0, 2.0])) for _ in range(random.randint(0, 2))]
        marked(book, bids, asks, 3)
        if random.random() < 0.1:
            book.truncate(5)
        assert book.checksum(rule, 3) == rule(texts(book.bids(3)), texts(book.asks(3)))


def test_marks_of_the_book_before_are_forgotten() -> None:
    book = OrderBook()
    book.replace([(1.0, 1.0)], [(2.0, 1.0)], (["b"], ["a"]))
    assert book.marks() == (["b"], ["a"])
    book.replace([(1.5, 1.0)], [(2.5, 1.0)])
    assert book.marks() == ([], [])


def test_a_level_without_its_mark_fails_the_checksum_and_nothing_else() -> None:
    book = OrderBook()
    book.replace([(1.0, 1.0)], [(2.0, 1.0)], (["b"], ["a"]))
    book.apply([(1.5, 1.0)], [])
    assert book.checksum(rule, 10) == rule(["", "b"], ["a"])
    assert book.marks() == (["", "b"], ["a"])


LEVELS = st.lists(st.tuples(st.integers(1, 30).map(float), st.integers(0, 3).map(float)), max_size=6)


@settings(deadline=None)
@given(first=st.tuples(LEVELS, LEVELS), changes=st.lists(st.tuples(LEVELS, LEVELS, st.booleans()), max_size=12))
def test_a_book_equals_a_plain_dictionary(
    first: tuple[list[Level], list[Level]], changes: list[tuple[list[Level], list[Level], bool]]
) -> None:
    book = whole(*first)
    plain = [dict(side) for side in first]
    for bids, asks, again in changes:
        if again:
            book.replace(list(bids), list(asks))
            plain = [dict(bids), dict(asks)]
        else:
            book.apply(bids, asks)
            for side, levels in zip(plain, (bids, asks), strict=True):
                side.update(levels)
        wanted = [sorted(((p, s) for p, s in side.items() if s), reverse=not at) for at, side in enumerate(plain)]
        assert [book.bids(), book.asks()] == wanted
        assert book.counts == (len(wanted[0]), len(wanted[1]))
        assert [book.bids(2), book.asks(2)] == [wanted[0][:2], wanted[1][:2]]
