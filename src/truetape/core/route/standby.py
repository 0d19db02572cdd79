"""Books whose changes nothing numbers, on two lines: the primary's is published, the standby's is kept warm and takes its place.

    primary LIVE --lost, failed, or mute for `MUTE` while the standby speaks--> the standby's book is the book, if it is LIVE

Next door: `pair.py` owns this; `core.feed.lines` says who is primary of which book.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from truetape.core.book import state as books
from truetape.core.book.sync import BookSync
from truetape.core.book.whole import make
from truetape.core.feed.health import Stream
from truetape.core.feed.latest import MUTE
from truetape.core.feed.lines import Standby
from truetape.core.route.digest import CHUNK
from truetape.core.route.judge import whole
from truetape.core.route.link import Link, picture
from truetape.model.event import Book

if TYPE_CHECKING:
    from truetape.core.route.pair import Pair

OURS = [name for name in BookSync.__slots__ if name not in ("rule", "counts", "_numbers", "_checksum")]
"""What makes a book the one it is: exchanged when a standby takes over, so that whoever holds the book goes on holding it."""


class Standbys:
    """The books that are kept warm beside those of `pair.leader`."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.warm: dict[str, BookSync] = {}  # by raw symbol

    def book(self, link: Link, stream: Stream, standby: Standby, event: Book, now: int) -> bool:
        """A message of either line; True where it was the primary's, and was judged."""
        if link.line == standby.primary:
            standby.row = 0
            self.pair.judge.book(self.pair.leader, event, now)
            return True
        warm = self.warm.get(event.raw)
        if warm is None:
            warm = self.warm[event.raw] = make(link.dialect.rule, stream.want.depth)
        warm.feed(event)
        if warm.live:
            link.desk.answered(event.raw)
        elif warm.wants_snapshot:
            link.desk.ask(event.raw, now)
        standby.row += 1
        if standby.row == 2:  # the first may be what the primary said last
            standby.since = now
        mute = standby.row > 2 and now - standby.since > MUTE
        if warm.live and (mute or (stream.sync is not None and not stream.sync.live)):
            self._take_over(stream, standby, now)
        return False

    def doubt(self, link: Link, why: str, now: int, raw: str = "") -> None:
        """A line lost something: the books that it keeps for itself are asked for anew; what is merged has the other line."""
        for stream in self.pair.leader.book_streams():
            standby = self._of(stream.raw)
            if raw not in ("", stream.raw) or standby is None:
                continue
            if standby.primary == link.line:
                self.pair.judge.doubt(self.pair.leader, stream, why, now)
            elif (warm := self.warm.get(stream.raw)) is not None and warm.live:
                warm.fail("GAP", why)
                link.desk.ask(stream.raw, now)

    def rescued(self, stream: Stream, now: int) -> bool:
        """The primary's book just failed: True where the standby's took its place and nothing need be told."""
        standby = self._of(stream.raw)
        warm = self.warm.get(stream.raw)
        if standby is None or warm is None or not warm.live or self.pair.alone[standby.primary]:
            return False
        self._take_over(stream, standby, now)
        self.pair.links[1 - standby.primary].desk.ask(stream.raw, now)
        return True

    def lost(self, raw: str, standby: Standby, line: int, *, covered: bool, now: int) -> None:
        """The line with a primary or a standby of this book is gone."""
        stream, warm = self.pair.leader.books.get(raw), self.warm.get(raw)
        if covered and line == standby.primary and stream is not None:
            if warm is None:
                warm = self.warm[raw] = make(self.pair.leader.dialect.rule, stream.want.depth)
            if warm.live:
                self._take_over(stream, standby, now)
            else:  # the other line's book is not ready: it is the book all the same, and waits for its snapshot
                standby.primary = 1 - line
                _exchange(stream.sync, warm)
        if warm is not None:
            warm.lost("connection lost")

    def live(self, raw: str) -> bool:
        """Whether the warm book of this symbol could take over."""
        warm = self.warm.get(raw)
        return warm is not None and warm.live

    def ask(self, link: Link, now: int) -> None:
        """Subscribe anew for the warm books of this line that need a snapshot."""
        wants = []
        for raw in link.desk.due(now):
            stream, warm = self.pair.leader.books.get(raw), self.warm.get(raw)
            if stream is not None and warm is not None and not warm.live:
                warm.asked()
                wants.append(stream.want)
            else:
                link.desk.answered(raw)
        if wants and link.session is not None:
            self.pair.judge.effects += link.session.resubscribe(wants, now)

    def _of(self, raw: str) -> Standby | None:
        arbiter = self.pair.arbiters.get(("book", raw))
        return arbiter if isinstance(arbiter, Standby) else None

    def _take_over(self, stream: Stream, standby: Standby, now: int) -> None:
        """The standby's book becomes the book, and what was the book the standby's. Tell it where it differs."""
        sync, warm = stream.sync, self.warm[stream.raw]
        assert sync is not None, "books have a sync"
        same = sync.live and stream.state == "LIVE" and _levels(sync) == _levels(warm)
        _exchange(sync, warm)
        standby.primary = 1 - standby.primary
        standby.row = 0
        if stream.state != "LIVE":
            self.pair.judge.taken(self.pair.leader, stream, sync, now)
        if not same:
            self._tell(stream, sync)

    def _tell(self, stream: Stream, sync: BookSync) -> None:
        """Publish the whole book: changes go on from another state than consumers have."""
        if not sync.live:
            return
        state = picture(stream, sync, 0)  # STALE too: its changes are published all the same, and go on from here
        digest, router = self.pair.judge.digest, self.pair.judge.router
        digest.chunk.append(state)
        if len(digest.chunk) >= CHUNK:
            digest.fold()
        router.publish(stream.topic_delta, state)
        shown = whole(stream, sync, stream.topic.depth)
        if shown is not None:
            router.publish(stream.topic, shown)

    def save(self) -> list[tuple[str, books.BookState]]:
        """For a checkpoint."""
        return [(raw, books.save(sync)) for raw, sync in self.warm.items()]

    def load(self, saved: list[tuple[str, books.BookState]]) -> None:
        """Put back what `save` gave."""
        for raw, book in saved:
            self.warm[raw] = make(self.pair.leader.dialect.rule, book.depth)
            books.load(self.warm[raw], book)


def _exchange(sync: BookSync | None, warm: BookSync) -> None:
    for name in OURS if sync is not None else ():
        mine = getattr(sync, name)
        setattr(sync, name, getattr(warm, name))
        setattr(warm, name, mine)


def _levels(sync: BookSync) -> tuple[Any, Any]:
    return sync.book.bids(), sync.book.asks()
