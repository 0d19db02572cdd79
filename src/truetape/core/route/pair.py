"""Two connections that carry the same subscriptions: what both decode is merged before it is judged, and the death of one is no event.

    line A ─ decode ─┐
                     ├─ arbiter of the stream (core.feed.lines) ─► judge        the streams live with the leader, one of the two
    line B ─ decode ─┘

Where the leader is lost and the other line stands, the streams go over to it before anybody hears of the loss. Next door: `pump.py` calls
this; `pair_state.py` is what a checkpoint keeps; `standby.py` keeps the books that cannot be merged; `judge.py` judges what passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from truetape.core.book.sync import BookSync
from truetape.core.feed.health import Stream
from truetape.core.feed.latest import Latest
from truetape.core.feed.lines import Arbiter, Standby, Tally
from truetape.core.feed.prints import Prints
from truetape.core.feed.sequenced import WAIT, Sequenced, span
from truetape.core.feed.venue import Accepted, Broken, Damaged, Rejected
from truetape.core.route.judge import Judge
from truetape.core.route.link import Handlers, Link
from truetape.core.route.standby import Standbys
from truetape.model.event import Bar, Book, Quote, Status, Ticker, Trade
from truetape.model.reason import remedy


class Pair:
    """Two links of one feed. `leader` holds the streams, which every event is judged as one of."""

    def __init__(self, judge: Judge, first: Link, second: Link) -> None:
        self.judge = judge
        self.links = [first, second]
        self.leader = first
        self.successor: Link | None = None  # a hand-over: the second takes the first's place, and has since `switched`
        self.switched = 0
        self.floor = 0
        self.alone = [True, True]  # by line: the other one does not stand
        self.tally = [Tally(), Tally()]
        self.arbiters: dict[tuple[str, str], Arbiter] = {}
        self.standbys = Standbys(self)
        self.refused: list[dict[tuple[str, str], None]] = [{}, {}]
        self.waiting: dict[tuple[str, str], None] = {}  # streams with messages that are ahead
        self._judged = judge.handlers
        for number, link in enumerate(self.links):
            link.pair, link.line = self, number
            link.handlers = self._handlers()

    def _handlers(self) -> Handlers:
        return {
            **self.judge.handlers, Book: self._book, Trade: self._trade, Quote: self._latest, Ticker: self._latest, Bar: self._latest,
            Accepted: self._accepted, Rejected: self._rejected, Damaged: self._damaged, Broken: self._broken,
        }  # fmt: skip

    def other(self, link: Link) -> Link:
        """The other line."""
        return self.links[1 - link.line]

    # -- what the lines say ---------------------------------------------------------------------------------------------

    def _book(self, link: Link, event: Book, now: int) -> None:
        leader, line = self.leader, link.line
        stream = leader.books.get(event.raw)
        if stream is None or stream.sync is None:
            link.counts.ignored += 1
            return
        arbiter = self.arbiters.get(("book", event.raw))
        if arbiter is None:
            arbiter = self.arbiters["book", event.raw] = _arbiter_of(stream.sync, event, leader.line)
        match arbiter:
            case Standby():
                self._flowing(link, stream, arbiter.came[line] - 1)
                arbiter.came[line] = 1
                self._count(line, self.standbys.book(link, stream, arbiter, event, now))
            case Sequenced():
                self._numbered(link, stream, stream.sync, arbiter, event, now)
            case Latest():
                self._superseded(link, stream, arbiter, event, now)
            case Prints():
                raise AssertionError("cannot happen: prints arbitrate trades only")

    def _numbered(self, link: Link, stream: Stream, sync: BookSync, merged: Sequenced, event: Book, now: int) -> None:
        line, alone, rule = link.line, self.alone[link.line], sync.rule
        own = merged.at[line]
        self._flowing(link, stream, own)
        if event.seq < 0:
            passed: Any = (event,) if alone or link is self.leader else ()
        elif event.snapshot and rule.snapshot != "whole":
            passed = merged.whole(line, event, sync.live, alone)
        else:
            first = span(rule.numbers, event)
            self._missing(merged, line, own, first)
            passed = merged.offer(line, first, event.seq, event, now, alone)
        self._wait("book", event.raw, merged)
        self._count(line, len(passed))
        for book in passed:
            self.judge.book(self.leader, book, now)

    def _trade(self, link: Link, event: Trade, now: int) -> None:
        stream = self.leader.streams.get(("trade", event.raw))
        if stream is None:
            link.counts.ignored += 1
            return
        prints = self.arbiters.get(("trade", event.raw))
        if prints is None:
            prints = self.arbiters["trade", event.raw] = Prints()
        assert isinstance(prints, Prints), "trades have no other arbiter"
        line, merged = link.line, prints.line
        own = merged.at[line]
        self._flowing(link, stream, own)
        if prints.counting and event.id.isdecimal():
            self._missing(merged, line, own, int(event.id))
        if self._shy(link):
            prints.wait(line, event, self.floor)
            return
        passed = prints.offer(line, event, now, self.alone[line])
        merged.at[line] = max(merged.at[line], 0)
        self._wait("trade", event.raw, merged)
        self._count(line, len(passed))
        for trade in passed:
            self._judged[Trade](self.leader, trade, now)

    def _latest(self, link: Link, event: Any, now: int) -> None:
        cls = event.__class__
        channel = "quote" if cls is Quote else "ticker" if cls is Ticker else f"bar.{event.interval}"
        stream = self.leader.streams.get((channel, event.raw))
        if stream is None:
            link.counts.ignored += 1
            return
        latest = self.arbiters.get((channel, event.raw))
        if latest is None:
            latest = self.arbiters[channel, event.raw] = Latest()
        assert isinstance(latest, Latest), "quotes, tickers and bars have no other arbiter"
        self._superseded(link, stream, latest, event, now)

    def _superseded(self, link: Link, stream: Stream, latest: Latest, event: Any, now: int) -> None:
        line, shy = link.line, self._shy(link)
        self._flowing(link, stream, latest.at[line])
        passed = latest.wait(event, self.floor) if shy else latest.offer(line, event, now, self.alone[line])
        latest.at[line] = max(latest.at[line], 0)
        self._count(line, len(passed))
        for item in passed:
            self._judged[event.__class__](self.leader, item, now)

    def _shy(self, link: Link) -> bool:
        """A successor keeps what it says to itself until it takes over, for nobody compared what was said before it came."""
        return link is self.successor and not self.switched and self.leader is not link and not self.alone[link.line]

    @staticmethod
    def _flowing(link: Link, stream: Stream, own: int) -> None:
        """A line's first data of a stream are as good as an acknowledgment on that line."""
        if own < 0 and link.session is not None:
            link.session.flowing(stream.channel, stream.raw)

    def _count(self, line: int, passed: int) -> None:
        tally = self.tally[line]
        if passed:
            tally.wins += passed
        else:
            tally.late += 1

    def _missing(self, merged: Sequenced, line: int, own: int, first: int) -> None:
        if 0 <= own < first - 1:
            missed = merged.missing(own, first, line)
            self.tally[line].missed += missed
            self.tally[1 - line].saved += missed

    def _wait(self, channel: str, raw: str, merged: Sequenced) -> None:
        if merged.held:
            self.waiting[channel, raw] = None
        elif self.waiting:
            self.waiting.pop((channel, raw), None)

    # -- what the lines say about themselves ----------------------------------------------------------------------------

    def _accepted(self, link: Link, event: Accepted, now: int) -> None:
        if link is self.leader:
            self._judged[Accepted](link, event, now)
        elif link.session is not None:
            link.session.accepted(event)

    def _rejected(self, link: Link, event: Rejected, now: int) -> None:
        """A subscription is over when no line has it."""
        refused = self.refused[link.line]
        if remedy(event.reason) == "drop" and not self.alone[link.line]:
            refused.update(dict.fromkeys(event.pairs))
            there = self.refused[1 - link.line]
            if not all(pair in there for pair in event.pairs) and link.session is not None:
                self.judge.effects += link.session.rejected(event, now)
                why = f"{event.reason}: {event.text}"
                self.judge.tell(Status(link.label, link.source, link.url, now, "", "REJECTED", why, since=now))
                return
            self.judge.effects += link.session.rejected(event, now) if link.session is not None else []
            link = self.leader
        self._judged[Rejected](link, event, now)

    def _damaged(self, link: Link, event: Damaged, now: int) -> None:
        """The other line will bring it; only a book of its own suffers."""
        if self.alone[link.line]:
            self._judged[Damaged](self.leader, event, now)
            return
        link.counts.damaged += 1
        if event.channel in ("", "book"):
            self.standbys.doubt(link, f"damaged: {event.why}", now, event.raw)

    def _broken(self, link: Link, event: Broken, now: int) -> None:
        if self.alone[link.line]:
            self._judged[Broken](self.leader, event, now)
        else:
            self.standbys.doubt(link, f"expected frame {event.expected}, found {event.found}", now)

    # -- hand-over ------------------------------------------------------------------------------------------------------

    def opened(self, link: Link, now: int) -> None:
        """A line stands: it leads where the leader does not."""
        line, other = link.line, self.other(link)
        self.alone[1 - line] = False
        self.alone[line] = not stands(other)
        self.refused[line].clear()
        for arbiter in self.arbiters.values():
            (arbiter.line if isinstance(arbiter, Prints) else arbiter).opened(line)
        if link is not self.leader and not stands(self.leader):
            self.move(link)
            for arbiter in self.arbiters.values():
                if isinstance(arbiter, Standby):
                    arbiter.primary = line

    def lost(self, link: Link, reason: str, now: int) -> None:
        """A line is gone: where the other stands it takes what it carries, and only what it does not is lost."""
        line, other = link.line, self.other(link)
        covered = stands(other)
        self.alone[1 - line] = True
        if covered and link is self.leader:
            self.move(other)
        for key, arbiter in list(self.arbiters.items()):
            match arbiter:
                case Prints():
                    self._release(key, arbiter.line, now)
                    arbiter.line.opened(line)
                    self._outspoken(arbiter.speak(1 - line), now)
                case Sequenced():
                    self._release(key, arbiter, now)
                    arbiter.opened(line)
                case Latest():
                    arbiter.opened(line)
                    self._outspoken(arbiter.speak(1 - line, now), now)
                case Standby():
                    arbiter.opened(line)
                    self.standbys.lost(key[1], arbiter, line, covered=covered, now=now)
            if not covered and isinstance(arbiter, Sequenced):
                self.arbiters[key] = Sequenced()
        if covered and other is self.leader:
            self._uncovered(other, reason, now)

    def _uncovered(self, other: Link, reason: str, now: int) -> None:
        """What the other line was not yet confirmed to carry is blind, as without it."""
        session = other.session
        waiting = dict.fromkeys(session.unacknowledged) if session is not None else {}
        for key, stream in other.streams.items():
            sync = stream.sync
            if stream.state in ("SYNCING", "CLOSED"):
                if sync is not None and sync.rule.snapshot == "stream" and not sync.live and key not in waiting:
                    other.desk.ask(stream.raw, now)
                continue
            if key in waiting or (sync is not None and stream.state == "LIVE" and not sync.live):
                self.judge.blind(stream, f"connection lost: {reason}", now)
                if sync is not None and key in waiting:
                    sync.lost("connection lost")
                if sync is not None and isinstance(self.arbiters.get(key), Sequenced):
                    self.arbiters[key] = Sequenced()
                self.judge.tell(stream.enter("SYNCING", f"connection lost: {reason}", now))

    def move(self, to: Link) -> None:
        """The streams go to this line."""
        was = self.leader
        to.streams, was.streams = was.streams, {}
        to.books, was.books = was.books, {}
        to.desk, was.desk = was.desk, to.desk
        to.vigil, was.vigil = was.vigil, to.vigil
        self.leader = to

    def _outspoken(self, events: Sequence[Any], now: int) -> None:
        """What a successor kept to itself, and the old one did not say before it went."""
        for event in events:
            self._judged[event.__class__](self.leader, event, now)

    def _release(self, key: tuple[str, str], merged: Sequenced, now: int, *, late: bool = False) -> None:
        self.waiting.pop(key, None)
        for event in merged.release(late=late):
            self._judged[event.__class__](self.leader, event, now)

    # -- time -----------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> int | None:
        """When `tick` is next due, ns."""
        due = [self._merged(key).since + WAIT for key in self.waiting]
        idle = [link for link in self.links if link is not self.leader and stands(link)]
        due += [at for link in idle if (at := link.desk.deadline) is not None]
        return min(due, default=None)

    def tick(self, now: int) -> None:
        """Wait no longer for what a line does not bring, and ask for the standbys' snapshots."""
        for key in list(self.waiting):
            if now >= self._merged(key).since + WAIT:
                self._release(key, self._merged(key), now, late=True)
        for link in self.links:
            if link is not self.leader and stands(link):
                self.standbys.ask(link, now)

    def _merged(self, key: tuple[str, str]) -> Sequenced:
        arbiter = self.arbiters[key]
        found = arbiter.line if isinstance(arbiter, Prints) else arbiter
        assert isinstance(found, Sequenced), "only what is numbered waits"
        return found

    def forget(self, key: tuple[str, str]) -> None:
        """A subscription ended."""
        self.arbiters.pop(key, None)
        self.waiting.pop(key, None)
        if key[0] == "book":
            self.standbys.warm.pop(key[1], None)


def stands(link: Link) -> bool:
    """Whether this line is open."""
    return link.session is not None and link.session.state == "OPEN"


def _arbiter_of(sync: BookSync, event: Book, leader: int) -> Arbiter:
    """What a book's first message shows of how its line can be merged."""
    if sync.rule.numbers != "none" and event.seq >= 0:
        return Sequenced(passed=sync.seq if sync.live else -1)
    if sync.rule.snapshot == "whole":
        return Latest()
    return Standby(primary=leader)
