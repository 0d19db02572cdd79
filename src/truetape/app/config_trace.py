"""The `[trace]` table: spans of connections, reconnects and batches, for an OpenTelemetry collector. Next door: `config.py` has the tree."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct


class TraceConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where spans go. Without this table there are none."""

    endpoint: str = ""
    secret: str = ""
    ca_file: str = ""
    service: Annotated[str, Meta(min_length=1, max_length=200)] = "truetape"
    batches: Annotated[float, Meta(ge=0, le=1)] = 0.001
    within_s: Annotated[float, Meta(gt=0, le=60)] = 5.0


def problem(row: TraceConfig | None) -> str:
    """What is wrong with it, as `.key: expected …`; empty where nothing is. No address is shown: it may hold a password."""
    if row is None:
        return ""
    if row.secret and not re.fullmatch(r"(env|file):.+", row.secret):
        return ".secret: expected a reference such as env:OTLP_TOKEN or file:/run/secrets/token, found something else (not shown)"
    if not row.endpoint:
        return ""
    try:
        parts = urlsplit(row.endpoint)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return ".endpoint: expected an address that begins with http:// or https://, and a host"
    if not named:
        return ".endpoint: expected an address that begins with http:// or https://, and a host"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return '.endpoint: expected neither user, password nor query in the address; write secret = "env:NAME" or "file:/path"'
    return ""
