"""One socket as picows tells of it: fragments joined, each message stamped and recorded, breaches of the protocol named.

Next door: `dial.py` makes the connection; `driver.py` owns the pump that is told of everything here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from truetape.io.clock import now as clock
from truetape.io.net.dial import Dialing
from truetape.model import record

if TYPE_CHECKING:
    from truetape.io.net.driver import Driver

TEXT, BINARY, PONG, CLOSE, CONTINUATION = (
    WSMsgType.TEXT,
    WSMsgType.BINARY,
    WSMsgType.PONG,
    WSMsgType.CLOSE,
    WSMsgType.CONTINUATION,
)
NO_CODE = 1005
"""What a close frame without a code is called; it is never sent."""
CONTROL_MAX = 125
"""A longer frame is no control frame (RFC 6455, 5.5): the usual message is known by its size, for asking its kind costs 100 ns."""
FRAME = record.FRAME
FRAGMENTS_MAX = 65_536
"""Of one message. Empty ones cost the sender two bytes and us sixty."""
PINGS_MAX = 64
"""Unanswered pings whose times are kept."""
BYE = WSCloseCode.OK


class Line(WSListener):
    """One socket: joins fragments, stamps and records each message, hands it to the pump."""

    def __init__(self, driver: Driver, source: str, how: Dialing) -> None:
        self.driver = driver
        self.source = source
        self.largest = how.message_max
        self.close_s = how.close_s
        self.transport: WSTransport | None = None
        self.parts: list[bytes] = []
        self.size = 0
        self.alive = True
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
            if CONTROL_MAX < frame.payload_size <= self.largest and frame.fin and not self.parts:
                # `Driver.message`, without the call
                driver, source, data, now = self.driver, self.source, frame.get_payload_as_bytes(), clock()
                driver.append((FRAME, source, now, data), len(data) + 48)
                if effects := driver.judge(source, data, now):
                    driver.apply(effects)
                    driver.arm()
                if frame.last_in_buffer:
                    driver.wake(now)
                    driver.unsampled -= 1
                    if driver.unsampled < 0:
                        driver.measure(now)
                return
            kind = frame.msg_type
            if kind is PONG:
                self._ponged(frame)
            elif kind is CLOSE:
                self._closed(transport, frame)
            elif kind in (TEXT, BINARY, CONTINUATION):
                self._part(kind, frame)
        except Exception as error:  # noqa: BLE001  see Driver.fail
            self.driver.fail(error)

    def _part(self, kind: WSMsgType, frame: WSFrame) -> None:
        """Short messages, messages in fragments, and what is no message."""
        self.size += frame.payload_size
        if self.size > self.largest:
            self._breach(WSCloseCode.MESSAGE_TOO_BIG, f"a message of more than {self.largest} bytes")
        elif (kind is CONTINUATION) != bool(self.parts):
            what = "a continuation of nothing" if kind is CONTINUATION else "a message inside another"
            self._breach(WSCloseCode.PROTOCOL_ERROR, what)
        elif not frame.fin:
            self.parts.append(frame.get_payload_as_bytes())
            if len(self.parts) > FRAGMENTS_MAX:
                self._breach(WSCloseCode.MESSAGE_TOO_BIG, f"a message of more than {FRAGMENTS_MAX} fragments")
        else:
            data = frame.get_payload_as_bytes()
            if self.parts:
                data, self.parts = b"".join(self.parts) + data, []
            self.size = 0
            self.driver.message(self.source, data, frame.last_in_buffer)

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

    def _ponged(self, frame: WSFrame) -> None:
        """A pong; one that nobody asked for says nothing. One may answer several pings (RFC 6455, 5.5.3)."""
        if not self._pings:
            return
        mark = frame.get_payload_as_bytes()
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

    def _breach(self, code: WSCloseCode, what: str) -> None:
        self.end(code)
        self.driver.gone(self, f"connection_lost: {what}", int(code.value))

    def _closed(self, transport: WSTransport, frame: WSFrame) -> None:
        """The venue's close frame, which is answered in kind; or its answer to one that picows sent."""
        if (breach := _breach_of(transport)) is not None:
            self.driver.gone(self, *breach)
            return
        if frame.payload_size < 2:
            code = NO_CODE
            transport.send(CLOSE, b"")
            transport.disconnect()
        else:
            code = int(frame.get_close_code().value)
            self.end(frame.get_close_code())
        said = (frame.get_close_reason() if frame.payload_size > 2 else "") or ""
        self.driver.gone(self, f"closed_by_venue: {code} {said}".rstrip(), code, said)

    def end(self, code: WSCloseCode = BYE) -> None:
        """Say goodbye and hang up; what could not be sent within `close_s` is dropped."""
        if self.transport is not None and not self.transport.is_disconnected:
            self.transport.send_close(code)
            self.transport.disconnect()
            asyncio.get_running_loop().call_later(self.close_s, self.transport.disconnect, False)

    def abort(self) -> None:
        """Drop the socket without a word."""
        if self.transport is not None and self.transport.underlying_transport is not None:
            self.transport.underlying_transport.abort()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        try:
            breach = _breach_of(transport)
            self.driver.gone(self, *(breach or ("connection_lost: the socket closed without a close frame", 1006)))
        except Exception as error:  # noqa: BLE001  see Driver.fail
            self.driver.fail(error)


def _breach_of(transport: WSTransport) -> tuple[str, int] | None:
    """Why picows hung up by itself, if it did: the venue broke the protocol."""
    if not transport.is_close_frame_sent or transport.close_handshake.recv_then_sent:
        return None
    sent = transport.close_handshake.sent
    assert sent is not None, "a close frame was sent"
    return f"connection_lost: {sent.reason}", int(sent.code.value)
