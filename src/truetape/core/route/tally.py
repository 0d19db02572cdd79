"""Counters for whoever watches a running gateway: gaps by what caused them. Nothing is judged by them, and no checkpoint has them.

Next door: `judge.py` counts when a stream goes blind; `app/metrics.py` reads.
"""

from __future__ import annotations

from typing import TypeAlias

GapKey: TypeAlias = tuple[str, str, str]
"""(venue, channel, cause)."""

_CAUSES = (
    ("connection lost", "connection_lost"), ("stale", "stale"), ("hole in the journal", "hole"), ("checksum", "checksum"),
    ("crossed", "crossed"), ("damaged", "damaged"), ("an unreadable frame", "damaged"), ("drift", "drift"), ("expected", "sequence"),
    ("this machine was suspended", "suspended"), ("waiting for", "snapshot"), ("snapshot", "snapshot"), ("unsubscribed", "unsubscribed"),
    ("removed from the configuration", "reload"), ("the configuration changed", "reload"),
)  # fmt: skip
CAUSES = tuple(sorted({cause for _, cause in _CAUSES} | {"other"}))
"""All that `cause` says."""


def cause(reason: str) -> str:
    """The one word for a gap's reason, of the closed list `CAUSES`: reasons have numbers and venues' own words in them."""
    return next((word for start, word in _CAUSES if reason.startswith(start)), "other")


class GapTally:
    """How often streams went blind, by venue, channel and cause; each gap is counted once, when it is found."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[GapKey, int] = {}

    def add(self, venue: str, channel: str, reason: str) -> None:
        """One more."""
        key = (venue, channel.partition(".")[0], cause(reason))
        self.counts[key] = self.counts.get(key, 0) + 1
