"""One socket as picows tells of it: fragments joined, each message stamped and recorded, breaches of RFC 6455 named.

A whole message of more than 125 bytes, which almost all are, is looked at only where the pump could not read it: see `_doubt`.

Next door: `dial.py` makes the connection; `driver.py` owns the pump that is told of everything here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from truetape.core.serve.rfc6455 import (
    CLOSE,
    CONTROL_MAX,
    NO_CODE,
    PING,
    PONG,
    Assembler,
    Breach,
    closing,
    control,
)
from truetape.io.amends import NORMAL, retrieve
from truetape.io.clock import now as clock
from truetape.io.net.dial import Dialing, breach_of
from truetape.model import record

if TYPE_CHECKING:
    from truetape.io.net.driver import Driver

OPCODES = {kind: kind.value for kind in WSMsgType}
LOST = 1006
"""What the end of a connection without a close frame is called."""
FRAME = record.FRAME
FRAGMENTS_MAX = 65_536
"""Of one message. Empty ones cost the sender two bytes and us sixty."""
PINGS_MAX = 64
"""Unanswered pings whose times are kept."""


class Line(WSListener):
    """One socket: joins fragments, stamps and records each message, hands it to the pump."""

    def __init__(self, driver: Driver, source: str, how: Dialing) -> None:
        self.driver = driver
        self.source = source
        self.largest = how.message_max
        self.close_s = how.close_s
        self.transport: WSTransport | None = None
        self.partial = False  # within a message in fragments
        self.alive = True
        self.doubtful = False  # the pump could not read a message
        self._assembler = Assembler(self.largest, FRAGMENTS_MAX)
        self.unsent = 0  # bytes that waited for the socket at the last ping
        self._pings: dict[bytes, int] = {}  # what each ping carried that is not answered yet -> when it was written
        self._count = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        try:
            self.driver.connected(self)
        except Exception as error:  # noqa: BLE001  see Driver.fail
            self.driver.fail(error)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if not self.alive:
            return  # bytes of a connection that was given up must never follow its successor's
        try:
            if CONTROL_MAX < frame.payload_size <= self.largest and frame.fin and not self.partial:
                # `Driver.message`, without the call
                driver, source, data, now = self.driver, self.source, frame.get_payload_as_bytes(), clock()
                driver.append((FRAME, source, now, data), len(data) + 48)
                if effects := driver.judge(source, data, now):
                    driver.apply(effects)
                    driver.arm()
                    if self.doubtful:
                        self.doubtful = False
                        self._doubt(frame, data)
                if frame.last_in_buffer:
                    driver.wake(now)
                    driver.unsampled -= 1
                    if driver.unsampled < 0:
                        driver.measure(now)
                return
            self._seldom(transport, frame)
        except Exception as error:  # noqa: BLE001  see Driver.fail
            self.driver.fail(error)

    def _seldom(self, transport: WSTransport, frame: WSFrame) -> None:
        """Short messages, messages in fragments, control frames, and what is nothing of all that."""
        opcode, payload = OPCODES[frame.msg_type], frame.get_payload_as_bytes()
        reserved = frame.rsv1 or frame.rsv2 or frame.rsv3
        try:
            if opcode < CLOSE:
                whole = self._assembler.frame(opcode, frame.fin, reserved, payload)
                self.partial = not frame.fin
                if whole is not None:
                    self.driver.message(self.source, whole[1], frame.last_in_buffer)
                    self.doubtful = False  # it was looked at already
                return
            control(opcode, frame.fin, reserved, payload)
            if opcode == PONG:
                self._ponged(payload)
            elif opcode == PING:
                transport.send_pong(payload)
            else:
                self._closed(transport, payload)
        except Breach as breach:
            self._breach(breach)

    def _doubt(self, frame: WSFrame, data: bytes) -> None:
        """A long message could not be read: is it one at all? To ask that of each would cost the sound ones what only the broken owe."""
        try:
            Assembler(self.largest).frame(OPCODES[frame.msg_type], True, frame.rsv1 or frame.rsv2 or frame.rsv3, data)
        except Breach as breach:
            self._breach(breach)

    def ping(self, now: int) -> int:
        """Write a protocol ping; returns how many bytes still wait for the socket, its own left out: what it stands behind."""
        assert self.transport is not None, "only lines that stand are pinged"
        waiting = int(self.transport.underlying_transport.get_write_buffer_size())
        self._count += 1
        if len(self._pings) >= PINGS_MAX:
            del self._pings[next(iter(self._pings))]
        mark = b"%d" % self._count
        self._pings[mark] = now
        self.transport.send_ping(mark)
        return waiting

    def _ponged(self, mark: bytes) -> None:
        """A pong; one that nobody asked for says nothing. One may answer several pings (RFC 6455, 5.5.3)."""
        if not self._pings:
            return
        sent = self._pings.get(mark)
        if sent is None:  # it answers no ping in particular, but somebody wrote it
            self.driver.ponged(self, -1)
            return
        now = clock()
        for earlier in list(self._pings):
            del self._pings[earlier]
            if earlier == mark:
                break
        self.driver.ponged(self, now - sent)

    def _breach(self, breach: Breach) -> None:
        self.end(breach.code)
        self.driver.gone(self, f"connection_lost: {breach}", breach.code)

    def _closed(self, transport: WSTransport, payload: bytes) -> None:
        """The venue's close frame, which is answered in kind; or its answer to one that picows sent. Raises Breach."""
        if (breach := breach_of(transport)) is not None:
            self.driver.gone(self, f"connection_lost: {breach[0]}", breach[1])
            return
        code, said = closing(payload)
        if code == NO_CODE:
            transport.send(WSMsgType.CLOSE, b"")
            transport.disconnect()
        else:
            self.end(code)
        self.driver.gone(self, f"closed_by_venue: {code} {said}".rstrip(), code, said)

    def end(self, code: int = NORMAL) -> None:
        """Say goodbye and hang up; what could not be sent within `close_s` is dropped."""
        if self.transport is not None and not self.transport.is_disconnected:
            self.transport.send_close(code)  # type: ignore[arg-type]  # any number goes; the enum has but the standard's
            self.transport.disconnect()
            asyncio.get_running_loop().call_later(self.close_s, self.transport.disconnect, False)

    def abort(self) -> None:
        """Drop the socket without a word."""
        if self.transport is not None and self.transport.underlying_transport is not None:
            self.transport.underlying_transport.abort()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        try:
            what, code = breach_of(transport) or ("the socket closed without a close frame", LOST)
            self.driver.gone(self, f"connection_lost: {what}", code)
        except Exception as error:  # noqa: BLE001  see Driver.fail
            self.driver.fail(error)
        asyncio.get_running_loop().call_soon(lambda: retrieve(transport.wait_disconnected()))
