"""The fault script, played between a counterpart and the wire: what happens to each message, and what is due that concerns more.

Next door: `faults.py` says what there is; `venue.py` asks `due` at each turn and puts every symbol's frames through `spoil`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from truetape.core.feed.counterpart import Native, Piecemeal, Wrong
from truetape.core.sim.faults import OF_FRAMES, Fault

SECOND = 1_000_000_000
HARMLESS = ("duplicate", "reorder", "fragment", "unknown-field", "type-change")
"""After these a message has arrived, and can be read: nothing was lost."""
PIECES = 3

_SUM = re.compile(rb'"checksum":(\d+)')


class Script:
    """Plays faults: `due` first, then frames through `spoil`. `done` counts what was done by name; `lost` what arrived broken, or not."""

    def __init__(
        self, faults: Sequence[Fault], start: int, draw: Callable[[], float], wrong: Wrong | None = None
    ) -> None:
        self.done: dict[str, int] = {}
        self.lost = 0
        self._draw = draw
        self._wrong = wrong if wrong is not None else Wrong()
        self._waiting = sorted((fault for fault in faults if not fault.share), key=lambda fault: fault.at_s)
        self._start = start
        self._shares = [fault for fault in faults if fault.share]
        self._armed: list[tuple[Fault, int]] = []  # for so many messages still to come
        self._muted: dict[str, int] = {}  # symbol ("" all) -> until when, 0 for ever
        self._held: dict[tuple[int, str], Native] = {}  # (client, symbol) -> what is sent after the next

    @property
    def active(self) -> bool:
        """Whether frames have to pass through `spoil` at all."""
        return bool(self._armed or self._muted or self._shares or self._held)

    @property
    def over(self) -> bool:
        """Whether nothing is still to begin."""
        return not (self._waiting or self._shares)

    def add(self, fault: Fault) -> None:
        """One more, at once or in its share."""
        if fault.share:
            self._shares.append(fault)
        else:
            self._waiting.insert(0, replace(fault, at_s=0.0))

    def due(self, now: int) -> list[Fault]:
        """Start what is due; returns the faults that concern more than messages."""
        fired = []
        while self._waiting and now - self._start >= self._waiting[0].at_s * SECOND:
            fault = self._waiting.pop(0)
            if fault.name in OF_FRAMES:
                self._armed.append((fault, int(fault.value or 1)))
                continue
            if fault.name == "mute-symbol":
                self._muted[fault.symbol] = now + round(fault.seconds * SECOND) if fault.seconds else 0
            else:
                fired.append(fault)
            self.count(fault.name)
        for symbol, until in list(self._muted.items()):
            if until and now >= until:
                del self._muted[symbol]
        return fired

    def mutes(self, names: tuple[str, ...]) -> bool:
        """Whether nothing is said of a symbol."""
        return "" in self._muted or any(name in self._muted for name in names)

    def spoil(self, client: int, names: tuple[str, ...], frames: list[Native]) -> list[Native]:
        """What becomes of the frames of one symbol for one client; `names` are the symbol's spellings, the venue's own first."""
        if self.mutes(names):
            self.lost += sum(frame[0] == "book" for frame in frames)
            return []
        left: list[Native] = []
        for frame in frames:
            left += self._one(client, names, frame) if frame[0] == "book" else [frame]
        return left

    def gone(self, client: int) -> None:
        """What was held back for a client is lost with it."""
        for key in [key for key in self._held if key[0] == client]:
            del self._held[key]

    def _one(self, client: int, names: tuple[str, ...], frame: Native) -> list[Native]:
        """A book message after all faults that concern it, and before it whatever waited for it."""
        before = self._held.pop((client, names[0]), None)
        frames = [frame]
        for fault in self._shares:
            if self._concerns(fault, names) and self._draw() < fault.share:
                frames = self._after(fault, client, names, frames)
        for index, (fault, left) in enumerate(self._armed):
            if left and self._concerns(fault, names):
                frames = self._after(fault, client, names, frames)
                self._armed[index] = (fault, left - 1)
        self._armed = [entry for entry in self._armed if entry[1]]
        return [*frames, before] if before is not None else frames

    def _concerns(self, fault: Fault, names: tuple[str, ...]) -> bool:
        return not fault.symbol or fault.symbol in names

    def _after(self, fault: Fault, client: int, names: tuple[str, ...], frames: list[Native]) -> list[Native]:
        """These frames after one fault, counted if it could do anything to them."""
        if not frames:
            return frames
        channel, data = frames[0]
        key = (client, names[0])
        match fault.name:
            case "drop-delta":
                spoiled: list[Native] = []
            case "duplicate":
                spoiled = [*frames, frames[0]]
            case "reorder":
                if key in self._held:
                    return frames
                self._held[key], spoiled = frames[0], frames[1:]
            case "fragment":
                spoiled = [(channel, Piecemeal(data)), *frames[1:]]
            case name:
                broken = damaged(name, data, self._wrong)
                if broken == data:
                    return frames
                spoiled = [(channel, broken), *frames[1:]]
        self.count(fault.name)
        self.lost += fault.name not in HARMLESS
        return spoiled

    def count(self, name: str) -> None:
        """It was done once more."""
        self.done[name] = self.done.get(name, 0) + 1


def damaged(name: str, data: bytes, wrong: Wrong) -> bytes:
    """The bytes of a message after a fault; as they were where it has nothing to change in them."""
    match name:
        case "torn-frame":
            return data[: len(data) // 2]
        case "bad-utf8":
            return data.replace(b'":"', b'":"\xff', 1)
        case "unknown-field":
            return data.replace(b"{", b'{"zz_unknown":[1,{"a":null}],', 1)
        case "unknown-enum":
            return data.replace(*wrong.word, 1)
        case "type-change":
            return re.sub(*wrong.price, data, count=1)
    found = _SUM.search(data)
    if found is None:
        return data
    number = 0 if name == "zero-checksum" else int(found[1]) ^ 1
    return data[: found.start(1)] + b"%d" % number + data[found.end(1) :]


def pieces(data: bytes, count: int = PIECES) -> list[bytes]:
    """A message cut into about equal parts, anywhere."""
    size = max(1, -(-len(data) // count))
    return [data[start : start + size] for start in range(0, len(data), size)]
