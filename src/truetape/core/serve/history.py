"""What was published on a topic lately, so that a client that was away can go on where it stopped.

A `Tap` is a box that the router fills like any other, but whose deque forgets the oldest by itself: an event costs one C append. Offsets are
the topic's own count of published events, so that nothing is kept beside them. Next door: `box.py`, which is filled from here on a resumption.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from truetape.core.route.mailbox import Key, Mailbox
from truetape.core.route.modes import drop_oldest
from truetape.core.route.router import Router, Topic
from truetape.core.route.shed import free, weigh
from truetape.model.event import Gap, Market, Status

NEVER = 1 << 62
LOOKED_AT = 2
"""Events at each end of a history that its weight is estimated from: there are as many histories as topics."""


class Tap(Mailbox):
    """The last `size` events of one topic, and the notices that came between them."""

    __slots__ = ("idle_since", "notices", "size", "topic")

    def __init__(self, topic: Topic, size: int) -> None:
        super().__init__(f"history of {topic.key}", drop_oldest, 1, depth=1)  # as deep as clients ask for
        self.topic = topic
        self.size = size
        self.inbox = deque(maxlen=size)
        self.notices: deque[tuple[int, Gap | Status]] = deque(maxlen=size)
        self.waiting = False  # nobody is to be woken
        self.limit = NEVER
        self.idle_since = 0

    def join(self, topic: Topic) -> bool:
        """From here on: a history has no beginning state."""
        self.topics[topic.key] = topic
        return True

    def deepen(self, depth: int) -> None:
        """A client wants whole books this deep (0: all), and will want those that it missed no shallower."""
        if self.depth and (depth == 0 or depth > self.depth):
            self.depth = depth
            depths = [box.depth for box in self.topic.boxes]
            self.topic.depth = 0 if 0 in depths else max(depths)

    def leave(self, topics: Sequence[Topic]) -> None:
        """Forget it: a history has one topic."""
        for topic in topics:
            del self.topics[topic.key]
        self.inbox.clear()

    def settle(self, now: int) -> None:
        """Nothing is judged here."""

    def notice(self, event: Gap | Status) -> None:
        """Keep its place among the events."""
        channel, kind = event.channel.partition(".")[0], self.topic.kind
        if channel in ("", kind) or (channel == "book" and kind == "book_delta"):
            self.notices.append((self.topic.published, event))

    def since(self, offset: int) -> list[Market] | None:
        """Events and notices after `offset`, in order; None where not all of them are here."""
        published = self.topic.published
        missing = published - offset
        if not 0 <= missing <= len(self.inbox):
            return None
        out: list[Market] = []
        notices = deque((at, event) for at, event in self.notices if at >= offset)
        for at, event in enumerate(islice(self.inbox, len(self.inbox) - missing, None), offset):
            while notices and notices[0][0] <= at:
                out.append(notices.popleft()[1])
            out.append(event)  # type: ignore[arg-type]  # no Lag is ever put here
        out.extend(event for _, event in notices)
        return out

    @property
    def bytes(self) -> int:
        """About what it holds alone, and its part of what it shares with mailboxes."""
        return weigh(self, LOOKED_AT)

    def halve(self) -> tuple[int, int]:
        """Forget the older half; who left before it cannot go on from here any more. Returns how many events and bytes went."""
        count, freed = -(-len(self.inbox) // 2), 0
        for _ in range(count):
            event = self.inbox.popleft()
            freed += free(event)
        first = self.topic.published - len(self.inbox)
        while self.notices and self.notices[0][0] < first:
            self.notices.popleft()
        return count, freed


class Histories:
    """The taps of all topics that a client asked for, kept for a while after the last one left."""

    def __init__(self, router: Router, size: int, linger_ns: int) -> None:
        self._router = router
        self._size = size
        self._linger = linger_ns
        self.taps: dict[Key, Tap] = {}

    def keep(self, topic: Topic, depth: int) -> None:
        """From now on this topic has a history, of whole books so deep."""
        if not self._size:
            return
        tap = self.taps.get(topic.key)
        if tap is None:
            tap = self.taps[topic.key] = Tap(topic, self._size)
            self._router.subscribe(tap, [topic.key])
        tap.deepen(depth)

    def since(self, key: Key, offset: int) -> list[Market] | None:
        """What a client that has all up to `offset` missed; None where that is not known any more."""
        tap = self.taps.get(key)
        return tap.since(offset) if tap is not None else None

    def sweep(self, now: int, used: dict[Key, None]) -> list[Key]:
        """Forget the histories of topics that nobody asked for during the linger time; returns which."""
        gone = []
        for key, tap in list(self.taps.items()):
            if key in used:
                tap.idle_since = 0
            elif not tap.idle_since:
                tap.idle_since = now
            elif now - tap.idle_since > self._linger:
                self.drop(key)
                gone.append(key)
        return gone

    def drop(self, key: Key) -> int:
        """Forget one; returns about how many bytes that freed."""
        tap = self.taps.pop(key, None)
        if tap is None:
            return 0
        freed = tap.bytes
        self._router.close(tap, "forgotten")
        return freed

    def shed(self, want: int) -> tuple[int, int]:
        """Forget about so many bytes: first of topics that nobody is subscribed to, then the older half of the heaviest, and again.

        Returns how many events and bytes went.
        """
        events = freed = 0
        for key, tap in list(self.taps.items()):
            if freed >= want:
                break
            if tap.idle_since:
                events += len(tap.inbox)
                freed += self.drop(key)
        while freed < want and any(tap.inbox for tap in self.taps.values()):
            for tap in sorted(self.taps.values(), key=lambda tap: -tap.bytes):  # of equals the older
                if freed >= want:
                    break
                count, size = tap.halve()
                events, freed = events + count, freed + size
        return events, freed

    @property
    def bytes(self) -> int:
        """About what all hold."""
        return sum(tap.bytes for tap in self.taps.values())
