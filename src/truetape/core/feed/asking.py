"""What one connection is to carry, and how the venue is asked for it: in messages of its size, at its pace, until each is confirmed.

    wanted ─► asked, waiting for the pace ─► left ─► confirmed, or late: asked again            unwanted ─► told to the venue, if it stands

The registry outlives the connection; what waits to leave, and what is not confirmed, ends with it. Next door: `session.py` says when there
is somebody to ask; `pace.py` and `acks.py` keep the venue's limit and what it confirmed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from truetape.core.feed.acks import Acks
from truetape.core.feed.pace import Pace
from truetape.core.feed.venue import Dialect, Want
from truetape.model.effect import Effect, Send

Key = tuple[str, str]
"""(channel, raw symbol)."""


class Asking:
    """The registry of wants of one session, and its messages. `dialect` is its connection's; `per_s` the venue's limit on messages, `within`
    the ns that it has to confirm."""

    __slots__ = ("_source", "acks", "dialect", "outbox", "pace", "wants")

    def __init__(self, source: str, dialect: Dialect, wants: Iterable[Want], per_s: float, within: int) -> None:
        self._source = source
        self.dialect = dialect
        self.wants: dict[Key, Want] = {}
        self.outbox: deque[bytes] = deque()
        self.pace = Pace(per_s)
        self.acks = Acks(within)
        self.add(wants)

    def add(self, wants: Iterable[Want]) -> list[Want]:
        """These too; returns those that are new."""
        fresh = [want for want in wants if (want.channel, want.raw) not in self.wants]
        self.wants.update({(want.channel, want.raw): want for want in fresh})
        return fresh

    def remove(self, wants: Iterable[Want]) -> list[Want]:
        """These no more; returns those that were there."""
        gone = [want for want in wants if self.wants.pop((want.channel, want.raw), None) is not None]
        for want in gone:
            self.acks.confirmed(want.channel, want.raw)
        return gone

    def known(self, pairs: Iterable[Key]) -> list[Want]:
        """Of these, what is wanted."""
        return [self.wants[pair] for pair in pairs if pair in self.wants]

    def ask(self, wants: Sequence[Want], now: int, most: int = 0) -> list[Effect]:
        """Ask for these, in messages of `most` at the most (0: as many as the venue takes)."""
        size = most or max(1, self.dialect.limits.wants_per_message)
        for start in range(0, len(wants), size):
            part = wants[start : start + size]
            messages = self.dialect.subscribe(part)
            if not messages:
                continue  # the URL asked for these: nothing will confirm them but their data
            self.outbox.extend(messages)
            self.acks.asked((want.channel, want.raw) for want in part)
        return self.leave(now)

    def unask(self, wants: Sequence[Want]) -> None:
        """Tell the venue that these are over, with the next message that leaves."""
        self.outbox.extend(self.dialect.unsubscribe(wants))

    def leave(self, now: int) -> list[Effect]:
        """Send what the venue's pace allows now; the rest waits for `tick`. Confirmations are awaited once everything has left."""
        sends: list[Effect] = []
        while self.outbox and self.pace.free_at <= now:
            sends.append(Send(self._source, self.outbox.popleft()))
            self.pace.left(now)
        if not self.outbox:
            self.acks.left(now)
        return sends

    def hold(self, until: int) -> None:
        """The venue asked for a pause: nothing is sent before."""
        self.pace.hold(until)
        self.acks.hold(self.pace.held)

    def forget(self) -> None:
        """The connection went."""
        self.outbox.clear()
        self.acks.clear()
        self.pace.renew()
