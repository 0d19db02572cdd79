"""A client's own box: what came from the gateway waits here for the program, judged by the mode that it asked for.

The connection is read at all times, so that the gateway never waits for a program that thinks; when the program is slower than the stream,
its box gives way as any consumer's does: the latest of each topic, or the oldest with a `Lagged` in their place. Next door: `reader.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from truetape.core.route.mailbox import OUTSIDE, Key, Mailbox, Mode
from truetape.core.route.modes import conflate
from truetape.core.route.router import Topic
from truetape.model.event import Ledger, Market


class Intake:
    """`keep` of the last events are remembered whether or not they were taken."""

    def __init__(self, name: str, mode: Mode, bound: int, keep: int = 0) -> None:
        # the gateway keeps the windows; here each take gives the latest
        self.box = Mailbox(name, conflate() if mode.whole else mode, bound)
        self.kept: deque[Market] = deque(maxlen=keep)
        self._topics: dict[Key, Topic] = {}

    def stand(self, topics: Iterable[Key]) -> None:
        """The gateway named these topics."""
        for kind, venue, symbol in topics:
            self._topic(("book" if kind == "book_delta" and self.box.mode.whole else kind, venue, symbol))

    def put(self, events: list[Market], now: int) -> None:
        """What came, in order."""
        box = self.box
        self.kept.extend(events)
        for event in events:
            if type(event) in OUTSIDE:
                box.others += 1
            else:
                key = box.key(event)
                (self._topics.get(key) or self._topic(key)).published += 1
            box.inbox.append(event)
        if box.eager or len(box.inbox) > box.bound:
            box.settle(now)

    def take(self, most: int, now: int) -> list[Market]:
        """What is due, at most so many."""
        return self.box.take(most, now)

    def broken(self) -> list[Key]:
        """Books of which this box itself lost changes, and has said so: only a whole one mends them."""
        return [key for key, lag in self.box.broken.items() if lag.dark and self._topics[key].published]

    @property
    def ledger(self) -> Ledger:
        """received = delivered + conflated + dropped + expired + queued."""
        return self.box.ledger()

    def _topic(self, key: Key) -> Topic:
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = Topic(*key)
            self.box.join(topic)
        return topic
