"""What a program reads of a book: prices that refuse to be yesterday's, and how far today's can be believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from truetape.app import notebook
from truetape.app.secrets import redact
from truetape.core.book import metrics
from truetape.core.feed.health import Stream
from truetape.io.clock import now as clock
from truetape.model.event import Level

SECOND = 1_000_000_000


class NotLive(Exception):
    """The book cannot be believed now: `state`, `reason`, and `since` (ns) say why and from when."""

    def __init__(self, name: str, state: str, reason: str, since: int) -> None:
        super().__init__(
            f"book {name}: {state}{': ' + reason if reason else ''}; read it with stale_ok=True to see its last levels"
        )
        self.name, self.state, self.reason, self.since = name, state, reason, since


class BookView:
    """A window on one book; every reading is of this moment.

    Prices and metrics raise `NotLive` where the book is neither LIVE nor QUIET with nothing due, unless the view was made with
    `stale_ok=True`. Prices are in the quote currency, sizes in base units (or the venue's contracts).
    """

    def __init__(self, stream: Stream, stale_ok: bool = False) -> None:
        if stream.sync is None:
            raise TypeError(f"{stream.venue}:{stream.symbol} {stream.channel} is no book")
        self._stream = stream
        self._sync = stream.sync
        self._stale_ok = stale_ok

    def _levels(self, n: int) -> tuple[list[Level], list[Level]]:
        stream = self._stream
        if not self._stale_ok and not stream.readable:
            raise NotLive(f"{stream.venue}:{stream.symbol}", stream.state, stream.reason, stream.since)
        return self._sync.book.bids(n), self._sync.book.asks(n)

    @property
    def bids(self) -> list[Level]:
        """All (price, size), highest first."""
        return self._levels(0)[0]

    @property
    def asks(self) -> list[Level]:
        """All (price, size), lowest first."""
        return self._levels(0)[1]

    def top(self, n: int) -> tuple[list[Level], list[Level]]:
        """The best n bids and asks."""
        return self._levels(n)

    @property
    def spread(self) -> float | None:
        """Best ask minus best bid; None where a side is empty."""
        return metrics.spread(*self._levels(1))

    @property
    def spread_bps(self) -> float | None:
        """The spread in hundredths of a percent of the mid."""
        return metrics.spread_bps(*self._levels(1))

    @property
    def mid(self) -> float | None:
        """The middle between best bid and best ask."""
        return metrics.mid(*self._levels(1))

    @property
    def microprice(self) -> float | None:
        """The mid weighted by the opposite sizes."""
        return metrics.microprice(*self._levels(1))

    def pressure(self, n: int) -> float | None:
        """Summed size of the best n bids over that of the best n asks; None where a side is empty."""
        return metrics.pressure(*self._levels(n), n)

    def imbalance(self, n: int) -> float | None:
        """(bids - asks) / (bids + asks) over the best n levels, in [-1, +1]; None where a side is empty."""
        return metrics.imbalance(*self._levels(n), n)

    @property
    def state(self) -> str:
        """SYNCING LIVE QUIET STALE GAP RESYNC SUSPECT CLOSED."""
        return self._stream.state

    @property
    def reason(self) -> str:
        """Why it is in that state; empty where it is LIVE."""
        return self._stream.reason

    @property
    def since(self) -> int:
        """From when, ns."""
        return self._stream.since

    @property
    def evidence(self) -> str:
        """How LIVE is proven: checksum, sequence or none."""
        return self._sync.evidence

    @property
    def verified_age_s(self) -> float | None:
        """Seconds since a checksum or number last proved the book; None if never."""
        return (clock() - self._sync.verified) / SECOND if self._sync.verified else None

    @property
    def trusted_depth(self) -> int:
        """How many levels the venue maintains; 0 means all."""
        return self._sync.trusted_depth

    def __repr__(self) -> str:
        name = f"{self._stream.venue}:{self._stream.symbol}"
        if not self._stream.readable:
            return f"<book {name} {self.state}: {self.reason}>"
        bids, asks = self._levels(1)
        return f"<book {name} {self.state} ({self.evidence}) {bids[0] if bids else None} | {asks[0] if asks else None}>"

    def _repr_html_(self) -> str:
        """A small ladder for a notebook; without prices where they cannot be believed."""
        name = f"{self._stream.venue}:{self._stream.symbol} {self.state} ({self.evidence}) {self.reason}"
        shown = self._stale_ok or self._stream.readable
        return notebook.ladder(name, *(self._levels(5) if shown else ([], [])))


def told(find: Callable[[str], Stream], request: dict[str, Any]) -> dict[str, Any]:
    """The control socket's answer about the book `name`: its best `depth` levels as they are, whatever its state, which is told beside."""
    name, depth = str(request.get("name", "")), request.get("depth", 10)
    if not isinstance(depth, int) or not 0 <= depth <= 10_000:
        return {"error": f"expected a depth of 0 (all) to 10,000, found {depth!r}"}
    try:
        stream = find(name)
    except KeyError as error:
        return {"error": str(error.args[0])}
    view = BookView(stream, stale_ok=True)
    bids, asks = view.top(depth)
    return {
        "name": f"{stream.venue}:{stream.symbol}",
        "state": stream.state,
        "reason": redact(stream.reason),
        "bids": bids,
        "asks": asks,
    }
