"""`truetape watch`: books and trades of some symbols, live, on a screen or as JSON lines."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from truetape.app import secrets
from truetape.app.cli import screen
from truetape.app.cli.page import page
from truetape.app.cli.run import loop_factory
from truetape.app.config import Config, ConfigError, load, parse
from truetape.app.live import Closed, Gateway, Subscription
from truetape.core.route.modes import conflate
from truetape.io.clock import now as clock
from truetape.io.obs import log
from truetape.model.event import Market

SECOND = 1_000_000_000
REDRAW_S = 1.0


def configuration(symbols: list[str], path: Path | None, url: str, rest_url: str, depth: int) -> Config:
    """A config for these symbols; feeds' other settings come from the file, where there is one. Raises ConfigError."""
    wanted: dict[str, list[str]] = {}
    for text in symbols:
        venue, colon, symbol = text.partition(":")
        if not colon or not symbol:
            raise ConfigError(f"expected VENUE:SYMBOL, such as kraken:BTC-USD, found {text!r}")
        wanted.setdefault(venue, []).append(symbol)
    known: dict[str, dict[str, Any]] = {}
    if path is not None:
        for feed in load(path).feeds:
            row = {name: value for name, value in msgspec.to_builtins(feed).items() if value not in (None, "")}
            known[feed.name] = known[feed.label or feed.venue] = row
    feeds = []
    for venue, names in wanted.items():
        row = {"venue": venue, **known.get(venue, {}), "symbols": names, "depth": depth}
        row.setdefault("channels", ["book", "trade"])
        if url:
            row["url"] = url
        if rest_url or url:
            row["rest_url"] = rest_url or _host(url)
        if venue.startswith("tickdb") and "secret" not in row and not url:
            row["secret"] = "env:TICKDB_API_KEY"
        feeds.append(row)
    return parse({"feeds": feeds}, "watch", {})


def _host(url: str) -> str:
    """`ws://host:port/path` -> `http://host:port`."""
    scheme, _, rest = url.partition("://")
    return f"{'https' if scheme == 'wss' else 'http'}://{rest.partition('/')[0]}"


def watch(
    symbols: list[str], path: Path | None, url: str, rest_url: str, depth: int, seconds: float, as_json: bool
) -> int:
    """Until Ctrl-C (130), SIGTERM (0) or the given time (0)."""
    log.setup(secrets.redact, level=logging.INFO if as_json or not sys.stdout.isatty() else logging.WARNING)
    secrets.shield_logs()
    config = configuration(symbols, path, url, rest_url, depth)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(_watch(config, depth, seconds, as_json))


async def _watch(config: Config, depth: int, seconds: float, as_json: bool) -> int:
    loop = asyncio.get_running_loop()
    code = 0

    async with Gateway(config) as gateway:
        subscription = gateway.subscribe(
            "*", ["book", "trade", "quote", "ticker"], mode=conflate(ms=0 if as_json else 100), depth=depth
        )

        def end(number: int) -> None:
            nonlocal code
            code = number
            subscription.close("interrupted")

        loop.add_signal_handler(signal.SIGINT, end, 130)
        loop.add_signal_handler(signal.SIGTERM, end, 0)
        timer = loop.call_later(seconds, end, 0) if seconds else None
        console = page()
        with Live(console=console, auto_refresh=False, screen=console.is_terminal and not as_json) as live:
            try:
                while True:
                    events = await _next(subscription)
                    if as_json:
                        for event in events:
                            sys.stdout.write(secrets.redact(msgspec.json.encode(event).decode()) + "\n")
                        sys.stdout.flush()
                    elif console.is_terminal:
                        live.update(_screen(gateway, console), refresh=True)
            except Closed:
                pass
        if timer is not None:
            timer.cancel()
        if not as_json:
            console.print(_screen(gateway, console))
    return code


async def _next(subscription: Subscription) -> list[Market]:
    """What came; nothing where all is silent, for the screen is to show how long. Raises Closed."""
    try:
        async with asyncio.timeout(REDRAW_S):
            return await subscription.take()
    except TimeoutError:
        return []


def _screen(gateway: Gateway, console: Console) -> Group:
    streams = screen.book_streams(gateway)
    ladders = [screen.ladder(stream, 5) for stream in streams if stream.state == "LIVE"][:2]
    age = Text(f"up {(clock() - gateway.started) / SECOND:.0f} s; Ctrl-C ends", style="dim")
    table = screen.books(streams, 20, console.width)
    return Group(table, *screen.doubts(gateway), *ladders, screen.connections(gateway), age)
