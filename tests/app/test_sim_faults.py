"""Each fault of the script does what it says, to whom it says."""

import asyncio
import json
from random import Random
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from truetape.app.sim import Options, Simulator
from truetape.core.sim.faults import KNOWN, BadFault, Fault, Script, parse

SECOND = 1_000_000_000
NAMES = ("BTC/USDT", "BTC-USDT")


def test_a_script_is_read() -> None:
    lines = [
        "# a bad day",
        "half-open@12s",
        "mute-symbol@1.5:BTC-USDT=30  # half a minute",
        "",
        "drop-delta~0.01:ETH/USDT",
        "close-1006",
    ]
    assert parse(lines) == [
        Fault("half-open", 12.0),
        Fault("mute-symbol", 1.5, 0.0, "BTC-USDT", 30.0),
        Fault("drop-delta", 5.0, 0.01, "ETH/USDT"),
        Fault("close-1006", 5.0),
    ]


@pytest.mark.parametrize("name", list(KNOWN))
def test_every_known_fault_can_be_written(name: str) -> None:
    assert parse([f"{name}@3s"]) == [Fault(name, 3.0)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("explode@3s", "line 1: expected one of close-1000, "), ("drop-delta@", "expected name@12s"), ("drop-delta~2", "share"),
        ("half-open~0.1", "a fault that concerns frames"), ("drop-delta 3s", "expected name@12s"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_what_was_expected(line: str, said: str) -> None:
    with pytest.raises(BadFault, match=said):
        parse([line])


def script(*lines: str, seed: int = 1) -> Script:
    return Script(parse(lines), 0, Random(seed).random)


BOOK = ("book", b'{"checksum":7,"x":1}')
TRADE = ("trade", b"{}")


def test_a_muted_symbol_says_nothing_and_others_do() -> None:
    played = script("mute-symbol@2s:BTC-USDT=3")
    assert played.due(1 * SECOND) == [] and not played.active
    played.due(2 * SECOND)
    assert played.active
    assert played.spoil(NAMES, [BOOK, TRADE]) == []
    assert played.spoil(("ETH/USDT", "ETH-USDT"), [BOOK]) == [BOOK]
    played.due(5 * SECOND)
    assert played.spoil(NAMES, [BOOK]) == [BOOK]
    assert played.done == {"mute-symbol": 1}


def test_a_delta_is_dropped_so_many_times_and_trades_stay() -> None:
    played = script("drop-delta@0s:BTC/USDT=2")
    played.due(0)
    assert played.spoil(("ETH/USDT",), [BOOK]) == [BOOK]
    assert played.spoil(NAMES, [TRADE, BOOK]) == [TRADE]
    assert played.spoil(NAMES, [BOOK]) == []
    assert played.spoil(NAMES, [BOOK]) == [BOOK]
    assert not played.active and played.done == {"drop-delta": 2}


def test_a_wrong_checksum_is_wrong_and_all_else_is_right() -> None:
    played = script("wrong-checksum@0s")
    played.due(0)
    assert played.spoil(NAMES, [("book", b"{}")]) == [("book", b"{}")], "a venue without checksums is left alone"
    played = script("wrong-checksum@0s")
    played.due(0)
    assert played.spoil(NAMES, [BOOK]) == [("book", b'{"checksum":6,"x":1}')]
    assert played.spoil(NAMES, [BOOK]) == [BOOK]


def test_a_share_of_frames_is_drawn_by_the_seed() -> None:
    counts = []
    for seed in (1, 1, 2):
        played = script("drop-delta~0.1", seed=seed)
        assert played.active
        left = [index for index in range(2000) if played.spoil(NAMES, [BOOK])]
        assert 120 < 2000 - len(left) < 280
        assert played.done["drop-delta"] == 2000 - len(left)
        counts.append(left)
    assert counts[0] == counts[1] != counts[2]


# On real connections


async def subscribed(ws: ClientConnection, symbol: str = "BTC/USDT") -> None:
    await ws.send(json.dumps({"method": "subscribe", "params": {"channel": "book", "symbol": [symbol]}}))
    while b'"snapshot","data"' not in await ws.recv(decode=False):
        pass


async def update(ws: ClientConnection) -> Any:
    while b'"update","data":[{"symbol"' not in (message := await ws.recv(decode=False)):
        pass
    return json.loads(message)


def simulator(*lines: str) -> Simulator:
    return Simulator(Options(venue="kraken", symbols=2, rate=5000, faults=tuple(parse(lines))))


async def test_1006_is_a_break_without_a_close_frame() -> None:
    async with simulator("close-1006@0.5s") as sim, connect(sim.ws) as ws:
        await subscribed(ws)
        with pytest.raises(ConnectionClosedError):
            while True:
                await ws.recv()
        assert ws.close_code == 1006


@pytest.mark.parametrize("code", [1000, 1001, 1011])
async def test_a_close_carries_its_code(code: int) -> None:
    async with simulator(f"close-{code}@0.3s") as sim, connect(sim.ws) as ws:
        with pytest.raises(ConnectionClosed):
            while True:
                await ws.recv()
        assert ws.close_code == code


async def test_half_open_answers_no_ping_and_wakes_again() -> None:
    async with simulator("half-open@0.3s=2") as sim, connect(sim.ws, ping_interval=None) as ws:
        await subscribed(ws)
        with pytest.raises(TimeoutError):  # data flow until it falls silent
            while True:
                await asyncio.wait_for(ws.recv(), 0.3)
        assert sim.script.done == {"half-open": 1}
        pong = await ws.ping()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(pong), 0.2)
        await asyncio.wait_for(pong, 10)
        await update(ws)


async def test_a_muted_symbol_is_silent_on_a_living_link() -> None:
    async with simulator("mute-symbol@0.2s:BTC-USDT") as sim, connect(sim.ws) as ws:
        await subscribed(ws)
        await subscribed(ws, "ETH/USDT")
        while not sim.script.active:
            await ws.recv()
        await (await ws.ping())  # what was written before the fault has arrived
        others = 0
        while others < 200:
            others += (await update(ws))["data"][0]["symbol"] == "ETH/USDT"
        assert {(await update(ws))["data"][0]["symbol"] for _ in range(200)} == {"ETH/USDT"}
