"""From symbols as people write them to what a venue is asked for: canonical or native, with or without the venue before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from truetape.app.config import Config, ConfigError, FeedConfig, timing
from truetape.app.dialects import Names, UnknownVenue, dialect
from truetape.app.rates import Rates, of_feed, read
from truetape.app.secrets import redact
from truetape.core.feed.plan import Feed, Impossible, lay
from truetape.core.feed.venue import Dialect, Want
from truetape.io.net.dial import Dialing
from truetape.io.net.http import Getter
from truetape.io.obs import log
from truetape.model.instrument import Instrument


class Resolved(Struct, frozen=True):
    """A symbol in both spellings."""

    symbol: str
    raw: str


def resolve(text: str, kind: type[Dialect], url: str, listed: Sequence[Instrument] = ()) -> Resolved:
    """One symbol. The venue's own list decides where it is at hand, else the venue file's rule, else it stays as it is."""
    for row in listed:
        if text in (row.symbol, row.raw):
            return Resolved(row.symbol, row.raw)
    raw = kind.native(text)
    # where it would be asked for tells which of two markets is meant that share a spelling (Bybit's spot and linear)
    place = kind.endpoints([Want("book", raw, text)], url, False)[0].url
    return Resolved(kind.canonical(raw, place), raw)


def channel(text: str, kind: type[Dialect]) -> str:
    """Our name of a channel; the venue's own words are accepted. Raises ValueError with what there is."""
    head, _, interval = text.partition(".")
    if head in kind.channels:
        return f"{head}.{interval or '1m'}" if head == "bar" else head
    for ours, word in kind.channels.items():
        if text in (word, word.partition("@")[0]):
            return f"{ours}.1m" if ours == "bar" else ours
    synonyms = {
        "depth": "book",
        "orderbook": "book",
        "l2": "book",
        "trades": "trade",
        "kline": "bar",
        "candle": "bar",
        "bbo": "quote",
    }
    if (ours := synonyms.get(head, "")) in kind.channels:
        return f"{ours}.{interval or '1m'}" if ours == "bar" else ours
    raise ValueError(f"expected one of {', '.join(kind.channels)}, found {text!r}")


def wants(feed: FeedConfig, kind: type[Dialect], url: str, listed: Sequence[Instrument] = ()) -> list[Want]:
    """Every (channel, symbol) of a feed. Raises ConfigError."""
    rows: dict[tuple[str, str], Want] = {}  # by our name: two markets may share a spelling
    for text in feed.symbols:
        found = resolve(text, kind, url, listed)
        for word in feed.channels:
            try:
                ours = channel(word, kind)
            except ValueError as error:
                raise ConfigError(f"feed {feed.name}: channels: {error}") from None
            want = Want(ours, found.raw, found.symbol, feed.depth if ours == "book" else 0)
            rows[ours, found.symbol] = want
    return list(rows.values())


def resolve_feed(feed: FeedConfig, listed: Sequence[Instrument] = (), measured: Rates | None = None) -> Feed:
    """A configured feed made ready for the pump and laid out; `measured` overrules the rates that it names. Raises ConfigError."""
    try:
        kind = dialect(feed.venue)
    except UnknownVenue as error:
        raise ConfigError(f"feed {feed.name}: {error}") from None
    url = feed.url or kind.url
    if "{secret}" in url and not feed.secret:
        raise ConfigError(
            f'feed {feed.name}: {feed.venue} needs a key: set secret = "env:{feed.venue.upper()}_API_KEY" and export it, '
            "or give a url without {secret}"
        )
    names = Names(kind, url, {row.raw: row.symbol for row in listed})
    asked = wants(feed, kind, url, listed)
    for want in asked:
        names[want.raw] = want.symbol
    made = Feed(
        feed.name, feed.label or kind.name, feed.venue, kind, url, feed.rest_url or kind.rest_url, tuple(asked), names, timing(feed),
        feed.subscribe == "url", feed.symbols_per_connection, feed.depth, feed.plan, feed.connections, feed.subscriptions_max,
        (), feed.lines, tuple(feed.line_urls), credential=feed.secret, alternates=tuple(feed.alternates),
        market=feed.market,
    )  # fmt: skip
    try:
        rates = measured if measured is not None else read(Path(feed.rates)) if feed.rates else {}
        return replace(made, parts=lay(made, of_feed(rates, made)))
    except Impossible as error:
        raise ConfigError(f"feed {feed.name}: {error}") from None


def resolve_all(
    config: Config, listed: dict[str, list[Instrument]] | None = None, measured: Rates | None = None
) -> list[Feed]:
    """Every feed; two feeds may not carry the same symbol under the same label, nor have connections of the same name. Raises ConfigError."""
    feeds = [resolve_feed(feed, (listed or {}).get(feed.name, []), measured) for feed in config.feeds]
    names: dict[str, str] = {}
    for feed in feeds:
        for part in feed.parts:
            if names.setdefault(part.name, feed.name) != feed.name:
                raise ConfigError(
                    f"feeds {names[part.name]!r} and {feed.name!r} would both have a connection {part.name!r}; rename one of them"
                )
    owners: dict[tuple[str, str, str], str] = {}
    for feed in feeds:
        for want in feed.wants:
            key = (feed.label, want.channel, want.symbol)
            if key in owners and owners[key] != feed.name:
                raise ConfigError(
                    f"feeds {owners[key]!r} and {feed.name!r} both carry {feed.label}:{want.symbol} {want.channel}; "
                    'set label = "…" on one of them, and its events stand under that name'
                )
            owners[key] = feed.name
    return feeds


async def fetch_lists(feeds: Sequence[Feed], dialing: Mapping[str, Dialing]) -> dict[str, list[Instrument]]:
    """The instruments of these feeds by name, fetched over their own TLS and proxy. A list that cannot be had is told and left out."""
    getter = Getter()
    listed: dict[str, list[Instrument]] = {}
    try:
        for feed in feeds:
            url = feed.dialect.instruments_url(feed.rest_url)
            if url is None:
                continue
            how = dialing[feed.name]
            answer = await getter.get(url, ssl_context=how.ssl_context, proxy=how.proxy)
            try:
                if answer.status != 200:
                    raise ValueError(f"HTTP {answer.status} {answer.body[:200].decode('utf-8', 'replace')}")
                listed[feed.name] = feed.dialect.decode_instruments(answer.body)
            except (msgspec.MsgspecError, ValueError, LookupError) as error:
                log.warning(
                    "instruments not fetched, symbols are spelled by rule", feed=feed.name, why=redact(str(error))
                )
    finally:
        await getter.close()
    return listed
