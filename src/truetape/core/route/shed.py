"""Bytes that lie in mailboxes and books, estimated; and mailboxes made lighter when memory is short.

What is shed is counted as dropped, and a `Lagged(reason="memory")` stands before the next event of the topic; a book of which changes
were shed comes back whole, as after any loss. An estimate looks at a few events of each box, for it must cost nothing while all is well.
An event that lies in several boxes is shared by them: each holds its part, so that the sum of all is what is really there. The parts come
from CPython's own count of references, for no queue knows of another.

Next door: `core/guard.py` orders; `modes.py` sheds for a box's own bound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from sys import getrefcount
from typing import cast

from truetape.core.route.link import Link
from truetape.core.route.mailbox import OUTSIDE, Item, Key, Lag, Mailbox
from truetape.model.event import Book, Market, Quote, Ticker

EVENT, LEVEL, HELD_LEVEL, CHANGE, GAP = 280, 112, 170, 900, 400
"""Bytes of an event beside its levels, of a level in an event, of a level in a book, of a change that waits for a snapshot, of a row in a
report (CPython 3.11)."""
LOOKED_AT = 16
"""Events at each end of a queue that its weight is estimated from."""
WORK_MAX = 20_000
"""Events that one order looks at in one box: some 20 ms."""


def _references(thing: object) -> int:
    """What `getrefcount` says within a function: of a thing that only the caller's variable has, that differs by the version of CPython."""
    return getrefcount(thing)


def _alone() -> int:
    thing = Lag(("", "", ""), "")
    return _references(thing)


ALONE = _alone()


def weight(event: Item) -> int:
    """About the bytes of one event."""
    return EVENT + LEVEL * (len(event.bids) + len(event.asks)) if type(event) is Book else EVENT


def free(event: Item, beside: int = 0) -> int:
    """About the bytes that are free once the caller's variable lets go: none while another box, or whoever, has it; `beside` counts the
    caller's own lists that it lies in."""
    return weight(event) if getrefcount(event) <= ALONE + beside else 0


def weigh(box: Mailbox, looked_at: int = LOOKED_AT) -> int:
    """About the bytes that lie in a box, by so many events at each end of it."""
    total = 0
    for store in (box.front, box.inbox):
        if count := len(store):
            ends = islice(store, looked_at), islice(reversed(store), looked_at)
            few = list(store) if count <= 2 * looked_at else [*ends[0], *ends[1]]
            total += _parts(few) * count // len(few)
    if count := len(box.pending):
        few = [held.item for held in islice(box.pending.values(), looked_at)]
        total += _parts(few) * count // len(few)
    return total


def _parts(few: list[Item]) -> int:
    """About the bytes of these that are their box's own part; they lie in the box and in this list."""
    total = 0
    for item in few:
        total += weight(item) // max(1, _references(item) - ALONE - 1)
    return total


def weigh_books(links: Iterable[Link]) -> int:
    """About the bytes of all books, and of the changes that wait for a snapshot of theirs."""
    syncs = [stream.sync for link in links for stream in link.books.values() if stream.sync is not None]
    return sum(HELD_LEVEL * sum(sync.book.counts) + CHANGE * sync.waiting for sync in syncs)


def relieve(boxes: Sequence[Mailbox], want: int, now: int, *, superseded: bool) -> tuple[int, int]:
    """Shed until about `want` bytes are free, the heaviest boxes first (of equals the older); returns how many events and bytes went.

    What several boxes share is free when the last of them gave it, so each gives of its oldest no more than is wanted still.
    `superseded`: only states that a later one in the same box replaces.
    """
    events = freed = 0
    heaviest = sorted(((weigh(box), -at) for at, box in enumerate(boxes)), reverse=True)
    for _, at in heaviest:
        if freed >= want:
            break
        box = boxes[-at]
        if box.closed_reason is not None:
            continue
        box.settle(now)
        count, size = (_thin if superseded else _cut)(box, want - freed)
        events, freed = events + count, freed + size
        box.settled = len(box.inbox)  # also where nothing went: notices may have moved
        box.eager = box.eager or bool(box.broken)
    return events, freed


def _store(box: Mailbox) -> deque[Item]:
    """Where a box has what may be shed. A conflating box has one event of each topic beside it, and keeps that."""
    return box.front if box.mode.whole else box.inbox


def _thin(box: Mailbox, want: int) -> tuple[int, int]:
    """Of the oldest, drop books, quotes and tickers that a later one replaces."""
    store = _store(box)
    window = [store.popleft() for _ in range(min(len(store), WORK_MAX))]
    last: dict[Key, Item] = {}
    for item in window:
        if _is_state(box, item):
            last[box.key(cast("Market", item))] = item
    kept: list[Item] = []
    lost: dict[Key, int] = {}
    given = freed = 0
    for item in window:
        if given < want and _is_state(box, item) and last[key := box.key(cast("Market", item))] is not item:
            given += weight(item)
            freed += free(item, beside=1)
            lost[key] = lost.get(key, 0) + 1
        else:
            kept.append(item)
    store.extendleft(reversed(kept))
    _mark(box, lost)
    return len(window) - len(kept), freed


def _is_state(box: Mailbox, item: Item) -> bool:
    """Whether a later event of the same topic says all that this one does."""
    return type(item) in (Quote, Ticker) or (type(item) is Book and box.key(item)[0] == "book")


def _cut(box: Mailbox, want: int) -> tuple[int, int]:
    """Drop whatever is oldest. With one change of a book go all that wait of that book."""
    store = _store(box)
    passed: list[Item] = []
    lost: dict[Key, int] = {}
    given = freed = looked = 0
    while store and given < want and looked < WORK_MAX:
        looked += 1
        item = store.popleft()
        if type(item) is Lag or type(item) in OUTSIDE:
            passed.append(item)
            continue
        given += weight(item)
        freed += free(item)
        key = box.key(item)
        lost[key] = lost.get(key, 0) + 1
    freed += _follow(box, lost)
    past = [item for item in passed if type(item) is Lag and item.past]
    rest = [item for item in passed if type(item) is not Lag or not item.past]
    if store is box.inbox:
        box.front.extend(past)
        _mark(box, lost)  # before the rest: a Lag among it may stand for losses after these
        box.front.extend(rest)
    else:
        store.extendleft(reversed(rest))
        _mark(box, lost)
        store.extendleft(reversed(past))
    return sum(lost.values()), freed


def _follow(box: Mailbox, lost: dict[Key, int]) -> int:
    """What waits of books whose changes were cut goes too, in one pass; counted in `lost`. Returns the bytes."""
    broken = {key for key in lost if key[0] == "book_delta" and not box.mode.whole}
    if not broken:
        return 0
    freed = 0
    for _ in range(len(box.inbox)):
        item = box.inbox.popleft()
        if type(item) is Book and (key := box.key(item)) in broken:
            lost[key] += 1
            freed += free(item)
        else:
            box.inbox.append(item)
    return freed


def _mark(box: Mailbox, lost: dict[Key, int]) -> None:
    """So many of each topic were dropped: a Lag of our own, before all of the topic that still lies here."""
    if not lost:
        return
    ours = {lag.key: lag for lag in box.front if type(lag) is Lag and lag.reason == "memory" and not lag.past}
    for key, count in lost.items():
        box.dropped += count
        lag = ours.get(key)
        if lag is None:
            lag = Lag(key, "memory")
            box.others += 1
            if box.mode.whole:
                box.front.appendleft(lag)  # data that a notice released may lie here too
            else:
                box.front.append(lag)
            if box.mode.name != "drop_newest":  # whose later losses lie behind what is kept
                box.lags.setdefault(key, lag)
        lag.count += count
        if key[0] == "book_delta" and not box.mode.whole:
            box.broken.setdefault(
                key, lag
            )  # one that is broken has a Lag behind this one, which calls for the whole book
