"""What bots of a venue's protocol ask for: subscribed to at the venue where the gateway is not yet, held while they stay, let go afterwards.

    Ask ─► held by the bot (Wants, by commands like anybody's) ─► confirmed or refused by the venue ─► NativeRoom.settled

What the venue's own list does not have is not asked for: the dialect says that it does not exist. A bot that was cut off finds what it had
still there for a while (`linger.py`). Next door: `native.py` admits bots; `wants.py` gives the orders.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from truetape.app.config import ConfigError
from truetape.app.symbols import fetch_lists
from truetape.app.wants import Asked, Key
from truetape.core.feed.counterpart import Listed, Pair
from truetape.core.feed.venue import Want
from truetape.core.serve.claims import Claims, allows, covers_all
from truetape.io.clock import now as clock

if TYPE_CHECKING:
    from truetape.app.native import Natives, Speaker
    from truetape.app.native_visit import NativeVisit
    from truetape.core.feed.plan import Feed

SECOND = 1_000_000_000
SPELLING = re.compile(r"[A-Za-z0-9][A-Za-z0-9/._^@&-]{0,39}")
"""What a symbol may be made of before it goes to a venue whose list is not at hand."""
LIST_AGE = 3600 * SECOND
"""An older list is fetched anew when a symbol is asked for that it does not have."""
RETRY = 60 * SECOND
"""After a list could not be had."""
Why = tuple[str, str]
"""(a name of `model.reason`, what the venue or the gateway said)."""


class Adds:
    """What the bots of one venue hold beyond the configuration."""

    def __init__(self, natives: Natives, speaker: Speaker, feeds: Sequence[Feed]) -> None:
        self.natives = natives
        self.speaker = speaker
        self.feeds = feeds
        self.catalogue: dict[str, Listed] = {}  # the venue's own list, where it was asked for
        self.fetched = 0  # when it came; 0 never
        self._tried = 0
        self._fetch: asyncio.Task[None] | None = None
        self._waiting: dict[NativeVisit, None] = {}  # whose requests are not settled yet
        self._added: dict[Key, list[int]] = {}  # beyond the configuration -> [bots that hold it, lingers until]

    @property
    def on(self) -> bool:
        """Whether bots may have anything subscribed to."""
        service = self.natives.service
        return service.how.native_add and service.gateway.wants.orders and not service.draining

    # -- the venue's list -----------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether the list is on its way for the first time: nobody can say yet what there is."""
        return not self.fetched and self._fetch is not None

    def look_up(self, now: int) -> None:
        """Fetch the venue's list, where there is none or an old one."""
        old = now - self.fetched > LIST_AGE and (not self._tried or now - self._tried > RETRY)
        if old and self.on and self._fetch is None:
            self._tried = now
            self._fetch = self.natives.service.gateway.spawn(self._list())

    async def _list(self) -> None:
        feed = self.feeds[0]
        try:
            found = await fetch_lists([feed], {feed.name: self.natives.service.gateway.dialing(feed.name)})
        finally:
            self._fetch = None
        if feed.name in found:
            self.fetched = now = clock()
            self.catalogue = {row.raw: Listed(row, 0, now) for row in found[feed.name]}
        self.speaker.wake()

    def lacks(self, raw: str) -> bool:
        """Whether the venue has no such symbol, as far as we know."""
        if raw in self.catalogue:
            return False
        return (bool(self.catalogue) and self.speaker.room.kind.lists_all) or not SPELLING.fullmatch(raw)

    def others(self, claims: Claims) -> Mapping[str, Listed]:
        """What the venue lists, as far as a token may read it."""
        if covers_all(claims):
            return self.catalogue
        may = self.natives.may_read
        return {raw: row for raw, row in self.catalogue.items() if may(self.speaker, claims, row.instrument.symbol)}

    # -- what bots ask for ----------------------------------------------------------------------------------------------

    def ask(self, visit: NativeVisit, pairs: Sequence[Pair]) -> None:
        """A bot wants these: each is settled now, or once the venue has spoken."""
        for pair in pairs:
            if pair not in visit.asked:
                visit.asked[pair] = None
                self._waiting[visit] = None
        self._hold(visit)

    def look(self) -> None:
        """Something was published, or time went on: whose requests can be answered?"""
        for visit in list(self._waiting):
            self._hold(visit)

    def _hold(self, visit: NativeVisit) -> None:
        now = clock()
        fresh: list[Asked] = []
        for pair in list(visit.asked):
            if pair in visit.held:
                continue
            found = self._find(visit.claims, pair, now)
            if isinstance(found, Asked):
                if (why := self._full(visit, found, now)) is None:
                    visit.held[pair] = found
                    self._count(found, 1)
                    fresh.append(found)
                else:
                    self._settle(visit, pair, why)
            elif found != "wait":
                self._settle(visit, pair, found)
        if fresh:
            self._order(visit, fresh, now)
        for pair in list(visit.asked):
            if pair in visit.held and (verdict := self._verdict(visit.held[pair])) != "wait":
                if verdict is not None:
                    self.release(visit, [pair], linger=False)
                self._settle(visit, pair, verdict)
        if not visit.asked:
            self._waiting.pop(visit, None)

    def _settle(self, visit: NativeVisit, pair: Pair, why: Why | None) -> None:
        del visit.asked[pair]
        self.speaker.room.settled(visit.number, pair, why)
        self.speaker.wake()

    def _find(self, claims: Claims, pair: Pair, now: int) -> Asked | Why | Literal["wait"] | None:
        """What to hold; None where the dialect is to answer by what it knows, which is that there is no such thing."""
        word, raw = pair
        wants = self.natives.service.gateway.wants
        for feed in self.feeds:
            if (stream := wants.carried(feed, word, raw)) is not None:
                if not self.natives.may_read(self.speaker, claims, stream.symbol):
                    return None
                if not allows(claims.allow, (word, feed.label, stream.symbol)):
                    return "unavailable", f"the token of {claims.name} does not allow {word}"
                return Asked((word.partition(".")[0], feed.label, stream.symbol), feed, stream.want)
        feed = self._home(raw)
        if not self.on or word.partition(".")[0] not in feed.dialect.channels:
            there = wants.orders and raw in self.natives.may(
                self.speaker, claims
            )  # what a tape has to say may still come
            return ("unavailable", f"this gateway does not carry {word} of {raw}") if there else None
        if raw not in self.catalogue:
            self.look_up(now)
        if self.pending:
            return "wait"
        if self.lacks(raw):
            return None
        listed = self.catalogue.get(raw)
        symbol = listed.instrument.symbol if listed is not None else feed.dialect.canonical(raw, feed.url)
        symbol = feed.names.get(raw, symbol)
        if not self.natives.may_read(self.speaker, claims, symbol):
            return None
        if not allows(claims.allow, (word, feed.label, symbol)):
            return "unavailable", f"the token of {claims.name} does not allow {word}"
        asked = Asked(
            (word.partition(".")[0], feed.label, symbol),
            feed,
            Want(word, raw, symbol, feed.depth if word == "book" else 0),
        )
        try:
            wants.fits([asked])
        except ConfigError as error:
            return "too_many_subscriptions", str(error)
        return asked

    def _home(self, raw: str) -> Feed:
        """The feed that a symbol belongs to."""
        return next((feed for feed in self.feeds if raw in feed.names), self.feeds[0])

    def _full(self, visit: NativeVisit, asked: Asked, now: int) -> Why | None:
        """Why a bot may not have one more beyond the configuration."""
        wants, limits = self.natives.service.gateway.wants, self.natives.service.how.limits
        key = _key(asked)
        if wants.configured(asked):
            return None
        own = sum(not wants.configured(one) for one in visit.held.values())
        if limits.native_adds_per_bot and own >= limits.native_adds_per_bot:
            return (
                "too_many_subscriptions",
                f"the gateway adds no more than {limits.native_adds_per_bot} subscriptions for one client",
            )
        if self._room(key, now):
            return None
        return (
            "too_many_subscriptions",
            f"the gateway adds no more than {limits.native_adds} subscriptions for all clients together",
        )

    def _room(self, key: Key, now: int) -> bool:
        """Whether one more may be added for all bots together."""
        most = self.natives.service.how.limits.native_adds
        for gone in [key for key, (held, until) in self._added.items() if not held and until <= now]:
            del self._added[gone]
        return key in self._added or not most or len(self._added) < most

    def _count(self, asked: Asked, by: int, until: int = 0) -> None:
        if by < 0 and _key(asked) not in self._added:
            return  # the configuration named it when it was asked for
        if by < 0 or not self.natives.service.gateway.wants.configured(asked):
            row = self._added.setdefault(_key(asked), [0, 0])
            row[0] += by
            row[1] = max(row[1], until)

    def _order(self, visit: NativeVisit, asked: list[Asked], now: int) -> None:
        wants = self.natives.service.gateway.wants
        try:
            wants.hold(visit, asked)
        except ConfigError:  # each alone would fit, all together do not: as many as there is room for
            for one in asked:
                with suppress(ConfigError):
                    wants.hold(visit, [one])
        self.speaker.list_symbols(now)
        self.natives.widen(self.speaker, visit, [one.want.raw for one in asked if one.want is not None])

    def _verdict(self, asked: Asked) -> Why | Literal["wait"] | None:
        """What the venue said to it."""
        assert asked.feed is not None, "a bot asks for one symbol of one feed"
        assert asked.want is not None, "as above"
        stream = self.natives.service.gateway.wants.carried(asked.feed, asked.want.channel, asked.want.raw)
        if stream is None:
            return "too_many_subscriptions", "no connection to the venue has room for it"
        if stream.state == "CLOSED":
            reason, _, text = stream.reason.partition(": ")
            return reason, text or stream.reason
        wants = self.natives.service.gateway.wants
        said = stream.acked or stream.count or wants.configured(asked) or not wants.orders
        return None if said else "wait"

    def release(self, visit: NativeVisit, pairs: Sequence[Pair], *, linger: bool) -> None:
        """A bot does not want these any more, or (`linger`) was cut off and may come back for them."""
        service = self.natives.service
        now = clock()
        for pair in pairs:
            asked = visit.held.pop(pair)
            self._count(asked, -1, now + service.desk.linger.ns if linger else 0)
            if service.draining:
                continue
            if linger:
                service.desk.linger.left(service.gateway.wants, [asked], now)
            service.gateway.wants.release(visit, [asked])

    def left(self, visit: NativeVisit) -> None:
        """A bot is gone."""
        self._waiting.pop(visit, None)
        visit.asked.clear()
        self.release(visit, list(visit.held), linger=True)

    def fetch(self, claims: Claims, raw: str) -> None:
        """Somebody GETs a book, which bots do just before or after they subscribe to it: subscribe to it, for as long as it lingers."""
        service = self.natives.service
        now = clock()
        found = self._find(claims, ("book", raw), now)
        if not isinstance(found, Asked) or service.gateway.wants.configured(found):
            return
        if not self._room(_key(found), now):
            return
        self._count(found, 0, now + service.desk.linger.ns)
        service.desk.linger.left(service.gateway.wants, [found], now)
        self.speaker.list_symbols(now)

    def close(self) -> None:
        """Nothing is fetched any more."""
        if self._fetch is not None:
            self._fetch.cancel()


def _key(asked: Asked) -> Key:
    assert asked.feed is not None, "a bot asks for one symbol of one feed"
    assert asked.want is not None, "as above"
    return asked.feed.name, asked.want.channel, asked.want.raw
