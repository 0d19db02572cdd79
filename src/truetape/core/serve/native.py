"""A venue's own protocol, spoken by us from the gateway's live books: bots that know the venue connect here instead.

    pump's events ─► NativeRoom.feed ─► Listed (whole steps) + Change ─► each bot's Counterpart ─► its frames        bots ─► received, http

What the pump publishes becomes what a venue would have said: levels in whole steps, numbers without a hole, every digit as the venue
writes it. A book that cannot be believed is not told: whoever holds it is hung up (`AGAIN`), for that is what makes any bot read a whole
book anew, and a subscription to it waits until it is LIVE again. Deterministic; no socket, no clock.
Next door: `core.feed.counterpart` is the venue before one bot; `grain.py` keeps digits; `app.native` has the sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import msgspec

from truetape.core.feed.counterpart import (
    Change,
    Counterpart,
    Dismissed,
    Listed,
    Pair,
    Print,
    Reply,
    Steps,
    Subscribed,
    Unsubscribed,
)
from truetape.core.serve.bot import Ask, Bot, Request
from truetape.core.serve.row import Row
from truetape.core.sim.act import Hang, Say
from truetape.model.event import Bar, Book, Gap, Lagged, Market, Status, Ticker, Trade
from truetape.model.instrument import Instrument

AGAIN = 1013
"""The close code for a book that was lost: try again."""
TODO_MAX = 10_000
"""Requests of one bot that wait for room in its pipe."""
SEEING = ("LIVE", "QUIET")

UNWANTED = "unsubscribed"
"""The reason of a Status when nobody holds a subscription any more."""

Whole: TypeAlias = Callable[[str], Book | None]
"""The whole book of a symbol by the venue's spelling, None where it cannot be believed now."""


Words: TypeAlias = Callable[[Ticker | Bar], bytes | None]
"""What the venue itself said of a summary or candle; None where that is not known."""
WORDS_MAX = 720
"""Candles that are kept of each symbol and length: as many as Kraken sends to who subscribes."""
Told: TypeAlias = Say | Hang | Ask


def mute(event: Ticker | Bar) -> None:
    """Nobody listened."""


NONE: Mapping[str, Listed] = {}


class NativeRoom:
    """One venue's dialect before many bots. `truncate`: the venue keeps no more levels than it said, as Kraken does."""

    def __init__(self, venue: str, kind: type[Counterpart], truncate: bool = False) -> None:
        self.venue = venue
        self.kind = kind
        self.truncate = truncate
        self.rows: dict[str, Row] = {}
        self.listed: dict[str, Listed] = {}
        self.bots: dict[int, Bot] = {}
        self.changes = 0
        self.unfit = 0  # trades whose digits do not fit those of the book
        self.hangs = 0  # bots told to come again because a book was lost
        self._by_raw: dict[str, dict[Bot, None]] = {}
        self._trades = 0
        self._look: dict[str, None] = {}

    # -- symbols --------------------------------------------------------------------------------------------------------

    def add(self, raw: str, symbol: str, now: int, instrument: Instrument | None = None, book: bool = True) -> None:
        """A symbol that the gateway is subscribed to, with its book or without; as often as you like."""
        row = self.rows.get(raw)
        if row is not None:
            if book and not row.book:
                row.book = True
                self._look[raw] = None
            return
        known = instrument if instrument is not None else Instrument(symbol, raw)
        self.listed[raw] = Listed(known, 0, now)
        self.rows[raw] = Row(self.listed[raw], self.kind, self.truncate, book)
        self._by_raw[raw] = {}
        self._look[raw] = None

    def drop(self, raw: str) -> None:
        """The gateway is not subscribed to it any more; who is told of it still keeps it."""
        if not self._by_raw[raw]:
            for held in (self.rows, self.listed, self._by_raw):
                del held[raw]
            for bot in self.bots.values():
                bot.listed.pop(raw, None)  # where what it may have is a mapping of its own
            self._look.pop(raw, None)

    def ready(self, raw: str) -> bool:
        """Whether its book is whole."""
        return raw in self.rows and self.rows[raw].sound

    # -- bots -----------------------------------------------------------------------------------------------------------

    def opened(self, number: int, target: str, listed: dict[str, Listed], now: int) -> list[Told]:
        """A bot stands before this path and query; `listed` are the symbols that it may have."""
        bot = self.bots[number] = Bot(number, self.kind(listed), listed)
        bot.venue.relays = True
        return self._try(bot, Request(b"", self.kind.named(target), target), now)

    def received(self, number: int, data: bytes, now: int) -> list[Told]:
        """A bot said something. What takes room is done by `proceed`, as its pipe has it."""
        bot = self.bots.get(number)
        if bot is None:
            return []
        bot.stirred = True
        bot.todo.extend(Request(part, bot.venue.asks(part)) for part in bot.venue.parts(data))
        if len(bot.todo) + len(bot.parked) > TODO_MAX:
            return [Hang(number, 1008, "too many requests")]
        fresh = {pair: None for pair in bot.venue.asks(data) if pair not in bot.settled}
        return [Ask(number, list(fresh))] if fresh else []

    def proceed(self, number: int, now: int) -> list[Told]:
        """Its next request, if its pipe has room: [] also where there is none, see `waiting`."""
        bot = self.bots.get(number)
        if bot is None or not bot.todo:
            return []
        request = bot.todo.popleft()
        if bot.parked or bot.later:
            bot.forget(request.data.lower())
        return self._try(bot, request, now)

    def _try(self, bot: Bot, request: Request, now: int) -> list[Told]:
        """Answer a request, if all that it asks for is settled and its book whole; else keep it."""
        open_ = [pair for pair in request.pairs if pair not in bot.settled]
        if open_:
            bot.parked.append(request)
            return [Ask(bot.number, open_)]
        if (why := bot.refused(request.pairs)) is not None:
            return self._answer(bot, bot.venue.refuse(request.data, *why, now))
        if request.target is not None:
            return self._answer(bot, bot.venue.opened(request.target, now))
        raw = bot.venue.concerns(request.data)
        if raw and raw in bot.listed and not self.rows[raw].sound:
            bot.later.setdefault(raw, []).append(request)
            return []
        return self._answer(bot, bot.venue.received(request.data, now))

    def settled(self, number: int, pair: Pair, why: tuple[str, str] | None) -> None:
        """What a bot asked for is subscribed to, or cannot be: `why` is a name of `model.reason` and what the venue said."""
        if (bot := self.bots.get(number)) is not None:
            bot.settle(pair, why)

    def unheld(self, number: int, pairs: Iterable[Pair]) -> list[Pair]:
        """Which of these a bot does not hold any more, once everything that it asked for was answered."""
        bot = self.bots.get(number)
        return bot.unheld(pairs) if bot is not None and bot.stirred else []

    def waiting(self, number: int) -> bool:
        """Whether requests of this bot wait for `proceed`."""
        bot = self.bots.get(number)
        return bot is not None and bool(bot.todo)

    def gone(self, number: int) -> None:
        """A bot left."""
        bot = self.bots.pop(number, None)
        if bot is not None:
            for raw in bot.told:
                self._by_raw[raw].pop(bot, None)

    def http(
        self, path: str, query: Mapping[str, str], listed: Mapping[str, Listed], now: int, others: Mapping[str, Listed] = NONE
    ) -> Reply:  # fmt: skip
        """A plain GET: the venue's own REST. `others`: what the venue lists; of what is in both, its own list has the better grain."""
        symbol = query.get("symbol", "")
        if "depth" not in path:
            there = {
                raw: row for raw, row in listed.items() if self.rows[raw].known
            }  # of others no digits are known yet
            return self.kind.http({**there, **others}, path, query, now)
        if symbol in listed and self.rows[symbol].sound:
            return self.kind.http(listed, path, query, now)
        if symbol not in listed and symbol not in others:
            return self.kind.http(NONE, path, query, now)
        why = self.rows[symbol].why if symbol in listed else "it is not subscribed to it"
        text = f"the gateway's book of {symbol} is not LIVE ({why}); ask again"
        return Reply(503, msgspec.json.encode({"code": -1001, "msg": text, "message": text}))

    def _answer(self, bot: Bot, answers: Iterable[bytes | Subscribed | Unsubscribed | Dismissed]) -> list[Told]:
        frames: list[bytes] = []
        for answer in answers:
            if isinstance(answer, bytes):
                frames.append(answer)
            elif isinstance(answer, Subscribed):
                bot.told[answer.raw] = None
                self._by_raw[answer.raw][bot] = None
            elif isinstance(answer, Unsubscribed):
                bot.told.pop(answer.raw, None)
                self._by_raw[answer.raw].pop(bot, None)
            else:
                return [Say(bot.number, frames), Hang(bot.number, answer.code, answer.text)]
        return [Say(bot.number, frames)] if frames else []

    # -- the market -----------------------------------------------------------------------------------------------------

    def feed(self, events: Iterable[Market], whole: Whole, now: int, words: Words = mute) -> list[Told]:
        """All that was published since the last time, in order; `whole` is as of the last of it."""
        hung: dict[Bot, str] = {}
        for event in events:
            match event:
                case Book():
                    self._book(event, hung)
                case Trade():
                    self._trade(event)
                case Ticker() | Bar():
                    self._relay(event, words(event))
                case Gap() | Status() | Lagged():
                    self._notice(event, hung)
        told = self.look(whole, now, hung)
        for bot in list(self.bots.values()):
            if bot.out:
                out, bot.out = bot.out, []
                told.append(Say(bot.number, out))
        return told

    def look(self, whole: Whole, now: int, hung: dict[Bot, str] | None = None) -> list[Told]:
        """Books in doubt: those that are LIVE are taken, those that are not are lost; who waited for one is answered."""
        hung = {} if hung is None else hung
        told: list[Told] = []
        look, self._look = self._look, {}
        for raw in look:
            row = self.rows[raw]
            if not row.book:
                continue
            book = whole(raw)
            if book is None:
                self._lose(raw, row.why if not row.sound else "it is not LIVE", hung)
                self._look[raw] = None
            elif not row.sound:
                self._load(raw, book)
            if row.sound:
                self._look.pop(raw, None)
                for bot in list(self.bots.values()):
                    bot.todo.extend(bot.later.pop(raw, ()))
        for bot, why in hung.items():
            self.gone(bot.number)
            self.hangs += 1
            told.append(Hang(bot.number, AGAIN, why[:120]))
        return told

    def tick(self, now: int) -> list[Told]:
        """What the venue says by the clock: heartbeats."""
        said = [(bot.number, [frame for _, (_, frame) in bot.venue.tick(now)]) for bot in self.bots.values()]
        return [Say(number, frames) for number, frames in said if frames]

    def _notice(self, event: Gap | Status | Lagged, hung: dict[Bot, str]) -> None:
        if isinstance(event, Lagged):
            for raw, listed in self.listed.items():
                if event.topic == "book_delta" and listed.instrument.symbol == event.symbol:
                    self._lose(raw, "the gateway could not keep up", hung)
            return
        if event.raw not in self.rows:
            return
        if event.channel.partition(".")[0] in ("ticker", "bar"):
            self._hush(event, hung)
        if event.channel != "book":
            return
        self._look[event.raw] = None
        if isinstance(event, Status) and event.reason == UNWANTED:
            self._unwanted(event.raw, hung)
        elif isinstance(event, Gap) and not event.recovered:
            self._lose(event.raw, event.reason, hung)
        elif isinstance(event, Status) and event.state not in SEEING:
            self._lose(event.raw, f"{event.state}: {event.reason}", hung)

    def _relay(self, event: Ticker | Bar, said: bytes | None) -> None:
        """A summary or candle in the venue's own words."""
        row = self.rows.get(event.raw)
        if row is None or said is None:
            return
        channel, at = ("ticker", 0) if isinstance(event, Ticker) else (f"bar.{event.interval}", event.start)
        kept = row.listed.words.setdefault(channel, {})
        kept[at] = said
        if len(kept) > WORDS_MAX:
            del kept[min(kept)]
        for bot in self._by_raw[event.raw]:
            bot.out += bot.venue.relay(channel, event.raw, said, event.recv)

    def _hush(self, event: Gap | Status, hung: dict[Bot, str]) -> None:
        """Summaries or candles are missing, or stopped: who has them is to come again."""
        if event.recovered if isinstance(event, Gap) else event.state in SEEING:
            return
        if self.rows[event.raw].listed.words.pop(event.channel, None) is None:
            return  # nobody was told anything since the last time
        for bot in self._by_raw[event.raw]:
            if (event.channel, event.raw) in bot.venue.held():
                hung.setdefault(bot, f"{event.raw} {event.channel}: {event.reason}")

    def _unwanted(self, raw: str, hung: dict[Bot, str]) -> None:
        """Nobody wanted the book any more: who has the trades alone has lost nothing."""
        row = self.rows[raw]
        row.book, row.why = False, UNWANTED
        row.lose()
        for bot in self._by_raw[raw]:
            if ("book", raw) in bot.venue.held():
                hung.setdefault(bot, f"{raw}: {UNWANTED}")

    def _lose(self, raw: str, why: str, hung: dict[Bot, str]) -> None:
        """The book is in doubt from here on."""
        row = self.rows[raw]
        self._look[raw] = None
        row.why = why
        if row.sound:
            row.lose()
            for bot in self._by_raw[raw]:
                hung.setdefault(bot, f"{raw}: {why}")

    def _book(self, event: Book, hung: dict[Bot, str]) -> None:
        row = self.rows.get(event.raw)
        if row is None:
            return
        if event.snapshot and not row.sound:
            self._load(event.raw, event)
            return
        if not row.sound:
            return
        sides = row.apply(event)
        if sides is None:
            self._lose(event.raw, "its numbers or digits changed", hung)
            return
        self._change(row.listed, *sides, [], event.seq, event.ts or event.recv)

    def _change(
        self, listed: Listed, bids: list[Steps], asks: list[Steps], prints: list[Print], seq: int, at: int
    ) -> None:
        """Word it for everybody who is told of the symbol."""
        raw = listed.instrument.raw
        count = len(bids) + len(asks)
        if not count and not prints:
            return
        first = listed.seq + 1
        if count:
            listed.seq = seq if seq > listed.seq else listed.seq + count
        self.changes += 1
        change = Change(raw, first, listed.seq, bids, asks, prints, {})
        for bot in self._by_raw[raw]:
            bot.out += [frame for _, frame in bot.venue.encode(change, at)]

    def _load(self, raw: str, book: Book) -> None:
        """A whole book to begin with. Nobody is told of it: who is subscribed was hung up."""
        self._look[raw] = None
        if self.kind.wrong.summed and book.marks is None:
            return  # without its digits no checksum would hold; `whole` has them
        self.rows[raw].load(book)  # who waits for it is answered when this turn is through

    def _trade(self, event: Trade) -> None:
        row = self.rows.get(event.raw)
        if row is None:
            return
        trade = row.print(event, self._trades + 1)
        if trade is None:
            self.unfit += 1
            return
        self._trades += 1
        self._change(row.listed, [], [], [trade], -1, event.ts or event.recv)
