"""Measured rates: messages per second of each subscription, from a file, from what `truetape status --json` printed, or from a tape.

They weigh the symbols when a feed is laid out at start (`core.feed.plan.lay`), and only then: connections that run are never rebalanced.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct

from truetape.app.config import ConfigError
from truetape.core.feed.plan import Feed
from truetape.core.route.pump import Pump

SECOND = 1_000_000_000
SEGMENTS = 4
"""So many of a tape's last segments are played: rates change from day to day."""

Rates: TypeAlias = Mapping[str, float]
"""`venue:SYMBOL channel`, `venue:SYMBOL` or `SYMBOL` -> messages per second."""


class _Row(Struct):
    venue: str
    symbol: str
    channel: str
    samples: float


class _Status(Struct):
    uptime_s: float
    subscriptions: list[_Row]


class _Kept(Struct, forbid_unknown_fields=True):
    rates: dict[str, float]


def read(path: Path) -> Rates:
    """A file of rates, a status, or a tape's folder. Raises ConfigError."""
    if path.is_dir():
        return measure(path)
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"rates: {path}: cannot be read: {error.strerror or error}") from None
    for shape in (_Kept, _Status, dict[str, float]):
        try:
            found = msgspec.json.decode(body, type=shape)
        except msgspec.MsgspecError:
            continue
        return _checked(_rates(found), path)
    raise ConfigError(
        f'rates: {path}: expected a JSON object such as {{"kraken:BTC-USD book": 41.5}} or what `truetape status --json` prints, found neither'
    )


def _rates(found: object) -> Rates:
    if isinstance(found, _Kept):
        return found.rates
    if isinstance(found, _Status):
        lasted = max(found.uptime_s, 1.0)
        return {f"{row.venue}:{row.symbol} {row.channel}": row.samples / lasted for row in found.subscriptions}
    assert isinstance(found, dict), "there are three shapes"
    return found


def _checked(rates: Rates, path: Path) -> Rates:
    for name, rate in rates.items():
        if not 0 <= rate < 1e9:
            raise ConfigError(f"rates: {path}: {name}: expected messages per second, found {rate}")
    return rates


def measure(folder: Path) -> Rates:
    """What a tape's last segments held, by subscription. Raises BadInput, JournalError."""
    from truetape.app.replay import Player, journal
    from truetape.io.store import reader

    found = journal(folder)
    player, first, last = Player(), 0, 0
    before: dict[str, int] = {}
    for header, batch in reader.read_batches(folder, start=found[max(0, len(found) - SEGMENTS)].number):
        if header is not None:
            fresh = player.pump is None or not header.state  # the first segment here, or a later run
            player.begin(header)
            if fresh:
                before, first = _counts(player.pump), header.now
            continue
        for item in batch:
            player.play(item)
            last = item.now
    lasted = max(last - first, SECOND) / SECOND
    return {name: (count - before.get(name, 0)) / lasted for name, count in _counts(player.pump).items()}


def _counts(pump: Pump | None) -> dict[str, int]:
    links = pump.links.values() if pump is not None else ()
    return {f"{s.venue}:{s.symbol} {s.channel}": s.count for link in links for s in link.streams.values()}


def of_feed(rates: Rates, feed: Feed) -> dict[tuple[str, str], float]:
    """Those that are this feed's, by (channel, the venue's spelling); what is known of a symbol only is shared by its channels."""
    alike: dict[str, int] = {}
    for want in feed.wants:
        alike[want.raw] = alike.get(want.raw, 0) + 1
    known: dict[tuple[str, str], float] = {}
    for want in feed.wants:
        names = [f"{feed.label}:{want.symbol}", f"{feed.label}:{want.raw}", want.symbol, want.raw]
        exact = next((rates[f"{name} {want.channel}"] for name in names if f"{name} {want.channel}" in rates), None)
        whole = next((rates[name] / alike[want.raw] for name in names if name in rates), None)
        rate = exact if exact is not None else whole
        if rate is not None:
            known[want.channel, want.raw] = rate
    return known
