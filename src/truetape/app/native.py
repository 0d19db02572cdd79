"""The venues' own protocols at `/native/<venue>…` of the data port, wired: bots, tokens, limits. One upstream connection, many bots.

    router ─► Mailbox ─► NativeRoom (core.serve.native) ─► NativeVisit ─► socket          bots' GETs ─► NativeRoom.http

A bot that does not read is cut at the byte limit: its protocol leaves no message out. Next door: `serve.py` admits our own protocol's
clients, `io.serve.gateway` has the sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from msgspec import Struct

from truetape.app.config import ConfigError
from truetape.app.native_adds import Adds
from truetape.app.native_visit import NativeVisit
from truetape.app.native_words import WORDED, Words
from truetape.app.sim import counterpart
from truetape.core.feed.counterpart import Listed
from truetape.core.route.mailbox import Mailbox
from truetape.core.route.modes import drop_oldest
from truetape.core.serve.bot import Ask
from truetape.core.serve.claims import EVERYONE, Claims, allows, covers_all
from truetape.core.serve.meter import Bucket
from truetape.core.serve.native import NativeRoom, Told
from truetape.core.serve.peer import Refused
from truetape.core.sim.act import Say
from truetape.io.clock import now as clock
from truetape.io.serve.gateway import Answer, Request
from truetape.model.event import Book

if TYPE_CHECKING:
    from truetape.app.serve import Service
    from truetape.core.feed.plan import Feed

SECOND = 1_000_000_000
PREFIX = "/native/"
BOUND = 1_000_000
"""Events that may wait for one turn of the loop."""
BATCH = 10_000
TEXT = {"Content-Type": "text/plain; charset=utf-8"}
ROOTS = {"/0/public/": "kraken"}
"""GETs that a client makes at the root whatever address it is given: python-kraken-sdk joins paths so."""
HELD_FOR = 4 * SECOND
"""How long a GET may wait for a book: a door gives up those that say nothing for 5 s."""
HELD_MAX = 500
HEARD = ("book_delta", "trade", *WORDED)
KEY_NAMES = ("token", "api_key")


class _Held(Struct):
    """A GET that waits, until when (ns) at most."""

    until: int
    ready: Callable[[], bool]
    answer: Callable[[int], Answer]
    future: asyncio.Future[Answer]


class Speaker:
    """One venue's dialect: its room, and the box that its events come through."""

    def __init__(self, natives: Natives, venue: str, feeds: list[Feed]) -> None:
        self.natives = natives
        self.venue = venue
        self.labels: list[str] = []
        self.room = NativeRoom(venue, counterpart(venue), feeds[0].dialect.rule.truncate)
        self.box = Mailbox(f"native-{venue}", drop_oldest, BOUND)
        self.soon: asyncio.Handle | None = None
        self.adds = Adds(natives, self, feeds)
        self.words = Words(self.room.kind.spoken)
        self._streams = -1
        gateway = natives.service.gateway
        self.hear(feeds)
        gateway.boxes[self.box] = []
        gateway.driver.wakers[self.box] = self.wake

    def hear(self, feeds: list[Feed]) -> None:
        """What these feeds carry, from now on, and nothing else."""
        self.adds.feeds, self._streams = feeds, -1
        before, self.labels = self.labels, list(dict.fromkeys(feed.label for feed in feeds))
        router = self.natives.service.gateway.pump.router
        for labels, act in ((self.labels, router.subscribe), (before, router.unsubscribe)):
            other = before if labels is self.labels else self.labels
            act(
                self.box,
                [(kind, label, "*") for label in labels if label not in other for kind in HEARD],
            )

    def wake(self) -> None:
        """Something lies in the box, or a request waits: take it in this turn of the loop."""
        if self.soon is None:
            self.soon = asyncio.get_running_loop().call_soon(self.turn)

    def turn(self) -> None:
        """Everything that was published until now."""
        self.soon = None
        now = clock()
        try:
            self.list_symbols(now)
            while True:
                events = self.box.take(BATCH, now)
                self.natives.do(self, self.room.feed(events, self.whole, now, self.words.of))
                if not events:
                    break
            self.adds.look()
            for number in list(self.room.bots):
                self.natives.proceed(self, number)
            self.natives.release(now)
        except Exception as error:  # noqa: BLE001  a bug: said once, by whoever runs the gateway
            self.natives.service.gateway.driver.fail(error)

    def list_symbols(self, now: int, *, surely: bool = False) -> None:
        """What the gateway is subscribed to by now, if there is more or less of it than before, or `surely`."""
        links = [link for link in self.natives.service.gateway.pump.links.values() if link.label in self.labels]
        count = sum(len(link.streams) for link in links)
        if count == self._streams and not surely:
            return
        self._streams = count
        there: dict[str, None] = {}
        for link in links:
            for word, raw in link.streams:
                there[raw] = None
                if word.partition(".")[0] in WORDED:
                    self.words.listen(link)
                listed = self.adds.catalogue.get(raw)
                self.room.add(raw, link.feed.names[raw], now, listed.instrument if listed else None, word == "book")
        for raw in [raw for raw in self.room.rows if raw not in there]:
            self.room.drop(raw)

    def whole(self, raw: str) -> Book | None:
        """The book, with its digits where the venue sums them; None where it is not LIVE."""
        for link in self.natives.service.gateway.pump.links.values():
            stream = link.streams.get(("book", raw)) if link.label in self.labels and link.leads else None
            if stream is None or stream.sync is None or not stream.readable:
                continue
            sync = stream.sync
            marks = sync.book.marks()
            return Book(
                stream.venue, stream.symbol, raw, stream.last_ts, stream.last, sync.book.bids(), sync.book.asks(), True, -1, sync.seq,
                marks=marks if marks[0] or marks[1] else None, depth=sync.depth,
            )  # fmt: skip
        return None


class Natives:
    """All dialects of a service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.speakers: dict[str, Speaker] = {}
        self.visits: dict[int, NativeVisit] = {}
        self.cut = 0  # bots that did not read
        self._numbers = 0
        self._held: list[_Held] = []
        for venue in dict.fromkeys(service.how.native):
            feeds = self._of(venue)
            if not feeds:
                there = ", ".join(dict.fromkeys(feed.venue for feed in service.gateway.feeds)) or "none"
                raise ConfigError(f"serve.native: expected venues that a feed carries ({there}), found {venue!r}")
            self.speakers[venue] = Speaker(self, venue, feeds)
            self.speakers[venue].list_symbols(clock())

    def _of(self, venue: str) -> list[Feed]:
        return [feed for feed in self.service.gateway.feeds if speaks(feed.venue, venue)]

    def renew(self) -> None:
        """Feeds came or went."""
        for venue, speaker in self.speakers.items():
            speaker.hear(self._of(venue))
            speaker.wake()

    # -- admission ------------------------------------------------------------------------------------------------------

    def owns(self, path: str) -> bool:
        """Whether a GET of this path is a venue's."""
        return path.startswith(PREFIX) or any(path.startswith(root) and ROOTS[root] in self.speakers for root in ROOTS)

    def get(self, request: Request) -> Answer | asyncio.Future[Answer]:
        """A plain GET beneath `/native/<venue>`; of a book that is being asked for, or a list that is, later."""
        found = self._find(request)
        if isinstance(found, Answer):
            return found
        speaker, path, text, claims = found
        now = clock()
        query = dict(parse_qsl(text))
        symbol = query.get("symbol", "") if "depth" in path else ""
        speaker.adds.look_up(now)
        if symbol:
            speaker.adds.fetch(claims, symbol)
        speaker.list_symbols(now)

        def answer(now: int) -> Answer:
            reply = speaker.room.http(path, query, self.may(speaker, claims), now, speaker.adds.others(claims))
            return Answer(reply.status, reply.body, dict(reply.headers))

        def ready() -> bool:
            if speaker.adds.pending:
                return False
            if symbol and symbol not in speaker.room.listed:
                speaker.adds.fetch(
                    claims, symbol
                )  # perhaps the list came: now it is known whether there is such a symbol
            row = speaker.room.listed.get(symbol)
            mine = row is not None and self.may_read(speaker, claims, row.instrument.symbol)
            return not mine or speaker.room.ready(symbol)

        if ready() or len(self._held) >= HELD_MAX or self.service.draining:
            return answer(now)
        held = _Held(now + HELD_FOR, ready, answer, asyncio.get_running_loop().create_future())
        self._held.append(held)
        return held.future

    def release(self, now: int, *, all_: bool = False) -> None:
        """GETs that waited: those that can be answered, or have waited for long enough, are."""
        if self._held:
            waiting, self._held = self._held, []
            for held in waiting:
                if held.future.done():
                    continue  # nobody reads it any more
                if all_ or now >= held.until or held.ready():
                    held.future.set_result(held.answer(now))
                else:
                    self._held.append(held)

    def upgrade(self, request: Request) -> Answer | NativeVisit:
        """A handshake; drain, origin and the number of all connections were judged before."""
        found = self._find(request)
        if isinstance(found, Answer):
            return found
        speaker, path, query, claims = found
        return NativeVisit(self, speaker, f"{path}?{query}" if query else path, claims)

    def _find(self, request: Request) -> Answer | tuple[Speaker, str, str, Claims]:
        root = next((venue for start, venue in ROOTS.items() if request.path.startswith(start)), "")
        full = f"{PREFIX}{root}{request.path}" if root else request.path
        venue, slash, path = full.removeprefix(PREFIX).partition("/")
        speaker = self.speakers.get(venue)
        if speaker is None:
            known = ", ".join(f"{PREFIX}{name}" for name in self.speakers)
            return Answer(404, f"expected one of {known}\n".encode(), TEXT)
        rows = parse_qsl(request.query, keep_blank_values=True)
        given = next((value for key, value in rows if key == "token"), "")
        if given and not self.service.how.token_in_url:
            return self.service._no(400, "expected no token in the address; send it in the Authorization header")
        if venue == "tickdb":
            given = given or next((value for key, value in rows if key == "api_key"), "")
        query = urlencode([(key, value) for key, value in rows if key not in KEY_NAMES], safe="@/")
        claims = EVERYONE
        if self.service.rules.tokens:
            try:
                claims = self.service.claims(_bearer(request.headers, given), clock())
            except Refused as error:
                refused = self.service._no(401, str(error))
                return Answer(401, refused.body, {**TEXT, "WWW-Authenticate": "Bearer"})
        return speaker, slash + path, query, claims

    def may(self, speaker: Speaker, claims: Claims) -> dict[str, Listed]:
        """Symbols whose book and trades this token allows."""
        listed = speaker.room.listed
        if covers_all(claims):
            return listed
        return {raw: row for raw, row in listed.items() if self.may_read(speaker, claims, row.instrument.symbol)}

    @staticmethod
    def may_read(speaker: Speaker, claims: Claims, symbol: str) -> bool:
        """Whether this token allows a symbol's book and trades."""
        return covers_all(claims) or any(
            all(allows(claims.allow, (kind, label, symbol)) for kind in ("book", "trade")) for label in speaker.labels
        )

    @staticmethod
    def widen(speaker: Speaker, visit: NativeVisit, raws: Iterable[str]) -> None:
        """Symbols that a bot asked for, and may have, are there by now."""
        bot = speaker.room.bots.get(visit.number)
        if bot is not None and bot.listed is not speaker.room.listed:
            bot.listed.update({raw: speaker.room.listed[raw] for raw in raws if raw in speaker.room.listed})

    def enter(self, visit: NativeVisit, address: str) -> str:
        """A bot stands at the door: why it may not come in, empty where it may."""
        service = self.service
        now = clock()
        limits = service.how.limits
        bucket = service._handshakes.setdefault(
            address, Bucket(limits.handshakes_per_s, max(1, 5 * limits.handshakes_per_s), now)
        )
        if not bucket.take(now) or not service._addresses.enter(address):
            return f"too many connections from {address}"
        if visit.claims is not EVERYONE and not service._tokens.enter(visit.claims.name):
            service._addresses.leave(address)
            return f"too many connections of {visit.claims.name}"
        self._numbers += 1
        visit.number = self._numbers
        self.visits[visit.number] = visit
        return ""

    def left(self, visit: NativeVisit) -> None:
        """It is gone."""
        del self.visits[visit.number]
        visit.speaker.room.gone(visit.number)
        visit.speaker.adds.left(visit)
        self.service.gateway.departed.sent(visit.bytes_out, visit.messages_out)
        self.service._addresses.leave(visit.address)
        if visit.claims is not EVERYONE:
            self.service._tokens.leave(visit.claims.name)

    # -- turns ----------------------------------------------------------------------------------------------------------

    def do(self, speaker: Speaker, told: Iterable[Told]) -> None:
        """Say and hang up what the room decided."""
        for act in told:
            visit = self.visits.get(act.client)
            if visit is None:
                continue
            if isinstance(act, Say):
                visit.say(act.frames)
            elif isinstance(act, Ask):
                speaker.adds.ask(visit, act.pairs)
            else:
                visit.hang(act.code, act.text)

    def proceed(self, speaker: Speaker, number: int) -> None:
        """A bot's waiting requests, as long as its pipe has room."""
        visit = self.visits.get(number)
        while visit is not None and speaker.room.waiting(number) and visit.roomy():
            self.do(speaker, speaker.room.proceed(number, clock()))
        if visit is not None and (gone := speaker.room.unheld(number, visit.held)):
            speaker.adds.release(visit, gone, linger=False)

    def beat(self, now: int) -> None:
        """Four times a second: heartbeats, pings, and who is not there, not allowed or stuck any more."""
        for speaker in self.speakers.values():
            self.do(speaker, speaker.room.tick(now))
            speaker.list_symbols(now, surely=True)
            speaker.wake()
        self.release(now)
        for visit in list(self.visits.values()):
            visit.beat(now)

    def drain(self) -> None:
        """Everybody is told to come back."""
        for speaker in self.speakers.values():
            speaker.adds.close()
        self.release(clock(), all_=True)
        for visit in list(self.visits.values()):
            visit.hang(1012, "the gateway ends")

    def close(self) -> None:
        """Whoever is still here."""
        for speaker in self.speakers.values():
            if speaker.soon is not None:
                speaker.soon.cancel()
        for visit in list(self.visits.values()):
            visit.abort()

    def rows(self) -> list[dict[str, Any]]:
        """Every bot, for the list of clients."""
        now = clock()
        return [visit.row(now) for visit in self.visits.values()]


def speaks(carried: str, venue: str) -> bool:
    """Whether books of that venue can be told in this dialect: TickDB has several, which are one venue."""
    return carried == venue or (venue == "tickdb" and carried.startswith("tickdb"))


def _bearer(headers: Mapping[str, str], given: str) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and token:
        return token.strip()
    if not given:
        raise Refused("bad_token", "expected Authorization: Bearer <token>")
    return given
