"""Binance spot from the venue's side: what `binance.py` reads, this writes. Not a venue of its own.

Sources: binance-spot-api-docs a5e0bc3 (2026-07-21, web-socket-streams.md) and what ccxt, python-binance and cryptofeed were seen
to ask. Streams come raw on `/ws…` and wrapped on `/stream…`; `/ws/<number>` subscribes nothing (ccxt counts its sockets so).
A stream that does not exist is accepted and stays silent; a second SUBSCRIBE to the same stream is accepted. One change of the
market is one diff: they are not collected for 100 ms, so that the simulator's rate is the rate that arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qs

import msgspec
from msgspec import Raw, Struct

from truetape.core.feed.counterpart import (
    Answer,
    Candle,
    Change,
    Dismissed,
    Listed,
    Native,
    Pair,
    Print,
    Reply,
    Subscribed,
    Unsubscribed,
    Wrong,
)
from truetape.core.feed.write import decimal
from truetape.venues import _serve_binance_rest as rest

MS = 1_000_000
STREAMS_MAX = 1024
"""Streams of one connection."""
SPANS = {"1s": 1, "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "2h": 7200, "4h": 14_400, "6h": 21_600,
         "8h": 28_800, "12h": 43_200, "1d": 86_400}  # fmt: skip
EVERY = {"ticker": 1_000_000_000, "miniTicker": 1_000_000_000, "kline_1s": 1_000_000_000}
KLINE_EVERY = 2_000_000_000
KINDS = ("depth", "depth5", "depth10", "depth20", "trade", "aggTrade", "bookTicker", "ticker", "miniTicker")
CODES = {"unknown_symbol": -1121, "rate_limit": -1003, "too_many_subscriptions": -1034, "unavailable": -1120}
NOT_RELAYED = "Invalid request: depth, trade, aggTrade and bookTicker are re-broadcast, not {}"


class _Request(Struct):
    method: str = ""
    params: list[str | bool] = []
    id: Raw = Raw(b"null")


_REQUEST = msgspec.json.Decoder(_Request)
_encode: Callable[[object], bytes] = msgspec.json.encode


def pair(instrument_decimals: tuple[int, int], price: int, size: int) -> str:
    """`"67123.40000000","0.00120000"`: eight decimals, whatever the grain of the symbol."""
    places, digits = instrument_decimals
    return f'"{decimal(price * 10 ** (8 - places), 8)}","{decimal(size * 10 ** (8 - digits), 8)}"'


class Counterpart:
    """See `core.feed.counterpart.Counterpart`."""

    path = ""
    size_decimals = 5
    ping_every_s = 20.0
    orders = 4
    relays = False
    decimals_max = 8
    first_trade = 0
    lists_all = True
    wrong = Wrong(
        word=(b'"depthUpdate"', b'"depthMerge"'), price=(rb'\["([0-9.]+)"', rb"[\1"), numbered=True,
        limited=b'{"error":{"code":-1003,"msg":"Too many requests; current limit is 5 messages per second."},"id":null}',
        leaving=b'{"e":"serverShutdown","E":1780000000000}',
    )  # fmt: skip

    def __init__(self, listed: Mapping[str, Listed], key: str = "") -> None:
        self.listed = listed
        self.wrapped = False
        self.streams: dict[str, dict[str, bytes]] = {}  # raw symbol -> kind of stream -> what stands before each frame
        self.unknown: dict[str, None] = {}  # accepted, and silent for ever
        self._quoted: dict[str, tuple[int, int, int, int]] = {}
        self._said: dict[tuple[str, str], int] = {}  # (raw, kind) -> when it was last said by the clock
        self._starts: dict[tuple[str, str], int] = {}  # (raw, kind) -> start of the candle said last

    def opened(self, target: str, now: int) -> list[Answer]:
        """Streams named in the URL; the rest comes by command."""
        self.wrapped = target.partition("?")[0].rstrip("/") == "/stream"
        names = _names(target)
        answers: list[Answer] = []
        for name in names:
            if self.relays and name and not name.isdecimal() and not _relayed(name):
                text = NOT_RELAYED.format(name[:60])
                return [_refuse(2, text, b"null"), Dismissed(1008, text[17:])]
            if name and not name.isdecimal():
                answers += self._subscribe(name)
        return answers

    def received(self, data: bytes, now: int) -> list[Answer]:
        """SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS, SET_PROPERTY, GET_PROPERTY."""
        try:
            request = _REQUEST.decode(data)
        except msgspec.ValidationError as error:
            return [_refuse(2, f"Invalid request: {error}", b"null")]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return [_refuse(3, f"Invalid JSON: {error}", b"null")]
        number = bytes(request.id)
        names = [name for name in request.params if isinstance(name, str)]
        if request.method == "SUBSCRIBE":
            if not names or self._count() + len(names) > STREAMS_MAX:
                return [_refuse(2, f"Invalid request: expected 1 to {STREAMS_MAX} streams in all", number)]
            if self.relays and (others := [name for name in names if not _relayed(name)]):
                return [_refuse(2, NOT_RELAYED.format(others[0][:60]), number)]
            answers: list[Answer] = [_result(b"null", number)]
            return answers + [answer for name in names for answer in self._subscribe(name)]
        if request.method == "UNSUBSCRIBE":
            answers = [_result(b"null", number)]
            return answers + [answer for name in names for answer in self._unsubscribe(name)]
        if request.method == "LIST_SUBSCRIPTIONS":
            listed = [f"{raw.lower()}@{kind}" for raw, kinds in self.streams.items() for kind in kinds]
            return [_result(_encode(listed + list(self.unknown)), number)]
        if request.method == "GET_PROPERTY" and names == ["combined"]:
            return [_result(_encode(self.wrapped), number)]
        if request.method == "SET_PROPERTY" and request.params in (["combined", True], ["combined", False]):
            self.wrapped = request.params[1] is True
            for raw, kinds in self.streams.items():
                self.streams[raw] = {kind: self._head(raw, kind) for kind in kinds}
            return [_result(b"null", number)]
        code = 0 if request.method in ("GET_PROPERTY", "SET_PROPERTY") else 2
        return [_refuse(code, f"Invalid request: unknown method or property in {request.method[:40]!r}", number)]

    def parts(self, data: bytes) -> list[bytes]:
        """No answer holds a book: those are fetched."""
        return [data]

    def concerns(self, data: bytes) -> str:
        """None."""
        return ""

    @staticmethod
    def named(target: str) -> list[Pair]:
        """Streams in the URL."""
        return _pairs(_names(target))

    def asks(self, data: bytes) -> list[Pair]:
        """Streams of a SUBSCRIBE."""
        try:
            request = _REQUEST.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return []
        names = [name for name in request.params if isinstance(name, str)]
        return _pairs(names[:STREAMS_MAX]) if request.method == "SUBSCRIBE" else []

    def held(self) -> list[Pair]:
        """Its streams; several of them may be made of one subscription of ours."""
        return _pairs([f"{raw.lower()}@{kind}" for raw, kinds in self.streams.items() for kind in kinds])

    def refuse(self, data: bytes, reason: str, text: str, now: int) -> list[Answer]:
        """An error for the whole request; of streams in the URL there is nothing left to say but that."""
        code = CODES.get(reason, 2)
        if not data:
            return [_refuse(code, text, b"null"), Dismissed(1008, text[:100])]
        return [_refuse(code, text, bytes(_REQUEST.decode(data).id))]

    def _count(self) -> int:
        return sum(map(len, self.streams.values())) + len(self.unknown)

    def _head(self, raw: str, kind: str) -> bytes:
        return f'{{"stream":"{raw.lower()}@{kind}","data":'.encode() if self.wrapped else b""

    def _subscribe(self, name: str) -> list[Answer]:
        symbol, _, kind = name.partition("@")
        raw = symbol.upper()
        known = kind.partition("@")[0] in KINDS or (kind.startswith("kline_") and kind[6:] in SPANS)
        if self._count() >= STREAMS_MAX:
            return []
        if raw not in self.listed or symbol != raw.lower() or not known:
            self.unknown[name] = None
            return []
        self.streams.setdefault(raw, {})[kind] = self._head(raw, kind)
        return [Subscribed(raw)]

    def _unsubscribe(self, name: str) -> list[Answer]:
        symbol, _, kind = name.partition("@")
        self.unknown.pop(name, None)
        kinds = self.streams.get(symbol.upper(), {})
        if kinds.pop(kind, None) is None or kinds:
            return []
        del self.streams[symbol.upper()]
        return [Unsubscribed(symbol.upper())]

    def encode(self, change: Change, now: int) -> list[Native]:
        """Every stream of this symbol that the change concerns."""
        frames: list[Native] = []
        listed = self.listed[change.raw]
        for kind, head in self.streams.get(change.raw, {}).items():
            end = b"}" if head else b""
            if kind[:6] in ("depth1", "depth2", "depth5"):
                if change.bids or change.asks:
                    frames.append(("book", head + _partial(listed, change, int(kind[5:].partition("@")[0])) + end))
            elif kind[:5] == "depth":
                if change.bids or change.asks:
                    body = _diff(listed, change)
                    start = f'{{"e":"depthUpdate","E":{now // MS},"s":"{change.raw}","U":{change.first},"u":{change.seq},'.encode()
                    frames.append(("book", b"%b%b%b%b" % (head, start, body, end)))
            elif kind == "trade":
                frames += [("trade", head + _trade(listed, trade, now) + end) for trade in change.prints]
            elif kind == "aggTrade":
                frames += [("trade", head + _aggregate(listed, row, now) + end) for row in _merged(change.prints)]
            elif kind == "bookTicker" and (body := self._quote(listed)):
                frames.append(("quote", head + body + end))
        return frames

    def _quote(self, listed: Listed) -> bytes:
        """The best prices, where they changed since this client was told."""
        raw = listed.instrument.raw
        if not (listed.bids.keys and listed.asks.keys):
            return b""
        quoted = (*listed.bids.top(1)[0], *listed.asks.top(1)[0])
        if self._quoted.get(raw) == quoted:
            return b""
        self._quoted[raw] = quoted
        grain = (listed.instrument.price_decimals, listed.instrument.size_decimals)
        best_bid = pair(grain, *quoted[:2]).replace(",", ',"B":')
        best_ask = pair(grain, *quoted[2:]).replace(",", ',"A":')
        return f'{{"u":{listed.seq},"s":"{raw}","b":{best_bid},"a":{best_ask}}}'.encode()

    def tick(self, now: int) -> list[tuple[str, Native]]:
        """Candles every two seconds, summaries every second."""
        frames: list[tuple[str, Native]] = []
        for raw, kinds in self.streams.items():
            for kind, head in kinds.items():
                clocked = kind in EVERY or kind.startswith("kline_")
                if not clocked or now - self._said.get((raw, kind), 0) < EVERY.get(kind, KLINE_EVERY):
                    continue
                self._said[raw, kind] = now
                listed, end = self.listed[raw], b"}" if head else b""
                if not kind.startswith("kline_"):
                    frames.append((raw, ("ticker", head + _summary(listed, kind, now) + end)))
                    continue
                candle, before = listed.candle(SPANS[kind[6:]], now)
                if before is not None and self._starts.get((raw, kind)) == before.start:
                    frames.append((raw, ("bar", head + _kline(listed, before, kind[6:], True, now) + end)))
                self._starts[raw, kind] = candle.start
                frames.append((raw, ("bar", head + _kline(listed, candle, kind[6:], False, now) + end)))
        return frames

    @staticmethod
    def messages(change: Change) -> int:
        """Each trade is a message of its own."""
        return 1 + len(change.prints)

    @staticmethod
    def http(listed: Mapping[str, Listed], path: str, query: Mapping[str, str], now: int) -> Reply:
        """See `_serve_binance_rest`."""
        return rest.answer(listed, path, query, now)


def _result(value: bytes, number: bytes) -> bytes:
    return b'{"result":%b,"id":%b}' % (value, number)


def _names(target: str) -> list[str]:
    """Streams in a path and query. No whole URL: `urlsplit` would take //[ for a broken address, and raise."""
    path, _, query = target.partition("?")
    if path.rstrip("/") == "/stream":
        return parse_qs(query).get("streams", [""])[0].split("/")
    return path.split("/")[2:]


def _pairs(names: Sequence[str]) -> list[Pair]:
    """What a gateway must be subscribed to for these streams, each once."""
    pairs: dict[Pair, None] = {}
    for name in names:
        symbol, _, kind = name.partition("@")
        if symbol == symbol.lower() and _relayed(name):
            pairs["trade" if kind in ("trade", "aggTrade") else "book", symbol.upper()] = None
    return list(pairs)


def _relayed(name: str) -> bool:
    """Whether a gateway's books and trades can make this stream."""
    return name.partition("@")[2].partition("@")[0] in KINDS[:7]


def _refuse(code: int, text: str, number: bytes) -> bytes:
    return b'{"error":%b,"id":%b}' % (_encode({"code": code, "msg": text}), number)


def _diff(listed: Listed, change: Change) -> bytes:
    """The levels of a diff, written once for all clients."""
    made = change.made.get(("diff", 0))
    if made is None:
        grain = (listed.instrument.price_decimals, listed.instrument.size_decimals)
        bids = ",".join([f"[{pair(grain, *level)}]" for level in change.bids])
        asks = ",".join([f"[{pair(grain, *level)}]" for level in change.asks])
        made = change.made["diff", 0] = f'"b":[{bids}],"a":[{asks}]}}'.encode()
    return made


def _partial(listed: Listed, change: Change, depth: int) -> bytes:
    """The best levels of the book that the change left."""
    made = change.made.get(("partial", depth))
    if made is None:
        grain = (listed.instrument.price_decimals, listed.instrument.size_decimals)
        sides = [
            ",".join([f"[{pair(grain, *level)}]" for level in side.top(depth)]) for side in (listed.bids, listed.asks)
        ]
        made = f'{{"lastUpdateId":{change.seq},"bids":[{sides[0]}],"asks":[{sides[1]}]}}'.encode()
        change.made["partial", depth] = made
    return made


def _trade(listed: Listed, trade: Print, now: int) -> bytes:
    grain = (listed.instrument.price_decimals, listed.instrument.size_decimals)
    price, size = pair(grain, trade.price, trade.size).split(",")
    maker = "true" if trade.side == "sell" else "false"
    return (
        f'{{"e":"trade","E":{now // MS},"s":"{listed.instrument.raw}","t":{trade.id},"p":{price},"q":{size},"T":{trade.ts // MS},'
        f'"m":{maker},"M":true}}'
    ).encode()


def _merged(prints: Sequence[Print]) -> list[list[Print]]:
    """Trades of one taker at one price belong to one aggregate."""
    rows: list[list[Print]] = []
    for trade in prints:
        if rows and (rows[-1][0].taker, rows[-1][0].price) == (trade.taker, trade.price):
            rows[-1].append(trade)
        else:
            rows.append([trade])
    return rows


def _aggregate(listed: Listed, row: Sequence[Print], now: int) -> bytes:
    first, last = row[0], row[-1]
    grain = (listed.instrument.price_decimals, listed.instrument.size_decimals)
    price, size = pair(grain, first.price, sum(trade.size for trade in row)).split(",")
    maker = "true" if first.side == "sell" else "false"
    return (
        f'{{"e":"aggTrade","E":{now // MS},"s":"{listed.instrument.raw}","a":{first.id},"p":{price},"q":{size},"f":{first.id},'
        f'"l":{last.id},"T":{first.ts // MS},"m":{maker},"M":true}}'
    ).encode()


def _amounts(listed: Listed, candle: Candle) -> dict[str, str]:
    """The names that klines and summaries share: o c h l v q V Q."""
    places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
    prices = {"o": candle.open, "c": candle.close, "h": candle.high, "l": candle.low}
    row = {name: decimal(price, places) for name, price in prices.items()}
    row |= {"v": decimal(candle.size, digits), "V": decimal(candle.buy_size, digits)}
    return row | {"q": decimal(candle.value, places + digits), "Q": decimal(candle.buy_value, places + digits)}


def _kline(listed: Listed, candle: Candle, span: str, closed: bool, now: int) -> bytes:
    raw = listed.instrument.raw
    end = candle.start // MS + candle.length * 1000 - 1
    row: dict[str, object] = {
        "t": candle.start // MS,
        "T": end,
        "s": raw,
        "i": span,
        "f": candle.first_id,
        "L": candle.last_id,
    }
    row |= {"n": candle.count, "x": closed, **_amounts(listed, candle), "B": "0"}
    return _encode({"e": "kline", "E": now // MS, "s": raw, "k": row})


def _summary(listed: Listed, kind: str, now: int) -> bytes:
    """`24hrTicker` since the start of the simulation, or the short form of it."""
    day, raw = listed.day, listed.instrument.raw
    row = _amounts(listed, day)
    short = {name: row[name] for name in "ochlvq"}
    if kind == "miniTicker":
        return _encode({"e": "24hrMiniTicker", "E": now // MS, "s": raw, **short})
    places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
    best = listed.bids.top(1) + listed.asks.top(1)
    change = day.close - day.open
    row |= {
        "p": "-" * (change < 0) + decimal(abs(change), places),
        "P": f"{100 * change / day.open:.3f}",
        "x": row["o"],
    }
    row |= {"w": decimal(day.mean, places)}
    row |= {"b": decimal(best[0][0], places), "B": decimal(best[0][1], digits)}
    row |= {"a": decimal(best[1][0], places), "A": decimal(best[1][1], digits)}
    del row["V"], row["Q"]
    times = {"O": day.start // MS, "C": now // MS, "F": day.first_id, "L": day.last_id, "n": day.count}
    return _encode({"e": "24hrTicker", "E": now // MS, "s": raw, **row, **times})
