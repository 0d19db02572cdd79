"""Ours, the whole path with everything on: socket, journal, session, health, book, metrics, router, one consumer.

The gateway is opened as a user would (`truetape.open`), with a journal in a temporary directory on a real disk. The consumer takes
batches of `book` and asks each state for spread, pressure(5) and imbalance(5), as the baselines compute them.
"""

import asyncio
import os
import tempfile

import uvloop

import truetape
from bench.frames import sent_ns, symbols
from bench.report import Account, arguments
from truetape.app.live import Gateway
from truetape.core.book import metrics
from truetape.io.clock import wall_ns

SILENCE_S = 5.0


async def receive(url: str, frames: int, names: list[str], delay: bool, levels: int) -> None:
    """Take `frames` whole books, then report."""
    with tempfile.TemporaryDirectory(prefix="bench-tape-", dir="bench/build") as folder:
        feed = {
            "venue": "tickdb",
            "symbols": names,
            "channels": ["book"],
            "depth": levels,
            "url": url.replace("api_key=bench", "api_key={secret}"),  # keys are references, in a bench too
            "secret": "env:BENCH_KEY",
            "backoff_first_s": 60.0,
            "backoff_max_s": 60.0,
            "symbols_per_connection": 5000,
        }
        async with truetape.open({"feeds": [feed], "journal": {"dir": folder}}) as gateway:
            await consume(gateway, frames, delay)


async def consume(gateway: Gateway, frames: int, delay: bool) -> None:
    """The one consumer."""
    account = Account()
    subscription = gateway.subscribe("*", ["book"], bound=100_000, name="bench")
    delays: list[int] = []
    computed: tuple[float, float, float] | None = None
    messages = dropped = 0
    try:
        while messages < frames:
            async with asyncio.timeout(SILENCE_S):
                events = await subscription.take(1000)
            for event in events:
                if event.__class__ is not truetape.Book:
                    dropped += getattr(event, "dropped", 0)
                    continue
                bids, asks = event.bids, event.asks
                computed = metrics.summary(bids, asks, 5)
                messages += 1
                if delay:
                    delays.append(wall_ns() - sent_ns(event.ts // 1_000_000, bids[0][1]))
    except TimeoutError:
        pass
    account.finish(frames, messages, delays, dropped)
    assert subscription.ledger.balanced, f"the ledger does not balance: {subscription.ledger}"
    assert computed is not None, "the metrics of the last book were computed"


def main() -> None:
    """Run on uvloop."""
    os.environ["BENCH_KEY"] = "bench"
    options = arguments(__doc__ or "")
    uvloop.run(receive(options.url, options.frames, symbols(options.symbols), options.delay, options.levels))


if __name__ == "__main__":
    main()
