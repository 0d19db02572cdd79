"""What the log says of subscriptions: which are CLOSED, STALE or SUSPECT and why, and when they are well again.

Looked at once a second, so that nothing runs for a message; what came and went in between is in the gaps' counters. Many at once are
one line, for a venue of thousands may fall mute as a whole. Next door: `pulse.py` beats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from truetape.core.feed.health import Stream

BAD = ("CLOSED", "STALE", "SUSPECT")
WELL = ("LIVE", "QUIET")
EACH = 5
"""So many of a state in one second have a line each; of more the first are named in one."""

Key: TypeAlias = tuple[str, str, str]
Say: TypeAlias = Callable[..., Any]


class Troubles:
    """Compares the subscriptions with the last look."""

    def __init__(self, warn: Say, tell: Say) -> None:
        self._warn = warn
        self._tell = tell
        self._bad: dict[Key, str] = {}

    def look(self, streams: Iterable[Stream]) -> None:
        """Say what changed since the last look; a subscription that is carried no more is forgotten."""
        found: dict[str, list[Stream]] = {}
        still: dict[Key, str] = {}
        for stream in streams:
            state = stream.state
            if not self._bad and state not in BAD:
                continue
            key = (stream.venue, stream.channel, stream.raw)
            known = self._bad.get(key)
            if state in BAD:
                still[key] = state
                if known != state:
                    found.setdefault(state, []).append(stream)
            elif known is not None and state in WELL:
                found.setdefault("well", []).append(stream)
            elif known is not None:
                still[key] = known  # on the way: asked for again
        self._bad = still
        for state, several in found.items():
            self._say(state, several)

    def _say(self, state: str, streams: list[Stream]) -> None:
        say = self._tell if state == "well" else self._warn
        if len(streams) <= EACH:
            for one in streams:
                say("subscription", state=one.state, symbol=_name(one), channel=one.channel, reason=one.reason)
            return
        names = [f"{_name(one)}/{one.channel}" for one in streams[:EACH]]
        shown = "well again" if state == "well" else state
        say("subscriptions", state=shown, count=len(streams), first=names, reason=streams[0].reason)


def _name(stream: Stream) -> str:
    return f"{stream.venue}:{stream.symbol}"
