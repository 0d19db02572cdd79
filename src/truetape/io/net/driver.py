"""The hands of the pump: sockets, timers and fetches. It applies effects, records inputs before they are judged, and decides nothing.

One callback for each frame, no queue and no task for each; one timer; one TaskGroup for what must wait (dials, fetches). Consumers are
woken once for each read of a socket, when the last frame of the buffer was judged.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from picows import WSMsgType

from truetape.core.clocks import Jump, Slept
from truetape.core.feed.delay import SAMPLE_EVERY, Stages
from truetape.core.route.mailbox import Mailbox
from truetape.core.route.pump import Pump
from truetape.io.clock import KEEPER, Keeper
from truetape.io.clock import now as clock
from truetape.io.net.certificates import Certificates
from truetape.io.net.dial import Dialing, Failed, dial
from truetape.io.net.http import Getter
from truetape.io.net.line import Line
from truetape.io.net.pins import tls_version
from truetape.io.net.recorder import Recorder
from truetape.model import record
from truetape.model.effect import Close, Doubt, Effect, Fetch, Open, Ping, Send

__all__ = ["Dialing", "Driver", "Recorder"]

SECOND = 1_000_000_000
TICK_MIN_S = 0.01
"""Ticks are coalesced to one record in 10 ms at most."""
FRAME = record.FRAME
GIVE_UP_S = 1.0
"""How long `run` waits for its sockets to close at the end."""


class Driver:
    """Runs a pump on real sockets. `dialing(source)` says how; `recorder` keeps inputs; `woken` is told which boxes have something."""

    def __init__(
        self,
        pump: Pump,
        dialing: Callable[[str], Dialing],
        *,
        recorder: Recorder | None = None,
        redact: Callable[[str], str] = str,
        log: Callable[..., None] | None = None,
        seen: Callable[..., None] | None = None,
        keeper: Keeper = KEEPER,
    ) -> None:
        self.pump = pump
        self.judge = pump.frame
        self.dialing = dialing
        self.append = recorder.append if recorder is not None else _nowhere
        self.keeper = keeper
        self.redact = redact
        self.log = log if log is not None else _nowhere
        self.seen = (
            seen if seen is not None else _nowhere
        )  # (step, source, now): each step of a connection, never a message
        self.stages = Stages()
        self.unsampled = SAMPLE_EVERY  # reads until the next that is measured
        self.wakers: dict[Mailbox, Callable[[], None]] = {}
        self._lines: dict[str, Line] = {}
        self._getter = Getter()
        self._certificates = Certificates(lambda event, **fields: self.log(event, **fields))  # noqa: PLW0108  tests put another `log`
        self.certificate_days = self._certificates.days  # of each connection over TLS, when it was dialed
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[asyncio.Task[None], Line | str] = {}  # dials with their lines, fetches with their sources
        self._failure: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0
        self._windows: asyncio.TimerHandle | None = None
        self._window_due = 0
        self._stop = asyncio.Event()

    # -- life -----------------------------------------------------------------------------------------------------------

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Dial everything and serve until `stop`; then close in order. What `fail` was told comes out of it."""
        self._loop = asyncio.get_running_loop()
        self.keeper.listeners.append(self._jumped)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.apply(self.pump.start(clock()))
                self.arm()
                started()
                await self._stop.wait()
                if self._failure is not None:
                    raise self._failure
                self._close()
                await self._settle()
        finally:
            self.keeper.listeners.remove(self._jumped)
            self._close()
            self._group = None
            for timer in (self._timer, self._windows):
                if timer is not None:
                    timer.cancel()
            await self._getter.close()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether `run` was asked to end, or has failed."""
        return self._stop.is_set()

    def fail(self, error: Exception) -> None:
        """A bug: the pump may be half changed, so nothing more is judged by it, and `run` ends with the error.

        picows would swallow it, hang up and go on; a timer would die in silence.
        """
        if self._failure is None:
            self._failure = error
        for line in self._lines.values():
            line.alive = False
        self._stop.set()

    def _close(self) -> None:
        for line in self._lines.values():
            line.alive = False
            line.end()
        self._lines.clear()

    async def _settle(self) -> None:
        """Give up what is on its way, and let the sockets that stand close."""
        for task, line in self._tasks.items():
            if isinstance(line, str) or line.transport is None:
                task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=GIVE_UP_S)
        for task, line in list(self._tasks.items()):
            if not isinstance(line, str):
                line.abort()
            task.cancel()

    # -- inputs ---------------------------------------------------------------------------------------------------------

    def message(self, source: str, data: bytes, last: bool) -> None:
        """One whole message: record, judge, wake."""
        now = clock()
        self.append((FRAME, source, now, data), len(data) + 48)
        effects = self.judge(source, data, now)
        if effects:
            self.apply(effects)
            self.arm()
        if last:
            self.wake(now)

    def wake(self, now: int) -> None:
        """Let the router settle what this read published, and wake whoever waits for it."""
        router = self.pump.router
        for box in router.flush(now):
            if (waker := self.wakers.get(box)) is not None:
                waker()
        if router.deadline is not None:
            self.arm_windows()

    def measure(self, now: int) -> None:
        """A read that ended with the message of `now` is done, mailboxes included."""
        self.unsampled = SAMPLE_EVERY
        self.stages.decode.add(clock() - now)

    def connected(self, line: Line) -> None:
        """The handshake is done."""
        if not line.alive:
            line.abort()  # given up in the last step of its handshake
            return
        now = clock()
        self._lines[line.source] = line
        session = self.pump.links[line.source].session
        shown = session.url if session is not None else ""
        self.append((record.OPENED, line.source, now, shown), 96)
        self._after(self.pump.opened(line.source, now), now)
        self.log("connected", source=line.source)
        self.seen("open", line.source, now, tls=tls_version(line.transport))

    def gone(self, line: Line, reason: str, code: int = 0, said: str = "", *, abort: bool = False) -> None:
        """A connection ended; said once, whoever noticed first."""
        if not line.alive:
            return
        line.alive = False
        if self._lines.get(line.source) is line:
            del self._lines[line.source]
        if abort:
            line.abort()
        self._lost(line.source, reason, code, said=said)

    def _lost(self, source: str, reason: str, code: int, retry_after_s: float = -1.0, said: str = "") -> None:
        now = clock()
        reason, said = self.redact(reason), self.redact(said)
        self.append((record.LOST, source, now, reason, code, retry_after_s, said), 96 + len(said))
        self._after(self.pump.lost(source, reason, now, code, retry_after_s, said), now)
        self.log("connection lost", source=source, reason=reason)
        self.seen("lost", source, now)

    def ponged(self, line: Line, rtt: int) -> None:
        """A pong for our ping of `rtt` ns ago; -1 where it does not say which."""
        self._sampled(line.source, "pong", float(rtt))

    def _sampled(self, source: str, name: str, value: float) -> None:
        """A measurement that judgement uses."""
        now = clock()
        self.append((record.SAMPLED, source, now, name, value), 48)
        self._after(self.pump.sampled(source, name, value, now), now)

    def _after(self, effects: list[Effect], now: int) -> None:
        if effects:
            self.apply(effects)
        self.arm()
        self.wake(now)

    # -- time -----------------------------------------------------------------------------------------------------------

    def arm(self) -> None:
        """Set the one timer to the pump's next deadline."""
        due = self.pump.deadline
        if due is None or self._loop is None or (self._timer is not None and self._due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_later(max(TICK_MIN_S, (due - clock()) / SECOND), self._tick)

    def arm_windows(self) -> None:
        """Set the timer of the conflating boxes: mailboxes keep time of their own, outside the records."""
        due = self.pump.router.deadline
        if due is None or self._loop is None or (self._windows is not None and self._window_due <= due):
            return
        if self._windows is not None:
            self._windows.cancel()
        self._window_due = due
        self._windows = self._loop.call_later(max(0.0, (due - clock()) / SECOND), self._window)

    def _window(self) -> None:
        self._windows = None
        try:
            self.wake(clock())
        except Exception as error:  # noqa: BLE001  see `fail`
            self.fail(error)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.keeper.look()
            now = clock()
            self.append((record.TICK, "", now), 16)
            self._after(self.pump.tick(now), now)
        except Exception as error:  # noqa: BLE001  see `fail`
            self.fail(error)

    def _jumped(self, jump: Jump) -> None:
        """The machine slept, or the wall clock was set: a record, so that a replay judges the same."""
        name = "slept" if isinstance(jump, Slept) else "stepped"
        self._sampled("", name, float(jump.ns))
        self.log(name, seconds=round(jump.ns / SECOND, 3))

    def sampled(self, name: str, value: float) -> None:
        """A measurement of the process itself, kept as evidence: no judgement of the pump depends on it."""
        self.append((record.SAMPLED, "", clock(), name, float(value)), 48)

    def command(self, body: bytes) -> None:
        """An order to the pump, recorded like any input."""
        now = clock()
        self.append((record.COMMAND, "", now, body), len(body) + 32)
        self._after(self.pump.command(body, now), now)

    # -- effects --------------------------------------------------------------------------------------------------------

    def apply(self, effects: list[Effect]) -> None:
        """Do what the pump asked for, in order."""
        for effect in effects:
            match effect:
                case Send():
                    self._send(effect)
                case Ping():
                    self._ping(effect)
                case Open():
                    self.seen("dial", effect.source, clock())
                    how = self.dialing(effect.source)
                    line = Line(self, effect.source, how)
                    self._spawn(self._dial(line, effect.url, how), line)
                case Fetch():
                    self._spawn(self._fetch(effect), effect.source)
                case Close():
                    self._hang_up(effect)
                case Doubt():
                    if (stands := self._lines.get(effect.source)) is not None:
                        stands.doubtful = True

    def _spawn(self, coroutine: Any, line: Line | str) -> None:
        if self._group is None or self._stop.is_set():
            coroutine.close()
            return
        task = self._group.create_task(coroutine)
        self._tasks[task] = line
        task.add_done_callback(lambda task: self._tasks.pop(task, None) and None)

    def _send(self, effect: Send) -> None:
        line = self._lines.get(effect.source)
        if line is None or line.transport is None:
            return
        self.append((record.SENT, effect.source, clock(), effect.data), len(effect.data) + 48)
        data = effect.data
        secret = self.dialing(effect.source).secret
        if secret is not None and b"{secret}" in data:
            try:
                data = data.replace(b"{secret}", json.dumps(secret())[1:-1].encode())
            except LookupError as error:
                self.gone(line, f"connection_lost: {error}", abort=True)
                return
        line.transport.send(WSMsgType.TEXT, data)

    def _ping(self, effect: Ping) -> None:
        line = self._lines.get(effect.source)
        if line is None or line.transport is None:
            return
        waiting, before = line.ping(clock()), line.unsent
        line.unsent = waiting
        if waiting or before:  # a ping that cannot leave is known by what it stands behind
            self._sampled(line.source, "unsent", float(waiting))

    def _hang_up(self, effect: Close) -> None:
        if effect.final:
            self._forget(effect)
            return
        line = self._lines.get(effect.source)
        if line is None:
            return
        if not effect.abort:
            line.end()
        self.gone(line, effect.reason, abort=effect.abort)

    def _forget(self, effect: Close) -> None:
        """Nothing more is heard of this connection, whatever it was about to say: its name may be another's from now on."""
        source = effect.source
        line = self._lines.pop(source, None)
        if line is not None:
            line.alive = False
            line.end()
            self.log("connection closed", source=source, reason=effect.reason)
        for task, what in list(self._tasks.items()):
            if what == source:
                task.cancel()
            elif not isinstance(what, str) and what.source == source:
                what.alive = False
                if what.transport is None:
                    task.cancel()
        self._certificates.forget(source)

    async def _dial(self, line: Line, url: str, how: Dialing) -> None:
        """Make one connection, and stay until it is closed; whatever goes wrong is an input, never an exception."""
        try:
            if how.secret is not None:
                url = url.replace("{secret}", quote(how.secret(), safe=""))
            transport = await dial(line, url, how, lambda: self.seen("tcp", line.source, clock()))
            self._certificates.dialed(line.source, transport)
        except LookupError as error:
            self._no_line(line, Failed(f"dial_failed: {error}"))
        except Failed as error:
            self._no_line(line, error)
        else:
            try:
                await transport.wait_disconnected()
            except Exception:  # noqa: BLE001  what picows hung up for; the line has told it already
                pass

    def _no_line(self, line: Line, why: Failed) -> None:
        if line.alive:
            line.alive = False
            self._lost(line.source, why.reason, why.code, why.retry_after_s, why.said)

    async def _fetch(self, effect: Fetch) -> None:
        how = self.dialing(effect.source)
        answer = await self._getter.get(effect.url, ssl_context=how.ssl_context, proxy=how.proxy)
        now = clock()
        row = (record.FETCHED, effect.source, now, effect.ref, answer.status, answer.body, answer.retry_after_s)
        self.append(row, len(answer.body) + 72)
        self._certificates.fetched(effect.source, answer.certificate_days)
        if answer.status != 200:
            why = answer.body[:200].decode("utf-8", "replace")
            self.log("fetch failed", source=effect.source, ref=effect.ref, status=answer.status, why=why)
        self._after(
            self.pump.fetched(effect.source, effect.ref, answer.status, answer.body, now, answer.retry_after_s), now
        )


def _nowhere(*_args: Any, **_named: Any) -> None:
    """No journal, no log."""
