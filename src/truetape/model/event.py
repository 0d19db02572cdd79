"""What the gateway tells its consumers: market events, and the notices that say what is missing or in doubt.

Every event carries `venue` (the label of the feed's venue), `symbol` (canonical, such as `BTC-USDT`), `raw` (as the venue
spells it), `ts` (the venue's clock, ns since the epoch, 0 where the venue gives none) and `recv` (ours, ns, stamped once when
the bytes arrived). Venue files build them, `core.route.pump` publishes them, mailboxes hand them out.

Market events are frozen: their level lists must never be changed by whoever receives them.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

Level: TypeAlias = tuple[float, float]
"""(price, size): size is absolute; 0 in a delta removes the level."""


class Trade(Struct, frozen=True, gc=False, tag_field="kind", tag="trade", omit_defaults=True):
    """One print, or several that a conflating mailbox merged (`count > 1`: then `size` is their sum and `vwap` their mean).

    `side` is the taker's: `buy`, `sell`, or empty where the venue does not say.
    """

    venue: str
    symbol: str
    raw: str
    ts: int
    recv: int
    price: float
    size: float
    side: str = ""
    id: str = ""
    count: int = 1
    vwap: float = 0.0
    first_ts: int = 0
    last_ts: int = 0


class Quote(Struct, frozen=True, gc=False, tag_field="kind", tag="quote", omit_defaults=True):
    """The venue's own best bid and ask. `seq` is the venue's update number, -1 where it has none."""

    venue: str
    symbol: str
    raw: str
    ts: int
    recv: int
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    seq: int = -1


class Book(Struct, frozen=True, gc=False, tag_field="kind", tag="book", omit_defaults=True):
    """A whole book (`snapshot`) or a change of one.

    `bids` are best (highest) first and `asks` best (lowest) first in a snapshot; in a change the order is the venue's.
    `first`, `seq`, `prev` are the venue's numbers for the range that this message covers and the message before it; -1 where
    absent. `checksum` is the venue's own, None where it was not offered. `marks` holds, beside each bid and each ask, the text
    that the venue's checksum is made from (a float cannot give back the digits); None where no checksum is used.
    `depth` is what the venue says it maintains, 0 where unknown or unbounded.
    """

    venue: str
    symbol: str
    raw: str
    ts: int
    recv: int
    bids: list[Level]
    asks: list[Level]
    snapshot: bool = False
    first: int = -1
    seq: int = -1
    prev: int = -1
    checksum: int | None = None
    marks: tuple[list[str], list[str]] | None = None
    depth: int = 0


class Bar(Struct, frozen=True, gc=False, tag_field="kind", tag="bar", omit_defaults=True):
    """The venue's own candle. `start` is its opening time in ns; `closed` says that it will not change again."""

    venue: str
    symbol: str
    raw: str
    ts: int
    recv: int
    interval: str
    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float = 0.0
    count: int = 0
    closed: bool = False


class Ticker(Struct, frozen=True, gc=False, tag_field="kind", tag="ticker", omit_defaults=True):
    """The venue's summary of a symbol; what the venue leaves out is None. Volumes are of the last 24 hours, in base units."""

    venue: str
    symbol: str
    raw: str
    ts: int
    recv: int
    last: float | None = None
    bid: float | None = None
    bid_size: float | None = None
    ask: float | None = None
    ask_size: float | None = None
    volume: float | None = None
    high: float | None = None
    low: float | None = None
    mark: float | None = None
    index: float | None = None
    funding: float | None = None


class Gap(Struct, frozen=True, gc=False, tag_field="kind", tag="gap", omit_defaults=True):
    """From where to where a subscription was blind.

    `from_seq`/`to_seq` are the venue's numbers (the last good one, the first one after) where it numbers its messages, else -1;
    `from_ts`/`to_ts` our receive times in ns. A gap is published when it is found (`recovered` false) and once more, with the
    same beginning, when the stream sees again. `recovered`: nothing is missing any more; `healed` says by what:
    `snapshot` (a whole book in the stream), `rest` (one that was fetched), empty where data simply went on.
    """

    venue: str
    symbol: str
    raw: str
    recv: int
    channel: str
    from_ts: int
    to_ts: int
    reason: str
    from_seq: int = -1
    to_seq: int = -1
    recovered: bool = False
    healed: str = ""


class Lagged(Struct, frozen=True, gc=False, tag_field="kind", tag="lagged", omit_defaults=True):
    """In your own box: this many events of this topic were dropped, expired or shed before the next event that you read."""

    venue: str
    symbol: str
    topic: str
    dropped: int
    reason: str = "dropped"


class Status(Struct, frozen=True, gc=False, tag_field="kind", tag="status", omit_defaults=True):
    """A change of state of a subscription (`channel` set) or of a connection (`channel` empty, `symbol` its name)."""

    venue: str
    symbol: str
    raw: str
    recv: int
    channel: str
    state: str
    reason: str
    evidence: str = "none"
    since: int = 0
    threshold_s: float = 0.0
    samples: int = 0


Market: TypeAlias = Trade | Quote | Book | Bar | Ticker | Gap | Lagged | Status
"""All that a consumer may be handed."""

DATA_KINDS = ("trade", "quote", "book", "book_delta", "bar", "ticker")
"""What a ledger counts; `gap`, `lagged` and `status` stand outside it."""

NOTICES = "status"
"""The channel of those who want no data, only the notices: statuses and gaps."""

KINDS: dict[type, str] = {
    Trade: "trade", Quote: "quote", Book: "book", Bar: "bar", Ticker: "ticker", Gap: "gap", Lagged: "lagged", Status: "status",
}  # fmt: skip


class Ledger(Struct, frozen=True, gc=False):
    """What became of all that was offered to one consumer; it balances exactly at any instant."""

    received: int = 0
    delivered: int = 0
    conflated: int = 0
    dropped: int = 0
    expired: int = 0
    queued: int = 0

    @property
    def balanced(self) -> bool:
        """True when every received event is accounted for."""
        return self.received == self.delivered + self.conflated + self.dropped + self.expired + self.queued


class Counted(Struct):
    """Plain counters of one connection, read by the surfaces and never reset."""

    frames: int = 0
    errors: int = 0
    ignored: int = 0
    damaged: int = 0
