"""The channel `status`: how everything is, at once, and then what changes; no data. And the page's files as plain GETs."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import trustme
from websockets.asyncio.client import connect

import truetape
from tests.app.child import Child
from tests.app.test_serve import address, ask, guarded, said, served, token
from truetape.app.stage import Stage
from truetape.core.route.mailbox import Mailbox
from truetape.core.route.modes import drop_oldest
from truetape.core.route.router import Router
from truetape.core.serve.claims import allows
from truetape.model.event import Status, Trade


def test_who_asks_for_status_hears_notices_and_no_data() -> None:
    router = Router()
    box = Mailbox("page", drop_oldest, 1)
    router.subscribe(box, [("status", "*", "*")])
    topic = router.topic("trade", "kraken", "BTC-USD")
    router.publish(topic, Trade("kraken", "BTC-USD", "BTC/USD", 1, 1, 5.0, 1.0))
    told = [
        Status("kraken", "BTC-USD", "BTC/USD", 1, "trade", "STALE", "silence"),
        Status("kraken", "kraken-1", "ws://x", 1, "", "LOST", ""),
    ]
    for one in told:
        router.notify(one)
    assert box.take(10, 0) == told
    assert box.ledger().received == 0


@pytest.mark.parametrize(
    ("allow", "wanted", "may"),
    [
        ("kraken:BTC-USD/trade", ("status", "kraken", "BTC-USD"), True),
        ("kraken:BTC-USD/trade", ("status", "kraken", "*"), False),
        ("kraken:BTC-USD/trade", ("status", "*", "*"), False),
        ("*/trade", ("status", "*", "*"), True),
    ],
)
def test_notices_come_with_any_channel_of_what_is_allowed(allow: str, wanted: Any, may: bool) -> None:
    assert allows([allow], wanted) is may


async def until(client: Any, enough: Any) -> list[dict[str, Any]]:
    got: list[dict[str, Any]] = []
    while not enough(got):
        message = await said(client)
        got += message.get("events", [])
    return got


async def test_a_status_subscriber_learns_at_once_how_everything_is() -> None:
    async with served() as (sim, gateway), connect(address(gateway)) as client:
        await said(client)
        await ask(client, type="subscribe", id=1, symbols=["*"], channels=["status"])
        assert (await said(client)) == {"type": "subscribed", "id": 1, "topics": []}
        got = await until(client, lambda rows: len(rows) >= 5)
        assert (got[0]["symbol"], got[0]["state"], "channel" in got[0] and got[0]["channel"]) == (
            "kraken-1",
            "OPEN",
            "",
        )
        assert {(row["symbol"], row["channel"]) for row in got[1:5]} == {
            (s, c) for s in sim.symbols for c in ("book", "trade")
        }
        assert all(row["state"] == "LIVE" for row in got if row["channel"] == "book")
        name = f"kraken:{sim.symbols[0]}"
        await ask(client, type="subscribe", id=2, symbols=[name], channels=["status"])
        only = await until(client, lambda rows: len(rows) >= 3)
        assert {row["symbol"] for row in only} >= {"kraken-1", sim.symbols[0]}


async def test_a_subscription_in_process_learns_it_too() -> None:
    async with served() as (_, gateway):
        with gateway.subscribe("*", "status") as news:
            async with asyncio.timeout(10):
                assert isinstance((await news.take())[0], truetape.Status)


async def fetch(gateway: Any, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    def get() -> tuple[int, dict[str, str], bytes]:
        with urlopen(f"http://127.0.0.1:{gateway.service.port}{path}", timeout=10) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()

    return await asyncio.to_thread(get)


async def test_the_page_and_its_files_come_under_a_strict_policy() -> None:
    async with served() as (_, gateway):
        status, headers, body = await fetch(gateway, "/")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        rules = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == rules["style-src"] == "'self'"
        assert gateway.service is not None
        assert rules["connect-src"] == f"'self' ws://127.0.0.1:{gateway.service.port}"
        assert b"<script type" in body
        _, headers, _ = await fetch(gateway, "/web/main.js")
        assert headers["content-type"] == "text/javascript; charset=utf-8"
        assert headers["x-content-type-options"] == "nosniff"


async def test_status_without_subscriptions_and_with_histograms() -> None:
    async with served() as (_, gateway):
        tree = json.loads((await fetch(gateway, "/status?subscriptions=no&delays=yes"))[2])
        assert tree["subscriptions"] == []
        rows = tree["delays"]["kraken-1"]
        assert rows
        assert sorted(rows) == rows
        assert all(count > 0 for _, count in rows)
        assert len(json.loads((await fetch(gateway, "/status"))[2])["subscriptions"]) == 4


def test_the_page_is_ours_alone() -> None:
    """No file of it names another address, loads from elsewhere or has code inline."""
    folder = Path(truetape.__file__).parent / "app" / "web"
    for path in folder.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and 'src="//' not in text, path
        assert "innerHTML" not in text and "eval(" not in text, path
    html = (folder / "index.html").read_text(encoding="utf-8")
    assert "style=" not in html and "onclick" not in html


async def test_a_reader_learns_of_what_it_may_read_and_of_nothing_else(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (sim, gateway, keys), connect(address(gateway)) as client:
        await said(client)
        await ask(client, type="authenticate", token=token(keys, f"kraken:{sim.symbols[0]}/trade"))
        await said(client)
        await ask(client, type="subscribe", id=1, symbols=["*"], channels=["status"])
        assert (await said(client))["reason"] == "forbidden"
        await ask(client, type="subscribe", id=2, symbols=[f"kraken:{sim.symbols[0]}"], channels=["status"])
        assert (await said(client))["type"] == "subscribed"
        got = await until(client, lambda rows: len(rows) >= 3)
        assert {row["symbol"] for row in got} == {"kraken-1", sim.symbols[0]}


def test_strangers_who_break_off_a_tls_handshake_do_not_end_the_gateway(tmp_path: Path) -> None:
    authority = trustme.CA()
    cert = authority.issue_cert("127.0.0.1")
    cert.private_key_pem.write_to_path(tmp_path / "key.pem")
    cert.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    tls = f'[serve.tls]\ncert_file = "{tmp_path}/cert.pem"\nkey_file = "{tmp_path}/key.pem"\n'
    with Stage("kraken", symbols=1, rate=20) as stage:
        child = Child(tmp_path, stage.feed(), tls, "https")
        child.start()
        try:
            for said in (b"", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 5000):
                for reset in (False, True):
                    with socket.create_connection(("127.0.0.1", child.port), 5) as stranger:
                        stranger.sendall(said)
                        if reset:
                            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            context = ssl.create_default_context()
            authority.configure_trust(context)
            with urlopen(f"{child.origin}/livez", timeout=10, context=context) as answer:
                assert answer.read() == b"live\n"
            assert child.answers()
            assert '"bug"' not in child.noise.read_text()
        finally:
            child.end()
