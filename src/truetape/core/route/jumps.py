"""A machine that was suspended, or a wall clock that was set, told to connections and streams, so that neither is blamed on a venue.

After a sleep nothing is believed: open connections are pinged at once, what was seen before is STALE until data come, with the `Gap`
that it is, and no threshold learns the time asleep. A step of the wall clock is only told: nothing here is timed by it.
Next door: `core/clocks.py` finds them; `pump.py` calls here with what the record says.
"""

from __future__ import annotations

from collections.abc import Iterable

from truetape.core.route.judge import Judge
from truetape.core.route.link import Link
from truetape.core.route.watch import ASK_FIRST
from truetape.model.event import Status

SECOND = 1_000_000_000


def slept(judge: Judge, links: Iterable[Link], ns: int, now: int) -> None:
    """The machine was suspended for `ns`; `now` counts it already."""
    why = f"this machine was suspended for {ns / SECOND:.1f} s"
    judge.tell(Status("", "", "", now, "", "WOKE", why, since=now))
    for link in links:
        if link.session is None:
            continue
        link.session.slept(ns, now)
        for stream in link.streams.values():
            if stream.state in ("LIVE", "QUIET", "STALE"):
                judge.blind(stream, why, now)
                judge.tell(stream.enter("STALE", why, now))
                stream.asks, stream.ask_at = 0, now + ASK_FIRST  # the link is asked first
            elif stream.state != "CLOSED":
                stream.since += ns
                stream.awaited += ns
            if stream.last:
                stream.last += ns


def stepped(judge: Judge, ns: int, now: int) -> None:
    """The wall clock was set by `ns`."""
    way = "forward" if ns > 0 else "back"
    why = f"the wall clock was set {way} by {abs(ns) / SECOND:.1f} s; our time goes on as before"
    judge.tell(Status("", "", "", now, "", "CLOCK", why, since=now))
