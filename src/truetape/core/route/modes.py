"""The five ways of delivery: what becomes of what a consumer cannot take in time.

- `drop_oldest`, `drop_newest`: beyond `bound` data events one end of the queue gives way, and a Lagged stands where they are missing.
- `max_age(s)`: as drop_oldest; and what is older than `s` seconds (by `recv`) when it would be taken, expires.
- `disconnect`: beyond the bound the box closes.
- `conflate(ms)`: of each topic the latest, handed out `ms` after the first event of it that was not sent yet. Trades are merged, not
  replaced: count, volume and notional are kept. Each bar (interval and start) stands for itself. For `book_delta` it is the whole
  book as it is when taken. A Gap or Status ends the windows of its symbol, so that what came before it is read before it.

Changes of a book (`book_delta`) make sense in full only: once one is lost, the rest of that book's changes in the box are dropped with
it (drop_newest keeps those before the loss), and the Lagged is followed at once by the whole book as it is when taken; or, while that
is not LIVE, by nothing until it is, or a snapshot comes. Whole books for changes are never cut to a depth: the next change would
uncover levels that the consumer was not given.

Next door: `mailbox.py` has the box around the queues of this room.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec.structs import replace

from truetape.core.route.mailbox import Item, Key, Lag, Mode, Queue
from truetape.model.event import Bar, Book, Gap, Lagged, Market, Status, Trade

NEVER = -(1 << 62)


class Fifo(Queue):
    """All modes that keep events as they are. `broken` has the books whose changes were lost and that wait for a whole state.

        a change is lost ─► broken, a Lag in the box ── Lag taken, book LIVE ─► Lagged, whole book, changes again
                                   ▲                └── Lag taken, not LIVE ─► Lagged, dark
                                   └── a change comes and the book is LIVE ── dark ── a snapshot comes ─► Lagged if any, snapshot

    `hand` is a whole book that was recalled and is the next to be taken; it stands above the bound. Items before `settled` were judged.
    """

    __slots__ = ("age", "broken", "cutting", "hand", "newest", "settled")

    def __init__(self, bound: int, depth: int, *, newest: bool = False, cutting: bool = False, age: int = 0) -> None:
        super().__init__(bound, depth)
        self.newest = newest
        self.cutting = cutting
        self.age = age
        self.broken: dict[Key, Lag] = {}
        self.hand: Book | None = None
        self.settled = 0

    def settle(self, now: int) -> None:
        over = self._data() - self.bound
        if self.broken or (self.newest and (over > 0 or self.lags)):
            self._sift()
            over = self._data() - self.bound
        if over > 0:
            if self.cutting:
                self.burst = True
            else:
                self._shed()
        if self.others > self.thin_at:
            self.thin()
        self.settled = len(self.inbox)
        self.longest = max(self.longest, self._data())
        self.eager = bool(self.broken)

    def take(self, most: int, now: int) -> list[Market]:
        inbox = self.inbox
        if not (self.others or self.depth or self.age) and self.hand is None:
            out = cast("list[Market]", list(inbox) if len(inbox) <= most else [inbox.popleft() for _ in range(most)])
            if len(inbox) <= most == (self.settled > most): ...
            return out
        out = []
        while len(out) < most:
            item: Item
            if self.hand is not None:
                item, self.hand = self.hand, None
            elif self.age and inbox and self._stale(inbox[0], now - self.age):
                continue
            elif self.front:
                item = self.front.popleft()
            elif inbox:
                item = inbox.popleft()
            else:
                break
            self._give(item, out)
        self.settled = len(inbox)
        return out

    def ready(self, now: int) -> bool:
        return bool(self.inbox or self.front) or self.hand is not None

    def queued(self) -> int:
        return super().queued() + (self.hand is not None)

    def started(self, topic: Topic) -> None:
        changes = topic.kind == "book_delta"
        super().started(topic)
        ...

    def _data(self) -> int:
        """Data events that the bound counts."""
        return len(self.inbox) + len(self.front) - self.others
