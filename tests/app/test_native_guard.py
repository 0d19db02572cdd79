"""Who may speak a venue's protocol with a gateway, for how long, and how much: tokens, limits, bots that do not read."""

from __future__ import annotations

import asyncio
import json
import logging
import socket as sockets
from pathlib import Path
from urllib.error import HTTPError

import pytest
from websockets.exceptions import InvalidStatus

from native_bots import WITHIN, BinanceBot, ConnectionClosed, connect, fetched, said, served, until
from truetape.io.clock import now as clock
from truetape.io.serve.tokens import Key, Keyring

SECRET = "a-secret-of-more-than-thirty-two-bytes!"
KEYS = [{"id": "k1", "secret": "env:TT_NATIVE_KEY"}]
SECOND = 1_000_000_000


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TT_NATIVE_KEY", SECRET)


def token(*allow: str, ttl: int = 3600 * SECOND) -> str:
    keys = Keyring([Key("k1", "HS256", lambda: SECRET, lambda: SECRET)])
    return keys.issue("bot", "reader", allow or ("*",), clock() + ttl, clock())[0]


async def refused(address: str, **options: object) -> int:
    with pytest.raises(InvalidStatus) as failed:
        async with connect(address, **options):  # type: ignore[arg-type]
            pass
    return failed.value.response.status_code


async def test_where_tokens_are_asked_for_a_bot_needs_one_for_its_socket_and_its_gets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    mine = token("binance:BTC-USDT")
    async with served("binance", keys=KEYS, revoked_file=str(tmp_path / "revoked")) as (_sim, _gateway, base):
        assert await refused(f"ws://{base}/ws") == 401
        assert await refused(f"ws://{base}/ws?token={mine}") == 400, (
            "not in the address unless the configuration allows it"
        )
        for headers in (None, {"Authorization": "Bearer wrong"}):
            with pytest.raises(HTTPError, match="401"):
                await fetched(f"http://{base}/api/v3/exchangeInfo", headers)
        headers = {"Authorization": f"Bearer {mine}"}
        info = await fetched(f"http://{base}/api/v3/exchangeInfo", headers)
        assert [row["symbol"] for row in info["symbols"]] == ["BTCUSDT"], "of others it is not told"
        with pytest.raises(HTTPError, match="400"):
            await fetched(f"http://{base}/api/v3/depth?symbol=ETHUSDT", headers)
        async with connect(f"ws://{base}/ws", additional_headers=headers) as socket:
            streams = ["ethusdt@depth@100ms", "btcusdt@depth@100ms"]
            await socket.send(json.dumps({"method": "SUBSCRIBE", "params": streams, "id": 1}))
            assert (await said(socket))["id"] == 1
            assert {(await said(socket))["s"] for _ in range(40)} == {"BTCUSDT"}
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("websockets")]
    assert not any(mine in text or SECRET in text for text in ours)


async def test_tickdbs_key_may_carry_the_token(tmp_path: Path) -> None:
    async with served("tickdb", keys=KEYS, revoked_file=str(tmp_path / "revoked")) as (sim, _gateway, base):
        assert await refused(f"ws://{base}/v1/realtime?api_key=wrong") == 401
        async with connect(f"ws://{base}/v1/realtime?api_key={token()}") as socket:
            raw = next(iter(sim.market.listed))
            await socket.send(json.dumps({"cmd": "subscribe", "data": {"channel": "depth", "symbols": [raw]}}))
            assert (await said(socket))["code"] == 0


async def test_a_token_that_expires_or_is_revoked_ends_its_bots_within_five_seconds(tmp_path: Path) -> None:
    gone = tmp_path / "revoked"
    async with served("binance", keys=KEYS, revoked_file=str(gone)) as (_sim, _gateway, base):
        keys = Keyring([Key("k1", "HS256", lambda: SECRET, lambda: SECRET)])
        for brief in (True, False):
            text, number = keys.issue("bot", "reader", ("*",), clock() + (2 if brief else 3600) * SECOND, clock())
            async with connect(f"ws://{base}/ws", additional_headers={"Authorization": f"Bearer {text}"}) as socket:
                if not brief:
                    gone.write_text(f"{number}\n")
                asked = clock()
                with pytest.raises(ConnectionClosed) as closed:
                    await said(socket)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1008
                assert ("expired" if brief else "revoked") in closed.value.rcvd.reason
                assert clock() - asked < (2 if brief else 0) * SECOND + 5 * SECOND


async def test_a_bot_that_does_not_read_is_cut_and_the_others_lose_nothing() -> None:
    async with served("binance", rate=2000, limits={"buffer_bytes": 16_384, "write_s": 2.0}) as (sim, gateway, base):
        assert gateway.service is not None
        host, _, port = base.partition("/")[0].partition(":")
        stuck = sockets.socket()
        stuck.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        stuck.connect((host, int(port)))
        stuck.sendall(
            b"GET /native/binance/ws/btcusdt@depth/ethusdt@depth/solusdt@depth HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        one = BinanceBot("BTCUSDT")
        async with connect(f"ws://{base}/ws") as socket:
            await one.begin(socket, f"http://{base}")
            natives = gateway.service.natives
            async with asyncio.timeout(WITHIN):
                while not natives.cut:
                    assert all(
                        visit.row(clock())["buffered_bytes"] < 16_384 + 65_536 for visit in natives.visits.values()
                    )
                    one.take(await said(socket))
            before = one.diffs
            while one.diffs < before + 50:
                one.take(await said(socket))
        await until(lambda: not natives.visits)
        stuck.close()
        assert sim.counts.clients == 1


async def test_too_many_connections_and_messages_are_refused_as_for_everybody() -> None:
    limits = {"connections_per_address": 2, "messages_per_s": 2, "message_bytes": 1024}
    async with (
        served("binance", limits=limits) as (_sim, _gateway, base),
        connect(f"ws://{base}/ws") as first,
        connect(f"ws://{base}/ws") as second,
    ):
        third = await connect(f"ws://{base}/ws")
        with pytest.raises(ConnectionClosed, match="1008"):
            await said(third)
        for _ in range(20):
            await first.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        with pytest.raises(ConnectionClosed, match="too many messages"):
            while True:
                await said(first)
        await second.send("x" * 2000)
        with pytest.raises(ConnectionClosed, match="1009"):
            while True:
                await said(second)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"method":7}', '{"method":"subscribe","params":{"channel":"book","symbol":7}}', "\\"]
)
@pytest.mark.parametrize("venue", ["binance", "kraken", "tickdb"])
async def test_nonsense_is_answered_in_the_venues_words_and_ends_nothing(venue: str, text: str) -> None:
    path = {"binance": "/ws", "kraken": "/v2", "tickdb": "/v1/realtime"}[venue]
    async with served(venue) as (_sim, gateway, base), connect(f"ws://{base}{path}") as socket:
        await socket.send(text)
        answer = await said(socket)
        while answer.get("channel") == "status":
            answer = await said(socket)
        assert "error" in answer or answer.get("code"), answer
        assert gateway.book(f"{venue}:BTC-USDT").state == "LIVE"
