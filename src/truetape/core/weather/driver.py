"""The gateway's hands on the virtual clock: applies the pump's effects and records its inputs as `io.net.driver` does with sockets.

What the real driver owes to asyncio is a line here; what it decides is the same: ticks at most every 10 ms, a connection that was given up is
never heard again, consumers are woken once for each read. Next door: `network.py` carries; `watch.py` looks over its shoulder.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, cast
from urllib.parse import urlsplit

from truetape.core.route.mailbox import Mailbox
from truetape.core.route.pump import Pump
from truetape.core.weather.clock import MS, SECOND, Clock
from truetape.core.weather.network import Item, Wire
from truetape.core.weather.site import Site
from truetape.model.effect import Close, Effect, Fetch, Open, Ping, Send
from truetape.model.record import Command, Fetched, Frame, Lost, Opened, Record, Sampled, Sent, Tick

TICK_MIN = 10 * MS


class Eyes(Protocol):
    """Who watches: told of every input after it was judged, and of every effect before it is applied."""

    def effect(self, effect: Effect, now: int) -> None:
        """The pump asks for this."""

    def framed(self, wire: Wire, data: bytes, now: int) -> None:
        """A message was judged."""

    def losing(self, source: str, now: int) -> None:
        """A connection is about to be reported lost."""

    def lost(self, source: str, reason: str, now: int, retry_after_s: float) -> None:
        """It was."""

    def opened(self, wire: Wire, now: int) -> None:
        """A connection stands, and was asked for everything."""

    def heard(self, source: str, now: int) -> None:
        """Bytes or a pong came."""

    def fetched(self, source: str, ref: str, status: int, now: int, retry_after_s: float) -> None:
        """A snapshot came, or none."""

    def ticked(self, now: int) -> None:
        """A timer of the pump's fired."""


class Driver:
    """Runs one pump. `site(source)` is the venue that a connection leads to; `limits(source)` = (dial and handshake, ns)."""

    def __init__(
        self, clock: Clock, pump: Pump, site: Callable[[str], Site], patience: Callable[[str], int], eyes: Eyes
    ) -> None:
        self.clock = clock
        self.pump = pump
        self.site = site
        self.patience = patience
        self.eyes = eyes
        self.records: list[Record] = []
        self.append = self.records.append
        self.wakers: dict[Mailbox, Callable[[], None]] = {}
        self.wires: dict[str, Wire] = {}  # those that stand
        self.dials: dict[str, list[Wire]] = {}  # those that are being made
        self.flying: dict[tuple[str, str], int] = {}
        self.checkpoint_at = -1
        self.checkpoint: Callable[[], None] = _nothing
        self._numbers = 0
        self._armed = 0
        self._window = 0

    def start(self) -> None:
        """Dial everything."""
        self.apply(self.pump.start(self.clock.now))
        self.arm()

    def _record(self, item: Record) -> None:
        if len(self.records) == self.checkpoint_at:
            self.checkpoint()
        self.append(item)

    # -- what comes -----------------------------------------------------------------------------------------------------

    def arrived(self, wire: Wire, item: Item) -> None:
        """Something came down a wire."""
        if not wire.alive:
            return
        kind, body = item
        now = self.clock.now
        if kind == "frames":
            self._read(wire, cast("list[bytes]", body), now)
        elif kind == "pong":
            rtt = float(now - cast("int", body))
            self._record(Sampled(wire.source, now, "pong", rtt))
            effects = self.pump.sampled(wire.source, "pong", rtt, now)
            self.eyes.heard(wire.source, now)
            self.after(effects)
        elif kind == "accepted":
            self.connected(wire, now)
        elif kind == "refused":
            status, retry_after_s = cast("tuple[int, float]", body)
            self.no_line(wire, f"refused: HTTP {status}", status, retry_after_s)
        elif kind == "close":
            code, text = cast("tuple[int, str]", body)
            self.gone(wire, f"closed_by_venue: {code} {text}".rstrip(), code)
        elif kind == "cut" and wire.open:
            self.gone(wire, "connection_lost: the socket closed without a close frame", 1006)
        elif kind == "cut":
            self.no_line(wire, "dial_failed: the connection was closed during the handshake", 0, -1.0)

    def _read(self, wire: Wire, frames: list[bytes], now: int) -> None:
        """The messages of one read; one of them may lead to our hanging up."""
        for data in frames:
            if wire.alive:
                self.message(wire, data, now)
        self.wake(now)

    def message(self, wire: Wire, data: bytes, now: int) -> None:
        """Record, judge, apply."""
        self._record(Frame(wire.source, now, data))
        effects = self.pump.frame(wire.source, data, now)
        self.eyes.heard(wire.source, now)
        self.eyes.framed(wire, data, now)
        if effects:
            self.apply(effects)
            self.arm()

    def wake(self, now: int) -> None:
        """Let the router settle what this read published, and wake whoever waits for it."""
        router = self.pump.router
        for box in router.flush(now):
            if (waker := self.wakers.get(box)) is not None:
                waker()
        self.arm_windows()

    def connected(self, wire: Wire, now: int) -> None:
        """The handshake is done."""
        self.dials[wire.source].remove(wire)
        wire.open = True
        self.wires[wire.source] = wire
        self._record(Opened(wire.source, now, self.pump.links[wire.source].url))
        effects = self.pump.opened(wire.source, now)
        self.eyes.opened(wire, now)
        self.after(effects)

    def gone(self, wire: Wire, reason: str, code: int = 0) -> None:
        """A connection ended; said once, whoever noticed first."""
        if not wire.alive:
            return
        wire.alive = False
        wire.hang_up()
        if self.wires.get(wire.source) is wire:
            del self.wires[wire.source]
        self.lost(wire.source, reason, code, -1.0)

    def no_line(self, wire: Wire, reason: str, code: int, retry_after_s: float) -> None:
        """No connection was made."""
        if wire.alive and not wire.open:
            wire.alive = False
            wire.hang_up()
            self.dials[wire.source].remove(wire)
            self.lost(wire.source, reason, code, retry_after_s)

    def lost(self, source: str, reason: str, code: int, retry_after_s: float) -> None:
        """Tell the pump."""
        now = self.clock.now
        self.eyes.losing(source, now)
        self._record(Lost(source, now, reason, code, retry_after_s))
        effects = self.pump.lost(source, reason, now, code, retry_after_s)
        self.eyes.lost(source, reason, now, retry_after_s)
        self.after(effects)

    def after(self, effects: list[Effect]) -> None:
        """What follows every input but a frame."""
        if effects:
            self.apply(effects)
        self.arm()
        self.wake(self.clock.now)

    def command(self, body: bytes) -> None:
        """An order to the pump, recorded like any input."""
        now = self.clock.now
        self._record(Command("", now, body))
        self.after(self.pump.command(body, now))

    # -- time -----------------------------------------------------------------------------------------------------------

    def arm(self) -> None:
        """One timer for the pump's next deadline."""
        due = self.pump.deadline
        if due is None or (self._armed and self._armed <= due):
            return
        self._armed = max(due, self.clock.now + TICK_MIN)
        self.clock.at(self._armed, partial(self._tick, self._armed))

    def _tick(self, armed: int) -> None:
        if armed != self._armed:
            return  # another was armed before it
        self._armed = 0
        now = self.clock.now
        self._record(Tick("", now))
        effects = self.pump.tick(now)
        self.eyes.ticked(now)
        self.after(effects)

    def arm_windows(self) -> None:
        """One timer for the conflating boxes."""
        due = self.pump.router.deadline
        if due is None or (self._window and self._window <= due):
            return
        self._window = max(due, self.clock.now)
        self.clock.at(self._window, partial(self._windows, self._window))

    def _windows(self, armed: int) -> None:
        if armed == self._window:
            self._window = 0
            self.wake(self.clock.now)

    # -- effects --------------------------------------------------------------------------------------------------------

    def apply(self, effects: list[Effect]) -> None:
        """Do what the pump asked for, in order."""
        for effect in effects:
            self.eyes.effect(effect, self.clock.now)
            wire = self.wires.get(effect.source)
            match effect:
                case Open():
                    self._dial(effect)
                case Fetch():
                    self._fetch(effect)
                case Send() if wire is not None:
                    self._record(Sent(effect.source, self.clock.now, effect.data))
                    wire.up.send(("data", effect.data))
                case Ping() if wire is not None:
                    wire.up.send(("ping", self.clock.now))
                case Close() if wire is not None:
                    self.gone(wire, effect.reason)
                case _:
                    pass  # the connection went meanwhile

    def _dial(self, effect: Open) -> None:
        self._numbers += 1
        site = self.site(effect.source)
        wire = Wire(self._numbers, effect.source, site.path, self, site)
        self.dials.setdefault(effect.source, []).append(wire)
        parts = urlsplit(effect.url)
        wire.up.send(("dial", f"{parts.path}?{parts.query}" if parts.query else parts.path))
        patience = self.patience(effect.source)
        why = f"dial_failed: no answer to the handshake within {patience / SECOND:g} s"
        self.clock.after(patience, partial(self.no_line, wire, why, 0, -1.0))

    def _fetch(self, effect: Fetch) -> None:
        key = (effect.source, effect.ref)
        self.flying[key] = self.flying.get(key, 0) + 1

        def done(status: int, body: bytes, retry_after_s: float) -> None:
            self.flying[key] -= 1
            now = self.clock.now
            self._record(Fetched(effect.source, now, effect.ref, status, body, retry_after_s))
            effects = self.pump.fetched(effect.source, effect.ref, status, body, now, retry_after_s)
            self.eyes.fetched(effect.source, effect.ref, status, now, retry_after_s)
            self.after(effects)

        self.site(effect.source).fetch(effect.url, done)


def _nothing() -> None:
    """No checkpoint is wanted."""
