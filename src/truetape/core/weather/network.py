"""The simulated network between a gateway and one venue: connections whose two directions are late, stall, or break.

    Driver.dial ─► up ─ SYN ─► Site decides ─► down ─ accepted, refused ─► Driver         cut: what is under way is lost

A direction is FIFO, as TCP is: a stall holds everything and releases it at once, in order; nothing is lost but by a break. The weather of
a `Path` holds for all connections of one venue, and for its REST.
Next door: `driver.py` is the gateway's end; `site.py` the venue's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias

from truetape.core.weather.clock import MS, SECOND, Clock

DROPS_PER_S = 20

Item: TypeAlias = tuple[str, object]
"""What travels: ("frames", list of bytes), ("data", bytes), ("ping", when), ("pong", when), ("close", (code, text)), ("cut", None),
("accepted", None), ("refused", (status, retry_after_s))."""


class Path:
    """The weather between the gateway and one venue. Delays in ns; `gap_ns` is the least time between two reads (a slow link)."""

    __slots__ = ("base_ns", "clock", "draw", "extra_ns", "gap_ns", "held", "jitter_ns", "wires")

    def __init__(self, clock: Clock, draw: Callable[[], float], base_ns: int, jitter_ns: int) -> None:
        self.clock = clock
        self.draw = draw
        self.base_ns = base_ns
        self.jitter_ns = jitter_ns
        self.extra_ns = 0
        self.gap_ns = 0
        self.held = {"up": False, "down": False}
        self.wires: list[Wire] = []

    def delay(self) -> int:
        """How long the next message takes."""
        return self.base_ns + self.extra_ns + int(self.draw() * self.jitter_ns)

    def hold(self, way: str, held: bool) -> None:
        """Stall one direction of every connection, or let it go on: what was held arrives at once."""
        self.held[way] = held
        if not held:
            for wire in list(self.wires):
                (wire.up if way == "up" else wire.down).release()

    def let_go(self) -> None:
        """No connection drips any more."""
        for wire in list(self.wires):
            wire.down.drip(0)


class Pipe:
    """One direction of one connection."""

    __slots__ = ("_held", "_last", "arrived", "dead", "path", "per_s", "way")

    def __init__(self, path: Path, way: str, arrived: Callable[[Item], None]) -> None:
        self.path = path
        self.way = way
        self.arrived = arrived
        self.dead = False
        self.per_s = 0  # bytes a second that drip out; 0: as they come
        self._last = 0
        self._held: list[Item] = []

    def send(self, item: Item) -> None:
        """It arrives later, and never before what was sent before it."""
        path = self.path
        self._last = max(self._last + (path.gap_ns if self.way == "down" else 0), path.clock.now + path.delay())
        path.clock.at(self._last, partial(self._arrive, item))

    def _arrive(self, item: Item) -> None:
        if self.dead:
            return
        if self._held or self.per_s or self.path.held[self.way]:
            self._held.append(item)
        else:
            self.arrived(item)

    def drip(self, per_s: int) -> None:
        """So many bytes a second from now on; 0: all, beginning with what waited."""
        was, self.per_s = self.per_s, per_s
        if not per_s:
            self.release()
        elif not was:
            self._drop(0)

    def _drop(self, credit: int) -> None:
        """What the drops so far allow, in whole messages."""
        if self.dead or not self.per_s:
            return
        credit += self.per_s // DROPS_PER_S
        while self._held and not self.path.held[self.way] and credit >= (size := weight(self._held[0])):
            credit -= size
            self.arrived(self._held.pop(0))
        self.path.clock.after(SECOND // DROPS_PER_S, partial(self._drop, credit if self._held else 0))

    def release(self) -> None:
        """The stall is over."""
        if self.per_s:
            return
        held, self._held = self._held, []
        for item in held:
            if not self.dead:
                self.arrived(item)


def weight(item: Item) -> int:
    """Bytes of what travels, about."""
    return sum(map(len, item[1])) if isinstance(item[1], list) else 20


class Ends(Protocol):
    """Who sits at an end of a wire."""

    def arrived(self, wire: Wire, item: Item) -> None:
        """Something came."""


class Wire:
    """One connection, from its dial on. `alive` is the gateway's view: once it gave up, nothing that still comes may count."""

    __slots__ = ("alive", "dialed_at", "down", "number", "open", "path", "source", "up")

    def __init__(self, number: int, source: str, path: Path, gateway: Ends, site: Ends) -> None:
        self.number = number
        self.source = source
        self.path = path
        self.alive = True
        self.open = False
        self.dialed_at = path.clock.now
        self.up = Pipe(path, "up", partial(_to, site, self))
        self.down = Pipe(path, "down", partial(_to, gateway, self))
        path.wires.append(self)

    def hang_up(self) -> None:
        """The gateway drops it: nothing reaches it any more, and the venue hears of it a little later."""
        self.down.dead = True
        self.up.send(("cut", None))
        if self in self.path.wires:
            self.path.wires.remove(self)

    def cut(self) -> None:
        """It breaks in the middle: what is under way is lost, and both ends hear a reset."""
        for pipe in (self.up, self.down):
            pipe.dead = True
            self.path.clock.after(MS, partial(pipe.arrived, ("cut", None)))
        if self in self.path.wires:
            self.path.wires.remove(self)


def _to(end: Ends, wire: Wire, item: Item) -> None:
    end.arrived(wire, item)
