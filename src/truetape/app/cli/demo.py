"""`truetape demo`: three simulated venues, the whole gateway, four consumers, a live screen and the page, with no network and no key."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.live import Live

from truetape.app import memory, secrets
from truetape.app.cli import screen
from truetape.app.cli.run import loop_factory
from truetape.app.config import Config, parse
from truetape.app.ending import Ending
from truetape.app.live import Closed, Gateway, Subscription
from truetape.core.feed.delay import Histogram
from truetape.core.route.modes import conflate, drop_oldest, max_age
from truetape.io.clock import now as clock
from truetape.io.obs import log

SECOND = 1_000_000_000
VENUES = (("kraken", 4, 240), ("binance", 4, 120), ("tickdb", 4, 120))


class Venue(Struct):
    """What a simulator says on its first line."""

    venue: str
    ws: str
    rest: str
    symbols: list[str]


class Unready(Exception):
    """A simulator did not start."""


def start(venue: str, symbols: int, rate: float) -> subprocess.Popen[bytes]:
    """A simulator in a process of its own, and in a group of its own: Ctrl-C is for us, who end it."""
    options = ["--venue", venue, "--symbols", str(symbols), "--rate", str(rate)]
    command = [sys.executable, "-m", "truetape", "sim", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0)


def listening(process: subprocess.Popen[bytes], venue: str) -> Venue:
    """Wait until it says where it is. Raises Unready."""
    assert process.stdout is not None, "stdout was asked for"
    line = process.stdout.readline()
    if not line:
        code = process.wait(5)
        raise Unready(f"the {venue} simulator ended at once with code {code}; `truetape sim --venue {venue}` shows why")
    return msgspec.json.decode(line, type=Venue)


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """End them all, and see that they ended."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def configuration(venues: list[Venue], tape: Path) -> Config:
    """A gateway on these simulators that records."""
    feeds = [
        {
            "venue": v.venue,
            "symbols": v.symbols,
            "channels": ["book", "trade"],
            "depth": 10,
            "url": v.ws,
            "rest_url": v.rest,
            "market": "always",  # a simulated market never closes, whatever its shares are called
        }
        for v in venues
    ]
    return parse({"feeds": feeds, "journal": {"dir": str(tape)}, "serve": {"port": 0}}, "demo", {})


class Meter:
    """What the demo's strategy measures: events, and their way from socket to consumer."""

    def __init__(self) -> None:
        self.events = 0
        self.delay = Histogram()

    async def read(self, subscription: Subscription) -> None:
        """Take what comes."""
        while True:
            try:
                events = await subscription.take()
            except Closed:
                return
            now = clock()
            self.events += len(events)
            for event in events:
                if (recv := getattr(event, "recv", 0)) > 0:
                    self.delay.add(now - recv)


async def _slow(subscription: Subscription) -> None:
    """A consumer that reads now and then, to show what its ledger says."""
    while True:
        try:
            await subscription.take(50)
        except Closed:
            return
        await asyncio.sleep(0.5)  # it is slow on purpose: this is the demonstration, not a wait for a condition


def summary(gateway: Gateway, meter: Meter, began: int) -> dict[str, Any]:
    """The demo's figures, as CONTRACTS.md names them."""
    seconds = (clock() - began) / SECOND
    books = [stream for link in gateway.pump.links.values() for stream in link.book_streams()]
    p50, p99 = meter.delay.percentile(0.5), meter.delay.percentile(0.99)
    return {
        "seconds": round(seconds, 2),
        "events": sum(gateway.pump.digest.counts().values()),
        "events_per_s": round(sum(gateway.pump.digest.counts().values()) / seconds, 1),
        "p50_ms": round(p50 / 1e6, 3) if p50 is not None else None,
        "p99_ms": round(p99 / 1e6, 3) if p99 is not None else None,
        "gaps": len(gateway.pump.gaps),
        "reconnects": sum(link.session.reconnects for link in gateway.pump.links.values() if link.session),
        "books_live": sum(stream.state == "LIVE" for stream in books),
        "books": len(books),
        "ledger_balanced": all(box.ledger().balanced for box in gateway.boxes),
        "rss_mb": round(memory.rss() / 1e6, 1),
    }


async def _play(config: Config, seconds: float, as_json: bool) -> tuple[dict[str, Any], int]:
    """The figures, and the exit code of whoever ended it."""
    ending = Ending()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, ending.end, 0)
    meter = Meter()
    began = clock()
    async with Gateway(config) as gateway, asyncio.TaskGroup() as group:
        group.create_task(meter.read(gateway.subscribe("*", ["book", "trade"], mode=drop_oldest, name="strategy")))
        group.create_task(
            Meter().read(gateway.subscribe("*", ["book", "trade"], mode=conflate(ms=250), name="dashboard"))
        )
        group.create_task(Meter().read(gateway.subscribe("*", ["trade"], mode=max_age(s=2), name="alerts")))
        group.create_task(_slow(gateway.subscribe("*", ["book"], mode=drop_oldest, bound=200, name="slow notebook")))
        if gateway.service is not None:
            print(f"the page: http://127.0.0.1:{gateway.service.port}/", file=sys.stderr, flush=True)
        await _show(gateway, meter, began, seconds, ending.code, as_json)
        result = summary(gateway, meter, began)
        for box in list(gateway.boxes):
            gateway.release(box, "the demo ended")
    return result, ending.code.result() if ending.code.done() else 0


async def _show(
    gateway: Gateway, meter: Meter, began: int, seconds: float, ended: asyncio.Future[int], quiet: bool
) -> None:
    """Redraw four times a second until it is over."""
    console = Console(stderr=quiet, markup=False)
    until = began + round(seconds * SECOND) if seconds else None
    with Live(console=console, auto_refresh=False, screen=console.is_terminal and not quiet, transient=quiet) as live:
        while not ended.done() and (until is None or clock() < until):
            if console.is_terminal:
                figures = summary(gateway, meter, began)
                footer = (
                    f"{figures['events']:,} events, {figures['events_per_s']:,.0f}/s; socket to consumer p50 {figures['p50_ms']} ms, p99 "
                    f"{figures['p99_ms']} ms; {figures['books_live']}/{figures['books']} books LIVE; {figures['gaps']} gaps; "
                    f"tape: record {gateway.journal.flushed_record if gateway.journal else '-'} on disk; {figures['rss_mb']} MB; "
                    f"page: http://127.0.0.1:{gateway.service.port if gateway.service else 0}/; Ctrl-C ends"
                )
                live.update(screen.whole(gateway, footer, console.width, console.height), refresh=True)
            left = 0.25 if until is None else min(0.25, max(0.01, (until - clock()) / SECOND))
            await asyncio.wait([ended], timeout=left)


def demo(seconds: float, as_json: bool) -> int:
    """0 when all went well; 1 when a ledger does not balance or no book came LIVE; 130 where Ctrl-C ended it."""
    log.setup(secrets.redact, level=30)
    secrets.shield_logs()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        print(f"starting the simulators of {', '.join(venue for venue, _, _ in VENUES)} …", file=sys.stderr)
        for venue, symbols, rate in VENUES:
            processes.append(start(venue, symbols, rate))
        venues = [listening(process, venue) for process, (venue, _, _) in zip(processes, VENUES, strict=True)]
        with (
            tempfile.TemporaryDirectory(prefix="truetape-demo-") as folder,
            asyncio.Runner(loop_factory=loop_factory) as runner,
        ):
            result, code = runner.run(_play(configuration(venues, Path(folder) / "tape"), seconds, as_json))
    except Unready as error:
        print(f"truetape: {error}", file=sys.stderr)
        return 1
    finally:
        stop(processes)
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        print("\n".join(f"{name:16} {value}" for name, value in result.items()))
        print(
            "\nnext: truetape sim --venue kraken --print-config; truetape run gateway.toml; README.md has the first ten minutes"
        )
    return code or (0 if result["ledger_balanced"] and result["books_live"] else 1)
