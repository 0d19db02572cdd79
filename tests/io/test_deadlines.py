"""The three deadlines of a connection, on real sockets: `dial_s`, `handshake_s`, `close_s`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from picows import WSMsgType

from tests.io.test_driver import driven, tcp, upgrade
from truetape.app.config import parse, timing
from truetape.core.feed.timing import Timing
from truetape.io.clock import now as clock
from truetape.io.net.dial import Dialing
from truetape.model import record
from truetape.model.effect import Close

SECOND = 1e9
BUSY_S = 3.0
"""What a busy machine may add to a deadline of a fraction of a second."""


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port that listens and takes no more connections: the kernel drops each further SYN, as a firewall would."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting: list[socket.socket] = []
        try:
            for _ in range(16):
                one = socket.socket()
                waiting.append(one)
                one.settimeout(0.1)
                try:
                    one.connect(listening.getsockname())
                except TimeoutError:
                    break
            else:
                raise AssertionError("expected a full backlog after a few connections")
            yield listening.getsockname()[1]
        finally:
            for one in waiting:
                one.close()


def test_the_defaults_are_those_that_were_promised() -> None:
    feed = parse({"feeds": [{"venue": "kraken", "symbols": ["BTC-USD"]}]}, "test", {}).feeds[0]
    for limits in (Timing(), Dialing(), timing(feed)):
        assert (limits.dial_s, limits.handshake_s, limits.close_s) == (5.0, 10.0, 10.0)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_venue_whose_syns_are_lost_is_given_up_after_dial_s(scheme: str) -> None:
    with full_backlog() as port:
        began = clock()
        async with driven(f"{scheme}://127.0.0.1:{port}/", dial_s=0.4, handshake_s=30.0) as rig:
            lost = await rig.kept.lost()
            took = (lost[2] - began) / SECOND
            await rig.kept.lost(2)  # and it is tried again
    assert 0.35 < took < 0.4 + BUSY_S
    assert lost[3] == f"dial_failed: 127.0.0.1:{port}: no connection within 0.4 s"


@pytest.mark.parametrize(("scheme", "dial_s", "handshake_s"), [("ws", 30.0, 0.4), ("wss", 0.4, 30.0)])
async def test_a_venue_that_accepts_and_never_answers_is_given_up(
    scheme: str, dial_s: float, handshake_s: float
) -> None:
    """Over TLS the time of dialing holds for its handshake too: TCP and TLS are one way to reach a venue."""
    closed = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        if await reader.read() == b"":
            closed.set()

    async with tcp(mute) as url:
        began = clock()
        async with driven(scheme + url[2:], dial_s=dial_s, handshake_s=handshake_s) as rig:
            lost = await rig.kept.lost()
            took = (lost[2] - began) / SECOND
            await asyncio.wait_for(closed.wait(), BUSY_S)  # nothing is left open
    assert 0.35 < took < 0.4 + BUSY_S
    assert lost[3].startswith("dial_failed: ")


async def test_a_venue_that_never_answers_our_close_is_not_waited_for() -> None:
    heard = bytearray()
    closed = asyncio.Event()

    async def stubborn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        while data := await reader.read(1000):
            heard.extend(data)
        closed.set()
        await asyncio.Event().wait()  # and holds its own side open

    async with tcp(stubborn) as url, driven(url, {"close_s": 0.4}) as rig:
        await rig.kept.until(lambda: rig.kept.of(record.OPENED))
        line = rig.driver._lines[rig.source]
        rig.driver.apply([Close(rig.source, "stopped: by a test")])
        await asyncio.wait_for(closed.wait(), 0.4 + BUSY_S)
        assert line.transport is not None
        await asyncio.wait_for(line.transport.wait_disconnected(), 0.4 + BUSY_S)
        lost = await rig.kept.lost()
    assert lost[3] == "stopped: by a test"
    assert 0x88 in heard, "a close frame was sent"


@pytest.mark.parametrize("how", ["an order", "the venue's close", "a breach"])
async def test_what_a_venue_does_not_read_is_dropped_after_close_s(how: str) -> None:
    """Our send buffer is full: a close frame stands behind it, and the socket would stay for as long as the venue likes."""
    closing = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        writer.transport.pause_reading()
        await closing.wait()
        writer.write(b"\x88\x02\x03\xe8" if how == "the venue's close" else b"\x80\x01x")
        await asyncio.Event().wait()

    async with tcp(deaf) as url, driven(url, {"close_s": 0.4}, ping_every_s=0) as rig:
        await rig.kept.until(lambda: rig.kept.of(record.OPENED))
        line = rig.driver._lines[rig.source]
        assert line.transport is not None
        line.transport.send(WSMsgType.TEXT, bytes(32 * 1024 * 1024))
        assert line.transport.underlying_transport.get_write_buffer_size() > 0
        began = clock()
        if how == "an order":
            rig.driver.apply([Close(rig.source, "stopped: by a test")])
        else:
            closing.set()
        await asyncio.wait_for(line.transport.wait_disconnected(), 0.4 + BUSY_S)
        assert (clock() - began) / SECOND > 0.35, "it had its time"
