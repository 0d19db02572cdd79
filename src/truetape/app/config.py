"""One TOML file -> one frozen tree. Unknown keys are refused, bounds are in the types, errors name the path of the key.

Precedence: defaults < file < environment (`TRUETAPE_JOURNAL__DIR`, `TRUETAPE_FEEDS__SPOT__URL`) < flags. The commented page of
`truetape config --defaults` is made from these structs, so it cannot be stale.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from truetape.app import config_trace
from truetape.app.config_serve import KeyConfig, LimitsConfig, ServeConfig, TlsConfig
from truetape.app.config_sinks import SinkConfig, problem
from truetape.app.config_trace import TraceConfig
from truetape.core.feed.session import Timing

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Within = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=0, le=1 << 50)]


class ConfigError(Exception):
    """A configuration that cannot be used: which key, what was expected, what was found."""


class FeedConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One feed: a venue, what is wanted of it, and how its connections behave."""

    venue: str
    name: str = ""
    label: str = ""
    symbols: list[str] = []
    channels: list[str] = field(default_factory=lambda: ["book", "trade"])
    depth: Annotated[int, Meta(ge=0, le=10_000)] = 50
    url: str = ""
    rest_url: str = ""
    subscribe: Literal["command", "url"] = "command"
    instruments: bool = False
    secret: str = ""
    alternates: list[str] = []
    ca_file: str = ""
    proxy: str = ""
    pins: list[str] = []
    pins_report_only: bool = False
    plan: str = ""
    profile: Literal["default", "fast", "relaxed"] = "default"
    ping_every_s: Seconds | None = None
    pong_within_s: Seconds | None = None
    app_ping_every_s: Seconds | None = None
    dead_after_s: Seconds | None = None
    ack_within_s: Seconds | None = None
    late_s: Seconds | None = None
    backoff_first_s: Seconds | None = None
    backoff_max_s: Seconds | None = None
    jitter: Annotated[float, Meta(ge=0, le=1)] | Literal["full"] | None = None
    attempts_max: Count | None = None
    healthy_after_s: Seconds | None = None
    handshake_s: Within | None = None
    dial_s: Within | None = None
    close_s: Seconds | None = None
    lifetime_s: Annotated[float, Meta(ge=0, le=31_536_000)] | None = None
    messages_per_s: Annotated[float, Meta(ge=0, le=10_000)] | None = None
    connections: Count = 0
    symbols_per_connection: Count = 0
    subscriptions_max: Count = 0
    rates: str = ""
    lines: Annotated[int, Meta(ge=1, le=2)] = 1
    market: str = ""
    line_urls: list[str] = []


PROFILES: dict[str, dict[str, float]] = {
    "default": {"ping_every_s": 2.0, "pong_within_s": 2.0},
    "fast": {"ping_every_s": 1.0, "pong_within_s": 1.0},
    "relaxed": {"ping_every_s": 5.0, "pong_within_s": 10.0},
}


class JournalConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The tape. Without this table nothing is recorded."""

    dir: str = "tape"
    flush_ms: Annotated[float, Meta(ge=1, le=10_000)] = 10
    segment_bytes: Annotated[int, Meta(ge=4096, le=1 << 40)] = 256 << 20
    retain_bytes: Bytes = 0
    backlog_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 40)] = 64 << 20


class ControlConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The local control socket (mode 0600): status, subscribe, unsubscribe, drain. Empty: none."""

    socket: str = "run/truetape.sock"


class MemoryConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the process may use; near it the guard sheds, at it the process is begun anew."""

    budget_mb: Annotated[int, Meta(ge=32, le=1 << 20)] = 512


class LogConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What goes to stderr; `truetape log` changes it while running."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole tree."""

    feeds: list[FeedConfig] = []
    journal: JournalConfig | None = None
    control: ControlConfig | None = None
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    serve: ServeConfig | None = None
    sinks: list[SinkConfig] = []
    trace: TraceConfig | None = None
    log: LogConfig = field(default_factory=LogConfig)
    seed: int = 0
    loop_lag_ms: Annotated[float, Meta(ge=1, le=60_000)] = 100.0


def timing(feed: FeedConfig) -> Timing:
    """A feed's timings: its profile, and what it sets by name."""
    values: dict[str, Any] = dict(PROFILES[feed.profile])
    for name in Timing.__struct_fields__:
        if (value := getattr(feed, name, None)) is not None:
            values[name] = value
    return Timing(**values)


def load(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read, override from the environment, and validate. Raises ConfigError."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: expected a config file, found nothing; `truetape config --defaults` prints one to start from"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, found other bytes at {error.start}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: expected TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: expected a few levels of tables, found thousands") from None
    return parse(tree, str(path), os.environ if environ is None else environ)


def parse(tree: dict[str, Any], where: str, environ: Mapping[str, str]) -> Config:
    """A tree of tables -> Config. Raises ConfigError naming the key."""
    changed = _override(tree, environ)
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        text, _, at = str(error).partition(" - at ")
        if "enum value" in text:
            text += f" (expected {_words(at)})"
        if "unknown field" in text:
            text += f" (known keys: {', '.join(_keys(at))})"
        if changed:
            text += f" (the environment sets {', '.join(changed)})"
        raise ConfigError(f"{where}: {at.strip('`') or '$'}: {text[0].lower()}{text[1:]}") from None
    return _checked(config, where)


def _keys(at: str) -> tuple[str, ...]:
    """The keys of the table that an error is about, by its path."""
    return _table(at).__struct_fields__


def _words(at: str) -> str:
    """What the key at this path may say, where it takes one of a few words."""
    kind = msgspec.inspect.type_info(_table(at))
    assert isinstance(kind, msgspec.inspect.StructType)
    key = at.strip("`").rpartition(".")[2].partition("[")[0]
    types = [field.type for field in kind.fields if field.encode_name == key]
    types = [
        inner
        for outer in types
        for inner in (outer.types if isinstance(outer, msgspec.inspect.UnionType) else (outer,))
    ]
    types += [one.item_type for one in types if isinstance(one, msgspec.inspect.ListType)]
    words = [repr(word) for one in types if isinstance(one, msgspec.inspect.LiteralType) for word in one.values]
    numbers = ["a number"] * any(isinstance(one, msgspec.inspect.FloatType) for one in types)
    return " or ".join([*numbers, *words])


def _table(at: str) -> type[Struct]:
    """The table that an error is about, by its path."""
    kinds: dict[str, type[Struct]] = {
        "feeds": FeedConfig, "journal": JournalConfig, "control": ControlConfig, "memory": MemoryConfig,
        "serve.limits": LimitsConfig, "serve.keys": KeyConfig, "serve.tls": TlsConfig, "serve": ServeConfig, "sinks": SinkConfig,
        "trace": TraceConfig, "log": LogConfig,
    }  # fmt: skip
    return next((kind for name, kind in kinds.items() if f"$.{name}" in at), Config)


def _checked(config: Config, where: str) -> Config:
    """What types cannot say: unique names, something to subscribe to, secrets by reference."""
    if not config.feeds:
        raise ConfigError(
            f"{where}: $.feeds: expected at least one [[feeds]] table, found none; `truetape config --defaults` prints one"
        )
    if why := problem(config.sinks):
        raise ConfigError(f"{where}: $.sinks{why}")
    if why := config_trace.problem(config.trace):
        raise ConfigError(f"{where}: $.trace{why}")
    feeds: list[FeedConfig] = []
    seen: set[str] = set()
    for i, feed in enumerate(config.feeds):
        at = f"{where}: $.feeds[{i}]"
        name = feed.name or feed.venue.rpartition(".")[2]
        if name in seen:
            raise ConfigError(
                f"{at}.name: expected unique feed names, found {name!r} twice; give each feed of a venue a name of its own"
            )
        seen.add(name)
        if not feed.symbols:
            raise ConfigError(
                f"{at}.symbols: expected at least one symbol, found an empty list; `truetape symbols {feed.venue}` lists them"
            )
        if not all(feed.symbols) or not all(feed.channels):
            raise ConfigError(f"{at}: expected names of symbols and channels, found an empty text")
        if not feed.channels:
            raise ConfigError(
                f"{at}.channels: expected at least one channel, such as book or trade, found an empty list"
            )
        if feed.secret and not re.fullmatch(r"(env|file):.+", feed.secret):
            raise ConfigError(
                f"{at}.secret: expected a reference such as env:TICKDB_API_KEY or file:/run/secrets/key, found something else"
                " (not shown, it may be the secret itself)"
            )
        for key, schemes in ADDRESSES.items():
            _check_address(f"{at}.{key}", getattr(feed, key), schemes)
        for key in ("line_urls", "alternates"):
            for n, address in enumerate(getattr(feed, key)):
                _check_address(f"{at}.{key}[{n}]", address, ADDRESSES["url"])
        _check_pins(at, feed)
        waits = timing(feed)
        if feed.backoff_first_s == 0:
            raise ConfigError(f"{at}.backoff_first_s: expected more than 0 s, for waits double from it, found 0")
        if feed.backoff_first_s is not None and waits.backoff_first_s > waits.backoff_max_s:
            raise ConfigError(
                f"{at}.backoff_first_s: expected at most backoff_max_s ({waits.backoff_max_s:g} s), found {waits.backoff_first_s:g}"
            )
        feeds.append(msgspec.structs.replace(feed, name=name))
    return msgspec.structs.replace(config, feeds=feeds)


ADDRESSES = {"url": ("ws", "wss"), "rest_url": ("http", "https"), "proxy": ("http", "https", "socks4", "socks5")}
"""The keys of a feed that hold addresses, and how those begin."""
_PIN = re.compile(r"sha256/[A-Za-z0-9+/]{43}=")
_A_KEY = re.compile(r"[?&][^=&]*(?:key|token|secret|passw|sign)[^=&]*=(?!\{secret\}(?:&|$))[^&]", re.IGNORECASE)


def _check_pins(at: str, feed: FeedConfig) -> None:
    """Pins are hashes, and every address that they should guard is one of TLS."""
    for n, text in enumerate(feed.pins):
        if not _PIN.fullmatch(text):
            raise ConfigError(f"{at}.pins[{n}]: expected sha256/ and 44 characters of base64, found {text[:80]!r}")
    plain = [text for text in (feed.url, *feed.alternates, *feed.line_urls) if text.startswith("ws://")]
    if feed.pins and (plain or feed.rest_url.startswith("http://")):
        raise ConfigError(
            f"{at}.pins: expected addresses with wss:// and https:// only, found one without TLS, which pins cannot guard"
        )


def _check_address(at: str, text: str, schemes: tuple[str, ...]) -> None:
    """The scheme fits, and no key stands in it. Nothing of it is shown: it may hold one."""
    if not text:
        return
    scheme, colon, rest = text.partition("://")
    if not colon or scheme not in schemes or not rest.strip("/"):
        raise ConfigError(f"{at}: expected an address that begins with {' or '.join(f'{name}://' for name in schemes)}")
    if _A_KEY.search(text):
        raise ConfigError(
            f"{at}: expected no key in the address; write {{secret}} in its place, and where the key is: "
            'secret = "env:NAME" or "file:/path"'
        )


def _override(tree: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    """`TRUETAPE_SECTION__KEY=value`; feeds by number or name. Values are TOML where they parse as such, else text. Returns which."""
    changed = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith("TRUETAPE_") or "__" not in variable:
            continue
        *path, key = [part.lower() for part in variable.removeprefix("TRUETAPE_").split("__")]
        place: Any = tree
        for part in path:
            place = _feed_of(place, part) if isinstance(place, list) else place.setdefault(part, {})
            if not isinstance(place, dict | list):
                raise ConfigError(f"{variable}: expected a table or a feed at {part!r}, found none")
        if not isinstance(place, dict):
            raise ConfigError(f"{variable}: expected the key of a feed, such as TRUETAPE_FEEDS__0__DEPTH")
        try:
            place[key] = tomllib.loads(f"value = {text}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            place[key] = text
        changed.append(variable)
    return changed


def _feed_of(rows: list[Any], part: str) -> Any:
    """A feed by its number or its name; a variable cannot hold the dashes that a name may."""
    for number, row in enumerate(rows):
        name = str(row.get("name") or row.get("venue", "")) if isinstance(row, dict) else ""
        if part in (str(number), name.lower(), name.lower().replace("-", "_")):
            return row
    return None
