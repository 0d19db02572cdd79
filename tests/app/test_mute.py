"""A subscription that falls mute on a connection that lives, over real sockets: found within its threshold and half a second, and mended."""

import asyncio

from truetape import open as open_gateway
from truetape.app.sim import Options, Simulator
from truetape.core.sim.faults import parse
from truetape.model.event import Gap, Status

S = 1_000_000_000


async def test_a_mute_symbol_is_found_within_its_threshold_and_half_a_second_and_comes_back() -> None:
    options = Options(venue="kraken", symbols=2, rate=200, faults=parse(["mute-symbol@3s:BTC/USDT=8"]))
    async with Simulator(options) as sim, asyncio.timeout(60):
        feed = {
            "venue": "kraken",
            "url": sim.ws,
            "rest_url": sim.rest,
            "symbols": list(sim.symbols),
            "channels": ["book"],
        }
        async with open_gateway({"feeds": [feed]}) as gateway:
            mute = gateway.stream("kraken:BTC-USDT")
            other = next(row for row in gateway.pump.links["kraken-1"].streams.values() if row is not mute)
            stale: Status | None = None
            spoke = threshold = 0
            gaps: list[Gap] = []
            async for event in gateway.subscribe("kraken:BTC-USDT", "book_delta"):
                if isinstance(event, Gap):
                    gaps.append(event)
                elif isinstance(event, Status) and event.channel == "book":
                    if event.state == "STALE" and stale is None:
                        stale, spoke, threshold = event, mute.last, mute.threshold
                    elif stale is not None and event.state == "LIVE":
                        break
            assert stale is not None and other.state == "LIVE"
            assert threshold == 3 * S and threshold < stale.since - spoke <= threshold + S // 2
            assert [gap.recovered for gap in gaps] == [False, True] and gaps[0].reason == "stale"
            assert gaps[1].from_ts == spoke and mute.threshold == threshold, "the silence was not learned"
            assert gateway.status()["connections"][0]["reconnects"] == 0, "one symbol is no reason to hang up"
