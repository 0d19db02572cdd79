"""What the next supersedes, of two lines: quotes, tickers, bars and whole books that nothing numbers. Only news pass.

Next door: `lines.py` says which streams are merged so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from truetape.core.book.sync import RESTART_AFTER
from truetape.core.feed.sequenced import NOTHING, by_line
from truetape.model.event import Bar, Book, Market, Quote

MUTE = 1_000_000_000
"""A primary that says nothing for so long while its standby speaks is replaced, ns."""
SAME_MAX = 256
"""Contents of one instant that are remembered."""

_ENCODE = msgspec.msgpack.Encoder().encode


class Latest(Struct, tag="latest"):
    """What is superseded by the next: only news pass, by the venue's number or clock; where there is neither, one line's alone."""

    place: int = -1
    at: list[int] = by_line(-1)
    read: list[int] = by_line(0)  # how many of `same` each line has said
    same: list[bytes] = []
    old: int = 0
    owner: int = -1
    since: int = 0  # when the other line spoke a second time after the owner's last word
    row: int = 0  # how often it did
    kept: list[Market] = []  # the last that a successor said

    def opened(self, line: int) -> None:
        """A line begins anew."""
        self.at[line] = -1

    def offer(self, line: int, event: Market, now: int, alone: bool) -> Sequence[Any]:
        """One of them; returns it where it is news."""
        place = event.seq if event.__class__ in (Quote, Book) and event.seq >= 0 else event.ts  # type: ignore[union-attr]
        if place <= 0 and event.__class__ is Bar:
            place = event.start
        if place <= 0:
            return self._owned(line, event, now, alone)
        own, self.at[line] = self.at[line], place
        if place > self.place:
            return self._news(line, place, event)
        if place < self.place:
            # a line that is merely late stands behind one that is not; where both are behind, the venue set its clock back
            self.old += place <= own or alone or 0 <= self.at[1 - line] < self.place
            if self.old < RESTART_AFTER or not (alone or self.at[1 - line] < self.place):
                return NOTHING
            return self._news(line, place, event)
        return self._again(line, event)

    def _news(self, line: int, place: int, event: Market) -> Sequence[Any]:
        self.place, self.old = place, 0
        self.same = [content(event)]
        self.read = [0, 0]
        self.read[line] = 1
        return (event,)

    def _again(self, line: int, event: Market) -> Sequence[Any]:
        """More of one instant: what the other line said is passed over, what this line says first is news."""
        said, read = content(event), self.read[line]
        for n in range(read, len(self.same)):
            if self.same[n] == said:
                self.read[line] = n + 1
                return NOTHING
        if read < len(self.same):
            return NOTHING  # what came before was lost on the other line; it is older than what was passed on
        self.same.append(said)
        self.read[line] = len(self.same)
        if len(self.same) > SAME_MAX:
            del self.same[0]
            self.read = [max(0, count - 1) for count in self.read]
        return (event,)

    def _owned(self, line: int, event: Market, now: int, alone: bool) -> Sequence[Any]:
        if self.owner < 0 or alone:
            self.owner = line
        if line != self.owner:
            self.row += 1
            if self.row == 2:  # the first may be what the owner said last
                self.since = now
            if self.row < 3 or now - self.since < MUTE:
                return NOTHING
            self.owner = line
        self.row = 0
        return (event,)

    def wait(self, event: Market, floor: int) -> Sequence[Any]:
        """Something of a successor that has not taken over: the last is kept until it does."""
        if (event.ts or event.recv) >= floor:  # type: ignore[union-attr]
            self.kept = [event]
        return NOTHING

    def speak(self, line: int, now: int) -> Sequence[Any]:
        """A successor takes over: what it said last, if that is news."""
        kept, self.kept = self.kept, []
        return self.offer(line, kept[0], now, alone=True) if kept else NOTHING


def content(event: Market) -> bytes:
    """What a message says, without when it came."""
    return _ENCODE(astuple(event)[5:])
