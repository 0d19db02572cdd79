"""The fault script: what goes wrong, when, and for whom; read from text, played between a counterpart and the wire.

One fault a line, `name@12s[:symbol][=value]` (once, so long after the start) or `name~0.01[:symbol][=value]` (a seeded share of
frames); a bare name means `@5s`; `#` begins a comment. What concerns frames is done here (`spoil`); what concerns a connection is returned
by `due` for whoever holds the sockets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from truetape.core.feed.counterpart import Native

OF_FRAMES = {
    "mute-symbol": "nothing more is sent of a symbol, for `=seconds` (for ever without), while the connection lives",
    "drop-delta": "`=n` book messages (1) are left out",
    "wrong-checksum": "the checksum of `=n` book messages (1) is off by one, on venues that send one",
}
OF_CONNECTIONS = {
    "close-1000": "every connection is closed: normal end",
    "close-1001": "every connection is closed: going away",
    "close-1006": "every connection breaks without a close frame",
    "close-1011": "every connection is closed: server error",
    "half-open": "connections stay open, but nothing is read, sent or answered any more, for `=seconds` (for ever without)",
}
KNOWN = OF_FRAMES | OF_CONNECTIONS
BARE_AT_S = 5.0
SECOND = 1_000_000_000

_LINE = re.compile(
    r"(?P<name>[a-z0-9-]+)(?:@(?P<at>\d+(?:\.\d+)?)s?|~(?P<share>\d*\.?\d+))?(?::(?P<symbol>[^=\s]+))?(?:=(?P<value>\d+(?:\.\d+)?))?$"
)
_SUM = re.compile(rb'"checksum":(\d+)')


class BadFault(ValueError):
    """A line of a script that says nothing we know."""


class Fault(Struct, frozen=True):
    """One line of a script. `share` 0: once, `at_s` after the start; empty `symbol`: any, or all where it concerns connections."""

    name: str
    at_s: float = BARE_AT_S
    share: float = 0.0
    symbol: str = ""
    value: float | None = None


def parse(lines: Iterable[str]) -> list[Fault]:
    """The faults of a script. Raises BadFault with what was expected."""
    faults = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = _LINE.match(text)
        if found is None:
            raise BadFault(f"line {number}: expected name@12s[:symbol][=value] or name~0.01, found {text[:80]!r}")
        if found["name"] not in KNOWN:
            raise BadFault(f"line {number}: expected one of {', '.join(sorted(KNOWN))}; found {found['name']!r}")
        share = float(found["share"] or 0)
        if share > 1 or (share and found["name"] in OF_CONNECTIONS):
            raise BadFault(
                f"line {number}: expected a share of frames up to 1, of a fault that concerns frames; found {text[:80]!r}"
            )
        value = float(found["value"]) if found["value"] else None
        faults.append(Fault(found["name"], float(found["at"] or BARE_AT_S), share, found["symbol"] or "", value))
    return faults


class Script:
    """Plays faults. `due` first, then every frame through `spoil`; `done` counts what was done, by name."""

    def __init__(self, faults: Sequence[Fault], start: int, draw: Callable[[], float]) -> None:
        self.done: dict[str, int] = {}
        self._draw = draw
        self._waiting = sorted((fault for fault in faults if not fault.share), key=lambda fault: fault.at_s)
        self._start = start
        self._shares = [fault for fault in faults if fault.share]
        self._armed: list[tuple[Fault, int]] = []  # drops and sums still to come, and how many
        self._muted: dict[str, int] = {}  # symbol ("" all) -> until when, 0 for ever

    @property
    def active(self) -> bool:
        """Whether frames have to pass through `spoil` at all."""
        return bool(self._armed or self._muted or self._shares)

    def due(self, now: int) -> list[Fault]:
        """Start what is due; returns the faults that concern connections."""
        fired = []
        while self._waiting and now - self._start >= self._waiting[0].at_s * SECOND:
            fault = self._waiting.pop(0)
            if fault.name in OF_CONNECTIONS:
                fired.append(fault)
                self._count(fault.name)
            elif fault.name == "mute-symbol":
                self._muted[fault.symbol] = now + round(fault.value * SECOND) if fault.value else 0
                self._count(fault.name)
            else:
                self._armed.append((fault, int(fault.value or 1)))
        for symbol, until in list(self._muted.items()):
            if until and now >= until:
                del self._muted[symbol]
        return fired

    def spoil(self, names: tuple[str, ...], frames: list[Native]) -> list[Native]:
        """What is left of the frames of one symbol for one client; `names` are the symbol's spellings."""
        if "" in self._muted or any(name in self._muted for name in names):
            return []
        for fault in self._shares:
            frames = [self._one(fault, frame) for frame in frames] if self._concerns(fault, names) else frames
        for index, (fault, left) in enumerate(self._armed):
            for place, frame in enumerate(frames):
                if left and frame[0] == "book" and self._concerns(fault, names):
                    frames = [*frames[:place], self._done(fault, frame), *frames[place + 1 :]]
                    left -= 1
            self._armed[index] = (fault, left)
        self._armed = [entry for entry in self._armed if entry[1]]
        return [frame for frame in frames if frame[1]]

    def _concerns(self, fault: Fault, names: tuple[str, ...]) -> bool:
        return not fault.symbol or fault.symbol in names

    def _one(self, fault: Fault, frame: Native) -> Native:
        return self._done(fault, frame) if frame[0] == "book" and self._draw() < fault.share else frame

    def _done(self, fault: Fault, frame: Native) -> Native:
        """One frame after one fault; an empty frame is not sent."""
        channel, data = frame
        if fault.name != "wrong-checksum":
            self._count(fault.name)
            return channel, b""
        found = _SUM.search(data)
        if found is None:
            return frame
        self._count(fault.name)
        return channel, data[: found.start(1)] + b"%d" % (int(found[1]) ^ 1) + data[found.end(1) :]

    def _count(self, name: str) -> None:
        self.done[name] = self.done.get(name, 0) + 1
