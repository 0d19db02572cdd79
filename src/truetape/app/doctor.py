"""`truetape doctor`: what a gateway needs of its machine, its network and its venues, each looked at once, with what to do about it.

Nothing is changed, and nothing leaves the machine but TLS handshakes, one HTTP request for each venue, and one without spans to the collector
of `[trace]`. Next door: `cli/doctor.py` prints.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import resource
import shutil
import socket
import ssl
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from truetape.app import secrets, tls
from truetape.app.config import Config, ConfigError, FeedConfig
from truetape.app.finding import Finding
from truetape.app.keyring import keyring
from truetape.app.listening import ports
from truetape.app.tracing import make_tracer
from truetape.core.feed.plan import Feed, connections
from truetape.io.clock import now as clock
from truetape.io.net.pins import WrongPin, days_left

SECOND = 1_000_000_000
WITHIN_S = 5.0
CERTIFICATE_DAYS = 7
OFFSET_WARN_S, OFFSET_FAIL_S = 1.5, 30.0
"""A Date header has whole seconds: less than a second and a half of difference says nothing."""
SYNC_WARN_MS, SYNC_FAIL_MS = 10.0, 200.0
SYNCS = 50
FREE_WARN, FREE_FAIL = 10 << 30, 1 << 30
SPARE_FILES = 100
EXTRAS = {
    "calendars": "exchange_calendars",
    "nats": "nats",
    "redis": "redis",
    "tables": "pyarrow",
    "traces": "opentelemetry",
}


async def examine(config: Config, feeds: list[Feed]) -> list[Finding]:
    """All checks, those of the network at the same time."""
    listening = await asyncio.to_thread(ports, config)
    out = [*files(config, feeds), *disk(config), *memory(config), *listening, *keys(config), *extras()]
    by_name = {feed.name: feed for feed in config.feeds}
    found = await asyncio.gather(*(venue(by_name[feed.name], feed) for feed in feeds), collector(config))
    return [*out, *(row for rows in found for row in rows)]


def files(config: Config, feeds: list[Feed]) -> list[Finding]:
    """Open files: connections to venues, downstream clients, and some to spare."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    upstream = sum(len(connections(feed)) * feed.lines for feed in feeds)
    clients = config.serve.limits.connections if config.serve is not None else 0
    need = upstream + clients + SPARE_FILES
    said = f"{soft:,} allowed; {upstream} connections, {clients:,} clients at most, {SPARE_FILES} to spare"
    if soft >= need:
        return [Finding("open files", "ok", said)]
    todo = f"ulimit -n {need} (or LimitNOFILE={need} in the unit), or a smaller [serve.limits] connections; the hard limit is {hard:,}"
    return [Finding("open files", "fail" if soft < upstream + SPARE_FILES else "warn", said, todo)]


def disk(config: Config) -> list[Finding]:
    """How fast what is written is safe, and how much room there is, where the tape is kept."""
    if config.journal is None:
        return [Finding("disk", "ok", "no journal is configured")]
    folder = Path(config.journal.dir)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    probe = there / f".truetape-doctor-{os.getpid()}"
    times: list[float] = []
    try:
        with probe.open("wb", buffering=0) as file:
            for _ in range(SYNCS):
                file.write(bytes(16_384))
                began = clock()
                os.fdatasync(file.fileno())
                times.append((clock() - began) / 1e6)
    except OSError as error:
        return [
            Finding(
                "disk",
                "fail",
                f"{there}: {error.strerror or error}",
                "let the gateway's user write there, or set another [journal] dir",
            )
        ]
    finally:
        probe.unlink(missing_ok=True)
    times.sort()
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    verdict: Literal["ok", "warn", "fail"] = "fail" if p99 > SYNC_FAIL_MS else "warn" if p99 > SYNC_WARN_MS else "ok"
    speed = Finding(
        "disk speed", verdict, f"{there}: fdatasync p50 {p50:.2f} ms, p99 {p99:.2f} ms",
        "" if verdict == "ok" else "a local SSD; on a slow disk more is in memory at a crash, and nothing else is lost while it keeps up",
    )  # fmt: skip
    free = shutil.disk_usage(there).free
    room: Literal["ok", "warn", "fail"] = "fail" if free < FREE_FAIL else "warn" if free < FREE_WARN else "ok"
    todo = "" if room == "ok" else "make room, or set [journal] retain_bytes"
    return [speed, Finding("disk space", room, f"{there}: {free / 1e9:.1f} GB free", todo)]


def memory(config: Config) -> list[Finding]:
    """The budget against what the machine has."""
    budget = config.memory.budget_mb * 1_000_000
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        total, available = (int(rows[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return [Finding("memory", "unknown", "this system does not say how much it has")]
    said = f"budget {budget / 1e9:.2f} GB; {available / 1e9:.2f} of {total / 1e9:.2f} GB are available"
    if budget > total:
        return [
            Finding(
                "memory",
                "fail",
                said,
                "a smaller [memory] budget_mb: the system would kill the process before the guard sheds",
            )
        ]
    if budget > available:
        return [Finding("memory", "warn", said, "a smaller [memory] budget_mb, or fewer other programs")]
    return [Finding("memory", "ok", said)]


def keys(config: Config) -> list[Finding]:
    """Whether every reference has a value; never what it is."""
    out = []
    for feed in config.feeds:
        if feed.secret:
            try:
                secrets.Secret(feed.secret).reveal()
                out.append(Finding(f"secret of {feed.name}", "ok", feed.secret))
            except secrets.SecretError as error:
                out.append(Finding(f"secret of {feed.name}", "fail", str(error), "set it where the gateway runs"))
    if config.serve is not None and config.serve.keys:
        try:
            keyring(config.serve)
            out.append(Finding("token keys", "ok", f"{len(config.serve.keys)} can be used"))
        except ConfigError as error:
            out.append(Finding("token keys", "fail", str(error), "see docs/operating.md"))
    return out


def extras() -> list[Finding]:
    """Which optional parts are installed."""
    there = [name for name, module in EXTRAS.items() if importlib.util.find_spec(module) is not None]
    missing = [name for name in EXTRAS if name not in there]
    said = f"installed: {', '.join(there) or 'none'}" + (f"; not: {', '.join(missing)}" if missing else "")
    return [Finding("extras", "ok", said)]


async def collector(config: Config) -> list[Finding]:
    """Whether spans would be taken, asked with a request that has none."""
    if config.trace is None:
        return []
    try:
        tracer = make_tracer(config.trace)
    except ConfigError as error:
        return [Finding("traces", "fail", str(error), "see docs/tracing.md")]
    why = await asyncio.to_thread(tracer.probe)
    if not why:
        return [Finding("traces", "ok", f"{tracer.endpoint} takes them")]
    todo = "start the collector, or name its OTLP/HTTP address in [trace] endpoint; the gateway runs without it too"
    return [Finding("traces", "warn", f"{tracer.endpoint}: {why}", todo)]


async def venue(config: FeedConfig, feed: Feed) -> list[Finding]:
    """Name, socket, certificate, pins and clock of a feed's address."""
    url = urlsplit(feed.url)
    host, secure = url.hostname or "", url.scheme in ("wss", "https")
    port = url.port or (443 if secure else 80)
    loop = asyncio.get_running_loop()
    if config.proxy:
        return [
            Finding(
                f"{feed.name}: {host}",
                "unknown",
                "a proxy is between",
                "the gateway dials through it; this check does not",
            )
        ]
    try:
        async with asyncio.timeout(WITHIN_S):
            began = clock()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        why = error.strerror or "no answer"
        return [
            Finding(
                f"{feed.name}: name",
                "fail",
                f"{host}: {why}",
                "DNS, /etc/resolv.conf, or no network at all; the rest could not be checked",
            )
        ]
    addresses = ", ".join(dict.fromkeys(str(row[4][0]) for row in found))
    rows = [Finding(f"{feed.name}: name", "ok", f"{host}: {addresses} in {(clock() - began) / 1e6:.0f} ms")]
    return rows + await _reach(config, feed, host, port, secure)


async def _reach(config: FeedConfig, feed: Feed, host: str, port: int, secure: bool) -> list[Finding]:
    rows: list[Finding] = []
    context, pins = tls.of_feed(config)
    chosen = (context or ssl.create_default_context()) if secure else None
    began = clock()
    try:
        async with asyncio.timeout(WITHIN_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=chosen)
    except WrongPin as error:
        return [
            Finding(
                f"{feed.name}: pins",
                "fail",
                str(error),
                "the venue changed its key, or somebody is between: compare with the venue's notice",
            )
        ]
    except ssl.SSLError as error:
        return [
            Finding(
                f"{feed.name}: TLS",
                "fail",
                f"{host}:{port}: {error.reason or error}",
                "ca_file, or the machine's clock or certificates",
            )
        ]
    except (OSError, TimeoutError) as error:
        why = error.strerror or f"no answer within {WITHIN_S:g} s"
        return [
            Finding(
                f"{feed.name}: TCP",
                "fail",
                f"{host}:{port}: {why}",
                "a firewall, a proxy that is needed, or the venue is down",
            )
        ]
    try:
        rows.append(Finding(f"{feed.name}: TCP", "ok", f"{host}:{port} in {(clock() - began) / 1e6:.0f} ms"))
        if secure:
            days = days_left(writer.get_extra_info("ssl_object"), clock() / SECOND)
            rows.append(_certificate(feed.name, days))
            if pins is not None:
                rows.append(
                    Finding(
                        f"{feed.name}: pins",
                        "ok" if pins.matched else "warn",
                        "the key is one of them" if pins.matched else "only reported",
                    )
                )
        rows.append(await _offset(feed.name, host, reader, writer))
    finally:
        writer.close()
    return rows


def _certificate(name: str, days: float | None) -> Finding:
    if days is None:
        return Finding(f"{name}: certificate", "unknown", "it does not say how long it is valid")
    if days < CERTIFICATE_DAYS:
        return Finding(
            f"{name}: certificate", "warn", f"valid for {days:.1f} days", "with pins: name the venue's next key too"
        )
    return Finding(f"{name}: certificate", "ok", f"valid for {days:.0f} days")


async def _offset(name: str, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Finding:
    """Our clock against the venue's Date header."""
    try:
        async with asyncio.timeout(WITHIN_S):
            sent = clock()
            writer.write(f"HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        came = clock()
        line = next(row for row in head.splitlines() if row.lower().startswith("date:"))
        theirs = parsedate_to_datetime(line.partition(":")[2].strip()).timestamp() + 0.5
    except (
        OSError,
        TimeoutError,
        StopIteration,
        ValueError,
        TypeError,
        asyncio.IncompleteReadError,
        asyncio.LimitOverrunError,
    ):
        return Finding(
            f"{name}: clock", "unknown", f"{host} told no date", "truetape status shows offset_ms once the gateway runs"
        )
    offset = (sent + came) / 2 / SECOND - theirs
    size = max(0.0, abs(offset) - 0.5)
    verdict: Literal["ok", "warn", "fail"] = (
        "fail" if size > OFFSET_FAIL_S else "warn" if size > OFFSET_WARN_S else "ok"
    )
    todo = "" if verdict == "ok" else "chrony or systemd-timesyncd; stamps and tokens' times are wrong until then"
    return Finding(f"{name}: clock", verdict, f"ours is {offset:+.1f} s beside the venue's, within a second", todo)
