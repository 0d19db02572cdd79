"""Silence, judged on the pump's ticks: whose has lasted too long, and what is done about it.

    its messages come late --STALE, and nobody is asked--> in time, LIVE
    STALE --asked for again at once, then after 5, 10 … 60 s--> data, LIVE
    asked again in vain, and more of the connection is silent than speaks --hung up, at most once in 30 s, 1 min … 1 h--> opened anew

Next door: `core.feed.health` judges one stream, `core.feed.cadence` the pools of those whose cadence is not known; `judge.py` judges what
was said; `core.feed.session` asks and hangs up. What is remembered of a connection stands in its `Vigil`.
"""

from __future__ import annotations

from truetape.core.feed.cadence import SECOND, Pool
from truetape.core.feed.health import Stream, Verdict
from truetape.core.feed.late import STAMPED, Late
from truetape.core.feed.session import Session
from truetape.core.feed.venue import Want
from truetape.core.route.judge import Judge
from truetape.core.route.link import Link

ASK_FIRST = 5 * SECOND
ASK_MAX = 60 * SECOND
ASKS_AT_ONCE = 50
"""Subscriptions of one connection that are asked for again on one tick."""
HEAR_EVERY = SECOND
"""Between two looks at those whose cadence is not known: together they are found a second later than one whose cadence is."""
HEADLESS = 5 * SECOND
"""Changes without the whole book that should have come before them."""
FLOWED = 30 * SECOND
"""Who spoke for so long before it fell silent is asked for at once again."""
HEALED = 600 * SECOND
"""Who spoke for so long has left its last silence behind."""
HANG_FIRST = 30 * SECOND
HANG_MAX = 3600 * SECOND


class Watch:
    """Called for each open connection when health is looked at."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def check(self, link: Link, session: Session, now: int) -> None:
        """Whose silence has lasted too long? Who is to be asked for again?"""
        for book in link.books.values():
            if book.sync is not None and book.sync.evidence != book.evidence:
                book.evidence = book.sync.evidence
                self.judge.tell(book.status(now))
            self._headless(link, book, now)
        stale: list[Stream] = []
        bound = round(session.timing.late_s * SECOND)
        for stream in link.streams.values():
            if stream.look_at <= now:
                asked = 0 if stream.acked else session.asked_times(stream.channel, stream.raw)
                verdict = stream.verdict(now, asked)
                if verdict is not None:
                    self._enter(stream, verdict, now)
            if bound and stream.last_ts and stream.last:
                self._late(stream, bound, now)
            if stream.state == "STALE" and stream.cause != "late":
                stale.append(stream)
        if now >= link.vigil.hear_at:
            link.vigil.hear_at = now + HEAR_EVERY
            self._hear_all(link, session.opened_at, now)
        if stale:
            self._mend(link, session, stale, now)

    @staticmethod
    def _headless(link: Link, book: Stream, now: int) -> None:
        """Changes come, and the whole book that they belong to never did: they break no silence that could be noticed."""
        sync = book.sync
        if sync is None or sync.live or sync.state != "SYNCING" or sync.rule.snapshot != "stream":
            return
        if book.last > book.awaited and now - book.awaited > HEADLESS:
            link.desk.ask(book.raw, now)

    def _late(self, stream: Stream, bound: int, now: int) -> None:
        """Do its messages come in time? Nothing is missing where they do not, and asking again would not hurry them."""
        late = stream.late
        if late is None:
            if stream.channel in STAMPED:
                stream.late = Late.first(stream.last, stream.last_ts)
            return
        if stream.last != late.at:
            late.heard(stream.last, stream.last_ts, bound)
        if late.on and stream.state in ("LIVE", "QUIET"):
            why = f"late: stamped {late.extra / SECOND:.1f} s longer ago than usual when it came"
            self.judge.tell(stream.enter("STALE", why, now, "late"))
        elif stream.cause == "late" and not late.on:
            self.judge.tell(stream.enter("LIVE", "", now))
        elif stream.cause == "late" and (silent := now - stream.last) > stream.threshold:
            self._enter(stream, Verdict("STALE", f"nothing for {silent / SECOND:.1f} s", "silence"), now)

    def _hear_all(self, link: Link, opened_at: int, now: int) -> None:
        slow: dict[str, list[Stream]] = {}
        for stream in link.streams.values():
            if not stream.known and (stream.state == "LIVE" or stream.cause in ("cadence", "pool")):
                market = stream.hours.market if stream.hours is not None else ""
                slow.setdefault(f"{stream.channel} {market}", []).append(stream)
        pools = link.vigil.pools
        for key in [*slow, *(key for key in pools if key not in slow)]:
            self._hear(pools.setdefault(key, Pool()), slow.get(key, []), opened_at, now)

    def _enter(self, stream: Stream, verdict: Verdict, now: int) -> None:
        if verdict.state == "STALE":
            if stream.flowed >= HEALED:
                stream.spells = 0
            if stream.flowed >= FLOWED:
                stream.asks = 0
            stream.spells += 1
            stream.ask_at = now + pause(stream.asks) if stream.asks else now
            self.judge.blind(stream, "stale", now)
            if (
                (sync := stream.sync) is not None
                and sync.live
                and sync.evidence == "none"
                and sync.rule.snapshot != "whole"
            ):
                sync.fail("RESYNC", "silent, and nothing would show what is missing")
        self.judge.tell(stream.enter(verdict.state, verdict.reason, now, verdict.cause))

    def _hear(self, pool: Pool, streams: list[Stream], opened_at: int, now: int) -> None:
        """Those of one channel that have no cadence of their own: is all of it silent for longer than it ever was?"""
        newest = max((stream.last for stream in streams), default=0)
        spoke = pool.heard([stream.raw for stream in streams], newest, opened_at)
        if spoke and pool.mute:
            pool.mute = False
            for stream in streams:
                if stream.state == "STALE" and stream.cause == "pool":
                    self.judge.seeing(stream, now, recovered=False)
                    self.judge.tell(stream.enter("QUIET", f"others of {stream.channel} speak again", now, "cadence"))
        limit = pool.threshold
        silent = now - max(pool.last, opened_at)
        if limit and silent > limit and not pool.mute:
            pool.mute = True
            why = f"nothing for {silent / SECOND:.1f} s from {len(streams)} subscriptions, of which one speaks within {limit / SECOND:.0f} s"
            for stream in streams:
                self._enter(stream, Verdict("STALE", why, "pool"), now)

    def _mend(self, link: Link, session: Session, stale: list[Stream], now: int) -> None:
        """Ask again for what is silent; where that did not help, and more is silent than speaks, open the connection anew."""
        tried = [stream for stream in stale if stream.asks and stream.ask_at <= now]
        if tried and self._hang_up(link, session, stale, now):
            return
        anew: list[Want] = []
        for stream in stale:
            if session.asked_times(stream.channel, stream.raw):
                continue  # the session waits for its confirmation, and will ask again or hang up
            if stream.ask_at <= now and len(anew) < ASKS_AT_ONCE:
                stream.asks += 1
                stream.ask_at = now + pause(stream.asks)
                if stream.sync is not None and not stream.sync.live:
                    link.desk.ask(stream.raw, now)
                if (
                    stream.sync is None
                    or stream.sync.live
                    or link.dialect.snapshot_url(stream.want, link.feed.rest_url)
                ):
                    anew.append(stream.want)
        if anew:
            self.judge.effects += session.resubscribe(anew, now)

    def _hang_up(self, link: Link, session: Session, stale: list[Stream], now: int) -> bool:
        vigil = link.vigil
        since = max(min(stream.since for stream in stale), now - ASK_MAX)
        speak = sum(stream.last > since for stream in link.streams.values())
        wait = min(HANG_MAX, HANG_FIRST << min(vigil.hangs, 10)) if vigil.hung_at else 0
        if speak >= len(stale) or now - vigil.hung_at < wait:
            return False
        vigil.hangs = vigil.hangs + 1 if now - vigil.hung_at < 3 * wait else 1
        vigil.hung_at = now
        self.judge.effects += session.hang_up(
            f"mute: {len(stale)} subscriptions are silent and were asked for again in vain, {speak} speak", now
        )
        return True


def pause(asks: int) -> int:
    """How long to wait after a subscription was asked for again so often, ns."""
    return min(ASK_MAX, ASK_FIRST << min(max(0, asks - 1), 10))
