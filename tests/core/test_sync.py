"""Snapshot and changes in the venue's order, or an honest gap; each rule by itself, and a saved book as good as the one it was."""

from collections.abc import Sequence
from random import Random
from zlib import crc32

import msgspec
import pytest

from truetape.core.book.state import BookState, load, save
from truetape.core.book.sync import BUFFER_MAX, RESTART_AFTER, STRAGGLERS_MAX, SUSPECT_AFTER, UNASKED_MAX, BookSync
from truetape.core.feed.venue import Rule
from truetape.model.event import Book, Level


def checksum(bids: list[str], asks: list[str]) -> int:
    return crc32("|".join([*bids, "/", *asks]).encode())


CHAIN = Rule(numbers="chain")
STEP = Rule(numbers="step")
RANGE = Rule(snapshot="rest", numbers="range")
FUTURES = Rule(snapshot="rest", numbers="chain", overlap=True)
PLAIN = Rule()
COUNTED = Rule(counter=True)
CHECKED = Rule(truncate=True, checksum=checksum, checksum_depth=2)
RULES = {
    "plain": PLAIN,
    "step": STEP,
    "chain": CHAIN,
    "range": RANGE,
    "futures": FUTURES,
    "checked": CHECKED,
    "counted": COUNTED,
}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
TIME = 1_700_000_000_000_000_000


def book(bids: Sequence[Level] = (), asks: Sequence[Level] = (), **fields: object) -> Book:
    return Book("x", "A-B", "AB", 0, TIME, list(bids), list(asks), **fields)  # type: ignore[arg-type]


def whole(seq: int = -1, bid: float = 10.0, ask: float = 11.0, **fields: object) -> Book:
    return book([(bid, 1.0)], [(ask, 1.0)], snapshot=True, seq=seq, **fields)


def live(rule: Rule, seq: int = -1, **fields: object) -> BookSync:
    sync = BookSync(rule)
    sync.feed(whole(seq, **fields))
    assert sync.live
    return sync


def test_nothing_is_believed_before_the_first_snapshot() -> None:
    sync = BookSync(STEP)
    assert sync.feed(book([(1.0, 1.0)], seq=5)) == ()
    assert (sync.state, sync.live, sync.book.counts) == ("SYNCING", False, (0, 0))
    first = whole(7)
    assert sync.feed(first) == (first,)
    assert (sync.state, sync.evidence, sync.seq, sync.verified) == ("LIVE", "sequence", 7, TIME)


# Numbers


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (STEP, {"seq": 11}, {"seq": 12}),
        (CHAIN, {"prev": 10, "seq": 99}, {"prev": 11, "seq": 99}),
        (CHAIN, {"prev": 10, "seq": 10}, {"prev": 12, "seq": 12}),
        (CHAIN, {"prev": 10, "seq": 3}, {"prev": 10_000, "seq": 3}),
    ],
)
def test_a_change_follows_the_last_or_is_a_gap(rule: Rule, good: dict[str, int], bad: dict[str, int]) -> None:
    sync = live(rule, 10)
    follower = book([(9.0, 1.0)], **good)
    assert sync.feed(follower) == (follower,)
    assert sync.seq == good["seq"]
    sync = live(rule, 10)
    assert sync.feed(book([(9.0, 1.0)], **bad)) == ()
    assert (sync.state, sync.live, sync.wants_snapshot, sync.counts.sequence_gaps) == ("GAP", False, True, 1)
    assert sync.reason.startswith("expected ")
    assert (sync.from_seq, sync.to_seq) == (10, bad["seq"])


@pytest.mark.parametrize(
    ("rule", "old"),
    [(STEP, {"seq": 10}), (STEP, {"seq": 4}), (CHAIN, {"prev": 8, "seq": 10}), (CHAIN, {"prev": 2, "seq": 4})],
)
def test_what_comes_twice_is_neither_applied_nor_a_gap(rule: Rule, old: dict[str, int]) -> None:
    sync = live(rule, 10)
    assert sync.feed(book([(9.0, 5.0)], **old)) == ()
    assert (sync.state, sync.counts.duplicates, sync.book.bids()) == ("LIVE", 1, [(10.0, 1.0)])


def test_numbers_that_stay_behind_are_a_gap_in_the_end() -> None:
    """A venue that counted anew, and whose snapshot we missed, must not leave the book as it was for ever."""
    sync = live(STEP, 1000)
    for seq in range(2, 2 + RESTART_AFTER):
        sync.feed(book([(9.0, 5.0)], seq=seq))
    assert sync.live
    sync.feed(book([(9.0, 5.0)], seq=100))
    assert sync.state == "GAP"


def timed(seq: int, ts: int) -> Book:
    return Book("x", "A-B", "AB", ts, TIME, [(9.0, float(seq))], [], seq=seq)


def test_an_old_number_with_a_later_time_is_a_venue_that_counts_anew() -> None:
    """Found by the fault seq-reset: until twenty such messages had come, the book was LIVE and behind, for ever in a quiet market."""
    sync = live(STEP, 1000)
    sync.feed(timed(1001, TIME))
    for ts in (TIME, TIME - 1):
        assert sync.feed(timed(1000, ts)) == (), "a repetition is as old as it was"
    assert sync.live and sync.counts.duplicates == 2
    sync.feed(timed(1001, TIME + 5))
    assert sync.live, "the last number again, such as a venue that says that nothing changed"
    again = BookSync(STEP)
    load(again, save(sync))
    for kept in (sync, again):
        assert kept.feed(timed(1, TIME + 5)) == ()
        assert (kept.state, kept.reason) == ("GAP", "expected seq 1002, found seq 1")


def test_what_was_kept_for_a_snapshot_is_void_once_the_venue_counts_anew() -> None:
    """Else every snapshot of the new count would be older than the first change kept, and fetched again for ever."""
    sync = BookSync(RANGE)
    sync.feed(book([(9.0, 1.0)], first=1_000_001, seq=1_000_003))
    sync.feed(book([(9.0, 2.0)], first=1, seq=2))
    sync.feed(book([(9.0, 3.0)], first=3, seq=4))
    sync.feed(whole(2))
    assert (sync.state, sync.seq, sync.book.bids()) == ("LIVE", 4, [(10.0, 1.0), (9.0, 3.0)])


def test_a_snapshot_of_the_old_count_is_not_waited_with() -> None:
    """Every change of the new count would be older than it, and thrown away for ever."""
    sync = BookSync(RANGE)
    sync.feed(book([(9.0, 1.0)], first=1_000_001, seq=1_000_003))
    sync.feed(whole(1_000_003))
    assert not sync.wants_snapshot
    sync.feed(book([(9.0, 2.0)], first=1, seq=2))
    assert sync.wants_snapshot


def test_a_stream_that_stays_behind_its_snapshot_is_compared_with_another() -> None:
    """A venue that counted anew after the snapshot, and before any change: each is older than it, and would be thrown away for ever."""
    for again, state in ((1_100, "SYNCING"), (9, "LIVE")):
        sync = BookSync(RANGE)
        sync.feed(whole(1_000))
        for seq in range(1, 1 + STRAGGLERS_MAX):
            assert not sync.wants_snapshot
            sync.feed(book([(9.0, 1.0)], first=seq, seq=seq))
        assert sync.wants_snapshot
        sync.feed(whole(again))
        sync.feed(book([(9.0, 1.0)], first=9, seq=10))
        assert sync.state == state


def test_a_change_without_a_number_is_a_gap_where_the_book_had_one() -> None:
    sync = live(CHAIN, 10)
    sync.feed(book([(9.0, 5.0)]))
    assert (sync.state, sync.reason) == ("GAP", "expected prev 10, found no number")


def test_a_book_that_nothing_numbers_goes_on() -> None:
    sync = live(CHAIN)
    assert len(sync.feed(book([(9.0, 5.0)]))) == 1
    assert (sync.state, sync.evidence) == ("LIVE", "none")


def test_the_same_whole_book_again_is_not_news() -> None:
    sync = live(STEP, 10)
    assert sync.feed(whole(10)) == ()
    assert (sync.counts.snapshots, sync.counts.duplicates) == (1, 1)
    assert len(sync.feed(whole(1))) == 1, "a restart"
    assert sync.seq == 1


def test_changes_while_the_book_waits_belong_to_nothing() -> None:
    sync = live(STEP, 10)
    sync.feed(book([(9.0, 1.0)], seq=15))
    sync.asked()
    assert (sync.state, sync.wants_snapshot) == ("RESYNC", False)
    assert sync.feed(book([(9.0, 1.0)], seq=16)) == ()
    assert sync.counts.sequence_gaps == 1
    sync.feed(whole(20))
    assert (sync.state, sync.counts.resyncs, sync.seq) == ("LIVE", 1, 20)


def test_a_counter_proves_and_nothing_proves_a_plain_book() -> None:
    assert live(COUNTED).evidence == "sequence"
    assert live(PLAIN).evidence == "none"


def test_evidence_is_of_this_book_not_of_the_one_before() -> None:
    sync = live(CHAIN, 10)
    assert sync.evidence == "sequence"
    sync.lost("gone")
    sync.feed(whole())
    assert sync.evidence == "none"


# Checksums


def proved(sync: BookSync, bids: Sequence[Level] = (), asks: Sequence[Level] = (), *, wrong: bool = False) -> Book:
    """A change with marks and the true checksum of what it leads to."""
    copy = BookSync(sync.rule, sync.depth)
    load(copy, msgspec.msgpack.decode(msgspec.msgpack.encode(save(sync)), type=BookState))
    marks = ([f"{p}:{s}" for p, s in bids], [f"{p}:{s}" for p, s in asks])
    copy.feed(book(bids, asks, marks=marks))
    number = copy.book.checksum(checksum, 2)
    return book(bids, asks, marks=marks, checksum=number + wrong)


def checked(depth: int = 3) -> BookSync:
    sync = BookSync(CHECKED)
    sync.feed(
        book([(10.0, 1.0), (9.0, 1.0)], [(11.0, 1.0)], snapshot=True, marks=(["10:1", "9:1"], ["11:1"]), depth=depth)
    )
    return sync


def test_a_checksum_proves_the_book() -> None:
    sync = checked()
    assert sync.evidence == "none"
    assert len(sync.feed(proved(sync, [(10.5, 2.0)]))) == 1
    assert (sync.evidence, sync.counts.checksums_ok, sync.verified) == ("checksum", 1, TIME)


def test_a_checksum_that_does_not_hold_is_a_gap_and_a_third_in_a_row_is_suspect() -> None:
    sync = checked()
    for number in range(1, SUSPECT_AFTER + 1):
        assert sync.feed(proved(sync, [(10.5, 2.0)], wrong=True)) == ()
        assert sync.state == ("SUSPECT" if number == SUSPECT_AFTER else "GAP")
        assert sync.counts.checksums_failed == number
        sync.asked()
        sync.feed(book([(10.0, 1.0)], [(11.0, 1.0)], snapshot=True, marks=(["10:1"], ["11:1"])))
        assert sync.live
    sync.feed(proved(sync, [(10.5, 2.0)]))
    sync.feed(proved(sync, [(10.6, 2.0)], wrong=True))
    assert sync.state == "GAP", "a checksum that held in between clears the suspicion"


def test_no_checksum_is_not_a_mismatch() -> None:
    sync = checked()
    assert len(sync.feed(book([(9.5, 1.0)], marks=(["9.5:1"], [])))) == 1
    assert (sync.state, sync.counts.checksums_failed) == ("LIVE", 0)


def test_levels_beyond_the_depth_fall_out() -> None:
    sync = checked(depth=2)
    sync.feed(proved(sync, [(10.5, 2.0)]))
    assert (sync.book.bids(), sync.trusted_depth) == ([(10.5, 2.0), (10.0, 1.0)], 2)


def test_a_depth_below_zero_is_none() -> None:
    sync = checked(depth=2)
    sync.feed(book([(10.0, 1.0)], [(11.0, 1.0)], snapshot=True, marks=(["10:1"], ["11:1"]), depth=-1))
    assert (sync.live, sync.trusted_depth) == (True, 2)


@pytest.mark.parametrize("rule", [PLAIN, STEP, COUNTED])
def test_a_crossed_book_is_a_gap(rule: Rule) -> None:
    sync = live(rule, 10)
    assert sync.feed(book([(11.0, 1.0)], seq=11)) == ()
    assert (sync.state, sync.live) == ("GAP", False)
    assert BookSync(rule).feed(whole(10, bid=12.0)) == ()


# A fetched snapshot and the changes around it


def diff(first: int, seq: int, prev: int = -1, bid: float = 9.0) -> Book:
    return book([(bid, float(seq))], first=first, seq=seq, prev=prev)


@pytest.mark.parametrize(
    ("last", "diffs", "applied"),
    [
        (100, [(90, 95), (96, 100), (101, 105)], [105]),  # those that the snapshot holds are dropped
        (100, [(96, 101), (102, 103)], [101, 103]),  # one that spans 101
        (100, [(101, 101)], [101]),
        (94, [(95, 95), (96, 100)], [95, 100]),
    ],
)
def test_spot_is_bridged_by_the_first_change_that_spans_the_next_number(
    last: int, diffs: list[tuple[int, int]], applied: list[int]
) -> None:
    for late in (False, True):  # the answer comes after the changes, or before them
        sync = BookSync(RANGE)
        published = list(sync.feed(whole(last))) if late else []
        for first, seq in diffs:
            published += sync.feed(diff(first, seq))
        if not late:
            published += sync.feed(whole(last))
        assert sync.live
        assert [event.seq for event in published] == [last, *applied]
        assert (sync.seq, sync.evidence) == (applied[-1], "sequence")


@pytest.mark.parametrize("last", [1000, 995, 990])
def test_futures_are_bridged_by_a_change_that_ends_at_the_snapshot_or_spans_it(last: int) -> None:
    sync = BookSync(FUTURES)
    sync.feed(diff(980, 985, 975))
    sync.feed(diff(990, 1000, 985))
    sync.feed(diff(1040, 1050, 1000))
    sync.feed(whole(last))
    assert (sync.live, sync.seq) == (True, 1050)


def test_a_snapshot_older_than_the_changes_is_fetched_again() -> None:
    sync = BookSync(RANGE)
    sync.feed(diff(101, 105))
    assert sync.feed(whole(90)) == ()
    assert (sync.live, sync.wants_snapshot, sync.book.counts) == (False, True, (0, 0))
    sync.asked()
    sync.feed(whole(103))
    assert (sync.live, sync.seq) == (True, 105)


def test_a_snapshot_that_nothing_bridges_shows_nothing() -> None:
    sync = BookSync(RANGE)
    for seq in range(1, 50):
        sync.feed(diff(seq, seq))
    assert sync.feed(whole(1_000)) == ()
    assert (sync.live, sync.state, sync.book.counts, sync.wants_snapshot) == (False, "SYNCING", (0, 0), False)


def test_an_unasked_snapshot_cannot_be_placed_between_changes() -> None:
    sync = BookSync(RANGE)
    sync.feed(diff(101, 105))
    sync.feed(whole(104))
    assert sync.feed(whole(200, bid=10.5)) == ()
    assert (sync.live, sync.seq) == (True, 105)


def test_a_gap_among_the_kept_changes_starts_again() -> None:
    sync = BookSync(RANGE)
    for first, seq in ((101, 105), (107, 108), (109, 110)):
        sync.feed(diff(first, seq))
    published = sync.feed(whole(104))
    assert [event.seq for event in published] == [104, 105]
    assert (sync.live, sync.state, sync.wants_snapshot) == (False, "GAP", True)
    sync.asked()
    sync.feed(whole(109))
    assert (sync.live, sync.seq) == (True, 110)


def test_the_buffer_is_bounded() -> None:
    sync = BookSync(RANGE)
    sync.asked()
    for seq in range(1, BUFFER_MAX + 11):
        sync.feed(diff(seq, seq))
    assert sync.counts.buffer_overflows == 10
    assert len(save(sync).buffer) == BUFFER_MAX


def test_until_its_turn_is_near_a_book_keeps_few_changes_and_is_bridged_by_them() -> None:
    sync = BookSync(RANGE)
    for seq in range(1, 1_001):
        sync.feed(diff(seq, seq))
    assert (sync.waiting, sync.counts.buffer_overflows) == (UNASKED_MAX, 0)
    sync.asked()
    for seq in range(1_001, 1_011):
        sync.feed(diff(seq, seq))
    sync.feed(whole(990))
    assert (sync.live, sync.seq) == (True, 1_010)


def test_what_was_lost_is_asked_for_anew() -> None:
    sync = BookSync(RANGE)
    sync.feed(diff(101, 105))
    sync.feed(whole(104))
    sync.lost("connection lost")
    assert (sync.state, sync.live, sync.wants_snapshot, sync.seq) == ("SYNCING", False, True, -1)
    assert live(STEP, 5).trusted_depth == 0
    streamed = live(STEP, 5)
    streamed.lost("connection lost")
    assert not streamed.wants_snapshot, "the venue sends one after the subscribe"


# A checkpoint


def random_change(random: Random, rule: Rule, sync: BookSync) -> Book:
    """Mostly what a venue would send next, sometimes not."""
    step = random.choice([1, 1, 1, 1, 1, 1, 0, -3, 2])
    seq = max(sync.seq, 0) + step
    bid, ask = float(random.randint(1, 20)), float(random.randint(19, 40))
    size = float(random.randint(0, 3))
    marks = ([f"{bid}:{size}"], [f"{ask}:{size}"]) if rule.checksum is not None and random.random() < 0.95 else None
    numbers = {
        "none": {},
        "step": {"seq": seq},
        "chain": {"prev": seq - 1, "seq": seq},
        "range": {"first": seq, "seq": seq},
    }[rule.numbers]
    if random.random() < 0.1:
        numbers |= {"seq": max(sync.seq, 0) + random.randint(0, 2)}
        numbers.pop("first", None)
        return book([(bid, 1.0)], [(max(ask, bid + 1), 1.0)], snapshot=True, marks=marks, depth=4, **numbers)
    return book([(bid, size)], [(ask, size)], marks=marks, checksum=7 if random.random() < 0.02 else None, **numbers)


@each_rule
def test_a_saved_book_goes_on_as_the_one_it_was(rule: Rule) -> None:
    for seed in range(20):
        random = Random(f"{rule.numbers} {rule.snapshot} {seed}")
        sync = BookSync(rule, 4)
        for _ in range(150):
            if random.random() < 0.1:
                saved = msgspec.msgpack.encode(save(sync))
                other = BookSync(rule, 4)
                load(other, msgspec.msgpack.decode(saved, type=BookState))
                assert msgspec.msgpack.encode(save(other)) == saved, f"seed {seed}"
                sync = other if random.random() < 0.5 else sync
            event = random_change(random, rule, sync)
            twin = BookSync(rule, 4)
            load(twin, msgspec.msgpack.decode(msgspec.msgpack.encode(save(sync)), type=BookState))
            copied = msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=Book)
            assert list(sync.feed(event)) == list(twin.feed(copied)), f"seed {seed}"
            assert (sync.state, sync.reason, sync.book.bids()) == (twin.state, twin.reason, twin.book.bids()), (
                f"seed {seed}"
            )
            if sync.wants_snapshot and random.random() < 0.3:
                sync.asked()


@each_rule
def test_a_live_book_is_never_crossed(rule: Rule) -> None:
    for seed in range(20):
        random = Random(f"crossed {rule.numbers} {rule.snapshot} {seed}")
        sync = BookSync(rule, 4)
        for _ in range(200):
            sync.feed(random_change(random, rule, sync))
            assert not (sync.live and sync.book.crossed), f"seed {seed}"
            assert sync.live == (sync.state == "LIVE"), f"seed {seed}"
