"""TickDB's dialect of the founding document on a Python load test: methods with ids, channels as text, a number on every item.

Source: founding document 002 (undated), as noted in the project's venue notes; read 2026-11. No recorded frame and no vendor's page describe
it: the documented protocol is `tickdb.py`. Books are whole; a lost one is noticed by its number, and the next one heals it. Traps: a
message may be several documents on lines of their own; whether the number counts all of a symbol's items or each channel's is
not said, so that what follows under either reading follows; what an item is, only its fields say; the server hangs up after
30 s without our ping. `Retry-After` is an HTTP header, which no message has: a rate limit waits the session's own 5 s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from truetape.core.feed import venue as feed
from truetape.core.feed.parse import salvage
from truetape.core.feed.venue import Accepted, Alive, Control, Damaged, Ignored, Price, Rejected, Size, Want
from truetape.model.event import Book, Market, Trade
from truetape.model.instrument import Instrument
from truetape.model.reason import remedy
from truetape.venues import _tickdb as wire
from truetape.venues._tickdb import MS, LooseLevel, Millis, Spellings

ASKED_MAX = 1_000
"""Requests remembered until they are answered."""


_Seq = Annotated[int, Meta(ge=-1, lt=1 << 62)]


class _Item(Struct, gc=False):
    symbol: str
    seq: _Seq = -1
    ts: Millis = 0
    timestamp: Millis = 0
    bids: list[LooseLevel] | None = None
    asks: list[LooseLevel] | None = None
    price: Price | None = None
    quantity: Size = 0.0
    side: str = ""
    id: str | int = ""


class _Message(Struct, gc=False):
    data: list[_Item] = []
    method: str = ""
    id: int | str | None = None
    code: int | str = 0
    message: str = ""
    retry_after: Size = -1.0


class _Numbers(Struct):
    """The last number of a symbol's items, of its books and of its trades; `hole`: one was missing since the last book."""

    item: int = -1
    book: int = -1
    trade: int = -1
    hole: bool = False


class _Memory(Struct):
    """What one connection must remember. `asked`: request -> its pairs; `alone`: raws of a refused request without a culprit."""

    spellings: Spellings = field(default_factory=Spellings)
    asked: dict[str, list[tuple[str, str]]] = {}
    last_id: int = 0
    alone: list[str] = []
    numbers: dict[str, _Numbers] = {}


_MESSAGES = msgspec.json.Decoder(_Message, strict=False)
_WORD = re.compile(r"\w+(?:\.\w+)*")


class Dialect:
    """See `core.feed.venue.Dialect`."""

    name = "tickdb_stream"
    hosts = ("api.tickdb.ai/v1/stream",)
    channels: Mapping[str, str] = {"book": "depth", "trade": "trades"}
    url = "wss://api.tickdb.ai/v1/stream?api_key={secret}"
    rest_url = "https://api.tickdb.ai"
    limits = feed.Limits(wants_per_message=50, messages_per_s=5, ping_every_s=25, dead_after_s=60)
    rule = feed.Rule(snapshot="whole", numbers="range")
    plans = wire.PLANS

    def __init__(self, label: str, names: Mapping[str, str], url: str) -> None:
        self.label = label
        self.names = names
        self.memory = _Memory()

    @staticmethod
    def market_of(raw: str) -> str:
        """Whose hours a symbol keeps: US HK SZ SH by its ending, FX; empty: always open."""
        return wire.market_of(raw)

    @staticmethod
    def canonical(raw: str, url: str) -> str:
        """`BTCUSDT` -> `BTC-USDT`; all else keeps its spelling."""
        return wire.canonical(raw)

    @staticmethod
    def native(symbol: str) -> str:
        """`BTC-USDT` -> `BTCUSDT`."""
        return wire.native(symbol)

    @staticmethod
    def endpoints(wants: Sequence[Want], url: str, by_url: bool) -> list[feed.Endpoint]:
        """One address carries every channel."""
        return [feed.Endpoint(url, list(wants))]

    def _request(self, method: str, wants: Sequence[Want]) -> bytes:
        memory = self.memory
        memory.last_id += 1
        memory.asked[str(memory.last_id)] = [(want.channel, want.raw) for want in wants if method == "subscribe"]
        if len(memory.asked) > ASKED_MAX:
            del memory.asked[next(iter(memory.asked))]
        texts = [f"{self.channels[want.channel]}.{want.raw}" for want in wants]
        return msgspec.json.encode({"method": method, "params": {"channels": texts}, "id": memory.last_id})

    def subscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """One message for all; members of a refused one whose culprit was not named go by themselves."""
        for want in wants:
            self.memory.spellings.claim(want)
        alone = self.memory.alone
        together = [want for want in wants if want.raw not in alone]
        parts = ([together] if together else []) + [[want] for want in wants if want.raw in alone]
        return [self._request("subscribe", part) for part in parts]

    def unsubscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """One message for all."""
        return [self._request("unsubscribe", wants)]

    def ping(self) -> bytes | None:
        """The application's ping, as the founding document writes it."""
        return b'{"method":"ping","params":{},"id":999}'

    def decode(self, data: bytes, recv: int) -> feed.Decoded:
        """One JSON document, or several on lines of their own; a damaged one does not spoil the others."""
        try:
            return self._document(data, recv)
        except (msgspec.DecodeError, UnicodeDecodeError):
            lines = [line for line in data.split(b"\n") if line.strip()]
            if len(lines) < 2:
                raise
        events: list[Market | Control] = []
        damaged = 0
        for line in lines:
            try:
                events += self._document(line, recv)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                damaged += 1
                if damaged == len(lines):
                    raise
                events.append(Damaged(str(error)))
        return events

    def _document(self, data: bytes, recv: int) -> list[Market | Control]:
        lost: list[str] = []
        try:
            message = _MESSAGES.decode(data)
        except msgspec.ValidationError:
            message, lost = salvage(data, _MESSAGES, "data", ("symbol",))
        events: list[Market | Control] = []
        for code in lost:
            owner = self.memory.spellings.owners.get(code, (code, ""))
            events.append(Damaged("a member of the message has a wrong type", owner[0]))
        for item in message.data:
            raw = ""
            try:
                raw, symbol = self.memory.spellings.who(item.symbol, "", self.names)
                events += self._item(item, raw, symbol, recv)
            except ValueError as error:  # two symbols claim this spelling, or a level is none
                events.append(Damaged(str(error), raw))
        return events or [self._answer(message)]

    def _item(self, item: _Item, raw: str, symbol: str, recv: int) -> list[Market | Control]:
        ts = (item.ts or item.timestamp) * MS
        numbers = self.memory.numbers.setdefault(raw, _Numbers())
        if item.bids is not None and item.asks is not None:
            bids, asks = wire.levels(item.bids), wire.levels(item.asks)
            first = _covers(numbers, item.seq)
            return [Book(self.label, symbol, raw, ts, recv, bids, asks, True, first, item.seq)]
        side = wire.SIDES.get(item.side)
        if item.price is None or side is None:
            return [
                Damaged(f"expected a book, or a trade's price and side, found {item.price}, {item.side[:20]!r}", raw)
            ]
        if 0 <= item.seq == numbers.trade:
            return [Ignored("the same trade again")]
        trade = Trade(self.label, symbol, raw, ts, recv, item.price, item.quantity, side, str(item.id))
        return [trade] if _follows(numbers, item.seq) else [Damaged(f"no seq {numbers.item + 1}", raw, "trade"), trade]

    def _answer(self, message: _Message) -> Control:
        if message.code not in (0, "0", ""):
            return self._refused(message)
        if message.method == "pong":
            return Alive(pong=True)
        pairs = self.memory.asked.pop(str(message.id), None) if message.id is not None else None
        return Accepted(tuple(pairs)) if pairs else Alive()

    def _refused(self, message: _Message) -> Control:
        """What is dropped must be named: the only one of the request, or those that the text singles out."""
        reason = wire.reason(message.code, message.message)
        pairs = self.memory.asked.pop(str(message.id), [])
        code = int(message.code) if isinstance(message.code, int) or message.code.isdecimal() else 0
        wait = min(message.retry_after, wire.RETRY_MAX_S)
        if remedy(reason) != "drop":
            return Rejected(reason, message.message[:200], code, (), wait)
        told = _WORD.findall(message.message)
        named = [pair for pair in pairs if pair[1] in told or f"{self.channels[pair[0]]}.{pair[1]}" in told]
        if len(pairs) > 1 and len(named) in (0, len(pairs)):
            self.memory.alone += [raw for _, raw in pairs if raw not in self.memory.alone]
            return Rejected(reason, message.message[:200], code)
        return Rejected(reason, message.message[:200], code, tuple(named or pairs))

    refusal = staticmethod(wire.refusal)

    def snapshot_url(self, want: Want, rest_url: str) -> str | None:
        """Every message is a whole book."""
        return None

    @staticmethod
    def snapshot_raw(url: str) -> str | None:
        """Nothing fetched is a book of this stream."""
        return None

    def decode_snapshot(self, raw: str, body: bytes, recv: int) -> Book:
        """Cannot happen: nothing is fetched."""
        raise ValueError("tickdb books are not fetched")

    @staticmethod
    def instruments_url(rest_url: str) -> str | None:
        """The same list as the documented protocol's; its first page."""
        return f"{rest_url}/v1/symbols/available?limit=1000"

    @staticmethod
    def decode_instruments(body: bytes) -> list[Instrument]:
        """The products of that page."""
        return wire.instruments(body)


def _covers(numbers: _Numbers, seq: int) -> int:
    """The first number that a book stands for: all items since the last book, if none of them is missing."""
    follows = seq == numbers.book + 1 or (seq == numbers.item + 1 and not numbers.hole)
    first = numbers.book + 1 if follows and numbers.book >= 0 else seq
    numbers.item = numbers.book = seq
    numbers.hole = False
    return first


def _follows(numbers: _Numbers, seq: int) -> bool:
    """True where no trade is missing before this one, under either reading of the number."""
    follows = seq < 0 or numbers.trade < 0 or seq in (numbers.item + 1, numbers.trade + 1)
    numbers.item = numbers.trade = seq
    numbers.hole = numbers.hole or not follows
    return follows
