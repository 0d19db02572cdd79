"""The `[serve]` table: the downstream service, for whom, and within which limits. Next door: `config.py` has the tree."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class TlsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The server's own certificate."""

    cert_file: str
    key_file: str


class LimitsConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What downstream clients are held to; 0 is no limit."""

    connections: Count = 10_000
    connections_per_address: Count = 1_000
    connections_per_token: Count = 1_000
    handshakes_per_s: Annotated[float, Meta(ge=0, le=1e6)] = 100
    messages_per_s: Annotated[float, Meta(ge=0, le=1e6)] = 20
    message_bytes: Annotated[int, Meta(ge=1024, le=1 << 20)] = 64 * 1024
    fragments: Annotated[int, Meta(ge=1, le=65_536)] = 1024
    subscriptions: Annotated[int, Meta(ge=1, le=10_000)] = 100
    buffer_bytes: Annotated[int, Meta(ge=4096, le=1 << 30)] = 256 * 1024
    write_s: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    idle_s: Seconds = 300.0
    native_adds: Count = 1_000
    native_adds_per_bot: Count = 200
    authenticate_within_s: Annotated[float, Meta(gt=0, le=60)] = 5.0


class KeyConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key for tokens: HS256 needs `secret`, EdDSA `public` to check tokens and `private` to issue them; references, never values."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    alg: Literal["HS256", "EdDSA"] = "HS256"
    secret: str = ""
    public: str = ""
    private: str = ""


class ServeConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The downstream service: WebSocket and GET on one port, and a Unix socket for local clients. Without this table: none."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8787
    socket: str = ""
    tls: TlsConfig | None = None
    origins: list[str] = []
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    history: Annotated[int, Meta(ge=0, le=100_000)] = 300
    linger_s: Seconds = 300.0
    coalesce_ms: Annotated[float, Meta(ge=0, le=1000)] = 0
    keys: list[KeyConfig] = []
    revoked_file: str = "run/revoked.txt"
    token_in_url: bool = False
    native: list[Literal["binance", "kraken", "tickdb"]] = []
    native_add: bool = True
    accept_risk: Literal["", "no TLS", "no tokens", "no TLS and no tokens"] = ""
