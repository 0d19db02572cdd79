"""Who was cut off may come back: what only it wanted of the venues is kept for a while, so that nothing is missing when it resumes.

Next door: `desk.py` tells who left and looks on its beat; `wants.py` has the registry.
"""

from __future__ import annotations

from collections.abc import Sequence

from truetape.app.wants import Asked, Key, Wants

WANTS_MAX = 1_000
"""Subscriptions kept for those who left; beyond it they are let go at once."""
LONGEST_S = 30.0
"""A venue's room is not kept for longer, whatever `linger_s` says of histories."""


class Linger:
    """Holds what clients that were cut off wanted, each for the same time."""

    def __init__(self, linger_s: float) -> None:
        self.ns = round(min(linger_s, LONGEST_S) * 1e9)
        self._until: dict[tuple[Key, ...], tuple[int, list[Asked]]] = {}

    def left(self, wants: Wants, asked: Sequence[Asked], now: int) -> None:
        """Somebody was cut off who wanted this."""
        own = [one for one in asked if one.want is not None]  # a star asks the venues for nothing
        if not own or not self.ns or len(self._until) >= WANTS_MAX:
            return
        key = tuple((one.feed.name, one.want.channel, one.want.raw) for one in own if one.feed and one.want)
        self._until.pop(key, None)
        self._until[key] = (now + self.ns, own)
        wants.hold(key, own)

    def sweep(self, wants: Wants, now: int) -> None:
        """Let go of what nobody came back for in time."""
        for key, (until, asked) in list(self._until.items()):
            if now >= until:
                del self._until[key]
                wants.release(key, asked)
