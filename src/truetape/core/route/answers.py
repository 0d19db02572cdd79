"""What a venue says beside its data: what it confirms and refuses, that it lives or leaves, and that something of it was lost on the way.

Next door: `judge.py` calls this for whatever is no market event, and is told what follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from truetape.core.feed.venue import Accepted, Alive, Broken, Damaged, Ignored, Leaving, Rejected
from truetape.core.route.link import Handlers, Link
from truetape.model.event import Status
from truetape.model.reason import remedy

if TYPE_CHECKING:
    from truetape.core.route.judge import Judge


class Answers:
    """Takes them for a judge, who tells of what follows."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def handlers(self) -> Handlers:
        """What takes which of them."""
        return {
            Accepted: self._accepted, Rejected: self._rejected, Alive: self._alive, Ignored: self._ignored, Damaged: self._damaged,
            Broken: self._broken, Leaving: self._leaving,
        }  # fmt: skip

    def _accepted(self, link: Link, event: Accepted, now: int) -> None:
        for channel, raw in event.pairs:
            if raw:
                if (stream := link.streams.get((channel, raw))) is not None:
                    stream.acked = True
                continue
            for stream in link.streams.values():
                if channel in ("", stream.channel):
                    stream.acked = True
        if link.session is not None:
            link.session.accepted(event)

    def _rejected(self, link: Link, event: Rejected, now: int) -> None:
        if link.session is None:
            return
        self._judge.effects += link.session.rejected(event, now)
        self._judge.share(link, event, link.session.held, now)
        why = f"{event.reason}: {event.text}"
        ended = remedy(event.reason) in (("stop",) if event.whole else ("drop", "stop"))
        for pair in event.pairs if ended else ():  # the others are asked for again
            stream = link.streams.get(pair)
            if stream is not None:
                self._judge.tell(stream.enter("CLOSED", why, now))
        if not event.pairs or not ended:
            self._judge.tell(Status(link.label, link.source, link.url, now, "", "REJECTED", why, since=now))

    def _alive(self, link: Link, event: Alive, now: int) -> None:
        if link.session is not None:
            link.session.alive(event.ts, event.pong, now)

    def _ignored(self, link: Link, event: Ignored, now: int) -> None:
        link.counts.ignored += 1

    def _leaving(self, link: Link, event: Leaving, now: int) -> None:
        link.leaving = link.leaving or now
        self._judge.tell(Status(link.label, link.source, link.url, now, "", "LEAVING", event.text, since=now))

    def _damaged(self, link: Link, event: Damaged, now: int) -> None:
        """Part of a frame was unreadable: whichever book it may have been for is in doubt."""
        link.counts.damaged += 1
        for stream in list(link.streams.values()):
            if event.channel in ("", stream.channel) and event.raw in ("", stream.raw):
                self._judge.doubt(link, stream, f"damaged: {event.why}", now)

    def _broken(self, link: Link, event: Broken, now: int) -> None:
        """The connection's counter jumped: every book on it is in doubt, and of anything else something may be missing."""
        for stream in list(link.streams.values()):
            if stream.sync is not None and stream.sync.live:
                stream.sync.counts.sequence_gaps += 1
                stream.sync.from_seq, stream.sync.to_seq = event.expected - 1, event.found
            self._judge.doubt(link, stream, f"expected frame {event.expected}, found {event.found}", now)
