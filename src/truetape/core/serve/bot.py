"""One bot that speaks a venue's protocol: what it asked for, and what its questions wait for.

    received ─► todo ─► answered        todo ─► parked (until all that it asks for is subscribed to, or refused) ─► todo
                                        todo ─► later (until a book is whole) ─► todo

Next door: `native.py` has the bots of a venue, and answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

from truetape.core.feed.counterpart import Counterpart, Listed, Pair


class Ask(Struct, frozen=True, gc=False):
    """A bot wants these: subscribe to what there is not, hold what there is, and say `settled` of each."""

    client: int
    pairs: list[Pair]


class Request(Struct):
    """What a bot asked for and gets no answer to yet: a message, or (`target`) what its path names."""

    data: bytes
    pairs: list[Pair]
    target: str | None = None


class Bot:
    """One connection."""

    __slots__ = ("later", "listed", "number", "out", "parked", "settled", "stirred", "todo", "told", "venue")

    def __init__(self, number: int, venue: Counterpart, listed: dict[str, Listed]) -> None:
        self.number = number
        self.venue = venue
        self.listed = listed
        self.out: list[bytes] = []
        self.told: dict[str, None] = {}
        self.todo: deque[Request] = deque()
        self.parked: list[Request] = []
        self.later: dict[str, list[Request]] = {}
        self.settled: dict[
            Pair, tuple[str, str] | None
        ] = {}  # -> why not (reason, text), None where it is so; absent: nobody asked
        self.stirred = True  # since its holdings were looked at

    def settle(self, pair: Pair, why: tuple[str, str] | None) -> None:
        """One is so, or refused; who waited for nothing else is next."""
        self.settled[pair] = why
        ready = [one for one in self.parked if all(other in self.settled for other in one.pairs)]
        if ready:
            self.parked = [one for one in self.parked if one not in ready]
            self.todo.extendleft(reversed(ready))

    def refused(self, pairs: Iterable[Pair]) -> tuple[str, str] | None:
        """Why one of these cannot be had. That is forgotten: asked again, it is tried again."""
        why = None
        for pair in pairs:
            if self.settled[pair] is not None:
                told = self.settled.pop(pair)
                why = why or told
        return why

    def unheld(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Which of these it does not hold any more; [] as long as something that it asked for is not answered."""
        if self.todo or self.parked or self.later:
            return []
        self.stirred = False
        held = dict.fromkeys(self.venue.held())
        self.settled = dict.fromkeys(held)
        return [pair for pair in pairs if pair not in held]

    def forget(self, data: bytes) -> None:
        """It changed its mind about what it waits for. `data` is in small letters."""
        if b'"unsubscribe"' not in data:
            return

        def named(raw: str) -> bool:
            return any(f'"{raw}{end}'.lower().encode() in data for end in ('"', "@"))

        for raw in [raw for raw in self.later if named(raw)]:
            del self.later[raw]
        self.parked = [
            one for one in self.parked if one.target is not None or not any(named(raw) for _, raw in one.pairs)
        ]
