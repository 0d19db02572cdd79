"""Summaries and candles of a venue, passed on to bots word for word: every one that a bot gets stands in a frame that the venue sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from native_bots import ConnectionClosed, connect, said, until
from tests.app.test_native_adds import before, carried
from tests.app.test_tape_server import shown
from truetape.io.store import reader
from truetape.model.record import Frame

Texts = dict[str, set[str]]


def canonical(tree: object) -> str:
    return json.dumps(tree, sort_keys=True)


def sent(tape: Path) -> set[str]:
    """Every member of every frame that the venue sent, floats as they were written."""
    found: set[str] = set()
    for item in reader.read(tape):
        if isinstance(item, Frame):
            tree = json.loads(item.data, parse_float=str)
            inner = tree.get("data", tree)
            found.update(canonical(one) for one in (inner if isinstance(inner, list) else [inner]))
            found.add(canonical(tree))
    return found


async def test_binance_tickers_and_klines_are_the_venues_own(tmp_path: Path) -> None:
    tape = tmp_path / "tape"
    got: dict[str, list[str]] = {}
    async with before("binance", journal=tape) as (sim, _gateway, base):
        first, other = list(sim.market.listed)[:2]
        names = [f"{first.lower()}@ticker", f"{other.lower()}@kline_1m", f"{other.lower()}@kline_1s"]
        async with connect(f"ws://{base}/stream?streams={'/'.join(names)}") as socket:
            while len(got) < 3 or min(map(len, got.values())) < 2:
                message = await said(socket)
                got.setdefault(message["stream"], []).append(canonical(message["data"]))
        assert sorted(got) == sorted(names)
        assert sim.counts.clients == 1
    theirs = sent(tape)
    assert all(text in theirs for texts in got.values() for text in texts)
    async with (
        shown(tape, "4", ["binance"], "+1") as where,
        connect(f"{where['native']['binance']['ws']}/ws/{names[0]}") as socket,
    ):
        assert canonical(await said(socket)) in theirs, "and of the tape"


async def test_kraken_tickers_and_candles_begin_with_a_snapshot(tmp_path: Path) -> None:
    tape = tmp_path / "tape"
    kinds: dict[str, list[str]] = {}
    members: list[str] = []
    async with before("kraken", journal=tape) as (sim, _gateway, base):
        raw = list(sim.market.listed)[1]
        for _ in range(2):  # the second bot finds what the first one had asked for
            async with connect(f"ws://{base}/v2") as socket:
                kinds.clear()
                for channel in ("ticker", "ohlc"):
                    params = {"channel": channel, "symbol": [raw]}
                    await socket.send(json.dumps({"method": "subscribe", "params": params}))
                while len(kinds) < 2 or min(map(len, kinds.values())) < 4:
                    message = await said(socket)
                    assert message.get("success", True), message
                    if message.get("channel") in ("ticker", "ohlc"):
                        kinds.setdefault(message["channel"], []).append(message["type"])
                        members += map(canonical, message["data"])
            assert all(types[0] == "snapshot" and set(types[1:]) == {"update"} for types in kinds.values()), kinds
        assert sim.counts.clients == 1
    theirs = sent(tape)
    assert members
    assert all(member in theirs for member in members)


async def test_candles_of_two_lengths_are_both_let_go() -> None:
    async with before("binance", linger_s=0.5) as (sim, gateway, base):
        raw = list(sim.market.listed)[1]
        async with connect(f"ws://{base}/ws/{raw.lower()}@kline_1s/{raw.lower()}@kline_1m") as socket:
            await said(socket)
            assert {word for word, _ in carried(gateway)} == {"book", "bar.1s", "bar.1m"}
        await until(lambda: {word for word, _ in carried(gateway)} == {"book"})


async def test_tickdb_tickers_are_the_venues_own(tmp_path: Path) -> None:
    tape = tmp_path / "tape"
    got: list[str] = []
    async with (
        before("tickdb", journal=tape) as (sim, _gateway, base),
        connect(f"ws://{base}/v1/realtime") as socket,
    ):
        raw = list(sim.market.listed)[1]
        await socket.send(json.dumps({"cmd": "subscribe", "data": {"channel": "ticker", "symbols": [raw]}}))
        assert (await said(socket))["code"] == 0
        while len(got) < 5:
            message = await said(socket)
            assert message["cmd"] == "ticker"
            got.append(canonical(message))
    assert set(got) <= sent(tape)


async def test_where_summaries_are_missing_their_bots_are_hung_up(tmp_path: Path) -> None:
    async with before("binance") as (sim, gateway, base):
        raw = list(sim.market.listed)[1]
        async with connect(f"ws://{base}/ws/{raw.lower()}@ticker") as socket:
            assert (await said(socket))["s"] == raw
            for peer in list(sim._peers.values()):
                peer.abort()
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await said(socket)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013
            assert raw in closed.value.rcvd.reason
        async with connect(f"ws://{base}/ws/{raw.lower()}@ticker") as socket:
            message: dict[str, Any] = await said(socket)
            assert message["e"] == "24hrTicker"
        await until(lambda: gateway.book(f"binance:{sim.symbols[0]}").state == "LIVE")
