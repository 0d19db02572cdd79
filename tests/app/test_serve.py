"""The downstream service with real sockets: a simulated venue, a gateway, and clients that are not ours."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import websockets
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from websockets.asyncio.client import ClientConnection, connect

import truetape
from truetape.app.config import ConfigError
from truetape.app.live import Gateway
from truetape.app.secrets import Secret
from truetape.app.sim import Options, Simulator
from truetape.io.clock import now as clock
from truetape.io.serve.tokens import Keyring
from truetape.model.event import Status

WITHIN = 10.0


@asynccontextmanager
async def served(rate: float = 200, **serve: Any) -> AsyncIterator[tuple[Simulator, Gateway]]:
    async with Simulator(Options(venue="kraken", symbols=2, rate=rate)) as sim:
        feed = {"venue": "kraken", "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest}
        async with truetape.open({"feeds": [feed], "serve": {"port": 0, **serve}}) as gateway:
            assert await gateway.ready()
            yield sim, gateway


def address(gateway: Gateway) -> str:
    assert gateway.service is not None
    return f"ws://127.0.0.1:{gateway.service.port}/v1/stream"


async def said(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(WITHIN):
        found: dict[str, Any] = json.loads(await client.recv())
        return found


async def ask(client: ClientConnection, **fields: Any) -> None:
    await client.send(json.dumps(fields))


async def events(client: ClientConnection, count: int, offsets: dict[str, int]) -> list[dict[str, Any]]:
    """At least so many events, as they came; `offsets` is brought up to date."""
    got: list[dict[str, Any]] = []
    while len(got) < count:
        message = await said(client)
        if message["type"] == "data":
            got += message["events"]
            offsets.update(message["offsets"])
    return got


async def test_a_late_subscriber_has_the_whole_book_at_once_and_then_the_changes() -> None:
    async with served() as (sim, gateway), connect(address(gateway)) as client:
        hello = await said(client)
        assert (hello["type"], hello["protocol"], hello["token"]) == ("hello", "truetape.v1", "none")
        await ask(client, type="subscribe", id=7, symbols=["kraken:*"], channels=["book_delta"])
        answer = await said(client)
        assert answer["type"] == "subscribed"
        assert {row["topic"] for row in answer["topics"]} == {f"book_delta:kraken:{name}" for name in sim.symbols}
        got = await events(client, 20, {})
        for name in sim.symbols:
            assert next(event for event in got if event["symbol"] == name)["snapshot"]


async def test_who_comes_back_goes_on_exactly_where_it_stopped() -> None:
    async with served() as (_, gateway):
        box = gateway.subscribe("kraken:*", ["trade", "book_delta"], bound=100_000)
        offsets: dict[str, int] = {}
        got: list[dict[str, Any]] = []
        epoch = ""
        for visit in range(6):
            async with connect(address(gateway)) as client:
                hello = await said(client)
                epoch = epoch or hello["epoch"]
                resume = {"epoch": epoch, "offsets": offsets} if visit else None
                await ask(
                    client,
                    type="subscribe",
                    id=1,
                    symbols=["kraken:*"],
                    channels=["trade", "book_delta"],
                    resume=resume,
                )
                answer = await said(client)
                assert all(row.get("recovered") is True for row in answer["topics"] if row["topic"] in offsets)
                got += await events(client, 30, offsets)
        changes = [event for event in got if not event.get("snapshot")]
        published = msgspec.to_builtins(box_events(box))
        box.close()
        for name in {event["symbol"] for event in changes}:
            mine = [event["recv"] for event in changes if event["symbol"] == name and event["kind"] == "book"]
            theirs = [
                event["recv"]
                for event in published
                if event["symbol"] == name and event["kind"] == "book" and not event.get("snapshot")
            ]
            start = theirs.index(mine[0])
            assert mine == theirs[start : start + len(mine)], "nothing missing, nothing twice"


def box_events(box: truetape.Subscription) -> list[Any]:
    return box._box.take(100_000, 0)


async def test_who_was_away_for_too_long_is_told_so_and_begins_anew() -> None:
    async with served(history=5) as (sim, gateway), connect(address(gateway)) as client:
        await said(client)
        topic = f"book_delta:kraken:{sim.symbols[0]}"
        await ask(
            client, type="subscribe", id=1, symbols=[f"kraken:{sim.symbols[0]}"], channels=["book_delta"],
            resume={"epoch": "another", "offsets": {topic: 3}},
        )  # fmt: skip
        answer = await said(client)
        assert answer["topics"] == [{"topic": topic, "offset": answer["topics"][0]["offset"], "recovered": False}]
        got = await events(client, 2, {})
        assert (got[0]["kind"], got[0]["reason"], got[0]["dropped"]) == ("lagged", "not_recovered", -1)
        assert got[1]["snapshot"]


async def test_messages_that_are_none_are_explained_and_ten_of_them_end_it() -> None:
    async with served() as (_, gateway), connect(address(gateway)) as client:
        await said(client)
        for _ in range(9):
            await client.send('{"type":"subscribe"}')
            answer = await said(client)
            assert answer["type"] == "error"
            assert "missing required field `id`" in answer["text"]
        await client.send("[]")
        assert (await said(client))["reason"] == "bad_message"
        with pytest.raises(websockets.ConnectionClosed):
            await said(client)
        assert client.close_code == 4505


@pytest.mark.parametrize("packed", [False, True])
async def test_an_error_names_the_message_that_it_is_about_where_that_can_be_read(packed: bool) -> None:
    wrong = {"type": "subscribe", "symbols": ["kraken:*"], "channels": ["trade"], "depht": 5}
    encode, decode = (msgspec.msgpack.encode, msgspec.msgpack.decode) if packed else (json.dumps, json.loads)
    protocols: Any = ["truetape.v1.msgpack"] if packed else None
    async with served() as (_, gateway), connect(address(gateway), subprotocols=protocols) as client:
        await client.recv()
        for number, expected in ((7, 7), ("seven", -1), (-3, -1), (None, -1)):
            await client.send(encode({**wrong, "id": number} if number is not None else wrong))
            answer = decode(await client.recv())
            assert (answer["type"], answer["reason"], answer["id"]) == ("error", "bad_message", expected)
            assert "depht" in answer["text"] or number != 7


async def test_message_pack_by_sub_protocol_and_a_wrong_kind_of_frame_ends_it() -> None:
    packed: Any = ["truetape.v1.msgpack"]
    async with served() as (_, gateway), connect(address(gateway), subprotocols=packed) as client:
        assert msgspec.msgpack.decode(await client.recv())["type"] == "hello"
        await client.send(msgspec.msgpack.encode({"type": "ping", "ts": 5}))
        answer = msgspec.msgpack.decode(await client.recv())
        assert (answer["type"], answer["ts"]) == ("pong", 5)
        await client.send("{}")
        with pytest.raises(websockets.ConnectionClosed):
            await client.recv()
        assert client.close_code == 1003


async def test_clients_that_read_the_same_are_filled_as_one_until_one_of_them_wants_more_or_is_told_goodbye() -> None:
    async with served() as (sim, gateway), connect(address(gateway)) as one, connect(address(gateway)) as two:
        assert gateway.service is not None
        hall = gateway.service.hall
        offsets: dict[str, int] = {}
        for client in (one, two):
            await said(client)
            await ask(client, type="subscribe", id=1, symbols=["kraken:*"], channels=["trade"])
            assert (await said(client))["type"] == "subscribed"
            await events(client, 5, offsets)
        async with asyncio.timeout(WITHIN):
            while not hall.leaders:
                await events(one, 1, offsets)
                await events(two, 1, offsets)
        first, second = hall.clients
        assert {client.boxes[1].chorus is not None for client in (first, second)} == {True}
        await ask(one, type="subscribe", id=2, symbols=[f"kraken:{sim.symbols[0]}"], channels=["book"])
        while (await said(one))["type"] != "subscribed":
            pass
        assert first.boxes[1].chorus is None, "two writes to one client in one turn would be one too many"
        box = second.boxes[1]
        assert box.chorus is not None
        second.say(second.peer.end("too_slow", "as if", clock()))
        assert box.chorus is None
        before = box.ledger().delivered
        await events(one, 20, offsets)
        assert box.ledger().delivered == before, "what is not sent is not counted as delivered"
        assert hall.leaders == []


async def test_the_unix_socket_speaks_the_same_messages(tmp_path: Path) -> None:
    path = tmp_path / "serve.sock"
    async with served(socket=str(path)) as (_, gateway):
        assert gateway.service is not None
        assert path.stat().st_mode & 0o777 == 0o600
        reader, writer = await asyncio.open_unix_connection(path)

        async def next_one() -> dict[str, Any]:
            async with asyncio.timeout(WITHIN):
                size = int.from_bytes(await reader.readexactly(4), "big")
                found: dict[str, Any] = json.loads(await reader.readexactly(size))
                return found

        writer.write(b"truetape.v1.json\n")
        assert (await next_one())["type"] == "hello"
        asked = json.dumps({"type": "subscribe", "id": 1, "symbols": ["kraken:*"], "channels": ["trade"]}).encode()
        writer.write(len(asked).to_bytes(4, "big") + asked)
        assert (await next_one())["type"] == "subscribed"
        while not any(event["kind"] == "trade" for event in (await next_one())["events"]):
            pass  # statuses of the books come first
        writer.close()
    assert not path.exists()


async def test_at_the_end_clients_are_told_to_come_back() -> None:
    async with served() as (_, gateway):
        client = await connect(address(gateway))
        await said(client)
    bye = await said(client)
    assert (bye["type"], bye["reason"], bye["code"]) == ("bye", "draining", 4000)
    with pytest.raises(websockets.ConnectionClosed):
        await said(client)
    assert client.close_code == 4000


SECRET = "0123456789abcdef0123456789abcdef-and-more"


@asynccontextmanager
async def guarded(tmp_path: Path, **serve: Any) -> AsyncIterator[tuple[Simulator, Gateway, Keyring]]:
    """A service that asks for tokens of two keys, and the keys."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    made = Ed25519PrivateKey.generate()
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    keys = [
        {"id": "old", "secret": f"file:{secret}"},
        {"id": "new", "alg": "EdDSA", "public": f"file:{public}", "private": f"file:{private}"},
    ]
    async with served(keys=keys, revoked_file=str(tmp_path / "revoked.txt"), **serve) as (sim, gateway):
        assert gateway.service is not None
        assert gateway.service.keyring is not None
        yield sim, gateway, gateway.service.keyring


def token(keys: Keyring, *allow: str, key: str = "", role: Any = "reader", life_s: float = 60) -> str:
    return keys.issue("bob", role, allow or ("*",), clock() + round(life_s * 1e9), clock(), key)[0]


async def ends_with(client: ClientConnection, code: int) -> None:
    with pytest.raises(websockets.ConnectionClosed):
        while True:
            await said(client)
    assert client.close_code == code


@pytest.mark.parametrize("key", ["old", "new"])
async def test_a_token_in_the_header_or_in_the_first_message_opens(tmp_path: Path, key: str) -> None:
    async with guarded(tmp_path) as (_, gateway, keys):
        header = {"Authorization": f"Bearer {token(keys, key=key)}"}
        async with connect(address(gateway), additional_headers=header) as client:
            assert (await said(client))["token"] == "none"
        async with connect(address(gateway)) as client:
            assert (await said(client))["token"] == "required"
            await ask(client, type="authenticate", token=token(keys, "kraken:BTC-USDT", key=key))
            answer = await said(client)
            assert (answer["type"], answer["name"], answer["allow"]) == ("authenticated", "bob", ["kraken:BTC-USDT"])


async def test_a_token_entitles_to_its_patterns_and_to_nothing_else(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (_, gateway, keys), connect(address(gateway)) as client:
        await said(client)
        await ask(client, type="authenticate", token=token(keys, "kraken:BTC-USDT/trade"))
        await said(client)
        for id_, (symbols, channels) in enumerate(
            [
                (["kraken:ETH-USDT"], ["trade"]),
                (["kraken:BTC-USDT"], ["book"]),
                (["kraken:*"], ["trade"]),
                (["*"], ["trade"]),
            ]
        ):
            await ask(client, type="subscribe", id=id_, symbols=symbols, channels=channels)
            answer = await said(client)
            assert (answer["type"], answer["reason"], answer["id"]) == ("error", "forbidden", id_)
        await ask(client, type="subscribe", id=9, symbols=["kraken:BTC-USDT"], channels=["trade"])
        assert (await said(client))["type"] == "subscribed"


async def test_forged_tokens_are_refused(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (_, gateway, keys):
        public = (tmp_path / "public.pem").read_text()
        body = {"iss": "truetape", "sub": "eve", "role": "admin", "allow": ["*"], "exp": 2**32, "jti": "1"}

        def made(header: dict[str, str], signature: Callable[[bytes], bytes]) -> str:
            parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, body)]
            text = b".".join(parts)
            return (text + b"." + base64.urlsafe_b64encode(signature(text)).rstrip(b"=")).decode()

        def mac(secret: str) -> Callable[[bytes], bytes]:
            return lambda text: hmac.digest(secret.encode(), text, "sha256")

        good = token(keys)
        forged = [
            made({"alg": "none", "kid": "old"}, lambda _: b""),
            made({"alg": "None", "kid": "old"}, lambda _: b""),
            made({"alg": "HS256", "kid": "new"}, mac(public)),  # the public key taken for a secret
            made({"alg": "HS256", "kid": "../../dev/null"}, mac("")),
            made({"alg": "HS256"}, mac(SECRET)),
            made({"alg": "HS256", "kid": "old"}, mac("guess")),
            good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"),
            "", "a.b.c", "x" * 5000,
        ]  # fmt: skip
        for text in forged:
            async with connect(address(gateway)) as client:
                await said(client)
                await ask(client, type="authenticate", token=text)
                assert (await said(client))["reason"] == "bad_token"
                await ends_with(client, 4501)
        async with connect(address(gateway)) as client:
            await said(client)
            await ask(client, type="authenticate", token=made({"alg": "HS256", "kid": "old"}, mac(SECRET)))
            assert (await said(client))["type"] == "authenticated", "the same body with a true signature"


async def test_without_a_token_in_time_the_door_closes(tmp_path: Path) -> None:
    async with guarded(tmp_path, limits={"authenticate_within_s": 0.3}) as (_, gateway, _keys):
        async with connect(address(gateway)) as client:
            await ends_with(client, 4500)
        async with connect(address(gateway)) as client:
            await said(client)
            await ask(client, type="subscribe", id=1, symbols=["*"])
            await ends_with(client, 4500)


async def test_expiry_and_revocation_reach_clients_that_are_connected(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (_, gateway, keys):
        async with connect(address(gateway)) as client:
            await said(client)
            await ask(client, type="authenticate", token=token(keys, life_s=2))
            began = clock()
            await ends_with(client, 4502)
            assert clock() - began < 5e9
        async with connect(address(gateway)) as client:
            await said(client)
            text, number = keys.issue("bob", "reader", ["*"], clock() + 10**12, clock())
            await ask(client, type="authenticate", token=text)
            assert (await said(client))["type"] == "authenticated"
            (tmp_path / "revoked.txt").write_text(f"{number}  # bob left\n")
            began = clock()
            await ends_with(client, 4503)
            assert clock() - began < 5e9
        async with connect(address(gateway)) as client:
            await said(client)
            await ask(client, type="authenticate", token=text)
            await ends_with(client, 4503)


async def test_a_token_in_the_address_is_taken_only_where_the_config_says_so(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (_, gateway, keys):
        with pytest.raises(websockets.InvalidStatus, match="400"):
            await connect(f"{address(gateway)}?token={token(keys)}")
    async with (
        guarded(tmp_path, token_in_url=True) as (_, gateway, keys),
        connect(f"{address(gateway)}?token={token(keys)}") as client,
    ):
        assert (await said(client))["token"] == "none"


ORIGINS = [
    "null", "", "https://evil.example", "https://desk.example.evil.com", "https://evil-desk.example", "https://desk.example:444",
    "http://desk.example", "https://DESK.example", "https://desk.example/", "https://desk.example@evil.com", "https://user@desk.example",
    "https://sub.desk.example", "https://desk.example.", "https://dеsk.example", "https://desk%2eexample", "file://", "desk.example",
    "https://desk.example evil", "https://desk.example,https://evil.example", "HTTPS://desk.example", "https:/desk.example",
    "https://desk.example\\@evil.com", "https://desk.example#", "https://desk.example?", "data:text/html,x",
]  # fmt: skip


async def test_hostile_origins_are_refused_and_the_listed_one_is_not() -> None:
    async with served(origins=["https://desk.example"]) as (_, gateway):
        assert gateway.service is not None
        for origin in ORIGINS:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.service.port)
            writer.write(
                f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\nOrigin: {origin}\r\n\r\n".encode()
            )
            async with asyncio.timeout(WITHIN):
                status = (await reader.readline()).split()[1:2]
            assert status != [b"101"], origin
            writer.close()
        async with connect(address(gateway), origin="https://desk.example") as client:  # type: ignore[arg-type]
            assert (await said(client))["type"] == "hello"


async def test_a_gateway_does_not_listen_beyond_this_machine_unless_told_in_words() -> None:
    with pytest.raises(ConfigError, match='accept_risk = "no TLS and no tokens"'):
        async with served(host="0.0.0.0"):
            pass
    async with (
        served(host="0.0.0.0", accept_risk="no TLS and no tokens") as (_, gateway),
        connect(address(gateway)) as client,
    ):
        assert (await said(client))["type"] == "hello"


async def test_a_key_that_a_venue_repeats_reaches_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_CANARY", "canary-7b1f")
    Secret("env:A_CANARY").reveal()
    async with served() as (sim, gateway), connect(address(gateway)) as client:
        await said(client)
        await ask(client, type="subscribe", id=1, symbols=["kraken:*"], channels=["trade"])
        assert (await said(client))["type"] == "subscribed"
        now = clock()
        status = Status("kraken", sim.symbols[0], "", now, "trade", "CLOSED", "bad_key: canary-7b1f is none", since=now)
        gateway.pump.judge.tell(status)
        gateway.driver.wake(now)
        while True:
            text = str(await said(client))
            assert "canary-7b1f" not in text
            if "bad_key: *** is none" in text:
                break
