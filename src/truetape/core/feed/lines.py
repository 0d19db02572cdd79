"""Two lines of one feed: of what both say, the first to come is passed on, once, in the venue's order.

    each line's decoder ─► arbiter of the stream ─► judge, book, consumers

What the venue numbers is merged by its numbers (`Sequenced`): a message that is ahead waits until the other line brought what lies between,
or has itself gone beyond it, or `WAIT` is over. Trades go by their id, else by content, as often as the line that said it most often
(`Prints`). Of quotes, tickers, bars and unnumbered whole books only news pass (`Latest`). Changes that nothing numbers cannot be merged:
one line is primary, the other keeps a book of its own warm (`Standby`, and `core.route.standby`). `core.route.pair` knows connections.

All of it is plain data that a checkpoint keeps as it is. `line` is 0 or 1; `alone` says that the other line does not stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct, field
from msgspec.structs import astuple, replace

from truetape.core.book.sync import RESTART_AFTER
from truetape.model.event import Bar, Book, Market, Quote, Trade

WAIT = 500_000_000
"""How long a message that is ahead waits for the other line, ns; once for each silence of that line."""
HELD_MAX = 1_000
"""Messages that wait; beyond, what they wait for is given up."""
MUTE = 1_000_000_000
"""A primary that says nothing for so long while its standby speaks is replaced, ns."""
KEPT = 1_024
"""Identities of trades that are remembered, and numbers by which what a line missed is counted."""
SAME_MAX = 256
"""Contents of one instant that are remembered."""

NOTHING: tuple[Any, ...] = ()


class Tally(Struct):
    """What one line was good for: messages it brought first, and again; its own jumps, and messages that it alone brought."""

    wins: int = 0
    late: int = 0
    missed: int = 0
    saved: int = 0


def _pair_of(value: Any) -> Any:
    return field(default_factory=lambda: [value, value])


class Sequenced(Struct, tag="sequenced"):
    """Merges by number. `first`..`seq` is what a message covers: it follows when nothing lies between it and `passed`."""

    passed: int = -1
    at: list[int] = _pair_of(-1)  # the last number of each line, -1: none since it opened
    greeted: list[bool] = _pair_of(False)  # its first whole book came
    back: list[bool] = _pair_of(False)  # its own numbers went back, and it has not caught up
    void: list[bool] = _pair_of(False)  # the venue counts anew, and this line does not yet
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


class Prints(Struct, tag="prints"):
    """Trades: by id (kept in order where ids count by one), else by content, as often as the line that said it most often."""

    line: Sequenced = field(default_factory=Sequenced)
    counting: bool = True
    steps: list[int] = _pair_of(0)  # ids that followed the line's last, and ids that did not
    floor: int = -1
    seen: dict[str, None] = {}
    said: dict[tuple[int, float, float, str], list[int]] = {}
    kept: list[Trade] = []  # of a successor

    def offer(self, line: int, event: Trade, now: int, alone: bool) -> Sequence[Any]:
        """One trade; returns what passes now, in order."""
        name = event.id
        if not name:
            return self._content(line, event)
        if self.counting and name.isdecimal() and len(name) < 19:
            return self._numbered(line, int(name), event, now, alone)
        if name in self.seen:
            return NOTHING
        self._remember(name)
        return (event,)

    def _numbered(self, line: int, number: int, event: Trade, now: int, alone: bool) -> Sequence[Any]:
        merged = self.line
        own = merged.at[line]
        if own >= 0:
            self.steps[own + 1 != number] += 1
            if self.steps[1] > 8 and self.steps[1] * 4 > self.steps[0]:
                self.counting = False  # ids of this venue rise, but do not count
                merged.at[line] = number
                rest = [row for row in merged.release() if row.id not in self.seen]  # type: ignore[union-attr]
                for row in rest:
                    self._remember(row.id)  # type: ignore[union-attr]
                return [*rest, *self.offer(line, event, now, alone)]
        if self.floor < 0:
            self.floor = number
        late = self.floor < number <= merged.passed and event.id not in self.seen and merged.passed - number < KEPT
        passed = merged.offer(line, number, number, event, now, alone)
        if late and own < number and not merged.back[line]:
            passed = [event]  # given up for lost, and here it is
        if passed and number < self.floor:
            self.floor = number
        for row in passed:
            self._remember(row.id)
        return passed

    def wait(self, line: int, event: Trade, floor: int) -> None:
        """One trade of a successor that has not taken over: kept until it does, should the old line not say it before."""
        if event.id.isdecimal():
            self.line.at[line] = int(event.id)
        if not event.id:
            self.said.setdefault(_print(event), [0, 0])[line] += 1
        if (event.ts or event.recv) >= floor:
            self.kept.append(event)
            if len(self.kept) > KEPT:
                del self.kept[0]

    def speak(self, line: int) -> list[Trade]:
        """A successor takes over: what it said and the old line did not."""
        kept, self.kept = self.kept, []
        times: dict[tuple[int, float, float, str], int] = {}
        passed = []
        for event in kept:
            if event.id:
                if event.id in self.seen:
                    continue
                self._remember(event.id)
                if self.counting and event.id.isdecimal():
                    self.line.passed = max(self.line.passed, int(event.id))
            else:
                key = _print(event)
                times[key] = times.get(key, 0) + 1
                if times[key] <= self.said.get(key, [0, 0])[1 - line]:
                    continue
            passed.append(event)
        return passed

    def _remember(self, name: str) -> None:
        self.seen[name] = None
        if len(self.seen) > KEPT:
            del self.seen[next(iter(self.seen))]

    def _content(self, line: int, event: Trade) -> Sequence[Any]:
        key = _print(event)
        said = self.said.get(key)
        if said is None:
            said = self.said[key] = [0, 0]
            if len(self.said) > KEPT:
                del self.said[next(iter(self.said))]
        said[line] += 1
        return (event,) if said[line] > said[1 - line] else NOTHING


class Latest(Struct, tag="latest"):
    """What is superseded by the next: only news pass, by the venue's number or clock; where there is neither, one line's alone."""

    place: int = -1
    at: list[int] = _pair_of(-1)
    read: list[int] = _pair_of(0)  # how many of `same` each line has said
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


class Standby(Struct, tag="standby"):
    """Changes that nothing numbers: `primary` is published, the other line's book is kept warm beside it."""

    primary: int = 0
    since: int = 0  # when the standby spoke a second time after the primary's last word
    row: int = 0  # how often it did
    came: list[int] = _pair_of(0)

    def opened(self, line: int) -> None:
        """A line begins anew."""
        self.came[line] = 0


Arbiter: TypeAlias = Sequenced | Prints | Latest | Standby


_ENCODE = msgspec.msgpack.Encoder().encode


def _print(event: Trade) -> tuple[int, float, float, str]:
    return event.ts, event.price, event.size, event.side


def content(event: Market) -> bytes:
    """What a message says, without when it came."""
    return _ENCODE(astuple(event)[5:])


def span(numbers: str, event: Book) -> int:
    """The first number that a book message covers."""
    if numbers == "chain":
        return event.prev + 1 if event.prev >= 0 else event.seq
    return event.first if event.first >= 0 and numbers == "range" else event.seq
