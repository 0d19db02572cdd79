"""What the other side of a dialect must say: the venue's part of the conversation, spoken by us and driven by somebody's books.

    client's bytes -> Counterpart.received -> answers, Subscribed, Unsubscribed        Change -> Counterpart.encode -> native frames

One `Counterpart` stands before one client. What it may tell of the market it reads from `Listed`, one for each symbol, which is
kept true by whoever owns the books: the simulator's matching engine (`core.sim.market`), or the gateway that broadcasts its books
again (then a `Change` is made from `Book` and `Trade`, with `write.steps` and the decimals of the instrument). Prices and sizes are
whole numbers of ticks and lots (10^-decimals) throughout, so that every digit and checksum is exact.
Next door: `venue.py` is the client's side of the same dialect.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from typing import Protocol, TypeAlias

from msgspec import Struct

from truetape.model.instrument import Instrument

PRINTS_KEPT = 50
"""Latest trades kept for each symbol: what Kraken sends to who subscribes to trades."""

Steps: TypeAlias = tuple[int, int]
"""(price in ticks, size in lots): absolute size; 0 in a change removes the level."""


class Ladder:
    """One side of a book in whole numbers. `keys` is sorted with the best last: prices of bids, negated prices of asks."""

    __slots__ = ("keys", "sign", "sizes")

    def __init__(self, sign: int) -> None:
        self.sign = sign  # 1 bids, -1 asks
        self.keys: list[int] = []
        self.sizes: dict[int, int] = {}

    def put(self, price: int, size: int) -> None:
        """Set the whole size at a price; 0 removes it, and removing what is not there is normal."""
        key = price * self.sign
        if size:
            if key not in self.sizes:
                insort(self.keys, key)
            self.sizes[key] = size
        elif self.sizes.pop(key, 0):
            del self.keys[bisect_left(self.keys, key)]

    def top(self, n: int = 0) -> list[Steps]:
        """The best n levels (0: all), best first."""
        sizes = self.sizes
        return [(abs(key), sizes[key]) for key in (self.keys[: -n - 1 : -1] if n else self.keys[::-1])]

    @property
    def best(self) -> int:
        """The best price; 0 where the side is empty."""
        return abs(self.keys[-1]) if self.keys else 0


class Print(Struct, frozen=True, gc=False):
    """One trade. `side` is the taker's; `maker` and `taker` number the orders."""

    price: int
    size: int
    side: str
    id: int
    ts: int
    maker: int = 0
    taker: int = 0


class Change(Struct, gc=False):
    """What one input did to one symbol: levels with their new whole size, in the order touched, and trades.

    `first` to `seq` number the changed levels without a hole, so that a symbol's next change starts at `seq + 1`. `made` is where
    encoders keep what they already wrote of its levels, for the next client that wants the same: nothing that tells a time or number.
    """

    raw: str
    first: int
    seq: int
    bids: list[Steps]
    asks: list[Steps]
    prints: list[Print]
    made: dict[tuple[str, int], bytes]


class Candle(Struct, gc=False):
    """Trades of one span of time, from its first; all 0 but the price where none fell into it."""

    start: int
    length: int
    open: int
    high: int
    low: int
    close: int
    size: int = 0
    value: int = 0
    buy_size: int = 0
    buy_value: int = 0
    count: int = 0
    first_id: int = -1
    last_id: int = -1

    def add(self, trade: Print) -> None:
        """Take one trade in."""
        if not self.count:
            self.open = self.high = self.low = trade.price
        self.close = trade.price
        self.high = max(self.high, trade.price)
        self.low = min(self.low, trade.price)
        self.size += trade.size
        self.value += trade.size * trade.price
        self.count += 1
        self.last_id = trade.id
        if self.first_id < 0:
            self.first_id = trade.id
        if trade.side == "buy":
            self.buy_size += trade.size
            self.buy_value += trade.size * trade.price

    @property
    def mean(self) -> int:
        """The price weighted by size, in whole ticks; the last price where nothing was traded."""
        return self.value // self.size if self.size else self.close


class Listed:
    """One symbol as its venue knows it: instrument, book, the number of its last change, and what was traded since the start."""

    __slots__ = ("asks", "bids", "candles", "day", "depth", "instrument", "prints", "seq", "words")

    def __init__(
        self, instrument: Instrument, price: int, now: int, bids: Ladder | None = None, asks: Ladder | None = None
    ) -> None:
        self.instrument = instrument
        self.bids = bids if bids is not None else Ladder(1)
        self.asks = asks if asks is not None else Ladder(-1)
        self.seq = 0
        self.depth = 0  # levels that are kept true, 0 all: no client can be given more
        self.day = Candle(now, 0, price, price, price, price)
        self.prints: deque[Print] = deque(maxlen=PRINTS_KEPT)
        self.words: dict[str, dict[int, bytes]] = {}  # ticker or bar.1m … -> by start, what the venue itself said last
        self.candles: dict[int, tuple[Candle, Candle | None]] = {}  # length in s -> this one and the one before

    def trade(self, trade: Print) -> None:
        """Remember a trade for summaries and candles."""
        self.prints.append(trade)
        self.day.add(trade)
        for length in self.candles:
            self.candle(length, trade.ts)[0].add(trade)

    def candle(self, length: int, now: int) -> tuple[Candle, Candle | None]:
        """The candle of `length` seconds that holds `now`, and the one before; kept from the first time that it is asked for."""
        span = length * 1_000_000_000
        start = now - now % span
        kept = self.candles.get(length)
        if kept is None or kept[0].start < start:
            price = self.day.close
            kept = self.candles[length] = (Candle(start, length, price, price, price, price), kept[0] if kept else None)
        return kept


class Subscribed(Struct, frozen=True, gc=False):
    """From now on this client is to be told of this symbol's changes."""

    raw: str


class Unsubscribed(Struct, frozen=True, gc=False):
    """This client wants nothing of this symbol any more."""

    raw: str


class Dismissed(Struct, frozen=True, gc=False):
    """The venue ends this connection with a close code."""

    code: int
    text: str = ""


Answer: TypeAlias = bytes | Subscribed | Unsubscribed | Dismissed
"""What a client's message leads to: frames to send at once, and whom to tell of which symbol."""

Pair: TypeAlias = tuple[str, str]
"""(channel in our words, the venue's spelling of a symbol)."""

Native: TypeAlias = tuple[str, bytes]
"""One frame in the venue's dialect, and its channel in our words (`book trade quote ticker bar`)."""


class Reply(Struct, frozen=True):
    """An HTTP answer."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)


class Piecemeal(bytes):
    """A message that leaves in several WebSocket fragments; to whoever reads it, a message like any other."""


class Wrong(Struct, frozen=True):
    """How this venue's own words go wrong, for the fault script of the simulator (`core.sim.faults`).

    `word`: a word of a closed set in its book messages, and one that nobody knows; `price`: a pattern of its first price, and the same in
    another JSON type; `summed`, `numbered`: whether book messages carry checksums and numbers; `limited`: its answer to too many requests;
    `expired`: what it says of a key that expired, before it closes with 1008; `leaving`: its announcement of a cut. Empty: it has none.
    """

    word: tuple[bytes, bytes] = (b"", b"")
    price: tuple[bytes, bytes] = (b"$^", b"")
    summed: bool = False
    numbered: bool = False
    limited: bytes = b""
    expired: bytes = b""
    leaving: bytes = b""


class Counterpart(Protocol):
    """The venue before one client. `path` is where its WebSocket is reached; inputs return what they caused."""

    path: str
    size_decimals: int
    """Digits that the venue writes behind the point of a crypto size."""
    ping_every_s: float
    """How often the venue sends a protocol ping; 0 never."""
    orders: int
    """Orders that the venue gathers, about, before it sends a book message."""
    wrong: Wrong
    relays: bool
    """Whether it speaks for a gateway: then summaries and candles are the venue's own words (`relay`), not computed from our trades."""
    decimals_max: int
    """Digits behind the point that this dialect can write."""
    first_trade: int
    """What the venue adds to `Print.id`."""
    lists_all: bool
    """Whether one GET lists all its symbols, so that what it does not list does not exist."""

    def __init__(self, listed: Mapping[str, Listed], key: str = "") -> None:
        """`listed` is every symbol by the venue's spelling; `key` the only API key accepted, empty for any."""

    def opened(self, target: str, now: int) -> list[Answer]:
        """The client connected to this path and query."""

    def received(self, data: bytes, now: int) -> list[Answer]:
        """The client sent one message."""

    def parts(self, data: bytes) -> list[bytes]:
        """A client's message as several that ask for no more than one book each, where the venue answers each symbol by itself."""

    def concerns(self, data: bytes) -> str:
        """The symbol whose whole book this part is answered with; empty where it is with none."""

    @staticmethod
    def named(target: str) -> list[Pair]:
        """What the path and query of a connection ask for of what a gateway's books and trades can tell."""

    def asks(self, data: bytes) -> list[Pair]:
        """What one message asks for of what a gateway's books and trades can tell; [] where it ends something, or is garbage."""

    def held(self) -> list[Pair]:
        """What this client is subscribed to, of the same."""

    @staticmethod
    def spoken(data: bytes) -> list[bytes]:
        """The summaries or candles of one of the venue's own messages, each word for word; [] where it is about something else."""

    def relay(self, channel: str, raw: str, words: bytes, at: int) -> list[bytes]:
        """What this client is told of a summary or candle: the venue's own words of it, which came at `at` (ns)."""

    def refuse(self, data: bytes, reason: str, text: str, now: int) -> list[Answer]:
        """Answer a message (empty: the connection's own path) with an error: a name of `model.reason` and what the venue said."""

    def encode(self, change: Change, now: int) -> list[Native]:
        """What this client is told of a change; `listed` already holds it. Every change of a subscribed symbol must pass here."""

    def tick(self, now: int) -> list[tuple[str, Native]]:
        """What the venue says by the clock, with the symbol it is about (none: heartbeats); called a few times a second."""

    @staticmethod
    def messages(change: Change) -> int:
        """How many messages a client of book and trades is sent for a change."""

    @staticmethod
    def http(listed: Mapping[str, Listed], path: str, query: Mapping[str, str], now: int) -> Reply:
        """A plain GET."""
