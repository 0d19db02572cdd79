"""One TOML file -> one frozen tree. Unknown keys are refused, bounds are in the types, errors name the path of the key.

Precedence: defaults < file < environment (`TRUETAPE_JOURNAL__DIR`, `TRUETAPE_FEEDS__SPOT__URL`) < flags. The commented page of
`truetape config --defaults` is made from these structs, so it cannot be stale.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from truetape.core.feed.session import Timing

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
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
    ca_file: str = ""
    proxy: str = ""
    plan: str = ""
    profile: Literal["default", "fast", "relaxed"] = "default"
    ping_every_s: Seconds | None = None
    pong_within_s: Seconds | None = None
    app_ping_every_s: Seconds | None = None
    dead_after_s: Seconds | None = None
    ack_within_s: Seconds | None = None
    backoff_first_s: Seconds | None = None
    backoff_max_s: Seconds | None = None
    jitter: Annotated[float, Meta(ge=0, le=1)] | None = None
    attempts_max: Count | None = None
    healthy_after_s: Seconds | None = None
    handshake_s: Seconds | None = None
    dial_s: Seconds | None = None
    close_s: Seconds | None = None
    messages_per_s: Annotated[float, Meta(ge=0, le=10_000)] | None = None
    connections: Count = 0
    symbols_per_connection: Count = 0


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
    """What the process may use."""

    budget_mb: Annotated[int, Meta(ge=32, le=1 << 20)] = 512


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole tree."""

    feeds: list[FeedConfig] = []
    journal: JournalConfig | None = None
    control: ControlConfig | None = None
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    seed: int = 0


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
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: expected TOML: {error}") from None
    return parse(tree, str(path), os.environ if environ is None else environ)


def parse(tree: dict[str, Any], where: str, environ: Mapping[str, str]) -> Config:
    """A tree of tables -> Config. Raises ConfigError naming the key."""
    _override(tree, environ)
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        text, _, at = str(error).partition(" - at ")
        hint = (
            f" (known keys: {', '.join(FeedConfig.__struct_fields__)})"
            if "unknown field" in text and "feeds" in at
            else ""
        )
        raise ConfigError(f"{where}: {at.strip('`') or '$'}: {text[0].lower()}{text[1:]}{hint}") from None
    return _checked(config, where)


def _checked(config: Config, where: str) -> Config:
    """What types cannot say: unique names, something to subscribe to, secrets by reference."""
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
        if not feed.channels:
            raise ConfigError(
                f"{at}.channels: expected at least one channel, such as book or trade, found an empty list"
            )
        if feed.secret and not feed.secret.startswith(("env:", "file:")):
            raise ConfigError(
                f"{at}.secret: expected a reference such as env:TICKDB_API_KEY or file:/run/secrets/key, found something else"
            )
        feeds.append(msgspec.structs.replace(feed, name=name))
    return msgspec.structs.replace(config, feeds=feeds)


def _override(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    """`TRUETAPE_SECTION__KEY=value`; feeds by number or name. Values are TOML where they parse as such, else text."""
    for variable, text in sorted(environ.items()):
        if not variable.startswith("TRUETAPE_") or "__" not in variable:
            continue
        path = [part.lower() for part in variable[len("TRUETAPE_") :].split("__")]
        place: Any = tree
        for part in path[:-1]:
            if isinstance(place, list):
                place = next(
                    (row for i, row in enumerate(place) if part == str(i) or part == row.get("name", row.get("venue"))),
                    None,
                )
                if place is None:
                    raise ConfigError(f"{variable}: expected a feed's number or name, found {part!r}")
            else:
                place = place.setdefault(part, {})
        try:
            place[path[-1]] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            place[path[-1]] = text
