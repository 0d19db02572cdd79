"""The `[[sinks]]` tables: buses that events are published to. Next door: `config.py` has the tree, `sinks.py` makes them work."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field

SCHEMES = {
    "nats": ("nats", "tls"),
    "redis": ("redis", "rediss", "unix"),
    "redis_stream": ("redis", "rediss", "unix"),
}
_PREFIX = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


class SinkConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One sink: a bus, what is published to it, and what gives way while it is slow or away."""

    kind: Literal["nats", "redis", "redis_stream"]
    url: str
    name: str = ""
    user: str = ""
    secret: str = ""
    ca_file: str = ""
    symbols: Annotated[list[str], Meta(min_length=1)] = field(default_factory=lambda: ["*"])
    channels: Annotated[list[str], Meta(min_length=1)] = field(default_factory=lambda: ["book", "trade"])
    mode: Literal["drop_oldest", "drop_newest", "conflate", "max_age"] = "drop_oldest"
    bound: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    depth: Annotated[int, Meta(ge=0, le=10_000)] = 50
    conflate_ms: Annotated[float, Meta(ge=0, le=3_600_000)] = 0
    max_age_ms: Annotated[float, Meta(gt=0, le=3_600_000)] = 1000
    encoding: Literal["json", "msgpack"] = "json"
    prefix: str = "truetape"
    maxlen: Annotated[int, Meta(ge=0, le=1 << 40)] = 100_000
    in_flight_bytes: Annotated[int, Meta(ge=4096, le=1 << 30)] = 1 << 20
    confirm_s: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    backoff_max_s: Annotated[float, Meta(gt=0, le=3600)] = 10.0


def problem(rows: list[SinkConfig]) -> str:
    """What is wrong with these, as `[i].key: expected …`; empty where nothing is. No address is shown: it may hold a password."""
    names = [row.name or row.kind for row in rows]
    for i, row in enumerate(rows):
        if names.index(names[i]) < i:
            return f"[{i}].name: expected unique names of sinks, found {names[i]!r} twice"
        if row.secret and not re.fullmatch(r"(env|file):.+", row.secret):
            return f"[{i}].secret: expected a reference such as env:NATS_TOKEN or file:/run/secrets/token, found something else (not shown)"
        if row.user and not row.secret:
            return f'[{i}].user: expected the password of {row.user!r} as secret = "env:NAME", found none'
        if not _PREFIX.fullmatch(row.prefix):
            return f"[{i}].prefix: expected letters, digits, dashes and underscores, in parts with a dot between, found {row.prefix[:80]!r}"
        if why := _address(row):
            return f"[{i}].url: {why}"
    return ""


def _address(row: SinkConfig) -> str:
    schemes = SCHEMES[row.kind]
    try:
        parts = urlsplit(row.url)
        named = (
            bool(parts.path)
            if parts.scheme == "unix"
            else bool(parts.hostname) and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        named, parts = False, urlsplit("")
    if parts.scheme not in schemes or not named:
        return f"expected an address that begins with {' or '.join(f'{name}://' for name in schemes)}, and a host"
    if "@" in parts.netloc or parts.query:
        return 'expected neither user, password nor query in the address; write user = "…" and secret = "env:NAME" or "file:/path"'
    return ""
