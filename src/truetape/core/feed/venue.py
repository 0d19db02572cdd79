"""What a venue file must say: the dialect of one venue, both directions, and nothing about sockets, time or retries.

Next door: `session.py` drives one `Dialect` over one connection; `core.book.sync` follows its `Rule`; ADD_A_VENUE.md at the
root of the project walks through writing one. A dialect is built once per connection, so that it may remember channel ids,
request ids or a frame counter; the lifecycle belongs to the session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, Protocol, TypeAlias

from msgspec import Meta, Struct

from truetape.model.event import Book, Market
from truetape.model.instrument import Instrument

Price: TypeAlias = Annotated[float, Meta(gt=0, lt=1e300)]
Size: TypeAlias = Annotated[float, Meta(ge=0, lt=1e300)]
Signed: TypeAlias = Annotated[float, Meta(gt=-1e300, lt=1e300)]
"""For wire structs: the decoder itself refuses NaN, infinities and negative numbers (6 ns a number)."""

Whole: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Millis: TypeAlias = Annotated[int, Meta(ge=0, lt=9_223_372_036_855)]
"""Numbers of messages, and milliseconds whose nanoseconds fit 64 bits: a larger one is no number of a venue, and fits no tape."""

RawLevel: TypeAlias = tuple[Price, Size]
WholeLevel: TypeAlias = tuple[Price, Annotated[float, Meta(gt=0, lt=1e300)]]
"""For venues whose every book message is a whole book: their dialects hand over no empty levels."""


class Want(Struct, frozen=True, order=True, gc=False):
    """One subscription as asked of a venue. `channel` is ours (`book trade quote ticker bar.1m`), `symbol` canonical."""

    channel: str
    raw: str
    symbol: str
    depth: int = 0


class Limits(Struct, frozen=True):
    """What the venue allows, and what it expects; 0 means no limit or not used."""

    wants_per_connection: int = 0
    connections: int = 0
    wants_per_message: int = 50
    messages_per_s: float = 5.0
    ping_every_s: float = 0.0
    dead_after_s: float = 0.0
    lifetime_s: float = 0.0
    fetches_per_s: float = 5.0


class Plan(Struct, frozen=True):
    """What one of the venue's plans buys: subscriptions in all, connections, requests, and which channels of ours (empty: all)."""

    subscriptions: int
    connections: int
    rest_per_min: int = 0
    channels: tuple[str, ...] = ()


class Rule(Struct, frozen=True):
    """How the venue's book messages are numbered and checked.

    `snapshot`: where a whole book comes from: `stream` (the venue sends one after a subscribe), `rest` (fetched, joined to
    buffered changes), `whole` (every message is a whole book; the dialect leaves levels of size 0 out).
    `numbers`: `none`; `range` (first == last seq + 1); `chain` (prev == last seq); `step` (seq == last seq + 1).
    `overlap`: with `rest`, whether a change that ends exactly at the snapshot still belongs (Binance futures: drop u < L, bridge
    U <= L <= u) or not (spot: drop u <= L, bridge U <= L + 1 <= u).
    `truncate`: the venue keeps only the subscribed depth and sends no deletes for what falls out.
    `checksum`: from the marks of the best `checksum_depth` bids and asks to the venue's number.
    `counter`: the dialect checks one counter over all frames of a connection and says `Broken`.
    `trusted_depth`: the depth that the venue maintains when it does not depend on the subscription; 0 means all.
    """

    snapshot: Literal["stream", "rest", "whole"] = "stream"
    numbers: Literal["none", "range", "chain", "step"] = "none"
    overlap: bool = False
    truncate: bool = False
    counter: bool = False
    checksum: Callable[[list[str], list[str]], int] | None = None
    checksum_depth: int = 10
    trusted_depth: int = 0


class Accepted(Struct, frozen=True, gc=False):
    """The venue confirmed these subscriptions: (channel, raw symbol) pairs; an empty symbol stands for all asked ones."""

    pairs: tuple[tuple[str, str], ...] = ()


class Rejected(Struct, frozen=True, gc=False):
    """The venue said no. `reason` is a name of `model.reason`; without pairs it concerns the connection or the last request.

    `whole`: it refused a request of several, and which of them it meant is not said.
    """

    reason: str
    text: str
    code: int = 0
    pairs: tuple[tuple[str, str], ...] = ()
    retry_after_s: float = -1.0
    whole: bool = False


class Alive(Struct, frozen=True, gc=False):
    """A heartbeat, pong or status: the link lives. `ts` is the venue's clock in ns where it says so; `pong` answers our ping."""

    ts: int = 0
    pong: bool = False


class Ignored(Struct, frozen=True, gc=False):
    """A frame of a channel that is not modelled here: counted, never an error."""

    channel: str


class Damaged(Struct, frozen=True, gc=False):
    """A message, or one of several in a frame, could not be read; its siblings were. Empty `raw`: the symbol is not known."""

    why: str
    raw: str = ""
    channel: str = ""


class Broken(Struct, frozen=True, gc=False):
    """The counter over all frames of the connection jumped: any book on it may have lost a change."""

    expected: int
    found: int


class Leaving(Struct, frozen=True, gc=False):
    """The venue announced that it will cut this connection."""

    text: str


Control: TypeAlias = Accepted | Rejected | Alive | Ignored | Damaged | Broken | Leaving
"""All that a venue can say that is not market data."""

Decoded: TypeAlias = "Sequence[Market | Control]"


class Endpoint(Struct, frozen=True):
    """One connection's address and what it will carry. `url` may hold `{secret}`."""

    url: str
    wants: list[Want]


class Dialect(Protocol):
    """What module `truetape.venues.<name>` offers under the name `Dialect`; all members are needed.

    A venue that sells plans has them in `plans: Mapping[str, Plan]`, smallest first; see `plans`.
    """

    name: str
    hosts: tuple[str, ...]
    """Parts of URLs by which a capture's venue is known."""
    channels: Mapping[str, str]
    """Our channels that can be asked for, and the venue's own words for them (which are accepted in a config too)."""
    url: str
    rest_url: str
    limits: Limits
    rule: Rule

    def __init__(self, label: str, names: Mapping[str, str], url: str) -> None:
        """`label` stands as `venue` on every event; `names` maps raw to canonical symbols; `url` is the connection's."""

    @staticmethod
    def canonical(raw: str, url: str) -> str:
        """Our name for a symbol, by rule; `raw` unchanged where no rule fits. `url` tells markets that share spellings apart."""

    @staticmethod
    def native(symbol: str) -> str:
        """The venue's spelling of a canonical symbol, by rule; unchanged where it is native already."""

    @staticmethod
    def endpoints(wants: Sequence[Want], url: str, by_url: bool) -> list[Endpoint]:
        """The addresses that these wants need, before splitting by limits; `by_url` asks for streams named in the URL."""

    def subscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """Messages that ask for these; empty where the URL does."""

    def unsubscribe(self, wants: Sequence[Want]) -> list[bytes]:
        """Messages that end these."""

    def ping(self) -> bytes | None:
        """The venue's application ping, None where it has none."""

    def decode(self, data: bytes, recv: int) -> Decoded:
        """All that one message says. May raise `msgspec.DecodeError`, `ValueError` or `UnicodeDecodeError` on garbage."""

    def snapshot_url(self, want: Want, rest_url: str) -> str | None:
        """Where a whole book is fetched, None where it comes in the stream."""

    @staticmethod
    def snapshot_raw(url: str) -> str | None:
        """Back again: which raw symbol a fetched URL is the book of, None if it is no book."""

    def decode_snapshot(self, raw: str, body: bytes, recv: int) -> Book:
        """A fetched book. Raises as `decode`."""

    @staticmethod
    def instruments_url(rest_url: str) -> str | None:
        """Where the venue lists its instruments, None where it does not."""

    @staticmethod
    def decode_instruments(body: bytes) -> list[Instrument]:
        """The instruments of that answer. Raises as `decode`."""


def plans(dialect: type[Dialect]) -> Mapping[str, Plan]:
    """The plans that a venue sells, smallest first; most sell none."""
    found: Mapping[str, Plan] = getattr(dialect, "plans", {})
    return found
