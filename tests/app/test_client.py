"""Our own clients, with real sockets: a simulated venue, a gateway, and a program with or without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

import truetape
from truetape.app.live import Gateway
from truetape.app.sim import Options, Simulator

WITHIN = 10.0


@asynccontextmanager
async def served(tmp_path: Path, rate: float = 200, **serve: Any) -> AsyncIterator[tuple[Simulator, Gateway]]:
    async with Simulator(Options(venue="kraken", symbols=2, rate=rate)) as sim:
        feed = {"venue": "kraken", "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest}
        how = {"port": 0, "socket": str(tmp_path / "s.sock"), **serve}
        async with truetape.open({"feeds": [feed], "serve": how}) as gateway:
            assert await gateway.ready()
            yield sim, gateway


def address(gateway: Gateway, kind: str) -> str:
    assert gateway.service is not None
    return f"ws://127.0.0.1:{gateway.service.port}" if kind == "ws" else f"unix:{gateway.service.how.socket}"


@pytest.mark.parametrize("kind", ["ws", "unix"])
@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_events_come_as_they_do_in_process(tmp_path: Path, kind: str, encoding: Any) -> None:
    async with served(tmp_path) as (sim, gateway):
        url = address(gateway, kind)
        async with truetape.client(url, encoding=encoding) as client, asyncio.timeout(WITHIN):
            kinds: set[str] = set()
            async for event in client.subscribe(f"kraken:{sim.symbols[0]}", ["book", "trade"], depth=10):
                kinds.add(type(event).__name__)
                if isinstance(event, truetape.Book):
                    assert event.snapshot
                    assert len(event.bids) <= 10
                if kinds >= {"Book", "Trade"}:
                    break
            assert client.state == "live"


@pytest.mark.parametrize("kind", ["ws", "unix"])
async def test_a_broken_connection_is_made_again_and_goes_on_where_it_stopped(tmp_path: Path, kind: str) -> None:
    async with served(tmp_path) as (_, gateway):
        tap = gateway.subscribe("kraken:*", ["book_delta"], bound=100_000)
        async with truetape.client(address(gateway, kind), backoff_first_s=0.01) as client, asyncio.timeout(WITHIN):
            sub = client.subscribe("kraken:*", ["book_delta"])
            got: list[Any] = []
            async for event in sub:
                if isinstance(event, truetape.Book):
                    got.append(event)
                assert not isinstance(event, truetape.Lagged)
                if len(got) == 50 and sub.reconnects == 0:
                    for one in list(gateway.service.hall.clients):  # type: ignore[union-attr]
                        one.pipe.abort()
                if len(got) >= 200 and sub.reconnects:
                    break
            assert sub.reconnects == 1
        published = tap._box.take(100_000, 0)
        for name in {event.symbol for event in got}:
            mine = [event.recv for event in got if event.symbol == name and not event.snapshot]
            theirs = [e.recv for e in published if isinstance(e, truetape.Book) and e.symbol == name and not e.snapshot]
            start = theirs.index(mine[0])
            assert mine == theirs[start : start + len(mine)]


# Without an event loop: the gateway lives in this thread, the program in another


async def apart(do: Any) -> Any:
    async with asyncio.timeout(WITHIN):
        return await asyncio.to_thread(do)


@pytest.mark.parametrize("kind", ["ws", "unix"])
async def test_a_program_without_a_loop_iterates(tmp_path: Path, kind: str) -> None:
    async with served(tmp_path) as (_, gateway):

        def program() -> list[Any]:
            with truetape.client(address(gateway, kind)) as client:
                got = []
                for event in client.subscribe("kraken:*", ["trade"], timeout_s=WITHIN):
                    if isinstance(event, truetape.Trade):
                        got.append(event)
                    if len(got) == 20:
                        break
                assert client.state == "live"
                return got

        assert len(await apart(program)) == 20


async def test_it_works_where_a_loop_runs_already_as_in_a_notebook(tmp_path: Path) -> None:
    async def cell(url: str) -> int:
        """What a cell does: plain calls within a running loop."""
        asyncio.get_running_loop()
        with truetape.client(url) as client:
            sub = client.subscribe("kraken:*", ["trade"], timeout_s=WITHIN)
            return len([next(sub) for _ in range(5)])

    async with served(tmp_path) as (_, gateway):
        url = address(gateway, "ws")
        assert await apart(lambda: asyncio.run(cell(url))) == 5


async def test_waiting_too_long_is_said_and_one_may_go_on(tmp_path: Path) -> None:
    async with served(tmp_path, rate=20) as (sim, gateway):

        def program() -> None:
            with truetape.client(address(gateway, "ws")) as client:
                sub = client.subscribe(f"kraken:{sim.symbols[0]}", ["book"], mode=truetape.conflate(ms=1500))
                while isinstance(next(sub), truetape.Status):
                    pass
                with pytest.raises(TimeoutError, match=r"no event of kraken:.* within 0\.1 s; the connection is live"):
                    while True:
                        sub.read(timeout_s=0.1)
                assert sub.read(timeout_s=WITHIN)

        await apart(program)
        async with truetape.client(address(gateway, "ws")) as client:
            sub = client.subscribe(f"kraken:{sim.symbols[0]}", ["book"], mode=truetape.conflate(ms=1500), timeout_s=0.1)
            with pytest.raises(TimeoutError):
                while True:
                    await sub.take()


async def test_the_first_book_of_a_conflating_client_comes_even_in_a_silent_market(tmp_path: Path) -> None:
    async with served(tmp_path, rate=0.5) as (sim, gateway), truetape.client(address(gateway, "unix")) as client:
        sub = client.subscribe(f"kraken:{sim.symbols[0]}", ["book"], mode=truetape.conflate(ms=50), timeout_s=1.5)
        while not isinstance(event := (await sub.take(1))[0], truetape.Book):
            pass
        assert event.snapshot


async def test_nobody_there_is_said_with_the_address(tmp_path: Path) -> None:
    with pytest.raises(truetape.ClientError, match=r"no gateway at unix:.*nobody.sock within 0.2 s: dial_failed"):
        async with truetape.client(f"unix:{tmp_path / 'nobody.sock'}", connect_s=0.2):
            pass
    with pytest.raises(truetape.ClientError, match="no gateway at ws://127"):
        await apart(lambda: truetape.client("ws://127.0.0.1:1", connect_s=0.2).open())


async def test_tls_at_a_plain_port_is_told_to_who_dialed_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    heard: list[dict[str, Any]] = []

    def own(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        heard.append(context)

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(own)
    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    url = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def dial() -> None:
        with pytest.raises(truetape.ClientError, match="WRONG_VERSION_NUMBER"):
            async with truetape.client(url, connect_s=1):
                pass

    await asyncio.gather(dial(), dial())
    assert heard == [], "nothing of it is the program's"
    assert loop.get_exception_handler() is own, "put back"
    loop.set_exception_handler(None)
    await asyncio.gather(dial(), dial())
    assert [record.name for record in caplog.records if record.name == "asyncio"] == []
    assert loop.get_exception_handler() is None
    server.close()


@pytest.mark.parametrize("kind", ["ws", "unix"])
@pytest.mark.parametrize("channels", [["trade"], ["book", "trade"], ["book_delta"]])
async def test_a_symbol_that_the_venue_refuses_is_raised(tmp_path: Path, kind: str, channels: list[str]) -> None:
    async with served(tmp_path) as (sim, gateway), truetape.client(address(gateway, kind)) as client:
        first, second = (client.subscribe(["kraken:NO-PE"], channels, timeout_s=WITHIN) for _ in range(2))
        for sub in (first, second):
            with pytest.raises(truetape.ClientError, match=r"kraken:NO-PE.*truetape symbols kraken") as told:
                async for event in sub:
                    assert isinstance(event, truetape.Status)
            assert told.value.reason == "unknown_symbol"
        both = client.subscribe(["kraken:NO-PE", f"kraken:{sim.symbols[0]}"], channels, timeout_s=WITHIN)
        events: list[Any] = []
        while sum(not isinstance(event, truetape.Status) for event in events) < 20:
            events += await both.take()
        assert [event.state for event in events if getattr(event, "symbol", "") == "NO-PE"] == ["CLOSED"] * len(
            channels
        )


async def test_a_program_without_a_loop_is_told_of_an_unknown_symbol(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, gateway):

        def program() -> None:
            with (
                truetape.client(address(gateway, "unix")) as client,
                pytest.raises(truetape.ClientError, match="NO-PE"),
            ):
                for event in client.subscribe("kraken:NO-PE", "trade", timeout_s=WITHIN):
                    assert isinstance(event, truetape.Status)

        await apart(program)


async def test_what_the_gateway_refuses_is_raised_where_one_waits(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, gateway), truetape.client(address(gateway, "ws")) as client:
        with pytest.raises(truetape.ClientError, match="unknown") as told:
            await client.subscribe("nowhere:BTC-USD", ["trade"]).take()
        assert told.value.reason == "unknown"
        with pytest.raises(truetape.ClientError, match="nonsense"):
            await client.subscribe("kraken:*", ["nonsense"]).take()


@pytest.mark.parametrize("url", ["http://x", "ws://", "unix:", "ws://bob:pass@host", "ws://host/?token=abc", "host:80"])
def test_addresses_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected") as told:
        truetape.client(url)
    assert "abc" not in str(told.value)
    assert "pass" not in str(told.value)


async def test_the_last_events_are_kept_and_become_tables(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    async with served(tmp_path) as (_, gateway), truetape.client(address(gateway, "ws"), keep=500) as client:
        sub = client.subscribe("kraken:*", ["trade", "book"], depth=5)
        async with asyncio.timeout(WITHIN):
            while {type(event) for event in sub.last()} < {truetape.Trade, truetape.Book} or len(sub.last()) < 100:
                await asyncio.sleep(0.01)  # nothing is taken: what came is kept all the same
        tables = sub.to_arrow()
        trades = [event for event in sub.last() if isinstance(event, truetape.Trade)]
        found = tables["trade"]
        assert str(found.schema.field("recv").type) == "timestamp[ns, tz=UTC]"
        assert [int(value.value) for value in found["recv"][: len(trades)]] == [trade.recv for trade in trades][
            : found.num_rows
        ]
        frame = sub.to_polars("trade")
        assert frame["price"].to_list()[:5] == [trade.price for trade in trades][:5]
        assert str(frame["recv"].dtype) == "Datetime(time_unit='ns', time_zone='UTC')"
        books = sub.to_pandas("book")
        assert str(books["recv"].dtype) == "datetime64[ns, UTC]"
        assert len(books["bid_prices"].iloc[0]) <= 5
        assert truetape.Events([]).to_arrow("quote").num_rows == 0
        assert len(sub.last(7)) == 7
        with pytest.raises(ValueError, match="expected one of trade"):
            sub.to_arrow("trades")


async def test_a_program_that_is_slow_has_the_latest_and_is_told_what_it_missed(tmp_path: Path) -> None:
    async with served(tmp_path, rate=400) as (sim, gateway), truetape.client(address(gateway, "unix")) as client:
        latest = client.subscribe(f"kraken:{sim.symbols[0]}", ["book"], mode=truetape.conflate())
        oldest = client.subscribe(f"kraken:{sim.symbols[0]}", ["book_delta"], bound=20)
        async with asyncio.timeout(WITHIN):
            while not isinstance((await oldest.take(1))[0], truetape.Book):
                pass
            while oldest.ledger.dropped < 50:
                await asyncio.sleep(0.05)
            assert latest.ledger.queued <= 3  # what a status released, and the latest
            assert latest.ledger.conflated > 20
            seen: list[Any] = []
            while not (seen and isinstance(seen[-1], truetape.Book) and seen[-1].snapshot):
                seen += [event for event in await oldest.take(1) if not isinstance(event, truetape.Status)]
            lost = [event for event in seen if isinstance(event, truetape.Lagged)]
            assert lost, "told before the whole book that mends it"
        for sub in (latest, oldest):
            assert sub.ledger.balanced


def test_both_ends_of_the_unix_socket_run_under_uvloop(tmp_path: Path) -> None:
    async def live() -> None:
        async with served(tmp_path) as (_, gateway), truetape.client(address(gateway, "unix")) as client:
            async with asyncio.timeout(WITHIN):
                assert await client.subscribe("kraken:*", ["trade"]).take()

    uvloop.run(live())


async def test_what_only_one_client_wanted_goes_on_while_it_is_away_for_a_moment(tmp_path: Path) -> None:
    async with Simulator(Options(venue="kraken", symbols=2, rate=200)) as sim:
        mine = sim.symbols[1]
        feed = {"venue": "kraken", "symbols": sim.symbols[:1], "url": sim.ws, "rest_url": sim.rest}
        config = {"feeds": [feed], "serve": {"port": 0, "socket": str(tmp_path / "s.sock"), "linger_s": 3}}
        async with truetape.open(config) as gateway, asyncio.timeout(3 * WITHIN):
            assert await gateway.ready()
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s.sock")
            asked = msgspec.json.encode(
                {"type": "subscribe", "id": 1, "symbols": [f"kraken:{mine}"], "channels": ["trade"]}
            )
            writer.write(b"truetape.v1.json\n" + len(asked).to_bytes(4, "big") + asked)
            topic = gateway.pump.router.topic("trade", "kraken", mine)
            while not topic.published:
                await reader.read(65536)
            writer.transport.abort()
            assert gateway.service is not None
            while gateway.service.hall.clients:
                await asyncio.sleep(0.01)
            at = topic.published
            while topic.published < at + 20:
                await asyncio.sleep(0.01)
            while any(row.symbol == mine for link in gateway.pump.links.values() for row in link.streams.values()):
                await asyncio.sleep(0.05)  # nobody came back: in the end the venue is told
