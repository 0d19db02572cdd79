"""`truetape run`, `check` and `status`."""

from __future__ import annotations

import asyncio
import errno
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from truetape.app import restart, secrets, tls
from truetape.app.config import load
from truetape.app.ending import Ending
from truetape.app.live import Gateway, open_gateway
from truetape.app.sinks import make_bus
from truetape.app.symbols import resolve_all
from truetape.app.tracing import make_tracer
from truetape.core.feed.plan import counted
from truetape.core.feed.second import lines
from truetape.io.clock import now as clock
from truetape.io.obs import log
from truetape.io.serve.control import ask

AGAIN = -1
"""Ends this process's gateway like 0, and begins the next in its place."""


def loop_factory() -> asyncio.AbstractEventLoop:
    """uvloop where it is there, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run(path: Path) -> int:
    """Until SIGTERM (0) or Ctrl-C (130); at its memory budget it drains and begins itself anew."""
    log.setup(secrets.redact)
    secrets.shield_logs()
    gateway = open_gateway(path)
    log.choose(gateway.config.log.level, gateway.config.log.format)
    gateway.restarts = restart.before()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        code = runner.run(_serve(gateway))
    if code == AGAIN:
        restart.again(gateway.pulse.guard.restarts.after(clock()))
    return code


async def _serve(gateway: Gateway) -> int:
    loop, ending = asyncio.get_running_loop(), Ending()
    running = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, lambda: gateway.reload_soon() if running.is_set() else None)
    loop.set_exception_handler(lambda _loop, context: _bug(context, ending.end))
    async with gateway:
        gateway.on_drain = lambda: ending.end(0)
        gateway.on_restart = lambda why: ending.end(AGAIN)
        feeds = ", ".join(f"{feed.name} ({len(feed.wants)})" for feed in gateway.feeds)
        journal = gateway.config.journal.dir if gateway.config.journal is not None else "none"
        log.info("started", feeds=feeds, journal=journal, connections=len(gateway.pump.links))
        running.set()
        code = await ending.code
        running.clear()
        log.info("draining", then="restarting" if code == AGAIN else "ending")
    log.info("stopped", digest=gateway.pump.digest.value(), events=sum(gateway.pump.digest.counts().values()))
    return code


def _bug(context: dict[str, Any], end: Any) -> None:
    """What nobody caught is a bug: say it and end, so that whoever supervises starts a sound process."""
    error = context.get("exception")
    if "protocol" in context and str(context.get("message", "")).startswith("SSL"):
        return  # a stranger at our port broke off its handshake: neither news nor our mistake
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        log.warning("no more open files", message=context.get("message", ""), hint="raise ulimit -n (LimitNOFILE=)")
        return  # who stands goes on; `doctor` says how many are needed
    log.warning("bug", message=context.get("message", ""), error=f"{type(error).__name__}: {error}" if error else "")
    if error is not None and not isinstance(error, ConnectionError | TimeoutError):
        end(1)


def check(path: Path, as_json: bool) -> int:
    """Valid: 0 and what it would connect to. Invalid: ConfigError, and so 2."""
    config = load(path)
    feeds = resolve_all(config)
    rows = []
    for feed in feeds:
        for name, endpoint in lines(feed):
            wants = [f"{want.channel} {feed.label}:{want.symbol}" for want in endpoint.wants]
            rows.append({"connection": name, "url": endpoint.url.replace("{secret}", "***"), "subscriptions": wants})
    for row in config.feeds:
        if row.secret:
            secrets.Secret(row.secret).reveal()
        tls.of_feed(row)
        if len(row.pins) == 1:
            print(
                f"feed {row.name}: one pin only; name a backup, or the day the venue changes its key ends the feed",
                file=sys.stderr,
            )
    for number, sink in enumerate(config.sinks):
        make_bus(f"sinks[{number}]", sink)
    if config.trace is not None:
        make_tracer(config.trace)
    if as_json:
        print(msgspec.json.encode({"ok": True, "connections": rows}).decode())
    else:
        for line in rows:
            print(f"{line['connection']}: {line['url']}: {len(line['subscriptions'])} subscriptions")
        print(f"{path}: {counted(len(feeds), 'feed')}, {counted(len(rows), 'connection')}: ok", file=sys.stderr)
    return 0


def status(socket: Path, as_json: bool) -> int:
    """What a running gateway answers."""
    tree = ask(socket, {"do": "status"})
    if as_json:
        print(msgspec.json.encode(tree).decode())
    else:
        from truetape.app.cli.screen import print_status

        print_status(tree)
    return 0
