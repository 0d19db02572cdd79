"""Who wants what: events come in on topics, and lie in the mailboxes of all who asked for them when `publish` returns.

    pump ── publish(topic, event) · notify(gap or status) ─► mailboxes        driver ── flush(now), once per read ─► boxes to wake

`flush` settles what was touched and returns the boxes whose readers wait and have something to take; `deadline` says when a window of
a conflating box ends and `tick` (the same as `flush`) is due. A consumer asks in patterns (kind, venue or "*", symbol or "*"); topics
that appear later are joined to the patterns that match them. The kind "status" has no topics: who asks for it hears notices only.

Next door: `mailbox.py` is what is filled here, `pump.py` is who publishes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import chain
from typing import TypeAlias

from truetape.core.route.mailbox import Key, Mailbox
from truetape.model.event import DATA_KINDS, NOTICES, Book, Gap, Market, Status

Pattern: TypeAlias = tuple[str, str, str]
"""(kind, venue, symbol), where venue and symbol may be "*" for all."""

RELIEF = 512
"""Without a flush, boxes are brought back within their bounds after so many events: no inbox grows further beyond."""


class Topic:
    """One kind of event of one symbol. The pump keeps it at hand, publishes to it, and gives it `state` where it is a book.

    `state(depth)` is the whole book as of the last event published here, best levels first (0 = all), or None when it is not LIVE. It
    is called by `subscribe` and `take`, never between the events of one frame. `depth` is the deepest that subscribers of `book` asked
    for, 0 = all. Where `puts` is empty nobody listens, and nothing need be built.
    """

    __slots__ = ("boxes", "depth", "dirty", "kind", "published", "puts", "state", "symbol", "venue")

    def __init__(self, kind: str, venue: str, symbol: str) -> None:
        self.kind = kind
        self.venue = venue
        self.symbol = symbol
        self.published = 0
        self.boxes: list[Mailbox] = []
        self.puts: list[Callable[[Market], None]] = []
        self.depth = 0
        self.dirty = False
        self.state: Callable[[int], Book | None] | None = None

    @property
    def key(self) -> Key:
        """The name under which router and boxes know it."""
        return (self.kind, self.venue, self.symbol)

    def attach(self, box: Mailbox) -> None:
        """From the next event on this box gets what is published."""
        if self.key not in box.topics:
            filled = box.join(self)
            deepest = max(self.depth, box.depth) if self.depth and box.depth else 0
            self.depth = deepest if self.boxes else box.depth
            if filled:
                self.add(box)

    def add(self, box: Mailbox) -> None:
        """Fill this box, which has joined."""
        self.boxes.append(box)
        self.puts.append(box.inbox.append)

    def detach(self, box: Mailbox) -> None:
        """From the next event on this box, which has left, gets no more."""
        try:
            at = self.boxes.index(box)
        except ValueError:
            return  # another is filled for it
        del self.boxes[at], self.puts[at]
        if box.depth == self.depth and not any(
            other.depth == box.depth for other in self.boxes
        ):  # mostly the first wants as much
            depths = [other.depth for other in self.boxes]
            self.depth = 0 if 0 in depths else max(depths, default=0)

    def __repr__(self) -> str:
        return f"Topic({self.kind} {self.venue}:{self.symbol}, published {self.published}, to {len(self.boxes)})"


class Router:
    """Topics, patterns and mailboxes. `subscribe`, `unsubscribe` and `close` return the patterns that nobody asked for before, or no
    longer: what the app has to get from the venues, or need not."""

    __slots__ = (
        "_alarms", "_asked", "_count", "_dirty", "_holders", "_led", "_left", "_listeners", "_now", "_stirred", "relief", "topics",
    )  # fmt: skip

    def __init__(self, relief: int = RELIEF) -> None:
        self.relief = relief
        self.topics: dict[Key, Topic] = {}
        self._asked: dict[Mailbox, dict[Pattern, None]] = {}
        self._holders: dict[Pattern, dict[Mailbox, None]] = {}
        self._listeners: dict[tuple[str, str], dict[Mailbox, int]] = {}
        self._led: dict[Mailbox, list[Pattern]] = {}
        self._dirty: list[Topic] = []
        self._stirred: dict[Mailbox, None] = {}
        self._alarms: list[tuple[int, int, Mailbox]] = []
        self._count = 0
        self._left = self.relief
        self._now = 0

    # -- the pump's side

    def topic(self, kind: str, venue: str, symbol: str) -> Topic:
        """The topic of this name, made and joined to whoever waits for it when it is first asked for."""
        key = (kind, venue, symbol)
        topic = self.topics.get(key)
        if topic is None:
            assert kind in DATA_KINDS, f"topic: expected one of {DATA_KINDS}, found {kind}"
            topic = self.topics[key] = Topic(kind, venue, symbol)
            for box in union(self._holders.get(pattern, {}) for pattern in patterns_of(*key)):
                topic.attach(box)
                self._stirred[box] = None
        return topic

    def publish(self, topic: Topic, event: Market) -> None:
        """Hand an event to all who listen. The state of a book must include it already."""
        topic.published += 1
        if puts := topic.puts:
            if not topic.dirty:
                topic.dirty = True
                self._dirty.append(topic)
            for put in puts:
                put(event)
            self._left = left = self._left - 1
            if not left:
                self._relieve()

    def notify(self, event: Gap | Status) -> None:
        """Tell everybody who asked for anything of this symbol; of a connection (no channel), for anything of this venue; of the
        process (no venue), everybody."""
        symbols = (event.symbol, "*") if event.channel else ("",)
        if not event.venue:
            for box in self._asked:
                box.notice(event)
                self._stirred[box] = None
            return
        for box in union(self._listeners.get((v, s), {}) for v in (event.venue, "*") for s in symbols):
            box.notice(event)
            self._stirred[box] = None

    # -- the driver's side

    def flush(self, now: int) -> list[Mailbox]:
        """The bytes of one read are through, or `deadline` is reached: which waiting boxes have something now?"""
        woken: list[Mailbox] = []
        closed: list[Mailbox] = []
        for box in self._touched():
            if box.eager or len(box.inbox) > box.limit:
                box.settle(now)
                if box.closed_reason is not None:
                    closed.append(box)
                elif not box.armed:
                    self._arm(box, now)
            if box.waiting and (box.inbox or box.ready(now)):
                box.waiting = False
                box.wakes += 1
                woken.append(box)
        for topic in self._dirty:
            topic.dirty = False
        self._dirty.clear()
        self._stirred.clear()
        self._left = self.relief
        self._now = now
        while self._alarms and self._alarms[0][0] <= now:
            box = heappop(self._alarms)[2]
            box.armed = False
            self._arm(box, now)
            if box.waiting and box.ready(now):
                box.waiting = False
                box.wakes += 1
                woken.append(box)
        for box in closed:
            self._part(box, list(box.topics.values()))
        return woken

    tick = flush

    @property
    def deadline(self) -> int | None:
        """When `tick` is next due, ns; None while no box waits for time to pass."""
        return self._alarms[0][0] if self._alarms else None

    # -- the consumers' side

    def subscribe(self, box: Mailbox, patterns: Sequence[Pattern]) -> list[Pattern]:
        """This box wants these too. Returns those that nobody asked for before. A closed box gets nothing.

        Raises ValueError for an unknown kind, and where a box would have both a book and its changes: it could not tell them apart.
        """
        if box.closed_reason is not None:
            return []
        asked = self._asked.get(box, {})
        check(box.name, [*asked, *patterns])
        self._asked[box] = asked
        self._stirred[box] = None
        first: list[Pattern] = []
        for pattern in dict.fromkeys(patterns):
            if pattern in asked:
                continue
            asked[pattern] = None
            holders = self._holders.setdefault(pattern, {})
            if not holders:
                first.append(pattern)
            holders[box] = None
            self._listen(box, pattern)
            for topic in self._matching(pattern):
                topic.attach(box)
        return first

    def unsubscribe(self, box: Mailbox, patterns: Sequence[Pattern]) -> list[Pattern]:
        """This box no longer wants these: it gets no more of what no other pattern of it matches, not even what lies in it already.

        Returns those that nobody asks for any more.
        """
        asked = self._asked.get(box, {})
        gone = [pattern for pattern in dict.fromkeys(patterns) if asked.pop(pattern, self) is None]
        left = [topic for topic in box.topics.values() if not any(one in asked for one in patterns_of(*topic.key))]
        if left:
            self._part(box, left)
            self._stirred[box] = None  # leaving settles the box: a Lag of that may lie in it now
        if not asked:
            self._asked.pop(box, None)
        last: list[Pattern] = []
        for pattern in gone:
            holders = self._holders[pattern]
            del holders[box]
            if not holders:
                del self._holders[pattern]
                last.append(pattern)
            self._unlisten(box, pattern)
        return last

    def close(self, box: Mailbox, reason: str = "closed by the consumer") -> list[Pattern]:
        """This box is done, for good. Returns the patterns that nobody asks for any more. A box that `disconnect` closed needs it too."""
        box.close(reason)
        last = self.unsubscribe(box, list(self._asked.get(box, ())))
        self._stirred[box] = None
        return last

    # -- boxes that are filled for others (see core.serve.chorus)

    def lead(self, leader: Mailbox, box: Mailbox) -> None:
        """Fill `leader` from now on as this box is filled. It counts as nobody's wish."""
        leader.follow(box.topics.values())
        for topic in box.topics.values():
            topic.add(leader)
        self._asked[leader] = {}
        for pattern in self._asked[box]:
            self._listen(leader, pattern)
        self._led[leader] = list(self._asked[box])

    def retire(self, leader: Mailbox) -> None:
        """Fill it no more."""
        for topic in leader.topics.values():
            topic.detach(leader)
        del self._asked[leader]
        for pattern in self._led.pop(leader):
            self._unlisten(leader, pattern)

    @staticmethod
    def rest(box: Mailbox) -> None:
        """Put nothing into this box for now, though it stays joined to its topics."""
        for topic in box.topics.values():
            topic.detach(box)

    def resume(self, box: Mailbox) -> None:
        """Fill a resting box again, from here on."""
        for topic in box.topics.values():
            topic.add(box)
        self._stirred[box] = None

    def wanted(self) -> dict[Pattern, int]:
        """Every pattern that is asked for, and by how many boxes."""
        return {pattern: len(holders) for pattern, holders in self._holders.items()}

    # -- inside

    def _listen(self, box: Mailbox, pattern: Pattern) -> None:
        for place in places_of(pattern):
            listeners = self._listeners.setdefault(place, {})
            listeners[box] = listeners.get(box, 0) + 1

    def _unlisten(self, box: Mailbox, pattern: Pattern) -> None:
        for place in places_of(pattern):
            listeners = self._listeners[place]
            listeners[box] -= 1
            if not listeners[box]:
                del listeners[box]
                if not listeners:
                    del self._listeners[place]

    def _part(self, box: Mailbox, topics: Sequence[Topic]) -> None:
        """This box and these topics have no more to do with each other."""
        box.leave(topics)
        for topic in topics:
            topic.detach(box)

    def _touched(self) -> Iterable[Mailbox]:
        """The boxes that something was put in since the last flush, each once, in a fixed order."""
        if len(self._dirty) == 1 and not self._stirred:
            return self._dirty[0].boxes
        return union([*(topic.boxes for topic in self._dirty), self._stirred])

    def _relieve(self) -> None:
        """So much was published without a flush that inboxes must be brought back within their bounds."""
        self._left = self.relief
        for box in self._touched():
            if box.eager or len(box.inbox) > box.limit:
                box.settle(self._now)

    def _arm(self, box: Mailbox, now: int) -> None:
        """An alarm for the first window of this box that ends after `now`. While it is pending the box needs no other."""
        end = None
        for held in reversed(box.pending.values()):
            if held.since + box.mode.ns <= now:
                break
            end = held.since + box.mode.ns
        if end is not None:
            self._count += 1
            box.armed = True
            heappush(self._alarms, (end, self._count, box))

    def _matching(self, pattern: Pattern) -> list[Topic]:
        kind, venue, symbol = pattern
        if "*" not in (venue, symbol):
            return [self.topics[pattern]] if pattern in self.topics else []
        topics = [topic for topic in self.topics.values() if topic.kind == kind]
        return [topic for topic in topics if venue in ("*", topic.venue) and symbol in ("*", topic.symbol)]


def union(groups: Iterable[Iterable[Mailbox]]) -> Iterable[Mailbox]:
    """All boxes of several groups, each once, in a fixed order."""
    return dict.fromkeys(chain.from_iterable(groups))


def patterns_of(kind: str, venue: str, symbol: str) -> list[Pattern]:
    """The four patterns that match a topic."""
    return [(kind, v, s) for v in (venue, "*") for s in (symbol, "*")]


def places_of(pattern: Pattern) -> list[tuple[str, str]]:
    """Where the asker of a pattern hears notices: of the symbol, and ("") of the venue's connections."""
    return [pattern[1:], (pattern[1], "")]


def check(name: str, patterns: Sequence[Pattern]) -> None:
    """Raise ValueError for what a box cannot ask for."""
    for kind, _, _ in patterns:
        if kind not in DATA_KINDS and kind != NOTICES:
            raise ValueError(f"mailbox {name}: expected one of {', '.join(DATA_KINDS)} or {NOTICES}, found {kind}")
    changes = [pattern[1:] for pattern in patterns if pattern[0] == "book_delta"]
    for venue, symbol in [pattern[1:] for pattern in patterns if pattern[0] == "book"]:
        if any((v == venue or "*" in (v, venue)) and (s == symbol or "*" in (s, symbol)) for v, s in changes):
            raise ValueError(f"mailbox {name}: expected one of book and book_delta of {venue}:{symbol}, found both")
