"""A client's mailbox: as any other, but that it can begin where the client stopped, and says how far the client has come.

Next door: `history.py` has what was missed; `frames.py` makes messages of what is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from truetape.core.route.mailbox import OUTSIDE, Item, Key, Lag, Mailbox, Mode
from truetape.core.route.modes import conflate, disconnect, drop_newest, drop_oldest, max_age
from truetape.core.route.router import Topic
from truetape.core.serve.history import Histories
from truetape.model.event import Gap, Lagged, Ledger, Market, Status
from truetape.model.wire import Subscribe

if TYPE_CHECKING:
    from truetape.core.serve.chorus import Chorus

UNKNOWN = -1
COUNTERS = ("delivered", "dropped", "expired", "recalled", "_notices")
"""What a member of a chorus has of its leader."""


class ClientBox(Mailbox):
    """`resume` says up to which offset the client has each topic; `recovered` answers, once the box has joined it.

    `whole`: books of which the client has no state to apply changes to. `beginning`: a topic that `resume` does not name appeared while the
    client was away, and is gone on with from its first event.

    `kin` is the number of all boxes that are alike; those that are up to date are filled as one (`chorus`, of whose leader's counters this
    box has `seen` so much).

    `cuts` is shared by all boxes of a server: whole books cut to a depth, so that a thousand clients of one depth share one object.
    """

    __slots__ = (
        "_states",
        "_told",
        "asked",
        "beginning",
        "chorus",
        "cuts",
        "histories",
        "kin",
        "recovered",
        "resume",
        "seen",
        "signature",
        "start",
        "whole",
    )

    def __init__(
        self,
        name: str,
        mode: Mode,
        bound: int,
        depth: int,
        histories: Histories,
        cuts: dict[tuple[int, int], tuple[Market, Market]],
    ) -> None:
        super().__init__(name, mode, bound, depth)
        self.histories = histories
        self.cuts = cuts
        self.resume: dict[Key, int] = {}
        self.whole: dict[Key, None] = {}
        self.beginning = False
        self._states: dict[Key, Item] = {}  # whole books that it began with and has not given yet: no published events
        self._told: dict[int, Market] = {}  # notices that several histories have
        self.recovered: dict[Key, bool] = {}
        self.start: dict[Key, int] = {}  # each topic's offset after which this box receives
        self.signature = 0  # of boxes that are filled alike; 0: of none
        self.asked = bound  # a resumption widens `bound` by what was missed
        self.kin = 0  # the same once it is up to date, however it began
        self.chorus: Chorus[Any] | None = None  # whose leader is filled in place of this box
        self.seen = (0,) * len(COUNTERS)  # what the leader had counted when this was last looked at

    def counters(self) -> tuple[int, ...]:
        """See `COUNTERS`."""
        return (self.delivered, self.dropped, self.expired, self.recalled, self._notices)

    def fold(self) -> None:
        """Bring in what became of the leader's events since the last time."""
        if self.chorus is not None:
            old, new = self.seen, self.chorus.leader.counters()
            self.seen = new
            for name, before, after in zip(COUNTERS, old, new, strict=True):
                if after != before:
                    setattr(self, name, getattr(self, name) + after - before)

    def ledger(self) -> Ledger:
        """As any box; what lies in the leader's counts as lying here."""
        if self.chorus is None:
            return super().ledger()
        queued = self.chorus.leader.ledger().queued  # settles it, too
        self.fold()
        return msgspec.structs.replace(super().ledger(), queued=queued)

    def notice(self, event: Gap | Status) -> None:
        """As any box; a leader hears it for its members."""
        if self.chorus is None:
            super().notice(event)

    def leave(self, topics: Sequence[Topic]) -> None:
        """As any box; by itself."""
        if self.chorus is not None:
            self.chorus.part(self)
        super().leave(topics)

    def close(self, reason: str) -> None:
        """As any box; by itself."""
        if self.chorus is not None:
            self.chorus.part(self)
        super().close(reason)

    def join(self, topic: Topic) -> bool:
        """Begin with the exact continuation of what the client has, else with an explicit loss and the whole state."""
        if self.chorus is not None:
            if not topic.published and not self.beginning:
                self.follow([topic])
                self.chorus.widen(topic)
                return False
            self.chorus.part(self)
        key = topic.key
        self.histories.keep(topic, self.depth)
        offset = self.resume.pop(key, 0 if self.beginning else None)
        usable = offset is not None and offset >= 0 and key not in self.whole
        missed = self.histories.since(key, offset) if offset is not None and usable else None
        if offset is None or missed is None:
            if offset is not None:
                self._lost(topic, offset)
            count = self.recalled
            super().join(topic)
            if self.recalled > count and not self.mode.whole:
                self._states[key] = self.inbox[-1]
            self.start[key] = topic.published
            return True
        self.recovered[key] = True
        self.topics[key] = topic
        self._joined[key] = self.start[key] = offset
        data = topic.published - offset
        self.bound += data  # what was missed has its own room: it shall not push itself out
        self.limit = max(self.limit, self.bound)
        for item in missed:
            if type(item) in OUTSIDE:
                if id(item) in self._told:
                    continue
                self._told[id(item)] = item
                self.others += 1
            self.inbox.append(item)
        return True

    def _lost(self, topic: Topic, offset: int) -> None:
        """What the client missed of this topic is not to be had; where nothing was missed, nothing is said."""
        lost = topic.published - offset if 0 <= offset <= topic.published else UNKNOWN
        self.recovered[topic.key] = not lost
        if lost:
            self.inbox.append(Lagged(topic.venue, topic.symbol, topic.kind, lost, "not_recovered"))
            self.others += 1

    def take(self, most: int, now: int) -> list[Market]:
        """As any box; but of a conflating one all that a notice released at once, for it stands for more events than can be told later."""
        if self.mode.whole:
            most = max(most, len(self.front) + len(self.inbox) + len(self.pending))
        out = super().take(most, now)
        if self._states:
            given = {id(event) for event in out}
            self._states = {key: state for key, state in self._states.items() if id(state) not in given}
        return out

    def told(self, lag: Lag) -> Lagged:
        """As any box, but without the whole book that it began with, where that went too: nobody published it."""
        if self.mode.name != "drop_newest" and self._states.pop(lag.key, None) is not None:
            lag.count = max(0, lag.count - 1)
        return super().told(lag)

    def cut(self, event: Market) -> Market:
        """As any box does, but once for all who asked for this depth."""
        key = (id(event), self.depth)
        known = self.cuts.get(key)
        if known is None:
            known = self.cuts[key] = (event, super().cut(event))  # holds the event, so that its id is its own
        return known[1]

    def at(self, keys: Callable[[], list[Key]]) -> dict[Key, int]:
        """How far the client has come in these topics: all that was published but for what lies here, told or not."""
        topics = self.topics
        if not (self.inbox or self.front or self.pending or self.lags or self.broken or self.hand is not None):
            return {key: topics[key].published for key in keys() if key in topics}
        left: dict[Key, int] = {}
        for store in (self.front, self.inbox):
            for item in store:
                if type(item) is Lag:
                    left[item.key] = left.get(item.key, 0) + item.count
                elif type(item) not in OUTSIDE:
                    key = self.key(item)
                    left[key] = left.get(key, 0) + 1
        for held in self.pending.values():
            key = self.key(held.item)
            left[key] = left.get(key, 0) + held.events
        for key, lag in self.broken.items():
            if lag.dark:  # it lies nowhere until the book is LIVE again
                left[key] = left.get(key, 0) + lag.count
        offsets = {key: topics[key].published - left.get(key, 0) for key in keys() if key in topics}
        return {key: max(offset, self.start.get(key, 0)) for key, offset in offsets.items()}

    @property
    def drained(self) -> bool:
        """Whether nothing at all lies here."""
        return not (self.inbox or self.front or self.pending or self.hand is not None)

    def rest(self) -> None:
        """The driver took everything: it is to be woken when there is more."""
        self.waiting = self.closed_reason is None


def mode_of(asked: Subscribe) -> Mode:
    """The delivery mode that a client asks for."""
    simple: dict[str, Mode] = {"drop_oldest": drop_oldest, "drop_newest": drop_newest, "disconnect": disconnect}
    if asked.mode == "conflate":
        return conflate(ms=asked.conflate_ms)
    if asked.mode == "max_age":
        return max_age(asked.max_age_ms / 1000)
    return simple[asked.mode]
