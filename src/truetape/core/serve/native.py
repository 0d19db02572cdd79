"""A venue's own protocol, spoken by us from the gateway's live books: bots that know the venue connect here instead.

    pump's events ─► NativeRoom.feed ─► Listed (whole steps) + Change ─► each bot's Counterpart ─► its frames        bots ─► received, http

What the pump publishes becomes what a venue would have said: levels in whole steps, numbers without a hole, every digit as the venue
writes it. A book that cannot be believed is not told: whoever holds it is hung up (`AGAIN`), for that is what makes any bot read a whole
book anew, and a subscription to it waits until it is LIVE again. Deterministic; no socket, no clock.
Next door: `core.feed.counterpart` is the venue before one bot; `grain.py` keeps digits; `app.native` has the sockets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from truetape.core.feed.counterpart import (
    Change,
    Counterpart,
    Dismissed,
    Listed,
    Print,
    Reply,
    Steps,
    Subscribed,
    Unsubscribed,
)
from truetape.core.serve import grain
from truetape.core.serve.ladders import cut, difference, fill
from truetape.core.sim.act import Hang, Say
from truetape.model.event import Book, Gap, Lagged, Market, Status, Trade
from truetape.model.instrument import Instrument

AGAIN = 1013
"""The close code for a book that was lost: try again."""
TODO_MAX = 10_000
"""Requests of one bot that wait for room in its pipe."""
SEEING = ("LIVE", "QUIET")

Whole: TypeAlias = Callable[[str], Book | None]
"""The whole book of a symbol by the venue's spelling, None where it cannot be believed now."""
Told: TypeAlias = Say | Hang


class Row:
    """One symbol: what bots are told of, whether its book is whole, and why not."""

    __slots__ = ("depth", "known", "listed", "sound", "why")

    def __init__(self, listed: Listed) -> None:
        self.listed = listed
        self.known = listed.instrument.price_decimals >= 0  # whether its digits are
        self.sound = False
        self.why = "waiting for the first book"
        self.depth = 0  # levels that the venue maintains; 0 all


class Bot:
    """One connection."""

    __slots__ = ("later", "listed", "number", "out", "todo", "told", "venue")

    def __init__(self, number: int, venue: Counterpart, listed: Mapping[str, Listed]) -> None:
        self.number = number
        self.venue = venue
        self.listed = listed
        self.out: list[bytes] = []
        self.told: dict[str, None] = {}
        self.todo: deque[bytes] = deque()
        self.later: dict[str, list[bytes]] = {}  # requests for books that are not LIVE yet


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

    def add(self, raw: str, symbol: str, now: int, instrument: Instrument | None = None) -> None:
        """A symbol that the gateway is subscribed to; once is enough."""
        if raw in self.rows:
            return
        known = instrument if instrument is not None else Instrument(symbol, raw)
        self.listed[raw] = Listed(known, 0, now)
        self.rows[raw] = Row(self.listed[raw])
        self._by_raw[raw] = {}
        self._look[raw] = None

    def ready(self, raw: str) -> bool:
        """Whether its book is whole."""
        return raw in self.rows and self.rows[raw].sound

    # -- bots -----------------------------------------------------------------------------------------------------------

    def opened(self, number: int, target: str, listed: Mapping[str, Listed], now: int) -> list[Told]:
        """A bot stands before this path and query; `listed` are the symbols that it may have."""
        bot = self.bots[number] = Bot(number, self.kind(listed), listed)
        bot.venue.relays = True
        return self._answer(bot, bot.venue.opened(target, now))

    def received(self, number: int, data: bytes, now: int) -> list[Told]:
        """A bot said something. What takes room is done by `proceed`, as its pipe has it."""
        bot = self.bots.get(number)
        if bot is None:
            return []
        bot.todo.extend(bot.venue.parts(data))
        if len(bot.todo) > TODO_MAX:
            return [Hang(number, 1008, "too many requests")]
        return []

    def proceed(self, number: int, now: int) -> list[Told]:
        """Its next request, if its pipe has room: [] also where there is none, see `waiting`."""
        bot = self.bots.get(number)
        if bot is None or not bot.todo:
            return []
        data = bot.todo.popleft()
        raw = bot.venue.concerns(data)
        if bot.later and b'"unsubscribe"' in data:
            for name in [name for name in bot.later if name.encode() in data]:
                del bot.later[name]
        if raw and raw in bot.listed and not self.rows[raw].sound:
            bot.later.setdefault(raw, []).append(data)
            return []
        return self._answer(bot, bot.venue.received(data, now))

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

    def http(self, path: str, query: Mapping[str, str], listed: Mapping[str, Listed], now: int) -> Reply:
        """A plain GET: the venue's own REST."""
        symbol = query.get("symbol", "")
        if "depth" in path and symbol in listed and not self.rows[symbol].sound:
            text = f"the gateway's book of {symbol} is not LIVE ({self.rows[symbol].why}); ask again"
            return Reply(503, msgspec.json.encode({"code": -1001, "msg": text, "message": text}))
        there = {raw: row for raw, row in listed.items() if self.rows[raw].known}  # of others no digits are known yet
        return self.kind.http(there, path, query, now)

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

    def feed(self, events: Iterable[Market], whole: Whole, now: int) -> list[Told]:
        """All that was published since the last time, in order; `whole` is as of the last of it."""
        hung: dict[Bot, str] = {}
        for event in events:
            match event:
                case Book():
                    self._book(event, hung)
                case Trade():
                    self._trade(event)
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
        if event.channel != "book" or event.raw not in self.rows:
            return
        self._look[event.raw] = None
        if isinstance(event, Gap) and not event.recovered:
            self._lose(event.raw, event.reason, hung)
        elif isinstance(event, Status) and event.state not in SEEING:
            self._lose(event.raw, f"{event.state}: {event.reason}", hung)

    def _lose(self, raw: str, why: str, hung: dict[Bot, str]) -> None:
        """The book is in doubt from here on."""
        row = self.rows[raw]
        self._look[raw] = None
        row.why = why
        if row.sound:
            row.sound = False
            fill(row.listed.bids, ())
            fill(row.listed.asks, ())
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
        sides = self._steps(row, event)
        if sides is None or (event.snapshot and 0 <= event.seq < row.listed.seq):
            self._lose(event.raw, "its numbers or digits changed", hung)
            return
        bids, asks = sides
        listed = row.listed
        if event.snapshot:
            bids, asks = difference(listed.bids, bids), difference(listed.asks, asks)
        for side, levels in ((listed.bids, bids), (listed.asks, asks)):
            for price, size in levels:
                side.put(price, size)
            if self.truncate and row.depth:
                levels += cut(side, row.depth)
        self._change(listed, bids, asks, [], event.seq, event.ts or event.recv)

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

    def _steps(self, row: Row, event: Book) -> tuple[list[Steps], list[Steps]] | None:
        """Both sides in whole steps; None where they have other digits than the book."""
        instrument = row.listed.instrument
        places, digits = instrument.price_decimals, instrument.size_decimals
        sides: list[list[Steps]] = []
        for number, levels in enumerate((event.bids, event.asks)):
            side = [(grain.whole(price, places), grain.whole(size, digits)) for price, size in levels]
            if any(price < 0 or size < 0 for price, size in side):
                if not self._widen(row, grain.needed(event.bids + event.asks)):
                    return None
                return self._steps(row, event)
            if event.marks is not None and not all(
                grain.agrees(price, size, mark) for (price, size), mark in zip(side, event.marks[number], strict=True)
            ):
                return None
            sides.append(list(dict(side).items()))  # Kraken may name a price twice in one message: the last word holds
        return sides[0], sides[1]

    def _load(self, raw: str, book: Book) -> None:
        """A whole book to begin with. Nobody is told of it: who is subscribed was hung up."""
        row = self.rows[raw]
        if self.kind.wrong.summed and book.marks is None:
            self._look[raw] = None  # without its digits no checksum would hold; `whole` has them
            return
        places, digits = self._grain(row, book)
        if max(places, digits) > grain.PLACES_MAX or min(places, digits) < 0:
            row.why = "its digits cannot be told"
            return
        old = row.listed.instrument
        row.listed.instrument = replace(old, symbol=book.symbol, price_decimals=places, size_decimals=digits)
        if (places, digits) != (old.price_decimals, old.size_decimals):
            row.listed.prints.clear()
        row.known = True
        sides = self._steps(row, book)
        if sides is None:
            row.why = "its digits do not agree with its checksum"
            return
        listed = row.listed
        for side, levels in ((listed.bids, sides[0]), (listed.asks, sides[1])):
            fill(side, levels)
        listed.seq = book.seq if book.seq >= 0 else listed.seq + 1
        listed.depth = row.depth = book.depth
        row.sound, row.why = True, ""
        self._look[raw] = None  # who waits for it is answered when this turn is through

    def _grain(self, row: Row, book: Book) -> tuple[int, int]:
        if book.marks is not None:
            levels, marks = book.bids + book.asks, book.marks[0] + book.marks[1]
            return grain.marked(levels, marks) or (-1, -1)
        of_price, of_size = grain.needed(book.bids + book.asks)
        known = row.listed.instrument
        return max(of_price, known.price_decimals), max(of_size, known.size_decimals)

    def _widen(self, row: Row, wanted: tuple[int, int]) -> bool:
        """More digits than so far: the same book in finer steps. Never where a checksum counts digits, nor beyond what can be written."""
        listed = row.listed
        old = listed.instrument
        places, digits = max(wanted[0], old.price_decimals), max(wanted[1], old.size_decimals)
        if self.kind.wrong.summed or max(places, digits) > self.kind.decimals_max:
            return False
        by_price, by_size = 10 ** (places - old.price_decimals), 10 ** (digits - old.size_decimals)
        for side in (listed.bids, listed.asks):
            fill(side, [(price * by_price, size * by_size) for price, size in side.top()])
        listed.prints.clear()
        listed.instrument = replace(old, price_decimals=places, size_decimals=digits)
        return True

    def _trade(self, event: Trade) -> None:
        row = self.rows.get(event.raw)
        if row is None:
            return
        listed = row.listed
        if not row.known:
            places, digits = grain.needed([(event.price, event.size)])
            listed.instrument = replace(listed.instrument, price_decimals=places, size_decimals=digits)
            row.known = True
        instrument = listed.instrument
        price = grain.whole(event.price, instrument.price_decimals)
        size = grain.whole(event.size, instrument.size_decimals)
        if price < 0 or size < 0:
            if not self._widen(row, grain.needed([(event.price, event.size)])):
                self.unfit += 1
                return
            self._trade(event)
            return
        self._trades += 1
        number = int(event.id) - self.kind.first_trade if event.id.isdecimal() else self._trades
        trade = Print(price, size, event.side, number, event.ts or event.recv, taker=self._trades)
        listed.trade(trade)
        self._change(listed, [], [], [trade], -1, event.ts or event.recv)
