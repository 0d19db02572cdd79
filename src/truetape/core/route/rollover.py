"""Before the venue cuts a connection for its age, or as it announced: the successor opens first, and takes over when it carries everything.

    OPEN --`due`--> successor dialed --`ready`--> streams handed over, the old one closed --`SETTLE`--> one connection again
                    (a pair of two lines from here on: first arrival wins)          old one cut before: what the successor has goes on

Where two lines stand anyway, the old one is closed and dialed anew while the other carries all. A successor that does not become ready changes
nothing: the old connection stays as long as it lives. Next door: `pair.py` merges the two; `pump.py` makes links and calls `tick`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from truetape.core.feed.health import Stream
from truetape.core.feed.lines import Standby
from truetape.core.feed.plan import plan_of
from truetape.core.feed.prints import Prints
from truetape.core.feed.session import Session
from truetape.core.route.judge import Judge
from truetape.core.route.link import Link
from truetape.core.route.pair import Pair
from truetape.model.event import Status

SECOND = 1_000_000_000
SETTLE = 10 * SECOND
"""How long what the old connection said is remembered after its end: the successor may still be behind it."""
EARLY_S = 300.0
"""So long before the limit at least, and up to twice that, so that connections of one age do not all roll at once."""
EARLY_SHARE = 0.3
"""Of a short lifetime no more than this share (and up to twice that)."""
SHUTDOWN_SPREAD_S = 2.0
"""An announced shutdown is obeyed within so long, for it was announced to everybody."""
OVERLAP = 2 * SECOND
"""How long a line has stood, and everything on it was confirmed, before it carries all alone by plan."""
FLOOR = SECOND
"""What a successor says of the time before it was dialed, and so long after, the old connection has said."""
NEVER = 1 << 62


class Rollover:
    """Rolls the links of a pump. `make(name, old)` makes a link that carries what `old` does."""

    def __init__(
        self, links: dict[str, Link], pairs: list[Pair], judge: Judge, make: Callable[[str, Link], Link], seed: int
    ) -> None:
        self._links = links
        self._pairs = pairs
        self._judge = judge
        self._make = make
        self._seed = seed
        self._known: dict[str, tuple[int, int, int]] = {}  # source -> (opened at, leaving, due)
        self._told: dict[str, int] = {}

    def tick(self, now: int) -> None:
        """Once for each look at health: begin what is due, finish what is ready."""
        for pair in list(self._pairs):
            if pair.successor is not None:
                self._advance(pair, pair.successor, now)
        for link in list(self._links.values()):
            session = link.session
            if session is None or session.state != "OPEN" or now < self.due(link, session):
                continue
            two = link.pair
            if two is not None and two.switched and now >= two.switched + OVERLAP:
                self._dissolve(two, link)  # a life so short that the last hand-over is not forgotten yet
            if link.pair is None:
                self._succeed(link, session, now)
            elif link.pair.successor is None and ready(link.pair, link.pair.other(link), now):
                self._judge.effects += session.hang_up(
                    f"lifetime: {_age(session, now)}, the other line carries on", now, abort=False
                )

    def due(self, link: Link, session: Session) -> int:
        """When this connection is to be replaced, ns: a function of when it was opened, and of luck that the seed decides."""
        kept = self._known.get(link.source)
        if kept is None or kept[:2] != (session.opened_at, link.leaving):
            chance = Random(f"{self._seed}:{link.source}:{session.opened_at}").random()
            own = session.timing.lifetime_s
            lifetime = own if own >= 0 else link.feed.dialect.limits.lifetime_s
            early = min(EARLY_S, lifetime * EARLY_SHARE) * (1 + chance)
            due = session.opened_at + round((lifetime - early) * SECOND) if lifetime else NEVER
            if link.leaving:
                due = min(due, link.leaving + round(chance * SHUTDOWN_SPREAD_S * SECOND))
            kept = self._known[link.source] = (session.opened_at, link.leaving, due)
        return kept[2]

    def _succeed(self, link: Link, session: Session, now: int) -> None:
        """Dial the successor, if the venue and the plan allow one connection more."""
        feed = link.feed
        plan = plan_of(feed)
        limits = [feed.dialect.limits.connections, plan.connections if plan is not None else 0]
        most = min((limit for limit in limits if limit), default=0)
        used = sum(1 for other in self._links.values() if other.feed is feed and not other.parked)
        if most and used >= most:
            if self._told.get(link.source) != session.opened_at:
                self._told[link.source] = session.opened_at
                why = f"lifetime: {used} of {most} connections are in use, so it is not replaced but dialed anew when the venue cuts it"
                self._judge.tell(Status(link.label, link.source, link.url, now, "", "LIFETIME", why, since=now))
            return
        name = link.source[:-1] if link.source.endswith("~") else f"{link.source}~"
        new = self._links[name] = self._make(name, link)
        self._join(link, new, now)
        why = f"lifetime: {_age(session, now)}, {name} is dialed to take over"
        self._judge.tell(Status(link.label, link.source, link.url, now, "", "LIFETIME", why, since=now))
        if new.session is not None:
            self._judge.effects += new.session.start(now)

    def _join(self, old: Link, new: Link, now: int) -> Pair:
        pair = Pair(self._judge, old, new)
        pair.successor, pair.floor = new, now + FLOOR
        pair.alone = [True, False]  # the old one stands
        self._pairs.append(pair)
        return pair

    def _advance(self, pair: Pair, new: Link, now: int) -> None:
        old = pair.other(new)
        if pair.switched:
            if now >= pair.switched + SETTLE:
                self._dissolve(pair, new)
            return
        if new.session is not None and new.session.state == "STOPPED":
            self._judge.tell(
                Status(old.label, old.source, old.url, now, "", "LIFETIME", "lifetime: no successor", since=now)
            )
            if old.session is not None:
                self._known[old.source] = (old.session.opened_at, old.leaving, NEVER)
            self._retire(pair, new, old, "lifetime: refused", now)
            return
        reborn = _opened_at(old) > pair.floor - FLOOR  # it was cut before, and dialed anew
        stays, gone = (old, new) if reborn and _opened_at(old) > _opened_at(new) else (new, old)
        if ready(pair, stays, now):
            self._retire(pair, gone, stays, f"lifetime: {stays.source} took over", now)

    def _retire(self, pair: Pair, gone: Link, stays: Link, reason: str, now: int) -> None:
        """Close one of the two for good; the other has the streams from here on, and late bytes are nobody's."""
        if gone.session is not None:
            self._judge.effects += gone.session.stop(reason, "IDLE")
        pair.lost(gone, reason, now)
        gone.park(stays)
        pair.successor, pair.switched = stays, now

    def _dissolve(self, pair: Pair, stays: Link) -> None:
        """One connection again, as if it had always been."""
        gone = pair.other(stays)
        self._pairs.remove(pair)
        gone.pair = stays.pair = None
        stays.line = gone.line = 0
        stays.handlers = self._judge.handlers

    # -- for a checkpoint -----------------------------------------------------------------------------------------------

    def restore(self, old: str, new: str) -> Pair | None:
        """A hand-over as it was saved. None where there is no such connection."""
        if old not in self._links or new not in self._links:
            return None
        return self._join(self._links[old], self._links[new], 0)

    def revive(self, source: str, like: str) -> Link | None:
        """A successor that a checkpoint knows and a fresh pump does not; None where there is nothing like it."""
        if source not in self._links and like in self._links:
            self._links[source] = self._make(source, self._links[like])
        return self._links.get(source)


def ready(pair: Pair, other: Link, now: int) -> bool:
    """Whether this line carries everything that the leader does, and has for a while."""
    session, line = other.session, other.line
    if session is None or session.state != "OPEN" or now - session.opened_at < OVERLAP or session.unacknowledged:
        return False
    return all(_carried(pair, key, stream, line, session.opened_at) for key, stream in pair.leader.streams.items())


def _carried(pair: Pair, key: tuple[str, str], stream: Stream, line: int, opened_at: int) -> bool:
    """What has not spoken since the line opened is believed to its acknowledgment; a book must be one that the line can continue."""
    arbiter, sync = pair.arbiters.get(key), stream.sync
    if stream.state != "LIVE":
        return True  # nothing can be lost
    if isinstance(arbiter, Standby):
        return arbiter.primary == line or pair.standbys.live(stream.raw)
    if arbiter is not None:
        merged = arbiter.line if isinstance(arbiter, Prints) else arbiter
        return merged.at[line] >= 0 or stream.last <= opened_at
    return sync is None or sync.seq >= 0 or sync.rule.snapshot == "whole"


def _opened_at(link: Link) -> int:
    return link.session.opened_at if link.session is not None else 0


def _age(session: Session, now: int) -> str:
    return f"open for {(now - session.opened_at) / SECOND:.0f} s"
