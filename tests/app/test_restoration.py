"""After a broken connection everything that is wanted is subscribed again, and nothing else; books are the venue's, and soon."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

import truetape
from truetape.app.sim import Options, Simulator
from truetape.io.clock import now as clock

SECOND = 1_000_000_000
WITHIN_S = 20.0


def feed(sim: Simulator, symbols: list[str], **named: Any) -> dict[str, Any]:
    return {
        "venue": sim.options.venue, "symbols": symbols, "channels": ["book", "trade"], "depth": 10, "url": sim.ws,
        "rest_url": sim.rest, "healthy_after_s": 0.2, "backoff_max_s": 0.5, "messages_per_s": 0, **named,
    }  # fmt: skip


async def until(claim: Callable[[], object], what: str, shown: Callable[[], object] = str) -> None:
    """Wait for a condition of two programs that share this loop."""
    end = clock() + round(WITHIN_S * SECOND)
    while not claim():
        if clock() > end:
            raise AssertionError(f"not so within {WITHIN_S:g} s: {what} {shown()}")
        await asyncio.sleep(0.002)  # the condition is looked at again: nobody tells of it


def subscribed(sim: Simulator) -> set[str]:
    """What the venue says is subscribed, over all its clients."""
    return {raw for client in sim.venue._clients.values() for raw in client.told}


def wanted(gateway: truetape.Gateway) -> set[str]:
    """What the registry wants."""
    return {want.raw for link in gateway.pump.links.values() if link.session for want in link.session.wants}


def restored(gateway: truetape.Gateway, sim: Simulator) -> bool:
    """All connections stand, everything is confirmed, the two sets are one, and all books are LIVE."""
    # one that was opened for runtime subscriptions is hung up when the last of them goes
    links = [link for link in gateway.pump.links.values() if not (link.session and not link.session.wants)]
    return (
        all(link.session and link.session.state == "OPEN" and not link.session.unacknowledged for link in links)
        and subscribed(sim) == wanted(gateway)
        and all(stream.state == "LIVE" for link in links for stream in link.book_streams())
    )


def reconnects(gateway: truetape.Gateway) -> int:
    """How often any connection was lost so far."""
    return sum(link.session.reconnects for link in gateway.pump.links.values() if link.session)


def lacking(gateway: truetape.Gateway, sim: Simulator) -> str:
    """What is not as it should be."""
    rows = [
        f"wanted, not subscribed: {wanted(gateway) - subscribed(sim)}; the other way: {subscribed(sim) - wanted(gateway)}"
    ]
    for link in gateway.pump.links.values():
        if link.session is not None:
            rows.append(f"{link.source}: {link.session.state} {link.session.reason} {link.session.unacknowledged}")
        rows += [
            f"{stream.raw}: {stream.state} {stream.reason}" for stream in link.book_streams() if stream.state != "LIVE"
        ]
    return "\n".join(rows)


def same(gateway: truetape.Gateway, sim: Simulator) -> bool:
    """Every book is the oracle's, level for level."""
    for link in gateway.pump.links.values():
        for stream in link.book_streams():
            listed = sim.market.listed[stream.raw]
            price, size = (
                10.0**-listed.instrument.price_decimals,
                10.0**-listed.instrument.size_decimals,
            )
            for ours, theirs in ((stream.sync.book.bids(10), listed.bids), (stream.sync.book.asks(10), listed.asks)):
                true = [(ticks * price, lots * size) for ticks, lots in theirs.top(10)]
                flat = [number for level in ours for number in level]
                if flat != pytest.approx([number for level in true for number in level], rel=1e-9):
                    return False
    return True


def cut(sim: Simulator, random: Random) -> None:
    """Break one connection of several, or all, in one of two ways."""
    peers = list(sim._peers.values())
    for peer in peers if random.random() < 0.3 else [random.choice(peers)]:
        if random.random() < 0.5:
            peer.abort()
        else:
            peer.close(random.choice([1001, 1011, 1012]), "")


@pytest.mark.parametrize("venue", ["kraken", "binance", "tickdb"])
async def test_what_is_subscribed_is_what_is_wanted_after_every_random_cut(venue: str) -> None:
    seed = int(os.environ.get("TRUETAPE_SEED", "0")) or Random().getrandbits(32)
    print(f"seed={seed}")
    random = Random(seed)
    async with Simulator(Options(venue=venue, symbols=12, rate=300, seed=seed % 1000)) as sim:
        fixed, free = sim.symbols[:6], sim.symbols[6:]
        tree = {"feeds": [feed(sim, fixed, symbols_per_connection=3)], "seed": seed}
        async with truetape.open(tree) as gateway:
            await until(lambda: restored(gateway, sim), "the first time")
            readers: list[Any] = []
            for turn in range(15):
                for _ in range(random.randrange(3)):
                    if readers and random.random() < 0.5:
                        readers.pop(random.randrange(len(readers))).close()
                    else:
                        name = f"{venue}:{random.choice(free)}"
                        readers.append(gateway.subscribe(name, ["book"], mode=truetape.drop_oldest, bound=10))
                before = reconnects(gateway)
                cut(sim, random)
                for _ in range(random.randrange(3)):  # and some come and go while nothing stands
                    await asyncio.sleep(random.random() * 0.1)
                    readers.append(gateway.subscribe(f"{venue}:{random.choice(free)}", ["book"], bound=10))
                await until(lambda before=before: reconnects(gateway) > before, "the cut is seen")
                await until(lambda: restored(gateway, sim), f"seed={seed} turn={turn}:", lambda: lacking(gateway, sim))
                rate, sim.venue.rate = sim.venue.rate, 0.0
                await until(lambda: same(gateway, sim), f"seed={seed} turn={turn}: the oracle's books")
                sim.venue.rate = rate
            assert reconnects(gateway) >= 15


@pytest.mark.parametrize("drops", [20, pytest.param(200, marks=pytest.mark.soak)])
async def test_500_symbols_are_live_again_within_two_seconds(drops: int) -> None:
    async with Simulator(Options(venue="kraken", symbols=500, rate=1000)) as sim:
        tree = {"feeds": [feed(sim, sim.symbols, channels=["book"])], "seed": 1}
        async with truetape.open(tree) as gateway:
            await until(lambda: restored(gateway, sim), "the first time")
            took = []
            for _ in range(drops):
                (session,) = [link.session for link in gateway.pump.links.values()]
                assert session is not None
                await until(lambda session=session: clock() - session.opened_at > 0.3 * SECOND, "a little health")
                began = clock()
                for peer in list(sim._peers.values()):
                    peer.abort()
                await until(lambda session=session: session.state != "OPEN", "the cut is seen")
                await until(lambda: restored(gateway, sim), "all is back")
                took.append((clock() - began) / SECOND)
            took.sort()
            worst = took[round(0.99 * (len(took) - 1))]
            print(
                f"drops={drops} symbols=500 median={took[len(took) // 2]:.2f} s p99={worst:.2f} s max={took[-1]:.2f} s"
            )
            assert worst <= 2.0
