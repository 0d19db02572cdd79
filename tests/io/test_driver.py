"""The driver on real sockets, against servers that we did not write (`websockets`) or that are no servers at all."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import signal
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response

from truetape.app.config import parse, timing
from truetape.app.symbols import resolve_all
from truetape.core.route.pump import Pump
from truetape.io.clock import now as clock
from truetape.io.net.driver import Dialing, Driver
from truetape.model import record

ROOT = Path(__file__).resolve().parent.parent.parent
WITHIN_S = 15.0
QUICK = {"backoff_first_s": 0.05, "backoff_max_s": 0.1, "jitter": 0.0, "handshake_s": 2.0, "dial_s": 2.0}
HEARTBEAT = b'{"channel":"heartbeat"}'


class Kept:
    """What the driver records, in the order of judgement, each with the time of writing it here."""

    def __init__(self) -> None:
        self.records: list[tuple[Any, ...]] = []
        self._news = asyncio.Event()

    def append(self, item: tuple[Any, ...], size: int) -> None:
        assert size > 0
        self.records.append(item)
        self._news.set()

    def of(self, kind: int) -> list[tuple[Any, ...]]:
        return [item for item in self.records if item[0] == kind]

    async def until(self, claim: Callable[[], Any], within: float = WITHIN_S) -> None:
        """Wait until a claim holds: tried again with each record, and there is one in 250 ms at least."""
        try:
            async with asyncio.timeout(within):
                while not claim():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            shown = [tuple(str(part)[:80] for part in item) for item in self.records[-20:]]
            raise AssertionError(f"not so within {within} s; the last records: {shown}") from None

    async def lost(self, count: int = 1) -> tuple[Any, ...]:
        await self.until(lambda: len(self.of(record.LOST)) >= count)
        return self.of(record.LOST)[count - 1]


class Rig:
    """A pump with one feed, a driver for it, and what it recorded."""

    def __init__(self, url: str, dialing: dict[str, Any], feed: dict[str, Any]) -> None:
        tree = {"venue": "kraken", "symbols": ["BTC-USD"], "channels": ["trade"], "url": url, **QUICK, **feed}
        config = parse({"feeds": [tree]}, "test", {})
        self.kept = Kept()
        self.pump = Pump(resolve_all(config), now=clock())
        limits = timing(config.feeds[0])
        how = Dialing(**{"handshake_s": limits.handshake_s, "dial_s": limits.dial_s, **dialing})
        self.driver = Driver(self.pump, lambda _source: how, recorder=self.kept)
        self.source = f"{config.feeds[0].name}-1"

    @property
    def session(self) -> Any:
        return self.pump.links[self.source].session


@asynccontextmanager
async def driven(url: str, dialing: dict[str, Any] | None = None, **feed: Any) -> AsyncIterator[Rig]:
    rig = Rig(url, dialing or {}, feed)
    async with asyncio.TaskGroup() as group:
        group.create_task(rig.driver.run())
        try:
            yield rig
        finally:
            rig.driver.stop()


Handler = Callable[[ServerConnection], Awaitable[None]]


async def hold(connection: ServerConnection) -> None:
    """A venue that listens and says nothing."""
    async for _ in connection:
        pass


@asynccontextmanager
async def venue(handler: Handler = hold, **options: Any) -> AsyncIterator[tuple[Server, str]]:
    async with serve(handler, "127.0.0.1", 0, **{"compression": None, **options}) as server:
        yield server, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2"


@asynccontextmanager
async def tcp(handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Something that accepts TCP and does what it likes."""
    writers: list[asyncio.StreamWriter] = []

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2"
    finally:
        server.close()
        for writer in writers:
            writer.close()


def refuse(status: int, **headers: str) -> Any:
    async def answer(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(status, "no")
        for name, value in headers.items():
            response.headers[name.replace("_", "-")] = value
        return response

    return answer


def times(items: list[tuple[Any, ...]]) -> list[float]:
    return [item[2] / 1e9 for item in items]


# -- dialing


async def test_a_closed_port_is_dialed_again_after_growing_waits() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody else gets the port
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}/"
        async with driven(url, backoff_first_s=0.05, backoff_max_s=0.4) as rig:
            await rig.kept.lost(5)
    lost = rig.kept.of(record.LOST)[:5]
    assert {item[3] for item in lost} == {f"dial_failed: {url[5:-1]}: Connection refused"}
    waits = [b - a for a, b in itertools.pairwise(times(lost))]
    for wait, least in zip(waits, (0.05, 0.1, 0.2, 0.4), strict=True):
        assert least <= wait < least + 1.0
    assert rig.session.reconnects == 0, "it never stood"


async def test_retry_after_is_obeyed_to_the_second() -> None:
    async with venue(process_request=refuse(429, Retry_After="1")) as (_, url), driven(url) as rig:
        await rig.kept.lost(3)
    lost = rig.kept.of(record.LOST)[:3]
    assert [(item[3], item[4], item[5]) for item in lost] == [("refused: HTTP 429", 429, 1.0)] * 3
    assert all(b - a >= 1.0 for a, b in itertools.pairwise(times(lost)))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0.5", 0.5),
        ("", -1.0),
        ("soon", -1.0),
        ("-5", -1.0),
        ("9" * 400, 86_400.0),
        ("1e9", -1.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
    ids=["half", "empty", "word", "negative", "huge", "exponent", "a date that passed"],
)
async def test_a_strange_retry_after_harms_nobody(header: str, expected: float) -> None:
    async with venue(process_request=refuse(503, Retry_After=header)) as (_, url), driven(url) as rig:
        lost = await rig.kept.lost()
    assert (lost[4], lost[5]) == (503, expected)


@pytest.mark.parametrize(("status", "word"), [(401, "401"), (403, "403"), (404, "404"), (500, "500"), (302, "302")])
async def test_a_refusal_is_told_with_its_status(status: int, word: str) -> None:
    async with venue(process_request=refuse(status, Location="ws://127.0.0.1:9/")) as (_, url), driven(url) as rig:
        lost = await rig.kept.lost()
    assert lost[4] == status
    assert word in lost[3]
    assert word in rig.session.reason


async def test_a_server_that_never_answers_is_given_up_after_handshake_s() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with tcp(mute) as url:
        began = clock()
        async with driven(url, handshake_s=0.3, dial_s=5.0) as rig:
            lost = await rig.kept.lost()
            assert 0.25 < (clock() - began) / 1e9 < 2
            await rig.kept.lost(2)
    assert lost[3] == "dial_failed: no answer to the handshake within 0.3 s"


async def test_a_server_that_hangs_up_in_the_handshake_is_dialed_again_at_the_usual_pace() -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with tcp(rude) as url:
        began = clock()
        async with driven(url) as rig:
            await rig.kept.lost(3)
        assert (clock() - began) / 1e9 < 3
    assert {item[3] for item in rig.kept.of(record.LOST)} == {
        "dial_failed: the connection was closed during the handshake"
    }


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"\x00" * 64 + b"\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"],
    ids=["ssh", "zeros", "half an upgrade"],
)  # fmt: skip
async def test_a_server_of_another_protocol_is_a_failed_dial(answer: bytes) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()

    async with tcp(other) as url, driven(url, handshake_s=1.0) as rig:
        lost = await rig.kept.lost(2)
    assert lost[3].startswith("dial_failed: ")
    assert rig.session.state == "WAITING"


@pytest.mark.parametrize("url", ["ws://no-such-host.invalid/", "ws://127.0.0.1:99999/", "ws:///nowhere", "ws://[::1/"])
async def test_an_impossible_address_is_a_failed_dial(url: str) -> None:
    async with driven(url) as rig:
        lost = await rig.kept.lost()
    assert lost[3].startswith("dial_failed: ")


async def test_an_unreachable_proxy_is_a_failed_dial() -> None:
    async with venue() as (_, url):
        for proxy in ("http://127.0.0.1:1", "socks5://127.0.0.1:1"):
            async with driven(url, {"proxy": proxy}) as rig:
                lost = await rig.kept.lost()
            assert lost[3].startswith("dial_failed: ")


async def test_a_certificate_of_ours_is_trusted_and_a_stranger_s_is_not(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    async with serve(hold, "127.0.0.1", 0, ssl=server) as running:
        url = f"wss://localhost:{running.sockets[0].getsockname()[1]}/v2"
        for ca, trusted in ((authority, True), (other, False), (None, False)):
            context = None
            if ca is not None:
                path = tmp_path / "ca.pem"
                ca.cert_pem.write_to_path(path)
                context = ssl.create_default_context(cafile=str(path))
            async with driven(url, {"ssl_context": context}) as rig:
                if trusted:
                    await rig.kept.until(lambda: rig.kept.of(record.OPENED))
                else:
                    assert "certificate" in (await rig.kept.lost())[3]


async def test_snapshots_are_fetched_with_the_feed_s_certificate(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    rest = f"https://localhost:{server.sockets[0].getsockname()[1]}"

    async def say(connection: ServerConnection) -> None:
        change = {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": 1, "u": 2, "b": [], "a": []}
        await connection.send(json.dumps({"stream": "btcusdt@depth@100ms", "data": change}))
        await hold(connection)

    async with venue(say) as (_, url):
        for trusted in (True, False):
            how = {"ssl_context": ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))} if trusted else {}
            feed = {"venue": "binance", "symbols": ["BTC-USDT"], "channels": ["book"], "rest_url": rest}
            async with driven(url, how, **feed) as rig:
                await rig.kept.until(lambda rig=rig: rig.kept.of(record.FETCHED))
            status, body = rig.kept.of(record.FETCHED)[0][4:6]
            assert (status == 200) is trusted
            assert (b"certificate" in body) is not trusted
    server.close()


async def test_the_secret_is_read_anew_on_each_dial_and_recorded_never() -> None:
    seen: list[str] = []
    keys = iter(["first key/+&%", "second", "third"])

    async def note(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(connection.request.path)
        await connection.close(4001, "again")

    async with (
        venue(note) as (_, url),
        driven(f"{url}?api_key={{secret}}", {"secret": lambda: next(keys, "last")}, secret="env:X") as rig,
    ):
        await rig.kept.lost(3)
    assert seen[:3] == ["/v2?api_key=first%20key%2F%2B%26%25", "/v2?api_key=second", "/v2?api_key=third"]
    assert "first" not in str(rig.kept.records)
    assert "second" not in str(rig.kept.records)
    assert {item[3] for item in rig.kept.of(record.OPENED)} == {f"{url}?api_key={{secret}}"}


async def test_a_secret_that_cannot_be_read_is_a_failed_dial_until_it_can() -> None:
    tries = 0

    def secret() -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise LookupError("secret env:NOWHERE: the environment variable NOWHERE is not set")
        return "now"

    async with venue() as (_, url), driven(f"{url}?k={{secret}}", {"secret": secret}, secret="env:X") as rig:
        await rig.kept.until(lambda: rig.kept.of(record.OPENED))
    assert [item[3] for item in rig.kept.of(record.LOST)] == [
        "dial_failed: secret env:NOWHERE: the environment variable NOWHERE is not set"
    ] * 2


# -- messages


async def frames(rig: Rig, count: int) -> list[bytes]:
    await rig.kept.until(lambda: len(rig.kept.of(record.FRAME)) >= count)
    return [item[3] for item in rig.kept.of(record.FRAME)]


async def test_fragments_are_joined_and_binary_is_taken_like_text() -> None:
    big = b'{"channel":"heartbeat","padding":"' + b"x" * 300_000 + b'"}'

    async def say(connection: ServerConnection) -> None:
        await connection.send([HEARTBEAT[:5], HEARTBEAT[5:9], b"", HEARTBEAT[9:]], text=True)
        await connection.send(HEARTBEAT)
        await connection.send([HEARTBEAT[:1], HEARTBEAT[1:]])
        await connection.send([big[:1000], big[1000:]], text=True)
        await connection.send(big.decode())
        await connection.send("")
        await hold(connection)

    async with venue(say) as (_, url), driven(url) as rig:
        assert await frames(rig, 6) == [HEARTBEAT] * 3 + [big] * 2 + [b""]
    assert rig.pump.links[rig.source].counts.errors == 1, "the empty one"


async def test_a_ping_between_fragments_is_answered_and_spoils_nothing() -> None:
    async def say(connection: ServerConnection) -> None:
        async def parts() -> AsyncIterator[str]:
            yield HEARTBEAT[:7].decode()
            await (await connection.ping())
            yield HEARTBEAT[7:].decode()

        await connection.send(parts())
        await hold(connection)

    async with venue(say) as (_, url), driven(url) as rig:
        assert await frames(rig, 1) == [HEARTBEAT]


async def test_the_server_s_pings_are_answered() -> None:
    answered: list[float] = []

    async def ping(connection: ServerConnection) -> None:
        answered.extend([await (await connection.ping(b"are you there")) for _ in range(3)])
        await connection.send(HEARTBEAT.decode())
        await hold(connection)

    async with venue(ping) as (_, url), driven(url) as rig:
        await frames(rig, 1)
    assert len(answered) == 3


async def test_our_pings_measure_the_round_trip_and_a_stray_pong_does_not() -> None:
    async def stray(connection: ServerConnection) -> None:
        await connection.pong(b"nobody asked")
        await connection.send(HEARTBEAT.decode())
        await hold(connection)

    async with venue(stray) as (_, url), driven(url, ping_every_s=0.3) as rig:
        await frames(rig, 1)
        assert rig.kept.of(record.SAMPLED) == []
        assert rig.session.watch.state.rtt_ns == -1
        await rig.kept.until(lambda: rig.kept.of(record.SAMPLED))
        assert 0 < rig.session.watch.state.rtt_ns < 1e9
        assert rig.kept.of(record.SAMPLED)[0][3:] == ("pong", rig.session.watch.state.rtt_ns)


@pytest.mark.parametrize("parts", [1, 3], ids=["in one frame", "in fragments"])
async def test_an_oversize_message_ends_the_connection_and_says_why(parts: int) -> None:
    text = "x" * 5000

    async def say(connection: ServerConnection) -> None:
        await connection.send(text if parts == 1 else [text[:900], text[900:1800], text[1800:2700]])
        await hold(connection)

    errors = unheard()
    async with venue(say) as (_, url), driven(url, {"message_max": 1000}) as rig:
        lost = await rig.kept.lost()
        await rig.kept.until(lambda: len(rig.kept.of(record.OPENED)) > 1)
    assert (lost[4], "1000" in lost[3]) == (1009, True), lost
    assert rig.kept.of(record.FRAME) == []
    assert errors == []


async def test_a_flood_of_empty_fragments_ends_the_connection() -> None:
    async def flood(connection: ServerConnection) -> None:
        frame = Frame(Opcode.TEXT, b"", fin=False).serialize(mask=False)
        more = Frame(Opcode.CONT, b"", fin=False).serialize(mask=False)
        connection.transport.write(frame + more * 200_000)
        await hold(connection)

    async with venue(flood) as (_, url), driven(url) as rig:
        lost = await rig.kept.lost()
    assert lost[4] == 1009
    assert "fragments" in lost[3]


def unheard() -> list[Any]:
    """What would reach the loop's exception handler: an error that nobody took."""
    found: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: found.append(context))
    return found


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (bytes([0x81, 0x81, 1, 2, 3, 4, 5]), "masked"),
        (bytes([0x83, 0x00]), "opcode"),
        (bytes([0x09, 0x01, 0x00]), "fragmented control"),
        (bytes([0x88, 0x02]) + struct.pack(">H", 1005), "1005"),
        (bytes([0x88, 0x01, 0x03]), "close code size"),
        (bytes([0x88, 0x04]) + struct.pack(">H", 1000) + b"\xff\xfe", "UTF-8"),
        (bytes([0x80, 0x01, 0x7B]), "continuation"),
    ],
    ids=["masked", "opcode", "fragmented ping", "reserved close code", "half a close code", "bad close reason", "continues nothing"],
)  # fmt: skip
async def test_a_breach_of_the_protocol_is_a_lost_connection_with_its_reason(data: bytes, why: str) -> None:
    async def say(connection: ServerConnection) -> None:
        connection.transport.write(data)
        await connection.wait_closed()

    errors = unheard()
    async with venue(say) as (_, url), driven(url) as rig:
        lost = await rig.kept.lost()
        await rig.kept.until(lambda: len(rig.kept.of(record.OPENED)) > 1)
    assert lost[3].startswith("connection_lost: "), lost
    assert why.lower() in lost[3].lower(), lost
    assert rig.kept.of(record.FRAME) == []
    assert errors == []


# -- ends


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, "bye"), (1001, "going away"), (1008, ""), (1011, "trouble"), (1012, ""), (1013, "later"), (3000, ""),
        (4001, "a key is needed"), (4999, "x" * 123),
    ],
)  # fmt: skip
async def test_close_codes_and_reasons_reach_the_session(code: int, reason: str) -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.close(code, reason)

    echoed: list[int | None] = []

    async def noted(connection: ServerConnection) -> None:
        await close(connection)
        echoed.append(connection.close_code)

    async with venue(noted) as (_, url), driven(url) as rig:
        lost = await rig.kept.lost()
    assert (lost[3], lost[4]) == (f"closed_by_venue: {code} {reason}".rstrip(), code)
    assert echoed[0] == code
    assert rig.session.reconnects >= 1


async def test_a_close_without_a_code_is_answered_without_one() -> None:
    answered: list[bytes] = []

    async def bare(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        writer.write(bytes([0x88, 0x00]))
        while data := await reader.read(1000):
            answered.append(data)

    async with tcp(bare) as url, driven(url, channels=["trade"]) as rig:
        lost = await rig.kept.lost()
    assert lost[3].startswith("closed_by_venue: 1005")
    sent = b"".join(answered)
    at = sent.rindex(bytes([0x88]))
    assert sent[at + 1] == 0x80, "an empty close frame, for 1005 is never sent"


async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A WebSocket handshake by hand."""
    from websockets.utils import accept_key

    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    key = next(
        line.partition(":")[2].strip() for line in head.splitlines() if line.lower().startswith("sec-websocket-key")
    )
    answer = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
    writer.write(answer.encode())


async def test_a_reset_connection_is_lost_at_once_and_dialed_again() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        writer.write(bytes([0x81, len(HEARTBEAT)]) + HEARTBEAT)
        await writer.drain()
        await reader.read(10)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with tcp(reset) as url, driven(url) as rig:
        await rig.kept.lost(2)
    kinds = [item[0] for item in rig.kept.records if item[0] in (record.OPENED, record.LOST)]
    assert kinds[:4] == [record.OPENED, record.LOST] * 2
    assert {item[4] for item in rig.kept.of(record.LOST)} == {1006}


async def test_what_was_subscribed_is_asked_for_again_on_each_connection() -> None:
    asked: list[Any] = []

    async def note(connection: ServerConnection) -> None:
        asked.append(json.loads(await connection.recv()))
        await connection.close()

    async with venue(note) as (_, url), driven(url) as rig:
        await rig.kept.lost(3)
    assert [one["method"] for one in asked[:3]] == ["subscribe"] * 3
    assert asked[0]["params"] == asked[1]["params"] == asked[2]["params"]
    assert [item[3] for item in rig.kept.of(record.SENT)][:1] == [rig.kept.of(record.SENT)[1][3]]


async def test_stopping_closes_every_socket_with_a_close_frame() -> None:
    gone: list[Any] = []
    ended = asyncio.Event()

    async def note(connection: ServerConnection) -> None:
        await connection.wait_closed()
        gone.append((connection.close_code, connection.state.name))
        ended.set()

    async with venue(note) as (_, url):
        async with driven(url) as rig:
            await rig.kept.until(lambda: rig.kept.of(record.OPENED))
        await asyncio.wait_for(ended.wait(), WITHIN_S)
    assert gone[0][0] in (1000, 1005), "a clean end, not 1006"


async def test_stopping_while_dialing_leaves_nothing_behind() -> None:
    peers: list[asyncio.StreamReader] = []
    ended = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(reader)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b""
        ended.set()

    async with tcp(mute) as url:
        async with driven(url, handshake_s=30.0) as rig:
            while not peers:
                await asyncio.sleep(0)
        await asyncio.wait_for(ended.wait(), 2)
        assert rig.kept.of(record.LOST) == []


async def test_a_cancelled_driver_closes_its_sockets_too() -> None:
    ended = asyncio.Event()

    async def note(connection: ServerConnection) -> None:
        await connection.wait_closed()
        ended.set()

    async with venue(note) as (_, url):
        rig = Rig(url, {}, {})
        task = asyncio.create_task(rig.driver.run())
        await rig.kept.until(lambda: rig.kept.of(record.OPENED))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(ended.wait(), 2)


# -- liveness


@pytest.fixture
def simulated() -> Any:
    command = [sys.executable, "-m", "truetape", "sim", "--venue", "kraken", "--symbols", "1", "--rate", "100"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    )
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    yield process, said
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()
    process.stdout.close()


async def test_a_mute_venue_is_given_up_within_ping_and_pong_and_half_a_second(simulated: Any) -> None:
    process, said = simulated
    symbols = said["symbols"]
    for ping_s, pong_s in ((0.4, 0.4), (0.3, 0.6)):
        async with driven(
            said["ws"], symbols=symbols, channels=["book", "trade"], ping_every_s=ping_s, pong_within_s=pong_s
        ) as rig:
            await rig.kept.until(lambda: len(rig.kept.of(record.FRAME)) > 30)
            process.send_signal(signal.SIGSTOP)
            began = clock()
            lost = await rig.kept.lost()
            mute_s = (clock() - began) / 1e9
            assert mute_s <= ping_s + pong_s + 0.5, mute_s
            assert lost[3].startswith("dead_link: nothing within")
            frames_before = len(rig.kept.of(record.FRAME))
            process.send_signal(signal.SIGCONT)
            await rig.kept.until(lambda: len(rig.kept.of(record.OPENED)) > 1)
            order = [item[0] for item in rig.kept.records]
            again = len(order) - 1 - order[::-1].index(record.OPENED)
            between = order[order.index(record.LOST) : again]
            assert record.FRAME not in between, "late bytes of the dead connection never reach the pump"
            assert frames_before == len([kind for kind in order[: order.index(record.LOST)] if kind == record.FRAME])
            await frames(rig, frames_before + 10)


async def test_a_dead_link_is_noticed_though_our_send_buffer_is_full(simulated: Any) -> None:
    process, said = simulated
    async with driven(said["ws"], symbols=said["symbols"], ping_every_s=0.4, pong_within_s=0.4) as rig:
        await rig.kept.until(lambda: rig.kept.of(record.FRAME))
        process.send_signal(signal.SIGSTOP)
        began = clock()
        line = rig.driver._lines[rig.source]
        assert line.transport is not None
        for _ in range(400):
            line.transport.send(1, b"x" * 65_536)  # type: ignore[arg-type]
        lost = await rig.kept.lost()
        assert (clock() - began) / 1e9 <= 1.3
        assert lost[3].startswith("dead_link")


async def test_a_venue_that_answers_pings_only_is_no_dead_link() -> None:
    async with venue() as (_, url), driven(url, ping_every_s=0.2, pong_within_s=0.2, dead_after_s=0.0) as rig:
        await rig.kept.until(lambda: len(rig.kept.of(record.SAMPLED)) > 6)
        assert rig.kept.of(record.LOST) == []


async def test_silence_of_the_whole_connection_is_noticed_after_dead_after_s() -> None:
    async with venue() as (_, url), driven(url, ping_every_s=0.0, dead_after_s=0.5) as rig:
        lost = await rig.kept.lost()
        opened = rig.kept.of(record.OPENED)[0]
    assert lost[3] == "silence: nothing for 0.5 s"
    assert 0.5 <= (lost[2] - opened[2]) / 1e9 < 1.0


async def test_ticks_are_at_least_10_ms_apart() -> None:
    async with venue() as (_, url), driven(url, ping_every_s=0.05) as rig:
        await rig.kept.until(lambda: len(rig.kept.of(record.TICK)) > 20)
    ticks = times(rig.kept.of(record.TICK))
    assert min(b - a for a, b in itertools.pairwise(ticks)) >= 0.0099


# -- bugs


@pytest.mark.parametrize("where", ["frame", "tick", "opened"])
async def test_a_bug_in_the_pump_ends_the_driver_with_it(where: str) -> None:
    """Not swallowed by a callback, and not played again for ever: what the pump holds cannot be trusted any more."""

    class Broken(Pump):
        def frame(self, source: str, data: bytes, now: int) -> Any:
            return self._bug("frame") or super().frame(source, data, now)

        def tick(self, now: int) -> Any:
            return self._bug("tick") or super().tick(now)

        def opened(self, source: str, now: int) -> Any:
            return self._bug("opened") or super().opened(source, now)

        def _bug(self, here: str) -> None:
            if here == where:
                raise AssertionError(f"a bug in {here}")

    async def say(connection: ServerConnection) -> None:
        while True:
            await connection.send(HEARTBEAT.decode())
            await asyncio.sleep(0.01)

    errors = unheard()
    async with venue(say) as (_, url):
        rig = Rig(url, {}, {})
        pump = Broken(
            resolve_all(parse({"feeds": [{"venue": "kraken", "symbols": ["BTC-USD"], "url": url, **QUICK}]}, "t", {})),
            now=clock(),
        )
        driver = Driver(pump, lambda _source: Dialing(), recorder=rig.kept)
        with pytest.raises(ExceptionGroup) as ended:
            await asyncio.wait_for(driver.run(), WITHIN_S)
    assert [str(error) for error in ended.value.exceptions] == [f"a bug in {where}"]
    assert errors == []


async def test_picows_never_logs_request_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with venue() as (_, url), driven(f"{url}?word=canary") as rig:
            await rig.kept.until(lambda: rig.kept.of(record.OPENED))
    assert "canary" not in "".join(one.getMessage() for one in caplog.records if not one.name.startswith("websockets"))
