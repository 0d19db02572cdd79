"""The gateway's beat: four times a second, what the process itself is judged by.

How late the loop comes, how much memory is resident and who holds it, what became of the tape, and whether now is a good moment for the
garbage collector. It measures and carries out; `core/guard.py` and `core/lag.py` judge. Nothing here runs for a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from truetape.app import holders, memory
from truetape.app.calm import Calm, pauses
from truetape.app.trouble import Troubles
from truetape.core.guard import Guard, Order, Restart, Shed, Tell, Tidy
from truetape.core.lag import LagWatch
from truetape.io.clock import awake, cpu_s
from truetape.io.clock import now as clock
from truetape.io.obs import log
from truetape.io.store.journal import Journal
from truetape.model.event import Status

if TYPE_CHECKING:
    from truetape.app.live import Gateway

MS = 1_000_000
SECOND = 1_000_000_000
MB = 1_000_000
BEAT_S = 0.25
TROUBLES_BEATS = 4
BUSY, QUIET, QUIET_BEATS = 0.8, 0.5, 4
"""Shares of the processor that make a burst and end it, and so many beats for that."""


class Pulse:
    """Beats from `begin` to `end`. The gateway's `on_restart` is told why, once, when memory is at its limit and shedding did not help."""

    def __init__(self, gateway: Gateway) -> None:
        config = gateway.config
        self.guard = Guard(config.memory.budget_mb * MB, gateway.restarts)
        self.lag = LagWatch(round(config.loop_lag_ms * MS))
        self._gateway = gateway
        self._loop: asyncio.AbstractEventLoop
        self._calm = Calm()
        self._cpu_s = cpu_s()
        self._tape_state = "ok"
        self._quiet = 0  # beats since a burst, 0: none was
        self._troubles = Troubles(log.warning, log.info)
        self._beats = 0
        self._took = 0  # ns that the last beat itself held up the loop
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """The first beat is now; `restarts` of the gateway are settled."""
        self._loop = loop
        self.guard = Guard(self._gateway.config.memory.budget_mb * MB, self._gateway.restarts)
        self._beat(awake())

    def end(self) -> None:
        """No more."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self, due: int) -> None:
        began = clock()
        try:
            # the last beat's own work counts, a sleep of the machine does not
            self._lag(max(awake() - due, self._took), began)
            self._memory(began)
            if self._gateway.journal is not None:
                self._tell_of_the_tape(self._gateway.journal)
            self._gateway.look_at_keys()
            self._beats += 1
            if self._beats % TROUBLES_BEATS == 0:
                links = self._gateway.pump.links.values()
                self._troubles.look(stream for link in links for stream in link.streams.values())
            used, self._cpu_s = self._cpu_s, cpu_s()
            share = (self._cpu_s - used) / BEAT_S
            self._calm.beat(share)
            self._after_a_burst(share)
        except Exception as error:  # noqa: BLE001  a timer would die in silence; the driver ends the gateway with the error
            self._gateway.driver.fail(error)
            return
        self._took = clock() - began
        self._timer = self._loop.call_later(BEAT_S, self._beat, awake() + round(BEAT_S * SECOND))

    def _after_a_burst(self, share: float) -> None:
        """A second of quiet after a busy beat: what the burst took goes back to the system."""
        if share > BUSY:
            self._quiet = 1
        elif self._quiet:
            self._quiet = self._quiet + 1 if share < QUIET else 1
            if self._quiet > QUIET_BEATS:
                self._quiet = 0
                memory.trim()

    # -- the loop -------------------------------------------------------------------------------------------------------

    def _lag(self, late: int, now: int) -> None:
        if not (why := self.lag.beat(late, now)):
            return
        self._gateway.driver.sampled("loop_lag", late)
        (log.warning if self.lag.state == "lagging" else log.info)("loop", state=self.lag.state, reason=why)
        self._tell(self.lag.state.upper(), why, now)

    def _tell(self, state: str, reason: str, now: int) -> None:
        """A notice about the process itself, for every consumer."""
        self._gateway.pump.router.notify(Status("", "", "", now, "", state, reason, since=now))
        self._gateway.driver.wake(now)

    # -- memory ---------------------------------------------------------------------------------------------------------

    def _memory(self, now: int) -> None:
        rss = memory.rss()
        if self.guard.wants(rss, now):
            self._gateway.driver.sampled("rss", rss)
            self._follow(self.guard.sampled(rss, holders.yielding(self.held()), now), now)

    def _follow(self, orders: Sequence[Order], now: int) -> None:
        """Carry out, in order. Of the bytes wanted, what an earlier kind freed is not taken again."""
        freed = 0
        for order in orders:
            match order:
                case Tidy():
                    (memory.tidy if order.garbage else memory.trim)()
                case Shed():
                    if freed < order.bytes:
                        count, size = holders.give_up(self._gateway, order.kind, order.bytes - freed, now)
                        self.guard.shed(order.kind, count, size)
                        freed += size
                case Tell():
                    (log.info if order.state == "ok" else log.warning)(
                        "memory", state=order.state, reason=order.reason, shed=self.guard.freed, held=self.held()
                    )
                    self._tell("OK" if order.state == "ok" else order.state.upper(), order.reason, now)
                case Restart():
                    self._gateway.on_restart(order.reason)
        if freed:
            memory.trim()
            self._gateway.driver.wake(now)

    def held(self) -> dict[str, int]:
        """Bytes by who declares them, estimated."""
        return holders.held(self._gateway)

    # -- the tape -------------------------------------------------------------------------------------------------------

    def _tell_of_the_tape(self, journal: Journal) -> None:
        """What became of the tape is said once, when it changes."""
        found = journal.status()
        if found.state != self._tape_state:
            self._tape_state = found.state
            say = log.info if found.state == "ok" else log.warning
            say(f"journal {found.state}", reason=found.reason, holes=found.holes, missing=found.missing)

    # -- for the status -------------------------------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """The parts of the status that are about the process."""
        guard, lag = self.guard, self.lag
        return {
            "memory": {
                "rss_mb": round(memory.rss() / MB, 1),
                "budget_mb": guard.budget // MB,
                "peak_mb": round(memory.peak() / MB, 1),
                "state": guard.state,
                "reason": guard.reason,
                "held_mb": {kind: round(size / MB, 3) for kind, size in self.held().items()},
                "shed": {kind: {"count": n, "mb": round(size / MB, 3)} for kind, (n, size) in guard.freed.items()},
                "restarts": guard.restarts.count,
            },
            "loop_lag_ms": round(lag.recent / MS, 3),
            "loop": {
                "state": lag.state,
                "since": lag.since,
                "longest_lag_ms": round(lag.longest / MS, 3),
                "lagged": lag.times,
            },
            "gc": {
                "longest_pause_ms": round(pauses.longest_ns / MS, 3),
                "total_pause_ms": round(pauses.total_ns / MS, 3),
                "collections": list(pauses.collections),
            },
        }
