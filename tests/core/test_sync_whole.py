"""Numbered whole books: each heals whatever was lost before it, but the loss is counted and told."""

import msgspec
import pytest

from truetape.core.book.state import BookState, load, save
from truetape.core.book.sync import BookSync
from truetape.core.feed.venue import Rule
from truetape.model.event import Book

RULES = {
    "step": Rule(snapshot="whole", numbers="step"),
    "range": Rule(snapshot="whole", numbers="range"),
    "chain": Rule(snapshot="whole", numbers="chain"),
}


def book(seq: int, rule: str = "step", after: int | None = None) -> Book:
    """A whole book whose best bid is its number; it follows `after`, the number before it unless told otherwise."""
    before = seq - 1 if after is None else after
    first = {"range": before + 1}.get(rule, -1)
    prev = {"chain": before}.get(rule, -1)
    return Book("v", "S", "s", 0, seq, [(float(seq), 1.0)], [(1000.0, 1.0)], True, first, seq, prev)


def best(sync: BookSync) -> float:
    return sync.book.bids(1)[0][0]


@pytest.mark.parametrize("rule", RULES)
def test_books_in_order_are_published_and_proven(rule: str) -> None:
    sync = BookSync(RULES[rule])
    for seq in (5, 6, 7):
        assert sync.feed(book(seq, rule))
    assert (sync.state, sync.evidence, sync.verified, sync.jumped) == ("LIVE", "sequence", 7, "")
    assert sync.counts.sequence_gaps == 0


@pytest.mark.parametrize("rule", RULES)
def test_a_jump_is_counted_and_told_and_heals_itself(rule: str) -> None:
    sync = BookSync(RULES[rule])
    sync.feed(book(5, rule))
    assert sync.feed(book(8, rule)), "the book that jumped is itself whole"
    assert (sync.state, best(sync)) == ("LIVE", 8.0)
    assert sync.jumped.startswith("expected")
    assert (sync.from_seq, sync.counts.sequence_gaps, sync.counts.resyncs) == (5, 1, 1)
    assert not sync.wants_snapshot, "nothing need be fetched or asked for anew"
    sync.jumped = ""
    assert sync.feed(book(9, rule))
    assert sync.jumped == ""


@pytest.mark.parametrize("rule", ["step", "range"])
def test_late_and_repeated_books_change_nothing(rule: str) -> None:
    sync = BookSync(RULES[rule])
    for seq in (5, 6, 7):
        sync.feed(book(seq, rule))
    for old in (7, 5, 7):
        assert not sync.feed(book(old, rule))
    assert (sync.state, best(sync), sync.counts.duplicates, sync.counts.sequence_gaps) == ("LIVE", 7.0, 3, 0)
    assert sync.feed(book(8, rule))


@pytest.mark.parametrize("rule", ["step", "range"])
def test_numbers_that_begin_anew_are_followed_from_the_second(rule: str) -> None:
    sync = BookSync(RULES[rule])
    sync.feed(book(500, rule))
    assert not sync.feed(book(1, rule))
    assert sync.feed(book(2, rule)), "two old numbers in order are new ones"
    assert (sync.state, best(sync), sync.counts.sequence_gaps) == ("LIVE", 2.0, 1)
    assert sync.jumped.endswith("the venue counts anew")
    assert sync.feed(book(3, rule))


def test_an_old_number_is_remembered_by_a_checkpoint() -> None:
    sync, restored = BookSync(RULES["step"]), BookSync(RULES["step"])
    sync.feed(book(500))
    sync.feed(book(1))
    load(restored, msgspec.msgpack.decode(msgspec.msgpack.encode(save(sync)), type=BookState))
    assert restored.feed(book(2))
    assert best(restored) == 2.0


def test_a_book_without_a_number_proves_nothing_and_breaks_nothing() -> None:
    sync = BookSync(RULES["step"])
    sync.feed(book(5))
    assert sync.feed(Book("v", "S", "s", 0, 6, [(6.0, 1.0)], [(1000.0, 1.0)], True))
    assert (sync.state, best(sync), sync.jumped) == ("LIVE", 6.0, "")


def test_a_jump_to_a_crossed_book_is_a_gap() -> None:
    sync = BookSync(RULES["step"])
    sync.feed(book(5))
    assert not sync.feed(Book("v", "S", "s", 0, 8, [(6.0, 1.0)], [(5.0, 1.0)], True, -1, 8))
    assert sync.state == "GAP"
    assert sync.wants_snapshot
