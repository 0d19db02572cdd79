"""Venues and gateways that break RFC 6455, or end in a way that leaves picows with an exception that nobody asks for."""

from __future__ import annotations

import asyncio
import gc
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.io.test_driver import WITHIN_S, driven, venue
from truetape.io.net.gatepipe import Where, reach
from truetape.model import record
from truetape.model.wire import JSON

LONG = b'{"channel":"status","data":"' + b"x" * 150 + b"\xff" + b'"}'
"""What the pump cannot read, and no UTF-8 either."""


def close(code: int, reason: bytes = b"") -> bytes:
    return bytes((0x88, 2 + len(reason))) + struct.pack(">H", code) + reason


BREACHES = {
    "a reserved bit": (b"\xc1\x02{}", "reserved bit", 1002),
    "a ping with a reserved bit": (b"\x99\x00", "reserved bit", 1002),
    "text that is no UTF-8": (b"\x81\x02\xc0\xaf", "UTF-8", 1007),
    "the same in fragments": (b"\x01\x01\xc0\x80\x01\xaf", "UTF-8", 1007),
    "an unknown close code": (close(5000), "5000", 1002),
    "an unknown opcode": (b"\x83\x00", "opcode", 1002),
    "a long text that is no UTF-8": (b"\x81\x7e" + len(LONG).to_bytes(2, "big") + LONG, "UTF-8", 1007),
    "a long message with a reserved bit": (b"\xc1\x7e" + len(LONG).to_bytes(2, "big") + LONG, "reserved bit", 1002),
    "a long continuation of nothing": (b"\x80\x7e" + len(LONG).to_bytes(2, "big") + LONG, "continuation", 1002),
}


def speaker(data: bytes, closes: list[int | None]) -> Callable[[ServerConnection], Any]:
    """A server that says this and waits for the end."""

    async def say(connection: ServerConnection) -> None:
        connection.transport.write(data)
        await connection.wait_closed()
        closes.append(connection.close_code)

    return say


def complaints() -> list[dict[str, Any]]:
    """What the loop would have logged from here on."""
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: heard.append(context))
    return heard


async def quiet(heard: list[dict[str, Any]]) -> None:
    """Futures complain when they are collected."""
    for _ in range(3):
        await asyncio.sleep(0)
        gc.unfreeze()
        gc.collect()
    assert heard == []


class Told:
    """The host of a client's socket."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.end: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    def message(self, data: bytes) -> None:
        self.messages.append(data)

    def heard(self) -> None:
        """A control frame."""

    def lost(self, code: int, why: str) -> None:
        self.end.set_result((code, why))


@pytest.mark.parametrize("name", list(BREACHES))
async def test_a_venue_that_breaks_the_protocol_is_hung_up_with_the_right_code(name: str) -> None:
    data, why, code = BREACHES[name]
    heard = complaints()
    closes: list[int | None] = []
    async with venue(speaker(data, closes)) as (_, url), driven(url) as rig:
        lost = await rig.kept.lost()
        await rig.kept.until(lambda: len(rig.kept.of(record.OPENED)) > 1)
        assert why.lower() in lost[3].lower() and lost[4] == code, lost
        async with asyncio.timeout(WITHIN_S):
            while not closes:
                await asyncio.sleep(0.01)
    assert closes[0] == code
    await quiet(heard)


async def test_a_long_message_that_is_text_but_makes_no_sense_does_not_end_the_connection() -> None:
    nonsense = LONG.replace(b"\xff", b"") + b"}"
    data = b"\x81\x7e" + len(nonsense).to_bytes(2, "big") + nonsense

    async def say(connection: ServerConnection) -> None:
        connection.transport.write(data * 3)
        await connection.wait_closed()

    async with venue(say) as (_, url), driven(url) as rig:
        await rig.kept.until(lambda: rig.pump.links[rig.source].counts.errors == 3)
        await rig.kept.until(lambda: rig.kept.of(record.SAMPLED))  # it is pinged on, and answers
        assert not rig.kept.of(record.LOST)


@pytest.mark.parametrize("name", list(BREACHES))
async def test_a_gateway_that_breaks_the_protocol_is_hung_up_with_the_right_code(name: str) -> None:
    data, why, code = BREACHES[name]
    heard = complaints()
    closes: list[int | None] = []
    async with serve(speaker(data, closes), "127.0.0.1", 0, subprotocols=[JSON], compression=None) as server:  # type: ignore[list-item]
        host = Told()
        await reach(Where(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"), JSON, host)
        async with asyncio.timeout(WITHIN_S):
            told = await host.end
            while not closes:
                await asyncio.sleep(0.01)
    assert told[0] == 1006 and why.lower() in told[1].lower(), told
    assert closes == [code]
    await quiet(heard)


@pytest.mark.parametrize(
    "second", [close(1000), b"\x88\x00", b"\x83\x00"], ids=["a close", "an empty close", "a wrong frame"]
)
async def test_of_two_close_frames_in_one_read_the_first_is_answered(second: bytes) -> None:
    closes: list[int | None] = []
    async with venue(speaker(close(4001, b"bye") + second, closes)) as (_, url), driven(url) as rig:
        lost = await rig.kept.lost()
        async with asyncio.timeout(WITHIN_S):
            while not closes:
                await asyncio.sleep(0.01)
    assert lost[3:5] == ("closed_by_venue: 4001 bye", 4001)
    assert closes == [4001]


async def test_a_client_that_gives_up_its_handshake_leaves_no_exception_behind() -> None:
    heard = complaints()

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes) -> None:
        writer.write(said)
        await reader.read()
        writer.close()

    for said in (b"", b"HTTP/1.1 101 Switch", b"HTTP/1.1 200 OK\r\n\r\n", b"garbage\r\n\r\n"):
        server = await asyncio.start_server(partial(half, said=said), "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for patience in (0.05, 5.0):
            going = asyncio.create_task(reach(Where(url, handshake_s=0.2), JSON, Told()))
            await asyncio.wait([going], timeout=patience)
            going.cancel()
            assert isinstance((await asyncio.gather(going, return_exceptions=True))[0], BaseException)
            del going
        server.close()
    await quiet(heard)
