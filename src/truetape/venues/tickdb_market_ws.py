"""TickDB's dialect of the founding document on a Go gateway: flat commands, one symbol and one type a message, levels as objects.

Source: founding document 000 (undated), as noted in the project's venue notes; read 2026-11. No recorded frame and no vendor's page describe
it: the documented protocol is `tickdb.py`. A user may believe as much as there: each book message is a whole book, a lost one is not
noticed. Traps: numbers are JSON floats; nothing says that requests are acknowledged, so that the first message after them counts as
such; a refusal may name its symbol or not; a kline names no interval, so that only one of a symbol can be told. The document's client
sends a protocol ping each 30 s: ours come sooner, from the feed's profile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct, field

from truetape.core.feed import venue as feed
from truetape.core.feed.parse import peek
from truetape.core.feed.venue import Accepted, Alive, Control, Damaged, Ignored, Price, Rejected, Size, Want
from truetape.model.event import Bar, Book, Market, Quote, Ticker, Trade
from truetape.model.instrument import Instrument
from truetape.model.reason import remedy
from truetape.venues import _tickdb as wire
from truetape.venues._tickdb import MS, Millis, Row, Spellings


class _Message(Struct, gc=False):
    """Everything that a message may hold; `type` says which of it."""

    type: str = ""
    cmd: str = ""
    symbol: str = ""
    timestamp: Millis = 0
    code: int | str = 0
    message: str = ""
    retry_after: Size = -1.0
    bids: list[Row] | None = None
    asks: list[Row] | None = None
    id: str | int = ""
    price: Price | None = None
    quantity: Size = 0.0
    side: str = ""
    last_price: Size | None = None
    bid_price: Size | None = None
    ask_price: Size | None = None
    interval: str = ""
    time: Millis = 0
    open: Size = 0.0
    high: Size | None = None
    low: Size | None = None
    close: Price | None = None
    volume: Size | None = None


class _Memory(Struct):
    """What one connection must remember. `asked`: pairs without any answer yet; `wanted`: raw -> our channels."""

    spellings: Spellings = field(default_factory=Spellings)
    asked: list[tuple[str, str]] = []
    wanted: dict[str, list[str]] = {}


_MESSAGES = msgspec.json.Decoder(_Message, strict=False)


class Dialect:
    """See `core.feed.venue.Dialect`."""

    name = "tickdb_market_ws"
    hosts = ("api.tickdb.ai/v1/market/ws",)
    channels: Mapping[str, str] = {
        "book": "depth",
        "trade": "trade",
        "quote": "ticker",
        "ticker": "ticker",
        "bar": "kline",
    }
    url = "wss://api.tickdb.ai/v1/market/ws?api_key={secret}"
    rest_url = "https://api.tickdb.ai"
    limits = feed.Limits(wants_per_message=50, messages_per_s=20)  # each want is a message of its own
    rule = feed.Rule(snapshot="whole")
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

    def _word(self, channel: str) -> str:
        return self.channels[channel.partition(".")[0]]

    def _commands(self, cmd: str, wants: Sequence[Want]) -> list[bytes]:
        pairs = dict.fromkeys((want.raw, self._word(want.channel)) for want in wants)
        return [msgspec.json.encode({"cmd": cmd, "symbol": raw, "type": word}) for raw, word in pairs]

    def subscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """One message for each symbol and type; a ticker serves quotes too."""
        for want in wants:
            self.memory.spellings.claim(want)
            wanted = self.memory.wanted.setdefault(want.raw, [])
            if want.channel not in wanted:
                wanted.append(want.channel)
            if (want.channel, want.raw) not in self.memory.asked:
                self.memory.asked.append((want.channel, want.raw))
        return self._commands("subscribe", wants)

    def unsubscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """The same, the other way; a ticker that still serves quotes is kept."""
        gone = []
        for want in wants:
            wanted = self.memory.wanted.get(want.raw, [])
            if want.channel in wanted:
                wanted.remove(want.channel)
            if self._word(want.channel) not in [self._word(channel) for channel in wanted]:
                gone.append(want)
        return self._commands("unsubscribe", gone)

    def ping(self) -> bytes | None:
        """The protocol's own pings do."""
        return None

    def decode(self, data: bytes, recv: int) -> feed.Decoded:
        """One flat message. The first after a request stands for its acknowledgment."""
        try:
            message = _MESSAGES.decode(data)
        except msgspec.ValidationError as error:
            return [self._damaged(data, error)]
        if message.code not in (0, "0", ""):
            return [self._refused(message)]
        answers = self._acknowledged()
        try:
            return [*answers, *self._said(message, recv)]
        except ValueError as error:  # two symbols claim this spelling
            return [*answers, Damaged(str(error))]

    def _acknowledged(self) -> list[Market | Control]:
        if not self.memory.asked:
            return []
        pairs, self.memory.asked = tuple(self.memory.asked), []
        return [Accepted(pairs)]

    def _said(self, message: _Message, recv: int) -> list[Market | Control]:
        kind = message.type
        if kind not in ("depth", "trade", "ticker", "kline"):
            return [Ignored(kind)] if kind and kind not in ("subscribe", "unsubscribe", "pong", "ping") else [Alive()]
        raw, symbol = self.memory.spellings.who(message.symbol, "", self.names)
        ts = message.timestamp * MS
        if kind == "depth":
            if message.bids is None or message.asks is None:
                return [Damaged("expected bids and asks", raw, "book")]
            bids = [(row.price, row.quantity) for row in message.bids if row.quantity]
            asks = [(row.price, row.quantity) for row in message.asks if row.quantity]
            return [Book(self.label, symbol, raw, ts, recv, bids, asks, True)]
        if kind == "trade":
            side = wire.SIDES.get(message.side)
            if message.price is None or side is None:
                return [
                    Damaged(
                        f"expected a trade's price and side, found {message.price}, {message.side[:20]!r}", raw, "trade"
                    )
                ]
            return [Trade(self.label, symbol, raw, ts, recv, message.price, message.quantity, side, str(message.id))]
        return self._bar(message, raw, symbol, recv) if kind == "kline" else self._ticker(message, raw, symbol, recv)

    def _ticker(self, message: _Message, raw: str, symbol: str, recv: int) -> list[Market | Control]:
        ts, bid, ask = message.timestamp * MS, message.bid_price, message.ask_price
        last = message.last_price if message.last_price is not None else message.price
        events: list[Market | Control] = []
        if bid and ask:
            events.append(Quote(self.label, symbol, raw, ts, recv, bid, 0.0, ask, 0.0))
        events.append(
            Ticker(
                self.label, symbol, raw, ts, recv, last, bid, None, ask, None, message.volume, message.high, message.low
            )
        )
        return events

    def _bar(self, message: _Message, raw: str, symbol: str, recv: int) -> list[Market | Control]:
        close = message.close
        if close is None:
            return [Damaged("expected a kline's close", raw, "bar")]
        asked = [channel[4:] for channel in self.memory.wanted.get(raw, []) if channel.startswith("bar.")]
        interval = message.interval or (asked[-1] if asked else "1m")
        high, low = message.high or close, message.low or close
        ts, start = message.timestamp * MS, (message.time or message.timestamp) * MS
        return [
            Bar(
                self.label, symbol, raw, ts, recv, interval, start, message.open or close, high, low, close, message.volume or 0.0,
            )
        ]  # fmt: skip

    def _damaged(self, data: bytes, error: msgspec.ValidationError) -> Control:
        """Name the symbol where it can still be read. Raises the error where nothing can."""
        code, kind = peek(data, "symbol"), peek(data, "type")
        if not code and not kind:
            raise error
        owner = self.memory.spellings.owners.get(code, (code, ""))
        return Damaged(str(error), owner[0], {word: channel for channel, word in self.channels.items()}.get(kind, ""))

    def _refused(self, message: _Message) -> Control:
        """What is dropped must be named: by the message's symbol, and by its type where that is one of ours."""
        reason = wire.reason(message.code, message.message)
        raw = self.memory.spellings.owners.get(message.symbol, ("", ""))[0]
        channels = [
            channel
            for channel in self.memory.wanted.get(raw, [])
            if message.type == self._word(channel) or message.type not in self.channels.values()
        ]
        pairs = tuple((channel, raw) for channel in channels)
        self.memory.asked = [pair for pair in self.memory.asked if pair not in pairs]
        code = int(message.code) if isinstance(message.code, int) or message.code.isdecimal() else 0
        wait = min(message.retry_after, wire.RETRY_MAX_S)
        return Rejected(reason, message.message[:200], code, pairs if remedy(reason) == "drop" else (), wait)

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
