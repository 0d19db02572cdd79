"""The five ways of delivery: what becomes of what a consumer cannot take in time.

- `drop_oldest`, `drop_newest`: beyond `bound` data events one end of the queue gives way; a Lagged stands where they are missing.
- `max_age(s)`: as drop_oldest; and what is older than `s` seconds by `recv` when its turn comes to be taken, expires.
- `disconnect`: beyond the bound the box closes.
- `conflate(ms)`: of each topic the latest, `ms` after the first event of it that was not handed out yet (0: at each take). Trades are
  merged, not replaced: count, volume and notional are kept. Each bar, by interval and start, stands for itself. `book_delta` becomes
  the whole book as it is when taken. A notice ends the windows of its symbol, so that what came before it is read before it. The
  bound counts only what stands beside the one latest event of each topic: bars, and what a notice released.

A change of a book (`book_delta`) is worth something only with all others. Once one is lost, those of that book that still lie in the
box are dropped too (drop_newest keeps what came before the loss; of many books drop_oldest gives up so many at once that an eighth of
the bound is free), and the Lagged is followed at once by the whole book as it is when taken, or, while the book is not LIVE, by nothing
until it is or a snapshot comes. Such a book is never cut to a depth: later changes would uncover levels that the consumer was not given.

Next door: `mailbox.py` has the box around these queues.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import islice
from typing import TypeAlias, cast

from msgspec.structs import replace

from truetape.core.route.mailbox import OUTSIDE, Item, Key, Lag, Mailbox, Mode
from truetape.model.event import Bar, Book, Gap, Lagged, Market, Quote, Status, Ticker, Trade

Place: TypeAlias = tuple[type | str | int, ...]
"""What a conflating box keeps one of: (class, venue, symbol), for bars also interval and start."""


class Held:
    """The latest event of one place and since when it waits; of trades also the sums over those that it stands for.

    `events` is how many published events it stands for, `count` how many prints.
    """

    __slots__ = ("count", "events", "first_ts", "item", "notional", "since", "size")

    def __init__(self, item: Market, since: int) -> None:
        self.item = item
        self.since = since
        self.count = 0
        self.events = 1

    def merge(self, trade: Trade) -> None:
        """One more trade; the first that is merged also brings in the one that waited alone."""
        if not self.count:
            alone = self.item
            assert isinstance(alone, Trade), "cannot happen because places are kept by class"
            self.first_ts = alone.first_ts or alone.ts
            self.size = self.notional = 0.0
            self._add(alone)
        self._add(trade)
        self.item = trade

    def _add(self, trade: Trade) -> None:
        self.count += trade.count
        self.size += trade.size
        self.notional += trade.size * (trade.vwap if trade.count > 1 else trade.price)

    def event(self) -> Market:
        """What the consumer reads."""
        last = self.item
        if not self.count or not isinstance(last, Trade):
            return last
        vwap = self.notional / self.size if self.size else last.price
        last_ts = last.last_ts or last.ts
        return replace(last, count=self.count, size=self.size, vwap=vwap, first_ts=self.first_ts, last_ts=last_ts)


class Fifo(Mode, frozen=True):
    """Events as they came. A box remembers in `broken` the books of which changes were lost:

    change lost ─► broken, a Lag in the box ── taken, LIVE ─► Lagged, whole book (`hand`, above the bound), changes again
                               ▲            └─ taken, not LIVE ─► Lagged, dark ── snapshot comes ─► snapshot, changes again
                               └────────── a change comes and the book is LIVE again ─┘
    """

    def settle(self, box: Mailbox, now: int) -> None:
        over = box.data() - box.bound
        if box.broken or (self.name == "drop_newest" and (over > 0 or box.lags)):
            self._sift(box)
            over = box.data() - box.bound
        if over > 0:
            if self.name == "disconnect":
                box.close(f"too slow: more than {box.bound} events waited")
                return
            self._shed(box, over)
        box.settled = len(box.inbox)
        box.eager = bool(box.broken) or box.hand is not None
        box.longest = max(box.longest, box.data())

    def take(self, box: Mailbox, most: int, now: int) -> list[Market]:
        inbox, front = box.inbox, box.front
        out: list[Market] = []
        while len(out) < most:
            if box.hand is not None:
                out.append(box.hand)
                box.hand = None
                box.delivered += 1
            elif self.ns and inbox and is_older(inbox[0], now - self.ns):
                self._expire(box, now - self.ns)
            elif front:
                self._give(box, front.popleft(), out)
            elif inbox:
                self._give(box, inbox.popleft(), out)
            else:
                break
        box.settled = len(inbox)
        return out

    def _give(self, box: Mailbox, item: Item, out: list[Market]) -> None:
        """To the consumer; a Lag calls for the whole book where changes of it were lost."""
        if type(item) is not Lag:
            give(box, item, out)
            return
        out.append(box.told(item))
        if box.broken.get(item.key) is item:
            box.hand = box.recall(item.key)
            if box.hand is not None:
                box.recalled += 1
                del box.broken[item.key]
            else:
                item.dark, item.count = True, 0

    def _sift(self, box: Mailbox) -> None:
        """Judge one by one what came since the last time."""
        inbox = box.inbox
        fresh = [inbox.pop() for _ in range(len(inbox) - box.settled)]
        room = box.bound - box.data() - sum(type(item) in OUTSIDE for item in fresh)
        for item in reversed(fresh):
            if type(item) is Lag or type(item) in OUTSIDE:
                inbox.append(item)
                continue
            key = box.key(item)
            lag = box.broken.get(key)
            if lag is not None and not self._heals(box, lag, cast("Book", item)):
                box.dropped += 1
                lag.count += 1
            elif self.name != "drop_newest":
                inbox.append(item)
            elif room > 0:
                room -= 1
                box.lags.pop(key, None)
                inbox.append(item)
            else:
                self._miss(box, key)

    def _heals(self, box: Mailbox, lag: Lag, book: Book) -> bool:
        """Whether a broken book is whole again with this. If it is a change, and the book is LIVE meanwhile, the Lag may recall it."""
        if not lag.dark or not (book.snapshot or box.recall(lag.key) is not None):
            return False
        lag.dark = False
        if book.snapshot:
            del box.broken[lag.key]
        if lag.count or not book.snapshot:
            box.mark(lag, box.inbox)
        return book.snapshot

    def _miss(self, box: Mailbox, key: Key) -> None:
        """No room for the newest: a Lag stands behind all that lies here."""
        lag = box.lag(key, "dropped", box.inbox)
        lag.count += 1
        box.dropped += 1
        if key[0] == "book_delta":
            box.broken[key] = lag

    def _shed(self, box: Mailbox, over: int) -> None:
        """The oldest give way. Where changes of books must, an eighth of the bound is freed at once: else a consumer of a thousand books
        that is stuck would have its whole box looked through for each message."""
        while over > 0:
            item = box.inbox.popleft()
            if type(item) in OUTSIDE:
                box.front.append(item)
                continue
            box.dropped += 1
            over -= 1
            if (key := self._lose(box, item, "dropped")) is not None:
                over -= self._follow(box, {key: None}, box.bound // 8)

    def _expire(self, box: Mailbox, oldest: int) -> None:
        """What is too old goes from the head of the inbox, and the changes of books that follow such."""
        inbox = box.inbox
        keys: dict[Key, None] = {}
        while inbox and is_older(inbox[0], oldest):
            box.expired += 1
            if (key := self._lose(box, inbox.popleft(), "expired")) is not None:
                keys[key] = None
        if keys:
            self._follow(box, keys, 0)

    def _lose(self, box: Mailbox, item: Item, reason: str) -> Key | None:
        """The oldest of the inbox is gone for good: mark the place. Returns the book that it breaks: what waits of that has to follow."""
        key = box.key(cast("Market", item))
        lag = box.lag(key, reason, box.front)
        lag.count += 1
        if key[0] != "book_delta" or key in box.broken:
            return None
        box.broken[key] = lag
        return key

    def _follow(self, box: Mailbox, keys: dict[Key, None], room: int) -> int:
        """Drop the changes of these books, and of as many more, the oldest first, as make so much room. Returns how many went."""
        gone = 0
        inbox = box.inbox
        for _ in range(len(inbox)):
            item = inbox.popleft()
            if type(item) is not Book or (key := box.key(item))[0] != "book_delta":
                inbox.append(item)
            elif key in keys:
                gone += 1
                box.broken[key].count += 1
            elif gone < room and key not in box.broken:
                gone += 1
                self._lose(box, item, "dropped")
                keys[key] = None
            else:
                inbox.append(item)
        box.dropped += gone
        return gone


class Conflate(Mode, frozen=True):
    """One item for each place; a box has them in `pending`, in the order in which their windows end."""

    @property
    def whole(self) -> bool:
        return True

    def settle(self, box: Mailbox, now: int) -> None:
        pending = box.pending
        if pending:  # the router may settle by the time of its last flush, which is before the last take
            now = max(now, next(reversed(pending.values())).since)
        for item in box.inbox:
            if type(item) is Lag or type(item) in OUTSIDE:
                self._release(box, cast("Gap | Status", item))  # only the front of a conflating box has Lags
                box.front.append(item)
                continue
            place: Place = (type(item), item.venue, item.symbol)
            if isinstance(item, Bar):
                place += (item.interval, item.start)
                box.bars[place] = None
            held = pending.get(place)
            if held is None:
                pending[place] = Held(item, now)
                continue
            box.conflated += 1
            held.events += 1
            if isinstance(item, Trade):
                held.merge(item)
            else:
                held.item = item
        box.inbox.clear()
        self._shed(box)
        box.eager = True
        box.longest = max(box.longest, box.data() + len(pending))

    def take(self, box: Mailbox, most: int, now: int) -> list[Market]:
        out: list[Market] = []
        while box.front and len(out) < most:
            item = box.front.popleft()
            if type(item) is Lag:
                out.append(box.told(item))
            else:
                give(box, item, out)
        due = now - self.ns
        room = most - len(out)
        places: list[Place] = []
        for place, held in box.pending.items():
            if held.since > due or len(places) >= room:
                break
            places.append(place)
        for place in places:
            box.bars.pop(place, None)
            self._latest(box, box.pending.pop(place), out)
        return out

    def _latest(self, box: Mailbox, held: Held, out: list[Market]) -> None:
        """What the consumer reads of a place: for changes of a book the book as it is now."""
        key = box.key(held.item)
        if key[0] != "book_delta":
            give(box, held.event(), out)
        elif (book := box.recall(key)) is not None:
            give(box, book, out)
        else:
            box.dropped += 1
            out.append(Lagged(key[1], key[2], key[0], 1, "not LIVE"))

    def _release(self, box: Mailbox, notice: Gap | Status) -> None:
        """What came before a notice is read before it. Not so changes of a book, for what they become is as new as the taking."""
        where = (notice.venue, notice.symbol)
        if isinstance(notice, Status) and not notice.channel:
            places = [place for place in box.pending if place[1] == notice.venue]
        else:
            places = [(cls, *where) for cls in (Trade, Quote, Book, Ticker)]
            places += [place for place in box.bars if place[1:3] == where]
        for place in places:
            held = box.pending.get(place)
            if held is not None and box.key(held.item)[0] != "book_delta":
                del box.pending[place]
                box.bars.pop(place, None)
                box.front.append(held.event())

    def _shed(self, box: Mailbox) -> None:
        """Beside the latest of each topic no more than the bound: the oldest that was released gives way, else the oldest bar."""
        released = box.data()
        over = released + len(box.bars) - box.bound
        if over <= 0:
            return
        box.dropped += over
        if old := min(over, released):
            front, box.front = box.front, deque()
            for item in front:
                if old and type(item) not in OUTSIDE:
                    old -= 1
                    box.lag(box.key(cast("Market", item)), "dropped", box.front).count += 1
                else:
                    box.front.append(item)
        for place in list(islice(box.bars, max(0, over - released))):
            del box.bars[place]
            box.lag(box.key(box.pending.pop(place).item), "dropped", box.front).count += 1


def is_older(item: Item, oldest: int) -> bool:
    """Whether this is data that was received before `oldest`."""
    return type(item) not in OUTSIDE and cast("Trade", item).recv < oldest  # all data have it


def give(box: Mailbox, item: Market, out: list[Market]) -> None:
    """To the consumer, as it lay in the box."""
    if type(item) in OUTSIDE:
        box.others -= 1
        out.append(item)
    else:
        box.delivered += 1
        out.append(box.cut(item) if box.depth else item)


drop_oldest = Fifo("drop_oldest")
drop_newest = Fifo("drop_newest")
disconnect = Fifo("disconnect")


def conflate(ms: float = 0) -> Mode:
    """The latest of each topic, `ms` milliseconds after the first that was not handed out yet; 0 is at each take."""
    if not 0 <= ms < math.inf:
        raise ValueError(f"conflate: expected ms of 0 or more, found {ms}")
    return Conflate("conflate", round(ms * 1e6))


def max_age(s: float) -> Mode:
    """Nothing that was received more than `s` seconds before it is taken."""
    if not 0 < s < math.inf:
        raise ValueError(f"max_age: expected s above 0, found {s}")
    return Fifo("max_age", max(1, round(s * 1e9)))
