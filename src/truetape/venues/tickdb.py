"""TickDB, the documented protocol: whole books without numbers or checksums, tickers and trades of every market.

Sources: TickDB/tickdb-api-docs cd837a2 (2026-07-16: en/*.md, asyncapi.json, openapi.yaml; read 2026-11). No recorded frame was
ever seen: all here is documentation. Traps: symbols asked for as `AAPL.US` may come back as `AAPL`; a trade is an array with ids
or flat without (the papers disagree); acknowledgments carry no request id; a lost book message cannot be noticed, the next one
replaces it. Where one symbol of many is refused and the answer does not say which, each is asked for by itself the next time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw, Struct, field

from truetape.core.feed import venue as feed
from truetape.core.feed.venue import Accepted, Alive, Control, Damaged, Ignored, Rejected, Want
from truetape.model.event import Book, Market, Quote, Ticker, Trade
from truetape.model.instrument import Instrument
from truetape.model.reason import remedy
from truetape.venues import _tickdb as wire
from truetape.venues._tickdb import MS, PLANS, REASONS, Spellings

__all__ = ["PLANS", "REASONS", "Dialect"]

_OURS: Mapping[str, str] = {"depth": "book", "trade": "trade", "ticker": "ticker"}
ASKED_MAX = 1_000
"""Requests remembered until they are answered; a venue that answers none lets the oldest go."""


class _Asked(Struct):
    """One request that waits for its answer."""

    word: str
    codes: list[str]
    pairs: list[tuple[str, str]]


class _Memory(Struct):
    """What one connection must remember. `held`: their channel -> raw -> our channels that it serves; `alone`: their channel ->
    members of a refused request whose culprit was not named."""

    spellings: dict[str, Spellings] = field(default_factory=lambda: {word: Spellings() for word in _OURS})
    asked: dict[str, list[_Asked]] = field(default_factory=lambda: {"subscribe": [], "unsubscribe": []})
    held: dict[str, dict[str, list[str]]] = field(default_factory=lambda: {word: {} for word in _OURS})
    alone: dict[str, list[str]] = field(default_factory=lambda: {word: [] for word in _OURS})


_DEPTH_HEAD, _TRADE_HEAD = b'{"cmd":"depth"', b'{"cmd":"trade"'
_read_depth = wire.DEPTH_FRAMES.decode
_WORD = re.compile(r"\w+(?:\.\w+)*")


class Dialect:
    """See `core.feed.venue.Dialect`. A raw symbol may end in `@type` (`SPX@indices`): the answer to AMBIGUOUS_SYMBOL."""

    name = "tickdb"
    hosts = ("api.tickdb.ai/v1/realtime",)
    channels: Mapping[str, str] = {"book": "depth", "trade": "trade", "ticker": "ticker", "quote": "ticker"}
    url = "wss://api.tickdb.ai/v1/realtime?api_key={secret}"
    rest_url = "https://api.tickdb.ai"
    # the quick start pings each second; the server's own patience and the pace of commands are not documented
    limits = feed.Limits(wants_per_message=50, messages_per_s=5, ping_every_s=1, dead_after_s=10)
    rule = feed.Rule(snapshot="whole")
    plans = PLANS

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
        """`BTCUSDT` -> `BTC-USDT`; stocks, forex, metals, indices and futures keep their spelling."""
        return wire.canonical(raw)

    @staticmethod
    def native(symbol: str) -> str:
        """`BTC-USDT` -> `BTCUSDT`."""
        return wire.native(symbol)

    @staticmethod
    def endpoints(wants: Sequence[Want], url: str, by_url: bool) -> list[feed.Endpoint]:
        """One address carries every channel."""
        return [feed.Endpoint(url, list(wants))]

    def subscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """One message for each channel (and type, where one was given) with all its symbols."""
        for want in wants:
            word = self.channels[want.channel]
            self.memory.spellings[word].claim(want)
            held = self.memory.held[word].setdefault(want.raw, [])
            if want.channel not in held:
                held.append(want.channel)
        return self._requests("subscribe", wants)

    def unsubscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """The same, the other way; a ticker that still serves quotes is kept."""
        gone = []
        for want in wants:
            held = self.memory.held[self.channels[want.channel]].get(want.raw, [])
            if want.channel in held:
                held.remove(want.channel)
            if not held:
                gone.append(want)
        return self._requests("unsubscribe", gone)

    def _requests(self, cmd: str, wants: Sequence[Want]) -> list[bytes]:
        groups: dict[tuple[str, str, str], list[Want]] = {}
        queue = self.memory.asked[cmd]
        for want in wants:
            word = self.channels[want.channel]
            alone = want.raw if want.raw in self.memory.alone[word] else ""
            groups.setdefault((word, want.raw.partition("@")[2], alone), []).append(want)
        frames = []
        for (word, type_, _), members in groups.items():
            codes = list(dict.fromkeys(want.raw.partition("@")[0] for want in members))
            data: dict[str, object] = {"channel": word, "symbols": codes}
            if type_:
                data["type"] = type_
            queue.append(_Asked(word, codes, [(want.channel, want.raw) for want in members]))
            frames.append(msgspec.json.encode({"cmd": cmd, "data": data}))
        del queue[:-ASKED_MAX]
        return frames

    def ping(self) -> bytes | None:
        """The application's ping; its pong tells the venue's time."""
        return b'{"cmd":"ping"}'

    def decode(self, data: bytes, recv: int) -> feed.Decoded:
        """One JSON document, or several on lines of their own. The usual spelling of depth and trades takes the short way."""
        head = data[:14]
        try:
            if head == _DEPTH_HEAD:
                depth = _read_depth(data).data
                owners = self.memory.spellings["depth"].owners
                raw, symbol = owners.get(depth.symbol) or self._who("depth", depth.symbol, depth.type)
                return (Book(self.label, symbol, raw, depth.timestamp * MS, recv, depth.bids, depth.asks, True),)
            if head == _TRADE_HEAD:
                trades = wire.TRADES_FRAMES.decode(data).data
                return self._prints(trades.symbol, trades.type, trades.trades, recv)
        except (msgspec.DecodeError, ValueError):
            pass  # another shape, an ambiguous symbol, several documents, or damage: the long way tells which
        try:
            return self._document(wire.FRAMES.decode(data), recv)
        except (msgspec.DecodeError, UnicodeDecodeError):
            lines = [line for line in data.split(b"\n") if line.strip()]
            if len(lines) < 2:
                raise
        return self._lines(lines, recv)

    def _lines(self, lines: list[bytes], recv: int) -> list[Market | Control]:
        """Several documents: a damaged one does not spoil the others, but all damaged is garbage."""
        events: list[Market | Control] = []
        damaged = 0
        for line in lines:
            try:
                events += self.decode(line, recv)
            except (msgspec.DecodeError, ValueError) as error:
                damaged += 1
                if damaged == len(lines):
                    raise
                events.append(Damaged(str(error)))
        return events

    def _document(self, frame: wire.Frame, recv: int) -> list[Market | Control]:
        cmd = frame.cmd
        if frame.code not in (0, "0", ""):
            return [self._refused(frame)]
        if cmd == "pong":
            return [Alive(wire.details(frame.data).timestamp * MS, pong=True)]
        if cmd in self.memory.asked:
            asked = self._answered(cmd, wire.details(frame.data))
            return [Accepted(tuple(asked.pairs))] if asked is not None and cmd == "subscribe" else [Alive()]
        if cmd not in _OURS:
            return [Ignored(cmd)] if cmd else [Alive()]
        read = {"depth": self._depth, "trade": self._trades, "ticker": self._ticker}[cmd]
        try:
            return read(bytes(frame.data), recv)
        except (msgspec.DecodeError, ValueError) as error:
            return [Damaged(str(error), self._named(cmd, frame.data), _OURS[cmd])]

    def _who(self, word: str, code: str, type_: str) -> tuple[str, str]:
        """(raw, symbol) of a message."""
        return self.memory.spellings[word].who(code, type_, self.names)

    def _named(self, word: str, data: Raw) -> str:
        """Which of our symbols an unreadable message is about, empty where it cannot be told."""
        try:
            return self._who(word, wire.details(data).symbol, "")[0]
        except ValueError:
            return ""

    # -- data -----------------------------------------------------------------------------------------------------------

    def _depth(self, data: bytes, recv: int) -> list[Market | Control]:
        depth = wire.LOOSE_DEPTHS.decode(data)
        raw, symbol = self._who("depth", depth.symbol, depth.type)
        bids, asks = wire.levels(depth.bids), wire.levels(depth.asks)
        return [Book(self.label, symbol, raw, depth.timestamp * MS, recv, bids, asks, True)]

    def _trades(self, data: bytes, recv: int) -> list[Market | Control]:
        """An array of trades, or one without array or id; of an array, what can be read."""
        loose = wire.LOOSE_TRADES.decode(data)
        prints: list[wire.Print] = []
        damage: list[Market | Control] = []
        for row in [data] if loose.trades is None else loose.trades:
            try:
                prints.append(wire.PRINTS.decode(row))
            except msgspec.ValidationError as error:
                damage.append(Damaged(str(error), self._who("trade", loose.symbol, loose.type)[0], "trade"))
        return damage + self._prints(loose.symbol, loose.type, prints, recv)

    def _prints(self, code: str, type_: str, prints: list[wire.Print], recv: int) -> list[Market | Control]:
        raw, symbol = self._who("trade", code, type_)
        events: list[Market | Control] = []
        for row in prints:
            side = wire.SIDES.get(row.side)
            if side is None:  # the trade is understood but for its side: it flows on, and the drift is counted
                events.append(Damaged(f"expected side buy, sell or neutral, found {row.side[:20]!r}", raw, "trade"))
            side = side or ""
            events.append(
                Trade(self.label, symbol, raw, row.timestamp * MS, recv, row.price, row.quantity, side, str(row.id))
            )
        return events

    def _ticker(self, data: bytes, recv: int) -> list[Market | Control]:
        lost: list[str] = []
        try:
            row = wire.TICKERS.decode(data)
        except msgspec.ValidationError:
            row, lost = wire.mend(data)
        raw, symbol = self._who("ticker", row.symbol, row.type)
        events: list[Market | Control] = [
            Damaged(f"{name}: another type than expected", raw, "ticker") for name in lost
        ]
        ts, bid, ask = row.timestamp * MS, row.bid_price, row.ask_price
        if bid and ask:
            events.append(Quote(self.label, symbol, raw, ts, recv, bid, 0.0, ask, 0.0))
        return [
            *events,
            Ticker(
                self.label, symbol, raw, ts, recv, row.last_price, bid, None, ask, None, row.volume_24h, row.high_24h, row.low_24h,
            ),
        ]  # fmt: skip

    # -- answers --------------------------------------------------------------------------------------------------------

    def _answered(self, cmd: str, details: wire.Details) -> _Asked | None:
        """The request that an answer is to: the one it echoes, else the oldest, for answers carry no id."""
        queue = self.memory.asked[cmd]
        for asked in queue:
            if asked.word == details.channel and sorted(asked.codes) == sorted(details.symbols):
                queue.remove(asked)
                return asked
        return queue.pop(0) if queue else None

    def _refused(self, frame: wire.Frame) -> Control:
        """A code with its remedy, told to whom it belongs: what is dropped must be named, for the rest is asked for again."""
        details = wire.details(frame.data)
        text = f"{frame.message} {details.suggestion}".strip()[:200]
        reason = wire.reason(frame.code, frame.message)
        code = int(frame.code) if isinstance(frame.code, int) or frame.code.isdecimal() else 0
        asked = self._answered(frame.cmd, details) if frame.cmd in self.memory.asked else None
        pairs: list[tuple[str, str]] = []
        if asked is not None and frame.cmd == "subscribe" and remedy(reason) == "drop":
            told = {details.symbol, *details.symbols, *_WORD.findall(frame.message)}
            named = [code for code in asked.codes if code in told]
            if len(asked.codes) == 1 or 0 < len(named) < len(asked.codes):
                pairs = [pair for pair in asked.pairs if len(asked.codes) == 1 or pair[1].partition("@")[0] in named]
            else:  # all were named, or none: nobody knows which one is at fault
                alone = self.memory.alone[asked.word]
                alone += [raw for _, raw in asked.pairs if raw not in alone]
        return Rejected(reason, text, code, tuple(pairs), details.retry_after_s)

    # -- REST -----------------------------------------------------------------------------------------------------------

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
        """The first page; the whole list is 32,492 products long (openapi.yaml), in pages of 1,000."""
        return f"{rest_url}/v1/symbols/available?limit=1000"

    @staticmethod
    def decode_instruments(body: bytes) -> list[Instrument]:
        """The products of that page."""
        return wire.instruments(body)
