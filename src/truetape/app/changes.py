"""What another configuration changes of the feeds and sinks that run: found and tried as a whole, before anything is done.

    symbols, channels ─► in place, on the connections that stand          any other key ─► that feed alone goes, and comes anew

Next door: `reload.py` reads the file and carries this out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from truetape.app import secrets
from truetape.app.config import Config, ConfigError, FeedConfig
from truetape.app.native import speaks
from truetape.app.sinks import make_bus
from truetape.app.symbols import fetch_lists, resolve_all
from truetape.app.wants import Wants
from truetape.core.feed.plan import Feed
from truetape.core.feed.second import lines
from truetape.core.route.roster import CHANGED
from truetape.io.net.dial import Dialing
from truetape.model.instrument import Instrument

if TYPE_CHECKING:
    from truetape.app.live import Gateway

IN_PLACE = ("symbols", "channels")


class Changes(Struct):
    """The feeds' part of a reload. `fed`: those that come, each with how it is dialed, and why where one of its name goes; `told`: in words."""

    kept: list[tuple[Feed, Feed]]
    """Each feed that runs and carries something else from now on, and the same as it was resolved anew."""
    fed: list[tuple[Feed, Dialing, str]]
    dropped: list[str]
    told: list[str]


def differing(old: Struct, new: Struct) -> list[str]:
    """The fields in which two of a kind differ."""
    return [name for name in old.__struct_fields__ if getattr(old, name) != getattr(new, name)]


async def lists(gateway: Gateway, config: Config) -> dict[str, list[Instrument]]:
    """The venues' lists for those feeds that spell by them: fetched where symbols may have come, else as they are known. Raises ConfigError."""
    wanted = [feed for feed in config.feeds if feed.instruments]
    before = {feed.name: feed for feed in gateway.config.feeds}
    running = {feed.name: feed for feed in gateway.feeds}
    known: dict[str, list[Instrument]] = {}
    asked: list[FeedConfig] = []
    for feed in wanted:
        old = before.get(feed.name)
        fields = differing(old, feed) if old is not None else ["name"]
        if fields:
            asked.append(feed)
        if old is not None and old.instruments and all(name in IN_PLACE for name in fields):
            known[feed.name] = [Instrument(symbol, raw) for raw, symbol in running[feed.name].names.items()]
    if not asked:
        return known
    dialing = {feed.name: gateway.dialings.make(feed) for feed in asked}
    rows = [feed for feed in resolve_all(config, known) if feed.name in dialing]
    return known | await fetch_lists(rows, dialing)


def changes(gateway: Gateway, config: Config, listed: dict[str, list[Instrument]]) -> Changes:
    """What becomes of each feed. Raises ConfigError, SecretError."""
    before = {feed.name: feed for feed in gateway.config.feeds}
    after = {feed.name: feed for feed in config.feeds}
    running = {feed.name: feed for feed in gateway.feeds}
    found = Changes([], [], [name for name in before if name not in after], [])
    for feed in resolve_all(config, listed):
        old, new = before.get(feed.name), after[feed.name]
        fields = differing(old, new) if old is not None else []
        if old is None or any(name not in IN_PLACE for name in fields):
            if new.secret:
                _reveal(new)
            keys = ", ".join(fields)
            found.fed.append((feed, gateway.dialings.make(new), f"{CHANGED}: {keys}" if keys else ""))
            if keys:
                found.told.append(f"feeds.{feed.name} ({keys}): made anew")
        elif fields:
            found.kept.append((running[feed.name], feed))
    _refuse_names(gateway, found)
    return found


def _reveal(feed: FeedConfig) -> None:
    try:
        secrets.Secret(feed.secret).reveal()
    except secrets.SecretError as error:
        raise ConfigError(f"feed {feed.name}: {error}") from None


def _refuse_names(gateway: Gateway, found: Changes) -> None:
    """A connection that was opened while running may have the name that a new feed wants."""
    leaving = {*found.dropped, *(feed.name for feed, _, _ in found.fed)}
    for feed, _, _ in found.fed:
        for name, _ in lines(feed):
            link = gateway.pump.links.get(name)
            if link is not None and link.feed.name not in leaving:
                raise ConfigError(
                    f"feed {feed.name!r} would have a connection {name!r}, which feed {link.feed.name!r} has; rename it"
                )


def try_sinks(gateway: Gateway, config: Config, found: Changes) -> None:
    """Whether every sink can be, with the feeds as they will be. Raises ConfigError."""
    leaving = {*found.dropped, *(feed.name for feed, _, _ in found.fed)}
    feeds = [feed for feed in gateway.feeds if feed.name not in leaving] + [feed for feed, _, _ in found.fed]
    future = Wants(feeds, gateway.pump, _nobody)
    before = gateway.config.sinks
    for number, row in enumerate(config.sinks):
        if row not in before:
            make_bus(f"sinks[{number}]", row)
        try:
            future.find(row.symbols, row.channels)
        except (ConfigError, ValueError) as error:
            raise ConfigError(f"sinks[{number}]: {error}") from None


def try_natives(venues: Sequence[str], config: Config) -> None:
    """Whether what is re-broadcast is carried still. Raises ConfigError."""
    for venue in venues:
        if not any(speaks(feed.venue, venue) for feed in config.feeds):
            there = ", ".join(dict.fromkeys(feed.venue for feed in config.feeds))
            raise ConfigError(f"serve.native: expected venues that a feed carries ({there}), found {venue!r}")


def _nobody(_body: bytes) -> None:
    """Nothing is ordered: it is only tried."""
