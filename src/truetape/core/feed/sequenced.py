"""Two lines merged by the venue's numbers: what is ahead waits for what lies between, and nothing passes twice.

Next door: `lines.py` says which streams are merged so; `prints.py` does it for trades that are numbered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from truetape.core.book.sync import RESTART_AFTER
from truetape.model.event import Book, Market

WAIT = 500_000_000
"""How long a message that is ahead waits for the other line, ns; once for each silence of that line."""
HELD_MAX = 1_000
"""Messages that wait; beyond, what they wait for is given up."""
KEPT = 1_024
"""Identities of trades that are remembered, and numbers by which what a line missed is counted."""

NOTHING: tuple[Any, ...] = ()


def by_line(value: Any) -> Any:
    """A field that has one value for each line."""
    return field(default_factory=lambda: [value, value])


class Sequenced(Struct, tag="sequenced"):
    """Merges by number. `first`..`seq` is what a message covers: it follows when nothing lies between it and `passed`."""

    passed: int = -1
    at: list[int] = by_line(-1)  # the last number of each line, -1: none since it opened
    greeted: list[bool] = by_line(False)  # its first whole book came
    back: list[bool] = by_line(False)  # its own numbers went back, and it has not caught up
    void: list[bool] = by_line(False)  # the venue counts anew, and this line does not yet
    deaf: int = -2  # where the other line stood when waiting for it was in vain
    old: int = 0
    reset: int = -1  # the number of the last whole book that was taken out of turn
    since: int = 0
    held: list[tuple[int, int, int, Market]] = []
    recent: list[tuple[int, int]] = []  # (number, line) of what passed, for the tally

    def opened(self, line: int) -> None:
        """A line begins anew."""
        self.at[line] = -1
        self.greeted[line] = self.back[line] = self.void[line] = False

    def offer(self, line: int, first: int, seq: int, event: Market, now: int, alone: bool) -> Sequence[Any]:
        """One message; returns what passes now, in order."""
        own, last = self.at[line], self.passed
        self.at[line] = seq
        if self.void[line]:
            if not alone and seq > own:
                return NOTHING
            self.void[line] = False
        if last < 0:
            return [self._pass(line, first, seq, event)]
        if seq <= last:
            return self._old(line, own, seq, event, alone)
        self.back[line] = False
        if first > last + 1:
            return self._hold(line, first, seq, event, now, alone)
        passed = [self._pass(line, first, seq, event)]
        if self.held:
            self._drain(passed)
        return passed

    def _pass(self, line: int, first: int, seq: int, event: Market) -> Market:
        if event.__class__ is Book and event.prev >= 0 and 0 <= event.prev < self.passed:
            # cut differently than the other line's: sizes are absolute, so what overlaps does no harm
            event = replace(event, prev=self.passed)
        self.passed = seq
        self.old = 0
        self.recent.append((seq, line))
        if len(self.recent) > 2 * KEPT:
            del self.recent[:KEPT]
        return event

    def _old(self, line: int, own: int, seq: int, event: Market, alone: bool) -> Sequence[Any]:
        """The other line brought it, or this line's own numbers went back: repeated, or a count that began anew."""
        if own < seq and not self.back[line]:
            return NOTHING
        self.back[line] = True
        self.old += 1
        if self.old >= RESTART_AFTER and (alone or self.back[1 - line]):
            self.restart(line, seq)
            return (event,)
        return (event,) if event.__class__ is Book else NOTHING  # who keeps the book counts them too

    def restart(self, line: int, seq: int) -> None:
        """The venue counts anew from here."""
        self.passed, self.old = seq, 0
        self.held.clear()
        self.recent.clear()
        self.void[1 - line] = self.at[1 - line] > seq and not self.back[1 - line]
        self.back = [False, False]

    def _hold(self, line: int, first: int, seq: int, event: Market, now: int, alone: bool) -> Sequence[Any]:
        if not any(row[1] == seq for row in self.held):
            self.held.append((first, seq, line, event))
            self.held.sort(key=lambda row: row[1])
            self.since = self.since or now
        passed: list[Market] = []
        there = self.at[1 - line]
        while self.held and (alone or there > self.passed or there == self.deaf or len(self.held) > HELD_MAX):
            self._give_up(passed)
        return passed

    def _give_up(self, passed: list[Market]) -> None:
        """Neither line has it: go on with the lowest, and let the judge see the gap."""
        first, seq, line, event = self.held.pop(0)
        passed.append(self._pass(line, first, seq, event))
        self._drain(passed)

    def _drain(self, passed: list[Market]) -> None:
        held = self.held
        while held and held[0][0] <= self.passed + 1:
            first, seq, line, event = held.pop(0)
            if seq > self.passed:
                passed.append(self._pass(line, first, seq, event))
        if not held:
            self.since = 0

    def release(self, *, late: bool = False) -> list[Market]:
        """Whoever could have filled the hole is gone, or `late`."""
        passed: list[Market] = []
        if late and self.held:
            self.deaf = self.at[1 - self.held[0][2]]
        while self.held:
            self._give_up(passed)
        return passed

    def whole(self, line: int, event: Book, live: bool, alone: bool) -> Sequence[Any]:
        """A whole book in the stream: taken where one is needed, or where it is news."""
        seq, own, last = event.seq, self.at[line], self.passed
        greeting = not self.greeted[line]
        self.at[line], self.greeted[line], self.void[line] = seq, True, False
        if live and not alone:
            if greeting or seq == self.reset or own < seq <= last or seq == last:
                return NOTHING  # the other line's book goes on
            if seq < own:
                self.restart(line, seq)
        self.reset = seq if live else -1
        self.held[:] = [row for row in self.held if row[1] > seq]
        self.passed = seq - 1
        passed = [self._pass(line, seq, seq, event)]
        self._drain(passed)
        return passed

    def missing(self, own: int, first: int, line: int) -> int:
        """How many messages this line left out between its last number and this message, by what the other line brought."""
        if own < 0 or first <= own + 1:
            return 0
        return sum(1 for seq, by in self.recent if by != line and own < seq < first)


def span(numbers: str, event: Book) -> int:
    """The first number that a book message covers."""
    if numbers == "chain":
        return event.prev + 1 if event.prev >= 0 else event.seq
    return event.first if event.first >= 0 and numbers == "range" else event.seq
