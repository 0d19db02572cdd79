"""Tokens of our own clients: wherever they come from, renewed before they end, and shown nowhere; and gateways that are restarted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

import truetape
from truetape.app.live import Gateway
from truetape.app.sim import Options, Simulator
from truetape.io.clock import now as clock

WITHIN = 20.0
SECRET = "0123456789abcdef0123456789abcdef-and-more"


@asynccontextmanager
async def guarded(tmp_path: Path, **serve: Any) -> AsyncIterator[Gateway]:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    async with Simulator(Options(venue="kraken", symbols=1, rate=100)) as sim:
        feed = {"venue": "kraken", "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest}
        keys = [{"id": "one", "secret": f"file:{secret}"}]
        how = {"port": 0, "keys": keys, "revoked_file": str(tmp_path / "revoked.txt"), **serve}
        async with truetape.open({"feeds": [feed], "serve": how}) as gateway:
            assert await gateway.ready()
            yield gateway


def token(gateway: Gateway, life_s: float = 60, *allow: str) -> str:
    assert gateway.service is not None
    assert gateway.service.keyring is not None
    return gateway.service.keyring.issue("bob", "reader", allow or ("*",), clock() + round(life_s * 1e9), clock())[0]


def url(gateway: Gateway, scheme: str = "ws") -> str:
    assert gateway.service is not None
    return f"{scheme}://localhost:{gateway.service.port}"


@pytest.mark.parametrize("kind", ["text", "env", "file", "function"])
async def test_a_token_is_taken_from_wherever_it_is(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with guarded(tmp_path) as gateway:
        text = token(gateway)
        (tmp_path / "token").write_text(text)
        monkeypatch.setenv("TOKEN_OF_THE_TEST", text)
        given: Any = {
            "text": text,
            "env": "env:TOKEN_OF_THE_TEST",
            "file": f"file:{tmp_path / 'token'}",
            "function": lambda: text,
        }[kind]
        async with truetape.client(url(gateway), token=given) as client, asyncio.timeout(WITHIN):
            assert await client.subscribe("kraken:*", ["trade"]).take()
            assert text not in repr(client) + repr(vars(client))


async def test_without_a_token_or_with_a_wrong_one_opening_says_so_and_shows_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with guarded(tmp_path) as gateway:
        with pytest.raises(truetape.ClientError, match="4500 no_token: the gateway asks for a token") as told:
            await truetape.client(url(gateway)).__aenter__()
        assert told.value.code == 4500
        canary = token(gateway)[:-4] + "XXXX"
        for given in (canary, lambda: canary):
            with pytest.raises(truetape.ClientError, match="4501 bad_token") as told:
                await truetape.client(url(gateway), token=given, backoff_first_s=0.01).__aenter__()
            assert canary not in str(told.value) + caplog.text

        def fails() -> str:
            raise RuntimeError(canary)

        with pytest.raises(truetape.ClientError, match="the token's function raised RuntimeError") as told:
            await truetape.client(url(gateway), token=fails, connect_s=0.3).__aenter__()
        assert canary not in str(told.value)


async def test_a_token_that_is_given_anew_is_renewed_before_it_ends(tmp_path: Path) -> None:
    asked: list[str] = []
    async with guarded(tmp_path) as gateway:

        def fresh() -> str:
            asked.append(token(gateway, life_s=3))
            return asked[-1]

        async with truetape.client(url(gateway), token=fresh) as client, asyncio.timeout(WITHIN):
            sub = client.subscribe("kraken:*", ["trade"])
            began = clock()
            while clock() - began < 6e9:
                await sub.take()
            assert sub.reconnects == 0
        assert len(asked) >= 3


async def test_a_token_that_ends_ends_a_client_that_has_no_other(tmp_path: Path) -> None:
    async with (
        guarded(tmp_path) as gateway,
        asyncio.timeout(WITHIN),
        truetape.client(url(gateway), token=token(gateway, life_s=2)) as client,
    ):
        sub = client.subscribe("kraken:*", ["trade"])
        with pytest.raises(truetape.ClientError, match="4502 expired"):
            while True:
                await sub.take()
        another = client.subscribe("kraken:*", ["trade"])
        with pytest.raises(truetape.ClientError, match="4502 expired"):
            await another.take()


async def test_what_a_token_does_not_allow_is_raised(tmp_path: Path) -> None:
    async with guarded(tmp_path) as gateway:
        allowed = token(gateway, 60, "kraken:*/trade")
        async with truetape.client(url(gateway), token=allowed) as client, asyncio.timeout(WITHIN):
            with pytest.raises(truetape.ClientError, match="does not allow") as told:
                await client.subscribe("kraken:*", ["book"]).take()
            assert told.value.reason == "forbidden"
            assert await client.subscribe("kraken:*", ["trade"]).take()


async def test_tls_is_believed_by_its_authority_only(tmp_path: Path) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("localhost")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    for part in made.cert_chain_pems:
        part.write_to_path(tmp_path / "cert.pem", append=True)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = {"cert_file": str(tmp_path / "cert.pem"), "key_file": str(tmp_path / "key.pem")}
    async with guarded(tmp_path, tls=tls, host="localhost") as gateway:
        text = token(gateway)
        async with (
            truetape.client(url(gateway, "wss"), token=text, ca_file=tmp_path / "ca.pem") as client,
            asyncio.timeout(WITHIN),
        ):
            assert await client.subscribe("kraken:*", ["trade"]).take()
        with pytest.raises(truetape.ClientError, match="CERTIFICATE_VERIFY_FAILED"):
            await truetape.client(url(gateway, "wss"), token=text, connect_s=1).__aenter__()
    with pytest.raises(ValueError, match="expected certificates in PEM"):
        truetape.client("wss://localhost:1", ca_file=tmp_path / "nothing.pem")


async def test_a_gateway_that_is_restarted_is_found_again_and_the_loss_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    async with Simulator(Options(venue="kraken", symbols=1, rate=100)) as sim, asyncio.timeout(WITHIN):
        feed = {"venue": "kraken", "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest}
        config = {"feeds": [feed], "serve": {"port": 0, "socket": path}}
        gateway = truetape.open(config)
        await gateway.__aenter__()
        async with truetape.client(f"unix:{path}", backoff_first_s=0.05, backoff_max_s=0.2) as client:
            sub = client.subscribe(f"kraken:{sim.symbols[0]}", ["book_delta"])
            while not isinstance((await sub.take(1))[0], truetape.Book):
                pass
            await gateway.__aexit__(None, None, None)
            seen: list[Any] = []
            async with truetape.open(config):
                while not (sub.reconnects and seen and isinstance(seen[-1], truetape.Book) and seen[-1].snapshot):
                    seen += await sub.take(1)
            kinds = [event for event in seen if isinstance(event, truetape.Lagged)]
            assert [(event.topic, event.dropped, event.reason) for event in kinds] == [
                ("book_delta", -1, "not_recovered")
            ]
            states = [event.state for event in seen if isinstance(event, truetape.Status) and not event.venue]
            assert states[:2] == ["STALE", "LIVE"]
