"""Who wants what of the venues: the first holder of a subscription has it asked for, the last one to leave has it ended.

What the configuration names is never ended. Next door: `symbols.py` knows spellings; `live.py` holds consumers and the control socket;
the pump takes the orders, which are records like any input.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec
from msgspec import Struct

from truetape.app.config import ConfigError
from truetape.app.places import Places
from truetape.app.symbols import channel, resolve
from truetape.core.feed.health import Stream
from truetape.core.feed.plan import Feed
from truetape.core.feed.venue import Want
from truetape.core.route.link import Link
from truetape.core.route.mailbox import Mailbox
from truetape.core.route.orders import Order
from truetape.core.route.pump import Pump
from truetape.core.route.router import Pattern
from truetape.io.obs import log
from truetape.model.event import NOTICES, Status

CONFIGURATION = "the configuration"
"""Who holds what was added to the configuration while running."""
Key: TypeAlias = tuple[str, str, str]
"""(feed, channel, the venue's spelling)."""


class Asked(Struct, frozen=True):
    """One symbol and channel as a consumer asked for it: the router's pattern, and the venue's subscription behind it (a star has none)."""

    pattern: Pattern
    feed: Feed | None = None
    want: Want | None = None


class Wants:
    """The registry. `command` takes orders to the pump."""

    orders = True
    """Whether anything can be asked for that is not there yet."""

    def __init__(self, feeds: Sequence[Feed], pump: Pump, command: Callable[[bytes], None]) -> None:
        self._feeds = feeds
        self._pump = pump
        self._command = command
        self._holders: dict[Key, dict[Hashable, None]] = {}
        self._configured = {(feed.name, want.channel, want.raw) for feed in feeds for want in feed.wants}

    def find(self, symbols: str | Iterable[str], channels: str | Iterable[str]) -> list[Asked]:
        """What these words mean; nothing is asked for yet. Raises ConfigError."""
        found = self.mean(symbols, channels)
        self.fits(found)
        return found

    def mean(self, symbols: str | Iterable[str], channels: str | Iterable[str]) -> list[Asked]:
        """The same, whether there is room or not. Raises ConfigError."""
        names = [symbols] if isinstance(symbols, str) else list(symbols)
        words = [channels] if isinstance(channels, str) else list(channels)
        if not names:
            raise ConfigError("expected at least one symbol as venue:SYMBOL, venue:* or *, found none")
        if not words:
            raise ConfigError(f"{names[0]}: expected at least one channel, such as book or trade, found none")
        return [self._find(text, word) for text in names for word in words]

    def _find(self, text: str, word: str) -> Asked:
        venue, _, symbol = ("*", "", "*") if text == "*" else text.partition(":")
        if venue == "*":
            return Asked((self._kind(text, word, self._feeds), "*", "*"))
        feed = self._feed(venue, text)
        if not symbol:
            raise ConfigError(f"{text}: expected a symbol as venue:SYMBOL, venue:* or *, found no symbol")
        kind = self._kind(text, word, [feed])
        if symbol == "*":
            return Asked((kind, feed.label, "*"))
        if kind == NOTICES:
            return Asked(
                (kind, feed.label, _spellings(symbol, feed)[1])
            )  # hears what others subscribed; asks the venue for nothing
        ours = channel("book" if word == "book_delta" else word, feed.dialect)
        raw, canonical = _spellings(symbol, feed)
        want = Want(ours, raw, canonical, feed.depth if ours == "book" else 0)
        return Asked((kind, feed.label, canonical), feed, want)

    def _feed(self, venue: str, text: str) -> Feed:
        for feed in self._feeds:
            if venue in (feed.label, feed.name):
                return feed
        labels = ", ".join(dict.fromkeys(feed.label for feed in self._feeds))
        raise ConfigError(f"{text}: expected a symbol as venue:SYMBOL with a venue of {labels}, found {venue!r}")

    @staticmethod
    def _kind(text: str, word: str, feeds: Sequence[Feed]) -> str:
        """The topic's kind; the venues' own words are accepted."""
        if word in ("book_delta", NOTICES):
            return word
        why = ""
        for feed in feeds:
            try:
                return channel(word, feed.dialect).partition(".")[0]
            except ValueError as error:
                why = str(error)
        raise ConfigError(f"{text}: {why}")

    def _places(self) -> dict[str, Places]:
        return {feed.name: Places(feed, self._pump.links.values()) for feed in self._feeds}

    def carried(self, feed: Feed, word: str, raw: str) -> Stream | None:
        """The subscription, where a connection of this feed carries it."""
        link = self._carrier(feed, (word, raw))
        return link.streams[word, raw] if link is not None else None

    def configured(self, one: Asked) -> bool:
        """Whether the configuration names it, so that nobody has to hold it."""
        return one.feed is not None and one.want is not None and _key(one.feed, one.want) in self._configured

    def hold(self, holder: Hashable, asked: Iterable[Asked]) -> None:
        """Ask the venues for what nobody held so far: all that one connection is to carry more by one command."""
        places: dict[str, Places] = {}
        fresh: dict[str, list[Want]] = {}
        for one in asked:
            if one.feed is None or one.want is None:
                continue
            self._holders.setdefault(_key(one.feed, one.want), {})[holder] = None
            if all(feed.name != one.feed.name for feed in self._feeds):
                continue  # the feed went; should it come again, this is asked for
            if self._carrier(one.feed, (one.want.channel, one.want.raw)) is not None:
                continue
            places = places or self._places()
            source, opens = places[one.feed.name].place(one.want)
            if opens:
                self._command(msgspec.json.encode(Order("open", source, [one.want], one.feed.name)))
            else:
                fresh.setdefault(source, []).append(one.want)
        for source, wants in fresh.items():
            self._command(msgspec.json.encode(Order("want", source, list(dict.fromkeys(wants)))))

    def fits(self, asked: Iterable[Asked]) -> None:
        """Raise ConfigError where no connection may carry all of these."""
        places = self._places()
        for one in asked:
            if one.feed is not None and one.want is not None:
                places[one.feed.name].place(one.want)

    def configure(self, feeds: Sequence[tuple[Feed, Sequence[Want]]]) -> tuple[list[str], list[str]]:
        """What the configuration names from now on, of each feed. Returns what was asked for anew and what is not named any more; that is
        ended unless a consumer holds it. Raises ConfigError before anything is done."""
        places = self._places()
        named = {(feed.name, want.channel, want.raw): (feed, want) for feed, wants in feeds for want in wants}
        added = {key: row for key, row in named.items() if key not in self._configured}
        for feed, want in added.values():
            places[feed.name].place(want)
        told = {feed.name for feed, _ in feeds}
        removed = sorted(key for key in self._configured if key[0] in told and key not in named)
        self._configured.difference_update(removed)
        self._configured.update(added)
        by_name = {feed.name: feed for feed in self._feeds}
        for name, word, raw in removed:
            feed = by_name[name]
            self.release(CONFIGURATION, [Asked((word, feed.label, raw), feed, Want(word, raw, raw))])
        asked = [Asked((want.channel, feed.label, want.symbol), feed, want) for feed, want in added.values()]
        self.hold(CONFIGURATION, asked)
        return [f"{name}:{raw} {word}" for name, word, raw in added], [
            f"{name}:{raw} {word}" for name, word, raw in removed
        ]

    def renew(self, before: Mapping[str, Feed], names: Collection[str]) -> None:
        """Feeds of these names went, came, or were made anew; `before` has those that ran. What consumers hold of one that came is asked for
        again, and left where it has no room."""
        self._configured = {key for key in self._configured if key[0] not in names}
        for key in [key for key in self._holders if key[0] in names]:
            self._holders[key].pop(CONFIGURATION, None)
            if not self._holders[key]:
                del self._holders[key]
        for feed in self._feeds:
            if feed.name not in names:
                continue
            self._configured.update((feed.name, want.channel, want.raw) for want in feed.wants)
            old = before.get(feed.name)
            if old is None or (old.venue, old.label) == (feed.venue, feed.label):
                self._ask_again(feed)

    def _ask_again(self, feed: Feed) -> None:
        for name, word, raw in list(self._holders):
            if name != feed.name:
                continue
            canonical = _spellings(raw, feed)[1]
            want = Want(word, raw, canonical, feed.depth if word == "book" else 0)
            try:
                Places(feed, self._pump.links.values()).place(want)
            except ConfigError as error:
                log.warning(
                    "no room for what a consumer holds", feed=name, channel=word, symbol=canonical, why=str(error)
                )
                continue
            for holder in list(self._holders[name, word, raw])[:1]:
                self.hold(holder, [Asked((word, feed.label, canonical), feed, want)])

    def tell(self, box: Mailbox, asked: Iterable[Asked], now: int) -> None:
        """Who asked for statuses learns at once how everything is that it will hear of: connections first, then subscriptions. Others are
        told of what was refused before they came, which no change will tell them."""
        asked = list(asked)
        patterns = [one.pattern for one in asked if one.pattern[0] == NOTICES]
        if not patterns:
            for one in asked:
                if one.feed is None or one.want is None:
                    continue
                stream = self.carried(one.feed, one.want.channel, one.want.raw)
                if stream is not None and stream.state == "CLOSED":
                    box.notice(stream.status(now))
            return
        heard = [link for link in self._pump.links.values() if any(v in ("*", link.label) for _, v, _ in patterns)]
        links = [link for link in heard if not link.parked]
        for link in links:
            if (session := link.session) is not None:
                box.notice(Status(link.label, link.source, link.url, now, "", session.state, session.reason, since=now))
        for link in links:
            for stream in link.streams.values() if link.leads else ():
                if any(v in ("*", stream.venue) and s in ("*", stream.symbol) for _, v, s in patterns):
                    box.notice(stream.status(now))

    def release(self, holder: Hashable, asked: Iterable[Asked]) -> None:
        """Let go; what nobody holds any more, and no configuration names, is ended at the venue."""
        for one in asked:
            if one.feed is None or one.want is None:
                continue
            key = _key(one.feed, one.want)
            holders = self._holders.get(key, {})
            known = holders.pop(holder, self) is not self
            if holders or not (known or holder is CONFIGURATION):  # what a file names is held by none at the start
                continue
            self._holders.pop(key, None)
            link = self._carrier(one.feed, key[1:]) if key not in self._configured else None
            if link is not None:
                self._command(msgspec.json.encode(Order("unwant", link.source, [link.streams[key[1:]].want])))

    def _carrier(self, feed: Feed, pair: tuple[str, str]) -> Link | None:
        """The connection that carries it."""
        links = self._pump.links.values()
        return next((link for link in links if link.feed.name == feed.name and pair in link.streams), None)


def _key(feed: Feed, want: Want) -> Key:
    return feed.name, want.channel, want.raw


def _spellings(symbol: str, feed: Feed) -> tuple[str, str]:
    """The venue's and ours: as the configuration and the venue's own list have them, else by the venue file's rule."""
    for raw, canonical in feed.names.items():
        if symbol in (raw, canonical):
            return raw, canonical
    found = resolve(symbol, feed.dialect, feed.url)
    return found.raw, feed.names.get(found.raw, found.symbol)
