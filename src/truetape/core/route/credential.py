"""Connections that share a credential share its fate: one that is refused stops all, a pause that is asked of one is kept by all.

Without a credential it is the connections of one feed. What brings a refused credential back is a person: another value of the secret (the
gateway looks), or the operator's word; both come as the order `retry`. Next door: `pump.py` and `judge.py` call in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from truetape.core.feed.session import Session
from truetape.core.feed.venue import Rejected
from truetape.core.route.link import Link
from truetape.model.effect import Effect
from truetape.model.reason import remedy

SHARED_WAITS = ("rate_limit", "quota")
"""Pauses that are meant for the key or the address; that there are too many connections is no reason for those that stand to be mute."""


def peers(links: Mapping[str, Link], link: Link) -> list[tuple[Link, Session]]:
    """The other connections that use the same credential, with their sessions."""
    mine = link.feed
    return [
        (other, other.session)
        for other in links.values()
        if other is not link
        and other.session is not None
        and (
            other.feed is mine
            or (mine.credential and (other.feed.venue, other.feed.credential) == (mine.venue, mine.credential))
        )
    ]


def share(
    links: Mapping[str, Link], link: Link, answer: Rejected, until: int, close: Callable[[Link, str], None]
) -> list[Effect]:
    """Let the others obey what one was told. `until`, ns: the end of the pause; `close` tells a stopped connection's streams."""
    effects: list[Effect] = []
    cure = remedy(answer.reason)
    if cure == "stop":
        for other, session in peers(links, link):
            if session.state != "STOPPED":
                why = f"{answer.reason}: {answer.text or 'refused'} (told to {link.source})"
                effects += session.stop(why)
                close(other, why)
    elif cure == "wait" and answer.reason in SHARED_WAITS:
        for other, session in peers(links, link):
            session.hold(until)
            other.desk.hold(until)
    return effects
