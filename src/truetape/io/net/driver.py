"""The hands of the pump: sockets, timers and fetches. It applies effects, records inputs before they are judged, and decides nothing.

One callback for each frame, no queue and no task for each; one timer; one TaskGroup for what must wait (dials, fetches). Consumers are
woken once for each read of a socket, when the last frame of the buffer was judged.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct
from picows import WSError, WSFrame, WSInvalidStatusError, WSListener, WSMsgType, WSTransport, ws_connect

from truetape.core.route.mailbox import Mailbox
from truetape.core.route.pump import Pump
from truetape.io.clock import now as clock
from truetape.io.net.http import Getter
from truetape.model import record
from truetape.model.effect import Close, Effect, Fetch, Open, Ping, Send

SECOND = 1_000_000_000
TICK_MIN_S = 0.01
"""Ticks are coalesced to one record in 10 ms at most."""
TEXT, BINARY, PONG, CLOSE, CONTINUATION = (
    WSMsgType.TEXT,
    WSMsgType.BINARY,
    WSMsgType.PONG,
    WSMsgType.CLOSE,
    WSMsgType.CONTINUATION,
)
CONTROL_MAX = 125
"""A longer frame is no control frame (RFC 6455, 5.5): the usual message is known by its size, for asking its kind costs 100 ns."""
FRAME = record.FRAME
PICOWS_LOG = logging.getLogger("truetape.picows")
PICOWS_LOG.setLevel(logging.WARNING)  # at DEBUG it would write request lines, and with them keys


class Dialing(Struct, frozen=True):
    """How the connections of one feed are made. `secret` is asked on each dial."""

    handshake_s: float = 10.0
    dial_s: float = 5.0
    close_s: float = 10.0
    secret: Callable[[], str] | None = None
    ssl_context: Any = None
    proxy: str | None = None
    message_max: int = 64 * 1024 * 1024


class Recorder(Protocol):
    """Where inputs go before they are judged: the journal, or nowhere."""

    def append(self, record: tuple[Any, ...], size: int) -> None:
        """Keep one record, in the array form of `model.record`."""


class Line(WSListener):
    """One socket: joins fragments, stamps and records each message, hands it to the pump."""

    def __init__(self, driver: Driver, source: str) -> None:
        self.driver = driver
        self.source = source
        self.transport: WSTransport | None = None
        self.parts: list[bytes] = []
        self.size = 0
        self.alive = True
        self.pinged = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.driver.connected(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if not self.alive:
            return  # bytes of a connection that was given up must never follow its successor's
        if frame.payload_size > CONTROL_MAX and frame.fin and not self.parts:
            # `Driver.message`, without the call
            driver, source, data, now = self.driver, self.source, frame.get_payload_as_bytes(), clock()
            driver.append((FRAME, source, now, data), len(data) + 48)
            if effects := driver.judge(source, data, now):
                driver.apply(effects)
                driver.arm()
            if frame.last_in_buffer:
                driver.wake(now)
            return
        kind = frame.msg_type
        if kind is TEXT and frame.fin:
            self.driver.message(self.source, frame.get_payload_as_bytes(), frame.last_in_buffer)
        elif kind is PONG:
            self.driver.ponged(self)
        elif kind is CLOSE:
            code = int(frame.get_close_code().value)
            transport.send_close(frame.get_close_code())
            transport.disconnect()
            self.driver.gone(self, f"closed_by_venue: {code} {frame.get_close_reason() or ''}".rstrip(), code)
        elif kind in (TEXT, BINARY, CONTINUATION):
            self._part(frame)

    def _part(self, frame: WSFrame) -> None:
        """Binary messages, and messages in fragments."""
        if frame.msg_type is not CONTINUATION:
            self.parts, self.size = [], 0
        self.parts.append(frame.get_payload_as_bytes())
        self.size += frame.payload_size
        if self.size > self.driver.dialing(self.source).message_max:
            self.driver.gone(self, f"connection_lost: a message of more than {self.size} bytes", 1009, abort=True)
        elif frame.fin:
            whole, self.parts = b"".join(self.parts), []
            self.driver.message(self.source, whole, frame.last_in_buffer)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.driver.gone(self, "connection_lost: the socket closed without a close frame", 1006)


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
    ) -> None:
        self.pump = pump
        self.judge = pump.frame
        self.dialing = dialing
        self.append = recorder.append if recorder is not None else _nowhere
        self.redact = redact
        self.log = log if log is not None else _nowhere
        self.wakers: dict[Mailbox, Callable[[], None]] = {}
        self._lines: dict[str, Line] = {}
        self._getter = Getter()
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0
        self._windows: asyncio.TimerHandle | None = None
        self._window_due = 0
        self._stop = asyncio.Event()

    # -- life -----------------------------------------------------------------------------------------------------------

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Dial everything and serve until `stop`; then close in order."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.apply(self.pump.start(clock()))
                self.arm()
                started()
                await self._stop.wait()
                self._close()
                for task in list(self._tasks):
                    task.cancel()
        finally:
            self._group = None
            for timer in (self._timer, self._windows):
                if timer is not None:
                    timer.cancel()
            await self._getter.close()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stop.set()

    def _close(self) -> None:
        for line in self._lines.values():
            line.alive = False
            if line.transport is not None:
                line.transport.send_close()
                line.transport.disconnect()
        self._lines.clear()

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

    def connected(self, line: Line) -> None:
        """The handshake is done."""
        now = clock()
        self._lines[line.source] = line
        shown = self.pump.links[line.source].url
        self.append((record.OPENED, line.source, now, shown), 96)
        self._after(self.pump.opened(line.source, now), now)
        self.log("connected", source=line.source)

    def gone(self, line: Line, reason: str, code: int = 0, *, abort: bool = False) -> None:
        """A connection ended; said once, whoever noticed first."""
        if not line.alive:
            return
        line.alive = False
        if self._lines.get(line.source) is line:
            del self._lines[line.source]
        if abort and line.transport is not None and line.transport.underlying_transport is not None:
            line.transport.underlying_transport.abort()
        self._lost(line.source, reason, code)

    def _lost(self, source: str, reason: str, code: int, retry_after_s: float = -1.0) -> None:
        now = clock()
        reason = self.redact(reason)
        self.append((record.LOST, source, now, reason, code, retry_after_s), 96)
        self._after(self.pump.lost(source, reason, now, code, retry_after_s), now)
        self.log("connection lost", source=source, reason=reason)

    def ponged(self, line: Line) -> None:
        """A pong for our ping."""
        now = clock()
        rtt = now - line.pinged
        self.append((record.SAMPLED, line.source, now, "pong", float(rtt)), 48)
        self._after(self.pump.ponged(line.source, rtt, now), now)

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
        self.wake(clock())

    def _tick(self) -> None:
        now = clock()
        self._timer = None
        self.append((record.TICK, "", now), 16)
        self._after(self.pump.tick(now), now)

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
                    self._spawn(self._dial(effect))
                case Fetch():
                    self._spawn(self._fetch(effect))
                case Close():
                    self._hang_up(effect)

    def _spawn(self, coroutine: Any) -> None:
        if self._group is None or self._stop.is_set():
            coroutine.close()
            return
        task = self._group.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _secret(self, source: str) -> str:
        secret = self.dialing(source).secret
        return secret() if secret is not None else ""

    def _send(self, effect: Send) -> None:
        line = self._lines.get(effect.source)
        if line is None or line.transport is None:
            return
        self.append((record.SENT, effect.source, clock(), effect.data), len(effect.data) + 48)
        data = effect.data
        if b"{secret}" in data:
            data = data.replace(b"{secret}", self._secret(effect.source).encode())
        line.transport.send(TEXT, data)

    def _ping(self, effect: Ping) -> None:
        line = self._lines.get(effect.source)
        if line is not None and line.transport is not None:
            line.pinged = clock()
            line.transport.send_ping(b"")

    def _hang_up(self, effect: Close) -> None:
        line = self._lines.get(effect.source)
        if line is None:
            return
        if not effect.abort and line.transport is not None:
            line.transport.send_close()
            line.transport.disconnect()
        self.gone(line, effect.reason, abort=effect.abort)

    async def _dial(self, effect: Open) -> None:
        """Make one connection; whatever goes wrong is an input, never an exception."""
        source = effect.source
        how = self.dialing(source)
        code, retry_after_s = 0, -1.0
        line = Line(self, source)
        try:
            url = effect.url.replace("{secret}", self._secret(source))
            async with asyncio.timeout(how.dial_s + how.handshake_s):
                await ws_connect(
                    lambda: line,
                    url,
                    ssl_context=how.ssl_context
                    if how.ssl_context is not None or not url.startswith("wss")
                    else ssl.create_default_context(),
                    websocket_handshake_timeout=how.handshake_s,
                    logger_name=PICOWS_LOG,
                    max_frame_size=how.message_max,
                    proxy=how.proxy,
                    max_redirects=0,
                )
            return
        except WSInvalidStatusError as error:
            if (response := error.response) is not None:
                code = int(response.status)
                after = response.headers.get("Retry-After", "")
                retry_after_s = float(after) if after.replace(".", "", 1).isdecimal() else -1.0
            reason = f"refused: HTTP {code}"
        except TimeoutError:
            reason = f"dial_failed: no connection within {how.dial_s + how.handshake_s:g} s"
        except (WSError, OSError, ValueError) as error:
            reason = f"dial_failed: {type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001  a secret that cannot be read: the session decides when to try again
            reason = f"dial_failed: {error}"
        if line.alive:
            line.alive = False
            self._lost(source, reason, code, retry_after_s)

    async def _fetch(self, effect: Fetch) -> None:
        answer = await self._getter.get(effect.url)
        now = clock()
        self.append((record.FETCHED, effect.source, now, effect.ref, answer.status, answer.body), len(answer.body) + 64)
        if answer.status != 200:
            self.log("fetch failed", source=effect.source, ref=effect.ref, status=answer.status)
        self._after(
            self.pump.fetched(effect.source, effect.ref, answer.status, answer.body, now, answer.retry_after_s), now
        )


def _nowhere(*_args: Any, **_named: Any) -> None:
    """No journal, no log."""
