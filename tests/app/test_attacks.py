"""Clients that mean harm, over real sockets: each is answered as docs/security.md says, memory stays bounded, and nobody else notices."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import socket
import ssl
import sys
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from websockets.asyncio.client import connect

import truetape
from tests.app.test_serve import address, ask, ends_with, events, guarded, said, served, token
from truetape.app.live import Gateway
from truetape.app.pages import Pages
from truetape.io.serve.door import Doors
from truetape.io.serve.gateway import Answer, Request, listen

WITHIN = 10.0
HANDSHAKE_P99_S = 0.25
"""Promised to whoever comes while a thousand others dawdle."""
PATHS = ("open", "os.listdir", "os.mkdir", "os.rename", "os.remove", "os.scandir")
"""What Python tells of files."""
MASK = b"\x01\x02\x03\x04"
UPGRADE = (
    "GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
)


def frame(payload: bytes = b"", opcode: int = 1, *, fin: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """A client's frame, right or wrong."""
    first = fin << 7 | reserved << 4 | opcode
    size, mask = len(payload), masked << 7
    if size < 126:
        head = bytes((first, mask | size))
    elif size < 1 << 16:
        head = bytes((first, mask | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, mask | 127)) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[at & 3] for at, byte in enumerate(payload))


def port(gateway: Gateway) -> int:
    assert gateway.service is not None
    return gateway.service.port


def rss_mb() -> float:
    """Resident memory of this process, which has the gateway in it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Raw:
    """A socket without manners."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def at(cls, gateway: Gateway, headers: str = "", **options: Any) -> Raw:
        return cls(*await asyncio.open_connection("127.0.0.1", port(gateway), **options))

    @classmethod
    async def upgraded(cls, gateway: Gateway, headers: str = "") -> Raw:
        raw = await cls.at(gateway)
        raw.writer.write((UPGRADE + headers + "\r\n").encode())
        async with asyncio.timeout(WITHIN):
            head = await raw.reader.readuntil(b"\r\n\r\n")
        assert head.split()[1] == b"101", head
        return raw

    async def send(self, data: bytes) -> None:
        """As much as is taken before the other side hangs up."""
        try:
            async with asyncio.timeout(WITHIN):
                self.writer.write(data)
                await self.writer.drain()
        except ConnectionError:
            pass  # it hung up, as it may

    async def frames(self) -> list[tuple[int, bytes]]:
        """What the gateway says until its close frame, or until it hangs up."""
        got = []
        try:
            async with asyncio.timeout(WITHIN):
                while True:
                    first, size = await self.reader.readexactly(2)
                    if size == 126:
                        size = int.from_bytes(await self.reader.readexactly(2), "big")
                    elif size == 127:
                        size = int.from_bytes(await self.reader.readexactly(8), "big")
                    got.append((first & 15, await self.reader.readexactly(size)))
                    if got[-1][0] == 8:
                        self.writer.close()
                        return got
        except (asyncio.IncompleteReadError, ConnectionError):
            self.writer.close()
            return got

    async def code(self) -> int:
        """The close code it ends with; 1006 without one."""
        closes = [payload for opcode, payload in await self.frames() if opcode == 8]
        return int.from_bytes(closes[0][:2], "big") if closes else 1006

    async def rest(self) -> bytes:
        """All bytes until the gateway hangs up."""
        try:
            async with asyncio.timeout(WITHIN):
                return await self.reader.read(1 << 20)
        except ConnectionError:
            return b""
        finally:
            self.writer.close()


@asynccontextmanager
async def undisturbed(gateway: Gateway, **headers: Any) -> AsyncIterator[None]:
    """Another client, which goes on getting data without loss, on one connection."""
    async with connect(address(gateway), max_queue=None, close_timeout=1, **headers) as client:
        await said(client)
        await ask(client, type="subscribe", id=1, symbols=["kraken:*"], channels=["book_delta"], bound=100_000)
        await events(client, 5, {})
        yield
        got = await events(client, 20, {})
        assert not [event for event in got if event["kind"] in ("gap", "lagged")]


BREACHES = {
    "too many bytes": (frame(b"x" * 70_000), 1009),
    "too many bytes announced": (bytes((0x82, 0xFF)) + (1 << 40).to_bytes(8, "big") + MASK, 1009),
    "too many bytes in fragments": (frame(b"x" * 40_000, fin=False) + frame(b"x" * 40_000, 0), 1009),
    "200,000 empty fragments": (frame(fin=False) + frame(b"", 0, fin=False) * 200_000, 1009),
    "a text that is not UTF-8": (frame(b"\xc0\xaf"), 1007),
    "a text that ends within a letter": (frame("é".encode()[:1]), 1007),
    "a surrogate": (frame(b"\xed\xa0\x80"), 1007),
    "reserved bit 1, as a compressed frame has": (frame(b"{}", reserved=4), 1002),
    "reserved bit 2": (frame(b"{}", reserved=2), 1002),
    "reserved bit 3": (frame(b"{}", reserved=1), 1002),
    "a ping in fragments": (frame(b"x", 9, fin=False), 1002),
    "a ping too long": (frame(b"x" * 126, 9), 1002),
    "a close too long": (frame(b"\x03\xe8" + b"x" * 124, 8), 1002),
    "a ping with a reserved bit": (frame(b"", 9, reserved=4), 1002),
    "an unknown opcode": (frame(b"x", 3), 1002),
    "an unknown control opcode": (frame(b"x", 11), 1002),
    "a frame without a mask": (frame(b"{}", masked=False), 1002),
    "a continuation of nothing": (frame(b"x", 0), 1002),
    "a message inside another": (frame(b"x", fin=False) + frame(b"x"), 1002),
    "a close code of one byte": (frame(b"\x03", 8), 1002),
    "a close code that may not be sent": (frame((1005).to_bytes(2, "big"), 8), 1002),
    "a close reason that is not UTF-8": (frame((1000).to_bytes(2, "big") + b"\xff", 8), 1007),
    "a length longer than needed": (bytes((0x81, 0xFE, 0, 2)) + MASK + b"ab", 1002),
    "binary for JSON": (frame(b"{}", 2), 1003),
    "1,000 messages at once": (frame(b'{"type":"ping"}') * 1000, 1008),
    "10,000 pings at once": (frame(b"x" * 100, 9) * 10_000, 1008),
    "10,000 pongs at once": (frame(b"", 10) * 10_000, 1008),
}


async def test_what_breaks_the_protocol_is_answered_with_its_close_code() -> None:
    async with served() as (_, gateway), undisturbed(gateway):
        service = gateway.service
        assert service is not None
        for name, (attack, code) in BREACHES.items():
            before = rss_mb()
            raw = await Raw.upgraded(gateway)
            await raw.send(attack)
            assert await raw.code() == code, name
            assert rss_mb() - before < 8.4, name  # 8 MiB are promised, and the attack itself is in this process too
        async with asyncio.timeout(WITHIN):
            while len(service.hall.clients) > 1:
                await asyncio.sleep(0.05)
        assert service._addresses.open == {"127.0.0.1": 1}, "nobody is counted any more who is gone"
        assert not service.doors.waiting


NONSENSE = [
    "[" * 60_000, '{"type":' * 5000, '{"type":"ping","ts":NaN}', '{"type":"ping","ts":Infinity}', '{"type":"ping","ts":1e400}',
    '{"type":"ping","ts":' + "9" * 5000 + "}", '{"type":"ping","ts":-1.5}', '{"type":"subscribe","id":-1,"symbols":["*"]}',
    '{"type":"subscribe","id":1,"symbols":["*"],"bound":1e18}', "\x00", "{}",
]  # fmt: skip


async def test_json_that_would_harm_others_is_explained_and_ends_with_the_tenth() -> None:
    async with served(limits={"messages_per_s": 0}) as (_, gateway), undisturbed(gateway):
        async with connect(address(gateway)) as client:
            await said(client)
            for text in NONSENSE[:9]:
                await client.send(text)
                assert (await said(client))["type"] == "error", text[:40]
            await client.send(NONSENSE[9])
            await ends_with(client, 4505)
        async with connect(address(gateway)) as client:
            await said(client)
            await client.send('{"type":"ping","ts":1,"ts":2,"type":"ping"}')
            answer = await said(client)
            assert (answer["type"], answer["ts"]) == ("pong", 2), (
                "of keys that come twice the last counts, for everybody"
            )


HOSTILE = [
    "../../etc/passwd",
    "kraken:../../x",
    "a\r\nSet-Cookie: b",
    "kraken:BTC\x00",
    "%2e%2e%2f",
    "",
    "\u202e",
    "x" * 256,
    "${jndi:x}",
]


async def test_names_that_would_be_paths_or_headers_are_only_names() -> None:
    async with (
        served(limits={"messages_per_s": 0}) as (_, gateway),
        undisturbed(gateway),
        connect(address(gateway)) as client,
    ):
        await said(client)
        for name in HOSTILE:
            await ask(client, type="subscribe", id=1, symbols=[name], channels=["trade"])
            answer = await said(client)
            assert (answer["type"], answer["reason"]) == ("error", "unknown"), name
            await ask(client, type="subscribe", id=1, symbols=["*"], channels=[name])
            assert (await said(client))["type"] == "error", name
        assert gateway.service is not None
        assert gateway.service.desk.subscriptions == 1, "only the other client's"


PLAIN: dict[str, tuple[bytes, tuple[bytes, ...]]] = {
    "a path upwards": (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", (b"404",)),
    "the same, in disguise": (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", (b"404",)),
    "a path with a line break": (b"GET /livez%0d%0aX-Evil:%20yes HTTP/1.1\r\nHost: x\r\n\r\n", (b"404",)),
    "a bare line break": (b"GET /livez\nX: y HTTP/1.1\r\nHost: x\r\n\r\n", (b"400", b"404")),
    "a request line of 9 kB": (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (b"414",)),
    "headers of 20 kB": (b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 4000 + b"\r\n", (b"", b"400")),
    "300 headers": (b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 300 + b"\r\n", (b"400",)),
    "a folded header": (b"GET /livez HTTP/1.1\r\nX: y\r\n z\r\n\r\n", (b"400",)),
    "POST": (b"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", (b"400",)),
    "HEAD": (b"HEAD /status HTTP/1.1\r\nHost: x\r\n\r\n", (b"400",)),
    "a body": (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", (b"400",)),
    "a body in chunks": (b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", (b"400",)),
    "HTTP/1.0": (b"GET /livez HTTP/1.0\r\n\r\n", (b"400",)),
    "garbage": (bytes(range(1, 200)) + b"\r\n\r\n", (b"400",)),
    "another wrong path": (UPGRADE.replace("/v1/stream", "/v2/stream").encode() + b"\r\n", (b"404",)),
    "another sub-protocol": (UPGRADE.encode() + b"Sec-WebSocket-Protocol: graphql-ws\r\n\r\n", (b"400",)),
    "another version": (UPGRADE.replace("Version: 13", "Version: 99").encode() + b"\r\n", (b"400",)),
    "no key": (UPGRADE.replace("Sec-WebSocket-Key", "X-Key").encode() + b"\r\n", (b"400",)),
    "a foreign origin": (UPGRADE.encode() + b"Origin: https://evil.example\r\n\r\n", (b"403",)),
    "an origin that is no text": (UPGRADE.encode() + b"Origin: \xff\xfe\r\n\r\n", (b"403",)),
    "a host that is none, and the page's own origin for it": (
        UPGRADE.replace("Host: x", "Host: evil.example").encode() + b"Origin: http://evil.example\r\n\r\n", (b"403",),
    ),
}  # fmt: skip


async def test_requests_that_are_none_of_ours_are_refused() -> None:
    async with served() as (_, gateway), undisturbed(gateway):
        for name, (attack, statuses) in PLAIN.items():
            raw = await Raw.at(gateway)
            await raw.send(attack)
            answer = await raw.rest()
            assert b"".join(answer.split()[1:2]) in statuses, (name, answer[:200])
            assert b"X-Evil" not in answer.partition(b"\r\n\r\n")[0], name
            assert b"Traceback" not in answer, name


async def test_tls_at_a_plain_port_ends_with_the_time_for_a_handshake() -> None:
    async with served() as (_, gateway), undisturbed(gateway):
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with asyncio.timeout(WITHIN):
                await Raw.at(gateway, ssl=trusting, ssl_handshake_timeout=8)


async def test_a_token_that_is_no_text_is_a_bad_token(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (_, gateway, _keys):
        for value in ("Bearer \xff\xfe", "Basic eDp5", "Bearer", "Bearer " + "x" * 8000, "Bearer a.b.c"):
            raw = await Raw.at(gateway)
            await raw.send((UPGRADE + f"Authorization: {value}\r\n\r\n").encode("latin-1"))
            assert (await raw.rest()).split()[1] == b"401", value[:20]


async def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """512 MiB of nothing in half a megabyte, to a gateway that was offered compression and did not take it."""
    squeeze = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(512)) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 1 << 20
    parts = [bomb[at : at + 60_000] for at in range(0, len(bomb), 60_000)]
    one = frame(parts[0], 2, reserved=4)
    many = frame(parts[0], 2, fin=False, reserved=4) + b"".join(frame(part, 0, fin=False) for part in parts[1:])
    async with served() as (_, gateway), undisturbed(gateway):
        for attack in (one, many):
            before = rss_mb()
            raw = await Raw.at(gateway)
            raw.writer.write(
                (UPGRADE + "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n").encode()
            )
            async with asyncio.timeout(WITHIN):
                head = await raw.reader.readuntil(b"\r\n\r\n")
            assert b" 101 " in head and b"extensions" not in head.lower()
            await raw.send(attack)
            assert await raw.code() == 1002
            assert rss_mb() - before < 16


async def test_ten_thousand_hostile_names_open_no_file() -> None:
    seed = random.randrange(1 << 32)
    luck = random.Random(seed)
    print("seed", seed)
    pieces = [
        "..",
        "/",
        "\\",
        "%2e%2e%2f",
        "\x00",
        "etc",
        "passwd",
        "~",
        ".",
        "\r\n",
        "C:",
        "kraken:",
        "BTC",
        "*",
        "\u202e",
        "tape",
        "${x}",
        "'",
        ";",
    ]
    names = ["zz" + "".join(luck.choices(pieces, k=luck.randint(2, 12))) for _ in range(10_000)]
    opened: list[str] = []
    listening = True
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if listening and event in PATHS else None)
    async with served(limits={"messages_per_s": 0}) as (_, gateway), connect(address(gateway)) as client:
        await said(client)
        opened.clear()
        for at in range(0, len(names), 100):
            for name in names[at : at + 100]:
                await ask(client, type="subscribe", id=1, symbols=[name], channels=["trade"])
            for name in names[at : at + 100]:
                answer = await said(client)
                assert (answer["type"], answer["reason"]) == ("error", "unknown"), (seed, name)
        for name in names[:100]:
            raw = await Raw.at(gateway)
            await raw.send(b"GET /" + quote(name, safe="/.").encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await raw.rest()).split()[1] == b"404", (seed, name)
    Path(__file__).read_bytes()
    listening = False
    assert __file__ in opened, "it would have been seen"
    assert [path for path in opened if "zz" in path or ".." in path or path.startswith("/etc")] == [], seed


async def test_dripped_handshakes_are_closed_in_time_and_others_come_in_quickly() -> None:
    count = 1000 if os.environ.get("TRUETAPE_SOAK") else 200
    async with served() as (_, gateway), undisturbed(gateway):
        assert gateway.service is not None
        doors = gateway.service.doors
        before = rss_mb()
        slow = [await Raw.at(gateway) for _ in range(count)]
        for raw in slow:
            raw.writer.write(b"GET /v1/st")
        async with asyncio.timeout(WITHIN):
            while len(doors.waiting) < count:
                await asyncio.sleep(0.01)
            assert rss_mb() - before < 0.05 * count + 20
            waits = []
            for _ in range(100):
                asked = time.monotonic()
                async with connect(address(gateway)) as client:
                    assert (await said(client))["type"] == "hello"
                    waits.append(time.monotonic() - asked)
            assert sorted(waits)[98] < HANDSHAKE_P99_S, "while they all wait"
        async with asyncio.timeout(WITHIN):
            while doors.waiting:
                for raw in slow:
                    raw.writer.write(b"r")
                await asyncio.sleep(0.2)
        for raw in slow:
            raw.writer.close()


async def test_sockets_that_never_finish_a_handshake_are_bounded_for_each_address() -> None:
    async with served(limits={"connections_per_address": 20}) as (_, gateway):
        assert gateway.service is not None
        doors = gateway.service.doors
        many = [await Raw.at(gateway) for _ in range(50)]
        async with asyncio.timeout(WITHIN):
            while doors.turned_away < 30:
                await asyncio.sleep(0.01)
        assert len(doors.waiting) == 20
        for raw in many:
            raw.writer.close()
        async with asyncio.timeout(WITHIN):
            while doors.waiting:
                await asyncio.sleep(0.01)
        async with connect(address(gateway)) as client:
            assert (await said(client))["type"] == "hello"


class Library:
    """A host with one long book."""

    def get(self, _request: Request) -> Answer:
        return Answer(200, bytes(20 << 20))

    def upgrade(self, _request: Request) -> Answer:
        return Answer(404)


async def test_who_asks_for_a_page_and_never_reads_it_is_dropped() -> None:
    doors = Doors(10, answer_s=0.5)
    server = await listen(Library(), doors, "127.0.0.1", 0, None, 65_536)
    raw = socket.create_connection(server.sockets[0].getsockname())
    raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(WITHIN):
        while not doors.waiting:
            await asyncio.sleep(0.01)
        while doors.waiting:
            await asyncio.sleep(0.05)
    raw.settimeout(WITHIN)
    with suppress(ConnectionError):
        got = await asyncio.to_thread(
            lambda: sum(iter(lambda: len(raw.recv(1 << 20)), 0))
        )  # the loop may have the cut before it still
        assert got < 20 << 20, "it was cut off"
    raw.close()
    server.close()


async def test_too_many_connections_of_an_address_are_sent_away_and_those_that_left_are_forgotten() -> None:
    async with served(limits={"connections_per_address": 3, "handshakes_per_s": 0}) as (_, gateway):
        assert gateway.service is not None
        for _ in range(3):
            first = [await connect(address(gateway)) for _ in range(3)]
            async with connect(address(gateway)) as client:
                await ends_with(client, 1008)
            for one in first:
                assert (await said(one))["type"] == "hello"
                await one.close()
            async with asyncio.timeout(WITHIN):
                while gateway.service._addresses.open or gateway.service.hall.clients:
                    await asyncio.sleep(0.02)


@pytest.mark.parametrize("where", ["header", "message"])
async def test_too_many_connections_of_a_token_are_sent_away_however_it_came(tmp_path: Path, where: str) -> None:
    async with guarded(tmp_path, limits={"connections_per_token": 2}) as (_, gateway, keys):
        assert gateway.service is not None
        text = token(keys)

        async def come() -> Any:
            if where == "header":
                return await connect(address(gateway), additional_headers={"Authorization": f"Bearer {text}"})
            client = await connect(address(gateway))
            await said(client)
            await ask(client, type="authenticate", token=text)
            return client

        for _ in range(3):
            two = [await come(), await come()]
            for one in two:
                assert (await said(one))["type"] in ("hello", "authenticated")
            for _ in range(2):
                third = await come()
                await ends_with(third, 1008)
            if where == "message":
                await ask(two[0], type="authenticate", token=token(keys))
                assert (await said(two[0]))["type"] == "authenticated", "a renewal is no new connection"
            assert gateway.service._tokens.open == {"bob": 2}
            for one in two:
                await one.close()
            async with asyncio.timeout(WITHIN):
                while gateway.service._tokens.open or gateway.service._addresses.open:
                    await asyncio.sleep(0.02)


async def test_a_flood_of_connections_is_sent_away_and_passes() -> None:
    async with served(limits={"handshakes_per_s": 5}) as (_, gateway), undisturbed(gateway):
        codes = []
        for _ in range(60):
            raw = await Raw.upgraded(gateway)
            raw.writer.write(frame((1000).to_bytes(2, "big"), 8))
            codes.append(await raw.code())
        assert codes.count(1008) >= 10
        async with asyncio.timeout(WITHIN):
            while True:
                async with connect(address(gateway)) as client:
                    if (await said(client))["type"] == "hello":
                        break
                await asyncio.sleep(0.2)


async def test_who_takes_nothing_is_cut_after_write_s_with_bounded_bytes() -> None:
    limits = {"write_s": 0.5, "buffer_bytes": 8192}
    async with served(rate=2000, limits=limits) as (_, gateway), undisturbed(gateway):
        assert gateway.service is not None
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        raw.connect(("127.0.0.1", port(gateway)))
        asked = json.dumps({"type": "subscribe", "id": 1, "symbols": ["kraken:*"], "channels": ["book"]}).encode()
        raw.sendall((UPGRADE + "\r\n").encode() + frame(asked))
        gone = asyncio.get_running_loop().time() + 60
        seen: dict[str, Any] | None = None
        while asyncio.get_running_loop().time() < gone:
            rows = [row for row in truetape_clients(gateway) if row["subscriptions"] and row["buffered_bytes"]]
            blocked = [row for row in rows if row["blocked"]]
            if blocked:
                seen = blocked[0]
                assert seen["buffered_bytes"] < 8192 + 256 * 1024, "one turn above the limit, at most"
            elif seen is not None:
                break
            await asyncio.sleep(0.02)
        assert seen is not None, "it was never blocked"
        async with asyncio.timeout(WITHIN):
            while len(gateway.service.hall.clients) > 1:
                await asyncio.sleep(0.02)
        raw.close()


def truetape_clients(gateway: truetape.Gateway) -> list[dict[str, Any]]:
    """What GET /clients tells."""
    assert gateway.service is not None
    return Pages(gateway.service).clients()
