"""Drives one `Reader`: dials a gateway, moves its messages, and puts what comes into the box of whoever subscribed.

Next door: `core.serve.reader` decides; `gatepipe.py` is the socket; the app hands the box to a program.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Lock

import msgspec

from truetape.core.serve.errand import Dial, Drop, Effect, Ended, Give, Renew, Say, Stand
from truetape.core.serve.frames import Encoding
from truetape.core.serve.intake import Intake
from truetape.core.serve.reader import Reader
from truetape.io.clock import now as clock
from truetape.io.net.dial import Failed
from truetape.io.net.gatepipe import GatePipe, Where, reach
from truetape.model.event import Status
from truetape.model.wire import JSON, MSGPACK

SECOND = 1_000_000_000
IDLE_S = 1.0

_ENCODE: dict[Encoding, Callable[[object], bytes]] = {
    "json": msgspec.json.Encoder().encode,
    "msgpack": msgspec.msgpack.Encoder().encode,
}


class Uplink:
    """One connection to a gateway at a time. `wake` is called when there is something to take, or the end; `lock` guards the box.

    `token` is asked at each dial; it raises LookupError, with a text without the token.
    """

    def __init__(self, where: Where, encoding: Encoding, reader: Reader, token: Callable[[], str] | None) -> None:
        self.where = where
        self.reader = reader
        self.intake: Intake | None = None
        self.lock = Lock()
        self.wake: Callable[[], None] = _nobody
        self.settled = asyncio.Event()
        self._encode = _ENCODE[encoding]
        self._subprotocol = JSON if encoding == "json" else MSGPACK
        self._token = token
        self._pipe: GatePipe | None = None
        self._dial = False
        self._stirred = asyncio.Event()
        self._known_down = False

    async def run(self) -> None:
        """Until it ends: by the gateway's word, by `close`, or cancelled."""
        try:
            self._apply(self.reader.start(clock()))
            while self.reader.end is None:
                self._stirred.clear()
                if self._dial:
                    self._dial = False
                    await self._connect()
                    continue
                due = self.reader.deadline
                wait_s = IDLE_S if due is None else max(0.0, (due - clock()) / SECOND)
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(wait_s, IDLE_S)):
                        await self._stirred.wait()
                self._mend()
                self._apply(self.reader.tick(clock()))
        finally:
            self._apply(self.reader.close(clock()))

    async def greeted(self) -> None:
        """Until the gateway has answered and believes who we are, or has refused."""
        await self.settled.wait()

    def begin(self, intake: Intake, effects: list[Effect]) -> None:
        """This is what the connection is for from now on."""
        self.intake = intake
        self._apply(effects)

    def close(self) -> None:
        """End it."""
        self._apply(self.reader.close(clock()))

    async def _connect(self) -> None:
        token = ""
        try:
            if self._token is not None:
                token = self._token()
        except LookupError as error:
            self._apply(self.reader.failed(f"token: {error}", 0, -1.0, clock()))
            return
        if refused := self.reader.token_for_dial(token):
            self._apply(refused)
            return
        line = _Line(self)
        try:
            pipe = await reach(self.where, self._subprotocol, line)
        except Failed as error:
            said = f"{error.reason} {error.said}".strip()
            self._apply(self.reader.failed(said, error.code, error.retry_after_s, clock()))
            return
        if self.reader.state != "dialing":  # it was closed meanwhile
            pipe.close()
            return
        self._pipe = pipe
        self._apply(self.reader.opened(token, clock()))
        line.open()

    # -- what the connection tells --------------------------------------------------------------------------------------

    def message(self, data: bytes) -> None:
        """One whole message."""
        self._apply(self.reader.message(data, clock()))

    def heard(self) -> None:
        """A control frame."""
        self.reader.heard(clock())

    def lost(self, code: int, why: str) -> None:
        """The connection ended."""
        self._pipe = None
        self._apply(self.reader.lost(code, why, clock()))

    # -- effects --------------------------------------------------------------------------------------------------------

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Give():
                    self._give(effect)
                case Say():
                    if self._pipe is not None:
                        self._pipe.send(self._encode(effect.message))
                case Stand():
                    self._stand(effect)
                case Dial():
                    self._dial = True
                case Drop():
                    pipe, self._pipe = self._pipe, None
                    if pipe is not None:
                        pipe.close()
                case Renew():
                    self._renew()
                case Ended():
                    self.wake()
        self._look()

    def _give(self, effect: Give) -> None:
        assert self.intake is not None, "data come for a subscription"
        with self.lock:
            self.intake.put(effect.events, clock())
        self.wake()
        self._mend()

    def _stand(self, effect: Stand) -> None:
        assert self.intake is not None, "topics are of a subscription"
        with self.lock:
            self.intake.stand(effect.topics)

    def _mend(self) -> None:
        """Books of which the program's own box lost changes are asked for anew."""
        if self.intake is None or not self.intake.box.broken or self.reader.state != "live":
            return
        with self.lock:
            broken = [":".join(key) for key in self.intake.broken()]
        need = [topic for topic in broken if topic not in self.reader.whole]
        if need:
            self._apply(self.reader.refresh(need, clock()))

    def _renew(self) -> None:
        with suppress(LookupError):  # the next dial says it, if it is still so
            if self._token is not None:
                self._apply(self.reader.renewed(self._token(), clock()))

    def _look(self) -> None:
        """Tell waiting ones and the stream how the connection stands."""
        state = self.reader.state
        if state in ("live", "ended"):
            self.settled.set()
        if state in ("waiting", "dialing", "ended"):
            if state == "waiting" and not self._known_down and self.reader.epoch:
                self._known_down = True
                self._tell("STALE", self.reader.why)
            self._stirred.set()
        elif state == "live" and self._known_down and self.reader.want is not None:
            self._known_down = False
            self._tell("LIVE", "connected again")

    def _tell(self, state: str, reason: str) -> None:
        """A word of our own in the stream: of the process (no venue), as the gateway's own."""
        if self.intake is None:
            return
        now = clock()
        with self.lock:
            self.intake.put(
                [Status("", "gateway", "", now, "", state, f"gateway {self.where.name}: {reason}", since=now)], now
            )
        self.wake()


class _Line:
    """One connection of an uplink; what comes before `opened` was told waits, and what comes after the next one began is not heard."""

    def __init__(self, uplink: Uplink) -> None:
        self._uplink = uplink
        self._early: list[Callable[[], None]] | None = []

    def open(self) -> None:
        """The reader knows of it now."""
        early, self._early = self._early or [], None
        for tell in early:
            tell()

    def message(self, data: bytes) -> None:
        if self._early is None:
            self._uplink.message(data)
        else:
            self._early.append(lambda: self._uplink.message(data))

    def heard(self) -> None:
        if self._early is None:
            self._uplink.heard()

    def lost(self, code: int, why: str) -> None:
        if self._early is None:
            self._uplink.lost(code, why)
        else:
            self._early.append(lambda: self._uplink.lost(code, why))


def _nobody() -> None:
    """Nobody waits yet."""
