"""`truetape config --defaults`: every key, its default and what it means, made from the structs so that it cannot be stale."""

from __future__ import annotations

import sys

import msgspec

from truetape.app.config import PROFILES, ControlConfig, FeedConfig, JournalConfig, LogConfig, MemoryConfig
from truetape.app.config_serve import LimitsConfig, ServeConfig
from truetape.app.config_sinks import SinkConfig
from truetape.app.config_trace import TraceConfig
from truetape.core.feed.session import Timing

MEANING = {
    "venue": "module truetape.venues.<venue>, or a dotted name of your own",
    "name": "unique; default: the venue's name",
    "label": "stands as venue on the events; default: the venue's name",
    "symbols": "BASE-QUOTE[-PERP|-YYMMDD] or the venue's own spelling; `truetape symbols VENUE` lists them",
    "channels": "book trade quote ticker bar.1m …; the venue's own words are accepted",
    "depth": "levels of each book; 0: all that the venue gives",
    "lines": "2: two connections carry the same, and the first to bring a message wins",
    "line_urls": "addresses of the second lines, where they have one of their own",
    "url": "connect here instead of the venue's own address",
    "rest_url": "fetch snapshots and instruments here",
    "subscribe": "command, or url (streams named in the address, where the venue has that)",
    "instruments": "fetch the venue's list at start, and spell symbols by it instead of by rule",
    "secret": "a reference, never a value: env:NAME or file:/path",
    "alternates": 'addresses of the same venue, dialed while url fails: ["wss://…"]',
    "pins": 'keys that the venue\'s certificate may have: ["sha256/…", "sha256/…"], the second a backup',
    "pins_report_only": "tell of other keys, and go on",
    "ca_file": "trust only these certificates (PEM)",
    "proxy": "http://host:port; socks5://host:port for the stream, but not for rest_url",
    "plan": "where the venue sells plans (tickdb: free, basic, pro, enterprise): its limits are kept",
    "profile": "default (ping 2 s, pong 2 s), fast (1/1), relaxed (5/10); each timing can also be set by name:",
    "ping_every_s": "protocol pings",
    "pong_within_s": "nothing within this time of a ping: the link is dead, and is aborted",
    "app_ping_every_s": "the venue's own pings; unset: as the venue expects; 0: never",
    "dead_after_s": "silence of the whole connection; unset: as the venue expects; 0: never",
    "ack_within_s": "an unconfirmed subscription is asked for again, four times in all",
    "late_s": "messages that come so much later than usual (by the venue's stamps) are STALE; or 5 times as late; 0: never",
    "backoff_first_s": "first wait after a failed dial; doubles",
    "backoff_max_s": "the longest wait",
    "jitter": 'share by which waits vary: 0.3 is ±30 %; "full": anything from nothing to the wait',
    "attempts_max": "dials before giving up; 0: no limit",
    "healthy_after_s": "a connection that lived so long starts the waits anew",
    "handshake_s": "WebSocket handshake",
    "lifetime_s": "of a connection at the venue: its successor opens before; unset: as the venue says; 0: for ever",
    "dial_s": "TCP and TLS",
    "close_s": "what could not be said by then is dropped with the socket",
    "messages_per_s": "what we send at most; unset: the venue's limit; 0: no limit",
    "market": "whose hours the symbols keep: US HK SH SZ FX, an ISO 10383 code, or always; unset: as the venue file says",
    "connections": "spread the symbols over so many, and never more; 0: as few as the limits allow",
    "symbols_per_connection": "0: 500, or what the venue's limits leave",
    "subscriptions_max": "of the whole feed; 0: what venue and plan allow",
    "rates": "a file of measured rates by which connections are balanced at start; `truetape plan --rates` makes one",
    "dir": "the tape's folder",
    "flush_ms": "group commit",
    "segment_bytes": "a new segment after so many bytes of records; its checkpoint comes on top",
    "retain_bytes": "oldest closed segments go beyond this; 0: keep all",
    "backlog_bytes": "what may wait for the disk; beyond, a Hole and never a stall",
    "socket": "Unix socket, mode 0600: status, subscribe, unsubscribe, drain",
    "budget_mb": "resident memory: tidies from 80 %, sheds from 90 %, begins anew at it; see docs/pressure.md",
    "host": "where to listen; beyond this machine only with TLS and tokens, or accept_risk",
    "port": "WebSocket at /v1/stream, and plain GETs; 0: a free one",
    "tls": "the server's certificate; without it: none",
    "ServeConfig.socket": "a Unix socket for clients of this machine; empty: none",
    "LimitsConfig.connections": "clients in all",
    "LimitsConfig.messages_per_s": "of one client; five seconds' worth at once",
    "keys": '[[serve.keys]] id = "2026-11", alg = "HS256", secret = "env:NAME"; or alg = "EdDSA", public = "file:…", private = "file:…"',
    "revoked_file": "ids of tokens that were taken back, one a line; read again within a second of a change",
    "token_in_url": "take tokens from the address too (?token=…), where nothing else is possible: addresses end up in logs",
    "origins": "pages of these origins may connect, compared exactly",
    "history": "events kept of each topic that a client asked for, for clients that come back",
    "linger_s": "how long they are kept after the last client of a topic left",
    "coalesce_ms": "wait so long for more before writing to a client: fewer, larger writes",
    "level": "debug, info, warning or error",
    "format": "json, console, or auto: console where stderr is a terminal",
    "native": "venues' own protocols at /native/<venue> for bots that speak them: binance, kraken, tickdb; see docs/native.md",
    "native_add": "their bots may ask for what no feed names: it is subscribed to at the venue, and let go when they have left",
    "native_adds": "subscriptions (a symbol's book, its trades) that bots may have added, of each venue",
    "native_adds_per_bot": "the same, of one bot",
    "accept_risk": 'what is missing on purpose beyond this machine: "no TLS", "no tokens", "no TLS and no tokens"',
    "connections_per_address": "of one address",
    "connections_per_token": "of one name",
    "handshakes_per_s": "of one address; five seconds' worth at once",
    "message_bytes": "of one message of a client",
    "fragments": "of one message of a client",
    "subscriptions": "of one client",
    "buffer_bytes": "waiting in a client's socket, before its own boxes fill",
    "write_s": "a client whose socket takes nothing for so long is cut",
    "idle_s": "a client that says nothing for so long, not even a pong, is sent away",
    "kind": "nats, redis (pub/sub) or redis_stream; see docs/sinks.md",
    "SinkConfig.url": "nats:// or tls://, redis:// or rediss:// or unix://, without user and password",
    "SinkConfig.name": "unique; default: its kind",
    "user": "whose password the secret is; without it the secret is a token (nats) or the default user's password (redis)",
    "SinkConfig.symbols": "venue:SYMBOL, venue:* or *",
    "SinkConfig.channels": "as a consumer's: book (whole states), book_delta, trade, quote, ticker, bar.1m, status …",
    "mode": "what gives way while the bus is slow or away: drop_oldest, drop_newest, conflate, max_age",
    "bound": "events that may wait for the bus",
    "SinkConfig.depth": "levels of whole books; 0: all",
    "conflate_ms": "of conflate: how long the latest is waited for",
    "max_age_ms": "of max_age: older events are not published",
    "encoding": "json or msgpack",
    "prefix": "of the subjects: <prefix>.<kind>.<venue>.<symbol>",
    "maxlen": "of redis_stream: entries kept of each stream, about; 0: all",
    "in_flight_bytes": "written to the bus and not confirmed",
    "confirm_s": "a bus that confirms nothing for so long is dialed anew",
    "SinkConfig.backoff_max_s": "the longest wait before the next dial; begins at 0.25 s",
    "endpoint": "an OTLP/HTTP collector, /v1/traces is added; empty: as OTEL_EXPORTER_OTLP_ENDPOINT, else http://localhost:4318",
    "TraceConfig.secret": "a reference, sent to it as a bearer token; OTEL_EXPORTER_OTLP_HEADERS is heeded too",
    "service": "service.name of the spans; OTEL_RESOURCE_ATTRIBUTES adds more",
    "batches": "share of the tape's group commits and of the clients' turns that are traced; connections all are",
    "within_s": "a request that the collector does not answer by then has failed",
    "authenticate_within_s": "a client without a token by then is sent away",
}
EXAMPLES = {
    "venue": '"kraken"',
    "symbols": '["BTC-USD", "ETH-USD"]',
    "SinkConfig.symbols": '["*"]',
    "SinkConfig.url": '"nats://127.0.0.1:4222"',
    "kind": '"nats"',
    "tls": '{ cert_file = "cert.pem", key_file = "key.pem" }',
}


def config(defaults: bool) -> int:
    """Print the page."""
    if not defaults:
        print("usage: truetape config --defaults   prints a commented config with every key", file=sys.stderr)
        return 2
    print("# truetape: every key with its default; what is commented out is optional.")
    print("# Environment variables override: TRUETAPE_JOURNAL__DIR, TRUETAPE_FEEDS__KRAKEN__DEPTH.\n")
    print("# seed = 0                                  # of all jitter; 0: another for each start")
    print(
        "# loop_lag_ms = 100                         # the loop so late: told in a Status (loop_lag), and when it is over\n"
    )
    _table("[[feeds]]", FeedConfig, live=("venue", "symbols", "channels", "depth", "profile"))
    _table(
        "[journal]                                   # leave the table out: nothing is recorded",
        JournalConfig,
        live=("dir",),
    )
    _table(
        "[control]                                   # leave the table out: no control socket",
        ControlConfig,
        live=("socket",),
    )
    _table("[memory]", MemoryConfig, live=("budget_mb",))
    _table("[log]", LogConfig, live=("level",))
    _table(
        "[serve]                                     # leave the table out: no downstream service",
        ServeConfig,
        live=("host", "port"),
    )
    _table("[serve.limits]", LimitsConfig, live=())
    _table(
        "# [[sinks]]                                 # any number of them; none: nothing is published to a bus",
        SinkConfig,
        live=(),
    )
    _table(
        "# [trace]                                   # leave the table out: no OpenTelemetry spans; see docs/tracing.md",
        TraceConfig,
        live=(),
    )
    return 0


def _table(head: str, kind: type[msgspec.Struct], live: tuple[str, ...]) -> None:
    print(head)
    timings = {field.name: field.default for field in msgspec.structs.fields(Timing)} | PROFILES["default"]
    for field in msgspec.structs.fields(kind):
        if field.name == "limits":
            continue  # a table of its own
        value = (
            field.default
            if field.default is not msgspec.NODEFAULT
            else field.default_factory()
            if field.default_factory is not msgspec.NODEFAULT
            else ""
        )
        if value is None and field.name in EXAMPLES:
            text = EXAMPLES[field.name]
        elif value is None:
            value = timings.get(field.name, 0.0)
            text = "" if value == -1 else f"{value:g}"
        else:
            text = (
                EXAMPLES.get(f"{kind.__name__}.{field.name}")
                or EXAMPLES.get(field.name)
                or msgspec.json.encode(value).decode().replace(",", ", ")
            )
        line = f"{field.name} = {text or 0}"
        shown = line if field.name in live else f"# {line}"
        print(f"{shown:43} # {(MEANING.get(f'{kind.__name__}.{field.name}') or MEANING[field.name])}")
    print()
