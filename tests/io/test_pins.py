"""Pins, proxies and credentials on real sockets: what is checked before anything is sent, and what is sent where."""

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.asyncio.server import serve

from tests.io.test_driver import driven, hold
from truetape.io.net.http import Getter
from truetape.io.net.pins import Pins, days_left, guard, pin
from truetape.model import record
from truetape.model.effect import Fetch


def server_of(authority: trustme.CA, **options: Any) -> tuple[ssl.SSLContext, str]:
    """A server's context with a certificate of its own, and the pin of that, computed by another library."""
    issued = authority.issue_cert("localhost", "127.0.0.1", **options)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    key = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return context, "sha256/" + base64.b64encode(hashlib.sha256(spki).digest()).decode()


class Venue:
    """A WebSocket over TLS that counts the upgrade requests which it was sent."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    def seen(self, _connection: Any, request: Any) -> None:
        self.requests.append(request.path)


@asynccontextmanager
async def venue(context: ssl.SSLContext, port: int = 0) -> AsyncIterator[tuple[Venue, int]]:
    it = Venue()
    async with serve(hold, "127.0.0.1", port, ssl=context, process_request=it.seen) as running:
        yield it, running.sockets[0].getsockname()[1]


def client(authority: trustme.CA, tmp_path: Path, pins: Pins) -> dict[str, Any]:
    """How a gateway dials that trusts this authority and holds these pins."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = guard(ssl.create_default_context(cafile=str(tmp_path / "ca.pem")), pins)
    return {"ssl_context": context, "pins": pins, "secret": lambda: "SESAME"}


OTHER = "sha256/" + base64.b64encode(bytes(32)).decode()


async def test_the_venue_may_change_to_the_backup_key_and_to_no_other(tmp_path: Path) -> None:
    authority = trustme.CA()
    (first, one), (backup, two), (stranger, three) = (server_of(authority) for _ in range(3))
    said: list[str] = []
    pins = Pins([one, two], tell=lambda _found, text: said.append(text))
    how = client(authority, tmp_path, pins)
    for context, allowed in ((first, True), (backup, True), (stranger, False)):
        async with (
            venue(context) as (it, port),
            driven(f"wss://localhost:{port}/v2?key={{secret}}", how, secret="env:KEY") as rig,
        ):
            if allowed:
                await rig.kept.until(lambda rig=rig: rig.kept.of(record.OPENED))
                assert it.requests == ["/v2?key=SESAME"] and pins.matched
                continue
            lost = await rig.kept.lost()
            assert lost[3].startswith("wrong_pin: localhost: expected a certificate with one of the keys")
            assert one in lost[3] and two in lost[3] and three in lost[3]
            assert it.requests == [], "not even the request line left, which holds the key"
            wait = rig.session.deadline - lost[2]
            assert 30e9 <= wait <= 34e9, "a wrong key is no passing fault: dialed again, but slowly"
    assert len(said) == 1 and three in said[0] and not pins.matched


async def test_report_only_tells_and_goes_on(tmp_path: Path) -> None:
    authority = trustme.CA()
    context, found = server_of(authority)
    said: list[str] = []
    pins = Pins([OTHER], report_only=True, tell=lambda key, _text: said.append(key))
    async with (
        venue(context) as (_, port),
        driven(f"wss://localhost:{port}/v2", client(authority, tmp_path, pins)) as rig,
    ):
        await rig.kept.until(lambda: rig.kept.of(record.OPENED))
    assert said == [found] and pins.matched is False


async def test_rest_is_pinned_too_and_sends_nothing_to_a_stranger(tmp_path: Path) -> None:
    authority = trustme.CA()
    context, found = server_of(authority)
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/depth"
    getter = Getter()
    try:
        for expected, status in ((OTHER, 0), (found, 200)):
            how = client(authority, tmp_path, Pins([expected]))
            got = await getter.get(url, ssl_context=how["ssl_context"])
            assert got.status == status, got.body
            assert len(asked) == (status == 200)
            assert status == 200 or found in got.body.decode()
    finally:
        await getter.close()
        server.close()


class Proxy:
    """An HTTP proxy that knows CONNECT and nothing else."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(maxsplit=2)
        self.asked.append(f"{method} {target}")
        writer.write(self.answer)
        if b" 200 " in self.answer:
            host, _, port = target.partition(":")
            there, back = await asyncio.open_connection(host, int(port))
            await asyncio.gather(self.pipe(reader, back), self.pipe(there, writer), return_exceptions=True)
        writer.close()

    @staticmethod
    async def pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        target.close()


@asynccontextmanager
async def proxy() -> AsyncIterator[tuple[Proxy, str]]:
    it = Proxy()
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    try:
        yield it, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("pinned", [False, True])
async def test_the_stream_goes_through_a_proxy_to_a_venue_with_a_certificate_of_ours(
    tmp_path: Path, pinned: bool
) -> None:
    authority = trustme.CA()
    context, found = server_of(authority)
    how = client(authority, tmp_path, Pins([found]))
    if not pinned:
        how["ssl_context"] = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        how["pins"] = None
    async with venue(context) as (it, port), proxy() as (between, address):
        async with driven(
            f"wss://localhost:{port}/v2?key={{secret}}", {**how, "proxy": address}, secret="env:KEY"
        ) as rig:
            await rig.kept.until(lambda: rig.kept.of(record.OPENED))
        assert between.asked == [f"CONNECT localhost:{port}"], "the key is inside the tunnel"
        assert it.requests == ["/v2?key=SESAME"]


async def test_rest_goes_through_the_same_proxy(tmp_path: Path) -> None:
    authority = trustme.CA()
    context, found = server_of(authority)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    getter = Getter()
    async with proxy() as (between, address):
        how = client(authority, tmp_path, Pins([found]))
        got = await getter.get(f"https://localhost:{port}/depth", ssl_context=how["ssl_context"], proxy=address)
        await getter.close()
    server.close()
    assert (got.status, got.body) == (200, b"{}") and between.asked == [f"CONNECT localhost:{port}"]


async def test_a_proxy_that_refuses_is_a_failed_dial_that_says_so(tmp_path: Path) -> None:
    authority = trustme.CA()
    context, _ = server_of(authority)
    async with venue(context) as (_, port), proxy() as (between, address):
        between.answer = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
        async with driven(
            f"wss://localhost:{port}/v2", {**client(authority, tmp_path, Pins([OTHER])), "proxy": address}
        ) as rig:
            lost = await rig.kept.lost()
    assert lost[3].startswith("dial_failed: ") and "502" in lost[3]


async def test_a_credential_is_read_from_its_file_on_each_dial(tmp_path: Path) -> None:
    authority = trustme.CA()
    context, found = server_of(authority)
    key = tmp_path / "key"
    key.write_text("first")
    how = {**client(authority, tmp_path, Pins([found])), "secret": key.read_text}
    async with venue(context) as (it, port):
        async with driven(f"wss://localhost:{port}/v2?key={{secret}}", how, secret="env:KEY") as rig:
            await rig.kept.until(lambda: rig.kept.of(record.OPENED))
            key.write_text("second")
            rig.driver._lines[rig.source].abort()
            await rig.kept.until(lambda: len(rig.kept.of(record.OPENED)) == 2)
        assert it.requests == ["/v2?key=first", "/v2?key=second"]


@pytest.mark.parametrize("kind", [trustme.KeyType.RSA, trustme.KeyType.ECDSA])
def test_pins_are_those_of_another_library(kind: trustme.KeyType) -> None:
    issued = trustme.CA().issue_cert("localhost", key_type=kind)
    certificate = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey) == (kind is trustme.KeyType.ECDSA)
    der = certificate.public_bytes(Encoding.DER)
    assert pin(der) == "sha256/" + base64.b64encode(hashlib.sha256(spki).digest()).decode()
    for cut in range(len(der)):
        try:
            pin(der[:cut])
        except ValueError:
            continue
        raise AssertionError(f"a certificate of {cut} bytes has no pin")


async def test_a_certificate_that_ends_soon_is_told(tmp_path: Path) -> None:
    authority = trustme.CA()
    soon = datetime.now(UTC) + timedelta(days=12)
    context, found = server_of(authority, not_after=soon)
    for pins in (Pins([found]), None):
        how = client(authority, tmp_path, pins or Pins([]))
        if pins is None:
            how["ssl_context"], how["pins"] = ssl.create_default_context(cafile=str(tmp_path / "ca.pem")), None
        async with venue(context) as (_, port), driven(f"wss://localhost:{port}/v2", how) as rig:
            said: list[dict[str, Any]] = []
            rig.driver.log = lambda event, said=said, **fields: said.append({"event": event, **fields})
            await rig.kept.until(lambda rig=rig: rig.driver.certificate_days)
            assert 11 < rig.driver.certificate_days[rig.source] < 12.1
            assert [row["days"] for row in said if "expires soon" in row["event"]] == [pytest.approx(12, abs=0.2)]
    assert days_left(None, 0) is None


async def test_a_certificate_of_rest_that_ends_soon_is_told_once_a_day(tmp_path: Path) -> None:
    authority = trustme.CA()
    context, _ = server_of(authority, not_after=datetime.now(UTC) + timedelta(days=12, hours=6))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    how = client(authority, tmp_path, Pins([]))
    how["ssl_context"], how["pins"] = ssl.create_default_context(cafile=str(tmp_path / "ca.pem")), None
    try:
        async with driven("ws://127.0.0.1:1/", how) as rig:
            said: list[dict[str, Any]] = []
            rig.driver.log = lambda event, **fields: said.append({"event": event, **fields})
            await rig.kept.lost()  # the driver runs
            for count in (1, 2):
                rig.driver.apply([Fetch(rig.source, "depth:X", f"https://localhost:{port}/depth")])
                await rig.kept.until(lambda count=count: len(rig.kept.of(record.FETCHED)) == count)
    finally:
        server.close()
    alarms = [row for row in said if "expires soon" in row["event"]]
    assert [(row["source"], row["days"]) for row in alarms] == [(f"{rig.source} rest", pytest.approx(12.2, abs=0.2))]
