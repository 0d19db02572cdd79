"""Trades of two lines: by id, in order where ids count by one, else by content.

Next door: `sequenced.py` merges what is numbered; `lines.py` says which streams are merged how.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from truetape.core.feed.sequenced import KEPT, NOTHING, Sequenced, by_line
from truetape.model.event import Trade


class Prints(Struct, tag="prints"):
    """Trades: by id (kept in order where ids count by one), else by content, as often as the line that said it most often."""

    line: Sequenced = field(default_factory=Sequenced)
    counting: bool = True
    steps: list[int] = by_line(0)  # ids that followed the line's last, and ids that did not
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


def _print(event: Trade) -> tuple[int, float, float, str]:
    return event.ts, event.price, event.size, event.side
