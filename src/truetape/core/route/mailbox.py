"""One consumer's bounded box: what lies in it, what became of the rest, and when its reader is to be woken.

    Router ── inbox.append ─► inbox ── settle(now) ─► front, inbox, pending ── take(most, now) ─► consumer
                                           └────────► conflated, dropped, expired

The router appends events to `inbox` and does nothing more: that is the hot path. All judgement is in `settle`, which runs once per
read of a socket where it is needed, and before every `take` and every reading of the ledger; at those instants the box holds what a
strictly bounded queue would hold. Gap, Lagged and Status stand outside bound and ledger, in order with the data, never dropped.

Next door: `modes.py` has the queues that judge, one for each way of delivery; `router.py` has the topics and fills the boxes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias, final

from msgspec import Struct
from msgspec.structs import replace

from truetape.model.event import KINDS, Book, Gap, Lagged, Ledger, Market, Status

if TYPE_CHECKING:
    from truetape.core.route.router import Topic

Key: TypeAlias = tuple[str, str, str]
"""(kind, venue, symbol): the name of a topic."""

NOTICES_MAX = 1_000
"""Beyond so many waiting notices, a Status gives way to a later Status of the same subscription."""


@final
class Lag:
    """A place in a box where events of one topic are missing; it becomes a `Lagged` when it is taken.

    `dark`: the loss of a book was told, but no trusted state could be given yet.
    """

    __slots__ = ("count", "dark", "key", "reason")

    def __init__(self, key: Key, reason: str, dark: bool = False) -> None:
        self.key = key
        self.count = 0
        self.reason = reason
        self.dark = dark

    def told(self) -> Lagged:
        """The notice that the consumer reads."""
        kind, venue, symbol = self.key
        return Lagged(venue, symbol, kind, self.count, self.reason)


Item: TypeAlias = Market | Lag
OUTSIDE: frozenset[type] = frozenset((Gap, Lagged, Status, Lag))
"""What neither the bound nor the ledger counts."""


class Queue:
    """What all ways of delivery share: the places where items lie, the counters, and how loss is marked.

    `front` is handed out first. `others` counts the notices and Lags in all places. `lags` holds the Lag of each topic that further
    losses are added to. `eager` asks to be settled at each flush; `burst` says that the consumer is to be cut off.
    """

    __slots__ = (
        "bound", "burst", "conflated", "delivered", "depth", "dropped", "eager", "expired", "front", "inbox", "lags", "limit",
        "longest", "others", "recalled", "replaced", "thin_at", "topics",
    )  # fmt: skip

    def __init__(self, bound: int, depth: int) -> None:
        self.bound = bound
        self.depth = depth
        self.limit = min(bound, NOTICES_MAX)
        self.inbox: deque[Item] = deque()
        self.front: deque[Item] = deque()
        self.topics: dict[Key, Topic] = {}
        self.lags: dict[Key, Lag] = {}
        self.others = self.longest = self.recalled = self.replaced = 0
        self.delivered = self.conflated = self.dropped = self.expired = 0
        self.thin_at = NOTICES_MAX
        self.eager = False
        self.burst = False

    def settle(self, now: int) -> None:
        """Judge what came since the last time."""
        raise NotImplementedError

    def take(self, most: int, now: int) -> list[Market]:
        """Hand out what is due; it was settled just before."""
        raise NotImplementedError

    def ready(self, now: int) -> bool:
        """Whether `take` would find something."""
        raise NotImplementedError

    def queued(self) -> int:
        """Data events in the box, counted one by one."""
        return sum(type(item) not in OUTSIDE for store in (self.front, self.inbox) for item in store)

    def deadline(self) -> int | None:
        """The end of the oldest window, ns; None when nothing waits for time to pass."""
        return None

    def next_deadline(self, now: int) -> int | None:
        """The first end of a window after `now`."""
        return None

    def started(self, topic: Topic) -> None:
        """The consumer listens to this topic from now on: a book begins with its whole state, where that can be trusted."""
        self.topics[topic.key] = topic
        if (state := self.recall(topic.key, self.depth)) is not None:
            self.recalled += 1
            self.inbox.append(state)

    def stopped(self, key: Key) -> int:
        """The consumer wants no more of this topic: what lies here of it counts as dropped. Returns how many."""
        gone = self.throw_out(key)
        self.dropped += gone
        del self.topics[key]
        return gone

    def abandon(self, reason: str) -> None:
        """Drop all data; one Lag for each topic tells how many."""
        for store in (self.front, self.inbox):
            for _ in range(len(store)):
                item = store.popleft()
                if type(item) is Lag or type(item) in OUTSIDE:
                    self.front.append(item)
                else:
                    self.dropped += 1
                    self.lag(self.key(item), reason).count += 1

    def throw_out(self, key: Key) -> int:
        """Take all data of one topic out of the box. Returns how many; the caller says what became of them."""
        gone = 0
        for store in (self.front, self.inbox):
            kept = [item for item in store if type(item) is Lag or type(item) in OUTSIDE or self.key(item) != key]
            if len(kept) < len(store):
                gone += len(store) - len(kept)
                store.clear()
                store.extend(kept)
        return gone

    def key(self, event: Market) -> Key:
        """The topic of a data event. No box has both a book and its changes, so what the box has says which a Book is."""
        kind = KINDS[type(event)]
        if kind == "book":
            changes = ("book_delta", event.venue, event.symbol)
            if changes in self.topics:
                return changes
        return (kind, event.venue, event.symbol)

    def recall(self, key: Key, depth: int) -> Book | None:
        """The whole book now; None where it is not LIVE, or the topic is no book."""
        topic = self.topics.get(key)
        return None if topic is None or topic.state is None else topic.state(depth)

    def cut(self, event: Market) -> Market:
        """A whole book no deeper than the consumer asked for; anything else as it is."""
        depth = self.depth
        if type(event) is not Book or not event.snapshot or max(len(event.bids), len(event.asks)) <= depth:
            return event
        marks = (event.marks[0][:depth], event.marks[1][:depth]) if event.marks is not None else None
        return replace(event, bids=event.bids[:depth], asks=event.asks[:depth], marks=marks)

    def lag(self, key: Key, reason: str) -> Lag:
        """The mark that stands before the next event of this topic, put at the end of `front` where there is none."""
        lag = self.lags.get(key)
        if lag is None:
            lag = self.lags[key] = Lag(key, reason)
            self.front.append(lag)
            self.others += 1
        return lag

    def notice(self, event: Gap | Status) -> None:
        """Take in something outside the ledger, in order."""
        self.inbox.append(event)
        self.others += 1
        if self.others > self.thin_at:
            self.eager = True

    def thin(self) -> None:
        """Too many notices wait: keep the latest Status of each subscription. Gaps and Lags stay."""
        seen: set[Key] = set()
        for store in (self.inbox, self.front):
            kept: list[Item] = []
            for item in reversed(store):
                if isinstance(item, Status):
                    place = (item.venue, item.symbol, item.channel)
                    if place in seen:
                        self.others -= 1
                        self.replaced += 1
                        continue
                    seen.add(place)
                kept.append(item)
            store.clear()
            store.extend(reversed(kept))
        self.thin_at = max(NOTICES_MAX, 2 * self.others)


class Mode(Struct, frozen=True):
    """How a consumer wants to be treated when it is slower than the market; the five are in `modes.py`."""

    def queue(self, bound: int, depth: int) -> Queue:
        """A queue that delivers this way."""
        raise NotImplementedError


class MailboxStats(Struct, frozen=True):
    """Plain counters beside the ledger. `recalled` are whole books given to this consumer alone; `withdrawn` were dropped as it left."""

    longest: int
    wakes: int
    notices: int
    replaced: int
    recalled: int
    withdrawn: int


class Mailbox:
    """A bounded box with a way of delivery and a ledger; whole books in it are `depth` levels deep, 0 = all.

        take gives [] ─► waiting ── flush returns the box ─► take …      any ── close, or `disconnect` overflows ─► closed

    Whoever gets [] looks at `closed_reason`: if it is set, that was the end, else the driver will wake it. A closed box drops its data
    but still hands out the notices that it holds, among them a Lagged for each topic that lost something.
    """

    __slots__ = (
        "_joined", "_notices", "_past", "_wakes", "_withdrawn", "armed", "bound", "closed_reason", "depth", "inbox", "mode", "name",
        "now", "queue", "waiting",
    )  # fmt: skip

    def __init__(self, name: str, mode: Mode, bound: int = 1000, depth: int = 0) -> None:
        if bound < 1 or depth < 0:
            raise ValueError(f"mailbox {name}: expected bound of 1 or more and depth of 0 or more, found {bound} and {depth}")
        self.name = name
        self.mode = mode
        self.bound = bound
        self.depth = depth
        self.queue = mode.queue(bound, depth)
        self.inbox = self.queue.inbox
        self.waiting = True
        self.armed = False
        self.closed_reason: str | None = None
        self.now = 0
        self._joined: dict[Key, int] = {}
        self._past = self._notices = self._wakes = self._withdrawn = 0

    def take(self, most: int, now: int) -> list[Market]:
        """Up to `most` items that are due, oldest first. [] sets `waiting`, and is the end where `closed_reason` is set."""
        self.settle(now)
        out = self.queue.take(most, now)
        self.waiting = not out
        return out

    def ledger(self) -> Ledger:
        """What became of all that was offered, exact at any instant."""
        self.settle(self.now)
        queue = self.queue
        received = self._past + queue.recalled
        for key, topic in queue.topics.items():
            received += topic.published - self._joined[key]
        return Ledger(received, queue.delivered, queue.conflated, queue.dropped, queue.expired, queue.queued())

    @property
    def deadline(self) -> int | None:
        """When the oldest window ends, ns; None when nothing waits for time to pass."""
        return self.queue.deadline()

    @property
    def stats(self) -> MailboxStats:
        """Counters so far."""
        queue = self.queue
        return MailboxStats(queue.longest, self._wakes, self._notices, queue.replaced, queue.recalled, self._withdrawn)

    def settle(self, now: int) -> None:
        """Judge what came since the last time: bounds, merging, recovery."""
        self.now = now
        queue = self.queue
        if self.closed_reason is not None:
            queue.abandon("closed")
            return
        queue.settle(now)
        if queue.burst:
            self.close(f"too slow: more than {self.bound} events waited")

    def ready(self, now: int) -> bool:
        """Whether there is something to take, or an end to be told."""
        return self.closed_reason is not None or self.queue.ready(now)

    def woken(self) -> None:
        """The router hands this box to its driver, to be read."""
        self.waiting = False
        self._wakes += 1

    def notice(self, event: Gap | Status) -> None:
        """Take in something outside the ledger, in order."""
        if self.closed_reason is None:
            self._notices += 1
            self.queue.notice(event)

    def join(self, topic: Topic) -> None:
        """From here on, what is published there is received here."""
        self._joined[topic.key] = topic.published
        self.queue.started(topic)

    def leave(self, topic: Topic) -> None:
        """No more of this topic: what still lies here of it is dropped (`withdrawn`), and no Lagged tells of it."""
        self.settle(self.now)
        self._past += topic.published - self._joined.pop(topic.key)
        self._withdrawn += self.queue.stopped(topic.key)

    def close(self, reason: str) -> None:
        """For good: all data that lie here are dropped. The first reason stays."""
        if self.closed_reason is None:
            self.closed_reason = reason
            self.queue.abandon("closed")
