"""Each fault of the script does what it says, to whom it says."""

import asyncio
import json
import ssl
from pathlib import Path
from random import Random
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from truetape.app.cli import sim as command
from truetape.app.config import ConfigError
from truetape.app.sim import Options, Simulator, counterpart
from truetape.core.feed.counterpart import Piecemeal
from truetape.core.sim.faults import KNOWN, OF_FRAMES, BadFault, Fault, check, inapplicable, parse
from truetape.core.sim.script import Script, pieces

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
        ("explode@3s", "line 1: expected one of bad-utf8, "), ("drop-delta@", "expected name@12s"), ("drop-delta~2", "share"),
        ("close-1006@3s:BTC-USDT", "expected no symbol"), ("mute-symbol~0.1", "share"), ("half-open@3s=-1", "at least 0"),
        ("half-open~0.1", "of a fault that concerns them"), ("drop-delta 3s", "expected name@12s"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_what_was_expected(line: str, said: str) -> None:
    with pytest.raises(BadFault, match=said):
        parse([line])


@pytest.mark.parametrize("symbol", ["NOPE", "kraken:BTC-USDT", "BTCUSDT"])
def test_a_symbol_that_is_not_there_is_refused_with_those_that_are(symbol: str) -> None:
    """A fault that waits for a symbol that nobody trades rehearses nothing, and its strategy passes."""
    for known in ("BTC-USDT", "BTC/USDT"):
        Simulator(Options(venue="kraken", symbols=2, faults=tuple(parse([f"mute-symbol@3s:{known}"]))))
    with pytest.raises(
        BadFault, match=f"mute-symbol: expected a symbol of the simulated kraken: BTC-USDT, ETH-USDT; found '{symbol}'"
    ):
        Simulator(Options(venue="kraken", symbols=2, faults=tuple(parse([f"mute-symbol@3s:{symbol}"]))))


def script(*lines: str, seed: int = 1) -> Script:
    return Script(parse(lines), 0, Random(seed).random)


BOOK = ("book", b'{"checksum":7,"x":1}')
TRADE = ("trade", b"{}")


def test_a_muted_symbol_says_nothing_and_others_do() -> None:
    played = script("mute-symbol@2s:BTC-USDT=3")
    assert played.due(1 * SECOND) == [] and not played.active
    played.due(2 * SECOND)
    assert played.active
    assert played.spoil(1, NAMES, [BOOK, TRADE]) == []
    assert played.spoil(1, ("ETH/USDT", "ETH-USDT"), [BOOK]) == [BOOK]
    played.due(5 * SECOND)
    assert played.spoil(1, NAMES, [BOOK]) == [BOOK]
    assert played.done == {"mute-symbol": 1}


def test_a_delta_is_dropped_so_many_times_and_trades_stay() -> None:
    played = script("drop-delta@0s:BTC/USDT=2")
    played.due(0)
    assert played.spoil(1, ("ETH/USDT",), [BOOK]) == [BOOK]
    assert played.spoil(1, NAMES, [TRADE, BOOK]) == [TRADE]
    assert played.spoil(1, NAMES, [BOOK]) == []
    assert played.spoil(1, NAMES, [BOOK]) == [BOOK]
    assert not played.active and played.done == {"drop-delta": 2}


WORDS = {
    "kraken": b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USDT","bids":[{"price":1.5,"qty":2}],"checksum":7}]}',
    "binance": b'{"e":"depthUpdate","s":"BTCUSDT","U":5,"u":6,"b":[["1.5","2"]],"a":[]}',
    "tickdb": b'{"cmd":"depth","data":{"symbol":"BTCUSDT","bids":[["1.5","2"]],"asks":[],"timestamp":5}}',
}


@pytest.mark.parametrize("venue", list(WORDS))
@pytest.mark.parametrize("name", sorted(OF_FRAMES))
def test_each_fault_of_messages_does_its_own_harm_once(name: str, venue: str) -> None:
    wrong, data = counterpart(venue).wrong, WORDS[venue]
    if inapplicable(name, wrong):
        with pytest.raises(BadFault, match=f"{name} does not apply to {venue}: the venue"):
            check(parse([name]), venue, wrong, tls=True, symbols={})
        return
    played = Script(parse([f"{name}@0s"]), 0, Random(1).random, wrong)
    played.due(0)
    first = [frame for _, frame in played.spoil(1, NAMES, [("book", data)])]
    after = [frame for _, frame in played.spoil(1, NAMES, [("book", b"{}")])]
    assert played.done == {name: 1} and not played.active
    assert played.spoil(1, NAMES, [("book", data)]) == [("book", data)]
    assert after == ([b"{}", data] if name == "reorder" else [b"{}"])
    match name:
        case "drop-delta" | "reorder":
            assert first == []
        case "duplicate":
            assert first == [data, data]
        case "fragment":
            assert first == [data] and isinstance(first[0], Piecemeal)
            assert b"".join(pieces(data)) == data and len(pieces(data)) == 3
        case "torn-frame" | "bad-utf8":
            with pytest.raises(ValueError):
                json.loads(first[0])
        case _:
            assert first != [data]
            told, meant = json.loads(first[0]), json.loads(data)
            assert told != meant
            if name == "unknown-field":
                del told["zz_unknown"]
                assert told == meant
    lost = name not in ("duplicate", "reorder", "fragment", "unknown-field", "type-change")
    assert played.lost == lost


def test_what_is_held_back_goes_with_its_client() -> None:
    played = script("reorder@0s")
    played.due(0)
    assert played.spoil(1, NAMES, [BOOK]) == [] and played.active
    played.gone(1)
    assert not played.active


def test_a_wrong_checksum_is_wrong_and_all_else_is_right() -> None:
    played = script("wrong-checksum@0s")
    played.due(0)
    assert played.spoil(1, NAMES, [("book", b"{}")]) == [("book", b"{}")], "a venue without checksums is left alone"
    played = script("wrong-checksum@0s")
    played.due(0)
    assert played.spoil(1, NAMES, [BOOK]) == [("book", b'{"checksum":6,"x":1}')]
    assert played.spoil(1, NAMES, [BOOK]) == [BOOK]


def test_a_share_of_frames_is_drawn_by_the_seed() -> None:
    counts = []
    for seed in (1, 1, 2):
        played = script("drop-delta~0.1", seed=seed)
        assert played.active
        left = [index for index in range(2000) if played.spoil(1, NAMES, [BOOK])]
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


async def trades(ws: ClientConnection) -> Any:
    while b'"trade","type":"update"' not in (message := await ws.recv(decode=False)):
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


# More than messages, on real connections


async def test_a_fragmented_message_arrives_whole() -> None:
    async with simulator("fragment~1") as sim, connect(sim.ws) as ws:
        await subscribed(ws)
        for _ in range(50):
            assert (await update(ws))["data"][0]["checksum"]
        assert sim.script.done["fragment"] >= 50


async def test_a_dripping_connection_gets_everything_late_and_in_order() -> None:
    async with simulator("slow-drip@0.3s=2") as sim, connect(sim.ws, ping_interval=None) as ws:
        await ws.send('{"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USDT"],"snapshot":false}}')
        await subscribed(ws)
        while not sim.script.done:
            await update(ws)
        start = asyncio.get_running_loop().time()
        seen = 0
        while sim.venue.trouble.holds("slow-drip"):
            seen += len(await ws.recv(decode=False))
        assert seen < 2_000 * (asyncio.get_running_loop().time() - start) + 300_000  # and what lay in buffers before
        last = 0
        while last < 300:  # what waited comes, and the numbers of the trades have no hole
            told = [row["trade_id"] for row in (await trades(ws))["data"]]
            assert told[0] == last + 1 or not last
            last = told[-1]


async def test_handshakes_are_refused_with_the_time_to_wait() -> None:
    async with simulator("refuse-429@0s=30") as sim:
        with pytest.raises(InvalidStatus) as refused:
            await connect(sim.ws)
        response = refused.value.response
        assert response.status_code == 429 and 1 <= int(response.headers["Retry-After"]) <= 30


async def test_an_expired_key_is_told_and_closed_also_to_who_comes_later() -> None:
    async with Simulator(Options(venue="tickdb", rate=0, faults=tuple(parse(["token-expired@0s"])))) as sim:
        for _ in range(2):
            async with connect(sim.ws) as ws:
                assert json.loads(await ws.recv())["code"] == 1001
                with pytest.raises(ConnectionClosed):
                    await ws.recv()
                assert ws.close_code == 1008


async def test_another_certificate_is_shown_after_the_swap(tmp_path: Path) -> None:
    options = Options(
        venue="kraken", rate=0, tls=str(tmp_path), faults=tuple(parse(["cert-swap@0.5s", "cert-swap@1s=1"]))
    )
    async with Simulator(options) as sim:
        trusting = ssl.create_default_context(cafile=sim.ca_file)
        seen = []
        for _ in range(2):
            async with connect(sim.ws, ssl=trusting) as ws:
                shown = ws.transport.get_extra_info("ssl_object").getpeercert(True)
                seen.append(ssl.DER_cert_to_PEM_cert(shown))
                with pytest.raises(ConnectionClosed):
                    while True:
                        await ws.recv()
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(sim.ws, ssl=trusting)
        assert seen == [(tmp_path / f"{name}.pem").read_text() for name in ("first", "second")]
        assert sim.pin("first") != sim.pin("second")


def test_a_script_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="found no file /no/such/file"):
        command.script("/no/such/file")
