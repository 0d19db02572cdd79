"""One consumer's bounded box: what lies in it, what became of the rest, and when its reader is to be woken.

    Router ── inbox.append ─► inbox ── settle(now) ─► hand · front · inbox · pending ── take(most, now) ─► consumer
                                           └────────► conflated, dropped, expired

The router appends events to `inbox` and does nothing more: that is the hot path. All judgement is in `settle`, which runs once per
read of a socket where it is needed, and before every `take` and every reading of the ledger; at those instants the box holds what a
strictly bounded queue would hold. Gap, Lagged and Status stand outside bound and ledger, in order with the data, never dropped.

Next door: `modes.py` decides what gives way when there is too much; `router.py` has the topics and fills the boxes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias, cast, final

from msgspec import Struct
from msgspec.structs import replace

from truetape.model.event import KINDS, Book, Gap, Lagged, Ledger, Market, Status

if TYPE_CHECKING:
    from truetape.core.route.modes import Held, Place
    from truetape.core.route.router import Topic

Key: TypeAlias = tuple[str, str, str]
"""(kind, venue, symbol): the name of a topic."""

NOTICES_MAX = 1_000
"""Beyond so many waiting notices, a Status gives way to a later Status of the same subscription."""


@final
class Lag:
    """A place in a box where events of one topic are missing; when it is taken it becomes a `Lagged`.

    `reason` is that of the first loss: `dropped`, `expired`, `closed` or `memory`. `dark`: the loss of a book was told, but no trusted
    state could be given yet. `past`: the consumer left the topic since; should it have come back, this tells nothing of what it has now.
    """

    __slots__ = ("count", "dark", "key", "past", "reason")

    def __init__(self, key: Key, reason: str, dark: bool = False) -> None:
        self.key = key
        self.count = 0
        self.reason = reason
        self.dark = dark
        self.past = False

    def copy(self) -> Lag:
        """The same, to be counted on by itself."""
        lag = Lag(self.key, self.reason, self.dark)
        lag.count, lag.past = self.count, self.past
        return lag


Item: TypeAlias = Market | Lag
OUTSIDE: frozenset[type] = frozenset((Gap, Lagged, Status, Lag))
"""What neither the bound nor the ledger counts."""


class Mode(Struct, frozen=True):
    """How a consumer wants to be treated when it is slower than the market. `ns` is the window or the age, where there is one."""

    name: str
    ns: int = 0

    @property
    def whole(self) -> bool:
        """Whether `book_delta` is delivered as whole books; such a box is settled at each flush."""
        return False

    def settle(self, box: Mailbox, now: int) -> None:
        """Judge what came into the box since the last time."""
        raise NotImplementedError

    def take(self, box: Mailbox, most: int, now: int) -> list[Market]:
        """Hand out what is due; the box was settled just before."""
        raise NotImplementedError


class MailboxStats(Struct, frozen=True):
    """Counters beside the ledger. `recalled`: whole books given to this consumer alone; `withdrawn`: dropped as it unsubscribed."""

    longest: int
    wakes: int
    notices: int
    replaced: int
    recalled: int
    withdrawn: int


class Mailbox:
    """A box with a bound, a mode and a ledger; whole books in it are `depth` levels deep, 0 = all.

        take gives [] ─► waiting ── flush returns the box ─► take …      any ── close, or `disconnect` overflows ─► closed

    Whoever gets [] looks at `closed_reason`: if it is set, that was the end, else the driver will wake it. A closed box drops its data
    but still hands out the notices that it holds, among them a Lagged for each topic that lost something.

    Where items lie, in the order in which they are taken: `hand`, a whole book just recalled; `front`, notices and Lags (and data that
    a notice released); `inbox`, in order, judged up to `settled`; `pending`, one for each place of a conflating box. `others` counts
    the notices and Lags among them. `lags` has the Lag of a topic to which further losses are added; `broken` the Lag of each book of
    which a change was lost. `eager` asks to be settled at each flush.
    """

    __slots__ = (
        "_joined", "_notices", "_past", "_replaced", "_thin_at", "_withdrawn", "armed", "bars", "bound", "broken",
        "closed_reason", "conflated", "delivered", "depth", "dropped", "each", "eager", "expired", "front", "hand", "inbox", "lags",
        "limit", "longest", "mode", "name", "others", "pending", "recalled", "settled", "topics", "waiting", "wakes",
    )  # fmt: skip

    def __init__(self, name: str, mode: Mode, bound: int = 1000, depth: int = 0) -> None:
        if bound < 1 or depth < 0:
            raise ValueError(
                f"mailbox {name}: expected bound of 1 or more and depth of 0 or more, found {bound} and {depth}"
            )
        self.name = name
        self.mode = mode
        self.bound = bound
        self.depth = depth
        self.limit = min(bound, NOTICES_MAX)
        self.waiting = True
        self.armed = False
        self.each = mode.whole or mode.ns > 0
        self.eager = mode.whole
        self.closed_reason: str | None = None
        self.hand: Book | None = None
        self.front: deque[Item] = deque()
        self.inbox: deque[Item] = deque()
        self.settled = 0
        self.pending: dict[Place, Held] = {}
        self.bars: dict[Place, None] = {}
        self.lags: dict[Key, Lag] = {}
        self.broken: dict[Key, Lag] = {}
        self.topics: dict[Key, Topic] = {}
        self._joined: dict[Key, int] = {}
        self.delivered = self.conflated = self.dropped = self.expired = self.recalled = 0
        self.others = self.longest = self._past = self._replaced = self._notices = self._withdrawn = self.wakes = 0
        self._thin_at = NOTICES_MAX

    # -- the consumer's side

    def take(self, most: int, now: int) -> list[Market]:
        """Up to `most` items that are due, oldest first. [] sets `waiting`, or is the end where `closed_reason` is set."""
        inbox = self.inbox
        count = len(inbox)
        if self.each or self.eager or self.others or count > self.bound:
            self.settle(now)
            out = self.mode.take(self, most, now)
        else:  # nothing to judge: no notices, no Lags, no book in doubt
            self.longest = max(self.longest, count)
            if count <= most:
                out = cast("list[Market]", list(inbox))
                inbox.clear()
            else:
                out = cast("list[Market]", [inbox.popleft() for _ in range(most)])
            self.delivered += len(out)
            self.settled = len(inbox)
            if depth := self.depth:
                cut = self.cut
                out = [
                    cut(event)
                    if event.__class__ is Book and (len(event.bids) > depth or len(event.asks) > depth)
                    else event
                    for event in out
                ]
        self.waiting = not out and self.closed_reason is None
        return out

    def ledger(self) -> Ledger:
        """What became of all that was offered, exact at any instant."""
        self._settle_timeless()
        received = self._past + self.recalled
        for key, topic in self.topics.items():
            received += topic.published - self._joined[key]
        queued = sum(type(item) not in OUTSIDE for store in (self.front, self.inbox) for item in store)
        queued += len(self.pending) + (self.hand is not None)
        return Ledger(received, self.delivered, self.conflated, self.dropped, self.expired, queued)

    @property
    def deadline(self) -> int | None:
        """When the oldest window ends, ns; None when nothing waits for time to pass."""
        return next(iter(self.pending.values())).since + self.mode.ns if self.pending else None

    @property
    def stats(self) -> MailboxStats:
        """Counters so far."""
        return MailboxStats(self.longest, self.wakes, self._notices, self._replaced, self.recalled, self._withdrawn)

    # -- the router's side

    def settle(self, now: int) -> None:
        """Judge what came since the last time: bound, merging, recovery."""
        if self.closed_reason is not None:
            self._abandon()
            return
        self.mode.settle(self, now)
        if self.others > self._thin_at:
            self._thin()

    def ready(self, now: int) -> bool:
        """Whether there is something to take, or an end to be told."""
        if self.inbox or self.front or self.hand is not None or self.closed_reason is not None:
            return True
        end = self.deadline
        return end is not None and end <= now

    def woken(self) -> Mailbox:
        """The router hands this box to its driver, to be read."""
        self.waiting = False
        self.wakes += 1
        return self

    def notice(self, event: Gap | Status) -> None:
        """Take in something outside the ledger, in order."""
        if self.closed_reason is None:
            self._notices += 1
            self.others += 1
            self.inbox.append(event)
            if self.others == 1:
                self._thin_at = NOTICES_MAX

    def join(self, topic: Topic) -> bool:
        """What is published there from now on is received here. A book begins with its whole state, or waits for it.

        Returns whether events are to be put in here: for a box that another is filled for they are not.
        """
        key = topic.key
        self.topics[key] = topic
        self._joined[key] = topic.published
        state = self.recall(key)
        if state is not None:
            self.recalled += 1
            self.inbox.append(state)
        elif topic.kind == "book_delta" and not self.mode.whole:
            self.broken[key] = Lag(key, "dropped", dark=True)
            self.eager = True
        return True

    def follow(self, topics: Iterable[Topic]) -> None:
        """What is published there from now on counts as received here; what was before is had already."""
        for topic in topics:
            self.topics[topic.key] = topic
            self._joined[topic.key] = topic.published

    def leave(self, topics: Sequence[Topic]) -> None:
        """No more of these: what still lies here of them is dropped (`withdrawn`), and no Lagged tells of it; what was lost before is
        still told. One look at the box for all of them: who is hung up with a thousand topics shall not hold up the others."""
        self._settle_timeless()
        keys = {topic.key: topic for topic in topics}
        gone = len(self.pull(keys))
        if self.hand is not None and self.key(self.hand) in keys:
            self.hand = None
            gone += 1
        self.dropped += gone
        self._withdrawn += gone
        if self.others:
            for item in chain(self.front, self.inbox):
                if type(item) is Lag and item.key in keys:
                    item.past = True
        for key, topic in keys.items():
            self._past += topic.published - self._joined.pop(key)
            lag = self.broken.pop(key, None)
            if lag is not None and lag.dark:
                self._withdrawn += lag.count
            self.lags.pop(key, None)
            del self.topics[key]

    def close(self, reason: str) -> None:
        """For good: all data that lie here are dropped. The first reason stays."""
        if self.closed_reason is None:
            self.closed_reason = reason
            self.eager = True
            self._abandon()

    # -- for the modes

    def data(self) -> int:
        """Data events in front and inbox."""
        return len(self.inbox) + len(self.front) - self.others

    def key(self, event: Market) -> Key:
        """The topic of a data event. No box has both a book and its changes, so what the box has says which a Book is."""
        kind = KINDS[type(event)]
        if kind == "book":
            changes = ("book_delta", event.venue, event.symbol)
            if changes in self.topics:
                return changes
        return (kind, event.venue, event.symbol)

    def recall(self, key: Key) -> Book | None:
        """The whole book now; None where it is not LIVE, or the topic is no book."""
        topic = self.topics.get(key)
        return None if topic is None or topic.state is None else topic.state(self._depth_of(key))

    def cut(self, event: Market) -> Market:
        """A whole book no deeper than the consumer asked for; anything else as it is."""
        depth = self.depth
        if type(event) is not Book or not event.snapshot or (len(event.bids) <= depth and len(event.asks) <= depth):
            return event
        if not self._depth_of(self.key(event)):
            return event
        marks = (event.marks[0][:depth], event.marks[1][:depth]) if event.marks is not None else None
        return replace(event, bids=event.bids[:depth], asks=event.asks[:depth], marks=marks)

    def lag(self, key: Key, reason: str, store: deque[Item]) -> Lag:
        """The Lag that stands before the next event of this topic, put at the end of a store where there is none."""
        lag = self.lags.get(key)
        if lag is None:
            lag = Lag(key, reason)
            self.mark(lag, store)
        return lag

    def mark(self, lag: Lag, store: deque[Item]) -> None:
        """Put a Lag at the end of a store."""
        self.lags[lag.key] = lag
        self.others += 1
        store.append(lag)

    def told(self, lag: Lag) -> Lagged:
        """A Lag leaves the box as the notice that the consumer reads."""
        self.others -= 1
        if self.lags.get(lag.key) is lag:
            del self.lags[lag.key]
        kind, venue, symbol = lag.key
        return Lagged(venue, symbol, kind, lag.count, lag.reason)

    def pull(self, keys: Container[Key] | None = None) -> list[Market]:
        """Take out the data of some topics, or all, but for the hand, from a settled box. The caller says what became of them."""
        out: list[Market] = []
        if not self.data() and not self.pending:
            self.settled = len(self.inbox)
            return out
        for store in (self.front, self.inbox):
            for _ in range(len(store)):
                item = store.popleft()
                if type(item) is Lag or type(item) in OUTSIDE or (keys is not None and self.key(item) not in keys):
                    store.append(item)
                else:
                    out.append(item)
        for place in [place for place, held in self.pending.items() if keys is None or self.key(held.item) in keys]:
            out.append(self.pending.pop(place).item)
            self.bars.pop(place, None)
        self.settled = len(self.inbox)
        return out

    def _settle_timeless(self) -> None:
        """Settle what needs no clock; windows begin at a flush or take, and until then what waits for one counts as queued."""
        if self.closed_reason is not None or not self.mode.whole:
            self.settle(0)

    def _depth_of(self, key: Key) -> int:
        """Changes that follow a whole book would uncover what was cut off it: only where none follow is it cut."""
        return 0 if key[0] == "book_delta" and not self.mode.whole else self.depth

    def _abandon(self) -> None:
        """Drop all data; a Lag for each topic tells how many."""
        lost = self.pull()
        self.front.extend(self.inbox)
        self.inbox.clear()
        if self.hand is not None:
            lost.append(self.hand)
            self.hand = None
        self.broken.clear()
        self.dropped += len(lost)
        for item in lost:
            self.lag(self.key(item), "closed", self.front).count += 1

    def _thin(self) -> None:
        """Too many notices wait: keep the latest Status of each subscription. Gaps and Lags stay."""
        seen: set[Key] = set()
        for store in (self.inbox, self.front):
            for _ in range(len(store)):
                item = store.pop()
                if isinstance(item, Status):
                    place = (item.venue, item.symbol, item.channel)
                    if place in seen:
                        self.others -= 1
                        self._replaced += 1
                        continue
                    seen.add(place)
                store.appendleft(item)
        self.settled = len(self.inbox)
        self._thin_at = max(NOTICES_MAX, 2 * self.others)
